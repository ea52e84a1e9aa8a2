//! Optimizers over parameter tensors in place, and learning-rate schedules.

mod adamw;
mod schedule;

pub use adamw::{AdamW, AdamWSettings, Moments};
pub use schedule::learning_rate;

/// Euclidean norm of all gradients together.
pub fn global_norm<'a>(gradients: impl Iterator<Item = &'a [f32]>) -> f32 {
    gradients
        .map(|gradient| {
            let (chunks, rest) = gradient.as_chunks::<16>();
            let mut lanes = [0.0f32; 16];
            for chunk in chunks {
                for (lane, value) in lanes.iter_mut().zip(chunk) {
                    *lane += value * value;
                }
            }
            let rest: f32 = rest.iter().map(|v| v * v).sum();
            f64::from(lanes.iter().sum::<f32>() + rest)
        })
        .sum::<f64>()
        .sqrt() as f32
}
