//! Gradient rules of our own operators.

use super::Site;
use crate::graph::op::{Op, Taps};
use crate::graph::{DType, Graph, Value};
use crate::{Error, ErrorKind, Result};

/// See [`crate::graph::custom`] for the formulas; the mask is constant.
pub(super) fn batch_norm(
    g: &mut Graph,
    epsilon: f32,
    relu: bool,
    site: &Site<'_>,
) -> Result<Vec<Option<Value>>> {
    if site.upstream[1].is_some() || site.upstream[2].is_some() {
        return Err(Error::new(
            ErrorKind::Graph,
            "the batch statistics of BatchNorm are for running averages: no loss may depend on them",
        ));
    }
    let (x, scale, mask) = (site.inputs[0], site.inputs[1], site.inputs[3]);
    let (y, mean, variance) = (site.outputs[0], site.outputs[1], site.outputs[2]);
    let dy = site.dy()?;
    let outputs: Vec<(DType, Vec<usize>)> = [x, scale, scale]
        .iter()
        .map(|&v| (DType::F32, g.shape(v).to_vec()))
        .collect();
    let out = g.node(
        Op::BatchNormGrad { epsilon, relu },
        &[x, y, scale, mask, mean, variance, dy],
        &outputs,
    );
    Ok(vec![Some(out[0]), Some(out[1]), Some(out[2]), None])
}

/// See [`crate::graph::custom`] for the formulas.
pub(super) fn depthwise_rows(
    g: &mut Graph,
    taps: Taps,
    site: &Site<'_>,
) -> Result<Vec<Option<Value>>> {
    let (x, w, bias, dy) = (site.inputs[0], site.inputs[1], site.inputs[2], site.dy()?);
    let outputs = [x, w, bias].map(|v| (DType::F32, g.shape(v).to_vec()));
    let out = g.node(Op::DepthwiseRowsGrad(taps), &[x, w, dy], &outputs);
    Ok(out.into_iter().map(Some).collect())
}

/// The same elements fall.
pub(super) fn dropout(
    g: &mut Graph,
    rate: f32,
    stream: u64,
    site: &Site<'_>,
) -> Result<Vec<Option<Value>>> {
    let (seed, dy) = (site.inputs[1], site.dy()?);
    Ok(vec![Some(g.dropout(dy, seed, rate, stream)?), None])
}

/// The forward node computes the gradient with the loss: what remains is a scale.
pub(super) fn ctc_loss(g: &mut Graph, site: &Site<'_>) -> Result<Vec<Option<Value>>> {
    if site.upstream[1].is_some() {
        return Err(Error::new(
            ErrorKind::Graph,
            "differentiate the total of CtcLoss, and weigh its segments by its weights input",
        ));
    }
    let dy = site.dy()?;
    let gradient = site.outputs[2];
    // The usual case: the total is the loss itself, and multiplying by one would only cost a pass.
    let scaled = if super::is_one(g, dy) {
        gradient
    } else {
        g.mul(gradient, dy)?
    };
    Ok(vec![Some(scaled), None, None, None])
}
