//! `acolyte-train inspect`: a network layer by layer.

use acolyte_trainer::config::Recipe;
use acolyte_trainer::inspect::{inspect_model, inspect_recipe};
use anyhow::{Result, ensure};
use clap::Args;
use std::path::PathBuf;

/// Print the layers of a model file or of a recipe's student: parameters, multiply-adds for a second of audio,
/// look-ahead. The layers' names are what `start_from.freeze` takes.
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
        inspect_recipe(&Recipe::load(&arguments.path, &arguments.set)?)?
    };
    print!("{inspection}");
    Ok(())
}
