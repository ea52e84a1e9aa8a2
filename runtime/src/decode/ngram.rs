//! A back-off n-gram language model, compact and scored one word at a time.
//!
//! The n-grams form a trie from a word to what follows it, stored breadth-first in flat arrays: all unigrams, all
//! bigrams sorted by context and word, and so on. A context is one number, its node; to score a word, look for it
//! among the node's children, else add the node's back-off weight and go on at the node's longest proper
//! suffix. The highest order has no nodes, only 8 bytes per n-gram; a node takes 20, a word 8 more for its hash.

use crate::{Error, ErrorKind, Result};
use std::ops::Range;

/// The highest order read.
pub const MAX_ORDER: usize = 6;

/// The node of the empty context.
const ROOT: u32 = 0;

/// What a word outside the vocabulary gets where the model has no `<unk>`: `10^-100`.
const UNKNOWN: f32 = -230.258_5;

/// The hash of no bytes.
pub(crate) const EMPTY_WORD: u64 = 0xcbf2_9ce4_8422_2325;

/// Continues a word's hash (FNV-1a, 64 bits): words are known by it, their text is not kept.
pub(crate) fn hash(start: u64, bytes: &[u8]) -> u64 {
    (bytes.iter()).fold(start, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A context: all a model needs to know of the words before the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NgramState(u32);

/// A word's place in a model's vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WordId(u32);

/// A back-off n-gram model of words or characters.
#[derive(Debug, Clone)]
pub struct NgramModel {
    order: usize,
    /// Hashes of the words, sorted; a word's id is its place here.
    words: Vec<u64>,
    /// The last word of each n-gram. Entry 0 is the empty n-gram's and unused.
    word: Vec<u32>,
    /// Natural logarithm of each n-gram's probability.
    prob: Vec<f32>,
    /// Natural logarithm of each node's back-off weight.
    backoff: Vec<f32>,
    /// The first child of each node, and one entry more to end the last.
    begin: Vec<u32>,
    /// The node of each node's longest proper suffix.
    suffix: Vec<u32>,
    unknown: Option<u32>,
    sentence_begin: NgramState,
    sentence_end: Option<u32>,
    characters: bool,
}

/// How a model likes a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SentenceScore {
    /// Natural logarithm of the probability of the words and of the sentence's end.
    pub log_prob: f64,
    /// Words, and one for the end where the model knows ends.
    pub words: usize,
    /// Words outside the vocabulary.
    pub unknown: usize,
}

impl NgramModel {
    /// The order: the longest n-gram's length.
    pub fn order(&self) -> usize {
        self.order
    }

    /// The number of n-grams of all orders.
    #[allow(clippy::len_without_is_empty)] // A model has at least one unigram.
    pub fn len(&self) -> usize {
        self.word.len() - 1
    }

    /// The number of words, `<s>`, `</s>` and `<unk>` included.
    pub fn vocabulary(&self) -> usize {
        self.words.len()
    }

    /// Memory taken, in bytes.
    pub fn bytes(&self) -> usize {
        let four = self.word.len() + self.prob.len() + self.backoff.len();
        let nodes = self.begin.len() + self.suffix.len();
        8 * self.words.len() + 4 * (four + nodes)
    }

    /// Whether every word is a single character: a model to be scored token by token.
    pub fn is_of_characters(&self) -> bool {
        self.characters
    }

    /// A word's id, none for a word outside the vocabulary.
    pub fn word(&self, word: &str) -> Option<WordId> {
        self.word_by_hash(hash(EMPTY_WORD, word.as_bytes()))
    }

    pub(crate) fn word_by_hash(&self, hash: u64) -> Option<WordId> {
        let place = self.words.binary_search(&hash).ok()?;
        Some(WordId(place as u32))
    }

    /// The context of no word at all.
    pub fn empty(&self) -> NgramState {
        NgramState(ROOT)
    }

    /// The context at the beginning of a sentence.
    pub fn start(&self) -> NgramState {
        self.sentence_begin
    }

    /// The natural logarithm of the probability of `word` after `state`, none standing for a word outside the
    /// vocabulary, and the context after it.
    pub fn score(&self, state: NgramState, word: Option<WordId>) -> (f32, NgramState) {
        let Some(word) = word.map(|word| word.0).or(self.unknown) else {
            return (self.drop_context(state) + UNKNOWN, NgramState(ROOT));
        };
        let mut node = state.0;
        let mut log_prob = 0.0;
        loop {
            if let Some(entry) = self.child(node, word) {
                log_prob += self.prob[entry as usize];
                return (log_prob, NgramState(self.context_after(node, word, entry)));
            }
            if node == ROOT {
                return (log_prob + UNKNOWN, NgramState(ROOT));
            }
            log_prob += self.backoff[node as usize];
            node = self.suffix[node as usize];
        }
    }

    /// The natural logarithm of the probability that the sentence ends after `state`; 0 for a model
    /// without `</s>`.
    pub fn end(&self, state: NgramState) -> f32 {
        match self.sentence_end {
            Some(end) => self.score(state, Some(WordId(end))).0,
            None => 0.0,
        }
    }

    /// How the model likes a sentence of words separated by whitespace.
    pub fn sentence(&self, text: &str) -> SentenceScore {
        let mut result = SentenceScore::default();
        let mut state = self.start();
        for word in text.split_whitespace() {
            let word = self.word(word);
            let (log_prob, next) = self.score(state, word);
            result.log_prob += f64::from(log_prob);
            result.words += 1;
            result.unknown += usize::from(word.is_none());
            state = next;
        }
        result.log_prob += f64::from(self.end(state));
        result.words += usize::from(self.sentence_end.is_some());
        result
    }

    /// The most that each word's log-prob can be after any context, by word id. A back-off weight above one counts.
    pub(crate) fn most_log_probs(&self) -> Vec<f32> {
        let above_one = self.backoff.iter().copied().fold(0.0, f32::max) * self.order as f32;
        let mut most = vec![f32::NEG_INFINITY; self.words.len()];
        for (&word, &prob) in self.word.iter().zip(&self.prob).skip(1) {
            let word = &mut most[word as usize];
            *word = word.max(prob);
        }
        most.iter().map(|most| most + above_one).collect()
    }

    /// The log-prob of a word without context, and of a word outside the vocabulary.
    pub(crate) fn unigram(&self, word: Option<WordId>) -> f32 {
        self.score(self.empty(), word).0
    }

    pub(crate) fn place(word: WordId) -> usize {
        word.0 as usize
    }

    /// The sum of back-off weights on the way from a context to the empty one.
    fn drop_context(&self, state: NgramState) -> f32 {
        let mut node = state.0;
        let mut log_prob = 0.0;
        while node != ROOT {
            log_prob += self.backoff[node as usize];
            node = self.suffix[node as usize];
        }
        log_prob
    }

    fn nodes(&self) -> usize {
        self.suffix.len()
    }

    /// The n-gram of a node's words and one word more.
    fn child(&self, node: u32, word: u32) -> Option<u32> {
        if node == ROOT {
            return (word < self.words.len() as u32).then_some(1 + word);
        }
        let at = node as usize;
        let children: Range<usize> = self.begin[at] as usize..self.begin[at + 1] as usize;
        let place = self.word[children.clone()].binary_search(&word).ok()?;
        Some((children.start + place) as u32)
    }

    /// The node of the longest context after `word` was found below `node` as `entry`.
    fn context_after(&self, mut node: u32, word: u32, entry: u32) -> u32 {
        if (entry as usize) < self.nodes() {
            return entry;
        }
        while node != ROOT {
            node = self.suffix[node as usize];
            if let Some(entry) = self.child(node, word)
                && (entry as usize) < self.nodes()
            {
                return entry;
            }
        }
        ROOT
    }
}

/// An n-gram to be added: the node of all its words but the last, and the last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gram {
    pub context: u32,
    pub word: u32,
    pub prob: f32,
    pub backoff: f32,
}

/// Builds a model order by order.
#[derive(Debug)]
pub(crate) struct Builder {
    model: NgramModel,
    /// The nodes of the order added last.
    last: Range<u32>,
}

impl Builder {
    /// Begins a model of `order` with its unigrams: hash, log-prob and back-off weight of each word.
    /// `characters` tells whether
    /// each is a single character.
    pub fn new(order: usize, mut unigrams: Vec<(u64, f32, f32)>, characters: bool) -> Result<Self> {
        unigrams.sort_unstable_by_key(|unigram| unigram.0);
        if unigrams.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(malformed("a word comes twice among the unigrams".into()));
        }
        let words: Vec<u64> = unigrams.iter().map(|unigram| unigram.0).collect();
        let mut model = NgramModel {
            order,
            words,
            word: vec![0],
            prob: vec![0.0],
            backoff: vec![0.0],
            begin: vec![1],
            suffix: vec![ROOT],
            unknown: None,
            sentence_begin: NgramState(ROOT),
            sentence_end: None,
            characters,
        };
        model.word.extend(0..unigrams.len() as u32);
        model.begin.push(model.word.len() as u32);
        model.prob.extend(unigrams.iter().map(|unigram| unigram.1));
        if order > 1 {
            model
                .backoff
                .extend(unigrams.iter().map(|unigram| unigram.2));
            model.suffix.resize(1 + unigrams.len(), ROOT);
        }
        let last = 1..model.word.len() as u32;
        Ok(Self { model, last })
    }

    /// The id of a word of the vocabulary.
    pub fn word(&self, word: &str) -> Option<u32> {
        self.model.word(word).map(|word| word.0)
    }

    /// The node of a sequence of words.
    pub fn context(&self, words: &[u32]) -> Option<u32> {
        let node = words
            .iter()
            .try_fold(ROOT, |node, &word| self.model.child(node, word))?;
        ((node as usize) < self.model.nodes()).then_some(node)
    }

    /// Adds the n-grams of the next order; `highest` where no higher one follows.
    pub fn add(&mut self, mut grams: Vec<Gram>, highest: bool) -> Result<()> {
        grams.sort_unstable_by_key(|gram| (gram.context, gram.word));
        let same =
            |pair: &[Gram]| (pair[0].context, pair[0].word) == (pair[1].context, pair[1].word);
        if grams.windows(2).any(same) {
            return Err(malformed("an n-gram comes twice".into()));
        }
        let model = &mut self.model;
        let first = model.word.len() as u32;
        // The end of the last node becomes the beginning of the next one.
        model.begin.pop();
        let mut next = 0;
        for node in self.last.clone() {
            model.begin.push(first + next as u32);
            next += grams[next..].partition_point(|gram| gram.context == node);
        }
        model.word.extend(grams.iter().map(|gram| gram.word));
        model.prob.extend(grams.iter().map(|gram| gram.prob));
        self.last = first..model.word.len() as u32;
        model.begin.push(self.last.end);
        if highest {
            return Ok(());
        }
        for gram in &grams {
            // The suffix is of a lower order, whose n-grams are all there.
            let suffix = model.context_after(gram.context, gram.word, u32::MAX);
            model.backoff.push(gram.backoff);
            model.suffix.push(suffix);
        }
        Ok(())
    }

    /// The finished model.
    pub fn finish(mut self) -> NgramModel {
        let unknown = self.word("<unk>").or_else(|| self.word("<UNK>"));
        let begin = self.word("<s>").and_then(|begin| self.context(&[begin]));
        self.model.sentence_end = self.word("</s>");
        self.model.unknown = unknown;
        self.model.sentence_begin = NgramState(begin.unwrap_or(ROOT));
        self.model
    }
}

fn malformed(message: String) -> Error {
    Error::new(ErrorKind::Malformed, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A trigram model of two words with a gap: "b a" is no bigram although "a b a" is a trigram.
    const ARPA: &str = "\\data\\\nngram 1=5\nngram 2=4\nngram 3=2\n\n\\1-grams:\n\
        -1.0 <unk>\n-99 <s> -0.5\n-0.8 </s>\n-0.4 a -0.2\n-0.6 b -0.1\n\n\\2-grams:\n\
        -0.3 <s> a -0.05\n-0.2 a b -0.15\n-0.7 b b -0.25\n-0.9 b </s>\n\n\\3-grams:\n\
        -0.11 <s> a b\n-0.12 a b a\n\n\\end\\\n";

    fn model() -> NgramModel {
        NgramModel::read(ARPA.as_bytes()).unwrap()
    }

    /// Scores in base 10 of the words of a sentence, the end included.
    fn scores(text: &str) -> Vec<f32> {
        let model = model();
        let mut state = model.start();
        let mut scores = Vec::new();
        for word in text.split_whitespace().chain(["</s>"]) {
            let (score, next) = model.score(state, model.word(word));
            scores.push(score / std::f32::consts::LN_10);
            state = next;
        }
        scores
    }

    #[test]
    fn scores_back_off_by_hand() {
        let cases: [(&str, &[f32]); 4] = [
            // p(a|<s>); p(b|<s> a); a|(a b): the trigram; then </s> after "b a": no such bigram, so after "a".
            ("a b a", &[-0.3, -0.11, -0.12, -0.2 - 0.8]),
            // b after <s>: back off. b b: the bigram. </s> after (b b): its back-off, then b </s>.
            ("b b", &[-0.5 - 0.6, -0.7, -0.25 - 0.9]),
            // An unknown word ends every context: back off from (<s> a) to a to nothing.
            ("a x b", &[-0.3, -0.05 - 0.2 - 1.0, -0.6, -0.9]),
            ("", &[-0.5 - 0.8]),
        ];
        for (text, expected) in cases {
            let found = scores(text);
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-5,
                    "{text}: {found} is not {expected}"
                );
            }
        }
    }

    #[test]
    fn sentences_are_summed_up() {
        let score = model().sentence("a x b");
        assert_eq!((score.words, score.unknown), (4, 1));
        let expected = -3.05 * std::f64::consts::LN_10;
        assert!(
            (score.log_prob - expected).abs() < 1e-4,
            "{}",
            score.log_prob
        );
    }

    #[test]
    fn the_model_is_compact() {
        let model = model();
        assert_eq!((model.order(), model.len(), model.vocabulary()), (3, 11, 5));
        // 10 nodes of 20 bytes with the empty one, 2 trigrams of 8, 5 hashes of 8, and the end of the last node.
        assert_eq!(model.bytes(), 10 * 20 + 2 * 8 + 5 * 8 + 4);
        assert!(model.is_of_characters());
    }

    #[test]
    fn bounds_are_never_exceeded() {
        let model = model();
        let most = model.most_log_probs();
        for context in ["", "a", "b b", "a b", "x"] {
            let mut state = model.start();
            for word in context.split_whitespace() {
                state = model.score(state, model.word(word)).1;
            }
            for word in ["a", "b", "</s>", "<unk>"] {
                let word = model.word(word).unwrap();
                let bound = most[NgramModel::place(word)];
                assert!(model.score(state, Some(word)).0 <= bound + 1e-6);
            }
        }
    }
}
