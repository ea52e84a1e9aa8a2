//! `cargo xtask demo`: from nothing to transcripts of the sample recordings and readings of the sample words.

use crate::process::{self, root};
use crate::setup;
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::Command;

pub fn run() -> Result<()> {
    setup::ready()?;
    let acolyte = process::release("acolyte-cli", "acolyte")?;
    for (command, kind) in [("transcribe", "wav"), ("read", "png")] {
        process::run(
            Command::new(&acolyte)
                .current_dir(root())
                .arg(command)
                .args(files(kind)?),
        )?;
    }
    Ok(())
}

/// The sample recordings in the order of their names, relative to the root of the repository.
pub fn samples() -> Result<Vec<PathBuf>> {
    files("wav")
}

fn files(kind: &str) -> Result<Vec<PathBuf>> {
    let folder = PathBuf::from("examples/samples");
    let entries = std::fs::read_dir(root().join(&folder))
        .with_context(|| format!("cannot read {}", folder.display()))?;
    let mut samples: Vec<PathBuf> = entries
        .filter_map(|entry| Some(folder.join(entry.ok()?.file_name())))
        .filter(|path| path.extension().is_some_and(|extension| extension == kind))
        .collect();
    samples.sort();
    Ok(samples)
}
