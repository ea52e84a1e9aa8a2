//! `acolyte-train inspect`: a network layer by layer.

use acolyte_trainer::config::{ModelKind, Recipe};
use acolyte_trainer::inspect::{inspect_model, inspect_recipe};
use acolyte_trainer::network::Network;
use acolyte_trainer::nn::NormedConvolution;
use acolyte_trainer::student::text::{STRIDE, TextStudent};
use anyhow::{Result, ensure};
use clap::Args;
use std::path::PathBuf;

/// Print the layers of a model file or of a recipe's network: parameters, multiply-adds for a second of audio or a line
/// of 100 columns, look-ahead. The layers' names are what `start_from.freeze` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A model (.onnx) or a recipe (TOML).
    #[arg(value_name = "MODEL|RECIPE")]
    path: PathBuf,
    /// Change a value of the recipe: `--set model.channels=96`. May be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let is_model = arguments
        .path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"));
    let inspection = if is_model {
        ensure!(
            arguments.set.is_empty(),
            "--set changes a recipe; {} is a model",
            arguments.path.display()
        );
        inspect_model(&arguments.path)?
    } else {
        let recipe = Recipe::load(&arguments.path, &arguments.set)?;
        if recipe.model.kind == ModelKind::Image {
            print_text(&TextStudent::new(&recipe, 1 + recipe.text.tokens.len()));
            return Ok(());
        }
        inspect_recipe(&recipe)?
    };
    print!("{inspection}");
    Ok(())
}

/// Columns of the line that operations are counted for: about a word.
const COLUMNS: usize = 100;

fn print_text(student: &TextStudent) {
    println!(
        "| layer | in | out | kernel | groups | stride | output | parameters | M multiply-adds |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let (mut rows, mut columns) = (student.height, COLUMNS);
    let (mut parameters, mut operations) = (0, 0.0);
    let mut inputs = student.channels;
    for NormedConvolution {
        convolution: layer, ..
    } in student.layers()
    {
        let [down, across] = layer.attributes.strides;
        let [kh, kw] = layer.kernel;
        // The layer without padding takes the whole height.
        rows = if layer.attributes.pads == [0; 4] && kh > 1 {
            1
        } else {
            rows / down
        };
        columns /= across;
        let weights = layer.outputs * inputs / layer.attributes.group * kh * kw;
        let million = (weights * rows * columns) as f64 / 1e6;
        parameters += weights + 2 * layer.outputs;
        operations += million;
        println!(
            "| {} | {} | {} | {kh}x{kw} | {} | {down}x{across} | {rows}x{columns} | {} | {million:.2} |",
            layer.name,
            inputs,
            layer.outputs,
            layer.attributes.group,
            weights + 2 * layer.outputs
        );
        inputs = layer.outputs;
    }
    let width = student.config.widths[4];
    let head = width * student.vocabulary;
    parameters += head + student.vocabulary;
    operations += (head * COLUMNS / STRIDE) as f64 / 1e6;
    println!(
        "\n{parameters} parameters, {operations:.1} million multiply-adds for a line of {COLUMNS} columns; an output \
         frame every {STRIDE} columns sees {} of them",
        student.receptive_field()
    );
}
