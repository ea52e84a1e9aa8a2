//! Whether a frame is worth reading: sharp enough, and held still.
//!
//! *Sharpness* is the variance of the Laplacian of the luminance (Pech-Pacheco et al., ICPR 2000), in squared levels of
//! 255. *Motion* is the mean difference between the thumbnails of two frames, each without its mean, in levels of 255:
//! a lamp that brightens is no motion.

use crate::Result;
use crate::image::ImageView;
use crate::spec::ImageChannels;

/// Cells of a thumbnail along each side.
const SIDE: usize = 16;

/// Points looked at within a cell, along each side.
const POINTS: usize = 4;

/// Most pixels that sharpness is taken from; of a larger part, evenly spaced rows stand for all.
const MOST_PIXELS: usize = 1 << 19;

/// The variance of the Laplacian over a part of an image; infinite where the part is too small to tell.
pub(super) fn sharpness(part: &ImageView<'_>) -> f32 {
    let (width, height) = (part.width(), part.height());
    if width < 3 || height < 3 {
        return f32::INFINITY;
    }
    let step = (width * height).div_ceil(MOST_PIXELS);
    let (mut sum, mut squares, mut count) = (0.0f64, 0.0f64, 0u64);
    let mut above = [Vec::with_capacity(width)];
    let mut here = [Vec::with_capacity(width)];
    let mut below = [Vec::with_capacity(width)];
    for y in (1..height - 1).step_by(step) {
        for (line, row) in [(y - 1, &mut above), (y, &mut here), (y + 1, &mut below)] {
            part.row(line, 0..width, ImageChannels::Gray, row);
        }
        let triples = here[0].windows(3);
        for ((middle, up), down) in triples.zip(&above[0][1..]).zip(&below[0][1..]) {
            let laplacian = f64::from(4.0 * middle[1] - middle[0] - middle[2] - up - down);
            sum += laplacian;
            squares += laplacian * laplacian;
        }
        count += width as u64 - 2;
    }
    let mean = sum / count as f64;
    (squares / count as f64 - mean * mean).max(0.0) as f32
}

/// A part of an image in 16 x 16 cells of luminance, without its mean.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Thumbnail(Vec<f32>);

impl Thumbnail {
    pub(super) fn new(part: &ImageView<'_>) -> Self {
        let points = SIDE * POINTS;
        let at = |index: usize, length: usize| (index as f32 + 0.5) * length as f32 / points as f32;
        let mut cells = vec![0.0; SIDE * SIDE];
        for y in 0..points {
            for x in 0..points {
                let [level, ..] = part.sample(
                    at(x, part.width()),
                    at(y, part.height()),
                    ImageChannels::Gray,
                );
                cells[y / POINTS * SIDE + x / POINTS] += level;
            }
        }
        let mean = cells.iter().sum::<f32>() / cells.len() as f32;
        let points = (POINTS * POINTS) as f32;
        cells
            .iter_mut()
            .for_each(|cell| *cell = (*cell - mean) / points);
        Self(cells)
    }

    /// How far two parts differ.
    pub(super) fn motion(&self, other: &Self) -> f32 {
        let differences = self.0.iter().zip(&other.0).map(|(a, b)| (a - b).abs());
        differences.sum::<f32>() / self.0.len() as f32
    }
}

/// The upright part of an image around `bounds` (left, top, right, bottom); the whole where nothing of it is inside.
pub(super) fn part<'a>(image: &ImageView<'a>, bounds: [f32; 4]) -> Result<ImageView<'a>> {
    let inside = |value: f32, most: usize| (value.max(0.0) as usize).min(most);
    let (left, top) = (
        inside(bounds[0], image.width()),
        inside(bounds[1], image.height()),
    );
    let (right, bottom) = (
        inside(bounds[2].ceil(), image.width()),
        inside(bounds[3].ceil(), image.height()),
    );
    if right <= left || bottom <= top {
        return Ok(*image);
    }
    image.crop(left, top, right - left, bottom - top)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::PixelFormat;

    const WIDTH: usize = 96;
    const HEIGHT: usize = 48;

    fn view(data: &[u8]) -> ImageView<'_> {
        ImageView::new(data, WIDTH, HEIGHT, WIDTH, PixelFormat::Gray).unwrap()
    }

    /// Bars of text-like width, moved by `shift` columns.
    fn bars(shift: usize) -> Vec<u8> {
        (0..WIDTH * HEIGHT)
            .map(|i| {
                if (i % WIDTH + shift) % 24 < 9 {
                    30
                } else {
                    210
                }
            })
            .collect()
    }

    fn blurred(data: &[u8], reach: usize) -> Vec<u8> {
        let at = |x: usize, y: usize| f32::from(data[y * WIDTH + x.min(WIDTH - 1)]);
        (0..WIDTH * HEIGHT)
            .map(|i| {
                let (x, y) = (i % WIDTH, i / WIDTH);
                let sum: f32 = (0..=2 * reach)
                    .map(|k| at((x + k).saturating_sub(reach), y))
                    .sum();
                (sum / (2 * reach + 1) as f32) as u8
            })
            .collect()
    }

    #[test]
    fn blur_lowers_sharpness_step_by_step() {
        let sharp = bars(0);
        let values: Vec<f32> = [0, 1, 3, 6]
            .map(|reach| sharpness(&view(&blurred(&sharp, reach))))
            .to_vec();
        assert!(
            values.windows(2).all(|pair| pair[1] < 0.6 * pair[0]),
            "{values:?}"
        );
        assert!(values[0] > 1000.0 && values[3] < 100.0, "{values:?}");
        assert_eq!(sharpness(&view(&[90; WIDTH * HEIGHT])), 0.0);
        assert_eq!(
            sharpness(&view(&sharp).crop(0, 0, 2, 40).unwrap()),
            f32::INFINITY
        );
    }

    #[test]
    fn motion_is_seen_and_light_is_not() {
        let still = bars(0);
        let first = Thumbnail::new(&view(&still));
        assert_eq!(first.motion(&first), 0.0);
        let brighter: Vec<u8> = still.iter().map(|&level| level + 25).collect();
        assert!(first.motion(&Thumbnail::new(&view(&brighter))) < 0.01);
        let mut last = 0.0;
        for shift in [1, 4, 9] {
            let motion = first.motion(&Thumbnail::new(&view(&bars(shift))));
            assert!(motion > last, "{shift}: {motion}");
            last = motion;
        }
        assert!(last > 20.0);
    }

    #[test]
    fn parts_stay_inside() {
        let data = bars(0);
        let view = view(&data);
        let found = part(&view, [-5.0, 10.2, 20.5, 900.0]).unwrap();
        assert_eq!((found.width(), found.height()), (21, 38));
        for nothing in [
            [200.0, 0.0, 300.0, 9.0],
            [9.0, 9.0, 9.0, 9.0],
            [f32::NAN; 4],
        ] {
            assert_eq!(part(&view, nothing).unwrap().width(), WIDTH);
        }
    }
}
