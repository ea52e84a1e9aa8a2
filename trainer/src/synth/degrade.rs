//! What a camera does to a picture: uneven light, blur of focus and motion, low resolution, noise, JPEG.

use super::ground::Planes;
use crate::config::EffectsConfig;
use crate::{Error, ErrorKind, Result};
use acolyte::image::Image;
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

pub(super) fn degrade(
    mut planes: Planes,
    effects: &EffectsConfig,
    random: &mut ChaCha8Rng,
) -> Result<Image> {
    let happens = |probability: f32, random: &mut ChaCha8Rng| {
        random.random_bool(f64::from(probability.clamp(0.0, 1.0)))
    };
    let (width, height) = (planes.width, planes.height);
    if happens(effects.light, random) {
        light(&mut planes, random);
    }
    if happens(effects.motion, random) {
        let length = height as f32 * random.random_range(0.04..0.22);
        let angle = random.random_range(0.0f32..3.2);
        for plane in &mut planes.channels {
            smear(plane, width, length, angle);
        }
    }
    if happens(effects.blur, random) {
        let most = 0.02 + 0.055 * random.random_range(0.0f32..1.0).powi(2);
        let sigma = height as f32 * random.random_range(0.004..most);
        for plane in &mut planes.channels {
            soften(plane, width, sigma);
        }
        if random.random_bool(0.25) {
            sharpen(&mut planes, random.random_range(0.3..1.5));
        }
    }
    if happens(effects.noise, random) {
        let strength = 1.0 + 15.0 * random.random_range(0.0f32..1.0).powi(3);
        noise(&mut planes, strength, random);
    }
    let mut pixels = vec![0; 3 * width * height];
    for (channel, plane) in planes.channels.iter().enumerate() {
        for (pixel, &value) in pixels.iter_mut().skip(channel).step_by(3).zip(plane) {
            *pixel = value.round().clamp(0.0, 255.0) as u8;
        }
    }
    if happens(effects.jpeg, random) {
        let quality = 12 + (83.0 * random.random_range(0.0f32..1.0).sqrt()) as u8;
        return jpeg(&pixels, width, height, quality);
    }
    Ok(Image::from_rgb(width, height, pixels)?)
}

/// There and back through a JPEG file.
fn jpeg(pixels: &[u8], width: usize, height: usize, quality: u8) -> Result<Image> {
    let mut file = Vec::with_capacity(pixels.len());
    JpegEncoder::new_with_quality(&mut file, quality)
        .encode(pixels, width as u32, height as u32, ExtendedColorType::Rgb8)
        .map_err(|e| {
            Error::new(ErrorKind::Data, format!("a rendered picture as JPEG: {e}")).with_source(e)
        })?;
    Ok(Image::from_bytes(&file)?)
}

/// A gradient of brightness, and at times a highlight or the edge of a shadow.
fn light(planes: &mut Planes, random: &mut ChaCha8Rng) {
    let (width, height) = (planes.width as f32, planes.height as f32);
    let slope = [(); 2].map(|()| random.random_range(-0.35f32..0.35));
    let spot = random.random_bool(0.25).then(|| {
        let center = [
            random.random_range(0.0..width),
            random.random_range(0.0..height),
        ];
        (
            center,
            height * random.random_range(0.3..1.5),
            random.random_range(30.0f32..150.0),
        )
    });
    let edge = random.random_bool(0.2).then(|| {
        let (sin, cos) = random.random_range(0.0f32..6.3).sin_cos();
        (
            [cos, sin],
            random.random_range(-0.3..0.3) * width,
            random.random_range(0.35..0.8),
        )
    });
    for y in 0..planes.height {
        for x in 0..planes.width {
            let (u, v) = (x as f32 / width - 0.5, y as f32 / height - 0.5);
            let mut gain = 1.0 + slope[0] * u * 2.0 + slope[1] * v;
            let mut lift = 0.0;
            if let Some(([cx, cy], radius, bright)) = spot {
                let far = ((x as f32 - cx).powi(2) + (y as f32 - cy).powi(2)) / (radius * radius);
                lift = bright * (1.0 - far).max(0.0);
            }
            if let Some(([cos, sin], at, dark)) = edge {
                let across = (x as f32 - 0.5 * width) * cos + (y as f32 - 0.5 * height) * sin - at;
                gain *= 1.0 - (1.0 - dark) * (0.5 + across / 3.0).clamp(0.0, 1.0);
            }
            for plane in &mut planes.channels {
                let value = &mut plane[y * planes.width + x];
                *value = (*value * gain + lift).min(255.0);
            }
        }
    }
}

/// A Gaussian blur of a plane `width` wide, edges repeated.
pub(super) fn soften(plane: &mut [f32], width: usize, sigma: f32) {
    if sigma < 0.2 || plane.is_empty() {
        return;
    }
    let reach = (2.5 * sigma).ceil().min(64.0) as usize;
    let mut taps: Vec<f32> = (0..=reach)
        .map(|i| (-0.5 * (i as f32 / sigma).powi(2)).exp())
        .collect();
    let sum = taps[0] + 2.0 * taps[1..].iter().sum::<f32>();
    taps.iter_mut().for_each(|tap| *tap /= sum);
    let height = plane.len() / width;
    let mut padded = vec![0.0; width + 2 * reach];
    for row in plane.chunks_exact_mut(width) {
        padded[..reach].fill(row[0]);
        padded[reach..reach + width].copy_from_slice(row);
        padded[reach + width..].fill(row[width - 1]);
        row.iter_mut()
            .zip(&padded[reach..])
            .for_each(|(out, &x)| *out = taps[0] * x);
        for (i, &tap) in taps.iter().enumerate().skip(1) {
            let (before, after) = (&padded[reach - i..], &padded[reach + i..]);
            for ((out, &a), &b) in row.iter_mut().zip(before).zip(after) {
                *out += tap * (a + b);
            }
        }
    }
    let source = plane.to_vec();
    let row = |y: isize| {
        let y = y.clamp(0, height as isize - 1) as usize;
        &source[y * width..(y + 1) * width]
    };
    for (y, out) in plane.chunks_exact_mut(width).enumerate() {
        let y = y as isize;
        out.iter_mut().for_each(|value| *value *= taps[0]);
        for (i, &tap) in taps.iter().enumerate().skip(1) {
            let (above, below) = (row(y - i as isize), row(y + i as isize));
            for ((out, &a), &b) in out.iter_mut().zip(above).zip(below) {
                *out += tap * (a + b);
            }
        }
    }
}

/// The mean along a line: motion while the shutter is open.
fn smear(plane: &mut [f32], width: usize, length: f32, angle: f32) {
    let height = plane.len() / width;
    let steps = (length.ceil() as usize).clamp(2, 24);
    let (sin, cos) = angle.sin_cos();
    let source = plane.to_vec();
    plane.fill(0.0);
    for step in 0..steps {
        let along = length * (step as f32 / (steps - 1) as f32 - 0.5);
        let (dx, dy) = (
            (along * cos).round() as isize,
            (along * sin).round() as isize,
        );
        for y in 0..height {
            let from = (y as isize + dy).clamp(0, height as isize - 1) as usize;
            for x in 0..width {
                let at = (x as isize + dx).clamp(0, width as isize - 1) as usize;
                plane[y * width + x] += source[from * width + at];
            }
        }
    }
    plane.iter_mut().for_each(|value| *value /= steps as f32);
}

/// Unsharp masking, as cameras overdo it.
fn sharpen(planes: &mut Planes, amount: f32) {
    let width = planes.width;
    for plane in &mut planes.channels {
        let mut smooth = plane.clone();
        soften(&mut smooth, width, 1.2);
        for (value, &smooth) in plane.iter_mut().zip(&smooth) {
            *value += amount * (*value - smooth);
        }
    }
}

/// About normal noise, half of it the same in all channels; at times in grains of several pixels.
fn noise(planes: &mut Planes, strength: f32, random: &mut ChaCha8Rng) {
    let count = planes.width * planes.height;
    let mut state = random.random::<u64>() | 1;
    // A Weyl sequence through a multiplicative hash: fast, and good enough for grain.
    let mut draw = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = mixed ^ (mixed >> 29);
        let sum: u32 = mixed.to_le_bytes()[..4].iter().map(|&b| u32::from(b)).sum();
        // Four uniform bytes: mean 510, deviation 147.8.
        (sum as f32 - 510.0) * (1.0 / 147.8)
    };
    let mut shared: Vec<f32> = (0..count).map(|_| draw()).collect();
    if random.random_bool(0.3) {
        soften(&mut shared, planes.width, 0.8);
        shared.iter_mut().for_each(|value| *value *= 2.0);
    }
    let own = random.random_range(0.0..0.8);
    for plane in &mut planes.channels {
        for (value, &shared) in plane.iter_mut().zip(&shared) {
            *value += strength * (shared + own * draw());
        }
    }
}
