//! Everything that makes one text more welcome than another: constraints, lexicon, language model, hotwords.
//!
//! A guide reads a hypothesis token by token. Its state is a handful of numbers, its gain the
//! natural logarithm of a factor on the hypothesis; both depend on the tokens alone, never on the frames, so that
//! all alignments of one text are treated alike.

use super::constraint::{RuleState, Rules};
use super::hotwords::{BOUNDARY, Hotwords};
use super::ngram::{NgramModel, NgramState, WordId};
use super::prefix::NONE;
use super::words::{WordState, Words};
use crate::Tokens;
use crate::spec::WordMark;
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
    /// Where hotwords are all there is: what each token does in each of their states.
    table: Option<Table>,
}

/// What each token does within a word and between words, for each state of the hotwords.
#[derive(Debug, Clone)]
struct Table {
    /// `[rows, V]`, the first row of each state within a word.
    moves: Vec<Move>,
    /// The row of each state between words; [`NONE`] where a word is always under way.
    between: Vec<u32>,
}

/// The most entries of a table: 6 MB.
const MOST_MOVES: usize = 1 << 19;

/// What a token does.
#[derive(Debug, Clone, Copy)]
struct Move {
    hotwords: u32,
    factor: f32,
    place: Place,
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

/// What a guide must know of a text to go on: one per prefix, so kept small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct State {
    /// The word under way.
    spelling: u64,
    /// The language model's context, be it of words or of pieces.
    context: NgramState,
    hotwords: u32,
    rules: RuleState,
    place: Place,
}

impl State {
    fn words(&self) -> WordState {
        WordState {
            spelling: self.spelling,
            context: self.context,
        }
    }

    fn set_words(&mut self, words: WordState) {
        (self.spelling, self.context) = (words.spelling, words.context);
    }
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
        let mut guide = Self {
            pieces,
            useful,
            spaced: *tokens.word_mark() != WordMark::None,
            parts,
            table: None,
        };
        guide.tabulate();
        guide
    }

    /// The state before any text.
    pub fn start(&self) -> State {
        let parts = &self.parts;
        let mut state = State {
            rules: (parts.rules.as_ref()).map_or_else(RuleState::default, Rules::start),
            hotwords: parts.hotwords.as_ref().map_or(0, Hotwords::start),
            ..State::default()
        };
        if let Some(words) = &parts.words {
            state.set_words(words.start());
        }
        if let Some(pieces) = &parts.pieces {
            state.context = pieces.model.start();
        }
        state
    }

    /// Characters read of a text that is prescribed as a whole, 0 of others.
    pub fn length(&self, state: &State) -> u32 {
        state.rules.read
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
            if let Some(words) = &self.parts.words {
                let (word, gained) = words.close(state.words())?;
                state.set_words(word);
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
            if let Some(words) = &self.parts.words {
                let (word, gained) = words.spell(state.words(), piece.text.as_bytes())?;
                state.set_words(word);
                gain += gained;
            }
            gain += self.read_hotwords(&mut state, piece.text.as_bytes());
            state.place = Place::InWord;
        }
        if let Some(pieces) = &self.parts.pieces {
            let (log_prob, next) = pieces
                .model
                .score(state.context, pieces.ids[token as usize]);
            state.context = next;
            gain += pieces.weight * f64::from(log_prob);
        }
        Some((state, gain))
    }

    /// What one token more multiplies a hypothesis by; none where it is not allowed.
    #[inline]
    pub fn factor(&self, state: &State, token: u32) -> Option<f64> {
        if let Some(entry) = self.tabulated(state, token) {
            return Some(f64::from(entry.factor));
        }
        self.step(*state, token).map(|(_, gain)| gain.exp())
    }

    /// The state after one token more, which must be allowed.
    pub fn next(&self, state: &State, token: u32) -> State {
        if let Some(entry) = self.tabulated(state, token) {
            return State {
                hotwords: entry.hotwords,
                place: entry.place,
                ..*state
            };
        }
        self.step(*state, token).map_or(*state, |(next, _)| next)
    }

    #[inline]
    fn tabulated(&self, state: &State, token: u32) -> Option<&Move> {
        let table = self.table.as_ref()?;
        let row = match state.place {
            Place::InWord => state.hotwords,
            Place::Beginning | Place::Between => *table.between.get(state.hotwords as usize)?,
        };
        (table.moves).get(row as usize * self.pieces.len() + token as usize)
    }

    /// Where hotwords are all there is: writes down all that can happen, if that is a table of reasonable size,
    /// and with it the exact bounds.
    fn tabulate(&mut self) {
        let Some(hotwords) = &self.parts.hotwords else {
            return;
        };
        let alone =
            self.parts.rules.is_none() && self.parts.words.is_none() && self.parts.pieces.is_none();
        let states = hotwords.states() as u32;
        let begins = |&state: &u32| hotwords.begins_word(state);
        let rows: Vec<(u32, Place)> = (0..states)
            .map(|state| (state, Place::InWord))
            .chain(
                (0..states)
                    .filter(begins)
                    .map(|state| (state, Place::Between)),
            )
            .collect();
        if !alone || rows.len().saturating_mul(self.pieces.len()) > MOST_MOVES {
            return;
        }
        let mut between = vec![NONE; states as usize];
        let mut moves = Vec::with_capacity(rows.len() * self.pieces.len());
        let mut bounds = vec![1.0f64; self.pieces.len()];
        for (row, &(hotwords, place)) in (0..).zip(&rows) {
            if place == Place::Between {
                between[hotwords as usize] = row;
            }
            let state = State {
                place,
                hotwords,
                ..self.start()
            };
            for (token, bound) in (0u32..).zip(&mut bounds) {
                let (next, gain) = self.step(state, token).unwrap_or((state, 0.0));
                *bound = bound.max(gain.exp());
                moves.push(Move {
                    hotwords: next.hotwords,
                    factor: gain.exp() as f32,
                    place: next.place,
                });
            }
        }
        // Factors are rounded in the table, and no bound may be too low.
        for (piece, bound) in self.pieces.iter_mut().zip(bounds) {
            piece.bound = bound * (1.0 + f64::from(f32::EPSILON));
        }
        self.table = Some(Table { moves, between });
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
        if let Some(words) = &self.parts.words {
            let mut word = state.words();
            if in_word {
                let (closed, gained) = words.close(word)?;
                word = closed;
                gain += gained;
            }
            gain += words.finish(word);
        }
        if let Some(pieces) = &self.parts.pieces {
            gain += pieces.weight * f64::from(pieces.model.end(state.context));
        }
        if let Some(hotwords) = &self.parts.hotwords {
            gain += hotwords.finish(state.hotwords, in_word && self.spaced);
        }
        Some(gain)
    }
}
