//! Multi-head attention (arXiv 1706.03762) of queries to a memory, or of a sequence to itself, with padding masks and
//! a trained bias for each relative position (arXiv 1910.10683, without its buckets).
//!
//! `softmax(Q K^T / sqrt(d) + bias[head, key - query] + mask) V` with H heads of d = D / H channels. Positions are
//! relative only: moved in time, a sequence gives the same values.

use super::linear::Bias;
use super::{Init, Net};
use crate::graph::Value;
use crate::{Error, ErrorKind, Result};

/// Added to the score of a masked key: its weight underflows to zero.
const MASKED: f32 = -1e9;

/// A multi-head attention layer. Parameters `NAME.{query,key,value,output}.{weight,bias}` and `NAME.relative.table`.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// Prefix of the parameters' names.
    pub name: String,
    /// Number of heads; it divides the width.
    pub heads: usize,
    /// Largest distance between positions that has a bias of its own; farther ones share the last. Absent: no
    /// biases, and the order of the memory does not matter.
    pub reach: Option<usize>,
    /// Dropout of the attention weights in training.
    pub dropout: f32,
}

impl Attention {
    /// Attention with `heads` heads, no positions and no dropout.
    pub fn new(name: &str, heads: usize) -> Self {
        Self {
            name: name.to_owned(),
            heads,
            reach: None,
            dropout: 0.0,
        }
    }

    /// With biases for relative positions up to `reach` apart.
    pub fn with_reach(mut self, reach: usize) -> Self {
        self.reach = Some(reach);
        self
    }

    /// With dropout of the attention weights.
    pub fn with_dropout(mut self, dropout: f32) -> Self {
        self.dropout = dropout;
        self
    }

    /// Self-attention: x `[B, T, D]`, mask `[B, T]` (1 where a position counts) to `[B, T, D]`.
    ///
    /// # Errors
    /// As [`Attention::cross`].
    pub fn itself(&self, net: &mut Net, x: Value, mask: Option<Value>) -> Result<Value> {
        self.cross(net, x, x, mask)
    }

    /// Attention of queries `[B, Tq, D]` to memory `[B, Tk, M]`, mask `[B, Tk]` (1 where a memory position counts), to
    /// `[B, Tq, D]`. Where the mask leaves nothing, all of the memory counts alike.
    ///
    /// # Errors
    /// [`ErrorKind::Graph`] where shapes do not fit or the heads do not divide the width.
    pub fn cross(
        &self,
        net: &mut Net,
        queries: Value,
        memory: Value,
        mask: Option<Value>,
    ) -> Result<Value> {
        let (&[items, tq, width], &[items_too, tk, _]) =
            (net.graph.shape(queries), net.graph.shape(memory))
        else {
            let expected = "queries [B, Tq, D] and memory [B, Tk, M]";
            return Err(net.graph.mismatch(&self.name, expected, &[queries, memory]));
        };
        if items != items_too || self.heads == 0 || !width.is_multiple_of(self.heads) {
            return Err(net.graph.mismatch(
                &self.name,
                &format!("equal batches and a width that {} heads divide", self.heads),
                &[queries, memory],
            ));
        }
        let head = width / self.heads;
        let mut project = |part: &str, x: Value, length: usize, order: &[usize]| {
            let name = format!("{}.{part}", self.name);
            let y = net.linear(&name, x, width, Bias::Trained)?;
            let y = net.graph.reshape(y, &[items, length, self.heads, head])?;
            net.graph.transpose(y, order)
        };
        let q = project("query", queries, tq, &[0, 2, 1, 3])?;
        let k = project("key", memory, tk, &[0, 2, 3, 1])?;
        let v = project("value", memory, tk, &[0, 2, 1, 3])?;
        // Scaling the queries touches fewer numbers than scaling the scores.
        let q = net.graph.scale(q, 1.0 / (head as f32).sqrt())?;
        let mut scores = net.graph.matmul(q, k)?;
        if let Some(reach) = self.reach {
            let bias = self.position_bias(net, tq, tk, reach)?;
            scores = net.graph.add(scores, bias)?;
        }
        if let Some(mask) = mask {
            let bias = mask_bias(net, mask, [items, tk])?;
            scores = net.graph.add(scores, bias)?;
        }
        let weights = net.graph.softmax(scores, 3)?;
        let weights = net.dropout(weights, self.dropout)?;
        let mixed = net.graph.matmul(weights, v)?;
        let mixed = net.graph.transpose(mixed, &[0, 2, 1, 3])?;
        let mixed = net.graph.reshape(mixed, &[items, tq, width])?;
        net.linear(
            &format!("{}.output", self.name),
            mixed,
            width,
            Bias::Trained,
        )
    }

    /// `[1, H, Tq, Tk]`: entry `clamp(key - query, -reach, reach)` of a table `[2 reach + 1, H]`.
    fn position_bias(&self, net: &mut Net, tq: usize, tk: usize, reach: usize) -> Result<Value> {
        let limit = i64::try_from(reach)
            .map_err(|_| Error::new(ErrorKind::Graph, format!("{}: reach {reach}", self.name)))?;
        let indices = (0..tq as i64)
            .flat_map(|query| (0..tk as i64).map(move |key| (key - query).clamp(-limit, limit)))
            .map(|distance| distance + limit)
            .collect();
        let name = format!("{}.relative.table", self.name);
        let table = net.parameter(
            &name,
            &[2 * reach + 1, self.heads],
            Init::Constant(0.0),
            false,
        )?;
        let indices = net.graph.constant_i64(&[tq, tk], indices)?;
        let bias = net.graph.gather(table, indices)?;
        let bias = net.graph.transpose(bias, &[2, 0, 1])?;
        net.graph.reshape(bias, &[1, self.heads, tq, tk])
    }
}

/// `(mask - 1) 1e9` as `[B, 1, 1, Tk]`.
fn mask_bias(net: &mut Net, mask: Value, shape: [usize; 2]) -> Result<Value> {
    if net.graph.shape(mask) != shape {
        return Err(net
            .graph
            .mismatch("an attention mask", "mask [B, Tk]", &[mask]));
    }
    let one = net.graph.scalar(1.0)?;
    let missing = net.graph.sub(one, mask)?;
    let bias = net.graph.scale(missing, MASKED)?;
    net.graph.reshape(bias, &[shape[0], 1, 1, shape[1]])
}

#[cfg(test)]
mod tests {
    use super::super::testing::check_layer;
    use super::*;
    use crate::graph::Graph;
    use crate::graph::testing::{evaluate, numbers};
    use crate::nn::Form;

    fn mask(net: &mut Net, length: usize) -> Result<Value> {
        let kept = (0..2 * length).map(|i| f32::from(u8::from(i % length < length - i / length)));
        net.graph.constant(&[2, length], kept.collect())
    }

    #[test]
    fn gradients() {
        let plain = Attention::new("a", 2);
        check_layer("self", &[&[2, 5, 6]], &|net, x| {
            plain.itself(net, x[0], None)
        });
        let near = Attention::new("a", 3).with_reach(2);
        check_layer("self, masked, relative", &[&[2, 5, 6]], &|net, x| {
            let mask = mask(net, 5)?;
            near.itself(net, x[0], Some(mask))
        });
        check_layer("cross, masked", &[&[2, 3, 4], &[2, 5, 6]], &|net, x| {
            let mask = mask(net, 5)?;
            plain.cross(net, x[0], x[1], Some(mask))
        });
    }

    #[test]
    fn masked_memory_has_no_influence() {
        let layer = Attention::new("a", 2).with_reach(3);
        let run = |memory: Vec<f32>| {
            let build = |g: &mut Graph, p: &[Value]| -> Result<Value> {
                let mut net = Net::new("t", Form::Train);
                std::mem::swap(&mut net.graph, g);
                let names = ["query", "key", "value", "output"];
                for (name, pair) in names.iter().zip(p[2..].chunks(2)) {
                    net.known.insert(format!("a.{name}.weight"), pair[0]);
                    net.known.insert(format!("a.{name}.bias"), pair[1]);
                }
                net.known.insert("a.relative.table".to_owned(), p[10]);
                let kept = net.graph.constant(&[1, 3], vec![1.0, 1.0, 0.0])?;
                let y = layer.cross(&mut net, p[0], p[1], Some(kept));
                std::mem::swap(&mut net.graph, g);
                y
            };
            let (square, row): (&[usize], &[usize]) = (&[4, 4], &[4]);
            let mut shapes: Vec<&[usize]> = vec![&[1, 2, 4], &[1, 3, 4]];
            shapes.extend([square, row].repeat(4));
            shapes.push(&[7, 2]);
            let mut values: Vec<Vec<f32>> = shapes
                .iter()
                .enumerate()
                .map(|(salt, shape)| numbers(shape.iter().product(), salt))
                .collect();
            values[1] = memory;
            evaluate(&shapes, &values, &build).0
        };
        let memory = numbers(12, 40);
        let mut other = memory.clone();
        other[8..].fill(9.0);
        assert_eq!(run(memory.clone()), run(other.clone()));
        other[0] += 1.0;
        assert_ne!(run(memory), run(other));
    }

    #[test]
    fn mistakes_are_errors() {
        let mut net = Net::new("t", Form::Train);
        let x = net.graph.parameter("x", &[2, 5, 6]).unwrap();
        let short = net.graph.parameter("m", &[2, 4]).unwrap();
        let layer = Attention::new("a", 2);
        assert!(layer.itself(&mut net, x, Some(short)).is_err(), "mask");
        assert!(
            Attention::new("b", 4).itself(&mut net, x, None).is_err(),
            "heads"
        );
        assert!(layer.itself(&mut net, short, None).is_err(), "two axes");
    }
}
