//! `x sigmoid(x)` and its gradient `dy s (1 + x (1 - s))`, s = sigmoid(x), each one pass over memory, where plain
//! ONNX operators take two and seven.

use super::kernel::{Kernel, misuse, operand, parallel};
use crate::loss::logmath::sigmoid;
use crate::simd::vectorized;
use ort::operator::ComputeContext;
use ort::value::TensorElementType::Float32;

pub(super) const FORWARD: Kernel<()> = Kernel {
    name: "Silu",
    inputs: &[Float32; 1],
    outputs: 1,
    read: |_| Ok(()),
    compute: forward,
};

pub(super) const BACKWARD: Kernel<()> = Kernel {
    name: "SiluGrad",
    inputs: &[Float32; 2],
    outputs: 1,
    read: |_| Ok(()),
    compute: backward,
};

/// Elements a job computes.
const CHUNK: usize = 16 * 1024;

fn forward(context: &ComputeContext, _: &()) -> ort::Result<()> {
    let x = operand(context, 0)?;
    let (shape, x) = x.try_extract_tensor::<f32>()?;
    let mut y = context
        .output(0, shape.to_vec())?
        .ok_or_else(|| misuse("Silu has one output"))?;
    let (_, y) = y.try_extract_tensor_mut::<f32>()?;
    let jobs = x.chunks(CHUNK).zip(y.chunks_mut(CHUNK)).collect();
    parallel(context, jobs, |(x, y): (&[f32], &mut [f32])| {
        vectorized!(for (y, &x) in y.iter_mut().zip(x) {
            *y = x * sigmoid(x);
        })
    })
}

fn backward(context: &ComputeContext, _: &()) -> ort::Result<()> {
    let (x, dy) = (operand(context, 0)?, operand(context, 1)?);
    let (shape, x) = x.try_extract_tensor::<f32>()?;
    let (_, dy) = dy.try_extract_tensor::<f32>()?;
    let mut dx = context
        .output(0, shape.to_vec())?
        .ok_or_else(|| misuse("SiluGrad has one output"))?;
    let (_, dx) = dx.try_extract_tensor_mut::<f32>()?;
    let operands = x.chunks(CHUNK).zip(dy.chunks(CHUNK));
    let jobs = operands.zip(dx.chunks_mut(CHUNK)).collect();
    parallel(
        context,
        jobs,
        |((x, dy), dx): ((&[f32], &[f32]), &mut [f32])| {
            vectorized!(for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
                let s = sigmoid(x);
                *dx = dy * s * (1.0 + x * (1.0 - s));
            })
        },
    )
}
