//! One training step as one graph: forward, CTC, backward; and the buffers around it.
//!
//! Inputs `features [1, F, 1, N]` (`[1, C, H, N]` for images), `mask [1, 1, 1, N / stride]`, `segments`, `targets`, `weights` (see
//! [`crate::graph::custom`]), `seed`; outputs `loss`, `losses`, `grad.NAME` for every parameter and the batch
//! statistics. The update is [`crate::optim`]'s, in place on the same buffers.

use super::pack::{Packer, Row};
use crate::graph::exec::{Engine, Executable, ParameterStore};
use crate::graph::{DType, gradients};
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
        let wrt = net.graph.parameters().to_vec();
        let found = gradients(&mut net.graph, ctc.total, &wrt)?;
        for (parameter, gradient) in wrt.iter().zip(found) {
            let name = format!("grad.{}", net.graph.value_name(*parameter));
            net.graph.output(&name, gradient)?;
        }
        net.graph.output("loss", ctc.total)?;
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

    /// Runs forward and backward over a row; gradients are then in [`TrainStep::gradient`].
    pub fn run(&mut self, row: &Row, seed: u64) -> Result<StepOutcome> {
        fill(&mut self.executable, row, self.longest)?;
        if self.seeded {
            self.executable.i64_mut("seed")?[0] = seed as i64;
        }
        let weight = 1.0 / row.frames().max(1) as f32;
        let weights = self.executable.f32_mut("weights")?;
        weights.fill(0.0);
        weights[..row.segments.len()].fill(weight);
        self.executable.run()?;
        let losses = &self.executable.f32("losses")?[..row.segments.len()];
        Ok(StepOutcome {
            loss: self.executable.f32("loss")?[0],
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
