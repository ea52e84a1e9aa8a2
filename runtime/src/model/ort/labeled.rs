//! Runs whose arguments are checked first, with a label where the model takes one.

use super::{OrtModel, builder, commit, failed, mels};
use crate::model::ModelState;
use crate::{Error, ErrorKind, Result};
use ndarray::{Array2, ArrayView2};
use ort::session::Session;

impl OrtModel {
    /// Scores `[T', V]` of features `[T, F]` by an oracle teacher that is told the token ids of what was said. For
    /// looking at a teacher and timing it beside its students: it recognizes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Role`] for a model that takes no label; [`ErrorKind::InvalidArgument`] for a label that is too
    /// long, an id outside the vocabulary, and as [`CtcModel::run`].
    pub fn run_labeled(&self, features: ArrayView2<'_, f32>, label: &[u32]) -> Result<Array2<f32>> {
        let spec = self.shared.file.spec();
        let Some(entry) = &spec.graph.label else {
            return Err(Error::new(
                ErrorKind::Role,
                format!(
                    "model {:?} takes no label: it is no oracle teacher",
                    spec.name
                ),
            ));
        };
        let pieces = spec.tokens.pieces.len();
        if label.len() > entry.length || label.iter().any(|&id| id as usize >= pieces) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "a label of {} tokens: the model takes up to {}, with ids below {pieces}",
                    label.len(),
                    entry.length
                ),
            ));
        }
        let mut padded = vec![entry.padding; entry.length];
        for (place, &id) in padded.iter_mut().zip(label) {
            *place = i64::from(id);
        }
        self.checked_run(features, &mut ModelState::start(spec), Some(&padded))
    }

    pub(super) fn checked_run(
        &self,
        features: ArrayView2<'_, f32>,
        state: &mut ModelState,
        label: Option<&[i64]>,
    ) -> Result<Array2<f32>> {
        let shared = &*self.shared;
        let spec = shared.file.spec();
        let (frames, width) = features.dim();
        let whole_steps = spec.streaming.is_none() || frames.is_multiple_of(spec.stride);
        let fits = shared.fixed_frames.is_none_or(|fixed| fixed == frames);
        if width != mels(spec) || frames == 0 || !whole_steps || !fits {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "features of shape [{frames}, {width}]: the model takes {} features, and frames in \
                     multiples of {}{}",
                    mels(spec),
                    spec.stride,
                    shared
                        .fixed_frames
                        .map_or(String::new(), |n| format!(", {n} at a time"))
                ),
            ));
        }
        let expected = spec.streaming.iter().flat_map(|s| &s.state);
        let expected: Vec<usize> = expected.map(|s| s.shape.iter().product()).collect();
        if !state.tensors().iter().map(Vec::len).eq(expected) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("the state is not one of model {:?}", spec.name),
            ));
        }
        let make = || {
            let builder = builder(&shared.library, &shared.options, shared.report.used)
                .map_err(|e| failed(ErrorKind::Provider, "a session", e))?;
            commit(builder, &shared.file)
        };
        let run = |session: &mut Session| self.run_on(session, features, state, label);
        shared.sessions.with(make, run)
    }
}
