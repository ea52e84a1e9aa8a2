//! The state of models that stream: which output is the next value of which input, and how runs advance.
//!
//! icefall: `cached_*`, `embed_states`, `processed_lens` and `new_*`; a run shows `T` frames and advances by
//! `decode_chunk_len`. NeMo: `cache_last_*` and `*_next`; `window_size` and `chunk_shift`. WeNet: `attn_cache`,
//! `conv_cache` and their `next_*`, with `offset`, `required_cache_size` and `attn_mask` that follow from the number of
//! runs; `(chunk - 1) subsampling + right_context + 1` frames, advancing by `chunk subsampling`.

use super::speech::{names, number};
use super::{Convention, Preset, Report, Standing, unsure};
use crate::model::header::{Dim, ElementType, ModelHeader, TensorInfo};
use crate::spec::{GivenInput, GivenValue, StateElement, StateSpec, StreamingSpec};
use crate::{Error, ErrorKind, Result};

/// Frames of right context of WeNet's usual subsampling by 4.
const WENET_CONTEXT: usize = 6;
/// Output frames of a chunk that WeNet's models are usually run with, and chunks they remember.
const WENET_CHUNK: (usize, usize) = (16, 4);

/// What the state of a model is read from.
pub(super) struct Context<'a> {
    pub convention: Convention,
    pub header: &'a ModelHeader,
    pub preset: &'a Preset,
    pub features: &'a TensorInfo,
    pub stride: usize,
    /// The feature value of silence.
    pub silence: f32,
    /// Name of the output with the scores.
    pub output: &'a str,
}

/// How the model streams, if it has inputs beyond `known`; adds what must be given to `given`.
pub(super) fn streaming(
    context: &Context<'_>,
    known: &[String],
    given: &mut Vec<GivenInput>,
    report: &mut Report,
) -> Result<Option<StreamingSpec>> {
    let (header, preset) = (context.header, context.preset);
    let mut rest: Vec<&TensorInfo> = header
        .inputs
        .iter()
        .filter(|input| !known.contains(&input.name))
        .collect();
    if rest.is_empty() {
        report.found("streaming", "no: the graph has no state");
        return Ok(None);
    }
    let time = match context.convention {
        Convention::NemoCtc => 2,
        _ => 1,
    };
    let shown = super::draft::fixed(context.features, time);
    let (chunk, overlap) = match context.convention {
        Convention::IcefallCtc => {
            let frames = number(header, "T").or(shown);
            let advance = number(header, "decode_chunk_len");
            both(&rest, "decode_chunk_len", advance, "T", frames)?
        }
        Convention::NemoCtc => both(
            &rest,
            "chunk_shift",
            number(header, "chunk_shift"),
            "window_size",
            number(header, "window_size").or(shown),
        )?,
        Convention::WenetCtc => wenet(context, shown, given, &mut rest, report)?,
        Convention::Ppocr | Convention::Wav2vec2Ctc => {
            return Err(unsure(format!(
                "inputs that no {} model has: {}; name them in a preset",
                context.convention,
                names(rest.into_iter())
            )));
        }
    };
    if preset.streaming.is_none() {
        report.found("chunk", format!("{chunk} frames, {overlap} more shown"));
    }
    let mut taken = vec![context.output];
    let mut state = Vec::with_capacity(rest.len());
    for input in rest {
        let output = partner(header, input, &taken).ok_or_else(|| {
            unsure(format!(
                "input {input} looks like state, but no output is its next value; the outputs are: {}",
                names(header.outputs.iter())
            ))
        })?;
        taken.push(&output.name);
        state.push(spec(context, input, output)?);
    }
    report.found("state", format!("{} tensors", state.len()));
    report.assumed("flush value", context.silence);
    Ok(Some(StreamingSpec {
        chunk_frames: chunk,
        overlap_frames: overlap,
        delay_frames: 0,
        flush_value: context.silence,
        state,
    }))
}

/// Frames by which a run advances and those it is shown beyond them, from the metadata.
fn both(
    state: &[&TensorInfo],
    step: &str,
    advance: Option<usize>,
    whole: &str,
    shown: Option<usize>,
) -> Result<(usize, usize)> {
    match (advance, shown) {
        (Some(advance), Some(shown)) if advance > 0 && advance <= shown => {
            Ok((advance, shown - advance))
        }
        (Some(advance), Some(shown)) => Err(unsure(format!(
            "metadata key `{step}` is {advance} and `{whole}` {shown}: a run cannot advance by that"
        ))),
        _ => Err(unsure(format!(
            "inputs beyond features and their number look like state ({}), but metadata key `{step}` or `{whole}` is \
             missing: describe `streaming` or `given` in a preset",
            names(state.iter().copied())
        ))),
    }
}

fn wenet(
    context: &Context<'_>,
    shown: Option<usize>,
    given: &mut Vec<GivenInput>,
    rest: &mut Vec<&TensorInfo>,
    report: &mut Report,
) -> Result<(usize, usize)> {
    let (header, preset, stride) = (context.header, context.preset, context.stride);
    let (right, _) = report.settle(
        "right context",
        None,
        number(header, "right_context"),
        WENET_CONTEXT,
    );
    // T = (chunk - 1) stride + right + 1.
    let from_shape = shown
        .and_then(|frames| frames.checked_sub(right + 1))
        .map(|frames| frames / stride.max(1) + 1);
    let found = number(header, "chunk_size")
        .filter(|&n| n > 0)
        .or(from_shape);
    let (chunk, _) = report.settle("chunk size", preset.chunk, found, WENET_CHUNK.0);
    let held = header
        .input("attn_cache")
        .or(header.input("att_cache"))
        .and_then(|cache| super::draft::fixed(cache, 2))
        .filter(|held| chunk > 0 && held.is_multiple_of(chunk));
    let found = number(header, "left_chunks").or(held.map(|held| held / chunk.max(1)));
    let (left, _) = report.settle("left chunks", preset.remembered, found, WENET_CHUNK.1);
    let sane = |n: usize| (1..=1 << 12).contains(&n);
    if !sane(chunk) || left > 1 << 12 || stride == 0 {
        return Err(unsure(format!(
            "a chunk of {chunk} output frames, {left} of them remembered, stride {stride}: out of range"
        )));
    }
    let cache = chunk * left;
    let int = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
    for (name, value) in [
        (
            "offset",
            GivenValue::Counter {
                start: int(cache),
                step: int(chunk),
            },
        ),
        (
            "required_cache_size",
            GivenValue::Constant { value: int(cache) },
        ),
        ("attn_mask", GivenValue::Filled { cache, chunk }),
        ("att_mask", GivenValue::Filled { cache, chunk }),
    ] {
        if header.input(name).is_some() && !given.iter().any(|g| g.input == name) {
            report.note(Standing::Assumed, name, format!("{value:?}"));
            given.push(GivenInput {
                input: name.to_owned(),
                value,
            });
        }
    }
    rest.retain(|input| !given.iter().any(|given| given.input == input.name));
    let (shown, advance) = ((chunk - 1) * stride + right + 1, chunk * stride);
    Ok((advance, shown.saturating_sub(advance)))
}

/// The output that is the next value of a state input, by its name, or by its place among WeNet's.
fn partner<'h>(
    header: &'h ModelHeader,
    input: &TensorInfo,
    taken: &[&str],
) -> Option<&'h TensorInfo> {
    let name = &input.name;
    let other = name
        .replace("attn_cache", "att_cache")
        .replace("conv_cache", "cnn_cache");
    let candidates = [
        format!("new_{name}"),
        format!("next_{name}"),
        format!("{name}_next"),
        format!("{name}_out"),
        format!("next_{other}"),
        format!("new_{other}"),
        format!("r_{other}"),
    ];
    let named = candidates.iter().find_map(|name| header.output(name));
    named.filter(|output| !taken.contains(&output.name.as_str()))
}

/// The shape of a state tensor: its fixed axes, the open one being the batch; where more are open, the metadata's.
fn spec(context: &Context<'_>, input: &TensorInfo, output: &TensorInfo) -> Result<StateSpec> {
    let element = match input.element {
        Some(ElementType::F32) => StateElement::F32,
        Some(ElementType::I64) => StateElement::I64,
        _ => {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "state {input}: its elements must be float32 or int64; export the model so"
                ),
            ));
        }
    };
    let dims = input.dims.as_deref().ok_or_else(|| {
        unsure(format!(
            "state {input} has no shape: describe it in a preset"
        ))
    })?;
    let declared = declared(context, input, dims.len());
    let mut shape = Vec::with_capacity(dims.len());
    let mut batch_axis = None;
    for (axis, dim) in dims.iter().enumerate() {
        let length = match dim {
            Dim::Fixed(length) => usize::try_from(*length).ok(),
            Dim::Named(_) | Dim::Free => declared
                .as_ref()
                .and_then(|d| d.get(axis).copied().flatten()),
        };
        match length {
            Some(length) => shape.push(length),
            None if batch_axis.is_none() => batch_axis = Some(axis),
            None => {
                return Err(unsure(format!(
                    "state {input} has several open axes, and nothing says which is the batch: export it with fixed \
                     lengths, or describe `streaming` in a preset"
                )));
            }
        }
    }
    Ok(StateSpec {
        input: input.name.clone(),
        output: output.name.clone(),
        shape,
        element,
        batch_axis,
    })
}

/// Lengths of a state's axes that the metadata names, none for the batch.
fn declared(context: &Context<'_>, input: &TensorInfo, rank: usize) -> Option<Vec<Option<usize>>> {
    let header = context.header;
    let get = |key: &str| number(header, key);
    match (context.convention, input.name.as_str()) {
        (Convention::NemoCtc, name) if rank == 4 => {
            let mut lengths = vec![None];
            for axis in 1..4 {
                lengths.push(Some(get(&format!("{name}_dim{axis}"))?));
            }
            Some(lengths)
        }
        (Convention::WenetCtc, "attn_cache" | "att_cache") if rank == 4 => {
            let (heads, size) = (get("head")?, get("output_size")?);
            let cache = context.preset.chunk.unwrap_or(WENET_CHUNK.0)
                * context.preset.remembered.unwrap_or(WENET_CHUNK.1);
            let each = size.checked_div(heads)?.checked_mul(2)?;
            Some(vec![
                Some(get("num_blocks")?),
                Some(heads),
                Some(cache),
                Some(each),
            ])
        }
        (Convention::WenetCtc, "conv_cache" | "cnn_cache") if rank == 4 => {
            let kernel = get("cnn_module_kernel")?.checked_sub(1)?;
            Some(vec![
                Some(get("num_blocks")?),
                Some(1),
                Some(get("output_size")?),
                Some(kernel),
            ])
        }
        _ => None,
    }
}
