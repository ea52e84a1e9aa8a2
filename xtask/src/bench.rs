//! `cargo xtask bench NAME`: speed and size, ours and the peers' in the same run.
//!
//! A program that measures prints JSON lines `{"work": WHAT, "value": NUMBER, "unit": UNIT}` and nothing else on
//! standard output: ours are `acolyte bench` and `acolyte-train bench`, the peers' are the scripts in `xtask/peers`.
//! A peer's script names its work as ours does; that is how rows find each other. Both sides run in turn, several
//! rounds, so that what else the machine does disturbs both alike, and the table holds the medians over the rounds.

use crate::Named;
use crate::demo::samples;
use crate::peers::interpreter;
use crate::process::{self, cargo, root};
use crate::setup;
use crate::table::{self, Row};
use crate::{bench_adopt, bench_decode, bench_faults, bench_live, scene_text};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::process::Command;

/// A measurement as a program prints it.
#[derive(Debug, Deserialize)]
pub struct Measured {
    pub work: String,
    pub value: f64,
    pub unit: String,
}

/// A bench of the trainer against a PyTorch script.
struct Against {
    name: &'static str,
    script: &'static str,
    threads: &'static [usize],
    /// Networks whose memory is measured too, in processes of their own.
    memory: &'static [&'static str],
    /// The largest ratio wanted, by work.
    goal: fn(&str) -> f64,
}

/// Rounds in which both sides run in turn.
pub const ROUNDS: usize = 3;

const AGAINST: [Against; 4] = [
    Against {
        name: "train-step",
        script: "train_step.py",
        threads: &[1, 2],
        memory: &["reference", "text", "teacher", "speech-tiny", "scene-tiny"],
        goal: |work| match work {
            work if work.contains("memory") || work.contains("reference") => 1.0,
            _ => 1.1,
        },
    },
    Against {
        name: "ctc-loss",
        script: "ctc_loss.py",
        threads: &[1, 2],
        memory: &[],
        goal: |_| 0.5,
    },
    Against {
        name: "operators",
        script: "operators.py",
        threads: &[1, 2],
        memory: &[],
        goal: |_| 1.5,
    },
    Against {
        name: "optimizer",
        script: "optimizer.py",
        threads: &[1],
        memory: &[],
        goal: |_| 1.0,
    },
];

impl Against {
    /// The arguments of each run, which both sides take, and how often it is repeated: memory does not vary.
    fn runs(&self, cpu_time: bool) -> Vec<(Vec<String>, usize)> {
        let threads = |count: &usize| vec!["--threads".to_owned(), count.to_string()];
        // With several threads, time on a CPU is no measure: they wait for each other there.
        let counts = self
            .threads
            .iter()
            .filter(|&&count| !cpu_time || count == 1);
        let times = counts.map(|count| {
            let mut arguments = threads(count);
            arguments.extend(cpu_time.then(|| "--cpu-time".to_owned()));
            (arguments, ROUNDS)
        });
        let memory = self.memory.iter().map(|network| {
            let mut arguments = threads(&1);
            arguments.extend(["--memory", "--network", network].map(str::to_owned));
            (arguments, 1)
        });
        times.chain(memory).collect()
    }
}

pub fn run(named: &Named) -> Result<()> {
    let name = named.name.as_deref().unwrap_or_default();
    if let Some(bench) = AGAINST.iter().find(|bench| bench.name == name) {
        return against(bench, named.cpu_time);
    }
    match name {
        "recognize" => return recognize(named),
        "decode" => return bench_decode::run(named),
        "live" => return bench_live::live(named),
        "soak" => return bench_live::soak(named),
        "hearing" => return bench_live::hearing(named),
        "faults" => return bench_faults::run(named),
        "scene-text" => return scene_text::run(named),
        "adopt" => return bench_adopt::run(named),
        _ => {}
    }
    let names: Vec<&str> = AGAINST
        .iter()
        .map(|bench| bench.name)
        .chain([
            "recognize",
            "decode",
            "live",
            "soak",
            "hearing",
            "faults",
            "scene-text",
            "adopt",
        ])
        .collect();
    bail!(
        "no bench is called {name:?}; there are: {}",
        names.join(", ")
    )
}

/// Runs a program and reads its measurements.
pub fn measure(command: &mut Command) -> Result<Vec<Measured>> {
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
pub fn medians(rounds: &[Vec<Measured>]) -> Vec<(String, f64, String)> {
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

fn against(bench: &Against, cpu_time: bool) -> Result<()> {
    setup::ready()?;
    let program = process::release("acolyte-trainer", "acolyte-train")?;
    let script = root().join("xtask").join("peers").join(bench.script);
    let mut missing = None;
    let mut rows = Vec::new();
    for (arguments, rounds) in bench.runs(cpu_time) {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 1..=rounds {
            let said = arguments.join(" ");
            eprintln!("{}: {said}, round {round} of {rounds}", bench.name);
            let mut mine = Command::new(&program);
            mine.current_dir(root()).args(["bench", bench.name]);
            ours.push(measure(mine.args(&arguments))?);
            if missing.is_none() {
                let mut peer = Command::new(interpreter());
                match measure(peer.arg(&script).args(&arguments)) {
                    Ok(found) => theirs.push(found),
                    Err(error) => missing = Some(last_line(&error)),
                }
            }
        }
        let theirs = medians(&theirs);
        rows.extend(medians(&ours).into_iter().map(|(work, value, unit)| {
            let goal = (bench.goal)(&work);
            match theirs.iter().find(|(name, ..)| *name == work) {
                Some((_, peer, _)) => Row::against(work, value, *peer, goal, &unit),
                None => {
                    let reason = missing.as_deref().unwrap_or("it printed no such work");
                    let note = format!(
                        "PyTorch could not be measured ({reason}); `cargo xtask setup --peers torch` installs it"
                    );
                    Row::no_peer(work, value, goal, &unit, note)
                }
            }
        }));
    }
    table::print(bench.name, &rows);
    Ok(())
}

/// The end of a failure, which is where Python says what was wrong.
pub fn last_line(error: &anyhow::Error) -> String {
    let said = format!("{error:#}");
    said.lines().last().unwrap_or_default().to_owned()
}

/// Recognition: features, decoding, the model's own run, start-up, memory, size of the dependency tree.
fn recognize(named: &Named) -> Result<()> {
    setup::ready()?;
    let program = process::release("acolyte-cli", "acolyte")?;
    let samples = samples()?;
    let mut rounds = Vec::new();
    for round in 1..=ROUNDS {
        eprintln!("recognize: round {round} of {ROUNDS}");
        let mut measured = Vec::new();
        for part in ["features", "greedy", "recognize", "startup"] {
            let mut command = Command::new(&program);
            command.current_dir(root()).args([
                "bench",
                part,
                "--threads",
                "1",
                "--model",
                &named.model,
            ]);
            match part {
                "recognize" => command.args(&samples),
                "startup" => command.args(samples.first()),
                _ => &mut command,
            };
            measured.extend(measure(&mut command)?);
        }
        rounds.push(measured);
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

/// Distinct packages that an app with the default runtime builds, the runtime itself and procedural macros included.
fn packages() -> Result<usize> {
    let tree = process::output(cargo().args([
        "tree",
        "--offline",
        "--package",
        "acolyte",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]))?;
    Ok(distinct(&tree))
}

/// The packages in the output of `cargo tree`.
fn distinct(tree: &str) -> usize {
    let names = tree
        .lines()
        .map(|line| line.trim_end_matches(" (*)").trim())
        .filter(|line| !line.is_empty());
    names.collect::<std::collections::HashSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(work: &str, value: f64) -> Measured {
        Measured {
            work: work.to_owned(),
            value,
            unit: "ms".to_owned(),
        }
    }

    #[test]
    fn medians_are_taken_over_rounds_by_work() {
        let rounds = [
            vec![measured("b", 3.0), measured("a", 1.0)],
            vec![measured("b", 1.0), measured("a", 9.0)],
            vec![measured("b", 2.0), measured("a", 2.0)],
        ];
        let found = medians(&rounds);
        let expected = [("b", 2.0), ("a", 2.0)];
        assert_eq!(
            found,
            expected.map(|(work, value)| (work.to_owned(), value, "ms".to_owned()))
        );
        assert_eq!(medians(&[]), []);
    }

    #[test]
    fn both_sides_are_run_with_the_same_arguments() {
        let train = &AGAINST[0];
        let runs = train.runs(false);
        assert_eq!(runs.len(), train.threads.len() + train.memory.len());
        assert_eq!(runs[1], (vec!["--threads".into(), "2".into()], ROUNDS));
        let (memory, rounds) = &runs[2];
        assert_eq!(memory.join(" "), "--threads 1 --memory --network reference");
        assert_eq!(*rounds, 1);
        let by_cpu = train.runs(true);
        assert_eq!(by_cpu[0].0.join(" "), "--threads 1 --cpu-time");
        assert_eq!(by_cpu.len(), 1 + train.memory.len(), "one thread only");
        assert_eq!((train.goal)("memory of a train step, text"), 1.0);
        assert_eq!((train.goal)("train step, text"), 1.1);
    }

    #[test]
    fn packages_are_counted_once() {
        assert_eq!(
            distinct("a v1.0.0 (/here)\nb v1.0.0\nb v2.0.0\nb v1.0.0 (*)\n\n"),
            3
        );
    }
}
