//! What is learned and how it is updated: parameters, running statistics, moments, averages; on the host with fused
//! loops, or on a device as part of the step's graph.
//!
//! A group of `accumulate` batches makes one update with the mean of their gradients. A batch whose loss or gradient is
//! not finite is left out of its group; a group with no good batch makes no update.

use super::device::DeviceStep;
use super::host::HostStep;
use super::pack::{Packer, Row};
use super::step::TrainGraph;
use super::supervise::Supervision;
use crate::config::Recipe;
use crate::graph::exec::{Engine, ParameterStore};
use crate::network::Network;
use crate::nn::{ParameterSpec, Statistic};
use crate::optim::{Moments, UpdateRule, average_into};
use crate::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Tensors by name: shape and elements.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// What a batch found, and the update it closed.
#[derive(Debug, Clone, PartialEq)]
pub struct Learned {
    /// Loss in nats per output frame.
    pub loss: f32,
    /// Its parts by name, before their weights, where there is more than the CTC loss.
    pub parts: BTreeMap<String, f32>,
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
    state: State,
    parameters: Vec<String>,
    statistics: Vec<Statistic>,
    averaged_statistics: BTreeMap<String, Vec<f32>>,
    seat: Seat,
}

/// What an update changes, and the group of batches under way.
#[derive(Debug)]
pub(super) struct State {
    pub store: ParameterStore,
    /// The parameters that are trained.
    pub trained: Vec<ParameterSpec>,
    pub moments: BTreeMap<String, Moments>,
    pub rule: UpdateRule,
    /// Largest gradient norm.
    pub clip: f32,
    /// Batches of a whole group.
    pub accumulate: usize,
    /// Batches of the group so far, and the finite ones among them.
    pub batches: usize,
    pub good: usize,
}

/// Where the update is computed.
#[derive(Debug)]
enum Seat {
    Host(Box<HostStep>),
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
        network: &Arc<dyn Network>,
        supervision: Option<Arc<dyn Supervision>>,
        packer: &Packer,
        longest: usize,
        prepare: impl FnOnce(&mut ParameterStore) -> Result<()>,
    ) -> Result<Self> {
        let config = &recipe.train;
        let start = recipe.start_from.as_ref();
        let graph = TrainGraph::new(network, supervision, packer, longest, start)?;
        let mut store = ParameterStore::new(engine);
        graph.declare(&mut store, recipe.seed)?;
        prepare(&mut store)?;
        let rule = UpdateRule::new(config);
        let parameters = graph.net.parameters().iter().map(|p| p.name.clone());
        let parameters = parameters.collect();
        let statistics = graph.net.statistics().to_vec();
        let trained = graph.trained.iter().map(|t| t.spec.clone()).collect();
        let seat = match &rule {
            UpdateRule::AdamW(adamw) if engine.on_device() => {
                let (clip, accumulate) = (config.clip_norm, config.accumulate);
                let device = DeviceStep::new(engine, graph, adamw.settings, clip, accumulate)?;
                Seat::Device(Box::new(device))
            }
            UpdateRule::NovoGrad { .. } if engine.on_device() => {
                return Err(Error::new(
                    ErrorKind::Recipe,
                    "train.optimizer = \"novograd\" runs on the CPU; on a GPU take \"adamw\"",
                ));
            }
            _ => Seat::Host(Box::new(HostStep::new(engine, graph, &store)?)),
        };
        let mut learner = Self {
            parameters,
            statistics,
            averaged_statistics: BTreeMap::new(),
            seat,
            state: State {
                store,
                trained,
                moments: BTreeMap::new(),
                rule,
                clip: config.clip_norm,
                accumulate: config.accumulate,
                batches: 0,
                good: 0,
            },
        };
        learner.begin()?;
        Ok(learner)
    }

    /// Moments and averages of the weights as they are.
    fn begin(&mut self) -> Result<()> {
        for spec in &self.state.trained {
            let moments = self.state.rule.moments(self.state.store.get(&spec.name)?);
            self.state.moments.insert(spec.name.clone(), moments);
        }
        for statistic in &self.statistics {
            let start = self.state.store.get(&statistic.name)?.to_vec();
            self.averaged_statistics
                .insert(statistic.name.clone(), start);
        }
        self.load_device()
    }

    fn load_device(&mut self) -> Result<()> {
        match &mut self.seat {
            Seat::Device(device) => {
                device.load(&self.state.store, &self.parameters, &self.state.moments)
            }
            Seat::Host(_) => Ok(()),
        }
    }

    /// Brings weights and moments to the host, from where [`Learner::averaged`] and [`Learner::tensors`] take them.
    pub fn fetch(&mut self) -> Result<()> {
        match &self.seat {
            Seat::Device(device) => device.fetch(&mut self.state.store, &mut self.state.moments),
            Seat::Host(_) => Ok(()),
        }
    }

    /// Updates made so far.
    pub fn updates(&self) -> u64 {
        self.state.rule.updates()
    }

    /// Forward and backward over a batch, when `progress` of the run, in [0, 1], is over; with a `rate` the batch is the
    /// last of its group and the update is made.
    ///
    /// # Errors
    /// What running reports.
    pub fn learn(
        &mut self,
        row: &Row,
        seed: u64,
        progress: f64,
        rate: Option<f32>,
    ) -> Result<Learned> {
        let learned = match &mut self.seat {
            Seat::Host(step) => step.learn(&mut self.state, row, seed, progress, rate)?,
            Seat::Device(step) => step.learn(&mut self.state, row, seed, progress, rate)?,
        };
        let state = &mut self.state;
        state.batches += 1;
        if rate.is_some() {
            (state.batches, state.good) = (0, 0);
        }
        if learned.updated.is_some() {
            let keep = state.rule.keep();
            for (name, average) in &mut self.averaged_statistics {
                average_into(average, state.store.get(name)?, keep);
            }
        }
        Ok(learned)
    }

    /// Number of parameters, those that are frozen included, running statistics left out.
    pub fn parameters(&self) -> usize {
        let statistics: usize = self.statistics.iter().map(|s| s.channels).sum();
        self.state.store.elements() - statistics
    }

    /// Averaged weights and statistics by name, as they are judged and exported (those of frozen parameters are
    /// themselves).
    pub fn averaged(&self, name: &str) -> Result<&[f32]> {
        let average = self.state.moments.get(name).map(|moments| &moments.average);
        match average.or_else(|| self.averaged_statistics.get(name)) {
            Some(average) => Ok(average),
            None => self.state.store.get(name),
        }
    }

    /// All that is judged and exported.
    pub fn averages(&self) -> Result<Tensors> {
        self.state
            .store
            .names()
            .iter()
            .map(|name| {
                let value = (self.state.store.shape(name)?, self.averaged(name)?.to_vec());
                Ok((name.clone(), value))
            })
            .collect()
    }

    /// Everything a run needs to go on: weights, averages, moments.
    pub fn tensors(&self) -> Result<Tensors> {
        let mut tensors = Tensors::new();
        for name in self.state.store.names() {
            let shape = self.state.store.shape(name)?;
            let mut put = |prefix: &str, data: &[f32]| {
                let shape = if data.len() == shape.iter().product::<usize>() {
                    shape.clone()
                } else {
                    vec![data.len()]
                };
                tensors.insert(format!("{prefix}/{name}"), (shape, data.to_vec()));
            };
            put("weights", self.state.store.get(name)?);
            if let Some(moments) = self.state.moments.get(name) {
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
        for name in self.state.store.names().to_vec() {
            let shape = self.state.store.shape(&name)?;
            let elements = shape.iter().product();
            let weights = take("weights", &name, elements)?;
            self.state.store.insert(&name, &shape, &weights)?;
            let average = take("average", &name, elements)?;
            if let Some(moments) = self.state.moments.get_mut(&name) {
                moments.first = take("first", &name, moments.first.len())?;
                moments.second = take("second", &name, moments.second.len())?;
                moments.average = average;
            } else if let Some(statistic) = self.averaged_statistics.get_mut(&name) {
                *statistic = average;
            }
        }
        self.state.rule.set_updates(updates);
        self.load_device()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distill::Distillation;
    use crate::graph::testing::{engine, numbers};
    use crate::student::speech::SpeechStudent;
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

    fn student(recipe: &Recipe) -> Arc<dyn Network> {
        Arc::new(SpeechStudent {
            features: 5,
            vocabulary: 4,
            config: recipe.model.clone(),
        })
    }

    fn supervision(recipe: &Recipe) -> Option<Arc<dyn Supervision>> {
        let config = recipe.distill.as_ref()?;
        let distillation = Distillation::new(config, None, recipe.model.delay_frames);
        Some(Arc::new(distillation.unwrap()))
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
        let packer = packer(recipe, &*student);
        let supervision = supervision(recipe);
        let learner = Learner::new(&engine(), recipe, &student, supervision, &packer, 3, |_| {
            Ok(())
        });
        (learner.unwrap(), packer)
    }

    /// The same learner with its update in the graph, as on a device.
    fn in_graph(recipe: &Recipe) -> Learner {
        let (mut learner, packer) = learner(recipe);
        let UpdateRule::AdamW(adamw) = &learner.state.rule else {
            panic!("only AdamW has a graph");
        };
        let (student, supervision) = (student(recipe), supervision(recipe));
        let start = recipe.start_from.as_ref();
        let graph = TrainGraph::new(&student, supervision, &packer, 3, start).unwrap();
        let device = DeviceStep::new(
            &engine(),
            graph,
            adamw.settings,
            learner.state.clip,
            learner.state.accumulate,
        );
        learner.seat = Seat::Device(Box::new(device.unwrap()));
        learner.load_device().unwrap();
        learner
    }

    #[test]
    fn the_update_in_the_graph_equals_the_loop_on_the_host() {
        let distill = "distill={ objectives = [{ kind = \"intermediate-ctc\", layer = 1, final_weight = 0 }] }";
        for (accumulate, freeze, more) in [
            (1, "[]", "seed=1"),
            (3, "[]", "seed=1"),
            (2, "[\"stem\"]", "seed=1"),
            (1, "[]", distill),
            (2, "[]", distill),
        ] {
            let recipe = recipe(&[
                &format!("train.accumulate={accumulate}"),
                &format!("start_from={{ model = \"x\", freeze = {freeze} }}"),
                more,
            ]);
            let (mut host, packer) = learner(&recipe);
            let mut device = in_graph(&recipe);
            for index in 0..12 {
                // A group's last batch, one in its middle, and a whole group of one are poisoned in turn.
                let row = row(&packer, index, index == 3 || index == 5);
                let rate = (index % accumulate == accumulate - 1).then_some(0.01);
                let progress = index as f64 / 12.0;
                let a = host.learn(&row, index as u64, progress, rate).unwrap();
                let b = device.learn(&row, index as u64, progress, rate).unwrap();
                assert_eq!(a.is_finite(), b.is_finite(), "batch {index}");
                assert_eq!(a.parts.len(), if more == distill { 2 } else { 0 });
                for (name, part) in a.parts.iter().filter(|(_, part)| part.is_finite()) {
                    assert!(
                        (part - b.parts[name]).abs() < 1e-4,
                        "{name} of batch {index}"
                    );
                }
                if let (true, true) = (a.is_finite(), more == distill) {
                    // The second part's weight falls from 1 to 0 over the run.
                    let own = a.parts["part.ctc"]
                        + (1.0 - progress as f32) * a.parts["part.0.intermediate-ctc"];
                    assert!((a.loss - own).abs() < 1e-4, "{} of {:?}", a.loss, a.parts);
                }
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
                learner.learn(&row, 5, 0.0, Some(0.01)).unwrap();
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
            one.learn(&row, 0, 0.0, Some(0.01)).unwrap();
            // The last group is cut short, as at the end of an epoch.
            let batches = if index == 2 { 3 } else { 4 };
            for batch in 0..batches {
                let rate = (batch + 1 == batches).then_some(0.01);
                four.learn(&row, 0, 0.0, rate).unwrap();
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
            let packer = packer(&recipe, &*student);
            let error = Learner::new(&engine(), &recipe, &student, None, &packer, 3, |_| Ok(()))
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Recipe);
            assert!(error.to_string().contains(message), "{error}");
        }
    }
}
