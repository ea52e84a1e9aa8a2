//! Manifests: one JSON object a line, as NeMo writes them.
//!
//! Keys: `audio_filepath` (absolute, or relative to the manifest's folder), `duration` in seconds, `text`, and
//! optionally `speaker` and `offset` (seconds into the file). Other keys are ignored. Every error names the
//! file and the line. Lines are bounded, so that a file that is no manifest cannot fill the memory.

use crate::error::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// The longest line read, in bytes.
pub const MAX_LINE_BYTES: usize = 1 << 20;

/// The longest utterance a row may declare, in seconds.
pub const MAX_SECONDS: f64 = 86_400.0;

/// One utterance of a manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The line it stands on, from 1.
    pub line: usize,
    /// The audio file.
    pub audio: PathBuf,
    /// Length in seconds, as the manifest says.
    pub duration: f64,
    /// Where in the file it begins, in seconds; the whole file is the utterance where this is absent.
    pub offset: Option<f64>,
    /// The transcript as written.
    pub text: String,
    /// Who speaks, where known.
    pub speaker: Option<String>,
}

/// A row as written by [`write()`]; paths are given as the caller wants them to stand in the file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The audio file, relative to the manifest's folder or absolute.
    pub audio_filepath: String,
    /// Length in seconds.
    pub duration: f64,
    /// Where in the file the utterance begins, in seconds; absent for a whole file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<f64>,
    /// The transcript.
    pub text: String,
    /// Who speaks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speaker: Option<String>,
}

#[derive(Deserialize)]
struct RawRow {
    audio_filepath: PathBuf,
    duration: f64,
    #[serde(default)]
    offset: Option<f64>,
    text: String,
    #[serde(default)]
    speaker: serde_json::Value,
}

/// An error about one line of a file.
pub(crate) fn line_error(path: &Path, line: usize, message: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Data, format!("line {line}: {message}")).with_path(path)
}

/// Reads the manifest at `path`; blank lines are skipped.
///
/// # Errors
/// `Io` if the file cannot be read; `Data`, naming file and line, for a line that is not UTF-8 JSON with the
/// keys above, is longer than [`MAX_LINE_BYTES`], or declares a length that is not between 0 and a day; and for
/// a manifest without rows.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<Entry>> {
    read_rows(path.as_ref(), parse_row)
}

/// The rows of a manifest through `parse`, which takes the manifest's folder, the line's number and its text; blank lines
/// are skipped, and there must be a row.
pub(crate) fn read_rows<T, M: std::fmt::Display>(
    path: &Path,
    parse: impl Fn(&Path, usize, &str) -> std::result::Result<T, M>,
) -> Result<Vec<T>> {
    let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut entries = Vec::new();
    for_each_line(path, BufReader::new(file), |line, text| {
        if !text.trim().is_empty() {
            entries.push(parse(folder, line, text).map_err(|m| line_error(path, line, m))?);
        }
        Ok(())
    })?;
    if entries.is_empty() {
        return Err(Error::new(
            ErrorKind::Data,
            "a manifest without rows; expected one JSON object a line",
        )
        .with_path(path));
    }
    Ok(entries)
}

/// Calls `visit` with each line's number and text, refusing overlong lines and bytes that are not UTF-8.
pub(crate) fn for_each_line(
    path: &Path,
    mut reader: impl BufRead,
    mut visit: impl FnMut(usize, &str) -> Result<()>,
) -> Result<()> {
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        let read = (&mut reader)
            .take(MAX_LINE_BYTES as u64 + 1)
            .read_until(b'\n', &mut bytes)
            .map_err(|e| Error::io(path, e))?;
        if read == 0 {
            break;
        }
        if read > MAX_LINE_BYTES {
            return Err(line_error(
                path,
                line,
                format_args!("longer than {MAX_LINE_BYTES} bytes"),
            ));
        }
        let text = std::str::from_utf8(&bytes)
            .map_err(|e| line_error(path, line, format_args!("not UTF-8: {e}")))?;
        let text = text
            .strip_prefix('\u{feff}')
            .filter(|_| line == 1)
            .unwrap_or(text);
        visit(line, text)?;
    }
    Ok(())
}

fn parse_row(folder: &Path, line: usize, text: &str) -> Result<Entry, String> {
    let row: RawRow = serde_json::from_str(text).map_err(|e| {
        format!(
            "not a manifest row ({e}); expected an object with audio_filepath, duration and text"
        )
    })?;
    if row.audio_filepath.as_os_str().is_empty() {
        return Err("`audio_filepath` is empty".to_owned());
    }
    if !(row.duration > 0.0 && row.duration <= MAX_SECONDS) {
        return Err(format!(
            "`duration` is {}; expected seconds, above 0 and at most {MAX_SECONDS}",
            row.duration
        ));
    }
    if let Some(offset) = row.offset
        && !(0.0..=MAX_SECONDS).contains(&offset)
    {
        return Err(format!("`offset` is {offset}; expected seconds"));
    }
    Ok(Entry {
        line,
        audio: folder.join(row.audio_filepath),
        duration: row.duration,
        offset: row.offset,
        text: row.text,
        speaker: match row.speaker {
            serde_json::Value::String(name) => Some(name),
            serde_json::Value::Number(number) => Some(number.to_string()),
            _ => None,
        },
    })
}

/// Writes a manifest in one piece: to a temporary file beside `path`, then renamed over it.
///
/// # Errors
/// `Io` if the folder cannot be written; the old manifest, if any, is then unharmed.
pub fn write(path: impl AsRef<Path>, rows: &[Row]) -> Result<()> {
    let path = path.as_ref();
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = path.with_file_name(name);
    let written = (|| {
        let mut out = std::io::BufWriter::new(std::fs::File::create(&partial)?);
        for row in rows {
            serde_json::to_writer(&mut out, row)?;
            out.write_all(b"\n")?;
        }
        out.into_inner().map_err(|e| e.into_error())?.sync_all()?;
        std::fs::rename(&partial, path)
    })();
    written.map_err(|e| {
        // The error below matters more than a partial file that could not be removed either.
        let _ = std::fs::remove_file(&partial);
        Error::io(path, e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_bytes(bytes: &[u8]) -> Result<Vec<Entry>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.jsonl");
        std::fs::write(&path, bytes).unwrap();
        read(&path)
    }

    #[test]
    fn rows_are_read_with_paths_relative_to_the_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.jsonl");
        let text = "\u{feff}{\"audio_filepath\": \"a/b.wav\", \"duration\": 1, \"text\": \"hi\", \"speaker\": 7, \"more\": []}\n\n\
                    {\"audio_filepath\": \"/c.wav\", \"duration\": 2.5, \"offset\": 3, \"text\": \"\", \"speaker\": null}";
        std::fs::write(&path, text).unwrap();
        let entries = read(&path).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].audio, folder.path().join("a/b.wav"));
        assert_eq!(entries[0].speaker.as_deref(), Some("7"));
        assert_eq!(entries[1].audio, Path::new("/c.wav"));
        assert_eq!(
            (entries[1].line, entries[1].offset, entries[1].duration),
            (3, Some(3.0), 2.5)
        );
    }

    #[test]
    fn faults_name_file_and_line() {
        let good = "{\"audio_filepath\": \"a\", \"duration\": 1, \"text\": \"x\"}\n";
        let long = format!("{{\"text\": \"{}\"}}", "x".repeat(MAX_LINE_BYTES));
        let cases: &[(&[u8], &str)] = &[
            (b"not json", "line 2"),
            (b"[1, 2]", "line 2"),
            (b"{\"audio_filepath\": \"a\", \"duration\": 1}", "text"),
            (b"{\"duration\": 1, \"text\": \"x\"}", "audio_filepath"),
            (
                b"{\"audio_filepath\": \"\", \"duration\": 1, \"text\": \"x\"}",
                "audio_filepath",
            ),
            (
                b"{\"audio_filepath\": \"a\", \"duration\": 0, \"text\": \"x\"}",
                "duration",
            ),
            (
                b"{\"audio_filepath\": \"a\", \"duration\": 1e300, \"text\": \"x\"}",
                "duration",
            ),
            (
                b"{\"audio_filepath\": \"a\", \"duration\": NaN, \"text\": \"x\"}",
                "line 2",
            ),
            (
                b"{\"audio_filepath\": \"a\", \"duration\": 1, \"offset\": -1, \"text\": \"x\"}",
                "offset",
            ),
            (
                b"{\"audio_filepath\": \"a\", \"duration\": 1, \"text\": \"x\"",
                "line 2",
            ),
            (b"\xff\xfe", "UTF-8"),
            (long.as_bytes(), "longer"),
        ];
        for (line, part) in cases {
            let error = read_bytes(&[good.as_bytes(), line].concat()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Data);
            let text = error.to_string();
            assert!(
                text.contains("m.jsonl") && text.contains("line 2"),
                "{text}"
            );
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn an_empty_and_a_missing_manifest_are_errors() {
        assert_eq!(read_bytes(b"\n \n").unwrap_err().kind(), ErrorKind::Data);
        let error = read("no/such.jsonl").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("no/such.jsonl"));
    }

    #[test]
    fn written_rows_read_back_and_failure_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.jsonl");
        let row = Row {
            audio_filepath: "a \"quoted\" \u{e9}.wav".to_owned(),
            duration: 0.1 + 0.2,
            offset: Some(1.5),
            text: "line\nbreak".to_owned(),
            speaker: Some("s".to_owned()),
        };
        write(&path, std::slice::from_ref(&row)).unwrap();
        let entry = read(&path).unwrap().remove(0);
        assert_eq!(entry.audio, folder.path().join(&row.audio_filepath));
        assert_eq!(
            (entry.duration, entry.offset, entry.text),
            (row.duration, row.offset, row.text)
        );
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(names.len(), 1);
        assert!(write(folder.path().join("missing/m.jsonl"), &[]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = read_bytes(&bytes);
        }

        #[test]
        fn any_row_is_read_or_refused(
            duration in "[-0-9.eE+]{1,8}",
            text in "\\PC{0,20}",
        ) {
            let line = format!("{{\"audio_filepath\": {text:?}, \"duration\": {duration}, \"text\": {text:?}}}");
            if let Ok(entries) = read_bytes(line.as_bytes()) {
                prop_assert!(entries[0].duration > 0.0);
            }
        }
    }
}
