//! Words under a lexicon and a language model: what each letter and each word of a reading gains.
//!
//! A word is read byte by byte. With a lexicon its bytes walk a trie, whose nodes know the best unigram
//! below them, so that a word is paid for as it is spelled and not all at once at its end, where
//! the beam may have lost it (language model look-ahead). Without one, a hash of the bytes is enough to find the
//! word in the model when it ends.

use super::config::OpenVocabulary;
use super::ngram::{EMPTY_WORD, NgramModel, NgramState, WordId, hash};
use super::plan::spell;
use super::trie::{ByteTrie, START};
use crate::{Error, ErrorKind, Result, Tokens};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A language model of words and its weight.
#[derive(Debug, Clone)]
pub(crate) struct WordModel {
    pub model: Arc<NgramModel>,
    pub weight: f64,
}

/// What words are scored by.
#[derive(Debug, Clone)]
pub(crate) struct Words {
    lexicon: Option<Lexicon>,
    model: Option<WordModel>,
    /// What every word adds.
    bonus: f64,
}

/// The words that may be read.
#[derive(Debug, Clone)]
struct Lexicon {
    trie: ByteTrie,
    /// Each word's id in the language model.
    ids: Vec<Option<WordId>>,
    /// What a word that passes each node has been charged in advance: the weighted log-prob of the best one below.
    /// Empty without a language model.
    ahead: Vec<f64>,
    /// What a word outside the lexicon costs; none where it is not allowed.
    open: Option<OpenVocabulary>,
}

/// A word under way and the words before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct WordState {
    /// With a lexicon the node, [`OUTSIDE`] for a word outside it; else the hash of the letters.
    pub spelling: u64,
    pub context: NgramState,
}

/// The spelling of a word outside the lexicon.
const OUTSIDE: u64 = u64::MAX;

/// Words and what they may cost outside them.
pub(crate) struct LexiconWords<'a> {
    pub words: &'a [String],
    pub open: Option<OpenVocabulary>,
}

impl Words {
    /// Checks the lexicon against the tokens and builds the tables.
    ///
    /// Fails with [`ErrorKind::InvalidArgument`] on an empty lexicon and on words that the tokens cannot spell
    /// or that are more
    /// than one word.
    pub fn new(
        lexicon: Option<LexiconWords<'_>>,
        model: Option<WordModel>,
        bonus: f64,
        tokens: &Tokens,
    ) -> Result<Self> {
        let lexicon = match lexicon {
            Some(lexicon) => Some(Lexicon::new(&lexicon, model.as_ref(), tokens)?),
            None => None,
        };
        Ok(Self {
            lexicon,
            model,
            bonus,
        })
    }

    /// The state at the beginning of a text.
    pub fn start(&self) -> WordState {
        let context = (self.model.as_ref()).map_or(NgramState::default(), |lm| lm.model.start());
        self.before_word(context)
    }

    fn before_word(&self, context: NgramState) -> WordState {
        let spelling = if self.lexicon.is_some() {
            u64::from(START)
        } else {
            EMPTY_WORD
        };
        WordState { spelling, context }
    }

    /// The state after `text`, letters of the word under way, and what they gain; none where the lexicon
    /// forbids them.
    pub fn spell(&self, state: WordState, text: &[u8]) -> Option<(WordState, f64)> {
        let Some(lexicon) = &self.lexicon else {
            let spelling = match &self.model {
                Some(_) => hash(state.spelling, text),
                None => state.spelling,
            };
            return Some((WordState { spelling, ..state }, 0.0));
        };
        if state.spelling == OUTSIDE {
            return Some((state, -letters_outside(lexicon.open?, text)));
        }
        let start = state.spelling as u32;
        let mut node = start;
        for (read, &byte) in text.iter().enumerate() {
            match lexicon.trie.next(node, byte) {
                Some(next) => node = next,
                None => {
                    let open = lexicon.open?;
                    let cost = f64::from(open.per_word) + letters_outside(open, &text[read..]);
                    let spelling = OUTSIDE;
                    let gain = -cost - lexicon.ahead(start);
                    return Some((WordState { spelling, ..state }, gain));
                }
            }
        }
        let spelling = u64::from(node);
        let gain = lexicon.ahead(node) - lexicon.ahead(start);
        Some((WordState { spelling, ..state }, gain))
    }

    /// The state after the word under way has ended, and what it gains; none where it is no word of the lexicon.
    pub fn close(&self, state: WordState) -> Option<(WordState, f64)> {
        let mut gain = self.bonus;
        let word = match &self.lexicon {
            None => (self.model.as_ref()).and_then(|lm| lm.model.word_by_hash(state.spelling)),
            Some(_) if state.spelling == OUTSIDE => None,
            Some(lexicon) => {
                let node = state.spelling as u32;
                gain -= lexicon.ahead(node);
                match lexicon.trie.key(node) {
                    Some(key) => lexicon.ids[key as usize],
                    None => {
                        gain -= f64::from(lexicon.open?.per_word);
                        None
                    }
                }
            }
        };
        let mut context = state.context;
        if let Some(WordModel { model, weight }) = &self.model {
            let (log_prob, next) = model.score(context, word);
            gain += weight * f64::from(log_prob);
            context = next;
        }
        Some((self.before_word(context), gain))
    }

    /// What the end of the text gains, once the last word has been closed.
    pub fn finish(&self, state: WordState) -> f64 {
        (self.model.as_ref()).map_or(0.0, |lm| lm.weight * f64::from(lm.model.end(state.context)))
    }

    /// The most that letters of a word can gain.
    pub fn spelling_bound(&self) -> f64 {
        let Some(lexicon) = &self.lexicon else {
            return 0.0;
        };
        // Leaving the lexicon gives back what was charged in advance.
        let refund = lexicon.ahead.iter().copied().fold(0.0, f64::min);
        lexicon
            .open
            .map_or(0.0, |open| (-f64::from(open.per_word) - refund).max(0.0))
    }

    /// The most that the end of a word can gain.
    pub fn closing_bound(&self) -> f64 {
        let Some(WordModel { model, weight }) = &self.model else {
            return self.bonus;
        };
        let most = model.most_log_probs();
        let unknown = model.unigram(None).max(0.0);
        let Some(lexicon) = &self.lexicon else {
            let most = most.into_iter().fold(unknown, f32::max);
            return self.bonus + weight * f64::from(most);
        };
        // The charge in advance is given back when the word is paid for.
        let refund = lexicon.ahead.iter().copied().fold(0.0, f64::min);
        let mut bound = match lexicon.open {
            Some(_) => weight * f64::from(unknown) - refund,
            None => f64::NEG_INFINITY,
        };
        for node in 0..lexicon.trie.len() as u32 {
            let Some(key) = lexicon.trie.key(node) else {
                continue;
            };
            let log_prob = match lexicon.ids[key as usize] {
                Some(word) => most[NgramModel::place(word)],
                None => unknown,
            };
            bound = bound.max(weight * f64::from(log_prob) - lexicon.ahead(node));
        }
        self.bonus + bound
    }
}

/// What letters outside the lexicon cost: a letter counts where its first byte is read.
fn letters_outside(open: OpenVocabulary, text: &[u8]) -> f64 {
    let continues = |byte: u8| byte & 0xc0 == 0x80;
    let first = usize::from(text.first().is_some_and(|&byte| continues(byte)));
    let letters = text.iter().filter(|&&byte| !continues(byte)).count() + first;
    f64::from(open.per_letter) * letters as f64
}

impl Lexicon {
    fn new(lexicon: &LexiconWords<'_>, model: Option<&WordModel>, tokens: &Tokens) -> Result<Self> {
        let refuse = |message: String| Err(Error::new(ErrorKind::InvalidArgument, message));
        let mut words = BTreeSet::new();
        for word in lexicon.words {
            let ids = spell("lexicon word", word, tokens)?;
            let mut parts = tokens.words(&ids);
            match (parts.pop(), parts.pop()) {
                (Some(one), None) => words.insert(one.text),
                (None, _) => return refuse("a word of the lexicon is empty; leave it out".into()),
                _ => return refuse(format!("lexicon entry {word:?} is more than one word")),
            };
        }
        if words.is_empty() {
            return refuse("the lexicon is empty; give at least one word".into());
        }
        let words: Vec<String> = words.into_iter().collect();
        let trie = ByteTrie::new(&words);
        let ids = (words.iter()).map(|word| model.and_then(|lm| lm.model.word(word)));
        let mut lexicon = Self {
            ids: ids.collect(),
            ahead: Vec::new(),
            open: lexicon.open,
            trie,
        };
        if let Some(lm) = model {
            lexicon.look_ahead(lm);
        }
        Ok(lexicon)
    }

    /// Fills in what each node is charged in advance: children come after their parents, so from the last to
    /// the first.
    fn look_ahead(&mut self, lm: &WordModel) {
        self.ahead = vec![f64::NEG_INFINITY; self.trie.len()];
        for node in (0..self.trie.len() as u32).rev() {
            let own = self.trie.key(node).map_or(f64::NEG_INFINITY, |key| {
                lm.weight * f64::from(lm.model.unigram(self.ids[key as usize]))
            });
            let below = (self.trie.children(node))
                .map(|child| self.ahead[child as usize])
                .fold(own, f64::max);
            // A word of probability zero must not make differences of infinities.
            self.ahead[node as usize] = below.max(-1e4);
        }
        self.ahead[START as usize] = 0.0;
    }

    fn ahead(&self, node: u32) -> f64 {
        self.ahead.get(node as usize).copied().unwrap_or(0.0)
    }
}
