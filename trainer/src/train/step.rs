//! One training step as one graph: forward, CTC, backward; and the buffers around it.
//!
//! Inputs `features [1, F, 1, N]` (`[1, C, H, N]` for images), `mask [1, 1, 1, N / stride]`, `segments`, `targets`,
//! `weights` (see [`crate::graph::custom`]), `seed`; outputs `loss`, `losses`, `grad.NAME` for every parameter and the
//! batch statistics. Distillation adds inputs and losses of its own ([`super::supervise`]). The update is
//! [`crate::optim`]'s, in place on the same buffers.

use super::pack::{Packer, Row};
use super::supervise::{StepGraph, Supervision};
use crate::config::{StartConfig, begins};
use crate::graph::exec::{Engine, Executable, Inputs, ParameterStore};
use crate::graph::{DType, Value, gradients};
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

/// A network's training graph before its outputs are named.
pub(super) struct TrainGraph {
    pub net: Net,
    /// Loss of the row, `[]`.
    pub loss: Value,
    /// CTC losses of the utterances, `[most]`.
    pub losses: Value,
    /// The batch's statistics.
    pub measured: Vec<Value>,
    /// The parameters that are trained.
    pub trained: Vec<Trained>,
    /// What its inputs are fed.
    pub feeds: Feeds,
}

/// Who fills the inputs of a training graph and names what it reports.
#[derive(Debug)]
pub(super) struct Feeds {
    network: Arc<dyn Network>,
    supervision: Option<Arc<dyn Supervision>>,
    /// Most symbols of a target.
    longest: usize,
    seeded: bool,
}

impl Feeds {
    /// Copies a row into the inputs, when `progress` of the run is over; every output frame weighs the same.
    pub fn fill(&self, inputs: &mut dyn Inputs, row: &Row, seed: u64, progress: f64) -> Result<()> {
        if self.seeded {
            inputs.i64_mut("seed")?[0] = seed as i64;
        }
        let weights = inputs.f32_mut("weights")?;
        weights.fill(0.0);
        weights[..row.segments.len()].fill(1.0 / row.frames().max(1) as f32);
        inputs.f32_mut("features")?.copy_from_slice(&row.features);
        inputs.f32_mut("mask")?.copy_from_slice(&row.mask);
        let segments = inputs.i32_mut("segments")?;
        segments.fill(0);
        for (place, segment) in segments
            .as_chunks_mut::<3>()
            .0
            .iter_mut()
            .zip(&row.segments)
        {
            *place = [0, segment.start as i32, segment.frames as i32];
        }
        let targets = inputs.i32_mut("targets")?;
        targets.fill(-1);
        for (place, segment) in targets.chunks_exact_mut(self.longest).zip(&row.segments) {
            if segment.utterance.targets.len() > self.longest {
                return Err(Error::new(
                    ErrorKind::Data,
                    format!(
                        "{}: {} symbols, the step was compiled for {}",
                        segment.utterance.name,
                        segment.utterance.targets.len(),
                        self.longest
                    ),
                ));
            }
            for (place, &symbol) in place.iter_mut().zip(&segment.utterance.targets) {
                *place = symbol as i32;
            }
        }
        self.network.feed(inputs, row, Some(seed))?;
        match &self.supervision {
            Some(supervision) => supervision.feed(inputs, row, progress),
            None => Ok(()),
        }
    }

    /// What a step over `row` found; `get` gives its outputs.
    pub fn outcome<'a>(
        &self,
        row: &Row,
        get: impl Fn(&str) -> Result<&'a [f32]>,
    ) -> Result<StepOutcome> {
        let names = self.supervision.as_ref().map(|s| s.parts());
        let parts = names.unwrap_or_default().into_iter().map(|name| {
            let value = get(&name)?[0];
            Ok((name, value))
        });
        let own = get("losses")?.iter().take(row.segments.len());
        Ok(StepOutcome {
            loss: get("loss")?[0],
            parts: parts.collect::<Result<_>>()?,
            infeasible: own.filter(|loss| loss.is_infinite()).count(),
        })
    }
}

/// A trained parameter in the graph.
pub(super) struct Trained {
    pub spec: ParameterSpec,
    pub value: Value,
    pub gradient: Value,
}

impl TrainGraph {
    /// Forward, losses and backward for rows of `packer`; parameters that `start` freezes get no gradient.
    pub fn new(
        network: &Arc<dyn Network>,
        supervision: Option<Arc<dyn Supervision>>,
        packer: &Packer,
        longest: usize,
        start: Option<&StartConfig>,
    ) -> Result<Self> {
        let longest = longest.max(1);
        let mut net = Net::new("train_step", Form::Train);
        let built = network.build(&mut net, packer.width)?;
        let measured = net.graph.outputs().to_vec();
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
        let frozen = |name: &str| start.is_some_and(|start| start.freezes(name));
        let wrt: Vec<Value> = net
            .graph
            .parameters()
            .iter()
            .copied()
            .filter(|&value| !frozen(net.graph.value_name(value)))
            .collect();
        check_freeze(&net, start, wrt.len())?;
        let found = gradients(&mut net.graph, total, &wrt)?;
        let trained = wrt
            .into_iter()
            .zip(found)
            .filter_map(|(value, gradient)| {
                let name = net.graph.value_name(value);
                let spec = net.parameters().iter().find(|spec| spec.name == name)?;
                Some(Trained {
                    spec: spec.clone(),
                    value,
                    gradient,
                })
            })
            .collect();
        let feeds = Feeds {
            network: network.clone(),
            supervision,
            longest,
            seeded: net.seed.is_some(),
        };
        Ok(Self {
            net,
            loss: total,
            losses: ctc.losses,
            measured,
            trained,
            feeds,
        })
    }

    /// Puts parameters and statistics that `store` lacks into it, initialized from `seed`.
    pub fn declare(&self, store: &mut ParameterStore, seed: u64) -> Result<()> {
        for spec in self.net.parameters() {
            if !store.names().contains(&spec.name) {
                store.insert(&spec.name, &spec.shape, &initialize(spec, seed))?;
            }
        }
        for statistic in self.net.statistics() {
            if !store.names().contains(&statistic.name) {
                let start = vec![statistic.start; statistic.channels];
                store.insert(&statistic.name, &[statistic.channels], &start)?;
            }
        }
        Ok(())
    }
}

/// Refuses a frozen name that no parameter has, and a network of which nothing is left to train.
fn check_freeze(net: &Net, start: Option<&StartConfig>, trained: usize) -> Result<()> {
    let Some(start) = start else { return Ok(()) };
    for prefix in &start.freeze {
        if !net.parameters().iter().any(|p| begins(&p.name, prefix)) {
            let mut layers: Vec<&str> = net
                .parameters()
                .iter()
                .filter_map(|p| Some(p.name.rsplit_once('.')?.0))
                .collect();
            layers.dedup();
            return Err(Error::new(
                ErrorKind::Recipe,
                format!(
                    "start_from.freeze: no layer is called {prefix:?}; there are {}",
                    layers.join(", ")
                ),
            ));
        }
    }
    if trained == 0 {
        return Err(Error::new(
            ErrorKind::Recipe,
            "start_from.freeze leaves nothing to train: name fewer layers",
        ));
    }
    Ok(())
}

/// The compiled step of a network.
#[derive(Debug)]
pub struct TrainStep {
    executable: Executable,
    parameters: Vec<ParameterSpec>,
    statistics: Vec<Statistic>,
    feeds: Feeds,
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
        let graph = TrainGraph::new(network, supervision, packer, longest, None)?;
        graph.declare(store, seed)?;
        Self::compile(engine, graph, store)
    }

    /// Compiles a graph whose parameters are in `store`.
    pub(super) fn compile(
        engine: &Engine,
        graph: TrainGraph,
        store: &ParameterStore,
    ) -> Result<Self> {
        let TrainGraph {
            mut net,
            loss,
            losses,
            measured: _,
            trained,
            feeds,
        } = graph;
        for parameter in &trained {
            let name = format!("grad.{}", parameter.spec.name);
            net.graph.output(&name, parameter.gradient)?;
        }
        net.graph.output("loss", loss)?;
        net.graph.output("losses", losses)?;
        Ok(Self {
            executable: Executable::new(engine, &net.graph, store)?,
            parameters: trained.into_iter().map(|trained| trained.spec).collect(),
            statistics: net.statistics().to_vec(),
            feeds,
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
        self.feeds.fill(&mut self.executable, row, seed, progress)?;
        self.executable.run()?;
        self.feeds.outcome(row, |name| self.executable.f32(name))
    }

    /// The gradient of a trained parameter after a run.
    pub fn gradient(&self, name: &str) -> Result<&[f32]> {
        self.executable.f32(&format!("grad.{name}"))
    }

    /// Whether the batch's statistics are numbers. A ReLU makes 0 of NaN, so that loss and gradients may be numbers
    /// where they are not.
    pub fn has_finite_statistics(&self) -> Result<bool> {
        finite_statistics(&self.statistics, |name| self.executable.f32(name))
    }

    /// Moves the running statistics towards the batch's.
    pub fn update_statistics(&self, store: &mut ParameterStore) -> Result<()> {
        for statistic in &self.statistics {
            let batch = self.executable.f32(&statistic.output)?;
            follow(store.get_mut(&statistic.name)?, batch);
        }
        Ok(())
    }
}

pub(super) fn finite_statistics<'a>(
    statistics: &[Statistic],
    get: impl Fn(&str) -> Result<&'a [f32]>,
) -> Result<bool> {
    for statistic in statistics {
        if !get(&statistic.output)?
            .iter()
            .all(|value| value.is_finite())
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Moves running statistics towards a batch's.
pub(super) fn follow(running: &mut [f32], batch: &[f32]) {
    for (running, &new) in running.iter_mut().zip(batch) {
        *running = STATISTICS_MOMENTUM * *running + (1.0 - STATISTICS_MOMENTUM) * new;
    }
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
