//! From settings to searches.

use super::beam::{Beam, BeamSettings};
use super::config::{Decoding, Search};
use super::decoder::{Decoder, Engine};
use super::greedy::Greedy;
use super::shortlist::Limits;
use crate::transcript::{FrameSpan, NBest};
use crate::{LogProbs, Result, Tokens};
use std::sync::Arc;

/// Settings checked against a vocabulary, with all tables built: what the decoders of many inputs share.
#[derive(Debug, Clone)]
pub struct Plan {
    tokens: Arc<Tokens>,
    decoding: Decoding,
}

impl Plan {
    pub(super) fn new(decoding: &Decoding, tokens: &Arc<Tokens>) -> Result<Self> {
        Ok(Self {
            tokens: Arc::clone(tokens),
            decoding: decoding.clone(),
        })
    }

    /// The vocabulary.
    pub fn tokens(&self) -> &Arc<Tokens> {
        &self.tokens
    }

    /// A decoder for one input.
    pub fn decoder(&self) -> Decoder {
        let engine = match self.decoding.search {
            Search::Greedy => Engine::Greedy(Greedy::new(self.tokens.blank(), None)),
            Search::Beam(b) => Engine::Beam(Box::new(Beam::new(
                self.tokens.len(),
                self.tokens.blank(),
                BeamSettings {
                    width: b.width,
                    least: f64::from(-b.score_cut).exp(),
                    tokens: Limits {
                        cut: b.token_cut,
                        most: b.max_tokens,
                    },
                    blank_factor: f64::from(-self.decoding.blank_penalty).exp(),
                },
                None,
            ))),
        };
        Decoder::new(Arc::clone(&self.tokens), engine, None, self.decoding.n_best)
    }

    /// Decodes one whole input, `[T, V]`.
    ///
    /// Fails as [`Decoder::push`] does.
    pub fn decode(&self, scores: &LogProbs<'_>) -> Result<NBest<FrameSpan>> {
        let mut decoder = self.decoder();
        decoder.push(scores)?;
        decoder.finish()
    }
}
