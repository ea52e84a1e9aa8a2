//! How much an error rate, or the difference of two, owes to what happened to be tested: bootstrap over groups of
//! utterances, usually speakers (Bisani and Ney, ICASSP 2004).
//!
//! Groups are drawn with replacement [`RESAMPLES`] times, the rate is computed from the drawn groups' sums, and the
//! interval holds the middle 95 %. The draws are the same at every call.

use serde::Serialize;

/// Resamples.
pub const RESAMPLES: usize = 4000;

/// Errors and items of the reference in a group.
pub type Tally = [usize; 2];

/// A 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// Errors over items of the reference, in percent; 0 without items.
pub fn rate(groups: impl IntoIterator<Item = Tally>) -> f64 {
    let [errors, items] = groups
        .into_iter()
        .fold([0, 0], |[e, n], [errors, items]| [e + errors, n + items]);
    100.0 * errors as f64 / items.max(1) as f64
}

/// The interval of the groups' rate, in percent.
pub fn rate_interval(groups: &[Tally]) -> Interval {
    interval(groups.len(), |drawn| {
        rate(drawn.iter().filter_map(|&index| groups.get(index).copied()))
    })
}

/// The interval of the first side's rate less the second's, in points, each group drawn with both its sides.
pub fn difference_interval(groups: &[(Tally, Tally)]) -> Interval {
    interval(groups.len(), |drawn| {
        let chosen = || drawn.iter().filter_map(|&index| groups.get(index));
        rate(chosen().map(|pair| pair.0)) - rate(chosen().map(|pair| pair.1))
    })
}

/// A counter's next number in [0, below), by the finalizer of SplitMix64.
fn draw(counter: &mut u64, below: usize) -> usize {
    *counter = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *counter;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    // The high half of the product is uniform in [0, below) but for a part in 2^64 / below.
    ((u128::from(z) * below as u128) >> 64) as usize
}

fn interval(count: usize, figure: impl Fn(&[usize]) -> f64) -> Interval {
    let mut counter = count as u64;
    let mut drawn = vec![0; count];
    let mut values: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            for index in &mut drawn {
                *index = draw(&mut counter, count);
            }
            figure(&drawn)
        })
        .collect();
    values.sort_by(f64::total_cmp);
    let at = |part: f64| values[(part * (RESAMPLES - 1) as f64).round() as usize];
    Interval {
        low: at(0.025),
        high: at(0.975),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_difference_is_clear_though_groups_differ() {
        let worse: Vec<Tally> = (0..40).map(|i| [10 + i, 100]).collect();
        let pairs: Vec<(Tally, Tally)> = worse.iter().map(|&[e, n]| ([e, n], [e - 2, n])).collect();
        let found = difference_interval(&pairs);
        assert!((found.low - 2.0).abs() < 1e-9 && (found.high - 2.0).abs() < 1e-9);
        let own = rate_interval(&worse);
        assert!((rate(worse.iter().copied()) - 29.5).abs() < 1e-9);
        // The deviation of a mean of 40 rates spread evenly over 40 points is 1.83.
        assert!((own.low - 25.9).abs() < 0.8, "{own:?}");
        assert!((own.high - 33.1).abs() < 0.8, "{own:?}");
    }

    #[test]
    fn chance_is_not_clear() {
        let pairs: Vec<(Tally, Tally)> = (0..30)
            .map(|i| ([20 + i * 7 % 11, 100], [20 + i * 5 % 11, 100]))
            .collect();
        let found = difference_interval(&pairs);
        assert!(found.low < 0.0 && found.high > 0.0, "{found:?}");
    }

    #[test]
    fn nothing_has_the_rate_nothing() {
        let none = Interval {
            low: 0.0,
            high: 0.0,
        };
        assert_eq!(rate_interval(&[]), none);
        assert_eq!(difference_interval(&[([0, 0], [0, 0])]), none);
    }
}
