//! The update rule of a run: one of the optimizers, the count of its updates, and the weight average beside it.

use super::average::{average_into, ramped};
use super::{AdamW, AdamWSettings, Moments, NovoGrad};
use crate::config::{Optimizer, TrainConfig};

/// An optimizer as a recipe describes it.
#[derive(Debug, Clone, PartialEq)]
pub enum UpdateRule {
    /// Adam with decoupled weight decay; it averages the weights in its own pass.
    AdamW(AdamW),
    /// NovoGrad.
    NovoGrad {
        /// Its constants.
        novograd: NovoGrad,
        /// Decay of the weight average.
        average: f32,
        /// Updates made so far.
        updates: u64,
    },
}

impl UpdateRule {
    /// The rule of a recipe, before its first update.
    pub fn new(config: &TrainConfig) -> Self {
        let [beta1, beta2] = config.moment_decays();
        let weight_decay = config.weight_decay_rate();
        match config.optimizer {
            Optimizer::AdamW => Self::AdamW(AdamW {
                settings: AdamWSettings {
                    beta1,
                    beta2,
                    epsilon: config.epsilon,
                    weight_decay,
                    average: config.ema,
                },
                step: 0,
            }),
            Optimizer::NovoGrad => Self::NovoGrad {
                novograd: NovoGrad {
                    beta1,
                    beta2,
                    epsilon: config.epsilon,
                    weight_decay,
                },
                average: config.ema,
                updates: 0,
            },
        }
    }

    /// Moments of a tensor before its first update; the average starts at the weights.
    pub fn moments(&self, weights: &[f32]) -> Moments {
        match self {
            Self::AdamW(_) => Moments::new(weights),
            Self::NovoGrad { .. } => Moments {
                average: weights.to_vec(),
                ..NovoGrad::moments(weights.len())
            },
        }
    }

    /// Updates made so far.
    pub fn updates(&self) -> u64 {
        match self {
            Self::AdamW(adamw) => adamw.step,
            Self::NovoGrad { updates, .. } => *updates,
        }
    }

    /// Goes on after `count` updates.
    pub fn set_updates(&mut self, count: u64) {
        match self {
            Self::AdamW(adamw) => adamw.step = count,
            Self::NovoGrad { updates, .. } => *updates = count,
        }
    }

    /// Begins the next update: call once, before [`UpdateRule::update`] for each tensor.
    pub fn begin(&mut self) {
        self.set_updates(self.updates() + 1);
    }

    /// The weight average's decay at this update.
    pub fn keep(&self) -> f32 {
        match self {
            Self::AdamW(adamw) => ramped(adamw.settings.average, adamw.step),
            Self::NovoGrad {
                average, updates, ..
            } => ramped(*average, *updates),
        }
    }

    /// Updates one tensor and its average in place. `scale` multiplies the gradient (clipping); `decays` says whether
    /// weight decay applies.
    pub fn update(
        &self,
        weights: &mut [f32],
        gradient: &[f32],
        moments: &mut Moments,
        rate: f32,
        scale: f32,
        decays: bool,
    ) {
        match self {
            Self::AdamW(adamw) => adamw.update(weights, gradient, moments, rate, scale, decays),
            Self::NovoGrad { novograd, .. } => {
                novograd.update(weights, gradient, moments, rate, scale, decays);
                average_into(&mut moments.average, weights, self.keep());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_rules_descend_and_average_what_they_reach() {
        for optimizer in [Optimizer::AdamW, Optimizer::NovoGrad] {
            let config = TrainConfig {
                optimizer,
                ema: 0.5,
                ..Default::default()
            };
            let mut rule = UpdateRule::new(&config);
            let mut weights = [3.0f32, -2.0];
            let mut moments = rule.moments(&weights);
            let mut average = weights;
            for step in 1..=400 {
                // Half the square of the distance to (1, 1).
                let gradient = weights.map(|w| w - 1.0);
                rule.begin();
                let rate = 0.05 * (1.0 - step as f32 / 400.0);
                rule.update(&mut weights, &gradient, &mut moments, rate, 1.0, false);
                let keep = ramped(0.5, step);
                for (a, w) in average.iter_mut().zip(weights) {
                    *a = keep * *a + (1.0 - keep) * w;
                }
            }
            assert_eq!(rule.updates(), 400);
            assert_eq!(moments.average, average, "{optimizer:?}");
            for w in weights {
                assert!((w - 1.0).abs() < 0.05, "{optimizer:?} ends at {weights:?}");
            }
        }
    }
}
