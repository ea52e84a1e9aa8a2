//! Sums over batches, averages over steps, means over checkpoints: gradient accumulation, weight EMA, checkpoint
//! averaging.

use crate::simd::vectorized;
use crate::{Error, ErrorKind, Result};

/// Gradients of several batches added up before one update.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Accumulator {
    sums: Vec<Vec<f32>>,
    batches: usize,
}

impl Accumulator {
    /// No batch yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a batch's gradients, times `weight` (1 over the number of batches gives their mean), tensor by tensor in an
    /// order that stays.
    ///
    /// # Errors
    /// [`ErrorKind::Graph`] where the tensors are not those of the batches before.
    pub fn add<'a>(
        &mut self,
        gradients: impl IntoIterator<Item = &'a [f32]>,
        weight: f32,
    ) -> Result<()> {
        let gradients: Vec<&[f32]> = gradients.into_iter().collect();
        if self.sums.is_empty() {
            self.sums = gradients.iter().map(|g| vec![0.0; g.len()]).collect();
        }
        let fits = self.sums.len() == gradients.len()
            && self
                .sums
                .iter()
                .zip(&gradients)
                .all(|(s, g)| s.len() == g.len());
        if !fits {
            return Err(Error::new(
                ErrorKind::Graph,
                "gradients of other tensors than before cannot be accumulated",
            ));
        }
        for (sum, gradient) in self.sums.iter_mut().zip(gradients) {
            vectorized!(for (sum, &g) in sum.iter_mut().zip(gradient) {
                *sum += g * weight;
            });
        }
        self.batches += 1;
        Ok(())
    }

    /// Batches added since the last [`Accumulator::clear`].
    pub fn batches(&self) -> usize {
        self.batches
    }

    /// The sums, tensor by tensor.
    pub fn sums(&self) -> impl Iterator<Item = &[f32]> {
        self.sums.iter().map(Vec::as_slice)
    }

    /// Begins anew, in the same memory.
    pub fn clear(&mut self) {
        for sum in &mut self.sums {
            sum.fill(0.0);
        }
        self.batches = 0;
    }
}

/// The decay of a weight average after `updates` updates: `most`, but less at first, when a long average would remember
/// the initial weights. 0 makes the average the weights themselves.
pub fn ramped(most: f32, updates: u64) -> f32 {
    if most == 0.0 {
        return 0.0;
    }
    most.min((updates as f32 + 1.0) / (updates as f32 + 10.0))
}

/// `averages = keep averages + (1 - keep) values`.
pub fn average_into(averages: &mut [f32], values: &[f32], keep: f32) {
    let pairs = averages.iter_mut().zip(values);
    vectorized!(for (a, &v) in pairs {
        *a = keep * *a + (1.0 - keep) * v;
    });
}

/// The mean of one tensor over several checkpoints, summed in f64.
///
/// # Errors
/// [`ErrorKind::Graph`] where there is none, or they differ in length.
pub fn mean_weights(tensors: &[&[f32]]) -> Result<Vec<f32>> {
    let Some(first) = tensors.first() else {
        return Err(Error::new(
            ErrorKind::Graph,
            "there is no checkpoint to average",
        ));
    };
    if let Some(other) = tensors.iter().find(|t| t.len() != first.len()) {
        return Err(Error::new(
            ErrorKind::Graph,
            format!(
                "checkpoints to average hold {} and {} numbers for one tensor",
                first.len(),
                other.len()
            ),
        ));
    }
    Ok((0..first.len())
        .map(|i| {
            let sum: f64 = tensors.iter().map(|t| f64::from(t[i])).sum();
            (sum / tensors.len() as f64) as f32
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_add_up_and_begin_anew() {
        let mut sum = Accumulator::new();
        for _ in 0..2 {
            sum.add([&[1.0f32, 2.0][..], &[4.0]], 0.5).unwrap();
            sum.add([&[3.0f32, -2.0][..], &[0.0]], 0.5).unwrap();
            assert_eq!(sum.batches(), 2);
            let found: Vec<&[f32]> = sum.sums().collect();
            assert_eq!(found, [&[2.0f32, 0.0][..], &[2.0]]);
            assert!(sum.add([&[1.0f32][..]], 1.0).is_err(), "another tensor");
            sum.clear();
        }
    }

    #[test]
    fn an_average_follows_faster_at_first() {
        assert_eq!(ramped(0.0, 5), 0.0);
        assert_eq!(ramped(0.999, 0), 0.1);
        assert_eq!(ramped(0.999, 1_000_000), 0.999);
        let mut averages = [1.0, 4.0];
        average_into(&mut averages, &[3.0, 0.0], 0.75);
        assert_eq!(averages, [1.5, 3.0]);
    }

    #[test]
    fn checkpoints_average() {
        let mean = mean_weights(&[&[1.0, 5.0], &[2.0, -5.0], &[6.0, 3.0]]).unwrap();
        assert_eq!(mean, [3.0, 1.0]);
        assert!(mean_weights(&[]).is_err());
        assert!(mean_weights(&[&[1.0], &[1.0, 2.0]]).is_err());
    }
}
