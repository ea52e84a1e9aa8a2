//! Gradient of max pooling.

use crate::Result;
use crate::graph::grad::slice_gradient;
use crate::graph::op::{SliceRange, Window};
use crate::graph::{Graph, Value};

/// Tap by tap: where x equals y and no earlier tap did, dy.
pub(super) fn max_pool_gradient(
    g: &mut Graph,
    x: Value,
    y: Value,
    dy: Value,
    window: Window,
) -> Result<Value> {
    let (x_shape, y_shape) = (g.shape(x).to_vec(), g.shape(y).to_vec());
    let [top, left, bottom, right] = window.pads;
    let padded = g.pad(x, &[0, 0, top, left], &[0, 0, bottom, right])?;
    let size = g.shape(padded).to_vec();
    // Zeros of the padding could equal y: they are moved where nothing does.
    let outside = (0..size[2] * size[3])
        .map(|i| (i / size[3], i % size[3]))
        .map(|(row, column)| {
            let inside = (top..top + x_shape[2]).contains(&row)
                && (left..left + x_shape[3]).contains(&column);
            if inside { 0.0 } else { f32::MIN }
        })
        .collect();
    let outside = g.constant(&[1, 1, size[2], size[3]], outside)?;
    let padded = g.add(padded, outside)?;
    let (one, zero) = (g.scalar(1.0)?, g.scalar(0.0)?);
    let mut free = g.constant(&y_shape, vec![1.0; y_shape.iter().product()])?;
    let mut total = None;
    for row in 0..window.kernel[0] {
        for column in 0..window.kernel[1] {
            let range = |start: usize, axis: usize| SliceRange {
                start,
                length: y_shape[axis + 2],
                step: window.strides[axis] as isize,
            };
            let [items, channels] = [0, 1].map(|axis| SliceRange::all(y_shape[axis]));
            let ranges = [items, channels, range(row, 0), range(column, 1)];
            let seen = g.slice(padded, &ranges)?;
            let equal = g.equal(seen, y)?;
            let equal = g.select(equal, one, zero)?;
            let hit = g.mul(equal, free)?;
            free = g.sub(free, hit)?;
            let part = g.mul(hit, dy)?;
            let part = slice_gradient(g, part, &ranges, &size)?;
            total = Some(match total {
                Some(sum) => g.add(sum, part)?,
                None => part,
            });
        }
    }
    let total = total.ok_or_else(|| g.mismatch("MaxPoolGrad", "a window", &[x]))?;
    let whole = g.narrow(total, 2, top, x_shape[2])?;
    g.narrow(whole, 3, left, x_shape[3])
}
