//! What `prepare` did: counts, hours, speakers, the alphabet, and everything that looked wrong.

use super::Accepted;
use super::layouts::{Found, Layout};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

/// Problems of one kind that a printed report lists.
const SHOWN: usize = 5;

/// What is wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ProblemKind {
    /// A recording without a transcript.
    NoText,
    /// A transcript without a recording.
    NoAudio,
    /// A Kaldi entry that is a command; commands are never run.
    Command,
    /// Audio that cannot be decoded, or a part beyond its end.
    Unreadable,
    /// No text is left.
    EmptyText,
    /// Digits, where they are refused or cannot be spelled.
    Number,
    /// The same audio as an earlier row.
    DuplicateAudio,
    /// Text that needs more output frames than its audio has.
    Infeasible,
    /// The same text and length as an earlier row of the same speaker: perhaps the same recording.
    SuspectedDuplicate,
    /// Samples at full scale in a row: recorded too loud.
    Clipping,
    /// Nothing but zeros.
    Silent,
}

impl ProblemKind {
    /// Whether such a row is left out of the manifests.
    pub fn is_dropped(self) -> bool {
        !matches!(self, Self::SuspectedDuplicate | Self::Clipping)
    }
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoText => "recording without text",
            Self::NoAudio => "text without recording",
            Self::Command => "a command in place of a file",
            Self::Unreadable => "audio unreadable",
            Self::EmptyText => "no text",
            Self::Number => "digits",
            Self::DuplicateAudio => "duplicate audio",
            Self::Infeasible => "text too long for its audio",
            Self::SuspectedDuplicate => "same speaker, text and length",
            Self::Clipping => "clipping",
            Self::Silent => "silence",
        })
    }
}

/// One row that is wrong or looks wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file concerned: the audio, or the index that names it.
    pub path: PathBuf,
    /// The index file's line, where there is one.
    pub line: Option<usize>,
    /// What kind of problem.
    pub kind: ProblemKind,
    /// Details for people.
    pub message: String,
}

impl Problem {
    pub(super) fn of(found: &Found, kind: ProblemKind, message: impl Into<String>) -> Self {
        Self {
            path: found.audio.clone(),
            line: None,
            kind,
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        write!(f, "{}", self.kind)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

/// How train and dev were parted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SplitKind {
    /// No speaker is in both.
    BySpeaker,
    /// Speakers are unknown or there is only one: the dev error will flatter the model on other voices.
    ByUtterance,
    /// As the corpus has it.
    Official,
    /// There is no dev set.
    None,
}

impl fmt::Display for SplitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BySpeaker => "by speaker: no voice is in both sets",
            Self::ByUtterance => {
                "by utterance, for want of speakers: the dev error will be too good for other voices"
            }
            Self::Official => "as the corpus has it",
            Self::None => "no dev set",
        })
    }
}

/// One written manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitReport {
    /// The manifest.
    pub manifest: PathBuf,
    /// Its rows.
    pub rows: usize,
    /// Hours of audio.
    pub hours: f64,
    /// Speakers known.
    pub speakers: usize,
}

impl SplitReport {
    pub(super) fn of(manifest: PathBuf, rows: &[Accepted]) -> Self {
        let speakers: BTreeSet<_> = rows
            .iter()
            .filter_map(|r| r.found.speaker.as_ref())
            .collect();
        Self {
            manifest,
            rows: rows.len(),
            hours: rows.iter().map(|row| row.seconds).sum::<f64>() / 3600.0,
            speakers: speakers.len(),
        }
    }
}

/// What `prepare` did.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PrepareReport {
    /// The layout found or given.
    pub layout: Layout,
    /// Rows found, usable or not.
    pub rows: usize,
    /// The training manifest.
    pub train: SplitReport,
    /// The dev manifest.
    pub dev: Option<SplitReport>,
    /// How they were parted.
    pub split: SplitKind,
    /// The characters of the transcripts, sorted, with their counts.
    pub alphabet: Vec<(char, u64)>,
    /// What was wrong or looked wrong.
    pub problems: Vec<Problem>,
}

impl PrepareReport {
    /// Problems per kind.
    pub fn counts(&self) -> BTreeMap<ProblemKind, usize> {
        self.problems
            .iter()
            .fold(BTreeMap::new(), |mut counts, problem| {
                *counts.entry(problem.kind).or_default() += 1;
                counts
            })
    }
}

impl fmt::Display for PrepareReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} rows in {} layout", self.rows, self.layout)?;
        for split in std::iter::once(&self.train).chain(&self.dev) {
            writeln!(
                f,
                "{}: {} rows, {:.2} h, {} speakers",
                split.manifest.display(),
                split.rows,
                split.hours,
                split.speakers
            )?;
        }
        writeln!(f, "split {}", self.split)?;
        write!(f, "{} characters:", self.alphabet.len())?;
        for (character, count) in &self.alphabet {
            write!(f, " {character:?} {count}")?;
        }
        writeln!(f)?;
        for (kind, count) in self.counts() {
            let what = if kind.is_dropped() {
                "left out"
            } else {
                "kept, but look"
            };
            writeln!(f, "{what}: {count} x {kind}")?;
            let those = self.problems.iter().filter(|problem| problem.kind == kind);
            for problem in those.take(SHOWN) {
                writeln!(f, "  {problem}")?;
            }
            if count > SHOWN {
                writeln!(f, "  and {} more", count - SHOWN)?;
            }
        }
        Ok(())
    }
}
