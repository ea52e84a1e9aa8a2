//! Losses that are computed rather than composed of graph operators.

pub mod ctc;
pub(crate) mod logmath;
