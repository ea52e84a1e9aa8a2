//! AdamW over ten million parameters in twenty tensors.

use super::{Clock, Measured, numbers};
use crate::Result;
use crate::optim::{AdamW, AdamWSettings, Moments};

/// Measures an update.
///
/// # Errors
/// None: other measurements have some.
pub fn optimizer(clock: Clock) -> Result<Vec<Measured>> {
    let mut tensors: Vec<(Vec<f32>, Vec<f32>, Moments)> = (0..20)
        .map(|salt| {
            let weights = numbers(500_000, salt);
            let moments = Moments::without_average(weights.len());
            (weights, numbers(500_000, salt + 50), moments)
        })
        .collect();
    let mut adam = AdamW {
        settings: AdamWSettings {
            beta1: 0.9,
            beta2: 0.98,
            epsilon: 1e-8,
            weight_decay: 0.01,
            average: 0.0,
        },
        step: 0,
    };
    let run = || {
        adam.begin();
        for (weights, gradient, moments) in &mut tensors {
            adam.update(weights, gradient, moments, 1e-3, 1.0, true);
        }
        Ok(())
    };
    Ok(vec![Measured {
        work: "AdamW, 10M parameters, 1 thread(s)".to_owned(),
        value: clock.median(30, run)?,
        unit: clock.unit(),
    }])
}
