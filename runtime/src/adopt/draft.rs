//! The draft of a spec: what header, convention and preset say together, before anything ran.

use super::{Adoption, Convention, Preset, Report, Standing, guess, image, speech, tokens, unsure};
use crate::model::header::{Dim, ElementType, ModelHeader, TensorInfo};
use crate::spec::{
    FrontEnd, GivenInput, GraphSpec, InputLayout, ModelSpec, OutputLayout, OutputValues, Role,
    SPEC_VERSION, StreamingSpec,
};
use crate::{Error, ErrorKind, Result};
use std::collections::BTreeMap;

/// What a convention says of a graph.
pub(super) struct Plan {
    pub front_end: FrontEnd,
    pub input: String,
    pub input_layout: InputLayout,
    pub input_length: Option<String>,
    pub given: Vec<GivenInput>,
    pub output: String,
    pub output_values: OutputValues,
    pub stride: usize,
    pub streaming: Option<StreamingSpec>,
}

/// The spec that a model of this header is adopted with, before a run measured what only a run shows: its stride where
/// nobody says, and what kind of numbers it gives. `report` has where everything comes from.
///
/// # Errors
/// [`ErrorKind::Spec`] where something is missing, contradicts the file, or cannot be sure;
/// [`ErrorKind::Unsupported`] for weights in other files and inputs that are not float32.
pub fn draft(header: &ModelHeader, adoption: &Adoption, report: &mut Report) -> Result<ModelSpec> {
    if let Some(tensor) = header.external.first() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "tensor {tensor:?} and {} more keep their data in another file: adopt with the external data, if the \
                 file lies beside the model, or save the model as one file",
                header.external.len() - 1
            ),
        ));
    }
    let preset = &adoption.preset;
    let convention = convention(header, preset, report)?;
    report.found(
        "graph",
        format!(
            "{} nodes, {} weights, opset {}",
            header.nodes(),
            header.parameters(),
            header
                .opsets
                .iter()
                .map(|(_, v)| *v)
                .max()
                .unwrap_or_default()
        ),
    );
    let plan = match convention {
        Some(Convention::Ppocr) => image::ppocr(header, preset, report)?,
        Some(convention) => speech::plan(convention, header, preset, report)?,
        None => bare(header, preset, report)?,
    };
    let (output, output_layout) = output(header, &plan, preset, report)?;
    let vocabulary = match output.dims.as_deref().and_then(|dims| match output_layout {
        OutputLayout::BV1T => dims.get(1),
        OutputLayout::BTV | OutputLayout::TBV => dims.get(2),
    }) {
        Some(Dim::Fixed(size)) => usize::try_from(*size).ok(),
        _ => None,
    };
    let listed = match (&adoption.tokens, header.metadata("character")) {
        (Some(text), _) => tokens::parse(text)?,
        (None, Some(text)) if convention == Some(Convention::Ppocr) => {
            report.found("characters", "metadata key `character`");
            tokens::parse(text)?
        }
        _ => {
            report.note(Standing::Missing, "tokens", "the file has none");
            return Err(unsure(match convention {
                Some(Convention::Wav2vec2Ctc) => {
                    "the file has no tokens: give the model's vocab.json with --tokens"
                }
                Some(Convention::Ppocr) => {
                    "the file has no metadata key `character`: give the list of characters it was trained with, one a \
                     line, with --tokens; if it has none, it is no recognizer"
                }
                _ => "the file has no tokens: give the tokens.txt that came with it with --tokens",
            }));
        }
    };
    let tokens = tokens::vocabulary(listed, vocabulary, convention, preset, report)?;
    let license = preset
        .license
        .clone()
        .or_else(|| header.metadata("license").map(str::to_owned));
    match &license {
        Some(license) => report.note(Standing::Given, "license", license),
        None => report.note(Standing::Missing, "license", "unknown"),
    }
    let name = preset
        .name
        .clone()
        .unwrap_or_else(|| stem(&adoption.original));
    let mut about = BTreeMap::new();
    if !adoption.original.is_empty() {
        about.insert("original".to_owned(), adoption.original.clone());
    }
    let of = convention.map_or("preset", Convention::name);
    about.insert("adopted as".to_owned(), of.to_owned());
    sum_up(report, &mut about);
    let spec = ModelSpec {
        version: SPEC_VERSION,
        name,
        task: plan.front_end.task(),
        role: Role::Student,
        license: license.unwrap_or_else(|| "unknown".to_owned()),
        sha256: String::new(),
        about,
        tokens,
        front_end: plan.front_end,
        graph: GraphSpec {
            input: plan.input,
            input_layout: plan.input_layout,
            input_length: plan.input_length,
            label: None,
            given: plan.given,
            output: plan.output,
            output_layout,
            output_values: preset.output_values.unwrap_or(plan.output_values),
        },
        stride: plan.stride,
        streaming: plan.streaming,
    };
    spec.check(header)?;
    Ok(spec)
}

/// What was assumed and given, for the spec's own remarks.
pub(super) fn sum_up(report: &Report, about: &mut BTreeMap<String, String>) {
    for (key, value) in [("assumed", Standing::Assumed), ("given", Standing::Given)] {
        let summary = report.summary(value);
        match summary.is_empty() {
            true => drop(about.remove(key)),
            false => drop(about.insert(key.to_owned(), summary)),
        }
    }
}

/// The convention to go by: the one asked for, unless the file's own words speak for another.
fn convention(
    header: &ModelHeader,
    preset: &Preset,
    report: &mut Report,
) -> Result<Option<Convention>> {
    let guessed = guess(header);
    match (preset.convention, guessed) {
        (Some(asked), Some(found)) if asked != found => Err(unsure(format!(
            "it was said to be {asked}, but its names and metadata are those of {found}: adopt it as that, or describe \
             it in a preset without a convention"
        ))),
        (Some(asked), _) => {
            report.note(Standing::Given, "convention", asked);
            Ok(Some(asked))
        }
        (None, Some(found)) if preset.front_end.is_none() => {
            report.found("convention", found);
            Ok(Some(found))
        }
        (None, _) if preset.front_end.is_some() => {
            report.note(Standing::Given, "convention", "none: the preset alone");
            Ok(None)
        }
        (None, _) => Err(unsure(format!(
            "nothing in the file says whose export it is: name the convention ({}), or describe the model in a preset, \
             its front_end at least",
            Convention::ALL.map(Convention::name).join(", ")
        ))),
    }
}

/// The features input: the one named, or the only one that is expected.
pub(super) fn input<'h>(
    header: &'h ModelHeader,
    preset: &Preset,
    expected: &str,
    report: &mut Report,
) -> Result<&'h TensorInfo> {
    let name = preset.input.as_deref().unwrap_or(expected);
    let found = match (header.input(name), header.inputs.as_slice()) {
        (Some(input), _) => input,
        // With a single input there is nothing to confuse it with.
        (None, [only]) if preset.input.is_none() => only,
        _ => {
            let names: Vec<String> = header
                .inputs
                .iter()
                .take(8)
                .map(TensorInfo::to_string)
                .collect();
            return Err(unsure(format!(
                "no input is called {name:?}; there are: {}",
                names.join(", ")
            )));
        }
    };
    report.found("input", found);
    if found.element != Some(ElementType::F32) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "input {found} is not float32: export the model with float32 inputs and outputs; its weights may be of \
                 any type"
            ),
        ));
    }
    Ok(found)
}

/// The fixed length of an axis.
pub(super) fn fixed(info: &TensorInfo, axis: usize) -> Option<usize> {
    match info.dims.as_ref()?.get(axis)? {
        Dim::Fixed(length) => usize::try_from(*length).ok(),
        _ => None,
    }
}

/// Refuses a tensor with another number of axes.
pub(super) fn rank(info: &TensorInfo, axes: usize, letters: &str, hint: &str) -> Result<()> {
    match info.dims.as_ref().map(Vec::len) {
        Some(found) if found != axes => Err(unsure(format!(
            "tensor {info} has {found} axes where {axes} are expected ({letters}){hint}"
        ))),
        _ => Ok(()),
    }
}

fn output<'h>(
    header: &'h ModelHeader,
    plan: &Plan,
    preset: &Preset,
    report: &mut Report,
) -> Result<(&'h TensorInfo, OutputLayout)> {
    let output = header.output(&plan.output).ok_or_else(|| {
        let names: Vec<String> = header
            .outputs
            .iter()
            .take(8)
            .map(TensorInfo::to_string)
            .collect();
        unsure(format!(
            "no output is called {:?}; there are: {}",
            plan.output,
            names.join(", ")
        ))
    })?;
    report.found("output", output);
    let layout = preset.output_layout.unwrap_or(OutputLayout::BTV);
    let hint = match plan.front_end {
        FrontEnd::Line(_) => {
            ": a detector gives a map of 4 axes, and finds words with `acolyte read --find --detector`; a classifier \
             gives 2; neither reads"
        }
        _ => "",
    };
    match layout {
        OutputLayout::BV1T => rank(output, 4, "B V 1 T", hint)?,
        OutputLayout::BTV => rank(output, 3, "B T V", hint)?,
        OutputLayout::TBV => rank(output, 3, "T B V", hint)?,
    }
    Ok((output, layout))
}

/// A plan from a preset alone.
fn bare(header: &ModelHeader, preset: &Preset, report: &mut Report) -> Result<Plan> {
    let missing = |what: &str| {
        unsure(format!(
            "without a convention the preset must say `{what}`, which the file does not"
        ))
    };
    let front_end = preset
        .front_end
        .clone()
        .ok_or_else(|| missing("front_end"))?;
    let input = match (&preset.input, header.inputs.as_slice()) {
        (Some(name), _) => name.clone(),
        (None, [only]) => only.name.clone(),
        _ => return Err(missing("input")),
    };
    let output = match (&preset.output, header.outputs.as_slice()) {
        (Some(name), _) => name.clone(),
        (None, [only]) => only.name.clone(),
        _ => return Err(missing("output")),
    };
    let layout = match (&preset.input_layout, &front_end) {
        (Some(layout), _) => *layout,
        (None, FrontEnd::Line(_)) => InputLayout::BCHT,
        (None, FrontEnd::Waveform(_)) => InputLayout::BT,
        (None, FrontEnd::LogMel(_)) => return Err(missing("input_layout")),
    };
    let (stride, _) = report.settle("stride", preset.stride, None, 1);
    Ok(Plan {
        front_end,
        input,
        input_layout: layout,
        input_length: preset.input_length.clone(),
        given: preset.given.clone(),
        output,
        output_values: OutputValues::Logits,
        stride,
        streaming: preset.streaming.clone(),
    })
}

/// A file's name without folder and ending.
fn stem(original: &str) -> String {
    let name = original.rsplit(['/', '\\']).next().unwrap_or_default();
    match name.strip_suffix(".onnx").unwrap_or(name) {
        "" => "adopted".to_owned(),
        stem => stem.to_owned(),
    }
}
