//! `acolyte-train`: prepare data, check a recipe, train, export.
#![allow(clippy::print_stdout, clippy::print_stderr)] // A program speaks to its user.

mod bench;
mod check;
mod distill;
mod export;
mod inspect;
mod lm;
mod prepare;
mod proof;
mod report;
mod synth;
mod train;
mod watch;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Trains small CTC students on ONNX Runtime and exports each as one self-describing ONNX file.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Your own recordings:\n  acolyte-train prepare RECORDINGS -o my-data\n  acolyte-train train my-data/recipe.toml --data my-data\n  acolyte-train export runs/my-data -o models/my-data\n\nA recipe's keys, resuming, reports: docs/training.md"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Prepare(prepare::Arguments),
    Check(check::Arguments),
    Inspect(inspect::Arguments),
    Train(train::Arguments),
    Report(report::Arguments),
    Export(export::Arguments),
    Synth(synth::Arguments),
    Distill(distill::Arguments),
    Proof(proof::Arguments),
    Lm(lm::Arguments),
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Prepare(arguments) => prepare::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Train(arguments) => train::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Export(arguments) => export::run(&arguments),
        Command::Synth(arguments) => synth::run(&arguments),
        Command::Distill(arguments) => distill::run(&arguments),
        Command::Proof(arguments) => proof::run(&arguments),
        Command::Lm(arguments) => lm::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
