//! The CTC loss and its gradient (Graves et al. 2006), exact forward-backward in log space.
//!
//! For targets y of length S the alignment runs through `blank y0 blank y1 .. blank`: S + 1 blanks B and S labels L.
//! With `e[t, v]` the log-probability of symbol v at frame t, and `(+)` the logarithm of a sum of exponentials:
//! - `B[t, i] = e[t, blank] + (B[t-1, i] (+) L[t-1, i-1])`,
//! - `L[t, i] = e[t, y_i] + (L[t-1, i] (+) B[t-1, i] (+) L[t-1, i-1] if y_i != y_{i-1})`,
//! - likewise backwards, without frame t's own symbol,
//! - loss `-ln p(y) = -(B[T-1, S] (+) L[T-1, S-1])`,
//! - occupancy `o = exp(forward + backward) / sum ..`, and `d loss / d logit[t, v] = p[t, v] - sum_{states of v} o`.
//!
//! Each frame's values are kept relative to the largest of the frame before (after, backwards), the offsets in f64:
//! nothing under- or overflows, however long the utterance. Logits stand symbol by symbol, `[V, T]`, so that the
//! softmax runs along frames; states are padded to whole vectors, and padding stays impossible.

use super::logmath::{IMPOSSIBLE, add2, add3, exp};
use crate::simd::{LANES, lanes, larger, largest, total, vectorized};

/// Buffers that one thread reuses from utterance to utterance.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Largest logit of each frame, `[T]`.
    top: Vec<f32>,
    /// Sum of exponentials of each frame, then its factor, `[T]`.
    sum: Vec<f32>,
    /// Log-probabilities of the labels without the frame's constant, `[T, W]`.
    labels: Vec<f32>,
    /// The same of the blank, `[T]`.
    blanks: Vec<f32>,
    /// Forward values, `[T, W + 1 + W]`: blanks, one impossible label, labels.
    alphas: Vec<f32>,
    /// What is to be added to a frame's forward values, `[T]`.
    offsets: Vec<f64>,
    /// Backward values, `[W + W]`: blanks, labels.
    beta: Vec<f32>,
    /// Backward values with the later frame's symbol, `[W + 1 + W + 1]`, an impossible one after each part.
    next: Vec<f32>,
    /// 0 where label i may follow label i - 1 directly, `[W + 1]`.
    skip: Vec<f32>,
}

/// The loss in nats of `targets` under logits `[V, T]`, one slice a symbol; its gradient, times `weight`, goes to
/// `gradient`, of the same shape.
///
/// An infeasible target (more symbols than frames, or a symbol outside the vocabulary) gives infinity and a zero
/// gradient; so does no frame at all unless the target is empty too. Logits that are NaN or infinite give a NaN and
/// a zero gradient, and so do slices of unequal lengths.
pub fn ctc(
    logits: &[&[f32]],
    gradient: &mut [&mut [f32]],
    targets: &[u32],
    blank: usize,
    weight: f32,
    scratch: &mut Scratch,
) -> f32 {
    let vocabulary = logits.len();
    let frames = logits.first().map_or(0, |row| row.len());
    let known = |&symbol: &u32| (symbol as usize) < vocabulary && symbol as usize != blank;
    let needed = targets.len() + targets.windows(2).filter(|pair| pair[0] == pair[1]).count();
    let equal = gradient.len() == vocabulary
        && logits.iter().all(|row| row.len() == frames)
        && gradient.iter().all(|row| row.len() == frames);
    let loss = if !equal {
        f32::NAN
    } else if frames < needed || !targets.iter().all(known) || blank >= vocabulary {
        f32::INFINITY
    } else if frames == 0 {
        0.0
    } else {
        vectorized!(feasible(logits, gradient, targets, blank, weight, scratch))
    };
    if !loss.is_finite() {
        for row in gradient {
            row.fill(0.0);
        }
    }
    loss
}

#[inline(always)]
fn feasible(
    logits: &[&[f32]],
    gradient: &mut [&mut [f32]],
    targets: &[u32],
    blank: usize,
    weight: f32,
    scratch: &mut Scratch,
) -> f32 {
    // Blanks are one more than labels; both are padded to whole vectors.
    let width = (targets.len() + 1).next_multiple_of(LANES);
    let Some(constant) = normalize(logits, gradient, weight, scratch) else {
        return f32::NAN;
    };
    gather(logits, targets, blank, width, scratch);
    let likelihood = forward(scratch, targets.len(), width);
    if !likelihood.is_finite() {
        return f32::INFINITY;
    }
    backward(gradient, targets, blank, weight, width, likelihood, scratch);
    (constant - likelihood) as f32
}

/// Writes `weight` times the softmax to `gradient`; the sum over frames of `ln sum exp(x - top)`, or `None` where a
/// logit is NaN or infinite.
#[inline(always)]
fn normalize(
    logits: &[&[f32]],
    gradient: &mut [&mut [f32]],
    weight: f32,
    scratch: &mut Scratch,
) -> Option<f64> {
    let frames = logits.first().map_or(0, |row| row.len());
    scratch.top.clear();
    scratch.top.resize(frames, f32::MIN);
    // The polynomials below would turn a NaN into a number, and a diverged network into an infeasible target.
    let mut broken = 0;
    for row in logits {
        for (top, &x) in scratch.top.iter_mut().zip(*row) {
            *top = larger(*top, x);
            broken |= u32::from(x.is_nan() | (x == f32::INFINITY));
        }
    }
    if broken != 0 {
        return None;
    }
    scratch.sum.clear();
    scratch.sum.resize(frames, 0.0);
    for (row, out) in logits.iter().zip(gradient.iter_mut()) {
        let columns = scratch.sum.iter_mut().zip(&scratch.top);
        for ((out, &x), (sum, &top)) in out.iter_mut().zip(*row).zip(columns) {
            *out = exp(x - top);
            *sum += *out;
        }
    }
    // One logarithm for sixteen frames: their product stays far inside an f64.
    let constant = scratch
        .sum
        .chunks(16)
        .map(|sums| sums.iter().map(|&s| f64::from(s)).product::<f64>().ln())
        .sum();
    for sum in &mut scratch.sum {
        *sum = weight / *sum;
    }
    for out in gradient {
        for (out, &factor) in out.iter_mut().zip(&scratch.sum) {
            *out *= factor;
        }
    }
    Some(constant)
}

/// The states' emissions relative to each frame's largest logit, and which labels may follow which.
#[inline(always)]
fn gather(logits: &[&[f32]], targets: &[u32], blank: usize, width: usize, scratch: &mut Scratch) {
    let frames = scratch.top.len();
    let columns = |symbol: usize| {
        let row = logits.get(symbol).copied().unwrap_or_default();
        row.iter()
            .zip(&scratch.top)
            .map(|(&x, &top)| larger(x - top, IMPOSSIBLE))
    };
    scratch.blanks.clear();
    scratch.blanks.extend(columns(blank));
    scratch.labels.clear();
    scratch.labels.resize(frames * width, IMPOSSIBLE);
    for (index, &symbol) in targets.iter().enumerate() {
        let places = scratch.labels[index..].iter_mut().step_by(width);
        for (place, emission) in places.zip(columns(symbol as usize)) {
            *place = emission;
        }
    }
    scratch.skip.clear();
    scratch.skip.resize(width + 1, IMPOSSIBLE);
    for (skip, pair) in scratch.skip[1..].iter_mut().zip(targets.windows(2)) {
        if pair[0] != pair[1] {
            *skip = 0.0;
        }
    }
}

/// Fills the alphas and their offsets; the log-likelihood relative to [`normalize`]'s constant.
#[inline(always)]
fn forward(scratch: &mut Scratch, symbols: usize, width: usize) -> f64 {
    let stride = 2 * width + 1;
    let frames = scratch.blanks.len();
    scratch.alphas.clear();
    scratch.alphas.resize(frames * stride, IMPOSSIBLE);
    scratch.offsets.clear();
    scratch.offsets.resize(frames, 0.0);
    scratch.alphas[0] = scratch.blanks[0];
    scratch.alphas[width + 1] = scratch.labels[0];
    let mut offset = 0.0;
    let (mut previous, later) = scratch.alphas.split_at_mut(stride);
    for (current, t) in later.chunks_exact_mut(stride).zip(1..) {
        let top = largest(previous);
        offset += f64::from(top);
        scratch.offsets[t] = offset;
        let blank = scratch.blanks[t] - top;
        let emissions = scratch.labels[t * width..][..width].as_chunks::<LANES>().0;
        let before = previous[..width].as_chunks::<LANES>().0;
        let behind = previous[width..2 * width].as_chunks::<LANES>().0;
        let beside = previous[width + 1..stride].as_chunks::<LANES>().0;
        let skip = scratch.skip[..width].as_chunks::<LANES>().0;
        let (blanks, labels) = current.split_at_mut(width);
        let blanks = blanks.as_chunks_mut::<LANES>().0;
        let labels = labels[1..].as_chunks_mut::<LANES>().0;
        for (i, (blanks, labels)) in blanks.iter_mut().zip(labels).enumerate() {
            let (b, l, step, skip, emission) =
                (&before[i], &beside[i], &behind[i], &skip[i], &emissions[i]);
            *blanks = lanes(|n| larger(add2(b[n], step[n]) + blank, IMPOSSIBLE));
            *labels = lanes(|n| {
                let sum = add3(l[n], b[n], step[n] + skip[n]);
                larger(sum + (emission[n] - top), IMPOSSIBLE)
            });
        }
        previous = current;
    }
    // With no symbol the place before the labels is read, which is impossible.
    let total = add2(previous[symbols], previous[width + symbols]);
    if total < IMPOSSIBLE / 2.0 {
        return f64::NEG_INFINITY;
    }
    offset + f64::from(total)
}

/// Runs the betas back and subtracts the occupancies, times `weight`, from `gradient`.
#[inline(always)]
fn backward(
    gradient: &mut [&mut [f32]],
    targets: &[u32],
    blank: usize,
    weight: f32,
    width: usize,
    likelihood: f64,
    scratch: &mut Scratch,
) {
    let stride = 2 * width + 1;
    let frames = scratch.blanks.len();
    let symbols = targets.len();
    scratch.beta.clear();
    scratch.beta.resize(2 * width, IMPOSSIBLE);
    scratch.next.clear();
    scratch.next.resize(2 * width + 2, IMPOSSIBLE);
    scratch.beta[symbols] = 0.0;
    if let Some(last) = symbols.checked_sub(1) {
        scratch.beta[width + last] = 0.0;
    }
    let mut offset = 0.0;
    for t in (0..frames).rev() {
        if t + 1 < frames {
            let top = largest(&scratch.beta);
            offset += f64::from(top);
            step_back(scratch, t + 1, width, top);
        }
        let (blanks, labels) = scratch.alphas[t * stride..][..stride].split_at(width);
        let (beta_blanks, beta_labels) = scratch.beta.split_at(width);
        let shift = (scratch.offsets[t] + offset - likelihood) as f32;
        let mut sums = [0.0; LANES];
        let blanks = blanks.as_chunks::<LANES>().0;
        let beta_blanks = beta_blanks.as_chunks::<LANES>().0;
        for (a, b) in blanks.iter().zip(beta_blanks) {
            let shares = lanes(|n| exp(a[n] + b[n] + shift));
            sums = lanes(|n| sums[n] + shares[n]);
        }
        let blank_share = total(sums);
        // The later frame's values are done with: their place takes the labels' occupancies.
        let shares = scratch.next[..width].as_chunks_mut::<LANES>().0;
        let labels = labels[1..].as_chunks::<LANES>().0;
        let beta_labels = beta_labels.as_chunks::<LANES>().0;
        for ((share, a), b) in shares.iter_mut().zip(labels).zip(beta_labels) {
            *share = lanes(|n| exp(a[n] + b[n] + shift));
            sums = lanes(|n| sums[n] + share[n]);
        }
        let factor = weight / total(sums);
        gradient[blank][t] -= blank_share * factor;
        for (&symbol, share) in targets.iter().zip(&scratch.next) {
            gradient[symbol as usize][t] -= share * factor;
        }
    }
}

/// The betas of a frame from those of the next one, frame `later`, whose largest is `top`.
#[inline(always)]
fn step_back(scratch: &mut Scratch, later: usize, width: usize, top: f32) {
    let blank = scratch.blanks[later] - top;
    let emissions = &scratch.labels[later * width..][..width];
    let (beta_blanks, beta_labels) = scratch.beta.split_at_mut(width);
    let (next_blanks, next_labels) = scratch.next.split_at_mut(width + 1);
    for (next, &beta) in next_blanks.iter_mut().zip(&*beta_blanks) {
        *next = larger(beta + blank, IMPOSSIBLE);
    }
    for ((next, &beta), &emission) in next_labels.iter_mut().zip(&*beta_labels).zip(emissions) {
        *next = larger(beta + (emission - top), IMPOSSIBLE);
    }
    next_blanks[width] = IMPOSSIBLE;
    let same = next_blanks[..width].as_chunks::<LANES>().0;
    let after = next_blanks[1..].as_chunks::<LANES>().0;
    let stay = next_labels[..width].as_chunks::<LANES>().0;
    let step = next_labels[1..].as_chunks::<LANES>().0;
    let skip = scratch.skip[1..].as_chunks::<LANES>().0;
    let blanks = beta_blanks.as_chunks_mut::<LANES>().0;
    let labels = beta_labels.as_chunks_mut::<LANES>().0;
    for (i, (blanks, labels)) in blanks.iter_mut().zip(labels).enumerate() {
        let (same, after, stay, step, skip) = (&same[i], &after[i], &stay[i], &step[i], &skip[i]);
        *blanks = lanes(|n| add2(same[n], stay[n]));
        *labels = lanes(|n| add3(stay[n], after[n], step[n] + skip[n]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The probability of `targets`, summed over all alignments one by one.
    fn brute_force(probs: &[f64], vocabulary: usize, targets: &[u32], blank: usize) -> f64 {
        let frames = probs.len() / vocabulary;
        let mut total = 0.0;
        for path in 0..vocabulary.pow(frames as u32) {
            let mut rest = path;
            let mut probability = 1.0;
            let mut collapsed = Vec::new();
            let mut previous = usize::MAX;
            for t in 0..frames {
                let symbol = rest % vocabulary;
                rest /= vocabulary;
                probability *= probs[t * vocabulary + symbol];
                if symbol != previous && symbol != blank {
                    collapsed.push(symbol as u32);
                }
                previous = symbol;
            }
            if collapsed == targets {
                total += probability;
            }
        }
        total
    }

    fn softmax(logits: &[f32], vocabulary: usize) -> Vec<f64> {
        logits
            .chunks(vocabulary)
            .flat_map(|row| {
                let sum: f64 = row.iter().map(|&v| f64::from(v).exp()).sum();
                row.iter().map(move |&v| f64::from(v).exp() / sum)
            })
            .collect()
    }

    /// Loss and gradient for logits `[T, V]`, which is how they are easier to write down.
    fn run(logits: &[f32], vocabulary: usize, targets: &[u32], blank: usize) -> (f32, Vec<f32>) {
        let column = |symbol: usize| logits.iter().skip(symbol).step_by(vocabulary).copied();
        let rows: Vec<Vec<f32>> = (0..vocabulary).map(|v| column(v).collect()).collect();
        let mut out: Vec<Vec<f32>> = rows.iter().map(|row| vec![7.0; row.len()]).collect();
        let logits_of: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let mut gradient: Vec<&mut [f32]> = out.iter_mut().map(Vec::as_mut_slice).collect();
        let scratch = &mut Scratch::default();
        let loss = ctc(&logits_of, &mut gradient, targets, blank, 1.0, scratch);
        let back = (0..logits.len()).map(|i| out[i % vocabulary][i / vocabulary]);
        (loss, back.collect())
    }

    fn loss(logits: &[f32], vocabulary: usize, targets: &[u32], blank: usize) -> f32 {
        run(logits, vocabulary, targets, blank).0
    }

    proptest! {
        #[test]
        fn equals_the_sum_over_alignments(
            logits in prop::collection::vec(-4.0f32..4.0, 15),
            targets in prop::collection::vec(0u32..3, 0..4),
            blank in 0usize..3,
        ) {
            let targets: Vec<u32> = targets.into_iter().filter(|&v| v as usize != blank).collect();
            let expected = -brute_force(&softmax(&logits, 3), 3, &targets, blank).ln();
            let found = f64::from(loss(&logits, 3, &targets, blank));
            if expected.is_finite() {
                prop_assert!((found - expected).abs() < 1e-5 * expected.abs().max(1.0));
            } else {
                prop_assert!(found.is_infinite());
            }
        }

        #[test]
        fn gradient_equals_finite_differences_and_rows_sum_to_zero(
            logits in prop::collection::vec(-3.0f32..3.0, 24),
            targets in prop::collection::vec(1u32..4, 0..4),
        ) {
            let (value, gradient) = run(&logits, 4, &targets, 0);
            if value.is_infinite() {
                prop_assert!(gradient.iter().all(|&g| g == 0.0));
                return Ok(());
            }
            for row in gradient.chunks(4) {
                prop_assert!(row.iter().sum::<f32>().abs() < 1e-5);
            }
            let step = 1e-2;
            for index in 0..logits.len() {
                let at = |delta: f32| {
                    let mut moved = logits.clone();
                    moved[index] += delta;
                    -brute_force(&softmax(&moved, 4), 4, &targets, 0).ln()
                };
                let expected = (at(step) - at(-step)) / (2.0 * f64::from(step));
                prop_assert!((f64::from(gradient[index]) - expected).abs() < 1e-3);
            }
        }
    }

    /// `torch.nn.functional.ctc_loss` (2.13.0, f64, summed) of the logits `3 sin(7 t + 3 v + 1)`: the loss, the gradient of
    /// the middle frame, the sum of all magnitudes.
    #[test]
    fn equals_recorded_values() {
        type Case<'a> = ([usize; 3], &'a [u32], f64, &'a [f64], f64);
        let cases: [Case<'_>; 5] = [
            (
                [12, 5, 0],
                &[1, 2, 3],
                13.554_680_924,
                &[
                    0.001_609_05,
                    0.109_322_34,
                    -0.028_712_55,
                    -0.083_665_31,
                    0.001_446_47,
                ],
                9.469_077_92,
            ),
            (
                [12, 5, 2],
                &[0, 0, 4, 4],
                22.090_866_448,
                &[
                    -0.297_729_92,
                    0.434_309_39,
                    -0.388_047_74,
                    0.560_189_37,
                    -0.308_721_10,
                ],
                13.707_889_22,
            ),
            (
                [9, 4, 3],
                &[],
                24.606_578_831,
                &[0.016_911_68, 0.647_543_75, 0.034_273_01, -0.698_728_44],
                13.735_980_17,
            ),
            (
                [30, 7, 4],
                &[6, 1, 1, 2, 5, 3],
                35.784_363_246,
                &[
                    0.002_306_36,
                    -0.738_064_19,
                    -0.000_703_26,
                    0.348_418_40,
                    0.000_390_30,
                    0.386_621_90,
                    0.001_030_49,
                ],
                37.306_800_53,
            ),
            (
                [7, 3, 0],
                &[1, 1, 1, 1],
                18.517_121_211,
                &[-0.750_316_34, 0.172_378_64, 0.577_937_70],
                8.641_899_69,
            ),
        ];
        for ([frames, vocabulary, blank], targets, expected, middle, sum) in cases {
            let logits: Vec<f32> = (0..frames * vocabulary)
                .map(|i| (7 * (i / vocabulary) + 3 * (i % vocabulary) + 1) as f64)
                .map(|phase| (3.0 * phase.sin()) as f32)
                .collect();
            let (loss, gradient) = run(&logits, vocabulary, targets, blank);
            let close = |found: f32, expected: f64| {
                (f64::from(found) - expected).abs() < 1e-5 * expected.abs().max(1.0)
            };
            assert!(close(loss, expected), "loss {loss}, expected {expected}");
            let found = &gradient[frames / 2 * vocabulary..][..vocabulary];
            for (&found, &expected) in found.iter().zip(middle) {
                assert!(close(found, expected), "{found}, expected {expected}");
            }
            assert!(close(gradient.iter().map(|g| g.abs()).sum(), sum));
        }
    }

    #[test]
    fn edge_cases() {
        assert_eq!(loss(&[], 3, &[], 0), 0.0);
        assert_eq!(loss(&[], 3, &[1], 0), f32::INFINITY);
        assert_eq!(
            loss(&[0.0; 6], 3, &[1, 1], 0),
            f32::INFINITY,
            "a repeat needs a blank"
        );
        assert_eq!(
            loss(&[0.0; 6], 3, &[7], 0),
            f32::INFINITY,
            "outside the vocabulary"
        );
        assert!(
            loss(&[0.0, f32::NAN, 0.0], 3, &[1], 0).is_nan(),
            "not an infeasible target"
        );
        let three = loss(&[0.0; 9], 3, &[1, 1], 0);
        assert!((three - 27.0f32.ln()).abs() < 1e-6, "one path of 27");
    }

    #[test]
    fn long_and_extreme_utterances_stay_finite() {
        let frames = 3000;
        let logits: Vec<f32> = (0..frames * 5)
            .map(|i| ((i * 7919) % 113) as f32 * 3.0 - 150.0)
            .collect();
        let targets: Vec<u32> = (0..700).map(|i| 1 + (i % 4) as u32).collect();
        let (value, gradient) = run(&logits, 5, &targets, 0);
        assert!(value.is_finite() && value > 0.0);
        assert!(
            gradient
                .iter()
                .all(|g| g.is_finite() && g.abs() <= 1.0 + 1e-5)
        );
    }
}
