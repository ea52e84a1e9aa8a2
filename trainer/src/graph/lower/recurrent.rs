//! The recurrence of a gated recurrent unit, unrolled: a dozen nodes a frame forward, two dozen backward.

use crate::Result;
use crate::graph::op::Unary;
use crate::graph::{Graph, Value};

/// Frame `t` of `[B, T, N]`, `[B, N]`.
fn frame(g: &mut Graph, x: Value, t: usize) -> Result<Value> {
    let (items, width) = (g.shape(x)[0], g.shape(x)[2]);
    let part = g.narrow(x, 1, t, 1)?;
    g.reshape(part, &[items, width])
}

/// Frames `[B, N]` in order, `[B, T, N]`.
fn joined(g: &mut Graph, frames: &[Value]) -> Result<Value> {
    let mut rows = Vec::with_capacity(frames.len());
    for &frame in frames {
        let (items, width) = (g.shape(frame)[0], g.shape(frame)[1]);
        rows.push(g.reshape(frame, &[items, 1, width])?);
    }
    g.concat(&rows, 1)
}

/// `1 - x`.
fn rest(g: &mut Graph, x: Value) -> Result<Value> {
    let one = g.scalar(1.0)?;
    g.sub(one, x)
}

pub(super) fn steps(g: &mut Graph, gates: Value, r: Value, bias: Value) -> Result<Vec<Value>> {
    let (items, frames) = (g.shape(gates)[0], g.shape(gates)[1]);
    let width = g.shape(r)[0];
    let mut state = g.constant(&[items, width], vec![0.0; items * width])?;
    let (mut states, mut saved) = (Vec::new(), Vec::new());
    for t in 0..frames {
        let fed = frame(g, gates, t)?;
        let fed_back = g.linear(state, r, bias)?;
        let part = |g: &mut Graph, x, index| g.narrow(x, 1, index * width, width);
        let gate = |g: &mut Graph, index: usize| -> Result<Value> {
            let (a, b) = (part(g, fed, index)?, part(g, fed_back, index)?);
            let sum = g.add(a, b)?;
            g.unary(Unary::Sigmoid, sum)
        };
        let (update, reset) = (gate(g, 0)?, gate(g, 1)?);
        let q = part(g, fed_back, 2)?;
        let allowed = g.mul(reset, q)?;
        let own = part(g, fed, 2)?;
        let sum = g.add(own, allowed)?;
        let candidate = g.unary(Unary::Tanh, sum)?;
        let fresh = rest(g, update)?;
        let fresh = g.mul(fresh, candidate)?;
        let kept = g.mul(update, state)?;
        state = g.add(fresh, kept)?;
        states.push(state);
        saved.push(g.concat(&[update, reset, candidate, q], 1)?);
    }
    Ok(vec![joined(g, &states)?, joined(g, &saved)?])
}

pub(super) fn steps_gradient(
    g: &mut Graph,
    r: Value,
    y: Value,
    saved: Value,
    dy: Value,
) -> Result<Vec<Value>> {
    let &[items, frames, width] = g.shape(y) else {
        return Err(g.mismatch("GruStepsGrad", "y [B, T, H]", &[y]));
    };
    let zeros = g.constant(&[items, width], vec![0.0; items * width])?;
    let mut carry = zeros;
    let (mut all_dg, mut all_dq) = (Vec::new(), Vec::new());
    for t in (0..frames).rev() {
        let kept = frame(g, saved, t)?;
        let mut part = |index: usize| g.narrow(kept, 1, index * width, width);
        let (update, reset, candidate, q) = (part(0)?, part(1)?, part(2)?, part(3)?);
        let before = match t {
            0 => zeros,
            _ => frame(g, y, t - 1)?,
        };
        let own = frame(g, dy, t)?;
        let dh = g.add(own, carry)?;
        // x (1 - x) dx for a sigmoid's x.
        let bent = |g: &mut Graph, x: Value, dx: Value| -> Result<Value> {
            let other = rest(g, x)?;
            let slope = g.mul(x, other)?;
            g.mul(dx, slope)
        };
        let change = g.sub(before, candidate)?;
        let change = g.mul(dh, change)?;
        let dz = bent(g, update, change)?;
        let fresh = rest(g, update)?;
        let fresh = g.mul(dh, fresh)?;
        let square = g.mul(candidate, candidate)?;
        let slope = rest(g, square)?;
        let dn = g.mul(fresh, slope)?;
        let reached = g.mul(dn, q)?;
        let dr = bent(g, reset, reached)?;
        let dqn = g.mul(dn, reset)?;
        all_dg.push(g.concat(&[dz, dr, dn], 1)?);
        let dq = g.concat(&[dz, dr, dqn], 1)?;
        all_dq.push(dq);
        let through = g.gemm(dq, r, false, true)?;
        let kept = g.mul(dh, update)?;
        carry = g.add(kept, through)?;
    }
    all_dg.reverse();
    all_dq.reverse();
    Ok(vec![joined(g, &all_dg)?, joined(g, &all_dq)?])
}
