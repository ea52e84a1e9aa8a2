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
    /// How a reading is compared with its reference.
    pub compared: Compared,
}

/// How readings are compared with references.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// Word by word, as written: speech.
    AsWritten,
    /// On lower-case letters `a` to `z` and digits alone, an item being one word: the custom of scene text, where the
    /// word error rate is 100 % less the word accuracy.
    Folded,
}

/// The lower-case letters `a` to `z` and digits of a text.
pub fn folded(text: &str) -> String {
    text.chars()
        .map(|c| c.to_ascii_lowercase())
        .filter(char::is_ascii_alphanumeric)
        .collect()
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
            let (reference, found) = match set.compared {
                Compared::AsWritten => (reference.clone(), found.text),
                Compared::Folded => (folded(reference), folded(&found.text)),
            };
            words += word_errors(&reference, &found);
            characters += char_errors(&reference, &found);
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
