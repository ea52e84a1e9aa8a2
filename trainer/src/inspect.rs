//! What a network consists of: its layers with weights, their parameters and multiply-adds, from a recipe or from an
//! ONNX file.
//!
//! Both are counted on ONNX: a recipe's network is written out first. A weight is used once for every position of its
//! layer's output; positions are counted along time, from the rate of the features through the strides, so that figures
//! are exact for networks over `[B, C, 1, T]`, `[B, C, T]` and `[B, T, C]`. Products of two activations (attention) hold
//! no weights and are only counted as such.

use crate::config::{Context, Recipe, SourcePositions, TargetConfig};
use crate::graph::{ExportNames, emit};
use crate::network::Network;
use crate::nn::{Form, Net};
use crate::onnx::proto::{GraphProto, ModelProto, NodeProto};
use crate::student::speech::SpeechStudent;
use crate::student::student;
use crate::teacher::OracleTeacher;
use crate::{Error, ErrorKind, Result};
use acolyte::spec::{FrontEnd, ModelSpec};
use prost::Message;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A layer with weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Name: that of its weight without the last part.
    pub name: String,
    /// Its ONNX operator.
    pub operator: String,
    /// Shape of its weight.
    pub shape: Vec<usize>,
    /// Strides and dilations other than 1, for people.
    pub remarks: String,
    /// Weights and biases.
    pub parameters: usize,
    /// Positions of its output a second; none where the input's rate is not known.
    pub rate: Option<f64>,
    /// Multiply-adds for one position.
    pub operations: usize,
}

/// A network taken apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// The layers in order.
    pub layers: Vec<Layer>,
    /// All parameters, those of no layer included.
    pub parameters: usize,
    /// Products of two activations, whose work is not counted.
    pub uncounted: usize,
    /// What else there is to say.
    pub notes: Vec<String>,
}

impl Inspection {
    /// Multiply-adds for a second of input, where the rate is known.
    pub fn operations(&self) -> Option<f64> {
        self.layers
            .iter()
            .map(|layer| layer.rate.map(|rate| rate * layer.operations as f64))
            .sum()
    }
}

/// Takes apart the model file at `path`.
///
/// # Errors
/// [`ErrorKind::Io`] if it cannot be read, [`ErrorKind::Runtime`] if it is no model file of ours.
pub fn inspect_model(path: &Path) -> Result<Inspection> {
    let bytes = acolyte::model::read_bytes(path)?;
    let spec = ModelSpec::read(&bytes).map_err(|error| Error::from(error).with_path(path))?;
    let model = ModelProto::decode(bytes.as_slice()).map_err(|error| {
        Error::new(ErrorKind::Data, format!("no ONNX file: {error}")).with_path(path)
    })?;
    let rate = match &spec.front_end {
        FrontEnd::LogMel(mel) => Some(f64::from(mel.sample_rate) / mel.hop_length.max(1) as f64),
        _ => None,
    };
    let graph = model.graph.unwrap_or_default();
    let mut inspection = inspect_graph(&graph, &spec.graph.input, rate);
    inspection.notes.push(format!(
        "{}, {} bytes, {} tokens with the blank, licence {}, sha256 {}",
        spec.name,
        bytes.len(),
        spec.tokens.pieces.len(),
        spec.license,
        spec.sha256
    ));
    if let (Some(rate), Some(streaming)) = (rate, &spec.streaming) {
        inspection.notes.push(format!(
            "streams in chunks of {:.0} ms and looks {:.0} ms ahead",
            1e3 * streaming.chunk_frames as f64 / rate,
            1e3 * (streaming.delay_frames * spec.stride) as f64 / rate
        ));
    }
    Ok(inspection)
}

/// Takes apart the network of a recipe of speech, student or teacher; a vocabulary that is derived from data is taken as empty.
///
/// # Errors
/// [`ErrorKind::Graph`] where the network cannot be built.
pub fn inspect_recipe(recipe: &Recipe) -> Result<Inspection> {
    let vocabulary = 1 + recipe.text.tokens.len();
    let streams = recipe.target.is_none() && recipe.model.context == Context::Causal;
    let network: Arc<dyn Network> = match &recipe.target {
        None => student(recipe, vocabulary),
        Some(target) => Arc::new(OracleTeacher {
            source: Arc::new(SpeechStudent {
                features: recipe.features.mels,
                vocabulary,
                config: recipe.model.clone(),
            }),
            target: TargetConfig {
                // The clock of the ablation has no weights, and no form for export.
                source_positions: SourcePositions::None,
                ..target.clone()
            },
            capacity: 1,
            longest: 1,
            frames: 1,
        }),
    };
    let form = if streams { Form::Stream } else { Form::Whole };
    let mut net = Net::new(&recipe.name, form);
    let built = network.build(&mut net, recipe.model.stride)?;
    net.graph.output("logits", built.logits)?;
    let embedded = net
        .parameters()
        .iter()
        .map(|spec| (spec.name.clone(), vec![0.0; spec.shape.iter().product()]))
        .collect();
    let names = ExportNames {
        embedded,
        ..Default::default()
    };
    let graph = emit(&net.graph, &names)?.graph.unwrap_or_default();
    let rate = f64::from(recipe.features.sample_rate) / recipe.features.hop_length.max(1) as f64;
    let mut inspection = inspect_graph(&graph, "features", Some(rate));
    // Constants, such as the places of a transcript's symbols, are not trained.
    let sizes = net.parameters().iter();
    inspection.parameters = sizes.map(|spec| spec.shape.iter().product::<usize>()).sum();
    let second = recipe.model.stride as f64 / rate;
    let field = network.receptive_field();
    inspection.notes.push(if streams {
        format!(
            "an output frame every {:.0} ms looks {:.0} ms ahead and {:.2} s back",
            1e3 * second,
            1e3 * second * recipe.model.delay_frames as f64,
            second * field.saturating_sub(recipe.model.delay_frames) as f64
        )
    } else {
        format!(
            "an output frame every {:.0} ms sees {:.2} s around it: the network takes whole recordings",
            1e3 * second,
            second * field as f64
        )
    });
    if recipe.target.is_some() {
        inspection.notes.push(
            "it reads the transcript too; that work goes by its symbols and is not in the figure"
                .to_owned(),
        );
    }
    if recipe.text.tokens.is_empty() {
        inspection.notes.push(
            "text.tokens is derived from the data: the output layer is shown for the blank alone"
                .to_owned(),
        );
    }
    Ok(inspection)
}

/// Counts what follows from `input`, which has `rate` positions a second.
fn inspect_graph(graph: &GraphProto, input: &str, rate: Option<f64>) -> Inspection {
    let mut shapes: HashMap<&str, Vec<usize>> = graph
        .initializer
        .iter()
        // Shapes and axes are i64; weights are floats.
        .filter(|tensor| tensor.data_type != Some(crate::onnx::proto::data_type::INT64))
        .filter_map(|tensor| {
            let dims = tensor.dims.iter().map(|&n| usize::try_from(n).unwrap_or(0));
            Some((tensor.name.as_deref()?, dims.collect()))
        })
        .collect();
    // A weight stored in fewer bits is what its first operand is, once it is given back.
    for node in &graph.node {
        let inputs = node.input.iter().map(String::as_str);
        let operator = node.op_type.as_deref().unwrap_or_default();
        let gives_back = matches!(operator, "Cast" | "Mul" | "DequantizeLinear")
            && inputs.clone().all(|name| shapes.contains_key(name));
        if let (true, Some(output)) = (gives_back, node.output.first()) {
            let mut held = inputs
                .filter_map(|name| shapes.remove(name))
                .collect::<Vec<_>>();
            if !held.is_empty() {
                shapes.insert(output, held.swap_remove(0));
            }
        }
    }
    let elements = |name: &str| {
        shapes.get(name).map_or(0, |shape| {
            shape.iter().fold(1, |a: usize, &b| a.saturating_mul(b))
        })
    };
    let mut rates: BTreeMap<&str, f64> = rate.map(|rate| (input, rate)).into_iter().collect();
    let mut layers = Vec::new();
    let mut uncounted = 0;
    for node in &graph.node {
        let operator = node.op_type.as_deref().unwrap_or_default();
        let known = node
            .input
            .iter()
            .filter_map(|name| rates.get(name.as_str()));
        // States join the input's frames: the rate is that of the frames.
        let before = known.copied().reduce(f64::max);
        let (_, along) = strides(node);
        let after = match operator {
            "Conv" | "MaxPool" | "AveragePool" => before.map(|rate| rate / along),
            "ConvTranspose" => before.map(|rate| rate * along),
            _ => before,
        };
        for name in &node.output {
            if let Some(after) = after {
                rates.insert(name, after);
            }
        }
        let is_product = matches!(
            operator,
            "Conv" | "ConvTranspose" | "MatMul" | "Gemm" | "LSTM" | "GRU"
        );
        if !is_product {
            continue;
        }
        let mut held = node
            .input
            .iter()
            .filter(|name| shapes.contains_key(name.as_str()));
        let Some(weight) = held.next() else {
            uncounted += 1;
            continue;
        };
        let shape = shapes[weight.as_str()].clone();
        let names = node.input.iter().map(String::as_str);
        let parameters = names.clone().map(elements).sum();
        // A recurrent layer has two matrices, and vectors that are only added.
        let matrices = names.filter(|name| shapes.get(name).is_some_and(|shape| shape.len() > 1));
        let work: usize = match operator {
            // Every input position meets each weight: the work goes by the slower side.
            "LSTM" | "GRU" => matrices.map(elements).sum(),
            _ => elements(weight),
        };
        let rate = if operator == "ConvTranspose" {
            before
        } else {
            after
        };
        layers.push(Layer {
            name: weight
                .rsplit_once('.')
                .map_or(weight.as_str(), |(name, _)| name)
                .to_owned(),
            operator: operator.to_owned(),
            shape,
            remarks: strides(node).0,
            parameters,
            rate,
            operations: work,
        });
    }
    Inspection {
        layers,
        parameters: shapes.keys().map(|name| elements(name)).sum(),
        uncounted,
        notes: Vec::new(),
    }
}

/// What a convolution's attributes say, and its stride along the last axis.
fn strides(node: &NodeProto) -> (String, f64) {
    let mut texts = Vec::new();
    let mut along = 1.0;
    for attribute in &node.attribute {
        let name = attribute.name.as_deref().unwrap_or_default();
        if name == "strides" {
            along = attribute
                .ints
                .last()
                .map_or(1.0, |&stride| stride.max(1) as f64);
        }
        let values: Vec<i64> = match name {
            "strides" | "dilations" => attribute.ints.clone(),
            "group" => attribute.i.into_iter().collect(),
            _ => continue,
        };
        if values.iter().any(|&value| value != 1) {
            let values: Vec<String> = values.iter().map(i64::to_string).collect();
            texts.push(format!("{name} {}", values.join("x")));
        }
    }
    (texts.join(", "), along)
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let million = |x: f64| format!("{:.2}", x / 1e6);
        writeln!(
            f,
            "{:<24} {:<8} {:<18} {:>10} {:>12}  remarks",
            "layer", "operator", "weight", "parameters", "M mult-adds/s"
        )?;
        for layer in &self.layers {
            let shape: Vec<String> = layer.shape.iter().map(usize::to_string).collect();
            let work = layer.rate.map_or("-".to_owned(), |rate| {
                million(rate * layer.operations as f64)
            });
            writeln!(
                f,
                "{:<24} {:<8} {:<18} {:>10} {:>12}  {}",
                layer.name,
                layer.operator,
                shape.join("x"),
                layer.parameters,
                work,
                layer.remarks
            )?;
        }
        write!(f, "\n{} parameters", self.parameters)?;
        match self.operations() {
            Some(operations) => writeln!(
                f,
                ", {} million multiply-adds for a second of audio",
                million(operations)
            )?,
            None => writeln!(f, "; multiply-adds are counted for audio models alone")?,
        }
        if self.uncounted > 0 {
            writeln!(
                f,
                "{} products of two activations are not counted",
                self.uncounted
            )?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn a_recipe_is_counted_by_hand() {
        let text = "name = \"toy\"\ntask = \"speech\"\nlicense = \"MIT\"\n[data]\n\
                    train = [{ manifest = \"m.jsonl\" }]\n[text]\ntokens = [\" \", \"a\", \"b\"]\n[features]\nmels = 20\n\
                    [model]\nchannels = 8\nblocks = 1\nkernel = 3\ndilations = [2]\nstride = 2\n";
        let recipe = Recipe::parse(text, &[] as &[&str]).unwrap();
        let found = inspect_recipe(&recipe).unwrap();
        let names: Vec<&str> = found.layers.iter().map(|l| l.name.as_str()).collect();
        assert_eq!(
            names,
            ["stem", "block.0.first", "block.0.second", "widen", "head"]
        );
        let weights = [20 * 8 * 3, 8 * 8 * 3, 8 * 8 * 3, 8 * 16, 16 * 4];
        let biases = [8, 8, 8, 16, 4];
        for ((layer, weights), biases) in found.layers.iter().zip(weights).zip(biases) {
            assert_eq!(layer.parameters, weights + biases, "{}", layer.name);
            assert_eq!(layer.rate, Some(50.0), "{}", layer.name);
        }
        assert_eq!(found.parameters, weights.iter().sum::<usize>() + 44);
        assert_eq!(
            found.operations(),
            Some(50.0 * weights.iter().sum::<usize>() as f64)
        );
        let shown = found.to_string();
        for part in ["strides 1x2", "dilations 1x2", "8x20x1x3", "200 ms ahead"] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
    }

    #[test]
    fn a_shipped_model_is_taken_apart() {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../models/speech-tiny");
        let found = inspect_model(&folder.join("model.onnx")).unwrap();
        let recipe = Recipe::load(folder.join("recipe.toml"), &[] as &[&str]).unwrap();
        let expected = inspect_recipe(&recipe).unwrap();
        assert_eq!(found.parameters, expected.parameters);
        assert_eq!(found.operations(), expected.operations());
        assert_eq!(found.layers, expected.layers);
        let error = inspect_model(&folder.join("recipe.toml")).unwrap_err();
        assert!(error.to_string().contains("recipe.toml"), "{error}");
    }
}
