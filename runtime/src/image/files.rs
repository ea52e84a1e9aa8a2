//! Image files decoded to 8-bit RGB: PNG, JPEG and WebP, told by their content.
//!
//! 16-bit samples are rounded to 8, gray is repeated, transparency shows white, CMYK is converted, the EXIF
//! orientation is applied, an animation gives its first frame. Sides and pixels are bounded before anything is
//! decoded, so that a small file cannot ask for much memory.

use super::{Image, MAX_PIXELS, MAX_SIDE};
use crate::{Error, ErrorKind, Result};
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits};
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Seek};
use std::path::Path;

/// Most bytes a decoder may take beside the pixels.
const MAX_DECODER_BYTES: u64 = 1 << 30;

impl Image {
    /// Reads an image file; its content, not its name, says what it is.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be read or is no regular file, [`ErrorKind::Malformed`] when it is empty,
    /// cut or no image, [`ErrorKind::Unsupported`] for a format that is not read, [`ErrorKind::Limit`] above
    /// [`MAX_SIDE`] or [`MAX_PIXELS`]. The error names the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        // Asked before opening: opening a pipe that nobody writes to would wait forever.
        let metadata = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
        if !metadata.is_file() {
            return Err(Error::new(
                ErrorKind::Io,
                "not a regular file; expected an image (save a pipe's output to a file first)",
            )
            .with_path(path));
        }
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        decode(BufReader::new(file)).map_err(|e| e.with_path(path))
    }

    /// Reads an image file held in memory.
    ///
    /// # Errors
    /// As [`open`](Self::open), without a file name.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        decode(Cursor::new(bytes))
    }

    /// The image as a PNG file.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] where the encoder refuses it.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let (width, height) = (self.width as u32, self.height as u32);
        image::write_buffer_with_format(
            &mut Cursor::new(&mut out),
            &self.pixels,
            width,
            height,
            image::ColorType::Rgb8,
            image::ImageFormat::Png,
        )
        .map_err(|e| Error::new(ErrorKind::InvalidArgument, e.to_string()).with_source(e))?;
        Ok(out)
    }
}

fn decode(reader: impl BufRead + Seek) -> Result<Image> {
    let mut reader = ImageReader::new(reader)
        .with_guessed_format()
        .map_err(|e| Error::new(ErrorKind::Io, e.to_string()).with_source(e))?;
    if reader.format().is_none() {
        return Err(Error::new(
            ErrorKind::Malformed,
            "this is no image: expected PNG, JPEG or WebP, found none of their first bytes",
        ));
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE as u32);
    limits.max_image_height = Some(MAX_SIDE as u32);
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(refused)?;
    decoder.set_limits(limits).map_err(refused)?;
    let (width, height) = decoder.dimensions();
    let pixels = (width as usize).saturating_mul(height as usize);
    if pixels == 0 {
        return Err(Error::new(
            ErrorKind::Malformed,
            format!("an image of {width}x{height} pixels has nothing in it"),
        ));
    }
    if pixels > MAX_PIXELS {
        return Err(Error::new(
            ErrorKind::Limit,
            format!("{width}x{height} pixels, at most {MAX_PIXELS} are decoded: scale it down first"),
        ));
    }
    // An orientation that cannot be read is none: the pixels are what counts.
    let orientation = decoder.orientation();
    let mut decoded = DynamicImage::from_decoder(decoder).map_err(refused)?;
    if let Ok(orientation) = orientation {
        decoded.apply_orientation(orientation);
    }
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    let pixels = if decoded.color().has_alpha() {
        let pixels = decoded.into_rgba8().into_raw();
        let on_white = |&[r, g, b, a]: &[u8; 4]| {
            [r, g, b].map(|v| {
                let (v, a) = (u32::from(v), u32::from(a));
                ((v * a + 255 * (255 - a) + 127) / 255) as u8
            })
        };
        pixels.as_chunks::<4>().0.iter().flat_map(on_white).collect()
    } else {
        decoded.into_rgb8().into_raw()
    };
    Image::from_rgb(width, height, pixels)
}

fn refused(error: ImageError) -> Error {
    let kind = match &error {
        ImageError::Limits(_) => ErrorKind::Limit,
        ImageError::Unsupported(_) => ErrorKind::Unsupported,
        ImageError::IoError(e) if e.raw_os_error().is_some() => ErrorKind::Io,
        _ => ErrorKind::Malformed,
    };
    Error::new(kind, error.to_string()).with_source(error)
}
