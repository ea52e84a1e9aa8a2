//! One training run, top to bottom: rows in, updates, a judgment after each epoch, checkpoints on the way.
//!
//! A run lives in a folder: `recipe.toml`, `checkpoint.safetensors` (and the one before it),
//! `best.safetensors` (the averaged weights that did best on the development sets), `metrics.jsonl`. Started
//! again it goes on from the checkpoint, bit for bit as if it had not been interrupted (same machine, library
//! and thread count, and no time limit, which would depend on the clock).

use super::checkpoint::{Checkpoint, Position, hex};
use super::evaluate::{Development, Score, evaluate};
use super::feed::{plan, with_rows};
use super::log::MetricsLog;
use super::pack::{Packer, Row};
use super::step::{EvaluationStep, Extras, TrainStep};
use super::supervise::Supervision;
use crate::config::Recipe;
use crate::data::batch::Pick;
use crate::data::loader::Examples;
use crate::graph::exec::{Engine, ParameterStore};
use crate::network::{Network, fold};
use crate::optim::{AdamW, AdamWSettings, Moments, global_norm, learning_rate};
use crate::{Error, ErrorKind, Result};
use acolyte::Tokens;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Steps in a row whose loss or gradient may be not finite before the run stops.
const MOST_BAD_STEPS: usize = 20;

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

/// What the loop tells whoever watches it.
pub trait Observer {
    /// An update was made.
    fn step(&mut self, record: &StepRecord);
    /// An epoch ended and was judged.
    fn epoch(&mut self, record: &EpochRecord);
    /// Something worth a line, such as a skipped step.
    fn note(&mut self, text: &str);
}

/// One update.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepRecord {
    /// Batches so far.
    pub step: u64,
    /// The epoch, from 0.
    pub epoch: u64,
    /// Part of the run that is over, in [0, 1].
    pub progress: f64,
    /// Loss in nats per output frame: CTC, and what distillation adds.
    pub loss: f32,
    /// Its parts by name, before their weights, where there is more than CTC.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, f32>,
    /// Global gradient norm before clipping.
    pub gradient_norm: f32,
    /// Learning rate of the update.
    pub learning_rate: f32,
    /// Utterances in the batch.
    pub utterances: usize,
    /// Those whose target did not fit.
    pub infeasible: usize,
    /// Seconds of training so far.
    pub seconds: f64,
}

/// One epoch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EpochRecord {
    /// The epoch, from 0.
    pub epoch: u64,
    /// Updates so far.
    pub step: u64,
    /// Mean loss over its updates, nats per output frame.
    pub loss: f64,
    /// Updates skipped since a number was not finite.
    pub skipped: usize,
    /// Targets that did not fit their frames.
    pub infeasible: usize,
    /// Errors on the development sets.
    pub development: Vec<Score>,
    /// Seconds of training so far.
    pub seconds: f64,
}

/// The state of a run between steps.
struct Run<'a> {
    setup: &'a Setup<'a>,
    store: ParameterStore,
    step: TrainStep,
    optimizer: AdamW,
    moments: BTreeMap<String, Moments>,
    averaged_statistics: BTreeMap<String, Vec<f32>>,
    position: Position,
    started: Instant,
    seconds_before: f64,
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

/// Trains until the recipe's end (or `stop_after`), and returns the last epoch's record.
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
    let mut log = MetricsLog::open(&setup.folder.join("metrics.jsonl"))?;
    let mut run = Run::begin(engine, setup)?;
    let packer = setup.rows();
    let mut last = None;
    let mut over = false;
    let first_step = run.position.step;
    while !over && run.position.epoch < setup.recipe.train.epochs as u64 {
        let epoch = run.position.epoch;
        let rows = plan(data.examples, &packer, &(data.order)(epoch), epoch)?;
        let mut sums = EpochSums::default();
        let rest = rows.get(run.position.row as usize..).unwrap_or_default();
        with_rows(data.examples, packer, rest, epoch, |received| {
            let mut saved = Instant::now();
            for row in received {
                let row = row?;
                let record = run.update(&row, rows.len(), &mut sums, observer)?;
                log.record(&record)?;
                observer.step(&record);
                if saved.elapsed().as_secs_f32() > setup.recipe.train.checkpoint_minutes * 60.0 {
                    run.save()?;
                    saved = Instant::now();
                }
                over = record.progress >= 1.0
                    || setup
                        .stop_after
                        .is_some_and(|most| run.position.step - first_step >= most);
                if over {
                    break;
                }
            }
            Ok(())
        })?;
        if over && setup.stop_after.is_some() {
            run.save()?;
            return Ok(last);
        }
        let record = run.judge(engine, &sums)?;
        log.record(&record)?;
        observer.epoch(&record);
        last = Some(record);
        run.position.epoch += 1;
        run.position.row = 0;
        run.save()?;
    }
    Ok(last)
}

#[derive(Debug, Default)]
struct EpochSums {
    loss: f64,
    updates: usize,
    skipped: usize,
    bad_in_a_row: usize,
    last_bad: String,
    infeasible: usize,
}

impl<'a> Run<'a> {
    fn begin(engine: &Engine, setup: &'a Setup<'a>) -> Result<Self> {
        let recipe = setup.recipe;
        let text = recipe.to_toml()?;
        let mut store = ParameterStore::new(engine);
        let step = TrainStep::new(
            engine,
            &setup.network,
            &setup.rows(),
            setup.longest,
            &mut store,
            recipe.seed,
            setup.supervision.clone(),
        )?;
        let optimizer = AdamW {
            settings: AdamWSettings {
                beta1: recipe.train.betas[0],
                beta2: recipe.train.betas[1],
                epsilon: recipe.train.epsilon,
                weight_decay: recipe.train.weight_decay,
                average: recipe.train.ema,
            },
            step: 0,
        };
        let mut run = Self {
            setup,
            step,
            optimizer,
            moments: BTreeMap::new(),
            averaged_statistics: BTreeMap::new(),
            position: Position {
                step: 0,
                updates: 0,
                epoch: 0,
                row: 0,
                seconds: 0.0,
                best: None,
                recipe: hex(&Sha256::digest(text.as_bytes())),
            },
            started: Instant::now(),
            seconds_before: 0.0,
            store,
        };
        for spec in run.step.parameters().to_vec() {
            let moments = Moments::new(run.store.get(&spec.name)?);
            run.moments.insert(spec.name, moments);
        }
        for statistic in run.step.statistics() {
            let start = run.store.get(&statistic.name)?.to_vec();
            run.averaged_statistics
                .insert(statistic.name.clone(), start);
        }
        let path = checkpoint_path(setup.folder);
        if setup.resume && path.exists() {
            run.restore(Checkpoint::load(&path)?)
                .map_err(|error| error.with_path(&path))?;
        } else {
            super::checkpoint::write_atomically(
                &setup.folder.join("recipe.toml"),
                text.as_bytes(),
            )?;
        }
        Ok(run)
    }

    /// One update from one row.
    fn update(
        &mut self,
        row: &Row,
        rows: usize,
        sums: &mut EpochSums,
        observer: &mut dyn Observer,
    ) -> Result<StepRecord> {
        let config = &self.setup.recipe.train;
        self.position.row += 1;
        self.position.seconds = self.seconds_before + self.started.elapsed().as_secs_f64();
        let progress = self.progress(rows);
        let rate = learning_rate(config, self.position.step, progress);
        let seed = self.setup.recipe.seed ^ self.position.step.wrapping_mul(0x9e37_79b9);
        let outcome = self.step.run(row, seed, progress)?;
        let norm = {
            let gradients = self
                .step
                .parameters()
                .iter()
                .map(|spec| self.step.gradient(&spec.name))
                .collect::<Result<Vec<_>>>()?;
            global_norm(gradients.into_iter())
        };
        self.position.step += 1;
        sums.infeasible += outcome.infeasible;
        if outcome.loss.is_finite() && norm.is_finite() {
            let scale = (config.clip_norm / norm.max(f32::MIN_POSITIVE)).min(1.0);
            self.optimizer.begin();
            self.position.updates = self.optimizer.step;
            for spec in self.step.parameters() {
                let Some(moments) = self.moments.get_mut(&spec.name) else {
                    continue;
                };
                let gradient = self.step.gradient(&spec.name)?;
                let weights = self.store.get_mut(&spec.name)?;
                self.optimizer
                    .update(weights, gradient, moments, rate, scale, spec.decays);
            }
            self.step.update_statistics(&mut self.store)?;
            self.average_statistics()?;
            sums.loss += f64::from(outcome.loss);
            sums.updates += 1;
            sums.bad_in_a_row = 0;
        } else {
            sums.skipped += 1;
            sums.bad_in_a_row += 1;
            let names: Vec<&str> = row
                .segments
                .iter()
                .map(|s| s.utterance.name.as_str())
                .collect();
            sums.last_bad = names.join(", ");
            let text = format!(
                "step {}: loss {} and gradient norm {norm} are not both finite, in the batch of {}",
                self.position.step, outcome.loss, sums.last_bad
            );
            if sums.bad_in_a_row >= MOST_BAD_STEPS {
                return Err(Error::new(
                    ErrorKind::Diverged,
                    format!("{text}; lower train.learning_rate or train.clip_norm"),
                ));
            }
            observer.note(&text);
        }
        Ok(StepRecord {
            step: self.position.step,
            epoch: self.position.epoch,
            progress,
            loss: outcome.loss,
            parts: outcome.parts,
            gradient_norm: norm,
            learning_rate: rate,
            utterances: row.segments.len(),
            infeasible: outcome.infeasible,
            seconds: self.position.seconds,
        })
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

    /// Running statistics are averaged like the weights they belong to.
    fn average_statistics(&mut self) -> Result<()> {
        let step = self.optimizer.step as f32;
        let most = self.optimizer.settings.average;
        let keep = if most == 0.0 {
            0.0
        } else {
            most.min((step + 1.0) / (step + 10.0))
        };
        for (name, average) in &mut self.averaged_statistics {
            for (average, &new) in average.iter_mut().zip(self.store.get(name)?) {
                *average = keep * *average + (1.0 - keep) * new;
            }
        }
        Ok(())
    }

    /// Averaged weights and statistics by name, as they are judged and exported.
    fn averaged(&self, name: &str) -> Result<&[f32]> {
        self.moments
            .get(name)
            .map(|moments| moments.average.as_slice())
            .or_else(|| self.averaged_statistics.get(name).map(Vec::as_slice))
            .ok_or_else(|| Error::new(ErrorKind::Graph, format!("no parameter named {name:?}")))
    }

    /// Evaluates the averaged weights; the best so far are kept in their own file.
    fn judge(&mut self, engine: &Engine, sums: &EpochSums) -> Result<EpochRecord> {
        let setup = self.setup;
        if sums.updates == 0 && sums.skipped > 0 {
            return Err(Error::new(
                ErrorKind::Diverged,
                format!(
                    "no update of epoch {} was finite, the last batch was {}; go back to an earlier checkpoint or \
                     lower train.learning_rate",
                    self.position.epoch + 1,
                    sums.last_bad
                ),
            ));
        }
        let folded = fold(engine, &*setup.network, &|name| self.averaged(name))?;
        let packer = packer(setup.recipe, &*setup.network);
        let mut step =
            EvaluationStep::new(engine, &setup.network, &packer, &folded, Extras::default())?;
        let development = setup
            .development
            .iter()
            .map(|set| evaluate(&mut step, set, &setup.tokens))
            .collect::<Result<Vec<_>>>()?;
        let mean = development.iter().map(|score| score.wer).sum::<f64>()
            / development.len().max(1) as f64;
        if development.is_empty() || self.position.best.is_none_or(|best| mean < best) {
            self.position.best = Some(mean);
            self.weights()?.save(&best_path(setup.folder))?;
        }
        Ok(EpochRecord {
            epoch: self.position.epoch,
            step: self.position.step,
            loss: sums.loss / sums.updates.max(1) as f64,
            skipped: sums.skipped,
            infeasible: sums.infeasible,
            development,
            seconds: self.position.seconds,
        })
    }

    /// The averaged weights and statistics alone.
    fn weights(&self) -> Result<Checkpoint> {
        let mut tensors = BTreeMap::new();
        for name in self.store.names() {
            let value = (self.store.shape(name)?, self.averaged(name)?.to_vec());
            tensors.insert(name.clone(), value);
        }
        Ok(Checkpoint {
            position: self.position.clone(),
            tensors,
        })
    }

    /// Everything the run needs to go on.
    fn save(&mut self) -> Result<()> {
        let mut tensors = BTreeMap::new();
        for name in self.store.names() {
            let shape = self.store.shape(name)?;
            let mut put = |prefix: &str, data: &[f32]| {
                tensors.insert(format!("{prefix}/{name}"), (shape.clone(), data.to_vec()));
            };
            put("weights", self.store.get(name)?);
            if let Some(moments) = self.moments.get(name) {
                put("first", &moments.first);
                put("second", &moments.second);
            }
            put("average", self.averaged(name)?);
        }
        let checkpoint = Checkpoint {
            position: self.position.clone(),
            tensors,
        };
        checkpoint.save(&checkpoint_path(self.setup.folder))
    }

    fn restore(&mut self, mut checkpoint: Checkpoint) -> Result<()> {
        let refuse = |what: String| Error::new(ErrorKind::Checkpoint, what);
        if checkpoint.position.recipe != self.position.recipe {
            return Err(refuse(
                "it belongs to another recipe: start with another --run folder, or go back to the recipe \
                 beside it"
                    .to_owned(),
            ));
        }
        let names = self.store.names().to_vec();
        let mut take = |prefix: &str, name: &str, shape: &[usize]| match checkpoint
            .tensors
            .remove(&format!("{prefix}/{name}"))
        {
            Some((found, data)) if found == shape => Ok(data),
            Some((found, _)) => Err(refuse(format!(
                "{prefix}/{name} has shape {found:?}, expected {shape:?}"
            ))),
            None => Err(refuse(format!("{prefix}/{name} is missing"))),
        };
        for name in &names {
            let shape = self.store.shape(name)?;
            self.store
                .insert(name, &shape, &take("weights", name, &shape)?)?;
            let average = take("average", name, &shape)?;
            if let Some(moments) = self.moments.get_mut(name) {
                moments.first = take("first", name, &shape)?;
                moments.second = take("second", name, &shape)?;
                moments.average = average;
            } else {
                self.averaged_statistics.insert(name.clone(), average);
            }
        }
        self.position = checkpoint.position;
        self.optimizer.step = self.position.updates;
        self.seconds_before = self.position.seconds;
        Ok(())
    }
}
