//! The graph's part of a spec: names and axes of its tensors, and the state of a model that streams.

use serde::{Deserialize, Serialize};

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
    /// `[B, T]`: samples, F = 1.
    #[serde(rename = "B T")]
    BT,
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

/// An input whose value does not depend on what is recognized.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenInput {
    /// Its name.
    pub input: String,
    /// What it is given.
    pub value: GivenValue,
}

/// What such an input is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
#[non_exhaustive]
pub enum GivenValue {
    /// Ones, `[B, T]` int64: every frame counts. The attention mask of wav2vec2 exports.
    Ones,
    /// One int64, with one axis or none.
    Constant {
        /// The number.
        value: i64,
    },
    /// One int64, with one axis or none, that grows with every run of an utterance. WeNet's `offset`.
    Counter {
        /// Its value in the first run.
        start: i64,
        /// What every run adds.
        step: i64,
    },
    /// `[1, 1, cache + chunk]` bool: whether each of `cache` remembered output frames is one of this utterance, then
    /// `chunk` times true; every run fills `chunk` more, from the end. WeNet's `attn_mask`.
    Filled {
        /// Output frames that are remembered.
        cache: usize,
        /// Output frames of a run.
        chunk: usize,
    },
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
    /// Inputs that are given the same for any audio or image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub given: Vec<GivenInput>,
    /// Name of the output.
    pub output: String,
    /// Its axes.
    pub output_layout: OutputLayout,
    /// What its numbers are.
    pub output_values: OutputValues,
}

/// The type of a state tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StateElement {
    /// 32-bit float.
    #[default]
    F32,
    /// 64-bit signed integer: how much was heard so far.
    I64,
}

impl StateElement {
    fn is_f32(&self) -> bool {
        *self == Self::F32
    }
}

/// One piece of state carried from chunk to chunk: zeros at the start of an utterance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateSpec {
    /// Graph input with the state before the chunk.
    pub input: String,
    /// Graph output with the state after it.
    pub output: String,
    /// Its axes without the batch axis.
    pub shape: Vec<usize>,
    /// The type of its elements.
    #[serde(default, skip_serializing_if = "StateElement::is_f32")]
    pub element: StateElement,
    /// Where the batch axis stands; null for a tensor that has none, which holds the state of one utterance.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub batch_axis: Option<usize>,
}

fn first() -> Option<usize> {
    Some(0)
}

fn is_first(axis: &Option<usize>) -> bool {
    *axis == Some(0)
}

impl StateSpec {
    /// A tensor of floats with the batch axis first.
    pub fn new(input: impl Into<String>, output: impl Into<String>, shape: Vec<usize>) -> Self {
        Self {
            input: input.into(),
            output: output.into(),
            shape,
            element: StateElement::F32,
            batch_axis: first(),
        }
    }
}

/// How a causal model is run in chunks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamingSpec {
    /// Feature frames by which a run advances in live use: a multiple of the stride.
    pub chunk_frames: usize,
    /// Further feature frames that a run is shown and the next run is shown again, for models whose first layers are
    /// not causal. Where there are any, every run has exactly `chunk_frames` and these.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub overlap_frames: usize,
    /// Output frames by which the output lags the input. The first that many outputs of an utterance are
    /// dropped, and the end is flushed with `delay_frames * stride` frames of `flush_value`.
    pub delay_frames: usize,
    /// The (normalized) feature value an utterance's end is flushed with.
    pub flush_value: f32,
    /// The state tensors, empty for a graph without memory.
    pub state: Vec<StateSpec>,
}

fn is_zero(frames: &usize) -> bool {
    *frames == 0
}

impl StreamingSpec {
    /// The number of frames that every run has, where the model can be run on no other.
    pub fn exact_frames(&self, graph: &GraphSpec) -> Option<usize> {
        let counts = |given: &GivenInput| {
            matches!(
                given.value,
                GivenValue::Counter { .. } | GivenValue::Filled { .. }
            )
        };
        (self.overlap_frames > 0 || graph.given.iter().any(counts))
            .then_some(self.chunk_frames + self.overlap_frames)
    }
}
