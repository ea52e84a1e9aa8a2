//! Audio files and samples as the mono f32 signal that the front-end takes.
//!
//! The format is told by a file's content, never by its name. WAV with 8-, 16-, 24- or 32-bit integers or
//! 32-bit floats is always read; FLAC, Ogg Vorbis, MP3 and WAV's rarer encodings (64-bit float, A-law,
//! mu-law, ADPCM) need the feature `codecs`. Samples are floats in [-1, 1]; integers are divided by half
//! their range. No header is believed: memory grows only with samples that were really there, up to
//! [`MAX_FRAMES`].
//!
//! A *frame* here is one sample of every channel, as audio formats use the word.

#[cfg(feature = "codecs")]
mod codecs;
mod mix;
mod resample;
mod wav;

pub use resample::Resampler;

use self::mix::{Mixer, check_finite, check_length};
use crate::{Error, ErrorKind, Result};
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::ops::RangeInclusive;
use std::path::Path;

/// Sample rates that are read, in Hz.
pub const SAMPLE_RATES: RangeInclusive<u32> = 1_000..=768_000;

/// Channel counts that are read.
pub const CHANNELS: RangeInclusive<u16> = 1..=64;

/// Most frames in one [`Audio`]: 2 GiB of memory, 9.3 hours at 16 kHz or 3.1 hours at 48 kHz.
pub const MAX_FRAMES: usize = 1 << 29;

/// A sound in memory: the mean of its channels, at the rate it was recorded with.
#[derive(Debug, Clone, PartialEq)]
pub struct Audio {
    mono: Vec<f32>,
    sample_rate: u32,
    channels: u16,
}

impl Audio {
    /// A sound from interleaved samples in [-1, 1]: frame 0 of every channel, then frame 1, and so on.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] when the rate or the channel count is outside [`SAMPLE_RATES`] or
    /// [`CHANNELS`], the last frame is incomplete, or a sample is not a finite number of sane size;
    /// [`ErrorKind::Limit`] above [`MAX_FRAMES`].
    pub fn new(samples: Vec<f32>, sample_rate: u32, channels: u16) -> Result<Self> {
        let invalid = |message| Err(Error::new(ErrorKind::InvalidArgument, message));
        if !SAMPLE_RATES.contains(&sample_rate) {
            return invalid(format!(
                "the sample rate is {sample_rate} Hz, expected {} to {}",
                SAMPLE_RATES.start(),
                SAMPLE_RATES.end()
            ));
        }
        if !CHANNELS.contains(&channels) {
            return invalid(format!(
                "there are {channels} channels, expected {} to {}",
                CHANNELS.start(),
                CHANNELS.end()
            ));
        }
        if !samples.len().is_multiple_of(usize::from(channels)) {
            return invalid(format!(
                "{} samples are not a whole number of frames of {channels} channels",
                samples.len()
            ));
        }
        if channels > 1 {
            let mut mixer = Mixer::new(channels, ErrorKind::InvalidArgument);
            mixer.push(&samples)?;
            return Ok(mixer.finish(sample_rate));
        }
        check_length(samples.len(), MAX_FRAMES)?;
        check_finite(&samples, 1, 0, ErrorKind::InvalidArgument)?;
        Ok(Self {
            mono: samples,
            sample_rate,
            channels,
        })
    }

    /// Reads an audio file; its content, not its name, says what it is.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be read or is no regular file, [`ErrorKind::Malformed`] when it is
    /// empty, cut, no audio, contradicts itself or holds samples that are not finite,
    /// [`ErrorKind::Unsupported`] for an encoding, rate or channel count that this build does not read,
    /// [`ErrorKind::Limit`] above [`MAX_FRAMES`]. The error names the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::open_file(path).map_err(|e| e.with_path(path))
    }

    fn open_file(path: &Path) -> Result<Self> {
        // Asked before opening: opening a pipe that nobody writes to would wait forever.
        let metadata = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
        if !metadata.is_file() {
            return Err(Error::new(
                ErrorKind::Io,
                "not a regular file; expected an audio file (save a pipe's output to a file first)",
            ));
        }
        let mut file = File::open(path).map_err(|e| Error::io(path, e))?;
        let what = match sniff(&mut file)? {
            Format::Wav => match wav::read(&file)? {
                wav::Content::Samples(audio) => return Ok(audio),
                wav::Content::Other(encoding) => encoding,
            },
            Format::Other(name) => name,
        };
        file.seek(SeekFrom::Start(0)).map_err(read_error)?;
        codecs::decode(file, what)
    }

    /// Reads an audio file held in memory.
    ///
    /// # Errors
    /// As [`open`](Self::open), without a file name.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let what = match sniff(&mut Cursor::new(bytes))? {
            Format::Wav => match wav::read(Cursor::new(bytes))? {
                wav::Content::Samples(audio) => return Ok(audio),
                wav::Content::Other(encoding) => encoding,
            },
            Format::Other(name) => name,
        };
        codecs::decode(bytes, what)
    }

    /// Frames per second.
    pub fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    /// Number of channels the sound had before they were averaged.
    pub fn channels(&self) -> u16 {
        self.channels
    }

    /// Number of frames.
    pub fn len(&self) -> usize {
        self.mono.len()
    }

    /// Whether there is not a single frame.
    pub fn is_empty(&self) -> bool {
        self.mono.is_empty()
    }

    /// Length in seconds.
    pub fn duration(&self) -> f64 {
        self.mono.len() as f64 / f64::from(self.sample_rate)
    }

    /// The mean of the channels at `rate` Hz.
    ///
    /// n frames give `round(n * rate / sample_rate)` samples, halves rounded up: nothing is lost at the end
    /// and nothing shifted at the start. At the sound's own rate the samples are returned as they are.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] when `rate` is outside [`SAMPLE_RATES`], [`ErrorKind::Limit`] when the
    /// result would exceed [`MAX_FRAMES`].
    pub fn mono(&self, rate: u32) -> Result<Vec<f32>> {
        if rate == self.sample_rate {
            return Ok(self.mono.clone());
        }
        let mut resampler = Resampler::new(self.sample_rate, rate)?;
        check_length(resampler.output_length(self.mono.len()), MAX_FRAMES)?;
        let mut out = Vec::new();
        resampler.push(&self.mono, &mut out)?;
        resampler.finish(&mut out)?;
        Ok(out)
    }

    /// The mean of the channels at the sound's own rate, `[len]`.
    pub fn samples(&self) -> &[f32] {
        &self.mono
    }
}

/// What the first bytes of a file say it is.
enum Format {
    Wav,
    /// A format that only `codecs` reads, with its name.
    Other(&'static str),
}

/// Tells the format from the first bytes and rewinds.
fn sniff(reader: &mut (impl Read + Seek)) -> Result<Format> {
    let mut head = Vec::with_capacity(12);
    reader
        .by_ref()
        .take(12)
        .read_to_end(&mut head)
        .map_err(read_error)?;
    reader.seek(SeekFrom::Start(0)).map_err(read_error)?;
    let wave = head.len() == 12 && &head[8..] == b"WAVE";
    match head.get(..4) {
        None if head.is_empty() => Err(malformed("the file is empty, expected audio")),
        Some(b"RIFF") if wave => Ok(Format::Wav),
        Some(b"RF64" | b"BW64") if wave => Err(Error::new(
            ErrorKind::Unsupported,
            "a WAV file with 64-bit sizes (RF64): cut it into parts below 4 GiB",
        )),
        Some(b"RIFF") if head.len() < 12 => Err(malformed("the file ends within its RIFF header")),
        Some(b"fLaC") => Ok(Format::Other("FLAC")),
        Some(b"OggS") => Ok(Format::Other("Ogg")),
        Some([b'I', b'D', b'3', _]) => Ok(Format::Other("MP3")),
        // The sync word of an MPEG audio frame of layer III.
        Some([0xff, b, _, _]) if b & 0xe6 == 0xe2 => Ok(Format::Other("MP3")),
        _ => Err(malformed(
            "this is no audio file: expected WAV, FLAC, Ogg Vorbis or MP3, found neither of their first bytes",
        )),
    }
}

/// Stands in for the feature `codecs`: says what to do instead.
#[cfg(not(feature = "codecs"))]
mod codecs {
    use crate::{Error, ErrorKind, Result};

    pub(super) fn decode(_: impl std::io::Read, what: &str) -> Result<super::Audio> {
        Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "{what} needs the feature `codecs`, which this build lacks: turn it on, or convert the file to \
                 16-bit WAV"
            ),
        ))
    }
}

fn malformed(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Malformed, message)
}

/// A read that failed: only the system's own errors carry its code, all others mean that the file is too short.
fn read_error(cause: std::io::Error) -> Error {
    match cause.raw_os_error() {
        None => malformed(format!("the file ends too early: {cause}")).with_source(cause),
        Some(_) => Error::new(ErrorKind::Io, cause.to_string()).with_source(cause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn new_refuses_what_makes_no_sound() {
        let cases: [(Vec<f32>, u32, u16, &str); 8] = [
            (vec![0.0], 0, 1, "0 Hz"),
            (vec![0.0], 999, 1, "999 Hz"),
            (vec![0.0], u32::MAX, 1, "4294967295 Hz"),
            (vec![0.0], 16_000, 0, "0 channels"),
            (vec![0.0; 65_535], 16_000, 65_535, "65535 channels"),
            (vec![0.0; 3], 16_000, 2, "3 samples"),
            (vec![0.0, f32::NAN], 16_000, 1, "frame 1 "),
            (vec![0.0, 0.0, f32::INFINITY, 0.0], 16_000, 2, "frame 1 "),
        ];
        for (samples, rate, channels, named) in cases {
            let error = Audio::new(samples, rate, channels).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn knows_its_length() {
        let audio = Audio::new(vec![0.0; 32_000], 16_000, 2).unwrap();
        assert_eq!(
            (audio.len(), audio.channels(), audio.sample_rate()),
            (16_000, 2, 16_000)
        );
        assert_eq!(audio.duration(), 1.0);
        let empty = Audio::new(Vec::new(), 48_000, 1).unwrap();
        assert!(empty.is_empty() && empty.mono(16_000).unwrap().is_empty());
    }

    #[test]
    fn mono_is_exact_at_its_own_rate_and_refuses_other_rates_by_name() {
        let audio = Audio::new(vec![0.25, 0.75, -1.0, 0.0], 16_000, 2).unwrap();
        assert_eq!(audio.mono(16_000).unwrap(), [0.5, -0.5]);
        let error = audio.mono(0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("16000 Hz to 0 Hz"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_audio_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let cases: [(&str, &[u8], &str); 5] = [
            ("empty.wav", b"", "empty"),
            (
                "text.wav",
                b"These are the words of a song, not its sound.\n",
                "no audio file",
            ),
            ("short.wav", b"RI", "no audio file"),
            ("cut.wav", b"RIFF\x24\0\0\0WA", "RIFF header"),
            ("avi.wav", b"RIFF\x24\0\0\0AVI LIST", "no audio file"),
        ];
        for (name, content, says) in cases {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            let error = Audio::open(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
            assert_eq!(error.path(), Some(path.as_path()));
            assert!(error.to_string().contains(says), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_opened_is_an_io_error() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_owned(), folder.path().join("missing.wav")] {
            let error = Audio::open(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io, "{error}");
            assert_eq!(error.path(), Some(path.as_path()));
        }
    }

    #[cfg(not(feature = "codecs"))]
    #[test]
    fn without_codecs_other_formats_name_the_feature() {
        for bytes in [
            &b"fLaC\0\0\0\x22"[..],
            b"OggS\0\x02\0\0",
            b"ID3\x04\0\0\0",
            b"\xff\xfb\x90\0",
        ] {
            let error = Audio::from_bytes(bytes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains("`codecs`"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600), magic in 0usize..5) {
            let heads: [&[u8]; 5] = [b"", b"RIFF\xff\xff\0\0WAVE", b"OggS\0\x02", b"fLaC", b"ID3\x04\0\0"];
            let bytes = [heads[magic], &bytes].concat();
            if let Ok(audio) = Audio::from_bytes(&bytes) {
                prop_assert!(audio.samples().iter().all(|x| x.is_finite()));
            }
        }
    }
}
