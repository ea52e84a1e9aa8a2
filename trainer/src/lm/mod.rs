//! n-gram language models from text, for decoders: counts, modified Kneser-Ney smoothing, ARPA files, perplexity.
//!
//! ```
//! use acolyte_trainer::lm::{Counter, LmConfig, Unit};
//!
//! let mut counter = Counter::new(&LmConfig::default().with_order(2))?;
//! for sentence in ["the cat sat", "the cat ran", "a dog sat"] {
//!     counter.add(sentence)?;
//! }
//! let estimate = counter.estimate()?;
//! let mut arpa = Vec::new();
//! estimate.write(&mut arpa)?;
//! let model = acolyte::decode::NgramModel::read(&arpa[..])?;
//! assert_eq!(model.order(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Everything is a function of the text and its order: the same text gives the same bytes. Numbers are those of
//! KenLM's `lmplz` (K. Heafield et al., "Scalable Modified Kneser-Ney Language Model Estimation", 2013), held
//! against files it made.

mod corpus;
mod counts;
mod kneser_ney;
mod perplexity;

pub use corpus::{Corpus, Form};
pub use counts::Counter;
pub use kneser_ney::{Discounts, Estimate, OrderReport};
pub use perplexity::{Perplexity, perplexity};

use crate::error::{Error, ErrorKind, Result};
use acolyte::decode::MAX_ORDER;

/// What a model is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Unit {
    /// Words, as white space parts them.
    #[default]
    Words,
    /// Characters; the space between words is `<space>`.
    Characters,
}

/// How a model is estimated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LmConfig {
    /// The longest n-gram, from 1 to [`MAX_ORDER`].
    pub order: usize,
    /// What it is made of.
    pub unit: Unit,
    /// n-grams that occur at most this often are left out, by order from 1; the last value holds for all
    /// longer ones, and no value may be smaller than the one before. Empty leaves out none.
    pub prune: Vec<u64>,
}

impl Default for LmConfig {
    fn default() -> Self {
        Self {
            order: 3,
            unit: Unit::Words,
            prune: Vec::new(),
        }
    }
}

impl LmConfig {
    /// The same with another order.
    #[must_use]
    pub fn with_order(mut self, order: usize) -> Self {
        self.order = order;
        self
    }

    /// The same of another unit.
    #[must_use]
    pub fn with_unit(mut self, unit: Unit) -> Self {
        self.unit = unit;
        self
    }

    /// The same with pruning.
    #[must_use]
    pub fn with_prune(mut self, thresholds: impl Into<Vec<u64>>) -> Self {
        self.prune = thresholds.into();
        self
    }

    /// The threshold of each order.
    ///
    /// Fails with [`ErrorKind::Argument`] on an order out of range and on thresholds that are too many or fall.
    fn thresholds(&self) -> Result<Vec<u64>> {
        let refuse = |message: String| Err(Error::new(ErrorKind::Argument, message));
        if !(1..=MAX_ORDER).contains(&self.order) {
            return refuse(format!(
                "order {} is out of range: models of order 1 to {MAX_ORDER} can be read",
                self.order
            ));
        }
        if self.prune.len() > self.order {
            return refuse(format!(
                "{} pruning thresholds for a model of order {}: give one an order at most",
                self.prune.len(),
                self.order
            ));
        }
        if self.prune.windows(2).any(|pair| pair[1] < pair[0]) {
            return refuse(
                "pruning thresholds fall: an n-gram cannot stay when its beginning goes, so no threshold may be \
                 smaller than the one before"
                    .into(),
            );
        }
        let last = self.prune.last().copied().unwrap_or(0);
        let mut thresholds = self.prune.clone();
        thresholds.resize(self.order, last);
        Ok(thresholds)
    }
}

#[cfg(test)]
mod tests;
