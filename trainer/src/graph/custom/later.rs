//! A value held back until another is there: what is recomputed for a backward pass hangs from it. ONNX Runtime would
//! otherwise compute the copy at once, or take it for the node that it repeats.
//!
//! x and a second operand of any shapes to x.

use super::kernel::{Kernel, misuse, operand};
use ort::operator::ComputeContext;
use ort::value::TensorElementType::Float32;

pub(super) const COPY: Kernel<()> = Kernel {
    name: "Later",
    inputs: &[Float32; 2],
    outputs: 1,
    read: |_| Ok(()),
    compute,
};

fn compute(context: &ComputeContext, _: &()) -> ort::Result<()> {
    let x = operand(context, 0)?;
    let (shape, x) = x.try_extract_tensor::<f32>()?;
    let mut y = context
        .output(0, shape.to_vec())?
        .ok_or_else(|| misuse("Later has one output"))?;
    y.try_extract_tensor_mut::<f32>()?.1.copy_from_slice(x);
    Ok(())
}
