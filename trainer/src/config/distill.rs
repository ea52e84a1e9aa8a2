//! The section `[distill]` of a recipe: what a student learns from its teacher beside its own CTC loss.

use super::{ModelConfig, Recipe, ensure, ensure_within};
use crate::error::Result;
use serde::{Deserialize, Serialize};

/// What of the teacher's scores guides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum GuideKind {
    /// Its posteriors as they are.
    Posteriors,
    /// The occupancies of its CTC paths given the transcript, by forward-backward: what a conventional teacher says
    /// once it is told the answer (Senior et al. 2015 constrain a teacher's alignment likewise).
    Occupancy,
}

/// What the teacher hears when it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum GuideView {
    /// The recording as it is: asked once an utterance, answers kept on disk. The student's augmentation may then
    /// not move frames (speed, shift).
    Clean,
    /// The very features that the student hears, asked at every step.
    Same,
}

/// An objective's formula; see [`crate::distill`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ObjectiveKind {
    /// Kullback-Leibler divergence of the student's posteriors from the teacher's, frame by frame.
    Kl,
    /// Squared distance of the posteriors, frame by frame.
    L2,
    /// The student's probability of what the teacher spikes at (Guided CTC).
    GuidedCtc,
    /// CTC loss of the teacher's N best readings.
    Sequence,
    /// Squared distance of hidden values, through a learned projection.
    Hidden,
    /// CTC loss at an intermediate head.
    IntermediateCtc,
    /// Divergence of two augmented views of an utterance from each other (CR-CTC).
    Consistency,
}

/// Which frames an objective looks at, by the teacher's best symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FrameSelection {
    /// All.
    All,
    /// Those where it is not the blank.
    NonBlank,
    /// Those at most `window` frames from one where it is not the blank.
    Window,
}

/// One objective and its weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// The formula.
    pub kind: ObjectiveKind,
    /// Weight at the start. Default 1.
    #[serde(default = "one")]
    pub weight: f32,
    /// Weight at the end. Default: as at the start.
    #[serde(default)]
    pub final_weight: Option<f32>,
    /// The part of the run over which the weight moves, in a straight line, from start to end. Default 1.
    #[serde(default = "one")]
    pub until: f32,
    /// Softens both sides' posteriors (`kl`, `l2`, `consistency`). Default 1.
    #[serde(default = "one")]
    pub temperature: f32,
    /// Which frames count (`kl`, `l2`, `hidden`). Default all.
    #[serde(default = "all_frames")]
    pub frames: FrameSelection,
    /// Frames on each side of a spike that `frames = "window"` takes. Default 2.
    #[serde(default = "two")]
    pub window: usize,
    /// The student's block, from 1, whose output is taken (`hidden`), or is given a head of its own that the
    /// objective is put to (`kl`, `l2`, `guided-ctc`, `intermediate-ctc`: Inter-KD). Absent: the last, or the
    /// student's own head.
    #[serde(default)]
    pub layer: Option<usize>,
    /// Readings that `sequence` takes. Default 4.
    #[serde(default = "four")]
    pub best: usize,
}

fn one() -> f32 {
    1.0
}

fn two() -> usize {
    2
}

fn four() -> usize {
    4
}

fn all_frames() -> FrameSelection {
    FrameSelection::All
}

impl ObjectiveConfig {
    /// An objective with weight 1 and all else at its default.
    pub fn new(kind: ObjectiveKind) -> Self {
        Self {
            kind,
            weight: 1.0,
            final_weight: None,
            until: 1.0,
            temperature: 1.0,
            frames: FrameSelection::All,
            window: 2,
            layer: None,
            best: 4,
        }
    }

    /// The weight when `progress` of the run, in [0, 1], is over.
    pub fn weight_at(&self, progress: f64) -> f32 {
        let last = self.final_weight.unwrap_or(self.weight);
        let part = (progress as f32 / self.until).clamp(0.0, 1.0);
        self.weight + (last - self.weight) * part
    }

    /// Whether a teacher is asked for it.
    pub fn wants_teacher(&self) -> bool {
        !matches!(
            self.kind,
            ObjectiveKind::IntermediateCtc | ObjectiveKind::Consistency
        )
    }
}

/// How a student is distilled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DistillConfig {
    /// What of the teacher guides. Default its posteriors.
    pub guide: GuideKind,
    /// What the teacher hears. Default the clean recording.
    pub view: GuideView,
    /// Output frames by which the student may lag the teacher: from 0 (it must spike when the teacher does) to its
    /// whole look-ahead, `model.delay_frames`, which is the default.
    pub delay_frames: Option<usize>,
    /// Weight of the student's own CTC loss. Default 1.
    pub ctc: f32,
    /// The objectives. Default KL on all frames, weight 1.
    pub objectives: Vec<ObjectiveConfig>,
}

impl Default for DistillConfig {
    fn default() -> Self {
        Self {
            guide: GuideKind::Posteriors,
            view: GuideView::Clean,
            delay_frames: None,
            ctc: 1.0,
            objectives: vec![ObjectiveConfig::new(ObjectiveKind::Kl)],
        }
    }
}

impl DistillConfig {
    /// Whether a teacher is asked at all.
    pub fn wants_teacher(&self) -> bool {
        self.objectives.iter().any(ObjectiveConfig::wants_teacher)
    }

    /// Whether batches hold two views of every utterance.
    pub fn wants_views(&self) -> bool {
        self.objectives
            .iter()
            .any(|objective| objective.kind == ObjectiveKind::Consistency)
    }

    pub(super) fn validate(&self, recipe: &Recipe) -> Result<()> {
        ensure_within("distill.ctc", self.ctc, 0.0..=1e4)?;
        if let Some(delay) = self.delay_frames {
            ensure(
                delay <= recipe.model.look_ahead(),
                "distill.delay_frames",
                delay,
                &format!(
                    "at most the student's look-ahead, model.delay_frames = {}",
                    recipe.model.look_ahead()
                ),
            )?;
        }
        ensure(
            self.objectives.len() <= 32,
            "distill.objectives",
            format!("{} of them", self.objectives.len()),
            "at most 32",
        )?;
        for (index, objective) in self.objectives.iter().enumerate() {
            validate_objective(objective, &recipe.model, index)?;
        }
        let moves = recipe.augment.speed_interval() != [1.0, 1.0] || recipe.augment.shift.is_some();
        let clean = self.view == GuideView::Clean && self.wants_teacher();
        ensure(
            !(moves && (clean || self.wants_views())),
            "augment",
            "with `speed` or `shift`",
            "neither where the teacher hears clean recordings (distill.view = \"clean\") or two views are compared: \
             the frames would not correspond",
        )?;
        ensure(
            !self.wants_teacher() || recipe.teacher.is_some() || recipe.guide,
            "teacher",
            "absent",
            "a section [teacher], since distill.objectives want one",
        )
    }
}

fn validate_objective(
    objective: &ObjectiveConfig,
    model: &ModelConfig,
    index: usize,
) -> Result<()> {
    let key = |name: &str| format!("distill.objectives[{index}].{name}");
    ensure_within(&key("weight"), objective.weight, 0.0..=1e4)?;
    ensure_within(
        &key("final_weight"),
        objective.final_weight.unwrap_or(0.0),
        0.0..=1e4,
    )?;
    ensure_within(&key("until"), objective.until, 1e-6..=1.0)?;
    ensure_within(&key("temperature"), objective.temperature, 0.05..=100.0)?;
    ensure(
        objective.window <= 1000,
        &key("window"),
        objective.window,
        "at most 1000",
    )?;
    ensure(
        (1..=64).contains(&objective.best),
        &key("best"),
        objective.best,
        "1 to 64",
    )?;
    if let Some(layer) = objective.layer {
        ensure(
            (1..=model.blocks).contains(&layer),
            &key("layer"),
            layer,
            &format!("a block of the student, 1 to {}", model.blocks),
        )?;
    }
    let kind = objective.kind;
    let layered = !matches!(kind, ObjectiveKind::Sequence | ObjectiveKind::Consistency);
    ensure(
        layered || objective.layer.is_none(),
        &key("layer"),
        "given",
        "absent: this objective is put to the student's own head",
    )?;
    ensure(
        kind != ObjectiveKind::IntermediateCtc || objective.layer.is_some(),
        &key("layer"),
        "absent",
        "the block whose output gets a head",
    )
}
