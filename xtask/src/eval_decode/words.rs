//! Words: the vocabulary of a model, how far their confidences can be trusted, how well their times are found.

use super::measures::Reading;
use super::{Place, Set};
use crate::bench::last_line;
use crate::peers::interpreter;
use crate::process::{self, root};
use crate::table::Row;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::process::Command;

/// Equal steps of confidence in which words are counted.
const BINS: usize = 10;

/// The words of an ARPA file that letters a to z and apostrophes can spell, the most frequent first.
pub fn vocabulary(arpa: &str) -> Vec<String> {
    let unigrams = arpa
        .lines()
        .skip_while(|line| *line != "\\1-grams:")
        .skip(1);
    let mut words: Vec<(f64, &str)> = unigrams
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            let mut fields = line.split('\t');
            let probability = fields.next()?.parse().ok()?;
            let word = fields.next()?;
            let spelled = word.bytes().all(|b| b.is_ascii_lowercase() || b == b'\'');
            (spelled && !word.is_empty()).then_some((probability, word))
        })
        .collect();
    words.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    words.into_iter().map(|(_, word)| word.to_owned()).collect()
}

/// How often words are right that a decoder is so sure of.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// By step: words, their mean confidence, the part that is right.
    pub bins: Vec<(usize, f64, f64)>,
    /// The mean over all words of the difference between the two, in percent (expected calibration error).
    pub error: f64,
}

/// The calibration of one way of decoding.
pub fn calibration(readings: &[Reading], decoding: &str) -> Calibration {
    let mut sums = [(0usize, 0.0f64, 0usize); BINS];
    let own = readings
        .iter()
        .filter(|reading| reading.decoding == decoding);
    for word in own.flat_map(|reading| &reading.words) {
        let bin = ((word.confidence * BINS as f64) as usize).min(BINS - 1);
        sums[bin].0 += 1;
        sums[bin].1 += word.confidence;
        sums[bin].2 += usize::from(word.matches.is_some());
    }
    let all: usize = sums.iter().map(|sum| sum.0).sum();
    let bins: Vec<(usize, f64, f64)> = (sums.into_iter().filter(|sum| sum.0 > 0))
        .map(|(n, confidence, right)| (n, confidence / n as f64, right as f64 / n as f64))
        .collect();
    let error: f64 = bins
        .iter()
        .map(|(n, sure, right)| *n as f64 * (sure - right).abs())
        .sum();
    Calibration {
        bins,
        error: 100.0 * error / all.max(1) as f64,
    }
}

/// How far word boundaries are from those of a forced aligner.
pub enum Boundaries {
    /// For each way of decoding: words compared, and the errors of starts and of ends in milliseconds.
    Compared(Vec<(&'static str, Vec<f64>, Vec<f64>)>),
    /// The aligner could not be run.
    Missing(String),
}

/// A recording as the aligner has it.
#[derive(Debug, Deserialize)]
struct Aligned {
    path: String,
    words: Vec<Span>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Span {
    start: f64,
    end: f64,
}

/// Compares the words that are right with a forced alignment of the references.
pub fn boundaries(
    place: &Place,
    set: &Set,
    greedy: Vec<Reading>,
    beam: Vec<Reading>,
) -> Result<Boundaries> {
    let script = root().join("xtask").join("peers").join("align.py");
    let mut command = Command::new(interpreter());
    let printed = process::output(command.arg(script).arg(place.manifest(set.name)));
    let text = match printed {
        Ok(text) => text,
        Err(error) => return Ok(Boundaries::Missing(last_line(&error))),
    };
    let rows = text.lines().map(|line| {
        let row: Aligned =
            serde_json::from_str(line).with_context(|| format!("align.py printed {line:?}"))?;
        Ok((row.path, row.words))
    });
    let truth: BTreeMap<String, Vec<Span>> = rows.collect::<Result<_>>()?;
    let compare = |readings: &[Reading]| {
        let (mut starts, mut ends) = (Vec::new(), Vec::new());
        for reading in readings {
            let Some(spans) = truth.get(&reading.path) else {
                continue;
            };
            for word in &reading.words {
                if let Some(span) = word.matches.and_then(|at| spans.get(at)) {
                    starts.push(1e3 * (word.start - span.start));
                    ends.push(1e3 * (word.end - span.end));
                }
            }
        }
        (starts, ends)
    };
    let ways = [("greedy", &greedy), ("beam", &beam)];
    let compared = ways.into_iter().map(|(name, readings)| {
        let (starts, ends) = compare(readings);
        (name, starts, ends)
    });
    Ok(Boundaries::Compared(compared.collect()))
}

impl Boundaries {
    pub fn rows(&self, set: &str) -> Vec<Row> {
        let mut rows = Vec::new();
        match self {
            Self::Missing(reason) => {
                let note = format!(
                    "the forced aligner could not be run ({reason}); `cargo xtask setup --peers pocketsphinx` installs it"
                );
                rows.push(Row::missing(format!("{set}: word times"), None, "ms", note));
            }
            Self::Compared(ways) => {
                for (name, starts, ends) in ways {
                    let count = starts.len() as f64;
                    rows.push(Row::report(
                        format!("{set}, {name}: words with times compared"),
                        count,
                        "words",
                    ));
                    for (which, errors) in [("start", starts), ("end", ends)] {
                        let work = |what: &str| format!("{set}, {name}: word {which}, {what}");
                        let absolute: Vec<f64> = errors.iter().map(|error| error.abs()).collect();
                        rows.push(Row::report(
                            work("median error"),
                            quantile(&absolute, 0.5),
                            "ms",
                        ));
                        rows.push(Row::report(
                            work("90 % of errors are below"),
                            quantile(&absolute, 0.9),
                            "ms",
                        ));
                        rows.push(Row::report(
                            work("median shift"),
                            quantile(errors, 0.5),
                            "ms",
                        ));
                    }
                }
            }
        }
        rows
    }
}

/// The value below which a part of all values lies; 0 of none.
fn quantile(values: &[f64], part: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let at = (part * values.len() as f64) as usize;
    values
        .get(at.min(values.len().saturating_sub(1)))
        .copied()
        .unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::super::measures::{Word, reading};
    use super::*;

    #[test]
    fn vocabularies_are_sorted_by_frequency() {
        let arpa = "\\data\\\nngram 1=5\n\n\\1-grams:\n-2\t<unk>\t0\n-3\tdon't\t0\n-1\tthe\t-1\n-1.5\tCaf\u{e9}\n-2\tab\n\n\\2-grams:\n-1\tx y\n";
        assert_eq!(vocabulary(arpa), ["the", "ab", "don't"]);
    }

    #[test]
    fn calibration_counts_right_words_by_confidence() {
        let word = |confidence, matches| Word {
            start: 0.0,
            end: 0.0,
            confidence,
            matches,
        };
        let mut one = reading("a", 0.0, "a b c d", 0.0);
        one.words = vec![
            word(0.95, Some(0)),
            word(0.95, Some(1)),
            word(0.35, None),
            word(1.0, None),
        ];
        let found = calibration(&[one.clone()], "d");
        assert_eq!(found.bins.len(), 2);
        let (n, sure, right) = found.bins[1];
        assert!(n == 3 && (sure - 2.9 / 3.0).abs() < 1e-9 && (right - 2.0 / 3.0).abs() < 1e-9);
        assert!(
            (found.error - 100.0 * (0.35 + 0.9) / 4.0).abs() < 1e-9,
            "{}",
            found.error
        );
        assert_eq!(calibration(&[one], "other").error, 0.0);
    }

    #[test]
    fn quantiles_are_values() {
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(quantile(&[1.0], 0.9), 1.0);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
