//! Gradient rules of convolution. For each gradient there are several equal ONNX forms whose speeds differ by
//! up to four times; the choice here follows measurements on the CPU provider.
//!
//! With `y[o, p] = sum_{i, k} w[o, i, k] x[i, p s + k d - pad]`:
//! - `dx`: stride 1 is a convolution of dy with the kernel flipped and its channel axes exchanged, padded by
//!   `d (k - 1) - pad`; other strides are a transposed convolution.
//! - `dw`: where each output sees one input channel, a dot product a tap; else dy times what the kernel saw at each position, in the form that suits who computes it: see
//!   [`crate::graph::lower()`].

use super::Site;
use crate::Result;
use crate::graph::op::{ConvAttributes, Op};
use crate::graph::{Graph, Value};

pub(super) fn conv(
    g: &mut Graph,
    attributes: &ConvAttributes,
    site: &Site<'_>,
) -> Result<Vec<Option<Value>>> {
    let (x, w, dy) = (site.inputs[0], site.inputs[1], site.dy()?);
    let mut out = vec![None; site.inputs.len()];
    if site.wanted[0] {
        out[0] = Some(input_gradient(g, attributes, x, w, dy)?);
    }
    if site.wanted[1] {
        out[1] = Some(weight_gradient(g, attributes, x, w, dy)?);
    }
    if site.inputs.len() > 2 && site.wanted[2] {
        out[2] = Some(g.reduce_sum(dy, &[0, 2, 3], false)?);
    }
    Ok(out)
}

fn shape4(g: &Graph, value: Value) -> Result<[usize; 4]> {
    g.shape(value)
        .try_into()
        .map_err(|_| g.mismatch("a convolution's gradient", "four axes", &[value]))
}

/// The gradient of x `[B, Ci, H, W]`, of which only the shape counts.
pub(in crate::graph) fn input_gradient(
    g: &mut Graph,
    a: &ConvAttributes,
    x: Value,
    w: Value,
    dy: Value,
) -> Result<Value> {
    let [b, ci, h, width] = shape4(g, x)?;
    let [co, per_group, kh, kw] = shape4(g, w)?;
    let reach = [a.dilations[0] * (kh - 1), a.dilations[1] * (kw - 1)];
    let fits = a.pads[0].max(a.pads[2]) <= reach[0] && a.pads[1].max(a.pads[3]) <= reach[1];
    if a.strides != [1, 1] || !fits {
        return g.conv_transpose(dy, w, a.clone(), &[b, ci, h, width]);
    }
    let flipped = g.flip(w, &[2, 3])?;
    let kernel = if per_group == 1 && a.group == co {
        flipped
    } else {
        let grouped = g.reshape(flipped, &[a.group, co / a.group, per_group, kh, kw])?;
        let exchanged = g.transpose(grouped, &[0, 2, 1, 3, 4])?;
        g.reshape(exchanged, &[ci, co / a.group, kh, kw])?
    };
    let pads = [0, 1, 2, 3].map(|side| reach[side % 2] - a.pads[side]);
    g.conv(
        dy,
        kernel,
        None,
        ConvAttributes {
            strides: [1, 1],
            pads,
            dilations: a.dilations,
            group: a.group,
        },
    )
}

fn weight_gradient(
    g: &mut Graph,
    a: &ConvAttributes,
    x: Value,
    w: Value,
    dy: Value,
) -> Result<Value> {
    let kernel = shape4(g, w)?;
    let [_, ci, ..] = shape4(g, x)?;
    if a.group == ci {
        return Ok(g.depthwise_weight_grad(x, dy, &kernel, a.clone()));
    }
    let op = Op::ConvWeightGrad {
        conv: a.clone(),
        kernel: [kernel[2], kernel[3]],
    };
    Ok(g.node1(op, &[x, dy], kernel.to_vec()))
}
