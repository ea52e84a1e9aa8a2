//! The front-end of audio that a model's spec asks for, whichever it is.

use super::{Fbank, FbankStream, Waveform, WaveformStream};
use crate::spec::FrontEnd;
use crate::{Error, ErrorKind, Result};
use ndarray::Array2;

/// Mono samples to features `[T, F]`. Clones share their tables.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum AudioFeatures {
    /// Log-mel energies.
    LogMel(Fbank),
    /// The samples themselves.
    Waveform(Waveform),
}

impl AudioFeatures {
    /// The front-end of a spec.
    ///
    /// # Errors
    /// [`ErrorKind::Spec`] for a front-end of images, and where a field is out of its range.
    pub fn new(front_end: &FrontEnd) -> Result<Self> {
        match front_end {
            FrontEnd::LogMel(spec) => Fbank::new(spec).map(Self::LogMel),
            FrontEnd::Waveform(spec) => Waveform::new(spec).map(Self::Waveform),
            FrontEnd::Line(_) => Err(Error::new(
                ErrorKind::Spec,
                "a model of speech with a front-end for images",
            )),
        }
    }

    /// Samples per second that it expects.
    pub fn sample_rate(&self) -> u32 {
        match self {
            Self::LogMel(fbank) => fbank.sample_rate(),
            Self::Waveform(wave) => wave.spec().sample_rate,
        }
    }

    /// Samples from one frame to the next.
    pub fn hop(&self) -> usize {
        match self {
            Self::LogMel(fbank) => fbank.spec().hop_length,
            Self::Waveform(_) => 1,
        }
    }

    /// Number of features per frame: F.
    pub fn features(&self) -> usize {
        match self {
            Self::LogMel(fbank) => fbank.features(),
            Self::Waveform(_) => 1,
        }
    }

    /// Number of frames T in `samples` samples.
    pub fn frames(&self, samples: usize) -> usize {
        match self {
            Self::LogMel(fbank) => fbank.frames(samples),
            Self::Waveform(wave) => wave.frames(samples),
        }
    }

    /// Features `[T, F]` of a whole utterance of mono samples in [-1, 1].
    ///
    /// # Errors
    /// As [`Fbank::compute`].
    pub fn compute(&self, samples: &[f32]) -> Result<Array2<f32>> {
        match self {
            Self::LogMel(fbank) => fbank.compute(samples),
            Self::Waveform(wave) => wave.compute(samples),
        }
    }

    /// Whether [`stream`](Self::stream) can be used: not where the spec normalizes over the utterance.
    pub fn streams(&self) -> bool {
        match self {
            Self::LogMel(fbank) => fbank.streams(),
            Self::Waveform(wave) => wave.streams(),
        }
    }

    /// A stream of frames, at its start.
    pub fn stream(&self) -> AudioStream {
        match self {
            Self::LogMel(fbank) => AudioStream::LogMel(fbank.stream()),
            Self::Waveform(wave) => AudioStream::Waveform(wave.stream()),
        }
    }
}

/// Features of samples that arrive in pieces; equal, bit for bit, to [`AudioFeatures::compute`].
#[derive(Debug)]
#[non_exhaustive]
pub enum AudioStream {
    /// Log-mel energies.
    LogMel(FbankStream),
    /// The samples themselves.
    Waveform(WaveformStream),
}

impl AudioStream {
    /// Takes mono samples and appends every frame they complete to `out`, row by row; returns their number.
    ///
    /// # Errors
    /// As [`FbankStream::push`].
    pub fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) -> Result<usize> {
        match self {
            Self::LogMel(stream) => stream.push(samples, out),
            Self::Waveform(stream) => stream.push(samples, out),
        }
    }

    /// Ends the audio: appends the frames that reach beyond it, and returns their number.
    ///
    /// # Errors
    /// As [`FbankStream::finish`].
    pub fn finish(&mut self, out: &mut Vec<f32>) -> Result<usize> {
        match self {
            Self::LogMel(stream) => stream.finish(out),
            Self::Waveform(_) => Ok(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden_audio::{GOLDEN, WAV2VEC2};
    use super::*;
    use crate::spec::{Edge, Framing, LineSpec, LogMelSpec, WaveformSpec};

    const FILTERS: [usize; 7] = [0, 1, 7, 20, 40, 60, 79];

    fn sound(samples: usize) -> Vec<f32> {
        (0..samples as u64)
            .map(|n| (((n * n) % 1_009) as f64 / 1_009.0 - 0.4) as f32)
            .collect()
    }

    #[test]
    fn equals_the_packages_that_define_them() {
        for (name, samples, frames, rows) in GOLDEN {
            let spec = match *name {
                "kaldi" => LogMelSpec::kaldi(),
                "icefall" => LogMelSpec::icefall(),
                "nemo" => LogMelSpec::nemo(),
                "nemo, reflected" => LogMelSpec {
                    framing: Framing::Centered { edge: Edge::Mirror },
                    ..LogMelSpec::nemo()
                },
                _ => LogMelSpec::whisper(),
            };
            let front_end = AudioFeatures::new(&FrontEnd::LogMel(spec)).unwrap();
            let features = front_end.compute(&sound(*samples)).unwrap();
            assert_eq!(features.dim(), (*frames, 80), "{name}");
            for (row, expected) in [0, 3, frames - 1].into_iter().zip(rows) {
                for (filter, expected) in FILTERS.into_iter().zip(expected) {
                    let found = features[[row, filter]];
                    assert!(
                        (found - expected).abs() <= 1e-4 * expected.abs().max(1.0),
                        "{name}, {samples} samples, frame {row}, filter {filter}: {found}, expected {expected}"
                    );
                }
            }
        }
        let wave = AudioFeatures::new(&FrontEnd::Waveform(WaveformSpec::default())).unwrap();
        let features = wave.compute(&sound(1_600)).unwrap();
        for (sample, expected) in FILTERS.into_iter().zip(WAV2VEC2) {
            assert!((features[[sample, 0]] - expected).abs() < 1e-4);
        }
    }

    #[test]
    fn streams_have_the_bits_of_the_whole() {
        for spec in [
            LogMelSpec::default(),
            LogMelSpec::kaldi(),
            LogMelSpec::icefall(),
            LogMelSpec {
                normalization: crate::spec::Normalization::None,
                ..LogMelSpec::nemo()
            },
        ] {
            let front_end = AudioFeatures::new(&FrontEnd::LogMel(spec)).unwrap();
            let whole = front_end.compute(&sound(4_321)).unwrap();
            for size in [1, 159, 160, 401, 4_321] {
                let mut out = Vec::new();
                let mut stream = front_end.stream();
                for piece in sound(4_321).chunks(size) {
                    stream.push(piece, &mut out).unwrap();
                }
                stream.finish(&mut out).unwrap();
                assert!(out.iter().eq(whole.iter()), "{size} at a time");
            }
        }
    }

    #[test]
    fn images_are_no_audio() {
        let error = AudioFeatures::new(&FrontEnd::Line(LineSpec::default())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Spec);
        let whole = AudioFeatures::new(&FrontEnd::LogMel(LogMelSpec::whisper())).unwrap();
        assert!(!whole.streams());
        let error = whole.stream().push(&[0.0], &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Role);
    }
}
