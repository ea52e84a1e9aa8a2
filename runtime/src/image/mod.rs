//! Images: pixels held in memory by whoever has them, files decoded into memory, and places in them.
//!
//! [`ImageView`] borrows pixels in the layouts cameras and decoders give (gray, RGB, RGBA, BGRA, NV21, YUV 4:2:0) and
//! copies nothing; [`Image`] owns what a file held (feature `images`: PNG, JPEG, WebP). [`Quad`] is a place in an
//! image: where a word stands, or what part of a photo to read. Coordinates are pixels, x to the right, y down, the
//! top left corner of the top left pixel at (0, 0).

#[cfg(feature = "images")]
mod files;
mod quad;
mod view;

pub use quad::{Projection, Quad};
pub use view::{ImageView, PixelFormat, Plane};

use crate::{Error, ErrorKind, Result};

/// The longest side of an image that is read, in pixels.
pub const MAX_SIDE: usize = 1 << 16;

/// Most pixels of an image that is decoded from a file: 128 million, 384 MB.
pub const MAX_PIXELS: usize = 1 << 27;

/// An image in memory: 8-bit RGB, row after row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Image {
    /// An image from RGB pixels, three bytes each, row after row without gaps.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for a side of 0 or above [`MAX_SIDE`], and for another number of bytes than
    /// `3 * width * height`.
    pub fn from_rgb(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self> {
        let expected = view::sides(width, height)? * 3;
        if pixels.len() != expected {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "{} bytes for {width}x{height} RGB pixels, expected {expected}",
                    pixels.len()
                ),
            ));
        }
        Ok(Self {
            width,
            height,
            pixels,
        })
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The pixels: red, green, blue, row after row.
    pub fn rgb(&self) -> &[u8] {
        &self.pixels
    }

    /// The pixels, by value.
    pub fn into_rgb(self) -> Vec<u8> {
        self.pixels
    }

    /// The image as a view of its own pixels.
    pub fn view(&self) -> ImageView<'_> {
        ImageView::of_image(self)
    }
}
