//! Activations and their gradients.

use crate::Result;
use crate::graph::op::{Gate, Slope, Unary};
use crate::graph::{Graph, Value};

pub(super) fn gated(g: &mut Graph, gate: Gate, x: Value) -> Result<Value> {
    let share = match gate {
        Gate::Silu => g.unary(Unary::Sigmoid, x)?,
        Gate::Gelu => distribution(g, x)?,
    };
    g.mul(x, share)
}

pub(super) fn gated_gradient(g: &mut Graph, gate: Gate, x: Value, dy: Value) -> Result<Value> {
    let slope = match gate {
        // s + y (1 - s), y = x s.
        Gate::Silu => {
            let s = g.unary(Unary::Sigmoid, x)?;
            let y = g.mul(x, s)?;
            let product = g.mul(y, s)?;
            let rest = g.sub(y, product)?;
            g.add(s, rest)?
        }
        // P + x p.
        Gate::Gelu => {
            let share = distribution(g, x)?;
            let square = g.mul(x, x)?;
            let exponent = g.scale(square, -0.5)?;
            let bell = g.unary(Unary::Exp, exponent)?;
            let density = g.scale(bell, 1.0 / std::f32::consts::TAU.sqrt())?;
            let product = g.mul(x, density)?;
            g.add(share, product)?
        }
    };
    g.mul(dy, slope)
}

/// `1/2 (1 + erf(x / sqrt 2))`.
fn distribution(g: &mut Graph, x: Value) -> Result<Value> {
    let scaled = g.scale(x, std::f32::consts::FRAC_1_SQRT_2)?;
    let erf = g.unary(Unary::Erf, scaled)?;
    let one = g.scalar(1.0)?;
    let twice = g.add(erf, one)?;
    g.scale(twice, 0.5)
}

pub(super) fn slope_gradient(g: &mut Graph, slope: Slope, y: Value, dy: Value) -> Result<Value> {
    let slope = match slope {
        Slope::Relu => g.unary(Unary::Sign, y)?,
        Slope::Sigmoid => {
            let square = g.mul(y, y)?;
            g.sub(y, square)?
        }
        Slope::Tanh => {
            let square = g.mul(y, y)?;
            let one = g.scalar(1.0)?;
            g.sub(one, square)?
        }
    };
    g.mul(dy, slope)
}
