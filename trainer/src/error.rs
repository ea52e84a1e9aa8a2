//! The one error type of the trainer: what went wrong, where (file, line, tensor, layer), what to do.

use std::path::{Path, PathBuf};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure an [`Error`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused a read or write.
    Io,
    /// A recipe has an unknown key, a missing one, or a value out of range.
    Recipe,
    /// An argument is out of its range.
    Argument,
    /// A manifest or a data set is not what it should be; the message names file and line.
    Data,
    /// A graph was put together wrongly: shapes that do not fit, an operator without a gradient.
    Graph,
    /// ONNX Runtime refused or failed to run a graph.
    Execution,
    /// The requested execution provider is not available.
    Provider,
    /// A checkpoint is damaged or belongs to another recipe.
    Checkpoint,
    /// The run diverged: a loss or gradient is not finite.
    Diverged,
    /// A teacher says its transcript without listening: it may not guide a student.
    Copies,
    /// An export does not reproduce the trained model.
    Export,
    /// The runtime reported the error below.
    Runtime,
}

/// An error with its [`ErrorKind`], the file concerned, and the cause below it.
#[derive(Debug, thiserror::Error)]
#[error("{}{message}", path.as_ref().map(|p| format!("{}: ", p.display())).unwrap_or_default())]
pub struct Error {
    kind: ErrorKind,
    path: Option<PathBuf>,
    message: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A new error of `kind`; `message` says what was expected, what was found and what to do.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            path: None,
            message: message.into(),
            source: None,
        }
    }

    /// An I/O error met while reading or writing `path`.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, source.to_string())
            .with_path(path)
            .with_source(source)
    }

    /// The same error, naming the file concerned; a path already named is kept.
    #[must_use]
    pub fn with_path(mut self, path: impl AsRef<Path>) -> Self {
        self.path.get_or_insert_with(|| path.as_ref().to_owned());
        self
    }

    /// The same error with the cause below it.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The file concerned, where there is one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

impl From<acolyte::Error> for Error {
    fn from(error: acolyte::Error) -> Self {
        Self::new(ErrorKind::Runtime, error.to_string()).with_source(error)
    }
}

impl From<ort::Error> for Error {
    fn from(error: ort::Error) -> Self {
        Self::new(
            ErrorKind::Execution,
            format!("ONNX Runtime: {}", error.message()),
        )
    }
}
