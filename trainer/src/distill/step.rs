//! The objectives of a recipe as one [`Supervision`] of the training loop.

use super::guide::{FLOOR, Guidance, Guide};
use super::objectives::{Chosen, Inputs, Objective, Site, chosen, objective};
use crate::config::{DistillConfig, ObjectiveConfig, ObjectiveKind};
use crate::graph::exec::Inputs as Fed;
use crate::graph::{DType, Value};
use crate::nn::Net;
use crate::teacher::align::best;
use crate::train::pack::Row;
use crate::train::supervise::{StepGraph, Supervision};
use crate::{Error, ErrorKind, Result};
use std::collections::BTreeSet;
use std::sync::Arc;

const LOG_PROBS: &str = "guide.log_probs";
const SPIKES: &str = "guide.spikes";
const HIDDEN: &str = "guide.hidden";
const VIEWS: &str = "views.frames";
const CTC_PART: &str = "part.ctc";

/// All that a student learns from beside its transcripts.
#[derive(Debug)]
pub struct Distillation {
    config: DistillConfig,
    objectives: Vec<Box<dyn Objective>>,
    guide: Option<Guide>,
    /// Channels of the teacher's hidden value.
    channels: usize,
    /// Output frames by which the student's raw outputs lag the teacher's.
    delay: usize,
    /// The student's look-ahead in output frames.
    ahead: usize,
}

impl Distillation {
    /// The objectives of `config` with what guides them and the channels of the teacher's hidden value; `ahead` is
    /// the student's `model.delay_frames`.
    ///
    /// # Errors
    /// [`ErrorKind::Recipe`] where an objective wants a teacher and there is none.
    pub fn new(
        config: &DistillConfig,
        guide: Option<(Guide, usize)>,
        ahead: usize,
    ) -> Result<Self> {
        if guide.is_none() && config.wants_teacher() {
            return Err(Error::new(
                ErrorKind::Recipe,
                "distill.objectives want a teacher, and there is none",
            ));
        }
        let (guide, channels) =
            guide.map_or((None, 0), |(guide, channels)| (Some(guide), channels));
        Ok(Self {
            objectives: config.objectives.iter().map(objective).collect(),
            config: config.clone(),
            guide,
            channels,
            delay: config.delay_frames.unwrap_or(ahead),
            ahead,
        })
    }

    fn wants(&self, kind: ObjectiveKind) -> bool {
        self.config.objectives.iter().any(|o| o.kind == kind)
    }

    /// The selections of frames that objectives look at.
    fn selections(&self) -> BTreeSet<Chosen> {
        use ObjectiveKind::{Hidden, Kl, L2};
        self.config
            .objectives
            .iter()
            .filter(|o| matches!(o.kind, Kl | L2 | Hidden))
            .map(chosen)
            .collect()
    }

    fn readings(&self) -> usize {
        let wanted = self.config.objectives.iter();
        wanted
            .filter(|o| o.kind == ObjectiveKind::Sequence)
            .map(|o| o.best)
            .max()
            .unwrap_or(0)
    }

    fn inputs(&self, net: &mut Net, step: &StepGraph<'_>) -> Result<Inputs> {
        let &[one, vocabulary, _, steps] = net.graph.shape(step.built.logits) else {
            let values = [step.built.logits];
            return Err(net
                .graph
                .mismatch("distillation", "logits [1, V, 1, T]", &values));
        };
        let targets = net.graph.shape(step.targets).to_vec();
        let mut inputs = Inputs::default();
        let mut declare = |name: &str, dtype, shape: &[usize]| net.graph.input(name, dtype, shape);
        use ObjectiveKind::{Consistency, GuidedCtc, Hidden, Kl, L2};
        if self.wants(Kl) || self.wants(L2) {
            let shape = [one, vocabulary, 1, steps];
            inputs.log_probs = Some(declare(LOG_PROBS, DType::F32, &shape)?);
        }
        if self.wants(GuidedCtc) {
            let shape = [one, vocabulary, 1, steps];
            inputs.spikes = Some(declare(SPIKES, DType::F32, &shape)?);
        }
        if self.wants(Hidden) {
            let shape = [one, self.channels, 1, steps];
            inputs.hidden = Some(declare(HIDDEN, DType::F32, &shape)?);
        }
        for selection in self.selections() {
            let value = declare(&frames_name(selection), DType::F32, &[one, 1, 1, steps])?;
            inputs.frames.insert(selection, value);
        }
        for index in 0..self.readings() {
            let symbols = declare(&reading_name(index), DType::I32, &targets)?;
            let shares = declare(&share_name(index), DType::F32, &targets[..1])?;
            inputs.readings.push((symbols, shares));
        }
        if self.wants(Consistency) {
            inputs.views = Some(declare(VIEWS, DType::F32, &[one, 1, 1, steps / 2])?);
        }
        Ok(inputs)
    }
}

fn frames_name((kind, window): Chosen) -> String {
    format!("guide.frames.{kind}.{window}")
}

fn reading_name(index: usize) -> String {
    format!("guide.reading.{index}")
}

fn share_name(index: usize) -> String {
    format!("guide.share.{index}")
}

fn weight_name(index: usize) -> String {
    format!("distill.weight.{index}")
}

/// `part.INDEX.KIND`, KIND as the recipe spells it.
fn part_name(index: usize, config: &ObjectiveConfig) -> String {
    let kind = serde_json::to_value(config.kind).ok();
    let kind = kind.as_ref().and_then(|kind| kind.as_str()).unwrap_or("");
    format!("part.{index}.{kind}")
}

impl Supervision for Distillation {
    fn views(&self) -> usize {
        if self.config.wants_views() { 2 } else { 1 }
    }

    fn attach(&self, net: &mut Net, step: &StepGraph<'_>) -> Result<Value> {
        let inputs = self.inputs(net, step)?;
        let site = Site {
            step,
            inputs: &inputs,
        };
        let mut total = net.graph.scale(step.ctc, self.config.ctc)?;
        net.graph.output(CTC_PART, step.ctc)?;
        for (index, objective) in self.objectives.iter().enumerate() {
            let loss = objective.attach(net, &site)?;
            let weight = net.graph.input(&weight_name(index), DType::F32, &[])?;
            let weighted = net.graph.mul(loss, weight)?;
            total = net.graph.add(total, weighted)?;
            net.graph
                .output(&part_name(index, &self.config.objectives[index]), loss)?;
        }
        Ok(total)
    }

    fn parts(&self) -> Vec<String> {
        let own = self.config.objectives.iter().enumerate();
        std::iter::once(CTC_PART.to_owned())
            .chain(own.map(|(index, config)| part_name(index, config)))
            .collect()
    }

    fn feed(&self, executable: &mut dyn Fed, row: &Row, progress: f64) -> Result<()> {
        for (index, config) in self.config.objectives.iter().enumerate() {
            executable.f32_mut(&weight_name(index))?[0] = config.weight_at(progress);
        }
        let scale = 1.0 / row.frames().max(1) as f32;
        if self.wants(ObjectiveKind::Consistency) {
            let frames = executable.f32_mut(VIEWS)?;
            frames.fill(0.0);
            let half = frames.len();
            for segment in row.segments.iter().filter(|segment| segment.start < half) {
                // The row's frames are those of both views.
                frames[segment.start..][..segment.frames].fill(2.0 * scale);
            }
        }
        let Some(guide) = self.guide.as_ref().filter(|_| self.config.wants_teacher()) else {
            return Ok(());
        };
        let found = guide.of(row)?;
        // Where the teacher's first frame falls among the student's raw outputs.
        let starts: Vec<usize> = row
            .segments
            .iter()
            .map(|segment| segment.start + self.delay - self.ahead)
            .collect();
        if self.wants(ObjectiveKind::Kl) || self.wants(ObjectiveKind::L2) {
            place_log_probs(executable.f32_mut(LOG_PROBS)?, row, &found, &starts);
        }
        if self.wants(ObjectiveKind::GuidedCtc) {
            let spikes = executable.f32_mut(SPIKES)?;
            place_spikes(spikes, row, &found, &starts, scale);
        }
        if self.wants(ObjectiveKind::Hidden) {
            place_hidden(executable.f32_mut(HIDDEN)?, row, &found, &starts)?;
        }
        for selection in self.selections() {
            let frames = executable.f32_mut(&frames_name(selection))?;
            frames.fill(0.0);
            for (guidance, &start) in found.iter().zip(&starts) {
                for (t, on) in select(guidance, selection).into_iter().enumerate() {
                    frames[start + t] = if on { scale } else { 0.0 };
                }
            }
        }
        for index in 0..self.readings() {
            place_readings(executable, index, &found, scale)?;
        }
        Ok(())
    }
}

/// Which frames count, by the teacher's best symbol; the blank is symbol 0.
fn select(guidance: &Guidance, (kind, window): Chosen) -> Vec<bool> {
    let spikes: Vec<bool> = guidance
        .log_probs
        .outer_iter()
        .map(|row| best(row.iter().copied()).0 != 0)
        .collect();
    match kind {
        0 => vec![true; spikes.len()],
        1 => spikes,
        _ => (0..spikes.len())
            .map(|t| {
                let end = (t + window + 1).min(spikes.len());
                spikes[t.saturating_sub(window)..end].contains(&true)
            })
            .collect(),
    }
}

fn place_log_probs(out: &mut [f32], row: &Row, found: &[Arc<Guidance>], starts: &[usize]) {
    let steps = row.mask.len();
    out.fill(FLOOR);
    if let Some(blanks) = out.get_mut(..steps) {
        blanks.fill(0.0);
    }
    for (guidance, &start) in found.iter().zip(starts) {
        for (line, values) in out
            .chunks_exact_mut(steps)
            .zip(guidance.log_probs.columns())
        {
            for (place, &value) in line[start..].iter_mut().zip(values) {
                *place = value;
            }
        }
    }
}

fn place_spikes(out: &mut [f32], row: &Row, found: &[Arc<Guidance>], starts: &[usize], scale: f32) {
    let steps = row.mask.len();
    out.fill(0.0);
    for (guidance, &start) in found.iter().zip(starts) {
        for (t, scores) in guidance.log_probs.outer_iter().enumerate() {
            let (symbol, _) = best(scores.iter().copied());
            if symbol != 0 {
                out[symbol as usize * steps + start + t] = scale;
            }
        }
    }
}

fn place_hidden(
    out: &mut [f32],
    row: &Row,
    found: &[Arc<Guidance>],
    starts: &[usize],
) -> Result<()> {
    let steps = row.mask.len();
    out.fill(0.0);
    for (guidance, &start) in found.iter().zip(starts) {
        let hidden = guidance.hidden.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::Data,
                "the guidance was kept without hidden values",
            )
        })?;
        for (line, values) in out.chunks_exact_mut(steps).zip(hidden.columns()) {
            for (place, value) in line[start..].iter_mut().zip(values) {
                *place = value.to_f32();
            }
        }
    }
    Ok(())
}

/// The readings number `index`; one that is longer than any transcript is left out.
fn place_readings(
    executable: &mut dyn Fed,
    index: usize,
    found: &[Arc<Guidance>],
    scale: f32,
) -> Result<()> {
    let places = executable.f32_mut(&share_name(index))?.len();
    let symbols = executable.i32_mut(&reading_name(index))?;
    let longest = symbols.len() / places.max(1);
    symbols.fill(-1);
    let mut shares = vec![0.0; places];
    for ((guidance, share), line) in found
        .iter()
        .zip(&mut shares)
        .zip(symbols.chunks_exact_mut(longest.max(1)))
    {
        let reading = guidance.readings.get(index);
        if let Some((ids, own)) = reading.filter(|(ids, _)| ids.len() <= longest) {
            *share = own * scale;
            for (place, &id) in line.iter_mut().zip(ids) {
                *place = id as i32;
            }
        }
    }
    executable
        .f32_mut(&share_name(index))?
        .copy_from_slice(&shares);
    Ok(())
}
