//! What to search for and how hard: the settings every recognizer takes.

use super::constraint::Constraint;
use super::hotwords::Hotword;
use super::ngram::NgramModel;
use super::plan::Plan;
use crate::transcript::FrameSpan;
use crate::{Error, ErrorKind, LogProbs, NBest, Result, Tokens, Transcript};
use std::sync::Arc;

/// How a decoder turns scores into text.
///
/// ```
/// use acolyte::Decoding;
/// use acolyte::decode::Constraint;
///
/// let commands = Decoding::beam(25).constrain(Constraint::phrases(["lights on", "lights off"]));
/// let dictation = Decoding::beam(50).hotwords([("acolyte", 4.0)]).n_best(5);
/// # let _ = (commands, dictation);
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Decoding {
    /// The search.
    pub search: Search,
    /// How many readings to return, at least 1; greedy decoding has only one.
    pub n_best: usize,
    /// Taken off the blank's log-prob in every frame, in nats: above 0 brings more tokens, below 0 fewer.
    pub blank_penalty: f32,
    /// Added to a reading's score for each word, in nats.
    pub word_bonus: f32,
    /// A language model.
    pub lm: Option<LanguageModel>,
    /// The words there are.
    pub lexicon: Option<Lexicon>,
    /// Phrases that the search is drawn towards.
    pub hotwords: Vec<Hotword>,
    /// What may be read at all; every constraint holds.
    pub constraints: Vec<Constraint>,
    /// A constrained reading is to be rejected where its margin is below this, in nats; see [`Decoding::rejects`].
    pub reject: Option<f32>,
}

/// A search strategy.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Search {
    /// The best token of each frame. Phrases and patterns are searched with a narrow beam.
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

/// A language model and how much it counts.
#[derive(Debug, Clone)]
pub struct LanguageModel {
    /// The model.
    pub model: Arc<NgramModel>,
    /// The factor on its log-probs; 0.3 to 1 is usual.
    pub weight: f32,
    /// What its words are.
    pub unit: LmUnit,
}

/// What the words of a language model are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum LmUnit {
    /// [`Tokens`](Self::Tokens) where each of its words is one character, else [`Words`](Self::Words).
    #[default]
    Detect,
    /// Words of the text.
    Words,
    /// Pieces of the vocabulary, the word separator among them (also as `<space>`, `|`, `▁` or `_`).
    Tokens,
}

/// A list of the words that may be read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Lexicon {
    /// The words, as the model writes them.
    pub words: Vec<String>,
    /// What a word outside the list costs; without it there is none.
    pub open: Option<OpenVocabulary>,
}

/// What a word outside a lexicon costs: something once, and something for every letter that no word of
/// the lexicon goes on with, so that several words are not taken for one long unknown one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OpenVocabulary {
    /// Once per word, in nats.
    pub per_word: f32,
    /// For every letter from the first that leaves the lexicon, in nats.
    pub per_letter: f32,
}

impl Default for OpenVocabulary {
    fn default() -> Self {
        Self {
            per_word: 5.0,
            per_letter: 1.0,
        }
    }
}

impl Default for Decoding {
    fn default() -> Self {
        Self {
            search: Search::default(),
            n_best: 1,
            blank_penalty: 0.0,
            word_bonus: 0.0,
            lm: None,
            lexicon: None,
            hotwords: Vec::new(),
            constraints: Vec::new(),
            reject: None,
        }
    }
}

impl Default for BeamSearch {
    fn default() -> Self {
        Self {
            width: 25,
            score_cut: 12.0,
            token_cut: 7.0,
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
        Self::default().search(Search::Beam(BeamSearch {
            width,
            ..BeamSearch::default()
        }))
    }

    /// The same with another search.
    #[must_use]
    pub fn search(mut self, search: Search) -> Self {
        self.search = search;
        self
    }

    /// The same with up to `count` readings.
    #[must_use]
    pub fn n_best(mut self, count: usize) -> Self {
        self.n_best = count;
        self
    }

    /// The same with a blank penalty, in nats.
    #[must_use]
    pub fn blank_penalty(mut self, penalty: f32) -> Self {
        self.blank_penalty = penalty;
        self
    }

    /// The same with a bonus per word, in nats.
    #[must_use]
    pub fn word_bonus(mut self, bonus: f32) -> Self {
        self.word_bonus = bonus;
        self
    }

    /// The same with a language model.
    #[must_use]
    pub fn lm(mut self, model: Arc<NgramModel>, weight: f32) -> Self {
        self.lm = Some(LanguageModel {
            model,
            weight,
            unit: LmUnit::Detect,
        });
        self
    }

    /// The same with a closed vocabulary of words.
    #[must_use]
    pub fn lexicon<W: Into<String>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.lexicon = Some(Lexicon {
            words: words.into_iter().map(Into::into).collect(),
            open: None,
        });
        self
    }

    /// The same with these hotwords besides those it has.
    #[must_use]
    pub fn hotwords<H: Into<Hotword>>(mut self, hotwords: impl IntoIterator<Item = H>) -> Self {
        self.hotwords.extend(hotwords.into_iter().map(Into::into));
        self
    }

    /// The same with this constraint besides those it has.
    #[must_use]
    pub fn constrain(mut self, constraint: Constraint) -> Self {
        self.constraints.push(constraint);
        self
    }

    /// The same with rejection below `margin`, in nats.
    #[must_use]
    pub fn reject(mut self, margin: f32) -> Self {
        self.reject = Some(margin);
        self
    }

    /// Whether a reading is to be rejected: its input was probably outside what the constraints allow.
    pub fn rejects<S>(&self, reading: &Transcript<S>) -> bool {
        match (self.reject, reading.margin) {
            (Some(least), Some(margin)) => margin < f64::from(least),
            _ => false,
        }
    }

    /// Checks the settings against a vocabulary and builds what decoders of it share.
    ///
    /// Fails with [`ErrorKind::InvalidArgument`] on a number out of its range, on lists that are empty or that
    /// the tokens
    /// cannot spell, and on greedy search with a language model, a lexicon, hotwords or a word bonus.
    pub fn plan(&self, tokens: &Arc<Tokens>) -> Result<Plan> {
        Plan::new(self, tokens)
    }

    /// Decodes one whole input, `[T, V]`. Who decodes many makes one [`plan`](Self::plan) for all.
    ///
    /// Fails as [`Decoding::plan`] and [`Decoder::push`](super::Decoder::push) do.
    pub fn decode(&self, tokens: &Arc<Tokens>, scores: &LogProbs<'_>) -> Result<NBest<FrameSpan>> {
        self.plan(tokens)?.decode(scores)
    }

    /// Fails with [`ErrorKind::InvalidArgument`] where a number is out of its range.
    pub(super) fn check(&self) -> Result<()> {
        let refuse = |message: &str| Err(Error::new(ErrorKind::InvalidArgument, message));
        let in_range = |cost: f32| (0.0..=1e4).contains(&cost);
        if self.n_best == 0 {
            return refuse("n-best is 0; at least 1 reading is always returned");
        }
        let bonuses = [
            self.blank_penalty,
            self.word_bonus,
            self.reject.unwrap_or(0.0),
        ];
        if bonuses
            .iter()
            .any(|bonus| !bonus.is_finite() || bonus.abs() > 1e4)
        {
            return refuse(
                "blank penalty, word bonus and rejection margin must be finite, within 10,000 nats",
            );
        }
        if let Some(lm) = &self.lm
            && !(0.0..=100.0).contains(&lm.weight)
        {
            return refuse("the language model's weight must be from 0 to 100");
        }
        if let Some(open) = self.lexicon.as_ref().and_then(|lexicon| lexicon.open)
            && !(in_range(open.per_word) && in_range(open.per_letter))
        {
            return refuse("what a word outside the lexicon costs must be from 0 to 10,000 nats");
        }
        match self.search {
            Search::Greedy => {
                let plain = self.lm.is_none() && self.lexicon.is_none() && self.word_bonus == 0.0;
                if !plain || !self.hotwords.is_empty() {
                    return refuse(
                        "greedy decoding takes no language model, lexicon, hotwords or word bonus; use a beam",
                    );
                }
            }
            Search::Beam(beam) => {
                if beam.width == 0 || beam.max_tokens == 0 {
                    return refuse("beam width and tokens per frame must be at least 1");
                }
                if !(beam.score_cut >= 0.0 && beam.token_cut >= 0.0) {
                    return refuse("score cut and token cut must be at least 0");
                }
            }
        }
        Ok(())
    }
}
