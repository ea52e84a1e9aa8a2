//! Weight gradient of a convolution whose outputs see one input channel each (depthwise ones, and the first layer of a
//! network over one channel), for which ONNX has no fast form:
//! `dw[o, i, j] = sum_{b, p, q} dy[b, o, p, q] x[b, o / m, p sh + i dh - top, q sw + j dw - left]`.
//!
//! x `[B, C, H, W]`, dy `[B, m C, Ho, Wo]` to dw `[m C, 1, kh, kw]`. A plane of x is padded and parted by its rows' and
//! columns' remainders modulo the strides, and dy's rows are spread to the same pitch with zeros between: a tap is then
//! the dot product of dy with as many numbers of x in one piece. Several taps are computed together, so that a number
//! of dy is loaded once for all of them.

use super::kernel::{Geometry, Kernel, axes, misuse, operand, parallel};
use crate::simd::{LANES, lanes, total, vectorized};
use ort::operator::ComputeContext;
use ort::value::TensorElementType::Float32;

/// Outputs of one input channel that share a parted plane: enough to make parting cheap, few enough for all threads to
/// have work.
const SHARED: usize = 16;

/// Taps computed together.
const TOGETHER: usize = 5;

pub(super) const WEIGHT_GRADIENT: Kernel<Geometry> = Kernel {
    name: "DepthwiseWeightGrad",
    inputs: &[Float32; 2],
    outputs: 1,
    read: Geometry::read,
    compute,
};

fn compute(context: &ComputeContext, geometry: &Geometry) -> ort::Result<()> {
    let (x, dy) = (operand(context, 0)?, operand(context, 1)?);
    let (x_shape, x) = x.try_extract_tensor::<f32>()?;
    let (dy_shape, dy) = dy.try_extract_tensor::<f32>()?;
    let [items, channels, h, w] = axes(x_shape)?;
    let [_, outputs, ho, wo] = axes(dy_shape)?;
    let [kh, kw] = geometry.kernel;
    let taps = kh * kw;
    if channels * taps * h * w * ho * wo == 0 || !outputs.is_multiple_of(channels) {
        return Err(misuse(
            "DepthwiseWeightGrad takes operands that are not empty, and outputs a multiple of the channels",
        ));
    }
    let mut out = context
        .output(0, [outputs, 1, kh, kw])?
        .ok_or_else(|| misuse("DepthwiseWeightGrad has one output"))?;
    let (_, out) = out.try_extract_tensor_mut::<f32>()?;
    let multiplier = outputs / channels;
    let mut jobs = Vec::new();
    for (channel, dw) in out.chunks_mut(multiplier * taps).enumerate() {
        for (group, dw) in dw.chunks_mut(SHARED * taps).enumerate() {
            jobs.push((channel, channel * multiplier + group * SHARED, dw));
        }
    }
    let layout = Parted::new(geometry, [h, w]);
    let pitch = layout.size[1];
    let length = ((ho - 1) * pitch + wo).next_multiple_of(LANES);
    parallel(context, jobs, |(channel, first, dw)| {
        vectorized!({
            dw.fill(0.0);
            // Beyond the last tap's numbers, zeros of `spread` meet what stands there.
            let mut parted = vec![0.0f32; layout.numbers() + LANES];
            let mut spread = vec![0.0f32; length];
            for item in 0..items {
                let plane = &x[(item * channels + channel) * h * w..][..h * w];
                layout.part(plane, w, &mut parted);
                for (output, dw) in dw.chunks_exact_mut(taps).enumerate() {
                    let dy = &dy[(item * outputs + first + output) * ho * wo..][..ho * wo];
                    for (row, target) in dy.chunks_exact(wo).zip(spread.chunks_mut(pitch)) {
                        target[..wo].copy_from_slice(row);
                    }
                    for (block, dw) in dw.chunks_mut(TOGETHER).enumerate() {
                        // The last block computes its last tap several times.
                        let seen: [&[f32]; TOGETHER] = std::array::from_fn(|tap| {
                            let tap = (block * TOGETHER + tap).min(taps - 1);
                            &parted[layout.tap(tap / kw, tap % kw)..][..length]
                        });
                        for (dw, product) in dw.iter_mut().zip(products(&spread, seen)) {
                            *dw += product;
                        }
                    }
                }
            }
        })
    })
}

/// The products of `a` with each of `b`; lengths are multiples of [`LANES`].
#[inline(always)]
fn products(a: &[f32], b: [&[f32]; TOGETHER]) -> [f32; TOGETHER] {
    let a = a.as_chunks::<LANES>().0;
    let b = b.map(|b| &b.as_chunks::<LANES>().0[..a.len()]);
    let mut sums = [[0.0f32; LANES]; TOGETHER];
    for (n, a) in a.iter().enumerate() {
        for tap in 0..TOGETHER {
            let b = &b[tap][n];
            sums[tap] = lanes(|lane| sums[tap][lane] + a[lane] * b[lane]);
        }
    }
    sums.map(total)
}

/// Where the numbers of a padded plane stand: all of row remainder 0 and column remainder 0, then all of column
/// remainder 1, ...
struct Parted {
    strides: [usize; 2],
    dilations: [usize; 2],
    /// Zeros above and to the left.
    pads: [usize; 2],
    /// Rows and columns of each remainder.
    size: [usize; 2],
}

impl Parted {
    fn new(geometry: &Geometry, [h, w]: [usize; 2]) -> Self {
        let [top, left, bottom, right] = geometry.pads;
        let strides = geometry.strides.map(|stride| stride.max(1));
        Self {
            strides,
            dilations: geometry.dilations,
            pads: [top, left],
            size: [
                (top + h + bottom).div_ceil(strides[0]),
                (left + w + right).div_ceil(strides[1]),
            ],
        }
    }

    fn numbers(&self) -> usize {
        self.strides.iter().chain(&self.size).product()
    }

    /// Where a position of the padded plane stands.
    #[inline(always)]
    fn place(&self, row: usize, column: usize) -> usize {
        let ([sh, sw], [rows, columns]) = (self.strides, self.size);
        ((row % sh * sw + column % sw) * rows + row / sh) * columns + column / sw
    }

    /// Where the first number that a tap sees stands; the others follow it.
    #[inline(always)]
    fn tap(&self, i: usize, j: usize) -> usize {
        self.place(i * self.dilations[0], j * self.dilations[1])
    }

    #[inline(always)]
    fn part(&self, plane: &[f32], width: usize, target: &mut [f32]) {
        let ([top, left], step) = (self.pads, self.strides[1]);
        for (y, row) in plane.chunks_exact(width).enumerate() {
            if step == 1 {
                target[self.place(top + y, left)..][..width].copy_from_slice(row);
                continue;
            }
            for first in 0..step.min(width) {
                let target = &mut target[self.place(top + y, left + first)..];
                // The compiler vectorizes a walk over pairs, and none over steps.
                if step == 2 {
                    let (pairs, rest) = row[first..].as_chunks::<2>();
                    for (target, pair) in target.iter_mut().zip(pairs) {
                        *target = pair[0];
                    }
                    if let Some(&last) = rest.first() {
                        target[pairs.len()] = last;
                    }
                    continue;
                }
                let columns = row[first..].iter().step_by(step);
                for (target, &value) in target.iter_mut().zip(columns) {
                    *target = value;
                }
            }
        }
    }
}
