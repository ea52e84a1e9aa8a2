//! Runs whose arguments are checked first, with a label where the model takes one.

use super::{OrtModel, commit, failed, session_builder};
use crate::model::{ModelState, StateTensor};
use crate::{Error, ErrorKind, Result};
use ndarray::{Array2, ArrayView2};
use ort::session::Session;

impl OrtModel {
    /// Scores `[T', V]` of features `[T, F]` by an oracle teacher that is told the token ids of what was said. For
    /// looking at a teacher and timing it beside its students: it recognizes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Role`] for a model that takes no label; [`ErrorKind::InvalidArgument`] for a label that is too
    /// long, an id outside the vocabulary, and as [`CtcModel::run`](crate::model::CtcModel::run).
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
        let mut state = ModelState::start(spec);
        self.admit(&features, &state)?;
        let mut scores = self.with_session(|session| {
            self.run_on(session, &mut [(features, &mut state)], Some(&padded))
        })?;
        scores
            .pop()
            .ok_or_else(|| Error::new(ErrorKind::Inference, "the run gave no scores"))
    }

    /// Does something with a session of the pool.
    pub(super) fn with_session<T>(&self, run: impl FnOnce(&mut Session) -> Result<T>) -> Result<T> {
        let shared = &*self.shared;
        let make = || {
            let builder = session_builder(&shared.library, &shared.options, shared.report.used)
                .map_err(|e| failed(ErrorKind::Provider, "a session", e))?;
            commit(builder, &shared.file)
        };
        shared.sessions.with(make, run)
    }

    /// Whether the features and the state are such as the model takes.
    pub(super) fn admit(&self, features: &ArrayView2<'_, f32>, state: &ModelState) -> Result<()> {
        let shared = &*self.shared;
        let spec = shared.file.spec();
        let (frames, width) = features.dim();
        let whole_steps = spec.streaming.as_ref().is_none_or(|streaming| {
            let step = frames.checked_sub(streaming.overlap_frames);
            step.is_some_and(|step| step > 0 && step.is_multiple_of(spec.stride))
        });
        let fits = shared.fixed_frames.is_none_or(|fixed| fixed == frames);
        let expected = spec.front_end.features();
        if width != expected || frames == 0 || !whole_steps || !fits {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "features of shape [{frames}, {width}]: the model takes {expected} features, and frames in \
                     multiples of {}{}",
                    spec.stride,
                    shared
                        .fixed_frames
                        .map_or(String::new(), |n| format!(", {n} at a time"))
                ),
            ));
        }
        let expected = spec.streaming.iter().flat_map(|s| &s.state);
        let expected: Vec<usize> = expected.map(|s| s.shape.iter().product()).collect();
        if !state.tensors().iter().map(StateTensor::len).eq(expected) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("the state is not one of model {:?}", spec.name),
            ));
        }
        Ok(())
    }
}
