//! Borrowed pixels in the layouts that cameras, decoders and screens give, read row by row without a copy.
//!
//! A row is read as C planes of f32 in [0, 255]: luminance (`0.299 R + 0.587 G + 0.114 B`, ITU-R BT.601; the Y plane of
//! YUV as it is) or red, green and blue (full-range BT.601 for YUV). What is transparent shows white.

use super::{Image, MAX_SIDE};
use crate::spec::ImageChannels;
use crate::{Error, ErrorKind, Result};
use std::ops::Range;

/// The order of the bytes of an interleaved pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PixelFormat {
    /// One byte: luminance.
    Gray,
    /// Three bytes: red, green, blue.
    Rgb,
    /// Three bytes: blue, green, red.
    Bgr,
    /// Four bytes: red, green, blue, opacity (not premultiplied).
    Rgba,
    /// Four bytes: blue, green, red, opacity (not premultiplied).
    Bgra,
}

impl PixelFormat {
    /// Bytes a pixel.
    pub fn bytes(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb | Self::Bgr => 3,
            Self::Rgba | Self::Bgra => 4,
        }
    }
}

/// One plane of a planar image: rows `stride` bytes apart, samples `step` bytes apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plane<'a> {
    /// The bytes, from the first sample on; the last row may end with its last sample.
    pub data: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
    /// Bytes from one sample to the next: 1 for a plane of its own, 2 where U and V alternate.
    pub step: usize,
}

impl Plane<'_> {
    fn check(&self, name: &str, width: usize, height: usize) -> Result<()> {
        if self.step == 0 || (width - 1) * self.step >= self.stride {
            return Err(invalid(format!(
                "plane {name} has rows of {} bytes, too few for {width} samples {} bytes apart",
                self.stride, self.step
            )));
        }
        let needed = (height - 1)
            .checked_mul(self.stride)
            .and_then(|n| n.checked_add((width - 1) * self.step + 1));
        match needed {
            Some(needed) if needed <= self.data.len() => Ok(()),
            _ => Err(invalid(format!(
                "plane {name} has {} bytes, too few for {height} rows of {width} samples {} bytes apart, rows {} \
                 bytes apart",
                self.data.len(),
                self.step,
                self.stride
            ))),
        }
    }

    fn at(&self, x: usize, y: usize) -> f32 {
        f32::from(self.data[y * self.stride + x * self.step])
    }
}

#[derive(Debug, Clone, Copy)]
enum Pixels<'a> {
    Interleaved(Plane<'a>, PixelFormat),
    /// Y at full resolution, U and V at half of it in both directions.
    Yuv([Plane<'a>; 3]),
}

/// An image whose pixels somebody else holds; copying the view copies no pixel.
#[derive(Debug, Clone, Copy)]
pub struct ImageView<'a> {
    width: usize,
    height: usize,
    left: usize,
    top: usize,
    pixels: Pixels<'a>,
}

impl<'a> ImageView<'a> {
    /// Interleaved pixels, rows `stride` bytes apart.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for a side of 0 or above [`MAX_SIDE`], a stride shorter than a row, and too few
    /// bytes.
    pub fn new(
        data: &'a [u8],
        width: usize,
        height: usize,
        stride: usize,
        format: PixelFormat,
    ) -> Result<Self> {
        sides(width, height)?;
        let bytes = format.bytes();
        let row = width * bytes;
        if stride < row {
            return Err(invalid(format!(
                "a stride of {stride} bytes is less than a row: {width} pixels of {bytes} bytes"
            )));
        }
        let needed = (height - 1)
            .checked_mul(stride)
            .and_then(|n| n.checked_add(row));
        if needed.is_none_or(|needed| data.len() < needed) {
            return Err(invalid(format!(
                "{} bytes are too few for {height} rows of {row} bytes, {stride} apart",
                data.len()
            )));
        }
        let plane = Plane {
            data,
            stride,
            step: bytes,
        };
        Ok(Self::whole(
            width,
            height,
            Pixels::Interleaved(plane, format),
        ))
    }

    /// A YUV 4:2:0 frame of three planes, U and V with half the samples (rounded up) in both directions.
    ///
    /// # Errors
    /// As [`new`](Self::new), for each plane.
    pub fn yuv420(planes: [Plane<'a>; 3], width: usize, height: usize) -> Result<Self> {
        sides(width, height)?;
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        planes[0].check("Y", width, height)?;
        planes[1].check("U", half_width, half_height)?;
        planes[2].check("V", half_width, half_height)?;
        Ok(Self::whole(width, height, Pixels::Yuv(planes)))
    }

    /// An NV21 frame as Android cameras give it: a Y plane, then a plane of alternating V and U.
    ///
    /// # Errors
    /// As [`new`](Self::new), for each plane.
    pub fn nv21(
        y: &'a [u8],
        y_stride: usize,
        vu: &'a [u8],
        vu_stride: usize,
        width: usize,
        height: usize,
    ) -> Result<Self> {
        let plane = |data, stride, step| Plane { data, stride, step };
        let u = vu.get(1..).unwrap_or_default();
        Self::yuv420(
            [
                plane(y, y_stride, 1),
                plane(u, vu_stride, 2),
                plane(vu, vu_stride, 2),
            ],
            width,
            height,
        )
    }

    fn whole(width: usize, height: usize, pixels: Pixels<'a>) -> Self {
        Self {
            width,
            height,
            left: 0,
            top: 0,
            pixels,
        }
    }

    pub(super) fn of_image(image: &'a Image) -> Self {
        let plane = Plane {
            data: image.rgb(),
            stride: 3 * image.width(),
            step: 3,
        };
        let pixels = Pixels::Interleaved(plane, PixelFormat::Rgb);
        Self::whole(image.width(), image.height(), pixels)
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// A part of the image, without a copy.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for a part that is empty or not wholly inside.
    pub fn crop(&self, left: usize, top: usize, width: usize, height: usize) -> Result<Self> {
        let inside = |start: usize, length: usize, whole: usize| {
            length > 0 && start.checked_add(length).is_some_and(|end| end <= whole)
        };
        if !inside(left, width, self.width) || !inside(top, height, self.height) {
            return Err(invalid(format!(
                "a part of {width}x{height} pixels at ({left}, {top}) is empty or not inside {}x{}",
                self.width, self.height
            )));
        }
        Ok(Self {
            width,
            height,
            left: self.left + left,
            top: self.top + top,
            pixels: self.pixels,
        })
    }

    /// Row `y` of the columns `columns`, one slice a channel; `out` holds as many slices as there are channels, each
    /// as long as the range.
    pub(crate) fn row(
        &self,
        y: usize,
        columns: Range<usize>,
        channels: ImageChannels,
        out: &mut [Vec<f32>],
    ) {
        let count = columns.len();
        let (x, y) = (columns.start + self.left, y + self.top);
        if let (ImageChannels::Gray, [gray]) = (channels, &mut *out) {
            gray.clear();
            match self.pixels {
                Pixels::Yuv([plane, ..]) | Pixels::Interleaved(plane, PixelFormat::Gray) => {
                    let line = &plane.data[y * plane.stride + x * plane.step..];
                    gray.extend(
                        line.iter()
                            .step_by(plane.step)
                            .take(count)
                            .map(|&v| f32::from(v)),
                    );
                    return;
                }
                Pixels::Interleaved(plane, PixelFormat::Rgb) => {
                    let line = &plane.data[y * plane.stride + x * 3..];
                    let pixels = line.as_chunks::<3>().0.iter().take(count);
                    gray.extend(pixels.map(|&[r, g, b]| luminance([r, g, b].map(f32::from))));
                    return;
                }
                Pixels::Interleaved(..) => {}
            }
        }
        for plane in out.iter_mut() {
            plane.clear();
        }
        if let (
            Pixels::Interleaved(plane, format @ (PixelFormat::Rgb | PixelFormat::Bgr)),
            ImageChannels::Rgb | ImageChannels::Bgr,
        ) = (self.pixels, channels)
        {
            let same = (format == PixelFormat::Rgb) == (channels == ImageChannels::Rgb);
            let order = if same { [0, 1, 2] } else { [2, 1, 0] };
            let line = &plane.data[y * plane.stride + x * 3..];
            let pixels = line.as_chunks::<3>().0;
            for (target, byte) in out.iter_mut().zip(order) {
                target.extend(
                    pixels
                        .iter()
                        .take(count)
                        .map(|pixel| f32::from(pixel[byte])),
                );
            }
            return;
        }
        for column in 0..count {
            let pixel = channels_of(self.color(x + column, y), channels);
            for (plane, value) in out.iter_mut().zip(pixel) {
                plane.push(value);
            }
        }
    }

    /// The channels at a point between pixel centers, edges repeated outside.
    pub(crate) fn sample(&self, x: f32, y: f32, channels: ImageChannels) -> [f32; 3] {
        let (left, right, along) = neighbors(x, self.width);
        let (above, below, down) = neighbors(y, self.height);
        let at =
            |x: usize, y: usize| channels_of(self.color(x + self.left, y + self.top), channels);
        let corners = [
            (at(left, above), (1.0 - along) * (1.0 - down)),
            (at(right, above), along * (1.0 - down)),
            (at(left, below), (1.0 - along) * down),
            (at(right, below), along * down),
        ];
        let mut out = [0.0; 3];
        for (pixel, weight) in corners {
            for (out, value) in out.iter_mut().zip(pixel) {
                *out += weight * value;
            }
        }
        out
    }

    /// Red, green and blue at a position of the whole buffer.
    fn color(&self, x: usize, y: usize) -> [f32; 3] {
        match self.pixels {
            Pixels::Interleaved(plane, format) => {
                let pixel = &plane.data[y * plane.stride + x * plane.step..];
                let byte = |index: usize| f32::from(pixel[index]);
                let on_white = |color: [f32; 3]| {
                    let opacity = byte(3) / 255.0;
                    color.map(|v| v * opacity + 255.0 * (1.0 - opacity))
                };
                match format {
                    PixelFormat::Gray => [byte(0); 3],
                    PixelFormat::Rgb => [byte(0), byte(1), byte(2)],
                    PixelFormat::Bgr => [byte(2), byte(1), byte(0)],
                    PixelFormat::Rgba => on_white([byte(0), byte(1), byte(2)]),
                    PixelFormat::Bgra => on_white([byte(2), byte(1), byte(0)]),
                }
            }
            Pixels::Yuv([luma, u, v]) => {
                let (luma, u, v) = (
                    luma.at(x, y),
                    u.at(x / 2, y / 2) - 128.0,
                    v.at(x / 2, y / 2) - 128.0,
                );
                [
                    luma + 1.402 * v,
                    luma - 0.344_136 * u - 0.714_136 * v,
                    luma + 1.772 * u,
                ]
                .map(|c| c.clamp(0.0, 255.0))
            }
        }
    }
}

impl<'a> From<&'a Image> for ImageView<'a> {
    fn from(image: &'a Image) -> Self {
        image.view()
    }
}

fn luminance([r, g, b]: [f32; 3]) -> f32 {
    0.299 * r + 0.587 * g + 0.114 * b
}

fn channels_of(rgb: [f32; 3], channels: ImageChannels) -> [f32; 3] {
    match channels {
        ImageChannels::Gray => [luminance(rgb); 3],
        ImageChannels::Rgb => rgb,
        ImageChannels::Bgr => [rgb[2], rgb[1], rgb[0]],
    }
}

/// The two positions around a point, whose centers lie at halves, and how far it is from the first to the second.
fn neighbors(at: f32, length: usize) -> (usize, usize, f32) {
    let last = (length - 1) as f32;
    let at = (at - 0.5).clamp(0.0, last);
    let first = at.floor();
    let index = first as usize;
    (index, (index + 1).min(length - 1), at - first)
}

/// The number of pixels, if both sides are such as images have.
pub(super) fn sides(width: usize, height: usize) -> Result<usize> {
    let fits = |side: usize| (1..=MAX_SIDE).contains(&side);
    if fits(width) && fits(height) {
        return Ok(width * height);
    }
    Err(invalid(format!(
        "an image of {width}x{height} pixels; both sides must be from 1 to {MAX_SIDE}"
    )))
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(view: &ImageView<'_>, channels: ImageChannels) -> Vec<Vec<f32>> {
        let mut out = vec![Vec::new(); channels.count()];
        let mut all = vec![Vec::new(); channels.count()];
        for y in 0..view.height() {
            view.row(y, 0..view.width(), channels, &mut out);
            for (all, row) in all.iter_mut().zip(&out) {
                all.extend(row);
            }
        }
        all
    }

    #[test]
    fn formats_of_one_picture_read_alike() {
        let rgb: Vec<u8> = (0..4 * 3 * 3).map(|i| (i * 37 % 251) as u8).collect();
        let pixels = rgb.as_chunks::<3>().0;
        let bgr: Vec<u8> = pixels.iter().flat_map(|&[r, g, b]| [b, g, r]).collect();
        let bgra: Vec<u8> = pixels
            .iter()
            .flat_map(|&[r, g, b]| [b, g, r, 255])
            .collect();
        // Rows with two bytes between them.
        let mut rgba = Vec::new();
        for row in pixels.chunks(4) {
            rgba.extend(row.iter().flat_map(|&[r, g, b]| [r, g, b, 255]));
            rgba.extend([9, 9]);
        }
        let views = [
            ImageView::new(&rgb, 4, 3, 12, PixelFormat::Rgb).unwrap(),
            ImageView::new(&bgr, 4, 3, 12, PixelFormat::Bgr).unwrap(),
            ImageView::new(&bgra, 4, 3, 16, PixelFormat::Bgra).unwrap(),
            ImageView::new(&rgba, 4, 3, 18, PixelFormat::Rgba).unwrap(),
        ];
        for channels in [ImageChannels::Gray, ImageChannels::Rgb, ImageChannels::Bgr] {
            for view in &views[1..] {
                assert_eq!(rows(view, channels), rows(&views[0], channels));
            }
        }
        let red = rows(&views[0], ImageChannels::Rgb);
        assert_eq!(red[0][1], f32::from(rgb[3]));
        assert_eq!(rows(&views[0], ImageChannels::Bgr)[2], red[0]);
    }

    #[test]
    fn camera_planes_are_read_in_place() {
        // 3x3: chroma has 2x2 samples.
        let y: Vec<u8> = (0..15).map(|i| 10 * i as u8).collect();
        let (u, v) = ([100u8, 110, 120, 130], [140u8, 150, 160, 170]);
        let vu: Vec<u8> = v.iter().zip(&u).flat_map(|(&v, &u)| [v, u]).collect();
        let plane = |data, stride, step| Plane { data, stride, step };
        let planar =
            ImageView::yuv420([plane(&y, 5, 1), plane(&u, 2, 1), plane(&v, 2, 1)], 3, 3).unwrap();
        let semi = ImageView::nv21(&y, 5, &vu, 4, 3, 3).unwrap();
        for channels in [ImageChannels::Gray, ImageChannels::Rgb] {
            assert_eq!(rows(&planar, channels), rows(&semi, channels));
        }
        let gray = rows(&semi, ImageChannels::Gray).remove(0);
        assert_eq!(
            gray,
            [0.0, 10.0, 20.0, 50.0, 60.0, 70.0, 100.0, 110.0, 120.0]
        );
        let red = rows(&semi, ImageChannels::Rgb).remove(0);
        assert!((red[1] - (10.0 + 1.402 * 12.0)).abs() < 1e-3);
    }

    #[test]
    fn transparency_shows_white() {
        let view = ImageView::new(&[0, 0, 0, 0], 1, 1, 4, PixelFormat::Rgba).unwrap();
        assert_eq!(rows(&view, ImageChannels::Gray)[0], [255.0]);
    }

    #[test]
    fn wrong_sizes_are_refused_with_the_numbers() {
        let data = [0u8; 24];
        let cases: [(usize, usize, usize, &str); 6] = [
            (0, 4, 12, "0x4"),
            (4, 0, 12, "4x0"),
            (4, 2, 11, "stride of 11"),
            (4, 3, 12, "24 bytes"),
            (4, 2, usize::MAX, "24 bytes"),
            (1 << 17, 1, 1 << 20, "131072x1"),
        ];
        for (width, height, stride, says) in cases {
            let error = ImageView::new(&data, width, height, stride, PixelFormat::Rgb).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.to_string().contains(says), "{error}");
        }
        let error = ImageView::nv21(&data, 4, &data[..3], 4, 4, 4).unwrap_err();
        assert!(error.to_string().contains("plane U"), "{error}");
        let error = ImageView::nv21(&data, 3, &data, 4, 4, 4).unwrap_err();
        assert!(error.to_string().contains("plane Y"), "{error}");
        let view = ImageView::new(&data, 4, 2, 12, PixelFormat::Rgb).unwrap();
        for (left, top, width, height) in [(0, 0, 0, 1), (4, 0, 1, 1), (1, 0, usize::MAX, 1)] {
            assert!(view.crop(left, top, width, height).is_err());
        }
    }

    proptest! {
        #[test]
        fn parts_read_as_the_whole(left in 0usize..6, top in 0usize..4, width in 1usize..6, height in 1usize..4) {
            let data: Vec<u8> = (0..70).map(|i| i as u8).collect();
            let view = ImageView::new(&data, 10, 7, 10, PixelFormat::Gray).unwrap();
            if let Ok(part) = view.crop(left, top, width, height) {
                let whole = rows(&view, ImageChannels::Gray).remove(0);
                let found = rows(&part, ImageChannels::Gray).remove(0);
                for (i, value) in found.iter().enumerate() {
                    prop_assert_eq!(*value, whole[(top + i / width) * 10 + left + i % width]);
                }
            } else {
                prop_assert!(left + width > 10 || top + height > 7);
            }
        }
    }
}
