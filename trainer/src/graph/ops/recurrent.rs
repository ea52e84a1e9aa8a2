//! Gated recurrent units (arXiv 1406.1078, reset after the product).

use crate::Result;
use crate::graph::op::Op;
use crate::graph::{DType, Graph, Value};

impl Graph {
    /// The recurrence from a state of zeros: gates `[B, T, 3H]`, what the inputs contribute to update, reset and
    /// candidate, with r `[H, 3H]` and bias `[3H]` to the states `[B, T, H]`. Frames behind an item's end do
    /// not reach those before it, so padding at the end needs no mask.
    pub fn gru_steps(&mut self, gates: Value, r: Value, bias: Value) -> Result<Value> {
        if let (&[items, frames, triple], &[width, triple_too]) = (self.shape(gates), self.shape(r))
            && triple == 3 * width
            && triple == triple_too
            && self.shape(bias) == [triple]
            && items * frames * width > 0
            && self.floats(&[gates, r, bias])
        {
            let states = (DType::F32, vec![items, frames, width]);
            let saved = (DType::F32, vec![items, frames, 4 * width]);
            return Ok(self.node(Op::GruSteps, &[gates, r, bias], &[states, saved])[0]);
        }
        Err(self.mismatch(
            "GruSteps",
            "gates [B, T, 3H], r [H, 3H], bias [3H]",
            &[gates, r, bias],
        ))
    }

    /// ONNX's GRU, for networks that do not train: x `[T, B, I]`, w `[1, 3H, I]`, r `[1, 3H, H]`, bias `[1, 6H]` (of the
    /// inputs, then of the states), start `[1, B, H]` to the states `[T, 1, B, H]` and the last one `[1, B, H]`.
    pub fn gru(&mut self, x: Value, weights: [Value; 3], start: Value) -> Result<[Value; 2]> {
        let [w, r, bias] = weights;
        let operands = [x, w, r, bias, start];
        if let (&[frames, items, inputs], &[1, triple, _]) = (self.shape(x), self.shape(w))
            && let width = triple / 3
            && self.shape(w) == [1, 3 * width, inputs]
            && self.shape(r) == [1, 3 * width, width]
            && self.shape(bias) == [1, 6 * width]
            && self.shape(start) == [1, items, width]
            && self.floats(&operands)
        {
            let states = (DType::F32, vec![frames, 1, items, width]);
            let last = (DType::F32, vec![1, items, width]);
            let out = self.node(Op::Gru, &operands, &[states, last]);
            return Ok([out[0], out[1]]);
        }
        Err(self.mismatch(
            "GRU",
            "x [T, B, I], w [1, 3H, I], r [1, 3H, H], bias [1, 6H], start [1, B, H]",
            &operands,
        ))
    }
}
