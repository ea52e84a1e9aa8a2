//! `cargo xtask align REGIME`: reference word boundaries of a proof's recordings, by forced alignment with
//! pocketsphinx (`cargo xtask setup --peers pocketsphinx` installs it), as `runs/proof/REGIME-words.jsonl`: they
//! hold the recordings' transcripts, which are not the project's to publish.

use crate::peers::interpreter;
use crate::process::{root, shown};
use crate::reproduce::Regime;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Whose recordings, and where they are.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The regime.
    #[arg(value_enum)]
    regime: Regime,
    /// Folder with the data sets [default: ../shared/data beside the repository].
    #[arg(long, env = "ACOLYTE_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Row {
    audio_filepath: PathBuf,
    text: String,
}

/// What the aligner reads for each row of a manifest.
fn questions(manifest: &Path) -> Result<String> {
    let text = std::fs::read_to_string(manifest)
        .with_context(|| format!("cannot read {}", manifest.display()))?;
    let folder = manifest.parent().unwrap_or(Path::new("."));
    let mut out = String::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let row: Row = serde_json::from_str(line)
            .with_context(|| format!("{}: not a manifest row: {line}", manifest.display()))?;
        let asked = serde_json::json!({
            "audio": folder.join(&row.audio_filepath),
            "text": row.text,
        });
        out += &format!("{asked}\n");
    }
    Ok(out)
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let data = match &arguments.data {
        Some(folder) => std::path::absolute(folder)?,
        None => root().join("../shared/data"),
    };
    let mut asked = String::new();
    for manifest in arguments.regime.manifests() {
        asked += &questions(&data.join(manifest))?;
    }
    let python = interpreter();
    if !python.is_file() {
        bail!("the aligner is not installed: run `cargo xtask setup --peers pocketsphinx`");
    }
    let mut command = Command::new(python);
    command.arg(root().join("xtask").join("peers").join("align_rows.py"));
    eprintln!("$ {}", shown(&command));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the aligner")?;
    let mut stdin = child.stdin.take().context("no way to the aligner")?;
    // Written from a thread of its own, so that neither side waits for the other.
    let writer = std::thread::spawn(move || stdin.write_all(asked.as_bytes()));
    let output = child.wait_with_output()?;
    let written = writer.join();
    if !output.status.success() {
        bail!("the aligner ended with {}", output.status);
    }
    match written {
        Ok(result) => result.context("the aligner stopped reading")?,
        Err(_) => bail!("the thread that feeds the aligner panicked"),
    }
    let folder = root().join("runs").join("proof");
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{}-words.jsonl", arguments.regime.name()));
    std::fs::write(&path, &output.stdout)
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_asked_with_their_whole_path() {
        let folder = std::env::temp_dir().join(format!("acolyte-align-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("m.jsonl");
        std::fs::write(
            &path,
            "{\"audio_filepath\": \"a/b.ogg\", \"text\": \"yes\"}\n\n",
        )
        .unwrap();
        let asked = questions(&path).unwrap();
        let row: serde_json::Value = serde_json::from_str(asked.trim()).unwrap();
        assert_eq!(row["text"], "yes");
        assert_eq!(row["audio"], folder.join("a/b.ogg").display().to_string());
        std::fs::write(&path, "{}\n").unwrap();
        assert!(questions(&path).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
