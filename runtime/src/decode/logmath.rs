//! Arithmetic on one frame of V scores: maximum, log-softmax normalizer, and a fast exponential.
//!
//! The loops keep [`LANES`] independent accumulators, so that the compiler turns them into vector code on every
//! target, and so that a sum's rounding does not depend on the machine's vector width.

/// Accumulators per loop: four SSE2 or NEON registers.
const LANES: usize = 16;

/// Why a frame cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadFrame {
    /// A score is NaN.
    Nan,
    /// A score is plus infinity.
    Infinite,
    /// No score is above minus infinity.
    Impossible,
}

/// The maximum of a frame. Refuses NaN, plus infinity and frames without any possible token.
///
/// `likely` is where it most often is, the blank: to see that nothing is above one score takes a third of what it
/// takes to find the largest.
#[inline]
pub(crate) fn maximum(row: &[f32], likely: usize) -> Result<f32, BadFrame> {
    match row.get(likely) {
        Some(&score) if score.is_finite() && leads(row, score) => Ok(score),
        _ => search_maximum(row),
    }
}

/// Whether all scores are numbers of at most `score`.
#[inline(always)]
fn leads(row: &[f32], score: f32) -> bool {
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        // NaN is not within either. Counted, because the compiler makes one comparison and one mask of that.
        let within: usize = chunk.iter().map(|&x| usize::from(x <= score)).sum();
        if within != LANES {
            return false;
        }
    }
    rest.iter().all(|&x| x <= score)
}

fn search_maximum(row: &[f32]) -> Result<f32, BadFrame> {
    let mut largest = [f32::NEG_INFINITY; LANES];
    let mut nan = [0u32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            let x = chunk[lane];
            nan[lane] |= u32::from(x.is_nan());
            largest[lane] = if x > largest[lane] { x } else { largest[lane] };
        }
    }
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut bad = folded(nan, |a, b| a | b) != 0;
    let mut value = folded(largest, larger);
    // On its own: a lane that is named by a number could not stay in a vector.
    for &x in rest {
        bad |= x.is_nan();
        value = larger(value, x);
    }
    if bad {
        return Err(BadFrame::Nan);
    }
    if value == f32::INFINITY {
        return Err(BadFrame::Infinite);
    }
    if value == f32::NEG_INFINITY {
        return Err(BadFrame::Impossible);
    }
    Ok(value)
}

/// All lanes made one, by halves: one after the other would wait for each operation, and would not be vector code.
#[inline(always)]
fn folded<T: Copy>(lanes: [T; LANES], join: impl Fn(T, T) -> T) -> T {
    let by_8: [T; 8] = std::array::from_fn(|lane| join(lanes[lane], lanes[lane + 8]));
    let by_4: [T; 4] = std::array::from_fn(|lane| join(by_8[lane], by_8[lane + 4]));
    let by_2: [T; 2] = std::array::from_fn(|lane| join(by_4[lane], by_4[lane + 2]));
    join(by_2[0], by_2[1])
}

/// The first place of `value` in a frame that has it, looking at a whole chunk at a time.
pub(crate) fn position(row: &[f32], value: f32) -> usize {
    for (chunk, start) in row.chunks(LANES).zip((0..).step_by(LANES)) {
        let hit = chunk.iter().fold(false, |hit, &x| hit | (x == value));
        if hit {
            return start + chunk.iter().position(|&x| x == value).unwrap_or(0);
        }
    }
    0
}

/// `ln(sum(exp(x)))` of a frame whose maximum is known: what log-softmax subtracts from each logit.
pub(crate) fn log_sum_exp(row: &[f32], largest: f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let chunks = row.chunks_exact(LANES);
    for (lane, &x) in chunks.remainder().iter().enumerate() {
        sums[lane] += exp(x - largest);
    }
    for chunk in chunks {
        for lane in 0..LANES {
            sums[lane] += exp(chunk[lane] - largest);
        }
    }
    let sum: f64 = sums.iter().map(|&sum| f64::from(sum)).sum();
    largest + sum.ln() as f32
}

/// `e^x` for `x <= 0`, within 3e-7 of the true value in proportion; 0 below `e^-87`.
///
/// `e^x = 2^n 2^f` with n the nearest whole number to `x log2(e)`; `2^f` on [-1/2, 1/2] is its Taylor polynomial.
/// Without branches, so that loops over it become vector code; the library function does not.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 leaves the nearest whole number in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, the first short enough that n times it is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let vanishes = x < -87.0;
    let x = if vanishes { 0.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let mut p = 1.0 / 720.0;
    for coefficient in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = p * r + coefficient;
    }
    let power = (shifted.to_bits() << 23).wrapping_add(127 << 23);
    let result = p * f32::from_bits(power);
    if vanishes { 0.0 } else { result }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn exp_is_close() {
        let mut worst = 0.0f64;
        for i in 0..870_000 {
            let x = i as f32 * -1e-4;
            let truth = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) / truth - 1.0).abs());
        }
        assert!(worst < 3e-7, "{worst}");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
    }

    #[test]
    fn bad_frames_are_told_apart() {
        let inf = f32::INFINITY;
        for width in [1, 2, 15, 16, 17, 40] {
            for at in 0..width {
                let mut row = vec![-1.0; width];
                for likely in [0, at, width / 2] {
                    row[at] = f32::NAN;
                    assert_eq!(maximum(&row, likely), Err(BadFrame::Nan));
                    row[at] = inf;
                    assert_eq!(maximum(&row, likely), Err(BadFrame::Infinite));
                    row[at] = -0.5;
                    assert_eq!(maximum(&row, likely), Ok(-0.5));
                    assert_eq!(position(&row, -0.5), at);
                }
            }
            assert_eq!(maximum(&vec![-inf; width], 0), Err(BadFrame::Impossible));
        }
        assert_eq!(maximum(&[], 0), Err(BadFrame::Impossible));
    }

    proptest! {
        #[test]
        fn the_peak_is_the_first_maximum(row in prop::collection::vec(-3i8..4, 1..300), likely in 0usize..300) {
            let row: Vec<f32> = row.into_iter().map(f32::from).collect();
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let first = row.iter().position(|&x| x == largest).unwrap();
            prop_assert_eq!(maximum(&row, likely), Ok(largest));
            prop_assert_eq!(position(&row, largest), first);
        }

        #[test]
        fn the_normalizer_is_log_sum_exp(row in prop::collection::vec(-60f32..60.0, 1..70)) {
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let truth = row.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
            let error = (f64::from(log_sum_exp(&row, largest)) - truth).abs();
            prop_assert!(error < 1e-5, "{error}");
        }
    }
}
