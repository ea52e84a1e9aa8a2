//! The Oracle Teacher (Yoon et al., arXiv 2111.03664, in our reading): CTC posteriors from audio and transcript.
//!
//! - Source encoder: the layers of a student below its output, symmetric, over features of speech `[1, F, 1, N]` or
//!   lines of images `[1, C, H, N]`, to `H [1, 1, T, C]`. It has no clock: a frame sees what is around it, not where it
//!   stands.
//! - Target encoder: the collapsed transcript (no blanks, no durations) as embeddings with sinusoidal positions,
//!   through self-attention layers: `E [1, 1, U, C]`. In training a share of the symbols is masked.
//! - Fusion: cross-attention with frames as queries and symbols as keys and values, `H + attend(norm(H), E)`, each
//!   followed by a feed-forward layer; a linear map gives logits at the student's frame rate.
//! - Loss: plain CTC. The transcript says *what* is emitted and leaves open *when*: of the `C(T + U - r, 2U)` paths
//!   that collapse to it (r adjacent equal pairs) one must be found by what is heard.
//!
//! A packed row holds many utterances and all their transcripts side by side: who owns a frame and who owns a symbol
//! are inputs, and attention passes only between frames and symbols of one owner.

use crate::config::{SourcePositions, TargetConfig};
use crate::graph::exec::Inputs;
use crate::graph::{DType, Value};
use crate::network::{Built, Encoder, Lookup, Network};
use crate::nn::{Form, Heads, Init, Net};
use crate::train::pack::Row;
use crate::{Error, ErrorKind, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Added to the score of a symbol that a frame may not see: its weight underflows to zero.
const HIDDEN: f32 = -1e9;

/// Owner of frames between utterances, and of no symbol.
const NOBODY: f32 = -1.0;

/// Owner of places that hold no symbol, and of no frame.
const EMPTY: f32 = -2.0;

/// An Oracle Teacher's shape.
#[derive(Debug, Clone)]
pub struct OracleTeacher {
    /// Its source encoder.
    pub source: Arc<dyn Encoder>,
    /// Its target side.
    pub target: TargetConfig,
    /// Symbols a row has room for: U. In the form for whole utterances, the longest transcript.
    pub capacity: usize,
    /// The longest transcript: so many positions there are.
    pub longest: usize,
    /// The longest utterance in output frames: so many ticks the clock has, where there is one.
    pub frames: usize,
}

/// The target side's inputs as they are used.
struct Transcript {
    /// Symbols `[1, 1, U]`.
    symbols: Value,
    /// Places in their transcripts `[1, 1, U]`.
    positions: Value,
    /// Added to scores between symbols; broadcasts to `[1, 1, U, U]`.
    itself: Value,
    /// Added to scores of frames for symbols; broadcasts to `[1, 1, T, U]`.
    cross: Value,
}

impl OracleTeacher {
    /// The id that stands where there is no symbol: one beyond the vocabulary. The blank's id, which no transcript
    /// has, stands for a masked symbol.
    pub fn padding(&self) -> i64 {
        self.source.vocabulary() as i64
    }

    fn width(&self) -> usize {
        self.source.hidden_channels()
    }

    fn attention(&self, name: &str) -> Heads {
        Heads {
            name: name.to_owned(),
            heads: self.target.heads,
            dropout: 0.0,
        }
    }

    /// The transcript's inputs of a packed row, or of a whole utterance.
    fn transcript(&self, net: &mut Net, steps: usize) -> Result<Transcript> {
        let room = self.capacity;
        let symbols = net.graph.input("given", DType::I64, &[1, 1, room])?;
        if net.form == Form::Whole {
            let entries = self.source.vocabulary() + 1;
            let mut hidden = vec![0.0; entries];
            hidden[entries - 1] = HIDDEN;
            let table = net.graph.constant(&[entries], hidden)?;
            let bias = net.graph.gather(table, symbols)?;
            let bias = net.graph.reshape(bias, &[1, 1, 1, room])?;
            let order = (0..room as i64).collect();
            return Ok(Transcript {
                symbols,
                positions: net.graph.constant_i64(&[1, 1, room], order)?,
                itself: bias,
                cross: bias,
            });
        }
        let positions = net
            .graph
            .input("given.positions", DType::I64, &[1, 1, room])?;
        let owners = net
            .graph
            .input("given.owners", DType::F32, &[1, 1, 1, room])?;
        let frames = net
            .graph
            .input("frame.owners", DType::F32, &[1, 1, steps, 1])?;
        let own = net.graph.reshape(owners, &[1, 1, room, 1])?;
        let itself = same_owner(net, own, owners)?;
        let cross = same_owner(net, frames, owners)?;
        Ok(Transcript {
            symbols,
            positions,
            itself,
            cross,
        })
    }

    /// `x + map(relu(map(norm(x))))` along the last axis.
    fn feed_forward(&self, net: &mut Net, name: &str, x: Value) -> Result<Value> {
        let normed = net.layer_norm(&format!("{name}.norm"), x)?;
        let inner = self.target.expansion * self.width();
        let y = net.map_rows(&format!("{name}.inner"), normed, inner)?;
        let y = net.graph.relu(y)?;
        let y = net.dropout(y, self.source.dropout())?;
        let y = net.map_rows(&format!("{name}.outer"), y, self.width())?;
        net.graph.add(x, y)
    }

    /// `[1, 1, U, C]`.
    fn encode_target(&self, net: &mut Net, given: &Transcript) -> Result<Value> {
        let width = self.width();
        let init = Init::Uniform { limit: 1.0 };
        let entries = self.source.vocabulary() + 1;
        let table = net.parameter("target.table", &[entries, width], init, false)?;
        let symbols = net.graph.gather(table, given.symbols)?;
        let places = sinusoids(self.longest, width);
        let places = net.graph.constant(&[self.longest, width], places)?;
        let places = net.graph.gather(places, given.positions)?;
        let mut y = net.graph.add(symbols, places)?;
        for layer in 0..self.target.layers {
            let name = format!("target.{layer}");
            let normed = net.layer_norm(&format!("{name}.norm"), y)?;
            let seen = self.attention(&format!("{name}.attention")).attend(
                net,
                normed,
                normed,
                Some(given.itself),
            )?;
            y = net.graph.add(y, seen.output)?;
            y = self.feed_forward(net, &format!("{name}.forward"), y)?;
        }
        net.layer_norm("target.norm", y)
    }

    /// The clock of the ablation: each frame's place in its utterance, as sinusoids added to x `[1, 1, T, C]`.
    fn tick(&self, net: &mut Net, x: Value, steps: usize) -> Result<Value> {
        if net.form == Form::Whole {
            return Err(Error::new(
                ErrorKind::Export,
                "a teacher with absolute source positions is for comparison only: it has no form for export",
            ));
        }
        let ticks = net
            .graph
            .input("frame.positions", DType::I64, &[1, 1, steps])?;
        let table = sinusoids(self.frames, self.width());
        let table = net.graph.constant(&[self.frames, self.width()], table)?;
        let ticks = net.graph.gather(table, ticks)?;
        net.graph.add(x, ticks)
    }

    fn misfit(&self, name: &str, what: &str, found: usize, room: usize) -> Error {
        Error::new(
            ErrorKind::Data,
            format!("{name}: {found} {what}, the teacher was compiled for {room}"),
        )
    }
}

/// 0 where the owners are the same, [`HIDDEN`] elsewhere: a `[.., A, 1]` and b `[.., 1, B]` to `[.., A, B]`.
fn same_owner(net: &mut Net, a: Value, b: Value) -> Result<Value> {
    let same = net.graph.equal(a, b)?;
    let open = net.graph.scalar(0.0)?;
    let closed = net.graph.scalar(HIDDEN)?;
    net.graph.select(same, open, closed)
}

/// Sinusoidal positions (arXiv 1706.03762), `[length, width]`.
fn sinusoids(length: usize, width: usize) -> Vec<f32> {
    (0..length * width)
        .map(|index| {
            let (place, channel) = (index / width, index % width);
            let exponent = (channel / 2 * 2) as f64 / width.max(1) as f64;
            let angle = place as f64 / 10_000f64.powf(exponent);
            (if channel % 2 == 0 {
                angle.sin()
            } else {
                angle.cos()
            }) as f32
        })
        .collect()
}

impl Network for OracleTeacher {
    fn features(&self) -> usize {
        self.source.features()
    }

    fn vocabulary(&self) -> usize {
        self.source.vocabulary()
    }

    fn stride(&self) -> usize {
        self.source.stride()
    }

    fn delay(&self) -> usize {
        self.source.delay()
    }

    fn gap(&self) -> usize {
        self.source.gap()
    }

    fn hidden_channels(&self) -> usize {
        self.width()
    }

    fn most_symbols(&self) -> usize {
        self.capacity
    }

    fn kept(&self) -> f64 {
        // Each fusion keeps its normed inputs, its heads' results and its feed-forward layer.
        let fusion = (6 + 2 * self.target.expansion) * self.width();
        let fusions = 4 * self.target.fusions * fusion;
        self.source.kept() + fusions as f64 / self.stride() as f64
    }

    fn receptive_field(&self) -> usize {
        self.source.receptive_field()
    }

    fn build(&self, net: &mut Net, frames: usize) -> Result<Built> {
        let (features, mut hidden) = self.source.encode(net, frames)?;
        let steps = frames / self.stride();
        let last = hidden.last().copied().unwrap_or(features);
        let mut x = net.graph.transpose(last, &[0, 2, 3, 1])?;
        if self.target.source_positions == SourcePositions::Absolute {
            x = self.tick(net, x, steps)?;
        }
        let given = self.transcript(net, steps)?;
        let memory = self.encode_target(net, &given)?;
        let mut weights = None;
        for layer in 0..self.target.fusions {
            let name = format!("fusion.{layer}");
            let normed = net.layer_norm(&format!("{name}.norm"), x)?;
            let seen = self.attention(&format!("{name}.attention")).attend(
                net,
                normed,
                memory,
                Some(given.cross),
            )?;
            x = net.graph.add(x, seen.output)?;
            x = self.feed_forward(net, &format!("{name}.forward"), x)?;
            weights = Some(seen.weights);
            hidden.push(net.graph.transpose(x, &[0, 3, 1, 2])?);
        }
        let normed = net.layer_norm("head.norm", x)?;
        let scores = net.map_rows("head", normed, self.vocabulary())?;
        let logits = net.graph.transpose(scores, &[0, 3, 1, 2])?;
        let attention = match weights {
            Some(weights) => Some(net.graph.reduce_mean(weights, &[1], true)?),
            None => None,
        };
        Ok(Built {
            features,
            logits,
            hidden,
            attention,
        })
    }

    fn fold<'a>(&self, get: Lookup<'_, 'a>) -> Result<HashMap<String, Vec<f32>>> {
        let mut folded = self.source.fold_encoder(get)?;
        // Only the encoder has batch norm; all else is as it was trained.
        for spec in self.folded_parameters()? {
            if let Entry::Vacant(place) = folded.entry(spec.name) {
                let values = get(place.key())?.to_vec();
                place.insert(values);
            }
        }
        Ok(folded)
    }

    fn feed(&self, executable: &mut dyn Inputs, row: &Row, draw: Option<u64>) -> Result<()> {
        let mut symbols = vec![self.padding(); self.capacity];
        let mut positions = vec![0i64; self.capacity];
        let mut owners = vec![EMPTY; self.capacity];
        let mut random = draw.map(ChaCha8Rng::seed_from_u64);
        let mut used = 0;
        for (owner, segment) in row.segments.iter().enumerate() {
            let given = &segment.utterance.targets;
            let name = &segment.utterance.name;
            if given.len() > self.longest {
                return Err(self.misfit(name, "symbols", given.len(), self.longest));
            }
            if used + given.len() > self.capacity {
                return Err(self.misfit(name, "symbols a row", used + given.len(), self.capacity));
            }
            let rate = random.as_mut().map_or(0.0, |random| {
                let [low, high] = self.target.mask;
                low + (high - low) * random.random::<f32>()
            });
            for (place, &symbol) in given.iter().enumerate() {
                let masked = random
                    .as_mut()
                    .is_some_and(|random| random.random::<f32>() < rate);
                symbols[used] = if masked { 0 } else { i64::from(symbol) };
                positions[used] = place as i64;
                owners[used] = owner as f32;
                used += 1;
            }
        }
        executable.i64_mut("given")?.copy_from_slice(&symbols);
        executable
            .i64_mut("given.positions")?
            .copy_from_slice(&positions);
        executable.f32_mut("given.owners")?.copy_from_slice(&owners);
        let frames = executable.f32_mut("frame.owners")?;
        frames.fill(NOBODY);
        for (owner, segment) in row.segments.iter().enumerate() {
            frames[segment.start..][..segment.frames].fill(owner as f32);
        }
        if self.target.source_positions == SourcePositions::Absolute {
            let ticks = executable.i64_mut("frame.positions")?;
            ticks.fill(0);
            for segment in &row.segments {
                if segment.frames > self.frames {
                    let name = &segment.utterance.name;
                    return Err(self.misfit(name, "frames", segment.frames, self.frames));
                }
                for (tick, place) in ticks[segment.start..][..segment.frames].iter_mut().zip(0..) {
                    *tick = place;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Context, ModelConfig};
    use crate::graph::exec::ParameterStore;
    use crate::graph::testing::{engine, numbers};
    use crate::network::fold;
    use crate::nn::initialize;
    use crate::student::speech::SpeechStudent;
    use crate::train::pack::{Packer, Utterance};
    use crate::train::step::{EvaluationStep, Extras, TrainStep};
    use ndarray::Array2;
    use std::sync::Arc;

    fn teacher(positions: SourcePositions) -> Arc<dyn Network> {
        Arc::new(OracleTeacher {
            source: Arc::new(SpeechStudent {
                features: 5,
                vocabulary: 6,
                config: ModelConfig {
                    channels: 8,
                    blocks: 2,
                    kernel: 3,
                    dilations: vec![1, 2],
                    context: Context::Symmetric,
                    delay_frames: 0,
                    dropout: 0.0,
                    ..ModelConfig::default()
                },
            }),
            target: TargetConfig {
                heads: 2,
                source_positions: positions,
                ..TargetConfig::default()
            },
            capacity: 12,
            longest: 5,
            frames: 40,
        })
    }

    fn packer(network: &dyn Network) -> Packer {
        Packer {
            width: 128,
            features: 5,
            stride: 2,
            gap: network.gap(),
            delay: 0,
            most: 4,
            symbols: 12,
            views: 1,
        }
    }

    fn place(packer: &Packer, row: &mut Row, frames: usize, targets: &[u32]) {
        let features = numbers(5 * frames, frames);
        let features = Array2::from_shape_vec((5, frames), features).unwrap();
        let utterance = Utterance {
            targets: targets.to_vec(),
            name: format!("{frames} frames"),
            index: 0,
        };
        packer.place(row, features.view(), utterance).unwrap();
    }

    fn step(network: &Arc<dyn Network>) -> EvaluationStep {
        let engine = engine();
        let mut store = ParameterStore::new(&engine);
        TrainStep::new(
            &engine,
            network,
            &packer(&**network),
            5,
            &mut store,
            7,
            None,
        )
        .unwrap();
        let folded = fold(&engine, &**network, &|name| store.get(name)).unwrap();
        let extras = Extras {
            hidden: true,
            attention: true,
        };
        EvaluationStep::new(&engine, network, &packer(&**network), &folded, extras).unwrap()
    }

    #[test]
    fn an_utterance_in_a_row_is_as_if_alone() {
        for positions in [SourcePositions::None, SourcePositions::Absolute] {
            let network = teacher(positions);
            let packer = packer(&*network);
            let mut step = step(&network);
            let items: [(usize, &[u32]); 3] =
                [(31, &[1, 2, 3]), (20, &[5, 4]), (25, &[2, 2, 1, 3, 5])];
            let mut together = packer.row();
            for (frames, targets) in items {
                place(&packer, &mut together, frames, targets);
            }
            let joint = step.run(&together).unwrap();
            for ((frames, targets), joint) in items.into_iter().zip(joint) {
                let mut row = packer.row();
                place(&packer, &mut row, frames, targets);
                let alone = step.run(&row).unwrap().remove(0);
                assert_eq!(alone.dim(), (frames.div_ceil(2), 6));
                let distance = (&alone - &joint).fold(0.0f32, |a, b| a.max(b.abs()));
                assert!(distance < 1e-4, "{distance}");
                let attention = step.attention(&row).unwrap().remove(0);
                for weights in attention.outer_iter() {
                    assert!((weights.sum() - 1.0).abs() < 1e-4, "{weights}");
                }
                assert_eq!(step.hidden(&row).unwrap()[0].dim(), (frames.div_ceil(2), 8));
            }
        }
    }

    #[test]
    fn the_transcript_matters_and_is_hidden_in_training_alone() {
        let network = teacher(SourcePositions::None);
        let packer = packer(&*network);
        let mut step = step(&network);
        let mut scores = Vec::new();
        for targets in [[1, 2, 3], [3, 2, 1]] {
            let mut row = packer.row();
            place(&packer, &mut row, 30, &targets);
            scores.push(step.run(&row).unwrap().remove(0));
        }
        assert_ne!(scores[0], scores[1]);
    }

    #[test]
    fn too_many_symbols_are_an_error_that_says_so() {
        let network = teacher(SourcePositions::None);
        let packer = Packer {
            symbols: usize::MAX,
            ..packer(&*network)
        };
        let mut row = packer.row();
        for _ in 0..3 {
            place(&packer, &mut row, 24, &[1, 2, 3, 4, 5]);
        }
        let error = step(&network).run(&row).unwrap_err();
        assert!(error.to_string().contains("compiled for 12"), "{error}");
    }

    #[test]
    fn initial_weights_have_names_of_their_own() {
        let specs = teacher(SourcePositions::None).folded_parameters().unwrap();
        let mut names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), specs.len());
        assert!(specs.iter().all(|spec| !initialize(spec, 1).is_empty()));
    }
}
