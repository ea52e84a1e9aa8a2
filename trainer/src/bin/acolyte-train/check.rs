//! `acolyte-train check`: what a run will take, before it is started.

use acolyte::model::Library;
use acolyte_trainer::check::check;
use acolyte_trainer::config::Recipe;
use acolyte_trainer::graph::exec::Engine;
use acolyte_trainer::train::cost::measure;
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// Check a recipe: rows, hours, alphabet, rows left out and why, memory, estimated time.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The recipe (TOML).
    recipe: PathBuf,
    /// Folder that the recipe's manifests are relative to.
    #[arg(long, env = "ACOLYTE_DATA", default_value = "../shared/data")]
    data: PathBuf,
    /// Change a value of the recipe: `--set train.epochs=3`. May be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Do not time a step: the report then has no estimated time.
    #[arg(long)]
    untimed: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let recipe = Recipe::load(&arguments.recipe, &arguments.set)?;
    let cost = if arguments.untimed {
        None
    } else {
        let threads = match recipe.train.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        // The blank and the named tokens; a derived alphabet is about as large, and the cost hardly depends on it.
        let vocabulary = 1 + recipe.text.tokens.len().max(28);
        let engine = Engine::new(&Library::find()?, threads);
        Some(measure(&engine, &recipe, vocabulary)?)
    };
    let report = check(&recipe, &arguments.data, cost.as_ref())?;
    println!("{report}");
    Ok(())
}
