//! Runs an ONNX file with ONNX Runtime: the only place that makes sessions.
//!
//! Features `[T, F]` are laid out as the spec says, with B = 1, and the output is brought to `[T', V]`.
//! `ort`'s `run` needs a session for itself, so a model holds a bounded pool of them, made when they are
//! needed; clones of a model share it.

mod labeled;

use super::header::Dim;
use super::pool::Pool;
use super::provider::{candidates, register};
use super::{
    CpuNodes, CtcModel, Library, ModelFile, ModelState, OrtOptions, Provider, ProviderReport,
};
use crate::spec::{FrontEnd, InputLayout, ModelSpec, OutputLayout};
use crate::{Error, ErrorKind, Result};
use ndarray::{Array2, ArrayView2, Axis};
use ort::session::builder::SessionBuilder;
use ort::session::{Session, SessionInputValue, SessionOutputs};
use ort::value::TensorRef;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// An ONNX model ready to run. Clones share weights and sessions; any number of threads may call it.
#[derive(Debug, Clone)]
pub struct OrtModel {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    library: Library,
    file: ModelFile,
    options: OrtOptions,
    report: ProviderReport,
    sessions: Pool<Session>,
    fixed_frames: Option<usize>,
}

impl OrtModel {
    /// Opens the model file at `path`.
    ///
    /// # Errors
    /// As [`ModelFile::open`] and [`from_file`](Self::from_file).
    pub fn open(library: &Library, path: impl AsRef<Path>, options: &OrtOptions) -> Result<Self> {
        let path = path.as_ref();
        let file = ModelFile::open(path)?;
        Self::from_file(library, file, options).map_err(|e| e.with_path(path))
    }

    /// Opens a model held in memory.
    ///
    /// # Errors
    /// As [`ModelFile::from_bytes`] and [`from_file`](Self::from_file).
    pub fn from_bytes(
        library: &Library,
        bytes: impl Into<Arc<[u8]>>,
        options: &OrtOptions,
    ) -> Result<Self> {
        Self::from_file(library, ModelFile::from_bytes(bytes)?, options)
    }

    /// Opens a model that was read and checked. The first session is made here, so that a graph that does
    /// not load fails now and not at the first utterance.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for 0 threads or sessions, [`ErrorKind::Provider`] if the provider is
    /// not available or refuses the graph, [`ErrorKind::Model`] if the graph does not load.
    pub fn from_file(library: &Library, file: ModelFile, options: &OrtOptions) -> Result<Self> {
        if options.threads == 0 || options.pool == 0 {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "0 threads or sessions: at least 1 of each is needed",
            ));
        }
        let (session, report) = first_session(library, &file, options)?;
        let fixed_frames = fixed_frames(&file);
        Ok(Self {
            shared: Arc::new(Shared {
                library: library.clone(),
                file,
                options: options.clone(),
                report,
                sessions: Pool::new(options.pool, session),
                fixed_frames,
            }),
        })
    }

    /// The file the model was read from: its bytes, header and spec.
    pub fn file(&self) -> &ModelFile {
        &self.shared.file
    }

    /// What was asked for and what runs. On the CPU it counts the graph's nodes as stored; for any other
    /// provider [`report_nodes`](Self::report_nodes) measures them.
    pub fn provider(&self) -> &ProviderReport {
        &self.shared.report
    }

    /// The report with the nodes each provider really ran, counted in one profiled run on a session of its
    /// own, after ONNX Runtime fused what it fuses. Costs a session and a run.
    ///
    /// # Errors
    /// As [`CtcModel::run`]; [`ErrorKind::Io`] if the temporary folder cannot be written.
    pub fn report_nodes(&self) -> Result<ProviderReport> {
        let shared = &*self.shared;
        let spec = shared.file.spec();
        let prefix = std::env::temp_dir().join(format!(
            "acolyte-profile-{}-{:p}",
            std::process::id(),
            shared
        ));
        let builder = builder(&shared.library, &shared.options, shared.report.used)
            .and_then(|b| Ok(b.with_profiling(&prefix)?))
            .map_err(|e| failed(ErrorKind::Inference, "profiling", e))?;
        let mut session = commit(builder, &shared.file)?;
        let frames = spec.streaming.as_ref().map_or(100, |s| s.chunk_frames);
        let frames = shared.fixed_frames.unwrap_or(frames);
        let silence = Array2::zeros((frames, mels(spec)));
        let label = spec
            .graph
            .label
            .as_ref()
            .map(|label| vec![label.padding; label.length]);
        let ran = self.run_on(
            &mut session,
            silence.view(),
            &mut ModelState::start(spec),
            label.as_deref(),
        );
        let path = session
            .end_profiling()
            .map_err(|e| failed(ErrorKind::Inference, "profiling", e))?;
        let text = std::fs::read(&path).map_err(|e| Error::io(&path, e));
        // Whatever was learned, the file is ours to take away.
        let _ = std::fs::remove_file(&path);
        ran?;
        Ok(ProviderReport {
            nodes: Some(nodes(&text?)?),
            ..shared.report.clone()
        })
    }

    fn run_on(
        &self,
        session: &mut Session,
        features: ArrayView2<'_, f32>,
        state: &mut ModelState,
        label: Option<&[i64]>,
    ) -> Result<Array2<f32>> {
        let spec = self.shared.file.spec();
        let graph = &spec.graph;
        let (frames, width) = features.dim();
        let (t, f) = (frames as i64, width as i64);
        let (shape, turned): (Vec<i64>, bool) = match graph.input_layout {
            InputLayout::BF1T => (vec![1, f, 1, t], true),
            InputLayout::BFT => (vec![1, f, t], true),
            InputLayout::BTF => (vec![1, t, f], false),
        };
        let data: Vec<f32> = match turned {
            true => features.t().iter().copied().collect(),
            false => features.iter().copied().collect(),
        };
        let length = [t];
        let wrong = |e| failed(ErrorKind::Inference, "an input", e);
        let view = TensorRef::from_array_view((shape, &data[..])).map_err(wrong)?;
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> =
            vec![(Cow::from(graph.input.as_str()), view.into())];
        if let Some(name) = &graph.input_length {
            let view = TensorRef::from_array_view(([1i64], &length[..])).map_err(wrong)?;
            inputs.push((Cow::from(name.as_str()), view.into()));
        }
        if let (Some(entry), Some(label)) = (&graph.label, label) {
            let shape = [1, 1, label.len() as i64];
            let view = TensorRef::from_array_view((shape, label)).map_err(wrong)?;
            inputs.push((Cow::from(entry.input.as_str()), view.into()));
        }
        let states = spec.streaming.as_ref().map_or(&[][..], |s| &s.state);
        for (entry, tensor) in states.iter().zip(state.tensors()) {
            let axes = entry.shape.iter().map(|&n| n as i64);
            let shape: Vec<i64> = std::iter::once(1).chain(axes).collect();
            let view = TensorRef::from_array_view((shape, &tensor[..])).map_err(wrong)?;
            inputs.push((Cow::from(entry.input.as_str()), view.into()));
        }
        let outputs = session
            .run(inputs)
            .map_err(|e| failed(ErrorKind::Inference, "the run", e))?;
        let scores = scores(spec, &outputs)?;
        for (entry, tensor) in states.iter().zip(state.tensors_mut()) {
            let (shape, next) = floats(&outputs, &entry.output)?;
            if next.len() != tensor.len() {
                return Err(shape_error(&entry.output, shape, &entry.shape));
            }
            tensor.copy_from_slice(next);
        }
        Ok(scores)
    }
}

impl CtcModel for OrtModel {
    fn spec(&self) -> &ModelSpec {
        self.shared.file.spec()
    }

    fn fixed_frames(&self) -> Option<usize> {
        self.shared.fixed_frames
    }

    fn run(&self, features: ArrayView2<'_, f32>, state: &mut ModelState) -> Result<Array2<f32>> {
        if self.shared.file.spec().graph.label.is_some() {
            return Err(Error::new(
                ErrorKind::Role,
                "an oracle teacher takes the transcript as well: use `run_labeled`",
            ));
        }
        self.checked_run(features, state, None)
    }
}

/// Features of one frame.
fn mels(spec: &ModelSpec) -> usize {
    let FrontEnd::LogMel(mel) = &spec.front_end;
    mel.mels
}

/// The number of frames the graph's time axis is fixed to.
fn fixed_frames(file: &ModelFile) -> Option<usize> {
    let graph = &file.spec().graph;
    let dims = file.header().input(&graph.input)?.dims.as_ref()?;
    let axis = match graph.input_layout {
        InputLayout::BF1T => 3,
        InputLayout::BFT => 2,
        InputLayout::BTF => 1,
    };
    match dims.get(axis)? {
        Dim::Fixed(frames) => usize::try_from(*frames).ok(),
        _ => None,
    }
}

/// A session on the first provider that takes the graph, and the report on it.
fn first_session(
    library: &Library,
    file: &ModelFile,
    options: &OrtOptions,
) -> Result<(Session, ProviderReport)> {
    let mut declined = Vec::new();
    let tried = candidates(library, options.provider)?;
    for (index, &used) in tried.iter().enumerate() {
        let last = index + 1 == tried.len();
        let session = builder(library, options, used)
            .map_err(|e| failed(ErrorKind::Provider, &format!("provider {used}"), e))
            .and_then(|builder| commit(builder, file));
        match session {
            Ok(session) => {
                let reason = match (options.provider, declined.as_slice()) {
                    (Provider::Auto, []) if used == Provider::Cpu => {
                        "no other provider is in this build and library".to_owned()
                    }
                    (Provider::Auto, []) => "the first that took the graph".to_owned(),
                    (Provider::Auto, declined) => format!("fell back: {}", declined.join("; ")),
                    _ => "as requested".to_owned(),
                };
                let every = || (used == Provider::Cpu).then(|| file.header().nodes());
                let report = ProviderReport {
                    requested: options.provider,
                    used,
                    reason,
                    fell_back: !declined.is_empty(),
                    nodes: every().map(|n| BTreeMap::from([("CPUExecutionProvider".into(), n)])),
                };
                return Ok((session, report));
            }
            Err(error) if last && used == Provider::Cpu => return Err(error),
            Err(error) if last => {
                let message =
                    format!("provider {used} was asked for and did not take the model: {error}");
                return Err(Error::new(ErrorKind::Provider, message).with_source(error));
            }
            Err(error) => declined.push(format!("{used}: {error}")),
        }
    }
    Err(Error::new(ErrorKind::Provider, "no provider to try"))
}

fn builder(
    library: &Library,
    options: &OrtOptions,
    provider: Provider,
) -> ort::Result<SessionBuilder> {
    let cpu_nodes = match options.provider {
        Provider::Auto => CpuNodes::Allow,
        _ => options.cpu_nodes,
    };
    let builder = SessionBuilder::new(library.environment())?
        .with_intra_threads(options.threads)?
        .with_inter_threads(1)?
        // A memory pattern is kept for every length ever seen, and utterances have all lengths.
        .with_memory_pattern(false)?;
    register(builder, provider, cpu_nodes)
}

fn commit(mut builder: SessionBuilder, file: &ModelFile) -> Result<Session> {
    builder
        .commit_from_memory(file.bytes())
        .map_err(|e| failed(ErrorKind::Model, "ONNX Runtime refuses the graph", e))
}

fn failed<R>(kind: ErrorKind, what: &str, error: ort::Error<R>) -> Error {
    Error::new(kind, format!("{what}: {}", error.message()))
}

/// An output's shape and numbers.
fn floats<'o>(outputs: &'o SessionOutputs<'_>, name: &str) -> Result<(&'o [i64], &'o [f32])> {
    let value = outputs.get(name).ok_or_else(|| {
        Error::new(
            ErrorKind::Inference,
            format!("the run gave no output {name:?}"),
        )
    })?;
    let (shape, data) = value
        .try_extract_tensor::<f32>()
        .map_err(|e| failed(ErrorKind::Inference, &format!("output {name:?}"), e))?;
    Ok((shape, data))
}

/// The output brought to `[T', V]`.
fn scores(spec: &ModelSpec, outputs: &SessionOutputs<'_>) -> Result<Array2<f32>> {
    let name = &spec.graph.output;
    let pieces = spec.tokens.pieces.len();
    let (shape, data) = floats(outputs, name)?;
    let (steps, turned) = match (spec.graph.output_layout, shape) {
        (OutputLayout::BV1T, &[1, v, 1, t]) if v == pieces as i64 => (t, true),
        (OutputLayout::BTV, &[1, t, v]) if v == pieces as i64 => (t, false),
        (OutputLayout::TBV, &[t, 1, v]) if v == pieces as i64 => (t, false),
        _ => return Err(shape_error(name, shape, &[pieces])),
    };
    let steps = usize::try_from(steps).unwrap_or_default();
    let rows = if turned {
        (pieces, steps)
    } else {
        (steps, pieces)
    };
    let view = ArrayView2::from_shape(rows, data)
        .map_err(|e| Error::new(ErrorKind::Inference, format!("output {name:?}")).with_source(e))?;
    let scores = match turned {
        true => view.t().as_standard_layout().into_owned(),
        false => view.to_owned(),
    };
    // Minus infinity is a fair log-probability; NaN and plus infinity are scores of nothing.
    let broken = scores
        .axis_iter(Axis(0))
        .position(|row| row.iter().any(|x| x.is_nan() || *x == f32::INFINITY));
    match broken {
        None => Ok(scores),
        Some(step) => Err(Error::new(
            ErrorKind::Inference,
            format!(
                "output {name:?} holds NaN or infinity at frame {step}: the weights are damaged, or the input \
                 is far outside what the model was trained on"
            ),
        )),
    }
}

fn shape_error(name: &str, found: &[i64], expected: &[usize]) -> Error {
    Error::new(
        ErrorKind::Spec,
        format!(
            "output {name:?} came with shape {found:?}, the spec calls for one item of {expected:?} (tokens, or \
             the state's shape)"
        ),
    )
}

/// Nodes per provider in a profile that ONNX Runtime wrote: a JSON list of events.
fn nodes(profile: &[u8]) -> Result<BTreeMap<String, usize>> {
    let events: Vec<serde_json::Value> = serde_json::from_slice(profile).map_err(|e| {
        Error::new(ErrorKind::Inference, "ONNX Runtime's profile is no JSON").with_source(e)
    })?;
    let mut counts = BTreeMap::new();
    for event in events {
        if event["cat"] == "Node"
            && let Some(provider) = event["args"]["provider"].as_str()
        {
            *counts.entry(provider.to_owned()).or_default() += 1;
        }
    }
    Ok(counts)
}

#[cfg(test)]
#[cfg(feature = "load-dynamic")]
mod tests {
    use super::*;
    use crate::model::Sequence;
    use crate::model::testing::{TINY, Tiny, tiny_onnx, tiny_spec};
    use ndarray::concatenate;

    fn stamped(tiny: Tiny) -> Vec<u8> {
        tiny_spec(tiny).stamp(&tiny_onnx(tiny)).unwrap()
    }

    fn opened(tiny: Tiny, options: &OrtOptions) -> OrtModel {
        let library = Library::find().unwrap();
        OrtModel::from_bytes(&library, stamped(tiny), options).unwrap()
    }

    fn wave(frames: usize) -> Array2<f32> {
        Array2::from_shape_fn((frames, 8), |(t, f)| ((t * 7 + f * 3) as f32 * 0.37).sin())
    }

    fn sequence(model: &OrtModel, block: usize, features: &Array2<f32>) -> Array2<f32> {
        let mut sequence = Sequence::new(Arc::new(model.clone()), block);
        let first = sequence.push(features.view()).unwrap();
        let last = sequence.finish().unwrap();
        concatenate(Axis(0), &[first.view(), last.view()]).unwrap()
    }

    #[test]
    fn computes_the_convolution_it_was_given() {
        let model = opened(TINY, &OrtOptions::default());
        let mut state = ModelState::start(model.spec());
        let features = wave(6);
        let out = model.run(features.view(), &mut state).unwrap();
        assert_eq!(out.dim(), (3, 8));
        for (i, row) in out.outer_iter().enumerate() {
            for (v, score) in row.iter().enumerate() {
                let window = (i * 2..i * 2 + 4).filter_map(|t| t.checked_sub(2));
                let mean: f32 = window.map(|t| features[[t, v]]).sum::<f32>() / 4.0;
                assert!((score - mean).abs() < 1e-6);
            }
        }
        let kept: Vec<f32> = (0..8)
            .flat_map(|f| [features[[4, f]], features[[5, f]]])
            .collect();
        assert_eq!(state.tensors(), [kept]);
    }

    #[test]
    fn blocks_give_the_bits_of_one_run() {
        let model = opened(TINY, &OrtOptions::default());
        let fixed = opened(
            Tiny {
                frames: Some(16),
                ..TINY
            },
            &OrtOptions::default(),
        );
        for frames in [1, 2, 15, 16, 17, 301] {
            let features = wave(frames);
            let whole = sequence(&model, 4096, &features);
            assert_eq!(whole.nrows(), frames.div_ceil(2));
            assert_eq!(sequence(&model, 16, &features), whole);
            assert_eq!(sequence(&model, 2, &features), whole);
            assert_eq!(sequence(&fixed, 2048, &features), whole);
        }
    }

    #[test]
    fn sixteen_threads_share_two_sessions() {
        let options = OrtOptions::default()
            .with_pool(2)
            .with_provider(Provider::Cpu);
        let model = opened(TINY, &options);
        let features = wave(200);
        let expected = sequence(&model, 64, &features);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                let (model, features, expected) = (model.clone(), &features, &expected);
                scope.spawn(move || assert_eq!(&sequence(&model, 64, features), expected));
            }
        });
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let model = opened(TINY, &OrtOptions::default());
        let whole = opened(
            Tiny {
                state: false,
                ..TINY
            },
            &OrtOptions::default(),
        );
        let mut state = ModelState::start(model.spec());
        for shape in [(3, 8), (4, 7), (0, 8)] {
            let error = model
                .run(Array2::zeros(shape).view(), &mut state)
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
        let error = whole.run(wave(4).view(), &mut state).unwrap_err();
        assert!(error.to_string().contains("the state"), "{error}");
        let library = Library::find().unwrap();
        let options = OrtOptions::default().with_threads(0);
        let error = OrtModel::from_bytes(&library, stamped(TINY), &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn damaged_weights_give_an_error_that_names_the_output() {
        let model = opened(
            Tiny {
                weight: f32::NAN,
                ..TINY
            },
            &OrtOptions::default(),
        );
        let error = model
            .run(wave(4).view(), &mut ModelState::start(model.spec()))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Inference);
        assert!(
            error.to_string().contains("\"logits\" holds NaN"),
            "{error}"
        );
    }

    #[test]
    fn a_graph_that_does_not_load_is_a_model_error() {
        let library = Library::find().unwrap();
        let mut graph = tiny_onnx(TINY);
        let at = graph.windows(4).position(|w| w == b"Conv").unwrap();
        graph[at..at + 4].copy_from_slice(b"Corn");
        let bytes = tiny_spec(TINY).stamp(&graph).unwrap();
        let error = OrtModel::from_bytes(&library, bytes, &OrtOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Model);
        assert!(error.to_string().contains("Corn"), "{error}");
    }

    #[test]
    fn providers_are_reported_and_never_replaced() {
        let model = opened(TINY, &OrtOptions::default());
        let report = model.provider();
        assert_eq!(
            (report.requested, report.used),
            (Provider::Auto, Provider::Cpu)
        );
        assert!(!report.reason.is_empty());
        let measured = model.report_nodes().unwrap().nodes.unwrap();
        assert_eq!(Vec::from_iter(measured.keys()), ["CPUExecutionProvider"]);
        assert!(measured.values().all(|&nodes| nodes >= 3));

        let library = Library::find().unwrap();
        for provider in [Provider::Cuda, Provider::CoreMl, Provider::Qnn] {
            let options = OrtOptions::default().with_provider(provider);
            let error = OrtModel::from_bytes(&library, stamped(TINY), &options).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Provider);
            assert!(error.to_string().contains(provider.name()), "{error}");
        }
    }
}
