//! Models: features in, scores out, and everything between a file on disk and its first run.
//!
//! [`CtcModel`] is all a recognizer knows of a model; [`FakeModel`] implements it without a network, and
//! `OrtModel` (feature `onnx`) runs an ONNX file. [`ModelFile`] is such a file read and checked;
//! [`Sequence`] turns runs over blocks into the scores of one utterance, delay and flush included. Axis
//! letters: T feature frames, F features, T' output frames, V vocabulary with blank.

mod fake;
mod file;
#[cfg(feature = "onnx")]
mod graph;
pub mod header;
#[cfg(feature = "onnx")]
mod library;
#[cfg(feature = "onnx")]
mod options;
#[cfg(feature = "onnx")]
mod ort;
#[cfg(feature = "onnx")]
mod output;
#[cfg(feature = "onnx")]
mod pool;
mod provider;
#[cfg(all(feature = "onnx", feature = "load-dynamic"))]
mod search;
mod sequence;
#[cfg(feature = "onnx")]
mod tensors;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod walk;
pub(crate) mod wire;

use crate::Result;
use crate::spec::{ModelSpec, StateElement};
use ndarray::{Array2, ArrayView2};
use std::fmt;

pub use fake::FakeModel;
pub use file::{MAX_MODEL_BYTES, ModelFile, read_bytes};
#[cfg(feature = "onnx")]
pub use graph::OrtGraph;
#[cfg(feature = "onnx")]
pub use library::{Library, LibraryOptions, TelemetryUploader};
#[cfg(feature = "onnx")]
pub use options::OrtOptions;
#[cfg(feature = "onnx")]
pub use ort::OrtModel;
#[cfg(feature = "onnx")]
pub use provider::{Availability, availability};
pub use provider::{CpuNodes, Provider, ProviderReport};
pub use sequence::{BLOCK_FRAMES, Sequence};

/// A CTC model: one object shared by any number of threads and streams, each with its own [`ModelState`].
pub trait CtcModel: Send + Sync + fmt::Debug {
    /// What the model says about itself.
    fn spec(&self) -> &ModelSpec;

    /// Scores `[T', V]` of the features `[T, F]`, in the values `spec().graph.output_values` names.
    ///
    /// For a model that streams, T is a multiple of the stride, T' = T / stride, and `state` carries the
    /// model from one block of an utterance to the next; the delay is still in the output ([`Sequence`]
    /// takes it out). Where the spec has `overlap_frames`, T is that many more. For any other model the features are a whole utterance and `state` is empty.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) for features of another F, a T that
    /// is not such a multiple, or another model's state;
    /// [`ErrorKind::Inference`](crate::ErrorKind::Inference) if the run fails or gives NaN.
    fn run(&self, features: ArrayView2<'_, f32>, state: &mut ModelState) -> Result<Array2<f32>>;

    /// The number of feature frames every run must have, for a graph with a fixed time axis.
    fn fixed_frames(&self) -> Option<usize> {
        None
    }

    /// One run for several utterances at once, each with its own state; an implementation may join blocks of
    /// equal length into one batch, this one goes through them in turn.
    ///
    /// # Errors
    /// As [`run`](Self::run), for the first that fails.
    fn run_batch(
        &self,
        blocks: &mut [(ArrayView2<'_, f32>, &mut ModelState)],
    ) -> Result<Vec<Array2<f32>>> {
        let runs = blocks.iter_mut();
        runs.map(|(features, state)| self.run(features.view(), state))
            .collect()
    }
}

/// One tensor of a state, batch axis left out.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum StateTensor {
    /// Floats.
    F32(Vec<f32>),
    /// Counts.
    I64(Vec<i64>),
}

impl StateTensor {
    /// Number of elements.
    #[allow(clippy::len_without_is_empty)] // A tensor of a checked spec is never empty.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::I64(values) => values.len(),
        }
    }
}

/// What a model carries from one block of an utterance to the next: one tensor for each entry of the spec's
/// `streaming.state`, and how many runs there were.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelState {
    tensors: Vec<StateTensor>,
    runs: u32,
}

impl ModelState {
    /// The state at the start of an utterance: zeros, or nothing for a model without state.
    pub fn start(spec: &ModelSpec) -> Self {
        let states = spec.streaming.iter().flat_map(|s| &s.state);
        let tensors = states.map(|state| {
            let size = state.shape.iter().product();
            match state.element {
                StateElement::F32 => StateTensor::F32(vec![0.0; size]),
                StateElement::I64 => StateTensor::I64(vec![0; size]),
            }
        });
        Self {
            tensors: tensors.collect(),
            runs: 0,
        }
    }

    /// The tensors in the order of the spec.
    pub fn tensors(&self) -> &[StateTensor] {
        &self.tensors
    }

    /// The same, for a model to write the next state into.
    pub fn tensors_mut(&mut self) -> &mut [StateTensor] {
        &mut self.tensors
    }

    /// How many runs led here.
    pub fn runs(&self) -> u32 {
        self.runs
    }

    /// Counts a run.
    pub fn count_run(&mut self) {
        self.runs = self.runs.saturating_add(1);
    }
}
