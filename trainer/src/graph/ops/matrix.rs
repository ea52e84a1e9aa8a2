//! Matrix products, softmax and layer normalization.

use crate::Result;
use crate::graph::op::Op;
use crate::graph::ops::broadcast;
use crate::graph::{DType, Graph, Value};

impl Graph {
    /// Batched product: a `[.., M, K]`, b `[.., K, N]` to `[.., M, N]`, leading axes broadcast.
    pub fn matmul(&mut self, a: Value, b: Value) -> Result<Value> {
        let (sa, sb) = (self.shape(a), self.shape(b));
        if let ([lead_a @ .., m, k], [lead_b @ .., k2, n]) = (sa, sb)
            && k == k2
            && self.floats(&[a, b])
            && let Some(mut shape) = broadcast(lead_a, lead_b)
        {
            shape.extend([*m, *n]);
            return Ok(self.node1(Op::MatMul, &[a, b], shape));
        }
        Err(self.mismatch("MatMul", "[.., M, K] and [.., K, N]", &[a, b]))
    }

    /// Product of two matrices, each transposed or not: `[M, K] x [K, N]` to `[M, N]`.
    pub fn gemm(
        &mut self,
        a: Value,
        b: Value,
        transpose_a: bool,
        transpose_b: bool,
    ) -> Result<Value> {
        if let (&[a0, a1], &[b0, b1]) = (self.shape(a), self.shape(b)) {
            let (m, k) = if transpose_a { (a1, a0) } else { (a0, a1) };
            let (k2, n) = if transpose_b { (b1, b0) } else { (b0, b1) };
            if k == k2 && self.floats(&[a, b]) {
                let op = Op::Gemm {
                    transpose_a,
                    transpose_b,
                };
                return Ok(self.node1(op, &[a, b], vec![m, n]));
            }
        }
        Err(self.mismatch("Gemm", "two matrices whose inner lengths agree", &[a, b]))
    }

    /// A linear layer: x `[N, I]`, weight `[I, O]`, bias `[O]` to `[N, O]`.
    pub fn linear(&mut self, x: Value, weight: Value, bias: Value) -> Result<Value> {
        match (self.shape(x), self.shape(weight), self.shape(bias)) {
            (&[rows, i], &[i2, o], &[o2])
                if i == i2 && o == o2 && self.floats(&[x, weight, bias]) =>
            {
                let op = Op::Gemm {
                    transpose_a: false,
                    transpose_b: false,
                };
                Ok(self.node1(op, &[x, weight, bias], vec![rows, o]))
            }
            _ => Err(self.mismatch(
                "a linear layer",
                "x [N, I], weight [I, O], bias [O]",
                &[x, weight, bias],
            )),
        }
    }

    /// Softmax along `axis`.
    pub fn softmax(&mut self, x: Value, axis: usize) -> Result<Value> {
        self.along(Op::Softmax { axis }, x, axis)
    }

    /// Log-softmax along `axis`.
    pub fn log_softmax(&mut self, x: Value, axis: usize) -> Result<Value> {
        self.along(Op::LogSoftmax { axis }, x, axis)
    }

    fn along(&mut self, op: Op, x: Value, axis: usize) -> Result<Value> {
        if axis >= self.shape(x).len() {
            return Err(self.mismatch(&format!("{op:?}"), "an axis of its operand", &[x]));
        }
        let shape = self.shape(x).to_vec();
        Ok(self.node1(op, &[x], shape))
    }

    /// `(x - mean) / sqrt(variance + epsilon) * scale + bias` over the last axis (arXiv 1607.06450); x `[.., D]`,
    /// scale and bias `[D]`.
    pub fn layer_norm(
        &mut self,
        x: Value,
        scale: Value,
        bias: Value,
        epsilon: f32,
    ) -> Result<Value> {
        let shape = self.shape(x).to_vec();
        let fits = shape
            .last()
            .is_some_and(|&d| self.shape(scale) == [d] && self.shape(bias) == [d]);
        if !fits {
            return Err(self.mismatch(
                "LayerNorm",
                "x [.., D], scale [D] and bias [D]",
                &[x, scale, bias],
            ));
        }
        let mut statistics = shape.clone();
        if let Some(last) = statistics.last_mut() {
            *last = 1;
        }
        let outputs = [
            (DType::F32, shape),
            (DType::F32, statistics.clone()),
            (DType::F32, statistics),
        ];
        Ok(self.node(Op::LayerNorm { epsilon }, &[x, scale, bias], &outputs)[0])
    }
}
