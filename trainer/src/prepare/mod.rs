//! Recordings and transcripts in the usual layouts to manifests: `acolyte-train prepare`.
//!
//! `layouts` finds pairs of audio and text, `transcript` brings the text into one form (NFC, and what the caller
//! decides about case, numbers and punctuation), `inspect` decodes every file once and looks for trouble,
//! `split` parts speakers into train and dev. Nothing is guessed silently: what was left out, what was kept
//! although it looks wrong, and the alphabet that results are all in the [`PrepareReport`]. Each manifest is written
//! whole, or not at all.

mod inspect;
mod layouts;
mod report;
mod split;
mod transcript;

pub use layouts::Layout;
pub use report::{PrepareReport, Problem, ProblemKind, SplitKind, SplitReport};
pub use transcript::{Numbers, Punctuation, clean};

use crate::config::Case;
use crate::data::manifest::{self, Row};
use crate::data::store::OnProgress;
use crate::error::{Error, ErrorKind, Result};
use layouts::Found;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What to prepare and how.
#[derive(Debug, Clone, PartialEq)]
pub struct PrepareOptions {
    /// The folder with the recordings.
    pub source: PathBuf,
    /// How they are laid out; absent: told from the folder's files.
    pub layout: Option<Layout>,
    /// The folder for `train.jsonl` and `dev.jsonl`; made if it is not there.
    pub output: PathBuf,
    /// Letter case. Default lower.
    pub case: Case,
    /// Digits. Default refuse: an alphabet with digits, or words for them, should be a decision.
    pub numbers: Numbers,
    /// Punctuation. Default strip.
    pub punctuation: Punctuation,
    /// Share of the audio for the dev set, by whole speakers. Default 0.05; 0 writes no dev set.
    pub dev_share: f64,
    /// Decides which speakers go where. Default 1.
    pub seed: u64,
    /// Seconds of an output frame, for what is too short for its text. Default 0.02.
    pub output_frame: f64,
}

impl PrepareOptions {
    /// The defaults for a source and an output folder.
    pub fn new(source: impl Into<PathBuf>, output: impl Into<PathBuf>) -> Self {
        Self {
            source: source.into(),
            layout: None,
            output: output.into(),
            case: Case::Lower,
            numbers: Numbers::Refuse,
            punctuation: Punctuation::Strip,
            dev_share: 0.05,
            seed: 1,
            output_frame: 0.02,
        }
    }
}

/// An utterance that passed every check.
#[derive(Debug, Clone)]
struct Accepted {
    found: Found,
    text: String,
    seconds: f64,
}

/// Prepares manifests; see the module.
///
/// # Errors
/// `Io` if a folder cannot be read or written; `Data` if the layout cannot be told, an index file is malformed, or
/// nothing usable is left. Faults of single rows are no errors, they are in the report.
pub fn prepare(options: &PrepareOptions, progress: OnProgress<'_>) -> Result<PrepareReport> {
    if !(0.0..=0.9).contains(&options.dev_share) || !(1e-4..=10.0).contains(&options.output_frame) {
        return Err(Error::new(
            ErrorKind::Data,
            format!(
                "a dev share of {} and output frames of {} s; expected 0 to 0.9 and 0.0001 to 10",
                options.dev_share, options.output_frame
            ),
        ));
    }
    let layout = match options.layout {
        Some(layout) => layout,
        None => Layout::detect(&options.source)?,
    };
    let mut problems = Vec::new();
    let found = layouts::find(layout, &options.source, &mut problems)?;
    let rows = found.len() + problems.len();
    let mut worded = Vec::with_capacity(found.len());
    for found in found {
        if found.audio.to_str().is_none() {
            let message = "its path is not Unicode, which a manifest cannot hold; rename it";
            problems.push(Problem::of(&found, ProblemKind::Unreadable, message));
            continue;
        }
        match transcript::prepare(&found.text, options) {
            Ok(text) => worded.push((found, text)),
            Err((kind, message)) => problems.push(Problem::of(&found, kind, message)),
        }
    }
    let accepted = inspect::inspect(worded, options, &mut problems, progress);
    if accepted.is_empty() {
        let first = problems
            .first()
            .map_or(String::new(), |p| format!("; first: {p}"));
        return Err(Error::new(
            ErrorKind::Data,
            format!("{rows} rows in {layout} layout, none usable{first}"),
        )
        .with_path(&options.source));
    }
    let alphabet = count_characters(&accepted);
    let (train, dev, split) = split::split(accepted, options);
    std::fs::create_dir_all(&options.output).map_err(|e| Error::io(&options.output, e))?;
    let train_manifest = options.output.join("train.jsonl");
    let dev_manifest = options.output.join("dev.jsonl");
    let (train_rows, dev_rows) = (
        manifest_rows(&train, &options.output),
        manifest_rows(&dev, &options.output),
    );
    manifest::write(&train_manifest, &train_rows)?;
    if !dev.is_empty() {
        manifest::write(&dev_manifest, &dev_rows)?;
    } else if dev_manifest.is_file() {
        // One of an earlier run would share its rows with the new training set.
        std::fs::remove_file(&dev_manifest).map_err(|e| Error::io(&dev_manifest, e))?;
    }
    Ok(PrepareReport {
        layout,
        rows,
        train: SplitReport::of(train_manifest, &train),
        dev: (!dev.is_empty()).then(|| SplitReport::of(dev_manifest, &dev)),
        split,
        alphabet,
        problems,
    })
}

fn count_characters(accepted: &[Accepted]) -> Vec<(char, u64)> {
    let mut counts = BTreeMap::new();
    for character in accepted.iter().flat_map(|row| row.text.chars()) {
        *counts.entry(character).or_insert(0) += 1;
    }
    counts.into_iter().collect()
}

/// Rows with paths relative to the manifest's folder where the audio lies in it, absolute otherwise.
fn manifest_rows(rows: &[Accepted], output: &Path) -> Vec<Row> {
    let output = std::fs::canonicalize(output).unwrap_or_else(|_| output.to_owned());
    rows.iter()
        .map(|row| {
            let audio =
                std::fs::canonicalize(&row.found.audio).unwrap_or_else(|_| row.found.audio.clone());
            let path = audio.strip_prefix(&output).unwrap_or(&audio);
            Row {
                audio_filepath: path.to_string_lossy().into_owned(),
                duration: (row.seconds * 1e6).round() / 1e6,
                offset: row.found.part.map(|[start, _]| start),
                text: row.text.clone(),
                speaker: row.found.speaker.clone(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
