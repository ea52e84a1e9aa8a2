//! Rendered words: pictures of text that look like crops of photos, with their labels.
//!
//! The way of a picture: [`words`] draws a text, [`fonts`] gives the outlines of a face, [`sketch`] sets and bends them
//! and settles the size of the crop, `paint` fills them over a `ground`, `degrade` does what a camera would. A picture
//! is a function of the seed, the epoch and the item alone, and its size is known from the sketch, before anything is
//! painted. The mixture of effects follows arXiv 1406.2227 and 1604.06646; outlines are bent before they are filled, so
//! that no pixel is resampled.

mod degrade;
pub mod fonts;
mod ground;
mod paint;
pub mod shards;
pub mod sheet;
pub mod sketch;
#[cfg(test)]
mod testing;
pub mod words;

use crate::config::{EffectsConfig, SynthConfig, TextConfig};
use crate::data::text::frames_needed;
use crate::{Error, ErrorKind, Result};
use acolyte::Tokens;
use acolyte::features::LineReader;
use acolyte::image::Image;
use fonts::FontSet;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sketch::Sketch;
use std::path::Path;
use words::Words;

/// A picture's place in a run: what it is drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// The recipe's seed.
    pub seed: u64,
    /// The epoch, from 0.
    pub epoch: u64,
    /// The picture within the epoch.
    pub item: u64,
}

impl Key {
    pub(crate) fn random(self, stream: u64) -> ChaCha8Rng {
        let mut bytes = [0; 32];
        let numbers = [
            self.seed,
            self.epoch,
            self.item,
            u64::from_le_bytes(*b"synthetc"),
        ];
        for (chunk, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            chunk.copy_from_slice(&number.to_le_bytes());
        }
        let mut random = ChaCha8Rng::from_seed(bytes);
        random.set_stream(stream);
        random
    }
}

/// Renders words.
#[derive(Debug)]
pub struct Renderer {
    config: SynthConfig,
    fonts: FontSet,
    words: Words,
    tokens: Tokens,
    reader: LineReader,
    stride: usize,
}

impl Renderer {
    /// A renderer of a recipe's `[synth]`, for the vocabulary `tokens` and lines as `reader` makes them, of which a
    /// model gives one output every `stride` columns.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] where no font or no word can be used; the message says why.
    pub fn new(
        config: &SynthConfig,
        data: &Path,
        tokens: &Tokens,
        reader: &LineReader,
        stride: usize,
    ) -> Result<Self> {
        let characters = characters(tokens);
        let fonts = FontSet::load(&config.fonts, &config.exclude, &characters)?;
        let drawn: Vec<char> = (characters.into_iter())
            .filter(|&c| c == ' ' || fonts.any_draws(c))
            .collect();
        if !drawn.iter().any(|c| c.is_alphanumeric()) {
            return Err(Error::new(
                ErrorKind::Data,
                "no font of synth.fonts draws a letter or digit of the vocabulary: name folders with Latin fonts",
            ));
        }
        let words = Words::load(&config.words, data, &drawn, config.longest)?;
        Ok(Self {
            config: config.clone(),
            fonts,
            words,
            tokens: tokens.clone(),
            reader: reader.clone(),
            stride: stride.max(1),
        })
    }

    /// The fonts.
    pub fn fonts(&self) -> &FontSet {
        &self.fonts
    }

    /// What a picture shows and how large it is, without painting it.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] where a drawn text is not of the vocabulary, which the word lists rule out.
    pub fn sketch(&self, key: Key) -> Result<(Sketch, Vec<u32>)> {
        let mut random = key.random(0);
        let text = self.words.draw(&mut random);
        let targets = (self.tokens.encode(&text)).map_err(|e| {
            Error::new(ErrorKind::Data, format!("the drawn text {text:?}: {e}")).with_source(e)
        })?;
        let needed = frames_needed(&targets) + 1;
        let fits =
            |width: f32, height: f32| self.reader.size(width, height).0 / self.stride >= needed;
        let sketch = Sketch::draw(&text, &self.fonts, &self.config, &mut random, &fits);
        Ok((sketch, targets))
    }

    /// The picture of a sketch.
    ///
    /// # Errors
    /// As the JPEG codec.
    pub fn paint(&self, sketch: &Sketch, key: Key) -> Result<Image> {
        let mut random = key.random(1);
        let planes = paint::paint(sketch, &self.fonts, &self.config.effects, &mut random);
        degrade::degrade(planes, &self.config.effects, &mut random)
    }
}

/// A photo changed a little: light, blur, noise and JPEG, each seldom and weak.
pub(crate) fn vary(image: &Image, random: &mut ChaCha8Rng) -> Result<Image> {
    if random.random_bool(0.4) {
        return Ok(image.clone());
    }
    let effects = EffectsConfig {
        light: 0.5,
        blur: 0.3,
        motion: 0.1,
        noise: 0.4,
        jpeg: 0.2,
        ..EffectsConfig::default()
    };
    degrade::degrade(ground::Planes::of_image(image), &effects, random)
}

/// The characters that the single-character tokens stand for.
fn characters(tokens: &Tokens) -> Vec<char> {
    let mut characters: Vec<char> = (0..tokens.len() as u32)
        .filter(|&id| id != tokens.blank())
        .filter_map(|id| {
            let mut piece = tokens.piece(id)?.chars();
            piece.next().filter(|_| piece.next().is_none())
        })
        .collect();
    characters.sort_unstable();
    characters.dedup();
    characters
}

/// The vocabulary that a recipe names, for pictures without a run.
///
/// # Errors
/// [`ErrorKind::Recipe`] where it names none.
pub fn named_vocabulary(text: &TextConfig) -> Result<Tokens> {
    if text.tokens.is_empty() {
        return Err(Error::new(
            ErrorKind::Recipe,
            "rendered words need `text.tokens`: there are no transcripts to derive an alphabet from",
        ));
    }
    crate::data::text::vocabulary(text, &text.tokens)
}

#[cfg(test)]
mod tests {
    use super::testing::font;
    use super::*;
    use acolyte::spec::LineSpec;
    use std::path::PathBuf;

    fn renderer(words: &str) -> Result<Renderer> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("words.txt"), words).unwrap();
        std::fs::create_dir(folder.path().join("fonts")).unwrap();
        for (name, font) in [
            ("plain.ttf", font(' '..='~')),
            ("Ornaments.ttf", font('A'..='~')),
        ] {
            std::fs::write(folder.path().join("fonts").join(name), font).unwrap();
        }
        let text = TextConfig {
            tokens: (' '..='~').map(String::from).collect(),
            case: crate::config::Case::Keep,
            ..Default::default()
        };
        let config = SynthConfig {
            per_epoch: 10,
            fonts: vec![folder.path().join("fonts")],
            exclude: vec!["Ornaments".into()],
            words: vec![PathBuf::from("words.txt")],
            ..Default::default()
        };
        let tokens = named_vocabulary(&text)?;
        let reader = LineReader::new(&LineSpec::default())?;
        Renderer::new(&config, folder.path(), &tokens, &reader, 4)
    }

    #[test]
    fn pictures_are_functions_of_their_key_and_as_large_as_sketched() {
        let renderer = renderer("Hello world of words, naïve Straße 12345").unwrap();
        let key = |item| Key {
            seed: 3,
            epoch: 1,
            item,
        };
        let mut texts = std::collections::BTreeSet::new();
        for item in 0..60 {
            let (sketch, targets) = renderer.sketch(key(item)).unwrap();
            let picture = renderer.paint(&sketch, key(item)).unwrap();
            assert_eq!(
                (picture.width(), picture.height()),
                (sketch.width, sketch.height)
            );
            let (again, _) = renderer.sketch(key(item)).unwrap();
            assert_eq!(renderer.paint(&again, key(item)).unwrap(), picture);
            let steps = renderer
                .reader
                .size(sketch.width as f32, sketch.height as f32)
                .0
                / 4;
            assert!(
                frames_needed(&targets) < steps,
                "{:?} in {steps} steps",
                sketch.text
            );
            assert!(sketch.text.chars().all(|c| (' '..='~').contains(&c)));
            let pixels = picture.rgb();
            assert!(
                pixels.iter().any(|&p| p != pixels[0]),
                "{item} shows nothing"
            );
            texts.insert(sketch.text);
        }
        assert!(texts.len() > 30, "{texts:?}");
    }

    #[test]
    fn nothing_to_draw_with_is_an_error_that_says_so() {
        let error = renderer("öäü ßß").map(|r| {
            r.sketch(Key {
                seed: 1,
                epoch: 0,
                item: 0,
            })
        });
        // Words that nothing draws are left out; numbers and codes need no list.
        assert!(error.unwrap().unwrap().0.text.is_ascii());
        let empty = tempfile::tempdir().unwrap();
        let none = FontSet::load(&[empty.path().to_owned()], &[], &['a']).unwrap_err();
        assert_eq!(none.kind(), ErrorKind::Data);
        assert!(none.to_string().contains("no font"), "{none}");
        std::fs::write(empty.path().join("broken.ttf"), b"not a font").unwrap();
        let broken = FontSet::load(&[empty.path().to_owned()], &[], &['a']).unwrap_err();
        assert!(broken.to_string().contains("1 file"), "{broken}");
        let missing = FontSet::load(&["no/such/folder".into()], &[], &['a']).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::Io);
        std::fs::write(empty.path().join("broken.ttf"), font('a'..='z')).unwrap();
        let lacking = FontSet::load(&[empty.path().to_owned()], &[], &['a', 'é']).unwrap_err();
        assert!(lacking.to_string().contains("draws \"aé\""), "{lacking}");
        let signs = FontSet::load(&[empty.path().to_owned()], &[], &['a', '?']).unwrap();
        assert!(signs.any_draws('a') && !signs.any_draws('?'));
    }
}
