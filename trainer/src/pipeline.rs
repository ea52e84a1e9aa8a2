//! From a recipe and a data folder to a run that can start: data opened, features measured, the student's shape
//! settled and written beside the recipe, so that an export later needs neither data nor guesses.

use crate::config::{ModelKind, Recipe};
use crate::data::batch::{Pick, picks};
use crate::data::store::OnProgress;
use crate::data::task::{self, Judged, TaskData};
use crate::graph::exec::Engine;
use crate::network::{Encoder, Network};
use crate::report::write_report;
use crate::student::speech::SpeechStudent;
use crate::student::student;
use crate::student::text::TextStudent;
use crate::teacher::OracleTeacher;
use crate::train::checkpoint::{Checkpoint, write_atomically};
use crate::train::evaluate::Development;
use crate::train::feed::{load, plan};
use crate::train::run::{
    EpochRecord, Observer, Setup, TrainingData, checkpoint_path, packer, train,
};
use crate::train::start::Start;
use crate::train::supervise::Supervision;
use crate::{Error, ErrorKind, Result};
use acolyte::Tokens;
use acolyte::spec::{FrontEnd, LineSpec, LogMelSpec, TokensSpec};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Symbols that a row of a model that reads its label has room for, over those of a mean row. Rows are planned so that
/// none has more.
const ROOM: f64 = 1.25;

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

    /// The network that a recipe describes over this vocabulary and these features.
    ///
    /// # Errors
    /// [`ErrorKind::Recipe`] for another front-end, [`ErrorKind::Checkpoint`] where the run in the folder was of
    /// another kind.
    pub fn network(&self, recipe: &Recipe) -> Result<Arc<dyn Network>> {
        match (&recipe.target, self.given) {
            (None, _) => Ok(student(recipe, self.tokens.pieces.len())),
            (Some(target), Some(given)) => Ok(Arc::new(OracleTeacher {
                source: self.source(recipe)?,
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

    /// The source encoder of an Oracle Teacher that a recipe describes over this vocabulary and these features.
    ///
    /// # Errors
    /// [`ErrorKind::Recipe`] for another front-end.
    pub fn source(&self, recipe: &Recipe) -> Result<Arc<dyn Encoder>> {
        let vocabulary = self.tokens.pieces.len();
        Ok(match (recipe.model.kind, &self.front_end) {
            (ModelKind::Conv, FrontEnd::LogMel(mel)) => Arc::new(SpeechStudent {
                features: mel.mels,
                vocabulary,
                config: recipe.model.clone(),
            }),
            (ModelKind::Image, FrontEnd::Line(_)) => Arc::new(TextStudent::new(recipe, vocabulary)),
            (kind, _) => {
                return Err(Error::new(
                    ErrorKind::Recipe,
                    format!(
                        "an oracle teacher's source encoder is of the kind conv over speech or image over lines; \
                         {kind:?} is not, or reads something else"
                    ),
                ));
            }
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
    /// Whether to go on from the checkpoint before that one, which then takes its place: the one is damaged.
    pub previous: bool,
    /// Stop after this many updates.
    pub stop_after: Option<u64>,
}

/// Trains `recipe` on the data in `data`, living in `folder`; returns the last epoch's record. However the sitting
/// ends, `report.html` in the folder shows the run up to there.
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
    let start = begin(recipe, folder, sitting)?;
    let data = task::open(recipe, data, progress)?;
    run_with(engine, recipe, &*data, folder, sitting, start, observer)
}

/// As [`run`], on data that was opened for this recipe.
///
/// # Errors
/// What compiling the step and training report.
pub fn run_on(
    engine: &Engine,
    recipe: &Recipe,
    data: &dyn TaskData,
    folder: &Path,
    sitting: &Sitting,
    observer: &mut dyn Observer,
) -> Result<Option<EpochRecord>> {
    let start = begin(recipe, folder, sitting)?;
    run_with(engine, recipe, data, folder, sitting, start, observer)
}

/// Whether a sitting goes on from a checkpoint.
fn resumes(folder: &Path, sitting: &Sitting) -> bool {
    sitting.resume && checkpoint_path(folder).exists()
}

/// Makes the folder ready; the model that a new run starts from.
fn begin(recipe: &Recipe, folder: &Path, sitting: &Sitting) -> Result<Option<Start>> {
    std::fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
    if sitting.previous {
        Checkpoint::go_back(&checkpoint_path(folder))?;
    }
    match &recipe.start_from {
        Some(config) if !resumes(folder, sitting) => Ok(Some(Start::open(config)?)),
        _ => Ok(None),
    }
}

fn run_with(
    engine: &Engine,
    recipe: &Recipe,
    data: &dyn TaskData,
    folder: &Path,
    sitting: &Sitting,
    start: Option<Start>,
    observer: &mut dyn Observer,
) -> Result<Option<EpochRecord>> {
    let resume = resumes(folder, sitting);
    let settled = if resume {
        Settled::load(folder)?
    } else {
        let mut settled = match &sitting.settled {
            Some(settled) => {
                if let Some(start) = &start {
                    start.front_end(&settled.front_end)?;
                }
                settled.clone()
            }
            None => data.settle(recipe, start.as_ref())?,
        };
        settled.make_room(recipe, data)?;
        settled.save(folder)?;
        settled
    };
    let network = settled.network(recipe)?;
    let examples = data.examples(&settled)?;
    let setup = Setup {
        recipe,
        folder,
        tokens: Arc::new(Tokens::new(settled.tokens.clone())?),
        longest: settled.longest,
        development: development(recipe, data, &settled, &*network)?,
        network,
        supervision: sitting.supervision.clone(),
        start,
        resume,
        stop_after: sitting.stop_after,
    };
    let order = |epoch: u64| order(recipe, data.weights(), epoch);
    let training = TrainingData {
        examples: &*examples,
        order: &order,
    };
    let result = train(engine, &setup, &training, observer);
    // A run that failed is looked at too, and one that trained has not failed for want of a report.
    if let Err(error) = write_report(folder) {
        observer.note(&format!("no report: {error}"));
    }
    result
}

/// The picks of an epoch in random order.
pub fn order(recipe: &Recipe, weights: &[(Range<usize>, f32)], epoch: u64) -> Vec<Pick> {
    let mut picks = picks(weights, recipe.seed, epoch);
    let mut random = ChaCha8Rng::seed_from_u64(recipe.seed);
    random.set_stream(epoch);
    picks.shuffle(&mut random);
    picks
}

/// Vocabulary and front-end of a recipe, its statistics measured on the training data.
///
/// # Errors
/// [`ErrorKind::Recipe`] for a normalization that does not stream; what loading reports.
pub fn settle(recipe: &Recipe, data: &dyn TaskData) -> Result<Settled> {
    let mut settled = data.settle(recipe, None)?;
    settled.make_room(recipe, data)?;
    Ok(settled)
}

impl Settled {
    /// Notes how long the data's targets are and, for a model that reads them, how many a row must hold.
    fn make_room(&mut self, recipe: &Recipe, data: &dyn TaskData) -> Result<()> {
        self.longest = data.longest();
        self.given = None;
        if recipe.target.is_none() {
            return Ok(());
        }
        let training = data.examples(self)?;
        let judged = data.judged(self)?;
        let sets = || judged.iter().map(|(_, examples, _)| &**examples);
        let first = |item| Pick { item, copy: 0 };
        for set in sets() {
            let symbols = (0..set.len()).map(|item| set.symbols(first(item), 0));
            self.longest = symbols.fold(self.longest, usize::max);
        }
        let packer = packer(recipe, &*self.source(recipe)?);
        let (symbols, span) = order(recipe, data.weights(), 0)
            .par_iter()
            .map(|&pick| {
                let frames = training.frames(pick, 0);
                (training.symbols(pick, 0), packer.span(frames))
            })
            .reduce(|| (0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        let mean = symbols as f64 * packer.width as f64 / span.max(1) as f64;
        let frames = sets()
            .chain([&*training])
            .flat_map(|set| (0..set.len()).map(|item| set.longest(item)))
            .max();
        self.given = Some(Given {
            symbols: ((ROOM * mean).ceil() as usize).max(self.longest),
            frames: frames.unwrap_or(1).div_ceil(packer.stride),
        });
        Ok(())
    }
}

/// The development sets as packed rows.
fn development(
    recipe: &Recipe,
    data: &dyn TaskData,
    settled: &Settled,
    network: &dyn Network,
) -> Result<Vec<Development>> {
    let packer = packer(recipe, network);
    let packed = |(name, examples, texts): Judged| {
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
