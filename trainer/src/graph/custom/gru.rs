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
use crate::simd::{LANES, lanes, vectorized};
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

/// `states [K, ITEMS]^T block [K, LANES]`: one row an item.
#[inline(always)]
fn product(states: &[[f32; ITEMS]], block: &[Vector]) -> [Vector; ITEMS] {
    let mut sums = [[0.0; LANES]; ITEMS];
    for (row, factors) in block.iter().zip(states) {
        for (sum, &factor) in sums.iter_mut().zip(factors) {
            *sum = lanes(|lane| sum[lane] + factor * row[lane]);
        }
    }
    sums
}

/// Three equal parts of a row.
#[inline(always)]
fn thirds(row: &[f32]) -> [&[f32]; 3] {
    let width = row.len() / 3;
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
            let fed = &mut fed[item * padded..][..triple];
            for (fed, &bias) in fed.iter_mut().zip(bias) {
                *fed += bias;
            }
            let [gz, gr, gn] = thirds(&gates[place * triple..][..triple]);
            let [qz, qr, qn] = thirds(fed);
            let saved = &mut saved[4 * place * width..][..4 * width];
            let (z, rest) = saved.split_at_mut(width);
            let (r, rest) = rest.split_at_mut(width);
            let (n, q) = rest.split_at_mut(width);
            for k in 0..width {
                z[k] = sigmoid(gz[k] + qz[k]);
                r[k] = sigmoid(gr[k] + qr[k]);
            }
            for k in 0..width {
                q[k] = qn[k];
                n[k] = tanh(gn[k] + r[k] * qn[k]);
            }
            let y = &mut y[place * width..][..width];
            for (k, (y, state)) in y.iter_mut().zip(&mut states).enumerate() {
                *y = (1.0 - z[k]) * n[k] + z[k] * state[item];
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
                0 => &start,
                _ => &y[(place - 1) * width..][..width],
            };
            let (z, rest) = saved[4 * place * width..][..4 * width].split_at(width);
            let [r, n, q] = thirds(rest);
            let dy = &dy[place * width..][..width];
            let dg = &mut dg[3 * place * width..][..3 * width];
            let dq = &mut dq[3 * place * width..][..3 * width];
            {
                let (dz, rest) = dg.split_at_mut(width);
                let (dr, dn) = rest.split_at_mut(width);
                for k in 0..width {
                    let dh = dy[k] + carry[k];
                    dz[k] = dh * (before[k] - n[k]) * z[k] * (1.0 - z[k]);
                    dn[k] = dh * (1.0 - z[k]) * (1.0 - n[k] * n[k]);
                    dr[k] = dn[k] * q[k] * r[k] * (1.0 - r[k]);
                    carry[k] = dh * z[k];
                }
            }
            dq.copy_from_slice(dg);
            for (dq, &r) in dq[2 * width..].iter_mut().zip(r) {
                *dq *= r;
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
