//! `cargo xtask test`: set up, then every test of the workspace.

use crate::process::{cargo, run as run_process};
use crate::setup;
use anyhow::Result;
use std::process::Command;

/// Which tests.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only the tests that run the microphone path.
    #[arg(long)]
    mic: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    setup::library(false, None)?;
    if arguments.mic {
        return run_process(cargo().args([
            "test",
            "--package",
            "acolyte-tests",
            "--features",
            "mic",
            "mic::",
        ]));
    }
    let alsa = Command::new("pkg-config")
        .args(["--exists", "alsa"])
        .status()
        .is_ok_and(|status| status.success());
    if cfg!(target_os = "linux") && !alsa {
        println!("ALSA's headers are not installed: the microphone is left out");
    }
    // The runtime alone first: without its default features it must stand without ONNX Runtime.
    run_process(cargo().args([
        "test",
        "--package",
        "acolyte",
        "--no-default-features",
        "--lib",
    ]))?;
    run_process(cargo().args(["test", "--workspace"]))
}
