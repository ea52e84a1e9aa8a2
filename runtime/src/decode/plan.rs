//! From settings to searches: every check and every table that decoders share.

use super::beam::{Beam, BeamSettings, Spare};
use super::config::{BeamSearch, Decoding, LmUnit, Search};
use super::constraint::Rules;
use super::decoder::{Decoder, Engine};
use super::greedy::Greedy;
use super::guide::{Guide, Parts, PieceModel};
use super::hotwords::Hotwords;
use super::ngram::{NgramModel, WordId};
use super::shortlist::Limits;
use super::words::{LexiconWords, WordModel, Words};
use crate::spec::WordMark;
use crate::transcript::{FrameSpan, NBest};
use crate::{Error, LogProbs, Result, Tokens};
use std::sync::Arc;

/// The beam of a greedy search that is held to phrases or a pattern.
const NARROW: usize = 8;

/// Phrase lists with at most this many beginnings are searched exhaustively: all of them have room at every length.
const MOST_BEGINNINGS: usize = 1024;

/// Prefixes of each length at the least where there are more beginnings than that, and for patterns.
const LENGTH_WIDTH: usize = 16;

/// Tokens per frame at the least where a whole text is prescribed.
const CLOSED_TOKENS: usize = 256;

/// Settings checked against a vocabulary, with all tables built: what the decoders of many inputs share.
///
/// A plan is cheap to clone and may be used from many threads.
#[derive(Debug, Clone)]
pub struct Plan {
    tokens: Arc<Tokens>,
    n_best: usize,
    closed: bool,
    search: Recipe,
    /// The search without constraints, where there are any.
    free: Option<Recipe>,
}

/// How to begin a search.
#[derive(Debug, Clone)]
enum Recipe {
    Greedy {
        allowed: Option<Vec<bool>>,
        blank_penalty: f32,
    },
    Beam {
        settings: BeamSettings,
        guide: Option<Arc<Guide>>,
        spare: Spare,
    },
}

impl Plan {
    pub(super) fn new(decoding: &Decoding, tokens: &Arc<Tokens>) -> Result<Self> {
        decoding.check()?;
        let rules = match decoding.constraints.as_slice() {
            [] => None,
            constraints => Some(Rules::new(constraints, tokens)?),
        };
        let closed = rules.as_ref().filter(|rules| rules.closed());
        let is_closed = closed.is_some();
        let beam = match decoding.search {
            Search::Greedy if closed.is_none() => {
                let search = Recipe::Greedy {
                    allowed: rules.and_then(|rules| rules.allowed),
                    blank_penalty: decoding.blank_penalty,
                };
                return Ok(Self {
                    tokens: Arc::clone(tokens),
                    n_best: 1,
                    closed: false,
                    search,
                    free: None,
                });
            }
            Search::Greedy => BeamSearch {
                width: NARROW,
                ..BeamSearch::default()
            },
            Search::Beam(beam) => beam,
        };
        let free_settings = settings(&beam, decoding.blank_penalty);
        let settings = match closed {
            Some(rules) => exhaustive(free_settings, rules),
            None => free_settings,
        };
        let parts = parts(decoding, tokens)?;
        let guide = |parts: Parts| {
            let empty = parts.rules.is_none()
                && parts.words.is_none()
                && parts.pieces.is_none()
                && parts.hotwords.is_none();
            (!empty).then(|| Arc::new(Guide::new(parts, tokens)))
        };
        let free = rules.is_some().then(|| Recipe::Beam {
            settings: free_settings,
            guide: guide(parts.clone()),
            spare: Spare::default(),
        });
        let search = Recipe::Beam {
            settings,
            guide: guide(Parts { rules, ..parts }),
            spare: Spare::default(),
        };
        Ok(Self {
            tokens: Arc::clone(tokens),
            n_best: decoding.n_best,
            closed: is_closed,
            search,
            free,
        })
    }

    /// Whether the whole text is prescribed, so that a part of it is no reading.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The vocabulary.
    pub fn tokens(&self) -> &Arc<Tokens> {
        &self.tokens
    }

    /// A decoder for one input.
    pub fn decoder(&self) -> Decoder {
        Decoder::new(
            Arc::clone(&self.tokens),
            self.search.begin(&self.tokens),
            self.free.as_ref().map(|free| free.begin(&self.tokens)),
            self.n_best,
        )
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

impl Recipe {
    fn begin(&self, tokens: &Tokens) -> Engine {
        match self {
            Self::Greedy {
                allowed,
                blank_penalty,
            } => Engine::Greedy(Greedy::new(tokens.blank(), allowed.clone(), *blank_penalty)),
            Self::Beam {
                settings,
                guide,
                spare,
            } => {
                let (vocabulary, blank) = (tokens.len(), tokens.blank());
                let beam = Beam::new(vocabulary, blank, *settings, guide.clone(), spare);
                Engine::Beam(Box::new(beam))
            }
        }
    }
}

fn settings(beam: &BeamSearch, blank_penalty: f32) -> BeamSettings {
    BeamSettings {
        width: beam.width,
        least: f64::from(-beam.score_cut).exp(),
        tokens: Limits {
            cut: beam.token_cut,
            most: beam.max_tokens,
        },
        blank_factor: f64::from(-blank_penalty).exp(),
        by_length: false,
    }
}

/// Limits for a text that is prescribed: improbable or not, it is to be found, so nothing is dropped for its score.
fn exhaustive(settings: BeamSettings, rules: &Rules) -> BeamSettings {
    let beginnings = rules.beginnings().filter(|&n| n <= MOST_BEGINNINGS);
    BeamSettings {
        width: settings.width.max(beginnings.unwrap_or(LENGTH_WIDTH)),
        least: 0.0,
        tokens: Limits {
            cut: f32::INFINITY,
            most: settings.tokens.most.max(CLOSED_TOKENS),
        },
        by_length: true,
        ..settings
    }
}

/// The guide's parts but for the rules.
fn parts(decoding: &Decoding, tokens: &Tokens) -> Result<Parts> {
    let spaced = *tokens.word_mark() != WordMark::None;
    let mut word_model = None;
    let mut pieces = None;
    if let Some(lm) = &decoding.lm {
        let (model, weight) = (Arc::clone(&lm.model), f64::from(lm.weight));
        let by_token = match lm.unit {
            LmUnit::Detect => lm.model.is_of_characters(),
            LmUnit::Words => false,
            LmUnit::Tokens => true,
        };
        if by_token {
            let ids = piece_ids(&model, tokens);
            pieces = Some(PieceModel { model, weight, ids });
        } else {
            word_model = Some(WordModel { model, weight });
        }
    }
    let lexicon = decoding.lexicon.as_ref().map(|lexicon| LexiconWords {
        words: &lexicon.words,
        open: lexicon.open,
    });
    let bonus = f64::from(decoding.word_bonus);
    let words = if lexicon.is_some() || word_model.is_some() || bonus != 0.0 {
        Some(Words::new(lexicon, word_model, bonus, tokens)?)
    } else {
        None
    };
    let hotwords = match decoding.hotwords.as_slice() {
        [] => None,
        list => {
            for hotword in list {
                spell("hotword", &hotword.phrase, tokens)?;
            }
            Some(Hotwords::new(list, spaced)?)
        }
    };
    Ok(Parts {
        rules: None,
        words,
        pieces,
        hotwords,
    })
}

/// The ids of an entry of a list; the error names list and entry.
pub(super) fn spell(what: &str, entry: &str, tokens: &Tokens) -> Result<Vec<u32>> {
    tokens
        .encode(entry)
        .map_err(|error| Error::new(error.kind(), format!("{what}: {error}")))
}

/// Each token's word in a model of tokens; the word separator is known by several names.
fn piece_ids(model: &NgramModel, tokens: &Tokens) -> Vec<Option<WordId>> {
    let id = |token: u32| {
        let piece = tokens.piece(token)?;
        let found = model.word(piece);
        if tokens.separator() == Some(token) {
            let names = ["<space>", "|", "▁", "_"];
            return found.or_else(|| names.iter().find_map(|name| model.word(name)));
        }
        found
    };
    (0..tokens.len() as u32).map(id).collect()
}
