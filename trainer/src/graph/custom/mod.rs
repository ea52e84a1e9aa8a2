//! Operators of ours, for what ONNX has no fast form: kernels in safe Rust on the CPU provider, under the domain
//! [`DOMAIN`]. Each is tested against its form in plain ONNX operators or against brute force.
//!
//! A panic inside a kernel would abort the process, so every kernel runs behind `catch_unwind` and reports an
//! error instead.

mod activation;
mod batch_norm;
mod ctc;
mod depthwise;
mod dropout;
mod gather;
mod gru;
mod kernel;
mod later;
mod layer_norm;
mod max_pool;
mod rows;
mod softmax;
mod unfold;

use super::op::{Gate, Op, Slope};
use crate::Result;
use crate::onnx::proto::AttributeProto;
use crate::onnx::{float, int, ints};
use ort::operator::OperatorDomain;

/// The operator domain of ours.
pub const DOMAIN: &str = "acolyte";

/// All our operators, to be registered with a session that runs a training graph.
pub(crate) fn domain() -> Result<OperatorDomain> {
    Ok(OperatorDomain::new(DOMAIN)?
        .add(batch_norm::FORWARD)?
        .add(batch_norm::BACKWARD)?
        .add(ctc::LOSS)?
        .add(depthwise::WEIGHT_GRADIENT)?
        .add(dropout::APPLY)?
        .add(dropout::MASK)?
        .add(gather::BACKWARD)?
        .add(gru::FORWARD)?
        .add(gru::BACKWARD)?
        .add(later::COPY)?
        .add(layer_norm::FORWARD)?
        .add(layer_norm::BACKWARD)?
        .add(max_pool::BACKWARD)?
        .add(rows::FORWARD)?
        .add(rows::BACKWARD)?
        .add(activation::SILU)?
        .add(activation::SILU_GRAD)?
        .add(activation::GELU)?
        .add(activation::GELU_GRAD)?
        .add(activation::RELU_GRAD)?
        .add(activation::SIGMOID_GRAD)?
        .add(activation::TANH_GRAD)?
        .add(softmax::BACKWARD)?
        .add(unfold::UNFOLD)?)
}

/// Whether a kernel of ours replaces an operator that ONNX has too.
pub(crate) fn replaces(op: &Op) -> bool {
    matches!(op, Op::LayerNorm { .. })
}

/// The ONNX name of one of our operators.
pub(crate) fn name(op: &Op) -> &'static str {
    match op {
        Op::BatchNorm { .. } => "BatchNorm",
        Op::BatchNormGrad { .. } => "BatchNormGrad",
        Op::CtcLoss { .. } => "CtcLoss",
        Op::DepthwiseWeightGrad { .. } => "DepthwiseWeightGrad",
        Op::Dropout { .. } => "Dropout",
        Op::DropoutMask { .. } => "DropoutMask",
        Op::GatherGrad { .. } => "GatherGrad",
        Op::GruSteps => "GruSteps",
        Op::GruStepsGrad => "GruStepsGrad",
        Op::Later => "Later",
        Op::LayerNorm { .. } => "LayerNorm",
        Op::LayerNormGrad => "LayerNormGrad",
        Op::DepthwiseRows(_) => "DepthwiseRows",
        Op::DepthwiseRowsGrad(_) => "DepthwiseRowsGrad",
        Op::MaxPoolGrad(_) => "MaxPoolGrad",
        Op::Gated(Gate::Silu) => "Silu",
        Op::Gated(Gate::Gelu) => "Gelu",
        Op::GatedGrad(Gate::Silu) => "SiluGrad",
        Op::GatedGrad(Gate::Gelu) => "GeluGrad",
        Op::SlopeGrad(Slope::Relu) => "ReluGrad",
        Op::SlopeGrad(Slope::Sigmoid) => "SigmoidGrad",
        Op::SlopeGrad(Slope::Tanh) => "TanhGrad",
        Op::SoftmaxGrad => "SoftmaxGrad",
        Op::Unfold { .. } => "Unfold",
        _ => "Unknown",
    }
}

/// The attributes of one of our operators.
pub(crate) fn attributes(op: &Op) -> Vec<AttributeProto> {
    let list = |values: &[usize]| values.iter().map(|&v| v as i64).collect::<Vec<_>>();
    match op {
        Op::BatchNorm { epsilon, relu } | Op::BatchNormGrad { epsilon, relu } => {
            vec![float("epsilon", *epsilon), int("relu", i64::from(*relu))]
        }
        Op::MaxPoolGrad(window) => vec![
            ints("kernel", &list(&window.kernel)),
            ints("strides", &list(&window.strides)),
            ints("pads", &list(&window.pads)),
        ],
        Op::LayerNorm { epsilon } => vec![float("epsilon", *epsilon)],
        Op::DepthwiseRows(taps) | Op::DepthwiseRowsGrad(taps) => {
            vec![ints("taps", &list(&[taps.left, taps.right, taps.dilation]))]
        }
        Op::CtcLoss { blank } => vec![int("blank", *blank as i64)],
        Op::DepthwiseWeightGrad { conv, kernel } => vec![
            ints("kernel", &list(kernel)),
            ints("strides", &list(&conv.strides)),
            ints("pads", &list(&conv.pads)),
            ints("dilations", &list(&conv.dilations)),
        ],
        Op::Unfold { conv, kernel } => vec![
            ints("kernel", &list(kernel)),
            ints("strides", &list(&conv.strides)),
            ints("pads", &list(&conv.pads)),
            ints("dilations", &list(&conv.dilations)),
        ],
        Op::GatherGrad { rows } => vec![int("rows", *rows as i64)],
        Op::Dropout { rate, stream } => {
            vec![float("rate", *rate), int("stream", *stream as i64)]
        }
        Op::DropoutMask {
            rate,
            stream,
            shape,
        } => vec![
            float("rate", *rate),
            int("stream", *stream as i64),
            ints("shape", &list(shape)),
        ],
        _ => Vec::new(),
    }
}
