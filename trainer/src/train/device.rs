//! One training step with its update as one graph, for devices with memory of their own: parameters, moments and
//! averages are carried from run to run ([`Resident`]) and come to the host when they are judged or saved.
//!
//! Beside the inputs of [`TrainStep`](super::step::TrainStep) the graph takes AdamW's scalars and `limit [1]`: the
//! largest number where the update is made, -1 where the batch only adds to the sum of its group. Every tensor passes a
//! gate `limit > |loss| + norm + |sums of batch statistics|`, which NaN and infinity close too. With accumulation it carries `sum.NAME` and the
//! count of batches in it; `fresh [1]` is 0 for the first batch of a group, which drops the sums before it.

use super::learner::{Learned, State};
use super::pack::Row;
use super::step::{Feeds, TrainGraph, Trained, finite_statistics, follow};
use crate::Result;
use crate::graph::exec::{Engine, ParameterStore, Resident};
use crate::graph::{DType, Graph, Unary, Value};
use crate::nn::Statistic;
use crate::optim::{AdamWGraph, AdamWSettings, Moments, UpdateRule, Updated};
use std::collections::BTreeMap;

/// What the optimizer keeps, by prefix of the tensors' names.
const KEPT: [&str; 3] = ["first", "second", "average"];

/// A compiled step that updates what it carries.
#[derive(Debug)]
pub(super) struct DeviceStep {
    resident: Resident,
    trained: Vec<String>,
    statistics: Vec<Statistic>,
    feeds: Feeds,
    accumulates: bool,
}

/// The gradient an update takes, and what tells whether it may be made.
struct Gathered {
    /// Mean gradients of the group, in the order of the parameters.
    gradients: Vec<Value>,
    /// What must stay below the limit.
    guard: Value,
    norm: Value,
    batch_norm: Value,
}

impl DeviceStep {
    /// Adds clipping, accumulation and the update to a training graph and compiles it.
    pub fn new(
        engine: &Engine,
        graph: TrainGraph,
        settings: AdamWSettings,
        clip: f32,
        accumulate: usize,
    ) -> Result<Self> {
        let TrainGraph {
            mut net,
            loss,
            losses,
            measured,
            trained,
            feeds,
        } = graph;
        let g = &mut net.graph;
        let mut carried = Vec::new();
        let adamw = AdamWGraph::new(g, settings)?;
        let limit = g.input("limit", DType::F32, &[1])?;
        let size = size(g, loss, &measured)?;
        let gathered = if accumulate > 1 {
            accumulated(g, &trained, size, accumulate, &mut carried)?
        } else {
            single(g, &trained, size)?
        };
        let gate = g.greater(limit, gathered.guard)?;
        let scale = clipping(g, gathered.norm, clip)?;
        for (parameter, gradient) in trained.iter().zip(gathered.gradients) {
            let name = &parameter.spec.name;
            let mut kept = Vec::new();
            for prefix in KEPT {
                let input = format!("{prefix}.{name}");
                kept.push(g.input(&input, DType::F32, &parameter.spec.shape)?);
            }
            let old = Updated {
                weights: parameter.value,
                first: kept[0],
                second: kept[1],
                average: kept[2],
            };
            let gradient = g.mul(gradient, scale)?;
            let new = adamw.update(g, old, gradient, gate, parameter.spec.decays)?;
            carry(g, &mut carried, name, new.weights)?;
            for (prefix, value) in KEPT.into_iter().zip([new.first, new.second, new.average]) {
                carry(g, &mut carried, &format!("{prefix}.{name}"), value)?;
            }
        }
        g.output("loss", loss)?;
        g.output("losses", losses)?;
        g.output("norm", gathered.norm)?;
        g.output("batch_norm", gathered.batch_norm)?;
        Ok(Self {
            resident: Resident::new(engine, &net.graph, &carried)?,
            trained: trained.into_iter().map(|t| t.spec.name).collect(),
            statistics: net.statistics().to_vec(),
            feeds,
            accumulates: accumulate > 1,
        })
    }

    /// Learns from a batch; with a `rate` it is the last of its group, and the update is made where it is finite.
    pub fn learn(
        &mut self,
        state: &mut State,
        row: &Row,
        seed: u64,
        progress: f64,
        rate: Option<f32>,
    ) -> Result<Learned> {
        let mut next = state.rule.clone();
        next.begin();
        let scalars = match (&next, rate) {
            (UpdateRule::AdamW(adamw), Some(rate)) => Some(adamw.scalars(rate)),
            _ => None,
        };
        let inputs = &mut self.resident;
        self.feeds.fill(inputs, row, seed, progress)?;
        inputs.f32_mut("limit")?[0] = if scalars.is_some() { f32::MAX } else { -1.0 };
        if let Some(scalars) = scalars {
            for (name, value) in AdamWGraph::values(scalars) {
                inputs.f32_mut(name)?[0] = value;
            }
        }
        if self.accumulates {
            inputs.f32_mut("fresh")?[0] = if state.batches == 0 { 0.0 } else { 1.0 };
        }
        self.resident.run()?;
        let found = self.feeds.outcome(row, |name| self.resident.f32(name))?;
        let mut learned = Learned {
            loss: found.loss,
            parts: found.parts,
            batch_norm: self.resident.f32("batch_norm")?[0],
            finite_statistics: self.has_finite_statistics()?,
            infeasible: found.infeasible,
            updated: None,
        };
        if learned.is_finite() {
            state.good += 1;
            self.update_statistics(&mut state.store)?;
        }
        let norm = self.resident.f32("norm")?[0];
        if scalars.is_some() && state.good > 0 && norm.is_finite() {
            state.rule = next;
            learned.updated = Some(norm);
        }
        Ok(learned)
    }

    /// Whether the batch's statistics are numbers.
    fn has_finite_statistics(&self) -> Result<bool> {
        finite_statistics(&self.statistics, |name| self.resident.f32(name))
    }

    /// Moves the running statistics, which stay on the host, towards the batch's.
    fn update_statistics(&self, store: &mut ParameterStore) -> Result<()> {
        for statistic in &self.statistics {
            let batch = self.resident.f32(&statistic.output)?;
            follow(store.get_mut(&statistic.name)?, batch);
        }
        Ok(())
    }

    /// Takes weights and moments from the host. Parameters that are not trained go along.
    pub fn load(
        &mut self,
        store: &ParameterStore,
        parameters: &[String],
        moments: &BTreeMap<String, Moments>,
    ) -> Result<()> {
        for name in parameters {
            self.resident.write(name, store.get(name)?)?;
            if let Some(moments) = moments.get(name) {
                let kept = [&moments.first, &moments.second, &moments.average];
                for (prefix, values) in KEPT.into_iter().zip(kept) {
                    self.resident.write(&format!("{prefix}.{name}"), values)?;
                }
            }
        }
        Ok(())
    }

    /// Copies weights and moments to the host.
    pub fn fetch(
        &self,
        store: &mut ParameterStore,
        moments: &mut BTreeMap<String, Moments>,
    ) -> Result<()> {
        for name in &self.trained {
            let read = |prefix: &str| self.resident.read(&format!("{prefix}.{name}"));
            store
                .get_mut(name)?
                .copy_from_slice(&self.resident.read(name)?);
            moments.insert(
                name.clone(),
                Moments {
                    first: read(KEPT[0])?,
                    second: read(KEPT[1])?,
                    average: read(KEPT[2])?,
                },
            );
        }
        Ok(())
    }
}

/// Names `value` as what replaces the carried tensor `name`.
fn carry(
    g: &mut Graph,
    carried: &mut Vec<(String, String)>,
    name: &str,
    value: Value,
) -> Result<()> {
    let next = format!("next.{name}");
    g.output(&next, value)?;
    carried.push((name.to_owned(), next));
    Ok(())
}

/// Euclidean norm of all `gradients` together, `[1]`.
fn norm(g: &mut Graph, gradients: &[Value]) -> Result<Value> {
    let mut total: Option<Value> = None;
    for &gradient in gradients {
        let square = g.mul(gradient, gradient)?;
        let sum = g.sum_all(square)?;
        total = Some(match total {
            Some(total) => g.add(total, sum)?,
            None => sum,
        });
    }
    let total = match total {
        Some(total) => g.unary(Unary::Sqrt, total)?,
        None => g.scalar(0.0)?,
    };
    g.reshape(total, &[1])
}

/// `min(1, clip / norm)`, `[1]`.
fn clipping(g: &mut Graph, norm: Value, clip: f32) -> Result<Value> {
    let clip = g.constant(&[1], vec![clip])?;
    let one = g.constant(&[1], vec![1.0])?;
    let above = g.greater(norm, clip)?;
    let ratio = g.div(clip, norm)?;
    g.select(above, ratio, one)
}

/// `|loss| + |sums of batch statistics|`, `[]`: finite where all of them are.
fn size(g: &mut Graph, loss: Value, statistics: &[Value]) -> Result<Value> {
    let mut total = g.unary(Unary::Abs, loss)?;
    for &statistic in statistics {
        let sum = g.sum_all(statistic)?;
        let sum = g.unary(Unary::Abs, sum)?;
        total = g.add(total, sum)?;
    }
    Ok(total)
}

fn single(g: &mut Graph, trained: &[Trained], size: Value) -> Result<Gathered> {
    let gradients: Vec<Value> = trained.iter().map(|t| t.gradient).collect();
    let norm = norm(g, &gradients)?;
    Ok(Gathered {
        guard: g.add(norm, size)?,
        gradients,
        norm,
        batch_norm: norm,
    })
}

/// Sums over a group of batches; one whose numbers are not finite is left out.
fn accumulated(
    g: &mut Graph,
    trained: &[Trained],
    size: Value,
    accumulate: usize,
    carried: &mut Vec<(String, String)>,
) -> Result<Gathered> {
    let gradients: Vec<Value> = trained.iter().map(|t| t.gradient).collect();
    let batch_norm = norm(g, &gradients)?;
    let total = g.add(batch_norm, size)?;
    let most = g.constant(&[1], vec![f32::MAX])?;
    let finite = g.greater(most, total)?;
    let fresh = g.input("fresh", DType::F32, &[1])?;
    let (zero, one) = (g.constant(&[1], vec![0.0])?, g.constant(&[1], vec![1.0])?);
    let count = g.input("count", DType::F32, &[1])?;
    let before = g.mul(count, fresh)?;
    let counted = g.select(finite, one, zero)?;
    let count = g.add(before, counted)?;
    carry(g, carried, "count", count)?;
    // As on the host: each batch weighs one part of a whole group, and a group with fewer is scaled up.
    let part = g.constant(&[1], vec![1.0 / accumulate as f32])?;
    let whole = g.constant(&[1], vec![accumulate as f32])?;
    let factor = g.div(whole, count)?;
    let mut means = Vec::new();
    for (parameter, gradient) in trained.iter().zip(gradients) {
        let name = format!("sum.{}", parameter.spec.name);
        let sum = g.input(&name, DType::F32, &parameter.spec.shape)?;
        let before = g.mul(sum, fresh)?;
        let weighted = g.mul(gradient, part)?;
        let added = g.select(finite, weighted, zero)?;
        let sum = g.add(before, added)?;
        carry(g, carried, &name, sum)?;
        means.push(g.mul(sum, factor)?);
    }
    let norm = norm(g, &means)?;
    Ok(Gathered {
        gradients: means,
        guard: norm,
        norm,
        batch_norm,
    })
}
