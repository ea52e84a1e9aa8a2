//! Operators that move elements without computing on them.

use crate::Result;
use crate::graph::op::{Op, SliceRange};
use crate::graph::ops::broadcast;
use crate::graph::{DType, Graph, Value};

impl Graph {
    /// The same elements as `shape`.
    pub fn reshape(&mut self, x: Value, shape: &[usize]) -> Result<Value> {
        if self.shape(x) == shape {
            return Ok(x);
        }
        if self.elements(x) != shape.iter().product::<usize>() {
            return Err(self.mismatch(
                "Reshape",
                &format!("as many elements as {shape:?} has"),
                &[x],
            ));
        }
        let dtype = self.dtype(x);
        Ok(self.node(
            Op::Reshape(shape.to_vec()),
            &[x],
            &[(dtype, shape.to_vec())],
        )[0])
    }

    /// Axis `i` of the result is axis `order[i]` of x.
    pub fn transpose(&mut self, x: Value, order: &[usize]) -> Result<Value> {
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        if sorted != (0..self.shape(x).len()).collect::<Vec<_>>() {
            return Err(self.mismatch("Transpose", "a permutation of its axes", &[x]));
        }
        let shape = order.iter().map(|&axis| self.shape(x)[axis]).collect();
        Ok(self.node1(Op::Transpose(order.to_vec()), &[x], shape))
    }

    /// A strided part of x: one range an axis.
    pub fn slice(&mut self, x: Value, ranges: &[SliceRange]) -> Result<Value> {
        let shape = self.shape(x);
        let inside = |(range, &length): (&SliceRange, &usize)| {
            let last = range.start as isize + range.length.saturating_sub(1) as isize * range.step;
            range.step != 0
                && range.length > 0
                && range.start < length
                && (0..length as isize).contains(&last)
        };
        if ranges.len() != shape.len() || !ranges.iter().zip(shape).all(inside) {
            return Err(self.mismatch(
                "Slice",
                &format!("ranges inside its operand ({ranges:?})"),
                &[x],
            ));
        }
        let shape = ranges.iter().map(|range| range.length).collect();
        Ok(self.node1(Op::Slice(ranges.to_vec()), &[x], shape))
    }

    /// `length` elements of `axis` from `start` on; other axes whole.
    pub fn narrow(&mut self, x: Value, axis: usize, start: usize, length: usize) -> Result<Value> {
        if start == 0 && self.shape(x).get(axis) == Some(&length) {
            return Ok(x);
        }
        let mut ranges: Vec<SliceRange> =
            self.shape(x).iter().map(|&n| SliceRange::all(n)).collect();
        if let Some(range) = ranges.get_mut(axis) {
            *range = SliceRange {
                start,
                length,
                step: 1,
            };
        }
        self.slice(x, &ranges)
    }

    /// x with the order of elements along `axes` reversed.
    pub fn flip(&mut self, x: Value, axes: &[usize]) -> Result<Value> {
        let ranges: Vec<SliceRange> = self
            .shape(x)
            .iter()
            .enumerate()
            .map(|(axis, &length)| {
                if axes.contains(&axis) && length > 1 {
                    SliceRange {
                        start: length - 1,
                        length,
                        step: -1,
                    }
                } else {
                    SliceRange::all(length)
                }
            })
            .collect();
        if ranges.iter().all(|range| range.step == 1) {
            return Ok(x);
        }
        self.slice(x, &ranges)
    }

    /// The parts one after another along `axis`; all other lengths equal.
    pub fn concat(&mut self, parts: &[Value], axis: usize) -> Result<Value> {
        let Some((&first, rest)) = parts.split_first() else {
            return Err(self.mismatch("Concat", "at least one part", &[]));
        };
        if rest.is_empty() {
            return Ok(first);
        }
        let mut shape = self.shape(first).to_vec();
        for &part in rest {
            let other = self.shape(part);
            let fits = other.len() == shape.len()
                && axis < shape.len()
                && (0..shape.len()).all(|a| a == axis || shape[a] == other[a]);
            if !fits {
                return Err(self.mismatch(
                    "Concat",
                    &format!("parts that agree outside axis {axis}"),
                    parts,
                ));
            }
            shape[axis] += other[axis];
        }
        Ok(self.node1(Op::Concat { axis }, parts, shape))
    }

    /// x with zeros before and after each axis.
    pub fn pad(&mut self, x: Value, before: &[usize], after: &[usize]) -> Result<Value> {
        let shape = self.shape(x);
        if before.len() != shape.len() || after.len() != shape.len() {
            return Err(self.mismatch("Pad", "one amount an axis", &[x]));
        }
        if before.iter().chain(after).all(|&n| n == 0) {
            return Ok(x);
        }
        let shape = (0..shape.len())
            .map(|axis| before[axis] + shape[axis] + after[axis])
            .collect();
        let op = Op::Pad {
            before: before.to_vec(),
            after: after.to_vec(),
        };
        Ok(self.node1(op, &[x], shape))
    }

    /// x broadcast to `shape`.
    pub fn expand(&mut self, x: Value, shape: &[usize]) -> Result<Value> {
        if broadcast(self.shape(x), shape).as_deref() != Some(shape) {
            return Err(self.mismatch("Expand", &format!("a shape below {shape:?}"), &[x]));
        }
        if self.shape(x) == shape {
            return Ok(x);
        }
        Ok(self.node1(Op::Expand(shape.to_vec()), &[x], shape.to_vec()))
    }

    /// Rows of a table: table `[N, D..]`, indices i64 `[I..]` to `[I.., D..]`: an embedding.
    pub fn gather(&mut self, table: Value, indices: Value) -> Result<Value> {
        if self.dtype(indices) != DType::I64 || self.shape(table).is_empty() {
            return Err(self.mismatch("Gather", "a table and i64 indices", &[table, indices]));
        }
        let mut shape = self.shape(indices).to_vec();
        shape.extend(&self.shape(table)[1..]);
        Ok(self.node1(Op::Gather, &[table, indices], shape))
    }

    /// The gradient of a table `[rows, D..]` whose rows were gathered: indices i64 `[I..]`, dy `[I.., D..]`.
    pub(crate) fn gather_gradient(
        &mut self,
        rows: usize,
        indices: Value,
        dy: Value,
    ) -> Result<Value> {
        let taken = self.shape(indices).len();
        if self.dtype(indices) != DType::I64 || !self.shape(dy).starts_with(self.shape(indices)) {
            return Err(self.mismatch(
                "GatherGrad",
                "i64 indices [I..] and dy [I.., D..]",
                &[indices, dy],
            ));
        }
        let mut shape = vec![rows];
        shape.extend(&self.shape(dy)[taken..]);
        Ok(self.node1(Op::GatherGrad { rows }, &[indices, dy], shape))
    }
}
