//! AdamW (arXiv 1711.05101) as one pass over memory: moments, update, weight decay and weight average together.
//!
//! With g the clipped gradient at step t: `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`,
//! `w -= rate (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + decay w)`, `average = a average + (1 - a) w`.

use super::average::{average_into, ramped};
use crate::simd::vectorized;

/// Constants of the optimizer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWSettings {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Decay of the weight average; 0 makes the average the weights themselves.
    pub average: f32,
}

/// What the optimizer keeps for one tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// First moment.
    pub first: Vec<f32>,
    /// Second moment.
    pub second: Vec<f32>,
    /// Average of the weights over the steps; empty where none is kept.
    pub average: Vec<f32>,
}

impl Moments {
    /// Zero moments; the average starts at the weights.
    pub fn new(weights: &[f32]) -> Self {
        Self {
            first: vec![0.0; weights.len()],
            second: vec![0.0; weights.len()],
            average: weights.to_vec(),
        }
    }

    /// Zero moments for `elements` weights, of which no average is kept: one array less in every update.
    pub fn without_average(elements: usize) -> Self {
        Self {
            first: vec![0.0; elements],
            second: vec![0.0; elements],
            average: Vec::new(),
        }
    }
}

/// The optimizer with its step count.
#[derive(Debug, Clone, PartialEq)]
pub struct AdamW {
    /// Its constants.
    pub settings: AdamWSettings,
    /// Updates made so far.
    pub step: u64,
}

/// What is the same for every tensor of one update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWScalars {
    /// `rate / (1 - b1^t)`: multiplies the first moment.
    pub size: f32,
    /// `1 / sqrt(1 - b2^t)`: multiplies the root of the second moment.
    pub root: f32,
    /// `1 - rate decay`: multiplies weights that decay.
    pub shrink: f32,
    /// The average's decay at this step.
    pub keep: f32,
}

impl AdamW {
    /// The numbers of the update begun last (step t), with the bias corrections outside the loop.
    pub fn scalars(&self, rate: f32) -> AdamWScalars {
        let s = self.settings;
        let power = |beta: f32| 1.0 - f64::from(beta).powf(self.step as f64);
        AdamWScalars {
            size: (f64::from(rate) / power(s.beta1)) as f32,
            root: (1.0 / power(s.beta2).sqrt()) as f32,
            shrink: 1.0 - rate * s.weight_decay,
            keep: ramped(s.average, self.step),
        }
    }

    /// Begins the next update: call once a step, before [`AdamW::update`] for each tensor.
    pub fn begin(&mut self) {
        self.step += 1;
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
        let scalars = self.scalars(rate);
        let step = Step {
            settings: self.settings,
            scale,
            size: scalars.size,
            root: scalars.root,
            shrink: if decays { scalars.shrink } else { 1.0 },
        };
        let Moments {
            first,
            second,
            average: averages,
        } = moments;
        // The first block ends where whole vectors stand within cache lines (a vector across two lines costs a third
        // of the speed); the others stay in the cache between the update and the averaging.
        let end = [gradient.len(), first.len(), second.len()]
            .into_iter()
            .fold(weights.len(), usize::min);
        let mut done = 0;
        let mut length = weights.as_ptr().align_offset(LINE).min(end);
        while done < end {
            let block = done..done + length;
            step.apply(
                &mut weights[block.clone()],
                &gradient[block.clone()],
                &mut first[block.clone()],
                &mut second[block.clone()],
            );
            if let Some(averages) = averages.get_mut(block.clone()) {
                average_into(averages, &weights[block], scalars.keep);
            }
            done += length;
            length = BLOCK.min(end - done);
        }
    }
}

/// Bytes of a cache line.
const LINE: usize = 64;

/// Weights updated at a time.
const BLOCK: usize = 16 * 1024;

/// The numbers of one update.
#[derive(Clone, Copy)]
struct Step {
    settings: AdamWSettings,
    scale: f32,
    size: f32,
    root: f32,
    shrink: f32,
}

impl Step {
    fn apply(self, weights: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
        let s = self.settings;
        let moments = first.iter_mut().zip(second);
        let rows = weights.iter_mut().zip(gradient).zip(moments);
        vectorized!(for ((w, &g), (m, v)) in rows {
            let g = g * self.scale;
            *m = s.beta1 * *m + (1.0 - s.beta1) * g;
            *v = s.beta2 * *v + (1.0 - s.beta2) * g * g;
            *w = *w * self.shrink - self.size * *m / (v.sqrt() * self.root + s.epsilon);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_steps_equal_the_formula() {
        let settings = AdamWSettings {
            beta1: 0.9,
            beta2: 0.98,
            epsilon: 1e-8,
            weight_decay: 0.1,
            average: 0.0,
        };
        let mut optimizer = AdamW { settings, step: 0 };
        let mut weights = [1.0f32, -2.0];
        let mut moments = Moments::new(&weights);
        let (mut w, mut m, mut v) = ([1.0f64, -2.0], [0.0f64; 2], [0.0f64; 2]);
        for (t, gradient) in [(1, [0.5f32, -1.0]), (2, [0.25, 3.0])] {
            optimizer.begin();
            optimizer.update(&mut weights, &gradient, &mut moments, 0.01, 1.0, true);
            for i in 0..2 {
                let g = f64::from(gradient[i]);
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.98 * v[i] + 0.02 * g * g;
                let hat_m = m[i] / (1.0 - 0.9f64.powi(t));
                let hat_v = v[i] / (1.0 - 0.98f64.powi(t));
                w[i] -= 0.01 * (hat_m / (hat_v.sqrt() + 1e-8) + 0.1 * w[i]);
            }
        }
        for i in 0..2 {
            assert!((f64::from(weights[i]) - w[i]).abs() < 1e-6);
            assert_eq!(moments.average[i], weights[i]);
        }
    }
}
