//! One model on the recordings or crops of a manifest, in the process that runs this.

use super::items::{self, Item};
use super::{Args, peak_memory};
use acolyte::decode::Plan;
use acolyte::features::{Fbank, LineReader};
use acolyte::metrics::ErrorCounts;
use acolyte::model::{CtcModel, ModelFile, OrtModel, OrtOptions};
use acolyte::spec::{FrontEnd, Role};
use acolyte::{Decoding, Library, LogProbs, SpeechRecognizer, TextRecognizer, Tokens};
use anyhow::{Context, Result, bail};
use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

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
    /// Of each recording or crop in turn: features, model, greedy decoding; decoding the file is left out.
    pub latencies_ms: Vec<f64>,
    pub audio_seconds: f64,
    pub peak_memory: Option<u64>,
    /// Whether it was told the transcripts.
    pub labeled: bool,
    pub utterances: Vec<Heard>,
}

/// What a model made of a recording or crop.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Heard {
    pub speaker: Option<String>,
    pub text: String,
    /// Word errors and words.
    pub words: [usize; 2],
    /// Character errors and characters.
    pub characters: [usize; 2],
}

/// How a model reads: by itself, or told the transcript.
enum Reader {
    Speech(SpeechRecognizer),
    Crops(TextRecognizer),
    Told(OrtModel, Fbank),
    ToldCrops(OrtModel, LineReader),
}

impl Reader {
    /// Opens what the spec asks for, and the sample rate it takes.
    fn new(model: OrtModel) -> Result<(Self, u32)> {
        let spec = model.spec();
        Ok(match (&spec.front_end, spec.role) {
            (FrontEnd::LogMel(mel), Role::OracleTeacher) => {
                let (fbank, rate) = (Fbank::new(mel)?, mel.sample_rate);
                (Self::Told(model, fbank), rate)
            }
            (FrontEnd::Line(line), Role::OracleTeacher) => {
                let reader = LineReader::new(line)?;
                (Self::ToldCrops(model, reader), 0)
            }
            (FrontEnd::Line(_), _) => (Self::Crops(TextRecognizer::new(model)?), 0),
            (FrontEnd::LogMel(mel), _) => {
                let rate = mel.sample_rate;
                (Self::Speech(SpeechRecognizer::new(model)?), rate)
            }
            _ => bail!("models that take neither audio nor images cannot be compared"),
        })
    }

    fn read(&self, item: &Item, text: &str, tokens: &Tokens, plan: &Plan) -> Result<String> {
        Ok(match (self, item) {
            (Self::Speech(recognizer), Item::Recording(audio)) => {
                recognizer.recognize_with(audio, plan)?.into_best().text
            }
            (Self::Crops(recognizer), Item::Crop(image)) => {
                recognizer
                    .recognize_with(image.view(), plan)?
                    .into_best()
                    .text
            }
            (Self::Told(model, fbank), Item::Recording(audio)) => {
                let features = fbank.compute(audio.samples())?;
                told(model, features.view(), text, tokens, plan)?
            }
            (Self::ToldCrops(model, reader), Item::Crop(image)) => {
                let line = reader.read(&image.view())?;
                told(model, line.features(), text, tokens, plan)?
            }
            (Self::Crops(_) | Self::ToldCrops(..), _) => {
                bail!("the model reads crops, the manifest names recordings")
            }
            _ => bail!("the model hears recordings, the manifest names crops"),
        })
    }
}

/// What an oracle teacher makes of features `[T, F]` and their transcript.
fn told(
    model: &OrtModel,
    features: ArrayView2<'_, f32>,
    text: &str,
    tokens: &Tokens,
    plan: &Plan,
) -> Result<String> {
    let label = tokens.encode(text)?;
    let scores = model.run_labeled(features, &label)?;
    let scores = LogProbs::new(scores.view(), model.spec().graph.output_values);
    Ok(plan.decode(&scores)?.into_best().text)
}

/// Measures the model that `args` name first.
pub(super) fn measure(args: &Args) -> Result<Measured> {
    let rows = items::read(&args.data, args.most)?;
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
    let tokens = Arc::new(Tokens::new(spec.tokens.clone())?);
    let (reader, rate) = Reader::new(model).with_context(|| path.clone())?;
    let plan = Decoding::greedy().plan(&tokens)?;
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
        latencies_ms: Vec::with_capacity(rows.len()),
        audio_seconds: 0.0,
        peak_memory: None,
        labeled: spec.role == Role::OracleTeacher,
        utterances: Vec::with_capacity(rows.len()),
    };
    for (index, row) in rows.iter().enumerate() {
        let item = row.open(folder, rate)?;
        if index == 0 {
            // The first run of a session plans its memory.
            reader.read(&item, &row.text, &tokens, &plan)?;
        }
        let begun = Instant::now();
        let text = reader.read(&item, &row.text, &tokens, &plan)?;
        found.latencies_ms.push(begun.elapsed().as_secs_f64() * 1e3);
        if let Item::Recording(audio) = &item {
            found.audio_seconds += audio.duration();
        }
        let pair = |counts: ErrorCounts| [counts.edits(), counts.reference];
        let (words, characters) = row.errors(&text);
        found.utterances.push(Heard {
            speaker: row.speaker(),
            words: pair(words),
            characters: pair(characters),
            text,
        });
    }
    found.peak_memory = peak_memory();
    Ok(found)
}
