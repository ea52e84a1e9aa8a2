//! Gradient of a gather, an embedding's above all: row `indices[i]` of the table collects dy row i. ONNX's ScatterND
//! adds rows that were taken twice in no fixed order, and a product with a one-hot matrix multiplies zeros.
//!
//! indices i64 `[I..]`, dy `[I.., D..]` to `[rows, D..]`.

use super::kernel::{Kernel, misuse, operand, parallel};
use crate::simd::vectorized;
use ort::operator::ComputeContext;
use ort::value::TensorElementType::{Float32, Int64};

pub(super) const BACKWARD: Kernel<usize> = Kernel {
    name: "GatherGrad",
    inputs: &[Int64, Float32],
    outputs: 1,
    read: |info| {
        info.get("rows")
            .and_then(|rows: i64| usize::try_from(rows).ok())
            .ok_or_else(|| misuse("GatherGrad wants the attribute rows"))
    },
    compute,
};

/// Elements of the table a job fills, at least: a job reads all indices.
const CHUNK: usize = 16 * 1024;

fn compute(context: &ComputeContext, &rows: &usize) -> ort::Result<()> {
    let (indices, dy) = (operand(context, 0)?, operand(context, 1)?);
    let (index_shape, indices) = indices.try_extract_tensor::<i64>()?;
    let (shape, dy) = dy.try_extract_tensor::<f32>()?;
    let mut table = vec![rows as i64];
    table.extend(&shape[index_shape.len()..]);
    let mut out = context
        .output(0, table)?
        .ok_or_else(|| misuse("GatherGrad has one output"))?;
    let (_, out) = out.try_extract_tensor_mut::<f32>()?;
    let width = (out.len() / rows.max(1)).max(1);
    let row = |&index: &i64| usize::try_from(index).unwrap_or(usize::MAX);
    if let Some(wrong) = indices.iter().find(|&index| row(index) >= rows) {
        return Err(misuse(&format!(
            "index {wrong} lies outside a table of {rows} rows"
        )));
    }
    let lines = CHUNK.div_ceil(width);
    let jobs = out.chunks_mut(lines * width).enumerate().collect();
    parallel(context, jobs, |(job, part): (usize, &mut [f32])| {
        part.fill(0.0);
        let own = job * lines..(job + 1) * lines;
        let taken = indices.iter().map(row).zip(dy.chunks_exact(width));
        for (row, dy) in taken.filter(|(row, _)| own.contains(row)) {
            let sums = &mut part[(row - own.start) * width..][..width];
            vectorized!(for (sum, &dy) in sums.iter_mut().zip(dy) {
                *sum += dy;
            });
        }
    })
}
