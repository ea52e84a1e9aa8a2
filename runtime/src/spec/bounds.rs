//! The bounds on every field of a front-end of audio, so that no model file can ask for absurd tables.

use super::{LogGuard, LogMelSpec, Normalization, WaveformSpec};
use crate::{Error, ErrorKind, Result};

/// Samples per second a front-end may ask for.
const RATES: std::ops::RangeInclusive<u32> = 1_000..=768_000;
/// Longest FFT in samples: four seconds at 16 kHz.
const MAX_FFT: usize = 1 << 16;
/// Most samples from one frame to the next.
const MAX_HOP: usize = 1 << 20;
/// Most mel filters.
const MAX_MELS: usize = 1 << 10;
/// Longest receptive field in samples.
const MAX_SHORTEST: usize = 1 << 20;
/// Largest factor on samples, far above the 32768 of 16-bit units.
const MAX_SCALE: f32 = 1_048_576.0;

impl LogMelSpec {
    /// Refuses a spec with a field out of range, naming it.
    pub(crate) fn validate(&self) -> Result<()> {
        log_mel(self)
    }
}

impl WaveformSpec {
    /// Refuses a spec with a field out of range, naming it.
    pub(crate) fn validate(&self) -> Result<()> {
        let problem = if !RATES.contains(&self.sample_rate) {
            format!(
                "sample_rate is {}, expected {} to {}",
                self.sample_rate,
                RATES.start(),
                RATES.end()
            )
        } else if !(1..=MAX_SHORTEST).contains(&self.shortest) {
            format!(
                "shortest is {}, expected 1 to {MAX_SHORTEST}",
                self.shortest
            )
        } else {
            match &self.normalization {
                Normalization::None => return Ok(()),
                Normalization::Utterance { epsilon } if epsilon.is_finite() && *epsilon > 0.0 => {
                    return Ok(());
                }
                other => format!(
                    "normalization is {other:?}, expected none, or over the utterance with a positive epsilon"
                ),
            }
        };
        Err(Error::new(
            ErrorKind::Spec,
            format!("the waveform front-end cannot be built: {problem}; mend the model's spec"),
        ))
    }
}

fn log_mel(spec: &LogMelSpec) -> Result<()> {
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
        Normalization::Peak {
            range,
            mean,
            deviation,
        } if range.is_finite()
            && *range > 0.0
            && mean.is_finite()
            && deviation.is_normal()
            && *deviation > 0.0 =>
        {
            Ok(())
        }
        Normalization::Peak { .. } => Err(invalid(format!(
            "normalization is {:?}, expected a positive range and deviation and a finite mean",
            spec.normalization
        ))),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::Fbank;
    use crate::spec::{Edge, EmphasisOver, Framing, MelScale, Spectrum, Window};
    use proptest::prelude::*;

    /// A change that spoils a spec.
    type Spoil = fn(&mut LogMelSpec);

    #[test]
    fn every_bad_field_is_named() {
        let fixed = |mean, deviation| Normalization::Fixed { mean, deviation };
        assert!(Fbank::new(&LogMelSpec::default()).is_ok());
        let cases: [(Spoil, &str); 20] = [
            (|s| s.sample_rate = 0, "sample_rate is 0"),
            (|s| s.sample_rate = u32::MAX, "sample_rate is 4294967295"),
            (|s| s.scale = 0.0, "scale is 0"),
            (|s| s.scale = f32::NAN, "scale is NaN"),
            (|s| s.pre_emphasis = 1.5, "pre_emphasis is 1.5"),
            (|s| s.fft_length = usize::MAX, "fft_length is"),
            (|s| s.fft_length = 0, "fft_length is 0"),
            (|s| s.window_length = 513, "window_length is 513"),
            (|s| s.window_length = 1, "window_length is 1"),
            (|s| s.hop_length = 0, "hop_length is 0"),
            (|s| s.hop_length = usize::MAX, "hop_length is"),
            (|s| s.mels = 0, "mels is 0"),
            (|s| s.mels = usize::MAX, "mels is"),
            (|s| s.low_hz = -1.0, "low_hz is -1"),
            (|s| s.low_hz = 7_600.0, "low_hz is 7600 and high_hz 7600"),
            (|s| s.high_hz = 8_001.0, "high_hz 8001"),
            (|s| s.high_hz = f32::NAN, "high_hz NaN"),
            (|s| s.log = LogGuard::Floor(0.0), "guard 0"),
            (
                |s| s.normalization = Normalization::Utterance { epsilon: -1.0 },
                "epsilon -1",
            ),
            (
                |s| {
                    s.normalization = Normalization::Peak {
                        range: 0.0,
                        mean: 0.0,
                        deviation: 1.0,
                    };
                },
                "range: 0.0",
            ),
        ];
        let mut specs: Vec<(LogMelSpec, &str)> = cases
            .map(|(spoil, says)| {
                let mut spec = LogMelSpec::default();
                spoil(&mut spec);
                (spec, says)
            })
            .into();
        let mut deviation = vec![1.0; 80];
        deviation[7] = 0.0;
        for (normalization, says) in [
            (
                fixed(vec![0.0; 79], vec![1.0; 80]),
                "79 means and 80 deviations",
            ),
            (
                fixed(vec![f32::INFINITY; 80], vec![1.0; 80]),
                "mean 0 is inf",
            ),
            (fixed(vec![0.0; 80], deviation), "deviation 7 is 0"),
        ] {
            specs.push((
                LogMelSpec {
                    normalization,
                    ..Default::default()
                },
                says,
            ));
        }
        for (spec, says) in specs {
            let error = Fbank::new(&spec).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Spec);
            assert!(error.to_string().contains(says), "{error}");
        }
    }

    fn any_length() -> impl Strategy<Value = usize> {
        prop_oneof![0usize..600, Just(65_536), Just(65_537), any::<usize>()]
    }

    fn any_factor() -> impl Strategy<Value = f32> {
        prop_oneof![
            Just(0.0),
            Just(1.0),
            Just(0.97),
            Just(f32::MIN_POSITIVE),
            Just(MAX_SCALE),
            any::<f32>()
        ]
    }

    fn any_hz() -> impl Strategy<Value = f32> {
        prop_oneof![0f32..9_000.0, 0f32..1e-30, any::<f32>()]
    }

    fn any_normalization() -> impl Strategy<Value = Normalization> {
        let values = || proptest::collection::vec(any_factor(), 0..4);
        prop_oneof![
            Just(Normalization::None),
            any_factor().prop_map(|epsilon| Normalization::Utterance { epsilon }),
            (values(), values())
                .prop_map(|(mean, deviation)| Normalization::Fixed { mean, deviation }),
        ]
    }

    proptest! {
        #[test]
        fn any_spec_is_taken_or_refused(
            shape in (any_length(), any_length(), any_length(), any_length()),
            rate in prop_oneof![Just(16_000u32), Just(1_000), Just(768_000), any::<u32>()],
            factors in (any_factor(), any_factor(), any_factor()),
            edges in (any_hz(), any_hz()),
            choices in (0usize..4, 0usize..2, 0usize..3, any::<bool>(), any::<bool>()),
            normalization in any_normalization(),
            sample in -1e9f32..1e9,
        ) {
            let guard = if choices.4 { LogGuard::Add } else { LogGuard::Floor };
            let spec = LogMelSpec {
                sample_rate: rate,
                scale: factors.0,
                remove_dc: choices.3,
                pre_emphasis: factors.1,
                emphasis_over: [EmphasisOver::Frame, EmphasisOver::Signal][choices.1],
                window: [Window::Hann, Window::HannPeriodic, Window::Hamming, Window::Povey][choices.0],
                window_length: shape.0,
                hop_length: shape.1,
                framing: [
                    Framing::Whole,
                    Framing::Mirrored,
                    Framing::Centered { edge: Edge::Mirror },
                    Framing::CenteredShort { edge: Edge::Zeros },
                ][choices.0],
                fft_length: shape.2,
                spectrum: [Spectrum::Power, Spectrum::Magnitude][choices.1],
                mel: [MelScale::Htk, MelScale::Kaldi, MelScale::Slaney][choices.2],
                mels: shape.3,
                low_hz: edges.0,
                high_hz: edges.1,
                log: guard(factors.2),
                normalization,
            };
            match Fbank::new(&spec) {
                Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Spec),
                Ok(fbank) => {
                    let samples = vec![sample; spec.window_length];
                    let features = fbank.compute(&samples).unwrap();
                    prop_assert_eq!(features.dim(), (fbank.frames(samples.len()), spec.mels));
                    prop_assert!(spec.framing != Framing::Whole || features.nrows() == 1);
                }
            }
        }
    }
}
