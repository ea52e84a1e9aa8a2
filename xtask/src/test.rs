//! `cargo xtask test`: set up, then every test of the workspace.

use crate::process::{cargo, run as run_process};
use crate::setup;
use anyhow::{Result, bail};
use std::process::{Command, Stdio};

/// Which tests.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only the tests that run the microphone path.
    #[arg(long)]
    mic: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.mic {
        bail!("there is no microphone path in this version, so there are no tests of it");
    }
    setup::ready()?;
    if !alsa_headers() {
        println!("ALSA's headers are not installed: `mic` is left out");
    }
    // The runtime alone: without its default features it must stand without ONNX Runtime.
    run_process(cargo().args([
        "test",
        "--offline",
        "--package",
        "acolyte",
        "--no-default-features",
        "--lib",
    ]))?;
    run_process(cargo().args(["test", "--offline", "--workspace"]))
}

/// Whether a microphone could be built in: ALSA is needed on Linux only.
fn alsa_headers() -> bool {
    !cfg!(target_os = "linux")
        || Command::new("pkg-config")
            .args(["--exists", "alsa"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
}
