//! What a step may learn from beside the transcript: the seam between the training loop and [`crate::distill`].

use super::pack::Row;
use crate::Result;
use crate::graph::Value;
use crate::graph::exec::Inputs;
use crate::network::Built;
use crate::nn::Net;
use std::fmt;

/// A training step under construction: the network and the loss's inputs.
#[derive(Debug)]
pub struct StepGraph<'a> {
    /// The network.
    pub built: &'a Built,
    /// The utterances' frames: i32 `[S, 3]` of (row, first frame, frames), unused places zero.
    pub segments: Value,
    /// Their symbols: i32 `[S, L]`, padded with -1.
    pub targets: Value,
    /// One over the row's frames for each utterance: f32 `[S]`.
    pub weights: Value,
    /// The CTC loss in nats a frame: `[]`.
    pub ctc: Value,
}

/// Adds losses to a training step and feeds them.
pub trait Supervision: fmt::Debug + Send + Sync {
    /// Views of each utterance that a row holds: 2 where differently augmented ones are compared, else 1.
    fn views(&self) -> usize {
        1
    }

    /// Adds inputs and nodes; returns the whole loss `[]`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Graph`] where shapes do not fit.
    fn attach(&self, net: &mut Net, step: &StepGraph<'_>) -> Result<Value>;

    /// Names of the outputs `[]` that are reported with the loss.
    fn parts(&self) -> Vec<String>;

    /// Fills its inputs for a row, when `progress` of the run, in [0, 1], is over.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Data`] where the row is not what the guidance is for.
    fn feed(&self, inputs: &mut dyn Inputs, row: &Row, progress: f64) -> Result<()>;
}
