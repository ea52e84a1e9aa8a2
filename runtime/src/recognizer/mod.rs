//! Recognizers: raw input to text, with a model and a decoder behind them.
//!
//! A recognizer knows the task and nothing of an engine: it takes any [`CtcModel`](crate::model::CtcModel),
//! an ONNX file through its builder (feature `onnx`) or a fake. It is `Clone + Send + Sync`; clones share the
//! model.

mod offline;

pub use offline::SpeechRecognizer;
#[cfg(feature = "onnx")]
pub use offline::SpeechRecognizerBuilder;
