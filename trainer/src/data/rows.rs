//! A recipe's manifests as utterances ready to decode, and an account of every row left out.
//!
//! Only manifests are read here, no audio. Rows outside the recipe's length bounds are left out of training and
//! counted. A row that cannot be used (missing file, empty text, a character outside the alphabet) is an error
//! that names manifest and line, or with `bad_rows = "drop"` is left out and counted too.

use super::manifest::{self, Entry, line_error};
use super::text::{derive_alphabet, normalize, vocabulary};
use crate::config::{BadRows, Recipe};
use crate::error::Result;
use acolyte::Tokens;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// One usable row.
#[derive(Debug, Clone, PartialEq)]
pub struct Utterance {
    /// The audio file.
    pub audio: PathBuf,
    /// Where in the file it begins, in seconds; absent for the whole file.
    pub offset: Option<f64>,
    /// Length in seconds, as the manifest says.
    pub duration: f64,
    /// The normalized transcript.
    pub text: String,
    /// Its token ids.
    pub targets: Vec<u32>,
    /// Who speaks, where known.
    pub speaker: Option<String>,
    /// The manifest's line.
    pub line: usize,
}

/// The usable rows of one manifest.
#[derive(Debug, Clone)]
pub struct Rows {
    /// The set's name: a dev set's own, a training manifest's path as in the recipe.
    pub name: String,
    /// The manifest.
    pub manifest: PathBuf,
    /// Times an epoch sees each row; 1 for a dev set.
    pub repeat: f32,
    /// The rows, in the manifest's order.
    pub utterances: Vec<Utterance>,
}

/// Why a row is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The audio file is not there.
    MissingFile,
    /// The audio cannot be decoded, or is shorter than the part that the row names.
    Unreadable,
    /// The transcript is empty.
    EmptyText,
    /// The transcript has a character that no token covers.
    Alphabet,
    /// Longer than the recipe's `max_seconds`.
    TooLong,
    /// Shorter than the recipe's `min_seconds`.
    TooShort,
    /// The transcript needs more output frames than the audio has.
    Infeasible,
}

impl Reason {
    /// Whether something is wrong with the row; rows beyond the recipe's length bounds are left out on purpose.
    pub fn is_fault(self) -> bool {
        !matches!(self, Self::TooLong | Self::TooShort)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MissingFile => "audio file missing",
            Self::Unreadable => "audio unreadable",
            Self::EmptyText => "empty text",
            Self::Alphabet => "character outside the alphabet",
            Self::TooLong => "longer than max_seconds",
            Self::TooShort => "shorter than min_seconds",
            Self::Infeasible => "text too long for its audio",
        })
    }
}

/// A row left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedRow {
    /// The manifest.
    pub manifest: PathBuf,
    /// The row's line.
    pub line: usize,
    /// Why, for counting.
    pub reason: Reason,
    /// Why, for people.
    pub message: String,
}

/// Rows per reason.
pub fn count_reasons<'a>(
    dropped: impl IntoIterator<Item = &'a DroppedRow>,
) -> BTreeMap<Reason, usize> {
    dropped
        .into_iter()
        .fold(BTreeMap::new(), |mut counts, row| {
            *counts.entry(row.reason).or_default() += 1;
            counts
        })
}

/// All rows of a recipe.
#[derive(Debug, Clone)]
pub struct RecipeRows {
    /// The vocabulary: the recipe's, or derived from the training transcripts.
    pub tokens: Tokens,
    /// The tokens without the blank, in id order from 1.
    pub alphabet: Vec<String>,
    /// The training sets, in the recipe's order.
    pub train: Vec<Rows>,
    /// The dev sets, in the recipe's order.
    pub dev: Vec<Rows>,
    /// Rows left out.
    pub dropped: Vec<DroppedRow>,
}

impl RecipeRows {
    /// Reads the manifests of `recipe`, which lie in `folder`.
    ///
    /// # Errors
    /// `Io` and `Data`, naming manifest and line; see the module. `Recipe` if no vocabulary can be made.
    pub fn read(recipe: &Recipe, folder: &Path) -> Result<Self> {
        let read = |manifest: &Path| {
            let path = folder.join(manifest);
            manifest::read(&path).map(|entries| (path, entries))
        };
        let mut train = Vec::new();
        for set in &recipe.data.train {
            train.push((set, read(&set.manifest)?));
        }
        let alphabet = if recipe.text.tokens.is_empty() {
            let texts: Vec<String> = train
                .iter()
                .flat_map(|(_, (_, entries))| entries)
                .map(|entry| normalize(&entry.text, recipe.text.case))
                .collect();
            derive_alphabet(texts.iter().map(String::as_str))
        } else {
            recipe.text.tokens.clone()
        };
        let mut rows = Self {
            tokens: vocabulary(&recipe.text, &alphabet)?,
            alphabet,
            train: Vec::new(),
            dev: Vec::new(),
            dropped: Vec::new(),
        };
        for (set, (path, entries)) in train {
            let name = set.manifest.display().to_string();
            let bounds = Some([recipe.data.min_seconds, recipe.data.max_seconds]);
            let utterances = rows.admit(recipe, &path, entries, bounds)?;
            rows.train.push(Rows {
                name,
                manifest: path,
                repeat: set.repeat,
                utterances,
            });
        }
        for set in &recipe.data.dev {
            let (path, entries) = read(&set.manifest)?;
            let utterances = rows.admit(recipe, &path, entries, None)?;
            rows.dev.push(Rows {
                name: set.name.clone(),
                manifest: path,
                repeat: 1.0,
                utterances,
            });
        }
        Ok(rows)
    }

    fn admit(
        &mut self,
        recipe: &Recipe,
        path: &Path,
        entries: Vec<Entry>,
        bounds: Option<[f32; 2]>,
    ) -> Result<Vec<Utterance>> {
        let mut utterances = Vec::with_capacity(entries.len());
        for entry in entries {
            let line = entry.line;
            match judge(&self.tokens, recipe, entry, bounds) {
                Ok(utterance) => utterances.push(utterance),
                Err((reason, message)) => {
                    drop_or_refuse(&mut self.dropped, recipe, path, line, reason, message)?;
                }
            }
        }
        Ok(utterances)
    }
}

/// Notes a row left out, or makes it an error where the recipe wants that; length bounds are never errors.
pub(super) fn drop_or_refuse(
    dropped: &mut Vec<DroppedRow>,
    recipe: &Recipe,
    manifest: &Path,
    line: usize,
    reason: Reason,
    message: String,
) -> Result<()> {
    if reason.is_fault() && recipe.data.bad_rows == BadRows::Refuse {
        return Err(line_error(
            manifest,
            line,
            format_args!("{message}; mend the row, or set data.bad_rows = \"drop\""),
        ));
    }
    dropped.push(DroppedRow {
        manifest: manifest.to_owned(),
        line,
        reason,
        message,
    });
    Ok(())
}

fn judge(
    tokens: &Tokens,
    recipe: &Recipe,
    entry: Entry,
    bounds: Option<[f32; 2]>,
) -> Result<Utterance, (Reason, String)> {
    if let Some([shortest, longest]) = bounds {
        if entry.duration > f64::from(longest) {
            return Err((
                Reason::TooLong,
                format!("{} s, more than {longest} s", entry.duration),
            ));
        }
        if entry.duration < f64::from(shortest) {
            return Err((
                Reason::TooShort,
                format!("{} s, less than {shortest} s", entry.duration),
            ));
        }
    }
    if !entry.audio.is_file() {
        return Err((
            Reason::MissingFile,
            format!("there is no audio file {}", entry.audio.display()),
        ));
    }
    let text = normalize(&entry.text, recipe.text.case);
    let targets = tokens
        .encode(&text)
        .map_err(|e| (Reason::Alphabet, format!("`text` is {text:?}: {e}")))?;
    if targets.is_empty() {
        return Err((Reason::EmptyText, "`text` is empty".to_owned()));
    }
    Ok(Utterance {
        audio: entry.audio,
        offset: entry.offset,
        duration: entry.duration,
        text,
        targets,
        speaker: entry.speaker,
        line: entry.line,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const ROWS: &[(&str, f64, &str, Option<Reason>)] = &[
        ("a.wav", 1.0, "Hello  you", None),
        ("b.wav", 1.0, "hello", Some(Reason::MissingFile)),
        ("a.wav", 1.0, " \t", Some(Reason::EmptyText)),
        ("a.wav", 1.0, "h\u{e9}llo", Some(Reason::Alphabet)),
        ("a.wav", 99.0, "hello", Some(Reason::TooLong)),
        ("a.wav", 0.05, "hello", Some(Reason::TooShort)),
    ];

    fn recipe(sets: &str, tokens: &str, bad_rows: &str) -> Recipe {
        let text = format!(
            "name = \"toy\"\ntask = \"speech\"\nlicense = \"MIT\"\n[data]\n{sets}\nbad_rows = \"{bad_rows}\"\n[text]\ntokens = {tokens}\n"
        );
        Recipe::parse(&text, &[] as &[&str]).unwrap()
    }

    fn folder_with(rows: &[(&str, f64, &str, Option<Reason>)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.wav"), "sound").unwrap();
        let lines: String = rows
            .iter()
            .map(|(audio, duration, text, _)| {
                serde_json::json!({"audio_filepath": audio, "duration": duration, "text": text})
                    .to_string()
                    + "\n"
            })
            .collect();
        std::fs::write(folder.path().join("m.jsonl"), lines).unwrap();
        folder
    }

    const TRAIN: &str = "train = [{ manifest = \"m.jsonl\", repeat = 2.5 }]";
    const LETTERS: &str = "[\" \", \"e\", \"h\", \"l\", \"o\", \"u\", \"y\"]";

    #[test]
    fn unusable_rows_are_dropped_and_counted_by_reason() {
        let folder = folder_with(ROWS);
        let rows = RecipeRows::read(&recipe(TRAIN, LETTERS, "drop"), folder.path()).unwrap();
        assert_eq!(rows.train[0].utterances.len(), 1);
        assert_eq!(rows.train[0].utterances[0].text, "hello you");
        assert_eq!(
            rows.train[0].utterances[0].targets,
            [3, 2, 4, 4, 5, 1, 7, 5, 6]
        );
        assert_eq!(rows.train[0].repeat, 2.5);
        let counts = count_reasons(&rows.dropped);
        for (line, (_, _, _, reason)) in ROWS.iter().enumerate() {
            if let Some(reason) = reason {
                assert_eq!(counts[reason], 1, "{reason}");
                assert!(
                    rows.dropped
                        .iter()
                        .any(|d| d.line == line + 1 && d.reason == *reason)
                );
            }
        }
    }

    #[test]
    fn unusable_rows_are_refused_with_file_line_and_cause() {
        for (row, part) in [(1, "b.wav"), (2, "empty"), (3, "'\u{e9}'")] {
            let folder = folder_with(&[ROWS[0], ROWS[row]]);
            let error =
                RecipeRows::read(&recipe(TRAIN, LETTERS, "refuse"), folder.path()).unwrap_err();
            let text = error.to_string();
            assert_eq!(error.kind(), ErrorKind::Data);
            assert!(
                text.contains("m.jsonl") && text.contains("line 2") && text.contains(part),
                "{text}"
            );
        }
    }

    #[test]
    fn dev_sets_keep_rows_of_any_length() {
        let folder = folder_with(&[ROWS[0], ROWS[4], ROWS[5]]);
        let sets = format!("{TRAIN}\ndev = [{{ name = \"d\", manifest = \"m.jsonl\" }}]");
        let rows = RecipeRows::read(&recipe(&sets, LETTERS, "refuse"), folder.path()).unwrap();
        assert_eq!(
            (rows.train[0].utterances.len(), rows.dev[0].utterances.len()),
            (1, 3)
        );
        assert_eq!(rows.dev[0].name, "d");
    }

    #[test]
    fn an_alphabet_is_derived_where_none_is_given() {
        let folder = folder_with(&ROWS[..1]);
        let rows = RecipeRows::read(&recipe(TRAIN, "[]", "refuse"), folder.path()).unwrap();
        assert_eq!(rows.alphabet.concat(), " ehlouy");
        assert_eq!(rows.tokens.len(), 8);
    }
}
