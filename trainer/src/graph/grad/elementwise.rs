//! Gradient rules of element-wise operators.

use super::{Site, unbroadcast};
use crate::graph::op::{Binary, Gate, Op, Slope, Unary};
use crate::graph::{Graph, Value};
use crate::{Error, ErrorKind, Result};

pub(super) fn unary(g: &mut Graph, function: Unary, site: &Site<'_>) -> Result<Vec<Option<Value>>> {
    let (x, y, dy) = (site.inputs[0], site.outputs[0], site.dy()?);
    let dx = match function {
        Unary::Identity => dy,
        Unary::Detach => return Ok(vec![None]),
        Unary::Neg => g.unary(Unary::Neg, dy)?,
        // y > 0 exactly where x > 0, and y is kept anyway by what follows.
        Unary::Relu => by_result(g, Slope::Relu, y, dy),
        Unary::Sigmoid => by_result(g, Slope::Sigmoid, y, dy),
        Unary::Tanh => by_result(g, Slope::Tanh, y, dy),
        Unary::Exp => g.mul(dy, y)?,
        Unary::Log => g.div(dy, x)?,
        // 1 / (2 y)
        Unary::Sqrt => {
            let half = g.scale(dy, 0.5)?;
            g.div(half, y)?
        }
        // -y^2
        Unary::Reciprocal => {
            let square = g.mul(y, y)?;
            let slope = g.mul(dy, square)?;
            g.unary(Unary::Neg, slope)?
        }
        // 2 / sqrt(pi) exp(-x^2)
        Unary::Erf => {
            let square = g.mul(x, x)?;
            let negative = g.unary(Unary::Neg, square)?;
            let bell = g.unary(Unary::Exp, negative)?;
            let slope = g.scale(bell, std::f32::consts::FRAC_2_SQRT_PI)?;
            g.mul(dy, slope)?
        }
        Unary::Abs => {
            let sign = g.unary(Unary::Sign, x)?;
            g.mul(dy, sign)?
        }
        Unary::Sign => {
            return Err(Error::new(
                ErrorKind::Graph,
                "Sign has gradient 0 everywhere: keep it out of a loss",
            ));
        }
    };
    Ok(vec![Some(dx)])
}

fn by_result(g: &mut Graph, slope: Slope, y: Value, dy: Value) -> Value {
    let shape = g.shape(y).to_vec();
    g.node1(Op::SlopeGrad(slope), &[y, dy], shape)
}

pub(super) fn gated(g: &mut Graph, gate: Gate, site: &Site<'_>) -> Result<Vec<Option<Value>>> {
    let (x, dy) = (site.inputs[0], site.dy()?);
    let shape = g.shape(x).to_vec();
    Ok(vec![Some(g.node1(Op::GatedGrad(gate), &[x, dy], shape))])
}

pub(super) fn binary(
    g: &mut Graph,
    function: Binary,
    site: &Site<'_>,
) -> Result<Vec<Option<Value>>> {
    let (a, b, dy) = (site.inputs[0], site.inputs[1], site.dy()?);
    let (shape_a, shape_b) = (g.shape(a).to_vec(), g.shape(b).to_vec());
    let mut da = None;
    let mut db = None;
    if site.wanted[0] {
        let full = match function {
            Binary::Add | Binary::Sub => dy,
            Binary::Mul => g.mul(dy, b)?,
            Binary::Div => g.div(dy, b)?,
        };
        da = Some(unbroadcast(g, full, &shape_a)?);
    }
    if site.wanted[1] {
        let full = match function {
            Binary::Add => dy,
            // The sum over broadcast axes is smaller, so it goes first.
            Binary::Sub => {
                let sum = unbroadcast(g, dy, &shape_b)?;
                g.unary(Unary::Neg, sum)?
            }
            Binary::Mul => g.mul(dy, a)?,
            // -y / b
            Binary::Div => {
                let ratio = g.div(site.outputs[0], b)?;
                let product = g.mul(dy, ratio)?;
                g.unary(Unary::Neg, product)?
            }
        };
        db = Some(unbroadcast(g, full, &shape_b)?);
    }
    Ok(vec![da, db])
}

pub(super) fn select(g: &mut Graph, site: &Site<'_>) -> Result<Vec<Option<Value>>> {
    let (condition, dy) = (site.inputs[0], site.dy()?);
    let zero = g.scalar(0.0)?;
    let mut out = vec![None, None, None];
    for (index, (yes, no)) in [(1, (dy, zero)), (2, (zero, dy))] {
        if site.wanted[index] {
            let shape = g.shape(site.inputs[index]).to_vec();
            let full = g.select(condition, yes, no)?;
            out[index] = Some(unbroadcast(g, full, &shape)?);
        }
    }
    Ok(out)
}
