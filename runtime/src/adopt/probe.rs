//! Runs on noise, which show what no header says: the stride, and what kind of numbers come out.

use super::{Report, Standing, unsure};
use crate::model::{CtcModel, ModelState, OrtModel, OrtOptions};
use crate::spec::{FrontEnd, ModelSpec, OutputValues};
use crate::{Error, ErrorKind, Library, Result};
use ndarray::Array2;

/// How far the sum of an output's probabilities may be from one.
const NORMALIZED: f64 = 2e-2;

/// What runs showed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measured {
    /// Feature frames per output frame.
    stride: Option<usize>,
    /// What the numbers are.
    values: OutputValues,
}

/// Runs the stamped model on noise of two lengths, or of its only one.
pub(super) fn run(library: &Library, stamped: &[u8], report: &mut Report) -> Result<Measured> {
    let model = OrtModel::from_bytes(
        library,
        stamped.to_vec(),
        &OrtOptions::default().with_pool(1),
    )?;
    let spec = model.spec();
    let exact = spec.streaming.as_ref().map(|streaming| {
        let frames = streaming.chunk_frames + streaming.overlap_frames;
        (frames, streaming.chunk_frames)
    });
    let lengths: Vec<(usize, usize)> = match (model.fixed_frames(), exact, &spec.front_end) {
        (_, Some(exact), _) => vec![exact],
        (Some(fixed), None, _) => vec![(fixed, fixed)],
        (None, None, FrontEnd::Waveform(wave)) => {
            let second = (wave.sample_rate as usize).max(wave.shortest);
            vec![(second, second), (3 * second, 3 * second)]
        }
        (None, None, _) => vec![(320, 320), (960, 960)],
    };
    let mut outputs = Vec::new();
    let mut state = ModelState::start(spec);
    for &(frames, _) in &lengths {
        let noise = noise(frames, spec);
        let scores = model
            .run(noise.view(), &mut state)
            .map_err(|e| explained(e, spec))?;
        outputs.push(scores);
    }
    let stride = match (outputs.as_slice(), lengths.as_slice()) {
        ([one], [(_, advance)]) => (one.nrows() > 0 && advance.is_multiple_of(one.nrows()))
            .then(|| advance / one.nrows().max(1)),
        ([short, long], [(from, _), (to, _)]) => {
            let steps = long.nrows().saturating_sub(short.nrows());
            let frames = to - from;
            let stride = (frames as f64 / steps.max(1) as f64).round() as usize;
            // Edges cost an output frame at most.
            (steps > 0 && (frames / stride.max(1)).abs_diff(steps) <= 1).then_some(stride)
        }
        _ => None,
    };
    let counts: Vec<String> = (lengths.iter().zip(&outputs))
        .map(|((frames, _), scores)| {
            format!(
                "{frames} frames give {} x {}",
                scores.nrows(),
                scores.ncols()
            )
        })
        .collect();
    report.found("probe run", counts.join(", "));
    Ok(Measured {
        stride,
        values: kind(&outputs),
    })
}

/// Noise like the features of a model, the same every time.
fn noise(frames: usize, spec: &ModelSpec) -> Array2<f32> {
    let mut state = 1u32;
    let (gain, offset) = match &spec.front_end {
        FrontEnd::LogMel(mel) if mel.normalization.streams() => {
            (2.0, 0.5 * spec.front_end.silence())
        }
        _ => (1.0, 0.0),
    };
    Array2::from_shape_fn((frames, spec.front_end.features()), |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        gain * ((state >> 8) as f32 / (1 << 23) as f32 - 1.0) + offset
    })
}

fn explained(error: Error, spec: &ModelSpec) -> Error {
    match error.kind() {
        ErrorKind::Spec => unsure(format!(
            "the probe run does not fit {} tokens: {error}; check the list of tokens and the layout",
            spec.tokens.pieces.len()
        )),
        _ => error,
    }
}

/// What kind of numbers the outputs are: probabilities and their logarithms sum to one at every frame.
fn kind(outputs: &[Array2<f32>]) -> OutputValues {
    let every = |holds: &dyn Fn(&[f64]) -> bool| {
        outputs
            .iter()
            .flat_map(|scores| scores.outer_iter())
            .all(|row| {
                let row: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
                holds(&row)
            })
    };
    let one = |sum: f64| (sum - 1.0).abs() < NORMALIZED;
    if every(&|row| row.iter().all(|x| *x >= -1e-6) && one(row.iter().sum())) {
        OutputValues::Probs
    } else if every(&|row| one(row.iter().map(|x| x.exp()).sum())) {
        OutputValues::LogProbs
    } else {
        OutputValues::Logits
    }
}

/// The spec with what was measured: a stride that was said to be another is refused, one that was assumed is replaced.
pub(super) fn settle(
    mut spec: ModelSpec,
    measured: &Measured,
    report: &mut Report,
) -> Result<ModelSpec> {
    let noted = report.about("stride").map(|note| note.standing);
    match (measured.stride, noted) {
        (Some(stride), Some(Standing::Given | Standing::Found)) if stride != spec.stride => {
            return Err(unsure(format!(
                "the stride was said to be {}, but the probe run shows {stride}",
                spec.stride
            )));
        }
        (Some(stride), _) => {
            report.found("stride", format!("{stride} feature frames an output frame"));
            spec.stride = stride;
        }
        (None, Some(Standing::Given)) => {}
        (None, _) => {
            return Err(unsure(
                "the probe run shows no whole number of feature frames an output frame: say `stride` in a preset",
            ));
        }
    }
    if let FrontEnd::Line(line) = &mut spec.front_end {
        // A multiple that suited the assumed stride may not suit the measured one.
        if !line.multiple.is_multiple_of(spec.stride) {
            line.multiple = 1;
        }
    }
    let said = spec.graph.output_values;
    let normalized = measured.values != OutputValues::Logits;
    if normalized && said != measured.values {
        report.found(
            "output values",
            format!("{:?}, not {said:?}", measured.values),
        );
        spec.graph.output_values = measured.values;
    } else if !normalized && said != OutputValues::Logits {
        report.found(
            "output values",
            format!("Logits, not {said:?}: no frame sums to one"),
        );
        spec.graph.output_values = OutputValues::Logits;
    } else {
        report.found("output values", format!("{said:?}"));
    }
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn kinds_of_numbers_are_told_apart() {
        let probs = array![[0.7, 0.2, 0.1], [0.0, 1.0, 0.0]];
        assert_eq!(kind(std::slice::from_ref(&probs)), OutputValues::Probs);
        assert_eq!(kind(&[probs.mapv(f32::ln)]), OutputValues::LogProbs);
        assert_eq!(kind(&[array![[0.7, 0.2, 3.0]]]), OutputValues::Logits);
        assert_eq!(kind(&[array![[0.7, 0.2, -0.1]]]), OutputValues::Logits);
    }
}
