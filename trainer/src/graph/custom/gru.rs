//! The recurrence of a gated recurrent unit (arXiv 1406.1078, reset after the product), forward and backward through
//! time. ONNX's GRU gives no gates back, which its gradient needs.
//!
//! With `g[t]` what the inputs contribute and `q[t] = y[t-1] R + bias`, each split into update, reset and candidate:
//! - `z = sigmoid(g_z + q_z)`, `r = sigmoid(g_r + q_r)`, `n = tanh(g_n + r q_n)`, `y[t] = (1 - z) n + z y[t-1]`;
//! - backward, with dh what dy and the later frame bring: `dn = dh (1 - z) (1 - n^2)`, `dz = dh (y[t-1] - n) z (1 - z)`,
//!   `dr = dn q_n r (1 - r)`; `dg = [dz, dr, dn]`, `dq = [dz, dr, dn r]`; the earlier frame gets `dh z + dq R^T`.
//!
//! gates `[B, T, 3H]`, r `[H, 3H]`, bias `[3H]`; saved `[B, T, 4H]` holds z, r, n, q_n. The products over all frames
//! (of x with its weights, and both weight gradients) are matrix products outside; only what must go step by step is
//! here. Items are independent: [`ITEMS`] of them advance together, each such block on one thread.

use super::kernel::{Kernel, axes, misuse, operand, parallel};
use crate::loss::logmath::{sigmoid, tanh};
use crate::simd::{LANES, lanes, load, store, vectorized};
use ort::operator::ComputeContext;
use ort::value::TensorElementType::Float32;

pub(super) const FORWARD: Kernel<()> = Kernel {
    name: "GruSteps",
    inputs: &[Float32; 3],
    outputs: 2,
    read: |_| Ok(()),
    compute: forward,
};

pub(super) const BACKWARD: Kernel<()> = Kernel {
    name: "GruStepsGrad",
    inputs: &[Float32; 4],
    outputs: 2,
    read: |_| Ok(()),
    compute: backward,
};

/// Items whose states are multiplied together: their sums fill the vector registers.
const ITEMS: usize = 8;

type Vector = [f32; LANES];

/// The columns of a matrix, [`LANES`] at a time, zeros beyond the last: `[blocks][rows]`.
fn pack(matrix: &[f32], rows: usize, columns: usize, transposed: bool) -> Vec<Vec<Vector>> {
    let at = |row: usize, column: usize| match (column < columns, transposed) {
        (false, _) => 0.0,
        (true, false) => matrix[row * columns + column],
        (true, true) => matrix[column * rows + row],
    };
    let block = |first: usize| (0..rows).map(move |row| lanes(|lane| at(row, first + lane)));
    (0..columns)
        .step_by(LANES)
        .map(|first| block(first).collect())
        .collect()
}

/// `states [K, ITEMS]^T block [K, LANES]`: one row an item. The sums have names of their own: as an array, the compiler
/// has been seen to compute across items, with gathers.
#[inline(always)]
fn product(states: &[[f32; ITEMS]], block: &[Vector]) -> [Vector; ITEMS] {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = [[0.0; LANES]; ITEMS];
    let add = |sum: Vector, factor: f32, row: &Vector| lanes(|n| sum[n] + factor * row[n]);
    for (row, factors) in block.iter().zip(states) {
        a = add(a, factors[0], row);
        b = add(b, factors[1], row);
        c = add(c, factors[2], row);
        d = add(d, factors[3], row);
        e = add(e, factors[4], row);
        f = add(f, factors[5], row);
        g = add(g, factors[6], row);
        h = add(h, factors[7], row);
    }
    [a, b, c, d, e, f, g, h]
}

/// Three parts of a row, each of `width`.
#[inline(always)]
fn thirds(row: &[f32], width: usize) -> [&[f32]; 3] {
    [0, 1, 2].map(|part| &row[part * width..][..width])
}

fn forward(context: &ComputeContext, _: &()) -> ort::Result<()> {
    let inputs = [0, 1, 2].map(|index| operand(context, index));
    let [gates, r, bias] = inputs;
    let (gates, r, bias) = (gates?, r?, bias?);
    let (shape, gates) = gates.try_extract_tensor::<f32>()?;
    let [items, frames, triple] = axes(shape)?;
    let (_, r) = r.try_extract_tensor::<f32>()?;
    let (_, bias) = bias.try_extract_tensor::<f32>()?;
    let width = triple / 3;
    let missing = || misuse("GruSteps has two outputs");
    let mut y = context
        .output(0, [items, frames, width])?
        .ok_or_else(missing)?;
    let mut saved = context
        .output(1, [items, frames, 4 * width])?
        .ok_or_else(missing)?;
    let (_, y) = y.try_extract_tensor_mut::<f32>()?;
    let (_, saved) = saved.try_extract_tensor_mut::<f32>()?;
    let blocks = pack(r, width, triple, false);
    let jobs = gates
        .chunks((ITEMS * frames * triple).max(1))
        .zip(y.chunks_mut((ITEMS * frames * width).max(1)))
        .zip(saved.chunks_mut((4 * ITEMS * frames * width).max(1)))
        .collect();
    parallel(
        context,
        jobs,
        |((gates, y), saved): ((&[f32], &mut [f32]), &mut [f32])| {
            vectorized!(advance(&blocks, bias, frames, gates, y, saved))
        },
    )
}

#[inline(always)]
fn advance(
    blocks: &[Vec<Vector>],
    bias: &[f32],
    frames: usize,
    gates: &[f32],
    y: &mut [f32],
    saved: &mut [f32],
) {
    let triple = bias.len();
    let width = triple / 3;
    let items = y.len() / (frames * width);
    let start = vec![0.0; width];
    let mut states = vec![[0.0; ITEMS]; width];
    let mut fed = vec![0.0; blocks.len() * LANES * ITEMS];
    let padded = blocks.len() * LANES;
    for t in 0..frames {
        for (index, block) in blocks.iter().enumerate() {
            for (item, sum) in product(&states, block).iter().enumerate() {
                fed[item * padded + index * LANES..][..LANES].copy_from_slice(sum);
            }
        }
        for item in 0..items {
            let place = item * frames + t;
            let [gz, gr, gn] = thirds(&gates[place * triple..], width);
            let [qz, qr, qn] = thirds(&fed[item * padded..], width);
            let [bz, br, bn] = thirds(bias, width);
            let saved = &mut saved[4 * place * width..][..4 * width];
            let (z, rest) = saved.split_at_mut(width);
            let (r, rest) = rest.split_at_mut(width);
            let (n, q) = rest.split_at_mut(width);
            let (before, y) = y[item * frames * width..].split_at_mut(t * width);
            let before = match t {
                0 => &start,
                _ => &before[(t - 1) * width..],
            };
            let y = &mut y[..width];
            for at in (0..width).step_by(LANES) {
                let sum = |a, b, c| {
                    let (a, b, c) = (load(a, at), load(b, at), load(c, at));
                    lanes(|n| a[n] + (b[n] + c[n]))
                };
                let (update, reset) = (sum(gz, qz, bz), sum(gr, qr, br));
                let update = lanes(|n| sigmoid(update[n]));
                let reset = lanes(|n| sigmoid(reset[n]));
                let (own, fed, bias) = (load(gn, at), load(qn, at), load(bn, at));
                let fed = lanes(|n| fed[n] + bias[n]);
                let candidate = lanes(|n| tanh(own[n] + reset[n] * fed[n]));
                let before = load(before, at);
                let state = lanes(|n| (1.0 - update[n]) * candidate[n] + update[n] * before[n]);
                store(z, at, &update);
                store(r, at, &reset);
                store(n, at, &candidate);
                store(q, at, &fed);
                store(y, at, &state);
            }
            for (y, state) in y.iter().zip(&mut states) {
                state[item] = *y;
            }
        }
    }
}

fn backward(context: &ComputeContext, _: &()) -> ort::Result<()> {
    let inputs = [0, 1, 2, 3].map(|index| operand(context, index));
    let [r, y, saved, dy] = inputs;
    let (r, y, saved, dy) = (r?, y?, saved?, dy?);
    let (_, r) = r.try_extract_tensor::<f32>()?;
    let (shape, y) = y.try_extract_tensor::<f32>()?;
    let [items, frames, width] = axes(shape)?;
    let (_, saved) = saved.try_extract_tensor::<f32>()?;
    let (_, dy) = dy.try_extract_tensor::<f32>()?;
    let missing = || misuse("GruStepsGrad has two outputs");
    let shape = [items, frames, 3 * width];
    let mut dg = context.output(0, shape)?.ok_or_else(missing)?;
    let mut dq = context.output(1, shape)?.ok_or_else(missing)?;
    let (_, dg) = dg.try_extract_tensor_mut::<f32>()?;
    let (_, dq) = dq.try_extract_tensor_mut::<f32>()?;
    let blocks = pack(r, 3 * width, width, true);
    let size = (ITEMS * frames * width).max(1);
    let jobs = y
        .chunks(size)
        .zip(saved.chunks(4 * size))
        .zip(dy.chunks(size))
        .zip(dg.chunks_mut(3 * size).zip(dq.chunks_mut(3 * size)))
        .collect::<Vec<_>>();
    parallel(context, jobs, |(((y, saved), dy), (dg, dq))| {
        vectorized!(retreat(&blocks, frames, width, [y, saved, dy], dg, dq))
    })
}

#[inline(always)]
fn retreat(
    blocks: &[Vec<Vector>],
    frames: usize,
    width: usize,
    [y, saved, dy]: [&[f32]; 3],
    dg: &mut [f32],
    dq: &mut [f32],
) {
    let items = y.len() / (frames * width);
    let padded = blocks.len() * LANES;
    // What the later frame brings, and the gradients of q in the order that the product takes.
    let mut carry = vec![0.0; padded * ITEMS];
    let mut slopes = vec![[0.0; ITEMS]; 3 * width];
    let start = vec![0.0; width];
    for t in (0..frames).rev() {
        for item in 0..items {
            let place = item * frames + t;
            let carry = &mut carry[item * padded..][..width];
            let before = match t {
                0 => &start[..width],
                _ => &y[(place - 1) * width..][..width],
            };
            let (z, rest) = saved[4 * place * width..][..4 * width].split_at(width);
            let [r, n, q] = thirds(rest, width);
            let dy = &dy[place * width..][..width];
            let (dz, rest) = dg[3 * place * width..][..3 * width].split_at_mut(width);
            let (dr, dn) = rest.split_at_mut(width);
            let dq = &mut dq[3 * place * width..][..3 * width];
            for at in (0..width).step_by(LANES) {
                let [z, r, n, q] = [z, r, n, q].map(|part| load(part, at));
                let (own, later, before) = (load(dy, at), load(carry, at), load(before, at));
                let dh = lanes(|i| own[i] + later[i]);
                let update = lanes(|i| dh[i] * (before[i] - n[i]) * z[i] * (1.0 - z[i]));
                let candidate = lanes(|i| dh[i] * (1.0 - z[i]) * (1.0 - n[i] * n[i]));
                let reset = lanes(|i| candidate[i] * q[i] * r[i] * (1.0 - r[i]));
                store(dz, at, &update);
                store(dr, at, &reset);
                store(dn, at, &candidate);
                store(&mut dq[..width], at, &update);
                store(&mut dq[width..2 * width], at, &reset);
                store(&mut dq[2 * width..], at, &lanes(|i| candidate[i] * r[i]));
                store(carry, at, &lanes(|i| dh[i] * z[i]));
            }
            for (slope, &dq) in slopes.iter_mut().zip(&*dq) {
                slope[item] = dq;
            }
        }
        for (index, block) in blocks.iter().enumerate() {
            for (item, sum) in product(&slopes, block).iter().enumerate() {
                let carry = &mut carry[item * padded + index * LANES..][..LANES];
                for (carry, sum) in carry.iter_mut().zip(sum) {
                    *carry += sum;
                }
            }
        }
    }
}
