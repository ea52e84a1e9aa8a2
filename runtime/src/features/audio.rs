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
