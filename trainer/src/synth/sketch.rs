//! What a picture shows, before anything is painted: text, face, how its letters are set and bent, how large it is.
//!
//! Letters are set along x in ems, y up, then mapped: slanted and stretched, bent along an arc or a wave, rotated, seen
//! in perspective, and at last scaled to pixels, y down, so that the bounding box of the ink with its margins fills the
//! crop.

use super::fonts::{FontSet, Point};
use crate::config::{EffectsConfig, SynthConfig};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// The widest picture, in heights.
const MAX_ASPECT: f32 = 24.0;

/// A letter set: which one, where its pen stands, and by how much it is off the baseline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placed {
    /// The character.
    pub character: char,
    /// The pen, in ems.
    pub pen: Point,
}

/// The map from ems to pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Warp {
    center: Point,
    slant: f32,
    stretch: f32,
    /// Curvature: radians an em along the line.
    arc: f32,
    /// Height in ems, radians an em and phase of a wave.
    wave: [f32; 3],
    rotation: [f32; 2],
    perspective: Point,
    scale: f32,
    origin: Point,
}

impl Warp {
    fn bent(&self, [x, y]: Point) -> Point {
        let y = y - self.center[1];
        let x = (x - self.center[0]) * self.stretch + self.slant * y;
        let (mut u, mut v) = (x, y);
        if self.arc.abs() > 1e-3 {
            let radius = 1.0 / self.arc;
            let (sin, cos) = (x * self.arc).sin_cos();
            u = (radius + y) * sin;
            v = (radius + y) * cos - radius;
        }
        let [height, pace, phase] = self.wave;
        if height != 0.0 {
            v += height * (x * pace + phase).sin();
        }
        let [sin, cos] = self.rotation;
        let (u, v) = (u * cos - v * sin, u * sin + v * cos);
        let depth = (1.0 + self.perspective[0] * u + self.perspective[1] * v).max(0.2);
        [u / depth, v / depth]
    }

    /// Where a point of the em plane stands in the picture, in pixels.
    pub fn apply(&self, point: Point) -> Point {
        let [u, v] = self.bent(point);
        [
            u * self.scale + self.origin[0],
            self.origin[1] - v * self.scale,
        ]
    }
}

/// A picture before it is painted.
#[derive(Debug, Clone, PartialEq)]
pub struct Sketch {
    /// The text.
    pub text: String,
    /// The face, an index of the font set.
    pub face: usize,
    /// The letters.
    pub letters: Vec<Placed>,
    /// From ems to pixels.
    pub warp: Warp,
    /// Pixels in a row of the crop.
    pub width: usize,
    /// Rows of the crop.
    pub height: usize,
    /// Pixels an em, about.
    pub em: f32,
    /// Whether the crop is loose.
    pub loose: bool,
}

impl Sketch {
    /// Sets a text. `fits` says whether a crop of a width and height has room for its symbols; it is stretched until
    /// it has.
    pub(super) fn draw(
        text: &str,
        fonts: &FontSet,
        config: &SynthConfig,
        random: &mut ChaCha8Rng,
        fits: &dyn Fn(f32, f32) -> bool,
    ) -> Self {
        let effects = &config.effects;
        let face = fonts.draw(text, random);
        let letters = set(text, fonts, face, effects, random);
        let mut warp = Warp::draw(&letters, fonts, face, effects, random);
        let loose = random.random_bool(f64::from(effects.loose));
        let margins: [f32; 4] = std::array::from_fn(|side| {
            let most = match (loose, side % 2) {
                // Left and right, then top and bottom.
                (true, 0) => 0.8,
                (true, _) => 0.45,
                (false, _) => 0.14,
            };
            random.random_range(-0.03..most)
        });
        let [low, high] = config.height.map(f32::ln);
        let height = random.random_range(low..=high).exp().round().max(4.0);
        let (mut width, mut bounds) = (0.0, [0.0; 4]);
        for _ in 0..24 {
            bounds = ink(&letters, fonts, face, &warp);
            let tall = (bounds[3] - bounds[1]).max(0.05);
            let wide = bounds[2] - bounds[0];
            let whole = tall * (1.0 + margins[1] + margins[3]);
            let wide = wide + tall * (margins[0] + margins[2]);
            warp.scale = height / whole;
            width = (wide * warp.scale).round().clamp(3.0, height * MAX_ASPECT);
            if fits(width, height) {
                break;
            }
            warp.stretch *= 1.15;
        }
        let tall = (bounds[3] - bounds[1]).max(0.05);
        warp.origin = [
            (tall * margins[0] - bounds[0]) * warp.scale,
            (bounds[3] + tall * margins[1]) * warp.scale,
        ];
        Self {
            text: text.to_owned(),
            face,
            letters,
            em: warp.scale,
            warp,
            width: width as usize,
            height: height as usize,
            loose,
        }
    }
}

/// Left, bottom, right and top of the bent outlines, in ems.
fn ink(letters: &[Placed], fonts: &FontSet, face: usize, warp: &Warp) -> [f32; 4] {
    let mut bounds = [f32::MAX, f32::MAX, f32::MIN, f32::MIN];
    for letter in letters {
        let Some(glyph) = fonts.faces()[face].glyph(letter.character) else {
            continue;
        };
        for point in glyph.curves.iter().flat_map(|curve| curve.points()) {
            let [u, v] = warp.bent([point[0] + letter.pen[0], point[1] + letter.pen[1]]);
            bounds = [
                bounds[0].min(u),
                bounds[1].min(v),
                bounds[2].max(u),
                bounds[3].max(v),
            ];
        }
    }
    if bounds[0] > bounds[2] {
        [0.0, 0.0, 1.0, 1.0]
    } else {
        bounds
    }
}

fn set(
    text: &str,
    fonts: &FontSet,
    face: usize,
    effects: &EffectsConfig,
    random: &mut ChaCha8Rng,
) -> Vec<Placed> {
    let tracking = match random.random_bool(f64::from(effects.spacing)) {
        true if random.random_bool(0.35) => random.random_range(-0.06..0.0),
        true => 0.6 * random.random_range(0.0f32..1.0).powi(2),
        false => 0.0,
    };
    let unsteady = if random.random_bool(0.06) { 0.06 } else { 0.0 };
    let mut pen = 0.0;
    (text.chars())
        .map(|character| {
            let lift = if unsteady > 0.0 {
                random.random_range(-unsteady..unsteady)
            } else {
                0.0
            };
            let placed = Placed {
                character,
                pen: [pen, lift],
            };
            let advance = fonts.faces()[face]
                .glyph(character)
                .map_or(0.3, |g| g.advance);
            pen += (advance + tracking).max(0.05);
            placed
        })
        .collect()
}

impl Warp {
    fn draw(
        letters: &[Placed],
        fonts: &FontSet,
        face: usize,
        effects: &EffectsConfig,
        random: &mut ChaCha8Rng,
    ) -> Self {
        let mut warp = Self {
            center: [0.0; 2],
            slant: 0.0,
            stretch: 1.0,
            arc: 0.0,
            wave: [0.0; 3],
            rotation: [0.0, 1.0],
            perspective: [0.0; 2],
            scale: 1.0,
            origin: [0.0; 2],
        };
        let bounds = ink(letters, fonts, face, &warp);
        warp.center = [0.5 * (bounds[0] + bounds[2]), 0.5 * (bounds[1] + bounds[3])];
        // About normal: most pictures are hardly changed.
        let around = |random: &mut ChaCha8Rng| -> f32 {
            (0..3)
                .map(|_| random.random_range(-1.0f32..1.0))
                .sum::<f32>()
                / 1.8
        };
        warp.stretch = (0.16 * around(random)).exp();
        if random.random_bool(f64::from(effects.slant)) {
            warp.slant = 0.22 * around(random);
        }
        let wide = (bounds[2] - bounds[0]).max(0.3) * warp.stretch;
        if random.random_bool(f64::from(effects.curve)) {
            if random.random_bool(0.75) {
                let angle = random.random_range(-1.5f32..1.5);
                warp.arc = angle / wide.max(1.2);
            } else {
                let height = random.random_range(0.03..0.14);
                warp.wave = [
                    height,
                    random.random_range(0.8..2.6),
                    random.random_range(0.0..6.3),
                ];
            }
        }
        if random.random_bool(f64::from(effects.rotate)) {
            let turn = around(random);
            // Wide words are turned less, as on signs; now and then one is steep.
            let most = if random.random_bool(0.12) {
                effects.degrees
            } else {
                0.25 * effects.degrees
            };
            let (sin, cos) = (turn * most).to_radians().sin_cos();
            warp.rotation = [sin, cos];
        }
        if random.random_bool(f64::from(effects.perspective)) {
            let tall = (bounds[3] - bounds[1]).max(0.3);
            warp.perspective = [
                0.28 * around(random) / (0.5 * wide).max(0.5),
                0.16 * around(random) / (0.5 * tall).max(0.3),
            ];
        }
        warp
    }
}
