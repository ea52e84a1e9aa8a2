//! Everything that makes one text more welcome than another: constraints, lexicon, language model, hotwords.
//!
//! A guide reads a hypothesis token by token. Its state is a handful of numbers, its gain the
//! natural logarithm of a factor on the hypothesis; both depend on the tokens alone, never on the frames, so that
//! all alignments of one text are treated alike.

use super::constraint::{RuleState, Rules};
use super::hotwords::{BOUNDARY, Hotwords};
use super::ngram::{NgramModel, NgramState, WordId};
use super::words::{WordState, Words};
use crate::Tokens;
use std::sync::Arc;

/// A language model whose words are the tokens' pieces.
#[derive(Debug, Clone)]
pub(crate) struct PieceModel {
    pub model: Arc<NgramModel>,
    pub weight: f64,
    /// Each token's word in the model. `[V]`
    pub ids: Vec<Option<WordId>>,
}

/// The parts of a guide, each of which may be missing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parts {
    pub rules: Option<Rules>,
    pub words: Option<Words>,
    pub pieces: Option<PieceModel>,
    pub hotwords: Option<Hotwords>,
}

/// What a token adds to a text.
#[derive(Debug, Clone)]
struct Piece {
    ends_word: bool,
    allowed: bool,
    text: Box<str>,
    /// The most it can multiply a hypothesis by.
    bound: f64,
}

/// A guide for one vocabulary.
#[derive(Debug, Clone)]
pub(crate) struct Guide {
    parts: Parts,
    pieces: Vec<Piece>,
    /// Where a whole text is prescribed: the tokens that it may be made of.
    useful: Option<Vec<u32>>,
    spaced: bool,
}

/// Where a text stands with respect to words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    /// Before the first word.
    #[default]
    Beginning,
    InWord,
    /// After a word that has ended.
    Between,
}

/// What a guide must know of a text to go on.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct State {
    place: Place,
    rules: RuleState,
    words: Option<WordState>,
    pieces: NgramState,
    hotwords: u32,
}

impl Guide {
    pub fn new(parts: Parts, tokens: &Tokens) -> Self {
        let closing = parts.words.as_ref().map_or(0.0, Words::closing_bound);
        let spelling = parts.words.as_ref().map_or(0.0, Words::spelling_bound);
        // A model of pieces gains only where a back-off weight is above one.
        let piece_bound = parts.pieces.as_ref().map_or(0.0, |pieces| {
            let most = pieces.model.most_log_probs();
            pieces.weight * f64::from(most.into_iter().fold(0.0, f32::max))
        });
        let piece = |id: u32| {
            let (ends_word, text) = tokens.contribution(id);
            let mut bound = piece_bound;
            if ends_word {
                bound += closing.max(0.0);
            }
            if !text.is_empty() {
                bound += spelling;
            }
            if let Some(hotwords) = &parts.hotwords {
                bound += hotwords.bound(text.len() + usize::from(ends_word));
            }
            Piece {
                ends_word,
                allowed: (parts.rules.as_ref()).is_none_or(|rules| rules.admits(id, text)),
                text: text.into(),
                bound: bound.exp(),
            }
        };
        let pieces: Vec<Piece> = (0..tokens.len() as u32).map(piece).collect();
        let closed = parts.rules.as_ref().is_some_and(Rules::closed);
        let useful = closed.then(|| {
            let all = (0u32..).zip(&pieces);
            let useful = all.filter(|(id, piece)| *id != tokens.blank() && piece.allowed);
            useful.map(|(id, _)| id).collect()
        });
        Self {
            pieces,
            useful,
            spaced: *tokens.word_mark() != crate::spec::WordMark::None,
            parts,
        }
    }

    /// The state before any text.
    pub fn start(&self) -> State {
        let parts = &self.parts;
        State {
            place: Place::Beginning,
            rules: (parts.rules.as_ref()).map_or_else(RuleState::default, Rules::start),
            words: parts.words.as_ref().map(Words::start),
            pieces: (parts.pieces.as_ref()).map_or_else(NgramState::default, |p| p.model.start()),
            hotwords: parts.hotwords.as_ref().map_or(0, Hotwords::start),
        }
    }

    /// Where a whole text is prescribed, the tokens that it may be made of.
    pub fn useful(&self) -> Option<&[u32]> {
        self.useful.as_deref()
    }

    /// The most that a token can multiply a hypothesis by.
    pub fn bound(&self, token: u32) -> f64 {
        self.pieces[token as usize].bound
    }

    /// The state after one token more and what that gains, in nats; none where it is not allowed.
    pub fn step(&self, mut state: State, token: u32) -> Option<(State, f64)> {
        let piece = &self.pieces[token as usize];
        if !piece.allowed {
            return None;
        }
        let mut gain = 0.0;
        if piece.ends_word && state.place == Place::InWord {
            state.place = Place::Between;
            if let (Some(words), Some(word)) = (&self.parts.words, state.words) {
                let (word, gained) = words.close(word)?;
                state.words = Some(word);
                gain += gained;
            }
            gain += self.read_hotwords(&mut state, &[BOUNDARY]);
        }
        if !piece.text.is_empty() {
            if let Some(rules) = &self.parts.rules {
                if state.place == Place::Between {
                    state.rules = rules.step(state.rules, " ")?;
                }
                state.rules = rules.step(state.rules, &piece.text)?;
            }
            if let (Some(words), Some(word)) = (&self.parts.words, state.words) {
                let (word, gained) = words.spell(word, piece.text.as_bytes())?;
                state.words = Some(word);
                gain += gained;
            }
            gain += self.read_hotwords(&mut state, piece.text.as_bytes());
            state.place = Place::InWord;
        }
        if let Some(pieces) = &self.parts.pieces {
            let (log_prob, next) = pieces.model.score(state.pieces, pieces.ids[token as usize]);
            state.pieces = next;
            gain += pieces.weight * f64::from(log_prob);
        }
        Some((state, gain))
    }

    /// What one token more multiplies a hypothesis by; none where it is not allowed.
    pub fn factor(&self, state: State, token: u32) -> Option<f64> {
        self.step(state, token).map(|(_, gain)| gain.exp())
    }

    fn read_hotwords(&self, state: &mut State, text: &[u8]) -> f64 {
        let Some(hotwords) = &self.parts.hotwords else {
            return 0.0;
        };
        let (next, gain) = hotwords.step(state.hotwords, text);
        state.hotwords = next;
        gain
    }

    /// What the end of the text gains; none where the text may not end here.
    pub fn finish(&self, state: State) -> Option<f64> {
        let mut gain = 0.0;
        if let Some(rules) = &self.parts.rules
            && rules.closed()
            && !rules.complete(state.rules)
        {
            return None;
        }
        let in_word = state.place == Place::InWord;
        if let (Some(words), Some(mut word)) = (&self.parts.words, state.words) {
            if in_word {
                let (closed, gained) = words.close(word)?;
                word = closed;
                gain += gained;
            }
            gain += words.finish(word);
        }
        if let Some(pieces) = &self.parts.pieces {
            gain += pieces.weight * f64::from(pieces.model.end(state.pieces));
        }
        if let Some(hotwords) = &self.parts.hotwords {
            gain += hotwords.finish(state.hotwords, in_word && self.spaced);
        }
        Some(gain)
    }
}
