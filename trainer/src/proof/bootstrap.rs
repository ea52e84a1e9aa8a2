//! Arms against one another on the same speakers.

use super::record::Speaker;
use acolyte::bootstrap::{Interval, Tally, difference_interval, rate, rate_interval};
use serde::Serialize;
use std::collections::BTreeMap;

/// Rate and difference of two arms on the same speakers, in percent and points.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Paired {
    /// First less second, in points.
    pub difference: f64,
    /// The difference over the first's rate, in percent.
    pub relative: f64,
    /// Of the difference, in points, by bootstrap over speakers.
    pub ci95: Interval,
    /// Speakers that both were tested on.
    pub speakers: usize,
}

/// Errors by speaker over all seeds and folds of an arm.
pub type BySpeaker = BTreeMap<String, Speaker>;

fn tally(speaker: &Speaker) -> Tally {
    [speaker.word_errors, speaker.words]
}

/// Word errors over words, in percent.
pub fn word_rate(speakers: &BySpeaker) -> f64 {
    rate(speakers.values().map(tally))
}

/// The interval of an arm's word error rate.
pub fn spread(speakers: &BySpeaker) -> Interval {
    let own: Vec<Tally> = speakers.values().map(tally).collect();
    rate_interval(&own)
}

/// The paired difference of two arms on the speakers that both were tested on; None where there is none.
pub fn paired(first: &BySpeaker, second: &BySpeaker) -> Option<Paired> {
    let pairs: Vec<(Tally, Tally)> = first
        .iter()
        .filter_map(|(name, own)| Some((tally(own), tally(second.get(name)?))))
        .collect();
    if pairs.is_empty() {
        return None;
    }
    let base = rate(pairs.iter().map(|pair| pair.0));
    let difference = base - rate(pairs.iter().map(|pair| pair.1));
    Some(Paired {
        difference,
        relative: if base > 0.0 {
            100.0 * difference / base
        } else {
            0.0
        },
        ci95: difference_interval(&pairs),
        speakers: pairs.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speakers_are_paired_by_name() {
        let arm = |errors: [usize; 3], names: [&str; 3]| -> BySpeaker {
            let own = |word_errors| Speaker {
                word_errors,
                words: 100,
                char_errors: 0,
                chars: 400,
            };
            let pairs = names.iter().zip(errors);
            pairs
                .map(|(name, e)| ((*name).to_owned(), own(e)))
                .collect()
        };
        let first = arm([20, 30, 99], ["a", "b", "c"]);
        let second = arm([28, 18, 0], ["b", "a", "d"]);
        let found = paired(&first, &second).unwrap();
        assert_eq!(found.speakers, 2);
        assert!((found.difference - 2.0).abs() < 1e-9);
        assert!((found.relative - 8.0).abs() < 1e-9);
        assert!((found.ci95.low - 2.0).abs() < 1e-9);
        assert_eq!(paired(&first, &BySpeaker::new()), None);
    }
}
