//! Element-wise operators with ONNX broadcasting.

use crate::Result;
use crate::graph::op::{Binary, Gate, Op, Unary};
use crate::graph::ops::broadcast;
use crate::graph::{DType, Graph, Value};

impl Graph {
    /// `f(x)` element by element; the shape stays.
    pub fn unary(&mut self, function: Unary, x: Value) -> Result<Value> {
        let (dtype, shape) = (self.dtype(x), self.shape(x).to_vec());
        if dtype != DType::F32 && function != Unary::Identity {
            return Err(self.mismatch(&format!("{function:?}"), "an f32 operand", &[x]));
        }
        Ok(self.node(Op::Unary(function), &[x], &[(dtype, shape)])[0])
    }

    /// `f(a, b)` element by element, broadcast.
    pub fn binary(&mut self, function: Binary, a: Value, b: Value) -> Result<Value> {
        let float = self.dtype(a) == DType::F32 && self.dtype(b) == DType::F32;
        match broadcast(self.shape(a), self.shape(b)) {
            Some(shape) if float => Ok(self.node1(Op::Binary(function), &[a, b], shape)),
            _ => Err(self.mismatch(
                &format!("{function:?}"),
                "two f32 operands whose shapes broadcast",
                &[a, b],
            )),
        }
    }

    /// `a + b`.
    pub fn add(&mut self, a: Value, b: Value) -> Result<Value> {
        self.binary(Binary::Add, a, b)
    }

    /// `a - b`.
    pub fn sub(&mut self, a: Value, b: Value) -> Result<Value> {
        self.binary(Binary::Sub, a, b)
    }

    /// `a b`.
    pub fn mul(&mut self, a: Value, b: Value) -> Result<Value> {
        self.binary(Binary::Mul, a, b)
    }

    /// `a / b`.
    pub fn div(&mut self, a: Value, b: Value) -> Result<Value> {
        self.binary(Binary::Div, a, b)
    }

    /// `factor x`.
    pub fn scale(&mut self, x: Value, factor: f32) -> Result<Value> {
        let factor = self.scalar(factor)?;
        self.mul(x, factor)
    }

    /// x held fixed: no gradient passes.
    pub fn detach(&mut self, x: Value) -> Result<Value> {
        self.unary(Unary::Detach, x)
    }

    /// `max(x, 0)`.
    pub fn relu(&mut self, x: Value) -> Result<Value> {
        self.unary(Unary::Relu, x)
    }

    /// `x sigmoid(x)` (SiLU).
    pub fn silu(&mut self, x: Value) -> Result<Value> {
        self.gated(Gate::Silu, x)
    }

    /// `x/2 (1 + erf(x / sqrt 2))` (GELU, exact form).
    pub fn gelu(&mut self, x: Value) -> Result<Value> {
        self.gated(Gate::Gelu, x)
    }

    fn gated(&mut self, gate: Gate, x: Value) -> Result<Value> {
        if self.dtype(x) != DType::F32 {
            return Err(self.mismatch(&format!("{gate:?}"), "an f32 operand", &[x]));
        }
        let shape = self.shape(x).to_vec();
        Ok(self.node1(Op::Gated(gate), &[x], shape))
    }

    /// The gated linear unit: the first half of `axis` times the sigmoid of the second (arXiv 1612.08083); the axis'
    /// length is halved.
    pub fn glu(&mut self, x: Value, axis: usize) -> Result<Value> {
        let length = self.shape(x).get(axis).copied().unwrap_or(0);
        if length == 0 || !length.is_multiple_of(2) {
            return Err(self.mismatch("GLU", "an axis of even length", &[x]));
        }
        let value = self.narrow(x, axis, 0, length / 2)?;
        let gate = self.narrow(x, axis, length / 2, length / 2)?;
        let gate = self.unary(Unary::Sigmoid, gate)?;
        self.mul(value, gate)
    }

    /// `a > b` element by element, Bool; gradients do not pass.
    pub fn greater(&mut self, a: Value, b: Value) -> Result<Value> {
        self.compare(Op::Greater, a, b)
    }

    /// `a == b` element by element, Bool; gradients do not pass.
    pub fn equal(&mut self, a: Value, b: Value) -> Result<Value> {
        self.compare(Op::Equal, a, b)
    }

    fn compare(&mut self, op: Op, a: Value, b: Value) -> Result<Value> {
        match broadcast(self.shape(a), self.shape(b)) {
            Some(shape) => Ok(self.node(op, &[a, b], &[(DType::Bool, shape)])[0]),
            None => Err(self.mismatch(
                &format!("{op:?}"),
                "operands whose shapes broadcast",
                &[a, b],
            )),
        }
    }

    /// `condition ? a : b`, broadcast; condition is Bool.
    pub fn select(&mut self, condition: Value, a: Value, b: Value) -> Result<Value> {
        let shape = broadcast(self.shape(a), self.shape(b))
            .and_then(|shape| broadcast(&shape, self.shape(condition)));
        match shape {
            Some(shape) if self.dtype(condition) == DType::Bool => {
                Ok(self.node1(Op::Where, &[condition, a, b], shape))
            }
            _ => Err(self.mismatch(
                "Where",
                "a Bool condition and two operands whose shapes broadcast",
                &[condition, a, b],
            )),
        }
    }
}
