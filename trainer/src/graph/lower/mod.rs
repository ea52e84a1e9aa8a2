//! The last form of a graph before it is written: operators are replaced by those that compute the same for whom they
//! are written.
//!
//! With kernels of ours that is only the weight gradient of convolutions. In plain ONNX operators, for exports and for
//! providers that our kernels do not run on, it is every operator of ours but two, which run on the host wherever the
//! rest does: the CTC loss, a recursion that ONNX has no form for, and the dropout mask, whose generator ONNX lacks.
//! Tests run every graph both ways.

mod activation;
mod conv;
mod norm;
mod pool;
mod recurrent;
mod weights;

use super::op::Op;
use super::{Graph, Kernels, Literal, Origin, Value};
use crate::Result;

/// `graph` in operators that `kernels` compute. Inputs, parameters and outputs keep their names and order.
///
/// # Errors
/// What the builder methods report; none for a graph that they built.
pub fn lower(graph: &Graph, kernels: Kernels) -> Result<Graph> {
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
    let missing = |value: Value| graph.mismatch("lower", "nodes in order", &[value]);
    for node in &graph.nodes {
        let inputs: Vec<Value> = node
            .inputs
            .iter()
            .map(|&v| map[v.index()].ok_or_else(|| missing(v)))
            .collect::<Result<_>>()?;
        let outputs = match form(&mut g, &node.op, &inputs, kernels)? {
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

/// The outputs of `op` in operators that `kernels` compute, or `None` where it is one.
fn form(g: &mut Graph, op: &Op, inputs: &[Value], kernels: Kernels) -> Result<Option<Vec<Value>>> {
    match (op, inputs) {
        (Op::ConvWeightGrad { conv, kernel }, &[x, dy]) => {
            let gradient = weights::weight_gradient(g, [x, dy], conv, *kernel, kernels)?;
            Ok(Some(vec![gradient]))
        }
        _ if kernels == Kernels::Native => Ok(None),
        _ => plain(g, op, inputs),
    }
}

/// The outputs of `op` in plain operators, or `None` where it is one.
fn plain(g: &mut Graph, op: &Op, inputs: &[Value]) -> Result<Option<Vec<Value>>> {
    let one = |value: Result<Value>| Ok(Some(vec![value?]));
    match (op, inputs) {
        (Op::Gated(gate), &[x]) => one(activation::gated(g, *gate, x)),
        (Op::GatedGrad(gate), &[x, dy]) => one(activation::gated_gradient(g, *gate, x, dy)),
        (Op::SlopeGrad(slope), &[y, dy]) => one(activation::slope_gradient(g, *slope, y, dy)),
        (Op::SoftmaxGrad, &[y, dy]) => {
            let last = g.shape(y).len().saturating_sub(1);
            one(super::grad::softmax_gradient(g, last, y, dy))
        }
        (Op::LayerNormGrad, &[x, scale, mean, inverse, dy]) => {
            norm::layer_norm_gradient(g, x, scale, [mean, inverse], dy).map(Some)
        }
        (Op::BatchNorm { epsilon, relu }, &[x, scale, bias, mask]) => {
            norm::batch_norm(g, x, [scale, bias], mask, *epsilon, *relu).map(Some)
        }
        (Op::BatchNormGrad { epsilon, relu }, inputs) if inputs.len() == 7 => {
            norm::batch_norm_gradient(g, inputs, *epsilon, *relu).map(Some)
        }
        (Op::DepthwiseRows(taps), &[x, w, bias]) => one(conv::depthwise_rows(g, x, w, bias, *taps)),
        (Op::DepthwiseRowsGrad(taps), &[x, w, dy]) => {
            conv::depthwise_rows_gradient(g, x, w, dy, *taps).map(Some)
        }
        (Op::DepthwiseWeightGrad { conv, kernel }, &[x, dy]) => {
            one(match g.shape(x).get(1) == g.shape(dy).get(1) {
                true => conv::depthwise_weight(g, x, dy, conv, *kernel),
                false => weights::weight_gradient(g, [x, dy], conv, *kernel, Kernels::PlainOnnx),
            })
        }
        (Op::MaxPoolGrad(window), &[x, y, dy]) => {
            one(pool::max_pool_gradient(g, x, y, dy, *window))
        }
        (Op::GatherGrad { rows }, &[indices, dy]) => one(gather_gradient(g, *rows, indices, dy)),
        (Op::GruSteps, &[gates, r, bias]) => recurrent::steps(g, gates, r, bias).map(Some),
        (Op::GruStepsGrad, &[r, y, saved, dy]) => {
            recurrent::steps_gradient(g, r, y, saved, dy).map(Some)
        }
        (Op::Later, &[x, trigger]) => one(later(g, x, trigger)),
        (Op::Dropout { rate, stream }, &[x, seed]) => {
            let shape = g.shape(x).to_vec();
            let mask = Op::DropoutMask {
                rate: *rate,
                stream: *stream,
                shape: shape.clone(),
            };
            let mask = g.node1(mask, &[seed], shape);
            one(g.mul(x, mask))
        }
        _ => Ok(None),
    }
}

/// A product with the one-hot matrix of the indices: unlike ScatterND it adds in a fixed order, also on a GPU.
fn gather_gradient(g: &mut Graph, rows: usize, indices: Value, dy: Value) -> Result<Value> {
    let count = g.elements(indices);
    let mut shape = vec![rows];
    shape.extend(&g.shape(dy)[g.shape(indices).len()..]);
    let numbers = g.constant_i64(&[rows, 1], (0..rows as i64).collect())?;
    let indices = g.reshape(indices, &[1, count])?;
    let equal = g.equal(numbers, indices)?;
    let (one, zero) = (g.scalar(1.0)?, g.scalar(0.0)?);
    let taken = g.select(equal, one, zero)?;
    let width = g.elements(dy) / count.max(1);
    let dy = g.reshape(dy, &[count, width])?;
    let sums = g.gemm(taken, dy, false, false)?;
    g.reshape(sums, &shape)
}

/// Adds nothing, but something that the trigger is needed for.
fn later(g: &mut Graph, x: Value, trigger: Value) -> Result<Value> {
    let mut first = g.reshape(trigger, &[g.elements(trigger)])?;
    first = g.narrow(first, 0, 0, 1)?;
    first = g.reshape(first, &[])?;
    let nothing = g.scale(first, 0.0)?;
    g.add(x, nothing)
}
