//! Log-mel filterbank features: mono samples to `[T, F]`, whole or pushed in pieces, with the same bits.
//!
//! Where frames lie and how many there are is the spec's [`Framing`](crate::spec::Framing): by default frame t covers
//! samples `[t hop, t hop + window_length)` and nothing is padded at either end.

use super::framing::Framer;
use super::log;
use super::mel::MelBank;
use super::stft::{Stft, Work};
use crate::spec::{LogMelSpec, Normalization};
use crate::{Error, ErrorKind, Result};
use ndarray::{Array2, Axis};
use std::fmt;
use std::sync::Arc;

/// A log-mel front-end: tables computed once, shared by clones and streams.
#[derive(Clone)]
pub struct Fbank {
    tables: Arc<Tables>,
}

struct Tables {
    spec: LogMelSpec,
    stft: Stft,
    mel: MelBank,
    framer: Framer,
    /// Mean and inverse deviation of each feature, for [`Normalization::Fixed`].
    fixed: Option<(Vec<f32>, Vec<f32>)>,
}

impl Fbank {
    /// A front-end for `spec`.
    ///
    /// # Errors
    /// [`ErrorKind::Spec`] when a field is out of its range; the message names the field.
    pub fn new(spec: &LogMelSpec) -> Result<Self> {
        spec.validate()?;
        let fixed = match &spec.normalization {
            Normalization::Fixed { mean, deviation } => {
                Some((mean.clone(), deviation.iter().map(|d| 1.0 / d).collect()))
            }
            Normalization::None | Normalization::Utterance { .. } | Normalization::Peak { .. } => {
                None
            }
        };
        Ok(Self {
            tables: Arc::new(Tables {
                spec: spec.clone(),
                stft: Stft::new(spec),
                mel: MelBank::new(spec),
                framer: Framer::new(spec),
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
        usize::try_from(self.tables.framer.count(samples as u64)).unwrap_or(usize::MAX)
    }

    /// Features `[T, F]` of a whole utterance of mono samples in [-1, 1] at
    /// [`sample_rate`](Self::sample_rate); T is 0 when the utterance is too short for a frame.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for a sample that is not finite, [`ErrorKind::Limit`] when memory for
    /// the features cannot be had.
    pub fn compute(&self, samples: &[f32]) -> Result<Array2<f32>> {
        let mut values = Vec::new();
        let mut stream = self.stream();
        let frames = stream.push_any(samples, &mut values)? + stream.end(&mut values)?;
        let mut features = Array2::from_shape_vec((frames, self.features()), values)
            .map_err(|e| Error::new(ErrorKind::Limit, "too many features").with_source(e))?;
        match self.tables.spec.normalization {
            Normalization::Utterance { epsilon } => normalize(&mut features, epsilon),
            Normalization::Peak {
                range,
                mean,
                deviation,
            } => {
                let least = features.fold(f32::NEG_INFINITY, |most, x| most.max(*x)) - range;
                features.mapv_inplace(|x| (x.max(least) - mean) / deviation);
            }
            Normalization::None | Normalization::Fixed { .. } => {}
        }
        Ok(features)
    }

    /// Whether [`stream`](Self::stream) can be used: not where the spec normalizes over the utterance.
    pub fn streams(&self) -> bool {
        self.spec().normalization.streams()
    }

    /// A stream of frames, at its start.
    ///
    /// A spec that normalizes over the utterance does not stream: its stream's pushes say so.
    pub fn stream(&self) -> FbankStream {
        FbankStream {
            work: self.tables.stft.work(),
            framer: self.tables.framer.clone(),
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
    framer: Framer,
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
        if !self.fbank.streams() {
            return Err(whole_only());
        }
        self.push_any(samples, out)
    }

    /// Ends the utterance: appends the frames that reach beyond its last sample, none where the spec takes whole
    /// windows only, and returns their number. The next push starts a new utterance.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(&mut self, out: &mut Vec<f32>) -> Result<usize> {
        if !self.fbank.streams() {
            return Err(whole_only());
        }
        self.end(out)
    }

    /// Forgets all samples: the next push starts a new utterance.
    pub fn reset(&mut self) {
        self.framer.reset();
    }

    fn push_any(&mut self, samples: &[f32], out: &mut Vec<f32>) -> Result<usize> {
        finite(samples)?;
        let Self {
            fbank,
            work,
            framer,
        } = self;
        let tables = &*fbank.tables;
        reserve(framer.upcoming(samples.len()), tables.spec.mels, out)?;
        framer.push(samples, |frame| tables.append(frame, work, out))
    }

    fn end(&mut self, out: &mut Vec<f32>) -> Result<usize> {
        let Self {
            fbank,
            work,
            framer,
        } = self;
        let tables = &*fbank.tables;
        reserve(framer.upcoming(0), tables.spec.mels, out)?;
        framer.finish(|frame| tables.append(frame, work, out))
    }
}

/// Room for `frames` more rows.
fn reserve(frames: usize, mels: usize, out: &mut Vec<f32>) -> Result<()> {
    let room = frames
        .checked_mul(mels)
        .and_then(|values| out.try_reserve(values).ok());
    room.ok_or_else(|| {
        Error::new(
            ErrorKind::Limit,
            format!("no memory for {frames} feature frames: cut the audio into parts"),
        )
    })
}

/// Refuses samples that are not finite.
pub(super) fn finite(samples: &[f32]) -> Result<()> {
    match samples.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(at) => Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "sample {at} of {} is {}: samples must be finite numbers",
                samples.len(),
                samples[at]
            ),
        )),
    }
}

/// The error of a stream of features that need the whole utterance.
pub(super) fn whole_only() -> Error {
    Error::new(
        ErrorKind::Role,
        "this model normalizes its features over the whole utterance, so it cannot stream: recognize \
         whole utterances, or use a model with fixed normalization",
    )
}

impl fmt::Debug for FbankStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FbankStream")
            .field("fbank", &self.fbank)
            .field("framer", &self.framer)
            .finish_non_exhaustive()
    }
}

impl Tables {
    /// Appends the features `[F]` of one window of samples.
    fn append(&self, samples: &[f32], work: &mut Work, out: &mut Vec<f32>) -> Result<()> {
        let first = out.len();
        out.resize(first + self.spec.mels, 0.0);
        self.frame(samples, work, &mut out[first..])
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{LogGuard, MelScale, Spectrum, Window};
    use proptest::prelude::*;

    fn htk_magnitude() -> LogMelSpec {
        LogMelSpec {
            window: Window::Hamming,
            spectrum: Spectrum::Magnitude,
            log: LogGuard::Floor(1e-3),
            ..Default::default()
        }
    }

    fn kaldi() -> LogMelSpec {
        LogMelSpec {
            scale: 32_768.0,
            remove_dc: true,
            pre_emphasis: 0.97,
            window: Window::Povey,
            mel: MelScale::Kaldi,
            log: LogGuard::Floor(1.192_092_9e-7),
            ..Default::default()
        }
    }

    fn slaney() -> LogMelSpec {
        LogMelSpec {
            fft_length: 400,
            mel: MelScale::Slaney,
            low_hz: 0.0,
            high_hz: 8_000.0,
            log: LogGuard::Floor(1e-10),
            ..Default::default()
        }
    }

    /// `x[n] = (n^2 mod 1009) / 1009 - 0.4`: every band filled, a DC part, the same numbers in any language.
    fn sound(samples: usize) -> Vec<f32> {
        (0..samples as u64)
            .map(|n| (((n * n) % 1_009) as f64 / 1_009.0 - 0.4) as f32)
            .collect()
    }

    #[test]
    fn equals_other_implementations() {
        // Frame 3 of `sound(1600)`, filters 0, 1, 7, 20, 40, 60 and 79. Kaldi's row is from the package
        // kaldi-native-fbank 1.23 without dither, in f32; the others are from numpy 2 in f64 with the filters of
        // librosa 0.11 (`librosa.filters.mel` with `htk=True, norm=None`, and with its defaults).
        let cases: [(&str, LogMelSpec, [f32; 7]); 4] = [
            (
                "default",
                LogMelSpec::default(),
                [
                    4.732_456_7,
                    2.117_733_5,
                    2.331_731_8,
                    1.820_258_2,
                    3.604_971,
                    4.401_153,
                    5.294_731_6,
                ],
            ),
            (
                "HTK, magnitude",
                htk_magnitude(),
                [
                    2.029_206_5,
                    0.648_454_5,
                    0.958_978_6,
                    1.100_702_4,
                    2.148_673_5,
                    2.942_170_9,
                    3.619_584,
                ],
            ),
            (
                "Kaldi",
                kaldi(),
                [
                    12.036_597, 12.647_473, 18.218_561, 20.059_229, 23.739_899, 25.911_76,
                    27.510_118,
                ],
            ),
            (
                "Slaney",
                slaney(),
                [
                    1.134_296_2,
                    -1.382_232_5,
                    -3.232_315_8,
                    -1.839_908,
                    -3.113_268_4,
                    -1.329_792_4,
                    -1.196_254_4,
                ],
            ),
        ];
        for (name, spec, expected) in cases {
            let features = Fbank::new(&spec).unwrap().compute(&sound(1_600)).unwrap();
            assert_eq!(features.dim(), (8, 80));
            for (filter, expected) in [0, 1, 7, 20, 40, 60, 79].into_iter().zip(expected) {
                let found = features[[3, filter]];
                assert!(
                    (found - expected).abs() < 1e-4,
                    "{name}, filter {filter}: {found}, expected {expected}"
                );
            }
        }
    }

    #[test]
    fn counts_frames_by_whole_windows() {
        let fbank = Fbank::new(&LogMelSpec::default()).unwrap();
        for (samples, frames) in [
            (0, 0),
            (1, 0),
            (399, 0),
            (400, 1),
            (559, 1),
            (560, 2),
            (16_000, 98),
        ] {
            assert_eq!(fbank.frames(samples), frames);
            assert_eq!(fbank.compute(&sound(samples)).unwrap().dim(), (frames, 80));
        }
    }

    #[test]
    fn silence_is_the_guard_and_scale_shifts_the_log() {
        let fbank = Fbank::new(&LogMelSpec::default()).unwrap();
        let silence = fbank.compute(&[0.0; 400]).unwrap();
        assert!(silence.iter().all(|x| (x - 1e-6f32.ln()).abs() < 1e-5));
        let louder: Vec<f32> = sound(400).iter().map(|x| x * 4.0).collect();
        let shift = fbank.compute(&louder).unwrap() - fbank.compute(&sound(400)).unwrap();
        assert!(shift.iter().all(|x| (x - 16f32.ln()).abs() < 1e-4));
    }

    #[test]
    fn normalizes_with_constants_or_over_the_utterance() {
        let plain = Fbank::new(&LogMelSpec::default())
            .unwrap()
            .compute(&sound(4_000))
            .unwrap();
        let normalization = Normalization::Fixed {
            mean: (0..80).map(|f| f as f32).collect(),
            deviation: vec![2.0; 80],
        };
        let spec = LogMelSpec {
            normalization,
            ..Default::default()
        };
        let fixed = Fbank::new(&spec).unwrap().compute(&sound(4_000)).unwrap();
        for ((t, f), x) in fixed.indexed_iter() {
            assert_eq!(*x, (plain[[t, f]] - f as f32) / 2.0);
        }

        let normalization = Normalization::Utterance { epsilon: 1e-5 };
        let spec = LogMelSpec {
            normalization,
            ..Default::default()
        };
        let fbank = Fbank::new(&spec).unwrap();
        let features = fbank.compute(&sound(4_000)).unwrap();
        let frames = features.nrows() as f32;
        for column in features.columns() {
            assert!((column.sum() / frames).abs() < 1e-4);
            let variance = column.iter().map(|x| x * x).sum::<f32>() / (frames - 1.0);
            assert!((variance - 1.0).abs() < 1e-3);
        }
        // A single frame has no deviation: it becomes zero, not infinite.
        assert!(
            fbank
                .compute(&sound(400))
                .unwrap()
                .iter()
                .all(|&x| x == 0.0)
        );
        let error = fbank
            .stream()
            .push(&sound(400), &mut Vec::new())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Role);
    }

    #[test]
    fn a_sample_that_is_no_number_is_refused_and_not_taken() {
        let fbank = Fbank::new(&LogMelSpec::default()).unwrap();
        let mut stream = fbank.stream();
        let mut out = Vec::new();
        stream.push(&sound(500), &mut out).unwrap();
        let error = stream.push(&[0.0, f32::NAN], &mut out).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(
            error.to_string().contains("sample 1 of 2 is NaN"),
            "{error}"
        );
        stream.push(&sound(1_000)[500..], &mut out).unwrap();
        assert_eq!(
            out,
            fbank
                .compute(&sound(1_000))
                .unwrap()
                .into_raw_vec_and_offset()
                .0
        );
    }

    #[test]
    fn is_shared_between_threads() {
        fn check<T: Clone + Send + Sync>() {}
        fn check_stream<T: Send>() {}
        check::<Fbank>();
        check_stream::<FbankStream>();
    }

    proptest! {
        #[test]
        fn any_pushes_equal_the_whole_bit_for_bit(
            choice in 0usize..4,
            shape in (2usize..500, 1usize..900),
            pushes in proptest::collection::vec(prop_oneof![0usize..50, 0usize..900, Just(5_000)], 0..8),
            abandoned in 0usize..700,
        ) {
            let mut spec = [LogMelSpec::default(), htk_magnitude(), kaldi(), slaney()][choice].clone();
            spec.window_length = shape.0.min(spec.fft_length);
            spec.hop_length = shape.1;
            let fbank = Fbank::new(&spec).unwrap();
            let samples = sound(pushes.iter().sum());
            let whole = fbank.compute(&samples).unwrap();
            prop_assert_eq!(whole.nrows(), fbank.frames(samples.len()));

            let mut stream = fbank.stream();
            // What a stream did before a reset leaves no trace.
            stream.push(&sound(abandoned), &mut Vec::new()).unwrap();
            stream.reset();
            let (mut out, mut rest, mut frames) = (Vec::new(), samples.as_slice(), 0);
            for push in pushes {
                let (head, tail) = rest.split_at(push);
                frames += stream.push(head, &mut out).unwrap();
                prop_assert_eq!(out.len(), frames * 80);
                rest = tail;
            }
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&out), bits(whole.as_slice().unwrap()));
        }
    }
}
