//! Gradient of a softmax along the last axis, `dx = y (dy - sum(dy y))`, one pass over memory where plain ONNX operators
//! take four.
//!
//! y and dy `[.., D]` to dx `[.., D]`.

use super::kernel::{Kernel, misuse, operand, parallel};
use crate::simd::{sum2, vectorized};
use ort::operator::ComputeContext;
use ort::value::TensorElementType::Float32;

pub(super) const BACKWARD: Kernel<()> = Kernel {
    name: "SoftmaxGrad",
    inputs: &[Float32; 2],
    outputs: 1,
    read: |_| Ok(()),
    compute,
};

/// Elements a job computes, about.
const CHUNK: usize = 16 * 1024;

fn compute(context: &ComputeContext, _: &()) -> ort::Result<()> {
    let (y, dy) = (operand(context, 0)?, operand(context, 1)?);
    let (shape, y) = y.try_extract_tensor::<f32>()?;
    let (_, dy) = dy.try_extract_tensor::<f32>()?;
    let mut dx = context
        .output(0, shape.to_vec())?
        .ok_or_else(|| misuse("SoftmaxGrad has one output"))?;
    let (_, dx) = dx.try_extract_tensor_mut::<f32>()?;
    let width = shape.last().map_or(1, |&length| length.max(1) as usize);
    let block = CHUNK.div_ceil(width) * width;
    let operands = y.chunks(block).zip(dy.chunks(block));
    let jobs = operands.zip(dx.chunks_mut(block)).collect();
    parallel(
        context,
        jobs,
        |((y, dy), dx): ((&[f32], &[f32]), &mut [f32])| {
            let rows = y.chunks_exact(width).zip(dy.chunks_exact(width));
            vectorized!(for ((y, dy), dx) in rows.zip(dx.chunks_exact_mut(width)) {
                let sum = sum2::<32>(y, dy, |y, dy| y * dy);
                for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
                    *dx = y * (dy - sum);
                }
            })
        },
    )
}
