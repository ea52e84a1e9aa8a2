//! Runs an ONNX file with ONNX Runtime: the only place that makes sessions.
//!
//! Features `[T, F]` are laid out as the spec says, with B = 1, and the output is brought to `[T', V]`.
//! `ort`'s `run` needs a session for itself, so a model holds a bounded pool of them, made when they are
//! needed; clones of a model share it.

mod labeled;

use super::header::Dim;
use super::output::{nodes, scores};
use super::pool::Pool;
use super::provider::{candidates, register};
use super::{
    CpuNodes, CtcModel, Library, ModelFile, ModelState, OrtOptions, Provider, ProviderReport,
    tensors,
};
use crate::spec::{FrontEnd, GivenInput, GivenValue, InputLayout, ModelSpec};
use crate::{Error, ErrorKind, Result};
use ndarray::{Array2, ArrayView2};
use ort::session::builder::SessionBuilder;
use ort::session::{Session, SessionInputValue};
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
    /// Items of a run, where the graph fixes their number.
    fixed_batch: Option<usize>,
    /// Most items of a run.
    most: usize,
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
        let fixed_batch = fixed_batch(&file);
        let most = most_items(&file, fixed_batch);
        Ok(Self {
            shared: Arc::new(Shared {
                library: library.clone(),
                file,
                options: options.clone(),
                report,
                sessions: Pool::new(options.pool, session),
                fixed_frames,
                fixed_batch,
                most,
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
        let builder = session_builder(&shared.library, &shared.options, shared.report.used)
            .and_then(|b| Ok(b.with_profiling(&prefix)?))
            .map_err(|e| failed(ErrorKind::Inference, "profiling", e))?;
        let mut session = commit(builder, &shared.file)?;
        let frames = match (&spec.front_end, &spec.streaming) {
            (_, Some(streaming)) => streaming.chunk_frames + streaming.overlap_frames,
            (FrontEnd::Waveform(wave), None) => wave.sample_rate as usize,
            _ => 100,
        };
        let frames = shared.fixed_frames.unwrap_or(frames);
        let silence = Array2::zeros((frames, spec.front_end.features()));
        let label = spec.graph.label.as_ref();
        let label = label.map(|label| vec![label.padding; label.length]);
        let state = &mut ModelState::start(spec);
        let blocks = &mut [(silence.view(), state)];
        let ran = self.run_on(&mut session, blocks, label.as_deref());
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

    /// One run over blocks of equal length, each an item of the batch, which is filled with zeros up to the number the
    /// graph fixes; a label, where the model takes one, is that of a single block.
    fn run_on(
        &self,
        session: &mut Session,
        blocks: &mut [(ArrayView2<'_, f32>, &mut ModelState)],
        label: Option<&[i64]>,
    ) -> Result<Vec<Array2<f32>>> {
        let wanted = self.shared.fixed_batch.unwrap_or(0);
        let (Some((first, _)), true) = (blocks.first(), wanted > blocks.len()) else {
            return self.run_full(session, blocks, label);
        };
        let nothing = Array2::zeros(first.dim());
        let mut fillers = vec![ModelState::start(self.spec()); wanted - blocks.len()];
        let mut all: Vec<(ArrayView2<'_, f32>, &mut ModelState)> = blocks
            .iter_mut()
            .map(|(features, state)| (features.view(), &mut **state))
            .collect();
        all.extend(fillers.iter_mut().map(|state| (nothing.view(), state)));
        let mut scores = self.run_full(session, &mut all, label)?;
        scores.truncate(blocks.len());
        Ok(scores)
    }

    /// As [`run_on`](Self::run_on), over as many blocks as the graph takes.
    fn run_full(
        &self,
        session: &mut Session,
        blocks: &mut [(ArrayView2<'_, f32>, &mut ModelState)],
        label: Option<&[i64]>,
    ) -> Result<Vec<Array2<f32>>> {
        let spec = self.shared.file.spec();
        let graph = &spec.graph;
        let Some((frames, width)) = blocks.first().map(|(features, _)| features.dim()) else {
            return Ok(Vec::new());
        };
        let (b, t, f) = (blocks.len() as i64, frames as i64, width as i64);
        let (shape, turned): (Vec<i64>, bool) = match graph.input_layout {
            InputLayout::BF1T => (vec![b, f, 1, t], true),
            InputLayout::BFT => (vec![b, f, t], true),
            InputLayout::BTF => (vec![b, t, f], false),
            InputLayout::BT => (vec![b, t], false),
            InputLayout::BCHT => {
                let height = match &spec.front_end {
                    FrontEnd::Line(line) => line.height as i64,
                    FrontEnd::LogMel(_) | FrontEnd::Waveform(_) => 1,
                };
                (vec![b, f / height, height, t], true)
            }
        };
        let view = |block: usize| match turned {
            true => blocks[block].0.t(),
            false => blocks[block].0,
        };
        // One block that lies as the graph wants it is read in place.
        let only = (blocks.len() == 1).then(|| view(0));
        let data = match only.as_ref().and_then(|view| view.to_slice()) {
            Some(slice) => Cow::Borrowed(slice),
            None => Cow::Owned(
                (0..blocks.len())
                    .flat_map(|i| view(i).into_iter().copied())
                    .collect(),
            ),
        };
        let lengths = vec![t; blocks.len()];
        let states = spec.streaming.as_ref().map_or(&[][..], |s| &s.state);
        let wrong = |e| failed(ErrorKind::Inference, "an input", e);
        let view = TensorRef::from_array_view((shape, &data[..])).map_err(wrong)?;
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> =
            vec![(Cow::from(graph.input.as_str()), view.into())];
        if let Some(name) = &graph.input_length {
            let view = TensorRef::from_array_view(([b], &lengths[..])).map_err(wrong)?;
            inputs.push((Cow::from(name.as_str()), view.into()));
        }
        if let (Some(entry), Some(label)) = (&graph.label, label) {
            let shape = [1, 1, label.len() as i64];
            let view = TensorRef::from_array_view((shape, label)).map_err(wrong)?;
            inputs.push((Cow::from(entry.input.as_str()), view.into()));
        }
        let before: Vec<&ModelState> = blocks.iter().map(|(_, state)| &**state).collect();
        for (index, entry) in states.iter().enumerate() {
            let value = tensors::state(entry, index, &before)?;
            inputs.push((Cow::from(entry.input.as_str()), value));
        }
        let runs = before.first().map_or(0, |state| state.runs());
        for entry in &graph.given {
            let header = self.shared.file.header();
            let value = tensors::given(entry, header, blocks.len(), frames, runs)?;
            inputs.push((Cow::from(entry.input.as_str()), value));
        }
        let outputs = session
            .run(inputs)
            .map_err(|e| failed(ErrorKind::Inference, "the run", e))?;
        let scores = scores(spec, &outputs, blocks.len())?;
        let mut after: Vec<&mut ModelState> =
            blocks.iter_mut().map(|(_, state)| &mut **state).collect();
        for (index, entry) in states.iter().enumerate() {
            tensors::keep(entry, index, &outputs, &mut after)?;
        }
        after.iter_mut().for_each(|state| state.count_run());
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
        let mut scores = self.run_batch(&mut [(features, state)])?;
        scores
            .pop()
            .ok_or_else(|| Error::new(ErrorKind::Inference, "the run gave no scores"))
    }

    fn run_batch(
        &self,
        blocks: &mut [(ArrayView2<'_, f32>, &mut ModelState)],
    ) -> Result<Vec<Array2<f32>>> {
        let shared = &*self.shared;
        if shared.file.spec().graph.label.is_some() {
            return Err(Error::new(
                ErrorKind::Role,
                "an oracle teacher takes the transcript as well: use `run_labeled`",
            ));
        }
        for (features, state) in blocks.iter() {
            self.admit(features, state)?;
        }
        // Equal lengths that follow one another share a run, as many as the graph takes.
        let together =
            |a: &(ArrayView2<'_, f32>, &mut ModelState),
             b: &(ArrayView2<'_, f32>, &mut ModelState)| { a.0.nrows() == b.0.nrows() };
        self.with_session(|session| {
            let mut scores = Vec::with_capacity(blocks.len());
            for equal in blocks.chunk_by_mut(together) {
                for blocks in equal.chunks_mut(shared.most) {
                    scores.append(&mut self.run_on(session, blocks, None)?);
                }
            }
            Ok(scores)
        })
    }
}

/// The number of frames the graph's time axis is fixed to.
fn fixed_frames(file: &ModelFile) -> Option<usize> {
    let graph = &file.spec().graph;
    let dims = file.header().input(&graph.input)?.dims.as_ref()?;
    let axis = match graph.input_layout {
        InputLayout::BF1T | InputLayout::BCHT => 3,
        InputLayout::BFT => 2,
        InputLayout::BTF | InputLayout::BT => 1,
    };
    let streaming = file.spec().streaming.as_ref();
    match dims.get(axis)? {
        Dim::Fixed(frames) => usize::try_from(*frames).ok(),
        _ => streaming?.exact_frames(graph),
    }
}

/// The number of items the graph's batch axis is fixed to; the spec's check has bounded it.
fn fixed_batch(file: &ModelFile) -> Option<usize> {
    let input = file.header().input(&file.spec().graph.input)?;
    match input.dims.as_ref()?.first()? {
        Dim::Fixed(items) => usize::try_from(*items).ok().filter(|&items| items > 0),
        _ => None,
    }
}

/// How many utterances the graph takes at once: one, where what it is given or remembers belongs to one alone.
fn most_items(file: &ModelFile, fixed_batch: Option<usize>) -> usize {
    let spec = file.spec();
    let own = |given: &GivenInput| {
        matches!(
            given.value,
            GivenValue::Counter { .. } | GivenValue::Filled { .. }
        )
    };
    let mut states = spec.streaming.iter().flat_map(|s| &s.state);
    if spec.graph.given.iter().any(own) || states.any(|state| state.batch_axis.is_none()) {
        return 1;
    }
    fixed_batch.unwrap_or(usize::MAX)
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
        let session = session_builder(library, options, used)
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

pub(super) fn session_builder(
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

fn commit(builder: SessionBuilder, file: &ModelFile) -> Result<Session> {
    commit_bytes(builder, file.bytes())
}

pub(super) fn commit_bytes(mut builder: SessionBuilder, bytes: &[u8]) -> Result<Session> {
    builder
        .commit_from_memory(bytes)
        .map_err(|e| failed(ErrorKind::Model, "ONNX Runtime refuses the graph", e))
}

pub(super) fn failed<R>(kind: ErrorKind, what: &str, error: ort::Error<R>) -> Error {
    Error::new(kind, format!("{what}: {}", error.message()))
}

#[cfg(test)]
#[cfg(feature = "load-dynamic")]
mod tests {
    use super::*;
    use crate::model::Sequence;
    use crate::model::testing::{TINY, Tiny, tiny_onnx, tiny_spec};
    use ndarray::{Axis, concatenate};

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
        assert_eq!(state.tensors(), [crate::model::StateTensor::F32(kept)]);
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
