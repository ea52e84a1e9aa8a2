//! What a run writes down as it goes: every record as a JSON line in `metrics.jsonl`, its scalars also as TensorBoard
//! events in `tensorboard/`. Lines are appended one by one, so that a killed run loses at most half of one.
//!
//! A resumed run first drops what was written after its checkpoint: the lines are then those of a run that was never
//! interrupted.

use super::checkpoint::{Position, write_atomically};
use super::evaluate::Score;
use super::events::EventFile;
use super::records::{AverageRecord, EpochRecord, StartRecord, StepRecord};
use crate::{Error, Result};
use serde::Serialize;
use serde_json::Value;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where a run's records are kept.
pub fn metrics_path(run: &Path) -> PathBuf {
    run.join("metrics.jsonl")
}

/// An open log.
#[derive(Debug)]
pub struct RunLog {
    file: File,
    path: PathBuf,
    events: EventFile,
    last: Option<StepRecord>,
}

impl RunLog {
    /// Opens the log of a run that starts at `position`: anew at its beginning, else after the records up to there.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io), naming the file.
    pub fn open(run: &Path, position: &Position, resumed: bool) -> Result<Self> {
        let path = metrics_path(run);
        let kept = if resumed && path.exists() {
            let text = std::fs::read(&path).map_err(|error| Error::io(&path, error))?;
            valid_lines(&String::from_utf8_lossy(&text), position)
        } else {
            String::new()
        };
        write_atomically(&path, kept.as_bytes())?;
        let file = File::options()
            .append(true)
            .open(&path)
            .map_err(|error| Error::io(&path, error))?;
        Ok(Self {
            file,
            path,
            events: EventFile::create(&run.join("tensorboard"), position.step)?,
            last: None,
        })
    }

    fn line(&mut self, record: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(record)
            .map_err(|error| Error::io(&self.path, std::io::Error::other(error)))?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .map_err(|error| Error::io(&self.path, error))
    }

    /// Writes down what the run started from.
    pub fn start(&mut self, record: &StartRecord) -> Result<()> {
        self.line(record)
    }

    /// Writes down an update.
    pub fn step(&mut self, record: &StepRecord) -> Result<()> {
        self.line(record)?;
        let mut scalars = vec![
            ("train/loss", f64::from(record.loss)),
            ("train/gradient_norm", f64::from(record.gradient_norm)),
            ("train/learning_rate", f64::from(record.learning_rate)),
        ];
        let parts = record.parts.iter();
        let parts: Vec<(String, f64)> = parts
            .map(|(name, &value)| (format!("train/{name}"), f64::from(value)))
            .collect();
        scalars.extend(parts.iter().map(|(tag, value)| (tag.as_str(), *value)));
        if let Some(last) = &self.last {
            let elapsed = record.seconds - last.seconds;
            if elapsed > 0.0 {
                scalars.push((
                    "train/audio_seconds_per_second",
                    record.audio_seconds / elapsed,
                ));
            }
        }
        self.last = Some(record.clone());
        self.events.scalars(record.step, &scalars)
    }

    /// Writes down an epoch.
    pub fn epoch(&mut self, record: &EpochRecord) -> Result<()> {
        self.line(record)?;
        let mut scalars = vec![
            ("epoch/loss".to_owned(), record.loss),
            ("epoch/skipped".to_owned(), record.skipped as f64),
        ];
        for score in &record.development {
            scalars.push((format!("wer/{}", score.name), score.wer));
            scalars.push((format!("cer/{}", score.name), score.cer));
        }
        let scalars: Vec<(&str, f64)> = scalars.iter().map(|(tag, x)| (tag.as_str(), *x)).collect();
        self.events.scalars(record.step, &scalars)
    }

    /// Writes down what averaging gave.
    pub fn average(&mut self, record: &AverageRecord) -> Result<()> {
        self.line(record)
    }
}

/// The lines of a log that a run at `position` has made.
fn valid_lines(text: &str, position: &Position) -> String {
    let made = |record: &Value| {
        let number = |key: &str| record.get(key).and_then(Value::as_u64);
        if record.get("averaged_epochs").is_some() {
            position.finished
        } else if record.get("development").is_some() {
            number("epoch").is_some_and(|epoch| epoch < position.epoch)
        } else {
            number("step").is_none_or(|step| step <= position.step)
        }
    };
    let lines = text
        .lines()
        .filter(|line| serde_json::from_str::<Value>(line).is_ok_and(|record| made(&record)));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// The record of the last epoch in the log of `run`.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io), naming the file.
pub fn last_epoch(run: &Path) -> Result<Option<EpochRecord>> {
    let path = metrics_path(run);
    let text = std::fs::read(&path).map_err(|error| Error::io(&path, error))?;
    Ok(String::from_utf8_lossy(&text)
        .lines()
        .rev()
        .find_map(|line| serde_json::from_str(line).ok()))
}

/// Errors on the development sets in one line: name, WER, CER.
pub fn scores(development: &[Score]) -> String {
    let sets: Vec<String> = development
        .iter()
        .map(|score| format!("{} {:.1}/{:.1}", score.name, score.wer, score.cer))
        .collect();
    sets.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64) -> StepRecord {
        StepRecord {
            parts: Default::default(),
            step,
            epoch: 0,
            progress: 0.0,
            loss: if step == 2 { f32::NAN } else { 1.0 },
            gradient_norm: 1.0,
            learning_rate: 0.1,
            utterances: 1,
            infeasible: 0,
            audio_seconds: 2.0,
            seconds: step as f64,
        }
    }

    fn epoch(epoch: u64, step: u64) -> EpochRecord {
        EpochRecord {
            epoch,
            step,
            loss: 0.5,
            skipped: 0,
            infeasible: 0,
            development: Vec::new(),
            seconds: 3.0,
        }
    }

    #[test]
    fn a_resumed_log_is_that_of_a_run_never_interrupted() {
        let run = tempfile::tempdir().unwrap();
        let at = |step, epoch, finished| Position {
            step,
            epoch,
            finished,
            ..Position::default()
        };
        let write = |log: &mut RunLog, from: u64, to: u64| {
            for number in from..=to {
                log.step(&step(number)).unwrap();
            }
        };
        let mut log = RunLog::open(run.path(), &at(0, 0, false), false).unwrap();
        write(&mut log, 1, 3);
        log.epoch(&epoch(0, 3)).unwrap();
        write(&mut log, 4, 6);
        let whole = std::fs::read_to_string(metrics_path(run.path())).unwrap();
        // Killed while it wrote: half a line, and records after the checkpoint at step 5.
        std::fs::write(
            metrics_path(run.path()),
            format!("{whole}{{\"step\":7,\"ep"),
        )
        .unwrap();
        let mut log = RunLog::open(run.path(), &at(5, 1, false), true).unwrap();
        write(&mut log, 6, 6);
        let again = std::fs::read_to_string(metrics_path(run.path())).unwrap();
        assert_eq!(again, whole);
        // An epoch that was judged after the last checkpoint will be judged again.
        let mut log = RunLog::open(run.path(), &at(3, 0, false), true).unwrap();
        assert!(last_epoch(run.path()).unwrap().is_none());
        log.epoch(&epoch(0, 3)).unwrap();
        assert_eq!(last_epoch(run.path()).unwrap(), Some(epoch(0, 3)));
        let average = AverageRecord {
            averaged_epochs: vec![0, 1],
            errors: Vec::new(),
            better: true,
        };
        log.average(&average).unwrap();
        let count = |finished| {
            RunLog::open(run.path(), &at(3, 1, finished), true).unwrap();
            let text = std::fs::read_to_string(metrics_path(run.path())).unwrap();
            text.lines().count()
        };
        assert_eq!((count(true), count(false)), (5, 4));
        // Started anew, the old records are gone.
        RunLog::open(run.path(), &at(0, 0, false), false).unwrap();
        assert_eq!(std::fs::read(metrics_path(run.path())).unwrap(), b"");
    }
}
