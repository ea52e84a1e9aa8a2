//! `cargo xtask`: set up, demonstrate, test and measure Acolyte. Everything a newcomer needs is one of these
//! commands; none of them wants an environment variable.
#![allow(clippy::print_stdout, clippy::print_stderr)] // A program speaks to its user.

mod align;
mod bench;
mod bench_adopt;
mod bench_decode;
mod bench_faults;
mod bench_live;
mod demo;
mod eval;
mod eval_decode;
mod eval_mobile;
mod peers;
mod pins;
mod plot;
mod process;
mod reproduce;
mod scene_text;
mod setup;
mod table;
mod test;
mod wheel;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Set up, demonstrate, test and measure Acolyte.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fetch the pinned ONNX Runtime and the crates (and, if asked, the peers that benches compare with).
    Setup(setup::Arguments),
    /// Set up, build, and transcribe the sample recordings.
    Demo,
    /// Set up and run all tests.
    Test(test::Arguments),
    /// Measure speed and size beside the peers: a table, and one JSON line.
    Bench(Named),
    /// Measure error rates on the development sets: a table, and one JSON line.
    Eval(Named),
    /// Align a proof's recordings, so that spikes can be held against word boundaries.
    Align(align::Arguments),
    /// Run the proof, or what is left of it: one JSON line a finished run, and the tables computed from them.
    Reproduce(reproduce::Arguments),
}

/// Which measurement, and where its data is.
#[derive(Debug, clap::Args)]
pub struct Named {
    /// Its name; without one the names are listed.
    name: Option<String>,
    /// Folder with the data sets [default: ../shared/data beside the repository].
    #[arg(long, env = "ACOLYTE_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Folder with the scripts that run the peers [default: ../shared/bench beside the repository].
    #[arg(long, env = "ACOLYTE_PEER_SCRIPTS", value_name = "DIR")]
    peer_scripts: Option<PathBuf>,
    /// Model to measure: a name under models/ or a file.
    #[arg(long, default_value = "speech-tiny")]
    model: String,
    /// Measure the time spent on a CPU instead of the time that passes: for benches of the trainer, with one thread, on a
    /// busy machine.
    #[arg(long)]
    cpu_time: bool,
}

impl Named {
    /// The folder with the peers' scripts.
    fn scripts(&self) -> anyhow::Result<PathBuf> {
        Ok(match &self.peer_scripts {
            Some(folder) => std::path::absolute(folder)?,
            None => process::root().join("../shared/bench"),
        })
    }

    /// The folder with the data sets.
    fn sets(&self) -> anyhow::Result<PathBuf> {
        Ok(match &self.data {
            Some(folder) => std::path::absolute(folder)?,
            None => process::root().join("../shared/data"),
        })
    }
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Setup(arguments) => setup::run(&arguments),
        Command::Demo => demo::run(),
        Command::Test(arguments) => test::run(&arguments),
        Command::Bench(named) => bench::run(&named),
        Command::Eval(named) => eval::run(&named),
        Command::Align(arguments) => align::run(&arguments),
        Command::Reproduce(arguments) => reproduce::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
