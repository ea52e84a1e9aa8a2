//! What a CTC model says about every frame: a borrowed `[T, V]` matrix of logits, log-probs or probabilities.
//!
//! Nothing is copied and nothing is normalized ahead of time: the view may be strided (a `[B, V, 1, T]` output
//! read as `[T, V]`), and decoders compute the log-softmax of logits frame by frame while they read it.

use crate::spec::OutputValues;
use crate::{Error, ErrorKind, Result};
use ndarray::{ArrayView2, Axis};

/// A view of T frames of V scores.
#[derive(Debug, Clone, Copy)]
pub struct LogProbs<'a> {
    scores: ArrayView2<'a, f32>,
    /// The same where all scores lie side by side, frame after frame.
    flat: Option<&'a [f32]>,
    values: OutputValues,
}

impl<'a> LogProbs<'a> {
    /// A view of `scores`, `[T, V]`, which hold what `values` says.
    pub fn new(scores: ArrayView2<'a, f32>, values: OutputValues) -> Self {
        Self {
            scores,
            flat: scores.to_slice(),
            values,
        }
    }

    /// Unnormalized scores: each frame's log-softmax is taken while decoding.
    pub fn from_logits(scores: ArrayView2<'a, f32>) -> Self {
        Self::new(scores, OutputValues::Logits)
    }

    /// Natural logarithms of probabilities, taken as they are.
    pub fn from_log_probs(scores: ArrayView2<'a, f32>) -> Self {
        Self::new(scores, OutputValues::LogProbs)
    }

    /// Probabilities, taken as they are.
    pub fn from_probs(scores: ArrayView2<'a, f32>) -> Self {
        Self::new(scores, OutputValues::Probs)
    }

    /// T.
    pub fn frames(&self) -> usize {
        self.scores.nrows()
    }

    /// V.
    pub fn vocabulary(&self) -> usize {
        self.scores.ncols()
    }

    /// What the numbers are.
    pub fn values(&self) -> OutputValues {
        self.values
    }

    /// The numbers, `[T, V]`.
    pub fn scores(&self) -> ArrayView2<'a, f32> {
        self.scores
    }

    /// Fails with [`ErrorKind::InvalidArgument`] unless there are `vocabulary` scores per frame.
    pub(crate) fn expect_vocabulary(&self, vocabulary: usize) -> Result<()> {
        if self.vocabulary() == vocabulary {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "the scores have {} entries per frame, the vocabulary {vocabulary} tokens; \
                 use the tokens of the model that made the scores",
                self.vocabulary()
            ),
        ))
    }

    /// Frame `t` as a slice: borrowed where its scores lie side by side, else gathered into `scratch`.
    #[inline]
    pub(crate) fn frame<'s>(&self, t: usize, scratch: &'s mut Vec<f32>) -> &'s [f32]
    where
        'a: 's,
    {
        if let Some(flat) = self.flat {
            let width = self.vocabulary();
            return &flat[t * width..][..width];
        }
        let row = self.scores.index_axis_move(Axis(0), t);
        match row.to_slice() {
            Some(side_by_side) => side_by_side,
            None => {
                scratch.clear();
                scratch.extend(row.iter());
                scratch
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, Slice};

    #[test]
    fn frames_of_strided_views_are_gathered() {
        let matrix = Array2::from_shape_fn((3, 4), |(t, v)| (10 * t + v) as f32);
        let transposed = matrix.t().to_owned();
        let mut scratch = Vec::new();
        for view in [matrix.view(), transposed.t()] {
            let scores = LogProbs::from_logits(view);
            assert_eq!((scores.frames(), scores.vocabulary()), (3, 4));
            assert_eq!(scores.frame(1, &mut scratch), [10.0, 11.0, 12.0, 13.0]);
        }
        let backwards = LogProbs::from_logits(matrix.slice_axis(Axis(1), Slice::new(0, None, -2)));
        assert_eq!(backwards.frame(2, &mut scratch), [23.0, 21.0]);
    }

    #[test]
    fn a_foreign_vocabulary_is_refused() {
        let matrix = Array2::zeros((0, 4));
        let scores = LogProbs::from_probs(matrix.view());
        assert!(scores.expect_vocabulary(4).is_ok());
        let error = scores.expect_vocabulary(5).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("4 entries"), "{error}");
    }
}
