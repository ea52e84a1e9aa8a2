//! Pooling over `[B, C, H, W]`; one-dimensional signals have H = 1.

use crate::Result;
use crate::graph::op::{Op, Window};
use crate::graph::ops::conv_length;
use crate::graph::{Graph, Value};

impl Window {
    /// The pooled shape of `[B, C, H, W]`, or `None` where a window could lie outside altogether.
    fn shape(&self, x: &[usize]) -> Option<Vec<usize>> {
        let &[b, c, h, w] = x else { return None };
        let [top, left, bottom, right] = self.pads;
        if self.strides.contains(&0) {
            return None;
        }
        if top.max(bottom) >= self.kernel[0] || left.max(right) >= self.kernel[1] {
            return None;
        }
        let ho = conv_length(h, top + bottom, self.kernel[0], 1, self.strides[0])?;
        let wo = conv_length(w, left + right, self.kernel[1], 1, self.strides[1])?;
        Some(vec![b, c, ho, wo])
    }

    /// How many positions of an input `[H, W]` each output sees, `[Ho, Wo]` row-major.
    pub(crate) fn counts(&self, input: [usize; 2], output: [usize; 2]) -> Vec<f32> {
        let seen = |axis: usize, index: usize| {
            let start = index * self.strides[axis];
            let end = (start + self.kernel[axis]).min(input[axis] + self.pads[axis]);
            end - start.max(self.pads[axis])
        };
        (0..output[0] * output[1])
            .map(|i| (seen(0, i / output[1]) * seen(1, i % output[1])) as f32)
            .collect()
    }
}

impl Graph {
    /// The largest value of each window: x `[B, C, H, W]` to `[B, C, Ho, Wo]`; padding never wins. Of equal values the
    /// first gets the gradient.
    pub fn max_pool(&mut self, x: Value, window: Window) -> Result<Value> {
        self.pool(x, window, Op::MaxPool(window))
    }

    /// The mean of each window: x `[B, C, H, W]` to `[B, C, Ho, Wo]`; padding does not count.
    pub fn average_pool(&mut self, x: Value, window: Window) -> Result<Value> {
        self.pool(x, window, Op::AveragePool(window))
    }

    fn pool(&mut self, x: Value, window: Window, op: Op) -> Result<Value> {
        match window.shape(self.shape(x)) {
            Some(shape) => Ok(self.node1(op, &[x], shape)),
            None => Err(self.mismatch(
                &format!("pooling {window:?}"),
                "x [B, C, H, W] no smaller than the window, and less padding than window",
                &[x],
            )),
        }
    }

    /// Means over a grid of `output` = [Ho, Wo] cells that cover x `[B, C, H, W]`: cell i of an axis of n cells over
    /// length L spans `floor(i L / n) .. ceil((i + 1) L / n)`. Two products with fixed matrices, one an axis.
    pub fn adaptive_average_pool(&mut self, x: Value, output: [usize; 2]) -> Result<Value> {
        let &[_, _, h, w] = self.shape(x) else {
            return Err(self.mismatch("adaptive pooling", "x [B, C, H, W]", &[x]));
        };
        if output.contains(&0) || output[0] > h || output[1] > w {
            return Err(self.mismatch(
                &format!("adaptive pooling to {output:?}"),
                "at least one cell an axis and no more than positions",
                &[x],
            ));
        }
        let mut y = x;
        if output[0] != h {
            let rows = self.constant(&[output[0], h], cells(h, output[0]))?;
            y = self.matmul(rows, y)?;
        }
        if output[1] != w {
            let columns = self.constant(&[output[1], w], cells(w, output[1]))?;
            let columns = self.transpose(columns, &[1, 0])?;
            y = self.matmul(y, columns)?;
        }
        Ok(y)
    }
}

/// `[cells, length]`: each row averages its span.
fn cells(length: usize, cells: usize) -> Vec<f32> {
    let mut out = vec![0.0; cells * length];
    for (cell, row) in out.chunks_exact_mut(length).enumerate() {
        let start = cell * length / cells;
        let end = ((cell + 1) * length).div_ceil(cells);
        row[start..end].fill(1.0 / (end - start) as f32);
    }
    out
}
