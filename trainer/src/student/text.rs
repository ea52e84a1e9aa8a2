//! The student of scene text: two-dimensional convolutions down to one row, light mixing along it, CTC.
//!
//! A line `[1, C, H, W]` (zero is the padding) to logits `[1, V, 1, W / 4]`:
//!
//! | part | output for H = 32 | what |
//! |---|---|---|
//! | stem, early | 16 x W/2 | two dense 3x3 convolutions, the first of stride 2 |
//! | quarter | 8 x W/4 | a dense 3x3 convolution of stride 2, blocks |
//! | eighth | 4 x W/4 | a dense 3x3 convolution of stride 2 down only, blocks |
//! | line | 1 x W/4 | one convolution over the whole height, blocks along the width |
//! | head | V | a linear map |
//!
//! A block is a depthwise convolution (3x3, or 1 x kernel along the line), a pointwise convolution to `expand` times as
//! many channels with ReLU, and one back, added to the block's input (after arXiv 1801.04381 and 2201.03545). Early
//! layers are dense since depthwise ones of few channels cost as much. Convolutions, ReLU and additions are all there
//! is, so every provider takes the graph, at any width and batch size. There is no look-ahead to delay: a line is read
//! whole.

use super::{HEAD, fold_layers, head, inputs, keep};
use crate::config::{ImageModelConfig, Recipe};
use crate::graph::Value;
use crate::network::{Built, Encoder, Lookup, Network};
use crate::nn::{Convolution, Form, Net, NormedConvolution};
use crate::{Error, ErrorKind, Result};
use std::collections::HashMap;

/// Columns per output frame.
pub const STRIDE: usize = 4;

/// A student's shape, from the recipe and the data.
#[derive(Debug, Clone, PartialEq)]
pub struct TextStudent {
    /// Channels of the image: C.
    pub channels: usize,
    /// Rows of the image: H, a multiple of 8.
    pub height: usize,
    /// Symbols with blank: V.
    pub vocabulary: usize,
    /// The recipe's section.
    pub config: ImageModelConfig,
    /// Dropout in training.
    pub dropout: f32,
}

/// Layers in a row, or a residual block of three.
enum Part {
    Plain(NormedConvolution),
    Block(Box<[NormedConvolution; 3]>),
}

impl TextStudent {
    /// The student that a recipe describes over `vocabulary` symbols, blank included.
    pub fn new(recipe: &Recipe, vocabulary: usize) -> Self {
        Self {
            channels: recipe.image.channels.count(),
            height: recipe.image.height,
            vocabulary,
            config: recipe.model.image.clone().unwrap_or_default(),
            dropout: recipe.model.dropout,
        }
    }

    fn parts(&self) -> Vec<Part> {
        let [stem, early, quarter, eighth, line] = self.config.widths;
        let dense = |name: &str, outputs, strides| {
            let conv = Convolution::new(name, outputs, [3, 3]);
            Part::Plain(conv.with_strides(strides).normed())
        };
        let mut parts = vec![
            dense("stem", stem, [2, 2]),
            dense("early", early, [1, 1]),
            dense("quarter.down", quarter, [2, 2]),
        ];
        let [at_quarter, at_eighth, along] = self.config.depths;
        let blocks = |name: &str, count, width, kernel| {
            (0..count)
                .map(|index| {
                    Part::Block(Box::new(self.block(
                        &format!("{name}.{index}"),
                        width,
                        kernel,
                    )))
                })
                .collect::<Vec<_>>()
        };
        parts.extend(blocks("quarter", at_quarter, quarter, [3, 3]));
        parts.push(dense("eighth.down", eighth, [2, 1]));
        parts.extend(blocks("eighth", at_eighth, eighth, [3, 3]));
        let rows = self.height / 8;
        let flatten = Convolution::new("line.flatten", line, [rows, 1]).with_pads([0; 4]);
        parts.push(Part::Plain(flatten.normed()));
        parts.extend(blocks("line", along, line, [1, self.config.kernel]));
        parts
    }

    fn block(&self, name: &str, width: usize, kernel: [usize; 2]) -> [NormedConvolution; 3] {
        let inner = width * self.config.expand;
        let layer = |part: &str, outputs, kernel| {
            Convolution::new(&format!("{name}.{part}"), outputs, kernel)
        };
        [
            layer("mix", width, kernel)
                .with_groups(width)
                .normed()
                .linear(),
            layer("expand", inner, [1, 1]).normed(),
            layer("project", width, [1, 1]).normed().linear(),
        ]
    }

    /// All layers with batch norm, in order.
    pub fn layers(&self) -> Vec<NormedConvolution> {
        let parts = self.parts().into_iter();
        parts
            .flat_map(|part| match part {
                Part::Plain(layer) => vec![layer],
                Part::Block(layers) => layers.to_vec(),
            })
            .collect()
    }
}

impl Network for TextStudent {
    fn features(&self) -> usize {
        self.channels * self.height
    }

    fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    fn stride(&self) -> usize {
        STRIDE
    }

    fn delay(&self) -> usize {
        0
    }

    fn hidden_channels(&self) -> usize {
        self.config.widths[4]
    }

    fn kept(&self) -> f64 {
        let (mut rows, mut columns) = (self.height as f64, 1.0);
        let mut values = 0.0;
        for NormedConvolution { convolution, .. } in self.layers() {
            let [down, across] = convolution.attributes.strides;
            rows /= down as f64;
            columns /= across as f64;
            if convolution.kernel[1] == 1 && convolution.kernel[0] > 1 {
                rows = 1.0;
            }
            values += 4.0 * convolution.outputs as f64 * rows * columns;
        }
        values
    }

    fn gap(&self) -> usize {
        let mut scale = 1;
        let mut gap = 0;
        for NormedConvolution { convolution, .. } in self.layers() {
            gap = gap.max(convolution.reach() * scale);
            scale *= convolution.attributes.strides[1];
        }
        gap.next_multiple_of(STRIDE)
    }

    fn receptive_field(&self) -> usize {
        let mut scale = 1;
        let mut columns = 1;
        for NormedConvolution { convolution, .. } in self.layers() {
            columns += 2 * convolution.reach() * scale;
            scale *= convolution.attributes.strides[1];
        }
        columns.div_ceil(STRIDE)
    }

    fn build(&self, net: &mut Net, columns: usize) -> Result<Built> {
        let (features, hidden) = self.encode(net, columns)?;
        let last = hidden.last().copied().unwrap_or(features);
        let x = net.dropout(last, self.dropout)?;
        head(net, features, hidden, x, self.vocabulary)
    }

    fn fold<'a>(&self, get: Lookup<'_, 'a>) -> Result<HashMap<String, Vec<f32>>> {
        let mut folded = self.fold_encoder(get)?;
        keep(&mut folded, HEAD, get)?;
        Ok(folded)
    }
}

impl Encoder for TextStudent {
    fn dropout(&self) -> f32 {
        self.dropout
    }

    fn encode(&self, net: &mut Net, columns: usize) -> Result<(Value, Vec<Value>)> {
        if !self.height.is_multiple_of(8) || !columns.is_multiple_of(STRIDE) {
            return Err(Error::new(
                ErrorKind::Recipe,
                format!(
                    "lines of {} rows and {columns} columns: image.height must be a multiple of 8, widths of {STRIDE}",
                    self.height
                ),
            ));
        }
        let shape = [1, self.channels, self.height, columns];
        let features = inputs(net, &shape, columns / STRIDE, self.dropout)?;
        let mut masks = HashMap::new();
        let mut apply = |net: &mut Net, layer: &NormedConvolution, x: Value| {
            let Convolution {
                name,
                kernel,
                attributes,
                ..
            } = &layer.convolution;
            let &[_, _, height, width] = net.graph.shape(x) else {
                return Err(net.graph.mismatch(name, "x [1, C, H, W]", &[x]));
            };
            let pads = attributes.pads[0] + attributes.pads[2];
            let size = [
                (height + pads - kernel[0].min(height)) / attributes.strides[0] + 1,
                width / attributes.strides[1],
            ];
            let mask = mask(net, &mut masks, size)?;
            layer.apply(net, x, mask)
        };
        let mut x = features;
        let mut hidden = Vec::new();
        for part in self.parts() {
            match part {
                Part::Plain(layer) => x = apply(net, &layer, x)?,
                Part::Block(layers) => {
                    let [mix, expand, project] = &*layers;
                    let mut y = apply(net, mix, x)?;
                    y = apply(net, expand, y)?;
                    y = apply(net, project, y)?;
                    x = net.graph.add(x, y)?;
                }
            }
            // What stands along the line, where the height is gone.
            if net.graph.shape(x).get(2) == Some(&1) {
                hidden.push(x);
            }
        }
        Ok((features, hidden))
    }

    fn fold_encoder(&self, get: Lookup<'_, '_>) -> Result<HashMap<String, Vec<f32>>> {
        fold_layers(self.layers(), get)
    }
}

/// The mask at a resolution: each of the columns of the output rate repeated, and in training each row too.
fn mask(
    net: &mut Net,
    masks: &mut HashMap<[usize; 2], Value>,
    [height, width]: [usize; 2],
) -> Result<Option<Value>> {
    let Some(base) = net.mask else {
        return Ok(None);
    };
    let rows = if net.form == Form::Train { height } else { 1 };
    if let Some(&known) = masks.get(&[rows, width]) {
        return Ok(Some(known));
    }
    let steps = net.graph.elements(base);
    let mut mask = base;
    if width != steps {
        let times = width / steps;
        mask = net.graph.reshape(mask, &[steps, 1])?;
        mask = net.graph.expand(mask, &[steps, times])?;
        mask = net.graph.reshape(mask, &[1, 1, 1, width])?;
    }
    mask = net.graph.expand(mask, &[1, 1, rows, width])?;
    masks.insert([rows, width], mask);
    Ok(Some(mask))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::exec::{Engine, Executable, ParameterStore};
    use crate::nn::initialize;
    use acolyte::model::Library;

    fn student() -> TextStudent {
        TextStudent {
            channels: 1,
            height: 16,
            vocabulary: 11,
            config: ImageModelConfig {
                widths: [4, 6, 8, 8, 12],
                depths: [1, 1, 2],
                kernel: 5,
                expand: 2,
            },
            dropout: 0.0,
        }
    }

    fn parameters(net: &Net, engine: &Engine) -> ParameterStore {
        let mut store = ParameterStore::new(engine);
        for spec in net.parameters() {
            let mut values = initialize(spec, 3);
            if spec.shape.len() == 1 {
                // Biases that would show where a mask is missing.
                values = (0..values.len()).map(|i| 0.1 + 0.01 * i as f32).collect();
            }
            store.insert(&spec.name, &spec.shape, &values).unwrap();
        }
        store
    }

    #[test]
    fn the_shipped_sizes_hold() {
        let count = |config: ImageModelConfig, most: usize| {
            let student = TextStudent {
                height: 32,
                vocabulary: 96,
                config,
                ..student()
            };
            let specs = student.folded_parameters().unwrap();
            let sizes = specs
                .iter()
                .map(|spec| spec.shape.iter().product::<usize>());
            let total: usize = sizes.sum();
            assert!(total <= most, "{total} parameters");
        };
        for (recipe, most) in [("scene-tiny", 1_100_000), ("scene-small", 4_500_000)] {
            let path = format!("{}/recipes/{recipe}.toml", env!("CARGO_MANIFEST_DIR"));
            let none: [&str; 0] = [];
            let recipe = crate::config::Recipe::load(path, &none).unwrap();
            count(recipe.model.image.unwrap_or_default(), most);
        }
    }

    /// A line among others in a packed row, and alone in the deployed form, has the same logits.
    #[test]
    fn neighbors_in_a_row_change_nothing() {
        let student = student();
        let engine = Engine::new(&Library::find().unwrap(), 1);
        let pixel = |line: usize, y: usize, x: usize| {
            ((line * 131 + y * 37 + x * 53) % 101) as f32 / 50.0 - 1.0
        };
        let widths = [16, 48, 32];
        let gap = student.gap();
        let columns: usize = widths.iter().map(|w| w + gap).sum();
        let mut net = Net::new("row", Form::Evaluate);
        let built = student.build(&mut net, columns).unwrap();
        net.graph.output("logits", built.logits).unwrap();
        let store = parameters(&net, &engine);
        let mut row = Executable::new(&engine, &net.graph, &store).unwrap();
        let mut start = 0;
        let mut starts = Vec::new();
        for (line, width) in widths.into_iter().enumerate() {
            let data = row.f32_mut("features").unwrap();
            for y in 0..16 {
                for x in 0..width {
                    data[y * columns + start + x] = pixel(line, y, x);
                }
            }
            row.f32_mut("mask").unwrap()[start / STRIDE..(start + width) / STRIDE].fill(1.0);
            starts.push(start);
            start += width + gap;
        }
        row.run().unwrap();
        let packed = row.f32("logits").unwrap().to_vec();
        for (line, width) in widths.into_iter().enumerate() {
            let mut net = Net::new("alone", Form::Whole);
            let built = student.build(&mut net, width).unwrap();
            net.graph.output("logits", built.logits).unwrap();
            let mut alone = Executable::new(&engine, &net.graph, &store).unwrap();
            let data = alone.f32_mut("features").unwrap();
            for (index, value) in data.iter_mut().enumerate() {
                *value = pixel(line, index / width, index % width);
            }
            alone.run().unwrap();
            let logits = alone.f32("logits").unwrap();
            let steps = width / STRIDE;
            for v in 0..student.vocabulary {
                for t in 0..steps {
                    let together = packed[v * columns / STRIDE + starts[line] / STRIDE + t];
                    let difference = (together - logits[v * steps + t]).abs();
                    assert!(difference < 1e-4, "line {line}, frame {t}: {difference}");
                }
            }
        }
    }
}
