//! Colored noise and babble.
//!
//! Noise of amplitude spectrum `f^-c` is made by giving each frequency a normally distributed complex value of
//! that size and transforming back (Timmer and Koenig, On generating power law noise, 1995): c is 0 for white,
//! 1/2 for pink, 1 for brown noise. The result is periodic, so that it is played from any place without a
//! click. Babble is a sum of other utterances, each at the same level (Snyder et al., MUSAN, 2015).

use super::{Voices, energy};
use crate::error::Result;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use realfft::{RealFftPlanner, num_complex::Complex};

/// Samples of each color: 16 s at 16 kHz.
const LENGTH: usize = 1 << 18;
/// Exponents of the amplitude spectrum.
const COLORS: [f64; 3] = [0.0, 0.5, 1.0];
/// Frequencies below this carry nothing: no microphone passes them, yet brown noise would be all there.
const LOWEST_HZ: f64 = 30.0;

/// One period of noise of each color, mean square 1.
#[derive(Debug)]
pub(super) struct NoiseBank {
    colors: Vec<Vec<f32>>,
}

impl NoiseBank {
    pub(super) fn new(rate: u32, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let inverse = RealFftPlanner::<f32>::new().plan_fft_inverse(LENGTH);
        let colors = COLORS
            .iter()
            .map(|&exponent| {
                let mut spectrum = inverse.make_input_vec();
                let bins = spectrum.len();
                for (bin, value) in spectrum.iter_mut().enumerate().take(bins - 1).skip(1) {
                    let hz = bin as f64 * f64::from(rate) / LENGTH as f64;
                    if hz >= LOWEST_HZ {
                        let (re, im) = normal_pair(&mut random);
                        let size = (hz / LOWEST_HZ).powf(-exponent) as f32;
                        *value = Complex::new(re * size, im * size);
                    }
                }
                let mut period = inverse.make_output_vec();
                // Fails only for buffers of a wrong length, and these are the plan's own.
                if inverse.process(&mut spectrum, &mut period).is_ok() {
                    let scale =
                        (LENGTH as f64 / energy(&period).max(f64::MIN_POSITIVE)).sqrt() as f32;
                    period.iter_mut().for_each(|x| *x *= scale);
                }
                period
            })
            .collect();
        Self { colors }
    }

    /// Adds noise of a random color from a random place, `gain` being its root mean square.
    pub(super) fn add(&self, samples: &mut [f32], gain: f32, random: &mut ChaCha8Rng) {
        let color = &self.colors[random.random_range(0..self.colors.len())];
        let start = random.random_range(0..LENGTH);
        let noise = color[start..].iter().chain(color.iter().cycle());
        for (sample, noise) in samples.iter_mut().zip(noise) {
            *sample += gain * noise;
        }
    }

    /// `count` samples of white noise from a random place.
    pub(super) fn white(&self, count: usize, random: &mut ChaCha8Rng) -> impl Iterator<Item = f32> {
        let white = &self.colors[0];
        let start = random.random_range(0..LENGTH);
        white[start..]
            .iter()
            .chain(white.iter().cycle())
            .take(count)
            .copied()
    }
}

/// Two independent normal numbers (Box and Muller 1958).
fn normal_pair(random: &mut ChaCha8Rng) -> (f32, f32) {
    let radius = (-2.0 * (1.0 - random.random_range(0.0f64..1.0)).ln()).sqrt();
    let angle = random.random_range(0.0..std::f64::consts::TAU);
    ((radius * angle.cos()) as f32, (radius * angle.sin()) as f32)
}

/// `length` samples of `count` voices at once, mean square 1 (all zero if every voice is silent).
pub(super) fn babble(
    length: usize,
    count: usize,
    voices: &dyn Voices,
    random: &mut ChaCha8Rng,
) -> Result<Vec<f32>> {
    let mut sum = vec![0.0; length];
    for _ in 0..count {
        let voice = voices.voice(random.random_range(0..voices.len()))?;
        let start = random.random_range(0..voice.len().max(1));
        let power: f64 = voice.iter().map(|&x| f64::from(x).powi(2)).sum();
        if power > 0.0 {
            let scale = (voice.len() as f64 / power).sqrt() as f32;
            let looped = voice[start..].iter().chain(voice.iter().cycle());
            for (sum, &sample) in sum.iter_mut().zip(looped) {
                *sum += f32::from(sample) * scale;
            }
        }
    }
    let power = energy(&sum);
    if power > 0.0 {
        let scale = (length as f64 / power).sqrt() as f32;
        sum.iter_mut().for_each(|x| *x *= scale);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean power of `period` from `low` to `high` Hz.
    fn band_power(period: &[f32], low: f64, high: f64) -> f64 {
        let forward = RealFftPlanner::<f32>::new().plan_fft_forward(LENGTH);
        let mut input = period.to_vec();
        let mut spectrum = forward.make_output_vec();
        forward.process(&mut input, &mut spectrum).unwrap();
        let bin = |hz: f64| (hz * LENGTH as f64 / 16_000.0) as usize;
        let band = &spectrum[bin(low)..bin(high)];
        band.iter().map(|x| f64::from(x.norm_sqr())).sum::<f64>() / band.len() as f64
    }

    #[test]
    fn colors_fall_by_their_law() {
        let bank = NoiseBank::new(16_000, 5);
        for (color, octave_db) in bank.colors.iter().zip([0.0, -3.01, -6.02]) {
            let power = energy(color) / LENGTH as f64;
            assert!((power - 1.0).abs() < 1e-3, "{power}");
            // From one octave to the next, over four octaves.
            let low = band_power(color, 200.0, 400.0);
            let high = band_power(color, 3_200.0, 6_400.0);
            let measured = 10.0 * (high / low).log10() / 4.0;
            assert!(
                (measured - octave_db).abs() < 0.2,
                "{measured} for {octave_db}"
            );
        }
    }

    #[test]
    fn noise_longer_than_the_period_goes_on() {
        let bank = NoiseBank::new(16_000, 5);
        let mut samples = vec![0.0; 2 * LENGTH + 10];
        bank.add(&mut samples, 0.1, &mut ChaCha8Rng::seed_from_u64(1));
        for index in 0..LENGTH {
            assert_eq!(samples[index], samples[index + LENGTH]);
        }
    }
}
