//! On-device recognition with distilled CTC students: speech now, scene text with the same words.
//!
//! ```no_run
//! # #[cfg(all(feature = "onnx", feature = "load-dynamic"))]
//! # fn main() -> acolyte::Result<()> {
//! use acolyte::{Audio, Decoding, Library, Provider, SpeechRecognizer};
//!
//! let library = Library::find()?;
//! let speech = SpeechRecognizer::builder(&library)
//!     .provider(Provider::Cpu)
//!     .open("models/speech-tiny/model.onnx")?;
//! let said = speech.recognize(&Audio::open("hello.wav")?, &Decoding::greedy())?;
//! let sure = said.words.iter().filter(|word| word.confidence > 0.9);
//! let starts: Vec<(&str, f64)> = sure.map(|word| (word.text.as_str(), word.span.start)).collect();
//! # Ok(())
//! # }
//! # #[cfg(not(all(feature = "onnx", feature = "load-dynamic")))]
//! # fn main() {}
//! ```
//!
//! # What is where
//! - [`audio`]: files and samples to a mono signal; [`image`]: files and pixels in memory; [`features`]: either to
//!   features `[T, F]`, log-mel energies or the columns of a line of text.
//! - [`model`]: the [`CtcModel`](model::CtcModel) trait, the ONNX file and its header, ONNX Runtime, providers.
//! - [`spec`]: what a model file says about itself; nothing else in the crate knows a model by name.
//! - [`adopt`]: other people's models, given a spec.
//! - [`decode`]: scores `[T, V]` to readings; [`transcript`]: text, words, times, confidences.
//! - [`capture`]: sources of live audio; [`Live`]: a source heard by a stream.
//! - [`camera`]: sources of frames; [`Scanner`]: frames to readings that hold.
//! - [`detect`]: where in an image words stand.
//! - [`SpeechRecognizer`], [`TextRecognizer`]: all of it in one call; [`SpeechStream`]: audio without an end.
//!
//! # Features
//! | feature | default | why turn it off, or on |
//! |---|---|---|
//! | `onnx` | yes | off: features, tokens, decoding and the model trait without ONNX Runtime or `ort` |
//! | `load-dynamic` | yes | off: link ONNX Runtime instead of opening a file, as iOS demands |
//! | `mic` | no | on: the microphone, through `cpal`; Linux needs ALSA's headers to build it |
//! | `camera-v4l` | no | on: cameras of Linux through V4L2; needs nothing to build; has `images` |
//! | `images` | no | on: PNG, JPEG and WebP files; pixels in memory need no feature |
//! | `codecs` | no | on: FLAC, Ogg Vorbis, MP3 and rarer WAV encodings |
//! | `gzip` | no | on: language models compressed with gzip |
//! | `cuda`, `tensorrt`, `directml`, `coreml`, `nnapi`, `xnnpack`, `qnn` | no | on: that provider can be asked for |
//!
//! Errors are one type, [`Error`], with a [`kind`](Error::kind) to match on. The crate has no `unsafe` code,
//! prints nothing, opens no connection, and answers any input with a result or an error.
#![forbid(unsafe_code)]

pub mod adopt;
pub mod audio;
pub mod bootstrap;
pub mod camera;
pub mod capture;
pub mod decode;
pub mod detect;
mod error;
pub mod features;
pub mod image;
mod live;
mod log_probs;
pub mod metrics;
pub mod model;
mod recognizer;
mod scan;
pub mod spec;
mod tokens;
pub mod transcript;

pub use audio::Audio;
pub use decode::Decoding;
pub use error::{Error, ErrorKind, Result};
pub use image::{Image, ImageView, Quad};
pub use live::{Live, LiveState, LiveStats};
pub use log_probs::LogProbs;
#[cfg(feature = "onnx")]
pub use model::Library;
pub use model::{Provider, ProviderReport};
pub use recognizer::{
    Crop, EndpointRules, Event, Samples, SpeechRecognizer, SpeechStream, TextRecognizer,
};
#[cfg(feature = "onnx")]
pub use recognizer::{Opened, RecognizerBuilder};
pub use scan::{Region, ScanEvent, ScanOptions, ScanStats, Scanner, Seen, Sighted};
pub use tokens::{Tokens, WordRange};
pub use transcript::{FrameSpan, NBest, TimeSpan, TokenSpan, Transcript, Word};
