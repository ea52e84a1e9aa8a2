//! Dropout (Srivastava et al. 2014) from a counter-based generator: which elements fall depends on the step's seed, the
//! stream and the position alone, so that a resumed run draws what an uninterrupted one would.
//!
//! The mask is 0 with probability `rate` and `1 / (1 - rate)` otherwise. It is never stored: the gradient is the same
//! operator on dy, which draws the same mask again.

use super::kernel::{Kernel, misuse, operand, parallel};
use crate::simd::vectorized;
use ort::operator::{ComputeContext, KernelContext};
use ort::value::TensorElementType::{Float32, Int64};

pub(super) const APPLY: Kernel<Draw> = Kernel {
    name: "Dropout",
    inputs: &[Float32, Int64],
    outputs: 1,
    read: draw,
    compute: apply,
};

pub(super) const MASK: Kernel<(Draw, Vec<i64>)> = Kernel {
    name: "DropoutMask",
    inputs: &[Int64],
    outputs: 1,
    read: |info| {
        let shape = info.get("shape");
        let shape = shape.ok_or_else(|| misuse("DropoutMask wants the attribute shape"))?;
        Ok((draw(info)?, shape))
    },
    compute: mask,
};

/// Elements a job fills.
const CHUNK: usize = 16 * 1024;

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): a bijection that passes for random.
#[inline(always)]
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What is drawn.
#[derive(Clone, Copy)]
pub(super) struct Draw {
    rate: f32,
    stream: i64,
}

fn draw(info: &KernelContext<'_>) -> ort::Result<Draw> {
    match (info.get("rate"), info.get("stream")) {
        (Some(rate), Some(stream)) => Ok(Draw { rate, stream }),
        _ => Err(misuse("Dropout wants the attributes rate and stream")),
    }
}

/// The mask of a step, element by element.
#[derive(Clone, Copy)]
struct Mask {
    base: u64,
    threshold: u64,
    keep: f32,
}

impl Mask {
    fn new(context: &ComputeContext, seed: usize, draw: &Draw) -> ort::Result<Self> {
        let seed = operand(context, seed)?;
        let &[seed] = seed.try_extract_tensor::<i64>()?.1 else {
            return Err(misuse("the seed of a dropout is one number"));
        };
        Ok(Self {
            base: mix(mix(seed as u64) ^ draw.stream as u64),
            threshold: (f64::from(draw.rate) * (1u64 << 32) as f64) as u64,
            keep: 1.0 / (1.0 - draw.rate),
        })
    }

    #[inline(always)]
    fn at(self, position: usize) -> f32 {
        let draw = mix(self.base ^ position as u64) >> 32;
        if draw < self.threshold {
            0.0
        } else {
            self.keep
        }
    }
}

fn apply(context: &ComputeContext, draw: &Draw) -> ort::Result<()> {
    let mask = Mask::new(context, 1, draw)?;
    let x = operand(context, 0)?;
    let (shape, x) = x.try_extract_tensor::<f32>()?;
    let mut y = context
        .output(0, shape.to_vec())?
        .ok_or_else(|| misuse("Dropout has one output"))?;
    let (_, y) = y.try_extract_tensor_mut::<f32>()?;
    let jobs = x.chunks(CHUNK).zip(y.chunks_mut(CHUNK)).enumerate();
    parallel(
        context,
        jobs.collect(),
        |(chunk, (x, y)): (usize, (&[f32], &mut [f32]))| {
            vectorized!(for (index, (y, &x)) in y.iter_mut().zip(x).enumerate() {
                *y = x * mask.at(chunk * CHUNK + index);
            })
        },
    )
}

fn mask(context: &ComputeContext, (draw, shape): &(Draw, Vec<i64>)) -> ort::Result<()> {
    let mask = Mask::new(context, 0, draw)?;
    let mut out = context
        .output(0, shape.clone())?
        .ok_or_else(|| misuse("DropoutMask has one output"))?;
    let (_, out) = out.try_extract_tensor_mut::<f32>()?;
    let jobs = out.chunks_mut(CHUNK).enumerate().collect();
    parallel(context, jobs, |(chunk, out): (usize, &mut [f32])| {
        vectorized!(for (index, value) in out.iter_mut().enumerate() {
            *value = mask.at(chunk * CHUNK + index);
        })
    })
}
