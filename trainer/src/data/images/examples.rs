//! One image of one epoch: a rendered word, or a crop with its corners moved and its picture changed a little.

use super::ImageSet;
use crate::config::Recipe;
use crate::data::batch::Pick;
use crate::data::loader::{Example, Examples};
use crate::error::{Error, ErrorKind, Result};
use crate::synth::{Key, Renderer, vary};
use acolyte::features::{Line, LineReader};
use acolyte::image::Quad;
use acolyte::spec::LineSpec;
use ndarray::Axis;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

/// Share of the crops whose corners are moved.
const MOVED: f64 = 0.7;

/// One set, and rendered words after it, through one front-end.
#[derive(Debug)]
pub struct ImageExamples {
    set: Arc<ImageSet>,
    reader: LineReader,
    renderer: Option<Arc<Renderer>>,
    rendered: usize,
    seed: u64,
    varied: bool,
}

impl ImageExamples {
    pub(super) fn new(
        set: Arc<ImageSet>,
        spec: &LineSpec,
        recipe: &Recipe,
        renderer: Option<Arc<Renderer>>,
        varied: bool,
    ) -> Result<Self> {
        Ok(Self {
            set,
            reader: LineReader::new(spec)?,
            rendered: renderer.as_ref().map_or(0, |_| recipe.synth.per_epoch),
            renderer,
            seed: recipe.seed,
            varied,
        })
    }

    fn key(&self, pick: Pick, epoch: u64) -> Key {
        Key {
            seed: self.seed,
            epoch,
            // Repetitions of an item within an epoch differ as items do.
            item: pick.item as u64 + ((pick.copy as u64) << 40),
        }
    }

    /// The renderer, where the item is one of the rendered ones.
    fn renderer(&self, item: usize) -> Option<&Renderer> {
        self.renderer
            .as_deref()
            .filter(|_| item >= self.set.images.len())
    }

    /// The part of a crop that is read: at times a little more or less than all of it.
    fn moved(&self, item: usize, random: &mut ChaCha8Rng) -> Option<Quad> {
        let image = &self.set.images.get(item)?.image;
        let (width, height) = (image.width() as f32, image.height() as f32);
        if !self.varied || width.min(height) < 4.0 || !random.random_bool(MOVED) {
            return None;
        }
        let mut quad = Quad::rectangle(0.0, 0.0, width, height);
        let reach = [(0.1 * height).min(0.2 * width), 0.07 * height];
        for corner in &mut quad.corners {
            for (value, reach) in corner.iter_mut().zip(reach) {
                *value += random.random_range(-reach..reach);
            }
        }
        quad.projection().ok().map(|_| quad)
    }
}

impl Examples for ImageExamples {
    fn len(&self) -> usize {
        self.set.images.len() + self.rendered
    }

    fn dimensions(&self) -> (usize, usize) {
        (self.reader.spec().features(), 1)
    }

    fn frames(&self, pick: Pick, epoch: u64) -> usize {
        let key = self.key(pick, epoch);
        if let Some(renderer) = self.renderer(pick.item) {
            // A text outside the vocabulary shows when it is loaded.
            let sketch = renderer.sketch(key);
            return sketch.map_or(self.reader.spec().min_width, |(sketch, _)| {
                self.reader
                    .size(sketch.width as f32, sketch.height as f32)
                    .1
            });
        }
        let size = match (
            self.moved(pick.item, &mut key.random(2)),
            self.set.images.get(pick.item),
        ) {
            (Some(quad), _) => (quad.width(), quad.height()),
            (None, Some(row)) => (row.image.width() as f32, row.image.height() as f32),
            (None, None) => (1.0, 1.0),
        };
        self.reader.size(size.0, size.1).1
    }

    fn symbols(&self, pick: Pick, epoch: u64) -> usize {
        if let Some(renderer) = self.renderer(pick.item) {
            let sketch = renderer.sketch(self.key(pick, epoch));
            return sketch.map_or(0, |(_, targets)| targets.len());
        }
        let row = self.set.images.get(pick.item);
        row.map_or(0, |row| row.targets.len())
    }

    fn longest(&self, item: usize) -> usize {
        let spec = self.reader.spec();
        match self.set.images.get(item) {
            // Corners move by at most a tenth of the height each.
            Some(row) => {
                let (width, height) = (row.image.width() as f32, row.image.height() as f32);
                self.reader.size(width + 0.2 * height, 0.86 * height).1
            }
            None => spec.padded(spec.max_width),
        }
    }

    fn load(&self, pick: Pick, epoch: u64) -> Result<Example> {
        let key = self.key(pick, epoch);
        if let Some(renderer) = self.renderer(pick.item) {
            let (sketch, targets) = renderer.sketch(key)?;
            let image = renderer.paint(&sketch, key)?;
            let line = self.reader.read(&image.view())?;
            return Ok(example(
                line,
                targets,
                format!("rendered {:?}", sketch.text),
                sketch.text,
            ));
        }
        let row = self.set.images.get(pick.item).ok_or_else(|| {
            Error::new(
                ErrorKind::Data,
                format!("image {} of {}", pick.item, self.set.images.len()),
            )
        })?;
        let quad = self.moved(pick.item, &mut key.random(2));
        let varied;
        let image = if self.varied {
            varied = vary(&row.image, &mut key.random(3))?;
            &varied
        } else {
            &row.image
        };
        let line = match &quad {
            Some(quad) => self.reader.read_quad(&image.view(), quad),
            None => self.reader.read(&image.view()),
        };
        let line = line.map_err(|e| Error::from(e).with_path(&row.path))?;
        let name = row.path.display().to_string();
        Ok(example(line, row.targets.clone(), name, row.text.clone()))
    }
}

fn example(line: Line, targets: Vec<u32>, name: String, text: String) -> Example {
    Example {
        features: line.into_features().insert_axis(Axis(1)),
        targets,
        name,
        text,
    }
}
