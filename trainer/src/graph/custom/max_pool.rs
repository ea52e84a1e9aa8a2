//! Gradient of max pooling: dy of each window goes to the first position of x that holds the window's largest value.
//! ONNX has no operator for it; in plain operators it takes six passes over memory a tap.
//!
//! x `[B, C, H, W]`, y and dy `[B, C, Ho, Wo]` to dx `[B, C, H, W]`.

use super::kernel::{Kernel, axes, list, misuse, operand, parallel};
use crate::graph::op::Window;
use ort::operator::ComputeContext;
use ort::value::TensorElementType::Float32;

pub(super) const BACKWARD: Kernel<Window> = Kernel {
    name: "MaxPoolGrad",
    inputs: &[Float32; 3],
    outputs: 1,
    read: |info| {
        Ok(Window {
            kernel: list(info, "kernel")?,
            strides: list(info, "strides")?,
            pads: list(info, "pads")?,
        })
    },
    compute,
};

fn compute(context: &ComputeContext, window: &Window) -> ort::Result<()> {
    let inputs = [0, 1, 2].map(|index| operand(context, index));
    let [x, y, dy] = inputs;
    let (x, y, dy) = (x?, y?, dy?);
    let (shape, x) = x.try_extract_tensor::<f32>()?;
    let [_, _, h, w] = axes(shape)?;
    let (y_shape, y) = y.try_extract_tensor::<f32>()?;
    let [_, _, ho, wo] = axes(y_shape)?;
    let (_, dy) = dy.try_extract_tensor::<f32>()?;
    let mut dx = context
        .output(0, shape.to_vec())?
        .ok_or_else(|| misuse("MaxPoolGrad has one output"))?;
    let (_, dx) = dx.try_extract_tensor_mut::<f32>()?;
    let (plane, pooled) = ((h * w).max(1), (ho * wo).max(1));
    let sources = y.chunks_exact(pooled).zip(dy.chunks_exact(pooled));
    let jobs: Vec<_> = x
        .chunks_exact(plane)
        .zip(sources)
        .zip(dx.chunks_exact_mut(plane))
        .collect();
    parallel(context, jobs, |((x, (y, dy)), dx)| {
        dx.fill(0.0);
        let rows = y.chunks_exact(wo.max(1)).zip(dy.chunks_exact(wo.max(1)));
        let mut free = vec![true; wo];
        for (p, (y, dy)) in rows.enumerate() {
            free.fill(true);
            for i in 0..window.kernel[0] {
                let row = (p * window.strides[0] + i).checked_sub(window.pads[0]);
                let Some(row) = row.filter(|&row| row < h) else {
                    continue;
                };
                let (x, dx) = (&x[row * w..][..w], &mut dx[row * w..][..w]);
                for j in 0..window.kernel[1] {
                    tap(window, j, x, y, dy, dx, &mut free);
                }
            }
        }
    })
}

/// One tap of one row of windows: those still free whose largest value it holds give it their dy. Without branches,
/// which would be mispredicted half of the time.
fn tap(
    window: &Window,
    j: usize,
    x: &[f32],
    y: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    free: &mut [bool],
) {
    let (stride, left) = (window.strides[1].max(1), window.pads[1]);
    // The first window in which the tap stands inside the row, and where.
    let first = left.saturating_sub(j).div_ceil(stride);
    let start = first * stride + j - left;
    let (Some(x), Some(dx)) = (x.get(start..), dx.get_mut(start..)) else {
        return;
    };
    let places = x.iter().zip(dx).step_by(stride);
    let windows = y.iter().zip(dy).zip(free).skip(first);
    for ((&x, dx), ((&y, &dy), free)) in places.zip(windows) {
        let hit = (x == y) & *free;
        *dx += if hit { dy } else { 0.0 };
        *free &= !hit;
    }
}
