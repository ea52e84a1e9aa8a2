//! Hotwords: phrases that a search is drawn towards, matched incrementally as text grows.
//!
//! An Aho-Corasick automaton over bytes reads every hypothesis. A phrase's boost is lent out evenly along its
//! letters: the automaton's state has a *credit*, the largest part of a boost that a phrase under way
//! has earned, and a step's gain is the change of credit. So a match that fails gives back what it was lent, and one
//! that completes keeps exactly its boost. Words are matched whole: where the vocabulary marks
//! words, a phrase is matched with the boundaries around it. (E. Zhao et al., "Shallow-Fusion End-to-End
//! Contextual Biasing", 2019, with boundaries and automaton in place of subword prefixes.)

use super::trie::{ByteTrie, START};
use crate::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, VecDeque};

/// Stands between words, and before the first and after the last one.
pub(crate) const BOUNDARY: u8 = b' ';

/// The largest boost, in nats: beyond it nothing else counts any more.
const MOST_BOOST: f32 = 100.0;

/// A phrase to be drawn towards.
#[derive(Debug, Clone, PartialEq)]
pub struct Hotword {
    /// One or more words, as the model writes them.
    pub phrase: String,
    /// What the whole phrase adds to a reading's score, in nats, more than 0 and at most 100; 2 to 8 are usual.
    pub boost: f32,
}

impl Hotword {
    /// A phrase and its boost.
    pub fn new(phrase: impl Into<String>, boost: f32) -> Self {
        Self {
            phrase: phrase.into(),
            boost,
        }
    }
}

impl<P: Into<String>> From<(P, f32)> for Hotword {
    fn from((phrase, boost): (P, f32)) -> Self {
        Self::new(phrase, boost)
    }
}

/// The automaton.
#[derive(Debug, Clone)]
pub(crate) struct Hotwords {
    trie: ByteTrie,
    /// The longest proper end of each node's string that is a node too.
    fallback: Vec<u32>,
    /// What the phrases under way at each node have been lent.
    credit: Vec<f64>,
    /// The boosts of the phrases that end at each node.
    reward: Vec<f64>,
    /// The most that one byte can add.
    most_per_byte: f64,
    spaced: bool,
}

impl Hotwords {
    /// The automaton of `hotwords`; `spaced` where the vocabulary marks words.
    ///
    /// Fails with [`ErrorKind::InvalidArgument`] on an empty phrase, a boost out of range, and a phrase that
    /// comes twice
    /// with two boosts.
    pub fn new(hotwords: &[Hotword], spaced: bool) -> Result<Self> {
        let mut boosts: BTreeMap<String, f32> = BTreeMap::new();
        for Hotword { phrase, boost } in hotwords {
            let refuse = |what: String| Err(Error::new(ErrorKind::InvalidArgument, what));
            if !(*boost > 0.0 && *boost <= MOST_BOOST) {
                return refuse(format!(
                    "hotword {phrase:?} has boost {boost}; more than 0 and at most {MOST_BOOST} is allowed"
                ));
            }
            let words: Vec<&str> = phrase.split_whitespace().collect();
            if words.is_empty() {
                return refuse("a hotword is empty; leave it out".into());
            }
            let text = if spaced {
                format!(" {} ", words.join(" "))
            } else {
                phrase.clone()
            };
            if let Some(first) = boosts.insert(text, *boost)
                && first != *boost
            {
                return refuse(format!(
                    "hotword {phrase:?} comes twice, with boosts {first} and {boost}; leave one out"
                ));
            }
        }
        let (phrases, boosts): (Vec<String>, Vec<f32>) = boosts.into_iter().unzip();
        let trie = ByteTrie::new(&phrases);
        let mut automaton = Self {
            fallback: vec![START; trie.len()],
            credit: vec![0.0; trie.len()],
            reward: vec![0.0; trie.len()],
            most_per_byte: 0.0,
            trie,
            spaced,
        };
        for (phrase, boost) in phrases.iter().zip(boosts) {
            automaton.lend(phrase.as_bytes(), f64::from(boost));
        }
        automaton.link();
        Ok(automaton)
    }

    /// Spreads a boost over the nodes of a phrase.
    fn lend(&mut self, phrase: &[u8], boost: f64) {
        let edge = usize::from(self.spaced);
        let letters = phrase.len() - 2 * edge;
        let mut node = START;
        for (read, &byte) in (1..).zip(phrase) {
            let Some(next) = self.trie.next(node, byte) else {
                return;
            };
            node = next;
            if read < phrase.len() {
                let earned = (read - edge) as f64 / letters as f64;
                let credit = &mut self.credit[node as usize];
                *credit = credit.max(boost * earned);
            }
        }
        self.reward[node as usize] = boost;
    }

    /// Finds the fallbacks, shallow nodes first, and lets credits and rewards of the fallbacks count.
    fn link(&mut self) {
        let mut open = VecDeque::from([START]);
        while let Some(node) = open.pop_front() {
            for child in self.trie.children(node) {
                if node != START {
                    let byte = self.trie.byte(child);
                    let fallback = self.read(self.fallback[node as usize], byte);
                    self.fallback[child as usize] = fallback;
                    let (at, back) = (child as usize, fallback as usize);
                    self.credit[at] = self.credit[at].max(self.credit[back]);
                    self.reward[at] += self.reward[back];
                }
                let gain = self.credit[child as usize] + self.reward[child as usize]
                    - self.credit[node as usize];
                self.most_per_byte = self.most_per_byte.max(gain);
                open.push_back(child);
            }
        }
    }

    /// The state after one byte more.
    fn read(&self, mut node: u32, byte: u8) -> u32 {
        loop {
            if let Some(next) = self.trie.next(node, byte) {
                return next;
            }
            if node == START {
                return START;
            }
            node = self.fallback[node as usize];
        }
    }

    /// The number of states.
    pub fn states(&self) -> usize {
        self.trie.len()
    }

    /// Whether a state may be one between words: what it has read ends with a boundary, or is nothing.
    pub fn begins_word(&self, state: u32) -> bool {
        state == START || (self.spaced && self.trie.byte(state) == BOUNDARY)
    }

    /// The state before any text.
    pub fn start(&self) -> u32 {
        if self.spaced {
            self.read(START, BOUNDARY)
        } else {
            START
        }
    }

    /// The state after `text`, and what it gains.
    pub fn step(&self, state: u32, text: &[u8]) -> (u32, f64) {
        let mut node = state;
        let mut gain = -self.credit[node as usize];
        for &byte in text {
            node = self.read(node, byte);
            gain += self.reward[node as usize];
        }
        (node, gain + self.credit[node as usize])
    }

    /// What the end of the text gains: a phrase may end there, one under way fails. `open` where a word is under way.
    pub fn finish(&self, state: u32, open: bool) -> f64 {
        let (state, gain) = if open && self.spaced {
            self.step(state, &[BOUNDARY])
        } else {
            (state, 0.0)
        };
        gain - self.credit[state as usize]
    }

    /// The most that a text of `bytes` bytes can gain.
    pub fn bound(&self, bytes: usize) -> f64 {
        self.most_per_byte * bytes as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hotwords(list: &[(&str, f32)], spaced: bool) -> Result<Hotwords> {
        let list: Vec<Hotword> = list.iter().map(|&(p, b)| Hotword::new(p, b)).collect();
        Hotwords::new(&list, spaced)
    }

    /// What a whole text gains, letter by letter.
    fn total(automaton: &Hotwords, text: &str) -> f64 {
        let mut state = automaton.start();
        let mut sum = 0.0;
        for byte in text.bytes() {
            let (next, gain) = automaton.step(state, &[byte]);
            assert!(gain <= automaton.bound(1) + 1e-9);
            state = next;
            sum += gain;
        }
        sum + automaton.finish(state, true)
    }

    #[test]
    fn a_text_gains_the_boosts_of_its_phrases() {
        let list = [
            ("new york", 4.0),
            ("york city", 3.0),
            ("york", 1.0),
            ("yo", 2.0),
            ("new york", 4.0),
        ];
        let automaton = hotwords(&list, true).unwrap();
        for (text, gain) in [
            ("", 0.0),
            ("new yor", 0.0),
            ("new york", 5.0),
            ("new york city", 8.0),
            ("new yorker", 0.0),
            ("anew york", 1.0),
            ("yo yo york", 5.0),
        ] {
            assert!((total(&automaton, text) - gain).abs() < 1e-9, "{text}");
        }
        let unspaced = hotwords(&[("ab", 2.0), ("bc", 1.0)], false).unwrap();
        assert!((total(&unspaced, "xabcab") - 5.0).abs() < 1e-9);
    }

    #[test]
    fn partial_matches_are_lent_their_part() {
        let automaton = hotwords(&[("abcd", 4.0)], true).unwrap();
        let (state, gain) = automaton.step(automaton.start(), b"abc");
        assert!((gain - 3.0).abs() < 1e-9);
        let (state, gain) = automaton.step(state, b"d");
        assert!((gain - 1.0).abs() < 1e-9);
        assert!((automaton.step(state, b"e").1 + 4.0).abs() < 1e-9);
        assert!(automaton.step(state, b" ").1.abs() < 1e-9);
    }

    #[test]
    fn bad_lists_are_refused() {
        for (list, message) in [
            (&[(" ", 1.0)][..], "empty"),
            (&[("a", 0.0)], "boost 0"),
            (&[("a", f32::NAN)], "boost NaN"),
            (&[("a", 1e9)], "at most 100"),
            (&[("a  b", 1.0), ("a b", 2.0)], "comes twice"),
        ] {
            let error = hotwords(list, true).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.to_string().contains(message), "{error}");
        }
        assert!(hotwords(&[], true).is_ok());
    }

    proptest! {
        #[test]
        fn gains_add_up_to_the_phrases_found(
            list in prop::collection::btree_map("[ab]{1,3}( [ab]{1,2})?", 1u8..9, 0..6),
            words in prop::collection::vec("[ab]{1,3}", 0..8),
        ) {
            let text = words.join(" ");
            let list: Vec<Hotword> = list.iter().map(|(p, &b)| Hotword::new(p.as_str(), f32::from(b))).collect();
            let automaton = Hotwords::new(&list, true).unwrap();
            let around = format!(" {text} ");
            let expected: f64 = list.iter().map(|hotword| {
                let needle = format!(" {} ", hotword.phrase);
                let found = (0..around.len()).filter(|&at| around[at..].starts_with(&needle)).count();
                f64::from(hotword.boost) * found as f64
            }).sum();
            prop_assert!((total(&automaton, &text) - expected).abs() < 1e-6);
        }
    }
}
