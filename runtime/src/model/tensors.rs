//! State of several utterances joined along the batch axis and parted again, and the inputs that are always the same.
//!
//! A state tensor of an utterance is `[..., ...]` without its batch axis; with the batch axis at k, the tensor of B
//! utterances has their parts in turn for every index before k.

use super::header::ModelHeader;
use super::ort::failed;
use super::output::{floats, shape_error};
use super::{ModelState, StateTensor};
use crate::spec::{GivenInput, GivenValue, StateElement, StateSpec};
use crate::{Error, ErrorKind, Result};
use ::ort::session::{SessionInputValue, SessionOutputs};
use ::ort::value::Tensor;

/// How many parts of how many elements an utterance's tensor falls into around the batch axis.
fn parts(spec: &StateSpec) -> (usize, usize) {
    let axis = spec.batch_axis.unwrap_or(0).min(spec.shape.len());
    let outer = spec.shape[..axis].iter().product();
    (outer, spec.shape[axis..].iter().product())
}

/// The tensors of all utterances along the batch axis.
fn joined<T: Copy>(spec: &StateSpec, tensors: &[&[T]]) -> Vec<T> {
    let (outer, inner) = parts(spec);
    let mut out = Vec::with_capacity(tensors.len() * outer * inner);
    for part in 0..outer {
        for tensor in tensors {
            out.extend_from_slice(&tensor[part * inner..(part + 1) * inner]);
        }
    }
    out
}

/// The utterance's own part of a tensor of `items` utterances.
fn part<T: Copy>(spec: &StateSpec, joined: &[T], item: usize, items: usize, out: &mut [T]) {
    let (outer, inner) = parts(spec);
    for part in 0..outer {
        let from = (part * items + item) * inner;
        out[part * inner..(part + 1) * inner].copy_from_slice(&joined[from..from + inner]);
    }
}

fn shape(spec: &StateSpec, items: usize) -> Vec<i64> {
    let mut shape: Vec<i64> = spec.shape.iter().map(|&n| n as i64).collect();
    if let Some(axis) = spec.batch_axis {
        shape.insert(axis.min(shape.len()), items as i64);
    }
    shape
}

/// State number `index` of all utterances as an input of the graph.
pub(super) fn state<'v>(
    spec: &StateSpec,
    index: usize,
    states: &[&ModelState],
) -> Result<SessionInputValue<'v>> {
    let shape = shape(spec, states.len());
    let wrong = |e| failed(ErrorKind::Inference, "a state", e);
    match spec.element {
        StateElement::F32 => {
            let tensors: Vec<&[f32]> = states.iter().filter_map(|s| float(s, index)).collect();
            let tensor = Tensor::from_array((shape, joined(spec, &tensors))).map_err(wrong)?;
            Ok(tensor.into())
        }
        StateElement::I64 => {
            let tensors: Vec<&[i64]> = states.iter().filter_map(|s| count(s, index)).collect();
            let tensor = Tensor::from_array((shape, joined(spec, &tensors))).map_err(wrong)?;
            Ok(tensor.into())
        }
    }
}

fn float(state: &ModelState, index: usize) -> Option<&[f32]> {
    match state.tensors().get(index)? {
        StateTensor::F32(values) => Some(values),
        StateTensor::I64(_) => None,
    }
}

fn count(state: &ModelState, index: usize) -> Option<&[i64]> {
    match state.tensors().get(index)? {
        StateTensor::I64(values) => Some(values),
        StateTensor::F32(_) => None,
    }
}

/// Takes state number `index` out of the outputs of a run.
pub(super) fn keep(
    spec: &StateSpec,
    index: usize,
    outputs: &SessionOutputs<'_>,
    states: &mut [&mut ModelState],
) -> Result<()> {
    let items = states.len();
    let size = spec.shape.iter().product::<usize>() * items;
    let fits = |shape: &[i64], length: usize| match length == size {
        true => Ok(()),
        false => Err(shape_error(&spec.output, shape, &spec.shape)),
    };
    match spec.element {
        StateElement::F32 => {
            let (shape, next) = floats(outputs, &spec.output)?;
            fits(shape, next.len())?;
            for (item, state) in states.iter_mut().enumerate() {
                if let Some(StateTensor::F32(values)) = state.tensors_mut().get_mut(index) {
                    part(spec, next, item, items, values);
                }
            }
        }
        StateElement::I64 => {
            let what = || format!("output {:?}", spec.output);
            let value = (outputs.get(&spec.output)).ok_or_else(|| {
                Error::new(ErrorKind::Inference, format!("the run gave no {}", what()))
            })?;
            let (shape, next) = value
                .try_extract_tensor::<i64>()
                .map_err(|e| failed(ErrorKind::Inference, &what(), e))?;
            fits(shape, next.len())?;
            for (item, state) in states.iter_mut().enumerate() {
                if let Some(StateTensor::I64(values)) = state.tensors_mut().get_mut(index) {
                    part(spec, next, item, items, values);
                }
            }
        }
    }
    Ok(())
}

/// An input that does not depend on what is recognized, for `items` utterances of `frames` frames after `runs` runs.
pub(super) fn given<'v>(
    given: &GivenInput,
    header: &ModelHeader,
    items: usize,
    frames: usize,
    runs: u32,
) -> Result<SessionInputValue<'v>> {
    let wrong = |e| failed(ErrorKind::Inference, &format!("input {:?}", given.input), e);
    let one = |value: i64| {
        // A number is declared with one axis or with none.
        let dims = header
            .input(&given.input)
            .and_then(|input| input.dims.as_ref());
        let shape = vec![1i64; dims.map_or(1, Vec::len)];
        Tensor::from_array((shape, vec![value])).map_err(wrong)
    };
    Ok(match given.value {
        GivenValue::Ones => {
            let shape = vec![items as i64, frames as i64];
            Tensor::from_array((shape, vec![1i64; items * frames]))
                .map_err(wrong)?
                .into()
        }
        GivenValue::Constant { value } => one(value)?.into(),
        GivenValue::Counter { start, step } => {
            let grown = step.saturating_mul(i64::from(runs));
            one(start.saturating_add(grown))?.into()
        }
        GivenValue::Filled { cache, chunk } => {
            let filled = chunk.saturating_mul(runs as usize).min(cache);
            let mask: Vec<bool> = (0..cache + chunk).map(|at| at >= cache - filled).collect();
            let shape = vec![1, 1, mask.len() as i64];
            Tensor::from_array((shape, mask)).map_err(wrong)?.into()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_joined_and_parted_along_any_axis() {
        let a: Vec<i64> = (0..12).collect();
        let b: Vec<i64> = (100..112).collect();
        for (axis, start) in [
            (Some(0), &[0, 1, 2, 3][..]),
            (Some(1), &[0, 1, 2, 3, 4, 5, 100]),
            (Some(2), &[0, 1, 2, 100, 101, 102, 3]),
        ] {
            let spec = StateSpec {
                batch_axis: axis,
                ..StateSpec::new("in", "out", vec![2, 2, 3])
            };
            let both = joined(&spec, &[&a[..], &b[..]]);
            assert_eq!(both[..start.len()], *start, "{axis:?}");
            for (item, expected) in [&a, &b].into_iter().enumerate() {
                let mut out = vec![0; 12];
                part(&spec, &both, item, 2, &mut out);
                assert_eq!(out, *expected, "{axis:?}");
            }
            let mut dims = vec![2, 2, 3];
            dims.insert(axis.unwrap_or_default(), 2);
            assert_eq!(shape(&spec, 2), dims);
        }
        let none = StateSpec {
            batch_axis: None,
            ..StateSpec::new("in", "out", vec![2, 2, 3])
        };
        assert_eq!(shape(&none, 1), [2, 2, 3]);
    }
}
