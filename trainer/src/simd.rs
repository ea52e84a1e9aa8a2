//! Loops compiled for the widest vectors of the machine they run on, without a line of unsafe code.
//!
//! The crate is compiled for the oldest CPU of its target; [`vectorized`] compiles a loop again for AVX2 and AVX-512
//! and takes the best the machine has. What the loop calls must be inlined into it (`#[inline(always)]`), or it
//! stays compiled for the oldest CPU. Sums keep their partial sums in a fixed order and no loop fuses a multiplication
//! with an addition, so results do not depend on the width of the registers.

/// Moved into a loop to say that it runs once: a closure that could run again is called through a function of its own,
/// which would stay compiled for the oldest CPU.
pub(crate) struct Once;

/// Runs an expression with the widest vectors this machine has.
macro_rules! vectorized {
    ($body:expr) => {{
        let once = crate::simd::Once;
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                let _moved: crate::simd::Once = once;
                $body
            },
        )
    }};
}
pub(crate) use vectorized;

/// Number of partial sums: enough for the widest vector registers.
pub(crate) const LANES: usize = 16;

/// One value a lane. The values stand in a new array, so that the compiler need not fear that writing one changes
/// what the next is computed from: it then computes all at once.
#[inline(always)]
pub(crate) fn lanes(value: impl Fn(usize) -> f32) -> [f32; LANES] {
    let mut out = [0.0; LANES];
    for (lane, out) in out.iter_mut().enumerate() {
        *out = value(lane);
    }
    out
}

/// The [`LANES`] values from `at` on, zeros beyond the last.
#[inline(always)]
pub(crate) fn load(values: &[f32], at: usize) -> [f32; LANES] {
    let rest = &values[at..];
    if let Some(whole) = rest.first_chunk::<LANES>() {
        return *whole;
    }
    let mut out = [0.0; LANES];
    out[..rest.len()].copy_from_slice(rest);
    out
}

/// Writes to `at` and on, as far as there is room.
#[inline(always)]
pub(crate) fn store(values: &mut [f32], at: usize, lanes: &[f32; LANES]) {
    let rest = &mut values[at..];
    if let Some(whole) = rest.first_chunk_mut::<LANES>() {
        *whole = *lanes;
        return;
    }
    let count = rest.len();
    rest.copy_from_slice(&lanes[..count]);
}

/// The sum of all lanes, halves first: sixteen additions one after another would wait for each other. `N` is a multiple
/// of [`LANES`].
#[inline(always)]
pub(crate) fn total<const N: usize>(sums: [f32; N]) -> f32 {
    let mut wide = [0.0; LANES];
    for part in sums.as_chunks::<LANES>().0 {
        wide = lanes(|lane| wide[lane] + part[lane]);
    }
    let mut eight = [0.0; LANES / 2];
    for lane in 0..LANES / 2 {
        eight[lane] = wide[lane] + wide[lane + LANES / 2];
    }
    let four = [0, 1, 2, 3].map(|lane| eight[lane] + eight[lane + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// `sum f(a, b)` in a fixed order with `N` partial sums; several registers' worth hide the additions' latency.
#[inline(always)]
pub(crate) fn sum2<const N: usize>(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; N];
    let (a_chunks, a_rest) = a.as_chunks::<N>();
    let (b_chunks, b_rest) = b.as_chunks::<N>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..N {
            lanes[lane] += f(a[lane], b[lane]);
        }
    }
    let mut total = total(lanes);
    for (&a, &b) in a_rest.iter().zip(b_rest) {
        total += f(a, b);
    }
    total
}

/// The larger of two numbers; unlike [`f32::max`] it does not look for NaN, which costs a third of the speed.
#[inline(always)]
pub(crate) fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// The largest value, [`f32::MIN`] of none; NaN is passed over.
#[inline(always)]
pub(crate) fn largest(values: &[f32]) -> f32 {
    let mut lanes = [f32::MIN; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = larger(lanes[lane], chunk[lane]);
        }
    }
    let mut top = f32::MIN;
    for lane in lanes {
        top = larger(top, lane);
    }
    for &value in rest {
        top = larger(top, value);
    }
    top
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reductions_equal_their_definitions() {
        for length in [0, 1, 15, 16, 17, 64, 131] {
            let a: Vec<f32> = (0..length)
                .map(|i| ((i * 37) % 101) as f32 - 50.0)
                .collect();
            let b: Vec<f32> = (0..length).map(|i| ((i * 53) % 97) as f32).collect();
            // Small integers: every order of summation gives the same.
            let expected: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
            let found = vectorized!(sum2::<64>(&a, &b, |a, b| a * b));
            assert_eq!(found, expected, "{length} products");
            let expected = a.iter().copied().fold(f32::MIN, f32::max);
            assert_eq!(vectorized!(largest(&a)), expected, "{length} values");
            let mut copy = vec![0.0; length];
            for at in (0..length).step_by(LANES) {
                store(&mut copy, at, &load(&a, at));
            }
            assert_eq!(copy, a);
        }
    }
}
