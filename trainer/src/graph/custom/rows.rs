//! Depthwise convolution along the rows of `[B, T, C]`, forward and backward, without transposing to channels first:
//! `y[b, t, c] = bias[c] + sum_k w[c, k] x[b, t + k d - left, c]`, rows outside `[0, T)` zero.
//!
//! Channels are taken [`LANES`] at a time, packed with their zero rows into a buffer that stays in the first-level
//! cache: each tap is then a multiplication of whole vectors. With dy the gradient of y,
//! `dx[t] = sum_k w[k] dy[t - k d + left]` is the same convolution with the taps reversed, and
//! `dw[k] = sum_t dy[t] x[t + k d - left]`.

use super::kernel::{Kernel, axes, list, misuse, operand, parallel};
use crate::graph::op::Taps;
use crate::simd::{LANES, lanes, vectorized};
use ort::operator::{ComputeContext, KernelContext};
use ort::value::TensorElementType::Float32;

pub(super) const FORWARD: Kernel<Taps> = Kernel {
    name: "DepthwiseRows",
    inputs: &[Float32; 3],
    outputs: 1,
    read,
    compute: forward,
};

pub(super) const BACKWARD: Kernel<Taps> = Kernel {
    name: "DepthwiseRowsGrad",
    inputs: &[Float32; 3],
    outputs: 3,
    read,
    compute: backward,
};

/// Output rows a job computes.
const BLOCK: usize = 128;

/// Rows whose sums are kept in registers together.
const TILE: usize = 4;

/// One row's packed channels.
type Vector = [f32; LANES];

/// The packed channels of a tile of rows.
type Tile = [f32; TILE * LANES];

fn read(info: &KernelContext<'_>) -> ort::Result<Taps> {
    let [left, right, dilation] = list(info, "taps")?;
    Ok(Taps {
        left,
        right,
        dilation,
    })
}

/// Channels `first..` of rows `from..from + into.len()` of `x [T, C]`; zero where there is no such row or channel.
#[inline(always)]
fn pack(x: &[f32], channels: usize, first: usize, from: isize, into: &mut [Vector]) {
    let rows = x.len() / channels.max(1);
    let count = LANES.min(channels - first);
    for (index, place) in into.iter_mut().enumerate() {
        let row = usize::try_from(from + index as isize).unwrap_or(usize::MAX);
        if row >= rows {
            *place = [0.0; LANES];
            continue;
        }
        let start = row * channels + first;
        if let Some(whole) = x[start..].first_chunk::<LANES>().filter(|_| count == LANES) {
            *place = *whole;
        } else {
            *place = [0.0; LANES];
            place[..count].copy_from_slice(&x[start..start + count]);
        }
    }
}

/// `sums += a b`.
#[inline(always)]
fn accumulate(sums: &mut Tile, a: &Tile, b: &Tile) {
    for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
        *sum += a * b;
    }
}

/// A row's channels, the same for each row of a tile.
fn repeated(row: Vector) -> Tile {
    std::array::from_fn(|index| row[index % LANES])
}

/// The taps `[K]` of channels `first..` of w `[C, K]`.
fn pack_taps(w: &[f32], kernel: usize, first: usize, reversed: bool) -> Vec<Tile> {
    let mut out = vec![[0.0; LANES]; kernel];
    for (lane, taps) in w[first * kernel..]
        .chunks_exact(kernel)
        .take(LANES)
        .enumerate()
    {
        for (k, &tap) in taps.iter().enumerate() {
            out[if reversed { kernel - 1 - k } else { k }][lane] = tap;
        }
    }
    out.into_iter().map(repeated).collect()
}

/// A convolution along rows of one item: what a forward and an input gradient share.
struct Walk<'a> {
    /// Input `[T, C]`.
    x: &'a [f32],
    channels: usize,
    /// Taps by channel block.
    taps: &'a [Vec<Tile>],
    dilation: usize,
    /// Input row of the first tap of output row 0.
    offset: isize,
    bias: Option<&'a [f32]>,
}

impl Walk<'_> {
    /// Output rows `from..` into `out [rows, C]`.
    #[inline(always)]
    fn run(&self, from: usize, out: &mut [f32]) {
        let rows = out.len() / self.channels;
        let kernel = self.taps.first().map_or(1, Vec::len);
        let span = (kernel - 1) * self.dilation;
        // Whole tiles are computed; what they have beyond the last row is not stored.
        let mut packed = vec![[0.0; LANES]; rows.next_multiple_of(TILE) + span];
        for (block, taps) in self.taps.iter().enumerate() {
            let first = block * LANES;
            let count = LANES.min(self.channels - first);
            pack(
                self.x,
                self.channels,
                first,
                from as isize + self.offset,
                &mut packed,
            );
            let mut start = [0.0; LANES];
            if let Some(bias) = self.bias {
                start[..count].copy_from_slice(&bias[first..first + count]);
            }
            for (tile, lines) in out.chunks_mut(TILE * self.channels).enumerate() {
                let mut sums = repeated(start);
                let inputs = &packed[tile * TILE..];
                for (k, tap) in taps.iter().enumerate() {
                    let inputs = inputs[k * self.dilation..].as_flattened();
                    if let Some(inputs) = inputs.first_chunk() {
                        accumulate(&mut sums, tap, inputs);
                    }
                }
                let sums = sums.as_chunks::<LANES>().0;
                for (line, sum) in lines.chunks_exact_mut(self.channels).zip(sums) {
                    line[first..first + count].copy_from_slice(&sum[..count]);
                }
            }
        }
    }
}

/// Runs a walk over every item: `walk` gives it for an item, `out` is `[B, rows, C]`.
fn over_items<'a>(
    context: &ComputeContext,
    out: &mut [f32],
    rows: usize,
    channels: usize,
    walk: impl Fn(usize) -> Walk<'a> + Sync + Send,
) -> ort::Result<()> {
    let mut jobs = Vec::new();
    for (item, rows) in out.chunks_exact_mut((rows * channels).max(1)).enumerate() {
        for (block, rows) in rows.chunks_mut(BLOCK * channels).enumerate() {
            jobs.push((item, block * BLOCK, rows));
        }
    }
    parallel(context, jobs, |(item, from, rows)| {
        let walk = walk(item);
        vectorized!(walk.run(from, rows))
    })
}

fn forward(context: &ComputeContext, place: &Taps) -> ort::Result<()> {
    let inputs = [0, 1, 2].map(|index| operand(context, index));
    let [x, w, bias] = inputs;
    let (x, w, bias) = (x?, w?, bias?);
    let (shape, x) = x.try_extract_tensor::<f32>()?;
    let [items, length, channels] = axes(shape)?;
    let (_, w) = w.try_extract_tensor::<f32>()?;
    let (_, bias) = bias.try_extract_tensor::<f32>()?;
    let kernel = w.len() / channels.max(1);
    let span = kernel.saturating_sub(1) * place.dilation;
    let rows = (length + place.left + place.right).saturating_sub(span);
    let mut y = context
        .output(0, [items, rows, channels])?
        .ok_or_else(|| misuse("DepthwiseRows has one output"))?;
    let (_, y) = y.try_extract_tensor_mut::<f32>()?;
    let taps: Vec<_> = (0..channels)
        .step_by(LANES)
        .map(|first| pack_taps(w, kernel, first, false))
        .collect();
    over_items(context, y, rows, channels, |item| Walk {
        x: &x[item * length * channels..][..length * channels],
        channels,
        taps: &taps,
        dilation: place.dilation,
        offset: -(place.left as isize),
        bias: Some(bias),
    })
}

fn backward(context: &ComputeContext, place: &Taps) -> ort::Result<()> {
    let inputs = [0, 1, 2].map(|index| operand(context, index));
    let [x, w, dy] = inputs;
    let (x, w, dy) = (x?, w?, dy?);
    let (shape, x) = x.try_extract_tensor::<f32>()?;
    let [_, length, channels] = axes(shape)?;
    let (w_shape, w) = w.try_extract_tensor::<f32>()?;
    let (dy_shape, dy) = dy.try_extract_tensor::<f32>()?;
    let [_, rows, _] = axes(dy_shape)?;
    let kernel = w.len() / channels.max(1);
    let missing = || misuse("DepthwiseRowsGrad has three outputs");
    let mut dx = context.output(0, shape.to_vec())?.ok_or_else(missing)?;
    let mut dw = context.output(1, w_shape.to_vec())?.ok_or_else(missing)?;
    let mut dbias = context.output(2, [channels])?.ok_or_else(missing)?;
    let (_, dx) = dx.try_extract_tensor_mut::<f32>()?;
    let (_, dw) = dw.try_extract_tensor_mut::<f32>()?;
    let (_, dbias) = dbias.try_extract_tensor_mut::<f32>()?;
    let taps: Vec<_> = (0..channels)
        .step_by(LANES)
        .map(|first| pack_taps(w, kernel, first, true))
        .collect();
    let span = kernel.saturating_sub(1) * place.dilation;
    over_items(context, dx, length, channels, |item| Walk {
        x: &dy[item * rows * channels..][..rows * channels],
        channels,
        taps: &taps,
        dilation: place.dilation,
        offset: place.left as isize - span as isize,
        bias: None,
    })?;
    let jobs = dw
        .chunks_mut((LANES * kernel).max(1))
        .zip(dbias.chunks_mut(LANES))
        .enumerate()
        .collect();
    let both = Both {
        x,
        dy,
        length,
        rows,
        channels,
        kernel,
        place: *place,
    };
    parallel(
        context,
        jobs,
        |(block, (dw, dbias)): (usize, (&mut [f32], &mut [f32]))| {
            vectorized!(both.weights(block * LANES, dw, dbias))
        },
    )
}

/// What the weight gradient reads.
struct Both<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    length: usize,
    rows: usize,
    channels: usize,
    kernel: usize,
    place: Taps,
}

impl Both<'_> {
    /// Gradients of the taps and biases of the channels from `first` on.
    #[inline(always)]
    fn weights(&self, first: usize, dw: &mut [f32], dbias: &mut [f32]) {
        let step = self.place.dilation;
        let mut total = vec![[0.0; TILE * LANES]; self.kernel];
        let mut bias = [0.0; TILE * LANES];
        // Zero rows fill the last tile.
        let block = BLOCK.min(self.rows.next_multiple_of(TILE));
        let mut upstream = vec![[0.0; LANES]; block];
        let mut packed = vec![[0.0; LANES]; block + self.kernel.saturating_sub(1) * step];
        let xs = self.x.chunks_exact((self.length * self.channels).max(1));
        let dys = self.dy.chunks_exact((self.rows * self.channels).max(1));
        for (x, dy) in xs.zip(dys) {
            for from in (0..self.rows).step_by(block) {
                let from = from as isize;
                pack(dy, self.channels, first, from, &mut upstream);
                let before = from - self.place.left as isize;
                pack(x, self.channels, first, before, &mut packed);
                let dy = upstream.as_flattened().as_chunks().0;
                for dy in dy {
                    accumulate(&mut bias, &repeated([1.0; LANES]), dy);
                }
                for (k, total) in total.iter_mut().enumerate() {
                    let inputs = packed[k * step..].as_flattened().as_chunks().0;
                    let mut sums = *total;
                    for (dy, input) in dy.iter().zip(inputs) {
                        accumulate(&mut sums, dy, input);
                    }
                    *total = sums;
                }
            }
        }
        let fold = |sums: &Tile| {
            let rows = sums.as_chunks::<LANES>().0;
            lanes(|n| rows.iter().map(|row| row[n]).sum())
        };
        let total: Vec<Vector> = total.iter().map(fold).collect();
        let bias = fold(&bias);
        for (lane, taps) in dw.chunks_exact_mut(self.kernel.max(1)).enumerate() {
            for (tap, sum) in taps.iter_mut().zip(&total) {
                *tap = sum[lane];
            }
        }
        let count = dbias.len();
        dbias.copy_from_slice(&bias[..count]);
    }
}
