//! `acolyte-train inspect`: a recipe's student, layer by layer.

use acolyte_trainer::config::Recipe;
use acolyte_trainer::student::Student;
use acolyte_trainer::student::text::{STRIDE, TextStudent};
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// Print a recipe's layers, parameters and operations for a second of audio or a line of 100 columns.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The recipe (TOML).
    recipe: PathBuf,
    /// Change a value of the recipe: `--set model.channels=96`. May be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let recipe = Recipe::load(&arguments.recipe, &arguments.set)?;
    let student = match Student::new(&recipe, 1 + recipe.text.tokens.len()) {
        Student::Speech(student) => student,
        Student::Text(student) => {
            print_text(&student);
            return Ok(());
        }
    };
    let hop = recipe.features.hop_length as f64 / f64::from(recipe.features.sample_rate);
    let rate = 1.0 / (hop * recipe.model.stride as f64);
    println!("| layer | in | out | kernel | dilation | stride | parameters | M multiply-adds/s |");
    println!("|---|---|---|---|---|---|---|---|");
    let (mut parameters, mut operations) = (0, 0.0);
    let head = (2 * student.config.channels, student.vocabulary);
    let rows = student
        .layers()
        .into_iter()
        .map(|layer| {
            let weights = layer.inputs * layer.outputs * layer.kernel;
            (
                layer.name,
                layer.inputs,
                layer.outputs,
                [layer.kernel, layer.dilation, layer.stride],
                weights,
                2 * layer.outputs,
            )
        })
        .chain([(
            "head".to_owned(),
            head.0,
            head.1,
            [1, 1, 1],
            head.0 * head.1,
            head.1,
        )]);
    for (name, inputs, outputs, [kernel, dilation, stride], weights, others) in rows {
        let million = weights as f64 * rate / 1e6;
        parameters += weights + others;
        operations += million;
        println!(
            "| {name} | {inputs} | {outputs} | {kernel} | {dilation} | {stride} | {} | {million:.1} |",
            weights + others
        );
    }
    println!(
        "\n{parameters} parameters, {operations:.0} million multiply-adds for a second of audio; an output frame \
         every {:.0} ms looks {:.0} ms ahead and {:.2} s back",
        1e3 / rate,
        1e3 * student.config.delay_frames as f64 / rate,
        (student.receptive_field() - student.config.delay_frames.min(student.receptive_field()))
            as f64
            / rate
    );
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
    for layer in student.layers() {
        let [down, across] = layer.attributes.strides;
        let [kh, kw] = layer.kernel;
        // The layer without padding takes the whole height.
        rows = if layer.attributes.pads == [0; 4] && kh > 1 {
            1
        } else {
            rows / down
        };
        columns /= across;
        let weights = layer.outputs * layer.inputs / layer.attributes.group * kh * kw;
        let million = (weights * rows * columns) as f64 / 1e6;
        parameters += weights + 2 * layer.outputs;
        operations += million;
        println!(
            "| {} | {} | {} | {kh}x{kw} | {} | {down}x{across} | {rows}x{columns} | {} | {million:.2} |",
            layer.name,
            layer.inputs,
            layer.outputs,
            layer.attributes.group,
            weights + 2 * layer.outputs
        );
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
