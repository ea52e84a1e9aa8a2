//! The checks before anything runs: a spec against itself, and against the graph it stands in.
//!
//! A wrong spec would not fail by itself: it would give fluent nonsense. So every name, type and axis the
//! runtime relies on is held against the graph first. Axis letters: B batch, T frames, F features, V
//! vocabulary with blank.

use super::{
    FrontEnd, InputLayout, LogGuard, LogMelSpec, ModelSpec, Normalization, OutputLayout, Role,
    SPEC_VERSION, StreamingSpec, Task,
};
use crate::model::header::{Dim, ElementType, ModelHeader, TensorInfo};
use crate::{Error, ErrorKind, Result};

/// Most feature frames of one chunk, and of delay.
const MAX_FRAMES: usize = 1 << 16;
/// Most numbers of one state tensor (256 MB).
const MAX_STATE: usize = 1 << 26;

/// Refuses with [`ErrorKind::Spec`] and the formatted message unless the condition holds.
macro_rules! demand {
    ($holds:expr, $($message:tt)+) => {
        if !$holds {
            return Err(crate::Error::new(crate::ErrorKind::Spec, format!("the spec: {}", format_args!($($message)+))));
        }
    };
}
pub(super) use demand;

impl ModelSpec {
    /// Checks the spec against itself: ids within the vocabulary, finite and positive where that is needed,
    /// lengths that agree.
    ///
    /// # Errors
    /// [`ErrorKind::SpecVersion`] for a newer version, [`ErrorKind::Spec`] for everything else.
    pub fn validate(&self) -> Result<()> {
        if self.version > SPEC_VERSION {
            return Err(Error::new(
                ErrorKind::SpecVersion,
                format!(
                    "the spec has version {}, this build reads up to {SPEC_VERSION}",
                    self.version
                ),
            ));
        }
        demand!(self.version > 0, "version 0 does not exist");
        let pieces = self.tokens.pieces.len();
        demand!(
            pieces >= 2,
            "{pieces} tokens: a blank and one more are needed"
        );
        demand!(
            (self.tokens.blank as usize) < pieces,
            "blank is token {} of {pieces}",
            self.tokens.blank
        );
        demand!(
            (1..=64).contains(&self.stride),
            "stride {} is not within 1 to 64",
            self.stride
        );
        demand!(
            !self.license.is_empty(),
            "license is empty: give an SPDX expression, or `unknown`"
        );
        if let Some(label) = &self.graph.label {
            demand!(
                self.role == Role::OracleTeacher,
                "graph.label is given, which only an oracle teacher has"
            );
            demand!(
                (1..=MAX_FRAMES).contains(&label.length),
                "graph.label.length {} is not within 1 to {MAX_FRAMES}",
                label.length
            );
        }
        let normalization = match &self.front_end {
            FrontEnd::LogMel(mel) => {
                log_mel(mel)?;
                &mel.normalization
            }
            FrontEnd::Line(line) => {
                line.validate(self.stride)?;
                &line.normalization
            }
        };
        let image = matches!(self.front_end, FrontEnd::Line(_));
        demand!(
            image == (self.task == Task::SceneText)
                && image == (self.graph.input_layout == InputLayout::BCHT),
            "task {:?}, the front-end and input_layout {:?} do not belong together: speech takes log-mel features, \
             scene text lines in the layout \"B C H T\"",
            self.task,
            self.graph.input_layout
        );
        if let Some(streaming) = &self.streaming {
            demand!(
                !image,
                "a model of images does not stream: set `streaming` aside"
            );
            demand!(
                !matches!(normalization, Normalization::Utterance { .. }),
                "normalization over the whole utterance cannot stream: set `streaming` aside, or use fixed \
                 mean and deviation"
            );
            validate_streaming(streaming, self.stride)?;
        }
        Ok(())
    }

    /// Checks the spec against itself ([`validate`](Self::validate)) and against the graph's real inputs and
    /// outputs: names, element types, number of axes, fixed lengths, vocabulary size, state.
    ///
    /// # Errors
    /// As `validate`; [`ErrorKind::Spec`] where spec and graph disagree, with both sides named;
    /// [`ErrorKind::Unsupported`] for data in other files, element types that are not read, and fixed axes
    /// that leave no way to run the graph.
    pub fn check(&self, header: &ModelHeader) -> Result<()> {
        self.validate()?;
        if let Some(tensor) = header.external.first() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "tensor {tensor:?} keeps its data in another file: save the model as one file"
                ),
            ));
        }
        let mut known: Vec<&str> = vec![&self.graph.input];
        let input = tensor(
            header.input(&self.graph.input),
            "input",
            &self.graph.input,
            &header.inputs,
        )?;
        self.check_input(input)?;
        let output = tensor(
            header.output(&self.graph.output),
            "output",
            &self.graph.output,
            &header.outputs,
        )?;
        self.check_output(output)?;
        if let Some(name) = &self.graph.input_length {
            let length = tensor(header.input(name), "input", name, &header.inputs)?;
            element(length, ElementType::I64)?;
            axes(length, &[("B", None)])?;
            known.push(name);
        }
        if let Some(label) = &self.graph.label {
            let input = tensor(
                header.input(&label.input),
                "input",
                &label.input,
                &header.inputs,
            )?;
            element(input, ElementType::I64)?;
            axes(
                input,
                &[
                    ("1", Some(1)),
                    ("1", Some(1)),
                    ("length", Some(label.length)),
                ],
            )?;
            known.push(&label.input);
        }
        for state in self.streaming.iter().flat_map(|s| &s.state) {
            let mut expected = vec![("B", None)];
            expected.extend(state.shape.iter().map(|&n| ("state", Some(n))));
            let before = tensor(
                header.input(&state.input),
                "input",
                &state.input,
                &header.inputs,
            )?;
            let after = tensor(
                header.output(&state.output),
                "output",
                &state.output,
                &header.outputs,
            )?;
            for side in [before, after] {
                element(side, ElementType::F32)?;
                axes(side, &expected)?;
            }
            known.push(&state.input);
        }
        // An oracle teacher takes its label as further inputs; nobody else may want what we do not give.
        let unknown = header
            .inputs
            .iter()
            .find(|i| !known.contains(&i.name.as_str()));
        if let (Some(unknown), false) = (unknown, self.role == Role::OracleTeacher) {
            demand!(
                false,
                "the graph wants an input that the spec does not name: {unknown}"
            );
        }
        Ok(())
    }

    fn check_input(&self, input: &TensorInfo) -> Result<()> {
        element(input, ElementType::F32)?;
        let features = ("F", Some(self.front_end.features()));
        let frames = self.fixed_frames(input);
        match self.graph.input_layout {
            InputLayout::BF1T => axes(
                input,
                &[("B", None), features, ("1", Some(1)), ("T", frames)],
            ),
            InputLayout::BFT => axes(input, &[("B", None), features, ("T", frames)]),
            InputLayout::BTF => axes(input, &[("B", None), ("T", frames), features]),
            InputLayout::BCHT => axes(input, &self.image_axes(frames)),
        }?;
        let image = matches!(self.front_end, FrontEnd::Line(_));
        if self.streaming.is_none() && frames.is_some() && !image {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "input {input} has a fixed number of frames and the model does not stream: export it with \
                     a named time axis"
                ),
            ));
        }
        Ok(())
    }

    fn image_axes(&self, frames: Option<usize>) -> [(&'static str, Option<usize>); 4] {
        let (channels, height) = match &self.front_end {
            FrontEnd::Line(line) => (Some(line.channels.count()), Some(line.height)),
            FrontEnd::LogMel(_) => (None, None),
        };
        [("B", None), ("C", channels), ("H", height), ("T", frames)]
    }

    /// The number of frames the graph insists on, which must be the chunk's where the model streams.
    fn fixed_frames(&self, input: &TensorInfo) -> Option<usize> {
        let axis = match self.graph.input_layout {
            InputLayout::BF1T | InputLayout::BCHT => 3,
            InputLayout::BFT => 2,
            InputLayout::BTF => 1,
        };
        match (input.dims.as_ref()?.get(axis)?, &self.streaming) {
            (Dim::Fixed(_), Some(streaming)) => Some(streaming.chunk_frames),
            (Dim::Fixed(frames), None) => usize::try_from(*frames).ok(),
            _ => None,
        }
    }

    fn check_output(&self, output: &TensorInfo) -> Result<()> {
        element(output, ElementType::F32)?;
        let pieces = self.tokens.pieces.len();
        let (order, axis): (&[_], usize) = match self.graph.output_layout {
            OutputLayout::BV1T => (&[("B", None), ("V", None), ("1", Some(1)), ("T", None)], 1),
            OutputLayout::BTV => (&[("B", None), ("T", None), ("V", None)], 2),
            OutputLayout::TBV => (&[("T", None), ("B", None), ("V", None)], 2),
        };
        axes(output, order)?;
        let vocabulary = output.dims.as_ref().and_then(|dims| dims.get(axis));
        if let Some(Dim::Fixed(vocabulary)) = vocabulary {
            demand!(
                *vocabulary == pieces as u64,
                "{pieces} tokens, but output {output} scores {vocabulary}: the token list is too {}",
                if (pieces as u64) < *vocabulary {
                    "short"
                } else {
                    "long"
                }
            );
        }
        Ok(())
    }
}

fn log_mel(mel: &LogMelSpec) -> Result<()> {
    demand!(
        (1_000..=768_000).contains(&mel.sample_rate),
        "sample_rate {} is not within 1000 to 768000",
        mel.sample_rate
    );
    demand!(
        mel.scale.is_finite() && mel.scale > 0.0,
        "scale {} is not positive",
        mel.scale
    );
    demand!(
        (0.0..=1.0).contains(&mel.pre_emphasis),
        "pre_emphasis {} is not within 0 to 1",
        mel.pre_emphasis
    );
    demand!(
        2 <= mel.window_length && mel.window_length <= mel.fft_length && mel.fft_length <= 1 << 16,
        "2 <= window_length {} <= fft_length {} <= 65536 does not hold",
        mel.window_length,
        mel.fft_length
    );
    demand!(
        (1..=1 << 16).contains(&mel.hop_length),
        "hop_length {} is not within 1 to 65536",
        mel.hop_length
    );
    demand!(
        (1..=1024).contains(&mel.mels),
        "mels {} is not within 1 to 1024",
        mel.mels
    );
    let nyquist = mel.sample_rate as f32 / 2.0;
    demand!(
        0.0 <= mel.low_hz && mel.low_hz < mel.high_hz && mel.high_hz <= nyquist,
        "0 <= low_hz {} < high_hz {} <= {nyquist} does not hold",
        mel.low_hz,
        mel.high_hz
    );
    let (LogGuard::Floor(guard) | LogGuard::Add(guard)) = mel.log;
    demand!(
        guard.is_finite() && guard > 0.0,
        "log's guard {guard} is not positive"
    );
    match &mel.normalization {
        Normalization::None => {}
        Normalization::Fixed { mean, deviation } => {
            demand!(
                mean.len() == mel.mels && deviation.len() == mel.mels,
                "{} means and {} deviations for {} mels",
                mean.len(),
                deviation.len(),
                mel.mels
            );
            demand!(mean.iter().all(|m| m.is_finite()), "a mean is not finite");
            demand!(
                deviation.iter().all(|d| d.is_finite() && *d > 0.0),
                "a deviation is not positive"
            );
        }
        Normalization::Utterance { epsilon } => demand!(
            epsilon.is_finite() && *epsilon >= 0.0,
            "epsilon {epsilon} is negative"
        ),
    }
    Ok(())
}

fn validate_streaming(streaming: &StreamingSpec, stride: usize) -> Result<()> {
    let chunk = streaming.chunk_frames;
    demand!(
        (1..=MAX_FRAMES).contains(&chunk) && chunk.is_multiple_of(stride),
        "chunk_frames {chunk} is not a multiple of stride {stride} up to {MAX_FRAMES}"
    );
    demand!(
        streaming.delay_frames <= MAX_FRAMES,
        "delay_frames {} exceeds {MAX_FRAMES}",
        streaming.delay_frames
    );
    demand!(
        streaming.flush_value.is_finite(),
        "flush_value is not finite"
    );
    for (index, state) in streaming.state.iter().enumerate() {
        let size = state
            .shape
            .iter()
            .try_fold(1usize, |n, &dim| n.checked_mul(dim));
        demand!(
            size.is_some_and(|n| (1..=MAX_STATE).contains(&n)),
            "state {:?} of shape {:?} is empty or larger than {MAX_STATE} numbers",
            state.input,
            state.shape
        );
        let twice = streaming.state[..index]
            .iter()
            .any(|other| other.input == state.input || other.output == state.output);
        demand!(!twice, "state {:?} is listed twice", state.input);
    }
    Ok(())
}

fn tensor<'h>(
    found: Option<&'h TensorInfo>,
    side: &str,
    name: &str,
    all: &[TensorInfo],
) -> Result<&'h TensorInfo> {
    found.ok_or_else(|| {
        let names: Vec<&str> = all.iter().take(20).map(|t| t.name.as_str()).collect();
        Error::new(
            ErrorKind::Spec,
            format!(
                "the spec names {side} {name:?}, which the graph does not have; its {side}s are: {}",
                names.join(", ")
            ),
        )
    })
}

fn element(info: &TensorInfo, expected: ElementType) -> Result<()> {
    if info.element == Some(expected) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        format!("tensor {info}: its elements must be {expected}; export the model so"),
    ))
}

/// Holds the axes of a tensor against `expected`: letters for the message, lengths where one is needed. B
/// may be fixed to up to 1024.
fn axes(info: &TensorInfo, expected: &[(&str, Option<usize>)]) -> Result<()> {
    let Some(dims) = &info.dims else {
        return Ok(()); // The shape of what a run gives is checked again.
    };
    let letters: Vec<String> = expected
        .iter()
        .map(|(letter, length)| length.map_or_else(|| (*letter).to_owned(), |n| n.to_string()))
        .collect();
    let letters = letters.join(", ");
    demand!(
        dims.len() == expected.len(),
        "tensor {info} has {} axes, the spec says [{letters}]",
        dims.len()
    );
    for (dim, (letter, length)) in dims.iter().zip(expected) {
        let Dim::Fixed(found) = dim else { continue };
        let batch = if *letter == "B" { 1024 } else { u64::MAX };
        demand!(
            length.is_none_or(|length| length as u64 == *found) && (1..=batch).contains(found),
            "tensor {info} has {found} where the spec says {} ([{letters}])",
            length.map_or_else(|| format!("1 to {batch}"), |length| length.to_string())
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{TINY, Tiny, tiny_onnx, tiny_spec};
    use crate::spec::WordMark;

    fn refused(spec: &ModelSpec, tiny: Tiny) -> Error {
        let header = ModelHeader::read(&tiny_onnx(tiny)).unwrap();
        spec.check(&header).expect_err("refused")
    }

    #[test]
    fn a_spec_that_fits_its_graph_passes() {
        let fixed = Tiny {
            frames: Some(32),
            ..TINY
        };
        let whole = Tiny {
            state: false,
            ..TINY
        };
        for tiny in [TINY, fixed, whole] {
            let header = ModelHeader::read(&tiny_onnx(tiny)).unwrap();
            tiny_spec(tiny).check(&header).unwrap();
        }
    }

    #[test]
    fn each_disagreement_with_the_graph_is_named() {
        type Change = fn(&mut ModelSpec);
        let cases: [(Change, &str); 12] = [
            (|s| drop(s.tokens.pieces.pop()), "token list is too short"),
            (
                |s| s.tokens.pieces.push("z".into()),
                "token list is too long",
            ),
            (
                |s| s.graph.input = "x".into(),
                "input \"x\", which the graph does not have",
            ),
            (
                |s| s.graph.output = "y".into(),
                "its outputs are: next.0, logits",
            ),
            (|s| s.graph.input_layout = InputLayout::BFT, "has 4 axes"),
            (|s| s.graph.output_layout = OutputLayout::TBV, "has 4 axes"),
            (
                |s| s.graph.input_length = Some("features".into()),
                "must be int64",
            ),
            (
                |s| state(s).input = "state.1".into(),
                "its inputs are: features, state.0",
            ),
            (|s| state(s).shape[2] = 3, "has 2 where the spec says 3"),
            (|s| state(s).shape.truncate(2), "has 4 axes"),
            (
                |s| s.streaming = None,
                "wants an input that the spec does not name: state.0",
            ),
            (
                |s| {
                    let FrontEnd::LogMel(mel) = &mut s.front_end else {
                        return;
                    };
                    mel.mels = 80;
                },
                "has 8 where the spec says 80",
            ),
        ];
        for (change, words) in cases {
            let mut spec = tiny_spec(TINY);
            change(&mut spec);
            let error = refused(&spec, TINY).to_string();
            assert!(error.contains(words), "{error:?} lacks {words:?}");
        }
    }

    fn state(spec: &mut ModelSpec) -> &mut crate::spec::StateSpec {
        &mut spec.streaming.as_mut().unwrap().state[0]
    }

    #[test]
    fn each_contradiction_within_the_spec_is_named() {
        type Change = fn(&mut ModelSpec, &mut LogMelSpec);
        let cases: [(Change, &str); 16] = [
            (|s, _| s.version = 0, "version 0"),
            (|s, _| s.tokens.blank = 8, "blank is token 8 of 8"),
            (|s, _| s.tokens.pieces.truncate(1), "1 tokens"),
            (|s, _| s.stride = 0, "stride 0"),
            (|s, _| s.license.clear(), "license is empty"),
            (
                |s, _| s.streaming.as_mut().unwrap().chunk_frames = 15,
                "chunk_frames 15",
            ),
            (
                |s, _| s.streaming.as_mut().unwrap().flush_value = f32::NAN,
                "flush_value",
            ),
            (|s, _| state(s).shape[0] = usize::MAX, "empty or larger"),
            (
                |s, _| {
                    let twice = state(s).clone();
                    s.streaming.as_mut().unwrap().state.push(twice);
                },
                "listed twice",
            ),
            (|_, m| m.sample_rate = 0, "sample_rate 0"),
            (|_, m| m.hop_length = 0, "hop_length 0"),
            (|_, m| m.window_length = 513, "window_length 513"),
            (|_, m| m.high_hz = 8001.0, "high_hz 8001"),
            (|_, m| m.scale = f32::INFINITY, "scale inf"),
            (|_, m| m.log = LogGuard::Floor(0.0), "guard 0"),
            (
                |_, m| {
                    let (mean, deviation) = (vec![0.0; 8], vec![0.0; 8]);
                    m.normalization = Normalization::Fixed { mean, deviation };
                },
                "deviation is not positive",
            ),
        ];
        for (change, words) in cases {
            let mut spec = tiny_spec(TINY);
            let FrontEnd::LogMel(mut mel) = spec.front_end.clone() else {
                panic!("a speech model")
            };
            change(&mut spec, &mut mel);
            spec.front_end = FrontEnd::LogMel(mel);
            let error = spec.validate().expect_err(words);
            assert_eq!(error.kind(), ErrorKind::Spec);
            assert!(error.to_string().contains(words), "{error} lacks {words:?}");
        }
    }

    #[test]
    fn utterance_normalization_and_newer_versions_are_refused() {
        let mut spec = tiny_spec(TINY);
        let FrontEnd::LogMel(mel) = &mut spec.front_end else {
            panic!("a speech model")
        };
        mel.normalization = Normalization::Utterance { epsilon: 1e-5 };
        assert_eq!(spec.validate().unwrap_err().kind(), ErrorKind::Spec);
        let mut spec = tiny_spec(TINY);
        spec.version = SPEC_VERSION + 1;
        assert_eq!(spec.validate().unwrap_err().kind(), ErrorKind::SpecVersion);
    }

    #[test]
    fn a_fixed_time_axis_needs_streaming() {
        let fixed = Tiny {
            frames: Some(32),
            state: false,
            ..TINY
        };
        let error = refused(&tiny_spec(fixed), fixed);
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let mut spec = tiny_spec(TINY);
        spec.tokens.word_mark = WordMark::None;
        let other = Tiny {
            frames: Some(32),
            ..TINY
        };
        let error = refused(&spec, other).to_string();
        assert!(error.contains("has 32 where the spec says 16"), "{error}");
    }
}
