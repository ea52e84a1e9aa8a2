//! A training step on the host: forward and backward by ONNX Runtime, sums over batches and the update by fused loops in
//! place on the same buffers.

use super::learner::{Learned, State};
use super::pack::Row;
use super::step::{TrainGraph, TrainStep};
use crate::Result;
use crate::graph::exec::{Engine, ParameterStore};
use crate::optim::{Accumulator, global_norm};

/// A compiled step with the sums of the group under way.
#[derive(Debug)]
pub(super) struct HostStep {
    step: TrainStep,
    sums: Accumulator,
}

impl HostStep {
    pub fn new(engine: &Engine, graph: TrainGraph, store: &ParameterStore) -> Result<Self> {
        Ok(Self {
            step: TrainStep::compile(engine, graph, store)?,
            sums: Accumulator::new(),
        })
    }

    /// Learns from a batch; with a `rate` it is the last of its group.
    pub fn learn(
        &mut self,
        state: &mut State,
        row: &Row,
        seed: u64,
        progress: f64,
        rate: Option<f32>,
    ) -> Result<Learned> {
        let Self { step, sums } = self;
        let found = step.run(row, seed, progress)?;
        let mut gradients = Vec::with_capacity(state.trained.len());
        for spec in &state.trained {
            gradients.push(step.gradient(&spec.name)?);
        }
        let mut learned = Learned {
            loss: found.loss,
            parts: found.parts,
            batch_norm: global_norm(gradients.iter().copied()),
            finite_statistics: step.has_finite_statistics()?,
            infeasible: found.infeasible,
            updated: None,
        };
        let grouped = state.accumulate > 1;
        if learned.is_finite() {
            state.good += 1;
            if grouped {
                sums.add(gradients.iter().copied(), 1.0 / state.accumulate as f32)?;
            }
            step.update_statistics(&mut state.store)?;
        }
        let Some(rate) = rate else {
            return Ok(learned);
        };
        // Each batch weighs one part of a whole group; a group with fewer is scaled up.
        let factor = match (grouped, state.good) {
            (_, 0) => f32::NAN,
            (true, good) => state.accumulate as f32 / good as f32,
            (false, _) => 1.0,
        };
        let norm = if grouped {
            gradients = sums.sums().collect();
            factor * global_norm(gradients.iter().copied())
        } else {
            factor * learned.batch_norm
        };
        if norm.is_finite() {
            update(state, &gradients, norm, factor, rate)?;
            learned.updated = Some(norm);
        }
        sums.clear();
        Ok(learned)
    }
}

/// One update with `factor` times the gradients, whose norm is `norm` and is clipped.
fn update(
    state: &mut State,
    gradients: &[&[f32]],
    norm: f32,
    factor: f32,
    rate: f32,
) -> Result<()> {
    let scale = factor * (state.clip / norm.max(f32::MIN_POSITIVE)).min(1.0);
    state.rule.begin();
    for (spec, gradient) in state.trained.iter().zip(gradients) {
        if let Some(moments) = state.moments.get_mut(&spec.name) {
            let weights = state.store.get_mut(&spec.name)?;
            state
                .rule
                .update(weights, gradient, moments, rate, scale, spec.decays);
        }
    }
    Ok(())
}
