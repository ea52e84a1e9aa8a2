//! The samples of mono audio as features `[T, 1]`, one frame a sample: for models with their own front-end inside.
//!
//! `x`, or `(x - m) / sqrt(v + epsilon)` with m the mean of the utterance and v the mean of `(x - m)^2`, as
//! `transformers` has it for wav2vec2.

use super::fbank::finite;
use crate::spec::{Normalization, WaveformSpec};
use crate::{Error, ErrorKind, Result};
use ndarray::Array2;

/// A front-end that passes samples on.
#[derive(Debug, Clone)]
pub struct Waveform {
    spec: WaveformSpec,
}

impl Waveform {
    /// A front-end for `spec`.
    ///
    /// # Errors
    /// [`ErrorKind::Spec`] when a field is out of its range; the message names the field.
    pub fn new(spec: &WaveformSpec) -> Result<Self> {
        spec.validate()?;
        Ok(Self { spec: spec.clone() })
    }

    /// The spec these features follow.
    pub fn spec(&self) -> &WaveformSpec {
        &self.spec
    }

    /// Number of frames T in `samples` samples: none below the shortest that the model takes.
    pub fn frames(&self, samples: usize) -> usize {
        match samples < self.spec.shortest {
            true => 0,
            false => samples,
        }
    }

    /// Features `[T, 1]` of a whole utterance of mono samples in [-1, 1].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for a sample that is not finite.
    pub fn compute(&self, samples: &[f32]) -> Result<Array2<f32>> {
        finite(samples)?;
        let frames = self.frames(samples.len());
        let mut values = samples[..frames].to_vec();
        if let Normalization::Utterance { epsilon } = self.spec.normalization {
            let count = values.len().max(1) as f64;
            let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
            let squares: f64 = values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum();
            let deviation = (squares / count + f64::from(epsilon)).sqrt();
            for x in &mut values {
                *x = ((f64::from(*x) - mean) / deviation) as f32;
            }
        }
        Array2::from_shape_vec((frames, 1), values)
            .map_err(|e| Error::new(ErrorKind::Limit, "too many samples").with_source(e))
    }

    /// Whether [`stream`](Self::stream) can be used: not where the spec normalizes over the utterance.
    pub fn streams(&self) -> bool {
        self.spec.normalization.streams()
    }

    /// A stream of samples, at its start.
    pub fn stream(&self) -> WaveformStream {
        WaveformStream {
            streams: self.streams(),
        }
    }
}

/// Samples that arrive in pieces.
#[derive(Debug, Clone)]
pub struct WaveformStream {
    streams: bool,
}

impl WaveformStream {
    /// Appends the samples to `out` and returns their number.
    ///
    /// # Errors
    /// [`ErrorKind::Role`] when the spec normalizes over the utterance; [`ErrorKind::InvalidArgument`] for a sample
    /// that is not finite.
    pub fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) -> Result<usize> {
        if !self.streams {
            return Err(super::fbank::whole_only());
        }
        finite(samples)?;
        out.extend_from_slice(samples);
        Ok(samples.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_no_mean_and_unit_variance() {
        let wave = Waveform::new(&WaveformSpec::default()).unwrap();
        let sound: Vec<f32> = (0..4_000).map(|i| ((i * i) % 101) as f32 / 500.0).collect();
        let features = wave.compute(&sound).unwrap();
        assert_eq!(features.dim(), (4_000, 1));
        assert!(features.mean().unwrap().abs() < 1e-4);
        let variance = features.mapv(|x| x * x).mean().unwrap();
        assert!((variance - 1.0).abs() < 1e-3);
        assert_eq!(wave.compute(&sound[..399]).unwrap().dim(), (0, 1));
        let mut out = Vec::new();
        let refused = wave.stream().push(&sound, &mut out).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Role);
    }

    #[test]
    fn without_normalization_samples_pass_as_they_are_and_stream() {
        let spec = WaveformSpec {
            normalization: Normalization::None,
            ..WaveformSpec::default()
        };
        let wave = Waveform::new(&spec).unwrap();
        let sound = [0.25; 400];
        assert!(wave.compute(&sound).unwrap().iter().all(|&x| x == 0.25));
        let mut out = Vec::new();
        assert_eq!(wave.stream().push(&sound, &mut out).unwrap(), 400);
        assert_eq!(out, sound);
        assert!(wave.compute(&[f32::NAN; 400]).is_err());
    }

    #[test]
    fn a_bad_spec_is_refused() {
        for (rate, shortest, normalization) in [
            (0, 400, Normalization::None),
            (16_000, 0, Normalization::None),
            (16_000, 400, Normalization::Utterance { epsilon: 0.0 }),
            (
                16_000,
                400,
                Normalization::Fixed {
                    mean: vec![0.0],
                    deviation: vec![1.0],
                },
            ),
        ] {
            let spec = WaveformSpec {
                sample_rate: rate,
                shortest,
                normalization,
            };
            assert_eq!(Waveform::new(&spec).unwrap_err().kind(), ErrorKind::Spec);
        }
    }
}
