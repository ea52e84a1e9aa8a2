//! The way from an ONNX file to a recognizer of either task.

use super::serves;
use crate::Result;
use crate::model::{CpuNodes, Library, ModelFile, OrtModel, OrtOptions, Provider};
use crate::spec::Task;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

/// A recognizer that a [`RecognizerBuilder`] opens.
pub trait Opened: Sized {
    /// What its models recognize.
    const TASK: Task;

    /// The recognizer over a model.
    ///
    /// # Errors
    /// As its constructor.
    fn over(model: OrtModel) -> Result<Self>;
}

/// How an ONNX file is opened as a recognizer.
#[derive(Debug, Clone)]
#[must_use = "open a file or bytes with it"]
pub struct RecognizerBuilder<R> {
    library: Library,
    options: OrtOptions,
    recognizer: PhantomData<R>,
}

impl<R: Opened> RecognizerBuilder<R> {
    pub(super) fn new(library: &Library) -> Self {
        Self {
            library: library.clone(),
            options: OrtOptions::default(),
            recognizer: PhantomData,
        }
    }

    /// What the model runs on; a named provider is required, never replaced.
    pub fn provider(mut self, provider: Provider) -> Self {
        self.options.provider = provider;
        self
    }

    /// Whether nodes that a named provider does not run may run on the CPU.
    pub fn cpu_nodes(mut self, cpu_nodes: CpuNodes) -> Self {
        self.options.cpu_nodes = cpu_nodes;
        self
    }

    /// Threads within one run of the model.
    pub fn threads(mut self, threads: usize) -> Self {
        self.options.threads = threads;
        self
    }

    /// Most runs at one time.
    pub fn pool(mut self, pool: usize) -> Self {
        self.options.pool = pool;
        self
    }

    /// Opens the model file at `path`.
    ///
    /// # Errors
    /// As [`OrtModel::open`] and the recognizer's constructor; they name the path.
    pub fn open(self, path: impl AsRef<Path>) -> Result<R> {
        let path = path.as_ref();
        ModelFile::open(path)
            .and_then(|file| self.from_file(file))
            .map_err(|e| e.with_path(path))
    }

    /// Opens a model held in memory.
    ///
    /// # Errors
    /// As [`OrtModel::from_bytes`] and the recognizer's constructor.
    #[allow(
        clippy::wrong_self_convention,
        reason = "the builder's verb, like `open`"
    )]
    pub fn from_bytes(self, bytes: impl Into<Arc<[u8]>>) -> Result<R> {
        self.from_file(ModelFile::from_bytes(bytes)?)
    }

    /// Opens a model that was read and checked.
    ///
    /// # Errors
    /// As [`OrtModel::from_file`] and the recognizer's constructor.
    #[allow(
        clippy::wrong_self_convention,
        reason = "the builder's verb, like `open`"
    )]
    pub fn from_file(self, file: ModelFile) -> Result<R> {
        serves(file.spec(), R::TASK)?;
        R::over(OrtModel::from_file(&self.library, file, &self.options)?)
    }
}
