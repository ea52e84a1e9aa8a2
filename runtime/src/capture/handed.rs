//! Audio that an app hands over from its own callback: AAudio, AVAudioEngine, a call's PCM.
//!
//! The callback's end is wait-free and never allocates, so it may stand in a real-time thread; the other end is a source
//! like a microphone.

use super::ring::{AudioWriter, Reader, ring};
use super::{AudioFormat, AudioSource, Captured};
use crate::{Error, ErrorKind, Result};

/// What an app's callback wrote, as a live source. It ends when the writer is dropped and all was read.
#[derive(Debug)]
pub struct HandedAudio {
    reader: Reader,
    format: AudioFormat,
    /// Whether what was lost at the end was told.
    told: bool,
}

/// The two ends of audio that an app hands over: samples of `format` go into the first, and up to `seconds` of them wait
/// for the second.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] for a rate or channel count of 0, more than 64 channels or 768 kHz, and for a buffer
/// outside 0.05 to 60 seconds.
pub fn handed_audio(format: AudioFormat, seconds: f64) -> Result<(AudioWriter, HandedAudio)> {
    let sane = (1..=768_000).contains(&format.rate) && (1..=64).contains(&format.channels);
    if !sane || !(0.05..=60.0).contains(&seconds) {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "{format:?} with a buffer of {seconds} s: 1 to 768000 Hz, 1 to 64 channels and 0.05 to 60 s are expected"
            ),
        ));
    }
    let (writer, reader) = ring((seconds * f64::from(format.rate)) as usize, format.channels);
    let source = HandedAudio {
        reader,
        format,
        told: false,
    };
    Ok((writer, source))
}

impl HandedAudio {
    /// Frames that were written, lost ones included.
    pub fn offered(&self) -> u64 {
        self.reader.offered()
    }
}

impl AudioSource for HandedAudio {
    fn format(&self) -> AudioFormat {
        self.format
    }

    fn read(&mut self, out: &mut Vec<f32>) -> Result<Captured> {
        // Asked before reading: what was written before the writer went is still read.
        let over = self.reader.is_abandoned();
        if let Some(frames) = self.reader.read(out) {
            return Ok(Captured::Lost { frames });
        }
        if !over {
            return Ok(Captured::Current);
        }
        match self.reader.lost_at_the_end() {
            frames if frames > 0 && !self.told => {
                self.told = true;
                Ok(Captured::Lost { frames })
            }
            _ => Ok(Captured::Ended),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: AudioFormat = AudioFormat {
        rate: 1000,
        channels: 2,
    };

    #[test]
    fn what_is_handed_over_is_read_or_told_as_lost() {
        let (mut writer, mut source) = handed_audio(FORMAT, 0.1).unwrap();
        let mut out = Vec::new();
        assert_eq!(source.read(&mut out).unwrap(), Captured::Current);
        writer.write((0..160).map(|i| i as f32));
        writer.write((0..160).map(|i| i as f32));
        assert_eq!(source.read(&mut out).unwrap(), Captured::Current);
        assert_eq!(out.len(), 160);
        writer.write((0..40).map(|i| i as f32));
        assert_eq!(
            source.read(&mut out).unwrap(),
            Captured::Lost { frames: 80 }
        );
        assert_eq!(source.read(&mut out).unwrap(), Captured::Current);
        assert_eq!(out.len(), 200);
        writer.write((0..180).map(|i| i as f32));
        writer.write((0..40).map(|i| i as f32));
        drop(writer);
        assert_eq!(
            source.read(&mut out).unwrap(),
            Captured::Lost { frames: 20 }
        );
        assert_eq!(source.read(&mut out).unwrap(), Captured::Ended);
        assert_eq!(out.len(), 380);
        assert_eq!(source.offered(), 290);
    }

    #[test]
    fn formats_that_are_none_are_refused() {
        let with = |rate, channels| AudioFormat { rate, channels };
        for (format, seconds) in [
            (with(0, 1), 1.0),
            (with(16_000, 0), 1.0),
            (with(u32::MAX, 1), 1.0),
            (FORMAT, 0.0),
            (FORMAT, f64::NAN),
        ] {
            assert!(handed_audio(format, seconds).is_err());
        }
    }
}
