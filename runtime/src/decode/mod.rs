//! CTC decoding: from scores `[T, V]` to readings, without any model or ONNX Runtime.
//!
//! [`Decoding`] holds the settings, a [`Plan`] what they become for one vocabulary, and a [`Decoder`] the state
//! of one input, which takes frames in any chunking. Times are counted in frames ([`FrameSpan`]); who knows a
//! frame's duration or place maps them ([`Transcript::map_spans`]).
//!
//! [`FrameSpan`]: crate::transcript::FrameSpan
//! [`Transcript::map_spans`]: crate::transcript::Transcript::map_spans

mod align;
mod assemble;
mod beam;
mod commit;
mod config;
mod decoder;
mod frame;
mod greedy;
mod guide;
mod logmath;
mod plan;
mod prefix;
mod shortlist;

pub use config::{BeamSearch, Decoding, Search};
pub use decoder::{Decoder, Partial};
pub use plan::Plan;
