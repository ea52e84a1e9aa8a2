//! Counts of n-grams: every window of N words of the text, sorted by its last word first.
//!
//! In that order all that a lower order needs is one pass away: an n-gram's windows lie side by side, and so do
//! the words before it. Windows are collected, sorted and merged in portions, so the memory is that of the
//! distinct windows.

use super::kneser_ney::Estimate;
use super::{LmConfig, Unit};
use crate::error::{Error, ErrorKind, Result};
use acolyte::decode::MAX_ORDER;
use std::collections::HashMap;

/// Word ids that every model has.
pub(super) const UNKNOWN: u32 = 0;
pub(super) const BEGIN: u32 = 1;
pub(super) const END: u32 = 2;

/// Their names.
const SPECIAL: [&str; 3] = ["<unk>", "<s>", "</s>"];

/// The name of the space between words in a model of characters.
const SPACE: &str = "<space>";

/// Windows collected before they are sorted and merged: 96 MB.
const PORTION: usize = 4 << 20;

/// An n-gram, last word first; places beyond n are 0.
pub(super) type Gram = [u32; MAX_ORDER];

/// Counts the n-grams of a text, sentence by sentence.
#[derive(Debug)]
pub struct Counter {
    order: usize,
    unit: Unit,
    thresholds: Vec<u64>,
    words: Vec<String>,
    ids: HashMap<String, u32>,
    pending: Vec<Gram>,
    /// Distinct windows and their counts, sorted.
    counted: Vec<(Gram, u64)>,
    sentences: u64,
    tokens: u64,
}

/// The n-grams of one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    pub gram: Gram,
    /// How often it occurs.
    pub occurrences: u64,
    /// Kneser-Ney's count: of the highest order and after `<s>` the occurrences, else the different words before.
    pub adjusted: u64,
}

impl Counter {
    /// A counter that has seen no text.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] for an order or pruning thresholds that no model can have.
    pub fn new(config: &LmConfig) -> Result<Self> {
        let words = SPECIAL.map(str::to_owned).to_vec();
        Ok(Self {
            order: config.order,
            unit: config.unit,
            thresholds: config.thresholds()?,
            ids: (words.iter().cloned()).zip(0..).collect(),
            words,
            pending: Vec::new(),
            counted: Vec::new(),
            sentences: 0,
            tokens: 0,
        })
    }

    /// Counts a sentence; one without words counts for nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] for a word that is a name the model needs, such as `<s>`.
    pub fn add(&mut self, sentence: &str) -> Result<()> {
        let mut window = [0; MAX_ORDER];
        window[..self.order].fill(BEGIN);
        let units = units(self.unit, sentence);
        let mut found = false;
        for unit in units.split(' ').filter(|unit| !unit.is_empty()) {
            let id = self.id(unit)?;
            self.push(&mut window, id);
            found = true;
        }
        if found {
            self.push(&mut window, END);
            self.sentences += 1;
        }
        Ok(())
    }

    fn id(&mut self, unit: &str) -> Result<u32> {
        if let Some(&id) = self.ids.get(unit) {
            if id <= END {
                return Err(Error::new(
                    ErrorKind::Data,
                    format!(
                        "the text contains {unit:?}, which means something else in a language model; remove it"
                    ),
                ));
            }
            return Ok(id);
        }
        let id = u32::try_from(self.words.len()).map_err(|_| {
            let message = "the text has more than 2^32 different words";
            Error::new(ErrorKind::Data, message)
        })?;
        self.words.push(unit.to_owned());
        self.ids.insert(unit.to_owned(), id);
        Ok(id)
    }

    fn push(&mut self, window: &mut Gram, id: u32) {
        window.copy_within(..self.order - 1, 1);
        window[0] = id;
        self.pending.push(*window);
        self.tokens += 1;
        if self.pending.len() == PORTION {
            self.merge();
        }
    }

    /// Sorts the pending windows and merges them into the counted ones.
    pub(super) fn merge(&mut self) {
        self.pending.sort_unstable();
        let mut merged: Vec<(Gram, u64)> = Vec::with_capacity(self.counted.len());
        let mut old = std::mem::take(&mut self.counted).into_iter().peekable();
        for same in self.pending.chunk_by(|a, b| a == b) {
            let gram = same[0];
            while let Some(before) = old.next_if(|(other, _)| *other < gram) {
                merged.push(before);
            }
            let known = old.next_if(|(other, _)| *other == gram);
            merged.push((
                gram,
                known.map_or(0, |(_, count)| count) + same.len() as u64,
            ));
        }
        merged.extend(old);
        self.pending.clear();
        self.counted = merged;
    }

    /// The model of what has been counted.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] where the text has no word.
    pub fn estimate(mut self) -> Result<Estimate> {
        if self.sentences == 0 {
            let message = "the text has no words, so there is nothing to estimate a model from";
            return Err(Error::new(ErrorKind::Data, message));
        }
        self.merge();
        let orders = (1..=self.order).map(|n| self.lower(n)).collect();
        self.counted = Vec::new();
        Ok(Estimate::new(
            self.words,
            orders,
            &self.thresholds,
            self.sentences,
            self.tokens,
        ))
    }

    /// The n-grams of order `n`, sorted last word first.
    fn lower(&self, n: usize) -> Vec<Count> {
        let mut counts = Vec::new();
        if n == 1 {
            // Every model has them, though no text contains them.
            counts.extend([UNKNOWN, BEGIN].map(|id| Count {
                gram: first(&[id, 0, 0, 0, 0, 0], 1),
                occurrences: 0,
                adjusted: 0,
            }));
        }
        for same in self.counted.chunk_by(|a, b| a.0[..n] == b.0[..n]) {
            let gram = first(&same[0].0, n);
            if gram[..n - 1].contains(&BEGIN) {
                // `<s>` stands before a sentence only once.
                continue;
            }
            let occurrences = same.iter().map(|(_, count)| count).sum();
            let adjusted = if n == self.order || gram[n - 1] == BEGIN {
                occurrences
            } else {
                same.chunk_by(|a, b| a.0[n] == b.0[n]).count() as u64
            };
            counts.push(Count {
                gram,
                occurrences,
                adjusted,
            });
        }
        counts
    }
}

/// The first `n` places of a window.
fn first(window: &Gram, n: usize) -> Gram {
    let mut gram = [0; MAX_ORDER];
    gram[..n].copy_from_slice(&window[..n]);
    gram
}

/// A sentence as a model's units, parted by single spaces.
pub(super) fn units(unit: Unit, sentence: &str) -> String {
    let words: Vec<&str> = sentence.split_whitespace().collect();
    match unit {
        Unit::Words => words.join(" "),
        Unit::Characters => {
            let spelled = words.iter().map(|word| {
                let letters: Vec<String> = word.chars().map(String::from).collect();
                letters.join(" ")
            });
            spelled.collect::<Vec<_>>().join(&format!(" {SPACE} "))
        }
    }
}
