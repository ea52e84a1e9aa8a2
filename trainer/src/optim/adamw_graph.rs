//! AdamW as nodes of a graph, so that on a device parameters and moments never leave it: the same formula as
//! [`AdamW`](super::AdamW), tensor by tensor, with the numbers that change from step to step as inputs.
//!
//! Every updated tensor passes through a gate: where the step is not to be made (a gradient that is not finite, a batch
//! that only adds to a sum) the old values come out.

use super::{AdamWScalars, AdamWSettings};
use crate::Result;
use crate::graph::{DType, Graph, Unary, Value};

/// The parts of an update that all tensors share.
#[derive(Debug, Clone, Copy)]
pub struct AdamWGraph {
    settings: AdamWSettings,
    size: Value,
    root: Value,
    shrink: Value,
    keep: Value,
}

/// A tensor and what the optimizer keeps for it, all of one shape.
#[derive(Debug, Clone, Copy)]
pub struct Updated {
    /// The weights.
    pub weights: Value,
    /// First moment.
    pub first: Value,
    /// Second moment.
    pub second: Value,
    /// Average of the weights over the steps.
    pub average: Value,
}

/// Names of the inputs `[1]` that [`AdamWGraph::values`] fills.
const SCALARS: [&str; 4] = ["adamw.size", "adamw.root", "adamw.shrink", "adamw.keep"];

impl AdamWGraph {
    /// Declares the inputs of the update.
    pub fn new(graph: &mut Graph, settings: AdamWSettings) -> Result<Self> {
        let mut scalars = Vec::new();
        for name in SCALARS {
            scalars.push(graph.input(name, DType::F32, &[1])?);
        }
        Ok(Self {
            settings,
            size: scalars[0],
            root: scalars[1],
            shrink: scalars[2],
            keep: scalars[3],
        })
    }

    /// The inputs of one step with their values.
    pub fn values(scalars: AdamWScalars) -> [(&'static str, f32); 4] {
        let AdamWScalars {
            size,
            root,
            shrink,
            keep,
        } = scalars;
        [
            (SCALARS[0], size),
            (SCALARS[1], root),
            (SCALARS[2], shrink),
            (SCALARS[3], keep),
        ]
    }

    /// The updated tensors: `gradient` is already clipped, `gate` (Bool, one element) says whether the step is made,
    /// `decays` whether weight decay applies.
    pub fn update(
        &self,
        g: &mut Graph,
        old: Updated,
        gradient: Value,
        gate: Value,
        decays: bool,
    ) -> Result<Updated> {
        let s = self.settings;
        let blend = |g: &mut Graph, beta: f32, a: Value, b: Value| {
            let a = g.scale(a, beta)?;
            let b = g.scale(b, 1.0 - beta)?;
            g.add(a, b)
        };
        let first = blend(g, s.beta1, old.first, gradient)?;
        let square = g.mul(gradient, gradient)?;
        let second = blend(g, s.beta2, old.second, square)?;
        let root = g.unary(Unary::Sqrt, second)?;
        let root = g.mul(root, self.root)?;
        let epsilon = g.scalar(s.epsilon)?;
        let root = g.add(root, epsilon)?;
        let step = g.mul(first, self.size)?;
        let step = g.div(step, root)?;
        let weights = if decays {
            g.mul(old.weights, self.shrink)?
        } else {
            old.weights
        };
        let weights = g.sub(weights, step)?;
        // a + (1 - keep) (w - a): one scalar instead of two.
        let one = g.scalar(1.0)?;
        let part = g.sub(one, self.keep)?;
        let distance = g.sub(weights, old.average)?;
        let distance = g.mul(distance, part)?;
        let average = g.add(old.average, distance)?;
        Ok(Updated {
            weights: g.select(gate, weights, old.weights)?,
            first: g.select(gate, first, old.first)?,
            second: g.select(gate, second, old.second)?,
            average: g.select(gate, average, old.average)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::exec::Resident;
    use crate::graph::testing::{engine, numbers};
    use crate::optim::{AdamW, Moments};

    #[test]
    fn equals_the_fused_loop() {
        let settings = AdamWSettings {
            beta1: 0.9,
            beta2: 0.98,
            epsilon: 1e-8,
            weight_decay: 0.1,
            average: 0.9,
        };
        let shape = [3, 5];
        let mut g = Graph::new("adamw");
        let graph = AdamWGraph::new(&mut g, settings).unwrap();
        let gradient = g.input("gradient", DType::F32, &shape).unwrap();
        let limit = g.input("limit", DType::F32, &[1]).unwrap();
        let zero = g.scalar(0.0).unwrap();
        let gate = g.greater(limit, zero).unwrap();
        let mut carried = Vec::new();
        let mut old = Vec::new();
        for name in ["weights", "first", "second", "average"] {
            old.push(g.input(name, DType::F32, &shape).unwrap());
            carried.push((name.to_owned(), format!("next.{name}")));
        }
        let updated = graph
            .update(
                &mut g,
                Updated {
                    weights: old[0],
                    first: old[1],
                    second: old[2],
                    average: old[3],
                },
                gradient,
                gate,
                true,
            )
            .unwrap();
        let new = [
            updated.weights,
            updated.first,
            updated.second,
            updated.average,
        ];
        for ((_, name), value) in carried.iter().zip(new) {
            g.output(name, value).unwrap();
        }
        let mut run = Resident::new(&engine(), &g, &carried).unwrap();
        let mut weights = numbers(15, 1);
        let mut moments = Moments::new(&weights);
        run.write("weights", &weights).unwrap();
        run.write("average", &weights).unwrap();
        let mut adamw = AdamW { settings, step: 0 };
        for step in 0..20 {
            let gradient = numbers(15, 7 + step);
            // Every third step is gated off and must leave no trace.
            let made = step % 3 != 1;
            let mut next = adamw.clone();
            next.begin();
            for (name, value) in AdamWGraph::values(next.scalars(0.01)) {
                run.f32_mut(name).unwrap()[0] = value;
            }
            run.f32_mut("gradient").unwrap().copy_from_slice(&gradient);
            run.f32_mut("limit").unwrap()[0] = if made { 1.0 } else { -1.0 };
            run.run().unwrap();
            if made {
                adamw = next;
                adamw.update(&mut weights, &gradient, &mut moments, 0.01, 1.0, true);
            }
        }
        for (name, expected) in [
            ("weights", &weights),
            ("first", &moments.first),
            ("second", &moments.second),
            ("average", &moments.average),
        ] {
            let found = run.read(name).unwrap();
            for (found, expected) in found.iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-6,
                    "{name}: {found}, {expected}"
                );
            }
        }
    }
}
