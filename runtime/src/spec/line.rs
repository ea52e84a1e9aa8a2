//! The front-end of images: one line or word of text, scaled to a height, its aspect kept.

use super::Normalization;
use super::check::demand;
use crate::Result;
use serde::{Deserialize, Serialize};

/// Which channels an image has for a model, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ImageChannels {
    /// Luminance: `0.299 R + 0.587 G + 0.114 B`.
    Gray,
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red, as models trained with OpenCV have it.
    Bgr,
}

impl ImageChannels {
    /// How many: C.
    pub fn count(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb | Self::Bgr => 3,
        }
    }
}

/// What happens to an image's aspect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Aspect {
    /// Kept: the width follows from the height, and what is missing to the least width is padded on the right.
    #[default]
    Keep,
    /// Lost: every image is scaled to `min_width` columns, without padding.
    Stretch,
}

impl Aspect {
    fn is_keep(&self) -> bool {
        *self == Self::Keep
    }
}

/// How pixels are computed when an image is scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Scaling {
    /// A triangle filter as wide as the scale: bilinear where the image grows, an average where it shrinks.
    #[default]
    Smooth,
    /// Two neighbors along each axis whatever the scale, in 11-bit fixed point and rounded to whole gray levels: bit for
    /// bit what `cv2.resize` does by default, and so what models trained with OpenCV are fed.
    Bilinear,
}

impl Scaling {
    fn is_smooth(&self) -> bool {
        *self == Self::Smooth
    }
}

/// How the width of a scaled image is rounded to whole columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WidthRounding {
    /// To the nearest column.
    #[default]
    Nearest,
    /// Up while the line is padded, down where it is wider than `min_width`, as PaddleOCR and RapidOCR do.
    Paddle,
}

impl WidthRounding {
    fn is_nearest(&self) -> bool {
        *self == Self::Nearest
    }
}

/// From an image of a word or line to features `[T, F]`, F = C * H: column t holds channel after channel, each from
/// top to bottom.
///
/// The image is scaled to the height with its aspect kept, normalized, and padded on the right with zeros to
/// `max(width, min_width)` rounded up to a multiple of `multiple`: a function of the image alone, so that what is
/// read does not depend on what it is batched with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineSpec {
    /// Rows of the scaled image: H.
    pub height: usize,
    /// The channels.
    pub channels: ImageChannels,
    /// What happens to the aspect.
    #[serde(default, skip_serializing_if = "Aspect::is_keep")]
    pub aspect: Aspect,
    /// How pixels are computed.
    #[serde(default, skip_serializing_if = "Scaling::is_smooth")]
    pub scaling: Scaling,
    /// How the natural width is rounded.
    #[serde(default, skip_serializing_if = "WidthRounding::is_nearest")]
    pub width_rounding: WidthRounding,
    /// Widths are rounded up to a multiple of this many columns: a multiple of the stride, or 1 for a model that takes
    /// any width.
    pub multiple: usize,
    /// The least width in columns, padding included.
    pub min_width: usize,
    /// The largest width in columns: a longer line is squeezed to it.
    pub max_width: usize,
    /// What is subtracted from and divides the pixels, which are in [0, 1] before it: constants of each channel, or
    /// mean and deviation of each channel over the image itself.
    pub normalization: Normalization,
}

impl Default for LineSpec {
    /// The front-end of models trained here: 32 rows of luminance, normalized over the image, so that neither light
    /// nor contrast count.
    fn default() -> Self {
        Self {
            height: 32,
            channels: ImageChannels::Gray,
            aspect: Aspect::Keep,
            scaling: Scaling::Smooth,
            width_rounding: WidthRounding::Nearest,
            multiple: 16,
            min_width: 32,
            max_width: 1024,
            normalization: Normalization::Utterance { epsilon: 0.02 },
        }
    }
}

impl LineSpec {
    /// The front-end of PP-OCR's recognizers: 48 rows of blue, green and red from -1 to 1, scaled as OpenCV does, lines
    /// padded to at least 320 columns.
    pub fn paddle() -> Self {
        Self {
            height: 48,
            channels: ImageChannels::Bgr,
            scaling: Scaling::Bilinear,
            width_rounding: WidthRounding::Paddle,
            multiple: 1,
            min_width: 320,
            max_width: 4096,
            normalization: Normalization::Fixed {
                mean: vec![0.5; 3],
                deviation: vec![0.5; 3],
            },
            ..Self::default()
        }
    }

    /// Features of a column: F = C * H.
    pub fn features(&self) -> usize {
        self.channels.count() * self.height
    }

    /// Columns of an image of `width` columns with its padding.
    pub fn padded(&self, width: usize) -> usize {
        width
            .clamp(1, self.max_width)
            .max(self.min_width)
            .next_multiple_of(self.multiple)
    }

    /// Columns that an image of this size is scaled to.
    pub fn columns(&self, width: f32, height: f32) -> usize {
        if self.aspect == Aspect::Stretch {
            return self.min_width;
        }
        let ratio = f64::from(width) / f64::from(height.max(f32::MIN_POSITIVE));
        let natural = self.height as f64 * ratio;
        let most = self.max_width as f64;
        let columns = match self.width_rounding {
            WidthRounding::Nearest => natural.round(),
            WidthRounding::Paddle => {
                let padded = natural.floor().max(self.min_width as f64);
                natural.ceil().min(padded)
            }
        };
        columns.clamp(1.0, most) as usize
    }

    pub(crate) fn validate(&self, stride: usize) -> Result<()> {
        demand!(
            (4..=256).contains(&self.height),
            "height {} is not within 4 to 256",
            self.height
        );
        demand!(
            self.multiple == 1
                || (1..=1024).contains(&self.multiple) && self.multiple.is_multiple_of(stride),
            "multiple {} is neither 1 nor a multiple of stride {stride} up to 1024",
            self.multiple
        );
        demand!(
            1 <= self.min_width && self.min_width <= self.max_width && self.max_width <= 1 << 14,
            "1 <= min_width {} <= max_width {} <= 16384 does not hold",
            self.min_width,
            self.max_width
        );
        match &self.normalization {
            Normalization::None => {}
            Normalization::Fixed { mean, deviation } => {
                let channels = self.channels.count();
                demand!(
                    mean.len() == channels && deviation.len() == channels,
                    "{} means and {} deviations for {channels} channels",
                    mean.len(),
                    deviation.len()
                );
                demand!(mean.iter().all(|m| m.is_finite()), "a mean is not finite");
                demand!(
                    deviation.iter().all(|d| d.is_finite() && *d > 0.0),
                    "a deviation is not positive"
                );
            }
            Normalization::Utterance { epsilon } => demand!(
                epsilon.is_finite() && *epsilon > 0.0,
                "epsilon {epsilon} is not positive, and an image may be of one color"
            ),
            Normalization::Peak { .. } => demand!(
                false,
                "normalization by the peak is for audio: images take constants or their own mean and deviation"
            ),
        }
        Ok(())
    }
}
