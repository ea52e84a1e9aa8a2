//! Students: small CTC networks to deploy. All are trained on packed rows `[1, F, N]` of items one after another.

pub mod jasper;
pub mod speech;
pub mod text;

use crate::Result;
use crate::config::{ModelKind, Recipe};
use crate::graph::{ConvAttributes, DType, Value};
use crate::network::{Built, Lookup, Network};
use crate::nn::{Form, Init, Net, NormedConvolution, folded_names};
use std::collections::HashMap;
use std::sync::Arc;

/// The student that a recipe describes over `vocabulary` symbols, blank included.
pub fn student(recipe: &Recipe, vocabulary: usize) -> Arc<dyn Network> {
    let features = recipe.features.mels;
    let config = recipe.model.clone();
    match config.kind {
        ModelKind::Conv => Arc::new(speech::SpeechStudent {
            features,
            vocabulary,
            config,
        }),
        ModelKind::JasperMini => Arc::new(jasper::JasperStudent {
            features,
            vocabulary,
            config,
        }),
        ModelKind::Image => Arc::new(text::TextStudent::new(recipe, vocabulary)),
    }
}

/// Declares what every student takes: features of this shape and, where the form has them, the mask of `steps` output
/// frames and the seed of the dropout.
fn inputs(net: &mut Net, shape: &[usize; 4], steps: usize, dropout: f32) -> Result<Value> {
    let features = net.graph.input("features", DType::F32, shape)?;
    if matches!(net.form, Form::Train | Form::Evaluate) {
        net.mask = Some(net.graph.input("mask", DType::F32, &[1, 1, 1, steps])?);
    }
    if net.form == Form::Train && dropout > 0.0 {
        net.seed = Some(net.graph.input("seed", DType::I64, &[1])?);
    }
    Ok(features)
}

/// The parameters of [`head`]: the same in every form.
const HEAD: [&str; 2] = ["head.weight", "head.bias"];

/// The network with a linear map of `x [1, C, 1, T]` to the vocabulary at its end.
fn head(
    net: &mut Net,
    features: Value,
    hidden: Vec<Value>,
    x: Value,
    vocabulary: usize,
) -> Result<Built> {
    let &[_, width, _, _] = net.graph.shape(x) else {
        return Err(net.graph.mismatch("head", "x [1, C, 1, T]", &[x]));
    };
    let [weight, bias] = HEAD;
    let init = Init::Linear { fan_in: width };
    let weight = net.parameter(weight, &[vocabulary, width, 1, 1], init, true)?;
    let bias = net.parameter(bias, &[vocabulary], Init::Constant(0.0), false)?;
    let attributes = ConvAttributes::default();
    Ok(Built {
        features,
        logits: net.graph.conv(x, weight, Some(bias), attributes)?,
        hidden,
        attention: None,
    })
}

/// The folded parameters of layers with batch norm.
fn fold_layers(
    layers: impl IntoIterator<Item = NormedConvolution>,
    get: Lookup<'_, '_>,
) -> Result<HashMap<String, Vec<f32>>> {
    let mut folded = HashMap::new();
    for layer in layers {
        let (weight, bias) = layer.fold(get)?;
        let (weight_name, bias_name) = folded_names(&layer.convolution.name);
        folded.insert(weight_name, weight);
        folded.insert(bias_name, bias);
    }
    Ok(folded)
}

/// Adds parameters that folding leaves as they are.
fn keep<'n>(
    folded: &mut HashMap<String, Vec<f32>>,
    names: impl IntoIterator<Item = &'n str>,
    get: Lookup<'_, '_>,
) -> Result<()> {
    for name in names {
        folded.insert(name.to_owned(), get(name)?.to_vec());
    }
    Ok(())
}
