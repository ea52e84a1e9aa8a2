//! Recomputation of activations (arXiv 1604.06174): of a long forward pass only the values at chosen boundaries are kept;
//! the backward pass computes what lies between two of them again when it gets there.
//!
//! The nodes between two boundaries are a segment. When the walk back enters one, its nodes are added again, hanging
//! from [`crate::graph::Op::Later`] copies of what the segment reads, so that ONNX Runtime neither runs them early nor finds that they
//! repeat others; the gradient rules then read the copies. The last segment is differentiated at once and stays as it
//! is. Cost: one more forward pass; peak memory: the boundaries and the largest segment instead of everything.

use crate::graph::{DType, Graph, Origin, Value};
use crate::{Error, ErrorKind, Result};
use std::collections::HashMap;

/// What the walk back knows of the segments.
#[derive(Debug, Default)]
pub(super) struct Recompute {
    /// The nodes that compute the boundaries, ascending.
    ends: Vec<usize>,
    segment: Option<usize>,
    copies: HashMap<Value, Value>,
}

impl Recompute {
    /// Segments that end with the nodes that compute `kept`.
    pub(super) fn new(g: &Graph, kept: &[Value]) -> Result<Self> {
        let node = |value: &Value| match g.values[value.index()].origin {
            Origin::Node { node, .. } => Ok(node),
            _ => Err(Error::new(
                ErrorKind::Graph,
                format!(
                    "{:?} is not computed: it is kept anyway",
                    g.value_name(*value)
                ),
            )),
        };
        let mut ends = kept.iter().map(node).collect::<Result<Vec<_>>>()?;
        ends.sort_unstable();
        ends.dedup();
        Ok(Self {
            ends,
            ..Self::default()
        })
    }

    /// Adds the segment of node `index` again, unless it is there; `trigger` is the gradient that the walk brings.
    pub(super) fn enter(&mut self, g: &mut Graph, index: usize, trigger: Value) -> Result<()> {
        let segment = self.ends.partition_point(|&end| end < index);
        if self.segment.replace(segment) == Some(segment) {
            return Ok(());
        }
        self.copies.clear();
        let Some(&end) = self.ends.get(segment) else {
            return Ok(());
        };
        let first = match segment.checked_sub(1) {
            Some(before) => self.ends[before] + 1,
            None => 0,
        };
        // The last node's result is the boundary itself.
        for index in first..end {
            let node = g.nodes[index].clone();
            let mut inputs = Vec::with_capacity(node.inputs.len());
            for &input in &node.inputs {
                inputs.push(self.held(g, input, trigger)?);
            }
            let outputs: Vec<_> = node
                .outputs
                .iter()
                .map(|&value| (g.dtype(value), g.shape(value).to_vec()))
                .collect();
            let outputs = g.node(node.op, &inputs, &outputs);
            self.copies.extend(node.outputs.into_iter().zip(outputs));
        }
        Ok(())
    }

    /// What a node of the segment reads: a copy from within, or what comes from outside, held back.
    fn held(&mut self, g: &mut Graph, value: Value, trigger: Value) -> Result<Value> {
        if let Some(&copy) = self.copies.get(&value) {
            return Ok(copy);
        }
        let moves = matches!(
            g.values[value.index()].origin,
            Origin::Input | Origin::Node { .. }
        );
        if !moves || g.dtype(value) != DType::F32 {
            return Ok(value);
        }
        let held = g.later(value, trigger)?;
        self.copies.insert(value, held);
        Ok(held)
    }

    /// The values that a rule reads in place of `values`.
    pub(super) fn read(&self, values: &[Value]) -> Vec<Value> {
        let copy = |value: &Value| self.copies.get(value).copied().unwrap_or(*value);
        values.iter().map(copy).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{gradients, recomputing_gradients};
    use super::*;
    use crate::graph::Kernels;
    use crate::graph::exec::{Executable, ParameterStore};
    use crate::graph::testing::{engine, numbers};

    /// Four residual layers with batch norm and dropout; the sums are boundaries if asked.
    fn run(recomputing: bool, kernels: Kernels) -> (Vec<Vec<f32>>, Graph, usize, Vec<Value>) {
        let shape = [2, 3, 2, 7];
        let mut g = Graph::new("deep");
        let mut store = ParameterStore::new(&engine());
        let mut parameter = |g: &mut Graph, name: String, shape: &[usize], salt| {
            let count = shape.iter().product();
            store.insert(&name, shape, &numbers(count, salt)).unwrap();
            g.parameter(&name, shape).unwrap()
        };
        let seed = g.input("seed", DType::I64, &[1]).unwrap();
        let input = g.input("x", DType::F32, &shape).unwrap();
        let mask = g.constant(&[2, 1, 2, 7], vec![1.0; 28]).unwrap();
        let (mut x, mut kept) = (input, Vec::new());
        for layer in 0..4 {
            let w = parameter(&mut g, format!("w{layer}"), &[3, 3, 1, 1], layer);
            let scale = parameter(&mut g, format!("s{layer}"), &[3], layer + 7);
            let bias = parameter(&mut g, format!("b{layer}"), &[3], layer + 9);
            let y = g.conv(x, w, None, Default::default()).unwrap();
            let y = g.batch_norm(y, scale, bias, mask, 1e-3, true).unwrap().y;
            let y = g.dropout(y, seed, 0.3, layer as u64).unwrap();
            let y = g.silu(y).unwrap();
            x = g.add(x, y).unwrap();
            kept.push(x);
        }
        let square = g.mul(x, x).unwrap();
        let loss = g.sum_all(square).unwrap();
        let wrt = g.parameters().to_vec();
        let forward = g.len();
        let found = if recomputing {
            recomputing_gradients(&mut g, loss, &wrt, &kept).unwrap()
        } else {
            gradients(&mut g, loss, &wrt).unwrap()
        };
        for (index, gradient) in found.into_iter().enumerate() {
            g.output(&format!("grad{index}"), gradient).unwrap();
        }
        let engine = engine().with_kernels(kernels);
        let mut exe = Executable::new(&engine, &g, &store).unwrap();
        exe.f32_mut("x").unwrap().copy_from_slice(&numbers(84, 40));
        exe.run().unwrap();
        let gradient = |index| exe.f32(&format!("grad{index}")).unwrap().to_vec();
        ((0..wrt.len()).map(gradient).collect(), g, forward, kept)
    }

    #[test]
    fn gradients_stay_and_activations_do_not() {
        let (expected, ..) = run(false, Kernels::Native);
        for kernels in [Kernels::Native, Kernels::PlainOnnx] {
            let (found, g, forward, kept) = run(true, kernels);
            for (expected, found) in expected.iter().zip(&found) {
                for (a, b) in expected.iter().zip(found) {
                    assert!(
                        (a - b).abs() <= 1e-4 * a.abs().max(1.0),
                        "{a}, recomputed {b}"
                    );
                }
            }
            let last = match g.values[kept[3].index()].origin {
                Origin::Node { node, .. } => node,
                _ => panic!("a boundary is computed"),
            };
            // Backward nodes read of the forward pass what is kept, and what follows the last boundary.
            for node in &g.nodes[forward..] {
                for input in &node.inputs {
                    if let Origin::Node { node, .. } = g.values[input.index()].origin
                        && node < forward
                    {
                        assert!(node > last || kept.contains(input), "node {node}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_not_computed_cannot_be_a_boundary() {
        let mut g = Graph::new("none");
        let x = g.parameter("x", &[2]).unwrap();
        let loss = g.sum_all(x).unwrap();
        assert!(recomputing_gradients(&mut g, loss, &[x], &[x]).is_err());
    }
}
