//! Detectors of the DB kind (arXiv 1911.08947), as PaddleOCR and RapidOCR have them: a map of how likely each pixel is
//! text, its regions turned into rectangles.
//!
//! The image is scaled so that its longer side is at most `longest` (and its shorter at least `shortest`, where that is
//! asked for) and both sides are multiples of 32, normalized, and
//! given as `[1, 3, H, W]`; the output is `[1, 1, H, W]` in [0, 1]. Regions above `threshold` whose mean is above
//! `accept` become the smallest rectangles around them, grown by `area * unclip / perimeter`: the network is trained to
//! mark text shrunk by as much.

use super::components::{Component, components};
use super::{Detector, rectangle};
use crate::features::LineReader;
use crate::image::{ImageView, Quad};
use crate::model::{Library, OrtGraph, OrtOptions, read_bytes};
use crate::spec::{Aspect, ImageChannels, LineSpec, Normalization, Scaling};
use crate::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// How a detector is fed and read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DbOptions {
    /// The longest side of the scaled image in pixels. Default 960.
    pub longest: usize,
    /// An image whose shorter side has fewer pixels than this is enlarged to it, as far as `longest` allows. Default 0:
    /// none is.
    pub shortest: usize,
    /// Probability above which a pixel is text. Default 0.3.
    pub threshold: f32,
    /// Mean probability above which a region is text. Default 0.5.
    pub accept: f32,
    /// How far regions are grown. Default 1.6.
    pub unclip: f32,
    /// Subtracted from each channel (blue, green, red; in [0, 1]). Default 0.5.
    pub mean: [f32; 3],
    /// Divides each channel after that. Default 0.5.
    pub deviation: [f32; 3],
}

impl Default for DbOptions {
    fn default() -> Self {
        Self {
            longest: 960,
            shortest: 0,
            threshold: 0.3,
            accept: 0.5,
            unclip: 1.6,
            mean: [0.5; 3],
            deviation: [0.5; 3],
        }
    }
}

/// A DB detector on ONNX Runtime.
#[derive(Debug, Clone)]
pub struct DbDetector {
    graph: OrtGraph,
    options: DbOptions,
}

impl DbDetector {
    /// Opens the detector at `path`, an ONNX file without a spec.
    ///
    /// # Errors
    /// As [`OrtGraph::from_bytes`], and [`ErrorKind::InvalidArgument`] for options out of range.
    pub fn open(
        library: &Library,
        path: impl AsRef<Path>,
        run: &OrtOptions,
        options: DbOptions,
    ) -> Result<Self> {
        let path = path.as_ref();
        let sane = (32..=4096).contains(&options.longest)
            && (0.0..=10.0).contains(&options.unclip)
            && options.deviation.iter().all(|d| *d > 0.0);
        if !sane {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "detector options out of range: longest within 32 to 4096, unclip within 0 to 10, positive \
                         deviations are expected, found {options:?}"
                ),
            ));
        }
        let graph =
            OrtGraph::from_bytes(library, read_bytes(path)?, run).map_err(|e| e.with_path(path))?;
        Ok(Self { graph, options })
    }

    /// The image as the network takes it: `[3, H, W]`.
    fn scaled(&self, image: &ImageView<'_>) -> Result<(Vec<f32>, usize, usize)> {
        let (width, height) = (image.width() as f32, image.height() as f32);
        let wanted = (self.options.shortest as f32 / width.min(height)).max(1.0);
        let scale = wanted.min(self.options.longest as f32 / width.max(height));
        let side = |length: f32| ((length * scale / 32.0).round() as usize).max(1) * 32;
        let (out_width, out_height) = (side(width), side(height));
        // The front-end of lines scales any image to any height; here both sides are given.
        let reader = LineReader::unchecked(LineSpec {
            height: out_height,
            channels: ImageChannels::Bgr,
            aspect: Aspect::Stretch,
            scaling: Scaling::Bilinear,
            multiple: 1,
            min_width: out_width,
            max_width: out_width,
            normalization: Normalization::Fixed {
                mean: self.options.mean.to_vec(),
                deviation: self.options.deviation.to_vec(),
            },
            ..LineSpec::default()
        });
        let (data, _) = reader
            .read(image)?
            .into_features()
            .into_raw_vec_and_offset();
        Ok((data, out_width, out_height))
    }
}

impl Detector for DbDetector {
    fn detect(&self, image: &ImageView<'_>) -> Result<Vec<Quad>> {
        let (data, width, height) = self.scaled(image)?;
        let (shape, map) = self.graph.run(&[1, 3, height, width], &data)?;
        if shape != [1, 1, height, width] {
            return Err(Error::new(
                ErrorKind::Inference,
                format!(
                    "the detector gave a map of shape {shape:?} for an image of {height}x{width}, expected \
                     [1, 1, {height}, {width}]: is it a detector of the DB kind?"
                ),
            ));
        }
        let set: Vec<bool> = map.iter().map(|&p| p > self.options.threshold).collect();
        let scale = [
            image.width() as f32 / width as f32,
            image.height() as f32 / height as f32,
        ];
        let limits = [image.width() as f32, image.height() as f32];
        Ok(components(&set, width)
            .iter()
            .filter_map(|region| self.quad(region, &map, width))
            .map(|mut quad| {
                for corner in &mut quad.corners {
                    for axis in 0..2 {
                        corner[axis] = (corner[axis] * scale[axis]).clamp(0.0, limits[axis]);
                    }
                }
                quad
            })
            .filter(|quad| quad.projection().is_ok())
            .collect())
    }
}

impl DbDetector {
    fn quad(&self, region: &Component, map: &[f32], width: usize) -> Option<Quad> {
        if region.width().min(region.height()) < 3 {
            return None;
        }
        let sum: f32 = region.pixels.iter().map(|&i| map[i as usize]).sum();
        if sum / (region.pixels.len() as f32) < self.options.accept {
            return None;
        }
        let mut points = Vec::with_capacity(4 * region.pixels.len());
        for &pixel in &region.pixels {
            let (x, y) = (
                (pixel as usize % width) as f32,
                (pixel as usize / width) as f32,
            );
            points.extend([[x, y], [x + 1.0, y], [x, y + 1.0], [x + 1.0, y + 1.0]]);
        }
        let unclip = self.options.unclip;
        rectangle::smallest(points, |w, h| w * h * unclip / (2.0 * (w + h)))
    }
}
