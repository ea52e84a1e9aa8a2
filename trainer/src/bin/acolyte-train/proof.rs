//! `acolyte-train proof`: the runs of a proof that are missing, and its tables.

use crate::distill::threads;
use crate::watch::Watch;
use acolyte::model::Library;
use acolyte_trainer::graph::exec::Engine;
use acolyte_trainer::proof::{
    Event, Outcome, ProofFile, ProofSetup, budgets, load, page, run as run_proof, table,
};
use anyhow::{Context, Result};
use clap::Args;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Train what a proof still lacks, one JSON line a finished run, and compute its tables. Interrupted, the same command
/// goes on; a run that stands in the results is not done again.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Proof files (TOML), in order; none: only the tables are computed.
    proofs: Vec<PathBuf>,
    /// Folder of the data sets.
    #[arg(long, env = "ACOLYTE_DATA", default_value = "../shared/data")]
    data: PathBuf,
    /// Where runs live, and the recordings' word boundaries (`REGIME-words.jsonl`).
    #[arg(long, default_value = "runs/proof")]
    runs: PathBuf,
    /// Folder of `speech-runs.jsonl`, of the tables, and of the teachers that are kept.
    #[arg(long, default_value = "docs/results")]
    results: PathBuf,
    /// Also the arms that are not core.
    #[arg(long)]
    full: bool,
    /// Only this arm.
    #[arg(long, value_name = "ARM")]
    only: Option<String>,
    /// Begin no run after so many hours.
    #[arg(long)]
    hours: Option<f64>,
    /// Threads; 0 takes all cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// What to run on: cpu or cuda. It is required, never replaced.
    #[arg(long, default_value = "cpu")]
    provider: String,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let lines = arguments.results.join("speech-runs.jsonl");
    let mut left = 0;
    for path in &arguments.proofs {
        let file = ProofFile::load(path)?;
        let engine = Engine::new(&Library::find()?, threads(arguments.threads, 0))
            .with_provider(arguments.provider.parse()?)?;
        let words = arguments.runs.join(format!("{}-words.jsonl", file.regime));
        if !words.is_file() {
            eprintln!(
                "{} is not there: lines get no distance of spikes from the words' boundaries; `cargo xtask align {}` \
                 makes it",
                words.display(),
                file.regime
            );
        }
        let setup = ProofSetup {
            engine: &engine,
            file: &file,
            data: &arguments.data,
            runs: &arguments.runs,
            results: &lines,
            teachers: &arguments.results.join("teachers"),
            boundaries: words.is_file().then_some(words.as_path()),
            full: arguments.full,
            only: arguments.only.as_deref(),
            hours: arguments.hours,
        };
        let mut watch = Watch::new();
        left += run_proof(&setup, &mut tell, &mut watch)
            .with_context(|| format!("the proof {}", path.display()))?;
        watch.finish();
    }
    write_tables(&lines, &arguments.results)?;
    if left > 0 {
        println!("{left} runs are left: the same command goes on");
    }
    Ok(())
}

fn write_tables(lines: &Path, results: &Path) -> Result<()> {
    let tables = table(&load(lines)?);
    std::fs::create_dir_all(results)?;
    let json = serde_json::to_string_pretty(&tables)? + "\n";
    std::fs::write(results.join("speech.json"), json)?;
    let text = page(&tables);
    std::fs::write(results.join("speech.md"), &text)?;
    println!("{text}");
    let regimes: BTreeSet<&str> = tables.budget.iter().map(|row| &*row.regime).collect();
    for regime in regimes {
        if let Some(picture) = budgets(&tables, regime) {
            std::fs::write(results.join(format!("{regime}-teachers.svg")), picture)?;
        }
    }
    Ok(())
}

fn tell(event: Event<'_>) {
    match event {
        Event::Teacher(arm) => eprintln!("the teacher of {arm}"),
        Event::Student { arm, fold, seed } => eprintln!("{arm}, fold {fold}, seed {seed}"),
        Event::Done(record) => match (&record.outcome, record.speakers()) {
            (
                Outcome::Tested {
                    student_seconds, ..
                },
                Some(speakers),
            ) => {
                let (errors, words) = speakers
                    .values()
                    .fold((0, 0), |(e, w), s| (e + s.word_errors, w + s.words));
                println!(
                    "{} fold {} seed {}: WER {:.2} % of {words} words, {:.1} min",
                    record.arm,
                    record.fold,
                    record.seed,
                    100.0 * errors as f64 / words.max(1) as f64,
                    student_seconds / 60.0
                );
            }
            _ => println!(
                "{} fold {} seed {}: the teacher is refused as a guide",
                record.arm, record.fold, record.seed
            ),
        },
        _ => {}
    }
}
