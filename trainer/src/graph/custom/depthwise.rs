//! Weight gradient of a depthwise convolution, for which ONNX has no fast form:
//! `dw[c, i, j] = sum_{b, p, q} dy[b, c, p, q] x[b, c, p sh + i dh - top, q sw + j dw - left]`.
//!
//! x `[B, C, H, W]`, dy `[B, C, Ho, Wo]` to dw `[C, 1, kh, kw]`. Rows are padded once; each tap is then a dot
//! product of two rows.

use super::kernel::{Kernel, axes, list, misuse, operand, parallel};
use crate::simd::{LANES, sum2, vectorized};
use ort::operator::ComputeContext;
use ort::value::TensorElementType::Float32;

pub(super) const WEIGHT_GRADIENT: Kernel<Geometry> = Kernel {
    name: "DepthwiseWeightGrad",
    inputs: &[Float32; 2],
    outputs: 1,
    read: |info| {
        Ok(Geometry {
            kernel: list(info, "kernel")?,
            strides: list(info, "strides")?,
            pads: list(info, "pads")?,
            dilations: list(info, "dilations")?,
        })
    },
    compute,
};

pub(super) struct Geometry {
    kernel: [usize; 2],
    strides: [usize; 2],
    pads: [usize; 4],
    dilations: [usize; 2],
}

fn compute(context: &ComputeContext, geometry: &Geometry) -> ort::Result<()> {
    let (x, dy) = (operand(context, 0)?, operand(context, 1)?);
    let (x_shape, x) = x.try_extract_tensor::<f32>()?;
    let (dy_shape, dy) = dy.try_extract_tensor::<f32>()?;
    let [items, channels, h, w] = axes(x_shape)?;
    let [_, _, ho, wo] = axes(dy_shape)?;
    let [kh, kw] = geometry.kernel;
    let mut out = context
        .output(0, [channels, 1, kh, kw])?
        .ok_or_else(|| misuse("DepthwiseWeightGrad has one output"))?;
    let (_, out) = out.try_extract_tensor_mut::<f32>()?;
    let jobs: Vec<_> = out.chunks_exact_mut(kh * kw).enumerate().collect();
    let [top, left, _, right] = geometry.pads;
    let width = left + w + right;
    parallel(context, jobs, |(channel, dw)| {
        vectorized!({
            dw.fill(0.0);
            let mut padded = vec![0.0f32; h * width];
            for item in 0..items {
                let plane = (item * channels + channel) * h * w;
                for (row, target) in padded.chunks_exact_mut(width).enumerate() {
                    target[left..left + w].copy_from_slice(&x[plane + row * w..][..w]);
                }
                for p in 0..ho {
                    let dy_row = &dy[((item * channels + channel) * ho + p) * wo..][..wo];
                    for i in 0..kh {
                        let Some(row) = (p * geometry.strides[0] + i * geometry.dilations[0])
                            .checked_sub(top)
                            .filter(|&row| row < h)
                        else {
                            continue;
                        };
                        let x_row = &padded[row * width..][..width];
                        for j in 0..kw {
                            let start = j * geometry.dilations[1];
                            dw[i * kw + j] += if geometry.strides[1] == 1 {
                                sum2::<LANES>(dy_row, &x_row[start..start + wo], |a, b| a * b)
                            } else {
                                dy_row
                                    .iter()
                                    .zip(x_row[start..].iter().step_by(geometry.strides[1]))
                                    .map(|(a, b)| a * b)
                                    .sum()
                            };
                        }
                    }
                }
            }
        })
    })
}
