//! The one error type of the crate: what went wrong, in which file, and what to do about it.
//!
//! [`Error`] is opaque and grows without breaking callers; [`Error::kind`] is what code matches on, its
//! text is what people read. Every message says what was expected, what was found, and a remedy.

use std::path::{Path, PathBuf};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure an [`Error`] is; each kind says what a caller can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused a read or write: check that the file exists and may be read.
    Io,
    /// A file is not what its format demands (cut, empty, lying header): fetch or make it again.
    Malformed,
    /// A valid file uses something this build does not read: convert it, or build with the feature named.
    Unsupported,
    /// A size or count exceeds a bound that keeps memory finite: cut the input into parts.
    Limit,
    /// The caller passed a value outside its documented range.
    InvalidArgument,
    /// The model file is damaged, or is no ONNX model.
    Model,
    /// The model's spec is missing, incomplete, or contradicts the model's graph.
    Spec,
    /// The model's spec is of a newer version than this build reads: update the runtime.
    SpecVersion,
    /// The model cannot do what was asked of it (an oracle teacher asked to recognize, streaming a model
    /// that is not streamable).
    Role,
    /// libonnxruntime is missing, too old, or not what it should be.
    Library,
    /// The requested execution provider is not available.
    Provider,
    /// ONNX Runtime failed while it ran a model.
    Inference,
    /// A microphone or camera is missing, in use, not permitted, or failed.
    Device,
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
