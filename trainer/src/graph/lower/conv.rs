//! Depthwise convolutions and what a convolution's kernel sees.

use crate::Result;
use crate::graph::grad::conv_input_gradient;
use crate::graph::op::{ConvAttributes, SliceRange, Taps};
use crate::graph::ops::conv_length;
use crate::graph::{Graph, Value};

/// `[B, T, C]` to `[B, C, 1, T]`.
fn channels_first(g: &mut Graph, x: Value) -> Result<Value> {
    let moved = g.transpose(x, &[0, 2, 1])?;
    let mut shape = g.shape(moved).to_vec();
    shape.insert(2, 1);
    g.reshape(moved, &shape)
}

/// `[B, C, 1, T]` to `[B, T, C]`.
fn channels_last(g: &mut Graph, x: Value) -> Result<Value> {
    let mut shape = g.shape(x).to_vec();
    shape.remove(2);
    let flat = g.reshape(x, &shape)?;
    g.transpose(flat, &[0, 2, 1])
}

fn row_attributes(taps: Taps, channels: usize) -> ConvAttributes {
    ConvAttributes {
        pads: [0, taps.left, 0, taps.right],
        dilations: [1, taps.dilation],
        group: channels,
        ..Default::default()
    }
}

pub(super) fn depthwise_rows(
    g: &mut Graph,
    x: Value,
    w: Value,
    bias: Value,
    taps: Taps,
) -> Result<Value> {
    let channels = g.shape(w)[0];
    let x = channels_first(g, x)?;
    let y = g.conv(x, w, Some(bias), row_attributes(taps, channels))?;
    channels_last(g, y)
}

pub(super) fn depthwise_rows_gradient(
    g: &mut Graph,
    x: Value,
    w: Value,
    dy: Value,
    taps: Taps,
) -> Result<Vec<Value>> {
    let (channels, kernel) = (g.shape(w)[0], g.shape(w)[3]);
    let dbias = g.reduce_sum(dy, &[0, 1], false)?;
    let (x, dy) = (channels_first(g, x)?, channels_first(g, dy)?);
    let attributes = row_attributes(taps, channels);
    let dw = depthwise_weight(g, x, dy, &attributes, [1, kernel])?;
    let dx = conv_input_gradient(g, &attributes, x, w, dy)?;
    Ok(vec![channels_last(g, dx)?, dw, dbias])
}

/// One product and sum a tap: `[C, 1, kh, kw]`.
pub(super) fn depthwise_weight(
    g: &mut Graph,
    x: Value,
    dy: Value,
    conv: &ConvAttributes,
    kernel: [usize; 2],
) -> Result<Value> {
    let (x_shape, dy_shape) = (g.shape(x).to_vec(), g.shape(dy).to_vec());
    let [p, d, s] = [&conv.pads[..], &conv.dilations[..], &conv.strides[..]];
    let padded = g.pad(x, &[0, 0, p[0], p[1]], &[0, 0, p[2], p[3]])?;
    let range = |start: usize, length: usize, step: usize| SliceRange {
        start,
        length,
        step: step as isize,
    };
    let mut taps = Vec::with_capacity(kernel[0] * kernel[1]);
    for row in 0..kernel[0] {
        for column in 0..kernel[1] {
            let seen = g.slice(
                padded,
                &[
                    SliceRange::all(x_shape[0]),
                    SliceRange::all(x_shape[1]),
                    range(row * d[0], dy_shape[2], s[0]),
                    range(column * d[1], dy_shape[3], s[1]),
                ],
            )?;
            let product = g.mul(seen, dy)?;
            let sum = g.reduce_sum(product, &[0, 2, 3], false)?;
            taps.push(g.reshape(sum, &[x_shape[1], 1])?);
        }
    }
    let joined = g.concat(&taps, 1)?;
    g.reshape(joined, &[x_shape[1], 1, kernel[0], kernel[1]])
}

/// `[B, Ho Wo, kh kw C]`: one slice a tap, taps outermost.
pub(super) fn unfold(
    g: &mut Graph,
    x: Value,
    conv: &ConvAttributes,
    kernel: [usize; 2],
) -> Result<Value> {
    let (p, d, s) = (conv.pads, conv.dilations, conv.strides);
    let padded = g.pad(x, &[0, 0, p[0], p[1]], &[0, 0, p[2], p[3]])?;
    let shape = g.shape(padded).to_vec();
    let length = |axis: usize| conv_length(shape[axis + 2], 0, kernel[axis], d[axis], s[axis]);
    let (Some(ho), Some(wo)) = (length(0), length(1)) else {
        return Err(g.mismatch("Unfold", "an operand no smaller than the kernel", &[x]));
    };
    let range = |start: usize, length: usize, step: usize| SliceRange {
        start,
        length,
        step: step as isize,
    };
    let mut taps = Vec::with_capacity(kernel[0] * kernel[1]);
    for row in 0..kernel[0] {
        for column in 0..kernel[1] {
            let ranges = [
                SliceRange::all(shape[0]),
                SliceRange::all(shape[1]),
                range(row * d[0], ho, s[0]),
                range(column * d[1], wo, s[1]),
            ];
            taps.push(g.slice(padded, &ranges)?);
        }
    }
    let joined = g.concat(&taps, 1)?;
    let joined = g.reshape(joined, &[shape[0], taps.len() * shape[1], ho * wo])?;
    g.transpose(joined, &[0, 2, 1])
}
