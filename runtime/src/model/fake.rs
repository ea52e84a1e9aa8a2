//! A model without a network, so that features, decoding and streaming are tested without ONNX Runtime.

use super::{CtcModel, ModelState, StateTensor};
use crate::spec::ModelSpec;
use crate::{Error, ErrorKind, Result};
use ndarray::{Array2, ArrayView2};

/// Scores token v of an output frame by feature v of the last feature frame it covers.
///
/// With log-mel features a tone in filter v therefore reads as token v. The delay of the spec is kept as a
/// real model would: outputs come that many frames late, and the first state tensor, of
/// `delay_frames * V` numbers, holds those under way.
#[derive(Debug, Clone)]
pub struct FakeModel {
    spec: ModelSpec,
    features: usize,
}

impl FakeModel {
    /// A fake of the given description.
    ///
    /// # Errors
    /// [`ErrorKind::Spec`] if the spec contradicts itself, has more tokens than features, or has a delay but
    /// no state of `delay_frames * V` numbers to keep it in.
    pub fn new(spec: ModelSpec) -> Result<Self> {
        spec.validate()?;
        let (features, pieces) = (spec.front_end.features(), spec.tokens.pieces.len());
        let delay = spec.streaming.as_ref().map_or(0, |s| s.delay_frames);
        let start = ModelState::start(&spec);
        let sizes: Vec<usize> = start.tensors().iter().map(StateTensor::len).collect();
        let expected: &[usize] = if delay > 0 { &[delay * pieces] } else { &[] };
        if pieces > features || sizes != expected {
            return Err(Error::new(
                ErrorKind::Spec,
                format!(
                    "a fake model needs at least {pieces} features and states of {expected:?} numbers, the \
                     spec has {features} and {sizes:?}"
                ),
            ));
        }
        Ok(Self { spec, features })
    }
}

impl CtcModel for FakeModel {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn run(&self, features: ArrayView2<'_, f32>, state: &mut ModelState) -> Result<Array2<f32>> {
        let (frames, width) = features.dim();
        let (stride, pieces) = (self.spec.stride, self.spec.tokens.pieces.len());
        let streams = self.spec.streaming.is_some();
        let overlap = self.spec.streaming.as_ref().map_or(0, |s| s.overlap_frames);
        let frames = frames.saturating_sub(overlap);
        if width != self.features || (streams && !frames.is_multiple_of(stride)) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "features [{frames}, {width}] where [a multiple of {stride}, {}] is expected",
                    self.features
                ),
            ));
        }
        let steps = frames.div_ceil(stride);
        let mut scores = Array2::zeros((steps, pieces));
        for (step, mut row) in scores.outer_iter_mut().enumerate() {
            let last = ((step + 1) * stride).min(frames) - 1;
            for (score, feature) in row.iter_mut().zip(features.row(last)) {
                *score = *feature;
            }
        }
        let Some(StateTensor::F32(late)) = state.tensors_mut().first_mut() else {
            return Ok(scores);
        };
        let all: Vec<f32> = late.iter().chain(scores.iter()).copied().collect();
        let (out, kept) = all.split_at(steps * pieces);
        late.copy_from_slice(kept);
        Array2::from_shape_vec((steps, pieces), out.to_vec())
            .map_err(|e| Error::new(ErrorKind::Inference, "the fake's own shape").with_source(e))
    }
}
