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
//! for word in &said.words {
//!     println!("{} {:.2} s {:.2}", word.text, word.span.start, word.confidence);
//! }
//! # Ok(())
//! # }
//! # #[cfg(not(all(feature = "onnx", feature = "load-dynamic")))]
//! # fn main() {}
//! ```
//!
//! # What is where
//! - [`audio`]: files and samples to a mono signal; [`features`]: that signal to log-mel features `[T, F]`.
//! - [`model`]: the [`CtcModel`](model::CtcModel) trait, the ONNX file and its header, ONNX Runtime, providers.
//! - [`spec`]: what a model file says about itself; nothing else in the crate knows a model by name.
//! - [`decode`]: scores `[T, V]` to readings; [`transcript`]: text, words, times, confidences.
//! - [`SpeechRecognizer`]: all of it in one call.
//!
//! # Features
//! | feature | default | why turn it off, or on |
//! |---|---|---|
//! | `onnx` | yes | off: features, tokens, decoding and the model trait without ONNX Runtime or `ort` |
//! | `load-dynamic` | yes | off: link ONNX Runtime instead of opening a file, as iOS demands |
//! | `codecs` | no | on: FLAC, Ogg Vorbis, MP3 and rarer WAV encodings |
//! | `gzip` | no | on: language models compressed with gzip |
//! | `cuda`, `tensorrt`, `directml`, `coreml`, `nnapi`, `xnnpack`, `qnn` | no | on: that provider can be asked for |
//!
//! Errors are one type, [`Error`], with a [`kind`](Error::kind) to match on. The crate has no `unsafe` code,
//! prints nothing, opens no connection, and answers any input with a result or an error.
#![forbid(unsafe_code)]

pub mod audio;
pub mod decode;
mod error;
pub mod features;
mod log_probs;
pub mod metrics;
pub mod model;
mod recognizer;
pub mod spec;
mod tokens;
pub mod transcript;

pub use audio::Audio;
pub use decode::Decoding;
pub use error::{Error, ErrorKind, Result};
pub use log_probs::LogProbs;
#[cfg(feature = "onnx")]
pub use model::Library;
pub use model::{Provider, ProviderReport};
pub use recognizer::SpeechRecognizer;
#[cfg(feature = "onnx")]
pub use recognizer::SpeechRecognizerBuilder;
pub use tokens::{Tokens, WordRange};
pub use transcript::{FrameSpan, NBest, TimeSpan, TokenSpan, Transcript, Word};
