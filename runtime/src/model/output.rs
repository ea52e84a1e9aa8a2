//! Outputs of a run brought to what the runtime works with: scores `[T', V]`, states, counts of nodes.

use super::ort::failed;
use crate::spec::{ModelSpec, OutputLayout};
use crate::{Error, ErrorKind, Result};
use ::ort::session::SessionOutputs;
use ndarray::{Array2, ArrayView3, Axis};
use std::collections::BTreeMap;

/// An output's shape and numbers.
pub(super) fn floats<'o>(
    outputs: &'o SessionOutputs<'_>,
    name: &str,
) -> Result<(&'o [i64], &'o [f32])> {
    let value = outputs.get(name).ok_or_else(|| {
        Error::new(
            ErrorKind::Inference,
            format!("the run gave no output {name:?}"),
        )
    })?;
    let (shape, data) = value
        .try_extract_tensor::<f32>()
        .map_err(|e| failed(ErrorKind::Inference, &format!("output {name:?}"), e))?;
    Ok((shape, data))
}

/// The output brought to one `[T', V]` an item.
pub(super) fn scores(
    spec: &ModelSpec,
    outputs: &SessionOutputs<'_>,
    items: usize,
) -> Result<Vec<Array2<f32>>> {
    let name = &spec.graph.output;
    let pieces = spec.tokens.pieces.len();
    let (shape, data) = floats(outputs, name)?;
    let (b, v) = (items as i64, pieces as i64);
    let (steps, axes): (i64, [usize; 3]) = match (spec.graph.output_layout, shape) {
        (OutputLayout::BV1T, &[n, tokens, 1, t]) if (n, tokens) == (b, v) => (t, [0, 2, 1]),
        (OutputLayout::BTV, &[n, t, tokens]) if (n, tokens) == (b, v) => (t, [0, 1, 2]),
        (OutputLayout::TBV, &[t, n, tokens]) if (n, tokens) == (b, v) => (t, [1, 0, 2]),
        _ => return Err(shape_error(name, shape, &[pieces])),
    };
    let steps = usize::try_from(steps).unwrap_or_default();
    let stored = match spec.graph.output_layout {
        OutputLayout::BV1T => (items, pieces, steps),
        OutputLayout::BTV => (items, steps, pieces),
        OutputLayout::TBV => (steps, items, pieces),
    };
    let view = ArrayView3::from_shape(stored, data)
        .map_err(|e| Error::new(ErrorKind::Inference, format!("output {name:?}")).with_source(e))?
        .permuted_axes(axes);
    view.outer_iter()
        .map(|scores| {
            // Minus infinity is a fair log-probability; NaN and plus infinity are scores of nothing.
            let first = scores
                .axis_iter(Axis(0))
                .position(|row| match row.to_slice() {
                    // Without a way out early, the compiler takes eight at a time.
                    Some(row) => row.iter().fold(false, |found, x| found | broken(*x)),
                    None => row.iter().any(|x| broken(*x)),
                });
            match first {
                None => Ok(scores.as_standard_layout().into_owned()),
                Some(step) => Err(Error::new(
                    ErrorKind::Inference,
                    format!(
                        "output {name:?} holds NaN or infinity at frame {step}: the weights are damaged, or the \
                         input is far outside what the model was trained on"
                    ),
                )),
            }
        })
        .collect()
}

/// Whether a score is NaN or plus infinity.
fn broken(score: f32) -> bool {
    score.is_nan() | (score == f32::INFINITY)
}

pub(super) fn shape_error(name: &str, found: &[i64], expected: &[usize]) -> Error {
    Error::new(
        ErrorKind::Spec,
        format!(
            "output {name:?} came with shape {found:?}, the spec calls for one item of {expected:?} (tokens, or \
             the state's shape)"
        ),
    )
}

/// Nodes per provider in a profile that ONNX Runtime wrote: a JSON list of events.
pub(super) fn nodes(profile: &[u8]) -> Result<BTreeMap<String, usize>> {
    let events: Vec<serde_json::Value> = serde_json::from_slice(profile).map_err(|e| {
        Error::new(ErrorKind::Inference, "ONNX Runtime's profile is no JSON").with_source(e)
    })?;
    let mut counts = BTreeMap::new();
    for event in events {
        if event["cat"] == "Node"
            && let Some(provider) = event["args"]["provider"].as_str()
        {
            *counts.entry(provider.to_owned()).or_default() += 1;
        }
    }
    Ok(counts)
}
