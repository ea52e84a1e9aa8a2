//! `cargo xtask demo`: from nothing to transcripts.

use crate::process::{self, root};
use crate::setup;
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::Command;

pub fn run() -> Result<()> {
    setup::ready()?;
    let acolyte = process::release("acolyte-cli", "acolyte")?;
    process::run(
        Command::new(acolyte)
            .current_dir(root())
            .arg("transcribe")
            .args(samples()?),
    )
}

/// The sample recordings in the order of their names, relative to the root of the repository.
pub fn samples() -> Result<Vec<PathBuf>> {
    let folder = PathBuf::from("examples/samples");
    let entries = std::fs::read_dir(root().join(&folder))
        .with_context(|| format!("cannot read {}", folder.display()))?;
    let mut samples: Vec<PathBuf> = entries
        .filter_map(|entry| Some(folder.join(entry.ok()?.file_name())))
        .filter(|path| path.extension().is_some_and(|extension| extension == "wav"))
        .collect();
    samples.sort();
    Ok(samples)
}
