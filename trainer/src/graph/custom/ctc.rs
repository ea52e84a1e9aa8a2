//! The CTC loss of a packed batch as one node: loss and gradient together, utterances in parallel.
//!
//! logits `[B, V, 1, T]`; segments i32 `[S, 3]` of (row, first frame, frames), rows with 0 frames unused; targets
//! i32 `[S, L]` padded with -1; weights `[S]`. Gives the weighted sum `[]`, the losses `[S]` and the gradient of
//! the sum, in the logits' shape, zero outside the segments. An infeasible segment has loss infinity, and counts
//! neither in the sum nor in the gradient.

use super::kernel::{axes4, guarded, operand, parallel};
use crate::loss::ctc::{Scratch, ctc};
use ort::operator::{
    BoxedKernel, ComputeContext, KernelContext, Operator, OperatorInput, OperatorOutput,
};
use ort::value::TensorElementType::{Float32, Int32};

pub(super) struct CtcLoss;

impl Operator for CtcLoss {
    type Kernel<'attr> = BoxedKernel<'attr>;

    fn name(&self) -> &str {
        "CtcLoss"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [Float32, Int32, Int32, Float32].map(OperatorInput::required)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [(); 3].map(|()| OperatorOutput::required(Float32))
    }

    fn create_kernel<'attr>(&self, info: &KernelContext<'attr>) -> ort::Result<BoxedKernel<'attr>> {
        let blank: i64 = info
            .get("blank")
            .ok_or_else(|| ort::Error::new("CtcLoss wants the attribute blank"))?;
        Ok(Box::new(move |context: &ComputeContext| {
            guarded(|| compute(context, blank as usize))
        }))
    }
}

/// One utterance: where it stands, what it says, and its logits `[frames, V]`, later its gradient.
struct Segment {
    row: usize,
    start: usize,
    frames: usize,
    targets: Vec<u32>,
    values: Vec<f32>,
    loss: f32,
}

fn compute(context: &ComputeContext, blank: usize) -> ort::Result<()> {
    let inputs = [0, 1, 2, 3].map(|index| operand(context, index));
    let [logits, segments, targets, weights] = inputs;
    let (logits, segments, targets, weights) = (logits?, segments?, targets?, weights?);
    let (shape, logits) = logits.try_extract_tensor::<f32>()?;
    let [rows, vocabulary, _, frames] = axes4(shape)?;
    let (_, segments) = segments.try_extract_tensor::<i32>()?;
    let (target_shape, targets) = targets.try_extract_tensor::<i32>()?;
    let (_, weights) = weights.try_extract_tensor::<f32>()?;
    let longest = target_shape.last().map_or(0, |&n| n as usize);
    let mut jobs = Vec::with_capacity(weights.len());
    for (index, place) in segments.chunks_exact(3).enumerate() {
        let &[row, start, length] = place else {
            continue;
        };
        let (row, start, length) = (row as usize, start as usize, length as usize);
        if length > frames || start > frames - length || row >= rows {
            return Err(ort::Error::new(format!(
                "CTC segment {index} ({place:?}) lies outside logits of {rows} rows and {frames} frames"
            )));
        }
        jobs.push(Segment {
            row,
            start,
            frames: length,
            targets: targets[index * longest..][..longest]
                .iter()
                .take_while(|&&symbol| symbol >= 0)
                .map(|&symbol| symbol as u32)
                .collect(),
            values: Vec::new(),
            loss: 0.0,
        });
    }
    parallel(
        context,
        jobs.iter_mut().filter(|job| job.frames > 0).collect(),
        |job| {
            job.values = vec![0.0; job.frames * vocabulary];
            for symbol in 0..vocabulary {
                let source = &logits[(job.row * vocabulary + symbol) * frames + job.start..];
                for (target, &value) in job.values[symbol..]
                    .iter_mut()
                    .step_by(vocabulary)
                    .zip(&source[..job.frames])
                {
                    *target = value;
                }
            }
            let mut scratch = Scratch::default();
            job.loss = ctc(
                &mut job.values,
                vocabulary,
                &job.targets,
                blank,
                &mut scratch,
            );
        },
    )?;
    let missing = || ort::Error::new("CtcLoss has three outputs");
    let mut total = context.output(0, [0usize; 0])?.ok_or_else(missing)?;
    let mut losses = context.output(1, [weights.len()])?.ok_or_else(missing)?;
    let mut gradient = context.output(2, shape.to_vec())?.ok_or_else(missing)?;
    let (_, total) = total.try_extract_tensor_mut::<f32>()?;
    let (_, losses) = losses.try_extract_tensor_mut::<f32>()?;
    let (_, gradient) = gradient.try_extract_tensor_mut::<f32>()?;
    let mut sum = 0.0f64;
    for ((out, job), &weight) in losses.iter_mut().zip(&jobs).zip(weights) {
        *out = job.loss;
        // An infeasible target is left out; a NaN must show.
        if !job.loss.is_infinite() {
            sum += f64::from(job.loss) * f64::from(weight);
        }
    }
    total[0] = sum as f32;
    let lines: Vec<_> = gradient
        .chunks_exact_mut(frames.max(1))
        .enumerate()
        .collect();
    parallel(context, lines, |(line, out)| {
        let (row, symbol) = (line / vocabulary, line % vocabulary);
        out.fill(0.0);
        for (job, &weight) in jobs.iter().zip(weights) {
            if job.row == row && job.frames > 0 && job.loss.is_finite() {
                let values = job.values[symbol..].iter().step_by(vocabulary);
                for (out, &value) in out[job.start..][..job.frames].iter_mut().zip(values) {
                    *out = value * weight;
                }
            }
        }
    })
}
