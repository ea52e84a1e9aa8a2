//! A trained teacher as a function: features and transcript in, log-posteriors out.

use crate::config::Recipe;
use crate::graph::exec::Engine;
use crate::network::{Network, fold};
use crate::pipeline::Settled;
use crate::train::checkpoint::{Checkpoint, hex};
use crate::train::pack::{Packer, Utterance};
use crate::train::run::{best_path, packer};
use crate::train::step::{EvaluationStep, Extras};
use crate::{Error, ErrorKind, Result};
use ndarray::Array2;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;

/// What a teacher is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// Features `[F, T]`.
    pub features: Array2<f32>,
    /// The transcript's symbols.
    pub targets: Vec<u32>,
    /// For messages.
    pub name: String,
}

/// What a teacher answers, T' = ceil(T / stride).
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Log-posteriors `[T', V]`.
    pub log_probs: Array2<f32>,
    /// The last hidden value `[T', C]`, where it was asked for.
    pub hidden: Option<Array2<f32>>,
    /// What each frame attends to, `[T', U]`, where it was asked for and there is such a thing.
    pub attention: Option<Array2<f32>>,
}

/// Whoever gives posteriors over frames for audio and transcript.
pub trait Aligner {
    /// Features a frame: F.
    fn features(&self) -> usize;

    /// Feature frames per output frame.
    fn stride(&self) -> usize;

    /// The blank's id.
    fn blank(&self) -> u32;

    /// One answer for each question, in order.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] for a question that is too long for it.
    fn ask(&mut self, questions: &[Question]) -> Result<Vec<Answer>>;
}

/// A teacher from a run's folder.
#[derive(Debug)]
pub struct Teacher {
    network: Arc<dyn Network>,
    packer: Packer,
    step: EvaluationStep,
    settled: Settled,
    recipe: Recipe,
    identity: String,
}

impl Teacher {
    /// Opens the best weights of the run in `folder`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] and [`ErrorKind::Checkpoint`], naming the file; what compiling reports.
    pub fn open(engine: &Engine, folder: &Path, extras: Extras) -> Result<Self> {
        let none: [&str; 0] = [];
        let recipe = Recipe::load(folder.join("recipe.toml"), &none)?;
        let settled = Settled::load(folder)?;
        let path = best_path(folder);
        let weights = Checkpoint::load(&path)?;
        let network = settled.network(&recipe)?;
        let get = |name: &str| {
            weights
                .tensors
                .get(name)
                .map(|(_, data)| data.as_slice())
                .ok_or_else(|| {
                    Error::new(ErrorKind::Checkpoint, format!("{name} is missing")).with_path(&path)
                })
        };
        let folded = fold(engine, &*network, &get)?;
        let packer = packer(&recipe, &*network);
        let step = EvaluationStep::new(engine, &network, &packer, &folded, extras)?;
        let mut hasher = Sha256::new();
        hasher.update(recipe.to_toml()?);
        for (name, (_, data)) in &weights.tensors {
            hasher.update(name);
            for value in data {
                hasher.update(value.to_le_bytes());
            }
        }
        Ok(Self {
            identity: hex(&hasher.finalize()),
            network,
            packer,
            step,
            settled,
            recipe,
        })
    }

    /// What its run settled: vocabulary and front-end.
    pub fn settled(&self) -> &Settled {
        &self.settled
    }

    /// The recipe it was trained by.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Channels of its last hidden value.
    pub fn hidden_channels(&self) -> usize {
        self.network.hidden_channels()
    }

    /// SHA-256 of its recipe and weights.
    pub fn identity(&self) -> &str {
        &self.identity
    }
}

impl Aligner for Teacher {
    fn features(&self) -> usize {
        self.network.features()
    }

    fn stride(&self) -> usize {
        self.network.stride()
    }

    fn blank(&self) -> u32 {
        self.settled.tokens.blank
    }

    fn ask(&mut self, questions: &[Question]) -> Result<Vec<Answer>> {
        let mut answers = Vec::with_capacity(questions.len());
        let mut next = 0;
        while next < questions.len() {
            let mut row = self.packer.row();
            while let Some(question) = questions.get(next) {
                let (frames, symbols) = (question.features.ncols(), question.targets.len());
                if !row.segments.is_empty() && !self.packer.fits(&row, frames, symbols) {
                    break;
                }
                let utterance = Utterance {
                    targets: question.targets.clone(),
                    name: question.name.clone(),
                    index: next,
                };
                self.packer
                    .place(&mut row, question.features.view(), utterance)?;
                next += 1;
            }
            let logits = self.step.run(&row)?;
            let mut hidden = self.step.hidden(&row).ok().map(Vec::into_iter);
            let mut attention = self.step.attention(&row).ok().map(Vec::into_iter);
            for scores in logits {
                answers.push(Answer {
                    log_probs: log_softmax(scores),
                    hidden: hidden.as_mut().and_then(Iterator::next),
                    attention: attention.as_mut().and_then(Iterator::next),
                });
            }
        }
        Ok(answers)
    }
}

/// The log-softmax of each row.
pub fn log_softmax(mut scores: Array2<f32>) -> Array2<f32> {
    for mut row in scores.outer_iter_mut() {
        let top = row.fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        let sum: f64 = row.iter().map(|&x| f64::from(x - top).exp()).sum();
        let norm = top + sum.ln() as f32;
        row.mapv_inplace(|x| x - norm);
    }
    scores
}
