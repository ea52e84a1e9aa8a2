//! `cargo xtask eval NAME`: error rates of a shipped model on the development sets, through the command line that
//! users have.

use crate::Named;
use crate::process::{self, root};
use crate::setup;
use crate::table::{self, Row};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A development set: its manifest under the data folder, what is reported of it, and the most it may be.
struct Set {
    manifest: &'static str,
    figure: Figure,
    goal: Option<f64>,
}

/// What is reported of a set.
enum Figure {
    WordErrors,
    CharacterErrors,
    WordAccuracy,
}

const SPEECH: [Set; 4] = [
    Set {
        manifest: "an4/dev.jsonl",
        figure: Figure::WordErrors,
        goal: Some(15.0),
    },
    Set {
        manifest: "speech_commands/dev.jsonl",
        figure: Figure::WordAccuracy,
        goal: None,
    },
    Set {
        manifest: "librispeech_mini/dev.jsonl",
        figure: Figure::CharacterErrors,
        goal: None,
    },
    Set {
        manifest: "librispeech_more/dev.jsonl",
        figure: Figure::CharacterErrors,
        goal: None,
    },
];

pub fn run(named: &Named) -> Result<()> {
    match named.name.as_deref() {
        Some("speech") => speech(named),
        other => bail!(
            "no evaluation is called {:?}; there are: speech",
            other.unwrap_or_default()
        ),
    }
}

fn speech(named: &Named) -> Result<()> {
    setup::library(false, None)?;
    let program = process::release("acolyte-cli", "acolyte")?;
    let scratch = root().join("target").join("xtask");
    std::fs::create_dir_all(&scratch)?;
    let mut rows = Vec::new();
    for set in &SPEECH {
        let manifest = named.data.join(set.manifest);
        let label = |figure: &str| format!("{} {figure}", set.manifest.trim_end_matches(".jsonl"));
        let (figure, unit) = match set.figure {
            Figure::WordErrors => ("WER", "%"),
            Figure::CharacterErrors => ("CER", "%"),
            Figure::WordAccuracy => ("word accuracy", "%"),
        };
        if !manifest.is_file() {
            rows.push(Row::missing(
                label(figure),
                None,
                set.goal.map(|most| format!("<= {most} {unit}")),
                unit,
                format!("{} is not there: name the data folder with --data", manifest.display()),
            ));
            continue;
        }
        let hypotheses = scratch.join("hypotheses.jsonl");
        transcribe(&program, named, &manifest, &hypotheses)?;
        let scored = process::output(
            Command::new(&program)
                .current_dir(root())
                .arg("score")
                .arg(&manifest)
                .arg(&hypotheses)
                .arg("--json"),
        )?;
        let scored: serde_json::Value =
            serde_json::from_str(scored.trim()).context("`acolyte score --json` printed no JSON")?;
        let rate = |key: &str| {
            scored[key]
                .as_f64()
                .with_context(|| format!("`acolyte score --json` gave no {key:?}"))
        };
        let value = match set.figure {
            Figure::WordErrors => rate("wer")?,
            Figure::CharacterErrors => rate("cer")?,
            Figure::WordAccuracy => 100.0 - rate("wer")?,
        };
        rows.push(match set.goal {
            Some(most) => Row::at_most(label(figure), value, most, unit),
            None => Row::report(label(figure), value, unit),
        });
    }
    table::print("speech", &rows);
    Ok(())
}

/// Transcribes every file of a manifest; one JSON object a line goes to `out`.
fn transcribe(program: &Path, named: &Named, manifest: &Path, out: &Path) -> Result<()> {
    let text = std::fs::read_to_string(manifest)
        .with_context(|| format!("cannot read {}", manifest.display()))?;
    let folder = manifest.parent().unwrap_or(Path::new("."));
    let files: Vec<PathBuf> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line)
                .with_context(|| format!("{}: not JSON: {line}", manifest.display()))?;
            let path = row["audio_filepath"]
                .as_str()
                .with_context(|| format!("{}: a row without audio_filepath", manifest.display()))?;
            Ok(folder.join(path))
        })
        .collect::<Result<_>>()?;
    let output = process::output(
        Command::new(program)
            .current_dir(std::env::current_dir()?)
            .args(["transcribe", "--json", "--model", &named.model])
            .args(files),
    )?;
    std::fs::write(out, output).with_context(|| format!("cannot write {}", out.display()))
}
