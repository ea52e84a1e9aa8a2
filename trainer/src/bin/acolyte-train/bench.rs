//! `acolyte-train bench`: measure the training engine; JSON lines for `cargo xtask bench`.

use acolyte::model::Library;
use acolyte_trainer::bench::{
    Activations, Clock, Network, ctc_loss, operators, optimizer, profile, step_memory, train_step,
};
use acolyte_trainer::graph::exec::Engine;
use anyhow::Result;
use clap::builder::{PossibleValuesParser, TypedValueParser};
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
    /// The network of a train step [default: all].
    #[arg(long, value_parser = PossibleValuesParser::new(Network::ALL.map(Network::name)).try_map(network))]
    network: Option<Network>,
    /// Measure the memory of a train step instead of its time.
    #[arg(long)]
    memory: bool,
    /// Measure the time spent on a CPU instead of the time that passes; for one thread.
    #[arg(long)]
    cpu_time: bool,
    /// Compute activations again in the backward pass.
    #[arg(long)]
    recompute: bool,
    /// Write ONNX Runtime's profile of the train step to files that start with this.
    #[arg(long, value_name = "PREFIX")]
    profile: Option<PathBuf>,
}

fn network(name: String) -> Result<Network, String> {
    let found = Network::ALL.into_iter().find(|n| n.name() == name);
    found.ok_or_else(|| format!("there is no network {name:?}"))
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Work {
    /// A training step of whole networks.
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
    let networks = match arguments.network {
        Some(one) => vec![one],
        None => Network::ALL.to_vec(),
    };
    if let Some(prefix) = &arguments.profile {
        for network in networks {
            println!("{}", profile(&engine, network, prefix)?);
        }
        return Ok(());
    }
    let activations = match arguments.recompute {
        true => Activations::Recomputed,
        false => Activations::Kept,
    };
    let clock = match arguments.cpu_time {
        true => Clock::Cpu,
        false => Clock::Wall,
    };
    let step = |network| match arguments.memory {
        true => step_memory(&engine, network, activations),
        false => train_step(&engine, network, activations, clock),
    };
    let rows = match arguments.work {
        Work::TrainStep => networks.into_iter().map(step).collect::<Result<_, _>>()?,
        Work::CtcLoss => ctc_loss(&engine, clock)?,
        Work::Operators => operators(&engine, clock)?,
        Work::Optimizer => optimizer(clock)?,
    };
    for row in rows {
        println!("{}", serde_json::to_string(&row)?);
    }
    Ok(())
}
