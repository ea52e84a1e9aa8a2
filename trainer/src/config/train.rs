//! The sections `[model]` and `[train]` of a recipe.

use super::{ensure, ensure_within};
use crate::error::Result;
use crate::student::jasper::JasperStudent;
use serde::{Deserialize, Serialize};

/// The family of a student.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ModelKind {
    /// Residual blocks of small dense convolutions, causal with a bounded delay, or symmetric: speech.
    Conv,
    /// The Jasper-Mini-like network of separable convolutions ([`crate::student::jasper`]); of this section only
    /// `channels`, `stride` and `dropout` count.
    JasperMini,
    /// Two-dimensional convolutions down to one row, then convolutions along it: images of text.
    Image,
}

/// The shape of a student of images; see [`crate::student::text`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageModelConfig {
    /// Channels of the stem (half the resolution), of the layer after it, at a quarter, at an eighth of the height,
    /// and along the line. Default 16, 32, 64, 96, 192.
    pub widths: [usize; 5],
    /// Residual blocks at a quarter, at an eighth of the height, and along the line. Default 1, 2, 4.
    pub depths: [usize; 3],
    /// Taps of the blocks along the line. Default 7.
    pub kernel: usize,
    /// Channels within a block over those between blocks. Default 2.
    pub expand: usize,
}

impl Default for ImageModelConfig {
    fn default() -> Self {
        Self {
            widths: [16, 32, 64, 96, 192],
            depths: [1, 2, 4],
            kernel: 7,
            expand: 2,
        }
    }
}

/// Which frames a convolution sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Context {
    /// The newest and those before it: streams, with `delay_frames` of look-ahead.
    Causal,
    /// As many after as before: whole utterances only, and no delay.
    Symmetric,
}

impl Context {
    /// The default, which a written recipe leaves out.
    fn is_causal(&self) -> bool {
        *self == Self::Causal
    }
}

/// A student's shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// The family. Default conv.
    pub kind: ModelKind,
    /// Channels of every block. Default 128.
    pub channels: usize,
    /// Number of residual blocks. Default 8.
    pub blocks: usize,
    /// Taps of each convolution along time. Default 5.
    pub kernel: usize,
    /// Dilations of the blocks, repeated in turn. Default 1, 2, 4.
    pub dilations: Vec<usize>,
    /// Feature frames per output frame. Default 2: 20 ms.
    pub stride: usize,
    /// What a frame sees of the others. Default causal.
    #[serde(skip_serializing_if = "Context::is_causal")]
    pub context: Context,
    /// Output frames by which the output lags the input: the look-ahead. Default 10: 200 ms.
    pub delay_frames: usize,
    /// Dropout in training. Default 0.1.
    pub dropout: f32,
    /// The shape of a student of kind image, which takes only this and `dropout` from the section.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageModelConfig>,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            kind: ModelKind::Conv,
            channels: 128,
            blocks: 8,
            kernel: 5,
            dilations: vec![1, 2, 4],
            stride: 2,
            context: Context::Causal,
            delay_frames: 10,
            dropout: 0.1,
            image: None,
        }
    }
}

impl ModelConfig {
    /// Output frames by which the output lags the input; a line of an image is read whole.
    pub fn look_ahead(&self) -> usize {
        match self.kind {
            ModelKind::Image => 0,
            _ => self.delay_frames,
        }
    }

    /// Whether every output frame may see all around it: for a teacher.
    pub(super) fn sees_all(&self) -> bool {
        self.kind == ModelKind::Image
            || self.delay_frames == 0 && self.context == Context::Symmetric
    }

    pub(super) fn validate(&self) -> Result<()> {
        let sizes = [
            ("model.channels", self.channels, 8192),
            ("model.blocks", self.blocks, 1024),
            ("model.kernel", self.kernel, 255),
            ("model.stride", self.stride, 16),
        ];
        for (key, value, most) in sizes {
            ensure(
                (1..=most).contains(&value),
                key,
                value,
                &format!("1 to {most}"),
            )?;
        }
        ensure(
            self.delay_frames <= 1000,
            "model.delay_frames",
            self.delay_frames,
            "at most 1000",
        )?;
        ensure(
            self.context == Context::Causal || self.delay_frames == 0,
            "model.delay_frames",
            self.delay_frames,
            "0 where model.context is \"symmetric\": such a model sees ahead by itself",
        )?;
        if self.kind == ModelKind::JasperMini {
            ensure(
                self.context == Context::Symmetric,
                "model.context",
                "\"causal\"",
                "\"symmetric\" for kind \"jasper-mini\"",
            )?;
            ensure(
                self.blocks == JasperStudent::BLOCKS,
                "model.blocks",
                self.blocks,
                &format!("{} for kind \"jasper-mini\"", JasperStudent::BLOCKS),
            )?;
        }
        ensure(
            !self.dilations.is_empty() && self.dilations.iter().all(|d| (1..=1024).contains(d)),
            "model.dilations",
            format!("{:?}", self.dilations),
            "at least one number from 1 to 1024",
        )?;
        if let Some(image) = &self.image {
            let widths = image.widths.iter().all(|w| (1..=4096).contains(w));
            ensure(
                widths,
                "model.image.widths",
                format!("{:?}", image.widths),
                "numbers from 1 to 4096",
            )?;
            ensure(
                image.depths.iter().all(|&d| d <= 64),
                "model.image.depths",
                format!("{:?}", image.depths),
                "numbers up to 64",
            )?;
            ensure(
                image.kernel % 2 == 1 && image.kernel <= 63,
                "model.image.kernel",
                image.kernel,
                "an odd number up to 63",
            )?;
            ensure(
                (1..=8).contains(&image.expand),
                "model.image.expand",
                image.expand,
                "1 to 8",
            )?;
        }
        ensure_within("model.dropout", self.dropout, 0.0..=0.95)
    }
}

/// Which optimizer updates the parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Optimizer {
    /// Adam with decoupled weight decay (arXiv 1711.05101): `adamw`.
    #[serde(rename = "adamw", alias = "adam-w")]
    AdamW,
    /// Adam whose second moment is one number a tensor (arXiv 1905.11286): `novograd`. Its rates are about ten times
    /// AdamW's.
    #[serde(rename = "novograd")]
    NovoGrad,
}

/// Which figure on the development sets decides what is best: lower is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum JudgeBy {
    /// The word error rate on the first set.
    First,
    /// The mean of the word error rates on all sets.
    Mean,
}

/// Which epochs' weights are averaged when a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AverageOf {
    /// The last epochs'.
    Last,
    /// The best epochs', by the figure that decides.
    Best,
}

/// Checkpoint averaging: the mean of several epochs' weights, judged when the run ends and kept where it is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AverageConfig {
    /// How many epochs' weights. Default 5.
    pub epochs: usize,
    /// Which. Default the last.
    pub of: AverageOf,
}

impl Default for AverageConfig {
    fn default() -> Self {
        Self {
            epochs: 5,
            of: AverageOf::Last,
        }
    }
}

/// How the learning rate falls after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Schedule {
    /// Along half a cosine to `final_learning_rate`.
    Cosine,
    /// With the square of the part that is left, to `final_learning_rate`: slower at the end than the cosine.
    Polynomial,
    /// Not at all.
    Constant,
}

/// The optimization.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Passes over the data. Default 40.
    pub epochs: usize,
    /// Minutes after which training stops cleanly; the schedule then runs by time, so that the rate has fallen
    /// to its end whatever the machine. Absent: epochs alone decide.
    pub max_minutes: Option<f32>,
    /// Feature frames in a batch, padding included. Default 6,000: one minute.
    pub batch_frames: usize,
    /// Most utterances in a batch. Default 64.
    pub max_batch: usize,
    /// Which optimizer. Default AdamW.
    pub optimizer: Optimizer,
    /// Highest learning rate. Default 0.002.
    pub learning_rate: f32,
    /// Learning rate at the end of the schedule. Default 0.00002.
    pub final_learning_rate: f32,
    /// How the rate falls. Default cosine.
    pub schedule: Schedule,
    /// Steps over which the rate rises from 0. Default 500.
    pub warmup_steps: usize,
    /// Decay rates of the first and second moment. Default 0.9 and 0.98 for AdamW, 0.95 and 0.5 for NovoGrad.
    pub betas: Option<[f32; 2]>,
    /// Added to the root of the second moment. Default 1e-8.
    pub epsilon: f32,
    /// Decoupled weight decay. Default 0.01 for AdamW, 0.001 for NovoGrad.
    pub weight_decay: Option<f32>,
    /// Largest global gradient norm. Default 1.
    pub clip_norm: f32,
    /// Decay of the averaged weights that are judged and exported; 0 is no averaging. Default 0.999.
    pub ema: f32,
    /// Batches whose gradients are averaged into one update: the effect of a batch that many times as large, in the
    /// memory of one. The last update of an epoch may have fewer. Default 1.
    pub accumulate: usize,
    /// Batches in a row with a loss or gradient that is not finite after which the run stops and names the batch; those
    /// before it are named and left out. 1 stops at the first. Default 3.
    pub bad_batches: usize,
    /// What decides which epoch is best. Default the first development set.
    pub judge_by: JudgeBy,
    /// Epochs without a better figure after which the run stops. Absent: it runs to its end.
    pub patience: Option<usize>,
    /// Minutes between checkpoints; one is also written after every epoch. Default 5.
    pub checkpoint_minutes: f32,
    /// Threads of the training step; 0 takes all cores. Default 0.
    pub threads: usize,
    /// Averages several epochs' weights when the run ends. Absent: the best epoch's weights are the result.
    pub average: Option<AverageConfig>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            epochs: 40,
            max_minutes: None,
            batch_frames: 6_000,
            max_batch: 64,
            optimizer: Optimizer::AdamW,
            learning_rate: 2e-3,
            final_learning_rate: 2e-5,
            schedule: Schedule::Cosine,
            warmup_steps: 500,
            betas: None,
            epsilon: 1e-8,
            weight_decay: None,
            clip_norm: 1.0,
            ema: 0.999,
            accumulate: 1,
            bad_batches: 3,
            judge_by: JudgeBy::First,
            patience: None,
            checkpoint_minutes: 5.0,
            threads: 0,
            average: None,
        }
    }
}

impl TrainConfig {
    /// The moments' decay rates, the optimizer's own where the recipe gives none.
    pub fn moment_decays(&self) -> [f32; 2] {
        self.betas.unwrap_or(match self.optimizer {
            Optimizer::AdamW => [0.9, 0.98],
            Optimizer::NovoGrad => [0.95, 0.5],
        })
    }

    /// The weight decay, the optimizer's own where the recipe gives none.
    pub fn weight_decay_rate(&self) -> f32 {
        self.weight_decay.unwrap_or(match self.optimizer {
            Optimizer::AdamW => 0.01,
            Optimizer::NovoGrad => 0.001,
        })
    }

    pub(super) fn validate(&self) -> Result<()> {
        ensure(
            (1..=1_000_000).contains(&self.epochs),
            "train.epochs",
            self.epochs,
            "1 to 1000000",
        )?;
        if let Some(minutes) = self.max_minutes {
            ensure_within("train.max_minutes", minutes, 0.01..=1e6)?;
        }
        ensure(
            (1..=100_000_000).contains(&self.batch_frames),
            "train.batch_frames",
            self.batch_frames,
            "1 to 100000000",
        )?;
        ensure(
            (1..=65_536).contains(&self.max_batch),
            "train.max_batch",
            self.max_batch,
            "1 to 65536",
        )?;
        ensure_within("train.learning_rate", self.learning_rate, 1e-9..=10.0)?;
        ensure_within(
            "train.final_learning_rate",
            self.final_learning_rate,
            0.0..=self.learning_rate,
        )?;
        for beta in self.moment_decays() {
            ensure_within("train.betas", beta, 0.0..=0.999_999)?;
        }
        ensure_within("train.epsilon", self.epsilon, 1e-20..=1.0)?;
        ensure_within("train.weight_decay", self.weight_decay_rate(), 0.0..=10.0)?;
        ensure_within("train.clip_norm", self.clip_norm, 1e-6..=1e6)?;
        ensure_within("train.ema", self.ema, 0.0..=0.999_999)?;
        ensure_within(
            "train.checkpoint_minutes",
            self.checkpoint_minutes,
            0.01..=1e6,
        )?;
        let counts = [
            ("train.accumulate", self.accumulate, 4096),
            ("train.bad_batches", self.bad_batches, 1_000_000),
            ("train.patience", self.patience.unwrap_or(1), 1_000_000),
            (
                "train.average.epochs",
                self.average.map_or(2, |average| average.epochs),
                100,
            ),
        ];
        for (key, value, most) in counts {
            let least = usize::from(key == "train.average.epochs") + 1;
            ensure(
                (least..=most).contains(&value),
                key,
                value,
                &format!("{least} to {most}"),
            )?;
        }
        ensure(
            self.threads <= 1024,
            "train.threads",
            self.threads,
            "at most 1024",
        )
    }
}
