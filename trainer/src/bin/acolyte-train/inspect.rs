//! `acolyte-train inspect`: a recipe's student, layer by layer.

use acolyte_trainer::config::{ModelKind, Recipe};
use acolyte_trainer::network::Network;
use acolyte_trainer::nn::{Form, Net};
use acolyte_trainer::student::speech::SpeechStudent;
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// Print a recipe's layers, parameters and operations for a second of audio.
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
    if recipe.model.kind != ModelKind::Conv {
        return other(&recipe);
    }
    let student = SpeechStudent {
        features: recipe.features.mels,
        vocabulary: 1 + recipe.text.tokens.len(),
        config: recipe.model.clone(),
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

/// The parameters of a network of another kind.
fn other(recipe: &Recipe) -> Result<()> {
    let network = acolyte_trainer::student::student(
        recipe.features.mels,
        1 + recipe.text.tokens.len(),
        &recipe.model,
    );
    let mut net = Net::new("inspected", Form::Train);
    network.build(&mut net, network.stride())?;
    println!("| parameter | shape | elements |\n|---|---|---|");
    let mut total = 0;
    for spec in net.parameters() {
        let elements: usize = spec.shape.iter().product();
        total += elements;
        println!("| {} | {:?} | {elements} |", spec.name, spec.shape);
    }
    println!(
        "\n{total} parameters; an output depends on {} output frames",
        network.receptive_field()
    );
    Ok(())
}
