//! `acolyte-train bench`: measure the training engine; JSON lines for `cargo xtask bench`.

use acolyte::model::Library;
use acolyte_trainer::bench::{ctc_loss, operators, optimizer, profile, train_step};
use acolyte_trainer::graph::exec::Engine;
use anyhow::Result;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Measure the training engine on this machine: JSON lines of work, value, unit.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to measure.
    #[arg(value_enum)]
    work: Work,
    /// Threads an operator may use.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Write ONNX Runtime's profile of the train step to files that start with this.
    #[arg(long, value_name = "PREFIX")]
    profile: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Work {
    /// A step of the reference network.
    TrainStep,
    /// CTC loss and gradient.
    CtcLoss,
    /// The gradient of each operator alone.
    Operators,
    /// AdamW over ten million parameters.
    Optimizer,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let engine = Engine::new(&Library::find()?, arguments.threads);
    if let Some(prefix) = &arguments.profile {
        println!("{}", profile(&engine, prefix)?);
        return Ok(());
    }
    let rows = match arguments.work {
        Work::TrainStep => train_step(&engine)?,
        Work::CtcLoss => ctc_loss(&engine)?,
        Work::Operators => operators(&engine)?,
        Work::Optimizer => optimizer(),
    };
    for row in rows {
        println!("{}", serde_json::to_string(&row)?);
    }
    Ok(())
}
