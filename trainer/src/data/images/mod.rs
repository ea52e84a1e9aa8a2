//! Images of words for training and judging: crops of manifests, pictures of shards, and rendered words beside them.
//!
//! [`ImageData::open`] reads a recipe's manifests and decodes their images; rendered words ([`crate::synth`]) are items
//! after them, as many as the recipe wants in an epoch, new in each. Features are `[F = C H, 1, T]` from the runtime's
//! own front-end.

mod examples;
mod manifest;

pub use examples::ImageExamples;

use super::rows::{DroppedRow, Reason, drop_or_refuse};
use super::store::{OnProgress, Progress};
use super::text::{derive_alphabet, frames_needed, normalize, vocabulary};
use crate::config::Recipe;
use crate::error::{Error, ErrorKind, Result};
use crate::student::text::STRIDE;
use crate::synth::{Renderer, shards};
use acolyte::Tokens;
use acolyte::features::LineReader;
use acolyte::image::Image;
use acolyte::spec::LineSpec;
use manifest::Entry;
use rayon::prelude::*;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Images decoded between two reports of progress.
const REPORTED: usize = 256;

/// One usable row.
#[derive(Debug, Clone, PartialEq)]
pub struct LabeledImage {
    /// The image file.
    pub path: PathBuf,
    /// The normalized text.
    pub text: String,
    /// Its token ids; empty in a dev set for a text with characters that no token covers.
    pub targets: Vec<u32>,
    /// The pixels.
    pub image: Image,
}

/// Images with their texts.
#[derive(Debug)]
pub struct ImageSet {
    /// The set's name; `train` for the training sets together.
    pub name: String,
    /// The images.
    pub images: Vec<LabeledImage>,
}

/// All data of a recipe for scene text.
#[derive(Debug, Clone)]
pub struct ImageData {
    recipe: Recipe,
    alphabet: Vec<String>,
    train: Arc<ImageSet>,
    weights: Vec<(Range<usize>, f32)>,
    dev: Vec<Arc<ImageSet>>,
    renderer: Option<Arc<Renderer>>,
    dropped: Vec<DroppedRow>,
}

impl ImageData {
    /// Reads the manifests of `recipe`, which lie in `folder`, decodes all images, and loads fonts and word lists.
    ///
    /// # Errors
    /// `Io` and `Data`, naming manifest and line, for what cannot be read or used, unless `bad_rows` is `drop`;
    /// `Recipe` if no vocabulary can be made; and as [`Renderer::new`].
    pub fn open(recipe: &Recipe, folder: &Path, progress: OnProgress<'_>) -> Result<Self> {
        let read = |manifest: &Path| {
            let path = folder.join(manifest);
            manifest::read(&path).map(|entries| (path, entries))
        };
        let train: Vec<_> = (recipe.data.train.iter())
            .map(|set| read(&set.manifest))
            .collect::<Result<_>>()?;
        let dev: Vec<_> = (recipe.data.dev.iter())
            .map(|set| read(&set.manifest))
            .collect::<Result<_>>()?;
        let alphabet = if recipe.text.tokens.is_empty() {
            let texts: Vec<String> = (train.iter().flat_map(|(_, entries)| entries))
                .map(|entry| normalize(&entry.text, recipe.text.case))
                .collect();
            derive_alphabet(texts.iter().map(String::as_str))
        } else {
            recipe.text.tokens.clone()
        };
        let tokens = vocabulary(&recipe.text, &alphabet)?;
        let reader = LineReader::new(&recipe.image.spec())?;
        let total = train
            .iter()
            .chain(&dev)
            .map(|(_, entries)| entries.len())
            .sum();
        let opener = Opener {
            recipe,
            tokens: &tokens,
            reader: &reader,
            progress,
            total,
            done: AtomicUsize::new(0),
        };
        let mut dropped = Vec::new();
        let mut images = Vec::new();
        let mut weights = Vec::new();
        for ((path, entries), set) in train.iter().zip(&recipe.data.train) {
            let start = images.len();
            images.extend(opener.training(path, entries, &mut dropped)?);
            weights.push((start..images.len(), set.repeat));
        }
        let start = images.len();
        for shard in shard_files(&recipe.data.shards, folder)? {
            images.extend(opener.rendered(&shard)?);
        }
        if images.len() > start {
            weights.push((start..images.len(), 1.0));
        }
        let mut sets = Vec::new();
        for ((path, entries), set) in dev.iter().zip(&recipe.data.dev) {
            sets.push(Arc::new(ImageSet {
                name: set.name.clone(),
                images: opener.judging(path, entries, &mut dropped)?,
            }));
        }
        let rendered = recipe.synth.per_epoch;
        let renderer = match rendered {
            0 => None,
            _ => Some(Arc::new(Renderer::new(
                &recipe.synth,
                folder,
                &tokens,
                &reader,
                STRIDE,
            )?)),
        };
        if rendered > 0 {
            weights.push((images.len()..images.len() + rendered, 1.0));
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
        Ok(Self {
            recipe: recipe.clone(),
            alphabet,
            train: Arc::new(ImageSet {
                name: "train".to_owned(),
                images,
            }),
            weights,
            dev: sets,
            renderer,
            dropped,
        })
    }

    /// The tokens without the blank, in id order from 1.
    pub fn alphabet(&self) -> &[String] {
        &self.alphabet
    }

    /// The training images, all sets one after another.
    pub fn train(&self) -> &Arc<ImageSet> {
        &self.train
    }

    /// Which items are of which set, rendered ones last, and how often an epoch sees each.
    pub fn weights(&self) -> &[(Range<usize>, f32)] {
        &self.weights
    }

    /// The dev sets.
    pub fn dev(&self) -> &[Arc<ImageSet>] {
        &self.dev
    }

    /// Rows left out, and why.
    pub fn dropped(&self) -> &[DroppedRow] {
        &self.dropped
    }

    /// Longest target that training can meet.
    pub fn longest(&self) -> usize {
        let real = self
            .train
            .images
            .iter()
            .map(|image| image.targets.len())
            .max();
        let rendered = self.renderer.as_ref().map(|_| self.recipe.synth.longest);
        real.max(rendered).unwrap_or(1)
    }

    /// The same data under another recipe, which must name the same sets and render the same words.
    pub fn under(&self, recipe: &Recipe) -> Self {
        Self {
            recipe: recipe.clone(),
            ..self.clone()
        }
    }

    /// Whether words are rendered beside the crops.
    pub fn renders(&self) -> bool {
        self.renderer.is_some()
    }

    /// The training items through this front-end, changed at random.
    ///
    /// # Errors
    /// `Runtime` for a spec that the front-end refuses.
    pub fn training(&self, spec: &LineSpec) -> Result<ImageExamples> {
        ImageExamples::new(
            self.train.clone(),
            spec,
            &self.recipe,
            self.renderer.clone(),
            true,
        )
    }

    /// A set through this front-end, as it is.
    ///
    /// # Errors
    /// `Runtime` for a spec that the front-end refuses.
    pub fn judging(&self, set: &Arc<ImageSet>, spec: &LineSpec) -> Result<ImageExamples> {
        ImageExamples::new(set.clone(), spec, &self.recipe, None, false)
    }
}

/// What decides which rows are used.
struct Opener<'a> {
    recipe: &'a Recipe,
    tokens: &'a Tokens,
    reader: &'a LineReader,
    progress: OnProgress<'a>,
    total: usize,
    done: AtomicUsize,
}

impl Opener<'_> {
    fn training(
        &self,
        manifest: &Path,
        entries: &[Entry],
        dropped: &mut Vec<DroppedRow>,
    ) -> Result<Vec<LabeledImage>> {
        self.keep(manifest, entries, dropped, |entry| {
            let text = self.text(entry)?;
            let targets = (self.tokens.encode(&text))
                .map_err(|e| (Reason::Alphabet, format!("`text`: {e}")))?;
            let image = open_image(entry)?;
            let (columns, _) = self
                .reader
                .size(image.width() as f32, image.height() as f32);
            let (needed, available) = (frames_needed(&targets), columns / STRIDE);
            if needed > available {
                return Err((
                    Reason::Infeasible,
                    format!("`text` needs {needed} output frames, its image gives {available}"),
                ));
            }
            Ok(LabeledImage {
                path: entry.image.clone(),
                text,
                targets,
                image,
            })
        })
    }

    /// Rows to judge on: scored on letters and digits alone, so that a sign outside the alphabet is no fault; rows
    /// without letters and digits are left out.
    fn judging(
        &self,
        manifest: &Path,
        entries: &[Entry],
        dropped: &mut Vec<DroppedRow>,
    ) -> Result<Vec<LabeledImage>> {
        let scored: Vec<Entry> = (entries.iter())
            .filter(|entry| !crate::train::evaluate::folded(&entry.text).is_empty())
            .cloned()
            .collect();
        self.keep(manifest, &scored, dropped, |entry| {
            let text = self.text(entry)?;
            Ok(LabeledImage {
                path: entry.image.clone(),
                targets: self.tokens.encode(&text).unwrap_or_default(),
                text,
                image: open_image(entry)?,
            })
        })
    }

    /// The pictures of a shard whose text the vocabulary has and whose lines have room for it.
    fn rendered(&self, shard: &Path) -> Result<Vec<LabeledImage>> {
        let usable = |(image, text): (Image, String)| {
            let targets = self.tokens.encode(&text).ok()?;
            let (columns, _) = self
                .reader
                .size(image.width() as f32, image.height() as f32);
            (frames_needed(&targets) <= columns / STRIDE).then(|| LabeledImage {
                path: shard.to_owned(),
                text,
                targets,
                image,
            })
        };
        Ok(shards::read(shard)?
            .into_iter()
            .filter_map(usable)
            .collect())
    }

    fn text(&self, entry: &Entry) -> Result<String, (Reason, String)> {
        let text = normalize(&entry.text, self.recipe.text.case);
        if text.is_empty() {
            return Err((Reason::EmptyText, "`text` is empty".to_owned()));
        }
        Ok(text)
    }

    fn keep(
        &self,
        manifest: &Path,
        entries: &[Entry],
        dropped: &mut Vec<DroppedRow>,
        open: impl Fn(&Entry) -> Result<LabeledImage, (Reason, String)> + Sync,
    ) -> Result<Vec<LabeledImage>> {
        let opened: Vec<_> = (entries.par_iter())
            .map(|entry| {
                let opened = open(entry);
                let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
                if done.is_multiple_of(REPORTED) || done == self.total {
                    (self.progress)(Progress {
                        done,
                        total: self.total,
                    });
                }
                opened
            })
            .collect();
        let mut images = Vec::with_capacity(entries.len());
        for (entry, opened) in entries.iter().zip(opened) {
            match opened {
                Ok(image) => images.push(image),
                Err((reason, message)) => {
                    drop_or_refuse(dropped, self.recipe, manifest, entry.line, reason, message)?;
                }
            }
        }
        Ok(images)
    }
}

/// The shards at paths: files, or folders of them, in order.
fn shard_files(paths: &[PathBuf], folder: &Path) -> Result<Vec<PathBuf>> {
    let mut shards = Vec::new();
    for path in paths {
        let path = folder.join(path);
        if !path.is_dir() {
            shards.push(path);
            continue;
        }
        let start = shards.len();
        for entry in std::fs::read_dir(&path).map_err(|e| Error::io(&path, e))? {
            let file = entry.map_err(|e| Error::io(&path, e))?.path();
            if file.extension().is_some_and(|e| e == "safetensors") {
                shards.push(file);
            }
        }
        shards[start..].sort();
    }
    Ok(shards)
}

fn open_image(entry: &Entry) -> Result<Image, (Reason, String)> {
    if !entry.image.is_file() {
        return Err((
            Reason::MissingFile,
            format!("no image file {}", entry.image.display()),
        ));
    }
    Image::open(&entry.image).map_err(|e| (Reason::Unreadable, e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::batch::Pick;
    use crate::data::loader::Examples;

    /// Three pictures with labels, one row without a file, one with a sign outside the alphabet.
    fn corpus() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut rows = String::new();
        for (index, text) in ["Ab", "c 1", "d!"].into_iter().enumerate() {
            let (width, height) = (40 + 8 * index, 20);
            let pixels = (0..3 * width * height)
                .map(|i| (i * 31 % 256) as u8)
                .collect();
            let image = Image::from_rgb(width, height, pixels).unwrap();
            std::fs::write(
                folder.path().join(format!("{index}.png")),
                image.to_png().unwrap(),
            )
            .unwrap();
            rows += &format!("{{\"image\": \"{index}.png\", \"text\": \"{text}\", \"std\": 0}}\n");
        }
        rows += "{\"image\": \"missing.png\", \"text\": \"a\"}\n{\"image\": \"0.png\", \"text\": \"\\u00e9\"}\n";
        std::fs::write(folder.path().join("m.jsonl"), rows).unwrap();
        folder
    }

    fn recipe(overrides: &[&str]) -> Recipe {
        let text = "name = \"toy\"\ntask = \"scene-text\"\nlicense = \"MIT\"\n[data]\n\
                    train = [{ manifest = \"m.jsonl\", repeat = 2.0 }]\n\
                    dev = [{ name = \"same\", manifest = \"m.jsonl\" }]\nbad_rows = \"drop\"\n\
                    [text]\ncase = \"keep\"\ntokens = [\" \", \"!\", \"1\", \"A\", \"b\", \"c\", \"d\", \"a\"]\n\
                    [model]\nkind = \"image\"\n";
        Recipe::parse(text, overrides).unwrap()
    }

    #[test]
    fn crops_become_lines_as_long_as_planned() {
        let folder = corpus();
        let recipe = recipe(&[]);
        let data = ImageData::open(&recipe, folder.path(), &|_| ()).unwrap();
        assert_eq!(data.train().images.len(), 3);
        assert_eq!(data.dev()[0].images.len(), 3, "no letters, or no file");
        assert_eq!(data.dropped().len(), 3);
        let spec = recipe.image.spec();
        let training = data.training(&spec).unwrap();
        for epoch in 0..5 {
            for item in 0..3 {
                let pick = Pick { item, copy: 0 };
                let example = training.load(pick, epoch).unwrap();
                assert_eq!(
                    example.features.dim(),
                    (32, 1, training.frames(pick, epoch))
                );
                assert!(training.frames(pick, epoch) <= training.longest(item));
                assert_eq!(example, training.load(pick, epoch).unwrap());
            }
        }
        let judging = data.judging(&data.dev()[0], &spec).unwrap();
        let image = &data.dev()[0].images[1].image;
        let line = LineReader::new(&spec).unwrap().read(&image.view()).unwrap();
        let example = judging.load(Pick { item: 1, copy: 0 }, 7).unwrap();
        assert_eq!(
            example.features.index_axis(ndarray::Axis(1), 0),
            line.into_features()
        );
    }

    #[test]
    fn rows_that_cannot_be_used_are_refused_with_their_line() {
        let folder = corpus();
        let error = ImageData::open(&recipe(&["data.bad_rows=refuse"]), folder.path(), &|_| ())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        assert!(error.to_string().contains("line 4"), "{error}");
        std::fs::write(folder.path().join("m.jsonl"), "{\"image\": 3}").unwrap();
        let error = ImageData::open(&recipe(&[]), folder.path(), &|_| ()).unwrap_err();
        assert!(error.to_string().contains("line 1"), "{error}");
    }
}
