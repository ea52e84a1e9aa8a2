//! The CTC loss and its gradient (Graves et al. 2006), exact forward-backward in log space.
//!
//! For targets y of length S, the states are `blank y1 blank y2 .. yS blank` (2S + 1). With `e[t, s]` the
//! log-probability of state s's symbol at frame t:
//! - `a[t, s] = e[t, s] + ln(exp a[t-1, s] + exp a[t-1, s-1] + [y_s != y_{s-2}] exp a[t-1, s-2])`,
//! - `b[t, s]` likewise backwards, without frame t's own symbol,
//! - loss `-ln p(y) = -ln(exp a[T-1, 2S] + exp a[T-1, 2S-1])`,
//! - occupancy `o[t, s] = exp(a[t, s] + b[t, s]) / sum_s ..`, and `d loss / d logit[t, v] = p[t, v] - sum_{s: v} o[t, s]`.
//!
//! Each frame's a and b are kept relative to the frame's largest, the offsets in f64: nothing under- or
//! overflows, however long the utterance.

use super::logmath::{IMPOSSIBLE, add3, exp};

/// Buffers that one thread reuses from utterance to utterance.
#[derive(Debug, Default)]
pub struct Scratch {
    emissions: Vec<f32>,
    alphas: Vec<f32>,
    beta: Vec<f32>,
    next: Vec<f32>,
    skip: Vec<f32>,
    states: Vec<usize>,
}

/// The least number of frames that can carry `targets`: one each, and a blank between equal neighbors.
pub fn frames_needed(targets: &[u32]) -> usize {
    targets.len() + targets.windows(2).filter(|pair| pair[0] == pair[1]).count()
}

/// The loss in nats of `targets` under logits `[T, V]`; the logits are replaced by the loss's gradient.
///
/// An infeasible target (more symbols than frames, or a symbol outside the vocabulary) gives infinity and a zero
/// gradient; so does an empty `[0, V]` unless the target is empty too. Logits that are NaN or infinite give a NaN.
pub fn ctc(
    logits: &mut [f32],
    vocabulary: usize,
    targets: &[u32],
    blank: usize,
    scratch: &mut Scratch,
) -> f32 {
    let frames = logits.len() / vocabulary.max(1);
    let known = |&symbol: &u32| (symbol as usize) < vocabulary && symbol as usize != blank;
    if frames < frames_needed(targets) || !targets.iter().all(known) || blank >= vocabulary {
        logits.fill(0.0);
        return f32::INFINITY;
    }
    if frames == 0 {
        return 0.0;
    }
    // The polynomials below would turn a NaN into a number, and a diverged network into an infeasible target.
    if logits.iter().any(|v| v.is_nan() || *v == f32::INFINITY) {
        logits.fill(0.0);
        return f32::NAN;
    }
    let states = 2 * targets.len() + 1;
    prepare(scratch, targets, blank, states, frames);
    let mut likelihood = normalize(logits, vocabulary, scratch, states);
    likelihood += forward(scratch, states, frames);
    if !likelihood.is_finite() {
        logits.fill(0.0);
        return f32::INFINITY;
    }
    backward(logits, vocabulary, scratch, states, frames);
    -likelihood as f32
}

/// Padding before a frame's states, so that `s - 1` and `s - 2` always exist.
const PAD: usize = 2;

fn prepare(scratch: &mut Scratch, targets: &[u32], blank: usize, states: usize, frames: usize) {
    let symbol = |state: usize| {
        if state.is_multiple_of(2) {
            blank
        } else {
            targets[state / 2] as usize
        }
    };
    scratch.states.clear();
    scratch.states.extend((0..states).map(symbol));
    scratch.skip.clear();
    scratch.skip.extend((0..states + PAD).map(|state| {
        let may =
            state % 2 == 1 && state >= 3 && state < states && symbol(state) != symbol(state - 2);
        if may { 0.0 } else { IMPOSSIBLE }
    }));
    scratch.emissions.clear();
    scratch.emissions.resize(frames * states, 0.0);
    scratch.alphas.clear();
    scratch.alphas.resize(frames * (states + PAD), IMPOSSIBLE);
    for buffer in [&mut scratch.beta, &mut scratch.next] {
        buffer.clear();
        buffer.resize(states + PAD, IMPOSSIBLE);
    }
}

/// Turns logits into probabilities and gathers the states' log-probabilities relative to each frame's largest
/// logit; the sum of what was left out is returned.
fn normalize(logits: &mut [f32], vocabulary: usize, scratch: &mut Scratch, states: usize) -> f64 {
    let mut left_out = 0.0;
    for (row, emissions) in logits
        .chunks_exact_mut(vocabulary)
        .zip(scratch.emissions.chunks_exact_mut(states))
    {
        let top = row.iter().copied().fold(f32::MIN, f32::max);
        for (emission, &symbol) in emissions.iter_mut().zip(&scratch.states) {
            *emission = row[symbol] - top;
        }
        let mut sum = 0.0;
        for value in row.iter_mut() {
            *value = exp(*value - top);
            sum += *value;
        }
        left_out -= f64::from(sum).ln();
        let inverse = 1.0 / sum;
        for value in row.iter_mut() {
            *value *= inverse;
        }
    }
    left_out
}

fn largest(values: &[f32]) -> f32 {
    values.iter().copied().fold(f32::MIN, f32::max)
}

/// Fills the alphas; returns the log-likelihood relative to [`normalize`]'s.
fn forward(scratch: &mut Scratch, states: usize, frames: usize) -> f64 {
    let width = states + PAD;
    let mut offset = 0.0f64;
    for (state, &emission) in scratch.emissions[..states].iter().take(2).enumerate() {
        scratch.alphas[PAD + state] = emission;
    }
    for t in 0..frames {
        let (before, rest) = scratch.alphas.split_at_mut(t * width);
        let current = &mut rest[PAD..width];
        if t > 0 {
            let previous = &before[(t - 1) * width..];
            let emissions = &scratch.emissions[t * states..][..states];
            let (stay, step, jump) = (
                &previous[PAD..][..states],
                &previous[PAD - 1..][..states],
                &previous[..states],
            );
            let skip = &scratch.skip[..states];
            for s in 0..states {
                current[s] = add3(stay[s], step[s], jump[s] + skip[s]) + emissions[s];
            }
        }
        let top = largest(current);
        offset += f64::from(top);
        for value in current.iter_mut() {
            *value -= top;
        }
    }
    let last = &scratch.alphas[(frames - 1) * width + PAD..][..states];
    let end = last[states - 1];
    let symbol = if states > 1 {
        last[states - 2]
    } else {
        IMPOSSIBLE
    };
    let total = add3(end, symbol, IMPOSSIBLE);
    if total < IMPOSSIBLE / 2.0 {
        return f64::NEG_INFINITY;
    }
    offset + f64::from(total)
}

/// Runs the betas back and subtracts the occupancies from the probabilities in `gradient`.
fn backward(
    gradient: &mut [f32],
    vocabulary: usize,
    scratch: &mut Scratch,
    states: usize,
    frames: usize,
) {
    let width = states + PAD;
    // beta[s] is b[t, s]; two more places follow, so that s + 1 and s + 2 always exist.
    scratch.beta[states - 1] = 0.0;
    if states > 1 {
        scratch.beta[states - 2] = 0.0;
    }
    for t in (0..frames).rev() {
        if t + 1 < frames {
            let emissions = &scratch.emissions[(t + 1) * states..][..states];
            for ((next, &beta), &emission) in
                scratch.next.iter_mut().zip(&scratch.beta).zip(emissions)
            {
                *next = beta + emission;
            }
            let next = &scratch.next;
            for s in 0..states {
                scratch.beta[s] = add3(next[s], next[s + 1], next[s + 2] + scratch.skip[s + 2]);
            }
            let top = largest(&scratch.beta[..states]);
            for value in &mut scratch.beta[..states] {
                *value -= top;
            }
        }
        let alphas = &scratch.alphas[t * width + PAD..][..states];
        let occupancy = &mut scratch.next[..states];
        for ((o, &a), &b) in occupancy.iter_mut().zip(alphas).zip(&scratch.beta) {
            *o = a + b;
        }
        let top = largest(occupancy);
        let mut sum = 0.0;
        for o in occupancy.iter_mut() {
            *o = exp(*o - top);
            sum += *o;
        }
        let inverse = 1.0 / sum;
        let row = &mut gradient[t * vocabulary..][..vocabulary];
        for (&o, &symbol) in occupancy.iter().zip(&scratch.states) {
            row[symbol] -= o * inverse;
        }
        scratch.next[states..].fill(IMPOSSIBLE);
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

    fn loss(logits: &[f32], vocabulary: usize, targets: &[u32], blank: usize) -> f32 {
        ctc(
            &mut logits.to_vec(),
            vocabulary,
            targets,
            blank,
            &mut Scratch::default(),
        )
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
            let mut gradient = logits.clone();
            let value = ctc(&mut gradient, 4, &targets, 0, &mut Scratch::default());
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
        let mut gradient = logits.clone();
        let value = ctc(&mut gradient, 5, &targets, 0, &mut Scratch::default());
        assert!(value.is_finite() && value > 0.0);
        assert!(
            gradient
                .iter()
                .all(|g| g.is_finite() && g.abs() <= 1.0 + 1e-5)
        );
    }
}
