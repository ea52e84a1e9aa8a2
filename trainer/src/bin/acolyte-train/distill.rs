//! `acolyte-train distill`: a teacher, its checks, a student, its export, a report.

use crate::watch::Watch;
use acolyte::model::Library;
use acolyte_trainer::config::Recipe;
use acolyte_trainer::data::task;
use acolyte_trainer::distill::stages::{Stage, Workshop, distill};
use acolyte_trainer::graph::exec::Engine;
use acolyte_trainer::train::run::Observer;
use anyhow::{Context, Result};
use clap::Args;
use std::path::PathBuf;

/// Train a recipe's teacher, check that it listens, distil the student, export and verify it, write a report.
/// Interrupted, the same command goes on where it was; finished stages are not done again.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The recipe (TOML), with sections [teacher] and [distill].
    recipe: PathBuf,
    /// Folder that the recipe's manifests are relative to.
    #[arg(long, env = "ACOLYTE_DATA", default_value = "../shared/data")]
    data: PathBuf,
    /// Where the run lives; by default runs/NAME.
    #[arg(long)]
    run: Option<PathBuf>,
    /// A teacher that was trained before: the folder of its run.
    #[arg(long, value_name = "RUN")]
    teacher: Option<PathBuf>,
    /// Change a value of the recipe: `--set train.epochs=3`. May be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Threads; 0 takes the recipe's number, or all cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// What to run on: cpu or cuda. It is required, never replaced.
    #[arg(long, default_value = "cpu")]
    provider: String,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let recipe = Recipe::load(&arguments.recipe, &arguments.set)?;
    let folder = arguments
        .run
        .clone()
        .unwrap_or_else(|| PathBuf::from("runs").join(&recipe.name));
    let library = Library::find()?;
    let threads = threads(arguments.threads, recipe.train.threads);
    let engine = Engine::new(&library, threads).with_provider(arguments.provider.parse()?)?;
    let data = task::open(&recipe, &arguments.data, &|_| ())?;
    let workshop = Workshop {
        engine: &engine,
        data: &*data,
        settled: None,
    };
    let mut announce = |stage: Stage| -> Box<dyn Observer> {
        eprintln!("{}", said(stage));
        Box::new(Watch::new())
    };
    let done = distill(
        &library,
        &workshop,
        &recipe,
        &folder,
        arguments.teacher.as_deref(),
        &mut announce,
    )
    .with_context(|| format!("distilling {}", recipe.name))?;
    if let Some(found) = &done.findings {
        println!(
            "teacher: {:.1} % of {} training utterances said rightly; spikes move by {:.3} of a shift; said in spite of \
             another's audio {:.1} %, of noise {:.1} %, of exchanged halves {:.1} %",
            100.0 * found.right,
            found.utterances,
            found.shift,
            100.0 * found.swap,
            100.0 * found.noise,
            100.0 * found.splice
        );
    }
    println!(
        "student: WER {} % on the development sets after {:.1} minutes; {} verified through the runtime (logits differ by \
         at most {:.1e}); report in {}",
        done.student
            .best_wer
            .map_or("-".to_owned(), |wer| format!("{wer:.2}")),
        done.student.seconds / 60.0,
        folder.join("model").join("model.onnx").display(),
        done.difference,
        folder.join("report.html").display()
    );
    Ok(())
}

/// The first number that is not 0, or all cores.
pub fn threads(asked: usize, recipe: usize) -> usize {
    [asked, recipe]
        .into_iter()
        .find(|&n| n > 0)
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

fn said(stage: Stage) -> &'static str {
    match stage {
        Stage::Teacher => "training the teacher",
        Stage::Check => "checking that the teacher listens",
        Stage::Student => "distilling the student",
        Stage::Export => "exporting",
        Stage::Report => "writing the report",
        _ => "going on",
    }
}
