//! Word and character error rates with their counts, alignments, and percentiles of latencies.
//!
//! The edit distance of Levenshtein: the fewest substitutions S, deletions D and insertions I that turn the
//! reference (N items) into the hypothesis; the error rate is `(S + D + I) / N`. Alignments with equally few
//! edits may divide them differently; of those the one with the fewest deletions and insertions counts, which
//! makes the three numbers unique. Texts are compared in Unicode normalization form C, so that a composed and
//! a decomposed accent are the same letter. Case and punctuation are compared as they are.

use crate::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::iter::Sum;
use std::ops::{Add, AddAssign};
use unicode_normalization::UnicodeNormalization;

/// Most cells of the table behind [`align`]: 64 MiB.
const MAX_CELLS: usize = 1 << 26;

/// What it takes to turn a reference into a hypothesis; counts of several utterances add up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorCounts {
    /// Items of the reference that became another item.
    pub substitutions: usize,
    /// Items of the reference that are missing in the hypothesis.
    pub deletions: usize,
    /// Items of the hypothesis that the reference does not have.
    pub insertions: usize,
    /// Items of the reference.
    pub reference: usize,
}

impl ErrorCounts {
    /// All edits: S + D + I.
    pub fn edits(&self) -> usize {
        self.substitutions + self.deletions + self.insertions
    }

    /// Edits per item of the reference: 0 is perfect, and insertions can take it above 1. An empty reference
    /// counts as one item, so that the rate is always a number.
    pub fn rate(&self) -> f64 {
        self.edits() as f64 / self.reference.max(1) as f64
    }
}

impl Add for ErrorCounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            substitutions: self.substitutions + other.substitutions,
            deletions: self.deletions + other.deletions,
            insertions: self.insertions + other.insertions,
            reference: self.reference + other.reference,
        }
    }
}

impl AddAssign for ErrorCounts {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for ErrorCounts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), Add::add)
    }
}

/// One step of an alignment; the numbers are positions in the two sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Edit {
    /// The same item on both sides.
    Match {
        /// Position in the reference.
        reference: usize,
        /// Position in the hypothesis.
        hypothesis: usize,
    },
    /// One item for another.
    Substitution {
        /// Position in the reference.
        reference: usize,
        /// Position in the hypothesis.
        hypothesis: usize,
    },
    /// An item that only the reference has.
    Deletion {
        /// Position in the reference.
        reference: usize,
    },
    /// An item that only the hypothesis has.
    Insertion {
        /// Position in the hypothesis.
        hypothesis: usize,
    },
}

/// Errors of `hypothesis` in words, which are what stands between white space.
pub fn word_errors(reference: &str, hypothesis: &str) -> ErrorCounts {
    let (reference, hypothesis) = (normalized(reference), normalized(hypothesis));
    let reference: Vec<&str> = reference.split_whitespace().collect();
    let hypothesis: Vec<&str> = hypothesis.split_whitespace().collect();
    edit_counts(&reference, &hypothesis)
}

/// Errors of `hypothesis` in characters: Unicode scalar values, white space between words counting as one.
pub fn char_errors(reference: &str, hypothesis: &str) -> ErrorCounts {
    let characters = |text| normalized(text).chars().collect::<Vec<_>>();
    edit_counts(&characters(reference), &characters(hypothesis))
}

/// Form C, with single spaces between words and none around them.
fn normalized(text: &str) -> String {
    let text: String = text.nfc().collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Errors of `hypothesis` in items of any kind.
///
/// Time is the product of the lengths, after what both have in common at their ends; memory is that of the
/// shorter one.
pub fn edit_counts<T: PartialEq>(reference: &[T], hypothesis: &[T]) -> ErrorCounts {
    let (inner_reference, inner_hypothesis) = without_common_ends(reference, hypothesis);
    // Edits and indels are symmetric, so the shorter sequence may lie along the row whichever it is.
    let (short, long) = match inner_reference.len() <= inner_hypothesis.len() {
        true => (inner_reference, inner_hypothesis),
        false => (inner_hypothesis, inner_reference),
    };
    let mut row: Vec<Cost> = (0..=short.len()).map(Cost::indels).collect();
    for (i, a) in long.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], Cost::indels(i + 1));
        for (j, b) in short.iter().enumerate() {
            let best = diagonal.aligned(a == b).min(row[j].min(row[j + 1]).indel());
            diagonal = std::mem::replace(&mut row[j + 1], best);
        }
    }
    let Cost { edits, indels } = row[short.len()];
    // D + I is known, and D - I is the difference of the lengths.
    let deletions = (indels + reference.len()).saturating_sub(hypothesis.len()) / 2;
    ErrorCounts {
        substitutions: edits - indels,
        deletions,
        insertions: indels - deletions,
        reference: reference.len(),
    }
}

/// The alignment behind [`edit_counts`], from left to right; of equally good ones, items are aligned with one
/// another as late as possible.
///
/// # Errors
/// [`ErrorKind::Limit`] when the product of the lengths exceeds 2^26: such texts are counted, not shown.
pub fn align<T: PartialEq>(reference: &[T], hypothesis: &[T]) -> Result<Vec<Edit>> {
    let width = hypothesis.len() + 1;
    let cells = width
        .checked_mul(reference.len() + 1)
        .filter(|&cells| cells <= MAX_CELLS)
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Limit,
                format!(
                    "sequences of {} and {} items are too long to align: split them into utterances",
                    reference.len(),
                    hypothesis.len()
                ),
            )
        })?;
    // Which neighbor each cell came from; the first row and column have only one.
    let mut steps = vec![Step::Insert; cells];
    let mut row: Vec<Cost> = (0..width).map(Cost::indels).collect();
    for (i, a) in reference.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], Cost::indels(i + 1));
        let line = &mut steps[(i + 1) * width..][..width];
        line[0] = Step::Delete;
        for (j, b) in hypothesis.iter().enumerate() {
            let (aligned, delete, insert) =
                (diagonal.aligned(a == b), row[j + 1].indel(), row[j].indel());
            let best = aligned.min(delete).min(insert);
            line[j + 1] = if best == aligned {
                Step::Align
            } else if best == delete {
                Step::Delete
            } else {
                Step::Insert
            };
            diagonal = std::mem::replace(&mut row[j + 1], best);
        }
    }

    let (mut i, mut j) = (reference.len(), hypothesis.len());
    let mut edits = Vec::with_capacity(i.max(j));
    while i > 0 || j > 0 {
        let step = steps[i * width + j];
        i -= usize::from(step != Step::Insert);
        j -= usize::from(step != Step::Delete);
        edits.push(match step {
            Step::Align if reference[i] == hypothesis[j] => Edit::Match {
                reference: i,
                hypothesis: j,
            },
            Step::Align => Edit::Substitution {
                reference: i,
                hypothesis: j,
            },
            Step::Delete => Edit::Deletion { reference: i },
            Step::Insert => Edit::Insertion { hypothesis: j },
        });
    }
    edits.reverse();
    Ok(edits)
}

/// The smallest of `values` that at least `percent` percent of them do not exceed (the nearest rank): 50 is the
/// median, 0 the minimum, 100 the maximum. None without values, or when `percent` is not from 0 to 100.
pub fn percentile(values: &[f64], percent: f64) -> Option<f64> {
    if !(0.0..=100.0).contains(&percent) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// The cheapest way to a cell; fewer edits first, then fewer indels (deletions and insertions).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    edits: usize,
    indels: usize,
}

impl Cost {
    fn indels(count: usize) -> Self {
        Self {
            edits: count,
            indels: count,
        }
    }

    fn indel(self) -> Self {
        Self {
            edits: self.edits + 1,
            indels: self.indels + 1,
        }
    }

    fn aligned(self, equal: bool) -> Self {
        Self {
            edits: self.edits + usize::from(!equal),
            ..self
        }
    }
}

/// How an alignment reaches a cell.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    Align,
    Delete,
    Insert,
}

/// What is left when equal items at both ends are taken off: aligning those with each other is never worse.
fn without_common_ends<'a, T: PartialEq>(a: &'a [T], b: &'a [T]) -> (&'a [T], &'a [T]) {
    let start = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[start..], &b[start..]);
    let end = a
        .iter()
        .rev()
        .zip(b.iter().rev())
        .take_while(|(x, y)| x == y)
        .count();
    (&a[..a.len() - end], &b[..b.len() - end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(
        substitutions: usize,
        deletions: usize,
        insertions: usize,
        reference: usize,
    ) -> ErrorCounts {
        ErrorCounts {
            substitutions,
            deletions,
            insertions,
            reference,
        }
    }

    #[test]
    fn counts_words() {
        let cases = [
            ("", "", counts(0, 0, 0, 0)),
            ("", "a b", counts(0, 0, 2, 0)),
            ("a b", "", counts(0, 2, 0, 2)),
            (
                "turn the lights on",
                "turn the lights on",
                counts(0, 0, 0, 4),
            ),
            ("turn the lights on", "turn lights on", counts(0, 1, 0, 4)),
            (
                "turn the lights on",
                "turn the the lights off",
                counts(1, 0, 1, 4),
            ),
            // Two substitutions, not a deletion and an insertion around the common word.
            ("a b", "b c", counts(2, 0, 0, 2)),
            ("  a\tb\n", "a b", counts(0, 0, 0, 2)),
            ("caf\u{e9}", "cafe\u{301}", counts(0, 0, 0, 1)),
        ];
        for (reference, hypothesis, expected) in cases {
            assert_eq!(
                word_errors(reference, hypothesis),
                expected,
                "{reference:?} {hypothesis:?}"
            );
        }
    }

    #[test]
    fn counts_characters() {
        let cases = [
            ("kitten", "sitting", counts(2, 0, 1, 6)),
            ("a  b", " a b ", counts(0, 0, 0, 3)),
            ("ab", "a b", counts(0, 0, 1, 2)),
            ("\u{e9}", "e\u{301}", counts(0, 0, 0, 1)),
            ("日本語", "日本", counts(0, 1, 0, 3)),
        ];
        for (reference, hypothesis, expected) in cases {
            assert_eq!(
                char_errors(reference, hypothesis),
                expected,
                "{reference:?} {hypothesis:?}"
            );
        }
    }

    #[test]
    fn sums_and_rates() {
        let total: ErrorCounts = [counts(1, 2, 3, 10), counts(0, 1, 0, 2)].into_iter().sum();
        assert_eq!(total, counts(1, 3, 3, 12));
        assert_eq!(total.rate(), 7.0 / 12.0);
        assert_eq!(counts(0, 0, 0, 0).rate(), 0.0);
        assert_eq!(counts(0, 0, 3, 0).rate(), 3.0);
        let mut running = counts(1, 0, 0, 1);
        running += counts(0, 1, 0, 2);
        assert_eq!(running, counts(1, 1, 0, 3));
    }

    #[test]
    fn alignments_read_from_left_to_right() {
        let reference = ["turn", "the", "lights", "on", "in", "here"];
        let hypothesis = ["turn", "lights", "on", "in", "there", "please"];
        assert_eq!(
            align(&reference, &hypothesis).unwrap(),
            [
                Edit::Match {
                    reference: 0,
                    hypothesis: 0
                },
                Edit::Deletion { reference: 1 },
                Edit::Match {
                    reference: 2,
                    hypothesis: 1
                },
                Edit::Match {
                    reference: 3,
                    hypothesis: 2
                },
                Edit::Match {
                    reference: 4,
                    hypothesis: 3
                },
                Edit::Insertion { hypothesis: 4 },
                Edit::Substitution {
                    reference: 5,
                    hypothesis: 5
                },
            ]
        );
        let long = vec![0u8; 10_000];
        assert_eq!(align(&long, &long).unwrap_err().kind(), ErrorKind::Limit);
        assert_eq!(edit_counts(&long, &long).edits(), 0);
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        for (percent, expected) in [
            (0.0, 1.0),
            (20.0, 1.0),
            (50.0, 3.0),
            (95.0, 5.0),
            (100.0, 5.0),
        ] {
            assert_eq!(percentile(&values, percent), Some(expected), "{percent}");
        }
        for (values, percent) in [
            (&values[..0], 50.0),
            (&values, -1.0),
            (&values, 101.0),
            (&values, f64::NAN),
        ] {
            assert_eq!(percentile(values, percent), None);
        }
    }

    fn sequence() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0u8..3, 0..12)
    }

    /// The definition, by recursion over all alignments: fewest edits, then fewest indels.
    fn brute_force(a: &[u8], b: &[u8]) -> (usize, usize) {
        let step = |(edits, indels): (usize, usize), indel: usize, edit: usize| {
            (edits + edit, indels + indel)
        };
        match (a, b) {
            ([], rest) | (rest, []) => (rest.len(), rest.len()),
            ([x, a_rest @ ..], [y, b_rest @ ..]) => {
                step(brute_force(a_rest, b_rest), 0, usize::from(x != y))
                    .min(step(brute_force(a_rest, b), 1, 1))
                    .min(step(brute_force(a, b_rest), 1, 1))
            }
        }
    }

    proptest! {
        #[test]
        fn equals_the_definition(a in proptest::collection::vec(0u8..3, 0..7), b in proptest::collection::vec(0u8..3, 0..7)) {
            let found = edit_counts(&a, &b);
            prop_assert_eq!((found.edits(), found.deletions + found.insertions), brute_force(&a, &b));
        }

        #[test]
        fn counts_are_consistent(a in sequence(), b in sequence()) {
            let found = edit_counts(&a, &b);
            prop_assert_eq!(found.reference, a.len());
            prop_assert!(found.substitutions + found.deletions <= a.len());
            prop_assert_eq!(a.len() - found.deletions + found.insertions, b.len());
        }

        #[test]
        fn is_a_metric(a in sequence(), b in sequence(), c in sequence()) {
            let distance = |x: &[u8], y: &[u8]| edit_counts(x, y).edits();
            prop_assert_eq!(distance(&a, &a), 0);
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert!(distance(&a, &c) <= distance(&a, &b) + distance(&b, &c));
        }

        #[test]
        fn an_alignment_has_the_counts_and_every_item_once(a in sequence(), b in sequence()) {
            let (mut found, mut i, mut j) = (counts(0, 0, 0, a.len()), 0, 0);
            for edit in align(&a, &b).unwrap() {
                let (reference, hypothesis) = match edit {
                    Edit::Match { reference, hypothesis } => {
                        prop_assert_eq!(a[reference], b[hypothesis]);
                        (Some(reference), Some(hypothesis))
                    }
                    Edit::Substitution { reference, hypothesis } => {
                        prop_assert_ne!(a[reference], b[hypothesis]);
                        found.substitutions += 1;
                        (Some(reference), Some(hypothesis))
                    }
                    Edit::Deletion { reference } => {
                        found.deletions += 1;
                        (Some(reference), None)
                    }
                    Edit::Insertion { hypothesis } => {
                        found.insertions += 1;
                        (None, Some(hypothesis))
                    }
                };
                prop_assert!(reference.is_none_or(|at| at == i) && hypothesis.is_none_or(|at| at == j));
                i += usize::from(reference.is_some());
                j += usize::from(hypothesis.is_some());
            }
            prop_assert_eq!((i, j), (a.len(), b.len()));
            prop_assert_eq!(found, edit_counts(&a, &b));
        }

        #[test]
        fn any_text_is_compared(a in any::<String>(), b in any::<String>()) {
            prop_assert_eq!(word_errors(&a, &a).edits() + char_errors(&a, &a).edits(), 0);
            prop_assert!(char_errors(&a, &b).rate().is_finite());
            prop_assert!(word_errors(&a, &b).rate().is_finite());
        }
    }
}
