//! Manifests of images: one JSON object a line with `image` (absolute, or relative to the manifest's folder) and `text`.
//! Other keys are ignored.

use crate::data::manifest::read_rows;
use crate::error::Result;
use serde::Deserialize;
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
    read_rows(path, |folder, line, text| {
        let row: RawRow = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if row.image.as_os_str().is_empty() {
            return Err("`image` is empty; expected a file".to_owned());
        }
        Ok(Entry {
            line,
            image: folder.join(row.image),
            text: row.text,
        })
    })
}
