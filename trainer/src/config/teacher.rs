//! The sections `[target]`, `[teacher]` and `[teacher.guards]` of a recipe.

use super::{AugmentConfig, ModelConfig, Recipe, TrainConfig, ensure, ensure_within};
use crate::config::{Context, ModelKind};
use crate::error::Result;
use serde::{Deserialize, Serialize};

/// What the source side of an Oracle Teacher knows of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SourcePositions {
    /// Nothing: it must find a symbol by what is heard.
    None,
    /// The frame's number in its utterance: a clock, by which a teacher can copy. For the ablation alone; such a
    /// teacher has no export.
    Absolute,
}

/// The side of an Oracle Teacher that reads the transcript (arXiv 2111.03664), and how it meets the audio.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TargetConfig {
    /// Self-attention layers over the transcript. Default 2.
    pub layers: usize,
    /// Cross-attention layers, frames to symbols. Default 1.
    pub fusions: usize,
    /// Attention heads; they divide `model.channels`. Default 4.
    pub heads: usize,
    /// Width of the feed-forward layers over `model.channels`. Default 2.
    pub expansion: usize,
    /// Share of symbols hidden from the teacher in training: each utterance draws its rate from this range. Asked
    /// for guidance, the teacher sees all. Default 0 to 0.6.
    pub mask: [f32; 2],
    /// What the source side knows of time. Default nothing.
    pub source_positions: SourcePositions,
}

impl Default for TargetConfig {
    fn default() -> Self {
        Self {
            layers: 2,
            fusions: 1,
            heads: 4,
            expansion: 2,
            mask: [0.0, 0.6],
            source_positions: SourcePositions::None,
        }
    }
}

impl TargetConfig {
    pub(super) fn validate(&self, model: &ModelConfig) -> Result<()> {
        for (key, value, most) in [
            ("target.layers", self.layers, 64),
            ("target.fusions", self.fusions, 64),
            ("target.expansion", self.expansion, 64),
        ] {
            ensure(
                (1..=most).contains(&value),
                key,
                value,
                &format!("1 to {most}"),
            )?;
        }
        let (key, width) = match model.kind {
            ModelKind::Image => {
                let [.., line] = model.image.clone().unwrap_or_default().widths;
                ("the last of model.image.widths", line)
            }
            _ => ("model.channels", model.channels),
        };
        ensure(
            self.heads > 0 && width.is_multiple_of(self.heads),
            "target.heads",
            self.heads,
            &format!("a divisor of {key}, {width}"),
        )?;
        super::ensure_interval("target.mask", self.mask, 0.0..=1.0)?;
        ensure(
            matches!(model.kind, ModelKind::Conv | ModelKind::Image),
            "model.kind",
            format!("{:?}", model.kind),
            "\"conv\" or \"image\" where there is a [target]: the source encoder",
        )?;
        ensure(
            model.sees_all(),
            "target",
            format!("there, and model.context {:?}", model.context),
            "model.context = \"symmetric\": a teacher hears whole utterances",
        )
    }
}

/// What a teacher must show before it may guide (`method.md` 2.4): a teacher that copies its transcript by the clock
/// has a low loss and says nothing of the audio.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuardConfig {
    /// Training utterances that are tried. Default 200.
    pub utterances: usize,
    /// Output frames of quiet set in front for the shift test. Default 10: 200 ms.
    pub shift_frames: usize,
    /// Least mean move of the spikes over the move of the audio. Default 0.95.
    pub shift_least: f32,
    /// Most answers that are the given transcript though the audio is of another utterance. Default 0.05.
    pub swap_most: f32,
    /// Most answers that are the given transcript though the audio is noise. Default 0.02.
    pub noise_most: f32,
    /// Most answers that are the given transcript though the halves of the audio stand in the wrong order.
    /// Default 0.5: of one short word a good part survives that.
    pub splice_most: f32,
    /// Largest part of a transcript that may be said, on average, though the audio is another's or noise. Default
    /// 0.5: unrelated sentences of one language have a third of their letters in common.
    pub part_most: f32,
    /// Most symbol errors, over symbols, that a teacher may make undisturbed: beyond, it is not worth following.
    /// Default 0.5.
    pub errors_most: f32,
    /// Most mean distance, in output frames, of the spikes of two teachers that differ in their seed, where there
    /// are two. Default 3.
    pub seeds_most: f32,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self {
            utterances: 200,
            shift_frames: 10,
            shift_least: 0.95,
            swap_most: 0.05,
            noise_most: 0.02,
            splice_most: 0.5,
            part_most: 0.5,
            errors_most: 0.5,
            seeds_most: 3.0,
        }
    }
}

impl GuardConfig {
    fn validate(&self) -> Result<()> {
        ensure(
            (2..=1_000_000).contains(&self.utterances),
            "teacher.guards.utterances",
            self.utterances,
            "2 to 1000000",
        )?;
        ensure(
            (1..=1000).contains(&self.shift_frames),
            "teacher.guards.shift_frames",
            self.shift_frames,
            "1 to 1000",
        )?;
        for (key, value) in [
            ("teacher.guards.shift_least", self.shift_least),
            ("teacher.guards.swap_most", self.swap_most),
            ("teacher.guards.noise_most", self.noise_most),
            ("teacher.guards.splice_most", self.splice_most),
            ("teacher.guards.part_most", self.part_most),
            ("teacher.guards.errors_most", self.errors_most),
        ] {
            ensure_within(key, value, 0.0..=1.0)?;
        }
        ensure_within("teacher.guards.seeds_most", self.seeds_most, 0.0..=1000.0)
    }
}

/// The teacher of a distillation: everything about it that differs from the student's recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TeacherConfig {
    /// Its source encoder.
    pub model: ModelConfig,
    /// Its target side; absent, it is a conventional teacher, which hears the audio alone.
    pub target: Option<TargetConfig>,
    /// Its augmentation. Absent: the student's.
    pub augment: Option<AugmentConfig>,
    /// Its training.
    pub train: TrainConfig,
    /// Its seed. Absent: the student's.
    pub seed: Option<u64>,
    /// What it must show before it guides.
    pub guards: GuardConfig,
}

impl Default for TeacherConfig {
    fn default() -> Self {
        Self {
            model: ModelConfig {
                context: Context::Symmetric,
                delay_frames: 0,
                ..ModelConfig::default()
            },
            target: None,
            augment: None,
            train: TrainConfig::default(),
            seed: None,
            guards: GuardConfig::default(),
        }
    }
}

impl TeacherConfig {
    pub(super) fn validate(&self, student: &ModelConfig) -> Result<()> {
        let within = |error: crate::Error| super::recipe_error(format!("[teacher] {error}"));
        self.model.validate().map_err(within)?;
        self.train.validate().map_err(within)?;
        if let Some(augment) = &self.augment {
            augment.validate().map_err(within)?;
        }
        if let Some(target) = &self.target {
            target.validate(&self.model).map_err(within)?;
        }
        let image = |model: &ModelConfig| model.kind == ModelKind::Image;
        ensure(
            image(&self.model) == image(student),
            "teacher.model.kind",
            format!("{:?}", self.model.kind),
            &format!("one that reads what the student reads, {:?}", student.kind),
        )?;
        ensure(
            self.model.stride == student.stride,
            "teacher.model.stride",
            self.model.stride,
            &format!(
                "the student's, {}: their frames are compared one by one",
                student.stride
            ),
        )?;
        ensure(
            self.model.sees_all(),
            "teacher.model.context",
            format!("{:?}", self.model.context),
            "\"symmetric\": a teacher hears whole utterances",
        )?;
        self.guards.validate()
    }
}

impl Recipe {
    /// The recipe that trains this recipe's teacher, where it has one.
    pub fn teacher_recipe(&self) -> Option<Recipe> {
        let teacher = self.teacher.as_ref()?;
        let kind = match teacher.target {
            Some(_) => "oracle",
            None => "conventional",
        };
        Some(Recipe {
            name: format!("{}-{kind}", self.name),
            seed: teacher.seed.unwrap_or(self.seed),
            model: teacher.model.clone(),
            target: teacher.target.clone(),
            augment: teacher.augment.clone().unwrap_or(self.augment.clone()),
            train: teacher.train.clone(),
            teacher: None,
            distill: None,
            start_from: None,
            guide: true,
            ..self.clone()
        })
    }
}
