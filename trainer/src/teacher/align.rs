//! Where a CTC model's spikes stand, and how far two alignments of the same symbols lie apart.

use acolyte::metrics::{Edit, align};
use ndarray::ArrayView2;

/// A symbol and the frame at which it is emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spike {
    /// The symbol.
    pub symbol: u32,
    /// The frame of its run at which it is most probable.
    pub frame: usize,
}

/// The spikes of the best path: runs of equal best symbols without blanks, of log-probs or logits `[T, V]`.
pub fn spikes(scores: ArrayView2<'_, f32>, blank: u32) -> Vec<Spike> {
    let mut found: Vec<Spike> = Vec::new();
    let mut last = blank;
    let mut height = f32::NEG_INFINITY;
    for (frame, row) in scores.outer_iter().enumerate() {
        let (symbol, score) = best(row.iter().copied());
        if symbol != blank && symbol != last {
            found.push(Spike { symbol, frame });
            height = score;
        } else if symbol != blank
            && score > height
            && let Some(spike) = found.last_mut()
        {
            spike.frame = frame;
            height = score;
        }
        last = symbol;
    }
    found
}

/// Index and value of the largest score; of equal ones the first.
pub fn best(scores: impl Iterator<Item = f32>) -> (u32, f32) {
    let mut top = (0, f32::NEG_INFINITY);
    for (index, score) in scores.enumerate() {
        if score > top.1 {
            top = (index as u32, score);
        }
    }
    top
}

/// The symbols of spikes.
pub fn symbols(spikes: &[Spike]) -> Vec<u32> {
    spikes.iter().map(|spike| spike.symbol).collect()
}

/// How far each spike of `b` stands after its counterpart in `a`, in frames: counterparts are what the least edits
/// between both readings leave alone. Empty for readings too long to align.
pub fn moves(a: &[Spike], b: &[Spike]) -> Vec<f64> {
    let edits = align(&symbols(a), &symbols(b)).unwrap_or_default();
    edits
        .iter()
        .filter_map(|edit| match edit {
            Edit::Match {
                reference,
                hypothesis,
            } => Some((a.get(*reference)?, b.get(*hypothesis)?)),
            _ => None,
        })
        .map(|(a, b)| b.frame as f64 - a.frame as f64)
        .collect()
}

/// Mean of numbers; 0 of none.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Standard deviation of numbers about their mean; 0 of none.
pub fn deviation(values: &[f64]) -> f64 {
    let center = mean(values);
    let squares: Vec<f64> = values.iter().map(|v| (v - center).powi(2)).collect();
    mean(&squares).sqrt()
}

/// How monotone attention `[T, U]` is: the share of neighboring frames with clear attention (above one half) whose
/// symbol does not go back. 1 where no two frames are clear.
pub fn monotonicity(attention: ArrayView2<'_, f32>) -> f64 {
    let clear: Vec<u32> = attention
        .outer_iter()
        .filter_map(|row| {
            let (symbol, weight) = best(row.iter().copied());
            (weight > 0.5).then_some(symbol)
        })
        .collect();
    let pairs = clear.windows(2);
    let count = pairs.len();
    let forward = pairs.filter(|pair| pair[1] >= pair[0]).count();
    if count == 0 {
        1.0
    } else {
        forward as f64 / count as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr2;

    #[test]
    fn spikes_stand_where_their_runs_are_highest() {
        let scores = arr2(&[
            [0.9, 0.1, 0.0],
            [0.3, 0.7, 0.0],
            [0.1, 0.9, 0.0],
            [0.2, 0.8, 0.0],
            [0.0, 0.4, 0.6],
            [0.9, 0.0, 0.1],
            [0.2, 0.0, 0.8],
        ]);
        let found = spikes(scores.view(), 0);
        assert_eq!(symbols(&found), [1, 2, 2]);
        let frames: Vec<usize> = found.iter().map(|spike| spike.frame).collect();
        assert_eq!(frames, [2, 4, 6]);
    }

    #[test]
    fn moves_compare_what_both_say() {
        let at = |spikes: &[(u32, usize)]| -> Vec<Spike> {
            let spikes = spikes.iter();
            spikes
                .map(|&(symbol, frame)| Spike { symbol, frame })
                .collect()
        };
        let a = at(&[(1, 1), (2, 4), (3, 9)]);
        assert_eq!(moves(&a, &at(&[(1, 3), (2, 10), (3, 9)])), [2.0, 6.0, 0.0]);
        assert_eq!(moves(&a, &at(&[(1, 2), (3, 12)])), [1.0, 3.0]);
        assert!(moves(&a, &at(&[(7, 1)])).is_empty());
        assert!((deviation(&[1.0, 3.0]) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn attention_that_goes_back_is_seen() {
        let forward = arr2(&[[0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.1, 0.9]]);
        assert_eq!(monotonicity(forward.view()), 1.0);
        let back = arr2(&[[0.1, 0.9], [0.9, 0.1], [0.2, 0.8]]);
        assert_eq!(monotonicity(back.view()), 0.5);
    }
}
