//! Runs what a proof has not run yet.
//!
//! Seed by seed, fold by fold, arm by arm, so that what is interrupted is balanced. A run that stands in the results is
//! not done again; a teacher is trained once for all arms and seeds that want the same.

use super::file::{Arm, Group, ProofFile};
use super::record::{Outcome, Record, Speaker, TeacherRecord, load};
use super::split::{part, write};
use super::{keep, record};
use crate::config::Recipe;
use crate::data::loader::Examples;
use crate::data::speech::{SpeechData, SpeechSet};
use crate::distill::questions;
use crate::distill::stages::{Finished, Workshop, recipe_hash};
use crate::graph::exec::Engine;
use crate::pipeline::{Settled, settle};
use crate::teacher::align::{Spike, deviation, mean, spikes};
use crate::teacher::ask::{Aligner, Answer, Teacher};
use crate::train::checkpoint::write_atomically;
use crate::train::run::Observer;
use crate::train::step::Extras;
use crate::{Error, ErrorKind, Result};
use acolyte::metrics::{ErrorCounts, char_errors, word_errors};
use acolyte::{Decoding, LogProbs, Tokens};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Reference words with their starts and ends in seconds, by file name.
type Reference = HashMap<String, Vec<(String, f64, f64)>>;

/// Utterances decoded at a time.
const BATCH: usize = 64;

/// What a proof runs with.
#[derive(Debug)]
pub struct ProofSetup<'a> {
    /// Runs the trainings.
    pub engine: &'a Engine,
    /// The proof.
    pub file: &'a ProofFile,
    /// Folder of the data sets.
    pub data: &'a Path,
    /// Where runs live.
    pub runs: &'a Path,
    /// The file of finished runs.
    pub results: &'a Path,
    /// Where teachers are kept.
    pub teachers: &'a Path,
    /// Reference word boundaries, a JSON line an utterance: `{"audio": FILE NAME, "words": [[WORD, START, END], ..]}`,
    /// times in seconds.
    pub boundaries: Option<&'a Path>,
    /// Whether arms that are not core run too.
    pub full: bool,
    /// Only this arm.
    pub only: Option<&'a str>,
    /// No run begins after that many hours.
    pub hours: Option<f64>,
}

/// What happens.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A teacher is trained, or its rest, for this arm.
    Teacher(&'a str),
    /// A student is trained.
    Student {
        /// The arm.
        arm: &'a str,
        /// The fold.
        fold: usize,
        /// The seed.
        seed: u64,
    },
    /// A run is finished and written.
    Done(&'a Record),
}

/// One fold made ready.
struct Fold {
    index: usize,
    folder: PathBuf,
    data: SpeechData,
    test: SpeechData,
    settled: Settled,
}

#[derive(Debug, Deserialize)]
struct Boundaries {
    audio: String,
    words: Vec<(String, f64, f64)>,
}

/// Runs what is missing; returns how many runs are missing still.
///
/// # Errors
/// What reading, training and testing report; [`ErrorKind::Recipe`] where a finished run was of another recipe.
pub fn run(
    setup: &ProofSetup<'_>,
    tell: &mut dyn FnMut(Event<'_>),
    observer: &mut dyn Observer,
) -> Result<usize> {
    let begun = Instant::now();
    let file = setup.file;
    let done = load(setup.results)?;
    let reference = match setup.boundaries {
        Some(path) => boundaries(path)?,
        None => HashMap::new(),
    };
    let arms: Vec<&str> = file
        .arm
        .iter()
        .filter(|(name, arm)| match setup.only {
            Some(only) => name.as_str() == only,
            None => arm.core || setup.full,
        })
        .map(|(name, _)| name.as_str())
        .collect();
    if arms.is_empty() {
        return Err(Error::new(
            ErrorKind::Recipe,
            format!("no arm to run among {:?}", file.arm.keys()),
        ));
    }
    let mut open: Option<Fold> = None;
    let mut left = 0;
    for &seed in &file.seeds {
        for index in 0..file.split.folds() {
            for &arm in &arms {
                let recipe = file.recipe(arm, seed)?;
                let hash = recipe_hash(&recipe)?;
                let found = done
                    .iter()
                    .find(|r| r.is_of(&file.regime, arm, index, seed));
                if let Some(found) = found {
                    if found.recipe != hash {
                        return Err(Error::new(
                            ErrorKind::Recipe,
                            format!(
                                "the finished run of arm {arm}, fold {index}, seed {seed} was of another recipe: take \
                                 its line out of the results to run it again, or take the recipe back"
                            ),
                        )
                        .with_path(setup.results));
                    }
                    continue;
                }
                let over = setup
                    .hours
                    .is_some_and(|hours| begun.elapsed().as_secs_f64() > hours * 3600.0);
                if over {
                    left += 1;
                    continue;
                }
                if open.as_ref().is_none_or(|fold| fold.index != index) {
                    open = Some(Fold::open(setup, index)?);
                }
                let Some(fold) = &open else { continue };
                tell(Event::Student {
                    arm,
                    fold: index,
                    seed,
                });
                let one = One {
                    setup,
                    fold,
                    arm,
                    seed,
                    recipe: &recipe,
                    hash,
                };
                let record = one.run(&reference, tell, observer)?;
                append(setup.results, &record)?;
                tell(Event::Done(&record));
            }
        }
    }
    Ok(left)
}

fn append(path: &Path, record: &Record) -> Result<()> {
    let fail = |error: std::io::Error| Error::io(path, error);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(fail)?;
    }
    let mut line = serde_json::to_vec(record).map_err(|error| fail(error.into()))?;
    line.push(b'\n');
    let mut file = std::fs::File::options()
        .append(true)
        .create(true)
        .open(path)
        .map_err(fail)?;
    file.write_all(&line).map_err(fail)?;
    file.sync_all().map_err(fail)
}

fn boundaries(path: &Path) -> Result<Reference> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let row: Boundaries = serde_json::from_str(line).map_err(|error| {
                Error::new(ErrorKind::Data, format!("no boundaries: {error}")).with_path(path)
            })?;
            Ok((row.audio, row.words))
        })
        .collect()
}

impl Fold {
    fn open(setup: &ProofSetup<'_>, index: usize) -> Result<Self> {
        let file = setup.file;
        let folder = setup.runs.join(&file.regime).join(format!("fold-{index}"));
        let parts = part(&file.split, setup.data, index)?;
        write(&parts, &folder)?;
        let first = file.arm.keys().next().map_or("", String::as_str);
        let recipe = file.recipe(first, file.seeds[0])?;
        let data = SpeechData::open(&recipe, &folder, &|_| ())?;
        // The test part as a set to judge on; something must stand for training.
        let mut tested = recipe.clone();
        for set in &mut tested.data.train {
            set.manifest = PathBuf::from("dev.jsonl");
        }
        for set in &mut tested.data.dev {
            set.manifest = PathBuf::from("test.jsonl");
        }
        let test = SpeechData::open(&tested, &folder, &|_| ())?;
        let settled = match Settled::load(&folder) {
            Ok(settled) => settled,
            Err(_) => {
                let settled = settle(&recipe, &data)?;
                settled.save(&folder)?;
                settled
            }
        };
        Ok(Self {
            index,
            folder,
            data,
            test,
            settled,
        })
    }
}

/// One run.
struct One<'a> {
    setup: &'a ProofSetup<'a>,
    fold: &'a Fold,
    arm: &'a str,
    seed: u64,
    recipe: &'a Recipe,
    hash: String,
}

impl One<'_> {
    fn arm(&self) -> Option<&Arm> {
        self.setup.file.arm.get(self.arm)
    }

    fn workshop(&self) -> Workshop<'_> {
        Workshop {
            engine: self.setup.engine,
            data: &self.fold.data,
            settled: Some(self.fold.settled.clone()),
        }
    }

    fn run(
        &self,
        reference: &Reference,
        tell: &mut dyn FnMut(Event<'_>),
        observer: &mut dyn Observer,
    ) -> Result<Record> {
        let mut teacher = None;
        if let Some(own) = self.recipe.teacher_recipe() {
            teacher = Some(self.teacher(&own, tell, observer)?);
        }
        let mut record = Record {
            regime: self.setup.file.regime.clone(),
            arm: self.arm.to_owned(),
            group: self.arm().map_or(Group::Rows, |arm| arm.group),
            fold: self.fold.index,
            seed: self.seed,
            recipe: self.hash.clone(),
            threads: self.setup.engine.threads(),
            teacher: teacher.as_ref().map(|(_, record)| record.clone()),
            outcome: Outcome::Refused,
        };
        let refused = teacher
            .as_ref()
            .is_some_and(|(_, record)| record.findings.admit().is_err());
        if refused {
            return Ok(record);
        }
        let folder = self.fold.folder.join(format!(
            "{}-seed-{}-{}",
            self.arm,
            self.seed,
            &self.hash[..8]
        ));
        let workshop = self.workshop();
        let finished = match &self.recipe.distill {
            Some(_) => workshop.student(
                self.recipe,
                &folder,
                teacher.as_ref().map(|(folder, _)| folder.as_path()),
                &self.fold.folder.join("kept"),
                observer,
            )?,
            None => {
                let settled = Some(self.fold.settled.clone());
                workshop.train(self.recipe, &folder, settled, None, observer)?
            }
        };
        record.outcome = self.test(&folder, &finished, reference)?;
        Ok(record)
    }

    /// The teacher's folder and record: trained, restored or known.
    fn teacher(
        &self,
        recipe: &Recipe,
        tell: &mut dyn FnMut(Event<'_>),
        observer: &mut dyn Observer,
    ) -> Result<(PathBuf, TeacherRecord)> {
        let hash = recipe_hash(recipe)?;
        let folder = self
            .fold
            .folder
            .join(format!("{}-{}", recipe.name, &hash[..8]));
        let kept = self.setup.teachers.join(format!(
            "{}-fold-{}-{}",
            self.setup.file.regime,
            self.fold.index,
            &hash[..8]
        ));
        let path = folder.join("teacher.json");
        if let Ok(text) = std::fs::read_to_string(&path)
            && let Ok(known) = serde_json::from_str::<TeacherRecord>(&text)
            && known.recipe == hash
        {
            return Ok((folder, known));
        }
        tell(Event::Teacher(self.arm));
        keep::restore(&kept, &folder, &hash)?;
        let workshop = self.workshop();
        let settled = Some(self.fold.settled.clone());
        let finished = workshop.train(recipe, &folder, settled, None, observer)?;
        let guards = self.recipe.teacher.as_ref().map(|teacher| &teacher.guards);
        let guards = guards.cloned().unwrap_or_default();
        let other = self.arm().and_then(|arm| arm.agrees_with.as_deref());
        let other = match other {
            Some(other) => self.setup.file.recipe(other, self.seed)?.teacher_recipe(),
            None => None,
        };
        let other = match other.filter(|other| other != recipe) {
            Some(other) => Some(self.teacher(&other, tell, observer)?.0),
            None => None,
        };
        let findings = workshop.check(&folder, &guards, other.as_deref())?;
        let mut teacher = Teacher::open(self.setup.engine, &folder, Extras::default())?;
        let (errors, _) = listen(
            &mut teacher,
            &self.fold.data,
            self.fold.data.train(),
            |_, _| (),
        )?;
        let record = TeacherRecord {
            recipe: hash,
            train_wer: 100.0 * errors.rate(),
            seconds: finished.seconds,
            steps: finished.steps,
            best_seconds: finished.best_seconds,
            best_steps: finished.best_steps,
            findings,
        };
        let text = serde_json::to_vec_pretty(&record)
            .map_err(|error| Error::io(&path, std::io::Error::other(error)))?;
        write_atomically(&path, &text)?;
        keep::keep(&folder, &kept)?;
        Ok((folder, record))
    }

    fn test(&self, folder: &Path, finished: &Finished, reference: &Reference) -> Result<Outcome> {
        let mut student = Teacher::open(self.setup.engine, folder, Extras::default())?;
        let set = self
            .fold
            .test
            .dev()
            .first()
            .ok_or_else(|| Error::new(ErrorKind::Data, "the fold has no test part"))?;
        let features = &self.recipe.features;
        let step = features.hop_length as f64 * self.recipe.model.stride as f64
            / f64::from(features.sample_rate);
        let tokens = Tokens::new(self.fold.settled.tokens.clone())?;
        let mut distances = Vec::new();
        let (_, speakers) = listen(&mut student, &self.fold.test, set, |item, answer| {
            let utterance = &set.utterances()[item];
            let name = utterance.audio.file_name().unwrap_or_default();
            if let Some(words) = reference.get(&*name.to_string_lossy()) {
                let spikes = spikes(answer.log_probs.view(), tokens.blank());
                distances.extend(off_middle(&spikes, &tokens, words, step));
            }
        })?;
        let known = !distances.is_empty();
        Ok(Outcome::Tested {
            speakers,
            spike_spread_ms: known.then(|| 1e3 * deviation(&distances)),
            spike_delay_ms: known.then(|| 1e3 * mean(&distances)),
            student_seconds: finished.seconds,
            student_steps: finished.best_steps,
        })
    }
}

/// Decodes a set greedily: all word errors, and errors by speaker; `each` sees every answer.
fn listen(
    network: &mut Teacher,
    data: &SpeechData,
    set: &Arc<SpeechSet>,
    mut each: impl FnMut(usize, &Answer),
) -> Result<(ErrorCounts, BTreeMap<String, Speaker>)> {
    let examples = data.judging(set, network.settled().log_mel()?)?;
    let tokens = Arc::new(Tokens::new(network.settled().tokens.clone())?);
    let plan = Decoding::greedy().plan(&tokens)?;
    let mut all = ErrorCounts::default();
    let mut speakers: BTreeMap<String, record::Speaker> = BTreeMap::new();
    for first in (0..examples.len()).step_by(BATCH) {
        let asked = questions(&examples, first..(first + BATCH).min(examples.len()))?;
        for (offset, answer) in network.ask(&asked)?.iter().enumerate() {
            let utterance = &set.utterances()[first + offset];
            let scores = LogProbs::from_log_probs(answer.log_probs.view());
            let heard = plan.decode(&scores)?.into_best();
            let words = word_errors(&utterance.text, &heard.text);
            all += words;
            let name = utterance.speaker.clone().unwrap_or_default();
            let own = speakers.entry(name).or_default();
            own.add(words, char_errors(&utterance.text, &heard.text));
            each(first + offset, answer);
        }
    }
    Ok((all, speakers))
}

/// How far, in seconds, each word's spikes stand from the middle of its reference; nothing where other words were
/// heard.
fn off_middle(
    spikes: &[Spike],
    tokens: &Tokens,
    reference: &[(String, f64, f64)],
    step: f64,
) -> Vec<f64> {
    let mut words: Vec<(String, usize, usize)> = Vec::new();
    let mut open = false;
    for spike in spikes {
        if Some(spike.symbol) == tokens.separator() {
            open = false;
            continue;
        }
        let piece = tokens.piece(spike.symbol).unwrap_or_default();
        match words.last_mut().filter(|_| open) {
            Some((word, _, last)) => {
                word.push_str(piece);
                *last = spike.frame;
            }
            None => words.push((piece.to_owned(), spike.frame, spike.frame)),
        }
        open = true;
    }
    let same = words.len() == reference.len()
        && words
            .iter()
            .zip(reference)
            .all(|(heard, said)| heard.0 == said.0);
    if !same {
        return Vec::new();
    }
    words
        .iter()
        .zip(reference)
        .map(|((_, first, last), (_, start, end))| {
            let middle = ((first + last) as f64 / 2.0 + 0.5) * step;
            middle - (start + end) / 2.0
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spikes_are_measured_from_the_middles_of_their_words() {
        let tokens = Tokens::characters(["<blank>", " ", "a", "b"], 0).unwrap();
        let spike = |symbol, frame| Spike { symbol, frame };
        let spikes = [spike(2, 4), spike(3, 9), spike(1, 12), spike(3, 20)];
        let said = |word: &str, start, end| (word.to_owned(), start, end);
        let reference = [said("ab", 0.1, 0.2), said("b", 0.4, 0.44)];
        let found = off_middle(&spikes, &tokens, &reference, 0.02);
        // (4 + 9) / 2 + 0.5 = 7 frames of 20 ms; 20.5 frames.
        assert!((found[0] - (0.14 - 0.15)).abs() < 1e-9, "{found:?}");
        assert!((found[1] - (0.41 - 0.42)).abs() < 1e-9, "{found:?}");
        assert!(off_middle(&spikes, &tokens, &reference[..1], 0.02).is_empty());
        let other = [said("ab", 0.1, 0.2), said("a", 0.4, 0.44)];
        assert!(off_middle(&spikes, &tokens, &other, 0.02).is_empty());
    }

    #[test]
    fn lines_are_appended_and_survive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/runs.jsonl");
        let first = record::sample("alone", 1, &[("a", 1, 10)]);
        let second = record::sample("oracle", 1, &[("a", 0, 10)]);
        append(&path, &first).unwrap();
        append(&path, &second).unwrap();
        assert_eq!(load(&path).unwrap(), [first, second]);
    }
}
