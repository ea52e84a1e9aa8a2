//! Greedy error rates of a student on development sets, by the runtime's own decoder and metrics.

use super::pack::Row;
use super::step::EvaluationStep;
use crate::Result;
use acolyte::metrics::{ErrorCounts, char_errors, word_errors};
use acolyte::{Decoding, LogProbs, Tokens};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A development set made ready: packed rows and reference texts.
#[derive(Debug)]
pub struct Development {
    /// Its name in reports.
    pub name: String,
    /// Its utterances.
    pub rows: Vec<Row>,
    /// Reference texts by utterance index.
    pub texts: Vec<String>,
}

/// Errors on one set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The set's name.
    pub name: String,
    /// Word errors: substitutions, deletions, insertions over reference words.
    pub words: ErrorCounts,
    /// Character errors.
    pub characters: ErrorCounts,
    /// Word error rate in percent.
    pub wer: f64,
    /// Character error rate in percent.
    pub cer: f64,
}

/// Decodes every utterance of `set` greedily and counts errors.
pub fn evaluate(
    step: &mut EvaluationStep,
    set: &Development,
    tokens: &Arc<Tokens>,
) -> Result<Score> {
    let mut words = ErrorCounts::default();
    let mut characters = ErrorCounts::default();
    let plan = Decoding::greedy().plan(tokens)?;
    for row in &set.rows {
        for (segment, logits) in row.segments.iter().zip(step.run(row)?) {
            let found = plan
                .decode(&LogProbs::from_logits(logits.view()))?
                .into_best();
            let reference = &set.texts[segment.utterance.index];
            words += word_errors(reference, &found.text);
            characters += char_errors(reference, &found.text);
        }
    }
    Ok(Score {
        name: set.name.clone(),
        wer: 100.0 * words.rate(),
        cer: 100.0 * characters.rate(),
        words,
        characters,
    })
}
