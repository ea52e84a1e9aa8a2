//! Manifests of images: one JSON object a line with `image` (absolute, or relative to the manifest's folder) and `text`.
//! Other keys are ignored.

use crate::data::manifest::{for_each_line, line_error};
use crate::error::{Error, ErrorKind, Result};
use serde::Deserialize;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The line it stands on, from 1.
    pub line: usize,
    /// The image file.
    pub image: PathBuf,
    /// What it says, as written.
    pub text: String,
}

#[derive(Deserialize)]
struct RawRow {
    image: PathBuf,
    text: String,
}

/// Reads the manifest at `path`; blank lines are skipped.
///
/// # Errors
/// `Io` if the file cannot be read; `Data`, naming file and line, for a line that is not UTF-8 JSON with the keys above;
/// and for a manifest without rows.
pub fn read(path: &Path) -> Result<Vec<Entry>> {
    let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut entries = Vec::new();
    for_each_line(path, BufReader::new(file), |line, text| {
        if text.trim().is_empty() {
            return Ok(());
        }
        let row: RawRow = serde_json::from_str(text).map_err(|e| line_error(path, line, e))?;
        if row.image.as_os_str().is_empty() {
            return Err(line_error(path, line, "`image` is empty; expected a file"));
        }
        entries.push(Entry {
            line,
            image: folder.join(row.image),
            text: row.text,
        });
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
