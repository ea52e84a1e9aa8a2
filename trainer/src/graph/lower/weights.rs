//! Weight gradients of dense and grouped convolutions: `dw [Co, K] = sum_b dy[b] [Co, P] seen[b] [P, K]`, where `seen`
//! ([`crate::graph::Op::Unfold`]) holds what the kernel sees at each of P positions, `K = kh kw Ci`.
//!
//! With kernels of ours a few items are unfolded at a time: what is written is read again while it stands in the cache,
//! and memory holds those few alone. In plain operators, for a GPU above all, it is one large product.

use crate::Result;
use crate::graph::op::ConvAttributes;
use crate::graph::{Graph, Kernels, Value};

/// Numbers that are unfolded at a time: 2 MB, what a core's second-level cache holds.
const CACHED: usize = 512 * 1024;

/// x `[B, Ci, H, W]` and dy `[B, Co, Ho, Wo]` to `[Co, Ci / groups, kh, kw]`.
pub(super) fn weight_gradient(
    g: &mut Graph,
    [x, dy]: [Value; 2],
    conv: &ConvAttributes,
    [kh, kw]: [usize; 2],
    kernels: Kernels,
) -> Result<Value> {
    let (&[items, inputs, h, w], &[_, outputs, ho, wo]) = (g.shape(x), g.shape(dy)) else {
        return Err(g.mismatch("ConvWeightGrad", "four axes", &[x, dy]));
    };
    let pointwise = kh * kw == 1 && [h, w] == [ho, wo] && conv.pads == [0; 4];
    let (inputs, outputs) = (inputs / conv.group, outputs / conv.group);
    let one = ho * wo * kh * kw * inputs;
    let at_once = match kernels {
        Kernels::Native => (CACHED / one.max(1)).clamp(1, items),
        Kernels::PlainOnnx => items,
    };
    let mut groups = Vec::with_capacity(conv.group);
    for group in 0..conv.group {
        let x = g.narrow(x, 1, group * inputs, inputs)?;
        let dy = g.narrow(dy, 1, group * outputs, outputs)?;
        if pointwise {
            let seen = g.reshape(x, &[items, inputs, h * w])?;
            let product = summed_products(g, dy, seen, true)?;
            groups.push(g.reshape(product, &[outputs, inputs, 1, 1])?);
            continue;
        }
        let mut sum = None;
        for first in (0..items).step_by(at_once) {
            let count = at_once.min(items - first);
            let x = g.narrow(x, 0, first, count)?;
            let dy = g.narrow(dy, 0, first, count)?;
            let seen = match kernels {
                Kernels::Native => g.unfold(x, conv.clone(), [kh, kw])?,
                Kernels::PlainOnnx => super::conv::unfold(g, x, conv, [kh, kw])?,
            };
            let part = summed_products(g, dy, seen, false)?;
            sum = Some(match sum {
                Some(sum) => g.add(sum, part)?,
                None => part,
            });
        }
        let sum = sum.ok_or_else(|| g.mismatch("ConvWeightGrad", "at least one item", &[x]))?;
        let split = g.reshape(sum, &[outputs, kh, kw, inputs])?;
        groups.push(g.transpose(split, &[0, 3, 1, 2])?);
    }
    g.concat(&groups, 0)
}

/// `sum_b dy[b] [Co, P] seen[b] [P, K]` (seen `[B, P, K]`, or `[B, K, P]` if transposed), `[Co, K]`: one product an item,
/// summed; or, where the products would be larger than what they are made of, one product over all, for which dy's rows
/// are moved together.
fn summed_products(g: &mut Graph, dy: Value, seen: Value, transposed: bool) -> Result<Value> {
    let (items, outputs) = (g.shape(dy)[0], g.shape(dy)[1]);
    let positions = g.shape(dy)[2] * g.shape(dy)[3];
    if items == 1 {
        let dy = g.reshape(dy, &[outputs, positions])?;
        let shape = [g.shape(seen)[1], g.shape(seen)[2]];
        let seen = g.reshape(seen, &shape)?;
        return g.gemm(dy, seen, false, transposed);
    }
    // ONNX Runtime folds the transposition into the product.
    let seen = match transposed {
        true => g.transpose(seen, &[0, 2, 1])?,
        false => seen,
    };
    let taps = g.shape(seen)[2];
    if taps <= positions || transposed {
        let dy = g.reshape(dy, &[items, outputs, positions])?;
        let products = g.matmul(dy, seen)?;
        return g.reduce_sum(products, &[0], false);
    }
    let dy = g.transpose(dy, &[1, 0, 2, 3])?;
    let dy = g.reshape(dy, &[outputs, items * positions])?;
    let seen = g.reshape(seen, &[items * positions, taps])?;
    g.gemm(dy, seen, false, false)
}
