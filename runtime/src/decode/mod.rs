//! CTC decoding: from scores `[T, V]` to readings, without any model or ONNX Runtime.
//!
//! [`Decoding`] holds the settings, a [`Plan`] what they become for one vocabulary, and a [`Decoder`] the state
//! of one input, which takes frames in any chunking. Times are counted in frames ([`FrameSpan`]); who knows a
//! frame's duration or place maps them ([`Transcript::map_spans`]).
//!
//! [`FrameSpan`]: crate::transcript::FrameSpan
//! [`Transcript::map_spans`]: crate::transcript::Transcript::map_spans

mod align;
mod arpa;
mod assemble;
mod beam;
mod commit;
mod config;
mod constraint;
mod decoder;
mod entries;
mod frame;
mod greedy;
mod guide;
mod hotwords;
#[cfg(test)]
mod laws;
mod lists;
mod logmath;
mod ngram;
mod pattern;
mod plan;
mod prefix;
mod ranking;
mod shortlist;
mod trie;
mod words;

pub use config::{BeamSearch, Decoding, LanguageModel, Lexicon, LmUnit, OpenVocabulary, Search};
pub use constraint::Constraint;
pub use decoder::{Decoder, Partial};
pub use hotwords::Hotword;
pub use lists::{
    DEFAULT_BEAM, DEFAULT_BOOST, DEFAULT_LM_WEIGHT, DecodingFile, read_hotwords, read_list,
};
pub use ngram::{MAX_ORDER, NgramModel, NgramState, SentenceScore, WordId};
pub use plan::Plan;
