//! What is learned and how it is updated: parameters, running statistics, moments, averages; on the host with fused
//! loops, or on a device as part of the step's graph.
//!
//! A group of `accumulate` batches makes one update with the mean of their gradients. A batch whose loss or gradient is
//! not finite is left out of its group; a group with no good batch makes no update.

use super::device::DeviceStep;
use super::pack::{Packer, Row};
use super::step::{TrainGraph, TrainStep};
use crate::config::{Optimizer, Recipe};
use crate::graph::exec::{Engine, ParameterStore};
use crate::nn::{ParameterSpec, Statistic};
use crate::optim::{Accumulator, Moments, UpdateRule, average_into, global_norm};
use crate::student::speech::SpeechStudent;
use crate::{Error, ErrorKind, Result};
use std::collections::BTreeMap;

/// Tensors by name: shape and elements.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// What a batch found, and the update it closed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Learned {
    /// Loss in nats per output frame.
    pub loss: f32,
    /// Gradient norm of the batch alone.
    pub batch_norm: f32,
    /// Whether the batch norms' statistics are numbers.
    pub finite_statistics: bool,
    /// Utterances whose target does not fit their frames.
    pub infeasible: usize,
    /// Gradient norm of the group before clipping, where an update was made.
    pub updated: Option<f32>,
}

impl Learned {
    /// Whether loss, gradient and statistics are numbers.
    pub fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.batch_norm.is_finite() && self.finite_statistics
    }
}

/// Weights under training.
#[derive(Debug)]
pub struct Learner {
    store: ParameterStore,
    parameters: Vec<String>,
    trained: Vec<ParameterSpec>,
    statistics: Vec<Statistic>,
    rule: UpdateRule,
    moments: BTreeMap<String, Moments>,
    averaged_statistics: BTreeMap<String, Vec<f32>>,
    clip: f32,
    accumulate: usize,
    /// Batches of the group under way, and the finite ones among them.
    batches: usize,
    good: usize,
    seat: Seat,
}

/// Where the update is computed.
#[derive(Debug)]
enum Seat {
    Host {
        step: Box<TrainStep>,
        sums: Accumulator,
    },
    Device(Box<DeviceStep>),
}

impl Learner {
    /// Initializes and compiles; `prepare` may change the initial weights before anything is derived from them.
    ///
    /// # Errors
    /// What compiling reports; [`ErrorKind::Recipe`] for an optimizer that the device does not have, and for frozen
    /// layers that do not exist.
    pub fn new(
        engine: &Engine,
        recipe: &Recipe,
        student: &SpeechStudent,
        packer: &Packer,
        longest: usize,
        prepare: impl FnOnce(&mut ParameterStore) -> Result<()>,
    ) -> Result<Self> {
        let config = &recipe.train;
        let graph = TrainGraph::new(student, packer, longest, recipe.start_from.as_ref())?;
        let mut store = ParameterStore::new(engine);
        graph.declare(&mut store, recipe.seed)?;
        prepare(&mut store)?;
        let rule = UpdateRule::new(config);
        let names = graph.net.parameters().iter().map(|p| p.name.clone());
        let mut learner = Self {
            parameters: names.collect(),
            trained: graph.trained.iter().map(|t| t.spec.clone()).collect(),
            statistics: graph.net.statistics().to_vec(),
            moments: BTreeMap::new(),
            averaged_statistics: BTreeMap::new(),
            clip: config.clip_norm,
            accumulate: config.accumulate,
            batches: 0,
            good: 0,
            seat: match &rule {
                UpdateRule::AdamW(adamw) if engine.on_device() => {
                    Seat::Device(Box::new(DeviceStep::new(
                        engine,
                        graph,
                        adamw.settings,
                        config.clip_norm,
                        config.accumulate,
                    )?))
                }
                UpdateRule::NovoGrad { .. } if engine.on_device() => {
                    return Err(Error::new(
                        ErrorKind::Recipe,
                        format!(
                            "train.optimizer = {:?} runs on the CPU; on a GPU take \"adamw\"",
                            Optimizer::NovoGrad
                        ),
                    ));
                }
                _ => Seat::Host {
                    step: Box::new(TrainStep::compile(engine, graph, &store)?),
                    sums: Accumulator::new(),
                },
            },
            rule,
            store,
        };
        learner.begin()?;
        Ok(learner)
    }

    /// Moments and averages of the weights as they are.
    fn begin(&mut self) -> Result<()> {
        for spec in &self.trained {
            let moments = self.rule.moments(self.store.get(&spec.name)?);
            self.moments.insert(spec.name.clone(), moments);
        }
        for statistic in &self.statistics {
            let start = self.store.get(&statistic.name)?.to_vec();
            self.averaged_statistics
                .insert(statistic.name.clone(), start);
        }
        self.load_device()
    }

    fn load_device(&mut self) -> Result<()> {
        match &mut self.seat {
            Seat::Device(device) => device.load(&self.store, &self.parameters, &self.moments),
            Seat::Host { .. } => Ok(()),
        }
    }

    /// Brings weights and moments to the host, from where [`Learner::averaged`] and [`Learner::tensors`] take them.
    pub fn fetch(&mut self) -> Result<()> {
        match &self.seat {
            Seat::Device(device) => device.fetch(&mut self.store, &mut self.moments),
            Seat::Host { .. } => Ok(()),
        }
    }

    /// Updates made so far.
    pub fn updates(&self) -> u64 {
        self.rule.updates()
    }

    /// Forward and backward over a batch; with a `rate` the batch is the last of its group and the update is made.
    ///
    /// # Errors
    /// What running reports.
    pub fn learn(&mut self, row: &Row, seed: u64, rate: Option<f32>) -> Result<Learned> {
        let fresh = self.batches == 0;
        self.batches += 1;
        let learned = match &mut self.seat {
            Seat::Host { step, sums } => {
                let found = step.run(row, seed)?;
                let gradients = gradients(step, &self.trained)?;
                let batch_norm = global_norm(gradients.iter().copied());
                let mut learned = Learned {
                    loss: found.loss,
                    batch_norm,
                    finite_statistics: step.has_finite_statistics()?,
                    infeasible: found.infeasible,
                    updated: None,
                };
                if learned.is_finite() {
                    self.good += 1;
                    if self.accumulate > 1 {
                        sums.add(gradients.iter().copied(), 1.0 / self.accumulate as f32)?;
                    }
                    step.update_statistics(&mut self.store)?;
                }
                if let Some(rate) = rate.filter(|_| self.good > 0) {
                    // Each batch weighs one part of a whole group; a group with fewer is scaled up.
                    let factor = if self.accumulate > 1 {
                        self.accumulate as f32 / self.good as f32
                    } else {
                        1.0
                    };
                    let gradients = if self.accumulate > 1 {
                        sums.sums().collect()
                    } else {
                        gradients
                    };
                    let norm = factor * global_norm(gradients.iter().copied());
                    if norm.is_finite() {
                        let scale = factor * (self.clip / norm.max(f32::MIN_POSITIVE)).min(1.0);
                        self.rule.begin();
                        for (spec, gradient) in self.trained.iter().zip(gradients) {
                            if let Some(moments) = self.moments.get_mut(&spec.name) {
                                let weights = self.store.get_mut(&spec.name)?;
                                self.rule.update(
                                    weights,
                                    gradient,
                                    moments,
                                    rate,
                                    scale,
                                    spec.decays,
                                );
                            }
                        }
                        learned.updated = Some(norm);
                    }
                }
                if rate.is_some() {
                    sums.clear();
                }
                learned
            }
            Seat::Device(device) => {
                let mut next = self.rule.clone();
                next.begin();
                let scalars = match (&next, rate) {
                    (UpdateRule::AdamW(adamw), Some(rate)) => Some(adamw.scalars(rate)),
                    _ => None,
                };
                let found = device.run(row, seed, fresh, scalars)?;
                let mut learned = Learned {
                    loss: found.found.loss,
                    batch_norm: found.batch_norm,
                    finite_statistics: device.has_finite_statistics()?,
                    infeasible: found.found.infeasible,
                    updated: None,
                };
                if learned.is_finite() {
                    self.good += 1;
                    device.update_statistics(&mut self.store)?;
                }
                if rate.is_some() && self.good > 0 && found.norm.is_finite() {
                    self.rule = next;
                    learned.updated = Some(found.norm);
                }
                learned
            }
        };
        if rate.is_some() {
            (self.batches, self.good) = (0, 0);
        }
        if learned.updated.is_some() {
            let keep = self.rule.keep();
            for (name, average) in &mut self.averaged_statistics {
                average_into(average, self.store.get(name)?, keep);
            }
        }
        Ok(learned)
    }

    /// Number of parameters, those that are frozen included, running statistics left out.
    pub fn parameters(&self) -> usize {
        let statistics: usize = self.statistics.iter().map(|s| s.channels).sum();
        self.store.elements() - statistics
    }

    /// Averaged weights and statistics by name, as they are judged and exported (those of frozen parameters are
    /// themselves).
    pub fn averaged(&self, name: &str) -> Result<&[f32]> {
        let average = self.moments.get(name).map(|moments| &moments.average);
        match average.or_else(|| self.averaged_statistics.get(name)) {
            Some(average) => Ok(average),
            None => self.store.get(name),
        }
    }

    /// All that is judged and exported.
    pub fn averages(&self) -> Result<Tensors> {
        self.store
            .names()
            .iter()
            .map(|name| {
                let value = (self.store.shape(name)?, self.averaged(name)?.to_vec());
                Ok((name.clone(), value))
            })
            .collect()
    }

    /// Everything a run needs to go on: weights, averages, moments.
    pub fn tensors(&self) -> Result<Tensors> {
        let mut tensors = Tensors::new();
        for name in self.store.names() {
            let shape = self.store.shape(name)?;
            let mut put = |prefix: &str, data: &[f32]| {
                let shape = if data.len() == shape.iter().product::<usize>() {
                    shape.clone()
                } else {
                    vec![data.len()]
                };
                tensors.insert(format!("{prefix}/{name}"), (shape, data.to_vec()));
            };
            put("weights", self.store.get(name)?);
            if let Some(moments) = self.moments.get(name) {
                put("first", &moments.first);
                put("second", &moments.second);
            }
            put("average", self.averaged(name)?);
        }
        Ok(tensors)
    }

    /// Goes on from what [`Learner::tensors`] gave after `updates` updates.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] where a tensor is missing or has another shape.
    pub fn restore(&mut self, mut tensors: Tensors, updates: u64) -> Result<()> {
        let refuse = |what: String| Error::new(ErrorKind::Checkpoint, what);
        let mut take = |prefix: &str, name: &str, elements: usize| match tensors
            .remove(&format!("{prefix}/{name}"))
        {
            Some((_, data)) if data.len() == elements => Ok(data),
            Some((found, _)) => Err(refuse(format!(
                "{prefix}/{name} has shape {found:?}, expected {elements} numbers"
            ))),
            None => Err(refuse(format!("{prefix}/{name} is missing"))),
        };
        for name in self.store.names().to_vec() {
            let shape = self.store.shape(&name)?;
            let elements = shape.iter().product();
            let weights = take("weights", &name, elements)?;
            self.store.insert(&name, &shape, &weights)?;
            let average = take("average", &name, elements)?;
            if let Some(moments) = self.moments.get_mut(&name) {
                moments.first = take("first", &name, moments.first.len())?;
                moments.second = take("second", &name, moments.second.len())?;
                moments.average = average;
            } else if let Some(statistic) = self.averaged_statistics.get_mut(&name) {
                *statistic = average;
            }
        }
        self.rule.set_updates(updates);
        self.load_device()
    }
}

fn gradients<'a>(step: &'a TrainStep, trained: &[ParameterSpec]) -> Result<Vec<&'a [f32]>> {
    trained
        .iter()
        .map(|spec| step.gradient(&spec.name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::testing::{engine, numbers};
    use crate::train::pack::Utterance;
    use crate::train::run::packer;
    use ndarray::Array2;

    fn recipe(overrides: &[&str]) -> Recipe {
        let text = "name = \"toy\"\ntask = \"speech\"\nlicense = \"MIT\"\n[data]\n\
                    train = [{ manifest = \"m.jsonl\" }]\n[features]\nmels = 5\n\
                    [model]\nchannels = 6\nblocks = 1\nkernel = 3\ndilations = [1]\ndelay_frames = 2\ndropout = 0.2\n\
                    [train]\nbatch_frames = 96\nmax_batch = 4\nema = 0.9\nclip_norm = 0.5\n";
        Recipe::parse(text, overrides).unwrap()
    }

    fn student(recipe: &Recipe) -> SpeechStudent {
        SpeechStudent {
            features: 5,
            vocabulary: 4,
            config: recipe.model.clone(),
        }
    }

    fn row(packer: &Packer, salt: usize, poison: bool) -> Row {
        let mut row = packer.row();
        for index in 0..2 {
            let mut data = numbers(5 * 30, salt * 2 + index);
            if poison {
                data[7] = f32::NAN;
            }
            let features = Array2::from_shape_vec((5, 30), data).unwrap();
            let utterance = Utterance {
                targets: vec![1 + (salt % 3) as u32, 2, 1],
                name: format!("{salt}-{index}"),
                index,
            };
            packer.place(&mut row, features.view(), utterance).unwrap();
        }
        row
    }

    fn learner(recipe: &Recipe) -> (Learner, Packer) {
        let student = student(recipe);
        let packer = packer(recipe, &student);
        let learner = Learner::new(&engine(), recipe, &student, &packer, 3, |_| Ok(()));
        (learner.unwrap(), packer)
    }

    /// The same learner with its update in the graph, as on a device.
    fn in_graph(recipe: &Recipe) -> Learner {
        let (mut learner, packer) = learner(recipe);
        let UpdateRule::AdamW(adamw) = &learner.rule else {
            panic!("only AdamW has a graph");
        };
        let graph =
            TrainGraph::new(&student(recipe), &packer, 3, recipe.start_from.as_ref()).unwrap();
        let device = DeviceStep::new(
            &engine(),
            graph,
            adamw.settings,
            learner.clip,
            learner.accumulate,
        );
        learner.seat = Seat::Device(Box::new(device.unwrap()));
        learner.load_device().unwrap();
        learner
    }

    #[test]
    fn the_update_in_the_graph_equals_the_loop_on_the_host() {
        for (accumulate, freeze) in [(1, "[]"), (3, "[]"), (2, "[\"stem\"]")] {
            let recipe = recipe(&[
                &format!("train.accumulate={accumulate}"),
                &format!("start_from={{ model = \"x\", freeze = {freeze} }}"),
            ]);
            let (mut host, packer) = learner(&recipe);
            let mut device = in_graph(&recipe);
            for index in 0..12 {
                // A group's last batch, one in its middle, and a whole group of one are poisoned in turn.
                let row = row(&packer, index, index == 3 || index == 5);
                let rate = (index % accumulate == accumulate - 1).then_some(0.01);
                let a = host.learn(&row, index as u64, rate).unwrap();
                let b = device.learn(&row, index as u64, rate).unwrap();
                assert_eq!(a.is_finite(), b.is_finite(), "batch {index}");
                assert_eq!(a.is_finite(), index != 3 && index != 5);
                assert_eq!(a.updated.is_some(), b.updated.is_some(), "batch {index}");
                if let (Some(a), Some(b)) = (a.updated, b.updated) {
                    assert!((a - b).abs() < 1e-4 * a, "batch {index}: norm {a}, {b}");
                }
            }
            device.fetch().unwrap();
            assert_eq!(host.updates(), device.updates());
            let (a, b) = (host.tensors().unwrap(), device.tensors().unwrap());
            assert_eq!(a.len(), b.len());
            for (name, (_, a)) in &a {
                for (a, b) in a.iter().zip(&b[name].1) {
                    assert!((a - b).abs() < 2e-5, "{name}: {a}, on the device {b}");
                }
            }
            let frozen = freeze != "[]";
            assert_eq!(a.contains_key("first/stem.weight"), !frozen);
            let initial = learner(&recipe).0.tensors().unwrap();
            assert_eq!(
                initial["weights/stem.weight"] == a["weights/stem.weight"],
                frozen
            );
            assert_ne!(initial["weights/head.weight"], a["weights/head.weight"]);
            // A restored learner goes on as the one it was taken from.
            let mut again = in_graph(&recipe);
            again
                .restore(device.tensors().unwrap(), device.updates())
                .unwrap();
            let row = row(&packer, 20, false);
            for learner in [&mut again, &mut device] {
                learner.learn(&row, 5, Some(0.01)).unwrap();
                learner.fetch().unwrap();
            }
            assert_eq!(again.tensors().unwrap(), device.tensors().unwrap());
        }
    }

    #[test]
    fn a_group_of_equal_batches_is_one_batch() {
        let plain = recipe(&["model.dropout=0"]);
        let grouped = recipe(&["model.dropout=0", "train.accumulate=4"]);
        let (mut one, packer) = learner(&plain);
        let (mut four, _) = learner(&grouped);
        for index in 0..3 {
            let row = row(&packer, index, false);
            one.learn(&row, 0, Some(0.01)).unwrap();
            // The last group is cut short, as at the end of an epoch.
            let batches = if index == 2 { 3 } else { 4 };
            for batch in 0..batches {
                let rate = (batch + 1 == batches).then_some(0.01);
                four.learn(&row, 0, rate).unwrap();
            }
        }
        let (a, b) = (one.tensors().unwrap(), four.tensors().unwrap());
        for (name, (_, a)) in &a {
            // Running statistics see every batch and so move further.
            if !name.contains("running") {
                for (a, b) in a.iter().zip(&b[name].1) {
                    assert!((a - b).abs() < 1e-5, "{name}: {a}, {b}");
                }
            }
        }
    }

    #[test]
    fn frozen_layers_must_exist_and_leave_something() {
        for (freeze, message) in [
            ("[\"stim\"]", "stim"),
            ("[\"stem\", \"block\", \"widen\", \"head\"]", "nothing"),
        ] {
            let recipe = recipe(&[&format!(
                "start_from={{ model = \"x\", freeze = {freeze} }}"
            )]);
            let student = student(&recipe);
            let packer = packer(&recipe, &student);
            let error =
                Learner::new(&engine(), &recipe, &student, &packer, 3, |_| Ok(())).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Recipe);
            assert!(error.to_string().contains(message), "{error}");
        }
    }
}
