//! SpecAugment (Park et al. 2019; with the number of time masks growing with the length, Park et al. 2020):
//! random bands of time and of frequency are set to 0, the mean of normalized features `[T, F]`.

use crate::config::SpecAugmentConfig;
use ndarray::{ArrayViewMut2, Axis, Slice};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Frames to which the recipe's number of time masks refers: ten seconds at 10 ms.
const REFERENCE_FRAMES: usize = 1_000;

/// Masks of one recipe.
#[derive(Debug)]
pub(super) struct Mask {
    config: SpecAugmentConfig,
}

impl Mask {
    pub(super) fn new(config: &SpecAugmentConfig) -> Self {
        Self {
            config: config.clone(),
        }
    }

    /// Masks `features` in place.
    pub(super) fn apply(&self, mut features: ArrayViewMut2<'_, f32>, random: &mut ChaCha8Rng) {
        let (frames, bands) = features.dim();
        let config = &self.config;
        let mut place = |axis: usize, widest: usize| {
            let width = random.random_range(0..=widest.min(axis));
            let start = random.random_range(0..=axis - width);
            start..start + width
        };
        for _ in 0..config.frequency_masks {
            let band = place(bands, config.frequency_width);
            features
                .slice_axis_mut(Axis(1), Slice::from(band))
                .fill(0.0);
        }
        let widest = ((frames as f32 * config.time_share) as usize).min(config.time_width);
        for _ in 0..(config.time_masks * frames).div_ceil(REFERENCE_FRAMES) {
            let time = place(frames, widest);
            features
                .slice_axis_mut(Axis(0), Slice::from(time))
                .fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;
    use proptest::prelude::*;
    use rand::SeedableRng;

    proptest! {
        #[test]
        fn masks_are_whole_bands_within_their_bounds(
            seed in any::<u64>(),
            frames in 0usize..3_000,
            bands in 1usize..90,
        ) {
            let config = SpecAugmentConfig::default();
            let mut features = Array2::from_elem((frames, bands), 1.0f32);
            Mask::new(&config).apply(features.view_mut(), &mut ChaCha8Rng::seed_from_u64(seed));
            let rows = features.axis_iter(Axis(0)).filter(|r| r.iter().all(|&x| x == 0.0)).count();
            let columns = features.axis_iter(Axis(1)).filter(|c| c.iter().all(|&x| x == 0.0)).count();
            let zeros = features.iter().filter(|&&x| x == 0.0).count();
            if rows < frames && columns < bands {
                // Nothing but whole rows and columns is masked.
                prop_assert_eq!(zeros, rows * bands + columns * frames - rows * columns);
                prop_assert!(columns <= config.frequency_masks * config.frequency_width);
                let masks = (config.time_masks * frames).div_ceil(1_000);
                prop_assert!(rows <= masks * config.time_width.min(frames / 20));
            }
        }
    }

    #[test]
    fn long_utterances_lose_as_large_a_share_as_short_ones() {
        let config = SpecAugmentConfig {
            frequency_masks: 0,
            ..SpecAugmentConfig::default()
        };
        let mask = Mask::new(&config);
        let share = |frames: usize| {
            let masked: usize = (0..400)
                .map(|seed| {
                    let mut features = Array2::from_elem((frames, 1), 1.0f32);
                    mask.apply(features.view_mut(), &mut ChaCha8Rng::seed_from_u64(seed));
                    features.iter().filter(|&&x| x == 0.0).count()
                })
                .sum();
            masked as f64 / (400 * frames) as f64
        };
        // Four masks of 12.5 frames on average in 1,000 frames.
        for frames in [500, 1_000, 2_000] {
            assert!(
                (share(frames) - 0.05).abs() < 0.01,
                "{frames}: {}",
                share(frames)
            );
        }
    }
}
