//! NovoGrad (arXiv 1905.11286): Adam whose second moment is one number a tensor, so that the step does not depend on
//! the gradient's scale and half the memory is saved.
//!
//! With g the gradient of a tensor at step t: `v = b2 v + (1 - b2) |g|^2` (`|g|^2` itself at the first step),
//! `m = b1 m + g / (sqrt v + eps) + decay w`, `w -= rate m`.

use super::Moments;
use crate::simd::{sum2, vectorized};

/// NovoGrad's constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NovoGrad {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Weight decay.
    pub weight_decay: f32,
}

impl Default for NovoGrad {
    /// The paper's constants for speech: 0.95, 0.5 and a decay of 0.001.
    fn default() -> Self {
        Self {
            beta1: 0.95,
            beta2: 0.5,
            epsilon: 1e-8,
            weight_decay: 1e-3,
        }
    }
}

impl NovoGrad {
    /// Moments of a tensor of `elements` weights; the second is one number.
    pub fn moments(elements: usize) -> Moments {
        Moments {
            first: vec![0.0; elements],
            second: vec![0.0],
            average: Vec::new(),
        }
    }

    /// Updates one tensor in place. `scale` multiplies the gradient (clipping); `decays` says whether weight decay
    /// applies.
    pub fn update(
        &self,
        weights: &mut [f32],
        gradient: &[f32],
        moments: &mut Moments,
        rate: f32,
        scale: f32,
        decays: bool,
    ) {
        let square = vectorized!(sum2::<64>(gradient, gradient, |a, b| a * b)) * scale * scale;
        let Some(second) = moments.second.first_mut() else {
            return;
        };
        // Zero only before the first step, or while every gradient was zero.
        *second = if *second == 0.0 {
            square
        } else {
            self.beta2 * *second + (1.0 - self.beta2) * square
        };
        let factor = scale / (second.sqrt() + self.epsilon);
        let decay = if decays { self.weight_decay } else { 0.0 };
        let rows = weights.iter_mut().zip(gradient).zip(&mut moments.first);
        vectorized!(for ((w, &g), m) in rows {
            *m = self.beta1 * *m + (g * factor + decay * *w);
            *w -= rate * *m;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_equal_the_formula_at_any_gradient_scale() {
        let novograd = NovoGrad::default();
        for size in [1.0f32, 1e3] {
            let mut weights = [1.0f32, -2.0];
            let mut moments = NovoGrad::moments(2);
            let (mut w, mut m, mut v) = ([1.0f64, -2.0], [0.0f64; 2], 0.0f64);
            for (t, gradient) in [[3.0f32, 4.0], [0.5, -1.0], [0.0, 2.0]].iter().enumerate() {
                let scaled = gradient.map(|g| g * size);
                novograd.update(&mut weights, &scaled, &mut moments, 0.01, 1.0, true);
                let square = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>();
                v = if t == 0 {
                    square
                } else {
                    0.5 * v + 0.5 * square
                };
                for i in 0..2 {
                    m[i] = 0.95 * m[i] + f64::from(gradient[i]) / v.sqrt() + 1e-3 * w[i];
                    w[i] -= 0.01 * m[i];
                }
            }
            for i in 0..2 {
                let error = (f64::from(weights[i]) - w[i]).abs();
                assert!(error < 1e-5, "gradients times {size}: {error}");
            }
        }
    }

    #[test]
    fn zero_gradients_leave_the_weights() {
        let mut weights = [1.0f32, 2.0];
        let mut moments = NovoGrad::moments(2);
        NovoGrad::default().update(&mut weights, &[0.0; 2], &mut moments, 0.1, 1.0, false);
        assert_eq!(weights, [1.0, 2.0]);
    }
}
