//! Frames out of a stream of bytes (a pipe, a socket, a file), and a pace for sources that have none.

#[cfg(feature = "images")]
use super::jpeg::JpegStream;
use super::{Frame, FrameLayout, FrameSource};
use crate::{Error, ErrorKind, Result};
use std::io::Read;
use std::time::{Duration, Instant};

/// Raw frames of one size that follow one another without anything between them.
#[derive(Debug)]
pub struct RawFrames<R> {
    input: R,
    width: usize,
    height: usize,
    layout: FrameLayout,
    bytes: usize,
    ended: bool,
}

impl<R: Read> RawFrames<R> {
    /// The frames of `input`.
    ///
    /// # Errors
    /// As [`FrameLayout::bytes`].
    pub fn new(input: R, width: usize, height: usize, layout: FrameLayout) -> Result<Self> {
        Ok(Self {
            bytes: layout.bytes(width, height)?,
            input,
            width,
            height,
            layout,
            ended: false,
        })
    }
}

impl<R: Read + Send> FrameSource for RawFrames<R> {
    fn next_frame(&mut self) -> Result<Option<Frame>> {
        if self.ended {
            return Ok(None);
        }
        let mut data = Vec::with_capacity(self.bytes);
        let read = (&mut self.input)
            .take(self.bytes as u64)
            .read_to_end(&mut data);
        let read = read.map_err(|e| {
            Error::new(ErrorKind::Io, format!("the stream of frames: {e}")).with_source(e)
        })?;
        if read < self.bytes {
            self.ended = true;
        }
        if read == 0 {
            return Ok(None);
        }
        Frame::new(data, self.width, self.height, self.layout).map(Some)
    }
}

/// The JPEG images of a stream (MJPEG), whatever stands between them.
#[cfg(feature = "images")]
#[derive(Debug)]
pub struct MjpegFrames<R> {
    images: JpegStream<std::io::BufReader<R>>,
}

#[cfg(feature = "images")]
impl<R: Read> MjpegFrames<R> {
    /// The frames of `input`.
    pub fn new(input: R) -> Self {
        Self {
            images: JpegStream::new(std::io::BufReader::with_capacity(1 << 16, input)),
        }
    }
}

#[cfg(feature = "images")]
impl<R: Read + Send> FrameSource for MjpegFrames<R> {
    fn next_frame(&mut self) -> Result<Option<Frame>> {
        let Some(bytes) = self.images.next_image()? else {
            return Ok(None);
        };
        crate::Image::from_bytes(&bytes).map(|image| Some(image.into()))
    }
}

/// The frames of another source, none before its time: a folder or file as if a camera gave it.
#[derive(Debug)]
pub struct PacedFrames<S> {
    source: S,
    interval: Duration,
    next: Option<Instant>,
}

impl<S: FrameSource> PacedFrames<S> {
    /// The frames of `source`, at most `per_second` a second.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] unless the rate is from 0.001 to 1000.
    pub fn new(source: S, per_second: f64) -> Result<Self> {
        if !(0.001..=1000.0).contains(&per_second) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("a pace of {per_second} frames a second: 0.001 to 1000 are expected"),
            ));
        }
        Ok(Self {
            source,
            interval: Duration::from_secs_f64(per_second.recip()),
            next: None,
        })
    }
}

impl<S: FrameSource> FrameSource for PacedFrames<S> {
    fn next_frame(&mut self) -> Result<Option<Frame>> {
        let due = *self.next.get_or_insert_with(Instant::now);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        self.next = Some(due + self.interval);
        self.source.next_frame()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::PixelFormat;

    const GRAY: FrameLayout = FrameLayout::Interleaved(PixelFormat::Gray);

    #[test]
    fn raw_frames_follow_one_another_and_a_cut_one_is_told() {
        let bytes: Vec<u8> = (0..15).collect();
        let mut source = RawFrames::new(&bytes[..], 3, 2, GRAY).unwrap();
        for start in [0u8, 6] {
            let frame = source.next_frame().unwrap().unwrap();
            let expected: Vec<u8> = (start..start + 6).collect();
            assert_eq!(frame, Frame::new(expected, 3, 2, GRAY).unwrap());
        }
        assert_eq!(
            source.next_frame().unwrap_err().kind(),
            ErrorKind::Malformed
        );
        assert!(source.next_frame().unwrap().is_none());
        assert!(RawFrames::new(&bytes[..], 0, 2, GRAY).is_err());
    }

    #[cfg(feature = "images")]
    #[test]
    fn a_broken_image_does_not_end_the_stream() {
        let mut jpeg = Vec::new();
        jpeg_encoder::Encoder::new(&mut jpeg, 90)
            .encode(&[200; 8 * 8], 8, 8, jpeg_encoder::ColorType::Luma)
            .unwrap();
        // No JPEG decoder takes a frame without a frame header.
        let broken = [0xff, 0xd8, 0xff, 0xd9];
        let stream = [&jpeg[..], &broken, &jpeg].concat();
        let mut source = MjpegFrames::new(&stream[..]);
        let first = source.next_frame().unwrap().unwrap();
        assert_eq!((first.width(), first.height()), (8, 8));
        assert_eq!(
            source.next_frame().unwrap_err().kind(),
            ErrorKind::Malformed
        );
        assert_eq!(source.next_frame().unwrap().unwrap(), first);
        assert!(source.next_frame().unwrap().is_none());
    }

    #[test]
    fn a_pace_keeps_frames_apart() {
        let bytes = [0u8; 4];
        let source = RawFrames::new(&bytes[..], 1, 1, GRAY).unwrap();
        let mut paced = PacedFrames::new(source, 50.0).unwrap();
        let started = Instant::now();
        let mut frames = 0;
        while paced.next_frame().unwrap().is_some() {
            frames += 1;
        }
        assert_eq!(frames, 4);
        assert!(started.elapsed() >= Duration::from_millis(80));
        let source = RawFrames::new(&bytes[..], 1, 1, GRAY).unwrap();
        assert!(PacedFrames::new(source, f64::NAN).is_err());
    }
}
