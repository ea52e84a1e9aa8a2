//! A graph without our own operators: each replaced by the ONNX operators that compute the same.
//!
//! For exports, and for providers that our kernels do not run on. Tests run every graph both ways. Two operators
//! stay, and run on the host wherever the rest does: the CTC loss, a recursion that ONNX has no form for, and the
//! dropout mask, whose generator ONNX lacks.

use super::op::{ConvAttributes, Op, SliceRange, Taps, Unary, Window};
use super::{Graph, Literal, Origin, Value};
use crate::Result;

/// `graph` in plain ONNX operators, CTC loss and dropout masks excepted. Inputs, parameters and outputs keep their
/// names and order.
///
/// # Errors
/// What the builder methods report; none for a graph that they built.
pub fn plain(graph: &Graph) -> Result<Graph> {
    let mut g = Graph::new(graph.name());
    let mut map: Vec<Option<Value>> = vec![None; graph.values.len()];
    for &value in &graph.inputs {
        let input = g.input(
            graph.value_name(value),
            graph.dtype(value),
            graph.shape(value),
        )?;
        map[value.index()] = Some(input);
    }
    for &value in &graph.parameters {
        let parameter = g.parameter(graph.value_name(value), graph.shape(value))?;
        map[value.index()] = Some(parameter);
    }
    for (index, info) in graph.values.iter().enumerate() {
        if let Origin::Constant(literal) = &info.origin {
            map[index] = Some(match literal {
                Literal::F32(data) => g.constant(&info.shape, data.clone())?,
                Literal::I64(data) => g.constant_i64(&info.shape, data.clone())?,
            });
        }
    }
    let missing = |value: Value| graph.mismatch("plain", "nodes in order", &[value]);
    for node in &graph.nodes {
        let inputs: Vec<Value> = node
            .inputs
            .iter()
            .map(|&v| map[v.index()].ok_or_else(|| missing(v)))
            .collect::<Result<_>>()?;
        let outputs = match form(&mut g, &node.op, &inputs)? {
            Some(outputs) => outputs,
            None => {
                let types: Vec<_> = node
                    .outputs
                    .iter()
                    .map(|&v| (graph.dtype(v), graph.shape(v).to_vec()))
                    .collect();
                g.node(node.op.clone(), &inputs, &types)
            }
        };
        for (&old, new) in node.outputs.iter().zip(outputs) {
            map[old.index()] = Some(new);
        }
    }
    for &value in &graph.outputs {
        let output = map[value.index()].ok_or_else(|| missing(value))?;
        g.output(graph.value_name(value), output)?;
    }
    Ok(g)
}

/// The outputs of `op` in plain operators, or `None` where it is one.
fn form(g: &mut Graph, op: &Op, inputs: &[Value]) -> Result<Option<Vec<Value>>> {
    Ok(match (op, inputs) {
        (Op::Silu, &[x]) => {
            let gate = g.unary(Unary::Sigmoid, x)?;
            Some(vec![g.mul(x, gate)?])
        }
        (Op::SiluGrad, &[x, dy]) => Some(vec![silu_gradient(g, x, dy)?]),
        (Op::LayerNormGrad, &[x, scale, mean, inverse, dy]) => {
            Some(layer_norm_gradient(g, x, scale, [mean, inverse], dy)?)
        }
        (Op::DepthwiseRows(taps), &[x, w, bias]) => {
            Some(vec![depthwise_rows(g, x, w, bias, *taps)?])
        }
        (Op::DepthwiseRowsGrad(taps), &[x, w, dy]) => {
            Some(depthwise_rows_gradient(g, x, w, dy, *taps)?)
        }
        (Op::DepthwiseWeightGrad { conv, kernel }, &[x, dy]) => {
            Some(vec![depthwise_weight(g, x, dy, conv, *kernel)?])
        }
        (Op::MaxPoolGrad(window), &[x, y, dy]) => {
            Some(vec![max_pool_gradient(g, x, y, dy, *window)?])
        }
        (Op::BatchNorm { epsilon, relu }, &[x, scale, bias, mask]) => {
            Some(batch_norm(g, x, [scale, bias], mask, *epsilon, *relu)?)
        }
        (Op::BatchNormGrad { epsilon, relu }, inputs) if inputs.len() == 7 => {
            Some(batch_norm_gradient(g, inputs, *epsilon, *relu)?)
        }
        _ => None,
    })
}

/// `dy (s + y (1 - s))`, s = sigmoid(x), y = x s.
fn silu_gradient(g: &mut Graph, x: Value, dy: Value) -> Result<Value> {
    let s = g.unary(Unary::Sigmoid, x)?;
    let y = g.mul(x, s)?;
    let product = g.mul(y, s)?;
    let rest = g.sub(y, product)?;
    let slope = g.add(s, rest)?;
    g.mul(dy, slope)
}

/// With `n = (x - mean) r` and `e = dy scale`: `dx = r (e - mean(e) - n mean(e n))`, `dscale = sum dy n`,
/// `dbias = sum dy`.
fn layer_norm_gradient(
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

fn depthwise_rows(g: &mut Graph, x: Value, w: Value, bias: Value, taps: Taps) -> Result<Value> {
    let channels = g.shape(w)[0];
    let x = channels_first(g, x)?;
    let y = g.conv(x, w, Some(bias), row_attributes(taps, channels))?;
    channels_last(g, y)
}

fn depthwise_rows_gradient(
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
    let dx = super::grad::conv_input_gradient(g, &attributes, x, w, dy)?;
    Ok(vec![channels_last(g, dx)?, dw, dbias])
}

/// One product and sum a tap: `[C, 1, kh, kw]`.
fn depthwise_weight(
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

/// Tap by tap: where x equals y and no earlier tap did, dy.
fn max_pool_gradient(
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
            let part = super::grad::slice_gradient(g, part, &ranges, &size)?;
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

fn batch_norm(
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
fn batch_norm_gradient(
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
