//! Batch normalization over unmasked positions (arXiv 1502.03167), optionally with ReLU, forward and backward.
//!
//! With M the number of unmasked positions, `n = (x - mean) / sqrt(variance + epsilon)`:
//! - forward `y = mask f(scale n + bias)`, f the identity or ReLU; mean and (biased) variance per channel.
//! - backward, with `g = mask dy` (and 0 where a ReLU gave 0): `dbias = sum g`, `dscale = sum g n`,
//!   `dx = mask scale / sqrt(variance + epsilon) (g - dbias / M - n dscale / M)`.
//!
//! x `[B, C, H, W]`, mask `[B, 1, H, W]` of 0 and 1. One pass over a channel for each sum, where plain ONNX
//! operators take a dozen.

use super::kernel::{Kernel, axes, misuse, operand, parallel};
use crate::simd::{sum2, vectorized};
use ort::operator::{ComputeContext, KernelContext};
use ort::value::TensorElementType::Float32;

pub(super) const FORWARD: Kernel<Settings> = Kernel {
    name: "BatchNorm",
    inputs: &[Float32; 4],
    outputs: 3,
    read,
    compute: forward,
};

pub(super) const BACKWARD: Kernel<Settings> = Kernel {
    name: "BatchNormGrad",
    inputs: &[Float32; 7],
    outputs: 3,
    read,
    compute: backward,
};

#[derive(Clone, Copy)]
pub(super) struct Settings {
    epsilon: f32,
    relu: bool,
}

fn read(info: &KernelContext<'_>) -> ort::Result<Settings> {
    match (info.get::<f32>("epsilon"), info.get::<i64>("relu")) {
        (Some(epsilon), Some(relu)) => Ok(Settings {
            epsilon,
            relu: relu != 0,
        }),
        _ => Err(misuse("BatchNorm wants the attributes epsilon and relu")),
    }
}

/// The rows `[H * W]` of a `[B, C, H, W]` buffer, grouped by channel.
fn by_channel(buffer: &mut [f32], channels: usize, area: usize) -> Vec<Vec<&mut [f32]>> {
    let mut rows: Vec<Vec<&mut [f32]>> = (0..channels).map(|_| Vec::new()).collect();
    for (index, row) in buffer.chunks_exact_mut(area.max(1)).enumerate() {
        rows[index % channels].push(row);
    }
    rows
}

fn forward(context: &ComputeContext, &settings: &Settings) -> ort::Result<()> {
    let inputs = [0, 1, 2, 3].map(|index| operand(context, index));
    let [x, scale, bias, mask] = inputs;
    let (x, scale, bias, mask) = (x?, scale?, bias?, mask?);
    let (shape, x) = x.try_extract_tensor::<f32>()?;
    let [_, channels, h, w] = axes(shape)?;
    let (_, scale) = scale.try_extract_tensor::<f32>()?;
    let (_, bias) = bias.try_extract_tensor::<f32>()?;
    let (_, mask) = mask.try_extract_tensor::<f32>()?;
    let area = h * w;
    let count = vectorized!(sum2::<64>(mask, mask, |m, _| m)).max(1.0);
    let missing = || misuse("BatchNorm has three outputs");
    let mut y = context.output(0, shape.to_vec())?.ok_or_else(missing)?;
    let mut mean = context.output(1, [channels])?.ok_or_else(missing)?;
    let mut variance = context.output(2, [channels])?.ok_or_else(missing)?;
    let (_, y) = y.try_extract_tensor_mut::<f32>()?;
    let (_, mean) = mean.try_extract_tensor_mut::<f32>()?;
    let (_, variance) = variance.try_extract_tensor_mut::<f32>()?;
    let jobs: Vec<_> = by_channel(y, channels, area)
        .into_iter()
        .zip(mean)
        .zip(variance)
        .enumerate()
        .collect();
    parallel(context, jobs, |(channel, ((rows, mean), variance))| {
        vectorized!({
            let row = |item: usize| &x[(item * channels + channel) * area..][..area];
            let mask_row = |item: usize| &mask[item * area..][..area];
            let items = rows.len();
            *mean = (0..items)
                .map(|i| sum2::<64>(row(i), mask_row(i), |x, m| x * m))
                .sum::<f32>()
                / count;
            let center = *mean;
            *variance = (0..items)
                .map(|i| sum2::<64>(row(i), mask_row(i), |x, m| (x - center) * (x - center) * m))
                .sum::<f32>()
                / count;
            let gain = scale[channel] / (*variance + settings.epsilon).sqrt();
            let offset = bias[channel] - center * gain;
            let floor = if settings.relu {
                0.0
            } else {
                f32::NEG_INFINITY
            };
            for (item, out) in rows.into_iter().enumerate() {
                for ((out, &x), &m) in out.iter_mut().zip(row(item)).zip(mask_row(item)) {
                    *out = (gain * x + offset).max(floor) * m;
                }
            }
        })
    })
}

fn backward(context: &ComputeContext, &settings: &Settings) -> ort::Result<()> {
    let inputs = [0, 1, 2, 3, 4, 5, 6].map(|index| operand(context, index));
    let [x, y, scale, mask, mean, variance, dy] = inputs;
    let (x, y, scale, mask) = (x?, y?, scale?, mask?);
    let (mean, variance, dy) = (mean?, variance?, dy?);
    let (shape, x) = x.try_extract_tensor::<f32>()?;
    let [_, channels, h, w] = axes(shape)?;
    let (_, y) = y.try_extract_tensor::<f32>()?;
    let (_, scale) = scale.try_extract_tensor::<f32>()?;
    let (_, mask) = mask.try_extract_tensor::<f32>()?;
    let (_, mean) = mean.try_extract_tensor::<f32>()?;
    let (_, variance) = variance.try_extract_tensor::<f32>()?;
    let (_, dy) = dy.try_extract_tensor::<f32>()?;
    let area = h * w;
    let count = vectorized!(sum2::<64>(mask, mask, |m, _| m)).max(1.0);
    let missing = || misuse("BatchNormGrad has three outputs");
    let mut dx = context.output(0, shape.to_vec())?.ok_or_else(missing)?;
    let mut dscale = context.output(1, [channels])?.ok_or_else(missing)?;
    let mut dbias = context.output(2, [channels])?.ok_or_else(missing)?;
    let (_, dx) = dx.try_extract_tensor_mut::<f32>()?;
    let (_, dscale) = dscale.try_extract_tensor_mut::<f32>()?;
    let (_, dbias) = dbias.try_extract_tensor_mut::<f32>()?;
    let jobs: Vec<_> = by_channel(dx, channels, area)
        .into_iter()
        .zip(dscale)
        .zip(dbias)
        .enumerate()
        .collect();
    parallel(context, jobs, |(channel, ((rows, dscale), dbias))| {
        vectorized!({
            let at = |data: &'_ [f32], item: usize| -> std::ops::Range<usize> {
                let start = (item * channels + channel) * area;
                debug_assert!(start + area <= data.len());
                start..start + area
            };
            let center = mean[channel];
            let inverse = 1.0 / (variance[channel] + settings.epsilon).sqrt();
            let (mut sum, mut product) = (0.0f32, 0.0f32);
            // dx holds the masked gradient first, so that the second pass reads one array less.
            let mut rows = rows;
            for (item, out) in rows.iter_mut().enumerate() {
                let range = at(x, item);
                let m = &mask[item * area..][..area];
                let (dy, y) = (&dy[range.clone()], &y[range.clone()]);
                if settings.relu {
                    for (((g, &dy), &y), &m) in out.iter_mut().zip(dy).zip(y).zip(m) {
                        *g = if y > 0.0 { dy * m } else { 0.0 };
                    }
                } else {
                    for ((g, &dy), &m) in out.iter_mut().zip(dy).zip(m) {
                        *g = dy * m;
                    }
                }
                sum += sum2::<64>(out, out, |g, _| g);
                product += sum2::<64>(out, &x[range], |g, x| g * (x - center));
            }
            *dbias = sum;
            *dscale = product * inverse;
            let gain = scale[channel] * inverse;
            let shift = sum / count;
            let slope = *dscale * inverse / count;
            for (item, out) in rows.into_iter().enumerate() {
                let range = at(x, item);
                let m = &mask[item * area..][..area];
                for ((g, &x), &m) in out.iter_mut().zip(&x[range]).zip(m) {
                    *g = gain * (*g - shift - (x - center) * slope) * m;
                }
            }
        })
    })
}
