//! `cargo xtask setup`: the pinned ONNX Runtime out of its official wheel into a git-ignored folder, and the crates
//! that the workspace needs into cargo's own store, so that nothing after it needs a network.
//!
//! The ordinary package client fetches the wheel (`pins`, `wheel`). A second run verifies and does nothing. The GPU
//! build goes into a folder of its own, so that both can be there.

use crate::pins::{PYTHON, Pin, VERSION, pin};
use crate::process::{cargo, output, root, shown};
use crate::{peers, wheel};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What to set up.
#[derive(Debug, Default, clap::Args)]
pub struct Arguments {
    /// Fetch the GPU build (CUDA 13, cuDNN 9) into .onnxruntime/gpu, beside the CPU build.
    #[arg(long)]
    gpu: bool,
    /// Use this wheel instead of fetching it: for machines without a package index.
    #[arg(long, value_name = "FILE")]
    wheel: Option<PathBuf>,
    /// Also install the peers that benches compare with: all, or one group by name.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "all")]
    peers: Option<String>,
}

/// A folder that is removed when this is dropped, whatever happened in between.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is in a git-ignored folder and is overwritten by the next run.
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    if let Some(name) = &arguments.peers {
        peers::check(name)?;
    }
    library(arguments.gpu, arguments.wheel.as_deref())?;
    crates()?;
    if let Some(name) = &arguments.peers {
        peers::install(name)?;
    }
    Ok(())
}

/// What every other command needs: the CPU library and the crates.
pub fn ready() -> Result<()> {
    library(false, None)?;
    crates()
}

/// The folder the library lives in.
fn folder(gpu: bool) -> PathBuf {
    let folder = root().join(".onnxruntime");
    if gpu { folder.join("gpu") } else { folder }
}

/// Makes sure the library is there.
fn library(gpu: bool, from: Option<&Path>) -> Result<()> {
    let pin = this_machine(gpu)?;
    let folder = folder(gpu);
    let place = if gpu {
        ".onnxruntime/gpu"
    } else {
        ".onnxruntime"
    };
    if wheel::is_installed(&pin, &folder)? {
        println!("ONNX Runtime {VERSION} is set up in {place}");
        return Ok(());
    }
    match from {
        Some(path) => wheel::install(&pin, path, &folder)?,
        None => {
            let scratch = Scratch(folder.join("download"));
            fs::create_dir_all(&scratch.0)
                .with_context(|| format!("cannot create {}", scratch.0.display()))?;
            wheel::install(&pin, &fetch(&pin, &scratch.0)?, &folder)?;
        }
    }
    println!(
        "ONNX Runtime {VERSION} ({}) is now in {place}, with its licences",
        pin.package
    );
    if gpu {
        println!(
            "It needs CUDA 13 and cuDNN 9 on the loader's path; ORT_DYLIB_PATH={place}/{} chooses it",
            pin.file
        );
    }
    Ok(())
}

/// The pin for the machine this runs on.
fn this_machine(gpu: bool) -> Result<Pin> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    // The Linux wheels are linked against glibc.
    let musl = cfg!(target_env = "musl");
    let found = (!musl).then(|| pin(os, arch, gpu)).flatten();
    found.with_context(|| {
        format!(
            "there is no official{} wheel of ONNX Runtime {VERSION} for {arch} {os}{}: build the library from source \
             and name its file in ORT_DYLIB_PATH",
            if gpu { " GPU" } else { "" },
            if musl { " with musl" } else { "" }
        )
    })
}

/// Has the package client download the wheel; returns its path.
fn fetch(pin: &Pin, folder: &Path) -> Result<PathBuf> {
    let mut command = Command::new(python()?);
    command
        .args(["-m", "pip", "download", "--quiet", "--no-deps"])
        .args(["--only-binary=:all:", "--python-version", PYTHON]);
    for platform in pin.platforms {
        command.args(["--platform", platform]);
    }
    command
        .arg(format!("{}=={VERSION}", pin.package))
        .arg("--dest")
        .arg(folder);
    println!("$ {}", shown(&command));
    output(&mut command).context(
        "the package client could not fetch the wheel; on a machine without an index, fetch it elsewhere with the \
         command above and give it to `cargo xtask setup --wheel FILE`",
    )?;
    fs::read_dir(folder)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("the package client wrote no wheel")
}

/// The name of a Python that has pip.
pub fn python() -> Result<&'static str> {
    ["python3", "python", "py"]
        .into_iter()
        .find(|name| output(Command::new(name).args(["-m", "pip", "--version"])).is_ok())
        .with_context(|| {
            format!(
                "no Python with pip was found: install one (Debian: python3-pip), or fetch the wheel of onnxruntime \
                 {VERSION} for CPython {PYTHON} on another machine and run `cargo xtask setup --wheel FILE`"
            )
        })
}

/// Has cargo fetch what the lock file names for this machine; without a network where all of it is there.
fn crates() -> Result<()> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("`rustc -vV` names no host")?;
    let fetched = output(cargo().args(["fetch", "--quiet", "--target", host]));
    match fetched {
        Ok(_) => Ok(()),
        Err(error) => bail!("cargo could not fetch the crates that Cargo.lock names: {error:#}"),
    }
}
