//! The convolutional speech student, 20 ms an output frame: causal with a bounded look-ahead, or symmetric.
//!
//! features `[1, F, 1, T]` (zero is the value the ends of utterances are flushed with) to logits
//! `[1, V, 1, T / stride]`: a strided stem, residual blocks of two dense convolutions each, a wider pointwise
//! layer, a linear map to the vocabulary. All kernels are dense and short, which on CPUs is faster than
//! separable ones of the same strength. The look-ahead of a causal student is a delay: output frame `t + delay`
//! answers for input frame t, so that the graph itself is wholly causal and streams exactly. A symmetric one takes
//! whole utterances. Its stem and blocks are also the source encoder of every teacher ([`crate::teacher`]).

use super::{HEAD, fold_layers, head, inputs, keep};
use crate::Result;
use crate::config::ModelConfig;
use crate::graph::Value;
use crate::network::{Built, Encoder, Lookup, Network};
use crate::nn::{ConvNorm, Net};
use std::collections::HashMap;

/// A student's shape, from the recipe and the data.
#[derive(Debug, Clone, PartialEq)]
pub struct SpeechStudent {
    /// Features a frame: F.
    pub features: usize,
    /// Symbols with blank: V.
    pub vocabulary: usize,
    /// The recipe's section.
    pub config: ModelConfig,
}

impl SpeechStudent {
    fn stem(&self) -> ConvNorm {
        ConvNorm {
            name: "stem".to_owned(),
            inputs: self.features,
            outputs: self.config.channels,
            kernel: self.config.kernel.max(self.config.stride),
            dilation: 1,
            stride: self.config.stride,
            context: self.config.context,
            relu: true,
        }
    }

    fn block(&self, index: usize) -> [ConvNorm; 2] {
        let dilation = self.config.dilations[index % self.config.dilations.len()];
        ["first", "second"].map(|part| ConvNorm {
            name: format!("block.{index}.{part}"),
            inputs: self.config.channels,
            outputs: self.config.channels,
            kernel: self.config.kernel,
            dilation,
            stride: 1,
            context: self.config.context,
            relu: part == "first",
        })
    }

    fn widen(&self) -> ConvNorm {
        ConvNorm {
            name: "widen".to_owned(),
            inputs: self.config.channels,
            outputs: 2 * self.config.channels,
            kernel: 1,
            dilation: 1,
            stride: 1,
            context: self.config.context,
            relu: true,
        }
    }

    /// The layers of the encoder, in order: stem and blocks.
    fn encoder(&self) -> Vec<ConvNorm> {
        let mut layers = vec![self.stem()];
        for index in 0..self.config.blocks {
            layers.extend(self.block(index));
        }
        layers
    }

    /// All layers with batch norm, in order.
    pub fn layers(&self) -> Vec<ConvNorm> {
        let mut layers = self.encoder();
        layers.push(self.widen());
        layers
    }
}

impl Network for SpeechStudent {
    fn features(&self) -> usize {
        self.features
    }

    fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    fn stride(&self) -> usize {
        self.config.stride
    }

    fn delay(&self) -> usize {
        self.config.delay_frames
    }

    fn gap(&self) -> usize {
        let inner = self
            .layers()
            .iter()
            .skip(1)
            .map(ConvNorm::context)
            .max()
            .unwrap_or(0)
            * self.config.stride;
        inner
            .max(self.stem().context())
            .next_multiple_of(self.config.stride)
    }

    fn hidden_channels(&self) -> usize {
        self.config.channels
    }

    fn kept(&self) -> f64 {
        let values: usize = self.layers().iter().map(|layer| 4 * layer.outputs).sum();
        values as f64 / self.config.stride as f64
    }

    fn receptive_field(&self) -> usize {
        self.layers()
            .iter()
            .skip(1)
            .map(ConvNorm::span)
            .sum::<usize>()
            + self.stem().span().div_ceil(self.config.stride)
            + 1
    }

    fn build(&self, net: &mut Net, frames: usize) -> Result<Built> {
        let (features, hidden) = self.encode(net, frames)?;
        let mut x = hidden.last().copied().unwrap_or(features);
        x = self.widen().apply(net, x)?;
        x = net.dropout(x, self.config.dropout)?;
        head(net, features, hidden, x, self.vocabulary)
    }

    fn fold<'a>(&self, get: Lookup<'_, 'a>) -> Result<HashMap<String, Vec<f32>>> {
        let mut folded = fold_layers(self.layers().iter().map(ConvNorm::layer), get)?;
        keep(&mut folded, HEAD, get)?;
        Ok(folded)
    }
}

impl Encoder for SpeechStudent {
    fn dropout(&self) -> f32 {
        self.config.dropout
    }

    fn encode(&self, net: &mut Net, frames: usize) -> Result<(Value, Vec<Value>)> {
        let shape = [1, self.features, 1, frames];
        let steps = frames / self.config.stride;
        let features = inputs(net, &shape, steps, self.config.dropout)?;
        let mut x = self.stem().apply(net, features)?;
        let mut hidden = Vec::with_capacity(self.config.blocks);
        for index in 0..self.config.blocks {
            let [first, second] = self.block(index);
            let mut y = first.apply(net, x)?;
            y = net.dropout(y, self.config.dropout)?;
            y = second.apply(net, y)?;
            let sum = net.graph.add(x, y)?;
            x = net.graph.relu(sum)?;
            net.keep(x);
            hidden.push(x);
        }
        Ok((features, hidden))
    }

    fn fold_encoder(&self, get: Lookup<'_, '_>) -> Result<HashMap<String, Vec<f32>>> {
        fold_layers(self.encoder().iter().map(ConvNorm::layer), get)
    }
}
