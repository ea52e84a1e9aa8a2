//! Sources of live audio: devices and files that give samples as time goes by.
//!
//! A source is asked again and again and never waits: [`AudioSource::read`] appends what has come and says what
//! happened. Whatever is lost is counted, and told at the place where it is missing.

#[cfg(any(feature = "mic", test))]
mod device;
mod file;
mod handed;
#[cfg(feature = "mic")]
mod mic;
mod ring;

use crate::Result;

pub use file::PacedAudio;
pub use handed::{HandedAudio, handed_audio};
#[cfg(feature = "mic")]
pub use mic::{MicDevice, MicOptions, Microphone, mic_devices};
pub use ring::AudioWriter;

/// What samples of a source are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioFormat {
    /// Frames per second.
    pub rate: u32,
    /// Channels per frame, interleaved.
    pub channels: u16,
}

/// What reading from a source came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Captured {
    /// Everything that has come by now was appended; that may be nothing.
    Current,
    /// After what was appended, this many frames are missing: nobody read in time, or the device reported it. The
    /// device does not always know how many: then it is 0.
    Lost {
        /// Frames that are missing.
        frames: u64,
    },
    /// The device is gone. A source that reconnects goes on being [`Current`](Self::Current) with nothing until it is
    /// back, and then tells the time without it as [`Lost`](Self::Lost).
    Disconnected,
    /// The device is another one or has another format from here on.
    Changed,
    /// There is no more to come.
    Ended,
}

/// A source of live audio.
pub trait AudioSource {
    /// The format of the samples that the next [`read`](Self::read) appends.
    fn format(&self) -> AudioFormat;

    /// Appends the samples `[n, channels]` that have come, without waiting for more, and says what happened after
    /// them. Called again after anything but [`Captured::Current`], it goes on from there.
    ///
    /// # Errors
    /// [`ErrorKind::Device`](crate::ErrorKind::Device) when the source fails for good.
    fn read(&mut self, out: &mut Vec<f32>) -> Result<Captured>;
}
