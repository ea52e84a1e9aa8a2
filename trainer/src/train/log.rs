//! Metrics as JSON lines: one object a record, appended and flushed, so that a killed run loses nothing.

use crate::{Error, Result};
use serde::Serialize;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// An open metrics file.
#[derive(Debug)]
pub struct MetricsLog {
    file: File,
    path: PathBuf,
}

impl MetricsLog {
    /// Opens `path` for appending, or creates it.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::options()
            .append(true)
            .create(true)
            .open(path)
            .map_err(|error| Error::io(path, error))?;
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    /// Appends one record.
    pub fn record(&mut self, record: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(record)
            .map_err(|error| Error::io(&self.path, std::io::Error::other(error)))?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .map_err(|error| Error::io(&self.path, error))
    }
}
