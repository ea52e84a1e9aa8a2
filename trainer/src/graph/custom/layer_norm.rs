//! Layer normalization over the last axis (arXiv 1607.06450), forward and backward in one pass over memory each.
//!
//! With `r = 1 / sqrt(variance + epsilon)`, `n = (x - mean) r`, `e = dy scale`:
//! - forward `y = scale n + bias`; mean and r per row.
//! - backward `dx = r (e - mean(e) - n mean(e n))`, `dscale = sum dy n`, `dbias = sum dy` over rows.
//!
//! x `[.., D]`, scale and bias `[D]`. The sums over rows go through one partial sum a block of rows, added in order.

use super::kernel::{Kernel, misuse, operand, parallel};
use crate::simd::{sum2, vectorized};
use ort::operator::ComputeContext;
use ort::value::TensorElementType::Float32;

pub(super) const FORWARD: Kernel<f32> = Kernel {
    name: "LayerNorm",
    inputs: &[Float32; 3],
    outputs: 3,
    read: |info| {
        info.get("epsilon")
            .ok_or_else(|| misuse("LayerNorm wants the attribute epsilon"))
    },
    compute: forward,
};

pub(super) const BACKWARD: Kernel<()> = Kernel {
    name: "LayerNormGrad",
    inputs: &[Float32; 5],
    outputs: 3,
    read: |_| Ok(()),
    compute: backward,
};

/// Rows a job takes.
const BLOCK: usize = 64;

/// Partial sums a row's reductions keep: rows are short, and what is left over is summed one by one.
const SUMS: usize = 32;

fn forward(context: &ComputeContext, &epsilon: &f32) -> ort::Result<()> {
    let inputs = [0, 1, 2].map(|index| operand(context, index));
    let [x, scale, bias] = inputs;
    let (x, scale, bias) = (x?, scale?, bias?);
    let (shape, x) = x.try_extract_tensor::<f32>()?;
    let (_, scale) = scale.try_extract_tensor::<f32>()?;
    let (_, bias) = bias.try_extract_tensor::<f32>()?;
    let width = scale.len().max(1);
    let mut statistics = shape.to_vec();
    if let Some(last) = statistics.last_mut() {
        *last = 1;
    }
    let missing = || misuse("LayerNorm has three outputs");
    let mut y = context.output(0, shape.to_vec())?.ok_or_else(missing)?;
    let mut means = context.output(1, statistics.clone())?.ok_or_else(missing)?;
    let mut inverses = context.output(2, statistics)?.ok_or_else(missing)?;
    let (_, y) = y.try_extract_tensor_mut::<f32>()?;
    let (_, means) = means.try_extract_tensor_mut::<f32>()?;
    let (_, inverses) = inverses.try_extract_tensor_mut::<f32>()?;
    let jobs: Vec<_> = x
        .chunks(BLOCK * width)
        .zip(y.chunks_mut(BLOCK * width))
        .zip(means.chunks_mut(BLOCK).zip(inverses.chunks_mut(BLOCK)))
        .collect();
    parallel(context, jobs, |((x, y), (means, inverses))| {
        let rows = x.chunks_exact(width).zip(y.chunks_exact_mut(width));
        let statistics = means.iter_mut().zip(inverses);
        vectorized!(for ((x, y), (mean, inverse)) in rows.zip(statistics) {
            let center = sum2::<SUMS>(x, x, |x, _| x) / width as f32;
            let spread = sum2::<SUMS>(x, x, |x, _| (x - center) * (x - center));
            let factor = 1.0 / (spread / width as f32 + epsilon).sqrt();
            *mean = center;
            *inverse = factor;
            for ((y, &x), (&scale, &bias)) in y.iter_mut().zip(x).zip(scale.iter().zip(bias)) {
                *y = (x - center) * factor * scale + bias;
            }
        })
    })
}

fn backward(context: &ComputeContext, _: &()) -> ort::Result<()> {
    let inputs = [0, 1, 2, 3, 4].map(|index| operand(context, index));
    let [x, scale, means, inverses, dy] = inputs;
    let (x, scale, means, inverses, dy) = (x?, scale?, means?, inverses?, dy?);
    let (shape, x) = x.try_extract_tensor::<f32>()?;
    let (_, scale) = scale.try_extract_tensor::<f32>()?;
    let (_, means) = means.try_extract_tensor::<f32>()?;
    let (_, inverses) = inverses.try_extract_tensor::<f32>()?;
    let (_, dy) = dy.try_extract_tensor::<f32>()?;
    let width = scale.len().max(1);
    let missing = || misuse("LayerNormGrad has three outputs");
    let mut dx = context.output(0, shape.to_vec())?.ok_or_else(missing)?;
    let mut dscale = context.output(1, [scale.len()])?.ok_or_else(missing)?;
    let mut dbias = context.output(2, [scale.len()])?.ok_or_else(missing)?;
    let (_, dx) = dx.try_extract_tensor_mut::<f32>()?;
    let (_, dscale) = dscale.try_extract_tensor_mut::<f32>()?;
    let (_, dbias) = dbias.try_extract_tensor_mut::<f32>()?;
    // Per block of rows: its part of dscale, then of dbias.
    let mut parts = vec![0.0f32; means.len().div_ceil(BLOCK) * 2 * width];
    let jobs: Vec<_> = x
        .chunks(BLOCK * width)
        .zip(dy.chunks(BLOCK * width))
        .zip(means.chunks(BLOCK).zip(inverses.chunks(BLOCK)))
        .zip(dx.chunks_mut(BLOCK * width))
        .zip(parts.chunks_exact_mut(2 * width))
        .collect();
    parallel(
        context,
        jobs,
        |((((x, dy), (means, inverses)), dx), part)| {
            let (dscale, dbias) = part.split_at_mut(width);
            let rows = x.chunks_exact(width).zip(dy.chunks_exact(width));
            let rows = rows.zip(dx.chunks_exact_mut(width));
            vectorized!(for (((x, dy), dx), (&mean, &inverse)) in
                rows.zip(means.iter().zip(inverses))
            {
                // dx holds e first, which two of the three sums want.
                for ((e, &dy), &scale) in dx.iter_mut().zip(dy).zip(scale) {
                    *e = dy * scale;
                }
                let level = sum2::<SUMS>(dx, dx, |e, _| e) / width as f32;
                let product = sum2::<SUMS>(dx, x, |e, x| e * (x - mean));
                let slope = product * inverse * inverse / width as f32;
                let sums = dscale.iter_mut().zip(dbias.iter_mut());
                for (((e, &x), &dy), (dscale, dbias)) in dx.iter_mut().zip(x).zip(dy).zip(sums) {
                    let centered = x - mean;
                    *e = inverse * (*e - level - centered * slope);
                    *dscale += dy * centered * inverse;
                    *dbias += dy;
                }
            })
        },
    )?;
    dscale.fill(0.0);
    dbias.fill(0.0);
    for part in parts.chunks_exact(2 * width) {
        let sums = dscale.iter_mut().chain(dbias.iter_mut());
        for (sum, &part) in sums.zip(part) {
            *sum += part;
        }
    }
    Ok(())
}
