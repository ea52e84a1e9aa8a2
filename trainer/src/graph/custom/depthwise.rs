//! Weight gradient of a convolution whose outputs see one input channel each (depthwise ones, and the first layer of a
//! network over one channel), for which ONNX has no fast form:
//! `dw[o, i, j] = sum_{b, p, q} dy[b, o, p, q] x[b, o / m, p sh + i dh - top, q sw + j dw - left]`.
//!
//! x `[B, C, H, W]`, dy `[B, m C, Ho, Wo]` to dw `[m C, 1, kh, kw]`. Rows are padded, and parted by their columns'
//! remainder modulo the stride, once for several outputs; each tap is then a dot product of two rows that lie in one
//! piece.

use super::kernel::{Kernel, axes, list, misuse, operand, parallel};
use crate::simd::{LANES, dot, total, vectorized};
use ort::operator::ComputeContext;
use ort::value::TensorElementType::Float32;

/// Outputs of one input channel that share its parted rows: enough to make parting cheap, few enough for all threads to
/// have work.
const SHARED: usize = 8;

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
    let [_, outputs, ho, wo] = axes(dy_shape)?;
    let [kh, kw] = geometry.kernel;
    let taps = kh * kw;
    if taps == 0 || channels == 0 || !outputs.is_multiple_of(channels) {
        return Err(misuse("DepthwiseWeightGrad takes outputs a multiple of the channels"));
    }
    let mut out = context
        .output(0, [outputs, 1, kh, kw])?
        .ok_or_else(|| misuse("DepthwiseWeightGrad has one output"))?;
    let (_, out) = out.try_extract_tensor_mut::<f32>()?;
    let multiplier = outputs / channels;
    let mut jobs = Vec::new();
    for (channel, outputs) in out.chunks_mut(multiplier * taps).enumerate() {
        for (group, dw) in outputs.chunks_mut(SHARED * taps).enumerate() {
            jobs.push((channel, channel * multiplier + group * SHARED, dw));
        }
    }
    let rows = Parted::new(geometry, w);
    parallel(context, jobs, |(channel, first, dw)| {
        vectorized!({
            let count = dw.len() / taps;
            let mut sums = vec![[0.0; LANES]; dw.len()];
            let mut parted = vec![0.0f32; h * rows.row];
            for item in 0..items {
                let plane = &x[(item * channels + channel) * h * w..][..h * w];
                for (row, target) in plane.chunks_exact(w).zip(parted.chunks_exact_mut(rows.row)) {
                    rows.part(row, target);
                }
                for output in 0..count {
                    let dy = &dy[(item * outputs + first + output) * ho * wo..][..ho * wo];
                    let sums = &mut sums[output * taps..][..taps];
                    for (p, dy_row) in dy.chunks_exact(wo).enumerate() {
                        for (i, sums) in sums.chunks_exact_mut(kw).enumerate() {
                            let Some(row) = (p * geometry.strides[0] + i * geometry.dilations[0])
                                .checked_sub(geometry.pads[0])
                                .filter(|&row| row < h)
                            else {
                                continue;
                            };
                            let x_row = &parted[row * rows.row..][..rows.row];
                            for (j, sum) in sums.iter_mut().enumerate() {
                                let start = rows.start(j * geometry.dilations[1]);
                                *sum = dot(*sum, dy_row, &x_row[start..][..wo]);
                            }
                        }
                    }
                }
            }
            for (dw, sums) in dw.iter_mut().zip(sums) {
                *dw = total(sums);
            }
        })
    })
}

/// How a row is padded and its columns parted: all of remainder 0 modulo the stride, then all of remainder 1, ...
struct Parted {
    stride: usize,
    left: usize,
    /// Columns of each remainder.
    part: usize,
    /// Columns of a parted row.
    row: usize,
}

impl Parted {
    fn new(geometry: &Geometry, width: usize) -> Self {
        let stride = geometry.strides[1].max(1);
        let [_, left, _, right] = geometry.pads;
        let part = (left + width + right).div_ceil(stride);
        Self {
            stride,
            left,
            part,
            row: part * stride,
        }
    }

    /// Where the columns `offset, offset + stride, ...` of the padded row stand.
    #[inline(always)]
    fn start(&self, offset: usize) -> usize {
        offset % self.stride * self.part + offset / self.stride
    }

    #[inline(always)]
    fn part(&self, row: &[f32], target: &mut [f32]) {
        if self.stride == 1 {
            target[self.left..self.left + row.len()].copy_from_slice(row);
            return;
        }
        for remainder in 0..self.stride {
            // The first column of this remainder that is no padding.
            let first = (self.stride + remainder - self.left % self.stride) % self.stride;
            let start = self.start(self.left + first);
            let columns = row.iter().skip(first).step_by(self.stride);
            for (target, &value) in target[start..].iter_mut().zip(columns) {
                *target = value;
            }
        }
    }
}
