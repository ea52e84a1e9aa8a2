//! What all kernels share: reading operands, running jobs on ONNX Runtime's own threads, and turning a panic into
//! an error.

use ort::operator::{
    BoxedKernel, ComputeContext, KernelContext, Operator, OperatorInput, OperatorOutput,
};
use ort::value::{TensorElementType, ValueRef};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// An operator of ours: f32 results from operands of fixed element types.
pub(super) struct Kernel<S> {
    /// Its ONNX name.
    pub name: &'static str,
    /// Element types of the operands.
    pub inputs: &'static [TensorElementType],
    /// Number of results.
    pub outputs: usize,
    /// Reads the attributes.
    pub read: fn(&KernelContext<'_>) -> ort::Result<S>,
    /// Computes the results.
    pub compute: fn(&ComputeContext, &S) -> ort::Result<()>,
}

impl<S: Send + Sync + 'static> Operator for Kernel<S> {
    type Kernel<'attr> = BoxedKernel<'attr>;

    fn name(&self) -> &str {
        self.name
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        self.inputs
            .iter()
            .map(|&element| OperatorInput::required(element))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        (0..self.outputs).map(|_| OperatorOutput::required(TensorElementType::Float32))
    }

    fn create_kernel<'attr>(&self, info: &KernelContext<'attr>) -> ort::Result<BoxedKernel<'attr>> {
        let settings = (self.read)(info)?;
        let compute = self.compute;
        Ok(Box::new(move |context: &ComputeContext| {
            guarded(|| compute(context, &settings))
        }))
    }
}

/// Attribute `name` as `N` numbers that are not negative.
pub(super) fn list<const N: usize>(
    info: &KernelContext<'_>,
    name: &str,
) -> ort::Result<[usize; N]> {
    info.get::<Vec<i64>>(name)
        .map(|values| values.into_iter().map(|v| v.max(0) as usize).collect())
        .and_then(|values: Vec<usize>| values.try_into().ok())
        .ok_or_else(|| misuse(&format!("expected the attribute {name} of {N} numbers")))
}

/// Attributes of an operator that looks at an image through a window.
pub(super) struct Geometry {
    pub kernel: [usize; 2],
    pub strides: [usize; 2],
    /// Top, left, bottom, right.
    pub pads: [usize; 4],
    pub dilations: [usize; 2],
}

impl Geometry {
    pub fn read(info: &KernelContext<'_>) -> ort::Result<Self> {
        Ok(Self {
            kernel: list(info, "kernel")?,
            strides: list(info, "strides")?,
            pads: list(info, "pads")?,
            dilations: list(info, "dilations")?,
        })
    }
}

/// A mistake in how a graph uses one of our operators.
pub(super) fn misuse(what: &str) -> ort::Error {
    ort::Error::new(what.to_owned())
}

/// Operand `index`, which the graph always gives.
pub(super) fn operand(context: &ComputeContext, index: usize) -> ort::Result<ValueRef<'_>> {
    context
        .input(index)?
        .ok_or_else(|| ort::Error::new(format!("operand {index} is missing")))
}

/// The `N` axes of an operand.
pub(super) fn axes<const N: usize>(shape: &[i64]) -> ort::Result<[usize; N]> {
    <[i64; N]>::try_from(shape)
        .map(|shape| shape.map(|length| length as usize))
        .map_err(|_| misuse(&format!("expected {N} axes, found {shape:?}")))
}

/// Runs `body`; a panic becomes an error, since it must not cross into C.
fn guarded(body: impl FnOnce() -> ort::Result<()>) -> ort::Result<()> {
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
