//! From a recipe and a data folder to a run that can start: data opened, features measured, the student's shape
//! settled and written beside the recipe, so that an export later needs neither data nor guesses.

use crate::config::{NormalizationKind, Recipe};
use crate::data::batch::{Pick, picks};
use crate::data::loader::Examples;
use crate::data::speech::{SpeechData, SpeechExamples, SpeechSet};
use crate::data::stats::feature_stats;
use crate::data::store::OnProgress;
use crate::graph::exec::Engine;
use crate::network::Network;
use crate::student::speech::SpeechStudent;
use crate::student::student;
use crate::teacher::OracleTeacher;
use crate::train::checkpoint::write_atomically;
use crate::train::evaluate::Development;
use crate::train::feed::{load, plan};
use crate::train::run::{
    EpochRecord, Observer, Setup, TrainingData, checkpoint_path, packer, train,
};
use crate::train::supervise::Supervision;
use crate::{Error, ErrorKind, Result};
use acolyte::Tokens;
use acolyte::spec::{FrontEnd, LogMelSpec, Normalization, TokensSpec};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
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
    /// Longest target in the training data; for a model that reads its label, in all data.
    pub longest: usize,
    /// For a model that reads its label: symbols that any row may hold, and the longest utterance in output frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<Given>,
}

/// How much a model that reads its label must have room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// Symbols of a row.
    pub symbols: usize,
    /// Output frames of an utterance.
    pub frames: usize,
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

    pub(crate) fn save(&self, folder: &Path) -> Result<()> {
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

    /// The network that a recipe describes over this vocabulary and these features.
    ///
    /// # Errors
    /// [`ErrorKind::Recipe`] for another front-end, [`ErrorKind::Checkpoint`] where the run in the folder was of
    /// another kind.
    pub fn network(&self, recipe: &Recipe) -> Result<Arc<dyn Network>> {
        let source = self.student(recipe)?;
        match (&recipe.target, self.given) {
            (None, _) => Ok(student(source.features, source.vocabulary, &recipe.model)),
            (Some(target), Some(given)) => Ok(Arc::new(OracleTeacher {
                source,
                target: target.clone(),
                capacity: given.symbols,
                longest: self.longest,
                frames: given.frames,
            })),
            (Some(_), None) => Err(Error::new(
                ErrorKind::Checkpoint,
                "settled.json is of a model that does not read its label: start the run anew",
            )),
        }
    }

    /// The convolutional student, or source encoder, that a recipe describes over this vocabulary and these features.
    pub fn student(&self, recipe: &Recipe) -> Result<SpeechStudent> {
        Ok(SpeechStudent {
            features: self.log_mel()?.mels,
            vocabulary: self.tokens.pieces.len(),
            config: recipe.model.clone(),
        })
    }
}

/// Options of one sitting.
#[derive(Debug, Clone, Default)]
pub struct Sitting {
    /// Vocabulary and front-end to take instead of settling them from the data: a student's are its teacher's.
    pub settled: Option<Settled>,
    /// What the network learns from beside the transcripts.
    pub supervision: Option<Arc<dyn Supervision>>,
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
    let data = SpeechData::open(recipe, data, progress)?;
    run_on(engine, recipe, &data, folder, sitting, observer)
}

/// As [`run`], on data that was opened for this recipe.
///
/// # Errors
/// What compiling the step and training report.
pub fn run_on(
    engine: &Engine,
    recipe: &Recipe,
    data: &SpeechData,
    folder: &Path,
    sitting: &Sitting,
    observer: &mut dyn Observer,
) -> Result<Option<EpochRecord>> {
    std::fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
    let resume = sitting.resume && checkpoint_path(folder).exists();
    let settled = if resume {
        Settled::load(folder)?
    } else {
        let mut settled = match &sitting.settled {
            Some(settled) => settled.clone(),
            None => settle(recipe, data)?,
        };
        settled.measure(recipe, data)?;
        settled.save(folder)?;
        settled
    };
    let spec = settled.log_mel()?.clone();
    let network = settled.network(recipe)?;
    let examples = data.training(&spec)?;
    let setup = Setup {
        recipe,
        folder,
        tokens: Arc::new(Tokens::new(settled.tokens.clone())?),
        longest: settled.longest,
        development: development(recipe, data, &spec, &*network)?,
        network,
        supervision: sitting.supervision.clone(),
        resume,
        stop_after: sitting.stop_after,
    };
    let order = |epoch: u64| order(recipe, data, epoch);
    let training = TrainingData {
        examples: &examples,
        order: &order,
    };
    train(engine, &setup, &training, observer)
}

/// The picks of an epoch in random order.
fn order(recipe: &Recipe, data: &SpeechData, epoch: u64) -> Vec<Pick> {
    let mut picks = picks(data.weights(), recipe.seed, epoch);
    let mut random = ChaCha8Rng::seed_from_u64(recipe.seed);
    random.set_stream(epoch);
    picks.shuffle(&mut random);
    picks
}

/// Vocabulary and front-end of a recipe, its statistics measured on the training data.
///
/// # Errors
/// [`ErrorKind::Recipe`] for a normalization that does not stream; what loading reports.
pub fn settle(recipe: &Recipe, data: &SpeechData) -> Result<Settled> {
    let normalization = match recipe.features.normalization {
        NormalizationKind::None => Normalization::None,
        NormalizationKind::Utterance => {
            return Err(Error::new(
                ErrorKind::Recipe,
                "features.normalization = \"utterance\" does not stream, and the conv student streams: use \"fixed\"",
            ));
        }
        NormalizationKind::Fixed => {
            let plain = data.judging(data.train(), &recipe.features.spec(Normalization::None))?;
            let mut picks = order(recipe, data, 0);
            picks.truncate(MEASURED);
            feature_stats(&plain, &picks)?.normalization()
        }
    };
    let mut settled = Settled {
        tokens: recipe.text.tokens_spec(data.alphabet()),
        front_end: FrontEnd::LogMel(recipe.features.spec(normalization)),
        longest: 1,
        given: None,
    };
    settled.measure(recipe, data)?;
    Ok(settled)
}

impl Settled {
    /// Notes how long transcripts are, and how densely they may stand in a row.
    fn measure(&mut self, recipe: &Recipe, data: &SpeechData) -> Result<()> {
        let longest = |set: &SpeechSet| {
            let lengths = set.utterances().iter().map(|u| u.targets.len());
            lengths.max().unwrap_or(1)
        };
        self.longest = longest(data.train());
        self.given = None;
        if recipe.target.is_none() {
            return Ok(());
        }
        let dev = data.dev().iter().map(|set| longest(set));
        self.longest = dev.fold(self.longest, usize::max);
        let packer = packer(recipe, &self.student(recipe)?);
        let [_, fastest] = recipe.augment.speed_interval();
        let plain = data.judging(data.train(), self.log_mel()?)?;
        let mut density = 0.0f64;
        let mut frames = 1;
        let mut note = |examples: &SpeechExamples, hurry: f32| {
            for (item, utterance) in examples.set().utterances().iter().enumerate() {
                let own = examples.frames(Pick { item, copy: 0 }, 0);
                let shortest = (own as f64 / f64::from(hurry)).floor() as usize;
                density =
                    density.max(utterance.targets.len() as f64 / packer.span(shortest) as f64);
                frames = frames.max(own.div_ceil(packer.stride));
            }
        };
        note(&plain, fastest);
        for set in data.dev() {
            note(&data.judging(set, self.log_mel()?)?, 1.0);
        }
        let [slowest, _] = recipe.augment.speed_interval();
        let padding = recipe
            .augment
            .shift
            .as_ref()
            .map_or(0.0, |shift| shift.before + shift.after);
        let rate = recipe.features.sample_rate as f32 / recipe.features.hop_length as f32;
        let extra = (padding * rate) as usize / packer.stride + 2;
        // Spans with their gaps fill a row and at most one gap beyond it.
        let symbols = (density * (packer.width + packer.gap) as f64).ceil() as usize;
        self.given = Some(Given {
            symbols: symbols.max(self.longest),
            frames: (frames as f32 / slowest).ceil() as usize + extra,
        });
        Ok(())
    }
}

/// The development sets as packed rows.
fn development(
    recipe: &Recipe,
    data: &SpeechData,
    spec: &LogMelSpec,
    network: &dyn Network,
) -> Result<Vec<Development>> {
    let packer = packer(recipe, network);
    data.dev()
        .iter()
        .map(|set| {
            let examples: SpeechExamples = data.judging(set, spec)?;
            let picks: Vec<Pick> = (0..examples.len())
                .map(|item| Pick { item, copy: 0 })
                .collect();
            let rows = plan(&examples, &packer, &picks, 0)?
                .iter()
                .map(|picks| load(&examples, &packer, picks, 0))
                .collect::<Result<_>>()?;
            Ok(Development {
                name: set.name.clone(),
                rows,
                texts: set
                    .utterances()
                    .iter()
                    .map(|utterance| utterance.text.clone())
                    .collect(),
            })
        })
        .collect()
}
