//! Optimizers over parameter tensors in place, and learning-rate schedules.

mod adamw;
mod adamw_graph;
mod average;
mod novograd;
mod rule;
mod schedule;

pub use adamw::{AdamW, AdamWScalars, AdamWSettings, Moments};
pub use adamw_graph::{AdamWGraph, Updated};
pub use average::{Accumulator, average_into, mean_weights, ramped};
pub use novograd::NovoGrad;
pub use rule::UpdateRule;
pub use schedule::learning_rate;

use crate::simd::{sum2, vectorized};

/// Euclidean norm of all gradients together.
pub fn global_norm<'a>(gradients: impl Iterator<Item = &'a [f32]>) -> f32 {
    gradients
        .map(|gradient| f64::from(vectorized!(sum2::<64>(gradient, gradient, |a, b| a * b))))
        .sum::<f64>()
        .sqrt() as f32
}
