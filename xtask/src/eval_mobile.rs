//! `cargo xtask eval mobile`: what NNAPI and CoreML would take of every shipped model, by ONNX Runtime's own check.
//!
//! `onnxruntime.tools.check_onnx_model_mobile_usability` goes by operators and shapes; it runs nothing on a device. Every
//! model is brought to fixed shapes first, as an app would ship it (`acolyte-train export --fixed-shape`), and must be one
//! partition of all its nodes for each provider.

use crate::peers::interpreter;
use crate::process::{self, root};
use crate::setup;
use crate::table::{self, Row};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is checked, in the words of the check.
const PROVIDERS: [&str; 3] = ["NNAPI", "CoreML NeuralNetwork", "CoreML MLProgram"];

pub fn run() -> Result<()> {
    setup::ready()?;
    if !interpreter().exists() {
        bail!(
            "the check is a Python module of onnxruntime: install it with `cargo xtask setup --peers torch`"
        );
    }
    let models = shipped(&root().join("models"))?;
    let trainer = process::release("acolyte-trainer", "acolyte-train")?;
    let mut rows = Vec::new();
    for (name, model) in models {
        let out = root()
            .join("target")
            .join("xtask")
            .join("mobile")
            .join(&name);
        if out.exists() {
            std::fs::remove_dir_all(&out)
                .with_context(|| format!("cannot empty {}", out.display()))?;
        }
        process::output(
            Command::new(&trainer)
                .current_dir(root())
                .args(["export", "--fixed-shape", "--out"])
                .args([&out, &model]),
        )?;
        for fixed in files(&out)? {
            let said = check(&fixed)?;
            for provider in PROVIDERS {
                let found = partitions(&said, provider)
                    .with_context(|| format!("the check of {name} says nothing of {provider}"))?;
                let work = format!("{name}, {}: partitions on {provider}", shape(&fixed));
                rows.push(Row::at_most(
                    work,
                    found.partitions as f64,
                    1.0,
                    "partitions",
                ));
                let work = format!("{name}, {}: nodes not on {provider}", shape(&fixed));
                rows.push(Row::at_most(
                    work,
                    (found.nodes - found.taken) as f64,
                    0.0,
                    "nodes",
                ));
            }
        }
    }
    table::print("mobile", &rows);
    if rows.iter().any(|row| row.holds == Some(false)) {
        bail!("a shipped model is not one partition for every mobile provider");
    }
    Ok(())
}

/// The names and files of the models under `folder`.
fn shipped(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let model = path.join("model.onnx");
        if let (true, Some(name)) = (model.is_file(), path.file_name()) {
            found.push((name.to_string_lossy().into_owned(), model));
        }
    }
    found.sort();
    if found.is_empty() {
        bail!("no model under {}", folder.display());
    }
    Ok(found)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut files = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e == "onnx"));
    files.sort();
    Ok(files)
}

fn shape(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    stem.trim_start_matches("model-").to_owned()
}

/// What the check says of a file; it logs to standard error.
fn check(model: &Path) -> Result<String> {
    let mut command = Command::new(interpreter());
    command
        .args(["-m", "onnxruntime.tools.check_onnx_model_mobile_usability"])
        .arg(model);
    let output = command
        .output()
        .with_context(|| format!("cannot start `{}`", process::shown(&command)))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        let last = said.lines().last().unwrap_or_default();
        bail!(
            "`{}` ended with {}: {last}",
            process::shown(&command),
            output.status
        );
    }
    Ok(said)
}

#[derive(Debug, PartialEq, Eq)]
struct Found {
    partitions: usize,
    taken: usize,
    nodes: usize,
}

/// The first count that the check gives for a provider: of the shapes as they are.
fn partitions(said: &str, provider: &str) -> Option<Found> {
    let ending = format!("can be handled by the {provider} EP.");
    let line = said.lines().find(|line| line.ends_with(&ending))?;
    let mut words = line
        .split_whitespace()
        .skip_while(|word| word.parse::<usize>().is_err());
    let partitions = words.next()?.parse().ok()?;
    let (taken, nodes) = words.find_map(|word| word.split_once('/'))?;
    Some(Found {
        partitions,
        taken: taken.parse().ok()?,
        nodes: nodes.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_check_are_read() {
        let said = "INFO:  Checking NNAPI\n\
                    INFO:  2 partitions with a total of 40/43 nodes can be handled by the NNAPI EP.\n\
                    INFO:  \tPartition sizes: [13, 27]\n\
                    INFO:  Checking CoreML MLProgram\n\
                    INFO:  1 partitions with a total of 43/43 nodes can be handled by the CoreML MLProgram EP.\n";
        let found = |partitions, taken| {
            Some(Found {
                partitions,
                taken,
                nodes: 43,
            })
        };
        assert_eq!(partitions(said, "NNAPI"), found(2, 40));
        assert_eq!(partitions(said, "CoreML MLProgram"), found(1, 43));
        assert_eq!(partitions(said, "CoreML NeuralNetwork"), None);
    }
}
