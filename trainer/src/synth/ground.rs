//! What is behind and in letters: one color, gradients, noise, stripes, blocks, stains.

use acolyte::image::Image;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Red, green, blue in [0, 255].
pub(super) type Color = [f32; 3];

/// Three planes of a picture, row after row, in [0, 255].
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Planes {
    pub width: usize,
    pub height: usize,
    pub channels: [Vec<f32>; 3],
}

impl Planes {
    pub fn filled(width: usize, height: usize, color: Color) -> Self {
        Self {
            width,
            height,
            channels: color.map(|value| vec![value; width * height]),
        }
    }

    pub fn of_image(image: &Image) -> Self {
        let channel = |index: usize| {
            let values = image.rgb().iter().skip(index).step_by(3);
            values.map(|&v| f32::from(v)).collect()
        };
        Self {
            width: image.width(),
            height: image.height(),
            channels: [channel(0), channel(1), channel(2)],
        }
    }

    /// Adds `shade(x, y) * strength` of each channel.
    fn shade(&mut self, strength: Color, shade: impl Fn(f32, f32) -> f32) {
        for y in 0..self.height {
            for x in 0..self.width {
                let value = shade(x as f32, y as f32);
                for (plane, strength) in self.channels.iter_mut().zip(strength) {
                    plane[y * self.width + x] += value * strength;
                }
            }
        }
    }

    /// Mixes in another picture by a mask in [0, 1].
    pub fn blend(&mut self, other: &Self, mask: &[f32]) {
        for (plane, over) in self.channels.iter_mut().zip(&other.channels) {
            for ((value, &over), &opacity) in plane.iter_mut().zip(over).zip(mask) {
                *value += (over - *value) * opacity;
            }
        }
    }

    /// Mixes in a color by a mask in [0, 1].
    pub fn stain(&mut self, color: Color, mask: &[f32]) {
        for (plane, over) in self.channels.iter_mut().zip(color) {
            for (value, &opacity) in plane.iter_mut().zip(mask) {
                *value += (over - *value) * opacity;
            }
        }
    }
}

pub(super) fn luminance([r, g, b]: Color) -> f32 {
    0.299 * r + 0.587 * g + 0.114 * b
}

/// A color of about the given luminance: nearly gray half of the time, else of any hue, seldom a loud one.
pub(super) fn color(light: f32, random: &mut ChaCha8Rng) -> Color {
    let vivid = match random.random_bool(0.45) {
        true => 0.08 + 0.7 * random.random_range(0.0f32..1.0).powi(2),
        false => 0.05,
    };
    let hue: f32 = random.random_range(0.0..6.0);
    let pure = [0.0, 4.0, 2.0].map(|shift| {
        let at = (hue + shift) % 6.0;
        ((at - 3.0).abs() - 1.0).clamp(0.0, 1.0)
    });
    let own = luminance(pure);
    // Moved along gray until the luminance is met, as far as the cube goes.
    pure.map(|p| (light + 255.0 * vivid * (p - own)).clamp(0.0, 255.0))
}

/// A picture around a color; `rough` is how far it strays from it, in [0, 1].
pub(super) fn texture(
    width: usize,
    height: usize,
    base: Color,
    rough: f32,
    random: &mut ChaCha8Rng,
) -> Planes {
    let mut planes = Planes::filled(width, height, base);
    let layers = if random.random_bool(0.4) { 2 } else { 1 };
    for _ in 0..layers {
        let swing = 90.0 * rough * random.random_range(0.3..1.0);
        let tint = random.random_range(0.0..0.5);
        let strength: Color =
            std::array::from_fn(|_| swing * (1.0 - tint * random.random_range(0.0..1.0f32)));
        let (w, h) = (width as f32, height as f32);
        let size = w.max(h);
        match random.random_range(0..10) {
            0..3 => {
                let (sin, cos) = random.random_range(0.0f32..6.3).sin_cos();
                planes.shade(strength, |x, y| {
                    ((x - 0.5 * w) * cos + (y - 0.5 * h) * sin) * 2.0 / size
                });
            }
            3..6 => {
                let octaves = random.random_range(1..4);
                let mut cell = h * random.random_range(0.1..1.2);
                let mut share = 1.0;
                for _ in 0..octaves {
                    let lattice = Lattice::draw(width, height, cell.max(1.0), random);
                    planes.shade(strength.map(|s| s * share), |x, y| lattice.at(x, y));
                    cell *= 0.5;
                    share *= 0.6;
                }
            }
            6 => {
                let (sin, cos) = random.random_range(0.0f32..3.2).sin_cos();
                let pace = std::f32::consts::TAU / (h * random.random_range(0.12..0.9));
                let sharp = random.random_range(0.8..8.0);
                planes.shade(strength, |x, y| {
                    (((x * cos + y * sin) * pace).sin() * sharp).clamp(-1.0, 1.0)
                });
            }
            7 | 8 => {
                // An edge between two grounds: a board's rim, a shelf, a window.
                let (sin, cos) = (random.random_range(0..4) as f32 * std::f32::consts::FRAC_PI_2
                    + random.random_range(-0.25f32..0.25))
                .sin_cos();
                let at = random.random_range(-0.48..0.48);
                let soft = random.random_range(0.3..2.0);
                let signed: f32 = if random.random_bool(0.5) { 1.6 } else { -1.6 };
                planes.shade(strength, |x, y| {
                    let across = (x - 0.5 * w) * cos / w + (y - 0.5 * h) * sin / h - at;
                    signed * (across * h * soft).clamp(0.0, 1.0)
                });
            }
            _ => {
                for _ in 0..random.random_range(1..6) {
                    let (cx, cy) = (random.random_range(0.0..w), random.random_range(0.0..h));
                    let (rx, ry) = (
                        h * random.random_range(0.1..0.9),
                        h * random.random_range(0.1..0.9),
                    );
                    let hard = random.random_range(1.0..6.0);
                    let signed: f32 = if random.random_bool(0.5) { 1.0 } else { -1.0 };
                    planes.shade(strength, |x, y| {
                        let far = ((x - cx) / rx).powi(2) + ((y - cy) / ry).powi(2);
                        signed * ((1.0 - far) * hard).clamp(0.0, 1.0)
                    });
                }
            }
        }
    }
    planes
}

/// Random values on a lattice, smooth between its points.
struct Lattice {
    values: Vec<f32>,
    columns: usize,
    rows: usize,
    cell: f32,
}

impl Lattice {
    fn draw(width: usize, height: usize, cell: f32, random: &mut ChaCha8Rng) -> Self {
        let columns = (width as f32 / cell) as usize + 2;
        let rows = (height as f32 / cell) as usize + 2;
        Self {
            values: (0..columns * rows)
                .map(|_| random.random_range(-1.0f32..1.0))
                .collect(),
            columns,
            rows,
            cell,
        }
    }

    fn at(&self, x: f32, y: f32) -> f32 {
        let (x, y) = (x / self.cell, y / self.cell);
        let column = (x as usize).min(self.columns - 2);
        let row = (y as usize).min(self.rows - 2);
        let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
        let (a, b) = (smooth(x - column as f32), smooth(y - row as f32));
        let value = |r: usize, c: usize| self.values[r * self.columns + c];
        let upper = value(row, column) * (1.0 - a) + value(row, column + 1) * a;
        let lower = value(row + 1, column) * (1.0 - a) + value(row + 1, column + 1) * a;
        upper * (1.0 - b) + lower * b
    }
}
