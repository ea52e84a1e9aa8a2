//! From a run to one self-describing ONNX file: the streaming form of a causal student of speech, or the form for whole
//! items of any other network, with batch norm folded, the model spec stamped in, verified through the runtime
//! before it is written. An oracle teacher has a second input, the transcript, padded to a fixed length.

use crate::config::{Context, Recipe};
use crate::graph::exec::{Engine, ParameterStore};
use crate::graph::{ExportNames, emit};
use crate::network::{Network, fold};
use crate::nn::{Form, Net};
use crate::onnx::Storage;
use crate::pipeline::Settled;
use crate::teacher::OracleTeacher;
use crate::train::checkpoint::{Checkpoint, write_atomically};
use crate::train::pack::{Packer, Utterance};
use crate::train::run::best_path;
use crate::train::step::{EvaluationStep, Extras};
use crate::{Error, ErrorKind, Result};
use acolyte::model::{CtcModel, Library, ModelState, OrtModel, OrtOptions, Sequence};
use acolyte::spec::{
    FrontEnd, GraphSpec, InputLayout, LabelSpec, ModelSpec, OutputLayout, OutputValues, Role,
    SPEC_VERSION, StateSpec, StreamingSpec,
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

/// How a run is exported.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExportOptions {
    /// Remarks kept in the spec.
    pub about: BTreeMap<String, String>,
    /// How the file stores its weights.
    pub storage: Storage,
}

/// Exports the best weights of the run in `folder` into `out`: `model.onnx`, `weights.safetensors`,
/// `recipe.toml`, `metrics.json`.
///
/// Weights that the file stores in fewer bits are rounded before the file is held against the trainer's forward: what
/// rounding costs in error rate, `acolyte score` tells.
///
/// # Errors
/// [`ErrorKind::Export`] where the file does not reproduce the trainer's forward within [`TOLERANCE`]; nothing is
/// written then.
pub fn export(
    library: &Library,
    folder: &Path,
    out: &Path,
    options: &ExportOptions,
) -> Result<Exported> {
    let overrides: [&str; 0] = [];
    let recipe = Recipe::load(folder.join("recipe.toml"), &overrides)?;
    let settled = Settled::load(folder)?;
    let weights = Checkpoint::load(&best_path(folder))?;
    let engine = Engine::new(library, 1);
    let get = |name: &str| {
        weights
            .tensors
            .get(name)
            .map(|(_, data)| data.as_slice())
            .ok_or_else(|| Error::new(ErrorKind::Checkpoint, format!("{name} is missing")))
    };
    let network = settled.network(&recipe)?;
    let folded = fold(&engine, &*network, &get)?;
    let (spec, model) = build(&recipe, &settled, &folded, options)?;
    let mut folded = folded;
    for name in folded.names().to_vec() {
        let rounded = options
            .storage
            .round(&folded.shape(&name)?, folded.get(&name)?);
        folded.get_mut(&name)?.copy_from_slice(&rounded);
    }
    let stamped = spec.stamp(&model)?;
    let difference = verify(library, &engine, &network, &folded, &stamped)?;
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
    folded: &ParameterStore,
    options: &ExportOptions,
) -> Result<(ModelSpec, Vec<u8>)> {
    let network = settled.network(recipe)?;
    let stride = network.stride();
    let layout = match settled.front_end {
        FrontEnd::Line(_) => InputLayout::BCHT,
        _ => InputLayout::BF1T,
    };
    let streams = recipe.target.is_none()
        && layout == InputLayout::BF1T
        && recipe.model.context == Context::Causal;
    let chunk = CHUNK_FRAMES.next_multiple_of(stride);
    let form = if streams { Form::Stream } else { Form::Whole };
    let mut net = Net::new(&recipe.name, form);
    let mut label = None;
    let built = match &recipe.target {
        None => network.build(&mut net, chunk)?,
        Some(target) => {
            let teacher = OracleTeacher {
                source: settled.source(recipe)?,
                target: target.clone(),
                capacity: settled.longest,
                longest: settled.longest,
                frames: 0,
            };
            label = Some(LabelSpec {
                input: "given".to_owned(),
                length: teacher.capacity,
                padding: teacher.padding(),
            });
            teacher.build(&mut net, chunk)?
        }
    };
    net.graph.output("logits", built.logits)?;
    let mut names = ExportNames::default();
    let dimension =
        |value: &str, axis: usize, name: &str| ((value.to_owned(), axis), name.to_owned());
    names.dynamic.extend([
        dimension("features", 3, "time"),
        dimension("logits", 3, "output_time"),
    ]);
    if label.is_none() {
        names.dynamic.extend([
            dimension("features", 0, "batch"),
            dimension("logits", 0, "batch"),
        ]);
    }
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
    names.storage = options.storage;
    let streaming = StreamingSpec {
        chunk_frames: chunk,
        overlap_frames: 0,
        delay_frames: network.delay(),
        flush_value: 0.0,
        state: net
            .states()
            .iter()
            .map(|state| StateSpec::new(&state.input, &state.output, state.shape.clone()))
            .collect(),
    };
    let mut about = options.about.clone();
    if options.storage != Storage::F32 {
        about.insert("weights".to_owned(), options.storage.name().to_owned());
    }
    let spec = ModelSpec {
        version: SPEC_VERSION,
        name: recipe.name.clone(),
        task: recipe.task,
        role: match (&recipe.target, recipe.guide) {
            (Some(_), _) => Role::OracleTeacher,
            (None, true) => Role::Teacher,
            (None, false) => Role::Student,
        },
        license: recipe.license.clone(),
        sha256: String::new(),
        about,
        tokens: settled.tokens.clone(),
        front_end: settled.front_end.clone(),
        graph: GraphSpec {
            input: "features".to_owned(),
            input_layout: layout,
            input_length: None,
            label,
            given: Vec::new(),
            output: "logits".to_owned(),
            output_layout: OutputLayout::BV1T,
            output_values: OutputValues::Logits,
        },
        stride,
        streaming: streams.then_some(streaming),
    };
    Ok((spec, emit(&net.graph, &names)?.encode_to_vec()))
}

/// Runs numbers through the stamped file by the runtime, whole and where it streams in blocks, and through the
/// trainer's evaluation form; returns the largest difference in logits.
fn verify(
    library: &Library,
    engine: &Engine,
    network: &Arc<dyn Network>,
    folded: &ParameterStore,
    stamped: &[u8],
) -> Result<f32> {
    let stride = network.stride();
    let model = OrtModel::from_bytes(library, stamped.to_vec(), &OrtOptions::default())?;
    let frames = 6 * network.receptive_field() * stride;
    // Speech is cut anywhere; the front-end of images pads to whole strides.
    let frames = match model.spec().front_end {
        FrontEnd::Line(_) => frames,
        _ => frames + 5,
    };
    let packer = Packer {
        width: (frames + (network.delay() + 1) * stride).next_multiple_of(stride),
        features: network.features(),
        stride,
        gap: network.gap(),
        delay: network.delay(),
        most: 1,
        symbols: usize::MAX,
        views: 1,
    };
    // A reproducible signal with the spread of normalized features.
    let features = Array2::from_shape_fn((network.features(), frames), |(f, t)| {
        let phase = (t * (f + 3)) as f32 * 0.037 + f as f32;
        phase.sin() + 0.5 * (phase * 2.7).cos()
    });
    let room = model.spec().graph.label.as_ref().map(|label| label.length);
    let symbols = network.vocabulary() as u32 - 1;
    let targets: Vec<u32> = (0..room.unwrap_or(0) as u32 * 2 / 3)
        .map(|i| 1 + i * 7 % symbols)
        .collect();
    let mut row = packer.row();
    let utterance = Utterance {
        targets: targets.clone(),
        name: "verification".to_owned(),
        index: 0,
    };
    packer.place(&mut row, features.view(), utterance)?;
    let mut step = EvaluationStep::new(engine, network, &packer, folded, Extras::default())?;
    let expected = step.run(&row)?.remove(0);
    let flat = |scores: Array2<f32>| scores.into_iter().collect::<Vec<f32>>();
    let mut answers = Vec::new();
    if room.is_some() {
        answers.push(flat(model.run_labeled(features.t(), &targets)?));
    } else if model.spec().streaming.is_none() {
        let mut state = ModelState::start(model.spec());
        answers.push(flat(model.run(features.t(), &mut state)?));
    } else {
        let model: Arc<dyn CtcModel> = Arc::new(model);
        for block in [CHUNK_FRAMES, 100 * stride] {
            let mut sequence = Sequence::new(model.clone(), block);
            let mut found = flat(sequence.push(features.t())?);
            found.extend(sequence.finish()?);
            answers.push(found);
        }
    }
    let mut difference = 0.0f32;
    for found in answers {
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
