//! One utterance of one epoch: waveform changes, the runtime's front-end, masks.

use super::SpeechSet;
use crate::config::Recipe;
use crate::data::augment::{Augmenter, Draw, Key};
use crate::data::batch::Pick;
use crate::data::loader::{Example, Examples};
use crate::data::rows::Utterance;
use crate::data::text::frames_needed;
use crate::error::{Error, ErrorKind, Result};
use acolyte::features::Fbank;
use acolyte::spec::LogMelSpec;
use ndarray::{Array2, Axis};
use std::sync::Arc;

/// One set through one front-end.
#[derive(Debug)]
pub struct SpeechExamples {
    set: Arc<SpeechSet>,
    fbank: Fbank,
    augmenter: Option<Augmenter>,
    seed: u64,
    stride: usize,
}

impl SpeechExamples {
    pub(super) fn new(
        set: Arc<SpeechSet>,
        spec: &LogMelSpec,
        recipe: &Recipe,
        augmenter: Option<Augmenter>,
    ) -> Result<Self> {
        Ok(Self {
            set,
            fbank: Fbank::new(spec)?,
            augmenter,
            seed: recipe.seed,
            stride: recipe.model.stride.max(1),
        })
    }

    /// The set.
    pub fn set(&self) -> &Arc<SpeechSet> {
        &self.set
    }

    /// The changes of this pick in this epoch; an utterance that would become too short for its transcript keeps
    /// its speed.
    fn draw(&self, augmenter: &Augmenter, pick: Pick, epoch: u64) -> Draw {
        let draw = augmenter.draw(Key {
            seed: self.seed,
            epoch,
            item: pick.item as u64,
            copy: pick.copy as u64,
        });
        let frames = self
            .fbank
            .frames(draw.samples(self.set.audio.length(pick.item)));
        let needed = self
            .set
            .utterances
            .get(pick.item)
            .map_or(0, |utterance| frames_needed(&utterance.targets));
        if frames / self.stride < needed {
            draw.unhurried()
        } else {
            draw
        }
    }
}

impl Examples for SpeechExamples {
    fn len(&self) -> usize {
        self.set.utterances.len()
    }

    fn dimensions(&self) -> (usize, usize) {
        (self.fbank.features(), 1)
    }

    fn frames(&self, pick: Pick, epoch: u64) -> usize {
        let samples = self.set.audio.length(pick.item);
        self.fbank.frames(match &self.augmenter {
            Some(augmenter) => self.draw(augmenter, pick, epoch).samples(samples),
            None => samples,
        })
    }

    fn symbols(&self, pick: Pick, _epoch: u64) -> usize {
        let utterance = self.set.utterances.get(pick.item);
        utterance.map_or(0, |utterance| utterance.targets.len())
    }

    fn longest(&self, item: usize) -> usize {
        let samples = self.set.audio.length(item);
        self.fbank.frames(match &self.augmenter {
            Some(augmenter) => augmenter.longest(samples),
            None => samples,
        })
    }

    fn load(&self, pick: Pick, epoch: u64) -> Result<Example> {
        let utterance = self.set.utterances.get(pick.item).ok_or_else(|| {
            Error::new(
                ErrorKind::Data,
                format!("utterance {} of {}", pick.item, self.set.utterances.len()),
            )
        })?;
        let audio = self.set.audio.samples(pick.item)?;
        let features = match &self.augmenter {
            Some(augmenter) => {
                let draw = self.draw(augmenter, pick, epoch);
                let samples = augmenter.waveform(&draw, &audio, &*self.set)?;
                let mut features = self.compute(utterance, &samples)?;
                augmenter.features(&draw, features.view_mut());
                features
            }
            None => {
                let samples: Vec<f32> = audio.iter().map(|&x| f32::from(x) / 32_768.0).collect();
                self.compute(utterance, &samples)?
            }
        };
        Ok(Example {
            features: features.reversed_axes().insert_axis(Axis(1)),
            targets: utterance.targets.clone(),
            name: utterance.audio.display().to_string(),
            text: utterance.text.clone(),
        })
    }
}

impl SpeechExamples {
    fn compute(&self, utterance: &Utterance, samples: &[f32]) -> Result<Array2<f32>> {
        self.fbank
            .compute(samples)
            .map_err(|e| Error::from(e).with_path(&utterance.audio))
    }
}
