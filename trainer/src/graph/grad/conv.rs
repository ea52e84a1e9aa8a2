//! Gradient rules of convolution. For each gradient there are several equal ONNX forms whose speeds differ by
//! up to four times; the choice here follows measurements on the CPU provider.
//!
//! With `y[o, p] = sum_{i, k} w[o, i, k] x[i, p s + k d - pad]`:
//! - `dx`: stride 1 is a convolution of dy with the kernel flipped and its channel axes exchanged, padded by
//!   `d (k - 1) - pad`; other strides are a transposed convolution.
//! - `dw`: dy times what the kernel saw at each position ([`crate::graph::Op::Unfold`]), one product an item.

use super::Site;
use crate::Result;
use crate::graph::op::ConvAttributes;
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
    let [co, per_group, kh, kw] = kernel;
    let [b, ci, ..] = shape4(g, x)?;
    if per_group == 1 && co == ci && a.group == ci {
        return Ok(g.depthwise_weight_grad(x, dy, &kernel, a.clone()));
    }
    if kh * kw == 1 && a.group == 1 && a.strides == [1, 1] && a.pads == [0; 4] {
        return pointwise_weight_gradient(g, x, dy, kernel);
    }
    let [_, _, ho, wo] = shape4(g, dy)?;
    let outputs = co / a.group;
    let mut parts = Vec::with_capacity(a.group);
    for group in 0..a.group {
        let x = g.narrow(x, 1, group * per_group, per_group)?;
        let dy = g.narrow(dy, 1, group * outputs, outputs)?;
        let unfolded = g.unfold(x, a.clone(), [kh, kw])?;
        let product = summed_products(g, dy, unfolded, [b, outputs, ho * wo])?;
        let split = g.reshape(product, &[outputs, kh, kw, per_group])?;
        let ordered = g.transpose(split, &[0, 3, 1, 2])?;
        parts.push(g.reshape(ordered, &[outputs, per_group, kh, kw])?);
    }
    g.concat(&parts, 0)
}

/// `sum_b dy[b] [Co, P] unfolded[b] [P, K]`, `[Co, K]`: one product an item, summed; or, where the products would be
/// larger than what they are made of, one product over all, for which dy's rows are moved together.
fn summed_products(
    g: &mut Graph,
    dy: Value,
    unfolded: Value,
    [items, outputs, positions]: [usize; 3],
) -> Result<Value> {
    let taps = g.shape(unfolded).last().copied().unwrap_or(0);
    if items > 1 && taps <= positions {
        let dy = g.reshape(dy, &[items, outputs, positions])?;
        let products = g.matmul(dy, unfolded)?;
        return g.reduce_sum(products, &[0], false);
    }
    let dy = channels_outermost(g, dy)?;
    let dy = g.reshape(dy, &[outputs, items * positions])?;
    let unfolded = g.reshape(unfolded, &[items * positions, taps])?;
    g.gemm(dy, unfolded, false, false)
}

/// `[B, C, H, W]` to `[C, B, H, W]`: without a copy for one item.
fn channels_outermost(g: &mut Graph, x: Value) -> Result<Value> {
    let [b, c, h, w] = shape4(g, x)?;
    if b == 1 {
        return g.reshape(x, &[c, 1, h, w]);
    }
    g.transpose(x, &[1, 0, 2, 3])
}

/// One product an item, summed: nothing is unfolded, so nothing needs to be transposed.
fn pointwise_weight_gradient(
    g: &mut Graph,
    x: Value,
    dy: Value,
    kernel: [usize; 4],
) -> Result<Value> {
    let [b, ci, h, w] = shape4(g, x)?;
    let co = kernel[0];
    let product = if b == 1 {
        let x = g.reshape(x, &[ci, h * w])?;
        let dy = g.reshape(dy, &[co, h * w])?;
        g.gemm(dy, x, false, true)?
    } else {
        let x = g.reshape(x, &[b, ci, h * w])?;
        let x = g.transpose(x, &[0, 2, 1])?;
        let dy = g.reshape(dy, &[b, co, h * w])?;
        let batched = g.matmul(dy, x)?;
        g.reduce_sum(batched, &[0], false)?
    };
    g.reshape(product, &kernel)
}
