//! Mean and deviation of each feature over training data, for [`Normalization::Fixed`].

use super::batch::Pick;
use super::loader::Examples;
use crate::error::{Error, ErrorKind, Result};
use acolyte::spec::Normalization;
use ndarray::{ArrayView2, Axis};
use rayon::prelude::*;

/// Mean and deviation of every feature.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureStats {
    /// Mean of each feature: F values.
    pub mean: Vec<f32>,
    /// Standard deviation of each feature: F values, at least 1e-3.
    pub deviation: Vec<f32>,
    /// Frames measured.
    pub frames: u64,
}

impl FeatureStats {
    /// As the spec's normalization.
    pub fn normalization(&self) -> Normalization {
        Normalization::Fixed {
            mean: self.mean.clone(),
            deviation: self.deviation.clone(),
        }
    }
}

/// Measures features over `picks` of unaugmented examples whose spec has no normalization, in parallel but summed
/// in order, so that the result does not depend on the thread count.
///
/// # Errors
/// What loading reports, and `Data` where there is no frame at all.
pub fn feature_stats(examples: &dyn Examples, picks: &[Pick]) -> Result<FeatureStats> {
    let sums: Vec<(u64, Vec<[f64; 2]>)> = picks
        .par_iter()
        .map(|&pick| {
            let example = examples.load(pick, 0)?;
            let features: ArrayView2<'_, f32> = example.features.index_axis(Axis(1), 0);
            let sums = features
                .outer_iter()
                .map(|band| {
                    band.iter()
                        .map(|&x| f64::from(x))
                        .fold([0.0; 2], |[sum, squares], x| [sum + x, squares + x * x])
                })
                .collect();
            Ok((features.ncols() as u64, sums))
        })
        .collect::<Result<_>>()?;
    let (bands, _) = examples.dimensions();
    let mut frames = 0;
    let mut totals = vec![[0.0; 2]; bands];
    for (count, sums) in sums {
        frames += count;
        for (total, sum) in totals.iter_mut().zip(sums) {
            total[0] += sum[0];
            total[1] += sum[1];
        }
    }
    if frames == 0 {
        return Err(Error::new(
            ErrorKind::Data,
            "no frame to measure the features' mean and deviation on",
        ));
    }
    let count = frames as f64;
    let mean: Vec<f64> = totals.iter().map(|[sum, _]| sum / count).collect();
    let deviation = totals
        .iter()
        .zip(&mean)
        .map(|([_, squares], mean)| (squares / count - mean * mean).max(1e-6).sqrt() as f32)
        .collect();
    Ok(FeatureStats {
        mean: mean.into_iter().map(|m| m as f32).collect(),
        deviation,
        frames,
    })
}

/// At most `most` of `picks`, evenly spread: enough to measure statistics on.
pub fn spread(picks: &[Pick], most: usize) -> Vec<Pick> {
    if picks.len() <= most {
        return picks.to_vec();
    }
    (0..most)
        .filter_map(|i| picks.get(i * picks.len() / most).copied())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::loader::{Example, all_picks};
    use ndarray::Array3;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Uniform noise of mean 3 f and deviation f + 1 in band f, optionally normalized; the last band is constant.
    struct Bands(Option<FeatureStats>);

    impl Examples for Bands {
        fn len(&self) -> usize {
            30
        }
        fn dimensions(&self) -> (usize, usize) {
            (4, 1)
        }
        fn frames(&self, _: Pick, _: u64) -> usize {
            400
        }
        fn symbols(&self, _: Pick, _: u64) -> usize {
            0
        }
        fn longest(&self, _: usize) -> usize {
            400
        }
        fn load(&self, pick: Pick, _: u64) -> Result<Example> {
            let mut random = ChaCha8Rng::seed_from_u64(pick.item as u64);
            let half = 3f32.sqrt();
            let mut features =
                Array3::from_shape_simple_fn((4, 1, 400), || random.random_range(-half..half));
            for (band, mut row) in features.outer_iter_mut().enumerate() {
                let scale = if band == 3 { 0.0 } else { band as f32 + 1.0 };
                row.mapv_inplace(|x| x * scale + 3.0 * band as f32);
                if let Some(stats) = &self.0 {
                    row.mapv_inplace(|x| (x - stats.mean[band]) / stats.deviation[band]);
                }
            }
            Ok(Example {
                features,
                targets: Vec::new(),
                name: String::new(),
                text: String::new(),
            })
        }
    }

    #[test]
    fn statistics_are_the_datas_and_normalize_it() {
        let plain = Bands(None);
        let picks = all_picks(&plain);
        let stats = feature_stats(&plain, &picks).unwrap();
        assert_eq!(stats.frames, 12_000);
        for band in 0..3 {
            assert!((stats.mean[band] - 3.0 * band as f32).abs() < 0.1);
            assert!((stats.deviation[band] - band as f32 - 1.0).abs() < 0.1);
        }
        assert_eq!((stats.mean[3], stats.deviation[3]), (9.0, 1e-3));
        let again = feature_stats(&Bands(Some(stats)), &picks).unwrap();
        for (mean, deviation) in again.mean.iter().zip(&again.deviation).take(3) {
            assert!(mean.abs() < 1e-4 && (deviation - 1.0).abs() < 1e-4);
        }
    }

    #[test]
    fn nothing_to_measure_is_an_error() {
        assert_eq!(
            feature_stats(&Bands(None), &[]).unwrap_err().kind(),
            ErrorKind::Data
        );
    }

    #[test]
    fn a_spread_is_even_and_bounded() {
        let picks = all_picks(&Bands(None));
        assert_eq!(spread(&picks, 100), picks);
        let some: Vec<usize> = spread(&picks, 4).iter().map(|pick| pick.item).collect();
        assert_eq!(some, [0, 7, 15, 22]);
    }
}
