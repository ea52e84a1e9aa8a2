//! `acolyte transcribe`: recordings to text.

use crate::decoding_args::DecodingArgs;
use crate::model_args::ModelArgs;
use crate::{Outcome, srt};
use acolyte::decode::Plan;
use acolyte::{Audio, Decoding, NBest, SpeechRecognizer, TimeSpan};
use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Transcribe recordings of speech (WAV, FLAC, Ogg Vorbis, MP3; any rate and channel count)
///
/// The text goes to standard output, one line for each file. A file that cannot be read or transcribed is
/// reported, the others are still done, and the exit code is 1.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  acolyte transcribe talk.wav\n  acolyte transcribe --json *.flac > talks.jsonl\n  \
                        acolyte transcribe --srt talk.wav > talk.srt\n  \
                        acolyte transcribe --beam 50 --lm en.arpa.gz --hotwords names.txt talk.wav\n  \
                        acolyte transcribe --phrases commands.txt --reject -10 clip.wav"
)]
pub struct Args {
    /// Audio files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// One JSON object for each file: path, text, confidence, words with times in seconds, duration, elapsed
    #[arg(long, conflicts_with = "srt")]
    json: bool,
    /// Subtitles in SubRip format; one file at a time
    #[arg(long)]
    srt: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    decoding: DecodingArgs,
    /// Write the peak memory in bytes to standard error at the end
    #[arg(long, hide = true)]
    report_memory: bool,
}

/// What is written for each file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text { with_path: bool },
    Json,
    Srt,
}

/// A transcribed file; times in seconds.
#[derive(Debug, Serialize)]
struct Row<'a> {
    path: String,
    text: &'a str,
    confidence: f32,
    words: Vec<WordRow<'a>>,
    duration: f64,
    elapsed: f64,
    model: &'a str,
    provider: &'a str,
    /// Log-odds against the unconstrained best; null where nothing at all was possible.
    #[serde(skip_serializing_if = "Option::is_none")]
    margin: Option<f64>,
    /// What would have been the text, had it not been rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    alternatives: Vec<Alternative<'a>>,
}

#[derive(Debug, Serialize)]
struct WordRow<'a> {
    text: &'a str,
    start: f64,
    end: f64,
    confidence: f32,
}

#[derive(Debug, Serialize)]
struct Alternative<'a> {
    text: &'a str,
    confidence: f32,
    score: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    margin: Option<f64>,
}

/// A file that could not be transcribed.
#[derive(Debug, Serialize)]
struct Failure {
    path: String,
    error: String,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> Result<Outcome> {
    if args.srt && args.files.len() > 1 {
        anyhow::bail!(
            "--srt takes one file at a time: subtitles of several files cannot be told apart"
        );
    }
    let decoding = args.decoding.decoding()?;
    let opened = args.model.open()?;
    let report = opened.model.provider();
    if report.fell_back {
        writeln!(
            err,
            "acolyte: running on {}: {}",
            report.used, report.reason
        )?;
    }
    let model = opened.path.display().to_string();
    let job = Job {
        recognizer: &opened.recognizer,
        plan: decoding.plan(opened.recognizer.tokens())?,
        decoding,
        model: &model,
        provider: report.used.name(),
        format: match (args.json, args.srt) {
            (true, _) => Format::Json,
            (_, true) => Format::Srt,
            _ => Format::Text {
                with_path: args.files.len() > 1,
            },
        },
    };
    let bar = progress(args.files.len());
    let outcome = job.transcribe(&args.files, &bar, out, err)?;
    bar.finish_and_clear();
    if args.report_memory
        && let Some(bytes) = crate::bench::peak_memory()
    {
        writeln!(err, "peak memory {bytes}")?;
    }
    Ok(outcome)
}

/// A bar on standard error for several files where somebody watches it.
fn progress(files: usize) -> ProgressBar {
    if files < 2 || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(files as u64);
    let template = "{bar:30} {pos}/{len} files, {eta} left, {wide_msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// What all files have in common.
struct Job<'a> {
    recognizer: &'a SpeechRecognizer,
    decoding: Decoding,
    plan: Plan,
    model: &'a str,
    provider: &'a str,
    format: Format,
}

impl Job<'_> {
    fn transcribe(
        &self,
        files: &[PathBuf],
        bar: &ProgressBar,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<Outcome> {
        let mut outcome = Outcome::Done;
        for path in files {
            bar.set_message(path.display().to_string());
            let started = Instant::now();
            let said = self.one(path);
            let elapsed = started.elapsed().as_secs_f64();
            if said.is_err() {
                outcome = Outcome::SomeFailed;
            }
            bar.suspend(|| match &said {
                Ok((said, duration)) => self.write(path, said, *duration, elapsed, out),
                Err(error) => self.write_failure(path, error, out, err),
            })?;
            bar.inc(1);
        }
        out.flush()?;
        Ok(outcome)
    }

    fn one(&self, path: &Path) -> acolyte::Result<(NBest<TimeSpan>, f64)> {
        let audio = Audio::open(path)?;
        let said = self
            .recognizer
            .recognize_with(&audio, &self.plan)
            .map_err(|e| e.with_path(path))?;
        Ok((said, audio.duration()))
    }

    fn write(
        &self,
        path: &Path,
        said: &NBest<TimeSpan>,
        duration: f64,
        elapsed: f64,
        out: &mut dyn Write,
    ) -> Result<()> {
        let best = said.best();
        let rejected = self.decoding.rejects(best);
        let (text, words) = match rejected {
            true => ("", &[][..]),
            false => (best.text.as_str(), best.words.as_slice()),
        };
        match self.format {
            Format::Text { with_path: false } => writeln!(out, "{text}")?,
            Format::Text { with_path: true } => writeln!(out, "{}: {text}", path.display())?,
            Format::Srt => {
                srt::write(words, 0, out)?;
            }
            Format::Json => {
                let words = words.iter().map(|word| WordRow {
                    text: &word.text,
                    start: milliseconds(word.span.start),
                    end: milliseconds(word.span.end),
                    confidence: word.confidence,
                });
                // Readings come best first, so where the best is rejected all are.
                let kept = said.others().iter().filter(|o| !self.decoding.rejects(o));
                let others = kept.map(|other| Alternative {
                    text: &other.text,
                    confidence: other.confidence,
                    score: other.score,
                    margin: other.margin,
                });
                let row = Row {
                    path: path.display().to_string(),
                    text,
                    confidence: best.confidence,
                    words: words.collect(),
                    duration,
                    elapsed,
                    model: self.model,
                    provider: self.provider,
                    margin: best.margin,
                    rejected: rejected.then_some(best.text.as_str()),
                    alternatives: others.collect(),
                };
                writeln!(out, "{}", serde_json::to_string(&row)?)?;
            }
        }
        out.flush()?;
        Ok(())
    }

    fn write_failure(
        &self,
        path: &Path,
        error: &acolyte::Error,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<()> {
        if self.format == Format::Json {
            let failure = Failure {
                path: path.display().to_string(),
                error: error.to_string(),
            };
            writeln!(out, "{}", serde_json::to_string(&failure)?)?;
        } else {
            writeln!(err, "acolyte: {error}")?;
        }
        Ok(())
    }
}

/// Seconds rounded to milliseconds, so that 0.3 is not written as 0.30000000000000004.
fn milliseconds(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::spec;
    use acolyte::model::FakeModel;
    use acolyte::spec::{FrontEnd, InputLayout, LogGuard, LogMelSpec, Task};
    use serde_json::Value;

    /// Four filters for four tokens: blank, space, `a`, `b`; a high tone reads as `b`.
    fn recognizer() -> SpeechRecognizer {
        let front_end = FrontEnd::LogMel(LogMelSpec {
            mels: 4,
            log: LogGuard::Floor(1e-2),
            ..LogMelSpec::default()
        });
        let spec = spec(Task::Speech, front_end, InputLayout::BF1T);
        SpeechRecognizer::new(FakeModel::new(spec).unwrap()).unwrap()
    }

    fn tone(path: &Path, seconds: f32) {
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 16_000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(path, spec).unwrap();
        for at in 0..(seconds * 16_000.0) as usize {
            let phase = std::f32::consts::TAU * 5_000.0 * at as f32 / 16_000.0;
            writer
                .write_sample((phase.sin() * 16_000.0) as i16)
                .unwrap();
        }
        writer.finalize().unwrap();
    }

    fn transcribed(format: Format, files: &[PathBuf]) -> (Outcome, String, String) {
        decoded(Decoding::greedy(), format, files)
    }

    fn decoded(decoding: Decoding, format: Format, files: &[PathBuf]) -> (Outcome, String, String) {
        let recognizer = recognizer();
        let job = Job {
            plan: decoding.plan(recognizer.tokens()).unwrap(),
            decoding,
            recognizer: &recognizer,
            model: "fake.onnx",
            provider: "cpu",
            format,
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let bar = ProgressBar::hidden();
        let outcome = job.transcribe(files, &bar, &mut out, &mut err).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (outcome, text(out), text(err))
    }

    #[test]
    fn json_rows_have_their_keys_and_bad_files_do_not_stop_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a.wav", "bad.wav", "b.wav"].map(|name| folder.path().join(name));
        tone(&paths[0], 0.5);
        std::fs::write(&paths[1], "a text file").unwrap();
        tone(&paths[2], 0.0);
        let (outcome, out, err) = transcribed(Format::Json, &paths);
        assert_eq!((outcome, err.as_str()), (Outcome::SomeFailed, ""));
        let rows: Vec<Value> = out
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        let keys = |row: &Value| Vec::from_iter(row.as_object().unwrap().keys().cloned());
        let good = [
            "confidence",
            "duration",
            "elapsed",
            "model",
            "path",
            "provider",
            "text",
            "words",
        ];
        assert_eq!(keys(&rows[0]), good);
        assert_eq!(keys(&rows[1]), ["error", "path"]);
        assert_eq!(keys(&rows[2]), good);
        for (row, path) in rows.iter().zip(&paths) {
            assert_eq!(row["path"], path.to_str().unwrap());
        }
        assert_eq!(
            (&rows[0]["text"], &rows[2]["text"]),
            (&Value::from("b"), &Value::from(""))
        );
        assert_eq!(
            keys(&rows[0]["words"][0]),
            ["confidence", "end", "start", "text"]
        );
        assert_eq!(rows[0]["duration"], 0.5);
        assert!(rows[0]["words"][0]["end"].as_f64().unwrap() <= 0.5);
    }

    #[test]
    fn text_goes_to_standard_output_and_errors_to_standard_error() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a.wav", "missing.wav"].map(|name| folder.path().join(name));
        tone(&paths[0], 0.3);
        let (outcome, out, err) = transcribed(Format::Text { with_path: true }, &paths);
        assert_eq!(outcome, Outcome::SomeFailed);
        assert_eq!(out, format!("{}: b\n", paths[0].display()));
        assert!(
            err.starts_with("acolyte: ") && err.contains("missing.wav"),
            "{err}"
        );
        let (outcome, out, _) = transcribed(Format::Srt, &paths[..1]);
        assert_eq!(outcome, Outcome::Done);
        assert!(out.starts_with("1\n00:00:00,000 --> 00:00:00,"), "{out}");
    }

    #[test]
    fn what_is_rejected_is_no_text_but_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().join("b.wav")];
        tone(&paths[0], 0.5);
        let phrases = |phrase: &str| {
            let phrases = acolyte::decode::Constraint::phrases([phrase]);
            Decoding::greedy().constrain(phrases).reject(-3.0)
        };
        let row = |decoding: Decoding| -> Value {
            let (outcome, out, _) = decoded(decoding, Format::Json, &paths);
            assert_eq!(outcome, Outcome::Done);
            serde_json::from_str(&out).unwrap()
        };
        let inside = row(phrases("b"));
        assert_eq!(
            (&inside["text"], inside.get("rejected")),
            (&Value::from("b"), None)
        );
        assert!(inside["margin"].as_f64().unwrap() > -3.0, "{inside}");
        let outside = row(phrases("a"));
        assert_eq!(
            (&outside["text"], &outside["rejected"]),
            (&Value::from(""), &Value::from("a"))
        );
        assert_eq!(outside["words"], Value::Array(vec![]));
        assert!(outside["margin"].as_f64().unwrap() < -3.0, "{outside}");
        let (_, out, _) = decoded(phrases("a"), Format::Text { with_path: false }, &paths);
        assert_eq!(out, "\n");
    }
}
