//! `cargo xtask bench NAME`: speed and size, ours and the peers' in the same run.
//!
//! The programs that measure print JSON lines `{"work", "value", "unit"}` and nothing else on standard output; a
//! peer's script names its work as ours does. Both sides run in turn, several rounds, and the table holds medians.

use crate::Named;
use crate::peers::interpreter;
use crate::process::{self, cargo, root};
use crate::setup;
use crate::table::{self, Row};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::path::Path;
use std::process::Command;

/// A measurement as a program prints it.
#[derive(Debug, Deserialize)]
struct Measured {
    work: String,
    value: f64,
    unit: String,
}

/// A bench of the trainer against a PyTorch script.
struct Against {
    name: &'static str,
    script: &'static str,
    threads: &'static [usize],
    goal: f64,
}

/// Rounds in which both sides run in turn.
const ROUNDS: usize = 3;

const AGAINST: [Against; 3] = [
    Against {
        name: "train-step",
        script: "train_step.py",
        threads: &[1, 2],
        goal: 1.25,
    },
    Against {
        name: "ctc-loss",
        script: "ctc_loss.py",
        threads: &[1, 2],
        goal: 0.5,
    },
    Against {
        name: "optimizer",
        script: "optimizer.py",
        threads: &[1],
        goal: 1.0,
    },
];

pub fn run(named: &Named) -> Result<()> {
    let name = named.name.as_deref().unwrap_or_default();
    if let Some(bench) = AGAINST.iter().find(|bench| bench.name == name) {
        return against(bench);
    }
    if name == "recognize" {
        return recognize(named);
    }
    let names: Vec<&str> = AGAINST.iter().map(|bench| bench.name).chain(["recognize"]).collect();
    bail!("no bench is called {name:?}; there are: {}", names.join(", "))
}

/// Runs a program and reads its measurements.
fn measure(command: &mut Command) -> Result<Vec<Measured>> {
    let text = process::output(command)?;
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            serde_json::from_str(line)
                .with_context(|| format!("`{}` printed {line:?}", process::shown(command)))
        })
        .collect()
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// The medians over rounds, in the order in which the works first appeared.
fn medians(rounds: &[Vec<Measured>]) -> Vec<(String, f64, String)> {
    let first = rounds.first().map(Vec::as_slice).unwrap_or_default();
    first
        .iter()
        .filter_map(|row| {
            let values = rounds
                .iter()
                .flatten()
                .filter(|other| other.work == row.work)
                .map(|other| other.value)
                .collect();
            median(values).map(|value| (row.work.clone(), value, row.unit.clone()))
        })
        .collect()
}

fn against(bench: &Against) -> Result<()> {
    setup::library(false, None)?;
    let program = process::release("acolyte-trainer", "acolyte-train")?;
    let script = root().join("xtask").join("peers").join(bench.script);
    let mut missing = None;
    let mut rows = Vec::new();
    for threads in bench.threads {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            eprintln!("{}: {threads} thread(s), round {} of {ROUNDS}", bench.name, round + 1);
            let threads = threads.to_string();
            ours.push(measure(
                Command::new(&program)
                    .current_dir(root())
                    .args(["bench", bench.name, "--threads", &threads]),
            )?);
            if missing.is_none() {
                let mut peer = Command::new(interpreter());
                peer.arg(&script).args(["--threads", &threads]);
                match measure(&mut peer) {
                    Ok(found) => theirs.push(found),
                    Err(error) => missing = Some(format!("{error:#}")),
                }
            }
        }
        let theirs = medians(&theirs);
        for (work, value, unit) in medians(&ours) {
            let peer = theirs.iter().find(|(name, ..)| *name == work);
            rows.push(match peer {
                Some((_, peer, _)) => Row::against(work, value, *peer, Some(bench.goal), &unit),
                None => Row::missing(
                    work,
                    Some(value),
                    Some(format!("<= {}x", bench.goal)),
                    &unit,
                    format!(
                        "PyTorch could not be measured ({}); `cargo xtask setup --peers torch` installs it",
                        missing.as_deref().unwrap_or("it printed no such work")
                    ),
                ),
            });
        }
    }
    table::print(bench.name, &rows);
    Ok(())
}

/// Recognition: features, decoding, the model's own run, start-up, memory, size of the dependency tree.
fn recognize(named: &Named) -> Result<()> {
    setup::library(false, None)?;
    let program = process::release("acolyte-cli", "acolyte")?;
    let sample = |name: &str| {
        Path::new("examples").join("samples").join(name)
    };
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let mut round = Vec::new();
        for part in ["features", "greedy", "recognize", "startup"] {
            let mut command = Command::new(&program);
            command
                .current_dir(root())
                .args(["bench", part, "--model", &named.model]);
            if matches!(part, "recognize" | "startup") {
                command.arg(sample("spelled-robert.wav"));
            }
            round.extend(measure(&mut command)?);
        }
        rounds.push(round);
    }
    let goal = |work: &str| match work {
        "features" => Some(1.5),
        "greedy" => Some(0.5),
        _ => None,
    };
    let mut rows: Vec<Row> = medians(&rounds)
        .into_iter()
        .map(|(work, value, unit)| match goal(&work) {
            Some(most) => Row::at_most(work, value, most, &unit),
            None => Row::report(work, value, &unit),
        })
        .collect();
    rows.push(Row::at_most(
        "packages of the default runtime",
        packages()? as f64,
        50.0,
        "packages",
    ));
    table::print("recognize", &rows);
    Ok(())
}

/// Distinct packages that an app with the default runtime builds.
fn packages() -> Result<usize> {
    let tree = process::output(cargo().args([
        "tree", "--package", "acolyte", "--edges", "normal", "--prefix", "none", "--format", "{p}",
    ]))?;
    let mut names: Vec<&str> = tree
        .lines()
        .map(|line| line.trim_end_matches(" (*)").trim())
        .filter(|line| !line.is_empty() && !line.contains("(proc-macro)"))
        .collect();
    names.sort_unstable();
    names.dedup();
    Ok(names.len())
}
