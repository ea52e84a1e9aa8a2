//! Child processes: run, show what is run, fail with what failed.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The root of the repository.
pub fn root() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    folder.parent().unwrap_or(folder).to_owned()
}

/// The cargo that runs this program.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// The command as a person would type it.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .enumerate()
        .map(|(index, word)| {
            let word = word.to_string_lossy();
            match index {
                0 => Path::new(word.as_ref())
                    .file_name()
                    .map_or(word.to_string(), |name| name.to_string_lossy().into_owned()),
                _ if word.contains(' ') => format!("'{word}'"),
                _ => word.into_owned(),
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Prints the command and runs it, its output to this terminal.
pub fn run(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", shown(command));
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", shown(command));
    }
    Ok(())
}

/// Runs the command and returns its standard output; on failure the error holds its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !output.status.success() {
        bail!(
            "`{}` ended with {}: {}",
            shown(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A program of ours, built with optimization; returns its path. Setup has fetched every crate it takes.
pub fn release(package: &str, binary: &str) -> Result<PathBuf> {
    run(cargo().args(["build", "--release", "--offline"]).args([
        "--package",
        package,
        "--bin",
        binary,
    ]))?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(target
        .join("release")
        .join(format!("{binary}{}", std::env::consts::EXE_SUFFIX)))
}
