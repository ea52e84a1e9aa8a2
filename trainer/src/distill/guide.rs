//! What a teacher says about training utterances, ready for the objectives.

use crate::config::{DistillConfig, GuideKind, ObjectiveKind};
use crate::loss::ctc::{Scratch, ctc};
use crate::teacher::ask::{Aligner, Answer, Question, Teacher, log_softmax};
use crate::train::pack::{Row, Segment};
use crate::{Error, ErrorKind, Result};
use acolyte::decode::Plan;
use acolyte::{Decoding, LogProbs, Tokens};
use half::f16;
use ndarray::{Array2, ArrayView2, Axis};
use std::sync::{Arc, Mutex};

/// Log-probabilities are not told apart below this.
pub const FLOOR: f32 = -16.0;

/// A teacher's word on one utterance, T frames.
#[derive(Debug, Clone, PartialEq)]
pub struct Guidance {
    /// Log-posteriors, or logarithms of occupancies, `[T, V]`, none below [`FLOOR`].
    pub log_probs: Array2<f32>,
    /// The last hidden value `[T, C]`, where an objective wants it.
    pub hidden: Option<Array2<f16>>,
    /// The best readings with their shares, which add up to 1, where an objective wants them.
    pub readings: Vec<(Vec<u32>, f32)>,
}

/// Where guidance comes from.
#[derive(Debug)]
pub enum Guide {
    /// Kept for every training utterance, by index.
    Kept(Vec<Arc<Guidance>>),
    /// Asked at every step, about the features that the student hears.
    Live(Box<Live>),
}

/// A teacher at hand, and what it is asked for.
#[derive(Debug)]
pub struct Live {
    pub(super) teacher: Mutex<Teacher>,
    pub(super) maker: Maker,
    /// The student's delay, in output frames.
    pub(super) delay: usize,
}

/// Turns a teacher's answers into guidance.
#[derive(Debug)]
pub struct Maker {
    kind: GuideKind,
    blank: usize,
    readings: Option<Plan>,
}

impl Maker {
    /// A maker for what `config` asks for.
    ///
    /// # Errors
    /// What the decoder's settings report.
    pub fn new(config: &DistillConfig, tokens: &Arc<Tokens>) -> Result<Self> {
        let best = config
            .objectives
            .iter()
            .filter(|objective| objective.kind == ObjectiveKind::Sequence)
            .map(|objective| objective.best)
            .max();
        let readings = match best {
            Some(best) => Some(
                Decoding::beam((2 * best).max(8))
                    .n_best(best)
                    .plan(tokens)?,
            ),
            None => None,
        };
        Ok(Self {
            kind: config.guide,
            blank: tokens.blank() as usize,
            readings,
        })
    }

    /// The log-probabilities that guide.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] where occupancies are asked for and the transcript does not fit the frames.
    pub fn log_probs(&self, answer: &Answer, question: &Question) -> Result<Array2<f32>> {
        let mut scores = match self.kind {
            GuideKind::Posteriors => answer.log_probs.clone(),
            GuideKind::Occupancy => {
                let shares = occupancies(answer.log_probs.view(), &question.targets, self.blank)
                    .ok_or_else(|| {
                        Error::new(
                            ErrorKind::Data,
                            format!(
                                "{}: its {} symbols have no path through {} frames",
                                question.name,
                                question.targets.len(),
                                answer.log_probs.nrows()
                            ),
                        )
                    })?;
                shares.mapv_into(f32::ln)
            }
        };
        scores.mapv_inplace(|x| if x > FLOOR { x } else { FLOOR });
        Ok(scores)
    }

    /// The best readings of log-probabilities with their shares.
    ///
    /// # Errors
    /// What decoding reports.
    pub fn readings(&self, log_probs: ArrayView2<'_, f32>) -> Result<Vec<(Vec<u32>, f32)>> {
        let Some(plan) = &self.readings else {
            return Ok(Vec::new());
        };
        let found = plan.decode(&LogProbs::from_log_probs(log_probs))?;
        let top = found.best().score;
        let weights: Vec<(Vec<u32>, f64)> = found
            .iter()
            .map(|reading| (reading.ids(), (reading.score - top).exp()))
            .collect();
        let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
        Ok(weights
            .into_iter()
            .map(|(ids, weight)| (ids, (weight / total) as f32))
            .collect())
    }

    /// Guidance from an answer.
    ///
    /// # Errors
    /// As [`log_probs`](Self::log_probs) and [`readings`](Self::readings).
    pub fn guidance(&self, answer: &Answer, question: &Question) -> Result<Guidance> {
        let log_probs = self.log_probs(answer, question)?;
        Ok(Guidance {
            readings: self.readings(log_probs.view())?,
            hidden: answer.hidden.as_ref().map(|h| h.mapv(f16::from_f32)),
            log_probs,
        })
    }
}

/// The occupancies of CTC's paths for `targets`: `[T, V]`, each frame adding up to 1; by forward-backward on
/// log-posteriors `[T, V]`. None where there is no path.
///
/// They are the posteriors less the gradient of the CTC loss with respect to the logits (Graves et al. 2006).
pub fn occupancies(
    log_probs: ArrayView2<'_, f32>,
    targets: &[u32],
    blank: usize,
) -> Option<Array2<f32>> {
    // Symbol by symbol, as the loss takes it.
    let scores = log_probs.t().as_standard_layout().into_owned();
    let rows: Vec<&[f32]> = scores
        .outer_iter()
        .filter_map(|row| row.to_slice())
        .collect();
    let mut gradient = Array2::<f32>::zeros(scores.dim());
    let loss = {
        let mut out: Vec<&mut [f32]> = gradient
            .outer_iter_mut()
            .filter_map(ndarray::ArrayViewMut1::into_slice)
            .collect();
        ctc(
            &rows,
            &mut out,
            targets,
            blank,
            1.0,
            &mut Scratch::default(),
        )
    };
    if !loss.is_finite() {
        return None;
    }
    let mut shares = log_softmax(log_probs.to_owned()).mapv_into(f32::exp);
    shares -= &gradient.t();
    shares.mapv_inplace(|x| x.clamp(0.0, 1.0));
    Some(shares)
}

impl Guide {
    /// Guidance for each segment of a row.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] where a segment has other frames than the guidance.
    pub fn of(&self, row: &Row) -> Result<Vec<Arc<Guidance>>> {
        let found = match self {
            Self::Kept(all) => row
                .segments
                .iter()
                .map(|segment| {
                    all.get(segment.utterance.index)
                        .cloned()
                        .ok_or_else(|| unknown(segment))
                })
                .collect::<Result<Vec<_>>>()?,
            Self::Live(live) => live.ask(row)?,
        };
        for (segment, guidance) in row.segments.iter().zip(&found) {
            if guidance.log_probs.nrows() != segment.frames {
                return Err(Error::new(
                    ErrorKind::Data,
                    format!(
                        "{}: the student hears {} frames, the teacher {}; with distill.view = \"clean\" the \
                         augmentation must not move frames",
                        segment.utterance.name,
                        segment.frames,
                        guidance.log_probs.nrows()
                    ),
                ));
            }
        }
        Ok(found)
    }
}

fn unknown(segment: &Segment) -> Error {
    Error::new(
        ErrorKind::Data,
        format!(
            "{}: the teacher was not asked about this utterance",
            segment.utterance.name
        ),
    )
}

impl Live {
    fn ask(&self, row: &Row) -> Result<Vec<Arc<Guidance>>> {
        let mut teacher = self
            .teacher
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let stride = teacher.stride();
        let channels = teacher.features();
        let width = row.features.len() / channels.max(1);
        let whole = ArrayView2::from_shape((channels, width), &row.features)
            .map_err(|error| Error::new(ErrorKind::Data, format!("a row is no [F, N]: {error}")))?;
        let questions: Vec<Question> = row
            .segments
            .iter()
            .map(|segment| {
                let start = (segment.start - self.delay) * stride;
                let end = start + segment.frames * stride;
                Question {
                    features: whole.slice_axis(Axis(1), (start..end).into()).to_owned(),
                    targets: segment.utterance.targets.clone(),
                    name: segment.utterance.name.clone(),
                }
            })
            .collect();
        let answers = teacher.ask(&questions)?;
        answers
            .iter()
            .zip(&questions)
            .map(|(answer, question)| Ok(Arc::new(self.maker.guidance(answer, question)?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All paths of `frames` frames that collapse to `targets`, with their probabilities.
    fn brute_force(log_probs: &Array2<f32>, targets: &[u32]) -> Array2<f32> {
        let (frames, vocabulary) = log_probs.dim();
        let mut shares = Array2::<f64>::zeros((frames, vocabulary));
        let mut total = 0.0;
        for code in 0..vocabulary.pow(frames as u32) {
            let path: Vec<usize> = (0..frames)
                .map(|t| code / vocabulary.pow(t as u32) % vocabulary)
                .collect();
            let mut said = Vec::new();
            for (t, &symbol) in path.iter().enumerate() {
                if symbol != 0 && (t == 0 || path[t - 1] != symbol) {
                    said.push(symbol as u32);
                }
            }
            if said == targets {
                let score: f64 = path
                    .iter()
                    .enumerate()
                    .map(|(t, &v)| f64::from(log_probs[[t, v]]))
                    .sum();
                let probability = score.exp();
                total += probability;
                for (t, &symbol) in path.iter().enumerate() {
                    shares[[t, symbol]] += probability;
                }
            }
        }
        shares.mapv(|share| (share / total) as f32)
    }

    #[test]
    fn occupancies_are_the_shares_of_paths() {
        let scores = Array2::from_shape_fn((5, 3), |(t, v)| ((t * 5 + v * 3) % 7) as f32 * 0.4);
        let log_probs = log_softmax(scores);
        for targets in [&[1u32, 2][..], &[1, 1], &[2], &[]] {
            let found = occupancies(log_probs.view(), targets, 0).unwrap();
            let expected = brute_force(&log_probs, targets);
            for (a, b) in found.iter().zip(&expected) {
                assert!((a - b).abs() < 1e-5, "{targets:?}: {a}, {b}");
            }
            for sum in found.sum_axis(Axis(1)) {
                assert!((sum - 1.0).abs() < 1e-5);
            }
        }
        assert!(occupancies(log_probs.view(), &[1, 1, 1, 1], 0).is_none());
    }

    #[test]
    fn shares_of_readings_add_up() {
        let config = DistillConfig {
            objectives: vec![crate::config::ObjectiveConfig::new(ObjectiveKind::Sequence)],
            ..DistillConfig::default()
        };
        let tokens = Arc::new(Tokens::characters(["<blank>", "a", "b"], 0).unwrap());
        let maker = Maker::new(&config, &tokens).unwrap();
        let scores = Array2::from_shape_fn((6, 3), |(t, v)| ((t * 5 + v * 3) % 7) as f32 * 0.4);
        let readings = maker.readings(log_softmax(scores).view()).unwrap();
        assert_eq!(readings.len(), 4);
        assert!((readings.iter().map(|(_, w)| w).sum::<f32>() - 1.0).abs() < 1e-5);
        assert!(readings.windows(2).all(|pair| pair[0].1 >= pair[1].1));
    }
}
