//! What all kernels share: reading operands, running jobs on ONNX Runtime's own threads, and turning a panic into
//! an error.

use ort::operator::ComputeContext;
use ort::value::ValueRef;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Operand `index`, which the graph always gives.
pub(super) fn operand(context: &ComputeContext, index: usize) -> ort::Result<ValueRef<'_>> {
    context
        .input(index)?
        .ok_or_else(|| ort::Error::new(format!("operand {index} is missing")))
}

/// The four axes of an operand.
pub(super) fn axes4(shape: &[i64]) -> ort::Result<[usize; 4]> {
    match shape {
        &[a, b, c, d] => Ok([a as usize, b as usize, c as usize, d as usize]),
        other => Err(ort::Error::new(format!(
            "expected four axes, found {other:?}"
        ))),
    }
}

/// Runs `body`; a panic becomes an error, since it must not cross into C.
pub(super) fn guarded(body: impl FnOnce() -> ort::Result<()>) -> ort::Result<()> {
    catch_unwind(AssertUnwindSafe(body))
        .unwrap_or_else(|_| Err(ort::Error::new("a kernel of the trainer panicked")))
}

/// Runs `work` once for each job on the session's threads. Jobs own what they write, so the result does not
/// depend on which thread takes which.
pub(super) fn parallel<J: Send>(
    context: &ComputeContext,
    jobs: Vec<J>,
    work: impl Fn(J) + Sync + Send,
) -> ort::Result<()> {
    let count = jobs.len();
    let cells: Vec<Mutex<Option<J>>> = jobs.into_iter().map(|job| Mutex::new(Some(job))).collect();
    let failed = AtomicBool::new(false);
    let run = |index: usize| {
        let job = cells[index].lock().ok().and_then(|mut cell| cell.take());
        if let Some(job) = job
            && catch_unwind(AssertUnwindSafe(|| work(job))).is_err()
        {
            failed.store(true, Ordering::Relaxed);
        }
    };
    context.par_for(count, 0, run)?;
    if failed.load(Ordering::Relaxed) {
        return Err(ort::Error::new("a kernel of the trainer panicked"));
    }
    Ok(())
}

/// Number of partial sums: enough for the widest vector registers.
pub(super) const LANES: usize = 16;

/// `sum f(a, b)` in a fixed order with [`LANES`] partial sums.
#[inline(always)]
pub(super) fn sum2(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += f(a[lane], b[lane]);
        }
    }
    let mut total: f32 = lanes.iter().sum();
    for (&a, &b) in a_rest.iter().zip(b_rest) {
        total += f(a, b);
    }
    total
}
