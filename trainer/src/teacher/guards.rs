//! What a teacher must show before it may guide: that it listens, and does not copy the transcript it is given.
//!
//! A teacher that is told the transcript can reach loss 0 without hearing anything, by emitting symbol i at a fixed
//! time; loss and error rate cannot tell. These tests can (each on the same training utterances, transcripts given):
//! - **shift**: quiet frames are set in front; spikes must move with the audio. A listener moves by all of it, a
//!   clock by none.
//! - **swap**: the audio of one utterance with the transcript of another; **noise**: noise for audio; **splice**: the
//!   halves of the audio exchanged. A copier says the transcript all the same, or most of it.
//! - **agreement**: two teachers that differ in their seed must put their spikes at the same places.
//!
//! The thresholds stand in the recipe ([`GuardConfig`]) before any teacher is trained.

use super::align::{Spike, mean, monotonicity, moves, spikes, symbols};
use super::ask::{Aligner, Answer, Question};
use crate::config::GuardConfig;
use crate::{Error, ErrorKind, Result};
use acolyte::metrics::edit_counts;
use ndarray::{Array2, ArrayView2, Axis, concatenate};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// What the tests found; shares are in [0, 1].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// Utterances tried.
    pub utterances: usize,
    /// Share that the teacher answers rightly, undisturbed.
    pub right: f64,
    /// Its symbol errors in percent, undisturbed.
    pub symbol_errors: f64,
    /// Mean move of the spikes over the move of the audio, where both readings agree.
    pub shift: f64,
    /// Spikes that the shift test could compare, over all symbols.
    pub shift_compared: f64,
    /// Share of answers that are the given transcript though the audio is another's.
    pub swap: f64,
    /// Mean part of the given transcript that is said though the audio is another's: 1 less the symbol errors, at
    /// least 0. Long transcripts are seldom said without any error.
    pub swap_part: f64,
    /// As `swap`, for noise.
    pub noise: f64,
    /// As `swap_part`, for noise.
    pub noise_part: f64,
    /// The same for audio with its halves exchanged.
    pub splice: f64,
    /// Share of frames, with clear attention, that do not attend back; absent where there is no attention.
    pub monotone: Option<f64>,
    /// Mean distance in output frames from the spikes of a teacher of another seed, where there was one.
    pub seeds: Option<f64>,
    /// Why it may not guide; empty where it may.
    pub refused: Vec<String>,
}

impl Findings {
    /// Fails for a teacher that may not guide, and says why.
    ///
    /// # Errors
    /// [`ErrorKind::Copies`].
    pub fn admit(&self) -> Result<()> {
        if self.refused.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Copies,
            format!(
                "the teacher is refused as a guide: {}. Against copying raise teacher.target.mask and keep source_positions \
                 = \"none\"; an unripe teacher wants more epochs; the thresholds are teacher.guards of the recipe",
                self.refused.join("; ")
            ),
        ))
    }
}

/// Tries a teacher on utterances.
///
/// # Errors
/// [`ErrorKind::Data`] for fewer than two utterances; what asking reports.
pub fn examine(
    teacher: &mut dyn Aligner,
    utterances: &[Question],
    config: &GuardConfig,
) -> Result<Findings> {
    if utterances.len() < 2 {
        return Err(Error::new(
            ErrorKind::Data,
            format!(
                "{} utterances to try a teacher on; at least 2 are needed",
                utterances.len()
            ),
        ));
    }
    let blank = teacher.blank();
    let stride = teacher.stride();
    let plain = teacher.ask(utterances)?;
    let heard: Vec<Vec<Spike>> = read(&plain, blank);
    let repeats = |answers: &[Vec<Spike>], questions: &[Question]| {
        let pairs = answers.iter().zip(questions);
        let same = pairs.filter(|(spikes, question)| symbols(spikes) == question.targets);
        same.count() as f64 / questions.len().max(1) as f64
    };
    let right = repeats(&heard, utterances);
    let (mut edits, mut total) = (0, 0);
    for (spikes, question) in heard.iter().zip(utterances) {
        edits += edit_counts(&question.targets, &symbols(spikes)).edits();
        total += question.targets.len();
    }

    let late: Vec<Question> = utterances
        .iter()
        .map(|question| shifted(question, config.shift_frames * stride))
        .collect();
    let moved = read(&teacher.ask(&late)?, blank);
    let ratios: Vec<f64> = heard
        .iter()
        .zip(&moved)
        .flat_map(|(before, after)| moves(before, after))
        .map(|distance| distance / config.shift_frames as f64)
        .collect();

    let swapped = swapped(utterances, stride);
    let answers = read(&teacher.ask(&swapped)?, blank);
    let (swap, swap_part) = (repeats(&answers, &swapped), said_part(&answers, &swapped));
    let noisy: Vec<Question> = utterances.iter().map(noise).collect();
    let answers = read(&teacher.ask(&noisy)?, blank);
    let (noise, noise_part) = (repeats(&answers, &noisy), said_part(&answers, &noisy));
    let spliced: Vec<Question> = utterances.iter().map(spliced).collect();
    let splice = repeats(&read(&teacher.ask(&spliced)?, blank), &spliced);
    let monotone: Vec<f64> = plain
        .iter()
        .filter_map(|answer| Some(monotonicity(answer.attention.as_ref()?.view())))
        .collect();
    let mut findings = Findings {
        utterances: utterances.len(),
        right,
        symbol_errors: 100.0 * edits as f64 / total.max(1) as f64,
        shift: mean(&ratios),
        shift_compared: ratios.len() as f64 / total.max(1) as f64,
        swap,
        swap_part,
        noise,
        noise_part,
        splice,
        monotone: (!monotone.is_empty()).then(|| mean(&monotone)),
        seeds: None,
        refused: Vec::new(),
    };
    findings.judge(config);
    Ok(findings)
}

impl Findings {
    fn judge(&mut self, config: &GuardConfig) {
        let mut refuse = |fails: bool, text: String| {
            if fails {
                self.refused.push(text);
            }
        };
        let below = |value: f64, least: f32| value < f64::from(least);
        let above = |value: f64, most: f32| value > f64::from(most);
        refuse(
            above(self.symbol_errors / 100.0, config.errors_most),
            format!(
                "it says {:.1} % of the symbols of its training utterances wrongly, at most {:.1} % leave anything to \
                 follow: it is not ripe",
                self.symbol_errors,
                100.0 * config.errors_most
            ),
        );
        refuse(
            below(self.shift, config.shift_least),
            format!(
                "its spikes move by {:.2} of a shift of the audio, at least {:.2} is asked for: it goes by the clock",
                self.shift, config.shift_least
            ),
        );
        for (value, what) in [
            (self.swap_part, "another utterance's audio"),
            (self.noise_part, "noise"),
        ] {
            refuse(
                above(value, config.part_most),
                format!(
                    "given {what} it still says {:.1} % of the transcript, at most {:.1} % are allowed",
                    100.0 * value,
                    100.0 * config.part_most
                ),
            );
        }
        for (value, most, what) in [
            (self.swap, config.swap_most, "another utterance's audio"),
            (self.noise, config.noise_most, "noise"),
            (
                self.splice,
                config.splice_most,
                "the halves in the wrong order",
            ),
        ] {
            refuse(
                above(value, most),
                format!(
                    "given {what} it still says the transcript in {:.1} % of the cases, at most {:.1} % are allowed",
                    100.0 * value,
                    100.0 * most
                ),
            );
        }
    }

    /// Compares with a teacher of another seed, both asked about `utterances`.
    ///
    /// # Errors
    /// What asking reports.
    pub fn compare(
        &mut self,
        teacher: &mut dyn Aligner,
        other: &mut dyn Aligner,
        utterances: &[Question],
        config: &GuardConfig,
    ) -> Result<()> {
        let own = read(&teacher.ask(utterances)?, teacher.blank());
        let theirs = read(&other.ask(utterances)?, other.blank());
        let distances: Vec<f64> = own
            .iter()
            .zip(&theirs)
            .flat_map(|(a, b)| moves(a, b))
            .map(f64::abs)
            .collect();
        let distance = mean(&distances);
        self.seeds = Some(distance);
        if distances.is_empty() || distance > f64::from(config.seeds_most) {
            self.refused.push(format!(
                "its spikes stand {distance:.1} frames from those of a teacher of another seed ({} spikes compared), at \
                 most {:.1} are allowed",
                distances.len(),
                config.seeds_most
            ));
        }
        Ok(())
    }
}

fn read(answers: &[Answer], blank: u32) -> Vec<Vec<Spike>> {
    answers
        .iter()
        .map(|answer| spikes(answer.log_probs.view(), blank))
        .collect()
}

/// Mean part of the transcripts that is said: 1 less the symbol errors, at least 0.
fn said_part(answers: &[Vec<Spike>], questions: &[Question]) -> f64 {
    let parts: Vec<f64> = answers
        .iter()
        .zip(questions)
        .map(|(spikes, question)| {
            let counts = edit_counts(&question.targets, &symbols(spikes));
            (1.0 - counts.rate()).max(0.0)
        })
        .collect();
    mean(&parts)
}

/// The frame of least energy, `[F, 1]`: what quiet sounds like in this recording.
fn quietest(features: ArrayView2<'_, f32>) -> Array2<f32> {
    let energy = features.sum_axis(Axis(0));
    let (mut quiet, mut least) = (0, f32::INFINITY);
    for (frame, &value) in energy.iter().enumerate() {
        if value < least {
            (quiet, least) = (frame, value);
        }
    }
    features
        .slice_axis(Axis(1), (quiet..(quiet + 1).min(features.ncols())).into())
        .to_owned()
}

/// The same with `frames` quiet frames in front.
fn shifted(question: &Question, frames: usize) -> Question {
    let quiet = quietest(question.features.view());
    let channels = question.features.nrows();
    let front = Array2::from_shape_fn((channels, frames), |(f, _)| {
        quiet.get((f, 0)).copied().unwrap_or(0.0)
    });
    let features = concatenate(Axis(1), &[front.view(), question.features.view()])
        .unwrap_or_else(|_| question.features.clone());
    Question {
        features,
        ..question.clone()
    }
}

/// Each utterance's audio with the transcript of the next that says something else and has room there.
fn swapped(utterances: &[Question], stride: usize) -> Vec<Question> {
    let count = utterances.len();
    let mut out = Vec::with_capacity(count);
    for (index, own) in utterances.iter().enumerate() {
        let steps = own.features.ncols() / stride.max(1);
        let other = (1..count)
            .map(|step| &utterances[(index + step) % count])
            .find(|other| other.targets != own.targets && 2 * other.targets.len() <= steps);
        if let Some(other) = other {
            out.push(Question {
                targets: other.targets.clone(),
                ..own.clone()
            });
        }
    }
    out
}

/// The same transcript over standard normal noise: features are normalized to that spread.
fn noise(question: &Question) -> Question {
    let mut random = ChaCha8Rng::seed_from_u64(question.features.ncols() as u64);
    let mut draw = || {
        // Twelve uniform numbers add up to a normal one, nearly.
        (0..12).map(|_| random.random::<f32>()).sum::<f32>() - 6.0
    };
    Question {
        features: Array2::from_shape_simple_fn(question.features.dim(), &mut draw),
        ..question.clone()
    }
}

/// The same with the halves of the audio exchanged.
fn spliced(question: &Question) -> Question {
    let frames = question.features.ncols();
    let half = frames / 2;
    let features = Array2::from_shape_fn(question.features.dim(), |(f, t)| {
        question.features[[f, (t + half) % frames.max(1)]]
    });
    Question {
        features,
        ..question.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Symbol v sounds as feature v; frames without a sound are quiet.
    fn utterance(targets: &[u32], salt: usize) -> Question {
        let mut features = Array2::from_elem((4, 12 + 12 * targets.len() + 2 * (salt % 3)), -1.0);
        for (index, &symbol) in targets.iter().enumerate() {
            for t in 0..4 {
                features[[symbol as usize, 8 + 12 * index + 2 * (salt % 3) + t]] = 2.0;
            }
        }
        Question {
            features,
            targets: targets.to_vec(),
            name: format!("utterance {salt}"),
        }
    }

    fn utterances() -> Vec<Question> {
        let texts: [&[u32]; 6] = [
            &[1, 2, 3],
            &[3, 1],
            &[2, 3, 1],
            &[1, 3, 2],
            &[2, 1],
            &[3, 2, 1],
        ];
        texts
            .iter()
            .enumerate()
            .map(|(salt, text)| utterance(text, salt))
            .collect()
    }

    /// A teacher by rule.
    struct Rule {
        /// The symbol at an output frame, 0 for blank.
        says: fn(&Question, usize) -> u32,
        /// Frames by which its answers come late.
        late: usize,
    }

    impl Aligner for Rule {
        fn features(&self) -> usize {
            4
        }

        fn stride(&self) -> usize {
            2
        }

        fn blank(&self) -> u32 {
            0
        }

        fn ask(&mut self, questions: &[Question]) -> Result<Vec<Answer>> {
            let answer = |question: &Question| {
                let steps = question.features.ncols().div_ceil(2);
                let mut scores = Array2::from_elem((steps, 4), -9.0);
                for step in 0..steps {
                    let symbol = match step.checked_sub(self.late) {
                        Some(step) => (self.says)(question, step),
                        None => 0,
                    };
                    scores[[step, symbol as usize]] = -0.1;
                }
                Answer {
                    log_probs: scores,
                    hidden: None,
                    attention: None,
                }
            };
            Ok(questions.iter().map(answer).collect())
        }
    }

    /// The symbol that sounds.
    fn listens(question: &Question, step: usize) -> u32 {
        let loud = (1..4).find(|&v| question.features[[v as usize, 2 * step]] > 1.9);
        loud.unwrap_or(0)
    }

    /// Symbol i of the transcript at frame 3 i, whatever sounds.
    fn goes_by_the_clock(question: &Question, step: usize) -> u32 {
        match step % 3 {
            0 => question.targets.get(step / 3).copied().unwrap_or(0),
            _ => 0,
        }
    }

    #[test]
    fn a_listener_may_guide() {
        let mut teacher = Rule {
            says: listens,
            late: 0,
        };
        let findings = examine(&mut teacher, &utterances(), &GuardConfig::default()).unwrap();
        assert_eq!(findings.refused, Vec::<String>::new());
        findings.admit().unwrap();
        assert_eq!((findings.right, findings.shift), (1.0, 1.0));
        assert_eq!((findings.swap, findings.noise), (0.0, 0.0));
    }

    #[test]
    fn a_clock_copier_is_refused_and_told_why() {
        let mut teacher = Rule {
            says: goes_by_the_clock,
            late: 0,
        };
        let findings = examine(&mut teacher, &utterances(), &GuardConfig::default()).unwrap();
        // What a loss would see of it is perfect.
        assert_eq!((findings.right, findings.symbol_errors), (1.0, 0.0));
        assert_eq!((findings.shift, findings.swap), (0.0, 1.0));
        assert_eq!((findings.noise, findings.splice), (1.0, 1.0));
        assert_eq!((findings.swap_part, findings.noise_part), (1.0, 1.0));
        let error = findings.admit().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Copies);
        for words in ["refused as a guide", "by the clock", "noise", "mask"] {
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn teachers_that_disagree_about_time_are_refused() {
        let rule = |late| Rule {
            says: listens,
            late,
        };
        let config = GuardConfig::default();
        for (late, refused) in [(1, false), (5, true)] {
            let mut findings = examine(&mut rule(0), &utterances(), &config).unwrap();
            findings
                .compare(&mut rule(0), &mut rule(late), &utterances(), &config)
                .unwrap();
            assert!((findings.seeds.unwrap() - late as f64).abs() < 1e-9);
            assert_eq!(findings.admit().is_err(), refused);
        }
    }

    #[test]
    fn one_utterance_is_too_few() {
        let mut teacher = Rule {
            says: listens,
            late: 0,
        };
        let error = examine(&mut teacher, &utterances()[..1], &GuardConfig::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
    }
}
