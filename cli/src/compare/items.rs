//! What models are compared and timed on: the recordings or the crops of a manifest.

use acolyte::Image;
use acolyte::audio::Audio;
use acolyte::metrics::{ErrorCounts, char_errors, word_errors};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Longest manifest that is read, in bytes.
const MAX_MANIFEST: u64 = 256 << 20;

/// A recording with `audio_filepath`, or a crop with `image`.
#[derive(Debug, Deserialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    file: Source,
    pub text: String,
    #[serde(default)]
    speaker: serde_json::Value,
}

#[derive(Debug, Deserialize)]
enum Source {
    #[serde(rename = "audio_filepath")]
    Recording(PathBuf),
    #[serde(rename = "image")]
    Crop(PathBuf),
}

/// What a model reads.
pub(crate) enum Item {
    Recording(Audio),
    Crop(Image),
}

impl Row {
    /// Decodes its file, below `folder`; a recording at `rate`.
    pub fn open(&self, folder: &Path, rate: u32) -> Result<Item> {
        Ok(match &self.file {
            Source::Recording(path) => {
                let samples = Audio::open(folder.join(path))?.mono(rate)?;
                Item::Recording(Audio::new(samples, rate, 1)?)
            }
            Source::Crop(_) => Item::Crop(self.image(folder)?),
        })
    }

    /// The crop, below `folder`.
    pub fn image(&self, folder: &Path) -> Result<Image> {
        match &self.file {
            Source::Recording(path) => bail!("{} is a recording, no image", path.display()),
            Source::Crop(path) => Ok(Image::open(folder.join(path))?),
        }
    }

    /// Who spoke it, if the manifest tells.
    pub fn speaker(&self) -> Option<String> {
        match &self.speaker {
            serde_json::Value::Null => None,
            serde_json::Value::String(name) => Some(name.clone()),
            other => Some(other.to_string()),
        }
    }

    /// Errors of `read` in words and in characters. A crop is one word, and counts by its letters `a` to `z`, in any
    /// case, and digits, as scene text is judged by custom.
    pub fn errors(&self, read: &str) -> (ErrorCounts, ErrorCounts) {
        match &self.file {
            Source::Recording(_) => (word_errors(&self.text, read), char_errors(&self.text, read)),
            Source::Crop(_) => {
                let (text, read) = (folded(&self.text), folded(read));
                (word_errors(&text, &read), char_errors(&text, &read))
            }
        }
    }
}

/// Letters and digits of ASCII, in lower case.
pub(crate) fn folded(text: &str) -> String {
    text.chars()
        .map(|c| c.to_ascii_lowercase())
        .filter(char::is_ascii_alphanumeric)
        .collect()
}

/// At most `most` rows of a manifest, evenly spaced. Crops without a letter or digit are no rows.
pub(crate) fn read(manifest: &Path, most: usize) -> Result<Vec<Row>> {
    let about = || format!("the manifest {}", manifest.display());
    let size = std::fs::metadata(manifest).with_context(about)?.len();
    if size > MAX_MANIFEST {
        bail!("{} is larger than {MAX_MANIFEST} bytes", about());
    }
    let text = std::fs::read_to_string(manifest).with_context(about)?;
    let mut rows = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let row: Row = serde_json::from_str(line).with_context(|| {
            format!(
                "{}: row {} is no object with `text` and either `audio_filepath` or `image`",
                about(),
                at + 1
            )
        })?;
        if matches!(row.file, Source::Recording(_)) || !folded(&row.text).is_empty() {
            rows.push(row);
        }
    }
    if rows.is_empty() || most == 0 {
        bail!("{} names nothing to compare on", about());
    }
    let (count, taken) = (rows.len(), most.min(rows.len()));
    let mut wanted = (0..taken).map(|index| index * count / taken).peekable();
    let mut at = 0..;
    rows.retain(|_| wanted.next_if_eq(&at.next().unwrap_or(count)).is_some());
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_taken_evenly_and_faults_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.jsonl");
        let line =
            |i| format!("{{\"audio_filepath\": \"{i}.wav\", \"text\": \"t\", \"speaker\": {i}}}\n");
        let text: String = (0..10).map(line).collect();
        std::fs::write(&path, &text).unwrap();
        let taken = read(&path, 3).unwrap();
        let speakers: Vec<Option<String>> = taken.iter().map(Row::speaker).collect();
        assert_eq!(speakers, ["0", "3", "6"].map(|name| Some(name.to_owned())));
        assert_eq!(read(&path, 99).unwrap().len(), 10);
        assert!(read(&path, 0).is_err());
        std::fs::write(&path, text + "{}\n").unwrap();
        let error = format!("{:#}", read(&path, 99).unwrap_err());
        assert!(error.contains("row 11"), "{error}");
    }

    #[test]
    fn crops_are_judged_by_letters_and_digits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.jsonl");
        let text = "{\"image\": \"a.png\", \"text\": \"Joe's 24\"}\n{\"image\": \"b.png\", \"text\": \"!\"}\n";
        std::fs::write(&path, text).unwrap();
        let rows = read(&path, 9).unwrap();
        assert_eq!(rows.len(), 1, "a crop without letters is left out");
        let errors = |read| {
            let (words, characters) = rows[0].errors(read);
            [
                words.edits(),
                words.reference,
                characters.edits(),
                characters.reference,
            ]
        };
        assert_eq!(errors("joes24!"), [0, 1, 0, 6]);
        assert_eq!(errors("joe 2 4"), [1, 1, 1, 6]);
        assert_eq!(errors(""), [1, 1, 6, 6]);
    }
}
