//! The Jasper-Mini-like student: the one that papers of the Oracle Teacher's authors distil into, about 8.2 million
//! parameters, for comparison with their figures.
//!
//! Separable convolutions along time, each a depthwise one of k taps and a pointwise one with batch norm, in blocks of
//! three with a pointwise residual (Jasper, arXiv 1904.03288; the small configuration is public in NVIDIA's
//! OpenSeq2Seq). With C = `model.channels` (256 there): a stem of k = 11 and stride 2; ten blocks of k = 11, 11, 13, 13
//! over C and 17, 17, 21, 21, 25, 25 over 2 C; k = 29 with dilation 2 over 2 C; a pointwise layer of 4 C; a linear map.
//! It sees whole utterances.

use super::{HEAD, fold_layers, head, inputs, keep};
use crate::Result;
use crate::config::{Context, ModelConfig};
use crate::graph::{ConvAttributes, Value};
use crate::network::{Built, Lookup, Network};
use crate::nn::{ConvNorm, Init, Net};
use std::collections::HashMap;

/// Taps and width, in C, of the blocks.
const BLOCKS: [(usize, usize); 10] = [
    (11, 1),
    (11, 1),
    (13, 1),
    (13, 1),
    (17, 2),
    (17, 2),
    (21, 2),
    (21, 2),
    (25, 2),
    (25, 2),
];

/// Separable convolutions in a block.
const REPEATS: usize = 3;

/// The student's shape.
#[derive(Debug, Clone, PartialEq)]
pub struct JasperStudent {
    /// Features a frame: F.
    pub features: usize,
    /// Symbols with blank: V.
    pub vocabulary: usize,
    /// The recipe's section: `channels`, `stride` and `dropout` count.
    pub config: ModelConfig,
}

/// A depthwise convolution and a pointwise one with batch norm.
#[derive(Debug, Clone)]
struct Separable {
    taps: usize,
    dilation: usize,
    stride: usize,
    /// The pointwise part.
    point: ConvNorm,
}

impl Separable {
    fn depthwise(&self) -> String {
        format!("{}.depthwise.weight", self.point.name)
    }

    /// The larger side that an output sees of its own input.
    fn context(&self) -> usize {
        let reach = (self.taps - 1) * self.dilation;
        reach - reach / 2
    }

    /// x `[1, Ci, 1, T]` to `[1, Co, 1, ceil(T / stride)]`.
    fn apply(&self, net: &mut Net, x: Value) -> Result<Value> {
        let channels = self.point.inputs;
        let weight = net.parameter(
            &self.depthwise(),
            &[channels, 1, 1, self.taps],
            Init::Linear { fan_in: self.taps },
            true,
        )?;
        let reach = (self.taps - 1) * self.dilation;
        let attributes = ConvAttributes {
            strides: [1, self.stride],
            pads: [0, reach / 2, 0, reach - reach / 2],
            dilations: [1, self.dilation],
            group: channels,
        };
        let y = net.graph.conv(x, weight, None, attributes)?;
        self.point.apply(net, y)
    }
}

impl JasperStudent {
    /// Number of blocks, whose outputs distillation can be put to.
    pub const BLOCKS: usize = BLOCKS.len();

    fn point(&self, name: &str, inputs: usize, outputs: usize, relu: bool) -> ConvNorm {
        ConvNorm {
            name: name.to_owned(),
            inputs,
            outputs,
            kernel: 1,
            dilation: 1,
            stride: 1,
            context: Context::Symmetric,
            relu,
        }
    }

    fn stem(&self) -> Separable {
        Separable {
            taps: 11,
            dilation: 1,
            stride: self.config.stride,
            point: self.point("stem", self.features, self.config.channels, true),
        }
    }

    /// A block's separable convolutions and its residual.
    fn block(&self, index: usize) -> (Vec<Separable>, ConvNorm) {
        let width = |index: usize| BLOCKS[index].1 * self.config.channels;
        let inputs = match index {
            0 => self.config.channels,
            _ => width(index - 1),
        };
        let outputs = width(index);
        let parts = (0..REPEATS)
            .map(|part| Separable {
                taps: BLOCKS[index].0,
                dilation: 1,
                stride: 1,
                point: self.point(
                    &format!("block.{index}.{part}"),
                    if part == 0 { inputs } else { outputs },
                    outputs,
                    part + 1 < REPEATS,
                ),
            })
            .collect();
        let residual = self.point(&format!("block.{index}.residual"), inputs, outputs, false);
        (parts, residual)
    }

    fn last(&self) -> Separable {
        let width = 2 * self.config.channels;
        Separable {
            taps: 29,
            dilation: 2,
            stride: 1,
            point: self.point("last", width, width, true),
        }
    }

    fn widen(&self) -> ConvNorm {
        let channels = self.config.channels;
        self.point("widen", 2 * channels, 4 * channels, true)
    }

    /// The separable layers, in order.
    fn separables(&self) -> Vec<Separable> {
        let mut layers = vec![self.stem()];
        for index in 0..BLOCKS.len() {
            layers.extend(self.block(index).0);
        }
        layers.push(self.last());
        layers
    }

    /// The layers with batch norm, in order.
    fn points(&self) -> Vec<ConvNorm> {
        let mut layers: Vec<ConvNorm> = self.separables().into_iter().map(|s| s.point).collect();
        layers.extend((0..BLOCKS.len()).map(|index| self.block(index).1));
        layers.push(self.widen());
        layers
    }
}

impl Network for JasperStudent {
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
        0
    }

    fn gap(&self) -> usize {
        let inner = self.separables();
        let inner = inner.iter().skip(1).map(Separable::context).max();
        (inner.unwrap_or(0) * self.config.stride)
            .max(self.stem().context())
            .next_multiple_of(self.config.stride)
    }

    fn hidden_channels(&self) -> usize {
        2 * self.config.channels
    }

    fn kept(&self) -> f64 {
        let points: usize = self.points().iter().map(|layer| layer.outputs).sum();
        let depthwise = self.separables();
        let channels = points + depthwise.iter().map(|s| s.point.inputs).sum::<usize>();
        4.0 * channels as f64 / self.config.stride as f64
    }

    fn receptive_field(&self) -> usize {
        let layers = self.separables();
        let inner = layers.iter().skip(1);
        1 + inner.map(|s| (s.taps - 1) * s.dilation).sum::<usize>()
            + (layers[0].taps - 1).div_ceil(self.config.stride)
    }

    fn build(&self, net: &mut Net, frames: usize) -> Result<Built> {
        let shape = [1, self.features, 1, frames];
        let steps = frames / self.config.stride;
        let features = inputs(net, &shape, steps, self.config.dropout)?;
        let mut x = self.stem().apply(net, features)?;
        let mut hidden = Vec::with_capacity(BLOCKS.len());
        for index in 0..BLOCKS.len() {
            let (parts, residual) = self.block(index);
            let mut y = x;
            for part in &parts {
                y = part.apply(net, y)?;
            }
            let around = residual.apply(net, x)?;
            let sum = net.graph.add(y, around)?;
            x = net.graph.relu(sum)?;
            x = net.dropout(x, self.config.dropout)?;
            net.keep(x);
            hidden.push(x);
        }
        x = self.last().apply(net, x)?;
        x = self.widen().apply(net, x)?;
        head(net, features, hidden, x, self.vocabulary)
    }

    fn fold<'a>(&self, get: Lookup<'_, 'a>) -> Result<HashMap<String, Vec<f32>>> {
        let mut folded = fold_layers(self.points().iter().map(ConvNorm::layer), get)?;
        let depthwise = self.separables();
        let depthwise: Vec<String> = depthwise.iter().map(Separable::depthwise).collect();
        let names = depthwise.iter().map(String::as_str).chain(HEAD);
        keep(&mut folded, names, get)?;
        Ok(folded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::exec::ParameterStore;
    use crate::graph::testing::{engine, numbers};
    use crate::network::fold;
    use crate::nn::Form;
    use crate::train::pack::{Packer, Utterance};
    use crate::train::step::{EvaluationStep, Extras, TrainStep};
    use ndarray::Array2;
    use std::sync::Arc;

    fn student(channels: usize, features: usize) -> JasperStudent {
        JasperStudent {
            features,
            vocabulary: 29,
            config: ModelConfig {
                channels,
                blocks: JasperStudent::BLOCKS,
                context: Context::Symmetric,
                delay_frames: 0,
                dropout: 0.0,
                ..ModelConfig::default()
            },
        }
    }

    #[test]
    fn it_has_as_many_parameters_as_the_papers() {
        let mut net = Net::new("t", Form::Train);
        student(256, 64).build(&mut net, 2).unwrap();
        let count: usize = net
            .parameters()
            .iter()
            .map(|spec| spec.shape.iter().product::<usize>())
            .sum();
        assert!((8_000_000..8_400_000).contains(&count), "{count}");
    }

    #[test]
    fn a_step_trains_and_a_row_is_as_its_utterances_alone() {
        let network: Arc<dyn Network> = Arc::new(student(4, 5));
        let packer = Packer {
            width: 240,
            features: 5,
            stride: 2,
            gap: network.gap(),
            delay: 0,
            most: 2,
            symbols: usize::MAX,
            views: 1,
        };
        let place = |row: &mut crate::train::pack::Row, frames: usize| {
            let features = Array2::from_shape_vec((5, frames), numbers(5 * frames, frames));
            let utterance = Utterance {
                targets: vec![1, 2],
                name: String::new(),
                index: 0,
            };
            packer
                .place(row, features.unwrap().view(), utterance)
                .unwrap();
        };
        let engine = engine();
        let mut store = ParameterStore::new(&engine);
        let mut step = TrainStep::new(&engine, &network, &packer, 2, &mut store, 1, None).unwrap();
        let mut row = packer.row();
        place(&mut row, 41);
        place(&mut row, 60);
        assert!(step.run(&row, 1, 0.0).unwrap().loss.is_finite());
        let folded = fold(&engine, &*network, &|name| store.get(name)).unwrap();
        let mut judge =
            EvaluationStep::new(&engine, &network, &packer, &folded, Extras::default()).unwrap();
        let together = judge.run(&row).unwrap();
        for (frames, joint) in [41, 60].into_iter().zip(together) {
            let mut row = packer.row();
            place(&mut row, frames);
            let alone = judge.run(&row).unwrap().remove(0);
            let distance = (&alone - &joint).fold(0.0f32, |a, b| a.max(b.abs()));
            assert!(distance < 1e-4, "{distance}");
        }
    }
}
