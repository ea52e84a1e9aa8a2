//! `acolyte-train train`: one run, or the rest of one.

use crate::watch::Watch;
use acolyte::model::Library;
use acolyte_trainer::config::Recipe;
use acolyte_trainer::graph::exec::Engine;
use acolyte_trainer::pipeline::{Sitting, run as run_pipeline};
use anyhow::{Context, Result};
use clap::Args;
use std::path::PathBuf;

/// Train a recipe. Interrupted (also by `kill -9`), the same command goes on from the last checkpoint.
#[derive(Debug, Args)]
#[command(
    after_help = "The run's folder holds: recipe.toml, checkpoint.safetensors and the one before it, best.safetensors \
    (what export takes), metrics.jsonl, tensorboard/ (tensorboard --logdir runs), report.html.\n\n\
    Look before you start:  acolyte-train check RECIPE    acolyte-train inspect RECIPE"
)]
pub struct Arguments {
    /// The recipe (TOML).
    recipe: PathBuf,
    /// Folder that the recipe's manifests are relative to.
    #[arg(long, env = "ACOLYTE_DATA", default_value = "../shared/data")]
    data: PathBuf,
    /// Where the run lives; by default runs/NAME.
    #[arg(long)]
    run: Option<PathBuf>,
    /// Change a value of the recipe: `--set train.epochs=3`. May be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Threads; 0 takes the recipe's number, or all cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// What to run on: cpu or cuda. It is required, never replaced.
    #[arg(long, default_value = "cpu")]
    provider: String,
    /// Start anew although the folder holds a checkpoint.
    #[arg(long)]
    restart: bool,
    /// Go on from the checkpoint before the last one, which is lost: for a last one that is damaged.
    #[arg(long, conflicts_with = "restart")]
    previous: bool,
    /// Stop after this many updates in this sitting.
    #[arg(long, value_name = "UPDATES")]
    stop_after: Option<u64>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let recipe = Recipe::load(&arguments.recipe, &arguments.set)?;
    let folder = arguments
        .run
        .clone()
        .unwrap_or_else(|| PathBuf::from("runs").join(&recipe.name));
    let threads = [arguments.threads, recipe.train.threads]
        .into_iter()
        .find(|&n| n > 0)
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let engine =
        Engine::new(&Library::find()?, threads).with_provider(arguments.provider.parse()?)?;
    let mut watch = Watch::new();
    let sitting = Sitting {
        resume: !arguments.restart,
        previous: arguments.previous,
        stop_after: arguments.stop_after,
        ..Sitting::default()
    };
    let loading = watch.loading();
    let last = run_pipeline(
        &engine,
        &recipe,
        &arguments.data,
        &folder,
        &sitting,
        &|progress| {
            loading.set_length(progress.total as u64);
            loading.set_position(progress.done as u64);
        },
        &mut watch,
    )
    .with_context(|| format!("training {}", recipe.name))?;
    watch.finish();
    match last {
        Some(_) => println!(
            "done: the best weights are in {0}, its report is {0}/report.html; `acolyte-train export {0} -o models/{1}` \
             makes a model of them",
            folder.display(),
            recipe.name
        ),
        None => println!("stopped: the same command goes on from the checkpoint"),
    }
    Ok(())
}
