//! A recording played as if it were heard now, at its own pace or faster.

use super::{AudioFormat, AudioSource, Captured};
use crate::audio::Audio;
use crate::{Error, ErrorKind, Result};
use std::time::{Duration, Instant};

/// A recording as a live source: what [`read`](AudioSource::read) gives is what would have been heard by then.
#[derive(Debug)]
pub struct PacedAudio {
    audio: Audio,
    speed: f64,
    started: Option<Instant>,
    given: usize,
}

impl PacedAudio {
    /// A recording at its own pace times `speed`, which starts with the first read; an infinite speed gives it in
    /// blocks of half a second, as fast as it is read.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] unless `speed` is above 0.
    pub fn new(audio: Audio, speed: f64) -> Result<Self> {
        if speed.is_nan() || speed <= 0.0 {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("a pace of {speed}: above 0 is expected, 1 for the recording's own"),
            ));
        }
        Ok(Self {
            audio,
            speed,
            started: None,
            given: 0,
        })
    }

    /// Frames due after `elapsed`.
    fn due(&self, elapsed: Duration) -> usize {
        if self.speed.is_infinite() {
            return self.given + self.audio.sample_rate() as usize / 2;
        }
        (elapsed.as_secs_f64() * self.speed * f64::from(self.audio.sample_rate())) as usize
    }
}

impl AudioSource for PacedAudio {
    fn format(&self) -> AudioFormat {
        AudioFormat {
            rate: self.audio.sample_rate(),
            channels: 1,
        }
    }

    fn read(&mut self, out: &mut Vec<f32>) -> Result<Captured> {
        if self.given >= self.audio.len() {
            return Ok(Captured::Ended);
        }
        let started = *self.started.get_or_insert_with(Instant::now);
        let due = self.due(started.elapsed()).min(self.audio.len());
        if let Some(new) = self.audio.samples().get(self.given..due) {
            out.extend_from_slice(new);
            self.given = due;
        }
        Ok(Captured::Current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_comes_once_and_not_before_its_time() {
        let samples: Vec<f32> = (0..8_000).map(|i| (i % 100) as f32 / 100.0).collect();
        for speed in [20.0, f64::INFINITY] {
            let audio = Audio::new(samples.clone(), 16_000, 1).unwrap();
            let mut source = PacedAudio::new(audio, speed).unwrap();
            let (mut out, start) = (Vec::new(), Instant::now());
            loop {
                let state = source.read(&mut out).unwrap();
                let due = start.elapsed().as_secs_f64() * speed * 16_000.0;
                assert!(out.len() as f64 <= due.ceil());
                if state == Captured::Ended {
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(out, samples);
        }
        for speed in [0.0, -1.0, f64::NAN] {
            let audio = Audio::new(vec![], 16_000, 1).unwrap();
            assert!(PacedAudio::new(audio, speed).is_err());
        }
    }
}
