//! `acolyte-train`: prepare data, check a recipe, train, export.
#![allow(clippy::print_stdout, clippy::print_stderr)] // A program speaks to its user.

mod export;
mod train;
mod watch;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Trains small CTC students on ONNX Runtime and exports each as one self-describing ONNX file.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "A first run:\n  acolyte-train train trainer/recipes/speech-tiny.toml --data ../shared/data\n  acolyte-train export runs/speech-tiny -o models/my-model"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(train::Arguments),
    Export(export::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Train(arguments) => train::run(&arguments),
        Command::Export(arguments) => export::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
