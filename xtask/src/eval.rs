//! `cargo xtask eval NAME`: error rates of a shipped model on the development sets, through the commands that
//! users have: `acolyte transcribe --json` on the files of a manifest, then `acolyte score` against it.

use crate::Named;
use crate::eval_decode;
use crate::eval_mobile;
use crate::process::{self, root};
use crate::setup;
use crate::table::{self, Row};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A development set and what is reported of it.
struct Set {
    /// Its folder under the data folder, which holds `dev.jsonl`.
    name: &'static str,
    /// Figures with the most each may be.
    figures: &'static [(Figure, Option<f64>)],
}

/// What is reported of a set, in percent.
#[derive(Clone, Copy)]
enum Figure {
    WordErrors,
    CharacterErrors,
    /// Rows whose text is right as a whole: sets of one word a clip.
    WordAccuracy,
}

const SPEECH: [Set; 4] = [
    Set {
        name: "an4",
        figures: &[
            (Figure::WordErrors, Some(15.0)),
            (Figure::CharacterErrors, None),
        ],
    },
    Set {
        name: "speech_commands",
        figures: &[(Figure::WordAccuracy, None)],
    },
    Set {
        name: "librispeech_mini",
        figures: &[(Figure::WordErrors, None), (Figure::CharacterErrors, None)],
    },
    Set {
        name: "librispeech_more",
        figures: &[(Figure::WordErrors, None), (Figure::CharacterErrors, None)],
    },
];

/// A row of a manifest, or of what `transcribe` wrote.
#[derive(Debug, Deserialize)]
struct Said {
    #[serde(default)]
    audio_filepath: PathBuf,
    text: String,
}

/// What `acolyte score --json` says, in percent.
#[derive(Debug, Deserialize)]
struct Score {
    wer: f64,
    cer: f64,
}

pub fn run(named: &Named) -> Result<()> {
    let name = named.name.as_deref().unwrap_or_default();
    match name {
        "speech" => speech(named),
        "decode" => eval_decode::run(named),
        "mobile" => eval_mobile::run(),
        _ => bail!("no evaluation is called {name:?}; there are: speech, decode, mobile"),
    }
}

fn speech(named: &Named) -> Result<()> {
    setup::ready()?;
    let program = process::release("acolyte-cli", "acolyte")?;
    let data = named.sets()?;
    let mut rows = Vec::new();
    for set in &SPEECH {
        let manifest = data.join(set.name).join("dev.jsonl");
        let label = |figure: Figure| format!("{} dev {}", set.name, figure.name());
        if !manifest.is_file() {
            let note = format!(
                "{} is not there: name the folder that holds the sets with --data or ACOLYTE_DATA",
                manifest.display()
            );
            rows.extend(
                set.figures
                    .iter()
                    .map(|(figure, most)| Row::missing(label(*figure), *most, "%", note.clone())),
            );
            continue;
        }
        eprintln!("{}", set.name);
        let values = evaluate(&program, named, &manifest, set)?;
        rows.extend(
            set.figures
                .iter()
                .zip(values)
                .map(|((figure, most), value)| match most {
                    Some(most) => Row::at_most(label(*figure), value, *most, "%"),
                    None => Row::report(label(*figure), value, "%"),
                }),
        );
    }
    table::print("speech", &rows);
    Ok(())
}

impl Figure {
    fn name(self) -> &'static str {
        match self {
            Figure::WordErrors => "WER",
            Figure::CharacterErrors => "CER",
            Figure::WordAccuracy => "word accuracy",
        }
    }
}

/// The figures of a set, in its order.
fn evaluate(program: &Path, named: &Named, manifest: &Path, set: &Set) -> Result<Vec<f64>> {
    let references = read(&std::fs::read_to_string(manifest)?)
        .with_context(|| format!("{} is no manifest", manifest.display()))?;
    let folder = manifest.parent().unwrap_or(Path::new("."));
    let transcripts = process::output(
        Command::new(program)
            .current_dir(root())
            .args(["transcribe", "--json", "--model", &named.model])
            .args(
                references
                    .iter()
                    .map(|row| folder.join(&row.audio_filepath)),
            ),
    )?;
    let scratch = root().join("target").join("xtask");
    std::fs::create_dir_all(&scratch)
        .with_context(|| format!("cannot create {}", scratch.display()))?;
    let written = scratch.join(format!("{}.jsonl", set.name));
    std::fs::write(&written, &transcripts)
        .with_context(|| format!("cannot write {}", written.display()))?;
    let scored = process::output(
        Command::new(program)
            .current_dir(root())
            .arg("score")
            .args([manifest, &written])
            .arg("--json"),
    )?;
    let score: Score =
        serde_json::from_str(scored.trim()).context("`acolyte score --json` printed no score")?;
    let transcripts = read(&transcripts).context("`acolyte transcribe --json` printed no rows")?;
    if transcripts.len() != references.len() {
        bail!(
            "{} recordings gave {} transcripts",
            references.len(),
            transcripts.len()
        );
    }
    let value = |(figure, _): &(Figure, _)| match figure {
        Figure::WordErrors => score.wer,
        Figure::CharacterErrors => score.cer,
        Figure::WordAccuracy => right(&references, &transcripts),
    };
    Ok(set.figures.iter().map(value).collect())
}

fn read(text: &str) -> Result<Vec<Said>> {
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| serde_json::from_str(line).with_context(|| format!("not such a row: {line}")))
        .collect()
}

/// Percent of rows whose text is the reference's.
fn right(references: &[Said], transcripts: &[Said]) -> f64 {
    let pairs = references.iter().zip(transcripts);
    let right = pairs
        .filter(|(said, heard)| said.text == heard.text)
        .count();
    100.0 * right as f64 / references.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accuracy_counts_whole_rows() {
        let references = read(
            "{\"audio_filepath\": \"a.ogg\", \"text\": \"yes\"}\n{\"audio_filepath\": \"b.ogg\", \"text\": \"no\"}\n",
        )
        .unwrap();
        let heard = read(
            "{\"path\": \"a.ogg\", \"text\": \"yes\"}\n{\"path\": \"b.ogg\", \"text\": \"no no\"}",
        )
        .unwrap();
        assert_eq!(references[0].audio_filepath, Path::new("a.ogg"));
        assert_eq!(right(&references, &heard), 50.0);
        assert!(read("{\"path\": \"a.ogg\"}").is_err());
    }
}
