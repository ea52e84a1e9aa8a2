//! Sentences out of files: one a line, the transcripts of manifests, or prose.

use crate::config::Case;
use crate::error::{Error, ErrorKind, Result};
use crate::prepare::{Numbers, Punctuation, clean};
use serde::Deserialize;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// The longest line and the longest paragraph read, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// What the text of a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Form {
    /// A sentence a line, its words as they are to be; of a file `*.jsonl` the `text` of each object.
    #[default]
    Lines,
    /// Running text: paragraphs parted by empty lines, sentences ended by `.`, `!`, `?`, `;` or `:`. Words are made
    /// lower-case, punctuation is dropped, plain numbers are spelled (English); sentences with other numbers are
    /// left out.
    Prose,
}

/// Files with text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corpus {
    /// The files, read in this order.
    pub files: Vec<PathBuf>,
    /// What is in them.
    pub form: Form,
}

/// A line of a manifest, of which only the text counts.
#[derive(Debug, Deserialize)]
struct Row {
    text: String,
}

impl Corpus {
    /// Hands every sentence to `visit`, in order.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] for a file that cannot be read; [`ErrorKind::Data`] naming file and line for a line
    /// that is too long, not UTF-8, or no object with `text` in a file `*.jsonl`; and what `visit` returns.
    pub fn visit(&self, mut visit: impl FnMut(&str) -> Result<()>) -> Result<()> {
        for path in &self.files {
            let file = File::open(path).map_err(|error| Error::io(path, error))?;
            let rows = path.extension().is_some_and(|end| end == "jsonl");
            let reader = BufReader::new(file);
            match self.form {
                Form::Lines => lines(reader, path, |line, number| match rows {
                    false => visit(line),
                    true if line.trim().is_empty() => Ok(()),
                    true => {
                        let row: Row = serde_json::from_str(line).map_err(|error| {
                            at(number, &format!("no object with `text`: {error}")).with_path(path)
                        })?;
                        visit(&row.text)
                    }
                })?,
                Form::Prose => prose(reader, path, &mut visit)?,
            }
        }
        Ok(())
    }
}

/// Hands out the lines of a file with their numbers, from 1.
fn lines(
    mut reader: impl BufRead,
    path: &Path,
    mut visit: impl FnMut(&str, u64) -> Result<()>,
) -> Result<()> {
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        let mut bounded = reader.by_ref().take(MAX_BYTES as u64 + 1);
        let read = bounded.read_until(b'\n', &mut bytes);
        if read.map_err(|error| Error::io(path, error))? == 0 {
            break;
        }
        if bytes.len() > MAX_BYTES {
            let message = format!("the line is longer than {MAX_BYTES} bytes");
            return Err(at(number, &message).with_path(path));
        }
        let line = std::str::from_utf8(&bytes)
            .map_err(|_| at(number, "the line is not UTF-8").with_path(path))?;
        visit(line.trim_end_matches(['\r', '\n']), number)?;
    }
    Ok(())
}

fn at(number: u64, message: &str) -> Error {
    Error::new(ErrorKind::Data, format!("line {number}: {message}"))
}

/// Hands out the sentences of running text.
fn prose(
    reader: impl BufRead,
    path: &Path,
    visit: &mut impl FnMut(&str) -> Result<()>,
) -> Result<()> {
    let mut paragraph = String::new();
    lines(reader, path, |line, number| {
        if line.trim().is_empty() {
            sentences(&paragraph, visit)?;
            paragraph.clear();
            return Ok(());
        }
        if paragraph.len() + line.len() > MAX_BYTES {
            let message = format!("the paragraph is longer than {MAX_BYTES} bytes");
            return Err(at(number, &message).with_path(path));
        }
        paragraph.push_str(line);
        paragraph.push('\n');
        Ok(())
    })?;
    sentences(&paragraph, visit)
}

fn sentences(paragraph: &str, visit: &mut impl FnMut(&str) -> Result<()>) -> Result<()> {
    // A full stop within a number or a word ends nothing: it ends a sentence before white space only.
    let mut start = 0;
    let mut ends = Vec::new();
    let mut characters = paragraph.char_indices().peekable();
    while let Some((place, c)) = characters.next() {
        let closes =
            |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ')' | '\u{201d}' | '\u{2019}');
        let follows = characters.peek().is_none_or(|&(_, next)| closes(next));
        if matches!(c, '.' | '!' | '?' | ';' | ':') && follows {
            ends.push(place + c.len_utf8());
        }
    }
    for end in ends.into_iter().chain([paragraph.len()]) {
        let sentence = &paragraph[start..end];
        start = end;
        // What has no words, or numbers that only a reader could spell, is left out.
        if let Ok(cleaned) = clean(sentence, Case::Lower, Numbers::Spell, Punctuation::Strip) {
            visit(&cleaned)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &[u8], form: Form) -> Result<Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let mut found = Vec::new();
        let files = vec![path];
        Corpus { files, form }.visit(|sentence| {
            found.push(sentence.to_owned());
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn sentences_come_in_order() {
        let lines = read("a.txt", b"One two\r\nthree", Form::Lines).unwrap();
        assert_eq!(lines, ["One two", "three"]);
        let rows = b"{\"text\": \"yes\", \"duration\": 1}\n\n{\"text\": \"no\"}\n";
        assert_eq!(read("a.jsonl", rows, Form::Lines).unwrap(), ["yes", "no"]);
        let text = "CHAPTER I\n\n\"Don't!\" he said: it cost\nMr. X 3.5 days -- or 21. In 1914\u{e9} no.\nYes";
        let prose = read("a.txt", text.as_bytes(), Form::Prose).unwrap();
        let expected = [
            "chapter i",
            "don't",
            "he said",
            "it cost mr",
            "x three point five days or twenty one",
            "yes",
        ];
        assert_eq!(prose, expected);
    }

    #[test]
    fn bad_files_are_named_with_their_line() {
        let long = vec![b'a'; MAX_BYTES + 1];
        for (name, text, message) in [
            ("a.txt", &b"a\n\xff"[..], "line 2: the line is not UTF-8"),
            (
                "a.jsonl",
                b"{\"text\": \"a\"}\nb\n",
                "line 2: no object with `text`",
            ),
            ("a.txt", &long, "line 1: the line is longer"),
        ] {
            let error = read(name, text, Form::Lines).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Data);
            assert!(error.to_string().contains(message), "{error}");
            assert!(error.to_string().contains(name), "{error}");
        }
        let corpus = Corpus {
            files: vec!["no/such.txt".into()],
            form: Form::Lines,
        };
        let error = corpus.visit(|_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
    }
}
