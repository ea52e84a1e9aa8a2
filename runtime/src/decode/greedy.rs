//! Greedy decoding: the best token of each frame, repeats merged, blanks dropped.
//!
//! One comparison per score and nothing else to keep but the tokens found, so frames may come in any chunking:
//! the result is the same to the last bit.

use super::frame::Frame;
use super::logmath;
use crate::spec::OutputValues;
use crate::transcript::{FrameSpan, TokenSpan};

/// The state of a greedy search.
#[derive(Debug, Clone)]
pub(crate) struct Greedy {
    blank: usize,
    /// Ids that may be emitted, where the alphabet is restricted.
    allowed: Option<Vec<bool>>,
    /// Taken off the blank's log-prob where the best token is chosen.
    blank_penalty: f32,
    frames: u64,
    /// The best token of the frame before, the blank at the start.
    previous: usize,
    emitted: Vec<TokenSpan<FrameSpan>>,
    /// Log-prob of the best path.
    best_path: f64,
    /// Log-prob of the best path when every token is allowed; kept where not every token is.
    free_path: f64,
}

impl Greedy {
    pub fn new(blank: u32, allowed: Option<Vec<bool>>, blank_penalty: f32) -> Self {
        Self {
            blank: blank as usize,
            allowed,
            blank_penalty,
            frames: 0,
            previous: blank as usize,
            emitted: Vec::with_capacity(64),
            best_path: 0.0,
            free_path: 0.0,
        }
    }

    /// Takes in the next frame.
    #[inline(always)]
    pub fn step(&mut self, frame: &Frame<'_>) {
        // Most frames are blanks: one comparison tells.
        let free = if frame.scores[self.blank] == frame.peak {
            self.blank
        } else {
            logmath::position(frame.scores, frame.peak)
        };
        let best = if self.allowed.is_none() && self.blank_penalty == 0.0 {
            free
        } else {
            self.best_allowed(frame)
        };
        self.best_path += f64::from(frame.log_prob(best));
        if self.allowed.is_some() {
            self.free_path += f64::from(frame.log_prob(free));
        }
        if best != self.blank {
            let confidence = frame.prob(best).min(1.0);
            let end = self.frames + 1;
            match self.emitted.last_mut() {
                Some(token) if best == self.previous => {
                    token.span.end = end;
                    token.confidence = token.confidence.max(confidence);
                }
                _ => self.emitted.push(TokenSpan {
                    id: best as u32,
                    span: FrameSpan {
                        start: self.frames,
                        end,
                    },
                    confidence,
                }),
            }
        }
        self.previous = best;
        self.frames += 1;
    }

    /// The allowed token of the highest score, the blank where none is possible.
    fn best_allowed(&self, frame: &Frame<'_>) -> usize {
        let blank_score = match frame.values {
            OutputValues::Probs => frame.scores[self.blank] * (-self.blank_penalty).exp(),
            OutputValues::Logits | OutputValues::LogProbs => {
                frame.scores[self.blank] - self.blank_penalty
            }
        };
        let (mut best, mut value) = (self.blank, blank_score);
        for (id, &score) in frame.scores.iter().enumerate() {
            let allowed = self.allowed.as_ref().is_none_or(|allowed| allowed[id]);
            if allowed && score > value && id != self.blank {
                (best, value) = (id, score);
            }
        }
        best
    }

    /// The tokens found and not yet taken. They never change, except that the last may still grow longer.
    pub fn emitted(&self) -> &[TokenSpan<FrameSpan>] {
        &self.emitted
    }

    /// Takes the first `count` tokens out.
    pub fn take(&mut self, count: usize) -> Vec<TokenSpan<FrameSpan>> {
        self.emitted.drain(..count).collect()
    }

    /// All tokens not taken.
    pub fn into_emitted(self) -> Vec<TokenSpan<FrameSpan>> {
        self.emitted
    }

    /// Log-prob of the best path.
    pub fn score(&self) -> f64 {
        self.best_path
    }

    /// Log-odds of the best allowed path against the best of all, where the alphabet is restricted.
    pub fn margin(&self) -> Option<f64> {
        let restricted = self.allowed.is_some();
        restricted.then_some(self.best_path - self.free_path)
    }
}
