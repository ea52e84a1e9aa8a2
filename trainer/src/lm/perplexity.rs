//! How well a model foretells a text.

use super::Unit;
use super::counts::units;
use acolyte::decode::NgramModel;

/// How well a model foretells a text.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Perplexity {
    /// Sum of the natural logarithms of the probabilities of the words the model knows, ends of sentences too.
    pub log_prob: f64,
    /// How many those are.
    pub known: u64,
    /// Words the model does not know; they are left out, as is usual.
    pub unknown: u64,
}

impl Perplexity {
    /// The perplexity: how many equally probable words there might be in each place. 1 for no text.
    pub fn value(&self) -> f64 {
        match self.known {
            0 => 1.0,
            known => (-self.log_prob / known as f64).exp(),
        }
    }

    /// Adds a sentence.
    pub fn add(&mut self, model: &NgramModel, unit: Unit, sentence: &str) {
        let mut state = model.start();
        let units = units(unit, sentence);
        if units.is_empty() {
            return;
        }
        for word in units.split(' ').chain(["</s>"]) {
            let word = model.word(word);
            let (log_prob, next) = model.score(state, word);
            state = next;
            match word {
                Some(_) => {
                    self.log_prob += f64::from(log_prob);
                    self.known += 1;
                }
                None => self.unknown += 1,
            }
        }
    }
}

/// The perplexity of sentences under a model.
pub fn perplexity<S: AsRef<str>>(
    model: &NgramModel,
    unit: Unit,
    sentences: impl IntoIterator<Item = S>,
) -> Perplexity {
    let mut perplexity = Perplexity::default();
    for sentence in sentences {
        perplexity.add(model, unit, sentence.as_ref());
    }
    perplexity
}
