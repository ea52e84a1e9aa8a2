//! Fills bent outlines over a ground: letters with their fill, outline and shadow, parts of neighbors, rules.

use super::fonts::{Curve, FontSet, Point};
use super::ground::{Color, Planes, color, luminance, texture};
use super::sketch::{Placed, Sketch};
use crate::config::EffectsConfig;
use ab_glyph_rasterizer::{Rasterizer, point};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

pub(super) fn paint(
    sketch: &Sketch,
    fonts: &FontSet,
    effects: &EffectsConfig,
    random: &mut ChaCha8Rng,
) -> Planes {
    let (width, height) = (sketch.width, sketch.height);
    let (letters, ground) = colors(effects, random);
    let rough = random.random_bool(f64::from(effects.texture));
    let mut planes = match rough {
        true => {
            let rough = random.random_range(0.1f32..1.0).powi(2);
            texture(width, height, ground, rough, random)
        }
        false => Planes::filled(width, height, ground),
    };
    let opacity = fill(sketch, fonts, &sketch.letters, [0.0; 2]);
    if random.random_bool(0.1) {
        rules(
            &mut planes,
            color(random.random_range(0.0..255.0), random),
            random,
        );
    }
    if random.random_bool(f64::from(effects.shadow)) {
        let reach = 0.09 * sketch.em;
        let offset = [(); 2].map(|()| random.random_range(-reach..=reach));
        let mut mask = fill(sketch, fonts, &sketch.letters, offset);
        super::degrade::soften(
            &mut mask,
            width,
            random.random_range(0.2..0.06 * sketch.em + 0.4),
        );
        let strength = random.random_range(0.3..0.95);
        mask.iter_mut().for_each(|m| *m *= strength);
        let dark = if random.random_bool(0.8) { 0.1 } else { 1.6 };
        planes.stain(ground.map(|v| (v * dark).min(255.0)), &mask);
    }
    if random.random_bool(f64::from(effects.outline)) {
        let mut mask = opacity.clone();
        let reach = random.random_range(0.4..0.05 * sketch.em + 0.6);
        super::degrade::soften(&mut mask, width, reach);
        mask.iter_mut().for_each(|m| *m = (*m * 4.0).min(1.0));
        let light = luminance(letters);
        let other = if light > 128.0 {
            random.random_range(0.0..70.0)
        } else {
            random.random_range(180.0..255.0)
        };
        planes.stain(color(other, random), &mask);
    }
    if sketch.loose && random.random_bool(0.35) {
        neighbors(&mut planes, sketch, fonts, letters, random);
    }
    if random.random_bool(0.15 + 0.25 * f64::from(effects.texture)) {
        let rough = 0.5 * random.random_range(0.1f32..1.0).powi(2);
        let filled = texture(width, height, letters, rough, random);
        planes.blend(&filled, &opacity);
    } else {
        planes.stain(letters, &opacity);
    }
    planes
}

/// Colors of letters and ground: far apart in luminance, or with little contrast.
fn colors(effects: &EffectsConfig, random: &mut ChaCha8Rng) -> (Color, Color) {
    let apart = match random.random_bool(f64::from(effects.low_contrast)) {
        true => random.random_range(18.0..48.0),
        false => random.random_range(48.0f32..235.0),
    };
    let low = random.random_range(0.0..255.0 - apart);
    let (dark, bright) = (color(low, random), color(low + apart, random));
    // Saturated colors miss their luminance: kept apart all the same.
    let (dark, bright) = if (luminance(bright) - luminance(dark)).abs() < 0.7 * apart {
        ([low; 3], [low + apart; 3])
    } else {
        (dark, bright)
    };
    if random.random_bool(0.5) {
        (dark, bright)
    } else {
        (bright, dark)
    }
}

/// How much of each pixel letters cover, moved by pixels.
fn fill(sketch: &Sketch, fonts: &FontSet, letters: &[Placed], offset: Point) -> Vec<f32> {
    let (width, height) = (sketch.width, sketch.height);
    let mut raster = Rasterizer::new(width, height);
    // What lies outside is moved to the edge: left of it that covers the row as it should, and nothing else shows.
    let place = |letter: &Placed, p: Point| {
        let [x, y] = sketch
            .warp
            .apply([p[0] + letter.pen[0], p[1] + letter.pen[1]]);
        point(
            (x + offset[0]).clamp(0.0, width as f32),
            (y + offset[1]).clamp(0.0, height as f32),
        )
    };
    for letter in letters {
        let Some(glyph) = fonts.faces()[sketch.face].glyph(letter.character) else {
            continue;
        };
        for curve in &glyph.curves {
            match curve {
                Curve::Line([a, b]) => raster.draw_line(place(letter, *a), place(letter, *b)),
                Curve::Quad([a, b, c]) => {
                    raster.draw_quad(place(letter, *a), place(letter, *b), place(letter, *c));
                }
                Curve::Cubic([a, b, c, d]) => raster.draw_cubic(
                    place(letter, *a),
                    place(letter, *b),
                    place(letter, *c),
                    place(letter, *d),
                ),
            }
        }
    }
    let mut mask = vec![0.0; width * height];
    raster.for_each_pixel(|index, coverage| {
        if let Some(pixel) = mask.get_mut(index) {
            *pixel = coverage.clamp(0.0, 1.0);
        }
    });
    mask
}

/// A line above or below, of which only an edge is in the crop.
fn neighbors(
    planes: &mut Planes,
    sketch: &Sketch,
    fonts: &FontSet,
    letters: Color,
    random: &mut ChaCha8Rng,
) {
    let mut others: Vec<Placed> = sketch.letters.clone();
    others.reverse();
    for (other, own) in others.iter_mut().zip(&sketch.letters) {
        other.pen = own.pen;
    }
    let distance = sketch.em * random.random_range(0.95..1.5);
    let signed = if random.random_bool(0.5) { 1.0 } else { -1.0 };
    let offset = [
        random.random_range(-1.0..1.0) * sketch.em,
        signed * distance,
    ];
    let mask = fill(sketch, fonts, &others, offset);
    planes.stain(letters, &mask);
}

/// A rule below, above or around.
fn rules(planes: &mut Planes, ink: Color, random: &mut ChaCha8Rng) {
    let (width, height) = (planes.width, planes.height);
    let thick = (height as f32 * random.random_range(0.02..0.1)).max(1.0) as usize;
    let inset = random.random_range(0..=height / 8);
    let [left, top, right, bottom] = std::array::from_fn(|_| random.random_bool(0.4));
    let mut mask = vec![0.0; width * height];
    for y in 0..height {
        for x in 0..width {
            let at = |on: bool, distance: usize| on && (inset..inset + thick).contains(&distance);
            if at(left, x) || at(top, y) || at(right, width - 1 - x) || at(bottom, height - 1 - y) {
                mask[y * width + x] = 0.9;
            }
        }
    }
    planes.stain(ink, &mask);
}
