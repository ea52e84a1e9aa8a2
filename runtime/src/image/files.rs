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
            format!(
                "{width}x{height} pixels, at most {MAX_PIXELS} are decoded: scale it down first"
            ),
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
        pixels
            .as_chunks::<4>()
            .0
            .iter()
            .flat_map(on_white)
            .collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use image::codecs::jpeg::JpegEncoder;
    use image::{ExtendedColorType, ImageEncoder, ImageFormat, Luma, Rgb, Rgba};
    use proptest::prelude::*;

    fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        image.write_to(&mut out, format).unwrap();
        out.into_inner()
    }

    /// 6 x 4, red grows to the right, green downwards.
    fn picture() -> DynamicImage {
        image::RgbImage::from_fn(6, 4, |x, y| Rgb([40 * x as u8, 60 * y as u8, 7])).into()
    }

    fn jpeg(image: &DynamicImage) -> Vec<u8> {
        let mut out = Vec::new();
        JpegEncoder::new_with_quality(&mut out, 100)
            .write_image(
                image.as_bytes(),
                image.width(),
                image.height(),
                ExtendedColorType::Rgb8,
            )
            .unwrap();
        out
    }

    /// A JPEG with an EXIF segment that says how it is turned.
    fn turned(orientation: u8) -> Vec<u8> {
        let plain = jpeg(&picture());
        let mut exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
        exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
        let length = (exif.len() + 2) as u16;
        let segment = [&[0xff, 0xe1], &length.to_be_bytes()[..], &exif].concat();
        [&plain[..2], &segment, &plain[2..]].concat()
    }

    fn near(image: &Image, x: usize, y: usize, expected: [u8; 3]) {
        let pixel = &image.rgb()[3 * (y * image.width() + x)..][..3];
        for (found, expected) in pixel.iter().zip(expected) {
            assert!(
                found.abs_diff(expected) <= 12,
                "{pixel:?} at {x}, {y}, expected {expected:?}"
            );
        }
    }

    #[test]
    fn formats_and_depths_are_read() {
        let rgb = picture();
        for format in [ImageFormat::Png, ImageFormat::WebP] {
            let found = Image::from_bytes(&encoded(&rgb, format)).unwrap();
            assert_eq!((found.width(), found.height()), (6, 4));
            assert_eq!(found.rgb(), rgb.as_bytes());
        }
        near(
            &Image::from_bytes(&jpeg(&rgb)).unwrap(),
            5,
            3,
            [200, 180, 7],
        );
        let deep: DynamicImage =
            image::ImageBuffer::from_fn(2, 1, |x, _| Rgb([65_535u16 * x as u16, 257 * 9, 0]))
                .into();
        let found = Image::from_bytes(&encoded(&deep, ImageFormat::Png)).unwrap();
        assert_eq!(found.rgb(), [0, 9, 0, 255, 9, 0]);
        let gray: DynamicImage =
            image::GrayImage::from_fn(3, 1, |x, _| Luma([50 * x as u8])).into();
        let found = Image::from_bytes(&encoded(&gray, ImageFormat::Png)).unwrap();
        assert_eq!(found.rgb(), [0, 0, 0, 50, 50, 50, 100, 100, 100]);
        let clear: DynamicImage =
            image::RgbaImage::from_fn(3, 1, |x, _| Rgba([0, 0, 0, 127 * x as u8])).into();
        let found = Image::from_bytes(&encoded(&clear, ImageFormat::Png)).unwrap();
        assert_eq!(found.rgb(), [255, 255, 255, 128, 128, 128, 1, 1, 1]);
    }

    #[test]
    fn cmyk_is_converted() {
        let mut out = Vec::new();
        // No ink, then all black.
        let inks: Vec<u8> = (0..16 * 16)
            .flat_map(|i| [0, 0, 0, if i % 16 < 8 { 0 } else { 255 }])
            .collect();
        jpeg_encoder::Encoder::new(&mut out, 100)
            .encode(&inks, 16, 16, jpeg_encoder::ColorType::Cmyk)
            .unwrap();
        let found = Image::from_bytes(&out).unwrap();
        near(&found, 2, 2, [255; 3]);
        near(&found, 13, 2, [0; 3]);
    }

    #[test]
    fn the_orientation_is_applied() {
        let upright = Image::from_bytes(&turned(1)).unwrap();
        assert_eq!((upright.width(), upright.height()), (6, 4));
        // 6: turned by a quarter to the right when shown.
        let right = Image::from_bytes(&turned(6)).unwrap();
        assert_eq!((right.width(), right.height()), (4, 6));
        near(&right, 3, 5, [200, 0, 7]);
        let upside_down = Image::from_bytes(&turned(3)).unwrap();
        near(&upside_down, 0, 0, [200, 180, 7]);
    }

    #[test]
    fn an_animation_gives_its_first_frame() {
        // Two lossless frames of one color each in an extended WebP.
        let frame = |value: u8| {
            let image: DynamicImage =
                image::RgbaImage::from_pixel(4, 4, Rgba([value, 0, 0, 255])).into();
            encoded(&image, ImageFormat::WebP)[12..].to_vec()
        };
        let chunk = |name: &[u8; 4], data: &[u8]| {
            let mut out = [name, &(data.len() as u32).to_le_bytes()[..], data].concat();
            out.resize(out.len().next_multiple_of(2), 0);
            out
        };
        let mut body = b"WEBP".to_vec();
        body.extend(chunk(b"VP8X", &[0x12, 0, 0, 0, 3, 0, 0, 3, 0, 0]));
        body.extend(chunk(b"ANIM", &[255, 255, 255, 255, 0, 0]));
        for value in [200, 10] {
            let head = [0, 0, 0, 0, 0, 0, 3, 0, 0, 3, 0, 0, 100, 0, 0, 0];
            body.extend(chunk(b"ANMF", &[&head[..], &frame(value)].concat()));
        }
        let file = [&b"RIFF"[..], &(body.len() as u32).to_le_bytes(), &body].concat();
        near(&Image::from_bytes(&file).unwrap(), 2, 2, [200, 0, 0]);
    }

    #[test]
    fn what_is_no_whole_image_is_refused() {
        let png = encoded(&picture(), ImageFormat::Png);
        let text = b"GIF is not read, nor is this text";
        for (bytes, kind) in [
            (&b""[..], ErrorKind::Malformed),
            (text, ErrorKind::Malformed),
            (b"GIF89a\x01\0\x01\0\0\0\0", ErrorKind::Unsupported),
            (&png[..png.len() / 2], ErrorKind::Malformed),
            (&png[..20], ErrorKind::Malformed),
        ] {
            let error = Image::from_bytes(bytes).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_owned(), folder.path().join("missing.png")] {
            let error = Image::open(&path).unwrap_err();
            assert_eq!((error.kind(), error.path()), (ErrorKind::Io, Some(&*path)));
        }
        let path = folder.path().join("cut.jpg");
        std::fs::write(&path, &jpeg(&picture())[..30]).unwrap();
        assert_eq!(Image::open(&path).unwrap_err().path(), Some(&*path));
    }

    /// A PNG header that claims any size, with next to nothing behind it.
    fn claiming(width: u32, height: u32) -> Vec<u8> {
        let mut png = encoded(&picture(), ImageFormat::Png);
        png[16..20].copy_from_slice(&width.to_be_bytes());
        png[20..24].copy_from_slice(&height.to_be_bytes());
        // CRC-32 of the header chunk, bit by bit.
        let mut crc = u32::MAX;
        for byte in &png[12..29] {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 {
                    (crc >> 1) ^ 0xedb8_8320
                } else {
                    crc >> 1
                };
            }
        }
        png[29..33].copy_from_slice(&(!crc).to_be_bytes());
        png
    }

    #[test]
    fn bombs_and_empty_images_are_refused_before_they_are_unpacked() {
        for (width, height) in [(60_000, 60_000), (1 << 20, 1), (u32::MAX >> 1, 1 << 30)] {
            let error = Image::from_bytes(&claiming(width, height)).unwrap_err();
            assert!(
                matches!(error.kind(), ErrorKind::Limit | ErrorKind::Malformed),
                "{error}"
            );
        }
        for (width, height) in [(0, 5), (5, 0)] {
            let error = Image::from_bytes(&claiming(width, height)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400), head in 0usize..4) {
            let heads: [&[u8]; 4] = [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\xff\0\0\0WEBPVP8L"];
            let _ = Image::from_bytes(&[heads[head], &bytes].concat());
        }

        #[test]
        fn damaged_images_are_read_or_refused(at in any::<prop::sample::Index>(), value in any::<u8>(), kind in 0usize..3) {
            let mut bytes = match kind {
                0 => encoded(&picture(), ImageFormat::Png),
                1 => encoded(&picture(), ImageFormat::WebP),
                _ => jpeg(&picture()),
            };
            let at = at.index(bytes.len());
            bytes[at] = value;
            if let Ok(image) = Image::from_bytes(&bytes) {
                prop_assert_eq!(image.rgb().len(), 3 * image.width() * image.height());
            }
        }
    }
}
