//! Recognizers: raw input to text, with a model and a decoder behind them.
//!
//! A recognizer knows the task and nothing of an engine: it takes any [`CtcModel`](crate::model::CtcModel),
//! an ONNX file through its builder (feature `onnx`) or a fake. It is `Clone + Send + Sync`; clones share the
//! model.

mod endpoint;
mod events;
mod front;
#[cfg(test)]
mod laws;
mod offline;
mod streaming;
#[cfg(test)]
pub(crate) mod testing;

pub use endpoint::EndpointRules;
pub use events::{Event, Samples};
pub use offline::SpeechRecognizer;
#[cfg(feature = "onnx")]
pub use offline::SpeechRecognizerBuilder;
pub use streaming::SpeechStream;
