//! Speed perturbation (Ko et al., Audio augmentation for speech recognition, 2015): resampling by a factor near
//! 1, which changes tempo and pitch together.
//!
//! Output sample i is the input at time `i * factor`, interpolated with a Hann-windowed sinc of 16 taps
//! whose position is rounded to 1/512 sample (an error below -55 dB at 4 kHz). Speeding up needs a lower
//! cutoff against aliasing, hence two tables.

/// Taps of the interpolation kernel.
const TAPS: usize = 16;
/// Positions between two samples that have a kernel.
const PHASES: usize = 512;
/// Cutoff as a share of half the sample rate; the kernel falls to nothing from here to 1.
const CUTOFF: f64 = 0.92;

/// Kernels for slowing down and for speeding up.
#[derive(Debug)]
pub(super) struct Speed {
    slower: Vec<[f32; TAPS]>,
    faster: Vec<[f32; TAPS]>,
}

/// Samples left of `samples` at `factor`.
pub(super) fn length(samples: usize, factor: f32) -> usize {
    if factor == 1.0 {
        samples
    } else {
        (samples as f64 / f64::from(factor)) as usize
    }
}

impl Speed {
    /// Tables for factors in `[slowest, fastest]`.
    pub(super) fn new([slowest, fastest]: [f32; 2]) -> Self {
        let table = |needed: bool, cutoff| if needed { kernels(cutoff) } else { Vec::new() };
        Self {
            slower: table(slowest < 1.0, CUTOFF),
            faster: table(fastest > 1.0, CUTOFF / f64::from(fastest.max(1.0))),
        }
    }

    /// Fills `out`, [`length`] samples, with `audio` at `factor`, which lies in the interval given to `new`.
    pub(super) fn apply(&self, audio: &[i16], factor: f32, out: &mut [f32]) {
        let scale = 1.0 / 32_768.0;
        let kernels = if factor < 1.0 {
            &self.slower
        } else {
            &self.faster
        };
        if factor == 1.0 || kernels.is_empty() {
            for (out, &sample) in out.iter_mut().zip(audio) {
                *out = f32::from(sample) * scale;
            }
            return;
        }
        let mut padded = vec![0.0; audio.len() + TAPS];
        for (padded, &sample) in padded[TAPS / 2 - 1..].iter_mut().zip(audio) {
            *padded = f32::from(sample) * scale;
        }
        for (index, out) in out.iter_mut().enumerate() {
            let at = (index as f64 * f64::from(factor) * PHASES as f64 + 0.5) as usize;
            let start = at / PHASES;
            if let (Some(samples), Some(kernel)) =
                (padded.get(start..start + TAPS), kernels.get(at % PHASES))
            {
                *out = dot(samples, kernel);
            }
        }
    }
}

/// In four partial sums, which the compiler keeps in one vector register.
fn dot(samples: &[f32], kernel: &[f32; TAPS]) -> f32 {
    let mut sums = [0.0; 4];
    for (samples, taps) in samples.chunks_exact(4).zip(kernel.chunks_exact(4)) {
        for lane in 0..4 {
            sums[lane] += samples[lane] * taps[lane];
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}

/// `c sinc(c t) hann(t)` at the taps' distances, scaled to a sum of 1 so that a constant stays one.
fn kernels(cutoff: f64) -> Vec<[f32; TAPS]> {
    use std::f64::consts::PI;
    let half = TAPS as f64 / 2.0;
    (0..PHASES)
        .map(|phase| {
            let fraction = phase as f64 / PHASES as f64;
            let weights: [f64; TAPS] = std::array::from_fn(|tap| {
                let t = tap as f64 - (half - 1.0) - fraction;
                let sinc = if t == 0.0 {
                    1.0
                } else {
                    (PI * cutoff * t).sin() / (PI * cutoff * t)
                };
                sinc * (0.5 + 0.5 * (PI * t / half).cos())
            });
            let sum: f64 = weights.iter().sum();
            weights.map(|weight| (weight / sum) as f32)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hz: f64, samples: usize) -> Vec<f64> {
        (0..samples)
            .map(|i| 0.5 * (i as f64 * hz / 16_000.0 * std::f64::consts::TAU).sin())
            .collect()
    }

    fn sped(audio: &[f64], factor: f32) -> Vec<f32> {
        let audio: Vec<i16> = audio
            .iter()
            .map(|x| (x * 32_768.0).round() as i16)
            .collect();
        let mut out = vec![0.0; length(audio.len(), factor)];
        Speed::new([0.8, 1.25]).apply(&audio, factor, &mut out);
        out
    }

    #[test]
    fn a_tone_becomes_the_tone_of_the_new_pitch() {
        for factor in [0.8, 0.9, 0.97, 1.03, 1.1, 1.25] {
            for hz in [100.0, 1_000.0, 3_000.0] {
                let out = sped(&tone(hz, 8_000), factor);
                let expected = tone(hz * f64::from(factor), out.len());
                for (out, expected) in out.iter().zip(&expected).skip(20).take(out.len() - 40) {
                    let error = (f64::from(*out) - expected).abs();
                    assert!(error < 0.01, "{factor} {hz}: {error}");
                }
            }
        }
    }

    #[test]
    fn speeding_up_does_not_alias() {
        // 7.6 kHz at 1.25 would fold back to 6.5 kHz.
        let out = sped(&tone(7_600.0, 8_000), 1.25);
        let loudest = out[20..out.len() - 20]
            .iter()
            .fold(0.0f32, |a, x| a.max(x.abs()));
        assert!(loudest < 0.05, "{loudest}");
    }

    #[test]
    fn lengths_follow_the_factor() {
        for (samples, factor, expected) in [
            (1_000, 1.0, 1_000),
            (900, 0.9, 1_000),
            (0, 1.1, 0),
            (1, 1.1, 0),
        ] {
            assert_eq!(length(samples, factor), expected, "{samples} {factor}");
        }
    }
}
