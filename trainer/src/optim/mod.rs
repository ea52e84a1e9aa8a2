//! Optimizers over parameter tensors in place, and learning-rate schedules.

mod adamw;
mod average;
mod novograd;
mod schedule;

pub use adamw::{AdamW, AdamWSettings, Moments};
pub use average::{Accumulator, mean_weights};
pub use novograd::NovoGrad;
pub use schedule::learning_rate;

use crate::simd::{sum2, vectorized};

/// Euclidean norm of all gradients together.
pub fn global_norm<'a>(gradients: impl Iterator<Item = &'a [f32]>) -> f32 {
    gradients
        .map(|gradient| f64::from(vectorized!(sum2::<64>(gradient, gradient, |a, b| a * b))))
        .sum::<f64>()
        .sqrt() as f32
}
