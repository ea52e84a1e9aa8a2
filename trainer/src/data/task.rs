//! What a training needs of its data, whatever the task: recordings and crops differ in nothing else.

use super::images::{ImageData, ImageSet};
use super::loader::Examples;
use super::speech::{SpeechData, SpeechSet};
use super::stats::feature_stats;
use super::store::OnProgress;
use crate::config::{NormalizationKind, Recipe};
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::{Settled, order};
use crate::train::evaluate::Compared;
use crate::train::start::Start;
use acolyte::spec::{FrontEnd, Normalization, Task};
use sha2::{Digest, Sha256};
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Utterances that the features' mean and deviation are measured on.
const MEASURED: usize = 2000;

/// A set to judge on: its name, its items, their texts.
pub type Judged = (String, Box<dyn Examples>, Vec<String>);

/// A recipe's data, opened.
pub trait TaskData: fmt::Debug {
    /// What the data, and the model that the run starts from, decide about the network.
    ///
    /// # Errors
    /// [`ErrorKind::Recipe`] for a front-end that the task does not have; what loading reports.
    fn settle(&self, recipe: &Recipe, start: Option<&Start>) -> Result<Settled>;

    /// Symbols of the longest training target.
    fn longest(&self) -> usize;

    /// Which items are of which set, and how often an epoch sees each.
    fn weights(&self) -> &[(Range<usize>, f32)];

    /// The items to train on.
    ///
    /// # Errors
    /// `Runtime` for a spec that the front-end refuses.
    fn examples(&self, settled: &Settled) -> Result<Box<dyn Examples>>;

    /// Training items as they are, not changed at random.
    ///
    /// # Errors
    /// As [`examples`](Self::examples).
    fn plain(&self, settled: &Settled) -> Result<Box<dyn Examples>>;

    /// Whether [`plain`](Self::plain) has every training item, in order: rendered ones are others in each epoch.
    fn is_fixed(&self) -> bool;

    /// SHA-256 over what the plain items are.
    fn identity(&self) -> [u8; 32];

    /// The sets to judge on.
    ///
    /// # Errors
    /// As [`examples`](Self::examples).
    fn judged(&self, settled: &Settled) -> Result<Vec<Judged>>;

    /// How readings are compared.
    fn compared(&self) -> Compared;

    /// The same data under another recipe, which must name the same sets: a teacher's augmentation differs from its
    /// student's.
    fn under(&self, recipe: &Recipe) -> Box<dyn TaskData>;
}

/// Opens the data that `recipe` names in `folder`.
///
/// # Errors
/// As [`SpeechData::open`] and [`ImageData::open`].
pub fn open(recipe: &Recipe, folder: &Path, progress: OnProgress<'_>) -> Result<Box<dyn TaskData>> {
    Ok(match recipe.task {
        Task::SceneText => Box::new(ImageData::open(recipe, folder, progress)?),
        _ => Box::new(SpeechData::open(recipe, folder, progress)?),
    })
}

/// The normalization of the features, measured where it is fixed.
fn normalization(recipe: &Recipe, data: &SpeechData) -> Result<Normalization> {
    Ok(match recipe.features.normalization {
        NormalizationKind::None => Normalization::None,
        NormalizationKind::Utterance => {
            return Err(Error::new(
                ErrorKind::Recipe,
                "features.normalization = \"utterance\" does not stream, and the conv student streams: use \"fixed\"",
            ));
        }
        NormalizationKind::Fixed => {
            let plain = data.judging(data.train(), &recipe.features.spec(Normalization::None))?;
            let mut picks = order(recipe, SpeechData::weights(data), 0);
            picks.truncate(MEASURED);
            feature_stats(&plain, &picks)?.normalization()
        }
    })
}

impl TaskData for SpeechData {
    fn settle(&self, recipe: &Recipe, start: Option<&Start>) -> Result<Settled> {
        Ok(Settled {
            tokens: recipe.text.tokens_spec(self.alphabet()),
            front_end: match start {
                Some(start) => {
                    let asked = FrontEnd::LogMel(recipe.features.spec(Normalization::None));
                    start.front_end(&asked)?
                }
                None => FrontEnd::LogMel(recipe.features.spec(normalization(recipe, self)?)),
            },
            longest: 1,
            given: None,
        })
    }

    fn longest(&self) -> usize {
        let lengths = self.train().utterances().iter().map(|u| u.targets.len());
        lengths.max().unwrap_or(1)
    }

    fn weights(&self) -> &[(Range<usize>, f32)] {
        SpeechData::weights(self)
    }

    fn examples(&self, settled: &Settled) -> Result<Box<dyn Examples>> {
        Ok(Box::new(self.training(settled.log_mel()?)?))
    }

    fn plain(&self, settled: &Settled) -> Result<Box<dyn Examples>> {
        Ok(Box::new(self.judging(self.train(), settled.log_mel()?)?))
    }

    fn is_fixed(&self) -> bool {
        true
    }

    fn identity(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        for (item, utterance) in self.train().utterances().iter().enumerate() {
            let length = self.train().audio().length(item) as u64;
            hasher.update(utterance.audio.as_os_str().as_encoded_bytes());
            hasher.update(length.to_le_bytes());
            hasher.update(&utterance.text);
            hasher.update([0]);
        }
        hasher.finalize().into()
    }

    fn judged(&self, settled: &Settled) -> Result<Vec<Judged>> {
        let judged = |set: &Arc<SpeechSet>| {
            let examples = self.judging(set, settled.log_mel()?)?;
            let texts = set.utterances().iter().map(|u| u.text.clone()).collect();
            let examples: Box<dyn Examples> = Box::new(examples);
            Ok((set.name.clone(), examples, texts))
        };
        self.dev().iter().map(judged).collect()
    }

    fn compared(&self) -> Compared {
        Compared::AsWritten
    }

    fn under(&self, recipe: &Recipe) -> Box<dyn TaskData> {
        Box::new(SpeechData::under(self, recipe))
    }
}

impl TaskData for ImageData {
    fn settle(&self, recipe: &Recipe, start: Option<&Start>) -> Result<Settled> {
        let line = FrontEnd::Line(recipe.image.spec());
        Ok(Settled {
            tokens: recipe.text.tokens_spec(self.alphabet()),
            front_end: match start {
                Some(start) => start.front_end(&line)?,
                None => line,
            },
            longest: 1,
            given: None,
        })
    }

    fn longest(&self) -> usize {
        ImageData::longest(self)
    }

    fn weights(&self) -> &[(Range<usize>, f32)] {
        ImageData::weights(self)
    }

    fn examples(&self, settled: &Settled) -> Result<Box<dyn Examples>> {
        Ok(Box::new(self.training(settled.line()?)?))
    }

    fn plain(&self, settled: &Settled) -> Result<Box<dyn Examples>> {
        if self.train().images.is_empty() {
            return self.examples(settled);
        }
        Ok(Box::new(self.judging(self.train(), settled.line()?)?))
    }

    fn is_fixed(&self) -> bool {
        !self.renders()
    }

    fn identity(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        for image in &self.train().images {
            hasher.update(image.path.as_os_str().as_encoded_bytes());
            for size in [image.image.width(), image.image.height()] {
                hasher.update((size as u64).to_le_bytes());
            }
            hasher.update(&image.text);
            hasher.update([0]);
        }
        hasher.finalize().into()
    }

    fn judged(&self, settled: &Settled) -> Result<Vec<Judged>> {
        let judged = |set: &Arc<ImageSet>| {
            let examples: Box<dyn Examples> = Box::new(self.judging(set, settled.line()?)?);
            let texts = set.images.iter().map(|image| image.text.clone()).collect();
            Ok((set.name.clone(), examples, texts))
        };
        self.dev().iter().map(judged).collect()
    }

    fn compared(&self) -> Compared {
        Compared::Folded
    }

    fn under(&self, recipe: &Recipe) -> Box<dyn TaskData> {
        Box::new(ImageData::under(self, recipe))
    }
}
