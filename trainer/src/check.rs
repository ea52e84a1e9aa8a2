//! What a run will take, told before it starts: `acolyte-train check RECIPE`.
//!
//! Reads the manifests, not the audio: rows and hours of every set, rows that cannot be used and why, how often
//! each token occurs, the batches of an epoch as training packs them (`[1, F, 1, N]`), memory and time. Nothing is
//! refused here but what cannot be read at all; [`CheckReport::refused`] says whether the run itself would be.

use crate::config::{BadRows, Recipe};
use crate::data::batch::Pick;
use crate::data::loader::Examples;
use crate::data::rows::{DroppedRow, count_reasons};
use crate::data::speech::SpeechData;
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::order;
use crate::student::student;
use crate::train::feed::{ROWS_READY, plan};
use crate::train::run::packer;
use acolyte::spec::{Normalization, Task};
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

/// Rows left out that a printed report lists.
const SHOWN_ROWS: usize = 20;

/// What a batch costs, where that was measured: every batch has the same shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepCost {
    /// Parameters of the student.
    pub parameters: usize,
    /// Seconds of a training step.
    pub seconds: f64,
    /// Seconds of judging a batch.
    pub judging_seconds: f64,
    /// Bytes of parameters, moments, activations and gradients.
    pub bytes: usize,
}

/// One set of a recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct SetReport {
    /// Its name.
    pub name: String,
    /// Times an epoch sees each row; none for a dev set.
    pub repeat: Option<f32>,
    /// Usable rows.
    pub rows: usize,
    /// Hours of audio in them.
    pub hours: f64,
    /// Speakers known.
    pub speakers: usize,
}

/// What a run will take.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CheckReport {
    /// The recipe's name.
    pub name: String,
    /// The sets, training first.
    pub sets: Vec<SetReport>,
    /// Rows left out, and why.
    pub dropped: Vec<DroppedRow>,
    /// Whether the run would not start, because `bad_rows` is `refuse` and there are some.
    pub refused: bool,
    /// Every token and how often the training transcripts have it.
    pub tokens: Vec<(String, u64)>,
    /// Shape of a batch: features and frames, `[F, N]` of `[1, F, 1, N]`.
    pub shape: [usize; 2],
    /// Batches of the first epoch.
    pub batches: usize,
    /// Batches of all development sets.
    pub judging_batches: usize,
    /// Items of the first epoch.
    pub items: usize,
    /// Share of the first epoch's frames that hold no speech: gaps, delays, ends of rows.
    pub padding: f64,
    /// Epochs.
    pub epochs: usize,
    /// Updates of the first epoch: batches over `train.accumulate`.
    pub updates: usize,
    /// Bytes of decoded audio kept in memory.
    pub cache_bytes: usize,
    /// Bytes of all decoded audio.
    pub audio_bytes: usize,
    /// Parameters, where the model's cost is known.
    pub parameters: Option<usize>,
    /// Bytes of cache, batches, parameters with their optimizer state, and activations where known.
    pub memory_bytes: usize,
    /// Seconds of training, where the cost of a step is known; bounded by `max_minutes`.
    pub seconds: Option<f64>,
}

/// Checks a recipe against the manifests in `folder`.
///
/// # Errors
/// As [`SpeechData::declared`] for manifests that cannot be read and for a training set without a usable row.
pub fn check(recipe: &Recipe, folder: &Path, cost: Option<&StepCost>) -> Result<CheckReport> {
    if recipe.task == Task::SceneText {
        return Err(Error::new(
            ErrorKind::Recipe,
            "check counts recordings; a recipe of scene text renders its words as it goes: see its pace with \
             `acolyte-train train RECIPE --stop-after 50`",
        ));
    }
    let mut tolerant = recipe.clone();
    tolerant.data.bad_rows = BadRows::Drop;
    let data = SpeechData::declared(&tolerant, folder)?;
    let rate = recipe.features.sample_rate;
    let plain = recipe.features.spec(Normalization::None);
    let train = data.training(&plain)?;
    let student = student(recipe, 1 + data.alphabet().len());
    let packer = packer(recipe, &*student);
    // In the order that training takes them: how well utterances share rows depends on it.
    let picks = order(recipe, data.weights(), 0);
    let batches = plan(&train, &packer, &picks, 0)?.len();
    let filled: usize = picks.iter().map(|&pick| train.frames(pick, 0)).sum();
    let mut judging_batches = 0;
    for set in data.dev() {
        let examples = data.judging(set, &plain)?;
        let picks: Vec<Pick> = (0..examples.len())
            .map(|item| Pick { item, copy: 0 })
            .collect();
        judging_batches += plan(&examples, &packer, &picks, 0)?.len();
    }

    let audio_bytes = std::iter::once(data.train())
        .chain(data.dev())
        .flat_map(|set| (0..set.audio().len()).map(|i| set.audio().length(i)))
        .sum::<usize>()
        * size_of::<i16>();
    let cache_bytes = audio_bytes.min(recipe.data.cache_mib.saturating_mul(1 << 20));
    // The development sets stay packed; of the training set a few rows are ready at a time.
    let row_bytes = size_of::<f32>() * packer.width * packer.features;
    let rows_bytes = row_bytes * (judging_batches + ROWS_READY);
    let seconds = cost.map(|cost| {
        let epoch = batches as f64 * cost.seconds + judging_batches as f64 * cost.judging_seconds;
        let limit = recipe
            .train
            .max_minutes
            .map_or(f64::INFINITY, |m| 60.0 * f64::from(m));
        (epoch * recipe.train.epochs as f64).min(limit)
    });

    Ok(CheckReport {
        name: recipe.name.clone(),
        sets: set_reports(recipe, &data, rate),
        refused: recipe.data.bad_rows == BadRows::Refuse
            && data.dropped().iter().any(|row| row.reason.is_fault()),
        tokens: token_counts(&data),
        dropped: data.dropped().to_vec(),
        shape: [packer.features, packer.width],
        batches,
        judging_batches,
        items: picks.len(),
        padding: 1.0 - filled as f64 / (batches * packer.width).max(1) as f64,
        epochs: recipe.train.epochs,
        updates: batches.div_ceil(recipe.train.accumulate.max(1)),
        cache_bytes,
        audio_bytes,
        parameters: cost.map(|cost| cost.parameters),
        memory_bytes: cache_bytes + rows_bytes + cost.map_or(0, |cost| cost.bytes),
        seconds,
    })
}

fn set_reports(recipe: &Recipe, data: &SpeechData, rate: u32) -> Vec<SetReport> {
    let report = |name: String, repeat, rows: &mut dyn Iterator<Item = (usize, Option<&str>)>| {
        let mut speakers = BTreeSet::new();
        let (mut count, mut samples) = (0, 0);
        for (length, speaker) in rows {
            count += 1;
            samples += length;
            speakers.extend(speaker);
        }
        SetReport {
            name,
            repeat,
            rows: count,
            hours: samples as f64 / f64::from(rate) / 3600.0,
            speakers: speakers.len(),
        }
    };
    let mut sets = Vec::new();
    for (set, (range, repeat)) in recipe.data.train.iter().zip(data.weights()) {
        let train = data.train();
        let mut rows = range
            .clone()
            .zip(train.utterances().get(range.clone()).unwrap_or_default())
            .map(|(index, utterance)| (train.audio().length(index), utterance.speaker.as_deref()));
        sets.push(report(
            set.manifest.display().to_string(),
            Some(*repeat),
            &mut rows,
        ));
    }
    for set in data.dev() {
        let mut rows = set
            .utterances()
            .iter()
            .enumerate()
            .map(|(index, utterance)| (set.audio().length(index), utterance.speaker.as_deref()));
        sets.push(report(set.name.clone(), None, &mut rows));
    }
    sets
}

fn token_counts(data: &SpeechData) -> Vec<(String, u64)> {
    let mut counts = vec![0; data.alphabet().len() + 1];
    for &id in data.train().utterances().iter().flat_map(|u| &u.targets) {
        if let Some(count) = counts.get_mut(id as usize) {
            *count += 1;
        }
    }
    data.alphabet()
        .iter()
        .cloned()
        .zip(counts.into_iter().skip(1))
        .collect()
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: usize| bytes as f64 / (1u32 << 20) as f64;
        writeln!(f, "recipe {}", self.name)?;
        writeln!(
            f,
            "{:<44} {:>7} {:>8} {:>8} {:>7}",
            "set", "rows", "hours", "speakers", "repeat"
        )?;
        for set in &self.sets {
            let repeat = set
                .repeat
                .map_or("dev".to_owned(), |repeat| repeat.to_string());
            writeln!(
                f,
                "{:<44} {:>7} {:>8.2} {:>8} {:>7}",
                set.name, set.rows, set.hours, set.speakers, repeat
            )?;
        }
        for (reason, count) in count_reasons(&self.dropped) {
            writeln!(f, "left out: {count} rows, {reason}")?;
        }
        // Rows beyond the length bounds are meant to be left out: counted, not listed.
        let mut faulty = self.dropped.iter().filter(|row| row.reason.is_fault());
        for row in faulty.by_ref().take(SHOWN_ROWS) {
            writeln!(
                f,
                "  {}: line {}: {}",
                row.manifest.display(),
                row.line,
                row.message
            )?;
        }
        match faulty.count() {
            0 => {}
            more => writeln!(f, "  and {more} more")?,
        }
        if self.refused {
            writeln!(
                f,
                "the run would not start: mend these rows, or set data.bad_rows = \"drop\""
            )?;
        }
        write!(f, "{} tokens:", self.tokens.len())?;
        for (token, count) in &self.tokens {
            write!(f, " {token:?} {count}")?;
        }
        writeln!(f)?;
        let unseen = self.tokens.iter().filter(|(_, count)| *count == 0).count();
        if unseen > 0 {
            writeln!(
                f,
                "{unseen} tokens never occur in the training transcripts and cannot be learned"
            )?;
        }
        let [features, frames] = self.shape;
        writeln!(
            f,
            "an epoch: {} items in {} batches [1, {features}, 1, {frames}], {:.1} % of their frames without speech; {} \
             updates, then {} batches to judge",
            self.items,
            self.batches,
            100.0 * self.padding,
            self.updates,
            self.judging_batches
        )?;
        writeln!(
            f,
            "{} epochs: about {} updates",
            self.epochs,
            self.epochs.saturating_mul(self.updates)
        )?;
        let model = if self.parameters.is_some() {
            "the rest features and the model"
        } else {
            "the rest features; the model's share was not measured"
        };
        writeln!(
            f,
            "memory: {:.0} MiB, {:.0} of it audio ({:.0} % of all audio), {model}",
            mib(self.memory_bytes),
            mib(self.cache_bytes),
            100.0 * self.cache_bytes as f64 / self.audio_bytes.max(1) as f64
        )?;
        if let Some(parameters) = self.parameters {
            writeln!(f, "parameters: {parameters}")?;
        }
        if let Some(seconds) = self.seconds {
            writeln!(
                f,
                "estimated time: {:.0} minutes, from a step timed on this machine as it is now",
                seconds / 60.0
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::rows::Reason;

    const COST: StepCost = StepCost {
        parameters: 1_000_000,
        seconds: 0.1,
        judging_seconds: 0.04,
        bytes: 100 << 20,
    };

    fn set_up(bad: bool) -> (tempfile::TempDir, Recipe) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.wav"), "never opened").unwrap();
        let mut lines = String::new();
        for row in 0..50 {
            let seconds = 0.5 + 0.1 * f64::from(row);
            lines += &format!(
                "{{\"audio_filepath\": \"a.wav\", \"duration\": {seconds}, \"text\": \"ab\", \"speaker\": {}}}\n",
                row % 3
            );
        }
        if bad {
            lines += "{\"audio_filepath\": \"b.wav\", \"duration\": 1, \"text\": \"ab\"}\n";
            lines += "{\"audio_filepath\": \"a.wav\", \"duration\": 0.2, \"text\": \"abababababababab\"}\n";
        }
        std::fs::write(folder.path().join("m.jsonl"), lines).unwrap();
        let text = "name = \"toy\"\ntask = \"speech\"\nlicense = \"MIT\"\n[data]\n\
                    train = [{ manifest = \"m.jsonl\", repeat = 2 }]\ndev = [{ name = \"d\", manifest = \"m.jsonl\" }]\n\
                    max_seconds = 5\n[text]\ntokens = [\"a\", \"b\", \"c\"]\nseparator = \"\"\n[train]\nepochs = 10\n";
        (folder, Recipe::parse(text, &[] as &[&str]).unwrap())
    }

    #[test]
    fn a_good_recipe_is_accounted_for() {
        let (folder, recipe) = set_up(false);
        let report = check(&recipe, folder.path(), Some(&COST)).unwrap();
        assert!(!report.refused);
        // Rows of more than 5 s are meant to be left out.
        assert_eq!((report.sets[0].rows, report.sets[1].rows), (46, 50));
        assert_eq!(count_reasons(&report.dropped)[&Reason::TooLong], 4);
        let hours: f64 = (0..46).map(|row| 0.5 + 0.1 * f64::from(row)).sum::<f64>() / 3600.0;
        assert!((report.sets[0].hours - hours).abs() < 1e-9);
        assert_eq!((report.sets[0].speakers, report.items), (3, 92));
        assert_eq!(report.tokens[0], ("a".to_owned(), 46));
        assert_eq!(report.tokens[2], ("c".to_owned(), 0));
        // 46 rows of 0.5 to 5 s twice over: 253 s, and delays and gaps; a batch holds a minute.
        assert_eq!((report.shape, report.updates), ([80, 6000], report.batches));
        assert!((5..=7).contains(&report.batches), "{}", report.batches);
        assert!((2..=4).contains(&report.judging_batches));
        let filled = 6000.0 * report.batches as f64 * (1.0 - report.padding);
        assert!(
            (filled - 25_300.0).abs() < 400.0,
            "{filled} frames of speech"
        );
        let epoch = 0.1 * report.batches as f64 + 0.04 * report.judging_batches as f64;
        assert!((report.seconds.unwrap() - 10.0 * epoch).abs() < 1e-9);
        let row = 4 * 80 * 6000;
        let features = row * (report.judging_batches + ROWS_READY);
        assert_eq!(
            report.memory_bytes,
            report.cache_bytes + features + (100 << 20)
        );
        let limited = Recipe {
            train: crate::config::TrainConfig {
                max_minutes: Some(0.01),
                accumulate: 4,
                ..recipe.train.clone()
            },
            ..recipe
        };
        let report = check(&limited, folder.path(), Some(&COST)).unwrap();
        assert!((report.seconds.unwrap() - 0.6).abs() < 1e-6);
        assert_eq!(report.updates, 2);
        let text = report.to_string();
        for part in [
            "m.jsonl",
            "46",
            "never occur",
            "estimated time",
            "longer than max_seconds",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn bad_rows_are_listed_and_the_refusal_foretold() {
        let (folder, recipe) = set_up(true);
        let report = check(&recipe, folder.path(), None).unwrap();
        assert!(report.refused);
        // The missing file counts in both sets; only training needs feasible rows.
        let counts = count_reasons(&report.dropped);
        assert_eq!(
            (counts[&Reason::MissingFile], counts[&Reason::Infeasible]),
            (2, 1)
        );
        let text = report.to_string();
        assert!(
            text.contains("line 51") && text.contains("would not start"),
            "{text}"
        );
    }
}
