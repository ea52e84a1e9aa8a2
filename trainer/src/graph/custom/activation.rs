//! Activations and their gradients, each one pass over memory where plain ONNX operators take two to nine.
//!
//! - SiLU `x sigmoid(x)`, gradient `dy s (1 + x (1 - s))`, s = sigmoid(x);
//! - GELU `x P(x)`, P the normal distribution, gradient `dy (P(x) + x p(x))`, p its density;
//! - from the result y: ReLU `dy` where y > 0, sigmoid `dy y (1 - y)`, tanh `dy (1 - y^2)`.

use super::kernel::{Kernel, misuse, operand, parallel};
use crate::loss::logmath::{exp, sigmoid};
use crate::simd::vectorized;
use ort::operator::ComputeContext;
use ort::value::TensorElementType::Float32;

pub(super) const SILU: Kernel<()> = one("Silu", |context, ()| apply(context, silu));
pub(super) const SILU_GRAD: Kernel<()> = two("SiluGrad", |context, ()| {
    combine(context, |x, dy| {
        let s = sigmoid(x);
        dy * s * (1.0 + x * (1.0 - s))
    })
});
pub(super) const GELU: Kernel<()> = one("Gelu", |context, ()| apply(context, gelu));
pub(super) const GELU_GRAD: Kernel<()> = two("GeluGrad", |context, ()| {
    combine(context, |x, dy| {
        let (distribution, bell) = normal(x);
        dy * (distribution + x * bell * FRAC_1_SQRT_TAU)
    })
});
pub(super) const RELU_GRAD: Kernel<()> = two("ReluGrad", |context, ()| {
    combine(context, |y, dy| if y > 0.0 { dy } else { 0.0 })
});
pub(super) const SIGMOID_GRAD: Kernel<()> = two("SigmoidGrad", |context, ()| {
    combine(context, |y, dy| dy * y * (1.0 - y))
});
pub(super) const TANH_GRAD: Kernel<()> = two("TanhGrad", |context, ()| {
    combine(context, |y, dy| dy * (1.0 - y * y))
});

/// `1 / sqrt(2 pi)`.
const FRAC_1_SQRT_TAU: f32 = 0.398_942_3;

/// Elements a job computes.
const CHUNK: usize = 16 * 1024;

type Compute = fn(&ComputeContext, &()) -> ort::Result<()>;

const fn one(name: &'static str, compute: Compute) -> Kernel<()> {
    Kernel {
        name,
        inputs: &[Float32; 1],
        outputs: 1,
        read: |_| Ok(()),
        compute,
    }
}

const fn two(name: &'static str, compute: Compute) -> Kernel<()> {
    Kernel {
        name,
        inputs: &[Float32; 2],
        outputs: 1,
        read: |_| Ok(()),
        compute,
    }
}

#[inline(always)]
fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

#[inline(always)]
fn gelu(x: f32) -> f32 {
    x * normal(x).0
}

/// The normal distribution's value at x, and `exp(-x^2 / 2)`. By Abramowitz and Stegun 7.1.26, whose error is below
/// 1.5e-7.
#[inline(always)]
fn normal(x: f32) -> (f32, f32) {
    let bell = exp(-0.5 * x * x);
    let t = 1.0 / (1.0 + 0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2 * x.abs());
    let p = 1.061_405_4;
    let p = p * t - 1.453_152;
    let p = p * t + 1.421_413_8;
    let p = p * t - 0.284_496_74;
    let p = p * t + 0.254_829_6;
    let tail = 0.5 * p * t * bell;
    (if x < 0.0 { tail } else { 1.0 - tail }, bell)
}

/// `f(x)` element by element.
#[inline(always)]
fn apply(context: &ComputeContext, f: impl Fn(f32) -> f32 + Sync + Send) -> ort::Result<()> {
    let x = operand(context, 0)?;
    let (shape, x) = x.try_extract_tensor::<f32>()?;
    let mut y = context
        .output(0, shape.to_vec())?
        .ok_or_else(|| misuse("an activation has one output"))?;
    let (_, y) = y.try_extract_tensor_mut::<f32>()?;
    let jobs = x.chunks(CHUNK).zip(y.chunks_mut(CHUNK)).collect();
    parallel(context, jobs, |(x, y): (&[f32], &mut [f32])| {
        vectorized!(for (y, &x) in y.iter_mut().zip(x) {
            *y = f(x);
        })
    })
}

/// `f(a, b)` element by element.
#[inline(always)]
fn combine(context: &ComputeContext, f: impl Fn(f32, f32) -> f32 + Sync + Send) -> ort::Result<()> {
    let (a, b) = (operand(context, 0)?, operand(context, 1)?);
    let (shape, a) = a.try_extract_tensor::<f32>()?;
    let (_, b) = b.try_extract_tensor::<f32>()?;
    let mut out = context
        .output(0, shape.to_vec())?
        .ok_or_else(|| misuse("an activation's gradient has one output"))?;
    let (_, out) = out.try_extract_tensor_mut::<f32>()?;
    let operands = a.chunks(CHUNK).zip(b.chunks(CHUNK));
    let jobs = operands.zip(out.chunks_mut(CHUNK)).collect();
    parallel(
        context,
        jobs,
        |((a, b), out): ((&[f32], &[f32]), &mut [f32])| {
            vectorized!(for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
                *out = f(a, b);
            })
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_distribution_is_as_good_as_f32() {
        // P(1) and P(-2) of tables, and symmetry everywhere.
        assert!((normal(1.0).0 - 0.841_344_8).abs() < 2e-7);
        assert!((normal(-2.0).0 - 0.022_750_13).abs() < 2e-7);
        for step in 0..8000 {
            let x = step as f32 / 1000.0;
            let (above, below) = (normal(x).0, normal(-x).0);
            assert!((above + below - 1.0).abs() < 2e-7, "{x}");
            assert!(normal(x + 0.001).0 >= above - 2e-7, "{x}");
        }
        assert!(gelu(f32::NAN).is_nan() && silu(f32::NAN).is_nan());
    }
}
