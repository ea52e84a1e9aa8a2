//! What a run tells: one record an update, one an epoch, one for its start and its end; the lines of `metrics.jsonl`.

use super::evaluate::Score;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the loop tells whoever watches it.
pub trait Observer {
    /// An update was made.
    fn step(&mut self, record: &StepRecord);
    /// An epoch ended and was judged.
    fn epoch(&mut self, record: &EpochRecord);
    /// Something worth a line, such as a skipped batch.
    fn note(&mut self, text: &str);
}

/// One update.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepRecord {
    /// Batches so far.
    pub step: u64,
    /// The epoch, from 0.
    pub epoch: u64,
    /// Part of the run that is over, in [0, 1].
    pub progress: f64,
    /// Loss in nats per output frame, the mean over the update's batches: CTC, and what distillation adds.
    pub loss: f32,
    /// Its parts by name, before their weights, where there is more than CTC.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, f32>,
    /// Global gradient norm before clipping; not finite where no update was made.
    pub gradient_norm: f32,
    /// Learning rate of the update.
    pub learning_rate: f32,
    /// Utterances in its batches.
    pub utterances: usize,
    /// Those whose target did not fit.
    pub infeasible: usize,
    /// Seconds of audio in its batches.
    pub audio_seconds: f64,
    /// Seconds of training so far.
    pub seconds: f64,
}

/// One epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// The epoch, from 0.
    pub epoch: u64,
    /// Batches so far.
    pub step: u64,
    /// Mean loss over its batches, nats per output frame.
    pub loss: f64,
    /// Batches left out since a number was not finite.
    pub skipped: usize,
    /// Targets that did not fit their frames.
    pub infeasible: usize,
    /// Errors on the development sets.
    pub development: Vec<Score>,
    /// Seconds of training so far.
    pub seconds: f64,
}

/// The mean of several epochs' weights, judged when a run ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AverageRecord {
    /// The epochs averaged, from 0.
    pub averaged_epochs: Vec<u64>,
    /// Errors on the development sets.
    pub errors: Vec<Score>,
    /// Whether the mean was better than the best epoch and took its place.
    pub better: bool,
}

/// What a run took from the model it started from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRecord {
    /// The model's folder.
    pub started_from: String,
    /// Tokens of the recipe that the model knew too, the blank included.
    pub tokens_matched: usize,
    /// Tokens of the recipe that it did not know: their rows start at the mean of the others'.
    pub tokens_new: Vec<String>,
    /// Tokens that it knew and the recipe does not have.
    pub tokens_left: Vec<String>,
    /// Parameters and statistics taken.
    pub tensors_taken: usize,
    /// Those that it did not have: they start at random.
    pub tensors_new: Vec<String>,
    /// Parameters that keep their weights.
    pub frozen: Vec<String>,
}
