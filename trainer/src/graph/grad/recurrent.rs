//! Gradient rule of the recurrence of a gated recurrent unit.

use super::Site;
use crate::graph::op::Op;
use crate::graph::{DType, Graph, Value};
use crate::{Error, ErrorKind, Result};

/// With dq the gradients of `q[t] = y[t-1] R + bias`: `dR = sum_t y[t-1]^T dq[t]`, `dbias = sum_t dq[t]`; see
/// [`crate::graph::custom`] for the steps.
pub(super) fn gru_steps(g: &mut Graph, site: &Site<'_>) -> Result<Vec<Option<Value>>> {
    if site.upstream[1].is_some() {
        return Err(Error::new(
            ErrorKind::Graph,
            "the second output of GruSteps is what its gradient reads: no loss may depend on it",
        ));
    }
    let (gates, r, dy) = (site.inputs[0], site.inputs[1], site.dy()?);
    let (y, saved) = (site.outputs[0], site.outputs[1]);
    let shape = g.shape(gates).to_vec();
    let (width, triple) = (shape[2] / 3, shape[2]);
    let outputs = [(DType::F32, shape.clone()), (DType::F32, shape.clone())];
    let out = g.node(Op::GruStepsGrad, &[r, y, saved, dy], &outputs);
    let [dg, dq] = [out[0], out[1]];
    let [items, frames] = [shape[0], shape[1]];
    let dr = if frames > 1 {
        let before = g.narrow(y, 1, 0, frames - 1)?;
        let before = g.reshape(before, &[items * (frames - 1), width])?;
        let after = g.narrow(dq, 1, 1, frames - 1)?;
        let after = g.reshape(after, &[items * (frames - 1), triple])?;
        g.gemm(before, after, true, false)?
    } else {
        g.constant(&[width, triple], vec![0.0; width * triple])?
    };
    let dbias = g.reduce_sum(dq, &[0, 1], false)?;
    Ok(vec![Some(dg), Some(dr), Some(dbias)])
}
