//! Readings of one crop over several frames, combined.
//!
//! A reading that is right with probability c leaves the doubt 1 - c, and so brings the evidence `-ln(1 - c)` for its
//! text. Evidence fades by a factor a reading, since what frames in a row show is nearly the same picture and no
//! independent witness, and since what was read long ago may stand there no more. The combined confidence of a text
//! with evidence w of W in all is
//!
//! `(w / W) (1 - exp(-w))`:
//!
//! equal readings raise it towards `1 - (1 - c)^(1 / (1 - fading))`, readings that contradict each other hold it below
//! their share.

use crate::transcript::Transcript;

/// Texts that are held against each other; the weakest leaves for a new one.
const MOST: usize = 8;

/// The highest confidence a single reading is believed.
const SUREST: f64 = 0.999;

/// What the readings of one crop say together.
#[derive(Debug, Clone)]
pub(super) struct Agreement<S> {
    candidates: Vec<Candidate<S>>,
    fading: f64,
}

#[derive(Debug, Clone)]
struct Candidate<S> {
    evidence: f64,
    readings: usize,
    newest: Transcript<S>,
}

/// The text that most speaks for.
#[derive(Debug)]
pub(super) struct Agreed<'a, S> {
    pub(super) confidence: f32,
    pub(super) readings: usize,
    pub(super) newest: &'a Transcript<S>,
}

impl<S> Agreement<S> {
    /// No reading yet; evidence fades by `fading` in [0, 1) a reading.
    pub(super) fn new(fading: f32) -> Self {
        Self {
            candidates: Vec::new(),
            fading: f64::from(fading),
        }
    }

    /// Takes another reading.
    pub(super) fn add(&mut self, reading: Transcript<S>) {
        for candidate in &mut self.candidates {
            candidate.evidence *= self.fading;
        }
        let evidence = -(1.0 - certainty(&reading).min(SUREST)).ln();
        let known = self
            .candidates
            .iter_mut()
            .find(|c| c.newest.text == reading.text);
        if let Some(candidate) = known {
            candidate.evidence += evidence;
            candidate.readings += 1;
            candidate.newest = reading;
            return;
        }
        if self.candidates.len() == MOST {
            let weakest = (self.candidates.iter().enumerate())
                .min_by(|a, b| a.1.evidence.total_cmp(&b.1.evidence))
                .map(|(index, _)| index);
            weakest.map(|index| self.candidates.swap_remove(index));
        }
        self.candidates.push(Candidate {
            evidence,
            readings: 1,
            newest: reading,
        });
    }

    /// The text that most speaks for, if there was any reading.
    pub(super) fn best(&self) -> Option<Agreed<'_, S>> {
        let best = (self.candidates.iter()).max_by(|a, b| a.evidence.total_cmp(&b.evidence))?;
        let all: f64 = self.candidates.iter().map(|c| c.evidence).sum();
        let share = if all > 0.0 { best.evidence / all } else { 0.0 };
        Some(Agreed {
            confidence: (share * -(-best.evidence).exp_m1()) as f32,
            readings: best.readings,
            newest: &best.newest,
        })
    }
}

/// How likely the whole text is right, in [0, 1].
fn certainty<S>(reading: &Transcript<S>) -> f64 {
    let certainty: f64 = match reading.words.as_slice() {
        [] => f64::from(reading.confidence),
        words => words
            .iter()
            .map(|word| f64::from(word.confidence))
            .product(),
    };
    // A confidence that is no number says nothing.
    if certainty.is_nan() {
        0.0
    } else {
        certainty.clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcript::Word;
    use proptest::prelude::*;

    fn reading(text: &str, confidence: f32) -> Transcript<()> {
        Transcript {
            text: text.into(),
            confidence,
            score: 0.0,
            margin: None,
            words: vec![Word {
                text: text.into(),
                span: (),
                confidence,
                tokens: 0..0,
            }],
            tokens: Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn equal_readings_raise_the_confidence(confidence in 0.01f32..0.95, fading in 0.1f32..0.95, count in 2usize..20) {
            let mut agreement = Agreement::new(fading);
            let mut last = 0.0;
            for index in 0..count {
                agreement.add(reading("exit", confidence));
                let best = agreement.best().unwrap();
                prop_assert_eq!(best.readings, index + 1);
                prop_assert!(best.confidence >= last && best.confidence <= 1.0);
                if index == 0 {
                    prop_assert!((best.confidence - confidence).abs() < 1e-5);
                }
                if index == 1 {
                    prop_assert!(best.confidence > last);
                }
                last = best.confidence;
            }
        }

        /// Two texts in turn: none has more than its share of three readings.
        #[test]
        fn readings_that_differ_do_not_settle(confidence in 0.01f32..0.99, fading in 0.1f32..0.9, count in 2usize..40) {
            let mut agreement = Agreement::new(fading);
            for index in 0..count {
                agreement.add(reading(["left", "lift"][index % 2], confidence));
            }
            let share = (1.0 + fading * fading) / (1.0 + fading + fading * fading);
            prop_assert!(agreement.best().unwrap().confidence <= share + 1e-4);
        }

        #[test]
        fn memory_is_bounded(texts in prop::collection::vec((any::<u16>(), -1.0f32..2.0), 0..200)) {
            let mut agreement = Agreement::new(0.75);
            for (text, confidence) in texts {
                agreement.add(reading(&text.to_string(), confidence));
                prop_assert!(agreement.candidates.len() <= MOST);
                let confidence = agreement.best().unwrap().confidence;
                prop_assert!((0.0..=1.0).contains(&confidence));
            }
        }
    }

    #[test]
    fn a_new_text_wins_in_time() {
        let mut agreement = Agreement::new(0.75);
        for _ in 0..50 {
            agreement.add(reading("open", 0.9));
        }
        let mut needed = 0;
        while agreement.best().unwrap().newest.text == "open" {
            agreement.add(reading("shut", 0.9));
            needed += 1;
        }
        assert!(needed <= 3, "{needed} readings");
        assert!(agreement.best().unwrap().confidence < 0.9);
    }

    #[test]
    fn what_is_no_number_says_nothing() {
        let mut agreement = Agreement::new(0.75);
        agreement.add(reading("odd", f32::NAN));
        assert_eq!(agreement.best().unwrap().confidence, 0.0);
    }
}
