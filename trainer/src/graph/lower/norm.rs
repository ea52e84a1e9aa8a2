//! Batch and layer normalization: see [`crate::graph::custom`] for the formulas.

use crate::Result;
use crate::graph::op::Unary;
use crate::graph::{Graph, Value};

/// With `n = (x - mean) r` and `e = dy scale`: `dx = r (e - mean(e) - n mean(e n))`, `dscale = sum dy n`,
/// `dbias = sum dy`.
pub(super) fn layer_norm_gradient(
    g: &mut Graph,
    x: Value,
    scale: Value,
    [mean, inverse]: [Value; 2],
    dy: Value,
) -> Result<Vec<Value>> {
    let last = g.shape(x).len() - 1;
    let rows: Vec<usize> = (0..last).collect();
    let centered = g.sub(x, mean)?;
    let n = g.mul(centered, inverse)?;
    let e = g.mul(dy, scale)?;
    let mean_e = g.reduce_mean(e, &[last], true)?;
    let product = g.mul(e, n)?;
    let mean_product = g.reduce_mean(product, &[last], true)?;
    let along = g.mul(n, mean_product)?;
    let first = g.sub(e, mean_e)?;
    let rest = g.sub(first, along)?;
    let dx = g.mul(rest, inverse)?;
    let product = g.mul(dy, n)?;
    let mut sum = |v| match rows.is_empty() {
        true => Ok(v),
        false => g.reduce_sum(v, &rows, false),
    };
    Ok(vec![dx, sum(product)?, sum(dy)?])
}

/// Number of unmasked positions, at least 1, `[]`.
fn positions(g: &mut Graph, mask: Value) -> Result<Value> {
    let count = g.sum_all(mask)?;
    let one = g.scalar(1.0)?;
    let excess = g.sub(count, one)?;
    let excess = g.relu(excess)?;
    g.add(excess, one)
}

/// `1 / sqrt(variance + epsilon)`.
fn inverse_deviation(g: &mut Graph, variance: Value, epsilon: f32) -> Result<Value> {
    let epsilon = g.scalar(epsilon)?;
    let raised = g.add(variance, epsilon)?;
    let deviation = g.unary(Unary::Sqrt, raised)?;
    g.unary(Unary::Reciprocal, deviation)
}

pub(super) fn batch_norm(
    g: &mut Graph,
    x: Value,
    [scale, bias]: [Value; 2],
    mask: Value,
    epsilon: f32,
    relu: bool,
) -> Result<Vec<Value>> {
    let channels = g.shape(scale)[0];
    let wide = [1, channels, 1, 1];
    let count = positions(g, mask)?;
    let masked = g.mul(x, mask)?;
    let sum = g.reduce_sum(masked, &[0, 2, 3], true)?;
    let mean = g.div(sum, count)?;
    let centered = g.sub(x, mean)?;
    let square = g.mul(centered, centered)?;
    let square = g.mul(square, mask)?;
    let sum = g.reduce_sum(square, &[0, 2, 3], true)?;
    let variance = g.div(sum, count)?;
    let inverse = inverse_deviation(g, variance, epsilon)?;
    let (scale, bias) = (g.reshape(scale, &wide)?, g.reshape(bias, &wide)?);
    let gain = g.mul(inverse, scale)?;
    let scaled = g.mul(centered, gain)?;
    let mut y = g.add(scaled, bias)?;
    if relu {
        y = g.relu(y)?;
    }
    let y = g.mul(y, mask)?;
    let mean = g.reshape(mean, &[channels])?;
    Ok(vec![y, mean, g.reshape(variance, &[channels])?])
}

/// `x, y, scale, mask, mean, variance, dy` to dx, dscale, dbias.
pub(super) fn batch_norm_gradient(
    g: &mut Graph,
    inputs: &[Value],
    epsilon: f32,
    relu: bool,
) -> Result<Vec<Value>> {
    let [x, y, scale, mask] = [inputs[0], inputs[1], inputs[2], inputs[3]];
    let channels = g.shape(scale)[0];
    let wide = [1, channels, 1, 1];
    let count = positions(g, mask)?;
    let mut seen = g.mul(inputs[6], mask)?;
    if relu {
        let sign = g.unary(Unary::Sign, y)?;
        seen = g.mul(seen, sign)?;
    }
    let mean = g.reshape(inputs[4], &wide)?;
    let variance = g.reshape(inputs[5], &wide)?;
    let inverse = inverse_deviation(g, variance, epsilon)?;
    let centered = g.sub(x, mean)?;
    let n = g.mul(centered, inverse)?;
    let dbias = g.reduce_sum(seen, &[0, 2, 3], true)?;
    let product = g.mul(seen, n)?;
    let dscale = g.reduce_sum(product, &[0, 2, 3], true)?;
    let level = g.div(dbias, count)?;
    let slope = g.div(dscale, count)?;
    let along = g.mul(n, slope)?;
    let rest = g.sub(seen, level)?;
    let rest = g.sub(rest, along)?;
    let scale = g.reshape(scale, &wide)?;
    let gain = g.mul(scale, inverse)?;
    let dx = g.mul(rest, gain)?;
    let dx = g.mul(dx, mask)?;
    let dscale = g.reshape(dscale, &[channels])?;
    Ok(vec![dx, dscale, g.reshape(dbias, &[channels])?])
}
