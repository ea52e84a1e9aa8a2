//! `acolyte-train report`: the report of a run, also of one that is under way or was killed.

use acolyte_trainer::report::write_report;
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// Write a run's report.html: curves of loss, learning rate, gradient norm, error rates and throughput, tables. Training
/// writes it too when it ends; this does it at any time.
#[derive(Debug, Args)]
#[command(after_help = "TensorBoard shows the same numbers: tensorboard --logdir runs")]
pub struct Arguments {
    /// The run's folder.
    run: PathBuf,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    println!("{}", write_report(&arguments.run)?.display());
    Ok(())
}
