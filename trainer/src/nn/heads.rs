//! Multi-head attention (arXiv 1706.03762) without a single reshape along time, so that its export takes any length.
//!
//! queries `[1, 1, Tq, D]` and memory `[1, 1, Tk, M]` stand behind a head axis of length 1, and each projection is a
//! product with a weight that has one matrix a head, `[H, D, D / H]`: it comes out as `[1, H, T, D / H]`. Scores are
//! `Q K^T / sqrt(D / H) + bias`; the heads' results, `[1, H, Tq, D / H]`, go through `[H, D / H, D]` and are summed.

use super::{Init, Net};
use crate::Result;
use crate::graph::Value;

/// What an attention gives.
#[derive(Debug, Clone, Copy)]
pub struct Attended {
    /// `[1, 1, Tq, D]`.
    pub output: Value,
    /// Weights `[1, H, Tq, Tk]`, each row adding up to 1.
    pub weights: Value,
}

/// An attention layer. Parameters `NAME.{query,key,value}.weight [H, _, D / H]`, `NAME.output.weight [H, D / H, D]`
/// and `NAME.output.bias [D]`. A bias of queries, keys or values would change nothing that the softmax or the
/// output's bias does not undo, but for the queries', which is left out with them.
#[derive(Debug, Clone, PartialEq)]
pub struct Heads {
    /// Prefix of the parameters' names.
    pub name: String,
    /// Number of heads; it divides the width.
    pub heads: usize,
    /// Dropout of the weights in training.
    pub dropout: f32,
}

impl Heads {
    /// Attention of `queries` to `memory`; `bias`, which broadcasts to `[1, H, Tq, Tk]`, is added to the scores.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Graph`] where shapes do not fit or the heads do not divide the width.
    pub fn attend(
        &self,
        net: &mut Net,
        queries: Value,
        memory: Value,
        bias: Option<Value>,
    ) -> Result<Attended> {
        let (&[1, 1, _, width], &[1, 1, _, inner]) =
            (net.graph.shape(queries), net.graph.shape(memory))
        else {
            let expected = "queries [1, 1, Tq, D] and memory [1, 1, Tk, M]";
            return Err(net.graph.mismatch(&self.name, expected, &[queries, memory]));
        };
        if self.heads == 0 || !width.is_multiple_of(self.heads) {
            let expected = format!("a width that {} heads divide", self.heads);
            return Err(net.graph.mismatch(&self.name, &expected, &[queries]));
        }
        let head = width / self.heads;
        let project = |net: &mut Net, part: &str, x: Value, inputs: usize| {
            let weight = net.parameter(
                &format!("{}.{part}.weight", self.name),
                &[self.heads, inputs, head],
                Init::Linear { fan_in: inputs },
                true,
            )?;
            net.graph.matmul(x, weight)
        };
        let q = project(net, "query", queries, width)?;
        let k = project(net, "key", memory, inner)?;
        let v = project(net, "value", memory, inner)?;
        // Scaling the queries touches fewer numbers than scaling the scores.
        let q = net.graph.scale(q, 1.0 / (head as f32).sqrt())?;
        let k = net.graph.transpose(k, &[0, 1, 3, 2])?;
        let mut scores = net.graph.matmul(q, k)?;
        if let Some(bias) = bias {
            scores = net.graph.add(scores, bias)?;
        }
        let weights = net.graph.softmax(scores, 3)?;
        let kept = net.dropout(weights, self.dropout)?;
        let mixed = net.graph.matmul(kept, v)?;
        let back = net.parameter(
            &format!("{}.output.weight", self.name),
            &[self.heads, head, width],
            Init::Linear { fan_in: width },
            true,
        )?;
        let mixed = net.graph.matmul(mixed, back)?;
        let summed = net.graph.reduce_sum(mixed, &[1], true)?;
        let bias = net.vector(&format!("{}.output", self.name), "bias", width, 0.0)?;
        Ok(Attended {
            output: net.graph.add(summed, bias)?,
            weights,
        })
    }
}

impl Net {
    /// A linear map of the last axis as one product, whatever the axes before: x `[.., I]` to `[.., outputs]`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Graph`] where x has no axes or a parameter of the name another shape.
    pub fn map_rows(&mut self, name: &str, x: Value, outputs: usize) -> Result<Value> {
        let inputs = self.graph.shape(x).last().copied().unwrap_or(0);
        let init = Init::Linear { fan_in: inputs };
        let weight = self.parameter(&format!("{name}.weight"), &[inputs, outputs], init, true)?;
        let bias = self.vector(name, "bias", outputs, 0.0)?;
        let y = self.graph.matmul(x, weight)?;
        self.graph.add(y, bias)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check_layer;
    use super::*;
    use crate::nn::Form;

    fn layer(heads: usize) -> Heads {
        Heads {
            name: "a".to_owned(),
            heads,
            dropout: 0.0,
        }
    }

    #[test]
    fn gradients() {
        check_layer("itself", &[&[1, 1, 5, 6]], &|net, x| {
            Ok(layer(2).attend(net, x[0], x[0], None)?.output)
        });
        let shapes: [&[usize]; 2] = [&[1, 1, 4, 6], &[1, 1, 3, 5]];
        check_layer("cross, biased", &shapes, &|net, x| {
            let blocked = (0..12).map(|i| if i % 3 == i / 6 { -1e9 } else { 0.0 });
            let bias = net.graph.constant(&[1, 1, 4, 3], blocked.collect())?;
            Ok(layer(3).attend(net, x[0], x[1], Some(bias))?.output)
        });
        check_layer("rows", &[&[1, 1, 4, 3]], &|net, x| {
            net.map_rows("l", x[0], 5)
        });
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut net = Net::new("t", Form::Train);
        let x = net.graph.parameter("x", &[1, 1, 5, 6]).unwrap();
        let flat = net.graph.parameter("m", &[5, 6]).unwrap();
        assert!(layer(4).attend(&mut net, x, x, None).is_err(), "heads");
        assert!(layer(2).attend(&mut net, x, flat, None).is_err(), "axes");
    }
}
