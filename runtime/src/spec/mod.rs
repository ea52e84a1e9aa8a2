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

mod check;
mod line;
mod stamp;

pub use line::{ImageChannels, LineSpec};

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
}

impl FrontEnd {
    /// Features of a frame: F.
    pub fn features(&self) -> usize {
        match self {
            Self::LogMel(mel) => mel.mels,
            Self::Line(line) => line.features(),
        }
    }
}

/// A log-mel filterbank, complete enough to name the conventions of the usual toolkits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogMelSpec {
    /// Samples per second the model was trained on.
    pub sample_rate: u32,
    /// Factor on samples in [-1, 1] before anything else (Kaldi counts in 16-bit units: 32768).
    pub scale: f32,
    /// Whether each frame's mean is subtracted before windowing (Kaldi does).
    pub remove_dc: bool,
    /// Pre-emphasis `x[i] - a x[i-1]` within the frame, first sample against itself; 0 is none.
    pub pre_emphasis: f32,
    /// The window's shape.
    pub window: Window,
    /// Window length in samples.
    pub window_length: usize,
    /// Samples from one frame to the next.
    pub hop_length: usize,
    /// FFT length in samples, at least the window length; the frame is padded with zeros on the right.
    pub fft_length: usize,
    /// Whether filters weigh magnitude or power.
    pub spectrum: Spectrum,
    /// The mel scale and its normalization.
    pub mel: MelScale,
    /// Number of filters: F.
    pub mels: usize,
    /// Lower edge of the lowest filter in Hz.
    pub low_hz: f32,
    /// Upper edge of the highest filter in Hz.
    pub high_hz: f32,
    /// How the logarithm is guarded against zero.
    pub log: LogGuard,
    /// Mean and variance normalization.
    pub normalization: Normalization,
}

/// A window function of N points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Window {
    /// `0.5 - 0.5 cos(2 pi n / (N - 1))`.
    Hann,
    /// `0.5 - 0.5 cos(2 pi n / N)`, as `torch.hann_window` and librosa have it.
    HannPeriodic,
    /// `0.54 - 0.46 cos(2 pi n / (N - 1))`.
    Hamming,
    /// Hann to the power 0.85 (Kaldi).
    Povey,
}

/// What the mel filters weigh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Spectrum {
    /// `|X|^2`.
    Power,
    /// `|X|`.
    Magnitude,
}

/// A mel scale and how its triangles are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum MelScale {
    /// `2595 log10(1 + f/700)`, triangles linear in Hz, height 1.
    Htk,
    /// `1127 ln(1 + f/700)`, triangles linear in mel, height 1, as Kaldi draws them.
    Kaldi,
    /// Linear to 1 kHz, logarithmic above, triangles linear in Hz with area 1 (librosa, NeMo, Whisper).
    Slaney,
}

/// A guarded logarithm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "value")]
#[non_exhaustive]
pub enum LogGuard {
    /// `ln(max(x, value))`.
    Floor(f32),
    /// `ln(x + value)`.
    Add(f32),
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
}

/// The order of the axes of the features tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum InputLayout {
    /// `[B, F, 1, T]`: what mobile providers take.
    #[serde(rename = "B F 1 T")]
    BF1T,
    /// `[B, F, T]`.
    #[serde(rename = "B F T")]
    BFT,
    /// `[B, T, F]`.
    #[serde(rename = "B T F")]
    BTF,
    /// `[B, C, H, T]`: images, F = C * H.
    #[serde(rename = "B C H T")]
    BCHT,
}

/// The order of the axes of the output tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum OutputLayout {
    /// `[B, V, 1, T]`: what mobile providers give.
    #[serde(rename = "B V 1 T")]
    BV1T,
    /// `[B, T, V]`.
    #[serde(rename = "B T V")]
    BTV,
    /// `[T, B, V]`.
    #[serde(rename = "T B V")]
    TBV,
}

/// What the numbers of the output are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OutputValues {
    /// Unnormalized scores: the runtime takes their log-softmax.
    Logits,
    /// Natural logarithms of probabilities.
    LogProbs,
    /// Probabilities.
    Probs,
}

/// The input by which an oracle teacher is told the transcript.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelSpec {
    /// Its name: int64, `[1, 1, length]`, token ids.
    pub input: String,
    /// The most tokens it takes.
    pub length: usize,
    /// What stands in the places that no token takes.
    pub padding: i64,
}

/// The graph's tensors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphSpec {
    /// Name of the features input.
    pub input: String,
    /// Its axes.
    pub input_layout: InputLayout,
    /// Name of an input with the number of feature frames, `[B]` int64, where the graph has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_length: Option<String>,
    /// The transcript's input, which an oracle teacher has and nobody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<LabelSpec>,
    /// Name of the output.
    pub output: String,
    /// Its axes.
    pub output_layout: OutputLayout,
    /// What its numbers are.
    pub output_values: OutputValues,
}

/// One piece of state carried from chunk to chunk: f32, zeros at the start of an utterance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateSpec {
    /// Graph input with the state before the chunk.
    pub input: String,
    /// Graph output with the state after it.
    pub output: String,
    /// Its axes after the batch axis, which comes first.
    pub shape: Vec<usize>,
}

/// How a causal model is run in chunks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamingSpec {
    /// Feature frames per run in live use: a multiple of the stride.
    pub chunk_frames: usize,
    /// Output frames by which the output lags the input. The first that many outputs of an utterance are
    /// dropped, and the end is flushed with `delay_frames * stride` frames of `flush_value`.
    pub delay_frames: usize,
    /// The (normalized) feature value an utterance's end is flushed with.
    pub flush_value: f32,
    /// The state tensors, empty for a graph without memory.
    pub state: Vec<StateSpec>,
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
