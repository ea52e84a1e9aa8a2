//! Modified Kneser-Ney smoothing, interpolated.
//!
//! With `a(h w)` the adjusted counts, `D(a)` the discount of a count, and `h'` the context h without its first word,
//!
//! ```text
//! p(w | h) = (a(h w) - D(a(h w))) / a(h .)  +  g(h) p(w | h')        p(w | nothing) falls back to 1 / V
//! g(h)     = (D1 n1(h) + D2 n2(h) + D3 n3+(h) + counts left out after h) / a(h .)
//! D_k      = k - (k + 1) t_{k+1} / t_k  t_1 / (t_1 + 2 t_2)
//! ```
//!
//! with `t_k` the n-grams of the order that have adjusted count k, `n_k(h)` those that continue h, and `g(h)` the
//! back-off weight of h. (S. Chen and J. Goodman, "An Empirical Study of Smoothing Techniques for Language
//! Modeling", 1998.) What pruning leaves out counts towards the back-off weight, so that each context
//! still sums up to one.

use super::counts::{BEGIN, Count, END, Gram, UNKNOWN};
use crate::error::{Error, Result};
use std::io::Write;

/// Discounts where the text is too regular to derive them: it lacks n-grams of a small count.
const FALLBACK: [f64; 3] = [0.5, 1.0, 1.5];

/// What is taken off counts of 1, of 2, and of 3 and more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Discounts {
    /// The three discounts.
    pub amounts: [f64; 3],
    /// Whether they are derived from the text, not the fallback of 0.5, 1 and 1.5.
    pub derived: bool,
}

/// An n-gram of an estimated model.
#[derive(Debug, Clone, Copy)]
struct Weighted {
    gram: Gram,
    probability: f64,
    backoff: f64,
}

/// An estimated model.
#[derive(Debug)]
pub struct Estimate {
    words: Vec<String>,
    /// The n-grams of each order, sorted last word first.
    orders: Vec<Vec<Weighted>>,
    reports: Vec<OrderReport>,
    sentences: u64,
    tokens: u64,
}

/// What became of the n-grams of one order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OrderReport {
    /// n-grams in the model.
    pub kept: usize,
    /// n-grams that pruning left out.
    pub pruned: usize,
    /// Their discounts.
    pub discounts: Discounts,
}

impl Estimate {
    pub(super) fn new(
        words: Vec<String>,
        orders: Vec<Vec<Count>>,
        thresholds: &[u64],
        sentences: u64,
        tokens: u64,
    ) -> Self {
        let mut estimate = Self {
            orders: Vec::with_capacity(orders.len()),
            reports: Vec::with_capacity(orders.len()),
            words,
            sentences,
            tokens,
        };
        for (n, (counts, &threshold)) in (1..).zip(orders.iter().zip(thresholds)) {
            estimate.add(n, counts, threshold);
        }
        estimate
    }

    /// Adds the n-grams of order `n`, and the back-off weights of the order below.
    fn add(&mut self, n: usize, counts: &[Count], threshold: u64) {
        let discounts = discounts(counts);
        let is_kept = |count: &Count| {
            let special = n == 1 && count.gram[0] <= END;
            special || count.occurrences > threshold
        };
        let mut weighted: Vec<Weighted> = (counts.iter().filter(|count| is_kept(count)))
            .map(|count| Weighted {
                gram: count.gram,
                probability: 0.0,
                backoff: 1.0,
            })
            .collect();
        // Where each n-gram went, so that contexts, which are sorted another way, can find theirs.
        let mut places = Vec::with_capacity(counts.len());
        let mut next = 0;
        for count in counts {
            places.push(is_kept(count).then_some(next));
            next += usize::from(is_kept(count));
        }
        let mut by_context: Vec<usize> = (0..counts.len()).collect();
        by_context.sort_by_key(|&at| context(&counts[at].gram, n));
        // Contexts now come in the order of the table below, where they are n-grams themselves.
        let mut below = 0;
        for same in
            by_context.chunk_by(|&a, &b| context(&counts[a].gram, n) == context(&counts[b].gram, n))
        {
            let (mut total, mut left_over) = (0.0, 0.0);
            for &at in same {
                let adjusted = counts[at].adjusted as f64;
                total += adjusted;
                left_over += match places[at] {
                    Some(_) => discounts.of(counts[at].adjusted),
                    None => adjusted,
                };
            }
            let backoff = left_over / total;
            for &at in same {
                if let Some(place) = places[at] {
                    let adjusted = counts[at].adjusted;
                    let own = (adjusted as f64 - discounts.of(adjusted)) / total;
                    // The share of the lower order is added below, when its probabilities are at hand.
                    (weighted[place].probability, weighted[place].backoff) = (own, backoff);
                }
            }
            if let Some(lower) = self.orders.last_mut() {
                let context = context(&counts[same[0]].gram, n);
                while below < lower.len() && lower[below].gram < context {
                    below += 1;
                }
                if let Some(entry) = lower.get_mut(below).filter(|e| e.gram == context) {
                    entry.backoff = backoff;
                }
            }
        }
        self.interpolate(n, &mut weighted, counts.len());
        self.reports.push(OrderReport {
            kept: weighted.len(),
            pruned: counts.len() - weighted.len(),
            discounts,
        });
        self.orders.push(weighted);
    }

    /// Adds the lower order's share to each probability, and clears the back-off weights for the next order.
    fn interpolate(&self, n: usize, weighted: &mut [Weighted], unigrams: usize) {
        let lower = self.orders.last().map(Vec::as_slice).unwrap_or_default();
        let mut below = 0;
        for entry in weighted {
            let share = match n {
                // `<s>` is never predicted.
                1 => 1.0 / (unigrams - 1) as f64,
                _ => {
                    let mut suffix = entry.gram;
                    suffix[n - 1] = 0;
                    while below + 1 < lower.len() && lower[below].gram < suffix {
                        below += 1;
                    }
                    lower[below].probability
                }
            };
            entry.probability += std::mem::replace(&mut entry.backoff, 1.0) * share;
            if n == 1 && entry.gram[0] == BEGIN {
                entry.probability = 1.0;
            }
        }
    }

    /// Sentences counted.
    pub fn sentences(&self) -> u64 {
        self.sentences
    }

    /// Words counted, the ends of sentences among them.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// What became of the n-grams, by order from 1.
    pub fn reports(&self) -> &[OrderReport] {
        &self.reports
    }

    /// Writes the model in ARPA format: base-10 logarithms, f32, as few digits as tell them apart.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) if `out` cannot be written.
    pub fn write(&self, out: &mut impl Write) -> Result<()> {
        self.write_arpa(out)
            .map_err(|error| Error::new(crate::ErrorKind::Io, error.to_string()).with_source(error))
    }

    fn write_arpa(&self, out: &mut impl Write) -> std::io::Result<()> {
        writeln!(out, "\\data\\")?;
        for (n, order) in (1..).zip(&self.orders) {
            writeln!(out, "ngram {n}={}", order.len())?;
        }
        for (n, order) in (1..).zip(&self.orders) {
            writeln!(out, "\n\\{n}-grams:")?;
            for entry in order {
                // Adding 0 turns -0 into 0. Where seen words take all of a context's mass, its back-off is none at all,
                // for which ARPA files have -99.
                let logarithm = |value: f64| value.max(1e-99).log10() as f32 + 0.0;
                write!(out, "{}\t", logarithm(entry.probability.min(1.0)))?;
                for (at, &word) in entry.gram[..n].iter().rev().enumerate() {
                    let space = if at == 0 { "" } else { " " };
                    write!(out, "{space}{}", self.words[word as usize])?;
                }
                if n < self.orders.len() {
                    write!(out, "\t{}", logarithm(entry.backoff))?;
                }
                writeln!(out)?;
            }
        }
        writeln!(out, "\n\\end\\")?;
        out.flush()
    }
}

/// An n-gram without its last word.
fn context(gram: &Gram, n: usize) -> Gram {
    let mut context = *gram;
    context.copy_within(1..n, 0);
    context[n - 1] = 0;
    context
}

impl Discounts {
    /// What is taken off a count.
    fn of(&self, count: u64) -> f64 {
        match count {
            0 => 0.0,
            1 | 2 => self.amounts[count as usize - 1],
            _ => self.amounts[2],
        }
    }
}

/// The discounts of an order: pruned or not, all its n-grams tell how many are rare.
fn discounts(counts: &[Count]) -> Discounts {
    let mut of_count = [0u64; 5];
    for count in counts {
        if let Some(of_count) = of_count.get_mut(count.adjusted as usize) {
            *of_count += 1;
        }
    }
    let t = of_count.map(|n| n as f64);
    let y = t[1] / (t[1] + 2.0 * t[2]);
    let amounts = [1usize, 2, 3].map(|k| k as f64 - (k + 1) as f64 * y * t[k + 1] / t[k]);
    let in_range = |(k, amount): (usize, &f64)| (0.0..=(k + 1) as f64).contains(amount);
    match amounts.iter().enumerate().all(in_range) {
        true => Discounts {
            amounts,
            derived: true,
        },
        false => Discounts {
            amounts: FALLBACK,
            derived: false,
        },
    }
}

/// The names of the specials are the first words; a model without them could not be read.
const _: () = assert!(UNKNOWN < BEGIN && BEGIN < END);
