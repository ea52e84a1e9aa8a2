//! From mono samples at the model's rate to scores `[T', V]`: front-end and model as one, for recordings and streams.

use crate::features::{AudioFeatures, AudioStream};
use crate::model::{CtcModel, Sequence};
use crate::{Error, ErrorKind, Result};
use ndarray::{Array2, ArrayView2, Axis, concatenate};
use std::fmt;
use std::sync::Arc;

/// One run of samples on its way through front-end and model.
pub(super) struct Front {
    stream: AudioStream,
    /// Features of the samples just pushed, row by row.
    features: Vec<f32>,
    width: usize,
    pub(super) sequence: Sequence,
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front")
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

impl Front {
    pub(super) fn new(
        model: Arc<dyn CtcModel>,
        features: &AudioFeatures,
        block_frames: usize,
    ) -> Self {
        Self {
            stream: features.stream(),
            features: Vec::new(),
            width: features.features(),
            sequence: Sequence::new(model, block_frames),
        }
    }

    /// Takes samples and returns the scores of the blocks they complete.
    pub(super) fn push(&mut self, samples: &[f32]) -> Result<Array2<f32>> {
        self.through(samples, |sequence, features| sequence.push(features))
    }

    /// Takes samples without running the model.
    pub(super) fn feed(&mut self, samples: &[f32]) -> Result<()> {
        self.through(samples, |sequence, features| sequence.feed(features))
    }

    /// The rest of the scores.
    pub(super) fn finish(mut self) -> Result<Array2<f32>> {
        self.features.clear();
        let frames = self.stream.finish(&mut self.features)?;
        let last = self
            .sequence
            .push(view(&self.features, frames, self.width)?)?;
        let rest = self.sequence.finish()?;
        concatenate(Axis(0), &[last.view(), rest.view()])
            .map_err(|e| Error::new(ErrorKind::Inference, "scores").with_source(e))
    }

    fn through<T>(
        &mut self,
        samples: &[f32],
        take: impl FnOnce(&mut Sequence, ArrayView2<'_, f32>) -> Result<T>,
    ) -> Result<T> {
        self.features.clear();
        let frames = self.stream.push(samples, &mut self.features)?;
        let view = view(&self.features, frames, self.width)?;
        take(&mut self.sequence, view)
    }
}

fn view(features: &[f32], frames: usize, width: usize) -> Result<ArrayView2<'_, f32>> {
    ArrayView2::from_shape((frames, width), features)
        .map_err(|e| Error::new(ErrorKind::Inference, "features").with_source(e))
}
