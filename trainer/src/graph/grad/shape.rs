//! Gradient rules of reductions and of operators that only move elements.

use super::Site;
use crate::graph::op::SliceRange;
use crate::graph::{Graph, Value};
use crate::{Error, ErrorKind, Result};

/// The sum's gradient is broadcast back; the mean's is divided by the count first.
pub(super) fn reduce(
    g: &mut Graph,
    axes: &[usize],
    mean: bool,
    site: &Site<'_>,
) -> Result<Vec<Option<Value>>> {
    let (x, mut dy) = (site.inputs[0], site.dy()?);
    let shape = g.shape(x).to_vec();
    let mut kept = shape.clone();
    for &axis in axes {
        kept[axis] = 1;
    }
    if mean {
        let count: usize = axes.iter().map(|&axis| shape[axis]).product();
        dy = g.scale(dy, 1.0 / count as f32)?;
    }
    let dy = g.reshape(dy, &kept)?;
    Ok(vec![Some(g.expand(dy, &shape)?)])
}

pub(super) fn reshape(g: &mut Graph, site: &Site<'_>) -> Result<Vec<Option<Value>>> {
    let shape = g.shape(site.inputs[0]).to_vec();
    let dy = site.dy()?;
    Ok(vec![Some(g.reshape(dy, &shape)?)])
}

pub(super) fn transpose(
    g: &mut Graph,
    order: &[usize],
    site: &Site<'_>,
) -> Result<Vec<Option<Value>>> {
    let mut inverse = vec![0; order.len()];
    for (axis, &source) in order.iter().enumerate() {
        inverse[source] = axis;
    }
    let dy = site.dy()?;
    Ok(vec![Some(g.transpose(dy, &inverse)?)])
}

/// Zeros where nothing was taken. Backward ranges are flipped; steps over one are spread with zeros between.
pub(super) fn slice(
    g: &mut Graph,
    ranges: &[SliceRange],
    site: &Site<'_>,
) -> Result<Vec<Option<Value>>> {
    let shape = g.shape(site.inputs[0]).to_vec();
    let dy = site.dy()?;
    Ok(vec![Some(slice_gradient(g, dy, ranges, &shape)?)])
}

/// dy at the places of `shape` that `ranges` take.
pub(in crate::graph) fn slice_gradient(
    g: &mut Graph,
    mut dy: Value,
    ranges: &[SliceRange],
    shape: &[usize],
) -> Result<Value> {
    let backwards: Vec<usize> = (0..ranges.len()).filter(|&a| ranges[a].step < 0).collect();
    dy = g.flip(dy, &backwards)?;
    let mut before = vec![0; shape.len()];
    let mut after = vec![0; shape.len()];
    for (axis, range) in ranges.iter().enumerate() {
        let step = range.step.unsigned_abs();
        if step > 1 {
            dy = spread(g, dy, axis, step)?;
        }
        let span = (range.length - 1) * step + 1;
        before[axis] = if range.step < 0 {
            range.start + 1 - span
        } else {
            range.start
        };
        after[axis] = shape[axis] - before[axis] - span;
    }
    g.pad(dy, &before, &after)
}

/// x with `step - 1` zeros between its elements along `axis`.
fn spread(g: &mut Graph, x: Value, axis: usize, step: usize) -> Result<Value> {
    let shape = g.shape(x).to_vec();
    let mut split = shape.clone();
    split.insert(axis + 1, 1);
    let x = g.reshape(x, &split)?;
    let mut after = vec![0; split.len()];
    after[axis + 1] = step - 1;
    let x = g.pad(x, &vec![0; split.len()], &after)?;
    let mut merged = shape.clone();
    merged[axis] *= step;
    let x = g.reshape(x, &merged)?;
    g.narrow(x, axis, 0, merged[axis] - (step - 1))
}

pub(super) fn concat(g: &mut Graph, axis: usize, site: &Site<'_>) -> Result<Vec<Option<Value>>> {
    let dy = site.dy()?;
    let mut start = 0;
    let mut out = Vec::with_capacity(site.inputs.len());
    for (&part, &wanted) in site.inputs.iter().zip(site.wanted) {
        let length = g.shape(part)[axis];
        out.push(if wanted {
            Some(g.narrow(dy, axis, start, length)?)
        } else {
            None
        });
        start += length;
    }
    Ok(out)
}

pub(super) fn pad(g: &mut Graph, before: &[usize], site: &Site<'_>) -> Result<Vec<Option<Value>>> {
    let dy = site.dy()?;
    let ranges: Vec<SliceRange> = g
        .shape(site.inputs[0])
        .iter()
        .zip(before)
        .map(|(&length, &start)| SliceRange {
            start,
            length,
            step: 1,
        })
        .collect();
    Ok(vec![Some(g.slice(dy, &ranges)?)])
}

pub(super) fn expand(g: &mut Graph, site: &Site<'_>) -> Result<Vec<Option<Value>>> {
    let shape = g.shape(site.inputs[0]).to_vec();
    let dy = site.dy()?;
    Ok(vec![Some(super::unbroadcast(g, dy, &shape)?)])
}

/// Rows taken several times collect the sum of their gradients.
pub(super) fn gather(g: &mut Graph, site: &Site<'_>) -> Result<Vec<Option<Value>>> {
    if site.wanted[1] {
        return Err(Error::new(
            ErrorKind::Graph,
            "the indices of Gather have no gradient",
        ));
    }
    let (table, indices, dy) = (site.inputs[0], site.inputs[1], site.dy()?);
    let rows = g.shape(table)[0];
    Ok(vec![Some(g.gather_gradient(rows, indices, dy)?), None])
}
