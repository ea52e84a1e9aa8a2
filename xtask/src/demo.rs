//! `cargo xtask demo`: from nothing to transcripts.

use crate::process::{self, root};
use crate::setup;
use anyhow::{Context, Result};
use std::process::Command;

pub fn run() -> Result<()> {
    setup::library(false, None)?;
    let acolyte = process::release("acolyte-cli", "acolyte")?;
    let folder = root().join("examples").join("samples");
    let mut samples: Vec<_> = std::fs::read_dir(&folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "wav"))
        .filter_map(|path| path.strip_prefix(root()).map(ToOwned::to_owned).ok())
        .collect();
    samples.sort();
    process::run(
        Command::new(acolyte)
        .current_dir(root())
        .arg("transcribe")
        .args(samples),
    )
}

