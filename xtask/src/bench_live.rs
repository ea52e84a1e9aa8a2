//! `cargo xtask bench live | soak | hearing`: live recognition with the shipped model, beside sherpa-onnx, Whisper tiny.en
//! and pocketsphinx where they are installed.

use crate::Named;
use crate::bench::{Measured, last_line, measure};
use crate::demo::samples;
use crate::peers::interpreter;
use crate::process::{self, root};
use crate::setup;
use crate::table::{self, Row};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Most milliseconds from the last sample to the final text, beyond the model's look-ahead.
const FINAL_MS: f64 = 20.0;
/// Most KiB by which memory may grow over a soak: what an allocator moves to and fro, and no leak.
const GROWTH_KIB: f64 = 1024.0;
/// Most milliseconds by which word times may move: one output frame.
const DRIFT_MS: f64 = 20.0;

/// Delays, processor share and streams per core, over the recordings of a development set.
pub fn live(named: &Named) -> Result<()> {
    setup::ready()?;
    let (files, set) = recordings(named)?;
    let mut rows = Vec::new();
    for found in ours("live", named, &files)? {
        rows.push(match found.work.as_str() {
            "last sample to final text, p50" | "last sample to final text, p95" => {
                Row::at_most(found.work, found.value, FINAL_MS, &found.unit)
            }
            _ => Row::report(found.work, found.value, &found.unit),
        });
    }
    // The same student in another runtime, on features of that runtime: time compares, text does not.
    let script = root().join("xtask").join("peers").join("sherpa.py");
    let mut peer = Command::new(interpreter());
    peer.arg(script).arg(model(named)).args(&files);
    match measure(&mut peer) {
        Ok(found) => rows.extend(found.into_iter().map(|found| {
            let work = format!("sherpa-onnx, the same student: {}", found.work);
            Row::report(work, found.value, &found.unit)
        })),
        Err(error) => {
            let note = format!(
                "not measured ({}); `cargo xtask setup --peers sherpa` installs it",
                last_line(&error)
            );
            let work = "sherpa-onnx, the same student: last sample to final text";
            rows.push(Row::missing(work, None, "ms", note));
        }
    }
    for peer in ["whisper", "pocketsphinx"] {
        let work = format!("{peer}: last sample to final text");
        match peers(named, set.as_deref(), peer) {
            Ok(summary) => {
                for (share, key) in [("p50", "final_ms_median"), ("p95", "final_ms_p95")] {
                    let work = format!("{work}, {share}");
                    rows.push(match summary[key].as_f64() {
                        Some(value) => Row::report(work, value, "ms"),
                        None => Row::missing(work, None, "ms", format!("its summary has no {key}")),
                    });
                }
            }
            Err(error) => {
                let note = format!(
                    "not measured ({}); `cargo xtask setup --peers {peer}` installs it",
                    last_line(&error)
                );
                rows.push(Row::missing(work, None, "ms", note));
            }
        }
    }
    table::print("live", &rows);
    Ok(())
}

/// A day of a repeated recording, and an hour of it live at 20 times its pace.
pub fn soak(named: &Named) -> Result<()> {
    setup::ready()?;
    let sample = root().join("examples/samples/digits.wav");
    let rows: Vec<Row> = ours("soak", named, &[sample])?
        .into_iter()
        .map(|found| {
            if found.work.contains("memory growth") {
                Row::at_most(found.work, found.value, GROWTH_KIB, &found.unit)
            } else if found.work.contains("drift") {
                Row::at_most(found.work, found.value, DRIFT_MS, &found.unit)
            } else {
                Row::report(found.work, found.value, &found.unit)
            }
        })
        .collect();
    table::print("soak", &rows);
    Ok(())
}

/// Word errors in noise and at other levels, and words heard where nobody speaks.
pub fn hearing(named: &Named) -> Result<()> {
    setup::ready()?;
    let manifest = named.sets()?.join("an4").join("dev.jsonl");
    if !manifest.is_file() {
        bail!(
            "{} is not there: name the folder that holds the sets with --data or ACOLYTE_DATA",
            manifest.display()
        );
    }
    let rows: Vec<Row> = ours("hearing", named, &[manifest])?
        .into_iter()
        .map(|found| match found.work.starts_with("words in") {
            true => Row::at_most(found.work, found.value, 0.0, &found.unit),
            false => Row::report(found.work, found.value, &found.unit),
        })
        .collect();
    table::print("hearing", &rows);
    Ok(())
}

fn ours(part: &str, named: &Named, files: &[PathBuf]) -> Result<Vec<Measured>> {
    let program = process::release("acolyte-cli", "acolyte")?;
    let mut command = Command::new(program);
    command
        .current_dir(root())
        .args(["bench", part, "--threads", "1", "--model", &named.model])
        .args(files);
    measure(&mut command)
}

/// The file of the model to measure.
fn model(named: &Named) -> PathBuf {
    let shipped = root().join("models").join(&named.model).join("model.onnx");
    match shipped.is_file() {
        true => shipped,
        false => PathBuf::from(&named.model),
    }
}

/// The recordings of an4's development set, or the samples of the repository where the sets are absent.
fn recordings(named: &Named) -> Result<(Vec<PathBuf>, Option<PathBuf>)> {
    let folder = named.sets()?.join("an4");
    let Ok(text) = std::fs::read_to_string(folder.join("dev.jsonl")) else {
        eprintln!("live: no an4 under --data; the samples of the repository stand in");
        return Ok((samples()?, None));
    };
    let files = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let row: Value = serde_json::from_str(line)?;
            let path = row["audio_filepath"]
                .as_str()
                .context("a row without audio_filepath")?;
            Ok(folder.join(path))
        })
        .collect::<Result<Vec<PathBuf>>>()?;
    Ok((files, Some(folder)))
}

/// The summary of a peer on an4's development set.
fn peers(named: &Named, set: Option<&Path>, peer: &str) -> Result<Value> {
    let folder = set.context("the set an4 is not under --data")?;
    let script = named.scripts()?.join("peers.py");
    if !script.is_file() {
        bail!(
            "{} is not there: name its folder with --peer-scripts",
            script.display()
        );
    }
    let data = folder.parent().unwrap_or(folder);
    let text = process::output(Command::new(interpreter()).arg(script).arg(data).args([
        "an4",
        peer,
        "--manifest",
        "dev.jsonl",
    ]))?;
    text.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|row| row["type"] == "summary")
        .context("it printed no summary")
}
