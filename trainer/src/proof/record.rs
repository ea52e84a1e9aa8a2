//! One finished run, as a JSON line.

use super::file::Group;
use crate::teacher::guards::Findings;
use crate::{Error, ErrorKind, Result};
use acolyte::metrics::ErrorCounts;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Errors on one speaker's test utterances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Speaker {
    /// Word errors.
    pub word_errors: usize,
    /// Words said.
    pub words: usize,
    /// Character errors.
    pub char_errors: usize,
    /// Characters said.
    pub chars: usize,
}

impl Speaker {
    /// Adds an utterance's errors.
    pub fn add(&mut self, words: ErrorCounts, characters: ErrorCounts) {
        self.word_errors += words.edits();
        self.words += words.reference;
        self.char_errors += characters.edits();
        self.chars += characters.reference;
    }
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// A student, and its errors on the test part by speaker.
    Tested {
        /// By speaker.
        speakers: BTreeMap<String, Speaker>,
        /// Deviation of the words' spikes from the reference boundaries' middles about their mean, in milliseconds,
        /// on test utterances heard rightly; absent without reference boundaries.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        spike_spread_ms: Option<f64>,
        /// Mean of the same distances.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        spike_delay_ms: Option<f64>,
        /// Processor seconds of the student's training.
        student_seconds: f64,
        /// Updates to the student's checkpoint.
        student_steps: u64,
    },
    /// The teacher was refused as a guide.
    Refused,
}

/// What a teacher was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TeacherRecord {
    /// SHA-256 of its recipe.
    pub recipe: String,
    /// Word errors on its own training data in percent, greedy, on the features whose posteriors guide; an oracle's
    /// is given the transcripts.
    pub train_wer: f64,
    /// Processor seconds of its whole training.
    pub seconds: f64,
    /// Updates of its whole training.
    pub steps: u64,
    /// Processor seconds to the checkpoint that guides.
    pub best_seconds: f64,
    /// Updates to the checkpoint that guides.
    pub best_steps: u64,
    /// What the checks found.
    pub findings: Findings,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The regime.
    pub regime: String,
    /// The arm.
    pub arm: String,
    /// The arm's table.
    pub group: Group,
    /// The fold.
    pub fold: usize,
    /// The student's seed.
    pub seed: u64,
    /// SHA-256 of the recipe.
    pub recipe: String,
    /// Threads it ran with.
    pub threads: usize,
    /// Its teacher, where it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<TeacherRecord>,
    /// What came out.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Record {
    /// Whether it is of this run.
    pub fn is_of(&self, regime: &str, arm: &str, fold: usize, seed: u64) -> bool {
        self.regime == regime && self.arm == arm && self.fold == fold && self.seed == seed
    }

    /// The test errors by speaker; None for a refused teacher.
    pub fn speakers(&self) -> Option<&BTreeMap<String, Speaker>> {
        match &self.outcome {
            Outcome::Tested { speakers, .. } => Some(speakers),
            Outcome::Refused => None,
        }
    }
}

/// The records in the file at `path`; none where there is no file.
///
/// # Errors
/// [`ErrorKind::Io`]; [`ErrorKind::Data`], naming the line.
pub fn load(path: &Path) -> Result<Vec<Record>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(path, error)),
    };
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|error| {
                Error::new(
                    ErrorKind::Data,
                    format!("line {}: no record of a run: {error}", index + 1),
                )
                .with_path(path)
            })
        })
        .collect()
}

/// A record for tests.
#[cfg(test)]
pub(super) fn sample(arm: &str, seed: u64, errors: &[(&str, usize, usize)]) -> Record {
    let speakers = errors.iter().map(|&(name, word_errors, words)| {
        let own = Speaker {
            word_errors,
            words,
            char_errors: word_errors,
            chars: 4 * words,
        };
        (name.to_owned(), own)
    });
    Record {
        regime: "toy".to_owned(),
        arm: arm.to_owned(),
        group: Group::Rows,
        fold: 0,
        seed,
        recipe: "abc".to_owned(),
        threads: 2,
        teacher: None,
        outcome: Outcome::Tested {
            speakers: speakers.collect(),
            spike_spread_ms: None,
            spike_delay_ms: None,
            student_seconds: 3600.0,
            student_steps: 10,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_and_a_wrong_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs.jsonl");
        assert_eq!(load(&path).unwrap(), Vec::new());
        let mut refused = sample("clock", 2, &[]);
        refused.outcome = Outcome::Refused;
        let records = vec![sample("alone", 1, &[("a", 1, 10)]), refused];
        let lines: Vec<String> = records
            .iter()
            .map(|record| serde_json::to_string(record).unwrap())
            .collect();
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        assert_eq!(load(&path).unwrap(), records);
        std::fs::write(&path, format!("{}\n{{\"arm\": 3}}\n", lines[0])).unwrap();
        let error = load(&path).unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
    }
}
