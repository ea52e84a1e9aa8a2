//! One frame as its bytes came: width, height, and the layout that says what the bytes are.

use crate::image::{Image, ImageView, MAX_PIXELS, MAX_SIDE, PixelFormat, Plane};
use crate::{Error, ErrorKind, Result};
use std::fmt;
use std::str::FromStr;

/// What the bytes of a frame are; rows follow one another without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameLayout {
    /// Whole pixels one after another.
    Interleaved(PixelFormat),
    /// YUV 4:2:2 in fours: Y, U, Y, V. The chroma of every second row is read.
    Yuyv,
    /// YUV 4:2:0: a plane of Y, then one of alternating U and V.
    Nv12,
    /// YUV 4:2:0: a plane of Y, then one of alternating V and U.
    Nv21,
    /// YUV 4:2:0: planes of Y, U and V.
    I420,
}

impl FrameLayout {
    /// Every layout with its name.
    const NAMED: [(&'static str, Self); 9] = [
        ("gray", Self::Interleaved(PixelFormat::Gray)),
        ("rgb", Self::Interleaved(PixelFormat::Rgb)),
        ("bgr", Self::Interleaved(PixelFormat::Bgr)),
        ("rgba", Self::Interleaved(PixelFormat::Rgba)),
        ("bgra", Self::Interleaved(PixelFormat::Bgra)),
        ("yuyv", Self::Yuyv),
        ("nv12", Self::Nv12),
        ("nv21", Self::Nv21),
        ("i420", Self::I420),
    ];

    /// Bytes of a frame; chroma sides are rounded up.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for a side of 0 or above [`MAX_SIDE`], [`ErrorKind::Limit`] above
    /// [`MAX_PIXELS`].
    pub fn bytes(self, width: usize, height: usize) -> Result<usize> {
        let fits = |side: usize| (1..=MAX_SIDE).contains(&side);
        if !fits(width) || !fits(height) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "a frame of {width}x{height} pixels; both sides must be from 1 to {MAX_SIDE}"
                ),
            ));
        }
        let pixels = width * height;
        if pixels > MAX_PIXELS {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("a frame of {width}x{height} pixels, at most {MAX_PIXELS} are taken"),
            ));
        }
        let chroma = width.div_ceil(2) * height.div_ceil(2);
        Ok(match self {
            Self::Interleaved(format) => pixels * format.bytes(),
            Self::Yuyv => 4 * width.div_ceil(2) * height,
            Self::Nv12 | Self::Nv21 | Self::I420 => pixels + 2 * chroma,
        })
    }
}

impl fmt::Display for FrameLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMED.iter().find(|(_, layout)| layout == self);
        f.write_str(name.map_or("unnamed", |(name, _)| name))
    }
}

impl FromStr for FrameLayout {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::NAMED.iter().find(|(known, _)| *known == name);
        found.map(|&(_, layout)| layout).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "pixels {name:?} are not one of {}",
                    Self::NAMED.map(|(name, _)| name).join(", ")
                ),
            )
        })
    }
}

/// A frame and its bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    data: Vec<u8>,
    width: usize,
    height: usize,
    layout: FrameLayout,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame {}x{} {}", self.width, self.height, self.layout)
    }
}

impl Frame {
    /// A frame of bytes laid out as said; more bytes than it needs are left alone.
    ///
    /// # Errors
    /// As [`FrameLayout::bytes`]; [`ErrorKind::Malformed`] for too few bytes.
    pub fn new(data: Vec<u8>, width: usize, height: usize, layout: FrameLayout) -> Result<Self> {
        let needed = layout.bytes(width, height)?;
        if data.len() < needed {
            return Err(Error::new(
                ErrorKind::Malformed,
                format!(
                    "{} bytes for a frame of {width}x{height} pixels ({layout}), {needed} are expected",
                    data.len()
                ),
            ));
        }
        Ok(Self {
            data,
            width,
            height,
            layout,
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

    /// What the bytes are.
    pub fn layout(&self) -> FrameLayout {
        self.layout
    }

    /// The frame as an image that a recognizer takes; no pixel is copied.
    ///
    /// # Errors
    /// None at present: a frame has the bytes that its layout needs.
    pub fn view(&self) -> Result<ImageView<'_>> {
        let (width, height) = (self.width, self.height);
        let half = width.div_ceil(2);
        let after = |start: usize| self.data.get(start..).unwrap_or_default();
        let plane = |start, stride, step| Plane {
            data: after(start),
            stride,
            step,
        };
        let luma = width * height;
        let planes = match self.layout {
            FrameLayout::Interleaved(format) => {
                return ImageView::new(&self.data, width, height, width * format.bytes(), format);
            }
            // Chroma rows two rows apart make the 4:2:2 frame one of 4:2:0.
            FrameLayout::Yuyv => [
                plane(0, 4 * half, 2),
                plane(1, 8 * half, 4),
                plane(3, 8 * half, 4),
            ],
            FrameLayout::Nv12 => [
                plane(0, width, 1),
                plane(luma, 2 * half, 2),
                plane(luma + 1, 2 * half, 2),
            ],
            FrameLayout::Nv21 => [
                plane(0, width, 1),
                plane(luma + 1, 2 * half, 2),
                plane(luma, 2 * half, 2),
            ],
            FrameLayout::I420 => [
                plane(0, width, 1),
                plane(luma, half, 1),
                plane(luma + half * height.div_ceil(2), half, 1),
            ],
        };
        ImageView::yuv420(planes, width, height)
    }
}

impl From<Image> for Frame {
    fn from(image: Image) -> Self {
        Self {
            width: image.width(),
            height: image.height(),
            layout: FrameLayout::Interleaved(PixelFormat::Rgb),
            data: image.into_rgb(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::ImageChannels;
    use proptest::prelude::*;

    fn rows(frame: &Frame, channels: ImageChannels) -> Vec<f32> {
        let view = frame.view().unwrap();
        let mut row = vec![Vec::new(); channels.count()];
        let mut out = Vec::new();
        for y in 0..view.height() {
            view.row(y, 0..view.width(), channels, &mut row);
            out.extend(row.iter().flatten());
        }
        out
    }

    /// One picture in every layout of YUV, its chroma the same in pairs of rows.
    #[test]
    fn layouts_of_yuv_read_alike() {
        for (width, height) in [(4, 4), (5, 3), (1, 1)] {
            let (half, low) = (usize::div_ceil(width, 2), usize::div_ceil(height, 2));
            let y = |x: usize, row: usize| (40 + 9 * x + 30 * row) as u8;
            let u = |x: usize, row: usize| (90 + 11 * x + 40 * row) as u8;
            let v = |x: usize, row: usize| (160 - 13 * x - 20 * row) as u8;
            let luma: Vec<u8> = (0..width * height)
                .map(|i| y(i % width, i / width))
                .collect();
            let chroma = |f: &dyn Fn(usize, usize) -> u8| -> Vec<u8> {
                (0..half * low).map(|i| f(i % half, i / half)).collect()
            };
            let (us, vs) = (chroma(&u), chroma(&v));
            let pairs = |a: &[u8], b: &[u8]| -> Vec<u8> {
                a.iter().zip(b).flat_map(|(&a, &b)| [a, b]).collect()
            };
            let yuyv: Vec<u8> = (0..height)
                .flat_map(|row| (0..half).map(move |x| (x, row)))
                .flat_map(|(x, row)| {
                    [
                        y(2 * x, row),
                        u(x, row / 2),
                        y(2 * x + 1, row),
                        v(x, row / 2),
                    ]
                })
                .collect();
            let frames = [
                (
                    FrameLayout::I420,
                    [luma.clone(), us.clone(), vs.clone()].concat(),
                ),
                (FrameLayout::Nv12, [luma.clone(), pairs(&us, &vs)].concat()),
                (FrameLayout::Nv21, [luma.clone(), pairs(&vs, &us)].concat()),
                (FrameLayout::Yuyv, yuyv),
            ]
            .map(|(layout, data)| {
                assert_eq!(data.len(), layout.bytes(width, height).unwrap());
                Frame::new(data, width, height, layout).unwrap()
            });
            for channels in [ImageChannels::Gray, ImageChannels::Rgb] {
                let expected = rows(&frames[0], channels);
                for frame in &frames[1..] {
                    assert_eq!(rows(frame, channels), expected, "{frame:?}");
                }
            }
        }
    }

    #[test]
    fn names_are_read_back_and_wrong_sizes_refused() {
        for (name, layout) in FrameLayout::NAMED {
            assert_eq!(layout.to_string().parse::<FrameLayout>().unwrap(), layout);
            assert_eq!(layout.to_string(), name);
        }
        assert!("h264".parse::<FrameLayout>().is_err());
        let layout = FrameLayout::Nv12;
        for (width, height, kind) in [
            (0, 4, ErrorKind::InvalidArgument),
            (4, 1 << 17, ErrorKind::InvalidArgument),
            (1 << 16, 1 << 16, ErrorKind::Limit),
            (4, 4, ErrorKind::Malformed),
        ] {
            let error = Frame::new(vec![0; 23], width, height, layout).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
        }
    }

    proptest! {
        #[test]
        fn every_frame_that_is_taken_has_a_view(
            width in 0usize..20, height in 0usize..20, bytes in 0usize..1200, layout in 0usize..9,
        ) {
            let layout = FrameLayout::NAMED[layout].1;
            if let Ok(frame) = Frame::new(vec![7; bytes], width, height, layout) {
                prop_assert_eq!(rows(&frame, ImageChannels::Rgb).len(), 3 * width * height);
            }
        }
    }
}
