//! Finding the words of a photo or a page: image in, quads out.
//!
//! [`Detector`] has two implementations: [`PrintedText`], which needs no model and finds dark or light print on plain
//! ground, and [`DbDetector`] (feature `onnx`), which runs a detector of the DB kind (arXiv 1911.08947) that the user
//! brings. [`lines`] puts what was found into reading order.

mod components;
#[cfg(feature = "onnx")]
mod db;
mod lines;
mod printed;
mod rectangle;

#[cfg(feature = "onnx")]
pub use db::{DbDetector, DbOptions};
pub use lines::lines;
pub use printed::PrintedText;

use crate::Result;
use crate::image::{ImageView, Quad};
use std::fmt;

/// Finds the words, or lines, of an image.
pub trait Detector: Send + Sync + fmt::Debug {
    /// Where text stands, in pixels of the image, in no particular order.
    ///
    /// # Errors
    /// [`ErrorKind::Inference`](crate::ErrorKind::Inference) if a model fails.
    fn detect(&self, image: &ImageView<'_>) -> Result<Vec<Quad>>;
}
