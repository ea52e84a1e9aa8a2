//! The networks whose training steps are measured. Each stands once more in `xtask/peers/train_step.py`; the number of
//! parameters is part of a figure's name, so that only equal ones are compared.

mod recipe;
mod reference;
mod teacher;
mod text;

use crate::Result;
use crate::graph::Value;
use crate::nn::Net;

/// A network with its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Network {
    /// The reference student: depthwise and linear layers over rows.
    Reference,
    /// A text student: two-dimensional convolutions over lines of text.
    Text,
    /// An attention teacher: convolutions over the speech, self-attention over its text, cross-attention.
    Teacher,
    /// The student of the recipe `speech-tiny`, over a packed row.
    SpeechTiny,
    /// The student of the recipe `scene-tiny`, over a packed row.
    SceneTiny,
}

impl Network {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Reference,
        Self::Text,
        Self::Teacher,
        Self::SpeechTiny,
        Self::SceneTiny,
    ];

    /// Its name in figures and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Text => "text",
            Self::Teacher => "teacher",
            Self::SpeechTiny => "speech-tiny",
            Self::SceneTiny => "scene-tiny",
        }
    }

    pub(super) fn build(self, net: &mut Net) -> Result<Task> {
        match self {
            Self::Reference => reference::build(net),
            Self::Text => text::build(net),
            Self::Teacher => teacher::build(net),
            Self::SpeechTiny => recipe::build(net, &recipe::SPEECH_TINY),
            Self::SceneTiny => recipe::build(net, &recipe::SCENE_TINY),
        }
    }
}

/// What a graph's input holds.
pub(super) enum Fed {
    Floats(Vec<f32>),
    Integers(Vec<i64>),
}

/// A built network and the batch it is fed.
pub(super) struct Task {
    /// `[B, V, 1, T]`.
    pub logits: Value,
    /// V.
    pub vocabulary: usize,
    /// Row, first frame and frames of each utterance.
    pub segments: Vec<[i32; 3]>,
    /// Symbols of each target.
    pub longest: usize,
    /// The network's inputs by name.
    pub fed: Vec<(&'static str, Fed)>,
}

/// One utterance a row.
fn rows(count: usize, frames: usize) -> Vec<[i32; 3]> {
    (0..count as i32)
        .map(|row| [row, 0, frames as i32])
        .collect()
}

/// `[B, T, V]` to the `[B, V, 1, T]` that the loss takes.
fn symbols_first(net: &mut Net, logits: Value) -> Result<Value> {
    let logits = net.graph.transpose(logits, &[0, 2, 1])?;
    let mut shape = net.graph.shape(logits).to_vec();
    shape.insert(2, 1);
    net.graph.reshape(logits, &shape)
}
