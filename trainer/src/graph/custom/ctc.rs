//! The CTC loss of a packed batch as one node: loss and gradient together, utterances in parallel.
//!
//! logits `[B, V, 1, T]`; segments i32 `[S, 3]` of (row, first frame, frames), rows with 0 frames unused; targets
//! i32 `[S, L]` padded with -1; weights `[S]`. Gives the weighted sum `[]`, the losses `[S]` and the gradient of
//! the sum, in the logits' shape, zero outside the segments. An infeasible segment has loss infinity, and counts
//! neither in the sum nor in the gradient.

use super::kernel::{Kernel, axes, misuse, operand, parallel};
use crate::loss::ctc::{Scratch, ctc};
use ort::operator::ComputeContext;
use ort::value::TensorElementType::{Float32, Int32};

pub(super) const LOSS: Kernel<usize> = Kernel {
    name: "CtcLoss",
    inputs: &[Float32, Int32, Int32, Float32],
    outputs: 3,
    read: |info| {
        info.get("blank")
            .and_then(|blank: i64| usize::try_from(blank).ok())
            .ok_or_else(|| misuse("CtcLoss wants the attribute blank"))
    },
    compute,
};

/// One utterance: what it says, its logits, and where its gradient goes, one slice a symbol.
struct Segment<'a> {
    targets: Vec<u32>,
    weight: f32,
    logits: Vec<&'a [f32]>,
    gradient: Vec<&'a mut [f32]>,
    loss: f32,
}

/// The frames of a segment in its row.
#[derive(Clone, Copy)]
struct Place {
    row: usize,
    start: usize,
    frames: usize,
}

/// The places of `segments [S, 3]`, checked to lie inside `rows` rows of `frames` frames.
fn places(segments: &[i32], rows: usize, frames: usize) -> ort::Result<Vec<Place>> {
    let read = |(index, place): (usize, &[i32; 3])| {
        let [row, start, length] = place.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        if length > frames || start > frames - length || row >= rows {
            return Err(ort::Error::new(format!(
                "CTC segment {index} ({place:?}) lies outside logits of {rows} rows and {frames} frames"
            )));
        }
        Ok(Place {
            row,
            start,
            frames: length,
        })
    };
    let segments = segments.as_chunks::<3>().0;
    segments.iter().enumerate().map(read).collect()
}

fn compute(context: &ComputeContext, &blank: &usize) -> ort::Result<()> {
    let inputs = [0, 1, 2, 3].map(|index| operand(context, index));
    let [logits, segments, targets, weights] = inputs;
    let (logits, segments, targets, weights) = (logits?, segments?, targets?, weights?);
    let (shape, logits) = logits.try_extract_tensor::<f32>()?;
    let [rows, vocabulary, _, frames] = axes(shape)?;
    let (_, segments) = segments.try_extract_tensor::<i32>()?;
    let (target_shape, targets) = targets.try_extract_tensor::<i32>()?;
    let (_, weights) = weights.try_extract_tensor::<f32>()?;
    let longest = target_shape.last().map_or(0, |&n| n as usize);
    let places = places(segments, rows, frames)?;
    let missing = || misuse("CtcLoss has three outputs");
    let mut total = context.output(0, [0usize; 0])?.ok_or_else(missing)?;
    let mut losses = context.output(1, [weights.len()])?.ok_or_else(missing)?;
    let mut gradient = context.output(2, shape.to_vec())?.ok_or_else(missing)?;
    let (_, total) = total.try_extract_tensor_mut::<f32>()?;
    let (_, losses) = losses.try_extract_tensor_mut::<f32>()?;
    let (_, gradient) = gradient.try_extract_tensor_mut::<f32>()?;
    let mut jobs: Vec<Segment<'_>> = weights
        .iter()
        .enumerate()
        .map(|(index, &weight)| Segment {
            targets: targets[index * longest..][..longest]
                .iter()
                .map_while(|&symbol| u32::try_from(symbol).ok())
                .collect(),
            weight,
            logits: Vec::with_capacity(vocabulary),
            gradient: Vec::with_capacity(vocabulary),
            loss: 0.0,
        })
        .collect();
    let mut order: Vec<usize> = (0..places.len())
        .filter(|&i| places[i].frames > 0)
        .collect();
    order.sort_by_key(|&i| (places[i].row, places[i].start));
    // Every line is one symbol of one row: its segments take their parts, what is between them has no gradient.
    let lines = logits.chunks_exact(frames.max(1));
    for (line, (values, mut out)) in lines
        .zip(gradient.chunks_exact_mut(frames.max(1)))
        .enumerate()
    {
        let first = order.partition_point(|&i| places[i].row < line / vocabulary);
        let mut done = 0;
        for &index in &order[first..] {
            let place = places[index];
            if place.row != line / vocabulary {
                break;
            }
            let Some(gap) = place.start.checked_sub(done) else {
                return Err(ort::Error::new(format!(
                    "CTC segment {index} overlaps the one before it in row {}",
                    place.row
                )));
            };
            let (between, from) = std::mem::take(&mut out).split_at_mut(gap);
            between.fill(0.0);
            let (own, after) = from.split_at_mut(place.frames);
            jobs[index]
                .logits
                .push(&values[place.start..][..place.frames]);
            jobs[index].gradient.push(own);
            out = after;
            done = place.start + place.frames;
        }
        out.fill(0.0);
    }
    let used = jobs.iter_mut().filter(|job| !job.logits.is_empty());
    parallel(context, used.collect(), |job| {
        let scratch = &mut Scratch::default();
        job.loss = ctc(
            &job.logits,
            &mut job.gradient,
            &job.targets,
            blank,
            job.weight,
            scratch,
        );
    })?;
    let mut sum = 0.0f64;
    for (out, job) in losses.iter_mut().zip(&jobs) {
        *out = job.loss;
        // An infeasible target is left out; a NaN must show.
        if !job.loss.is_infinite() {
            sum += f64::from(job.loss) * f64::from(job.weight);
        }
    }
    total[0] = sum as f32;
    Ok(())
}
