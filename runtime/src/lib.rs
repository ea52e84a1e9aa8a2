//! On-device recognition with distilled CTC students: speech and scene text.
#![forbid(unsafe_code)]

pub mod audio;
pub mod decode;
mod error;
pub mod features;
mod log_probs;
pub mod model;
pub mod spec;
mod tokens;
pub mod transcript;

pub use decode::Decoding;
pub use error::{Error, ErrorKind, Result};
pub use log_probs::LogProbs;
pub use tokens::{Tokens, WordRange};
pub use transcript::{FrameSpan, NBest, TimeSpan, TokenSpan, Transcript, Word};
