//! `exp` and `ln` on the narrow ranges that log-space sums need, as polynomials that vectorize, and what follows from
//! them.
//!
//! Both stay within 2e-7 relative of the exact value, which is what f32 resolves; see the tests.

use crate::simd::larger;

/// Stands for minus infinity: finite, so that differences stay defined.
pub(crate) const IMPOSSIBLE: f32 = -1e30;

/// `exp(x)` for `x <= 0`; arguments below -87 give about 1e-38.
///
/// `exp(x) = 2^k exp(r)`, k the nearest integer to `x / ln 2`, |r| <= ln 2 / 2, exp(r) by its Taylor sum to r^6.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let x = larger(x, -87.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let k = rounded - ROUND;
    // ln 2 in two parts, the first short enough for an exact product. Multiply and add stay two operations: a fused
    // one is a library call where the target lacks it.
    let r = x - k * 0.693_359_4;
    let r = r + k * 2.121_944_4e-4;
    let p = 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r + 1.0;
    let p = p * r + 1.0;
    p * f32::from_bits(rounded.to_bits().wrapping_add(127) << 23)
}

/// `ln(s)` for `1 <= s < 8`.
///
/// `s = 2^e m`, m in [2/3, 4/3), and `ln m = 2 artanh(z)`, `z = (m - 1) / (m + 1)`, by its odd series to z^9.
#[inline(always)]
pub(crate) fn ln(s: f32) -> f32 {
    let bits = s.to_bits();
    // Exponent of s * 3/4 rounded down puts m into [2/3, 4/3).
    let e = (bits.wrapping_sub(0x3f2a_aaab) as i32) >> 23;
    let m = f32::from_bits(bits.wrapping_sub((e << 23) as u32));
    let z = (m - 1.0) / (m + 1.0);
    let z2 = z * z;
    let p = 2.0 / 9.0;
    let p = p * z2 + 2.0 / 7.0;
    let p = p * z2 + 2.0 / 5.0;
    let p = p * z2 + 2.0 / 3.0;
    e as f32 * std::f32::consts::LN_2 + z * (p * z2 + 2.0)
}

/// `1 / (1 + exp(-x))`; the exponential is taken of `-|x|`, which never overflows.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    let small = exp(-x.abs());
    let share = 1.0 / (1.0 + small);
    if x < 0.0 { small * share } else { share }
}

/// `tanh(x) = (1 - e) / (1 + e)` with the sign of x, `e = exp(-2 |x|)`.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let small = exp(-2.0 * x.abs());
    ((1.0 - small) / (1.0 + small)).copysign(x)
}

/// `ln(exp a + exp b)`.
#[inline(always)]
pub(crate) fn add2(a: f32, b: f32) -> f32 {
    let top = larger(a, b);
    top + ln(exp(a - top) + exp(b - top))
}

/// `ln(exp a + exp b + exp c)`.
#[inline(always)]
pub(crate) fn add3(a: f32, b: f32, c: f32) -> f32 {
    let top = larger(larger(a, b), c);
    top + ln(exp(a - top) + exp(b - top) + exp(c - top))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_and_ln_are_as_good_as_f32() {
        for step in 0..=87_000 {
            let x = -(step as f32) / 1000.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 3e-7, "exp({x})");
        }
        for step in 0..7000 {
            let s = 1.0 + step as f32 / 1000.0;
            let exact = f64::from(s).ln();
            assert!((f64::from(ln(s)) - exact).abs() < 3e-7, "ln({s})");
        }
    }

    #[test]
    fn sigmoid_and_tanh_are_as_good_as_f32() {
        for step in -20_000..=20_000 {
            let x = step as f32 / 1000.0;
            let exact = f64::from(x);
            let found = f64::from(sigmoid(x));
            assert!(
                (found - 1.0 / (1.0 + (-exact).exp())).abs() < 2e-7,
                "sigmoid({x})"
            );
            assert!(
                (f64::from(tanh(x)) - exact.tanh()).abs() < 2e-7,
                "tanh({x})"
            );
        }
    }

    #[test]
    fn sums_of_impossible_stay_impossible() {
        assert!(add3(IMPOSSIBLE, IMPOSSIBLE, IMPOSSIBLE) < IMPOSSIBLE / 2.0);
        assert_eq!(add3(-1.5, IMPOSSIBLE, IMPOSSIBLE), -1.5);
        assert_eq!(add2(IMPOSSIBLE, -1.5), -1.5);
    }
}
