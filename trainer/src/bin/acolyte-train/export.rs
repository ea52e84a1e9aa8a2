//! `acolyte-train export`: a model file from a run, and its forms with fixed shapes.

use acolyte::model::Library;
use acolyte::spec::{FrontEnd, ModelSpec};
use acolyte_trainer::export::{ExportOptions, export};
use acolyte_trainer::fixed::{FixedShape, fix};
use acolyte_trainer::onnx::Storage;
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Export a run's best weights as one self-describing ONNX file, verified through the runtime.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The run's folder; with --fixed-shape also a model file.
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
    /// Write forms with fixed shapes beside it, `model-BATCHxFRAMES.onnx`, as NNAPI, CoreML and QNN take them.
    #[arg(long)]
    fixed_shape: bool,
    /// Items of a run.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "fixed_shape")]
    batch: usize,
    /// Feature frames of a run of a speech model [default: the model's chunk].
    #[arg(
        long,
        value_name = "FRAMES",
        requires = "fixed_shape",
        conflicts_with = "widths"
    )]
    chunk: Option<usize>,
    /// Widths in columns of a model of images, one file each; the runtime reads a line with the narrowest that it fits.
    #[arg(
        long,
        value_name = "COLUMNS,..",
        value_delimiter = ',',
        requires = "fixed_shape"
    )]
    widths: Vec<usize>,
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
    let library = Library::find()?;
    let mut model = arguments.run.clone();
    if !(arguments.fixed_shape && model.is_file()) {
        let options = ExportOptions {
            about: arguments.about.iter().cloned().collect(),
            storage: match arguments.weights {
                Weights::F32 => Storage::F32,
                Weights::F16 => Storage::F16,
                Weights::Int8 => Storage::Int8,
            },
        };
        let exported = export(&library, &arguments.run, &arguments.out, &options)?;
        model = arguments.out.join("model.onnx");
        println!(
            "{}: {} parameters, {:.2} MB, sha256 {}\nverified through the runtime: logits differ by at most {:.1e}",
            model.display(),
            exported.parameters,
            exported.bytes as f64 / 1e6,
            exported.sha256,
            exported.difference
        );
    }
    if !arguments.fixed_shape {
        return Ok(());
    }
    let bytes =
        std::fs::read(&model).with_context(|| format!("cannot read {}", model.display()))?;
    let spec = ModelSpec::read(&bytes).with_context(|| model.display().to_string())?;
    std::fs::create_dir_all(&arguments.out)
        .with_context(|| format!("cannot create {}", arguments.out.display()))?;
    for frames in frames(arguments, &spec)? {
        let shape = FixedShape {
            batch: arguments.batch,
            frames,
        };
        let fixed = fix(&library, &bytes, shape)?;
        let path = arguments
            .out
            .join(format!("model-{}x{frames}.onnx", arguments.batch));
        std::fs::write(&path, &fixed.bytes)
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!(
            "{}: {} items of {frames} frames a run; logits differ by at most {:.1e}",
            path.display(),
            arguments.batch,
            fixed.difference
        );
    }
    Ok(())
}

/// The frames of every file to write.
fn frames(arguments: &Arguments, spec: &ModelSpec) -> Result<Vec<usize>> {
    match (&spec.front_end, &spec.streaming) {
        (FrontEnd::Line(line), _) => {
            ensure!(
                arguments.chunk.is_none(),
                "a model of images has widths, no chunk: give --widths"
            );
            Ok(match arguments.widths.is_empty() {
                true => vec![line.max_width / line.multiple * line.multiple],
                false => arguments.widths.clone(),
            })
        }
        (_, streaming) => {
            ensure!(
                arguments.widths.is_empty(),
                "a model of speech has a chunk, no widths: give --chunk"
            );
            let chunk = streaming.as_ref().map(|s| s.chunk_frames);
            Ok(vec![arguments.chunk.or(chunk).unwrap_or(spec.stride)])
        }
    }
}
