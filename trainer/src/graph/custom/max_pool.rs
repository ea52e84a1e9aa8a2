//! Gradient of max pooling: dy of each window goes to the first position of x that holds the window's largest value.
//! ONNX has no operator for it; in plain operators it takes six passes over memory a tap.
//!
//! x `[B, C, H, W]`, y and dy `[B, C, Ho, Wo]` to dx `[B, C, H, W]`.

use super::kernel::{Floats, axes4, misuse, operand, parallel};
use crate::graph::op::Window;
use ort::operator::{ComputeContext, KernelContext};

pub(super) const BACKWARD: Floats<Window> = Floats {
    name: "MaxPoolGrad",
    inputs: 3,
    outputs: 1,
    read,
    compute,
};

fn read(info: &KernelContext<'_>) -> ort::Result<Window> {
    let list = |name: &str| -> ort::Result<Vec<usize>> {
        info.get::<Vec<i64>>(name)
            .map(|values| values.into_iter().map(|v| v.max(0) as usize).collect())
            .ok_or_else(|| misuse("MaxPoolGrad wants kernel, strides and pads"))
    };
    let wrong = |_| misuse("MaxPoolGrad wants kernel and strides of two numbers, pads of four");
    Ok(Window {
        kernel: list("kernel")?.try_into().map_err(wrong)?,
        strides: list("strides")?.try_into().map_err(wrong)?,
        pads: list("pads")?.try_into().map_err(wrong)?,
    })
}

fn compute(context: &ComputeContext, window: &Window) -> ort::Result<()> {
    let inputs = [0, 1, 2].map(|index| operand(context, index));
    let [x, y, dy] = inputs;
    let (x, y, dy) = (x?, y?, dy?);
    let (shape, x) = x.try_extract_tensor::<f32>()?;
    let [_, _, h, w] = axes4(shape)?;
    let (y_shape, y) = y.try_extract_tensor::<f32>()?;
    let [_, _, ho, wo] = axes4(y_shape)?;
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
