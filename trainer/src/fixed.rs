//! A model file with fixed shapes, as mobile providers take it: NNAPI and CoreML compile a graph for one batch and one
//! number of frames.
//!
//! The named dimensions of inputs and outputs become numbers; nodes and weights stay as they are. The new file is held
//! against the old one, item by item, before it is handed out.

use crate::export::TOLERANCE;
use crate::onnx::proto::{Dimension, ModelProto, ValueInfoProto};
use crate::{Error, ErrorKind, Result};
use acolyte::model::{CtcModel, Library, ModelState, OrtModel, OrtOptions};
use acolyte::spec::{FrontEnd, ModelSpec};
use ndarray::{Array2, ArrayView2};
use prost::Message;

/// The sizes to fix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedShape {
    /// Items of a run. Fewer are filled up with zeros by the runtime.
    pub batch: usize,
    /// Feature frames of a run: the chunk of a model that streams, the width of a line.
    pub frames: usize,
}

/// A model with fixed shapes.
#[derive(Debug, Clone, PartialEq)]
pub struct Fixed {
    /// The stamped file.
    pub bytes: Vec<u8>,
    /// Largest difference from the file it was made of, in logits.
    pub difference: f32,
}

/// Most items of a run.
const MOST_ITEMS: usize = 256;

/// The stamped file `model` with fixed shapes.
///
/// # Errors
/// [`ErrorKind::Export`] for a model that neither streams nor reads lines, one whose shapes are fixed already, sizes that
/// its front-end does not give, and where the result differs from `model` by more than [`TOLERANCE`]; those of the
/// runtime for a file that is none.
pub fn fix(library: &Library, model: &[u8], shape: FixedShape) -> Result<Fixed> {
    let mut spec = ModelSpec::read(model)?;
    check(&spec, shape)?;
    let options = OrtOptions::default().with_pool(1);
    let free = OrtModel::from_bytes(library, model.to_vec(), &options)?;
    if free.fixed_frames().is_some() {
        return refuse(
            "the file's shapes are fixed already: give the one it was made of".to_owned(),
        );
    }
    let expected = runs(&free, shape, 1)?;
    let steps = expected.first().map_or(0, |scores| scores.nrows());
    let mut proto = ModelProto::decode(model)
        .map_err(|e| Error::new(ErrorKind::Export, format!("the model does not parse: {e}")))?;
    let graph = proto.graph.get_or_insert_default();
    for value in graph.input.iter_mut().chain(&mut graph.output) {
        fix_dimensions(value, shape, steps);
    }
    if let Some(streaming) = &mut spec.streaming {
        streaming.chunk_frames = shape.frames;
    }
    let bytes = spec.stamp(&proto.encode_to_vec())?;
    let fixed = OrtModel::from_bytes(library, bytes.clone(), &options)?;
    let found = runs(&fixed, shape, shape.batch)?;
    let difference = (expected.iter().flatten())
        .zip(found.iter().flatten())
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |most: f32, d| {
            if d.is_nan() {
                f32::INFINITY
            } else {
                most.max(d)
            }
        });
    let same_sizes = expected
        .iter()
        .map(Array2::dim)
        .eq(found.iter().map(Array2::dim));
    if !same_sizes || difference > TOLERANCE {
        return refuse(format!(
            "with fixed shapes the model differs by {difference} in logits, at most {TOLERANCE} is allowed"
        ));
    }
    Ok(Fixed { bytes, difference })
}

fn refuse<T>(message: String) -> Result<T> {
    Err(Error::new(ErrorKind::Export, message))
}

fn check(spec: &ModelSpec, shape: FixedShape) -> Result<()> {
    let FixedShape { batch, frames } = shape;
    if !(1..=MOST_ITEMS).contains(&batch) {
        return refuse(format!(
            "a batch of {batch}: 1 to {MOST_ITEMS} are expected"
        ));
    }
    let (multiple, least, most) = match (&spec.front_end, &spec.streaming) {
        (FrontEnd::Line(line), _) => (line.multiple, line.min_width, line.max_width),
        (_, Some(_)) if spec.graph.label.is_none() => (spec.stride, spec.stride, 1 << 14),
        _ => {
            return refuse(format!(
                "model {:?} takes whole utterances, which have all lengths: only models that stream, and those of \
                 images, can have fixed shapes",
                spec.name
            ));
        }
    };
    if !(least..=most).contains(&frames) || !frames.is_multiple_of(multiple) {
        return refuse(format!(
            "{frames} frames a run: a multiple of {multiple} from {least} to {most} is expected"
        ));
    }
    Ok(())
}

fn fix_dimensions(value: &mut ValueInfoProto, shape: FixedShape, steps: usize) {
    let tensor = value.r#type.as_mut().and_then(|t| t.tensor_type.as_mut());
    let dimensions = tensor.and_then(|t| t.shape.as_mut()).map(|s| &mut s.dim);
    for dimension in dimensions.into_iter().flatten() {
        let Some(Dimension::Named(name)) = &dimension.value else {
            continue;
        };
        let size = match name.as_str() {
            "batch" => shape.batch,
            "time" => shape.frames,
            _ => steps,
        };
        dimension.value = Some(Dimension::Fixed(size as i64));
    }
}

/// Scores of three runs in a row, `batch` items at a time, each item with a signal and a state of its own.
fn runs(model: &OrtModel, shape: FixedShape, batch: usize) -> Result<Vec<Array2<f32>>> {
    let features = model.spec().front_end.features();
    // A reproducible signal with the spread of normalized features.
    let signal = |item: usize, run: usize| {
        Array2::from_shape_fn((shape.frames, features), |(t, f)| {
            let phase = ((t + run * shape.frames) * (f + 3 + item)) as f32 * 0.037 + f as f32;
            phase.sin() + 0.5 * (phase * 2.7).cos()
        })
    };
    let mut states = vec![ModelState::start(model.spec()); shape.batch];
    let mut out = Vec::new();
    for run in 0..3 {
        let signals: Vec<Array2<f32>> = (0..shape.batch).map(|item| signal(item, run)).collect();
        let mut blocks: Vec<(ArrayView2<'_, f32>, &mut ModelState)> =
            signals.iter().map(|s| s.view()).zip(&mut states).collect();
        for blocks in blocks.chunks_mut(batch) {
            out.extend(model.run_batch(blocks)?);
        }
    }
    Ok(out)
}
