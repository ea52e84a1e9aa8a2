//! `acolyte-train export`: a model file from a run.

use acolyte::model::Library;
use acolyte_trainer::export::export;
use anyhow::Result;
use clap::Args;
use std::collections::BTreeMap;
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
}

fn remark(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .ok_or_else(|| "expected KEY=TEXT".to_owned())
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let about: BTreeMap<String, String> = arguments.about.iter().cloned().collect();
    let exported = export(&Library::find()?, &arguments.run, &arguments.out, about)?;
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
