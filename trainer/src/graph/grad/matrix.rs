//! Gradient rules of matrix products, softmax and layer normalization.

use super::{Site, unbroadcast};
use crate::Result;
use crate::graph::op::Op;
use crate::graph::{DType, Graph, Value};

fn transposed(g: &mut Graph, x: Value) -> Result<Value> {
    let rank = g.shape(x).len();
    let mut order: Vec<usize> = (0..rank).collect();
    order.swap(rank - 2, rank - 1);
    g.transpose(x, &order)
}

/// `dA = dY B^T`, `dB = A^T dY`.
pub(super) fn matmul(g: &mut Graph, site: &Site<'_>) -> Result<Vec<Option<Value>>> {
    let (a, b, dy) = (site.inputs[0], site.inputs[1], site.dy()?);
    let (shape_a, shape_b) = (g.shape(a).to_vec(), g.shape(b).to_vec());
    let mut da = None;
    let mut db = None;
    if site.wanted[0] {
        let bt = transposed(g, b)?;
        let full = g.matmul(dy, bt)?;
        da = Some(unbroadcast(g, full, &shape_a)?);
    }
    if site.wanted[1] {
        let at = transposed(g, a)?;
        let full = g.matmul(at, dy)?;
        db = Some(unbroadcast(g, full, &shape_b)?);
    }
    Ok(vec![da, db])
}

/// As [`matmul`], with the transpositions folded into the products.
pub(super) fn gemm(
    g: &mut Graph,
    transpose_a: bool,
    transpose_b: bool,
    site: &Site<'_>,
) -> Result<Vec<Option<Value>>> {
    let (a, b, dy) = (site.inputs[0], site.inputs[1], site.dy()?);
    let mut da = None;
    let mut db = None;
    if site.wanted[0] {
        da = Some(if transpose_a {
            g.gemm(b, dy, transpose_b, true)?
        } else {
            g.gemm(dy, b, false, !transpose_b)?
        });
    }
    if site.wanted[1] {
        db = Some(if transpose_b {
            g.gemm(dy, a, true, transpose_a)?
        } else {
            g.gemm(a, dy, !transpose_a, false)?
        });
    }
    let mut out = vec![da, db];
    if site.inputs.len() > 2 {
        out.push(match site.wanted[2] {
            true => Some(g.reduce_sum(dy, &[0], false)?),
            false => None,
        });
    }
    Ok(out)
}

/// `dx = y (dy - sum(dy y))`.
pub(super) fn softmax(g: &mut Graph, axis: usize, site: &Site<'_>) -> Result<Vec<Option<Value>>> {
    let (y, dy) = (site.outputs[0], site.dy()?);
    let shape = g.shape(y).to_vec();
    if axis + 1 == shape.len() {
        return Ok(vec![Some(g.node1(Op::SoftmaxGrad, &[y, dy], shape))]);
    }
    Ok(vec![Some(softmax_gradient(g, axis, y, dy)?)])
}

/// [`softmax`] in plain operators.
pub(in crate::graph) fn softmax_gradient(
    g: &mut Graph,
    axis: usize,
    y: Value,
    dy: Value,
) -> Result<Value> {
    let product = g.mul(dy, y)?;
    let sum = g.reduce_sum(product, &[axis], true)?;
    let difference = g.sub(dy, sum)?;
    g.mul(y, difference)
}

/// `dx = dy - exp(y) sum(dy)`.
pub(super) fn log_softmax(
    g: &mut Graph,
    axis: usize,
    site: &Site<'_>,
) -> Result<Vec<Option<Value>>> {
    let (y, dy) = (site.outputs[0], site.dy()?);
    let probabilities = g.unary(crate::graph::Unary::Exp, y)?;
    let sum = g.reduce_sum(dy, &[axis], true)?;
    let product = g.mul(probabilities, sum)?;
    Ok(vec![Some(g.sub(dy, product)?)])
}

/// See [`crate::graph::custom`] for the formula.
pub(super) fn layer_norm(g: &mut Graph, site: &Site<'_>) -> Result<Vec<Option<Value>>> {
    if site.upstream[1].is_some() || site.upstream[2].is_some() {
        return Err(g.mismatch(
            "the gradient of LayerNorm",
            "a loss that does not depend on its statistics",
            site.outputs,
        ));
    }
    let (x, scale, dy) = (site.inputs[0], site.inputs[1], site.dy()?);
    let outputs = [x, scale, scale].map(|v| (DType::F32, g.shape(v).to_vec()));
    let operands = [x, scale, site.outputs[1], site.outputs[2], dy];
    let out = g.node(Op::LayerNormGrad, &operands, &outputs);
    Ok(out.into_iter().map(Some).collect())
}
