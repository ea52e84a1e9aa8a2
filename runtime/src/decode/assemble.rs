//! From decoded tokens to a transcript: words, their spans and confidences.

use crate::Tokens;
use crate::transcript::{FrameSpan, TokenSpan, Transcript, Word};

/// What a decoder knows about a reading besides its tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    /// What the search ranked it by, in nats.
    pub score: f64,
    /// Log-odds against the unconstrained best, where there was a constraint.
    pub margin: Option<f64>,
    /// The confidence of an empty text.
    pub silence: f32,
}

/// Groups `emitted` into words.
pub(crate) fn transcript(
    tokens: &Tokens,
    emitted: Vec<TokenSpan<FrameSpan>>,
    reading: Reading,
) -> Transcript<FrameSpan> {
    let ids: Vec<u32> = emitted.iter().map(|token| token.id).collect();
    let mut text = String::new();
    let mut words = Vec::new();
    let mut log_confidence = 0.0f64;
    for word in tokens.words(&ids) {
        let parts = &emitted[word.tokens.clone()];
        let (Some(first), Some(last)) = (parts.first(), parts.last()) else {
            continue;
        };
        let confidence: f32 = parts.iter().map(|token| token.confidence).product();
        log_confidence += f64::from(confidence.max(f32::MIN_POSITIVE)).ln();
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&word.text);
        words.push(Word {
            text: word.text,
            span: FrameSpan {
                start: first.span.start,
                end: last.span.end,
            },
            confidence,
            tokens: word.tokens,
        });
    }
    let confidence = if words.is_empty() {
        reading.silence
    } else {
        (log_confidence / words.len() as f64).exp() as f32
    };
    Transcript {
        text,
        confidence,
        score: reading.score,
        margin: reading.margin,
        words,
        tokens: emitted,
    }
}

/// The confidence of an empty text: the geometric mean of the blank's probabilities.
pub(crate) fn silence_confidence(log_prob_of_blanks: f64, frames: u64) -> f32 {
    if frames == 0 {
        return 1.0;
    }
    ((log_prob_of_blanks / frames as f64).exp() as f32).min(1.0)
}
