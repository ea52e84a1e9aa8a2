//! Reverberation by a synthetic room: a direct path and an exponentially decaying diffuse tail.
//!
//! The impulse response is Polack's statistical model (1988): `h[0] = 1`, then after a short gap
//! `h[n] = g w[n] 10^(-3 n / (rate * decay))` with white noise w, so that the tail falls by 60 dB in `decay`
//! seconds, and g such that the direct-to-reverberant energy ratio is the drawn one. The direct path is not
//! delayed, so labels keep their time. Applied by overlap-add with one FFT size (Oppenheim and Schafer).

use super::noise::NoiseBank;
use super::{amplitude, energy};
use crate::config::ReverbConfig;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};
use std::fmt;
use std::sync::Arc;

/// The tail is cut where it has fallen by 45 dB, three quarters of the decay time.
const TAIL: f32 = 0.75;
/// The gap between direct path and tail in seconds, shortest and longest: a room of one to three meters.
const GAP: [f32; 2] = [0.002, 0.01];

/// Rooms of one recipe.
pub(super) struct Reverb {
    config: ReverbConfig,
    rate: f32,
    size: usize,
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
}

impl fmt::Debug for Reverb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reverb")
            .field("config", &self.config)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Reverb {
    pub(super) fn new(config: &ReverbConfig, rate: u32) -> Self {
        let rate = rate as f32;
        let longest = response_length(config.decay_seconds[1], rate);
        // Four times the response: a good share of each transform is output.
        let size = (4 * longest).next_power_of_two();
        let mut planner = RealFftPlanner::new();
        Self {
            config: config.clone(),
            rate,
            size,
            forward: planner.plan_fft_forward(size),
            inverse: planner.plan_fft_inverse(size),
        }
    }

    pub(super) fn probability(&self) -> f32 {
        self.config.probability
    }

    /// Puts `samples` into a random room; length and energy stay.
    pub(super) fn apply(&self, samples: &mut [f32], noise: &NoiseBank, random: &mut ChaCha8Rng) {
        let response = self.response(noise, random);
        let before = energy(samples);
        if before == 0.0 || self.convolve(samples, &response).is_err() {
            return;
        }
        let after = energy(samples);
        if after > 0.0 {
            let scale = (before / after).sqrt() as f32;
            samples.iter_mut().for_each(|sample| *sample *= scale);
        }
    }

    fn response(&self, noise: &NoiseBank, random: &mut ChaCha8Rng) -> Vec<f32> {
        let [shortest, longest] = self.config.decay_seconds;
        let decay = random.random_range(shortest..=longest);
        let [low, high] = self.config.direct_db;
        let ratio = random.random_range(low..=high);
        let gap = (random.random_range(GAP[0]..=GAP[1]) * self.rate) as usize;
        let length = response_length(decay, self.rate).max(gap + 2);
        let per_sample = 10f32.powf(-3.0 / (self.rate * decay));
        let mut response = vec![0.0; length];
        let mut envelope = 1.0;
        for (tap, white) in response
            .iter_mut()
            .zip(noise.white(length, random))
            .skip(gap + 1)
        {
            envelope *= per_sample;
            *tap = white * envelope;
        }
        let tail = energy(&response).sqrt() as f32;
        if tail > 0.0 {
            let scale = amplitude(-ratio) / tail;
            response.iter_mut().for_each(|tap| *tap *= scale);
        }
        response[0] = 1.0;
        response
    }

    /// Overlap-add convolution, cut to the input's length.
    fn convolve(&self, samples: &mut [f32], response: &[f32]) -> Result<(), realfft::FftError> {
        let mut scratch = self.forward.make_scratch_vec();
        let mut inverse_scratch = self.inverse.make_scratch_vec();
        let mut block = self.forward.make_input_vec();
        let mut spectrum = self.forward.make_output_vec();
        let mut filter = self.forward.make_output_vec();
        block[..response.len()].copy_from_slice(response);
        self.forward
            .process_with_scratch(&mut block, &mut filter, &mut scratch)?;
        let step = self.size - response.len() + 1;
        let mut out = vec![0.0; samples.len()];
        let scale = 1.0 / self.size as f32;
        for (index, piece) in samples.chunks(step).enumerate() {
            block[..piece.len()].copy_from_slice(piece);
            block[piece.len()..].fill(0.0);
            self.forward
                .process_with_scratch(&mut block, &mut spectrum, &mut scratch)?;
            for (value, factor) in spectrum.iter_mut().zip(&filter) {
                *value *= factor;
            }
            self.inverse
                .process_with_scratch(&mut spectrum, &mut block, &mut inverse_scratch)?;
            for (out, &value) in out[index * step..].iter_mut().zip(&block) {
                *out += value * scale;
            }
        }
        samples.copy_from_slice(&out);
        Ok(())
    }
}

fn response_length(decay: f32, rate: f32) -> usize {
    ((decay * TAIL + GAP[1]) * rate) as usize + 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn room(decay: f32, ratio: f32) -> Reverb {
        let config = ReverbConfig {
            probability: 1.0,
            decay_seconds: [decay, decay],
            direct_db: [ratio, ratio],
        };
        Reverb::new(&config, 16_000)
    }

    #[test]
    fn responses_have_the_drawn_ratio_and_decay() {
        let noise = NoiseBank::new(16_000, 1);
        let mut random = ChaCha8Rng::seed_from_u64(2);
        for (decay, ratio) in [(0.1, 0.0), (0.4, 6.0), (0.6, -3.0)] {
            let response = room(decay, ratio).response(&noise, &mut random);
            assert_eq!(response[0], 1.0);
            let tail = energy(&response[1..]);
            assert!((10.0 * tail.log10() + f64::from(ratio)).abs() < 0.01);
            // Mean levels of the tail's second and fourth sixth of the decay time are 20 dB apart.
            let part = |k: f32| {
                let at = |k: f32| ((k * decay / 6.0 + 0.01) * 16_000.0) as usize;
                energy(&response[at(k)..at(k + 1.0)])
            };
            let fall = 10.0 * (part(1.0) / part(3.0)).log10();
            assert!((fall - 20.0).abs() < 2.0, "{decay}: {fall} dB");
        }
    }

    #[test]
    fn convolution_equals_the_sum_it_stands_for() {
        let room = room(0.03, 0.0);
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let response: Vec<f32> = (0..200).map(|_| random.random_range(-1.0..1.0)).collect();
        for length in [1, 150, 3_000, 20_000] {
            let samples: Vec<f32> = (0..length)
                .map(|_| random.random_range(-1.0..1.0))
                .collect();
            let mut out = samples.clone();
            room.convolve(&mut out, &response).unwrap();
            for at in (0..length).step_by(37) {
                let expected: f64 = (0..=at.min(response.len() - 1))
                    .map(|k| f64::from(response[k]) * f64::from(samples[at - k]))
                    .sum();
                assert!(
                    (f64::from(out[at]) - expected).abs() < 1e-3,
                    "{length} {at}"
                );
            }
        }
    }

    #[test]
    fn energy_stays_and_a_click_stays_in_its_place() {
        let noise = NoiseBank::new(16_000, 1);
        let mut samples = vec![0.0; 16_000];
        samples[500] = 0.5;
        room(0.3, 10.0).apply(&mut samples, &noise, &mut ChaCha8Rng::seed_from_u64(4));
        assert!((energy(&samples) - 0.25).abs() < 1e-3);
        assert!(samples[..500].iter().all(|x| x.abs() < 1e-4));
        let loudest =
            (0..samples.len()).max_by(|&a, &b| samples[a].abs().total_cmp(&samples[b].abs()));
        assert_eq!(loudest, Some(500));
    }
}
