//! Which file `--model` means: a file, a folder that holds `model.onnx`, or a name under a folder `models`.
//!
//! Folders called `models` are looked for beside the running program and the working directory and beside
//! everything above them, so that a program in `target/release` of a clone finds the models of the clone.

use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// What is taken for speech when no model is named: the first that is there.
pub const SPEECH: [&str; 2] = ["speech-small", "speech-tiny"];

/// What is taken for scene text when no model is named: the first that is there.
pub const SCENE: [&str; 2] = ["scene-small", "scene-tiny"];

/// The file's name within a model's folder.
const FILE: &str = "model.onnx";

/// The model file that `named` means, or the first of `defaults` that is there.
pub fn resolve(named: Option<&str>, defaults: &[&str]) -> Result<PathBuf> {
    let executable = std::env::current_exe().and_then(std::fs::canonicalize).ok();
    let folder = std::env::current_dir().ok();
    let starts = [
        executable.as_deref().and_then(Path::parent),
        folder.as_deref(),
    ];
    resolve_from(named, defaults, &roots(&starts))
}

/// The folders `models` beside `starts` and everything above them, without repetition.
fn roots(starts: &[Option<&Path>]) -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> = Vec::new();
    for above in starts.iter().flatten().flat_map(|start| start.ancestors()) {
        let root = above.join("models");
        if root.is_dir() && !roots.contains(&root) {
            roots.push(root);
        }
    }
    roots
}

fn resolve_from(named: Option<&str>, defaults: &[&str], roots: &[PathBuf]) -> Result<PathBuf> {
    let known = |name: &str| {
        let mut files = roots.iter().map(|root| root.join(name).join(FILE));
        files.find(|file| file.is_file())
    };
    let Some(named) = named else {
        if let Some(file) = defaults.iter().find_map(|name| known(name)) {
            return Ok(file);
        }
        bail!(
            "no model: neither {} is under a folder `models` beside this program or the working directory; \
             name one with --model{}",
            defaults.join(" nor "),
            listed(roots)
        );
    };
    let path = PathBuf::from(named);
    if path.is_dir() && path.join(FILE).is_file() {
        return Ok(path.join(FILE));
    }
    if path.exists() {
        return Ok(path);
    }
    let is_name = path.components().count() == 1;
    match known(named) {
        Some(file) if is_name => Ok(file),
        _ => bail!(
            "model {named:?} is neither a file nor the name of a model{}",
            listed(roots)
        ),
    }
}

/// The names that can be given, for a message.
fn listed(roots: &[PathBuf]) -> String {
    let mut names: Vec<String> = Vec::new();
    for entry in roots.iter().flat_map(std::fs::read_dir).flatten().flatten() {
        if entry.path().join(FILE).is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    names.dedup();
    match names.as_slice() {
        [] => "; no model was found under any folder `models`".to_owned(),
        names => format!("; there are: {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_folders_names_and_defaults_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("models");
        for name in ["speech-tiny", "mine"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
            std::fs::write(root.join(name).join(FILE), "").unwrap();
        }
        let deep = folder.path().join("target/release");
        std::fs::create_dir_all(&deep).unwrap();
        let found = roots(&[Some(&deep), None, Some(folder.path())]);
        assert_eq!(found.first(), Some(&root));

        let tiny = root.join("speech-tiny").join(FILE);
        let mine = root.join("mine").join(FILE);
        let resolve = |named: Option<&str>| resolve_from(named, &SPEECH, &found);
        assert_eq!(resolve(None).unwrap(), tiny);
        assert_eq!(resolve(Some("mine")).unwrap(), mine);
        assert_eq!(resolve(mine.to_str()).unwrap(), mine);
        assert_eq!(resolve(root.join("mine").to_str()).unwrap(), mine);
        let error = resolve(Some("other")).unwrap_err().to_string();
        assert!(error.contains("there are: mine, speech-tiny"), "{error}");
        std::fs::create_dir_all(root.join("speech-small")).unwrap();
        assert_eq!(resolve(None).unwrap(), tiny);
        std::fs::write(root.join("speech-small").join(FILE), "").unwrap();
        assert_eq!(resolve(None).unwrap(), root.join("speech-small").join(FILE));
    }

    #[test]
    fn without_any_model_the_message_says_what_to_do() {
        let error = resolve_from(None, &SPEECH, &[]).unwrap_err().to_string();
        assert!(error.contains("name one with --model"), "{error}");
    }
}
