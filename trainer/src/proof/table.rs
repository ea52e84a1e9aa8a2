//! All figures of a proof, computed from its finished runs alone, and the page that shows them.

use super::bootstrap::{BySpeaker, Paired, paired, spread, word_rate};
use super::file::Group;
use super::record::{Outcome, Record};
use crate::teacher::align::{deviation, mean};
use acolyte::bootstrap::Interval;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// One arm in one regime; rates in percent, times in processor seconds but for `hours`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The regime.
    pub regime: String,
    /// The arm.
    pub arm: String,
    /// Number of seeds that were tested on every fold.
    pub seeds: usize,
    /// Number of folds.
    pub folds: usize,
    /// Mean over seeds of the word error rate over all folds.
    pub wer: Option<f64>,
    /// Its standard deviation over seeds.
    pub wer_std: Option<f64>,
    /// The worst seed's.
    pub wer_worst: Option<f64>,
    /// Each seed's.
    pub wer_per_seed: BTreeMap<u64, f64>,
    /// Of the word error rate, by bootstrap over speakers.
    pub ci95: Option<Interval>,
    /// Mean character error rate.
    pub cer: Option<f64>,
    /// Deviation of the words' spikes about their mean distance from the reference's middles, in milliseconds.
    pub spike_spread_ms: Option<f64>,
    /// That mean distance.
    pub spike_delay_ms: Option<f64>,
    /// The teacher's word error rate on its training data; an oracle's is given the transcripts.
    pub teacher_train_wer: Option<f64>,
    /// Seconds of the teacher's training to the checkpoint that guides, mean over folds.
    pub teacher_seconds: Option<f64>,
    /// Updates of the same.
    pub teacher_steps: Option<f64>,
    /// Runs whose teacher was refused as a guide.
    pub refused: usize,
    /// Processor hours of all its students, and of the teachers, each once.
    pub hours: f64,
}

/// One arm against another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Contrast {
    /// The regime.
    pub regime: String,
    /// The arm that is to be better.
    pub arm: String,
    /// The arm it is compared with.
    pub against: String,
    /// The other's word error rate less the arm's.
    pub gain: Paired,
}

/// All tables.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Tables {
    /// Exactly one row a regime and arm of the symmetric student.
    pub rows: Vec<Row>,
    /// Guided students against others, on the same speakers.
    pub contrasts: Vec<Contrast>,
    /// The causal student.
    pub causal: Vec<Row>,
    /// Teachers with less training.
    pub budget: Vec<Row>,
    /// One thing changed.
    pub ablation: Vec<Row>,
}

/// Arms that others are held against.
const REFERENCES: [&str; 6] = [
    "alone",
    "alone-long",
    "self",
    "conventional",
    "conventional-large",
    "occupancy",
];

/// The tables of finished runs.
pub fn table(records: &[Record]) -> Tables {
    let mut arms: BTreeMap<(&str, Group, &str), Vec<&Record>> = BTreeMap::new();
    for record in records {
        let key = (record.regime.as_str(), record.group, record.arm.as_str());
        arms.entry(key).or_default().push(record);
    }
    let mut tables = Tables::default();
    for ((regime, group, arm), runs) in &arms {
        let row = row(regime, arm, runs);
        match group {
            Group::Rows => tables.rows.push(row),
            Group::Causal => tables.causal.push(row),
            Group::Budget => tables.budget.push(row),
            Group::Ablation => tables.ablation.push(row),
        }
    }
    for ((regime, group, arm), runs) in &arms {
        if *group != Group::Rows || !arm.starts_with("oracle") {
            continue;
        }
        for against in REFERENCES {
            let other = arms.get(&(*regime, Group::Rows, against));
            let gain = other.and_then(|other| compare(other, runs));
            if let Some(gain) = gain {
                tables.contrasts.push(Contrast {
                    regime: (*regime).to_owned(),
                    arm: (*arm).to_owned(),
                    against: against.to_owned(),
                    gain,
                });
            }
        }
    }
    tables
}

/// The runs' errors by speaker, all seeds and folds together.
fn by_speaker<'a>(runs: impl Iterator<Item = &'a Record>) -> BySpeaker {
    let mut all = BySpeaker::new();
    for (name, own) in runs.filter_map(Record::speakers).flatten() {
        let sum = all.entry(name.clone()).or_default();
        sum.word_errors += own.word_errors;
        sum.words += own.words;
        sum.char_errors += own.char_errors;
        sum.chars += own.chars;
    }
    all
}

/// The paired gain over the seeds and folds that both arms have.
fn compare(other: &[&Record], own: &[&Record]) -> Option<Paired> {
    let keys = |runs: &[&Record]| -> BTreeSet<(usize, u64)> {
        let tested = runs.iter().filter(|run| run.speakers().is_some());
        tested.map(|run| (run.fold, run.seed)).collect()
    };
    let shared: BTreeSet<_> = keys(other).intersection(&keys(own)).copied().collect();
    let of = |runs: &[&Record]| {
        let runs = runs.iter().copied();
        by_speaker(runs.filter(|run| shared.contains(&(run.fold, run.seed))))
    };
    paired(&of(other), &of(own))
}

fn mean_of(values: Vec<f64>) -> Option<f64> {
    (!values.is_empty()).then(|| mean(&values))
}

fn row(regime: &str, arm: &str, runs: &[&Record]) -> Row {
    let folds: BTreeSet<usize> = runs.iter().map(|run| run.fold).collect();
    let seeds: BTreeSet<u64> = runs.iter().map(|run| run.seed).collect();
    let mut per_seed = BTreeMap::new();
    let mut cers = Vec::new();
    for seed in seeds {
        let own = runs.iter().copied().filter(|run| run.seed == seed);
        let tested: Vec<&Record> = own.filter(|run| run.speakers().is_some()).collect();
        // A seed counts once all its folds are tested: another fold has other speakers.
        if tested.len() == folds.len() {
            let speakers = by_speaker(tested.into_iter());
            per_seed.insert(seed, word_rate(&speakers));
            let (errors, chars) = speakers
                .values()
                .fold((0, 0), |(e, c), s| (e + s.char_errors, c + s.chars));
            cers.push(100.0 * errors as f64 / chars.max(1) as f64);
        }
    }
    let wers: Vec<f64> = per_seed.values().copied().collect();
    let known = !wers.is_empty();
    let speakers = by_speaker(runs.iter().copied());
    let mut spreads = Vec::new();
    let mut delays = Vec::new();
    let mut seconds = 0.0;
    for run in runs {
        if let Outcome::Tested {
            spike_spread_ms,
            spike_delay_ms,
            student_seconds,
            ..
        } = &run.outcome
        {
            spreads.extend(*spike_spread_ms);
            delays.extend(*spike_delay_ms);
            seconds += student_seconds;
        }
    }
    // A teacher serves all seeds of a fold, and counts once.
    let mut teachers = BTreeMap::new();
    for run in runs {
        if let Some(teacher) = &run.teacher {
            teachers.insert((run.fold, teacher.recipe.as_str()), teacher);
        }
    }
    let teachers: Vec<_> = teachers.into_values().collect();
    seconds += teachers.iter().map(|teacher| teacher.seconds).sum::<f64>();
    Row {
        regime: regime.to_owned(),
        arm: arm.to_owned(),
        seeds: wers.len(),
        folds: folds.len(),
        wer: mean_of(wers.clone()),
        wer_std: known.then(|| deviation(&wers)),
        wer_worst: wers.iter().copied().reduce(f64::max),
        wer_per_seed: per_seed,
        ci95: known.then(|| spread(&speakers)),
        cer: mean_of(cers),
        spike_spread_ms: mean_of(spreads),
        spike_delay_ms: mean_of(delays),
        teacher_train_wer: mean_of(teachers.iter().map(|t| t.train_wer).collect()),
        teacher_seconds: mean_of(teachers.iter().map(|t| t.best_seconds).collect()),
        teacher_steps: mean_of(teachers.iter().map(|t| t.best_steps as f64).collect()),
        refused: runs
            .iter()
            .filter(|run| run.outcome == Outcome::Refused)
            .count(),
        hours: seconds / 3600.0,
    }
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
}

/// The tables as Markdown.
pub fn page(tables: &Tables) -> String {
    let mut out = String::from(
        "# What guides a student best: speech\n\nComputed by `cargo xtask reproduce speech` from the lines of \
         `speech-runs.jsonl`; nothing here is written by hand. The student is the same in every row of a table, and so \
         are its data, steps and settings; greedy decoding, no language model; test speakers were neither trained on \
         nor used to choose a checkpoint. WER is the mean over seeds; the interval is a bootstrap over speakers. *train \
         WER* is the teacher's own on its training data, on the features whose posteriors guide; an oracle teacher's is \
         given the transcript. Minutes and hours are processor time over all threads, so that what else the machine did \
         does not count.\n",
    );
    for (title, rows) in [
        ("Symmetric student", &tables.rows),
        ("Causal student", &tables.causal),
        ("Teachers with less training", &tables.budget),
        ("One thing changed", &tables.ablation),
    ] {
        if rows.is_empty() {
            continue;
        }
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "\n## {title}\n\n| regime | student guided by | seeds x folds | WER % | sd | worst | 95 % | CER % | spike sd, ms | \
             teacher train WER % | teacher min to best | hours |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n"
        );
        for row in rows {
            let interval = row.ci95.map_or("-".to_owned(), |ci| {
                format!("{:.1} - {:.1}", ci.low, ci.high)
            });
            let refused = match row.refused {
                0 => String::new(),
                count => format!(" (teacher refused {count} times)"),
            };
            let _ = writeln!(
                out,
                "| {} | {}{refused} | {} x {} | {} | {} | {} | {interval} | {} | {} | {} | {} | {:.2} |",
                row.regime,
                row.arm,
                row.seeds,
                row.folds,
                number(row.wer, 2),
                number(row.wer_std, 2),
                number(row.wer_worst, 2),
                number(row.cer, 2),
                number(row.spike_spread_ms, 0),
                number(row.teacher_train_wer, 1),
                number(row.teacher_seconds.map(|s| s / 60.0), 1),
                row.hours
            );
        }
    }
    if !tables.contrasts.is_empty() {
        out.push_str(
            "\n## Gains\n\nPoints of WER by which the guided student is below the other, on the same speakers, seeds and \
             folds; paired bootstrap over speakers.\n\n| regime | student guided by | against | points | 95 % | relative % | \
             speakers |\n|---|---|---|---|---|---|---|\n",
        );
        for contrast in &tables.contrasts {
            let gain = contrast.gain;
            let _ = writeln!(
                out,
                "| {} | {} | {} | {:+.2} | {:+.2} to {:+.2} | {:+.1} | {} |",
                contrast.regime,
                contrast.arm,
                contrast.against,
                gain.difference,
                gain.ci95.low,
                gain.ci95.high,
                gain.relative,
                gain.speakers
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::record::sample;

    #[test]
    fn rows_pool_folds_and_average_seeds() {
        let mut records = Vec::new();
        for seed in [1, 2] {
            for fold in 0..2 {
                let name = format!("s{fold}");
                for (arm, errors) in [("alone", 20 + seed as usize), ("oracle", 10)] {
                    let mut record = sample(arm, seed, &[(&name, errors, 100)]);
                    record.fold = fold;
                    records.push(record);
                }
            }
        }
        // A third seed that is not finished counts for nothing.
        records.push(sample("oracle", 3, &[("s0", 90, 100)]));
        let tables = table(&records);
        assert_eq!(tables.rows.len(), 2);
        let alone = &tables.rows[0];
        assert_eq!(
            (alone.arm.as_str(), alone.seeds, alone.folds),
            ("alone", 2, 2)
        );
        assert_eq!(alone.wer, Some(21.5));
        assert_eq!(alone.wer_worst, Some(22.0));
        assert!((alone.hours - 4.0).abs() < 1e-9);
        assert_eq!(tables.rows[1].seeds, 2);
        let contrast = &tables.contrasts[0];
        assert_eq!(contrast.against, "alone");
        assert!((contrast.gain.difference - 11.5).abs() < 1e-9);
        let page = page(&tables);
        assert!(page.contains("| toy | alone | 2 x 2 | 21.50 |"), "{page}");
        assert!(page.contains("| toy | oracle | alone | +11.50 |"), "{page}");
    }

    #[test]
    fn a_refused_teacher_has_a_row_without_errors() {
        let mut record = sample("oracle-clock", 1, &[]);
        record.outcome = Outcome::Refused;
        record.group = Group::Ablation;
        let tables = table(&[record]);
        assert_eq!(tables.ablation[0].refused, 1);
        assert_eq!(tables.ablation[0].wer, None);
        assert!(page(&tables).contains("teacher refused 1 times"));
    }
}
