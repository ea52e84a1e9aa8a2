//! A source heard by a stream: what an app calls again and again from its own loop.

use crate::capture::{AudioFormat, AudioSource, Captured};
use crate::recognizer::{Event, Samples, SpeechStream};
use crate::{Error, ErrorKind, Result};

/// A live source and the stream that recognizes what it gives.
#[derive(Debug)]
pub struct Live<S> {
    source: S,
    /// Absent once it has been finished.
    stream: Option<SpeechStream>,
    buffer: Vec<f32>,
    stats: LiveStats,
    state: LiveState,
    /// Events of a stream that ended, in order.
    last: std::vec::IntoIter<Event>,
}

/// Where a live source stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LiveState {
    /// Audio is coming.
    Listening,
    /// The device is gone; its source looks for it.
    Disconnected,
    /// There is no more to come, and everything heard has been recognized.
    Ended,
}

/// What was heard so far.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct LiveStats {
    /// Frames that were recognized.
    pub frames: u64,
    /// Frames that were lost, where their number is known.
    pub lost: u64,
    /// Times something was lost.
    pub losses: u64,
    /// Root mean square of the samples of the last step that gave any, in [0, 1].
    pub level: f32,
}

impl<S: AudioSource> Live<S> {
    /// A source to be heard by a stream.
    pub fn new(source: S, stream: SpeechStream) -> Self {
        Self {
            source,
            stream: Some(stream),
            buffer: Vec::new(),
            stats: LiveStats::default(),
            state: LiveState::Listening,
            last: Vec::new().into_iter(),
        }
    }

    /// Recognizes everything that has come since the last step, without waiting for more: to be called every 10 to 50
    /// ms. [`poll`](Self::poll) then tells what came of it.
    ///
    /// # Errors
    /// Those of the source and of [`SpeechStream::push`].
    pub fn step(&mut self) -> Result<LiveState> {
        self.step_with(|_, _| Ok(()))
    }

    /// The same, showing all samples to `tap` before they are recognized: to save or to draw them.
    ///
    /// # Errors
    /// As [`step`](Self::step), and those of `tap`.
    pub fn step_with(
        &mut self,
        mut tap: impl FnMut(&[f32], AudioFormat) -> Result<()>,
    ) -> Result<LiveState> {
        while self.state != LiveState::Ended {
            let format = self.source.format();
            self.buffer.clear();
            let captured = self.source.read(&mut self.buffer)?;
            tap(&self.buffer, format)?;
            self.hear(format)?;
            match captured {
                Captured::Current => {
                    if !self.buffer.is_empty() {
                        self.state = LiveState::Listening;
                    }
                    break;
                }
                Captured::Lost { frames } => {
                    self.stats.losses += 1;
                    self.stats.lost += frames;
                    let rate = self.source.format().rate.max(1);
                    self.stream()?.gap(frames as f64 / f64::from(rate))?;
                    self.state = LiveState::Listening;
                }
                Captured::Disconnected => self.state = LiveState::Disconnected,
                Captured::Changed => {}
                Captured::Ended => self.end()?,
            }
        }
        Ok(self.state)
    }

    /// The next event, if there is one.
    ///
    /// # Errors
    /// As [`SpeechStream::poll`].
    pub fn poll(&mut self) -> Result<Option<Event>> {
        match &mut self.stream {
            Some(stream) => stream.poll(),
            None => Ok(self.last.next()),
        }
    }

    /// Stops listening: what has come by now is recognized to the end, the last words included.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn stop(&mut self) -> Result<()> {
        self.step()?;
        if self.state != LiveState::Ended {
            self.end()?;
        }
        Ok(())
    }

    /// What was heard so far.
    pub fn stats(&self) -> LiveStats {
        self.stats
    }

    /// The source.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// The stream, to swap its model or cancel an utterance.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] after the end.
    pub fn stream(&mut self) -> Result<&mut SpeechStream> {
        self.stream.as_mut().ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidArgument,
                "the stream has ended: begin a new one",
            )
        })
    }

    fn hear(&mut self, format: AudioFormat) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let energy: f64 = (self.buffer.iter())
            .map(|&x| f64::from(x) * f64::from(x))
            .sum();
        self.stats.level = (energy / self.buffer.len() as f64).sqrt() as f32;
        self.stats.frames += (self.buffer.len() / usize::from(format.channels.max(1))) as u64;
        let buffer = std::mem::take(&mut self.buffer);
        self.stream()?.push(Samples {
            data: &buffer,
            rate: format.rate,
            channels: format.channels,
        })?;
        self.buffer = buffer;
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        if let Some(stream) = self.stream.take() {
            self.last = stream.finish()?.into_iter();
        }
        self.state = LiveState::Ended;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::PacedAudio;
    use crate::recognizer::testing::{fake, tones};
    use crate::{Audio, Decoding};

    /// A source with a script.
    #[derive(Debug)]
    struct Scripted {
        script: std::vec::IntoIter<(Vec<f32>, Captured)>,
    }

    impl AudioSource for Scripted {
        fn format(&self) -> AudioFormat {
            AudioFormat {
                rate: 16_000,
                channels: 1,
            }
        }

        fn read(&mut self, out: &mut Vec<f32>) -> Result<Captured> {
            let Some((samples, captured)) = self.script.next() else {
                return Ok(Captured::Ended);
            };
            out.extend(samples);
            Ok(captured)
        }
    }

    fn texts<S: AudioSource>(live: &mut Live<S>) -> Vec<String> {
        let mut texts = Vec::new();
        while let Some(event) = live.poll().unwrap() {
            match event {
                Event::Final(readings) => texts.push(readings.best().text.clone()),
                Event::Gap { lost } => texts.push(format!("gap {lost:.1}")),
                _ => {}
            }
        }
        texts
    }

    #[test]
    fn a_recording_is_heard_to_its_end() {
        let audio = tones("ab cad", 16_000, 1);
        let frames = audio.len() as u64;
        let source = PacedAudio::new(audio, f64::INFINITY).unwrap();
        let mut live = Live::new(source, fake().stream(&Decoding::greedy()).unwrap());
        let mut tapped = 0;
        while live
            .step_with(|samples, _| {
                tapped += samples.len() as u64;
                Ok(())
            })
            .unwrap()
            != LiveState::Ended
        {}
        assert_eq!(texts(&mut live), ["ab cad"]);
        assert_eq!((live.stats().frames, tapped), (frames, frames));
        assert!(live.stream().is_err());
    }

    #[test]
    fn losses_are_told_in_their_place_and_counted() {
        let said = |text| tones(text, 16_000, 1).samples().to_vec();
        let script = vec![
            (said("ab"), Captured::Lost { frames: 16_000 }),
            (said("cad"), Captured::Disconnected),
            (vec![], Captured::Current),
            (vec![], Captured::Lost { frames: 8_000 }),
            (said("bad"), Captured::Current),
        ];
        let source = Scripted {
            script: script.into_iter(),
        };
        let mut live = Live::new(source, fake().stream(&Decoding::greedy()).unwrap());
        assert_eq!(live.step().unwrap(), LiveState::Disconnected);
        assert_eq!(texts(&mut live), ["ab", "gap 1.0"]);
        assert_eq!(live.step().unwrap(), LiveState::Listening);
        live.stop().unwrap();
        assert_eq!(texts(&mut live), ["cad", "gap 0.5", "bad"]);
        assert_eq!((live.stats().lost, live.stats().losses), (24_000, 2));
    }

    #[test]
    fn stopping_early_delivers_the_last_words() {
        let audio = Audio::new(tones("feed", 16_000, 1).samples().to_vec(), 16_000, 1).unwrap();
        let source = PacedAudio::new(audio, f64::INFINITY).unwrap();
        let mut live = Live::new(source, fake().stream(&Decoding::greedy()).unwrap());
        live.step().unwrap();
        live.stop().unwrap();
        assert_eq!(texts(&mut live), ["feed"]);
    }
}
