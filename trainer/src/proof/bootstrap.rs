//! Bootstrap over speakers: how much a difference of error rates owes to who was tested (Bisani and Ney, ICASSP 2004).

use super::record::Speaker;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use std::collections::BTreeMap;

/// Resamples.
const RESAMPLES: usize = 4000;

/// A 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// Rate and difference of two arms on the same speakers, in percent and points.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Paired {
    /// First less second, in points.
    pub difference: f64,
    /// The difference over the first's rate, in percent.
    pub relative: f64,
    /// Of the difference, in points.
    pub ci95: Interval,
    /// Speakers that both were tested on.
    pub speakers: usize,
}

/// Errors by speaker over all seeds and folds of an arm.
pub type BySpeaker = BTreeMap<String, Speaker>;

/// Word errors over words, in percent.
pub fn rate<'a>(speakers: impl Iterator<Item = &'a Speaker>) -> f64 {
    let (mut errors, mut words) = (0, 0);
    for speaker in speakers {
        errors += speaker.word_errors;
        words += speaker.words;
    }
    100.0 * errors as f64 / words.max(1) as f64
}

/// 95 % of the values of `figure` over resampled speakers.
fn interval(count: usize, figure: impl Fn(&[usize]) -> f64) -> Interval {
    let mut random = ChaCha8Rng::seed_from_u64(count as u64);
    let mut drawn = vec![0; count];
    let mut values: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            for index in &mut drawn {
                *index = random.random_range(0..count.max(1));
            }
            figure(&drawn)
        })
        .collect();
    values.sort_by(f64::total_cmp);
    let at = |part: f64| {
        let index = (part * (values.len() - 1) as f64).round() as usize;
        values[index.min(values.len() - 1)]
    };
    Interval {
        low: at(0.025),
        high: at(0.975),
    }
}

/// The interval of an arm's word error rate.
pub fn spread(speakers: &BySpeaker) -> Interval {
    let own: Vec<&Speaker> = speakers.values().collect();
    interval(own.len(), |drawn| {
        rate(drawn.iter().filter_map(|&index| own.get(index).copied()))
    })
}

/// The paired difference of two arms on the speakers that both were tested on; None where there is none.
pub fn paired(first: &BySpeaker, second: &BySpeaker) -> Option<Paired> {
    let pairs: Vec<(&Speaker, &Speaker)> = first
        .iter()
        .filter_map(|(name, own)| Some((own, second.get(name)?)))
        .collect();
    if pairs.is_empty() {
        return None;
    }
    let difference = |drawn: &mut dyn Iterator<Item = usize>| {
        let chosen: Vec<_> = drawn.filter_map(|index| pairs.get(index)).collect();
        rate(chosen.iter().map(|pair| pair.0)) - rate(chosen.iter().map(|pair| pair.1))
    };
    let whole = difference(&mut (0..pairs.len()));
    let base = rate(pairs.iter().map(|pair| pair.0));
    Some(Paired {
        difference: whole,
        relative: if base > 0.0 { 100.0 * whole / base } else { 0.0 },
        ci95: interval(pairs.len(), |drawn| {
            difference(&mut drawn.iter().copied())
        }),
        speakers: pairs.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(rates: impl Iterator<Item = usize>) -> BySpeaker {
        rates
            .enumerate()
            .map(|(index, word_errors)| {
                let own = Speaker {
                    word_errors,
                    words: 100,
                    char_errors: 0,
                    chars: 400,
                };
                (format!("s{index}"), own)
            })
            .collect()
    }

    #[test]
    fn a_steady_difference_is_clear_though_speakers_differ() {
        let worse = arm((0..40).map(|i| 10 + i));
        let better = arm((0..40).map(|i| 8 + i));
        let found = paired(&worse, &better).unwrap();
        assert!((found.difference - 2.0).abs() < 1e-9);
        assert!((found.relative - 100.0 * 2.0 / 29.5).abs() < 1e-9);
        assert_eq!((found.ci95.low, found.ci95.high), (2.0, 2.0));
        let own = spread(&worse);
        assert!(own.low < 27.0 && own.high > 32.0, "{own:?}");
    }

    #[test]
    fn noise_is_not_clear_and_strangers_are_not_compared() {
        let a = arm((0..30).map(|i| 20 + i * 7 % 11));
        let b = arm((0..30).map(|i| 20 + i * 5 % 11));
        let found = paired(&a, &b).unwrap();
        assert!(found.ci95.low < 0.0 && found.ci95.high > 0.0, "{found:?}");
        assert_eq!(paired(&a, &BySpeaker::new()), None);
    }
}
