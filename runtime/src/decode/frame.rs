//! One frame made ready for decoding: checked, normalized, its probabilities at hand.

use super::logmath::{self, BadFrame};
use crate::spec::OutputValues;
use crate::{Error, ErrorKind, LogProbs, Result};

/// A checked frame of V scores.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub scores: &'a [f32],
    pub values: OutputValues,
    /// The largest score.
    pub peak: f32,
    /// What to subtract from a score to get its log-prob: the log-softmax normalizer of logits, else 0.
    pub log_norm: f32,
}

/// Reads frame `t` of `scores`; `number` is its place in the stream, for the message.
///
/// Inlined into the loops over frames: handing a frame over in memory would take longer than to read a small one.
#[inline(always)]
pub(crate) fn read<'s, 'a: 's>(
    scores: &LogProbs<'a>,
    t: usize,
    number: u64,
    blank: u32,
    scratch: &'s mut Vec<f32>,
) -> Result<Frame<'s>> {
    let row = scores.frame(t, scratch);
    let peak = match logmath::maximum(row, blank as usize) {
        Ok(peak) if scores.values() == OutputValues::Probs => {
            probabilities_are_sound(row, peak, number)?;
            peak
        }
        Ok(peak) => peak,
        Err(bad) => return Err(refuse(bad, row, number)),
    };
    let log_norm = match scores.values() {
        OutputValues::Logits => logmath::log_sum_exp(row, peak),
        OutputValues::LogProbs | OutputValues::Probs => 0.0,
    };
    Ok(Frame {
        scores: row,
        values: scores.values(),
        peak,
        log_norm,
    })
}

impl Frame<'_> {
    /// The natural logarithm of token `id`'s probability.
    #[inline]
    pub fn log_prob(&self, id: usize) -> f32 {
        match self.values {
            OutputValues::Probs => self.scores[id].ln(),
            OutputValues::Logits | OutputValues::LogProbs => self.scores[id] - self.log_norm,
        }
    }

    /// Token `id`'s probability.
    #[inline]
    pub fn prob(&self, id: usize) -> f32 {
        match self.values {
            OutputValues::Probs => self.scores[id],
            OutputValues::Logits | OutputValues::LogProbs => {
                logmath::exp(self.scores[id] - self.log_norm)
            }
        }
    }

    /// All tokens' probabilities, `[V]`, in place of what `probs`, as long, holds.
    pub fn probs(&self, probs: &mut [f32]) {
        match self.values {
            OutputValues::Probs => probs.copy_from_slice(self.scores),
            OutputValues::Logits | OutputValues::LogProbs => {
                for (prob, score) in probs.iter_mut().zip(self.scores) {
                    *prob = logmath::exp(score - self.log_norm);
                }
            }
        }
    }
}

fn probabilities_are_sound(row: &[f32], peak: f32, number: u64) -> Result<()> {
    let negative = row.iter().fold(false, |found, &p| found | (p < 0.0));
    if !negative && peak > 0.0 {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidArgument,
        format!(
            "frame {number} is no probability distribution: {}; pass logits or log-probs as what they are",
            if negative {
                "an entry is negative"
            } else {
                "every entry is zero"
            }
        ),
    ))
}

#[cold]
fn refuse(bad: BadFrame, row: &[f32], number: u64) -> Error {
    let message = match bad {
        BadFrame::Nan => {
            let token = row.iter().position(|x| x.is_nan()).unwrap_or_default();
            format!("frame {number} is NaN at token {token}; the model or its input is broken")
        }
        BadFrame::Infinite => {
            let token = row
                .iter()
                .position(|&x| x == f32::INFINITY)
                .unwrap_or_default();
            format!("frame {number} is infinite at token {token}; the model or its input is broken")
        }
        BadFrame::Impossible => format!(
            "frame {number} has no possible token: every score is minus infinity; \
             mask frames before decoding, not all their tokens"
        ),
    };
    Error::new(ErrorKind::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr2;

    #[test]
    fn the_three_kinds_agree() {
        let probs = arr2(&[[0.2f32, 0.5, 0.3]]);
        let logs = probs.mapv(f32::ln);
        let logits = logs.mapv(|x| x + 3.0);
        for scores in [
            LogProbs::from_probs(probs.view()),
            LogProbs::from_log_probs(logs.view()),
            LogProbs::from_logits(logits.view()),
        ] {
            let mut scratch = Vec::new();
            let frame = read(&scores, 0, 0, 0, &mut scratch).unwrap();
            assert_eq!(logmath::position(frame.scores, frame.peak), 1);
            for id in 0..3 {
                assert!((frame.prob(id) - probs[[0, id]]).abs() < 1e-6);
                assert!((frame.log_prob(id) - logs[[0, id]]).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn bad_frames_are_named() {
        let inf = f32::INFINITY;
        let (logits, logs, probs) = (
            OutputValues::Logits,
            OutputValues::LogProbs,
            OutputValues::Probs,
        );
        let cases = [
            (logits, [0.0, f32::NAN], "frame 41 is NaN at token 1"),
            (logs, [inf, 0.0], "frame 41 is infinite at token 0"),
            (logs, [-inf, -inf], "frame 41 has no possible token"),
            (probs, [0.5, -0.1], "an entry is negative"),
            (probs, [0.0, 0.0], "every entry is zero"),
        ];
        for (values, row, message) in cases {
            let matrix = arr2(&[row]);
            let mut scratch = Vec::new();
            let scores = LogProbs::new(matrix.view(), values);
            let error = read(&scores, 0, 41, 0, &mut scratch).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.to_string().contains(message), "{error}");
        }
    }
}
