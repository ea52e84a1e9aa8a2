//! One training step as one graph: forward, CTC, backward; and the buffers around it.
//!
//! Inputs `features [1, F, 1, N]` (`[1, C, H, N]` for images), `mask [1, 1, 1, N / stride]`, `segments`, `targets`, `weights` (see
//! [`crate::graph::custom`]), `seed`; outputs `loss`, `losses`, `grad.NAME` for every parameter and the batch
//! statistics. The update is [`crate::optim`]'s, in place on the same buffers.

use super::pack::{Packer, Row};
use crate::config::{StartConfig, begins};
use crate::graph::exec::{Engine, Executable, ParameterStore, Resident};
use crate::graph::{DType, Value, gradients};
use crate::nn::{Form, Net, ParameterSpec, Statistic, initialize};
use crate::student::Student;
use crate::{Error, ErrorKind, Result};

/// Momentum of running statistics: they average over the last hundred steps or so.
const STATISTICS_MOMENTUM: f32 = 0.99;

/// What a step found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepOutcome {
    /// Loss in nats per output frame.
    pub loss: f32,
    /// Utterances whose target does not fit their frames: left out of loss and gradient.
    pub infeasible: usize,
}

/// A student's training graph before its outputs are named.
pub(super) struct TrainGraph {
    pub net: Net,
    /// Loss of the row, `[]`.
    pub loss: Value,
    /// Losses of the utterances, `[most]`.
    pub losses: Value,
    /// The parameters that are trained.
    pub trained: Vec<Trained>,
    /// Most symbols of a target.
    pub longest: usize,
}

/// A trained parameter in the graph.
pub(super) struct Trained {
    pub spec: ParameterSpec,
    pub value: Value,
    pub gradient: Value,
}

impl TrainGraph {
    /// Forward, loss and backward for rows of `packer`; parameters that `start` freezes get no gradient.
    pub fn new(
        student: &Student,
        packer: &Packer,
        longest: usize,
        start: Option<&StartConfig>,
    ) -> Result<Self> {
        let longest = longest.max(1);
        let mut net = Net::new("train_step", Form::Train);
        let built = student.build(&mut net, packer.width)?;
        let segments = net.graph.input("segments", DType::I32, &[packer.most, 3])?;
        let targets = net
            .graph
            .input("targets", DType::I32, &[packer.most, longest])?;
        let weights = net.graph.input("weights", DType::F32, &[packer.most])?;
        let ctc = net
            .graph
            .ctc_loss(built.logits, segments, targets, weights, 0)?;
        let frozen = |name: &str| start.is_some_and(|start| start.freezes(name));
        let wrt: Vec<Value> = net
            .graph
            .parameters()
            .iter()
            .copied()
            .filter(|&value| !frozen(net.graph.value_name(value)))
            .collect();
        check_freeze(&net, start, wrt.len())?;
        let found = gradients(&mut net.graph, ctc.total, &wrt)?;
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
        Ok(Self {
            net,
            loss: ctc.total,
            losses: ctc.losses,
            trained,
            longest,
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

/// The compiled step of a student.
#[derive(Debug)]
pub struct TrainStep {
    executable: Executable,
    parameters: Vec<ParameterSpec>,
    statistics: Vec<Statistic>,
    longest: usize,
    seeded: bool,
}

impl TrainStep {
    /// Declares the student's parameters and statistics in `store` (initialized from `seed` where they are not
    /// there yet) and compiles its step for rows of `packer`; `longest` is the longest target.
    pub fn new(
        engine: &Engine,
        student: &Student,
        packer: &Packer,
        longest: usize,
        store: &mut ParameterStore,
        seed: u64,
    ) -> Result<Self> {
        let graph = TrainGraph::new(student, packer, longest, None)?;
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
            trained,
            longest,
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

    /// Runs forward and backward over a row; gradients are then in [`TrainStep::gradient`].
    pub fn run(&mut self, row: &Row, seed: u64) -> Result<StepOutcome> {
        let seed = self.seeded.then_some(seed);
        fill(&mut self.executable, row, self.longest, seed)?;
        self.executable.run()?;
        Ok(outcome(
            row,
            self.executable.f32("loss")?[0],
            self.executable.f32("losses")?,
        ))
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

/// What a step over `row` found.
pub(super) fn outcome(row: &Row, loss: f32, losses: &[f32]) -> StepOutcome {
    let own = losses.iter().take(row.segments.len());
    StepOutcome {
        loss,
        infeasible: own.filter(|loss| loss.is_infinite()).count(),
    }
}

/// Inputs that are fed at every run, by name.
pub(super) trait Inputs {
    fn f32_mut(&mut self, name: &str) -> Result<&mut [f32]>;
    fn i32_mut(&mut self, name: &str) -> Result<&mut [i32]>;
    fn i64_mut(&mut self, name: &str) -> Result<&mut [i64]>;
}

macro_rules! inputs {
    ($of:ty) => {
        impl Inputs for $of {
            fn f32_mut(&mut self, name: &str) -> Result<&mut [f32]> {
                <$of>::f32_mut(self, name)
            }
            fn i32_mut(&mut self, name: &str) -> Result<&mut [i32]> {
                <$of>::i32_mut(self, name)
            }
            fn i64_mut(&mut self, name: &str) -> Result<&mut [i64]> {
                <$of>::i64_mut(self, name)
            }
        }
    };
}

inputs!(Executable);
inputs!(Resident);

/// Copies a row into the inputs of a training graph; every output frame weighs the same.
pub(super) fn fill(
    inputs: &mut impl Inputs,
    row: &Row,
    longest: usize,
    seed: Option<u64>,
) -> Result<()> {
    if let Some(seed) = seed {
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

/// A student's evaluation over packed rows, batch norm folded.
#[derive(Debug)]
pub struct EvaluationStep {
    executable: Executable,
    vocabulary: usize,
    width: usize,
}

impl EvaluationStep {
    /// Compiles the evaluation form; `folded` must hold its parameters (see [`Student::fold`]).
    pub fn new(
        engine: &Engine,
        student: &Student,
        packer: &Packer,
        folded: &ParameterStore,
    ) -> Result<Self> {
        let mut net = Net::new("evaluation", Form::Evaluate);
        let built = student.build(&mut net, packer.width)?;
        net.graph.output("logits", built.logits)?;
        Ok(Self {
            executable: Executable::new(engine, &net.graph, folded)?,
            vocabulary: student.vocabulary(),
            width: packer.width / packer.stride,
        })
    }

    /// Logits of a row: one `[frames, V]` array a segment.
    pub fn run(&mut self, row: &Row) -> Result<Vec<ndarray::Array2<f32>>> {
        self.executable
            .f32_mut("features")?
            .copy_from_slice(&row.features);
        self.executable.f32_mut("mask")?.copy_from_slice(&row.mask);
        self.executable.run()?;
        let logits = self.executable.f32("logits")?;
        Ok(row
            .segments
            .iter()
            .map(|segment| {
                ndarray::Array2::from_shape_fn((segment.frames, self.vocabulary), |(t, v)| {
                    logits[v * self.width + segment.start + t]
                })
            })
            .collect())
    }
}
