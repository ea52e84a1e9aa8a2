//! What a recognizer heard or read: text with words, tokens, where each stands, and how sure the model is.
//!
//! `S` says where: [`FrameSpan`] as a decoder counts, [`TimeSpan`] for speech; other inputs bring their own.

use std::ops::Range;

/// A range of output frames, from the start of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FrameSpan {
    /// The first frame.
    pub start: u64,
    /// The frame after the last one.
    pub end: u64,
}

/// A range of time, in seconds from the start of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TimeSpan {
    /// Where it begins.
    pub start: f64,
    /// Where it ends.
    pub end: f64,
}

impl FrameSpan {
    /// The same range in seconds, for frames of `seconds_per_frame`.
    pub fn time(self, seconds_per_frame: f64) -> TimeSpan {
        TimeSpan {
            start: self.start as f64 * seconds_per_frame,
            end: self.end as f64 * seconds_per_frame,
        }
    }
}

/// A recognized word.
#[derive(Debug, Clone, PartialEq)]
pub struct Word<S> {
    /// The word, without marks and separators.
    pub text: String,
    /// From the start of its first token to the end of its last.
    pub span: S,
    /// How likely the word is right, in [0, 1]: the product of its tokens' confidences.
    pub confidence: f32,
    /// Positions of its tokens in [`Transcript::tokens`].
    pub tokens: Range<usize>,
}

/// A recognized token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenSpan<S> {
    /// The token's id.
    pub id: u32,
    /// Where it stands.
    pub span: S,
    /// The highest probability the model gave the token on any of its frames, in [0, 1].
    pub confidence: f32,
}

/// One reading of an input.
#[derive(Debug, Clone, PartialEq)]
pub struct Transcript<S> {
    /// The words, joined by single spaces.
    pub text: String,
    /// How likely a word of the text is right: the geometric mean of the words' confidences. An empty text has
    /// the geometric mean of the blank's probabilities, and 1 where there was no frame at all.
    pub confidence: f32,
    /// The natural logarithm of what the search ranked this reading by: its probability given the input, times
    /// what language model, hotwords and bonuses contributed.
    pub score: f64,
    /// Where the search was constrained: the log-odds of this reading against the best unconstrained one, in
    /// nats. About 0 where the input was of the constraint, very negative where it was forced into it.
    pub margin: Option<f64>,
    /// The words.
    pub words: Vec<Word<S>>,
    /// The tokens, separators included.
    pub tokens: Vec<TokenSpan<S>>,
}

impl<S> Transcript<S> {
    /// The same reading with every span turned into something else: frames into times, times into places.
    pub fn map_spans<U>(self, mut map: impl FnMut(S) -> U) -> Transcript<U> {
        let words = self.words.into_iter().map(|word| Word {
            text: word.text,
            span: map(word.span),
            confidence: word.confidence,
            tokens: word.tokens,
        });
        let words = words.collect();
        let tokens = self.tokens.into_iter().map(|token| TokenSpan {
            id: token.id,
            span: map(token.span),
            confidence: token.confidence,
        });
        Transcript {
            text: self.text,
            confidence: self.confidence,
            score: self.score,
            margin: self.margin,
            words,
            tokens: tokens.collect(),
        }
    }

    /// The ids of the tokens.
    pub fn ids(&self) -> Vec<u32> {
        self.tokens.iter().map(|token| token.id).collect()
    }
}

/// The best readings of an input, best first; there is always one.
#[derive(Debug, Clone, PartialEq)]
pub struct NBest<S> {
    best: Transcript<S>,
    others: Vec<Transcript<S>>,
}

impl<S> NBest<S> {
    /// The readings `best` and `others`, which come in the order of their scores.
    pub fn new(best: Transcript<S>, others: Vec<Transcript<S>>) -> Self {
        Self { best, others }
    }

    /// The best reading.
    pub fn best(&self) -> &Transcript<S> {
        &self.best
    }

    /// The best reading, by value.
    pub fn into_best(self) -> Transcript<S> {
        self.best
    }

    /// The readings after the best one.
    pub fn others(&self) -> &[Transcript<S>] {
        &self.others
    }

    /// All readings, best first.
    pub fn iter(&self) -> impl Iterator<Item = &Transcript<S>> {
        std::iter::once(&self.best).chain(&self.others)
    }

    /// The same readings with every span turned into something else.
    pub fn map_spans<U>(self, mut map: impl FnMut(S) -> U) -> NBest<U> {
        NBest {
            best: self.best.map_spans(&mut map),
            others: (self.others.into_iter())
                .map(|reading| reading.map_spans(&mut map))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_mapped_everywhere() {
        let span = FrameSpan { start: 3, end: 5 };
        let transcript = Transcript {
            text: "a".into(),
            confidence: 0.5,
            score: -1.0,
            margin: None,
            words: vec![Word {
                text: "a".into(),
                span,
                confidence: 0.5,
                tokens: 0..1,
            }],
            tokens: vec![TokenSpan {
                id: 7,
                span,
                confidence: 0.5,
            }],
        };
        let n_best = NBest::new(transcript.clone(), vec![transcript]);
        let timed = n_best.map_spans(|span| span.time(0.02));
        assert_eq!(timed.iter().count(), 2);
        for reading in timed.iter() {
            for span in [reading.words[0].span, reading.tokens[0].span] {
                assert!((span.start - 0.06).abs() < 1e-12 && (span.end - 0.10).abs() < 1e-12);
            }
            assert_eq!(reading.ids(), [7]);
        }
    }
}
