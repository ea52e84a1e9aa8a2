//! The decoder: frames in, in any chunking, and readings out.

use super::assemble::{self, Reading};
use super::beam::Beam;
use super::frame::{self, Frame};
use super::greedy::Greedy;
use crate::transcript::{FrameSpan, NBest, TokenSpan, Transcript};
use crate::{LogProbs, Result, Tokens};
use std::collections::HashSet;
use std::sync::Arc;

/// The text so far of an input that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Partial {
    /// What no later frame can change: it only ever grows.
    pub stable: String,
    /// What follows it as things stand; append it to `stable` as it is.
    pub tentative: String,
}

/// A search under way over one input.
///
/// Frames may be pushed in any chunking: the result is the same to the last bit. Memory is bounded by the
/// settings and by the text found; [`take_stable`](Self::take_stable) hands that text over as it comes.
#[derive(Debug, Clone)]
pub struct Decoder {
    tokens: Arc<Tokens>,
    search: Engine,
    /// The same search without the constraints, where there are any: what the margin is measured against.
    free: Option<Engine>,
    n_best: usize,
    frames: u64,
    /// Log-prob of the path of blanks.
    blank_path: f64,
    /// A frame whose scores do not lie side by side. `[V]`
    scratch: Vec<f32>,
}

/// The searches.
#[derive(Debug, Clone)]
pub(super) enum Engine {
    Greedy(Greedy),
    Beam(Box<Beam>),
}

impl Engine {
    fn step(&mut self, frame: &Frame<'_>) {
        match self {
            Self::Greedy(greedy) => greedy.step(frame),
            Self::Beam(beam) => beam.step(frame),
        }
    }

    /// The ids found and not taken: those that cannot change, and all of the best reading.
    fn ids(&self) -> (Vec<u32>, Vec<u32>) {
        match self {
            Self::Greedy(greedy) => {
                let ids: Vec<u32> = greedy.emitted().iter().map(|token| token.id).collect();
                (ids.clone(), ids)
            }
            Self::Beam(beam) => (beam.stable(), beam.leading()),
        }
    }

    fn last_end(&self) -> Option<u64> {
        match self {
            Self::Greedy(greedy) => greedy.emitted().last().map(|token| token.span.end),
            Self::Beam(beam) => beam.last_end(),
        }
    }

    /// The ids that [`take`](Self::take) can take.
    fn committed(&mut self) -> Vec<u32> {
        match self {
            Self::Greedy(greedy) => greedy.emitted().iter().map(|token| token.id).collect(),
            Self::Beam(beam) => beam.commit().iter().map(|token| token.id).collect(),
        }
    }

    fn take(&mut self, count: usize) -> Vec<TokenSpan<FrameSpan>> {
        match self {
            Self::Greedy(greedy) => greedy.take(count),
            Self::Beam(beam) => beam.take(count),
        }
    }

    fn best_score(&self) -> f64 {
        match self {
            Self::Greedy(greedy) => greedy.score(),
            Self::Beam(beam) => beam.best_score(),
        }
    }
}

impl Decoder {
    pub(super) fn new(
        tokens: Arc<Tokens>,
        search: Engine,
        free: Option<Engine>,
        n_best: usize,
    ) -> Self {
        Self {
            tokens,
            search,
            free,
            n_best,
            frames: 0,
            blank_path: 0.0,
            scratch: Vec::new(),
        }
    }

    /// Takes in the next frames, `[T, V]`; T may be 0.
    ///
    /// Fails with [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) where V is not the
    /// vocabulary's, and on a frame with NaN, plus infinity or no possible token, naming the frame; the frames
    /// before it have been taken in then, it and those after it have not.
    pub fn push(&mut self, scores: &LogProbs<'_>) -> Result<()> {
        scores.expect_vocabulary(self.tokens.len())?;
        let blank = self.tokens.blank();
        if let (Engine::Greedy(greedy), None) = (&mut self.search, &self.free) {
            // Takes so little time that a choice of search in every frame would tell.
            for t in 0..scores.frames() {
                let frame = frame::read(scores, t, self.frames, blank, &mut self.scratch)?;
                greedy.step(&frame);
                self.blank_path += f64::from(frame.log_prob(blank as usize));
                self.frames += 1;
            }
            return Ok(());
        }
        for t in 0..scores.frames() {
            let frame = frame::read(scores, t, self.frames, blank, &mut self.scratch)?;
            self.search.step(&frame);
            if let Some(free) = &mut self.free {
                free.step(&frame);
            }
            self.blank_path += f64::from(frame.log_prob(blank as usize));
            self.frames += 1;
        }
        Ok(())
    }

    /// The number of frames taken in.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// The text so far, without what [`take_stable`](Self::take_stable) took.
    pub fn partial(&self) -> Partial {
        let (stable, leading) = self.search.ids();
        let stable = self.tokens.text(&stable);
        let leading = self.tokens.text(&leading);
        let tentative = leading.strip_prefix(stable.as_str()).unwrap_or_default();
        Partial {
            tentative: tentative.to_owned(),
            stable,
        }
    }

    /// Frames since the last token of the best reading, constraints aside, or since the start: what an endpoint rule
    /// counts.
    pub fn trailing_blanks(&self) -> u64 {
        let search = self.free.as_ref().unwrap_or(&self.search);
        self.frames - search.last_end().unwrap_or(0)
    }

    /// Decides for the best reading as things stand, but for its last `open` tokens, so that
    /// [`take_stable`](Self::take_stable) has something to take where a beam is long undecided.
    pub fn decide(&mut self, open: u32) {
        if let Engine::Beam(beam) = &mut self.search {
            beam.decide(open);
        }
    }

    /// Takes out the words that no later frame can change, so that a stream of hours keeps no more than the
    /// words under way. The spans count from the start of the stream, the tokens' positions from what was taken.
    pub fn take_stable(&mut self) -> Transcript<FrameSpan> {
        let ids = self.search.committed();
        // The last word may still grow, so it stays.
        let under_way = self.tokens.words(&ids).pop();
        let emitted = (self.search).take(under_way.map_or(0, |word| word.tokens.start));
        let reading = Reading {
            score: 0.0,
            margin: None,
            silence: 1.0,
        };
        assemble::transcript(&self.tokens, emitted, reading)
    }

    /// Ends the input: its readings, best first and no two with the same text, without what
    /// [`take_stable`](Self::take_stable) took.
    ///
    /// Where nothing at all fits the constraints or the lexicon, the reading is empty and its score and margin
    /// are minus infinity.
    pub fn finish(self) -> Result<NBest<FrameSpan>> {
        let free = self.free.as_ref().map(Engine::best_score);
        let silence = assemble::silence_confidence(self.blank_path, self.frames);
        let read = |tokens, score, margin| {
            let reading = Reading {
                score,
                margin,
                silence,
            };
            assemble::transcript(&self.tokens, tokens, reading)
        };
        let mut found: Vec<Transcript<FrameSpan>> = Vec::new();
        match self.search {
            Engine::Greedy(greedy) => {
                let (score, margin) = (greedy.score(), greedy.margin());
                found.push(read(greedy.into_emitted(), score, margin));
            }
            Engine::Beam(beam) => {
                let mut texts = HashSet::new();
                for reading in beam.readings() {
                    if found.len() == self.n_best {
                        break;
                    }
                    let score = reading.score;
                    let reading = read(reading.tokens, score, free.map(|free| score - free));
                    if self.n_best == 1 || texts.insert(reading.text.clone()) {
                        found.push(reading);
                    }
                }
            }
        }
        let mut found = found.into_iter();
        let best = match found.next() {
            Some(best) => best,
            None => read(
                Vec::new(),
                f64::NEG_INFINITY,
                free.map(|_| f64::NEG_INFINITY),
            ),
        };
        Ok(NBest::new(best, found.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Decoding;
    use ndarray::{Array2, ArrayView2, Axis, Slice};
    use proptest::prelude::*;

    fn letters() -> Arc<Tokens> {
        Arc::new(Tokens::characters(["", " ", "a", "b", "c"], 0).unwrap())
    }

    fn rows(matrix: &Array2<f32>, range: std::ops::Range<usize>) -> ArrayView2<'_, f32> {
        matrix.slice_axis(Axis(0), Slice::from(range))
    }

    /// Logits with `ids` on top, one per frame.
    fn spell(ids: &[usize], vocabulary: usize) -> Array2<f32> {
        Array2::from_shape_fn(
            (ids.len(), vocabulary),
            |(t, v)| if ids[t] == v { 5.0 } else { 0.0 },
        )
    }

    fn matrices(vocabulary: usize) -> impl Strategy<Value = Array2<f32>> {
        prop::collection::vec(-8f32..8.0, 0..40 * vocabulary).prop_map(move |values| {
            let frames = values.len() / vocabulary;
            Array2::from_shape_fn((frames, vocabulary), |(t, v)| values[t * vocabulary + v])
        })
    }

    #[test]
    fn words_have_times_and_confidences() {
        let scores = spell(&[0, 2, 2, 0, 2, 1, 0, 3, 4, 4], 5);
        let readings = Decoding::greedy()
            .decode(&letters(), &LogProbs::from_logits(scores.view()))
            .unwrap();
        let best = readings.best();
        assert_eq!(best.text, "aa bc");
        assert_eq!(best.ids(), [2, 2, 1, 3, 4]);
        let spans: Vec<(u64, u64)> = best
            .tokens
            .iter()
            .map(|t| (t.span.start, t.span.end))
            .collect();
        assert_eq!(spans, [(1, 3), (4, 5), (5, 6), (7, 8), (8, 10)]);
        assert_eq!(best.words[0].span, FrameSpan { start: 1, end: 5 });
        assert_eq!(best.words[1].span, FrameSpan { start: 7, end: 10 });
        let certain = 1.0 / (1.0 + 4.0 * (-5f32).exp());
        assert!((best.words[1].confidence - certain * certain).abs() < 1e-5);
        assert!((best.confidence - certain * certain).abs() < 1e-5);
        assert!((best.score - 10.0 * f64::from(certain.ln())).abs() < 1e-4);
    }

    #[test]
    fn silence_and_nothing_are_empty() {
        for frames in [0, 7] {
            let scores = spell(&vec![0; frames], 5);
            let readings = Decoding::greedy()
                .decode(&letters(), &LogProbs::from_logits(scores.view()))
                .unwrap();
            let best = readings.best();
            assert_eq!((best.text.as_str(), best.tokens.len()), ("", 0));
            assert!(best.confidence > 0.95, "{}", best.confidence);
        }
    }

    #[test]
    fn bad_input_is_refused() {
        let mut decoder = Decoding::greedy().plan(&letters()).unwrap().decoder();
        let mut scores = spell(&[2, 0, 3], 5);
        scores[[1, 4]] = f32::NAN;
        decoder
            .push(&LogProbs::from_logits(rows(&scores, 0..1)))
            .unwrap();
        let error = decoder
            .push(&LogProbs::from_logits(scores.view()))
            .unwrap_err();
        assert!(
            error.to_string().contains("frame 2 is NaN at token 4"),
            "{error}"
        );
        assert_eq!(decoder.frames(), 2);
        let narrow = spell(&[1], 4);
        let error = decoder
            .push(&LogProbs::from_logits(narrow.view()))
            .unwrap_err();
        assert!(error.to_string().contains("4 entries per frame"), "{error}");
    }

    #[test]
    fn stable_words_are_taken_once() {
        let scores = spell(&[2, 1, 3, 4, 1, 1, 4, 0], 5);
        let mut decoder = Decoding::greedy().plan(&letters()).unwrap().decoder();
        let mut taken = Vec::new();
        for t in 0..8 {
            decoder
                .push(&LogProbs::from_logits(rows(&scores, t..t + 1)))
                .unwrap();
            taken.push(decoder.take_stable().text);
        }
        assert_eq!(taken.join("/"), "//a////bc/");
        assert_eq!(decoder.partial().stable, "c");
        assert_eq!(decoder.trailing_blanks(), 1);
        let last = decoder.finish().unwrap().into_best();
        assert_eq!((last.text.as_str(), last.words[0].span.start), ("c", 6));
    }

    proptest! {
        #[test]
        fn chunking_changes_nothing(matrix in matrices(5), cuts in prop::collection::vec(0usize..9, 0..30)) {
            let plan = Decoding::greedy().plan(&letters()).unwrap();
            let whole = plan.decode(&LogProbs::from_logits(matrix.view())).unwrap();
            let mut decoder = plan.decoder();
            let mut at = 0usize;
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let end = at.saturating_add(cut).min(matrix.nrows());
                decoder.push(&LogProbs::from_logits(rows(&matrix, at..end))).unwrap();
                at = end;
            }
            prop_assert_eq!(decoder.finish().unwrap(), whole);
        }

        #[test]
        fn a_constant_per_frame_changes_nothing(matrix in matrices(5), shift in -3f32..3.0) {
            let plan = Decoding::greedy().plan(&letters()).unwrap();
            let moved = Array2::from_shape_fn(matrix.dim(), |at| matrix[at] + shift * (at.0 % 3) as f32);
            let plain = plan.decode(&LogProbs::from_logits(matrix.view())).unwrap();
            let moved = plan.decode(&LogProbs::from_logits(moved.view())).unwrap();
            prop_assert_eq!(&plain.best().text, &moved.best().text);
            prop_assert!((plain.best().confidence - moved.best().confidence).abs() < 1e-4);
        }

        #[test]
        fn ids_are_only_names(matrix in matrices(5), order in Just([3usize, 0, 4, 2, 1]).prop_shuffle()) {
            let pieces = ["", " ", "a", "b", "c"];
            let blank = order.iter().position(|&v| v == 0).unwrap() as u32;
            let renamed = Tokens::characters(order.map(|v| pieces[v]), blank).unwrap();
            let moved = Array2::from_shape_fn(matrix.dim(), |(t, v)| matrix[[t, order[v]]]);
            let plain = Decoding::greedy().decode(&letters(), &LogProbs::from_logits(matrix.view())).unwrap();
            let moved = Decoding::greedy().decode(&Arc::new(renamed), &LogProbs::from_logits(moved.view())).unwrap();
            prop_assert_eq!(&plain.best().text, &moved.best().text);
            let spans = |n: &NBest<FrameSpan>| n.best().words.iter().map(|w| w.span).collect::<Vec<_>>();
            prop_assert_eq!(spans(&plain), spans(&moved));
        }
    }
}
