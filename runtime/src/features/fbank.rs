//! Log-mel filterbank features: mono samples to `[T, F]`, whole or pushed in pieces, with the same bits.
//!
//! Frame t covers samples `[t hop, t hop + window_length)`; nothing is padded at either end, so n samples
//! give `T = 1 + (n - window_length) / hop` frames (rounded down), or none when n is below one window.

use super::log;
use super::mel::MelBank;
use super::stft::{Stft, Work};
use crate::spec::{LogGuard, LogMelSpec, Normalization};
use crate::{Error, ErrorKind, Result};
use ndarray::{Array2, Axis};
use std::fmt;
use std::sync::Arc;

/// Samples per second a front-end may ask for.
const RATES: std::ops::RangeInclusive<u32> = 1_000..=768_000;
/// Longest FFT in samples: four seconds at 16 kHz.
const MAX_FFT: usize = 1 << 16;
/// Most samples from one frame to the next.
const MAX_HOP: usize = 1 << 20;
/// Most mel filters.
const MAX_MELS: usize = 1 << 10;
/// Largest factor on samples, far above the 32768 of 16-bit units.
const MAX_SCALE: f32 = 1_048_576.0;
/// Samples copied at a time: bounds a stream's memory whatever is pushed.
const BLOCK: usize = 4_096;

/// A log-mel front-end: tables computed once, shared by clones and streams.
#[derive(Clone)]
pub struct Fbank {
    tables: Arc<Tables>,
}

struct Tables {
    spec: LogMelSpec,
    stft: Stft,
    mel: MelBank,
    /// Mean and inverse deviation of each feature, for [`Normalization::Fixed`].
    fixed: Option<(Vec<f32>, Vec<f32>)>,
}

impl Fbank {
    /// A front-end for `spec`.
    ///
    /// # Errors
    /// [`ErrorKind::Spec`] when a field is out of its range; the message names the field.
    pub fn new(spec: &LogMelSpec) -> Result<Self> {
        validate(spec)?;
        let fixed = match &spec.normalization {
            Normalization::Fixed { mean, deviation } => {
                Some((mean.clone(), deviation.iter().map(|d| 1.0 / d).collect()))
            }
            Normalization::None | Normalization::Utterance { .. } => None,
        };
        Ok(Self {
            tables: Arc::new(Tables {
                spec: spec.clone(),
                stft: Stft::new(spec),
                mel: MelBank::new(spec),
                fixed,
            }),
        })
    }

    /// The spec these features follow.
    pub fn spec(&self) -> &LogMelSpec {
        &self.tables.spec
    }

    /// Samples per second that [`compute`](Self::compute) and [`stream`](Self::stream) expect.
    pub fn sample_rate(&self) -> u32 {
        self.tables.spec.sample_rate
    }

    /// Number of features per frame: F.
    pub fn features(&self) -> usize {
        self.tables.spec.mels
    }

    /// Number of frames T in `samples` samples.
    pub fn frames(&self, samples: usize) -> usize {
        match samples.checked_sub(self.tables.spec.window_length) {
            Some(rest) => 1 + rest / self.tables.spec.hop_length,
            None => 0,
        }
    }

    /// Features `[T, F]` of a whole utterance of mono samples in [-1, 1] at
    /// [`sample_rate`](Self::sample_rate); T is 0 when the utterance is shorter than one window.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for a sample that is not finite, [`ErrorKind::Limit`] when memory for
    /// the features cannot be had.
    pub fn compute(&self, samples: &[f32]) -> Result<Array2<f32>> {
        let mut values = Vec::new();
        let frames = self.stream().push_any(samples, &mut values)?;
        let mut features = Array2::from_shape_vec((frames, self.features()), values)
            .map_err(|e| Error::new(ErrorKind::Limit, "too many features").with_source(e))?;
        if let Normalization::Utterance { epsilon } = self.tables.spec.normalization {
            normalize(&mut features, epsilon);
        }
        Ok(features)
    }

    /// A stream of frames, at its start.
    ///
    /// A spec with [`Normalization::Utterance`] does not stream: its stream's pushes say so.
    pub fn stream(&self) -> FbankStream {
        let spec = &self.tables.spec;
        FbankStream {
            work: self.tables.stft.work(),
            pending: Vec::with_capacity(spec.window_length.max(spec.hop_length) + BLOCK),
            skip: 0,
            fbank: self.clone(),
        }
    }
}

impl fmt::Debug for Fbank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fbank")
            .field("spec", &self.tables.spec)
            .finish_non_exhaustive()
    }
}

/// Features of samples that arrive in pieces of any size; equal, bit for bit, to [`Fbank::compute`].
///
/// Memory is bounded by one window and one block, however much is pushed; nothing is allocated per frame.
pub struct FbankStream {
    fbank: Fbank,
    work: Work,
    /// Samples from the start of the next frame on.
    pending: Vec<f32>,
    /// Samples to drop before the next frame, where the hop is longer than the window.
    skip: usize,
}

impl FbankStream {
    /// Takes mono samples in [-1, 1] and appends every frame they complete to `out`, row by row, F values
    /// each. Returns the number of frames appended.
    ///
    /// # Errors
    /// [`ErrorKind::Role`] when the spec normalizes over the utterance; [`ErrorKind::InvalidArgument`] for a
    /// sample that is not finite (nothing of this push is then taken); [`ErrorKind::Limit`] when `out`
    /// cannot grow.
    pub fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) -> Result<usize> {
        if let Normalization::Utterance { .. } = self.fbank.tables.spec.normalization {
            return Err(Error::new(
                ErrorKind::Role,
                "this model normalizes its features over the whole utterance, so it cannot stream: recognize \
                 whole utterances, or use a model with fixed normalization",
            ));
        }
        self.push_any(samples, out)
    }

    /// Forgets all samples: the next push starts a new utterance.
    pub fn reset(&mut self) {
        self.pending.clear();
        self.skip = 0;
    }

    fn push_any(&mut self, samples: &[f32], out: &mut Vec<f32>) -> Result<usize> {
        if let Some(at) = samples.iter().position(|x| !x.is_finite()) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "sample {at} of {} is {}: samples must be finite numbers",
                    samples.len(),
                    samples[at]
                ),
            ));
        }
        let tables = &*self.fbank.tables;
        let (window, hop) = (tables.spec.window_length, tables.spec.hop_length);
        let available = (self.pending.len() + samples.len()).saturating_sub(self.skip);
        let expected = self.fbank.frames(available);
        expected
            .checked_mul(tables.spec.mels)
            .and_then(|values| out.try_reserve(values).ok())
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Limit,
                    format!("no memory for {expected} feature frames: cut the audio into parts"),
                )
            })?;

        let mut frames = 0;
        for block in samples.chunks(BLOCK) {
            let skipped = self.skip.min(block.len());
            self.skip -= skipped;
            self.pending.extend_from_slice(&block[skipped..]);
            let mut start = 0;
            while self.pending.len() >= start + window {
                let first = out.len();
                out.resize(first + tables.spec.mels, 0.0);
                tables.frame(
                    &self.pending[start..start + window],
                    &mut self.work,
                    &mut out[first..],
                )?;
                frames += 1;
                start += hop;
            }
            self.skip += start.saturating_sub(self.pending.len());
            self.pending.drain(..start.min(self.pending.len()));
        }
        Ok(frames)
    }
}

impl fmt::Debug for FbankStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FbankStream")
            .field("fbank", &self.fbank)
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}

impl Tables {
    /// Features `[F]` of one window of samples.
    fn frame(&self, samples: &[f32], work: &mut Work, row: &mut [f32]) -> Result<()> {
        self.stft.process(samples, work)?;
        self.mel.apply(&work.spectrum, row);
        log::guarded(row, self.spec.log);
        if let Some((mean, inverse)) = &self.fixed {
            for ((x, m), i) in row.iter_mut().zip(mean).zip(inverse) {
                *x = (*x - m) * i;
            }
        }
        Ok(())
    }
}

/// `(x - mean) / (deviation + epsilon)` per feature over T, the deviation with T - 1 in its denominator.
fn normalize(features: &mut Array2<f32>, epsilon: f32) {
    for mut column in features.axis_iter_mut(Axis(1)) {
        let frames = column.len() as f64;
        let mean = column.iter().map(|&x| f64::from(x)).sum::<f64>() / frames;
        let squares: f64 = column.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum();
        let deviation = (squares / (frames - 1.0).max(1.0)).sqrt() + f64::from(epsilon);
        column.mapv_inplace(|x| ((f64::from(x) - mean) / deviation) as f32);
    }
}

/// Refuses a spec with a field out of range, naming it.
fn validate(spec: &LogMelSpec) -> Result<()> {
    let nyquist = spec.sample_rate as f32 / 2.0;
    let guard = match spec.log {
        LogGuard::Floor(value) | LogGuard::Add(value) => value,
    };
    let checks = [
        (
            RATES.contains(&spec.sample_rate),
            format!(
                "sample_rate is {}, expected {} to {}",
                spec.sample_rate,
                RATES.start(),
                RATES.end()
            ),
        ),
        (
            spec.scale > 0.0 && spec.scale <= MAX_SCALE,
            format!(
                "scale is {}, expected above 0 and at most {MAX_SCALE}",
                spec.scale
            ),
        ),
        (
            (0.0..=1.0).contains(&spec.pre_emphasis),
            format!("pre_emphasis is {}, expected 0 to 1", spec.pre_emphasis),
        ),
        (
            (2..=MAX_FFT).contains(&spec.fft_length),
            format!("fft_length is {}, expected 2 to {MAX_FFT}", spec.fft_length),
        ),
        (
            (2..=spec.fft_length).contains(&spec.window_length),
            format!(
                "window_length is {}, expected 2 to fft_length ({})",
                spec.window_length, spec.fft_length
            ),
        ),
        (
            (1..=MAX_HOP).contains(&spec.hop_length),
            format!("hop_length is {}, expected 1 to {MAX_HOP}", spec.hop_length),
        ),
        (
            (1..=MAX_MELS).contains(&spec.mels),
            format!("mels is {}, expected 1 to {MAX_MELS}", spec.mels),
        ),
        (
            spec.low_hz >= 0.0 && spec.low_hz < spec.high_hz && spec.high_hz <= nyquist,
            format!(
                "low_hz is {} and high_hz {}, expected 0 <= low_hz < high_hz <= {nyquist} (half the sample rate)",
                spec.low_hz, spec.high_hz
            ),
        ),
        (
            guard.is_normal() && guard > 0.0,
            format!("log has the guard {guard}, expected a positive normal number"),
        ),
    ];
    if let Some((_, problem)) = checks.into_iter().find(|(holds, _)| !holds) {
        return Err(invalid(problem));
    }
    match &spec.normalization {
        Normalization::None => Ok(()),
        Normalization::Utterance { epsilon } if epsilon.is_finite() && *epsilon > 0.0 => Ok(()),
        Normalization::Utterance { epsilon } => Err(invalid(format!(
            "normalization has epsilon {epsilon}, expected a positive number"
        ))),
        Normalization::Fixed { mean, deviation } => {
            if mean.len() != spec.mels || deviation.len() != spec.mels {
                return Err(invalid(format!(
                    "normalization has {} means and {} deviations, expected mels ({}) of each",
                    mean.len(),
                    deviation.len(),
                    spec.mels
                )));
            }
            if let Some(at) = mean.iter().position(|m| !m.is_finite()) {
                return Err(invalid(format!(
                    "normalization: mean {at} is {}, expected a number",
                    mean[at]
                )));
            }
            match deviation.iter().position(|d| !(d.is_normal() && *d > 0.0)) {
                Some(at) => Err(invalid(format!(
                    "normalization: deviation {at} is {}, expected a positive normal number",
                    deviation[at]
                ))),
                None => Ok(()),
            }
        }
    }
}

fn invalid(problem: String) -> Error {
    Error::new(
        ErrorKind::Spec,
        format!("the log-mel front-end cannot be built: {problem}; mend the model's spec"),
    )
}
