//! Batch norm (arXiv 1502.03167) after a convolution: over unmasked positions in training, folded into the convolution
//! in every other form.

use super::{Convolution, Form, Init, Net, Statistic};
use crate::graph::Value;
use crate::{Error, ErrorKind, Result};

/// Added to the variance by every batch norm.
const EPSILON: f32 = 1e-3;

/// A convolution over `[B, C, H, W]` without a bias, batch norm, perhaps ReLU, and zeros where the mask is 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormedConvolution {
    /// The convolution.
    pub convolution: Convolution,
    /// Whether a ReLU follows.
    pub relu: bool,
}

impl NormedConvolution {
    /// `convolution` without its bias, followed by batch norm and ReLU.
    pub fn new(convolution: Convolution) -> Self {
        Self {
            convolution: convolution.without_bias(),
            relu: true,
        }
    }

    /// Without the ReLU.
    pub fn linear(mut self) -> Self {
        self.relu = false;
        self
    }

    /// x `[B, Ci, H, W]` to `[B, Co, Ho, Wo]`; mask is 1 where a position counts, `[B, 1, Ho, Wo]` in training, of a
    /// shape that broadcasts to it in the other forms, which may go without.
    ///
    /// Training declares `NAME.weight`, `NAME.scale`, `NAME.bias`; the other forms `NAME.weight` and
    /// `NAME.folded_bias`, which [`NormedConvolution::fold`] gives.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Graph`] where x or the mask does not fit, or training has no mask.
    pub fn apply(&self, net: &mut Net, x: Value, mask: Option<Value>) -> Result<Value> {
        let Convolution {
            name,
            outputs,
            attributes,
            ..
        } = &self.convolution;
        let weight = self.convolution.weight(net, x)?;
        if net.form == Form::Train {
            let y = net.graph.conv(x, weight, None, attributes.clone())?;
            let mask = mask.ok_or_else(|| {
                let message = format!("{name}: a training network needs its mask");
                Error::new(ErrorKind::Graph, message)
            })?;
            return normalize(net, name, y, mask, self.relu);
        }
        let (_, bias) = folded_names(name);
        let bias = net.parameter(&bias, &[*outputs], Init::Constant(0.0), false)?;
        let mut y = net.graph.conv(x, weight, Some(bias), attributes.clone())?;
        if self.relu {
            y = net.graph.relu(y)?;
        }
        match mask {
            Some(mask) => net.graph.mul(y, mask),
            None => Ok(y),
        }
    }

    /// The folded weight and bias: `w' = w g`, `b' = bias - mean g`, `g = scale / sqrt(variance + epsilon)`;
    /// `get` gives the unfolded tensors by name.
    ///
    /// # Errors
    /// What `get` reports.
    pub fn fold<'a>(
        &self,
        get: impl Fn(&str) -> Result<&'a [f32]>,
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        let name = &self.convolution.name;
        let part = |suffix: &str| get(&format!("{name}.{suffix}"));
        let (weight, scale, bias) = (part("weight")?, part("scale")?, part("bias")?);
        let (mean, variance) = (part("running_mean")?, part("running_variance")?);
        let mut folded_weight = weight.to_vec();
        let mut folded_bias = Vec::with_capacity(scale.len());
        let taps = (weight.len() / scale.len().max(1)).max(1);
        for (channel, row) in folded_weight.chunks_exact_mut(taps).enumerate() {
            let gain = scale[channel] / (variance[channel] + EPSILON).sqrt();
            for weight in row {
                *weight *= gain;
            }
            folded_bias.push(bias[channel] - mean[channel] * gain);
        }
        Ok((folded_weight, folded_bias))
    }
}

/// Names of a folded layer's parameters, from those of the unfolded: see [`NormedConvolution::fold`].
pub fn folded_names(name: &str) -> (String, String) {
    (format!("{name}.weight"), format!("{name}.folded_bias"))
}

impl Convolution {
    /// This convolution with batch norm and ReLU after it.
    pub fn normed(self) -> NormedConvolution {
        NormedConvolution::new(self)
    }
}

/// Batch norm of y `[B, C, H, W]` by the statistics of its unmasked positions, which become running ones
/// `NAME.running_{mean,variance}`.
fn normalize(net: &mut Net, name: &str, y: Value, mask: Value, relu: bool) -> Result<Value> {
    let channels = net.graph.shape(y).get(1).copied().unwrap_or(0);
    let scale = net.vector(name, "scale", channels, 1.0)?;
    let bias = net.vector(name, "bias", channels, 0.0)?;
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

#[cfg(test)]
mod tests {
    use super::super::testing::{check_layer, outputs};
    use super::*;
    use crate::graph::testing::numbers;

    fn mask(net: &mut Net, shape: [usize; 2]) -> Result<Value> {
        let count = 2 * shape[0] * shape[1];
        let kept = (0..count).map(|i| f32::from(u8::from(i % 7 != 3)));
        net.graph
            .constant(&[2, 1, shape[0], shape[1]], kept.collect())
    }

    #[test]
    fn gradients_in_training() {
        let layer = Convolution::new("c", 3, [3, 3]).with_strides([1, 2]);
        check_layer("normed", &[&[2, 2, 3, 8]], &|net, x| {
            let mask = mask(net, [3, 4])?;
            layer.clone().normed().linear().apply(net, x[0], Some(mask))
        });
    }

    /// With the batch's own statistics as the running ones, the folded form gives what training gave.
    #[test]
    fn folding_changes_nothing() {
        let layer = Convolution::new("c", 3, [3, 2]).normed();
        let x = numbers(2 * 2 * 4 * 5, 3);
        let shape = [2, 2, 4, 5];
        let build = |net: &mut Net, x: Value| {
            let mask = mask(net, [4, 5])?;
            layer.apply(net, x, Some(mask))
        };
        let (trained, store, statistics) = outputs(Form::Train, &shape, &x, &[], &build);
        let statistic = |name: &str| statistics[name].clone();
        let mut all = store;
        all.insert("c.running_mean".to_owned(), statistic("batch.c.mean"));
        all.insert(
            "c.running_variance".to_owned(),
            statistic("batch.c.variance"),
        );
        let (weight, bias) = layer.fold(|name| Ok(all[name].as_slice())).unwrap();
        let folded = [("c.weight", weight), ("c.folded_bias", bias)];
        let (found, ..) = outputs(Form::Evaluate, &shape, &x, &folded, &build);
        for (a, b) in trained.iter().zip(&found) {
            assert!((a - b).abs() < 1e-5, "{a} in training, {b} folded");
        }
    }
}
