//! `cargo xtask test`: set up, then every test of the workspace.

use crate::process::{cargo, run as run_process};
use crate::setup;
use anyhow::{Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// Parts that are off by default and need nothing of the system.
const FEATURES: &str = "acolyte/camera-v4l,acolyte-cli/camera-v4l";

/// Parts that need ALSA on Linux.
const MICROPHONE: &str = "acolyte/mic,acolyte-cli/mic,acolyte-tests/mic";

/// Which tests.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only the tests that run the microphone path.
    #[arg(long)]
    mic: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    setup::ready()?;
    let microphone = microphone();
    if arguments.mic {
        let Some(options) = microphone else {
            bail!(
                "no ALSA on this machine: install libasound2-dev (headers), or libasound2 (the library alone)"
            );
        };
        return run_process(cargo().args(&options).args([
            "test",
            "--offline",
            "--package",
            "acolyte-tests",
            "--features",
            "mic",
            "mic::",
        ]));
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
    let Some(options) = microphone else {
        println!("neither ALSA's headers nor its library are installed: `mic` is left out");
        return run_process(cargo().args([
            "test",
            "--offline",
            "--workspace",
            "--features",
            FEATURES,
        ]));
    };
    run_process(
        cargo()
            .args(&options)
            .args(["test", "--offline", "--workspace", "--features"])
            .arg([FEATURES, MICROPHONE].join(",")),
    )
}

/// What cargo needs to build the microphone in here; `None` where it cannot.
fn microphone() -> Option<Vec<String>> {
    if !cfg!(target_os = "linux") || alsa_headers() {
        return Some(Vec::new());
    }
    // Without the headers the library itself can be linked: the build script of `alsa-sys`, which looks for them, is
    // overridden.
    let folders = [
        "/usr/lib",
        "/usr/lib64",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
    ];
    let found = folders
        .iter()
        .any(|folder| Path::new(folder).join("libasound.so.2").exists());
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let link = format!("target.{target}.alsa.rustc-link-lib=[\"dylib:+verbatim=libasound.so.2\"]");
    found.then(|| vec!["--config".into(), link])
}

/// Whether the headers of ALSA are installed.
fn alsa_headers() -> bool {
    Command::new("pkg-config")
        .args(["--exists", "alsa"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
