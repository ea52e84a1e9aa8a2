//! The checks of a spec against the graph it stands in, before anything runs.
//!
//! A wrong spec would not fail by itself: it would give fluent nonsense. So every name, type and axis the
//! runtime relies on is held against the graph first. Axis letters: B batch, T frames, F features, V
//! vocabulary with blank.

use super::check::demand;
use super::{FrontEnd, GivenValue, InputLayout, ModelSpec, OutputLayout, Role, StateElement};
use crate::model::header::{Dim, ElementType, ModelHeader, TensorInfo};
use crate::{Error, ErrorKind, Result};

impl ModelSpec {
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
        for given in &self.graph.given {
            let input = tensor(
                header.input(&given.input),
                "input",
                &given.input,
                &header.inputs,
            )?;
            check_given(input, &given.value)?;
            known.push(&given.input);
        }
        for state in self.streaming.iter().flat_map(|s| &s.state) {
            let mut expected: Vec<_> = state.shape.iter().map(|&n| ("state", Some(n))).collect();
            if let Some(axis) = state.batch_axis {
                expected.insert(axis.min(expected.len()), ("B", None));
            }
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
                let kind = match state.element {
                    StateElement::F32 => ElementType::F32,
                    StateElement::I64 => ElementType::I64,
                };
                element(side, kind)?;
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
            InputLayout::BT => axes(input, &[("B", None), ("T", frames)]),
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
            FrontEnd::LogMel(_) | FrontEnd::Waveform(_) => (None, None),
        };
        [("B", None), ("C", channels), ("H", height), ("T", frames)]
    }

    /// The number of frames the graph insists on, which must be the chunk's where the model streams.
    fn fixed_frames(&self, input: &TensorInfo) -> Option<usize> {
        let axis = match self.graph.input_layout {
            InputLayout::BF1T | InputLayout::BCHT => 3,
            InputLayout::BFT => 2,
            InputLayout::BTF | InputLayout::BT => 1,
        };
        match (input.dims.as_ref()?.get(axis)?, &self.streaming) {
            (Dim::Fixed(_), Some(streaming)) => {
                Some(streaming.chunk_frames + streaming.overlap_frames)
            }
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

/// Holds an input that is always given the same against what it is given.
fn check_given(input: &TensorInfo, value: &GivenValue) -> Result<()> {
    match value {
        GivenValue::Ones => {
            element(input, ElementType::I64)?;
            axes(input, &[("B", None), ("T", None)])
        }
        GivenValue::Constant { .. } | GivenValue::Counter { .. } => {
            element(input, ElementType::I64)?;
            match input.dims.as_ref().map(Vec::len) {
                Some(0) => Ok(()),
                _ => axes(input, &[("1", Some(1))]),
            }
        }
        GivenValue::Filled { cache, chunk } => {
            element(input, ElementType::Bool)?;
            axes(
                input,
                &[
                    ("1", Some(1)),
                    ("1", Some(1)),
                    ("cache + chunk", Some(cache + chunk)),
                ],
            )
        }
    }
}

/// Most items that a graph may fix its batch to.
const MAX_BATCH: u64 = 1024;

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
/// may be fixed to up to [`MAX_BATCH`].
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
        let most = if *letter == "B" { MAX_BATCH } else { u64::MAX };
        demand!(
            length.is_none_or(|length| length as u64 == *found) && (1..=most).contains(found),
            "tensor {info} has {found} where the spec says {} ([{letters}])",
            length.map_or_else(|| format!("1 to {most}"), |length| length.to_string())
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{TINY, Tiny, tiny_onnx, tiny_spec};
    use crate::spec::{GivenInput, WordMark};

    fn refused(spec: &ModelSpec, tiny: Tiny) -> Error {
        let header = ModelHeader::read(&tiny_onnx(tiny)).unwrap();
        spec.check(&header).expect_err("refused")
    }

    fn state(spec: &mut ModelSpec) -> &mut crate::spec::StateSpec {
        &mut spec.streaming.as_mut().unwrap().state[0]
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
        let cases: [(Change, &str); 15] = [
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
            (|s| state(s).element = StateElement::I64, "must be int64"),
            (|s| state(s).batch_axis = None, "has 4 axes"),
            (
                |s| {
                    s.graph.given.push(GivenInput {
                        input: "features".into(),
                        value: GivenValue::Filled { cache: 4, chunk: 2 },
                    });
                },
                "must be bool",
            ),
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
