//! Models of speech: NeMo, icefall, WeNet (both as sherpa has them) and wav2vec2.

use super::draft::{Plan, fixed, input, rank};
use super::{Convention, Preset, Report, Standing, state, unsure};
use crate::Result;
use crate::model::header::{ModelHeader, TensorInfo};
use crate::spec::{
    FrontEnd, GivenInput, GivenValue, InputLayout, LogMelSpec, Normalization, OutputValues,
    WaveformSpec,
};
use std::fmt;

/// A number in the metadata.
pub(super) fn number(header: &ModelHeader, key: &str) -> Option<usize> {
    header.metadata(key)?.trim().parse().ok()
}

/// What a convention says of a graph.
pub(super) fn plan(
    convention: Convention,
    header: &ModelHeader,
    preset: &Preset,
    report: &mut Report,
) -> Result<Plan> {
    let names = match convention {
        Convention::NemoCtc => ("audio_signal", "length", "logprobs"),
        Convention::Wav2vec2Ctc => ("input_values", "input_length", "logits"),
        _ => ("x", "x_lens", "log_probs"),
    };
    let features = input(header, preset, names.0, report)?;
    let layout = preset.input_layout.unwrap_or(match convention {
        Convention::NemoCtc => InputLayout::BFT,
        Convention::Wav2vec2Ctc => InputLayout::BT,
        _ => InputLayout::BTF,
    });
    let (axes, letters, axis) = match layout {
        InputLayout::BF1T => (4, "B F 1 T", 1),
        InputLayout::BFT => (3, "B F T", 1),
        InputLayout::BTF => (3, "B T F", 2),
        InputLayout::BT => (2, "B T", 1),
        InputLayout::BCHT => return Err(unsure("a model of speech takes no images")),
    };
    rank(
        features,
        axes,
        letters,
        ": it is no export of this convention",
    )?;
    let filters = fixed(features, axis).filter(|_| layout != InputLayout::BT);
    let front_end = match &preset.front_end {
        Some(front_end) => {
            report.note(Standing::Given, "front-end", "by the preset");
            front_end.clone()
        }
        None => conventional(convention, header, filters, report)?,
    };
    let input_length = preset
        .input_length
        .clone()
        .or_else(|| header.input(names.1).map(|info| info.name.clone()));
    let mut known = vec![features.name.clone()];
    known.extend(input_length.clone());
    let mut given = preset.given.clone();
    if header.input("attention_mask").is_some() && given.is_empty() {
        report.found("attention_mask", "ones: every sample counts");
        given.push(GivenInput {
            input: "attention_mask".into(),
            value: GivenValue::Ones,
        });
    }
    let output = match (
        &preset.output,
        header.output(names.2),
        header.outputs.first(),
    ) {
        (Some(name), ..) => name.clone(),
        (None, Some(named), _) => named.name.clone(),
        (None, None, Some(first)) => {
            report.assumed("output", format!("the first, {:?}", first.name));
            first.name.clone()
        }
        (None, None, None) => return Err(unsure("the graph has no output")),
    };
    let declared = number(header, "subsampling_factor");
    let assumed = match convention {
        Convention::Wav2vec2Ctc => 320,
        _ => 4,
    };
    let (stride, _) = report.settle("stride", preset.stride, declared, assumed);
    let streaming = match &preset.streaming {
        Some(streaming) => {
            report.note(Standing::Given, "streaming", "by the preset");
            Some(streaming.clone())
        }
        None => {
            known.extend(given.iter().map(|given| given.input.clone()));
            let silence = front_end.silence();
            let context = state::Context {
                convention,
                header,
                preset,
                features,
                stride,
                silence,
                output: &output,
            };
            state::streaming(&context, &known, &mut given, report)?
        }
    };
    Ok(Plan {
        front_end,
        input: features.name.clone(),
        input_layout: layout,
        input_length,
        given,
        output,
        output_values: match convention {
            Convention::Wav2vec2Ctc => OutputValues::Logits,
            _ => OutputValues::LogProbs,
        },
        stride,
        streaming,
    })
}

/// The front-end that models of a convention are trained with.
fn conventional(
    convention: Convention,
    header: &ModelHeader,
    filters: Option<usize>,
    report: &mut Report,
) -> Result<FrontEnd> {
    let mut mel = match convention {
        Convention::Wav2vec2Ctc => {
            report.assumed("front-end", "16 kHz samples, zero mean and unit variance");
            return Ok(FrontEnd::Waveform(WaveformSpec::default()));
        }
        Convention::NemoCtc => {
            let mut mel = LogMelSpec::nemo();
            let kind = header.metadata("normalize_type");
            match kind {
                Some("per_feature") => report.found("normalization", "per feature"),
                Some("" | "NA" | "None") => {
                    report.found("normalization", "none");
                    mel.normalization = Normalization::None;
                }
                Some(other) => {
                    return Err(unsure(format!(
                        "metadata key `normalize_type` is {other:?}, known are \"per_feature\" and \"\": describe the \
                         front_end in a preset"
                    )));
                }
                // Cache-aware models cannot normalize over what they have not heard.
                None if header.input("cache_last_channel").is_some() => {
                    report.assumed("normalization", "none, as it streams");
                    mel.normalization = Normalization::None;
                }
                None => report.assumed("normalization", "per feature"),
            }
            report.assumed(
                "front-end",
                "NeMo: 16 kHz, window of 25 ms every 10 ms, Slaney's filters, pre-emphasis",
            );
            mel
        }
        Convention::WenetCtc => {
            report.assumed(
                "front-end",
                "Kaldi's filterbank at 16 kHz, 16-bit units, up to 8000 Hz",
            );
            LogMelSpec::kaldi()
        }
        _ => {
            report.assumed(
                "front-end",
                "Kaldi's filterbank at 16 kHz as icefall has it, up to 7600 Hz",
            );
            LogMelSpec::icefall()
        }
    };
    (mel.mels, _) = report.settle("filters", None, filters, mel.mels);
    Ok(FrontEnd::LogMel(mel))
}

impl FrontEnd {
    /// The feature value of digital silence, before any normalization by constants.
    pub(super) fn silence(&self) -> f32 {
        match self {
            Self::LogMel(mel) => match mel.log {
                crate::spec::LogGuard::Floor(guard) | crate::spec::LogGuard::Add(guard) => {
                    guard.ln()
                }
            },
            Self::Line(_) | Self::Waveform(_) => 0.0,
        }
    }
}

/// The names of tensors, for a message.
pub(super) fn names<'t>(tensors: impl Iterator<Item = &'t TensorInfo>) -> impl fmt::Display {
    let names: Vec<&str> = tensors.take(12).map(|t| t.name.as_str()).collect();
    names.join(", ")
}
