//! What a convolution's kernel sees at each output position, one row a position: the weight gradient is then one
//! product an item, `dw = dy [Co, Ho Wo] unfolded [Ho Wo, kh kw C]`. One pass over memory, where plain ONNX operators
//! pad, slice once a tap and concatenate.
//!
//! x `[B, C, H, W]` to `[B, Ho Wo, kh kw C]`, channels innermost, zeros where the kernel sees padding.

use super::kernel::{Geometry, Kernel, axes, misuse, operand, parallel};
use crate::graph::ops::conv_length;
use crate::simd::vectorized;
use ort::operator::ComputeContext;
use ort::value::TensorElementType::Float32;

pub(super) const UNFOLD: Kernel<Geometry> = Kernel {
    name: "Unfold",
    inputs: &[Float32],
    outputs: 1,
    read: Geometry::read,
    compute,
};

impl Geometry {
    /// Output height and width.
    fn output(&self, input: [usize; 2]) -> ort::Result<[usize; 2]> {
        let length = |axis: usize| {
            conv_length(
                input[axis],
                self.pads[axis] + self.pads[axis + 2],
                self.kernel[axis],
                self.dilations[axis],
                self.strides[axis],
            )
            .ok_or_else(|| misuse("Unfold wants a kernel no larger than its operand"))
        };
        Ok([length(0)?, length(1)?])
    }
}

/// Output positions a job covers, about.
const BLOCK: usize = 512;

fn compute(context: &ComputeContext, geometry: &Geometry) -> ort::Result<()> {
    let x = operand(context, 0)?;
    let (shape, x) = x.try_extract_tensor::<f32>()?;
    let [items, channels, h, w] = axes(shape)?;
    let [ho, wo] = geometry.output([h, w])?;
    let width = geometry.kernel[0] * geometry.kernel[1] * channels;
    let mut out = context
        .output(0, [items, ho * wo, width])?
        .ok_or_else(|| misuse("Unfold has one output"))?;
    let (_, out) = out.try_extract_tensor_mut::<f32>()?;
    // Whole output rows where they are short, parts of one where they are long.
    let columns = BLOCK.min(wo).max(1);
    let lines = (BLOCK / columns).max(1);
    let mut jobs = Vec::new();
    for (item, out) in out.chunks_exact_mut((ho * wo * width).max(1)).enumerate() {
        for (block, out) in out.chunks_mut(lines * wo * width).enumerate() {
            let first = block * lines;
            if columns == wo {
                jobs.push((item, first, 0, out));
            } else {
                for (part, out) in out.chunks_mut(columns * width).enumerate() {
                    jobs.push((item, first, part * columns, out));
                }
            }
        }
    }
    let image = Image {
        h,
        w,
        channels,
        geometry,
    };
    parallel(context, jobs, |(item, row, column, out)| {
        let x = &x[item * channels * h * w..][..channels * h * w];
        let columns = columns.min(wo - column);
        vectorized!(image.unfold(x, [row, column], columns, out))
    })
}

struct Image<'a> {
    h: usize,
    w: usize,
    channels: usize,
    geometry: &'a Geometry,
}

impl Image<'_> {
    /// The rows of `out` from position `[p, q]` on, `columns` of each output row.
    #[inline(always)]
    fn unfold(&self, x: &[f32], [first, from]: [usize; 2], columns: usize, out: &mut [f32]) {
        let Geometry {
            kernel: [kh, kw],
            strides,
            pads: [top, left, ..],
            dilations,
            ..
        } = *self.geometry;
        let channels = self.channels;
        let width = kh * kw * channels;
        // The input columns that the block sees, channels innermost.
        let span = (columns - 1) * strides[1] + (kw - 1) * dilations[1] + 1;
        let start = (from * strides[1]) as isize - left as isize;
        let mut line = vec![0.0f32; span * channels];
        for (p, out) in out.chunks_exact_mut(columns * width).enumerate() {
            for i in 0..kh {
                let row = ((first + p) * strides[0] + i * dilations[0]).checked_sub(top);
                let row = row.filter(|&row| row < self.h);
                self.turn(x, row, start, &mut line);
                for (q, out) in out.chunks_exact_mut(width).enumerate() {
                    let seen = &line[q * strides[1] * channels..];
                    let out = &mut out[i * kw * channels..][..kw * channels];
                    if dilations[1] == 1 {
                        out.copy_from_slice(&seen[..kw * channels]);
                        continue;
                    }
                    for (j, tap) in out.chunks_exact_mut(channels).enumerate() {
                        tap.copy_from_slice(&seen[j * dilations[1] * channels..][..channels]);
                    }
                }
            }
        }
    }

    /// Columns `start..` of input row `row` with the channels innermost; zeros outside.
    #[inline(always)]
    fn turn(&self, x: &[f32], row: Option<usize>, start: isize, line: &mut [f32]) {
        let span = line.len() / self.channels;
        let before = start.min(0).unsigned_abs().min(span);
        let start = start.max(0) as usize;
        let inside = self.w.saturating_sub(start).min(span - before);
        let Some(row) = row.filter(|_| inside > 0) else {
            line.fill(0.0);
            return;
        };
        line[..before * self.channels].fill(0.0);
        line[(before + inside) * self.channels..].fill(0.0);
        let line = &mut line[before * self.channels..][..inside * self.channels];
        for channel in 0..self.channels {
            let source = &x[(channel * self.h + row) * self.w + start..][..inside];
            let places = line[channel..].iter_mut().step_by(self.channels);
            for (place, &value) in places.zip(source) {
                *place = value;
            }
        }
    }
}
