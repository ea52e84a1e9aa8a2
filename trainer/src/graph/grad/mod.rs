//! Reverse-mode differentiation: appends to a graph the nodes that compute gradients of a scalar.
//!
//! For `L = f(..)` and a node `y = op(x..)`, the rule of `op` turns `dL/dy` into `dL/dx`. Nodes are visited in
//! reverse order of construction, which is a topological order; contributions of several uses add up. Only
//! nodes on a path from a wanted value to the loss are visited. What the rules read of the forward pass is kept, or
//! computed again ([`recomputing_gradients`]).

mod conv;
mod elementwise;
mod fused;
mod matrix;
mod pool;
mod recompute;
mod recurrent;
mod shape;
#[cfg(test)]
mod tests;

pub(super) use conv::input_gradient as conv_input_gradient;
pub(super) use matrix::softmax_gradient;
pub(super) use shape::slice_gradient;

use super::op::Op;
use super::{Graph, Literal, Origin, Value};
use crate::{Error, ErrorKind, Result};
use recompute::Recompute;

/// What a rule sees of the node it differentiates.
struct Site<'a> {
    inputs: &'a [Value],
    outputs: &'a [Value],
    /// Gradients of the outputs; `None` where an output does not reach the loss.
    upstream: &'a [Option<Value>],
    /// Which inputs' gradients are wanted.
    wanted: &'a [bool],
}

impl Site<'_> {
    /// The gradient of the first output, which for most operators is the only one.
    fn dy(&self) -> Result<Value> {
        self.upstream.first().copied().flatten().ok_or_else(|| {
            Error::new(
                ErrorKind::Graph,
                "a node is differentiated through an output that has no gradient",
            )
        })
    }
}

/// Gradients of the scalar `loss` with respect to each of `wrt`, in their shapes.
///
/// # Errors
/// [`ErrorKind::Graph`] where `loss` is not a scalar, a value does not reach it, or an operator on the way has no
/// gradient.
pub fn gradients(g: &mut Graph, loss: Value, wrt: &[Value]) -> Result<Vec<Value>> {
    if !g.shape(loss).is_empty() {
        return Err(g.mismatch("gradients", "a scalar loss", &[loss]));
    }
    let one = g.scalar(1.0)?;
    differentiate(g, loss, one, wrt, Recompute::default())
}

/// As [`gradients`], keeping of the forward pass only `kept` and what follows the last of them: what lies between is
/// computed again (arXiv 1604.06174). For inputs whose activations do not fit in memory; a step takes about a third
/// longer. Values should be kept at the narrowest places, such as the sums of residual blocks.
///
/// # Errors
/// As [`gradients`], and where a value to keep is not computed by a node.
pub fn recomputing_gradients(
    g: &mut Graph,
    loss: Value,
    wrt: &[Value],
    kept: &[Value],
) -> Result<Vec<Value>> {
    if !g.shape(loss).is_empty() {
        return Err(g.mismatch("gradients", "a scalar loss", &[loss]));
    }
    let recompute = Recompute::new(g, kept)?;
    let one = g.scalar(1.0)?;
    differentiate(g, loss, one, wrt, recompute)
}

/// Gradients of `sum(y dy)` with respect to each of `wrt`, in their shapes, `dy` being held fixed: what [`gradients`]
/// gives where `dy` is the gradient of a loss that y goes on to.
///
/// # Errors
/// [`ErrorKind::Graph`] where `dy` has another shape than y, a value does not reach y, or an operator on the way has
/// no gradient.
pub fn pull_back(g: &mut Graph, y: Value, dy: Value, wrt: &[Value]) -> Result<Vec<Value>> {
    if g.shape(y) != g.shape(dy) {
        return Err(g.mismatch(
            "pull_back",
            "a gradient in the shape of its value",
            &[y, dy],
        ));
    }
    differentiate(g, y, dy, wrt, Recompute::default())
}

fn differentiate(
    g: &mut Graph,
    y: Value,
    dy: Value,
    wrt: &[Value],
    mut recompute: Recompute,
) -> Result<Vec<Value>> {
    let forward_nodes = g.nodes.len();
    let mut active = vec![false; g.values.len()];
    for value in wrt {
        active[value.index()] = true;
    }
    for node in &g.nodes {
        if node.inputs.iter().any(|v| active[v.index()]) {
            for output in &node.outputs {
                active[output.index()] = true;
            }
        }
    }
    let mut adjoint: Vec<Option<Value>> = vec![None; g.values.len()];
    adjoint[y.index()] = Some(dy);
    for index in (0..forward_nodes).rev() {
        let node = g.nodes[index].clone();
        let upstream: Vec<Option<Value>> =
            node.outputs.iter().map(|v| adjoint[v.index()]).collect();
        let wanted: Vec<bool> = node.inputs.iter().map(|v| active[v.index()]).collect();
        if upstream.iter().all(Option::is_none) || !wanted.contains(&true) {
            continue;
        }
        if let Some(trigger) = upstream.iter().copied().flatten().next() {
            recompute.enter(g, index, trigger)?;
        }
        let site = Site {
            inputs: &recompute.read(&node.inputs),
            outputs: &recompute.read(&node.outputs),
            upstream: &upstream,
            wanted: &wanted,
        };
        let downstream = rule(g, &node.op, &site)?;
        for ((input, gradient), wanted) in node.inputs.iter().zip(downstream).zip(&wanted) {
            let (Some(gradient), true) = (gradient, *wanted) else {
                continue;
            };
            if g.shape(gradient) != g.shape(*input) {
                return Err(g.mismatch(
                    &format!("the gradient rule of {:?}", node.op),
                    "a gradient in its input's shape",
                    &[gradient, *input],
                ));
            }
            let sum = match adjoint[input.index()] {
                Some(earlier) => g.add(earlier, gradient)?,
                None => gradient,
            };
            adjoint[input.index()] = Some(sum);
        }
    }
    wrt.iter()
        .map(|value| {
            adjoint[value.index()].ok_or_else(|| {
                Error::new(
                    ErrorKind::Graph,
                    format!("{:?} does not reach the loss", g.value_name(*value)),
                )
            })
        })
        .collect()
}

fn rule(g: &mut Graph, op: &Op, site: &Site<'_>) -> Result<Vec<Option<Value>>> {
    match op {
        Op::Unary(function) => elementwise::unary(g, *function, site),
        Op::Binary(function) => elementwise::binary(g, *function, site),
        Op::Where => elementwise::select(g, site),
        Op::MatMul => matrix::matmul(g, site),
        Op::Gemm {
            transpose_a,
            transpose_b,
        } => matrix::gemm(g, *transpose_a, *transpose_b, site),
        Op::Softmax { axis } => matrix::softmax(g, *axis, site),
        Op::LogSoftmax { axis } => matrix::log_softmax(g, *axis, site),
        Op::LayerNorm { .. } => matrix::layer_norm(g, site),
        Op::Conv(attributes) => conv::conv(g, attributes, site),
        Op::ReduceSum { axes, .. } => shape::reduce(g, axes, false, site),
        Op::ReduceMean { axes, .. } => shape::reduce(g, axes, true, site),
        Op::ReduceMax { axes, .. } => pool::reduce_max(g, axes, site),
        Op::MaxPool(window) => pool::max_pool(g, *window, site),
        Op::AveragePool(window) => pool::average_pool(g, *window, site),
        Op::Reshape(_) => shape::reshape(g, site),
        Op::Transpose(order) => shape::transpose(g, order, site),
        Op::Slice(ranges) => shape::slice(g, ranges, site),
        Op::Concat { axis } => shape::concat(g, *axis, site),
        Op::Pad { before, .. } => shape::pad(g, before, site),
        Op::Expand(_) => shape::expand(g, site),
        Op::Gather => shape::gather(g, site),
        Op::BatchNorm { epsilon, relu } => fused::batch_norm(g, *epsilon, *relu, site),
        Op::CtcLoss { .. } => fused::ctc_loss(g, site),
        Op::DepthwiseRows(taps) => fused::depthwise_rows(g, *taps, site),
        Op::Gated(gate) => elementwise::gated(g, *gate, site),
        Op::Dropout { rate, stream } => fused::dropout(g, *rate, *stream, site),
        Op::GruSteps => recurrent::gru_steps(g, site),
        Op::Greater
        | Op::Equal
        | Op::MaxPoolGrad(_)
        | Op::ConvTranspose { .. }
        | Op::ConvWeightGrad { .. }
        | Op::GatherGrad { .. }
        | Op::Gru
        | Op::GruStepsGrad
        | Op::Later
        | Op::Unfold { .. }
        | Op::BatchNormGrad { .. }
        | Op::DepthwiseWeightGrad { .. }
        | Op::DepthwiseRowsGrad(_)
        | Op::LayerNormGrad
        | Op::GatedGrad(_)
        | Op::SlopeGrad(_)
        | Op::SoftmaxGrad
        | Op::DropoutMask { .. } => Err(Error::new(
            ErrorKind::Graph,
            format!("{op:?} has no gradient: it stands in backward graphs only"),
        )),
    }
}

/// `gradient` summed over the axes along which a value of `shape` was broadcast.
fn unbroadcast(g: &mut Graph, gradient: Value, shape: &[usize]) -> Result<Value> {
    let found = g.shape(gradient).to_vec();
    if found == shape {
        return Ok(gradient);
    }
    let extra = found.len() - shape.len();
    let axes: Vec<usize> = (0..found.len())
        .filter(|&axis| axis < extra || (shape[axis - extra] == 1 && found[axis] != 1))
        .collect();
    let summed = if axes.is_empty() {
        gradient
    } else {
        g.reduce_sum(gradient, &axes, true)?
    };
    g.reshape(summed, shape)
}

/// Whether `value` is the constant scalar 1.
fn is_one(g: &Graph, value: Value) -> bool {
    matches!(&g.values[value.index()].origin, Origin::Constant(Literal::F32(data)) if *data == [1.0])
}
