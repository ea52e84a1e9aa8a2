//! From a run to one self-describing ONNX file: the deployed form of the student with batch norm folded, the
//! model spec stamped in, verified through the runtime before it is written.

use crate::config::Recipe;
use crate::graph::exec::{Engine, ParameterStore};
use crate::graph::{ExportNames, emit};
use crate::nn::{Form, Net};
use crate::pipeline::Settled;
use crate::student::Student;
use crate::train::checkpoint::{Checkpoint, write_atomically};
use crate::train::pack::{Packer, Utterance};
use crate::train::run::{best_path, fold};
use crate::train::step::EvaluationStep;
use crate::{Error, ErrorKind, Result};
use acolyte::model::{CtcModel, Library, OrtModel, OrtOptions, Sequence};
use acolyte::spec::{
    GraphSpec, InputLayout, ModelSpec, OutputLayout, OutputValues, Role, SPEC_VERSION, StateSpec,
    StreamingSpec,
};
use half::f16;
use ndarray::Array2;
use prost::Message;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

/// Feature frames of a live chunk: 160 ms, a compromise between delay and cost a run.
const CHUNK_FRAMES: usize = 16;

/// Largest difference allowed between the exported file and the trainer's own forward, in logits.
pub const TOLERANCE: f32 = 1e-4;

/// What an export found.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// Size of `model.onnx` in bytes.
    pub bytes: usize,
    /// Number of parameters after folding.
    pub parameters: usize,
    /// SHA-256 that the spec carries.
    pub sha256: String,
    /// Largest difference from the trainer's forward, in logits.
    pub difference: f32,
}

/// Exports the best weights of the run in `folder` into `out`: `model.onnx`, `weights.safetensors`,
/// `recipe.toml`, `metrics.json`.
///
/// # Errors
/// [`ErrorKind::Export`] where the file does not reproduce the trainer's forward within [`TOLERANCE`]; nothing is
/// written then.
pub fn export(
    library: &Library,
    folder: &Path,
    out: &Path,
    about: BTreeMap<String, String>,
) -> Result<Exported> {
    let overrides: [&str; 0] = [];
    let recipe = Recipe::load(folder.join("recipe.toml"), &overrides)?;
    let settled = Settled::load(folder)?;
    let student = settled.student(&recipe);
    let weights = Checkpoint::load(&best_path(folder))?;
    let engine = Engine::new(library, 1);
    let get = |name: &str| {
        weights
            .tensors
            .get(name)
            .map(|(_, data)| data.as_slice())
            .ok_or_else(|| Error::new(ErrorKind::Checkpoint, format!("{name} is missing")))
    };
    let folded = fold(&engine, &student, get)?;
    let (spec, model) = build(&recipe, &settled, &student, &folded, about)?;
    let stamped = spec.stamp(&model)?;
    let difference = verify(library, &engine, &student, &folded, &stamped)?;
    if difference.is_nan() || difference > TOLERANCE {
        return Err(Error::new(
            ErrorKind::Export,
            format!(
                "the exported model differs from the trained one by {difference} in logits, at most {TOLERANCE} is \
                 allowed: nothing was written"
            ),
        ));
    }
    std::fs::create_dir_all(out).map_err(|error| Error::io(out, error))?;
    write_atomically(&out.join("model.onnx"), &stamped)?;
    write_atomically(&out.join("weights.safetensors"), &half_weights(&weights)?)?;
    write_atomically(&out.join("recipe.toml"), recipe.to_toml()?.as_bytes())?;
    write_atomically(&out.join("metrics.json"), &epochs(folder)?)?;
    Ok(Exported {
        bytes: stamped.len(),
        parameters: folded.elements(),
        sha256: ModelSpec::read(&stamped)?.sha256,
        difference,
    })
}

/// The epochs of a run's metrics as one JSON array, a line each.
fn epochs(folder: &Path) -> Result<Vec<u8>> {
    let path = folder.join("metrics.jsonl");
    let text = std::fs::read_to_string(&path).map_err(|error| Error::io(&path, error))?;
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| {
            // A killed run may have left half a line.
            serde_json::from_str::<serde_json::Value>(line)
                .is_ok_and(|record| record.get("development").is_some())
        })
        .collect();
    Ok(format!("[\n{}\n]\n", lines.join(",\n")).into_bytes())
}

/// The spec and the unstamped ONNX bytes.
fn build(
    recipe: &Recipe,
    settled: &Settled,
    student: &Student,
    folded: &ParameterStore,
    about: BTreeMap<String, String>,
) -> Result<(ModelSpec, Vec<u8>)> {
    let stride = student.stride();
    let chunk = CHUNK_FRAMES.next_multiple_of(stride);
    let mut net = Net::new(&recipe.name, Form::Stream);
    let built = student.build(&mut net, chunk)?;
    net.graph.output("logits", built.logits)?;
    let mut names = ExportNames::default();
    let dimension =
        |value: &str, axis: usize, name: &str| ((value.to_owned(), axis), name.to_owned());
    names.dynamic.extend([
        dimension("features", 0, "batch"),
        dimension("features", 3, "time"),
        dimension("logits", 0, "batch"),
        dimension("logits", 3, "output_time"),
    ]);
    for state in net.states() {
        names.dynamic.extend([
            dimension(&state.input, 0, "batch"),
            dimension(&state.output, 0, "batch"),
        ]);
    }
    let mut embedded = HashMap::new();
    for name in folded.names() {
        embedded.insert(name.clone(), folded.get(name)?.to_vec());
    }
    names.embedded = embedded;
    let spec = ModelSpec {
        version: SPEC_VERSION,
        name: recipe.name.clone(),
        task: recipe.task,
        role: Role::Student,
        license: recipe.license.clone(),
        sha256: String::new(),
        about,
        tokens: settled.tokens.clone(),
        front_end: settled.front_end.clone(),
        graph: GraphSpec {
            input: "features".to_owned(),
            input_layout: match student {
                Student::Speech(_) => InputLayout::BF1T,
                Student::Text(_) => InputLayout::BCHT,
            },
            input_length: None,
            output: "logits".to_owned(),
            output_layout: OutputLayout::BV1T,
            output_values: OutputValues::Logits,
        },
        stride,
        streaming: matches!(student, Student::Speech(_)).then(|| StreamingSpec {
            chunk_frames: chunk,
            delay_frames: student.delay(),
            flush_value: 0.0,
            state: net
                .states()
                .iter()
                .map(|state| StateSpec {
                    input: state.input.clone(),
                    output: state.output.clone(),
                    shape: state.shape.clone(),
                })
                .collect(),
        }),
    };
    Ok((spec, emit(&net.graph, &names)?.encode_to_vec()))
}

/// Runs numbers through the stamped file by the runtime, in blocks, and through the trainer's evaluation form;
/// returns the largest difference in logits.
fn verify(
    library: &Library,
    engine: &Engine,
    student: &Student,
    folded: &ParameterStore,
    stamped: &[u8],
) -> Result<f32> {
    let stride = student.stride();
    let frames = 6 * student.receptive_field() * stride;
    // Speech is cut anywhere; the front-end of images pads to whole strides.
    let frames = match student {
        Student::Speech(_) => frames + 5,
        Student::Text(_) => frames,
    };
    let packer = Packer {
        width: (frames + (student.delay() + 1) * stride).next_multiple_of(stride),
        features: student.features(),
        stride,
        gap: student.gap(),
        delay: student.delay(),
        most: 1,
    };
    // A reproducible signal with the spread of normalized features.
    let features = Array2::from_shape_fn((student.features(), frames), |(f, t)| {
        let phase = (t * (f + 3)) as f32 * 0.037 + f as f32;
        phase.sin() + 0.5 * (phase * 2.7).cos()
    });
    let mut row = packer.row();
    let utterance = Utterance {
        targets: Vec::new(),
        name: "verification".to_owned(),
        index: 0,
    };
    packer.place(&mut row, features.view(), utterance)?;
    let mut step = EvaluationStep::new(engine, student, &packer, folded)?;
    let expected = step.run(&row)?.remove(0);
    let model = OrtModel::from_bytes(library, stamped.to_vec(), &OrtOptions::default())?;
    let model: Arc<dyn CtcModel> = Arc::new(model);
    let mut difference = 0.0f32;
    for block in [CHUNK_FRAMES, 100 * stride] {
        let mut sequence = Sequence::new(model.clone(), block);
        let mut found = Vec::new();
        found.extend(sequence.push(features.t())?);
        found.extend(sequence.finish()?);
        if found.len() != expected.len() {
            return Err(Error::new(
                ErrorKind::Export,
                format!(
                    "the exported model gives {} scores, the trained one {}",
                    found.len(),
                    expected.len()
                ),
            ));
        }
        for (a, b) in found.iter().zip(&expected) {
            let distance = (a - b).abs();
            if distance.is_nan() || distance > difference {
                difference = distance;
            }
        }
    }
    Ok(difference)
}

/// The unfolded weights to start other trainings from: kernels as f16, scales, biases and statistics as f32.
fn half_weights(weights: &Checkpoint) -> Result<Vec<u8>> {
    let raw: Vec<(&String, &Vec<usize>, Dtype, Vec<u8>)> = weights
        .tensors
        .iter()
        .map(|(name, (shape, data))| {
            if shape.len() > 1 {
                let bytes = data
                    .iter()
                    .flat_map(|&v| f16::from_f32(v).to_le_bytes())
                    .collect();
                (name, shape, Dtype::F16, bytes)
            } else {
                let bytes = data.iter().flat_map(|v| v.to_le_bytes()).collect();
                (name, shape, Dtype::F32, bytes)
            }
        })
        .collect();
    let fail = |error: safetensors::SafeTensorError| {
        Error::new(ErrorKind::Export, format!("weights.safetensors: {error}"))
    };
    let views = raw
        .iter()
        .map(|(name, shape, dtype, data)| {
            Ok((
                name.as_str(),
                TensorView::new(*dtype, (*shape).clone(), data).map_err(fail)?,
            ))
        })
        .collect::<Result<Vec<_>>>()?;
    safetensors::serialize(views, None).map_err(fail)
}
