//! `acolyte adopt`: other people's CTC models, given a spec, so that every command here takes them.

use crate::Outcome;
use acolyte::Library;
use acolyte::adopt::{Adoption, Convention, Note, Preset, Report, adopt, with_external_data};
use acolyte::model::read_bytes;
use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Give an ONNX model of another toolkit a spec, so that everything here works with it
///
/// Reads what the file itself says, tells line by line what was found, given, assumed and what is missing, checks it on a
/// probe run, and writes the same graph with the spec appended. What cannot be sure is refused, and nothing is written.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  acolyte adopt PP-OCRv4_rec.onnx -o ppocr.onnx\n  \
                        acolyte adopt model.onnx --as nemo-ctc --tokens tokens.txt -o nemo.onnx\n  \
                        acolyte adopt wav2vec2.onnx --as wav2vec2-ctc --tokens vocab.json -o wav2vec2.onnx\n  \
                        acolyte adopt own.onnx --preset own.json --tokens tokens.txt -o own-adopted.onnx"
)]
pub struct Args {
    /// The ONNX file
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Whose export it is, where the file's own words do not say
    #[arg(long = "as", value_name = "CONVENTION",
          value_parser = clap::builder::PossibleValuesParser::new(Convention::ALL.map(Convention::name)))]
    convention: Option<String>,
    /// Its tokens, where the file has none: tokens.txt (a piece and its id a line, or a piece a line), or vocab.json
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// Facts that neither the file nor the convention says, as JSON
    #[arg(long, value_name = "FILE")]
    preset: Option<PathBuf>,
    /// Where to write the adopted model
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Its name, for people [default: that of the file]
    #[arg(long)]
    name: Option<String>,
    /// Its license, an SPDX expression [default: asked for at a terminal, else `unknown`]
    #[arg(long, value_name = "SPDX")]
    license: Option<String>,
    /// The least width of lines in columns, padding included, instead of what the model was trained with
    #[arg(long, value_name = "COLUMNS")]
    min_width: Option<usize>,
    /// Bring in weights that stand in files beside the model
    #[arg(long)]
    external_data: bool,
    /// One JSON object instead of lines
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Told<'a> {
    output: Option<String>,
    notes: Vec<Line<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    standing: String,
    what: &'a str,
    value: &'a str,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> Result<Outcome> {
    let same = std::fs::canonicalize(&args.output).ok();
    ensure!(
        same.is_none() || same != std::fs::canonicalize(&args.model).ok(),
        "{} is the model itself: name another file with -o, so that the original stays",
        args.output.display()
    );
    let mut adoption = adoption(args)?;
    let mut bytes = read_bytes(&args.model)?;
    if args.external_data {
        let folder = args.model.parent().unwrap_or(Path::new(""));
        bytes = with_external_data(&bytes, folder).map_err(|e| e.with_path(&args.model))?;
    }
    if adoption.preset.license.is_none() {
        adoption.preset.license = ask_license(err)?;
    }
    let library = Library::find()?;
    let mut report = Report::default();
    let adopted =
        adopt(&library, &bytes, &adoption, &mut report).map_err(|e| e.with_path(&args.model));
    if let Ok(adopted) = &adopted {
        write_whole(&args.output, adopted)?;
    }
    if args.json {
        let told = Told {
            output: adopted.is_ok().then(|| args.output.display().to_string()),
            notes: report.notes.iter().map(line).collect(),
            error: adopted.as_ref().err().map(ToString::to_string),
        };
        writeln!(out, "{}", serde_json::to_string(&told)?)?;
        return Ok(match adopted {
            Ok(_) => Outcome::Done,
            Err(_) => Outcome::SomeFailed,
        });
    }
    write!(out, "{report}")?;
    adopted?;
    writeln!(out, "{:<8} {:<14} {}", "wrote", "", args.output.display())?;
    Ok(Outcome::Done)
}

fn line(note: &Note) -> Line<'_> {
    Line {
        standing: note.standing.to_string(),
        what: &note.what,
        value: &note.value,
    }
}

fn adoption(args: &Args) -> Result<Adoption> {
    let read =
        |path: &PathBuf| std::fs::read_to_string(path).with_context(|| path.display().to_string());
    let mut preset = match &args.preset {
        Some(path) => Preset::from_json(&read(path)?).map_err(|e| e.with_path(path))?,
        None => Preset::default(),
    };
    if let Some(name) = &args.convention {
        let convention = name.parse()?;
        if preset.convention.is_some_and(|other| other != convention) {
            bail!(
                "--as {name} and the preset's convention contradict each other: give one of them"
            );
        }
        preset.convention = Some(convention);
    }
    preset.name = args.name.clone().or(preset.name);
    preset.license = args.license.clone().or(preset.license);
    preset.min_width = args.min_width.or(preset.min_width);
    let file = args.model.file_name().unwrap_or_default();
    Ok(Adoption {
        preset,
        tokens: args.tokens.as_ref().map(read).transpose()?,
        original: file.to_string_lossy().into_owned(),
    })
}

/// Asks for the license where somebody can answer.
fn ask_license(err: &mut dyn Write) -> Result<Option<String>> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(None);
    }
    write!(err, "license of the model (SPDX, empty for unknown): ")?;
    err.flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    let answer = answer.trim();
    Ok((!answer.is_empty()).then(|| answer.to_owned()))
}

/// Writes a file whole or not at all: under another name in the same folder, then renamed.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path
        .file_name()
        .with_context(|| format!("{} names no file", path.display()))?;
    let partial = path.with_file_name(format!(
        ".{}.{}.partial",
        name.to_string_lossy(),
        std::process::id()
    ));
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&partial, path)
    };
    write().map_err(|error| {
        // The first error is the one to report.
        let _ = std::fs::remove_file(&partial);
        anyhow::Error::new(error).context(format!("cannot write {}", path.display()))
    })
}

/// What `acolyte info` says of a model that has no spec but could be adopted.
pub fn hint(header: &acolyte::model::header::ModelHeader) -> Option<String> {
    let convention = acolyte::adopt::guess(header)?;
    Some(format!(
        "it looks like an export of {convention}: `acolyte adopt MODEL --as {convention} -o OUT` gives it a spec"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use acolyte::adopt::Standing;

    #[test]
    fn a_file_is_written_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.onnx");
        write_whole(&path, b"first").unwrap();
        write_whole(&path, b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        assert!(write_whole(&folder.path().join("no/such/out.onnx"), b"x").is_err());
        // A folder in its place cannot be replaced, and nothing is left beside it.
        let taken = folder.path().join("taken");
        std::fs::create_dir(&taken).unwrap();
        assert!(write_whole(&taken, b"x").is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_line_has_its_standing() {
        let note = Note {
            standing: Standing::Assumed,
            what: "blank".into(),
            value: "0".into(),
        };
        assert_eq!(
            serde_json::to_value(line(&note)).unwrap()["standing"],
            "assumed"
        );
    }
}
