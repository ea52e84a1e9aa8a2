//! Options of every command that opens a model.

use crate::models;
use acolyte::model::{CpuNodes, ModelFile, OrtModel, OrtOptions};
use acolyte::{Library, Provider, SpeechRecognizer};
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// Which model, and what it runs on.
#[derive(Debug, Clone, Args)]
pub struct ModelArgs {
    /// A model file, or the name of one under `models/` [default: the small one of the task if there, else the tiny]
    #[arg(long, value_name = "FILE|NAME")]
    pub model: Option<String>,
    /// What to run on: a named provider is required and never replaced, `auto` may fall back and says so
    #[arg(long, value_name = "NAME", default_value = "auto",
          value_parser = clap::builder::PossibleValuesParser::new(Provider::ALL.map(Provider::name)))]
    provider: String,
    /// Let the CPU run what a named provider does not run, instead of refusing the model
    #[arg(long)]
    allow_cpu_nodes: bool,
    /// Threads within one run of the model
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1024))]
    pub threads: usize,
}

/// An opened recognizer and where it came from.
#[derive(Debug)]
pub struct Opened {
    /// The model file.
    pub path: PathBuf,
    /// The model.
    pub model: OrtModel,
    /// The recognizer over it.
    pub recognizer: SpeechRecognizer,
}

impl ModelArgs {
    /// Loads the library and opens the model as a recognizer of speech.
    pub fn open(&self) -> Result<Opened> {
        let (path, model) = self.open_for(&models::SPEECH)?;
        let recognizer = SpeechRecognizer::new(model.clone()).map_err(|e| e.with_path(&path))?;
        Ok(Opened {
            path,
            model,
            recognizer,
        })
    }

    /// Loads the library and opens the model, or the first of `defaults` that is there.
    pub fn open_for(&self, defaults: &[&str]) -> Result<(PathBuf, OrtModel)> {
        let path = models::resolve(self.model.as_deref(), defaults)?;
        let file = ModelFile::open(&path)?;
        let library = Library::find()?;
        let cpu_nodes = match self.allow_cpu_nodes {
            true => CpuNodes::Allow,
            false => CpuNodes::Refuse,
        };
        let options = OrtOptions::default()
            .with_provider(self.provider.parse()?)
            .with_cpu_nodes(cpu_nodes)
            .with_threads(self.threads)
            .with_pool(1);
        let model =
            OrtModel::from_file(&library, file, &options).map_err(|e| e.with_path(&path))?;
        Ok((path, model))
    }
}
