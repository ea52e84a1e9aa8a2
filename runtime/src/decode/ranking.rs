//! Finds the n-th largest of many masses without sorting them.
//!
//! The bits of positive floats are ordered as the floats are, so their distance from the largest one's, cut to
//! half an octave, names a bucket. Counting the buckets finds the one that holds the n-th largest, and only
//! what is in that one is compared: far fewer unforeseeable branches than a selection by comparison has.

/// Buckets; the last one holds all that is 32 octaves (22 nats) and more below the largest.
const BUCKETS: usize = 64;

/// Bits below half an octave.
const FINE_BITS: u32 = 52 - 1;

/// Where a number of the largest masses ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cut {
    /// The last of them.
    pub mass: f64,
    /// How many are larger.
    pub above: usize,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Ranking {
    keys: Vec<u64>,
    /// The bucket of each key.
    buckets: Vec<u8>,
    tied: Vec<u64>,
}

impl Ranking {
    /// Where the `n` largest of two lists of masses end; none where there are no more than `n`. The masses are not
    /// negative and at most `largest`.
    pub fn cut(
        &mut self,
        first: impl ExactSizeIterator<Item = f64>,
        second: impl ExactSizeIterator<Item = f64>,
        largest: f64,
        n: usize,
    ) -> Option<Cut> {
        let total = first.len() + second.len();
        if total <= n || n == 0 {
            return None;
        }
        let largest = largest.to_bits();
        let mut counts = [0u32; BUCKETS];
        self.keys.resize(total, 0);
        self.buckets.resize(total, 0);
        let (keys, more_keys) = self.keys.split_at_mut(first.len());
        let (buckets, more_buckets) = self.buckets.split_at_mut(first.len());
        sort_into(first, largest, keys, buckets, &mut counts);
        sort_into(second, largest, more_keys, more_buckets, &mut counts);
        let mut before = 0;
        let mut holder = 0;
        while before + (counts[holder] as usize) < n {
            before += counts[holder] as usize;
            holder += 1;
        }
        // Without branches, because which ones are in the bucket cannot be foretold.
        let mut tied = 0;
        self.tied.resize(total, 0);
        for (key, bucket) in self.keys[..total].iter().zip(&self.buckets[..total]) {
            self.tied[tied] = *key;
            tied += usize::from(*bucket == holder as u8);
        }
        let tied = &mut self.tied[..tied];
        let (larger, found, _) = tied.select_nth_unstable_by(n - 1 - before, |a, b| b.cmp(a));
        let above = before + larger.iter().filter(|&key| key > found).count();
        Some(Cut {
            mass: f64::from_bits(*found),
            above,
        })
    }
}

/// Writes down the key and the bucket of each mass, and counts the buckets.
#[inline]
fn sort_into(
    masses: impl Iterator<Item = f64>,
    largest: u64,
    keys: &mut [u64],
    buckets: &mut [u8],
    counts: &mut [u32; BUCKETS],
) {
    for ((mass, key), bucket) in masses.zip(keys).zip(buckets) {
        *key = mass.to_bits();
        let place = ((largest - *key) >> FINE_BITS).min(BUCKETS as u64 - 1);
        *bucket = place as u8;
        counts[place as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_ranks_as_sorting_does(exponents in prop::collection::vec(-60f64..3.0, 0..90), n in 0usize..90) {
            let round = |x: f64| (x.exp() * 64.0).ceil() / 64.0;
            let masses: Vec<f64> = exponents.iter().map(|&x| if x > 2.0 { 0.0 } else { round(x) }).collect();
            let mut sorted = masses.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            let largest = sorted.first().copied().unwrap_or(0.0);
            let expected = (n > 0 && sorted.len() > n).then(|| Cut {
                mass: sorted[n - 1],
                above: sorted.iter().filter(|&&mass| mass > sorted[n - 1]).count(),
            });
            let (first, second) = masses.split_at(masses.len() / 3);
            let (first, second) = (first.iter().copied(), second.iter().copied());
            prop_assert_eq!(Ranking::default().cut(first, second, largest, n), expected);
        }
    }
}
