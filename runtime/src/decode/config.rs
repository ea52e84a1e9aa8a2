//! What to search for and how hard: the settings every recognizer takes.

use super::Plan;
use crate::transcript::FrameSpan;
use crate::{LogProbs, NBest, Result, Tokens};
use std::sync::Arc;

/// How a decoder turns scores into text.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Decoding {
    /// The search.
    pub search: Search,
    /// How many readings to return, at least 1; greedy decoding has only one.
    pub n_best: usize,
    /// Taken off the blank's log-prob in every frame, in nats: above 0 brings more tokens, below 0 fewer.
    pub blank_penalty: f32,
}

impl Default for Decoding {
    fn default() -> Self {
        Self {
            search: Search::default(),
            n_best: 1,
            blank_penalty: 0.0,
        }
    }
}

/// A search strategy.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Search {
    /// The best token of each frame.
    #[default]
    Greedy,
    /// The most probable texts, each with all its alignments summed up.
    Beam(BeamSearch),
}

/// What limits a prefix beam search. With all limits infinite it is exhaustive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BeamSearch {
    /// Prefixes kept from frame to frame, at least 1.
    pub width: usize,
    /// Prefixes are dropped when they are this much less probable than the best one, in nats.
    pub score_cut: f32,
    /// Tokens are left aside in frames where they are this much less probable than the best one, in nats.
    pub token_cut: f32,
    /// Tokens considered per frame, the most probable ones, at least 1.
    pub max_tokens: usize,
}

impl Default for BeamSearch {
    fn default() -> Self {
        Self {
            width: 25,
            score_cut: 12.0,
            token_cut: 9.0,
            max_tokens: 64,
        }
    }
}

impl Decoding {
    /// Greedy decoding: the fastest, and all a confident model needs.
    pub fn greedy() -> Self {
        Self::default()
    }

    /// Prefix beam search with `width` prefixes.
    pub fn beam(width: usize) -> Self {
        Self {
            search: Search::Beam(BeamSearch {
                width,
                ..BeamSearch::default()
            }),
            ..Self::default()
        }
    }

    /// Checks the settings against a vocabulary and builds what decoders of it share.
    pub fn plan(&self, tokens: &Arc<Tokens>) -> Result<Plan> {
        Plan::new(self, tokens)
    }

    /// Decodes one whole input. Who decodes many makes one [`plan`](Self::plan) for all.
    pub fn decode(&self, tokens: &Arc<Tokens>, scores: &LogProbs<'_>) -> Result<NBest<FrameSpan>> {
        self.plan(tokens)?.decode(scores)
    }
}
