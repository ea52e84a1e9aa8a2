//! A camera of Linux through V4L2: the format that costs least to read of those it has, frames as the driver gives them.

use super::{Frame, FrameLayout, FrameSource};
use crate::image::PixelFormat as Pixels;
use crate::{Error, ErrorKind, Image, Result};
use linuxvideo::format::{PixFormat, PixelFormat};
use linuxvideo::stream::ReadStream;
use linuxvideo::{BufType, Device};
use std::path::PathBuf;

/// How a camera is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CameraOptions {
    /// The device's file. Default `/dev/video0`.
    pub device: PathBuf,
    /// Pixels in a row that are asked for; the camera takes the nearest it has. Default 1280.
    pub width: u32,
    /// Rows that are asked for. Default 720.
    pub height: u32,
}

impl Default for CameraOptions {
    fn default() -> Self {
        Self {
            device: "/dev/video0".into(),
            width: 1280,
            height: 720,
        }
    }
}

/// What the bytes of a buffer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Jpeg,
    Raw(FrameLayout),
}

/// The formats that are read, the most wanted first: JPEG gives many more frames over USB than anything else.
const WANTED: [(PixelFormat, Coding); 7] = [
    (PixelFormat::MJPG, Coding::Jpeg),
    (PixelFormat::JPEG, Coding::Jpeg),
    (PixelFormat::YUYV, Coding::Raw(FrameLayout::Yuyv)),
    (
        PixelFormat::from_fourcc(*b"NV12"),
        Coding::Raw(FrameLayout::Nv12),
    ),
    (
        PixelFormat::RGB3,
        Coding::Raw(FrameLayout::Interleaved(Pixels::Rgb)),
    ),
    (
        PixelFormat::BGR3,
        Coding::Raw(FrameLayout::Interleaved(Pixels::Bgr)),
    ),
    (
        PixelFormat::from_fourcc(*b"GREY"),
        Coding::Raw(FrameLayout::Interleaved(Pixels::Gray)),
    ),
];

/// A camera that is watched.
pub struct V4lCamera {
    stream: ReadStream,
    device: PathBuf,
    coding: Coding,
    width: usize,
    height: usize,
    stride: usize,
}

impl std::fmt::Debug for V4lCamera {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            device,
            width,
            height,
            coding,
            ..
        } = self;
        write!(
            f,
            "V4lCamera {} {width}x{height} {coding:?}",
            device.display()
        )
    }
}

impl V4lCamera {
    /// Opens a camera and starts it.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when the file is no camera, cannot be opened (missing, no permission, in use), or has none
    /// of the formats that are read: JPEG, YUYV, NV12, RGB, BGR, gray.
    pub fn open(options: &CameraOptions) -> Result<Self> {
        let name = options.device.display();
        let failed = |what: &str, e: std::io::Error| {
            Error::new(ErrorKind::Device, format!("camera {name}: {what}: {e}")).with_source(e)
        };
        let device = Device::open(&options.device).map_err(|e| failed("cannot be opened", e))?;
        let mut offered = Vec::new();
        for format in device.formats(BufType::VIDEO_CAPTURE) {
            offered.push(format.map_err(|e| failed("its formats", e))?.pixel_format());
        }
        let wanted = WANTED.iter().find(|(format, _)| offered.contains(format));
        let Some(&(format, _)) = wanted else {
            return Err(Error::new(
                ErrorKind::Device,
                format!(
                    "camera {name}: none of its formats {offered:?} is read: expected one of {:?}",
                    WANTED.map(|w| w.0)
                ),
            ));
        };
        let asked = PixFormat::new(options.width, options.height, format);
        let capture = device
            .video_capture(asked)
            .map_err(|e| failed("does not start", e))?;
        let given = capture.format();
        // The driver may answer with a format of its own.
        let coding = WANTED
            .iter()
            .find(|(format, _)| *format == given.pixel_format());
        let Some(&(_, coding)) = coding else {
            return Err(Error::new(
                ErrorKind::Device,
                format!(
                    "camera {name}: asked for {format:?} it gives {:?}, which is not read",
                    given.pixel_format()
                ),
            ));
        };
        let (width, height) = (given.width() as usize, given.height() as usize);
        let stride = given.bytes_per_line() as usize;
        let stream = capture.into_stream();
        Ok(Self {
            stream: stream.map_err(|e| failed("does not stream", e))?,
            device: options.device.clone(),
            coding,
            width,
            height,
            stride,
        })
    }

    /// Pixels in a row and rows, as the camera chose them.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }
}

impl FrameSource for V4lCamera {
    fn next_frame(&mut self) -> Result<Option<Frame>> {
        let taken = self
            .stream
            .dequeue(|buffer| Ok((buffer.is_error(), buffer.to_vec())));
        let (broken, data) = taken.map_err(|e| {
            Error::new(
                ErrorKind::Device,
                format!("camera {} is gone: {e}", self.device.display()),
            )
            .with_source(e)
        })?;
        if broken {
            return Err(Error::new(
                ErrorKind::Malformed,
                "the camera marked a frame as damaged",
            ));
        }
        match self.coding {
            Coding::Jpeg => Image::from_bytes(&data).map(|image| Some(image.into())),
            Coding::Raw(layout) => {
                let data = tight(data, layout, self.width, self.height, self.stride);
                Frame::new(data, self.width, self.height, layout).map(Some)
            }
        }
    }
}

/// The rows without what lies between them.
fn tight(
    data: Vec<u8>,
    layout: FrameLayout,
    width: usize,
    height: usize,
    stride: usize,
) -> Vec<u8> {
    let (row, rows) = match layout {
        FrameLayout::Interleaved(format) => (width * format.bytes(), height),
        FrameLayout::Yuyv => (4 * width.div_ceil(2), height),
        _ => (width, height + height.div_ceil(2)),
    };
    if stride <= row {
        return data;
    }
    let rows = data.chunks(stride).take(rows);
    rows.flat_map(|line| &line[..row.min(line.len())])
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_lose_what_lies_between_them() {
        let gray = FrameLayout::Interleaved(Pixels::Gray);
        let padded = vec![1, 2, 0, 3, 4, 0, 5, 6];
        assert_eq!(tight(padded, gray, 2, 3, 3), [1, 2, 3, 4, 5, 6]);
        assert_eq!(tight(vec![1, 2, 3, 4], gray, 2, 2, 0), [1, 2, 3, 4]);
        // Two rows of luma, one of chroma.
        let padded = vec![1, 2, 0, 3, 4, 0, 5, 6, 0];
        assert_eq!(
            tight(padded, FrameLayout::Nv12, 2, 2, 3),
            [1, 2, 3, 4, 5, 6]
        );
    }

    #[test]
    fn what_is_no_camera_is_named() {
        for device in ["/dev/null", "/dev/no-camera"] {
            let options = CameraOptions {
                device: device.into(),
                ..CameraOptions::default()
            };
            let error = V4lCamera::open(&options).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Device);
            assert!(error.to_string().contains(device), "{error}");
        }
    }
}
