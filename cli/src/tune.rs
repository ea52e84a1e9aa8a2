//! `acolyte tune`: what decoding settings do to the error rate, and what they cost.
//!
//! The model runs once for each utterance; every set of settings decodes the same scores, one after the
//! other, and the time is that of decoding alone.

use crate::decoding_args;
use crate::model_args::ModelArgs;
use crate::{Outcome, clock};
use acolyte::decode::Plan;
use acolyte::metrics::{Edit, ErrorCounts, align, char_errors, word_errors};
use acolyte::{Audio, Decoding, FrameSpan, LogProbs, SpeechRecognizer, Transcript};
use anyhow::{Context, Result, bail};
use ndarray::{Axis, Slice};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Compare decoding settings on recordings with known text: error rates, and time spent decoding
///
/// The manifest is what training takes: JSON lines with `audio_filepath` and `text`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  acolyte tune dev.jsonl --decoding greedy.toml --decoding beam.toml --decoding lm.toml"
)]
pub struct Args {
    /// Recordings and what is said in them
    #[arg(value_name = "MANIFEST")]
    manifest: PathBuf,
    /// Settings as `--decoding` takes them elsewhere; several are compared. Without any, greedy decoding
    #[arg(long, value_name = "FILE")]
    decoding: Vec<PathBuf>,
    /// One JSON object for each reading instead of a table
    #[arg(long)]
    json: bool,
    /// Decode pieces of this many seconds, each on its own: what closed phrases find in speech that has none
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    window: Option<f64>,
    #[command(flatten)]
    model: ModelArgs,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.1..=3600.0).contains(&value) => Ok(value),
        _ => Err("a number of seconds from 0.1 to 3600 is expected".into()),
    }
}

/// A line of the manifest.
#[derive(Debug, Deserialize)]
struct Utterance {
    audio_filepath: PathBuf,
    text: String,
}

/// A reading of an utterance, or of a piece of one.
#[derive(Debug, Serialize)]
struct Row<'a> {
    decoding: &'a str,
    path: String,
    /// Where the piece begins, in seconds.
    start: f64,
    /// Its length, in seconds.
    duration: f64,
    reference: &'a str,
    text: &'a str,
    confidence: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    margin: Option<f64>,
    rejected: bool,
    words: Vec<WordRow<'a>>,
    word_errors: ErrorCounts,
    character_errors: ErrorCounts,
    /// Time spent decoding, in milliseconds.
    took: f64,
}

#[derive(Debug, Serialize)]
struct WordRow<'a> {
    text: &'a str,
    start: f64,
    end: f64,
    confidence: f32,
    /// Position of the word of the reference that this is; none where it is wrong.
    matches: Option<usize>,
}

/// What a reading has wrong.
#[derive(Debug, Clone, Copy)]
struct Errors {
    words: ErrorCounts,
    characters: ErrorCounts,
}

/// A set of settings and how it has done.
#[derive(Debug)]
struct Candidate {
    name: String,
    decoding: Decoding,
    plan: Plan,
    words: ErrorCounts,
    characters: ErrorCounts,
    right: usize,
    readings: usize,
    rejected: usize,
    milliseconds: f64,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<Outcome> {
    let utterances = read(&args.manifest)?;
    let folder = args.manifest.parent().unwrap_or(Path::new(""));
    let opened = args.model.open()?;
    let recognizer = &opened.recognizer;
    let mut candidates = candidates(&args.decoding, recognizer)?;
    let mut audio_seconds = 0.0;
    for utterance in &utterances {
        let path = folder.join(&utterance.audio_filepath);
        let audio = Audio::open(&path)?;
        audio_seconds += audio.duration();
        let scores = recognizer.scores(&audio).map_err(|e| e.with_path(&path))?;
        let frame = recognizer.seconds_per_frame();
        for (start, end) in pieces(scores.nrows(), args.window, frame) {
            let piece = scores.slice_axis(Axis(0), Slice::from(start..end));
            let values = recognizer.spec().graph.output_values;
            let piece = LogProbs::new(piece, values);
            for candidate in &mut candidates {
                let (found, took) = clock::milliseconds(|| candidate.plan.decode(&piece));
                let best = found?.into_best();
                let rejected = candidate.decoding.rejects(&best);
                let text = if rejected { "" } else { best.text.as_str() };
                let errors = Errors {
                    words: word_errors(&utterance.text, text),
                    characters: char_errors(&utterance.text, text),
                };
                candidate.count(errors, utterance.text == text, rejected, took);
                if args.json {
                    let row = Row {
                        decoding: &candidate.name,
                        path: utterance.audio_filepath.display().to_string(),
                        start: start as f64 * frame,
                        duration: (end - start) as f64 * frame,
                        reference: &utterance.text,
                        text: &best.text,
                        confidence: best.confidence,
                        margin: best.margin,
                        rejected,
                        words: words(&utterance.text, &best, start, frame)?,
                        word_errors: errors.words,
                        character_errors: errors.characters,
                        took,
                    };
                    writeln!(out, "{}", serde_json::to_string(&row)?)?;
                }
            }
        }
    }
    if !args.json {
        table(&candidates, audio_seconds, out)?;
    }
    out.flush()?;
    Ok(Outcome::Done)
}

fn read(path: &Path) -> Result<Vec<Utterance>> {
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    let lines = (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim().is_empty());
    let utterances = lines.map(|(number, line)| {
        serde_json::from_str(line).with_context(|| {
            format!("{name}: line {number} is no JSON object with `audio_filepath` and `text`")
        })
    });
    let utterances: Vec<Utterance> = utterances.collect::<Result<_>>()?;
    if utterances.is_empty() {
        bail!("{name} has no rows");
    }
    Ok(utterances)
}

fn candidates(files: &[PathBuf], recognizer: &SpeechRecognizer) -> Result<Vec<Candidate>> {
    let mut candidates = Vec::new();
    let mut add = |name: String, decoding: Decoding| -> acolyte::Result<()> {
        candidates.push(Candidate {
            plan: decoding.plan(recognizer.tokens())?,
            name,
            decoding,
            words: ErrorCounts::default(),
            characters: ErrorCounts::default(),
            right: 0,
            readings: 0,
            rejected: 0,
            milliseconds: 0.0,
        });
        Ok(())
    };
    if files.is_empty() {
        add("greedy".into(), Decoding::greedy())?;
    }
    for path in files {
        let decoding = decoding_args::read(path)?.resolve(Path::new(""));
        let decoding = decoding.with_context(|| path.display().to_string())?;
        let name = path
            .file_stem()
            .unwrap_or(path.as_os_str())
            .to_string_lossy();
        add(name.into_owned(), decoding).with_context(|| path.display().to_string())?;
    }
    Ok(candidates)
}

/// The ranges of frames that are decoded: all of them, or windows that overlap by half.
fn pieces(frames: usize, window: Option<f64>, frame: f64) -> Vec<(usize, usize)> {
    let Some(window) = window else {
        return vec![(0, frames)];
    };
    let length = ((window / frame).round() as usize).max(2);
    let starts = (0..frames).step_by(length / 2);
    let pieces = starts.map(|start| (start, start + length));
    let whole: Vec<(usize, usize)> = pieces.filter(|&(_, end)| end <= frames).collect();
    match whole.is_empty() {
        true => vec![(0, frames)],
        false => whole,
    }
}

/// The words of a reading with times from the start of the recording, and which of the reference they are.
fn words<'a>(
    reference: &str,
    reading: &'a Transcript<FrameSpan>,
    start: usize,
    frame: f64,
) -> Result<Vec<WordRow<'a>>> {
    let said: Vec<&str> = reference.split_whitespace().collect();
    let heard: Vec<&str> = reading
        .words
        .iter()
        .map(|word| word.text.as_str())
        .collect();
    let mut matches = vec![None; heard.len()];
    for edit in align(&said, &heard)? {
        if let Edit::Match {
            reference,
            hypothesis,
        } = edit
        {
            matches[hypothesis] = Some(reference);
        }
    }
    let offset = start as f64 * frame;
    let rows = reading.words.iter().zip(matches).map(|(word, matches)| {
        let span = word.span.time(frame);
        WordRow {
            text: &word.text,
            start: offset + span.start,
            end: offset + span.end,
            confidence: word.confidence,
            matches,
        }
    });
    Ok(rows.collect())
}

impl Candidate {
    fn count(&mut self, errors: Errors, right: bool, rejected: bool, took: f64) {
        self.words += errors.words;
        self.characters += errors.characters;
        self.right += usize::from(right);
        self.rejected += usize::from(rejected);
        self.readings += 1;
        self.milliseconds += took;
    }
}

fn table(candidates: &[Candidate], seconds: f64, out: &mut dyn Write) -> Result<()> {
    writeln!(
        out,
        "| decoding | WER % | CER % | all right % | rejected % | ms per s of audio |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|")?;
    for candidate in candidates {
        let share = |count: usize| 100.0 * count as f64 / candidate.readings.max(1) as f64;
        writeln!(
            out,
            "| {} | {:.2} | {:.2} | {:.1} | {:.1} | {:.3} |",
            candidate.name,
            100.0 * candidate.words.rate(),
            100.0 * candidate.characters.rate(),
            share(candidate.right),
            share(candidate.rejected),
            candidate.milliseconds / seconds.max(f64::MIN_POSITIVE),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_overlap_by_half_and_never_run_over_the_end() {
        assert_eq!(pieces(7, None, 0.02), [(0, 7)]);
        let windows = pieces(120, Some(1.0), 0.02);
        assert_eq!(windows, [(0, 50), (25, 75), (50, 100)]);
        assert_eq!(pieces(30, Some(1.0), 0.02), [(0, 30)]);
        assert!(seconds("0.01").is_err() && seconds("nan").is_err() && seconds("1").is_ok());
    }

    #[test]
    fn manifests_that_are_none_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.jsonl");
        for (text, message) in [("", "no rows"), ("{\"text\": \"a\"}", "line 1")] {
            std::fs::write(&path, text).unwrap();
            let error = format!("{:#}", read(&path).unwrap_err());
            assert!(
                error.contains(message) && error.contains("m.jsonl"),
                "{error}"
            );
        }
    }
}
