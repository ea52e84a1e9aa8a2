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
