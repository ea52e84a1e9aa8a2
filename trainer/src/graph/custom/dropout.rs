//! Dropout masks from a counter-based generator: the mask depends on the step's seed, the stream and the position
//! alone, so that a resumed run draws what an uninterrupted one would.

use super::kernel::{guarded, operand, parallel};
use crate::simd::vectorized;
use ort::operator::{
    BoxedKernel, ComputeContext, KernelContext, Operator, OperatorInput, OperatorOutput,
};
use ort::value::TensorElementType::{Float32, Int64};

pub(super) struct DropoutMask;

/// Elements a job fills.
const CHUNK: usize = 16 * 1024;

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): a bijection that passes for random.
#[inline(always)]
pub(crate) fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Operator for DropoutMask {
    type Kernel<'attr> = BoxedKernel<'attr>;

    fn name(&self) -> &str {
        "DropoutMask"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [OperatorInput::required(Int64)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(Float32)]
    }

    fn create_kernel<'attr>(&self, info: &KernelContext<'attr>) -> ort::Result<BoxedKernel<'attr>> {
        let missing = || ort::Error::new("DropoutMask wants rate, stream and shape");
        let rate: f32 = info.get("rate").ok_or_else(missing)?;
        let stream: i64 = info.get("stream").ok_or_else(missing)?;
        let shape: Vec<i64> = info.get("shape").ok_or_else(missing)?;
        Ok(Box::new(move |context: &ComputeContext| {
            guarded(|| {
                let seed = operand(context, 0)?;
                let seed = seed.try_extract_tensor::<i64>()?.1[0] as u64;
                let mut out = context.output(0, shape.clone())?.ok_or_else(missing)?;
                let (_, out) = out.try_extract_tensor_mut::<f32>()?;
                let base = mix(mix(seed) ^ stream as u64);
                let threshold = (f64::from(rate) * (1u64 << 32) as f64) as u64;
                let keep = 1.0 / (1.0 - rate);
                let jobs: Vec<_> = out.chunks_mut(CHUNK).enumerate().collect();
                parallel(context, jobs, |(chunk, out)| {
                    vectorized!({
                        for (index, value) in out.iter_mut().enumerate() {
                            let draw = mix(base ^ (chunk * CHUNK + index) as u64) >> 32;
                            *value = if draw < threshold { 0.0 } else { keep };
                        }
                    })
                })
            })
        }))
    }
}
