//! From runs over blocks to the scores of one utterance: the delay taken out, the end flushed.
//!
//! An utterance of T feature frames has `N = ceil(T / stride)` output frames. A model that streams is given
//! `(N + delay_frames) * stride` frames: the T real ones, then frames filled with `flush_value`. Its first
//! `delay_frames` outputs are dropped and the N after them kept, so output i belongs to the input frames from
//! `i * stride` on. The trainer does the same, and so does live use, whatever the block: T = 0 gives N = 0
//! without a run. A model with `overlap_frames` is shown that many more in every run, which the next run is shown
//! again; beyond the utterance's end they are flush frames too. A model that does not stream is run once, on exactly
//! its T frames.

use super::{CtcModel, ModelState};
use crate::spec::FrontEnd;
use crate::{Error, ErrorKind, Result};
use ndarray::{Array2, ArrayView1, ArrayView2};
use std::sync::Arc;

/// Feature frames per run where nothing else is asked for: long enough that a run's fixed costs vanish, short
/// enough that an hour of audio takes no more memory than half a minute.
pub const BLOCK_FRAMES: usize = 2048;

/// Most frames of an utterance for a model that cannot be run in blocks: 11 minutes at 10 ms. Where frames are samples,
/// as many outputs.
const MAX_WHOLE_FRAMES: usize = 1 << 16;

/// By how many frames a whole-utterance graph's output may differ from `ceil(T / stride)`: unpadded
/// convolutions lose a few.
const SLACK: usize = 4;

/// One utterance on its way through a model. Memory is bounded by the block, however long the utterance.
#[derive(Debug)]
pub struct Sequence {
    model: Arc<dyn CtcModel>,
    state: ModelState,
    /// Feature frames per run; `None` for a model that takes whole utterances.
    block: Option<usize>,
    /// Further frames that each run is shown.
    overlap: usize,
    /// Whether each run must have exactly block and overlap.
    exact: bool,
    /// Most frames of a model that takes whole utterances.
    most: usize,
    /// Features not yet run, `[n, F]` in row-major order.
    pending: Vec<f32>,
    features: usize,
    pieces: usize,
    stride: usize,
    /// Outputs still to be dropped.
    delay: usize,
    flush: f32,
    /// Real frames pushed so far.
    frames: usize,
    /// Outputs handed out so far.
    emitted: usize,
}

impl Sequence {
    /// A new utterance, run in blocks of `block_frames` feature frames: rounded up to a multiple of the
    /// stride, and overruled by a graph with a fixed time axis.
    pub fn new(model: Arc<dyn CtcModel>, block_frames: usize) -> Self {
        let spec = model.spec();
        let stride = spec.stride.max(1);
        let streaming = spec.streaming.as_ref();
        let overlap = streaming.map_or(0, |s| s.overlap_frames);
        let exact = model
            .fixed_frames()
            .or(streaming.and_then(|s| s.exact_frames(&spec.graph)));
        let block = streaming.map(|_| {
            let block = block_frames.clamp(1, MAX_WHOLE_FRAMES);
            let fixed = exact.map(|frames| frames.saturating_sub(overlap).max(1));
            fixed.unwrap_or(block.next_multiple_of(stride))
        });
        let most = match spec.front_end {
            FrontEnd::Waveform(_) => MAX_WHOLE_FRAMES.saturating_mul(stride),
            _ => MAX_WHOLE_FRAMES,
        };
        Self {
            state: ModelState::start(spec),
            block,
            overlap,
            exact: exact.is_some(),
            most,
            pending: Vec::new(),
            features: spec.front_end.features(),
            pieces: spec.tokens.pieces.len(),
            stride,
            delay: streaming.map_or(0, |s| s.delay_frames),
            flush: streaming.map_or(0.0, |s| s.flush_value),
            frames: 0,
            emitted: 0,
            model,
        }
    }

    /// Takes features `[n, F]` and returns the scores `[m, V]` of the blocks they complete, m = 0 included.
    ///
    /// # Errors
    /// As [`CtcModel::run`]; [`ErrorKind::Limit`] when a model that cannot be run in blocks is given more
    /// than 65,536 frames. The sequence is of no further use after an error.
    pub fn push(&mut self, features: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        self.expect_width(&features)?;
        let mut scores = Vec::new();
        for frame in features.outer_iter() {
            self.take(frame)?;
            while let Some(block) = self.next_block()? {
                self.run(block, &mut scores)?;
            }
        }
        self.rows(scores)
    }

    /// Takes features `[n, F]` without running anything: for several sequences that are run together by
    /// [`run_together`](Self::run_together).
    ///
    /// # Errors
    /// As [`push`](Self::push), the run's own errors excepted.
    pub fn feed(&mut self, features: ArrayView2<'_, f32>) -> Result<()> {
        self.expect_width(&features)?;
        features.outer_iter().try_for_each(|frame| self.take(frame))
    }

    /// Whether a block waits to be run.
    pub fn is_ready(&self) -> bool {
        let held = self.pending.len() / self.features;
        self.block.is_some_and(|block| held >= block + self.overlap)
    }

    /// Runs one block of each sequence that has one waiting, all in one batch, and returns their scores `[m, V]` in
    /// the order of `sequences`, m = 0 for those that had none. All are sequences of one model.
    ///
    /// # Errors
    /// As [`CtcModel::run_batch`]; [`ErrorKind::InvalidArgument`] for sequences of different models.
    pub fn run_together(sequences: &mut [&mut Self]) -> Result<Vec<Array2<f32>>> {
        let Some(model) = sequences.first().map(|s| s.model.clone()) else {
            return Ok(Vec::new());
        };
        if sequences.iter().any(|s| !Arc::ptr_eq(&s.model, &model)) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "sequences of different models cannot be run together",
            ));
        }
        let mut blocks = Vec::with_capacity(sequences.len());
        for sequence in sequences.iter_mut() {
            blocks.push(sequence.next_block()?);
        }
        let mut runs: Vec<(ArrayView2<'_, f32>, &mut ModelState)> = sequences
            .iter_mut()
            .zip(&blocks)
            .filter_map(|(sequence, block)| Some((block.as_ref()?.view(), &mut sequence.state)))
            .collect();
        let mut outputs = model.run_batch(&mut runs)?.into_iter();
        (sequences.iter_mut().zip(&blocks))
            .map(|(sequence, block)| {
                let mut scores = Vec::new();
                if let Some(block) = block {
                    let out = outputs.next().ok_or_else(|| {
                        Error::new(ErrorKind::Inference, "the batch gave too few outputs")
                    })?;
                    sequence.accept(block.nrows(), &out, &mut scores)?;
                }
                sequence.rows(scores)
            })
            .collect()
    }

    /// Ends the utterance and returns its remaining scores, so that there are `ceil(T / stride)` in all.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(mut self) -> Result<Array2<f32>> {
        let mut scores = Vec::new();
        if self.frames == 0 {
            return self.rows(scores);
        }
        let steps = self.frames.div_ceil(self.stride);
        let Some(block) = self.block else {
            let whole = std::mem::take(&mut self.pending);
            self.run(self.matrix(whole)?, &mut scores)?;
            return self.rows(scores);
        };
        let delay = (self.model.spec().streaming.as_ref()).map_or(0, |s| s.delay_frames);
        let flushing = (steps + delay) * self.stride - self.frames;
        (self.pending).resize(self.pending.len() + flushing * self.features, self.flush);
        if self.exact {
            let held = self.pending.len() / self.features;
            let shown = held.next_multiple_of(block) + self.overlap;
            (self.pending).resize(shown * self.features, self.flush);
        }
        while let Some(full) = self.next_block()? {
            self.run(full, &mut scores)?;
        }
        if !self.exact && !self.pending.is_empty() {
            let rest = std::mem::take(&mut self.pending);
            self.run(self.matrix(rest)?, &mut scores)?;
        }
        let before = self.emitted - scores.len() / self.pieces;
        scores.truncate((steps - before) * self.pieces);
        self.rows(scores)
    }

    fn expect_width(&self, features: &ArrayView2<'_, f32>) -> Result<()> {
        if features.ncols() == self.features {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "{} features a frame where the model takes {}",
                features.ncols(),
                self.features
            ),
        ))
    }

    fn take(&mut self, frame: ArrayView1<'_, f32>) -> Result<()> {
        self.pending.extend(frame.iter());
        self.frames += 1;
        if self.block.is_none() && self.pending.len() / self.features > self.most {
            return Err(Error::new(
                ErrorKind::Limit,
                format!(
                    "model {:?} takes only whole utterances, of at most {} frames: cut the audio into parts, or use \
                     a model that streams",
                    self.model.spec().name,
                    self.most
                ),
            ));
        }
        Ok(())
    }

    /// The first pending frames, if they make a block.
    fn next_block(&mut self) -> Result<Option<Array2<f32>>> {
        let Some(block) = self.block.filter(|_| self.is_ready()) else {
            return Ok(None);
        };
        let rest = self.pending.split_off(block * self.features);
        let mut full = std::mem::replace(&mut self.pending, rest);
        full.extend_from_slice(&self.pending[..self.overlap * self.features]);
        self.matrix(full).map(Some)
    }

    fn matrix(&self, features: Vec<f32>) -> Result<Array2<f32>> {
        Array2::from_shape_vec((features.len() / self.features, self.features), features)
            .map_err(|e| Error::new(ErrorKind::InvalidArgument, "features").with_source(e))
    }

    fn run(&mut self, features: Array2<f32>, scores: &mut Vec<f32>) -> Result<()> {
        let out = self.model.run(features.view(), &mut self.state)?;
        self.accept(features.nrows(), &out, scores)
    }

    /// Appends what a run over `frames` frames gave, checked and with the delay taken out.
    fn accept(&mut self, frames: usize, out: &Array2<f32>, scores: &mut Vec<f32>) -> Result<()> {
        let expected = frames.saturating_sub(self.overlap).div_ceil(self.stride);
        let slack = if self.block.is_some() { 0 } else { SLACK };
        if out.nrows().abs_diff(expected) > slack || out.ncols() != self.pieces {
            return Err(Error::new(
                ErrorKind::Spec,
                format!(
                    "the graph gave scores of shape {:?} for {frames} frames, stride {} and {} tokens call for \
                     [{expected}, {}]",
                    out.shape(),
                    self.stride,
                    self.pieces,
                    self.pieces
                ),
            ));
        }
        let late = self.delay.min(out.nrows());
        self.delay -= late;
        self.emitted += out.nrows() - late;
        scores.extend(out.iter().skip(late * self.pieces));
        Ok(())
    }

    fn rows(&self, scores: Vec<f32>) -> Result<Array2<f32>> {
        Array2::from_shape_vec((scores.len() / self.pieces, self.pieces), scores)
            .map_err(|e| Error::new(ErrorKind::Inference, "scores").with_source(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FakeModel;
    use crate::model::testing::{TINY, Tiny, tiny_spec};
    use ndarray::{Axis, Slice, concatenate};
    use proptest::prelude::*;

    fn fake(delay: usize) -> Arc<dyn CtcModel> {
        let mut spec = tiny_spec(TINY);
        let streaming = spec.streaming.as_mut().unwrap();
        streaming.delay_frames = delay;
        match delay {
            0 => streaming.state.clear(),
            _ => streaming.state[0].shape = vec![delay, 8],
        }
        Arc::new(FakeModel::new(spec).unwrap())
    }

    fn overlapping(delay: usize, overlap: usize) -> Arc<dyn CtcModel> {
        let mut spec = fake(delay).spec().clone();
        let streaming = spec.streaming.as_mut().unwrap();
        (streaming.chunk_frames, streaming.overlap_frames) = (6, overlap);
        Arc::new(FakeModel::new(spec).unwrap())
    }

    fn ramp(frames: usize) -> Array2<f32> {
        Array2::from_shape_fn((frames, 8), |(t, f)| (t * 8 + f) as f32)
    }

    fn scores(
        model: Arc<dyn CtcModel>,
        block: usize,
        pieces: &[ArrayView2<'_, f32>],
    ) -> Array2<f32> {
        let mut sequence = Sequence::new(model, block);
        let mut out: Vec<_> = pieces.iter().map(|p| sequence.push(*p).unwrap()).collect();
        out.push(sequence.finish().unwrap());
        let views: Vec<_> = out.iter().map(|scores| scores.view()).collect();
        concatenate(Axis(0), &views).unwrap()
    }

    #[test]
    fn the_delay_is_taken_out_and_the_end_flushed() {
        // Output i of the fake is the last frame of input pair i; the odd 7th frame pairs with a flush frame.
        let flush = 1e-2f32.ln();
        for delay in [0, 1, 3] {
            let out = scores(fake(delay), 4, &[ramp(7).view()]);
            assert_eq!(out.nrows(), 4);
            assert_eq!(out.row(0), ramp(7).row(1));
            assert_eq!(out.row(2), ramp(7).row(5));
            assert!(out.row(3).iter().all(|&x| x == flush));
        }
    }

    #[test]
    fn nothing_gives_nothing_and_a_wrong_width_is_refused() {
        assert_eq!(scores(fake(1), 4, &[]).dim(), (0, 8));
        let error = Sequence::new(fake(1), 4)
            .push(Array2::zeros((3, 7)).view())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn a_whole_utterance_model_is_run_once_and_bounded() {
        let spec = tiny_spec(Tiny {
            state: false,
            ..TINY
        });
        let model: Arc<dyn CtcModel> = Arc::new(FakeModel::new(spec).unwrap());
        assert_eq!(scores(model.clone(), 4, &[ramp(7).view()]).nrows(), 4);
        let mut sequence = Sequence::new(model, 4);
        let error = sequence
            .push(Array2::zeros((MAX_WHOLE_FRAMES + 1, 8)).view())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
    }

    proptest! {
        #[test]
        fn frames_shown_twice_change_nothing(frames in 0usize..60, cut in 0usize..60, delay in 0usize..3, overlap in 1usize..9) {
            let features = ramp(frames);
            let cut = cut.min(frames);
            let parts = [(0, cut), (cut, frames)]
                .map(|(from, to)| features.slice_axis(Axis(0), Slice::from(from..to)));
            let shown = scores(overlapping(delay, overlap), 999, &parts);
            prop_assert_eq!(shown, scores(fake(delay), 4096, &[features.view()]));
        }

        #[test]
        fn blocks_and_pushes_change_nothing(
            frames in 0usize..60,
            block in 1usize..30,
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..5),
            delay in 0usize..4,
        ) {
            let features = ramp(frames);
            let mut cuts: Vec<usize> = cuts.iter().map(|c| c.index(frames + 1)).collect();
            cuts.extend([0, frames]);
            cuts.sort_unstable();
            let part = |w: &[usize]| features.slice_axis(Axis(0), Slice::from(w[0]..w[1]));
            let parts: Vec<_> = cuts.windows(2).map(part).collect();
            let cut = scores(fake(delay), block, &parts);
            prop_assert_eq!(cut.nrows(), frames.div_ceil(2));
            prop_assert_eq!(cut, scores(fake(delay), 4096, &[features.view()]));
        }
    }
}
