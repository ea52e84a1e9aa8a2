//! One model on the recordings of a manifest, in the process that runs this.

use super::Args;
use super::peak_memory;
use acolyte::audio::Audio;
use acolyte::features::Fbank;
use acolyte::metrics::{ErrorCounts, char_errors, word_errors};
use acolyte::model::{CtcModel, ModelFile, OrtModel, OrtOptions};
use acolyte::spec::{FrontEnd, Role};
use acolyte::{Decoding, Library, LogProbs, SpeechRecognizer, Tokens};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Longest manifest that is read, in bytes.
const MAX_MANIFEST: u64 = 256 << 20;

/// What was found of a model.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Measured {
    pub name: String,
    pub role: String,
    pub sha256: String,
    pub parameters: u64,
    pub bytes: u64,
    /// From the file on disk to a session that runs.
    pub load_ms: f64,
    /// Of each recording in turn: features, model, greedy decoding; decoding the audio file is left out.
    pub latencies_ms: Vec<f64>,
    pub audio_seconds: f64,
    pub peak_memory: Option<u64>,
    /// Whether it was told the transcripts.
    pub labeled: bool,
    pub utterances: Vec<Heard>,
}

/// What a model made of a recording.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Heard {
    pub speaker: Option<String>,
    pub text: String,
    /// Word errors and words.
    pub words: [usize; 2],
    /// Character errors and characters.
    pub characters: [usize; 2],
}

#[derive(Debug, Deserialize)]
struct Line {
    audio_filepath: PathBuf,
    text: String,
    #[serde(default)]
    speaker: serde_json::Value,
}

fn read(manifest: &Path, most: usize) -> Result<Vec<Line>> {
    let about = || format!("the manifest {}", manifest.display());
    let size = std::fs::metadata(manifest).with_context(about)?.len();
    if size > MAX_MANIFEST {
        bail!("{} is larger than {MAX_MANIFEST} bytes", about());
    }
    let text = std::fs::read_to_string(manifest).with_context(about)?;
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    if lines.is_empty() || most == 0 {
        bail!("{} names no recording to compare on", about());
    }
    let taken = most.min(lines.len());
    (0..taken)
        .map(|index| index * lines.len() / taken)
        .map(|at| {
            serde_json::from_str(lines[at]).with_context(|| {
                format!(
                    "{}: row {} is no object with `audio_filepath` and `text`",
                    about(),
                    at + 1
                )
            })
        })
        .collect()
}

/// How a model hears: by itself, or told the transcript.
enum Ear {
    Recognizer(SpeechRecognizer),
    Told(OrtModel, Fbank, Arc<Tokens>),
}

/// Measures the model that `args` name first.
pub(super) fn measure(args: &Args) -> Result<Measured> {
    let lines = read(&args.data, args.most)?;
    let path = args.models.first().context("name a model")?;
    let provider = args.provider.first().context("name a provider")?;
    let options = OrtOptions::default()
        .with_provider(provider.parse()?)
        .with_threads(args.threads.first().copied().unwrap_or(1))
        .with_pool(1);
    let library = Library::find()?;
    let begun = Instant::now();
    let file = ModelFile::open(path)?;
    let (bytes, parameters) = (file.bytes().len() as u64, file.header().parameters());
    let spec = file.spec().clone();
    let model = OrtModel::from_file(&library, file, &options)?;
    let load_ms = begun.elapsed().as_secs_f64() * 1e3;
    let FrontEnd::LogMel(mel) = &spec.front_end else {
        bail!("{path}: only models that take log-mel features are compared")
    };
    let rate = mel.sample_rate;
    let tokens = Arc::new(Tokens::new(spec.tokens.clone())?);
    let ear = match spec.role {
        Role::OracleTeacher => Ear::Told(model, Fbank::new(mel)?, tokens.clone()),
        _ => Ear::Recognizer(SpeechRecognizer::new(model)?),
    };
    let plan = Decoding::greedy().plan(&tokens)?;
    let hear = |audio: &Audio, text: &str| -> Result<String> {
        Ok(match &ear {
            Ear::Recognizer(recognizer) => {
                recognizer.recognize_with(audio, &plan)?.into_best().text
            }
            Ear::Told(model, fbank, tokens) => {
                let label = tokens.encode(text)?;
                let features = fbank.compute(audio.samples())?;
                let scores = model.run_labeled(features.view(), &label)?;
                let scores = LogProbs::new(scores.view(), model.spec().graph.output_values);
                plan.decode(&scores)?.into_best().text
            }
        })
    };
    let folder = args.data.parent().unwrap_or(Path::new(""));
    let mut found = Measured {
        name: spec.name.clone(),
        role: serde_json::to_value(spec.role)?
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        sha256: spec.sha256.clone(),
        parameters,
        bytes,
        load_ms,
        latencies_ms: Vec::with_capacity(lines.len()),
        audio_seconds: 0.0,
        peak_memory: None,
        labeled: spec.role == Role::OracleTeacher,
        utterances: Vec::with_capacity(lines.len()),
    };
    for (index, line) in lines.iter().enumerate() {
        let path = folder.join(&line.audio_filepath);
        let audio = Audio::new(Audio::open(&path)?.mono(rate)?, rate, 1)?;
        if index == 0 {
            // The first run of a session plans its memory.
            hear(&audio, &line.text)?;
        }
        let begun = Instant::now();
        let text = hear(&audio, &line.text)?;
        found.latencies_ms.push(begun.elapsed().as_secs_f64() * 1e3);
        found.audio_seconds += audio.duration();
        let pair = |counts: ErrorCounts| [counts.edits(), counts.reference];
        found.utterances.push(Heard {
            speaker: match &line.speaker {
                serde_json::Value::Null => None,
                serde_json::Value::String(name) => Some(name.clone()),
                other => Some(other.to_string()),
            },
            words: pair(word_errors(&line.text, &text)),
            characters: pair(char_errors(&line.text, &text)),
            text,
        });
    }
    found.peak_memory = peak_memory();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_taken_evenly_and_faults_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.jsonl");
        let line =
            |i| format!("{{\"audio_filepath\": \"{i}.wav\", \"text\": \"t\", \"speaker\": {i}}}\n");
        let text: String = (0..10).map(line).collect();
        std::fs::write(&path, &text).unwrap();
        let taken = read(&path, 3).unwrap();
        let names: Vec<String> = taken
            .iter()
            .map(|line| line.audio_filepath.display().to_string())
            .collect();
        assert_eq!(names, ["0.wav", "3.wav", "6.wav"]);
        assert_eq!(read(&path, 99).unwrap().len(), 10);
        assert!(read(&path, 0).is_err());
        std::fs::write(&path, text + "{}\n").unwrap();
        let error = format!("{:#}", read(&path, 99).unwrap_err());
        assert!(error.contains("row 11"), "{error}");
    }
}
