//! The objectives: see the table in [`super`]. Each adds its loss, a scalar, to a step's graph.

use crate::config::{FrameSelection, ObjectiveConfig, ObjectiveKind};
use crate::graph::{ConvAttributes, Unary, Value};
use crate::nn::{Init, Net};
use crate::train::supervise::StepGraph;
use crate::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::fmt;

/// The frames an objective looks at: the selection, and the window where it has one.
pub type Chosen = (u8, usize);

/// What guides, as inputs of the step's graph; absent where no objective asks for it.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The teacher's log-posteriors `[1, V, 1, T]`.
    pub log_probs: Option<Value>,
    /// 1 / N at the teacher's best symbol where that is no blank, else 0: `[1, V, 1, T]`.
    pub spikes: Option<Value>,
    /// The teacher's last hidden value `[1, C, 1, T]`.
    pub hidden: Option<Value>,
    /// 1 / N on chosen frames, else 0: `[1, 1, 1, T]`.
    pub frames: BTreeMap<Chosen, Value>,
    /// The teacher's readings, best first: symbols i32 `[S, L]` and shares over N `[S]`.
    pub readings: Vec<(Value, Value)>,
    /// 1 / N on the frames of the first view, else 0: `[1, 1, 1, T / 2]`.
    pub views: Option<Value>,
}

/// Where an objective is put.
#[derive(Debug)]
pub struct Site<'a> {
    /// The student's step.
    pub step: &'a StepGraph<'a>,
    /// What guides it.
    pub inputs: &'a Inputs,
}

/// A loss on top of a student's step.
pub trait Objective: fmt::Debug + Send + Sync {
    /// Adds the loss, `[]`.
    ///
    /// # Errors
    /// [`ErrorKind::Graph`] where shapes do not fit or an input is absent.
    fn attach(&self, net: &mut Net, site: &Site<'_>) -> Result<Value>;
}

/// The objective that a recipe asks for.
pub fn objective(config: &ObjectiveConfig) -> Box<dyn Objective> {
    let frames = chosen(config);
    let (layer, temperature) = (config.layer, config.temperature);
    match config.kind {
        ObjectiveKind::Kl => Box::new(Kl {
            frames,
            temperature,
            layer,
        }),
        ObjectiveKind::L2 => Box::new(L2 {
            frames,
            temperature,
            layer,
        }),
        ObjectiveKind::GuidedCtc => Box::new(GuidedCtc { layer }),
        ObjectiveKind::Sequence => Box::new(Sequence),
        ObjectiveKind::Hidden => Box::new(Hidden { frames, layer }),
        ObjectiveKind::IntermediateCtc => Box::new(IntermediateCtc { layer }),
        ObjectiveKind::Consistency => Box::new(Consistency { temperature }),
    }
}

/// The frames that an objective looks at.
pub(super) fn chosen(config: &ObjectiveConfig) -> Chosen {
    match config.frames {
        FrameSelection::All => (0, 0),
        FrameSelection::NonBlank => (1, 0),
        FrameSelection::Window => (2, config.window),
    }
}

fn absent(what: &str) -> Error {
    Error::new(
        ErrorKind::Graph,
        format!("an objective asks for {what}, which the step does not have"),
    )
}

fn frames(inputs: &Inputs, chosen: Chosen) -> Result<Value> {
    let found = inputs.frames.get(&chosen).copied();
    found.ok_or_else(|| absent("its frames"))
}

/// The student's logits `[1, V, 1, T]`, at its own head or at one on block `layer`.
fn logits(net: &mut Net, site: &Site<'_>, layer: Option<usize>) -> Result<Value> {
    let built = site.step.built;
    let Some(layer) = layer else {
        return Ok(built.logits);
    };
    let x = block(site, Some(layer))?;
    let (&[_, channels, _, _], &[_, vocabulary, _, _]) =
        (net.graph.shape(x), net.graph.shape(built.logits))
    else {
        return Err(net
            .graph
            .mismatch("a head", "values [1, C, 1, T]", &[x, built.logits]));
    };
    let name = format!("distill.head.{layer}");
    let weight = net.parameter(
        &format!("{name}.weight"),
        &[vocabulary, channels, 1, 1],
        Init::Linear { fan_in: channels },
        true,
    )?;
    let bias = net.parameter(
        &format!("{name}.bias"),
        &[vocabulary],
        Init::Constant(0.0),
        false,
    )?;
    net.graph
        .conv(x, weight, Some(bias), ConvAttributes::default())
}

/// What stands after block `layer`, from 1; the last where none is named.
fn block(site: &Site<'_>, layer: Option<usize>) -> Result<Value> {
    let hidden = &site.step.built.hidden;
    let index = layer.unwrap_or(hidden.len());
    index
        .checked_sub(1)
        .and_then(|index| hidden.get(index))
        .copied()
        .ok_or_else(|| absent(&format!("the student's block {index}")))
}

/// `sum_t weight[t] sum_c x[c, t]` of x `[1, C, 1, T]` and weights `[1, 1, 1, T]`.
fn weighted_sum(net: &mut Net, x: Value, weights: Value) -> Result<Value> {
    let by_frame = net.graph.reduce_sum(x, &[1], true)?;
    let weighted = net.graph.mul(by_frame, weights)?;
    net.graph.sum_all(weighted)
}

fn softened(net: &mut Net, scores: Value, temperature: f32) -> Result<Value> {
    if temperature == 1.0 {
        return Ok(scores);
    }
    net.graph.scale(scores, 1.0 / temperature)
}

/// `tau^2 sum_t weight[t] KL(p^tau[t], q^tau[t])`, p held fixed; both by scores `[1, V, 1, T]`.
fn divergence(
    net: &mut Net,
    p: Value,
    q: Value,
    weights: Value,
    temperature: f32,
) -> Result<Value> {
    let p = net.graph.detach(p)?;
    let p = softened(net, p, temperature)?;
    let q = softened(net, q, temperature)?;
    let ln_p = net.graph.log_softmax(p, 1)?;
    let ln_q = net.graph.log_softmax(q, 1)?;
    let share = net.graph.unary(Unary::Exp, ln_p)?;
    let ratio = net.graph.sub(ln_p, ln_q)?;
    let terms = net.graph.mul(share, ratio)?;
    let sum = weighted_sum(net, terms, weights)?;
    net.graph.scale(sum, temperature * temperature)
}

#[derive(Debug)]
struct Kl {
    frames: Chosen,
    temperature: f32,
    layer: Option<usize>,
}

impl Objective for Kl {
    fn attach(&self, net: &mut Net, site: &Site<'_>) -> Result<Value> {
        let teacher = site.inputs.log_probs.ok_or_else(|| absent("posteriors"))?;
        let weights = frames(site.inputs, self.frames)?;
        let student = logits(net, site, self.layer)?;
        divergence(net, teacher, student, weights, self.temperature)
    }
}

#[derive(Debug)]
struct L2 {
    frames: Chosen,
    temperature: f32,
    layer: Option<usize>,
}

impl Objective for L2 {
    fn attach(&self, net: &mut Net, site: &Site<'_>) -> Result<Value> {
        let teacher = site.inputs.log_probs.ok_or_else(|| absent("posteriors"))?;
        let weights = frames(site.inputs, self.frames)?;
        let student = logits(net, site, self.layer)?;
        let mut sides = [teacher, student];
        for side in &mut sides {
            let scores = softened(net, *side, self.temperature)?;
            *side = net.graph.softmax(scores, 1)?;
        }
        let distance = net.graph.sub(sides[0], sides[1])?;
        let square = net.graph.mul(distance, distance)?;
        weighted_sum(net, square, weights)
    }
}

#[derive(Debug)]
struct GuidedCtc {
    layer: Option<usize>,
}

impl Objective for GuidedCtc {
    fn attach(&self, net: &mut Net, site: &Site<'_>) -> Result<Value> {
        let spikes = site.inputs.spikes.ok_or_else(|| absent("spikes"))?;
        let student = logits(net, site, self.layer)?;
        let share = net.graph.softmax(student, 1)?;
        let guided = net.graph.mul(share, spikes)?;
        let sum = net.graph.sum_all(guided)?;
        net.graph.scale(sum, -1.0)
    }
}

#[derive(Debug)]
struct Sequence;

impl Objective for Sequence {
    fn attach(&self, net: &mut Net, site: &Site<'_>) -> Result<Value> {
        let mut sum = None;
        for &(targets, weights) in &site.inputs.readings {
            let step = site.step;
            let loss = net
                .graph
                .ctc_loss(step.built.logits, step.segments, targets, weights, 0)?;
            sum = Some(match sum {
                None => loss.total,
                Some(sum) => net.graph.add(sum, loss.total)?,
            });
        }
        sum.ok_or_else(|| absent("readings"))
    }
}

#[derive(Debug)]
struct Hidden {
    frames: Chosen,
    layer: Option<usize>,
}

impl Objective for Hidden {
    fn attach(&self, net: &mut Net, site: &Site<'_>) -> Result<Value> {
        let teacher = site.inputs.hidden.ok_or_else(|| absent("hidden values"))?;
        let weights = frames(site.inputs, self.frames)?;
        let x = block(site, self.layer)?;
        let (&[_, wide, _, _], &[_, narrow, _, _]) = (net.graph.shape(teacher), net.graph.shape(x))
        else {
            return Err(net
                .graph
                .mismatch("a projection", "values [1, C, 1, T]", &[teacher, x]));
        };
        let layer = self.layer.unwrap_or(site.step.built.hidden.len());
        let weight = net.parameter(
            &format!("distill.projection.{layer}.weight"),
            &[wide, narrow, 1, 1],
            Init::Linear { fan_in: narrow },
            true,
        )?;
        let projected = net.graph.conv(x, weight, None, ConvAttributes::default())?;
        let distance = net.graph.sub(teacher, projected)?;
        let square = net.graph.mul(distance, distance)?;
        let sum = weighted_sum(net, square, weights)?;
        net.graph.scale(sum, 1.0 / wide as f32)
    }
}

#[derive(Debug)]
struct IntermediateCtc {
    layer: Option<usize>,
}

impl Objective for IntermediateCtc {
    fn attach(&self, net: &mut Net, site: &Site<'_>) -> Result<Value> {
        let logits = logits(net, site, self.layer)?;
        let step = site.step;
        let loss = net
            .graph
            .ctc_loss(logits, step.segments, step.targets, step.weights, 0)?;
        Ok(loss.total)
    }
}

#[derive(Debug)]
struct Consistency {
    temperature: f32,
}

impl Objective for Consistency {
    fn attach(&self, net: &mut Net, site: &Site<'_>) -> Result<Value> {
        let weights = site.inputs.views.ok_or_else(|| absent("two views"))?;
        let logits = site.step.built.logits;
        let half = net.graph.shape(logits).last().copied().unwrap_or(0) / 2;
        let first = net.graph.narrow(logits, 3, 0, half)?;
        let second = net.graph.narrow(logits, 3, half, half)?;
        let one = divergence(net, first, second, weights, self.temperature)?;
        let other = divergence(net, second, first, weights, self.temperature)?;
        let both = net.graph.add(one, other)?;
        net.graph.scale(both, 0.5)
    }
}
