//! An image of a word or line to features `[T, F]`: scaled to H rows, aspect kept, normalized, padded on the right.
//!
//! Scaling is a triangle filter as wide as the scale along each axis (bilinear where the image grows, an average
//! where it shrinks), or that of `bilinear` where the spec asks for it and the image is whole. A quad is rectified through its projective map, with as many samples a pixel as the scale asks
//! for. Every number depends on the image alone. F = C * H features: channel after channel, each from top to bottom.

use super::bilinear;
use crate::image::{ImageView, Projection, Quad};
use crate::spec::{Aspect, LineSpec, Normalization, Scaling};
use crate::{Error, ErrorKind, Result};
use ndarray::{Array2, ArrayView2};

/// Most samples a pixel along each axis when a quad is rectified.
const MAX_SAMPLES: usize = 8;

/// Makes lines from images.
#[derive(Debug, Clone)]
pub struct LineReader {
    spec: LineSpec,
    fixed: Option<usize>,
}

/// A line ready for a model, and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// `[F, T]`.
    features: Array2<f32>,
    columns: usize,
    place: Projection,
}

impl Line {
    /// The features, `[T, F]`.
    pub fn features(&self) -> ArrayView2<'_, f32> {
        self.features.t()
    }

    /// The features as they lie, `[F, T]`.
    pub fn into_features(self) -> Array2<f32> {
        self.features
    }

    /// Columns with padding: T.
    pub fn frames(&self) -> usize {
        self.features.ncols()
    }

    /// Columns without padding.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Where the columns from `from` to `to` stand in the source image; what lies in the padding is cut off.
    pub fn place(&self, from: f32, to: f32) -> Quad {
        let fraction = |column: f32| (column / self.columns as f32).clamp(0.0, 1.0);
        self.place.part(fraction(from), fraction(to))
    }
}

impl LineReader {
    /// A reader of the given description.
    ///
    /// # Errors
    /// [`ErrorKind::Spec`] where it contradicts itself.
    pub fn new(spec: &LineSpec) -> Result<Self> {
        spec.validate(1)?;
        Ok(Self {
            spec: spec.clone(),
            fixed: None,
        })
    }

    /// The same reader for a graph of a fixed width: every line is `frames` columns wide, padding included.
    #[must_use]
    pub fn with_fixed_frames(mut self, frames: usize) -> Self {
        self.fixed = Some(frames.max(1));
        self
    }

    /// A reader that checks nothing, its description being made in this crate.
    #[cfg(feature = "onnx")]
    pub(crate) fn unchecked(spec: LineSpec) -> Self {
        Self { spec, fixed: None }
    }

    /// The description.
    pub fn spec(&self) -> &LineSpec {
        &self.spec
    }

    /// The line in a whole image.
    ///
    /// # Errors
    /// None at present: every view has at least one pixel.
    pub fn read(&self, image: &ImageView<'_>) -> Result<Line> {
        let (width, height) = (image.width(), image.height());
        let place = Quad::rectangle(0.0, 0.0, width as f32, height as f32);
        let (columns, frames) = self.size(width as f32, height as f32);
        let mut line = self.blank(frames, columns, place.projection()?);
        if self.spec.scaling == Scaling::Bilinear {
            let (rows, channels) = (self.spec.height, self.spec.channels);
            bilinear::scale(image, channels, rows, columns, &mut line.features);
            self.normalize(&mut line);
            return Ok(line);
        }
        let (across, down) = (
            Taps::new(width, columns),
            Taps::new(height, self.spec.height),
        );
        let channels = self.spec.channels.count();
        let mut row = vec![Vec::with_capacity(width); channels];
        let mut scaled = vec![0.0; columns];
        let mut below = 0;
        for y in 0..height {
            image.row(y, 0..width, self.spec.channels, &mut row);
            // Output rows whose window begins at or above y and has not ended.
            while below < self.spec.height && down.end(below) <= y {
                below += 1;
            }
            for (channel, row) in row.iter().enumerate() {
                across.apply(row, &mut scaled);
                let outputs = (below..self.spec.height).take_while(|&out| down.start[out] <= y);
                for out in outputs {
                    let weight = down.weight(out, y);
                    let mut line = line.features.row_mut(channel * self.spec.height + out);
                    for (target, value) in line.iter_mut().zip(&scaled) {
                        *target += weight * value;
                    }
                }
            }
        }
        self.normalize(&mut line);
        Ok(line)
    }

    /// The line in a part of an image, made upright.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for a quad that has no projection ([`Quad::projection`]) or lies outside the
    /// image.
    pub fn read_quad(&self, image: &ImageView<'_>, quad: &Quad) -> Result<Line> {
        let map = quad.projection()?;
        let [left, top, right, bottom] = quad.bounds();
        if right <= 0.0
            || bottom <= 0.0
            || left >= image.width() as f32
            || top >= image.height() as f32
        {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "the quad {:?} lies outside the image of {}x{} pixels",
                    quad.corners,
                    image.width(),
                    image.height()
                ),
            ));
        }
        let (width, height) = (quad.width(), quad.height());
        let (columns, frames) = self.size(width, height);
        let mut line = self.blank(frames, columns, map);
        let rows = self.spec.height;
        let samples = |source: f32, target: usize| {
            ((source / target as f32).ceil() as usize).clamp(1, MAX_SAMPLES)
        };
        let (across, down) = (samples(width, columns), samples(height, rows));
        let share = 1.0 / (across * down) as f32;
        for y in 0..rows {
            for x in 0..columns {
                let mut sum = [0.0; 3];
                for sample in 0..across * down {
                    let (i, j) = (sample % across, sample / across);
                    let at = |pixel: usize, index: usize, samples: usize, length: usize| {
                        (pixel as f32 + (index as f32 + 0.5) / samples as f32) / length as f32
                    };
                    let [u, v] = map.apply(at(x, i, across, columns), at(y, j, down, rows));
                    let pixel = image.sample(u, v, self.spec.channels);
                    for (sum, value) in sum.iter_mut().zip(pixel) {
                        *sum += value;
                    }
                }
                for (channel, sum) in sum.iter().enumerate().take(self.spec.channels.count()) {
                    line.features[[channel * rows + y, x]] = sum * share;
                }
            }
        }
        self.normalize(&mut line);
        Ok(line)
    }

    /// Columns without and with padding of an image of this size.
    pub fn size(&self, width: f32, height: f32) -> (usize, usize) {
        let columns = self.spec.columns(width, height);
        match self.fixed {
            Some(fixed) if self.spec.aspect == Aspect::Stretch => (fixed, fixed),
            Some(fixed) => (columns.min(fixed), fixed),
            None => (columns, self.spec.padded(columns)),
        }
    }

    fn blank(&self, frames: usize, columns: usize, place: Projection) -> Line {
        Line {
            features: Array2::zeros((self.spec.features(), frames)),
            columns,
            place,
        }
    }

    /// Pixels of [0, 255] to [0, 1] and then as the spec says, channel by channel; the padding stays 0.
    fn normalize(&self, line: &mut Line) {
        let (rows, columns) = (self.spec.height, line.columns);
        for channel in 0..self.spec.channels.count() {
            let range = channel * rows..(channel + 1) * rows;
            let (mean, deviation) = match &self.spec.normalization {
                // By the peak is for audio; `LineSpec::validate` refuses it.
                Normalization::None | Normalization::Peak { .. } => (0.0, 1.0),
                Normalization::Fixed { mean, deviation } => (mean[channel], deviation[channel]),
                Normalization::Utterance { epsilon } => {
                    let (mut sum, mut squares) = (0.0f64, 0.0f64);
                    for row in range.clone() {
                        for &value in line.features.row(row).iter().take(columns) {
                            let value = f64::from(value) / 255.0;
                            sum += value;
                            squares += value * value;
                        }
                    }
                    let count = (rows * columns) as f64;
                    let mean = sum / count;
                    let variance = (squares / count - mean * mean).max(0.0);
                    (mean as f32, variance.sqrt() as f32 + epsilon)
                }
            };
            let (gain, offset) = (1.0 / (255.0 * deviation), mean / deviation);
            for row in range {
                for value in line.features.row_mut(row).iter_mut().take(columns) {
                    *value = *value * gain - offset;
                }
            }
        }
    }
}

/// For each output position the source positions it averages, and their weights.
struct Taps {
    start: Vec<usize>,
    length: Vec<usize>,
    /// `most` weights an output, the first `length` of them used.
    weights: Vec<f32>,
    most: usize,
}

impl Taps {
    fn new(source: usize, target: usize) -> Self {
        let scale = source as f64 / target as f64;
        let reach = scale.max(1.0);
        let most = (2.0 * reach).ceil() as usize + 1;
        let mut taps = Self {
            start: Vec::with_capacity(target),
            length: Vec::with_capacity(target),
            weights: vec![0.0; most * target],
            most,
        };
        for (out, weights) in taps.weights.chunks_exact_mut(most).enumerate() {
            let center = (out as f64 + 0.5) * scale;
            let start = (center - reach).floor().max(0.0) as usize;
            let end = ((center + reach).ceil() as usize)
                .min(source)
                .min(start + most);
            let mut sum = 0.0;
            for (at, weight) in (start..end).zip(weights.iter_mut()) {
                let far = ((at as f64 + 0.5) - center).abs() / reach;
                *weight = (1.0 - far).max(0.0) as f32;
                sum += *weight;
            }
            for weight in weights.iter_mut() {
                *weight /= sum;
            }
            taps.start.push(start);
            taps.length.push(end - start);
        }
        taps
    }

    /// The source position after the last that an output averages.
    fn end(&self, out: usize) -> usize {
        self.start[out] + self.length[out]
    }

    fn weight(&self, out: usize, at: usize) -> f32 {
        self.weights[out * self.most + at - self.start[out]]
    }

    fn apply(&self, row: &[f32], out: &mut [f32]) {
        let weights = self.weights.chunks_exact(self.most);
        for (((out, &start), &length), weights) in out
            .iter_mut()
            .zip(&self.start)
            .zip(&self.length)
            .zip(weights)
        {
            let row = &row[start..start + length];
            *out = row.iter().zip(weights).map(|(a, b)| a * b).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::PixelFormat;
    use crate::spec::ImageChannels;
    use proptest::prelude::*;

    fn plain(height: usize) -> LineReader {
        LineReader::new(&LineSpec {
            height,
            multiple: 8,
            min_width: 8,
            max_width: 64,
            normalization: Normalization::None,
            ..LineSpec::default()
        })
        .unwrap()
    }

    fn gray(data: &[u8], width: usize) -> ImageView<'_> {
        ImageView::new(data, width, data.len() / width, width, PixelFormat::Gray).unwrap()
    }

    #[test]
    fn an_image_of_the_height_is_taken_as_it_is() {
        let data: Vec<u8> = (0..8 * 11).map(|i| (i * 29 % 256) as u8).collect();
        let line = plain(8).read(&gray(&data, 11)).unwrap();
        assert_eq!((line.columns(), line.frames()), (11, 16));
        for (t, column) in line.features().outer_iter().enumerate() {
            for (y, &value) in column.iter().enumerate() {
                let expected = if t < 11 {
                    f32::from(data[y * 11 + t]) / 255.0
                } else {
                    0.0
                };
                assert!((value - expected).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn a_smaller_picture_is_the_average_of_a_larger_one() {
        // Stripes of 4 columns: their average over whole periods is gray.
        let data: Vec<u8> = (0..32 * 64)
            .map(|i| if i / 2 % 2 == 0 { 0 } else { 200 })
            .collect();
        let line = plain(4).read(&gray(&data, 64)).unwrap();
        assert_eq!(line.columns(), 8);
        let inner = line.features().row(4).to_vec();
        assert!(
            inner.iter().all(|v| (v - 100.0 / 255.0).abs() < 0.02),
            "{inner:?}"
        );
    }

    #[test]
    fn extremes_have_bounded_lines() {
        let reader = LineReader::new(&LineSpec::default()).unwrap();
        for (width, height) in [(1, 1), (20_000, 10), (1, 5_000), (3, 1)] {
            let data = vec![77; width * height];
            let line = reader.read(&gray(&data, width)).unwrap();
            assert!(line.frames() <= 1024 && line.frames().is_multiple_of(16));
            assert!(
                line.features().iter().all(|v| v.abs() < 1e-3),
                "one color is nothing"
            );
        }
        let line = reader
            .with_fixed_frames(48)
            .read(&gray(&[7; 4000], 1000))
            .unwrap();
        assert_eq!((line.columns(), line.frames()), (48, 48));
    }

    #[test]
    fn quads_outside_are_refused_and_partly_outside_read() {
        let data = vec![50; 400];
        let image = gray(&data, 20);
        let outside = Quad::rectangle(30.0, 0.0, 10.0, 5.0);
        let error = plain(8).read_quad(&image, &outside).unwrap_err();
        assert!(error.to_string().contains("outside"), "{error}");
        let partly = Quad::rectangle(-10.0, -10.0, 20.0, 15.0);
        assert!(plain(8).read_quad(&image, &partly).is_ok());
    }

    #[test]
    fn columns_know_their_place() {
        let line = plain(8).read(&gray(&[0; 16 * 40], 40)).unwrap();
        assert_eq!((line.columns(), line.frames()), (20, 24));
        assert_eq!(
            line.place(5.0, 10.0),
            Quad::rectangle(10.0, 0.0, 10.0, 16.0)
        );
        assert_eq!(
            line.place(15.0, 24.0),
            Quad::rectangle(30.0, 0.0, 10.0, 16.0)
        );
    }

    proptest! {
        #[test]
        fn light_and_contrast_do_not_count(width in 4usize..40, height in 4usize..40, gain in 0.3f32..0.9, shift in 0f32..25.0) {
            let spec = LineSpec {
                normalization: Normalization::Utterance { epsilon: 1e-4 },
                ..LineSpec::default()
            };
            let reader = LineReader::new(&spec).unwrap();
            let bright: Vec<u8> = (0..width * height).map(|i| (i * 7919 % 256) as u8).collect();
            let dim: Vec<u8> = bright.iter().map(|&v| (f32::from(v) * gain + shift) as u8).collect();
            let (a, b) = (reader.read(&gray(&bright, width)).unwrap(), reader.read(&gray(&dim, width)).unwrap());
            for (a, b) in a.features().iter().zip(b.features()) {
                prop_assert!((a - b).abs() < 0.1, "{} {}", a, b);
            }
        }

        #[test]
        fn a_quad_around_everything_is_the_whole(width in 4usize..60, height in 4usize..30) {
            let data: Vec<u8> = (0..width * height).map(|i| {
                let (x, y) = (i % width, i / width);
                (128.0 + 90.0 * (x as f32 * 0.2).sin() * (y as f32 * 0.25).cos()) as u8
            }).collect();
            let image = gray(&data, width);
            let quad = Quad::rectangle(0.0, 0.0, width as f32, height as f32);
            let reader = plain(16);
            let (a, b) = (reader.read(&image).unwrap(), reader.read_quad(&image, &quad).unwrap());
            prop_assert_eq!((a.columns(), a.frames()), (b.columns(), b.frames()));
            for (a, b) in a.features().iter().zip(b.features()) {
                prop_assert!((a - b).abs() < 0.12, "{} {}", a, b);
            }
        }

        #[test]
        fn any_view_and_quad_give_a_bounded_line_or_an_error(
            width in 1usize..30, height in 1usize..30, channels in 0usize..3,
            corners in proptest::array::uniform8(-60f32..60.0),
        ) {
            let data: Vec<u8> = (0..width * height * 4).map(|i| i as u8).collect();
            let view = ImageView::new(&data, width, height, width * 4, PixelFormat::Bgra).unwrap();
            let channels = [ImageChannels::Gray, ImageChannels::Rgb, ImageChannels::Bgr][channels];
            let reader = LineReader::new(&LineSpec { channels, ..LineSpec::default() }).unwrap();
            let mut quad = Quad::default();
            for (corner, by) in quad.corners.iter_mut().zip(corners.as_chunks::<2>().0) {
                *corner = *by;
            }
            if let Ok(line) = reader.read_quad(&view, &quad) {
                prop_assert!(line.frames() <= 1024);
                prop_assert!(line.features().iter().all(|v| v.is_finite()));
            }
        }
    }
}
