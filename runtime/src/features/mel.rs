//! Triangular mel filters `[F, bins]`, kept sparse: each filter is a run of weights over adjacent FFT bins.
//!
//! With F filters there are F + 2 edges, equally spaced on the mel scale from `low_hz` to `high_hz`; filter f
//! rises from edge f to edge f + 1 and falls to edge f + 2. The scales:
//! - HTK and Kaldi: `mel(f) = 2595 log10(1 + f / 700) = 1127 ln(1 + f / 700)` (the two constants differ in
//!   the fifth digit; each convention keeps its own). HTK draws the triangles over Hz, Kaldi over mel.
//! - Slaney: `3 f / 200` below 1 kHz, `15 + 27 ln(f / 1000) / ln(6.4)` above; triangles over Hz, divided by
//!   half their base so that each has area 1.

use crate::spec::{LogMelSpec, MelScale};

/// Weights are padded with zeros to a multiple of this, so that a dot product runs over whole vectors.
pub(super) const LANES: usize = 4;

/// The filters of one spec.
#[derive(Debug)]
pub(super) struct MelBank {
    /// First bin and number of weights (a multiple of [`LANES`]) of each filter.
    runs: Vec<(usize, usize)>,
    /// All weights, filter after filter.
    weights: Vec<f32>,
}

impl MelBank {
    /// The filters of `spec`, whose fields have been validated.
    pub(super) fn new(spec: &LogMelSpec) -> Self {
        let scale = spec.mel;
        let low = to_mel(scale, f64::from(spec.low_hz));
        let high = to_mel(scale, f64::from(spec.high_hz));
        let step = (high - low) / (spec.mels + 1) as f64;
        // Kaldi's triangles are straight lines over mel; the others are over Hz.
        let axis = |mel: f64| match scale {
            MelScale::Kaldi => mel,
            MelScale::Htk | MelScale::Slaney => to_hz(scale, mel),
        };
        let bin_width = f64::from(spec.sample_rate) / spec.fft_length as f64;
        let bins: Vec<f64> = (0..=spec.fft_length / 2)
            .map(|bin| match scale {
                MelScale::Kaldi => to_mel(scale, bin as f64 * bin_width),
                MelScale::Htk | MelScale::Slaney => bin as f64 * bin_width,
            })
            .collect();

        let mut runs = Vec::with_capacity(spec.mels);
        let mut weights = Vec::new();
        for filter in 0..spec.mels {
            let edge = |offset: usize| axis(low + step * (filter + offset) as f64);
            let (left, center, right) = (edge(0), edge(1), edge(2));
            let height = match scale {
                MelScale::Slaney => 2.0 / (right - left),
                MelScale::Htk | MelScale::Kaldi => 1.0,
            };
            let start = bins.partition_point(|&x| x <= left);
            let end = bins.partition_point(|&x| x < right).max(start);
            for &x in &bins[start..end] {
                let rising = (x - left) / (center - left);
                let falling = (right - x) / (right - center);
                weights.push((height * rising.min(falling)) as f32);
            }
            let length = (end - start).next_multiple_of(LANES);
            weights.resize(weights.len() + length - (end - start), 0.0);
            runs.push((start, length));
        }
        Self { runs, weights }
    }

    /// How many values of `spectrum` [`apply`](Self::apply) may read: the bins and the padding behind them.
    pub(super) fn spectrum_length(spec: &LogMelSpec) -> usize {
        spec.fft_length / 2 + 1 + LANES
    }

    /// Filter energies of one frame: `spectrum` has [`spectrum_length`](Self::spectrum_length) values, zeros
    /// behind the last bin; `energies` is `[F]`.
    pub(super) fn apply(&self, spectrum: &[f32], energies: &mut [f32]) {
        let mut weights = self.weights.as_slice();
        for (&(start, length), energy) in self.runs.iter().zip(energies) {
            let (run, rest) = weights.split_at(length);
            weights = rest;
            let mut sums = [0.0f32; LANES];
            let values = &spectrum[start..start + length];
            for (x, w) in values.chunks_exact(LANES).zip(run.chunks_exact(LANES)) {
                for lane in 0..LANES {
                    sums[lane] += x[lane] * w[lane];
                }
            }
            *energy = (sums[0] + sums[2]) + (sums[1] + sums[3]);
        }
    }
}

fn to_mel(scale: MelScale, hz: f64) -> f64 {
    match scale {
        MelScale::Htk => 2595.0 * (1.0 + hz / 700.0).log10(),
        MelScale::Kaldi => 1127.0 * (1.0 + hz / 700.0).ln(),
        MelScale::Slaney if hz < 1000.0 => hz * 3.0 / 200.0,
        MelScale::Slaney => 15.0 + 27.0 * (hz / 1000.0).ln() / 6.4f64.ln(),
    }
}

fn to_hz(scale: MelScale, mel: f64) -> f64 {
    match scale {
        MelScale::Htk => 700.0 * (10f64.powf(mel / 2595.0) - 1.0),
        MelScale::Kaldi => 700.0 * ((mel / 1127.0).exp() - 1.0),
        MelScale::Slaney if mel < 15.0 => mel * 200.0 / 3.0,
        MelScale::Slaney => 1000.0 * (6.4f64.ln() * (mel - 15.0) / 27.0).exp(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The filters as a dense matrix `[F][bins]`, read off with unit spectra.
    fn dense(spec: &LogMelSpec) -> Vec<Vec<f32>> {
        let bank = MelBank::new(spec);
        let bins = spec.fft_length / 2 + 1;
        let mut rows = vec![vec![0.0; bins]; spec.mels];
        for bin in 0..bins {
            let mut spectrum = vec![0.0; MelBank::spectrum_length(spec)];
            spectrum[bin] = 1.0;
            let mut energies = vec![0.0; spec.mels];
            bank.apply(&spectrum, &mut energies);
            for (row, energy) in rows.iter_mut().zip(energies) {
                row[bin] = energy;
            }
        }
        rows
    }

    fn spec(mel: MelScale) -> LogMelSpec {
        LogMelSpec {
            mel,
            low_hz: 0.0,
            high_hz: 8_000.0,
            ..Default::default()
        }
    }

    #[test]
    fn scales_and_their_inverses_agree() {
        for scale in [MelScale::Htk, MelScale::Kaldi, MelScale::Slaney] {
            for hz in [0.0, 20.0, 440.0, 999.0, 1_000.0, 7_600.0, 24_000.0] {
                assert!((to_hz(scale, to_mel(scale, hz)) - hz).abs() < 1e-6);
            }
        }
        // Fixed points of the definitions.
        assert!((to_mel(MelScale::Htk, 700.0) - 2_595.0 * 2f64.log10()).abs() < 1e-9);
        assert!((to_mel(MelScale::Slaney, 1_000.0) - 15.0).abs() < 1e-9);
        assert!((to_mel(MelScale::Slaney, 6_400.0) - 42.0).abs() < 1e-9);
    }

    #[test]
    fn triangles_of_height_one_sum_to_one_between_the_outer_centers() {
        for mel in [MelScale::Htk, MelScale::Kaldi] {
            let spec = LogMelSpec {
                mels: 20,
                ..spec(mel)
            };
            let rows = dense(&spec);
            let center = |row: &[f32]| {
                row.iter()
                    .enumerate()
                    .max_by(|a, b| a.1.total_cmp(b.1))
                    .map(|(n, _)| n)
            };
            let (first, last) = (center(&rows[0]).unwrap() + 1, center(&rows[19]).unwrap());
            for bin in first..last {
                let sum: f32 = rows.iter().map(|row| row[bin]).sum();
                assert!((sum - 1.0).abs() < 1e-5, "{mel:?} bin {bin}: {sum}");
            }
            assert!(rows.iter().flatten().all(|&w| (0.0..=1.0).contains(&w)));
        }
    }

    #[test]
    fn slaney_triangles_have_area_one() {
        // Where a triangle spans many bins, the Riemann sum over bins of 31.25 Hz is close to its area.
        for (f, row) in dense(&LogMelSpec {
            mels: 20,
            ..spec(MelScale::Slaney)
        })
        .iter()
        .enumerate()
        .skip(8)
        {
            let area = row.iter().sum::<f32>() * 31.25;
            assert!((area - 1.0).abs() < 0.02, "filter {f}: {area}");
        }
    }

    #[test]
    fn more_filters_than_bins_leave_some_empty_and_none_out_of_bounds() {
        let spec = LogMelSpec {
            mels: 1_024,
            fft_length: 64,
            window_length: 64,
            ..spec(MelScale::Htk)
        };
        let rows = dense(&spec);
        assert!(rows.iter().any(|row| row.iter().all(|&w| w == 0.0)));
        assert!(rows.iter().flatten().all(|w| w.is_finite()));
    }
}
