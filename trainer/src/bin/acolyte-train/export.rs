//! `acolyte-train export`: a model file from a run.

use acolyte::model::Library;
use acolyte_trainer::export::{ExportOptions, export};
use acolyte_trainer::onnx::Storage;
use anyhow::Result;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Export a run's best weights as one self-describing ONNX file, verified through the runtime.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The run's folder.
    run: PathBuf,
    /// Folder for model.onnx, weights.safetensors and recipe.toml.
    #[arg(short, long)]
    out: PathBuf,
    /// A remark kept in the spec: `--about "data=an4, LibriSpeech"`. May be given several times.
    #[arg(long, value_name = "KEY=TEXT", value_parser = remark)]
    about: Vec<(String, String)>,
    /// How the file stores its weights; runs compute in f32 whatever it is.
    #[arg(long, value_enum, default_value_t = Weights::F32)]
    weights: Weights,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Weights {
    /// Four bytes each.
    F32,
    /// Half precision: two bytes each.
    F16,
    /// One byte each in kernels of convolutions, with a scale a channel.
    Int8,
}

fn remark(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .ok_or_else(|| "expected KEY=TEXT".to_owned())
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let options = ExportOptions {
        about: arguments.about.iter().cloned().collect(),
        storage: match arguments.weights {
            Weights::F32 => Storage::F32,
            Weights::F16 => Storage::F16,
            Weights::Int8 => Storage::Int8,
        },
    };
    let exported = export(&Library::find()?, &arguments.run, &arguments.out, &options)?;
    println!(
        "{}: {} parameters, {:.2} MB, sha256 {}\nverified through the runtime: logits differ by at most {:.1e}",
        arguments.out.join("model.onnx").display(),
        exported.parameters,
        exported.bytes as f64 / 1e6,
        exported.sha256,
        exported.difference
    );
    Ok(())
}
