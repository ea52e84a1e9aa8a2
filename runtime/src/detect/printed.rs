//! A locator for printed text on plain ground: threshold, connected components, grouping. No model.
//!
//! 1. A pixel is ink where it is darker (or, in the other pass, brighter) than the mean of its surroundings by a share
//!    of the picture's contrast; the pass that finds more letter-like components counts.
//! 2. Components of a letter's proportions are chained from left to right: neighbors of similar height whose rows
//!    overlap and whose gap is less than [`LINE_GAP`] heights stand on one line.
//! 3. A line is cut into words at gaps above [`WORD_GAP`] heights and above twice its usual gap between letters.
//!
//! It finds nothing else: no turned or curved text, no handwriting that touches rules, no text over photos.

use super::Detector;
use super::components::{Component, components};
use crate::Result;
use crate::image::{ImageView, Quad};
use crate::spec::ImageChannels;

/// Largest gap within a line, in heights.
const LINE_GAP: f32 = 2.0;
/// Least gap between words, in heights.
const WORD_GAP: f32 = 0.28;
/// The least height of a letter in pixels; smaller marks join as dots and commas.
const MIN_HEIGHT: usize = 6;
/// Most pixels looked at: a larger image is averaged down first.
const MAX_PIXELS: usize = 1 << 22;
/// Difference from the surroundings, as a share of the picture's contrast.
const SHARE: f32 = 0.18;
/// Room left around a word, in heights.
const MARGIN: f32 = 0.12;

/// Finds printed text on plain ground, upright and level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PrintedText;

impl Detector for PrintedText {
    fn detect(&self, image: &ImageView<'_>) -> Result<Vec<Quad>> {
        let gray = Gray::of(image);
        let dark = gray.letters(-1.0);
        let bright = gray.letters(1.0);
        let letters = if bright.len() > dark.len() {
            bright
        } else {
            dark
        };
        let scale = gray.scale as f32;
        let size = [image.width() as f32, image.height() as f32];
        let place = |[left, top, right, bottom]: [f32; 4]| {
            let margin = MARGIN * (bottom - top);
            let (left, top) = ((left - margin) * scale, (top - margin) * scale);
            let (right, bottom) = ((right + margin) * scale, (bottom + margin) * scale);
            let (left, top) = (left.max(0.0), top.max(0.0));
            Quad::rectangle(
                left,
                top,
                right.min(size[0]) - left,
                bottom.min(size[1]) - top,
            )
        };
        Ok(chains(letters).iter().flat_map(words).map(place).collect())
    }
}

/// Luminance, averaged down by a whole number.
struct Gray {
    pixels: Vec<f32>,
    width: usize,
    scale: usize,
}

impl Gray {
    fn of(image: &ImageView<'_>) -> Self {
        let area = image.width() * image.height();
        let scale = (1..).find(|s| area / (s * s) <= MAX_PIXELS).unwrap_or(1);
        let (width, height) = (
            (image.width() / scale).max(1),
            (image.height() / scale).max(1),
        );
        let mut pixels = vec![0.0; width * height];
        let mut row = vec![Vec::new()];
        for y in 0..(height * scale).min(image.height()) {
            image.row(
                y,
                0..(width * scale).min(image.width()),
                ImageChannels::Gray,
                &mut row,
            );
            let out = &mut pixels[y / scale * width..][..width];
            for (out, part) in out.iter_mut().zip(row[0].chunks(scale)) {
                *out += part.iter().sum::<f32>();
            }
        }
        let share = 1.0 / (scale * scale) as f32;
        pixels.iter_mut().for_each(|p| *p *= share);
        Self {
            pixels,
            width,
            scale,
        }
    }

    /// Components of a letter's proportions, and small marks, whose pixels differ from their surroundings in the
    /// direction of `sign`.
    fn letters(&self, sign: f32) -> Vec<Component> {
        let (width, height) = (self.width, self.pixels.len() / self.width);
        let mut sorted = self.pixels.clone();
        sorted.sort_by(f32::total_cmp);
        let at = |share: f32| sorted[((sorted.len() - 1) as f32 * share) as usize];
        let contrast = (at(0.995) - at(0.005)).max(16.0);
        let reach = (width.max(height) / 40).clamp(12, 60);
        let means = Means::new(&self.pixels, width);
        let set: Vec<bool> = (self.pixels.iter().enumerate())
            .map(|(i, &pixel)| {
                let mean = means.around(i % width, i / width, reach);
                sign * (pixel - mean) > SHARE * contrast
            })
            .collect();
        let mut found = components(&set, width);
        found.retain(|c| {
            let (w, h) = (c.width(), c.height());
            let fill = c.pixels.len() as f32 / (w * h) as f32;
            let mark = c.pixels.len() >= 3 && h < MIN_HEIGHT && w < 3 * MIN_HEIGHT;
            let letter = h >= MIN_HEIGHT && h < height / 2 + MIN_HEIGHT && w < 4 * h && fill > 0.08;
            mark || letter
        });
        found
    }
}

/// Sums over rectangles from the upper left corner on.
struct Means {
    sums: Vec<f64>,
    width: usize,
    height: usize,
}

impl Means {
    fn new(pixels: &[f32], width: usize) -> Self {
        let height = pixels.len() / width;
        let mut sums = vec![0.0; (width + 1) * (height + 1)];
        for y in 0..height {
            let mut row = 0.0;
            for x in 0..width {
                row += f64::from(pixels[y * width + x]);
                sums[(y + 1) * (width + 1) + x + 1] = sums[y * (width + 1) + x + 1] + row;
            }
        }
        Self {
            sums,
            width,
            height,
        }
    }

    fn around(&self, x: usize, y: usize, reach: usize) -> f32 {
        let (left, right) = (x.saturating_sub(reach), (x + reach + 1).min(self.width));
        let (top, bottom) = (y.saturating_sub(reach), (y + reach + 1).min(self.height));
        let at = |x: usize, y: usize| self.sums[y * (self.width + 1) + x];
        let sum = at(right, bottom) - at(left, bottom) - at(right, top) + at(left, top);
        (sum / ((right - left) * (bottom - top)) as f64) as f32
    }
}

/// Left, top, right, bottom.
type Bounds = [f32; 4];

/// Letters of one line, from left to right.
struct Chain {
    letters: Vec<Bounds>,
    height: f32,
}

fn chains(letters: Vec<Component>) -> Vec<Chain> {
    let (mut tall, mut small): (Vec<_>, Vec<_>) = (letters.into_iter())
        .map(|c| c.bounds.map(|v| v as f32))
        .partition(|b| b[3] - b[1] >= MIN_HEIGHT as f32);
    tall.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let mut chains: Vec<Chain> = Vec::new();
    for letter in tall {
        let own = letter[3] - letter[1];
        let nearest = (chains.iter_mut())
            .filter_map(|chain| {
                let last = chain.letters.last()?;
                let height = last[3] - last[1];
                let shared = last[3].min(letter[3]) - last[1].max(letter[1]);
                let gap = letter[0] - last[2];
                let alike = own < 2.6 * chain.height && chain.height < 2.6 * own;
                let beside =
                    shared > 0.4 * own.min(height) && gap < LINE_GAP * chain.height.max(own);
                (alike && beside).then_some((gap, chain))
            })
            .min_by(|a, b| a.0.total_cmp(&b.0));
        match nearest {
            Some((_, chain)) => {
                chain.letters.push(letter);
                // Letters with and without ascenders alternate: the taller ones count.
                chain.height = (0.9 * chain.height).max(own);
            }
            None => chains.push(Chain {
                letters: vec![letter],
                height: own,
            }),
        }
    }
    // One mark alone is no text; two may be a word.
    chains.retain(|chain| chain.letters.len() > 1);
    small.sort_by(|a, b| a[0].total_cmp(&b[0]));
    for mark in small {
        let home = chains.iter_mut().find(|chain| {
            chain.letters.iter().any(|l| {
                let across = (mark[0] - l[2]).max(l[0] - mark[2]);
                let down = (mark[1] - l[3]).max(l[1] - mark[3]);
                across < 0.35 * chain.height && down < 0.4 * chain.height
            })
        });
        if let Some(chain) = home {
            chain.letters.push(mark);
        }
    }
    for chain in &mut chains {
        chain.letters.sort_by(|a, b| a[0].total_cmp(&b[0]));
    }
    chains
}

/// The words of a line.
fn words(line: &Chain) -> Vec<Bounds> {
    let mut reach = f32::MIN;
    let gaps: Vec<f32> = (line.letters.iter())
        .map(|letter| {
            let gap = letter[0] - reach;
            reach = reach.max(letter[2]);
            gap
        })
        .collect();
    let mut usual: Vec<f32> = gaps.iter().skip(1).copied().filter(|&g| g > 0.0).collect();
    usual.sort_by(f32::total_cmp);
    let usual = usual.get(usual.len() / 2).copied().unwrap_or(0.0);
    let cut = (WORD_GAP * line.height).max(2.0 * usual.min(0.3 * line.height));
    let mut words: Vec<Bounds> = Vec::new();
    for (letter, gap) in line.letters.iter().zip(gaps) {
        match words.last_mut() {
            Some(word) if gap <= cut => {
                *word = [
                    word[0].min(letter[0]),
                    word[1].min(letter[1]),
                    word[2].max(letter[2]),
                    word[3].max(letter[3]),
                ];
            }
            _ => words.push(*letter),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::lines;
    use crate::image::PixelFormat;
    use proptest::prelude::*;

    /// A page of boxes for letters: 10 high, 6 wide, 2 apart, words 8 apart, lines 24 apart.
    fn page(words: &[&[usize]], ink: u8, ground: u8) -> (Vec<u8>, usize) {
        let (width, height) = (320, 24 * words.len() + 20);
        let mut data = vec![ground; width * height];
        for (line, words) in words.iter().enumerate() {
            let mut x = 12;
            for &letters in *words {
                for _ in 0..letters {
                    for row in 0..10 {
                        for column in 0..6 {
                            // Hollow, as letters are.
                            if row % 9 == 0 || column % 5 == 0 {
                                data[(10 + 24 * line + row) * width + x + column] = ink;
                            }
                        }
                    }
                    x += 8;
                }
                x += 8;
            }
        }
        (data, width)
    }

    #[test]
    fn words_of_a_page_are_found_in_both_polarities() {
        let words: [&[usize]; 3] = [&[4, 7, 2], &[9], &[3, 3, 5, 2]];
        for (ink, ground) in [(20, 240), (230, 30)] {
            let (data, width) = page(&words, ink, ground);
            let view =
                ImageView::new(&data, width, data.len() / width, width, PixelFormat::Gray).unwrap();
            let found = lines(PrintedText.detect(&view).unwrap());
            let counts: Vec<usize> = found.iter().map(Vec::len).collect();
            assert_eq!(counts, [3, 1, 4]);
            let mut x = 12.0;
            for (word, &letters) in found[0].iter().zip(words[0]) {
                let [left, top, right, bottom] = word.bounds();
                assert!(
                    (left - x).abs() < 2.5
                        && (right - (x + 8.0 * letters as f32 - 2.0)).abs() < 2.5
                );
                assert!((top - 10.0).abs() < 2.5 && (bottom - 20.0).abs() < 2.5);
                x += 8.0 * letters as f32 + 8.0;
            }
        }
    }

    #[test]
    fn an_empty_page_has_no_words() {
        for (width, height) in [(1, 1), (20, 1), (640, 480)] {
            let data = vec![255; width * height];
            let view = ImageView::new(&data, width, height, width, PixelFormat::Gray).unwrap();
            assert!(PrintedText.detect(&view).unwrap().is_empty());
        }
    }

    proptest! {
        #[test]
        fn any_picture_gives_quads_within_it(data in proptest::collection::vec(any::<u8>(), 600..900), width in 1usize..60) {
            let height = data.len() / width;
            let view = ImageView::new(&data, width, height, width, PixelFormat::Gray).unwrap();
            for quad in PrintedText.detect(&view).unwrap() {
                let [left, top, right, bottom] = quad.bounds();
                prop_assert!(left >= 0.0 && top >= 0.0 && right <= width as f32 && bottom <= height as f32);
            }
        }
    }
}
