//! Random changes of training utterances, in the order in which a recording would undergo them.
//!
//! speed (`speed`) → silence around → room (`reverb`) → noise (`noise`) → other voices → gain → features →
//! masks (`mask`). Waveforms are mono `[N]` at the feature rate; features are normalized, `[T, F]`.
//!
//! What happens to an utterance is a function of the recipe's seed, the epoch, the utterance and which of its
//! repetitions it is, and of nothing else: not of the order, the thread count or the other parts' settings.
//! Each part draws from its own stream of a ChaCha generator keyed with those four numbers.

mod mask;
mod noise;
mod reverb;
mod speed;

use crate::config::AugmentConfig;
use crate::error::Result;
use mask::Mask;
use ndarray::ArrayViewMut2;
use noise::NoiseBank;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reverb::Reverb;
use speed::Speed;
use std::sync::Arc;

/// What an utterance's changes are drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// The recipe's seed.
    pub seed: u64,
    /// The epoch, from 0.
    pub epoch: u64,
    /// The utterance's index in the training set.
    pub item: u64,
    /// Which repetition of it within the epoch.
    pub copy: u64,
}

/// The parts, each with its own random stream.
#[derive(Debug, Clone, Copy)]
enum Part {
    Shape,
    Reverb,
    Noise,
    Babble,
    Gain,
    Masks,
}

impl Key {
    fn stream(self, part: Part) -> ChaCha8Rng {
        let mut bytes = [0; 32];
        for (chunk, number) in bytes
            .chunks_exact_mut(8)
            .zip([self.seed, self.epoch, self.item, self.copy])
        {
            chunk.copy_from_slice(&number.to_le_bytes());
        }
        let mut random = ChaCha8Rng::from_seed(bytes);
        random.set_stream(part as u64);
        random
    }
}

/// The changes of one utterance that decide its length; cheap, so that batches are planned without its audio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draw {
    key: Key,
    /// Speed factor.
    speed: f32,
    /// Samples of silence before.
    before: usize,
    /// Samples of silence after.
    after: usize,
}

impl Draw {
    /// The same draw at the original speed.
    #[must_use]
    pub fn unhurried(mut self) -> Self {
        self.speed = 1.0;
        self
    }

    /// The speed factor.
    pub fn speed(&self) -> f32 {
        self.speed
    }

    /// Samples that an utterance of `samples` samples has after the waveform changes.
    pub fn samples(&self, samples: usize) -> usize {
        self.before + speed::length(samples, self.speed) + self.after
    }
}

/// Other utterances, for babble.
pub trait Voices: Sync {
    /// Number of utterances.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One utterance's 16-bit samples at the feature rate.
    ///
    /// # Errors
    /// When its audio has to be decoded again and cannot be.
    fn voice(&self, index: usize) -> Result<Arc<[i16]>>;
}

/// Applies a recipe's changes; made once, shared by all threads.
#[derive(Debug)]
pub struct Augmenter {
    config: AugmentConfig,
    rate: u32,
    speed: Speed,
    noise: Option<NoiseBank>,
    reverb: Option<Reverb>,
    mask: Option<Mask>,
}

impl Augmenter {
    /// The changes of `config` for audio of `rate` samples per second; `seed` makes the noise.
    pub fn new(config: &AugmentConfig, rate: u32, seed: u64) -> Self {
        // Reverberation takes its diffuse tail from the white noise.
        let noise =
            (config.noise.is_some() || config.reverb.is_some()).then(|| NoiseBank::new(rate, seed));
        Self {
            rate,
            speed: Speed::new(config.speed_interval()),
            noise,
            reverb: config.reverb.as_ref().map(|r| Reverb::new(r, rate)),
            mask: config.spec_augment.as_ref().map(Mask::new),
            config: config.clone(),
        }
    }

    /// What happens to the length of the utterance that `key` names.
    pub fn draw(&self, key: Key) -> Draw {
        let mut random = key.stream(Part::Shape);
        let [slowest, fastest] = self.config.speed_interval();
        let speed = random.random_range(slowest..=fastest);
        let mut silence = |seconds: f32| {
            let most = (seconds * self.rate as f32) as usize;
            random.random_range(0..=most)
        };
        let (mut before, mut after) = (0, 0);
        if let Some(shift) = &self.config.shift {
            (before, after) = (silence(shift.before), silence(shift.after));
            if !chance(&mut random, shift.probability) {
                (before, after) = (0, 0);
            }
        }
        Draw {
            key,
            speed,
            before,
            after,
        }
    }

    /// The longest [`Draw::samples`] of any draw for an utterance of `samples` samples.
    pub fn longest(&self, samples: usize) -> usize {
        let [slowest, _] = self.config.speed_interval();
        let silence = self.config.shift.as_ref().map_or(0, |s| {
            (s.before * self.rate as f32) as usize + (s.after * self.rate as f32) as usize
        });
        speed::length(samples, slowest.min(1.0)) + silence
    }

    /// The changed waveform in [-1, 1] units, [`Draw::samples`] long; loud gains may leave that range.
    ///
    /// # Errors
    /// What `voices` reports.
    pub fn waveform(&self, draw: &Draw, audio: &[i16], voices: &dyn Voices) -> Result<Vec<f32>> {
        let speech = speed::length(audio.len(), draw.speed);
        let mut samples = vec![0.0; draw.samples(audio.len())];
        self.speed.apply(
            audio,
            draw.speed,
            &mut samples[draw.before..draw.before + speech],
        );
        if let (Some(reverb), Some(bank)) = (&self.reverb, &self.noise) {
            let mut random = draw.key.stream(Part::Reverb);
            if chance(&mut random, reverb.probability()) {
                reverb.apply(&mut samples, bank, &mut random);
            }
        }
        // The level that ratios refer to: the utterance's own, silence around it left out.
        let level = (energy(&samples) / speech.max(1) as f64).sqrt() as f32;
        if let (Some(config), Some(bank)) = (&self.config.noise, &self.noise) {
            let mut random = draw.key.stream(Part::Noise);
            if chance(&mut random, config.probability) {
                let [low, high] = config.snr_db;
                let gain = level * amplitude(-random.random_range(low..=high));
                bank.add(&mut samples, gain, &mut random);
            }
        }
        if let Some(config) = &self.config.babble
            && !voices.is_empty()
        {
            let mut random = draw.key.stream(Part::Babble);
            if chance(&mut random, config.probability) {
                let [fewest, most] = config.voices;
                let babble = noise::babble(
                    samples.len(),
                    random.random_range(fewest..=most),
                    voices,
                    &mut random,
                )?;
                let [low, high] = config.snr_db;
                let gain = level * amplitude(-random.random_range(low..=high));
                for (sample, voice) in samples.iter_mut().zip(babble) {
                    *sample += gain * voice;
                }
            }
        }
        if let Some([low, high]) = self.config.gain_db {
            let gain = amplitude(draw.key.stream(Part::Gain).random_range(low..=high));
            samples.iter_mut().for_each(|sample| *sample *= gain);
        }
        Ok(samples)
    }

    /// Masks normalized features `[T, F]` in place with 0, their mean.
    pub fn features(&self, draw: &Draw, features: ArrayViewMut2<'_, f32>) {
        if let Some(mask) = &self.mask {
            mask.apply(features, &mut draw.key.stream(Part::Masks));
        }
    }
}

fn chance(random: &mut impl Rng, probability: f32) -> bool {
    random.random_range(0.0..1.0) < probability
}

/// Decibels to a factor on amplitudes.
fn amplitude(decibels: f32) -> f32 {
    10f32.powf(decibels / 20.0)
}

fn energy(samples: &[f32]) -> f64 {
    samples.iter().map(|&x| f64::from(x) * f64::from(x)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BabbleConfig, NoiseConfig, ReverbConfig, ShiftConfig, SpecAugmentConfig};
    use ndarray::Array2;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    struct Tones;

    impl Voices for Tones {
        fn len(&self) -> usize {
            3
        }
        fn voice(&self, index: usize) -> Result<Arc<[i16]>> {
            Ok(tone(200.0 * (index + 1) as f32, 4_000).into())
        }
    }

    fn tone(hz: f32, samples: usize) -> Vec<i16> {
        (0..samples)
            .map(|i| (8_000.0 * (i as f32 * hz / 16_000.0 * std::f32::consts::TAU).sin()) as i16)
            .collect()
    }

    fn everything() -> AugmentConfig {
        AugmentConfig {
            speed: Some([0.9, 1.1]),
            shift: Some(ShiftConfig::default()),
            reverb: Some(ReverbConfig {
                probability: 0.5,
                ..ReverbConfig::default()
            }),
            noise: Some(NoiseConfig::default()),
            babble: Some(BabbleConfig {
                probability: 0.5,
                ..BabbleConfig::default()
            }),
            gain_db: Some([-12.0, 6.0]),
            spec_augment: Some(SpecAugmentConfig::default()),
        }
    }

    fn key(item: u64) -> Key {
        Key {
            seed: 1,
            epoch: 2,
            item,
            copy: 0,
        }
    }

    #[test]
    fn nothing_configured_changes_nothing() {
        let augmenter = Augmenter::new(&AugmentConfig::default(), 16_000, 1);
        let audio = tone(300.0, 5_000);
        let draw = augmenter.draw(key(0));
        let samples = augmenter.waveform(&draw, &audio, &Tones).unwrap();
        let expected: Vec<f32> = audio.iter().map(|&x| f32::from(x) / 32_768.0).collect();
        assert_eq!(samples, expected);
        let mut features = Array2::from_elem((50, 8), 3.0);
        augmenter.features(&draw, features.view_mut());
        assert!(features.iter().all(|&x| x == 3.0));
    }

    #[test]
    fn a_key_decides_everything_and_every_part_of_it_counts() {
        let audio = tone(300.0, 8_000);
        let run = |key| {
            let augmenter = Augmenter::new(&everything(), 16_000, 1);
            let draw = augmenter.draw(key);
            let samples = augmenter.waveform(&draw, &audio, &Tones).unwrap();
            let mut features = Array2::from_elem((200, 40), 1.0);
            augmenter.features(&draw, features.view_mut());
            (samples, features)
        };
        assert_eq!(run(key(3)), run(key(3)));
        let others = [
            key(4),
            Key { seed: 9, ..key(3) },
            Key { epoch: 9, ..key(3) },
            Key { copy: 9, ..key(3) },
        ];
        for other in others {
            assert_ne!(run(key(3)).0, run(other).0, "{other:?}");
        }
    }

    #[test]
    fn one_part_does_not_disturb_another() {
        let augmenter = Augmenter::new(&everything(), 16_000, 1);
        let fewer = Augmenter::new(
            &AugmentConfig {
                noise: None,
                babble: None,
                gain_db: None,
                ..everything()
            },
            16_000,
            1,
        );
        for item in 0..20 {
            assert_eq!(augmenter.draw(key(item)), fewer.draw(key(item)));
        }
    }

    #[test]
    fn noise_and_babble_have_the_drawn_level() {
        let audio = tone(440.0, 32_000);
        for (name, config) in [
            (
                "noise",
                AugmentConfig {
                    noise: Some(NoiseConfig {
                        probability: 1.0,
                        snr_db: [10.0, 10.0],
                    }),
                    ..AugmentConfig::default()
                },
            ),
            (
                "babble",
                AugmentConfig {
                    babble: Some(BabbleConfig {
                        probability: 1.0,
                        snr_db: [10.0, 10.0],
                        voices: [1, 3],
                    }),
                    ..AugmentConfig::default()
                },
            ),
        ] {
            let augmenter = Augmenter::new(&config, 16_000, 1);
            for item in 0..20 {
                let draw = augmenter.draw(key(item));
                let samples = augmenter.waveform(&draw, &audio, &Tones).unwrap();
                let clean: Vec<f32> = audio.iter().map(|&x| f32::from(x) / 32_768.0).collect();
                let added: Vec<f32> = samples.iter().zip(&clean).map(|(a, b)| a - b).collect();
                let snr = 10.0 * (energy(&clean) / energy(&added)).log10();
                assert!((snr - 10.0).abs() < 1.0, "{name} {item}: {snr} dB");
            }
        }
    }

    #[test]
    fn gain_has_the_drawn_level() {
        let config = AugmentConfig {
            gain_db: Some([-6.0, -6.0]),
            ..AugmentConfig::default()
        };
        let augmenter = Augmenter::new(&config, 16_000, 1);
        let audio = tone(440.0, 1_000);
        let samples = augmenter
            .waveform(&augmenter.draw(key(0)), &audio, &Tones)
            .unwrap();
        for (sample, &original) in samples.iter().zip(&audio) {
            let expected = f32::from(original) / 32_768.0 * 0.501_187;
            assert!((sample - expected).abs() < 1e-5);
        }
    }

    #[test]
    fn silence_stays_silent() {
        let augmenter = Augmenter::new(&everything(), 16_000, 1);
        for item in 0..20 {
            let draw = augmenter.draw(key(item));
            for audio in [&[][..], &[0; 1], &[0; 1_000]] {
                let samples = augmenter.waveform(&draw, audio, &Tones).unwrap();
                assert_eq!(samples.len(), draw.samples(audio.len()));
                assert!(samples.iter().all(|&x| x == 0.0));
            }
        }
    }

    proptest! {
        #[test]
        fn lengths_are_foreseen_and_values_finite(
            item in any::<u64>(),
            epoch in any::<u64>(),
            length in 0usize..6_000,
        ) {
            static AUGMENTER: LazyLock<Augmenter> =
                LazyLock::new(|| Augmenter::new(&everything(), 16_000, 1));
            let augmenter = &*AUGMENTER;
            let draw = augmenter.draw(Key { epoch, ..key(item) });
            let samples = augmenter.waveform(&draw, &tone(500.0, length), &Tones).unwrap();
            prop_assert_eq!(samples.len(), draw.samples(length));
            prop_assert!(samples.len() <= augmenter.longest(length));
            prop_assert!(draw.unhurried().samples(length) <= augmenter.longest(length));
            prop_assert!(samples.iter().all(|x| x.is_finite()));
            prop_assert!((0.9..=1.1).contains(&draw.speed()));
        }
    }
}
