//! From a recipe and a data folder to a run that can start: data opened, features measured, the student's shape
//! settled and written beside the recipe, so that an export later needs neither data nor guesses.

use crate::config::{NormalizationKind, Recipe};
use crate::data::batch::{Pick, picks};
use crate::data::images::{ImageData, ImageSet};
use crate::data::loader::Examples;
use crate::data::speech::{SpeechData, SpeechSet};
use crate::data::stats::feature_stats;
use crate::data::store::OnProgress;
use crate::graph::exec::Engine;
use crate::student::Student;
use crate::train::checkpoint::write_atomically;
use crate::train::evaluate::{Compared, Development};
use crate::train::feed::{load, plan};
use crate::train::run::{
    EpochRecord, Observer, Setup, TrainingData, checkpoint_path, packer, train,
};
use crate::{Error, ErrorKind, Result};
use acolyte::Tokens;
use acolyte::spec::{FrontEnd, LineSpec, LogMelSpec, Normalization, Task, TokensSpec};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Utterances that the features' mean and deviation are measured on.
const MEASURED: usize = 2000;

/// What a run settled from its data: kept as `settled.json` in its folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settled {
    /// The vocabulary.
    pub tokens: TokensSpec,
    /// The front-end with its statistics.
    pub front_end: FrontEnd,
    /// Longest target in the training data.
    pub longest: usize,
}

impl Settled {
    fn path(folder: &Path) -> PathBuf {
        folder.join("settled.json")
    }

    /// Reads what the run in `folder` settled.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] or [`ErrorKind::Checkpoint`], naming the file.
    pub fn load(folder: &Path) -> Result<Self> {
        let path = Self::path(folder);
        let text = std::fs::read_to_string(&path).map_err(|error| Error::io(&path, error))?;
        serde_json::from_str(&text).map_err(|error| {
            Error::new(
                ErrorKind::Checkpoint,
                format!("{error}; the run's folder is damaged: start the run anew"),
            )
            .with_path(&path)
        })
    }

    fn save(&self, folder: &Path) -> Result<()> {
        let path = Self::path(folder);
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::io(&path, std::io::Error::other(error)))?;
        write_atomically(&path, &text)
    }

    /// The log-mel front-end.
    pub fn log_mel(&self) -> Result<&LogMelSpec> {
        match &self.front_end {
            FrontEnd::LogMel(spec) => Ok(spec),
            other => Err(Error::new(
                ErrorKind::Recipe,
                format!("a speech student takes log-mel features, found {other:?}"),
            )),
        }
    }

    /// The line front-end.
    pub fn line(&self) -> Result<&LineSpec> {
        match &self.front_end {
            FrontEnd::Line(spec) => Ok(spec),
            other => Err(Error::new(
                ErrorKind::Recipe,
                format!("a student of scene text takes lines of images, found {other:?}"),
            )),
        }
    }

    /// The student that a recipe describes over this vocabulary.
    pub fn student(&self, recipe: &Recipe) -> Student {
        Student::new(recipe, self.tokens.pieces.len())
    }
}

/// What a run needs of a task's data.
trait TaskData {
    /// What the data decides about the student.
    fn settle(&self, recipe: &Recipe) -> Result<Settled>;
    /// Which items are of which set, and how often an epoch sees each.
    fn weights(&self) -> &[(Range<usize>, f32)];
    /// The items to train on.
    fn examples(&self, settled: &Settled) -> Result<Box<dyn Examples>>;
    /// The sets to judge on: name, items, their texts.
    fn judged(&self, settled: &Settled) -> Result<Vec<(String, Box<dyn Examples>, Vec<String>)>>;
    /// How readings are compared.
    fn compared(&self) -> Compared;
}

/// Options of one sitting.
#[derive(Debug, Clone, Default)]
pub struct Sitting {
    /// Whether to go on from the folder's checkpoint.
    pub resume: bool,
    /// Stop after this many updates.
    pub stop_after: Option<u64>,
}

/// Trains `recipe` on the data in `data`, living in `folder`; returns the last epoch's record.
///
/// # Errors
/// What opening the data, compiling the step and training report.
pub fn run(
    engine: &Engine,
    recipe: &Recipe,
    data: &Path,
    folder: &Path,
    sitting: &Sitting,
    progress: OnProgress<'_>,
    observer: &mut dyn Observer,
) -> Result<Option<EpochRecord>> {
    std::fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
    let data: Box<dyn TaskData> = match recipe.task {
        Task::SceneText => Box::new(ImageData::open(recipe, data, progress)?),
        _ => Box::new(SpeechData::open(recipe, data, progress)?),
    };
    let resume = sitting.resume && checkpoint_path(folder).exists();
    let settled = if resume {
        Settled::load(folder)?
    } else {
        let settled = data.settle(recipe)?;
        settled.save(folder)?;
        settled
    };
    let student = settled.student(recipe);
    let examples = data.examples(&settled)?;
    let setup = Setup {
        recipe,
        folder,
        tokens: Arc::new(Tokens::new(settled.tokens.clone())?),
        longest: settled.longest,
        development: development(recipe, &*data, &settled, &student)?,
        student,
        resume,
        stop_after: sitting.stop_after,
    };
    let order = |epoch: u64| order(recipe, data.weights(), epoch);
    let training = TrainingData {
        examples: &*examples,
        order: &order,
    };
    train(engine, &setup, &training, observer)
}

/// The picks of an epoch in random order.
fn order(recipe: &Recipe, weights: &[(Range<usize>, f32)], epoch: u64) -> Vec<Pick> {
    let mut picks = picks(weights, recipe.seed, epoch);
    let mut random = ChaCha8Rng::seed_from_u64(recipe.seed);
    random.set_stream(epoch);
    picks.shuffle(&mut random);
    picks
}

impl TaskData for SpeechData {
    fn settle(&self, recipe: &Recipe) -> Result<Settled> {
        let normalization = match recipe.features.normalization {
            NormalizationKind::None => Normalization::None,
            NormalizationKind::Utterance => {
                return Err(Error::new(
                    ErrorKind::Recipe,
                    "features.normalization = \"utterance\" does not stream, and the conv student streams: use \"fixed\"",
                ));
            }
            NormalizationKind::Fixed => {
                let plain =
                    self.judging(self.train(), &recipe.features.spec(Normalization::None))?;
                let mut picks = order(recipe, SpeechData::weights(self), 0);
                picks.truncate(MEASURED);
                feature_stats(&plain, &picks)?.normalization()
            }
        };
        let utterances = self.train().utterances();
        Ok(Settled {
            tokens: recipe.text.tokens_spec(self.alphabet()),
            front_end: FrontEnd::LogMel(recipe.features.spec(normalization)),
            longest: utterances
                .iter()
                .map(|utterance| utterance.targets.len())
                .max()
                .unwrap_or(1),
        })
    }

    fn weights(&self) -> &[(Range<usize>, f32)] {
        SpeechData::weights(self)
    }

    fn examples(&self, settled: &Settled) -> Result<Box<dyn Examples>> {
        Ok(Box::new(self.training(settled.log_mel()?)?))
    }

    fn judged(&self, settled: &Settled) -> Result<Vec<(String, Box<dyn Examples>, Vec<String>)>> {
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
}

impl TaskData for ImageData {
    fn settle(&self, recipe: &Recipe) -> Result<Settled> {
        Ok(Settled {
            tokens: recipe.text.tokens_spec(self.alphabet()),
            front_end: FrontEnd::Line(recipe.image.spec()),
            longest: self.longest(),
        })
    }

    fn weights(&self) -> &[(Range<usize>, f32)] {
        ImageData::weights(self)
    }

    fn examples(&self, settled: &Settled) -> Result<Box<dyn Examples>> {
        Ok(Box::new(self.training(settled.line()?)?))
    }

    fn judged(&self, settled: &Settled) -> Result<Vec<(String, Box<dyn Examples>, Vec<String>)>> {
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
}

/// The development sets as packed rows.
fn development(
    recipe: &Recipe,
    data: &dyn TaskData,
    settled: &Settled,
    student: &Student,
) -> Result<Vec<Development>> {
    let packer = packer(recipe, student);
    let packed = |(name, examples, texts): (String, Box<dyn Examples>, Vec<String>)| {
        let picks: Vec<Pick> = (0..examples.len())
            .map(|item| Pick { item, copy: 0 })
            .collect();
        let rows = plan(&*examples, &packer, &picks, 0)?
            .iter()
            .map(|picks| load(&*examples, &packer, picks, 0))
            .collect::<Result<_>>()?;
        Ok(Development {
            name,
            rows,
            texts,
            compared: data.compared(),
        })
    };
    data.judged(settled)?.into_iter().map(packed).collect()
}
