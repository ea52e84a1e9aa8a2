//! Causal convolution along time with batch norm: the one building block of the convolutional students.
//!
//! x `[1, Ci, 1, T]` to `[1, Co, 1, T / stride]`; the output at frame j sees inputs up to `(j + 1) stride - 1`
//! and none later. In a packed row the left context is what stands there (zeros between utterances); in a stream
//! it is the state: the last `(k - 1) d + 1 - stride` frames of the convolution's own input.

use super::{Form, Init, Net, Statistic};
use crate::graph::{ConvAttributes, Value};
use crate::{Error, ErrorKind, Result};

/// Added to the variance by every batch norm.
pub const EPSILON: f32 = 1e-3;

/// A causal convolution, batch norm and perhaps ReLU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvNorm {
    /// Prefix of the parameters' names.
    pub name: String,
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Taps along time.
    pub kernel: usize,
    /// Spacing of the taps.
    pub dilation: usize,
    /// Input frames per output frame.
    pub stride: usize,
    /// Whether a ReLU follows.
    pub relu: bool,
}

/// Names of a folded layer's parameters, from those of the unfolded: see [`ConvNorm::fold`].
pub fn folded_names(name: &str) -> (String, String) {
    (format!("{name}.weight"), format!("{name}.folded_bias"))
}

impl ConvNorm {
    /// Frames of its own input that an output sees before the newest `stride`.
    pub fn context(&self) -> usize {
        ((self.kernel - 1) * self.dilation + 1).saturating_sub(self.stride)
    }

    /// Adds the layer to a network; positions outside utterances give 0.
    pub fn apply(&self, net: &mut Net, x: Value) -> Result<Value> {
        let &[1, channels, 1, frames] = net.graph.shape(x) else {
            return Err(net.graph.mismatch(&self.name, "x [1, C, 1, T]", &[x]));
        };
        if channels != self.inputs || !frames.is_multiple_of(self.stride) {
            return Err(net.graph.mismatch(
                &self.name,
                &format!(
                    "{} channels and a multiple of {} frames",
                    self.inputs, self.stride
                ),
                &[x],
            ));
        }
        let fan_in = self.inputs * self.kernel;
        let weight = net.parameter(
            &format!("{}.weight", self.name),
            &[self.outputs, self.inputs, 1, self.kernel],
            Init::He { fan_in },
            true,
        )?;
        let mut attributes = ConvAttributes {
            strides: [1, self.stride],
            dilations: [1, self.dilation],
            ..Default::default()
        };
        if net.form != Form::Stream {
            attributes.pads = [0, self.context(), 0, 0];
        }
        if net.form == Form::Train {
            let y = net.graph.conv(x, weight, None, attributes)?;
            return normalize(net, &self.name, y, net.mask, self.relu);
        }
        let (_, bias) = folded_names(&self.name);
        let bias = net.parameter(&bias, &[self.outputs], Init::Constant(0.0), false)?;
        let input = if net.form == Form::Stream {
            self.with_state(net, x)?
        } else {
            x
        };
        let mut y = net.graph.conv(input, weight, Some(bias), attributes)?;
        if self.relu {
            y = net.graph.relu(y)?;
        }
        match net.mask {
            Some(mask) => net.graph.mul(y, mask),
            None => Ok(y),
        }
    }

    fn with_state(&self, net: &mut Net, x: Value) -> Result<Value> {
        let context = self.context();
        if context == 0 {
            return Ok(x);
        }
        let state = net.state(&[self.inputs, 1, context])?;
        let joined = net.graph.concat(&[state, x], 3)?;
        let length = net.graph.shape(joined)[3];
        let next = net.graph.narrow(joined, 3, length - context, context)?;
        net.next_state(next)?;
        Ok(joined)
    }

    /// The folded weight and bias: see [`fold_norm`].
    pub fn fold<'a>(
        &self,
        get: impl Fn(&str) -> Result<&'a [f32]>,
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        fold_norm(&self.name, self.outputs, get)
    }
}

/// Batch norm of y `[B, C, H, W]` over the positions of `mask` `[B, 1, H, W]`, then perhaps ReLU; declares scale, bias
/// and the running statistics of the layer `name`.
pub(super) fn normalize(
    net: &mut Net,
    name: &str,
    y: Value,
    mask: Option<Value>,
    relu: bool,
) -> Result<Value> {
    let channels = net.graph.shape(y).get(1).copied().unwrap_or(0);
    let parameter = |net: &mut Net, suffix: &str, start| {
        let init = Init::Constant(start);
        net.parameter(&format!("{name}.{suffix}"), &[channels], init, false)
    };
    let scale = parameter(net, "scale", 1.0)?;
    let bias = parameter(net, "bias", 0.0)?;
    let mask = mask.ok_or_else(|| {
        Error::new(
            ErrorKind::Graph,
            format!("{name}: a training network needs its mask"),
        )
    })?;
    let normed = net.graph.batch_norm(y, scale, bias, mask, EPSILON, relu)?;
    for (suffix, value, start) in [
        ("mean", normed.mean, 0.0),
        ("variance", normed.variance, 1.0),
    ] {
        let output = format!("batch.{name}.{suffix}");
        net.graph.output(&output, value)?;
        net.statistics.push(Statistic {
            name: format!("{name}.running_{suffix}"),
            channels,
            output,
            start,
        });
    }
    Ok(normed.y)
}

/// The folded weight and bias of the layer `name`: `w' = w g`, `b' = bias - mean g`,
/// `g = scale / sqrt(variance + epsilon)`; `get` gives the unfolded tensors by name.
pub(super) fn fold_norm<'a>(
    name: &str,
    outputs: usize,
    get: impl Fn(&str) -> Result<&'a [f32]>,
) -> Result<(Vec<f32>, Vec<f32>)> {
    let part = |suffix: &str| get(&format!("{name}.{suffix}"));
    let (weight, scale, bias) = (part("weight")?, part("scale")?, part("bias")?);
    let (mean, variance) = (part("running_mean")?, part("running_variance")?);
    let mut folded_weight = weight.to_vec();
    let mut folded_bias = vec![0.0; outputs];
    let row = (weight.len() / outputs.max(1)).max(1);
    for (channel, row) in folded_weight.chunks_exact_mut(row).enumerate() {
        let gain = scale[channel] / (variance[channel] + EPSILON).sqrt();
        for weight in row {
            *weight *= gain;
        }
        folded_bias[channel] = bias[channel] - mean[channel] * gain;
    }
    Ok((folded_weight, folded_bias))
}
