//! What is read of each frame, which frames are left out, and when readings agree.

use crate::detect::Detector;
use crate::image::Quad;
use crate::{Error, ErrorKind, Result};
use std::sync::Arc;

/// What is read of each frame.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Region {
    /// The whole frame, as one word or line.
    #[default]
    Whole,
    /// What stands in a quad.
    Quad(Quad),
    /// Every word that a detector finds.
    Found(Arc<dyn Detector>),
}

/// How a camera's frames are read.
#[derive(Debug, Clone)]
pub struct ScanOptions {
    /// What is read of each frame. Default: the whole of it.
    pub region: Region,
    /// Least variance of the Laplacian of what is read, in squared levels of 255; 0 reads blurred frames too. Default 50.
    pub sharpness: f32,
    /// Largest mean change from the frame before, in levels of 255; infinity reads moving pictures too. Default 6.
    pub motion: f32,
    /// Readings of one text that settle it. Default 3.
    pub agree: usize,
    /// Combined confidence that settles a text, in [0, 1]. Default 0.8.
    pub confidence: f32,
    /// How much of the evidence of earlier readings each new one leaves, in [0, 1). Default 0.75.
    pub fading: f32,
    /// Frames read in a row without a text after which a crop is gone. Default 4.
    pub patience: usize,
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self {
            region: Region::Whole,
            sharpness: 50.0,
            motion: 6.0,
            agree: 3,
            confidence: 0.8,
            fading: 0.75,
            patience: 4,
        }
    }
}

impl ScanOptions {
    /// The same options for another region.
    #[must_use]
    pub fn with_region(mut self, region: Region) -> Self {
        self.region = region;
        self
    }

    /// The same options with another least sharpness.
    #[must_use]
    pub fn with_sharpness(mut self, sharpness: f32) -> Self {
        self.sharpness = sharpness;
        self
    }

    /// The same options with another largest motion.
    #[must_use]
    pub fn with_motion(mut self, motion: f32) -> Self {
        self.motion = motion;
        self
    }

    /// The same options with another number of readings that settle a text.
    #[must_use]
    pub fn with_agree(mut self, agree: usize) -> Self {
        self.agree = agree;
        self
    }

    /// The same options with another confidence that settles a text.
    #[must_use]
    pub fn with_confidence(mut self, confidence: f32) -> Self {
        self.confidence = confidence;
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        let refuse = |message: String| Err(Error::new(ErrorKind::InvalidArgument, message));
        if self.sharpness.is_nan() || self.motion.is_nan() || self.motion < 0.0 {
            return refuse(format!(
                "sharpness {} and motion {}: numbers are expected, motion not below 0",
                self.sharpness, self.motion
            ));
        }
        if self.agree == 0 || !(0.0..=1.0).contains(&self.confidence) {
            return refuse(format!(
                "{} readings that agree with confidence {}: at least 1, and 0 to 1, are expected",
                self.agree, self.confidence
            ));
        }
        if !(0.0..1.0).contains(&self.fading) {
            return refuse(format!(
                "a fading of {}: at least 0 and less than 1 is expected",
                self.fading
            ));
        }
        match &self.region {
            Region::Quad(quad) => quad.projection().map(|_| ()),
            Region::Whole | Region::Found(_) => Ok(()),
        }
    }
}
