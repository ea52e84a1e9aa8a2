//! Sources of frames: a camera, a folder, a stream of bytes, or an app that hands its own frames over.
//!
//! A [`FrameSource`] is asked for one frame after another and waits for each. A [`FrameFeed`] asks it on a thread of its
//! own and keeps the newest frame for whoever reads: what is too slow loses old frames, never new ones, and the losses
//! are counted. Frames are views of the bytes they came as ([`FrameLayout`]); nothing is converted.

mod feed;
#[cfg(feature = "images")]
mod folder;
mod frame;
#[cfg(feature = "images")]
mod jpeg;
mod stream;
#[cfg(all(feature = "camera-v4l", target_os = "linux"))]
mod v4l;

use crate::Result;

pub use feed::{Fed, FeedStats, FrameFeed, FrameSender, Keep};
#[cfg(feature = "images")]
pub use folder::FolderFrames;
pub use frame::{Frame, FrameLayout};
#[cfg(feature = "images")]
pub use stream::MjpegFrames;
pub use stream::{PacedFrames, RawFrames};
#[cfg(all(feature = "camera-v4l", target_os = "linux"))]
pub use v4l::{CameraOptions, V4lCamera};

/// A source of frames. An app implements it for a camera of its own, or hands frames to a [`FrameSender`].
pub trait FrameSource: Send {
    /// Waits for the next frame; `None` at the end.
    ///
    /// # Errors
    /// [`Malformed`](crate::ErrorKind::Malformed), [`Unsupported`](crate::ErrorKind::Unsupported) and
    /// [`Limit`](crate::ErrorKind::Limit) are about one frame: asked again, the source goes on after it. Any other
    /// error is its end.
    fn next_frame(&mut self) -> Result<Option<Frame>>;
}

impl<S: FrameSource + ?Sized> FrameSource for Box<S> {
    fn next_frame(&mut self) -> Result<Option<Frame>> {
        (**self).next_frame()
    }
}
