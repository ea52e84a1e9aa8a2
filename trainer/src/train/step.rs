//! One training step as one graph: forward, CTC, backward; and the buffers around it.
//!
//! Inputs `features [1, F, 1, N]`, `mask [1, 1, 1, N / stride]`, `segments`, `targets`, `weights` (see
//! [`crate::graph::custom`]), `seed`; outputs `loss`, `losses`, `grad.NAME` for every parameter and the batch
//! statistics. Distillation adds inputs and losses of its own ([`super::supervise`]). The update is [`crate::optim`]'s, in place on the same buffers.

use super::pack::{Packer, Row};
use super::supervise::{StepGraph, Supervision};
use crate::graph::exec::{Engine, Executable, ParameterStore};
use crate::graph::{DType, gradients};
use crate::network::Network;
use crate::nn::{Form, Net, ParameterSpec, Statistic, initialize};
use crate::{Error, ErrorKind, Result};
use ndarray::Array2;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Momentum of running statistics: they average over the last hundred steps or so.
const STATISTICS_MOMENTUM: f32 = 0.99;

/// What a step found.
#[derive(Debug, Clone, PartialEq)]
pub struct StepOutcome {
    /// Loss in nats per output frame.
    pub loss: f32,
    /// Its parts by name, before their weights, where there is more than the CTC loss.
    pub parts: BTreeMap<String, f32>,
    /// Utterances whose target does not fit their frames: left out of loss and gradient.
    pub infeasible: usize,
}

/// The compiled step of a network.
#[derive(Debug)]
pub struct TrainStep {
    network: Arc<dyn Network>,
    supervision: Option<Arc<dyn Supervision>>,
    executable: Executable,
    parameters: Vec<ParameterSpec>,
    statistics: Vec<Statistic>,
    longest: usize,
    seeded: bool,
}

impl TrainStep {
    /// Declares the network's parameters and statistics in `store` (initialized from `seed` where they are not
    /// there yet) and compiles its step for rows of `packer`; `longest` is the longest target.
    pub fn new(
        engine: &Engine,
        network: &Arc<dyn Network>,
        packer: &Packer,
        longest: usize,
        store: &mut ParameterStore,
        seed: u64,
        supervision: Option<Arc<dyn Supervision>>,
    ) -> Result<Self> {
        let longest = longest.max(1);
        let mut net = Net::new("train_step", Form::Train);
        let built = network.build(&mut net, packer.width)?;
        let segments = net.graph.input("segments", DType::I32, &[packer.most, 3])?;
        let targets = net
            .graph
            .input("targets", DType::I32, &[packer.most, longest])?;
        let weights = net.graph.input("weights", DType::F32, &[packer.most])?;
        let ctc = net
            .graph
            .ctc_loss(built.logits, segments, targets, weights, 0)?;
        let total = match &supervision {
            Some(supervision) => {
                let step = StepGraph {
                    built: &built,
                    segments,
                    targets,
                    weights,
                    ctc: ctc.total,
                };
                supervision.attach(&mut net, &step)?
            }
            None => ctc.total,
        };
        let wrt = net.graph.parameters().to_vec();
        let found = gradients(&mut net.graph, total, &wrt)?;
        for (parameter, gradient) in wrt.iter().zip(found) {
            let name = format!("grad.{}", net.graph.value_name(*parameter));
            net.graph.output(&name, gradient)?;
        }
        net.graph.output("loss", total)?;
        net.graph.output("losses", ctc.losses)?;
        for spec in net.parameters() {
            if !store.names().contains(&spec.name) {
                store.insert(&spec.name, &spec.shape, &initialize(spec, seed))?;
            }
        }
        for statistic in net.statistics() {
            if !store.names().contains(&statistic.name) {
                let start = vec![statistic.start; statistic.channels];
                store.insert(&statistic.name, &[statistic.channels], &start)?;
            }
        }
        let executable = Executable::new(engine, &net.graph, store)?;
        Ok(Self {
            network: network.clone(),
            supervision,
            executable,
            parameters: net.parameters().to_vec(),
            statistics: net.statistics().to_vec(),
            longest,
            seeded: net.seed.is_some(),
        })
    }

    /// The trained parameters, in order.
    pub fn parameters(&self) -> &[ParameterSpec] {
        &self.parameters
    }

    /// The running statistics, in order.
    pub fn statistics(&self) -> &[Statistic] {
        &self.statistics
    }

    /// Runs forward and backward over a row, when `progress` of the run is over; gradients are then in
    /// [`TrainStep::gradient`].
    pub fn run(&mut self, row: &Row, seed: u64, progress: f64) -> Result<StepOutcome> {
        fill(&mut self.executable, row, self.longest)?;
        self.network.feed(&mut self.executable, row, Some(seed))?;
        let mut names = Vec::new();
        if let Some(supervision) = &self.supervision {
            supervision.feed(&mut self.executable, row, progress)?;
            names = supervision.parts();
        }
        if self.seeded {
            self.executable.i64_mut("seed")?[0] = seed as i64;
        }
        let weight = 1.0 / row.frames().max(1) as f32;
        let weights = self.executable.f32_mut("weights")?;
        weights.fill(0.0);
        weights[..row.segments.len()].fill(weight);
        self.executable.run()?;
        let losses = &self.executable.f32("losses")?[..row.segments.len()];
        let part = |name: String| {
            let value = self.executable.f32(&name)?[0];
            Ok((name, value))
        };
        Ok(StepOutcome {
            loss: self.executable.f32("loss")?[0],
            parts: names.into_iter().map(part).collect::<Result<_>>()?,
            infeasible: losses.iter().filter(|loss| loss.is_infinite()).count(),
        })
    }

    /// The gradient of a parameter after a run.
    pub fn gradient(&self, name: &str) -> Result<&[f32]> {
        self.executable.f32(&format!("grad.{name}"))
    }

    /// Moves the running statistics towards the batch's.
    pub fn update_statistics(&self, store: &mut ParameterStore) -> Result<()> {
        for statistic in &self.statistics {
            let batch = self.executable.f32(&statistic.output)?;
            for (running, &new) in store.get_mut(&statistic.name)?.iter_mut().zip(batch) {
                *running = STATISTICS_MOMENTUM * *running + (1.0 - STATISTICS_MOMENTUM) * new;
            }
        }
        Ok(())
    }
}

/// Copies a row into the bound inputs.
fn fill(executable: &mut Executable, row: &Row, longest: usize) -> Result<()> {
    executable
        .f32_mut("features")?
        .copy_from_slice(&row.features);
    executable.f32_mut("mask")?.copy_from_slice(&row.mask);
    let segments = executable.i32_mut("segments")?;
    segments.fill(0);
    for (place, segment) in segments
        .as_chunks_mut::<3>()
        .0
        .iter_mut()
        .zip(&row.segments)
    {
        *place = [0, segment.start as i32, segment.frames as i32];
    }
    let targets = executable.i32_mut("targets")?;
    targets.fill(-1);
    for (place, segment) in targets.chunks_exact_mut(longest).zip(&row.segments) {
        if segment.utterance.targets.len() > longest {
            return Err(Error::new(
                ErrorKind::Data,
                format!(
                    "{}: {} symbols, the step was compiled for {longest}",
                    segment.utterance.name,
                    segment.utterance.targets.len()
                ),
            ));
        }
        for (place, &symbol) in place.iter_mut().zip(&segment.utterance.targets) {
            *place = symbol as i32;
        }
    }
    Ok(())
}

/// A network's evaluation over packed rows, batch norm folded.
#[derive(Debug)]
pub struct EvaluationStep {
    network: Arc<dyn Network>,
    executable: Executable,
    steps: usize,
}

/// What an evaluation gives beside the logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extras {
    /// The last hidden value.
    pub hidden: bool,
    /// What each frame attends to, where the network reads its label.
    pub attention: bool,
}

impl EvaluationStep {
    /// Compiles the evaluation form; `folded` must hold its parameters (see [`Network::fold`]).
    ///
    /// # Errors
    /// What building and compiling report.
    pub fn new(
        engine: &Engine,
        network: &Arc<dyn Network>,
        packer: &Packer,
        folded: &ParameterStore,
        extras: Extras,
    ) -> Result<Self> {
        let mut net = Net::new("evaluation", Form::Evaluate);
        let built = network.build(&mut net, packer.width)?;
        net.graph.output("logits", built.logits)?;
        if let (true, Some(&hidden)) = (extras.hidden, built.hidden.last()) {
            net.graph.output("hidden", hidden)?;
        }
        if let (true, Some(attention)) = (extras.attention, built.attention) {
            net.graph.output("attention", attention)?;
        }
        Ok(Self {
            network: network.clone(),
            executable: Executable::new(engine, &net.graph, folded)?,
            steps: packer.width / packer.stride,
        })
    }

    /// Logits of a row: one `[frames, V]` array a segment.
    ///
    /// # Errors
    /// What running reports.
    pub fn run(&mut self, row: &Row) -> Result<Vec<Array2<f32>>> {
        self.executable
            .f32_mut("features")?
            .copy_from_slice(&row.features);
        self.executable.f32_mut("mask")?.copy_from_slice(&row.mask);
        self.network.feed(&mut self.executable, row, None)?;
        self.executable.run()?;
        self.segments("logits", row, self.network.vocabulary())
    }

    /// The last hidden value of the row that was run last: one `[frames, C]` array a segment.
    ///
    /// # Errors
    /// [`ErrorKind::Graph`] where it was not compiled in.
    pub fn hidden(&self, row: &Row) -> Result<Vec<Array2<f32>>> {
        self.segments("hidden", row, self.network.hidden_channels())
    }

    /// What the frames of the row that was run last attend to: one `[frames, symbols]` array a segment.
    ///
    /// # Errors
    /// [`ErrorKind::Graph`] where it was not compiled in.
    pub fn attention(&self, row: &Row) -> Result<Vec<Array2<f32>>> {
        let weights = self.executable.f32("attention")?;
        let room = weights.len() / self.steps.max(1);
        let mut first = 0;
        Ok(row
            .segments
            .iter()
            .map(|segment| {
                let symbols = segment.utterance.targets.len();
                let start = first;
                first += symbols;
                Array2::from_shape_fn((segment.frames, symbols), |(t, u)| {
                    weights[(segment.start + t) * room + start + u]
                })
            })
            .collect())
    }

    fn segments(&self, output: &str, row: &Row, channels: usize) -> Result<Vec<Array2<f32>>> {
        let values = self.executable.f32(output)?;
        Ok(row
            .segments
            .iter()
            .map(|segment| {
                Array2::from_shape_fn((segment.frames, channels), |(t, c)| {
                    values[c * self.steps + segment.start + t]
                })
            })
            .collect())
    }
}
