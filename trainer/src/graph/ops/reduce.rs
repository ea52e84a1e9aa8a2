//! Reductions over axes.

use crate::Result;
use crate::graph::op::Op;
use crate::graph::{Graph, Value};

impl Graph {
    /// Sum over `axes` (ascending); `keep` leaves them with length 1.
    pub fn reduce_sum(&mut self, x: Value, axes: &[usize], keep: bool) -> Result<Value> {
        let shape = self.reduced(x, axes, keep)?;
        let op = Op::ReduceSum {
            axes: axes.to_vec(),
            keep,
        };
        Ok(self.node1(op, &[x], shape))
    }

    /// Mean over `axes` (ascending); `keep` leaves them with length 1.
    pub fn reduce_mean(&mut self, x: Value, axes: &[usize], keep: bool) -> Result<Value> {
        let shape = self.reduced(x, axes, keep)?;
        let op = Op::ReduceMean {
            axes: axes.to_vec(),
            keep,
        };
        Ok(self.node1(op, &[x], shape))
    }

    /// Largest value over `axes` (ascending); `keep` leaves them with length 1. Equal values share the gradient.
    pub fn reduce_max(&mut self, x: Value, axes: &[usize], keep: bool) -> Result<Value> {
        let shape = self.reduced(x, axes, keep)?;
        let op = Op::ReduceMax {
            axes: axes.to_vec(),
            keep,
        };
        Ok(self.node1(op, &[x], shape))
    }

    /// Sum of all elements, shape `[]`.
    pub fn sum_all(&mut self, x: Value) -> Result<Value> {
        let axes: Vec<usize> = (0..self.shape(x).len()).collect();
        self.reduce_sum(x, &axes, false)
    }

    fn reduced(&self, x: Value, axes: &[usize], keep: bool) -> Result<Vec<usize>> {
        let shape = self.shape(x);
        let ascending = axes.windows(2).all(|w| w[0] < w[1]);
        if !ascending || axes.last().is_some_and(|&a| a >= shape.len()) {
            return Err(self.mismatch("a reduction", "ascending axes of its operand", &[x]));
        }
        Ok(shape
            .iter()
            .enumerate()
            .filter_map(|(axis, &length)| match (axes.contains(&axis), keep) {
                (false, _) => Some(length),
                (true, true) => Some(1),
                (true, false) => None,
            })
            .collect())
    }
}
