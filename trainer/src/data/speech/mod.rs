//! Speech for training and judging: manifests, decoded audio, augmentation, log-mel features.
//!
//! [`SpeechData::open`] reads a recipe's manifests and decodes their audio; [`SpeechData::training`] and
//! [`SpeechData::judging`] give examples with features `[C = mels, H = 1, T]` from the runtime's own
//! front-end, the first with the recipe's augmentation, the second without.

mod examples;

pub use examples::SpeechExamples;

use super::augment::{Augmenter, Voices};
use super::rows::{DroppedRow, Reason, RecipeRows, Rows, Utterance, drop_or_refuse};
use super::store::{AudioStore, CacheBudget, OnProgress};
use super::text::frames_needed;
use crate::config::Recipe;
use crate::error::{Error, ErrorKind, Result};
use acolyte::Tokens;
use acolyte::features::Fbank;
use acolyte::spec::{LogMelSpec, Normalization};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Utterances with their audio.
#[derive(Debug)]
pub struct SpeechSet {
    /// The set's name; `train` for the training sets together.
    pub name: String,
    utterances: Vec<Utterance>,
    audio: AudioStore,
}

impl SpeechSet {
    /// The utterances.
    pub fn utterances(&self) -> &[Utterance] {
        &self.utterances
    }

    /// Their audio, in the same order.
    pub fn audio(&self) -> &AudioStore {
        &self.audio
    }

    /// Hours of audio.
    pub fn hours(&self, rate: u32) -> f64 {
        let samples: usize = (0..self.audio.len()).map(|i| self.audio.length(i)).sum();
        samples as f64 / f64::from(rate) / 3600.0
    }
}

impl Voices for SpeechSet {
    fn len(&self) -> usize {
        self.audio.len()
    }

    fn voice(&self, index: usize) -> Result<Arc<[i16]>> {
        self.audio.samples(index)
    }
}

/// How the audio of some utterances is had, and which of them cannot be.
type Decode<'a> = &'a dyn Fn(&[Utterance], &mut CacheBudget) -> (AudioStore, Vec<(usize, Error)>);

/// All data of a speech recipe.
#[derive(Debug, Clone)]
pub struct SpeechData {
    recipe: Recipe,
    tokens: Tokens,
    alphabet: Vec<String>,
    train: Arc<SpeechSet>,
    weights: Vec<(Range<usize>, f32)>,
    dev: Vec<Arc<SpeechSet>>,
    dropped: Vec<DroppedRow>,
}

impl SpeechData {
    /// Reads the manifests of `recipe`, which lie in `folder`, and decodes all audio.
    ///
    /// # Errors
    /// As [`RecipeRows::read`]; also `Data` for audio that cannot be decoded and for a transcript that needs more
    /// output frames than its audio has (training only), unless `bad_rows` is `drop`; and for a training set
    /// without a usable row.
    pub fn open(recipe: &Recipe, folder: &Path, progress: OnProgress<'_>) -> Result<Self> {
        Self::open_with(recipe, folder, &|utterances, budget| {
            AudioStore::decode(utterances, recipe.features.sample_rate, budget, progress)
        })
    }

    /// As [`open`](Self::open), but decodes nothing: lengths are those that the manifests declare.
    ///
    /// # Errors
    /// As [`open`](Self::open), but for audio that cannot be decoded.
    pub fn declared(recipe: &Recipe, folder: &Path) -> Result<Self> {
        Self::open_with(recipe, folder, &|utterances, _| {
            let audio = AudioStore::declared(utterances, recipe.features.sample_rate);
            (audio, Vec::new())
        })
    }

    fn open_with(recipe: &Recipe, folder: &Path, decode: Decode<'_>) -> Result<Self> {
        let rows = RecipeRows::read(recipe, folder)?;
        let fbank = Fbank::new(&recipe.features.spec(Normalization::None))?;
        let mut budget = CacheBudget::from_mib(recipe.data.cache_mib);
        let mut dropped = rows.dropped;

        let mut weights: Vec<(Range<usize>, f32)> = Vec::new();
        let mut train = Vec::new();
        for set in &rows.train {
            weights.push((train.len()..train.len() + set.utterances.len(), set.repeat));
            train.extend(set.utterances.iter().cloned());
        }
        let (mut audio, failed) = decode(&train, &mut budget);
        let mut failed = failed.into_iter().peekable();
        let mut unusable = Vec::new();
        for (set, (range, _)) in rows.train.iter().zip(&weights) {
            for index in range.clone() {
                let fault = match failed.next_if(|(at, _)| *at == index) {
                    Some((_, error)) => Some((Reason::Unreadable, error.to_string())),
                    None => infeasible(&train[index], fbank.frames(audio.length(index)), recipe)
                        .map(|message| (Reason::Infeasible, message)),
                };
                if let Some((reason, message)) = fault {
                    let line = train[index].line;
                    drop_or_refuse(&mut dropped, recipe, &set.manifest, line, reason, message)?;
                    unusable.push(index);
                }
            }
        }
        remove(&mut train, &mut audio, &unusable);
        for (range, _) in &mut weights {
            let before = |end: usize| end - unusable.partition_point(|&index| index < end);
            *range = before(range.start)..before(range.end);
        }
        if !weights
            .iter()
            .any(|(range, repeat)| !range.is_empty() && *repeat > 0.0)
        {
            return Err(Error::new(
                ErrorKind::Data,
                format!("no usable training row; {} were left out", dropped.len()),
            ));
        }

        let mut dev = Vec::new();
        for set in rows.dev {
            let set = open_dev(set, recipe, &mut budget, &mut dropped, decode)?;
            dev.push(Arc::new(set));
        }
        Ok(Self {
            recipe: recipe.clone(),
            tokens: rows.tokens,
            alphabet: rows.alphabet,
            train: Arc::new(SpeechSet {
                name: "train".to_owned(),
                utterances: train,
                audio,
            }),
            weights,
            dev,
            dropped,
        })
    }

    /// The same data under another recipe, which must name the same sets: a teacher's augmentation differs from its
    /// student's.
    pub fn under(&self, recipe: &Recipe) -> Self {
        Self {
            recipe: recipe.clone(),
            ..self.clone()
        }
    }

    /// The vocabulary.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The tokens without the blank, in id order from 1.
    pub fn alphabet(&self) -> &[String] {
        &self.alphabet
    }

    /// The training utterances, all sets one after another.
    pub fn train(&self) -> &Arc<SpeechSet> {
        &self.train
    }

    /// Which training utterances are of which set, and how often an epoch sees each: for [`picks`].
    ///
    /// [`picks`]: super::batch::picks
    pub fn weights(&self) -> &[(Range<usize>, f32)] {
        &self.weights
    }

    /// The dev sets.
    pub fn dev(&self) -> &[Arc<SpeechSet>] {
        &self.dev
    }

    /// Rows left out, and why.
    pub fn dropped(&self) -> &[DroppedRow] {
        &self.dropped
    }

    /// The training set through this front-end, with the recipe's augmentation.
    ///
    /// # Errors
    /// `Runtime` for a spec that the front-end refuses.
    pub fn training(&self, spec: &LogMelSpec) -> Result<SpeechExamples> {
        let augmenter = Augmenter::new(&self.recipe.augment, spec.sample_rate, self.recipe.seed);
        SpeechExamples::new(self.train.clone(), spec, &self.recipe, Some(augmenter))
    }

    /// A set through this front-end, as it is.
    ///
    /// # Errors
    /// `Runtime` for a spec that the front-end refuses.
    pub fn judging(&self, set: &Arc<SpeechSet>, spec: &LogMelSpec) -> Result<SpeechExamples> {
        SpeechExamples::new(set.clone(), spec, &self.recipe, None)
    }
}

fn open_dev(
    rows: Rows,
    recipe: &Recipe,
    budget: &mut CacheBudget,
    dropped: &mut Vec<DroppedRow>,
    decode: Decode<'_>,
) -> Result<SpeechSet> {
    let mut utterances = rows.utterances;
    let (mut audio, failed) = decode(&utterances, budget);
    let mut unusable = Vec::new();
    for (index, error) in failed {
        let line = utterances[index].line;
        let message = error.to_string();
        drop_or_refuse(
            dropped,
            recipe,
            &rows.manifest,
            line,
            Reason::Unreadable,
            message,
        )?;
        unusable.push(index);
    }
    remove(&mut utterances, &mut audio, &unusable);
    Ok(SpeechSet {
        name: rows.name,
        utterances,
        audio,
    })
}

fn remove(utterances: &mut Vec<Utterance>, audio: &mut AudioStore, indices: &[usize]) {
    audio.remove(indices);
    let mut index = 0;
    utterances.retain(|_| {
        index += 1;
        indices.binary_search(&(index - 1)).is_err()
    });
}

/// Says why `frames` feature frames are too few for an utterance's transcript, if they are.
fn infeasible(utterance: &Utterance, frames: usize, recipe: &Recipe) -> Option<String> {
    let needed = frames_needed(&utterance.targets);
    let available = frames / recipe.model.stride.max(1);
    (needed > available).then(|| {
        format!(
            "`text` needs {needed} output frames ({} tokens and the blanks between equal ones), its audio gives \
             {available}",
            utterance.targets.len()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BadRows;
    use crate::data::batch::{Batch, BatchOptions, Order, picks};
    use crate::data::loader::Examples;
    use crate::data::loader::{Loader, all_picks, fit_shapes, plan_epoch};
    use ndarray::Axis;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use std::path::PathBuf;

    /// Twelve clips of noise, 0.2 to 1.3 s, each with the text "ab", and one too short for its text.
    fn corpus() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut lines = String::new();
        for clip in 0..13 {
            let name = format!("{clip}.wav");
            let samples = if clip == 12 {
                900
            } else {
                3_200 + 1_600 * clip
            };
            write_noise(&folder.path().join(&name), samples);
            let text = if clip == 12 { "aabb" } else { "ab" };
            let duration = samples as f64 / 16_000.0;
            lines += &format!(
                "{{\"audio_filepath\": \"{name}\", \"duration\": {duration}, \"text\": \"{text}\"}}\n"
            );
        }
        std::fs::write(folder.path().join("m.jsonl"), lines).unwrap();
        folder
    }

    fn write_noise(path: &Path, samples: u32) {
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 16_000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(path, spec).unwrap();
        let mut random = ChaCha8Rng::seed_from_u64(u64::from(samples));
        for _ in 0..samples {
            writer
                .write_sample(random.random_range(-8_192i16..8_192))
                .unwrap();
        }
        writer.finalize().unwrap();
    }

    fn recipe(overrides: &[&str]) -> Recipe {
        let text = "name = \"toy\"\ntask = \"speech\"\nlicense = \"MIT\"\n[data]\nmin_seconds = 0.0\n\
                    train = [{ manifest = \"m.jsonl\", repeat = 1.5 }]\n\
                    dev = [{ name = \"same\", manifest = \"m.jsonl\" }]\nbad_rows = \"drop\"\n\
                    [features]\nmels = 20\n[augment]\nspeed = [0.9, 1.1]\n\
                    shift = {}\nreverb = {}\nnoise = {}\nbabble = {}\nspec_augment = {}\n\
                    [train]\nbatch_frames = 500\n";
        Recipe::parse(text, overrides).unwrap()
    }

    fn open(folder: &tempfile::TempDir, recipe: &Recipe) -> SpeechData {
        SpeechData::open(recipe, folder.path(), &|_| ()).unwrap()
    }

    fn batches(data: &SpeechData, recipe: &Recipe, epoch: u64, workers: usize) -> Vec<Batch> {
        let examples = data
            .training(&recipe.features.spec(Normalization::None))
            .unwrap();
        let picks = picks(data.weights(), recipe.seed, epoch);
        let shapes = fit_shapes(&examples, &picks, &[], &BatchOptions::from_recipe(recipe));
        let order = Order::Shuffled {
            seed: recipe.seed,
            epoch,
        };
        let plan = plan_epoch(&examples, &picks, &shapes, epoch, order);
        let loader = Loader::new(Arc::new(examples), workers).unwrap();
        loader
            .batches(plan, epoch, 0)
            .unwrap()
            .collect::<Result<_>>()
            .unwrap()
    }

    #[test]
    fn infeasible_rows_leave_training_but_not_judging() {
        let folder = corpus();
        let data = open(&folder, &recipe(&[]));
        assert_eq!(data.train().utterances().len(), 12);
        assert_eq!(data.dev()[0].utterances().len(), 13);
        assert_eq!(data.weights(), [(0..12, 1.5)]);
        let dropped: Vec<_> = data
            .dropped()
            .iter()
            .map(|row| (row.line, row.reason))
            .collect();
        assert_eq!(dropped, [(13, Reason::Infeasible)]);
        let refusing = recipe(&["data.bad_rows=refuse"]);
        assert_eq!(refusing.data.bad_rows, BadRows::Refuse);
        let error = SpeechData::open(&refusing, folder.path(), &|_| ()).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("m.jsonl") && text.contains("line 13"),
            "{text}"
        );
        assert!(text.contains("needs 6 output frames"), "{text}");
    }

    #[test]
    fn unreadable_audio_names_manifest_line_and_file() {
        let folder = corpus();
        std::fs::write(folder.path().join("3.wav"), "RIFF but no more").unwrap();
        let error = SpeechData::open(&recipe(&["data.bad_rows=refuse"]), folder.path(), &|_| ())
            .unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Data);
        assert!(text.contains("line 4") && text.contains("3.wav"), "{text}");
        let data = open(&folder, &recipe(&[]));
        assert_eq!(data.train().utterances().len(), 11);
        assert_eq!(data.weights(), [(0..11, 1.5)]);
        // Sets stay aligned with their audio.
        for (index, utterance) in data.train().utterances().iter().enumerate() {
            let seconds = data.train().audio().length(index) as f64 / 16_000.0;
            assert!((seconds - utterance.duration).abs() < 1e-6);
        }
    }

    #[test]
    fn no_usable_row_is_an_error() {
        let folder = corpus();
        for clip in 0..13 {
            std::fs::write(folder.path().join(format!("{clip}.wav")), "").unwrap();
        }
        let error = SpeechData::open(&recipe(&[]), folder.path(), &|_| ()).unwrap_err();
        assert!(
            error.to_string().contains("no usable training row"),
            "{error}"
        );
    }

    #[test]
    fn batches_depend_on_seed_and_epoch_not_on_threads_or_cache() {
        let folder = corpus();
        let cached = recipe(&[]);
        let uncached = recipe(&["data.cache_mib=0"]);
        let first = batches(&open(&folder, &cached), &cached, 1, 1);
        assert_eq!(open(&folder, &uncached).train().audio().cached_bytes(), 0);
        assert_eq!(first.iter().map(|batch| batch.valid).sum::<usize>(), 18);
        assert_eq!(first, batches(&open(&folder, &cached), &cached, 1, 2));
        assert_eq!(first[0].index, 0);
        assert_ne!(first, batches(&open(&folder, &cached), &cached, 2, 1));
        let other = recipe(&["seed=2"]);
        assert_ne!(first, batches(&open(&folder, &other), &other, 1, 1));
    }

    #[test]
    fn judging_gives_the_runtimes_features() {
        let folder = corpus();
        let recipe = recipe(&[]);
        let data = open(&folder, &recipe);
        let spec = recipe.features.spec(Normalization::None);
        let examples = data.judging(&data.dev()[0], &spec).unwrap();
        for pick in all_picks(&examples) {
            let example = examples.load(pick, 0).unwrap();
            let samples = acolyte::audio::Audio::open(PathBuf::from(&example.name))
                .and_then(|audio| audio.mono(16_000))
                .unwrap();
            let expected = Fbank::new(&spec).unwrap().compute(&samples).unwrap();
            assert_eq!(example.features.index_axis(Axis(1), 0), expected.t());
            assert_eq!(examples.frames(pick, 0), expected.nrows());
        }
    }
}
