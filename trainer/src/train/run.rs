//! One training run, top to bottom: rows in, updates, a judgment after each epoch, checkpoints on the way.
//!
//! A run lives in a folder: `recipe.toml`, `checkpoint.safetensors` (and the one before it),
//! `best.safetensors` (the averaged weights that did best on the development sets), `metrics.jsonl`,
//! `tensorboard/`. Started again it goes on from the checkpoint, bit for bit as if it had not been interrupted (same
//! machine, library and thread count, and no time limit, which would depend on the clock).

use super::averaging::{Kept, choose, mean, prune, save as save_epoch};
use super::checkpoint::{Checkpoint, EpochSums, Position, write_atomically};
use super::evaluate::{Development, Score, evaluate};
use super::feed::{plan, with_rows};
use super::learner::{Learned, Learner, Tensors};
use super::log::{RunLog, last_epoch, scores};
use super::pack::{Packer, Row};
pub use super::records::{AverageRecord, EpochRecord, Observer, StartRecord, StepRecord};
use super::start::Start;
use super::step::{EvaluationStep, Extras};
use super::supervise::Supervision;
use crate::config::{JudgeBy, Recipe};
use crate::data::batch::Pick;
use crate::data::loader::Examples;
use crate::graph::exec::{Engine, ParameterStore};
use crate::network::{Lookup, Network, fold};
use crate::optim::learning_rate;
use crate::{Error, ErrorKind, Result};
use acolyte::Tokens;
use cpu_time::ProcessTime;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// What a run is made of.
#[derive(Debug)]
pub struct Setup<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// Where the run lives.
    pub folder: &'a Path,
    /// What is trained.
    pub network: Arc<dyn Network>,
    /// What it learns from beside the transcripts.
    pub supervision: Option<Arc<dyn Supervision>>,
    /// The vocabulary.
    pub tokens: Arc<Tokens>,
    /// Longest target in the training data.
    pub longest: usize,
    /// The development sets.
    pub development: Vec<Development>,
    /// The model whose weights a new run starts from.
    pub start: Option<Start>,
    /// Whether to go on from the folder's checkpoint.
    pub resume: bool,
    /// Stop after this many updates in this sitting: for tests and trials.
    pub stop_after: Option<u64>,
}

impl Setup<'_> {
    /// The geometry of training rows, which hold as many views of an utterance as the supervision compares.
    fn rows(&self) -> Packer {
        Packer {
            views: self.supervision.as_ref().map_or(1, |s| s.views()),
            ..packer(self.recipe, &*self.network)
        }
    }
}

/// The training data: examples, and which of them an epoch sees in which order.
pub struct TrainingData<'a> {
    /// The examples.
    pub examples: &'a dyn Examples,
    /// The picks of an epoch, in order.
    pub order: &'a dyn Fn(u64) -> Vec<Pick>,
}

impl std::fmt::Debug for TrainingData<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrainingData").finish_non_exhaustive()
    }
}

/// The state of a run between steps.
struct Run<'a> {
    setup: &'a Setup<'a>,
    learner: Learner,
    position: Position,
    log: RunLog,
    group: Group,
    started: Instant,
    started_processor: ProcessTime,
    /// Wall and processor seconds of the sittings before.
    before: [f64; 2],
}

/// Sums over the batches of one update.
#[derive(Debug, Default)]
struct Group {
    loss: f64,
    parts: BTreeMap<String, f64>,
    good: usize,
    utterances: usize,
    infeasible: usize,
    frames: usize,
}

/// The geometry of a network's rows under a recipe.
pub fn packer(recipe: &Recipe, network: &dyn Network) -> Packer {
    let stride = network.stride();
    Packer {
        width: recipe.train.batch_frames.next_multiple_of(2 * stride),
        features: network.features(),
        stride,
        gap: network.gap(),
        delay: network.delay(),
        most: recipe.train.max_batch,
        symbols: network.most_symbols(),
        views: 1,
    }
}

/// Where the averaged weights that did best are kept.
pub fn best_path(folder: &Path) -> PathBuf {
    folder.join("best.safetensors")
}

/// Where the checkpoint is kept.
pub fn checkpoint_path(folder: &Path) -> PathBuf {
    folder.join("checkpoint.safetensors")
}

/// Trains until the recipe's end (or `stop_after`), and returns the last epoch's record; of a run that had come to its
/// end before, that of then. None where `stop_after` came before the first epoch's end.
///
/// # Errors
/// [`ErrorKind::Checkpoint`] for a damaged checkpoint or one of another recipe, [`ErrorKind::Diverged`] where
/// loss or gradient stay not finite; the message names the batch's utterances.
pub fn train(
    engine: &Engine,
    setup: &Setup<'_>,
    data: &TrainingData<'_>,
    observer: &mut dyn Observer,
) -> Result<Option<EpochRecord>> {
    let config = &setup.recipe.train;
    let mut run = Run::begin(engine, setup, observer)?;
    if run.position.finished {
        return last_epoch(setup.folder);
    }
    let packer = setup.rows();
    let mut last = None;
    let mut over = run.has_waited_enough(observer);
    let mut updates = 0;
    let mut stopped = false;
    while !over && run.position.epoch < config.epochs as u64 {
        let epoch = run.position.epoch;
        let rows = plan(data.examples, &packer, &(data.order)(epoch), epoch)?;
        let rest = rows.get(run.position.row as usize..).unwrap_or_default();
        with_rows(data.examples, packer, rest, epoch, |received| {
            let mut saved = Instant::now();
            for row in received {
                let Some(record) = run.batch(&row?, rows.len(), observer)? else {
                    continue;
                };
                observer.step(&record);
                updates += 1;
                if saved.elapsed().as_secs_f32() > config.checkpoint_minutes * 60.0 {
                    run.save()?;
                    saved = Instant::now();
                }
                over = record.progress >= 1.0;
                stopped = setup.stop_after.is_some_and(|most| updates >= most);
                if over || stopped {
                    break;
                }
            }
            Ok(())
        })?;
        if stopped {
            run.save()?;
            return Ok(last);
        }
        let record = run.judge(engine, observer)?;
        observer.epoch(&record);
        last = Some(record);
        over |= run.has_waited_enough(observer);
    }
    run.conclude(engine, observer)?;
    Ok(last)
}

impl Group {
    /// Mean parts of the loss over its good batches.
    fn parts(&self) -> BTreeMap<String, f32> {
        let mean = |sum: f64| (sum / self.good as f64) as f32;
        let parts = self.parts.iter();
        parts
            .map(|(name, &sum)| (name.clone(), mean(sum)))
            .collect()
    }
}

impl<'a> Run<'a> {
    fn begin(engine: &Engine, setup: &'a Setup<'a>, observer: &mut dyn Observer) -> Result<Self> {
        let recipe = setup.recipe;
        let path = checkpoint_path(setup.folder);
        let checkpoint = if setup.resume && path.exists() {
            Some(Checkpoint::load(&path)?)
        } else {
            None
        };
        let mut position = Position {
            recipe: recipe.identity()?,
            end: recipe.end(),
            ..Position::default()
        };
        let mut started = None;
        let prepare = |store: &mut ParameterStore| {
            if let (Some(start), None) = (&setup.start, &checkpoint) {
                started = Some(start.apply(&setup.tokens, store)?);
            }
            Ok(())
        };
        let mut learner = Learner::new(
            engine,
            recipe,
            &setup.network,
            setup.supervision.clone(),
            &setup.rows(),
            setup.longest,
            prepare,
        )?;
        let resumed = checkpoint.is_some();
        if let Some(checkpoint) = checkpoint {
            if checkpoint.position.recipe != position.recipe {
                return Err(Error::new(
                    ErrorKind::Checkpoint,
                    "it belongs to another recipe: start with another --run folder, or go back to the recipe beside it",
                )
                .with_path(&path));
            }
            let end = std::mem::replace(&mut position, checkpoint.position).end;
            if position.end != end {
                observer.note(&format!(
                    "this run was to end after {}, now after {end}: the learning rate follows the new end",
                    position.end
                ));
                position.finished = false;
                position.end = end;
                write_atomically(
                    &setup.folder.join("recipe.toml"),
                    recipe.to_toml()?.as_bytes(),
                )?;
            }
            learner
                .restore(checkpoint.tensors, position.updates)
                .map_err(|error| error.with_path(&path))?;
        } else {
            write_atomically(
                &setup.folder.join("recipe.toml"),
                recipe.to_toml()?.as_bytes(),
            )?;
            prune(setup.folder, &[]);
        }
        let mut log = RunLog::open(setup.folder, &position, resumed)?;
        if let Some(record) = &started {
            log.start(record)?;
            observer.note(&record.summary());
        }
        Ok(Self {
            setup,
            learner,
            log,
            group: Group::default(),
            started: Instant::now(),
            started_processor: ProcessTime::now(),
            before: [position.seconds, position.processor_seconds],
            position,
        })
    }

    /// Learns from one row; the record of the update where it closes a group.
    fn batch(
        &mut self,
        row: &Row,
        rows: usize,
        observer: &mut dyn Observer,
    ) -> Result<Option<StepRecord>> {
        let recipe = self.setup.recipe;
        self.position.row += 1;
        let [wall, processor] = self.before;
        self.position.seconds = wall + self.started.elapsed().as_secs_f64();
        self.position.processor_seconds =
            processor + self.started_processor.elapsed().as_secs_f64();
        let closes = self
            .position
            .row
            .is_multiple_of(recipe.train.accumulate as u64)
            || self.position.row == rows as u64;
        let progress = self.progress(rows);
        let rate = learning_rate(&recipe.train, self.position.updates, progress);
        let seed = recipe.seed ^ self.position.step.wrapping_mul(0x9e37_79b9);
        let rate_of_group = closes.then_some(rate);
        let learned = self.learner.learn(row, seed, progress, rate_of_group)?;
        self.position.step += 1;
        self.position.updates = self.learner.updates();
        self.account(row, &learned, observer)?;
        if !closes {
            return Ok(None);
        }
        let group = std::mem::take(&mut self.group);
        let features = &recipe.features;
        let hop = features.hop_length as f64 / f64::from(features.sample_rate);
        let record = StepRecord {
            step: self.position.step,
            epoch: self.position.epoch,
            progress,
            loss: (group.loss / group.good as f64) as f32,
            parts: group.parts(),
            gradient_norm: learned.updated.unwrap_or(f32::NAN),
            learning_rate: rate,
            utterances: group.utterances,
            infeasible: group.infeasible,
            audio_seconds: (group.frames * self.setup.network.stride()) as f64 * hop,
            seconds: self.position.seconds,
        };
        self.log.step(&record)?;
        Ok(Some(record))
    }

    /// Adds a batch to the sums of its group and epoch; stops where too many in a row were not finite.
    fn account(&mut self, row: &Row, learned: &Learned, observer: &mut dyn Observer) -> Result<()> {
        let (sums, group) = (&mut self.position.sums, &mut self.group);
        group.utterances += row.segments.len();
        group.infeasible += learned.infeasible;
        group.frames += row.frames();
        sums.infeasible += learned.infeasible;
        if learned.is_finite() {
            group.loss += f64::from(learned.loss);
            for (name, &part) in &learned.parts {
                *group.parts.entry(name.clone()).or_default() += f64::from(part);
            }
            group.good += 1;
            sums.loss += f64::from(learned.loss);
            sums.good += 1;
            sums.bad_in_a_row = 0;
            return Ok(());
        }
        sums.skipped += 1;
        sums.bad_in_a_row += 1;
        let names = row.segments.iter().map(|s| s.utterance.name.as_str());
        sums.last_bad = names.collect::<Vec<_>>().join(", ");
        let text = format!(
            "batch {}: loss {}, gradient norm {}{}: not all finite; it holds {}",
            self.position.step,
            learned.loss,
            learned.batch_norm,
            if learned.finite_statistics {
                ""
            } else {
                ", statistics of a batch norm that are no numbers"
            },
            sums.last_bad
        );
        if sums.bad_in_a_row >= self.setup.recipe.train.bad_batches {
            return Err(Error::new(
                ErrorKind::Diverged,
                format!(
                    "{text}. It is number {} in a row: look at these recordings, or lower train.learning_rate or \
                     train.clip_norm; the checkpoint is from before",
                    sums.bad_in_a_row
                ),
            ));
        }
        observer.note(&text);
        Ok(())
    }

    /// The part of the run that is over: by epochs, or by time where that is further.
    fn progress(&self, rows: usize) -> f64 {
        let config = &self.setup.recipe.train;
        let within = self.position.row as f64 / rows.max(1) as f64;
        let by_epochs = (self.position.epoch as f64 + within) / config.epochs as f64;
        let by_time = config
            .max_minutes
            .map_or(0.0, |most| self.position.seconds / (f64::from(most) * 60.0));
        // The last row of the last epoch ends the run by the loop's own count.
        by_epochs.min(1.0 - 1e-9).max(by_time)
    }

    /// Evaluates the averaged weights at the end of an epoch, keeps them where they are the best so far, and begins the
    /// next epoch with a checkpoint.
    fn judge(&mut self, engine: &Engine, observer: &mut dyn Observer) -> Result<EpochRecord> {
        let setup = self.setup;
        let sums = std::mem::take(&mut self.position.sums);
        if sums.good == 0 && sums.skipped > 0 {
            return Err(Error::new(
                ErrorKind::Diverged,
                format!(
                    "no batch of epoch {} was finite, the last was {}; go back to an earlier checkpoint or lower \
                     train.learning_rate",
                    self.position.epoch + 1,
                    sums.last_bad
                ),
            ));
        }
        self.learner.fetch()?;
        let development = judge(engine, setup, &|name| self.learner.averaged(name))?;
        let figure = figure(&development, setup.recipe.train.judge_by);
        if development.is_empty() || self.position.best.is_none_or(|best| figure < best) {
            self.position.best = Some(figure);
            self.position.waited = 0;
            self.checkpoint(self.learner.averages()?)
                .save(&best_path(setup.folder))?;
        } else {
            self.position.waited += 1;
        }
        if let Some(config) = setup.recipe.train.average {
            let new = Kept {
                epoch: self.position.epoch,
                figure,
            };
            self.position.kept = choose(std::mem::take(&mut self.position.kept), new, config);
            if self.position.kept.contains(&new) {
                save_epoch(setup.folder, &self.position, self.learner.averages()?)?;
            }
        }
        let record = EpochRecord {
            epoch: self.position.epoch,
            step: self.position.step,
            loss: sums.loss / sums.good.max(1) as f64,
            skipped: sums.skipped,
            infeasible: sums.infeasible,
            development,
            seconds: self.position.seconds,
        };
        if sums.infeasible > 0 {
            observer.note(&format!(
                "{} targets of epoch {} did not fit their frames and were left out",
                sums.infeasible,
                self.position.epoch + 1
            ));
        }
        self.log.epoch(&record)?;
        self.position.epoch += 1;
        self.position.row = 0;
        self.position.sums = EpochSums::default();
        self.save()?;
        prune(setup.folder, &self.position.kept);
        Ok(record)
    }

    /// Whether the figure has not been better for as long as the recipe waits.
    fn has_waited_enough(&self, observer: &mut dyn Observer) -> bool {
        let patience = self.setup.recipe.train.patience;
        let enough = patience.is_some_and(|most| self.position.waited >= most as u64);
        if enough {
            observer.note(&format!(
                "no better for {} epochs: stopped (train.patience)",
                self.position.waited
            ));
        }
        enough
    }

    /// Tries the mean of the kept epochs and marks the run as finished.
    fn conclude(&mut self, engine: &Engine, observer: &mut dyn Observer) -> Result<()> {
        let (setup, kept) = (self.setup, self.position.kept.clone());
        if kept.len() > 1 {
            let tensors = mean(setup.folder, &kept)?;
            let get = |name: &str| {
                tensors
                    .get(name)
                    .map(|(_, data)| data.as_slice())
                    .ok_or_else(|| Error::new(ErrorKind::Checkpoint, format!("{name} is missing")))
            };
            let errors = judge(engine, setup, &get)?;
            let figure = figure(&errors, setup.recipe.train.judge_by);
            let better = self.position.best.is_none_or(|best| figure < best);
            observer.note(&format!(
                "mean of {} epochs' weights: WER/CER {}; {}",
                kept.len(),
                scores(&errors),
                if better {
                    "better than the best epoch, kept"
                } else {
                    "no better than the best epoch, left"
                }
            ));
            self.log.average(&AverageRecord {
                averaged_epochs: kept.iter().map(|kept| kept.epoch).collect(),
                errors,
                better,
            })?;
            if better {
                self.position.best = Some(figure);
                self.checkpoint(tensors).save(&best_path(setup.folder))?;
            }
        }
        self.position.finished = true;
        self.save()
    }

    fn checkpoint(&self, tensors: Tensors) -> Checkpoint {
        Checkpoint {
            position: self.position.clone(),
            tensors,
        }
    }

    /// Saves everything the run needs to go on.
    fn save(&mut self) -> Result<()> {
        self.learner.fetch()?;
        self.checkpoint(self.learner.tensors()?)
            .save(&checkpoint_path(self.setup.folder))
    }
}

/// Errors of weights on all development sets.
fn judge(engine: &Engine, setup: &Setup<'_>, get: Lookup<'_, '_>) -> Result<Vec<Score>> {
    let network = &setup.network;
    let folded = fold(engine, &**network, get)?;
    let packer = packer(setup.recipe, &**network);
    let mut step = EvaluationStep::new(engine, network, &packer, &folded, Extras::default())?;
    setup
        .development
        .iter()
        .map(|set| evaluate(&mut step, set, &setup.tokens))
        .collect()
}

/// The one number that epochs are compared by: lower is better.
fn figure(development: &[Score], by: JudgeBy) -> f64 {
    let sets = match by {
        JudgeBy::First => development.get(..1).unwrap_or_default(),
        JudgeBy::Mean => development,
    };
    sets.iter().map(|score| score.wer).sum::<f64>() / sets.len().max(1) as f64
}
