//! The model spec: everything the runtime must know about a model, as data inside the ONNX file.
//!
//! The spec is one JSON object under the metadata key [`SPEC_KEY`]. It names the tokens, the feature
//! front-end, the graph's tensors and their layouts, the stride from feature frames to output frames, and the
//! streaming state; with it no part of the runtime needs to know which toolkit a model came from. Axis
//! letters: B batch, T frames, F features, V vocabulary with blank.
//!
//! [`stamp`](ModelSpec::stamp) writes a spec into a model's bytes, [`ModelSpec::read`] takes it out again and
//! verifies the hash, [`ModelSpec::check`] holds the spec against the graph it stands in.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

mod audio;
mod bounds;
mod check;
mod fit;
mod graph;
mod line;
mod stamp;

pub use audio::{
    Edge, EmphasisOver, Framing, LogGuard, LogMelSpec, MelScale, Spectrum, WaveformSpec, Window,
};
pub use graph::{
    GivenInput, GivenValue, GraphSpec, InputLayout, LabelSpec, OutputLayout, OutputValues,
    StateElement, StateSpec, StreamingSpec,
};
pub use line::{Aspect, ImageChannels, LineSpec, Scaling, WidthRounding};

/// The ONNX metadata key that holds the spec.
pub const SPEC_KEY: &str = "acolyte.spec";

/// The newest spec version this build reads and the one it writes.
pub const SPEC_VERSION: u32 = 1;

/// What a model recognizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Task {
    /// Audio in, text out.
    Speech,
    /// An image of a word or line in, text out.
    SceneText,
}

/// What a model may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Role {
    /// A deployable recognizer.
    Student,
    /// A conventional teacher: a recognizer too, usually larger.
    Teacher,
    /// A teacher that also sees the label: a recognizer refuses it.
    OracleTeacher,
}

/// How a model's pieces mark word boundaries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "mark")]
#[non_exhaustive]
pub enum WordMark {
    /// A piece that equals this string stands between words (usually a space).
    Separator(String),
    /// A piece that starts with this string begins a word (SentencePiece: `▁`).
    Prefix(String),
    /// A piece that starts with this string continues the word before it (WordPiece: `##`).
    Continuation(String),
    /// No word boundaries: the whole text is one word.
    None,
}

/// The vocabulary, in the order of the output's last axis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokensSpec {
    /// The text of every token; the blank's own text is never shown.
    pub pieces: Vec<String>,
    /// The id of CTC's blank.
    pub blank: u32,
    /// How words are told apart.
    pub word_mark: WordMark,
}

/// From raw input to the tensor the graph takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
#[non_exhaustive]
pub enum FrontEnd {
    /// Log-mel filterbank energies of mono audio, `[T, F]`.
    LogMel(LogMelSpec),
    /// An image of a word or line scaled to a height, `[T, F]` with F = C * H.
    Line(LineSpec),
    /// The samples of mono audio themselves, `[T, 1]`: one frame a sample.
    Waveform(WaveformSpec),
}

impl FrontEnd {
    /// Features of a frame: F.
    pub fn features(&self) -> usize {
        match self {
            Self::LogMel(mel) => mel.mels,
            Self::Line(line) => line.features(),
            Self::Waveform(_) => 1,
        }
    }

    /// What is recognized from it.
    pub fn task(&self) -> Task {
        match self {
            Self::LogMel(_) | Self::Waveform(_) => Task::Speech,
            Self::Line(_) => Task::SceneText,
        }
    }

    /// Frames a second, for audio.
    pub fn frame_rate(&self) -> Option<f64> {
        match self {
            Self::LogMel(mel) => Some(f64::from(mel.sample_rate) / mel.hop_length.max(1) as f64),
            Self::Waveform(wave) => Some(f64::from(wave.sample_rate)),
            Self::Line(_) => None,
        }
    }

    /// How the features are normalized.
    pub fn normalization(&self) -> &Normalization {
        match self {
            Self::LogMel(mel) => &mel.normalization,
            Self::Line(line) => &line.normalization,
            Self::Waveform(wave) => &wave.normalization,
        }
    }
}

/// How features are normalized.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
#[non_exhaustive]
pub enum Normalization {
    /// As they are.
    None,
    /// `(x - mean[f]) / deviation[f]` with constants: the only kind that streams.
    Fixed {
        /// Mean of each feature.
        mean: Vec<f32>,
        /// Standard deviation of each feature, all positive.
        deviation: Vec<f32>,
    },
    /// Per feature over the whole utterance; never streamed.
    Utterance {
        /// Added to the standard deviation.
        epsilon: f32,
    },
    /// `(max(x, M - range) - mean) / deviation` with M the largest feature of the utterance, as Whisper has it; never
    /// streamed.
    Peak {
        /// How far below the largest feature the smallest may lie.
        range: f32,
        /// What is subtracted.
        mean: f32,
        /// What divides.
        deviation: f32,
    },
}

impl Normalization {
    /// Whether it needs no more than the frame at hand.
    pub fn streams(&self) -> bool {
        matches!(self, Self::None | Self::Fixed { .. })
    }
}

/// A model's self-description.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Version of this format; [`SPEC_VERSION`] when written by this build.
    pub version: u32,
    /// The model's name, for people.
    pub name: String,
    /// What it recognizes.
    pub task: Task,
    /// What it may be used for.
    pub role: Role,
    /// SPDX expression, or `unknown`.
    pub license: String,
    /// SHA-256 of the file's bytes without the spec entry, lower-case hex; filled in by stamping.
    #[serde(default)]
    pub sha256: String,
    /// Free remarks for people: training data, recipe, machine, figures.
    #[serde(default)]
    pub about: BTreeMap<String, String>,
    /// The vocabulary.
    pub tokens: TokensSpec,
    /// Raw input to features.
    pub front_end: FrontEnd,
    /// Features to scores.
    pub graph: GraphSpec,
    /// Feature frames per output frame.
    pub stride: usize,
    /// How it streams; absent for a model that only takes whole utterances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streaming: Option<StreamingSpec>,
}
