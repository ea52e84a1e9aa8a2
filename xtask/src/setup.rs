//! `cargo xtask setup`: the pinned ONNX Runtime out of its official wheel into a git-ignored folder.
//!
//! The ordinary package client fetches the wheel; wheel and library are verified by hash; library and licences are
//! written beside each other and renamed into place, so that a failure leaves nothing half-written. A second run
//! verifies and does nothing.

use crate::pins::{PYTHON, Pin, VERSION, pin};
use crate::process::{root, shown};
use crate::{peers, process};
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What to set up.
#[derive(Debug, Default, clap::Args)]
pub struct Arguments {
    /// Fetch the GPU build (CUDA 13, cuDNN 9) instead of the CPU one.
    #[arg(long)]
    gpu: bool,
    /// Use this wheel instead of fetching it: for machines without a package index.
    #[arg(long, value_name = "FILE")]
    wheel: Option<PathBuf>,
    /// Also install the peers that benches compare with: all, or one group by name.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "all")]
    peers: Option<String>,
}

/// Files beside the library in the wheel that go with it.
const NOTICES: [&str; 3] = ["LICENSE", "ThirdPartyNotices.txt", "Privacy.md"];

/// The largest file taken out of a wheel.
const MAX_BYTES: u64 = 1 << 30;

pub fn run(arguments: &Arguments) -> Result<()> {
    library(arguments.gpu, arguments.wheel.as_deref())?;
    if let Some(name) = &arguments.peers {
        peers::install(name)?;
    }
    Ok(())
}

/// The folder the library lives in.
pub fn folder() -> PathBuf {
    root().join(".onnxruntime")
}

/// Makes sure the library is there.
pub fn library(gpu: bool, wheel: Option<&Path>) -> Result<()> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let Some(pin) = pin(os, arch, gpu) else {
        bail!(
            "there is no official{} wheel of ONNX Runtime {VERSION} for {os} {arch}: build the library from source and \
             name it in ORT_DYLIB_PATH",
            if gpu { " GPU" } else { "" }
        );
    };
    let target = folder().join(pin.file);
    let marker = folder().join("wheel.sha256");
    if wheel.is_none() && is_there(&target, &marker, &pin)? {
        println!("ONNX Runtime {VERSION} is set up in .onnxruntime");
        return Ok(());
    }
    let scratch = root().join("target").join("xtask");
    fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
    let bytes = match wheel {
        Some(path) => {
            fs::read(path).with_context(|| format!("cannot read {}", path.display()))?
        }
        None => fetch(&pin, &scratch)?,
    };
    let found = sha256(&bytes);
    if found != pin.wheel {
        bail!(
            "the wheel has SHA-256 {found}, expected {} ({} {VERSION}, CPython {PYTHON}, {os} {arch}): it is another \
             version or was damaged; nothing was installed",
            pin.wheel,
            pin.package
        );
    }
    install(&pin, &bytes, &marker)?;
    println!(
        "ONNX Runtime {VERSION} ({}) is now in .onnxruntime, with its licences",
        pin.package
    );
    Ok(())
}

/// Whether the right library lies there: by its own pin, or by the wheel it came from.
fn is_there(library: &Path, marker: &Path, pin: &Pin) -> Result<bool> {
    if !library.is_file() {
        return Ok(false);
    }
    match pin.library {
        Some(expected) => {
            let bytes =
                fs::read(library).with_context(|| format!("cannot read {}", library.display()))?;
            Ok(sha256(&bytes) == expected)
        }
        None => Ok(fs::read_to_string(marker).is_ok_and(|found| found.trim() == pin.wheel)),
    }
}

/// Has the package client download the wheel and returns its bytes.
fn fetch(pin: &Pin, scratch: &Path) -> Result<Vec<u8>> {
    let folder = scratch.join("wheel");
    let _ = fs::remove_dir_all(&folder);
    let mut command = Command::new(python()?);
    command
        .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check"])
        .args(["--no-deps", "--only-binary=:all:", "--python-version", PYTHON]);
    for platform in pin.platforms {
        command.args(["--platform", platform]);
    }
    command
        .arg("--dest")
        .arg(&folder)
        .arg(format!("{}=={VERSION}", pin.package));
    println!("$ {}", shown(&command));
    process::output(&mut command).context(
        "the package client could not fetch the wheel; on a machine without an index, fetch it elsewhere with the \
         command above and give it to `cargo xtask setup --wheel FILE`",
    )?;
    let wheel = fs::read_dir(&folder)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("the package client wrote no wheel")?;
    fs::read(&wheel).with_context(|| format!("cannot read {}", wheel.display()))
}

/// The name of a Python that has pip.
pub fn python() -> Result<&'static str> {
    ["python3", "python"]
        .into_iter()
        .find(|name| process::output(Command::new(name).args(["-m", "pip", "--version"])).is_ok())
        .context(
            "no Python with pip was found: install one, or download the wheel of onnxruntime 1.28.0 for CPython 3.12 \
             on another machine and run `cargo xtask setup --wheel FILE`",
        )
}

fn install(pin: &Pin, wheel: &[u8], marker: &Path) -> Result<()> {
    let mut archive =
        zip::ZipArchive::new(std::io::Cursor::new(wheel)).context("the wheel is no zip archive")?;
    let folder = folder();
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut libraries = Vec::new();
    let mut notices = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index)?;
        let Some(path) = entry.enclosed_name() else {
            bail!("the wheel holds a path that leaves its folder (entry {index})");
        };
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let name = name.to_owned();
        let is_library = path.parent().is_some_and(|parent| parent.ends_with("capi"))
            && (name == pin.file || name.contains("onnxruntime_providers"));
        let is_notice = NOTICES.contains(&name.as_str())
            && path.parent() == Some(Path::new("onnxruntime"));
        if !is_library && !is_notice {
            continue;
        }
        let mut bytes = Vec::new();
        (&mut entry).take(MAX_BYTES).read_to_end(&mut bytes)?;
        if name == pin.file {
            let found = sha256(&bytes);
            if pin.library.is_some_and(|expected| expected != found) {
                bail!("the library in the wheel has SHA-256 {found}, which is not the pinned one");
            }
        }
        if is_library {
            libraries.push((name, bytes));
        } else {
            notices.push((name, bytes));
        }
    }
    if !libraries.iter().any(|(name, _)| name == pin.file) {
        bail!("the wheel does not contain {}", pin.file);
    }
    for (name, bytes) in notices.iter().chain(&libraries) {
        let partial = folder.join(format!("{name}.partial"));
        let target = folder.join(name);
        fs::write(&partial, bytes)
            .and_then(|()| fs::rename(&partial, &target))
            .map_err(|error| {
                let _ = fs::remove_file(&partial);
                error
            })
            .with_context(|| format!("cannot write {}", target.display()))?;
    }
    fs::write(marker, pin.wheel).with_context(|| format!("cannot write {}", marker.display()))
}

/// Lower-case hex SHA-256.
fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
