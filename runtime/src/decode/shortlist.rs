//! Token pre-selection: which tokens of a frame are worth extending a prefix by, found once per frame.
//!
//! For a vocabulary of thousands almost all tokens of a frame are out of question. One pass over the frame's
//! scores keeps those within a cut of the best, the most probable ones only; everything after works on these few.

use super::frame::Frame;
use crate::spec::OutputValues;

/// Scores looked at together: where none passes, the whole chunk is skipped with one branch.
const CHUNK: usize = 16;

/// What limits the shortlist.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limits {
    /// How far below the frame's best token, in nats.
    pub cut: f32,
    /// How many tokens.
    pub most: usize,
}

/// A token worth extending prefixes by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pick {
    /// The most a prefix's mass can be multiplied by: the probability times the largest gain.
    pub reach: f64,
    pub prob: f64,
    pub id: u32,
}

/// Vocabularies up to this size have all their probabilities computed in every frame, in one vectorized loop.
const SMALL: usize = 128;

/// The shortlist of the current frame, and its probabilities as far as they were asked for.
#[derive(Debug, Clone)]
pub(crate) struct Shortlist {
    picks: Vec<Pick>,
    /// The probability of each token, valid where its stamp is the current one. `[V]`
    probs: Vec<f32>,
    /// When each probability was computed; empty for a small vocabulary. `[V]`
    stamps: Vec<u32>,
    stamp: u32,
}

impl Shortlist {
    pub fn new(vocabulary: usize) -> Self {
        let stamps = if vocabulary <= SMALL { 0 } else { vocabulary };
        Self {
            picks: Vec::new(),
            probs: vec![0.0; vocabulary],
            stamps: vec![0; stamps],
            stamp: 0,
        }
    }

    /// Begins a frame: probabilities of the frame before are forgotten.
    pub fn next_frame(&mut self, frame: &Frame<'_>) {
        if self.stamps.is_empty() {
            frame.probs(&mut self.probs);
            return;
        }
        self.stamp = self.stamp.wrapping_add(1);
        if self.stamp == 0 {
            self.stamps.fill(0);
            self.stamp = 1;
        }
    }

    /// The probabilities of the current frame, `[V]`, where all are computed.
    pub fn all_probs(&self) -> Option<&[f32]> {
        self.stamps.is_empty().then_some(self.probs.as_slice())
    }

    /// Token `id`'s probability in the current frame, computed once.
    #[inline]
    pub fn prob(&mut self, frame: &Frame<'_>, id: u32) -> f32 {
        let at = id as usize;
        if let Some(stamp) = self.stamps.get_mut(at)
            && *stamp != self.stamp
        {
            *stamp = self.stamp;
            self.probs[at] = frame.prob(at);
        }
        self.probs[at]
    }

    /// Picks the tokens other than `blank` within `limits`, the farthest-reaching first. `gain` bounds what a
    /// token's probability may be multiplied by.
    pub fn pick(
        &mut self,
        frame: &Frame<'_>,
        blank: u32,
        limits: Limits,
        gain: impl Fn(u32) -> f64,
    ) {
        let lowest = match frame.values {
            OutputValues::Probs => frame.peak * (-limits.cut).exp(),
            OutputValues::Logits | OutputValues::LogProbs => frame.peak - limits.cut,
        };
        self.picks.clear();
        let mut start = 0u32;
        for chunk in frame.scores.chunks(CHUNK) {
            let any = chunk
                .iter()
                .fold(false, |any, &score| any | (score >= lowest));
            if any {
                for (id, &score) in (start..).zip(chunk) {
                    if score >= lowest && id != blank {
                        self.add(frame, id, &gain);
                    }
                }
            }
            start += CHUNK as u32;
        }
        self.order(limits.most);
    }

    /// Picks among `ids` only, however improbable they are.
    pub fn pick_among(
        &mut self,
        frame: &Frame<'_>,
        ids: &[u32],
        most: usize,
        gain: impl Fn(u32) -> f64,
    ) {
        self.picks.clear();
        for &id in ids {
            self.add(frame, id, &gain);
        }
        self.order(most);
    }

    /// The tokens picked, the farthest-reaching first.
    pub fn picks(&self) -> &[Pick] {
        &self.picks
    }

    fn add(&mut self, frame: &Frame<'_>, id: u32, gain: &impl Fn(u32) -> f64) {
        let prob = f64::from(self.prob(frame, id));
        if prob > 0.0 {
            let reach = prob * gain(id);
            self.picks.push(Pick { reach, prob, id });
        }
    }

    fn order(&mut self, most: usize) {
        // Ties are broken by id, so that the order does not depend on how the sort works.
        let farthest = |a: &Pick, b: &Pick| b.reach.total_cmp(&a.reach).then(a.id.cmp(&b.id));
        if self.picks.len() > most {
            self.picks.select_nth_unstable_by(most, farthest);
            self.picks.truncate(most);
        }
        self.picks.sort_unstable_by(farthest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LogProbs;
    use crate::decode::frame;
    use ndarray::Array2;

    fn picked(scores: &LogProbs<'_>, limits: Limits) -> Vec<u32> {
        let mut shortlist = Shortlist::new(scores.vocabulary());
        let mut scratch = Vec::new();
        let frame = frame::read(scores, 0, 0, 2, &mut scratch).unwrap();
        shortlist.next_frame(&frame);
        shortlist.pick(&frame, 2, limits, |_| 1.0);
        shortlist.picks().iter().map(|pick| pick.id).collect()
    }

    #[test]
    fn the_best_within_the_cut_are_picked() {
        let mut logs = Array2::from_elem((1, 40), -20.0f32);
        for (id, value) in [
            (2, -0.1),
            (5, -3.0),
            (17, -2.5),
            (39, -6.0),
            (0, f32::NEG_INFINITY),
        ] {
            logs[[0, id]] = value;
        }
        let probs = logs.mapv(f32::exp);
        for scores in [
            LogProbs::from_log_probs(logs.view()),
            LogProbs::from_probs(probs.view()),
        ] {
            let within = |cut, most| picked(&scores, Limits { cut, most });
            assert_eq!(within(5.0, 9), [17, 5]);
            assert_eq!(within(6.0, 9), [17, 5, 39]);
            assert_eq!(within(6.0, 2), [17, 5]);
            assert_eq!(within(0.0, 9), [0; 0]);
            assert_eq!(within(f32::INFINITY, 99).len(), 38);
        }
    }
}
