//! Operators of ours: see [`crate::graph::custom`] for what they compute.

use crate::Result;
use crate::graph::op::{ConvAttributes, Op, Taps};
use crate::graph::ops::conv_length;
use crate::graph::{DType, Graph, Value};

/// The batch-normalized activations with the statistics they were normalized by.
#[derive(Debug, Clone, Copy)]
pub struct BatchNormed {
    /// `[B, C, H, W]`.
    pub y: Value,
    /// Batch mean `[C]`.
    pub mean: Value,
    /// Batch variance (biased) `[C]`.
    pub variance: Value,
}

/// The CTC loss of a packed batch.
#[derive(Debug, Clone, Copy)]
pub struct CtcLosses {
    /// Weighted sum over segments, `[]`.
    pub total: Value,
    /// Negative log-likelihood of each segment, `[S]`; infinity where infeasible.
    pub losses: Value,
}

impl Graph {
    /// Batch normalization (arXiv 1502.03167) over positions whose mask is 1, then ReLU if asked; masked positions
    /// give 0. x `[B, C, H, W]`, scale and bias `[C]`, mask `[B, 1, H, W]` of 0 and 1.
    pub fn batch_norm(
        &mut self,
        x: Value,
        scale: Value,
        bias: Value,
        mask: Value,
        epsilon: f32,
        relu: bool,
    ) -> Result<BatchNormed> {
        let fits = matches!(self.shape(x), &[b, c, h, w]
            if self.shape(scale) == [c] && self.shape(bias) == [c] && self.shape(mask) == [b, 1, h, w]);
        if !fits {
            return Err(self.mismatch(
                "BatchNorm",
                "x [B, C, H, W], scale [C], bias [C], mask [B, 1, H, W]",
                &[x, scale, bias, mask],
            ));
        }
        let (shape, channels) = (self.shape(x).to_vec(), self.shape(scale).to_vec());
        let outputs = [
            (DType::F32, shape),
            (DType::F32, channels.clone()),
            (DType::F32, channels),
        ];
        let out = self.node(
            Op::BatchNorm { epsilon, relu },
            &[x, scale, bias, mask],
            &outputs,
        );
        Ok(BatchNormed {
            y: out[0],
            mean: out[1],
            variance: out[2],
        })
    }

    /// CTC (Graves 2006) over S segments of packed logits; see [`crate::loss::ctc`].
    ///
    /// logits `[B, V, 1, T]`; segments i32 `[S, 3]` of (row, first frame, frames), unused rows zero; targets i32
    /// `[S, L]` padded with -1; weights f32 `[S]`.
    pub fn ctc_loss(
        &mut self,
        logits: Value,
        segments: Value,
        targets: Value,
        weights: Value,
        blank: usize,
    ) -> Result<CtcLosses> {
        let fits = match (
            self.shape(logits),
            self.shape(segments),
            self.shape(targets),
            self.shape(weights),
        ) {
            (&[_, v, 1, _], &[s, 3], &[s2, _], &[s3]) => blank < v && s == s2 && s == s3,
            _ => false,
        };
        if !fits || self.dtype(segments) != DType::I32 || self.dtype(targets) != DType::I32 {
            return Err(self.mismatch(
                "CtcLoss",
                "logits [B, V, 1, T], i32 segments [S, 3], i32 targets [S, L], weights [S]",
                &[logits, segments, targets, weights],
            ));
        }
        let (shape, count) = (self.shape(logits).to_vec(), self.shape(weights).to_vec());
        let out = self.node(
            Op::CtcLoss { blank },
            &[logits, segments, targets, weights],
            &[
                (DType::F32, vec![]),
                (DType::F32, count),
                (DType::F32, shape),
            ],
        );
        Ok(CtcLosses {
            total: out[0],
            losses: out[1],
        })
    }

    /// Depthwise convolution along rows (time): x `[B, T, C]`, w `[C, 1, 1, K]`, bias `[C]` to
    /// `[B, T + left + right - (K - 1) dilation, C]`. The same as a grouped [`Graph::conv`] over `[B, C, 1, T]`, without
    /// the transpositions between the two layouts.
    pub fn depthwise_rows(&mut self, x: Value, w: Value, bias: Value, taps: Taps) -> Result<Value> {
        if let (&[items, length, channels], &[wc, 1, 1, kernel]) = (self.shape(x), self.shape(w))
            && wc == channels
            && self.shape(bias) == [channels]
            && taps.dilation > 0
            && kernel > 0
            && let Some(rows) =
                (length + taps.left + taps.right).checked_sub((kernel - 1) * taps.dilation)
            && rows > 0
        {
            let op = Op::DepthwiseRows(taps);
            return Ok(self.node1(op, &[x, w, bias], vec![items, rows, channels]));
        }
        Err(self.mismatch(
            &format!("DepthwiseRows {taps:?}"),
            "x [B, T, C], w [C, 1, 1, K] no longer than x with its zeros, bias [C]",
            &[x, w, bias],
        ))
    }

    /// x with elements dropped at `rate` and the others divided by `1 - rate`, drawn from the counter-based stream
    /// (`seed`, `stream`); seed i64 `[1]`. Its gradient draws the same again: no mask is kept.
    pub fn dropout(&mut self, x: Value, seed: Value, rate: f32, stream: u64) -> Result<Value> {
        let fits = self.dtype(seed) == DType::I64 && self.shape(seed) == [1] && self.floats(&[x]);
        if !fits || !(0.0..1.0).contains(&rate) {
            return Err(self.mismatch(
                "Dropout",
                "an f32 operand, an i64 seed [1] and a rate in [0, 1)",
                &[x, seed],
            ));
        }
        let shape = self.shape(x).to_vec();
        Ok(self.node1(Op::Dropout { rate, stream }, &[x, seed], shape))
    }

    /// x, held back until `trigger` is computed: what is computed from it cannot be computed earlier, and is not the
    /// same as what was computed from x before.
    pub(crate) fn later(&mut self, x: Value, trigger: Value) -> Result<Value> {
        if !self.floats(&[x, trigger]) {
            return Err(self.mismatch("Later", "f32 operands", &[x, trigger]));
        }
        let shape = self.shape(x).to_vec();
        Ok(self.node1(Op::Later, &[x, trigger], shape))
    }

    /// What the kernel `[kh, kw]` of a convolution sees at each output position: x `[B, C, H, W]` to
    /// `[B, Ho Wo, kh kw C]`, zeros where it sees padding.
    pub(crate) fn unfold(
        &mut self,
        x: Value,
        conv: ConvAttributes,
        kernel: [usize; 2],
    ) -> Result<Value> {
        if let &[items, channels, h, w] = self.shape(x) {
            let length = |axis: usize, input| {
                let padding = conv.pads[axis] + conv.pads[axis + 2];
                let (dilation, stride) = (conv.dilations[axis], conv.strides[axis]);
                conv_length(input, padding, kernel[axis], dilation, stride)
            };
            if let (Some(ho), Some(wo)) = (length(0, h), length(1, w)) {
                let shape = vec![items, ho * wo, kernel[0] * kernel[1] * channels];
                return Ok(self.node1(Op::Unfold { conv, kernel }, &[x], shape));
            }
        }
        Err(self.mismatch("Unfold", "x [B, C, H, W] no smaller than the kernel", &[x]))
    }

    /// Gradient with respect to a kernel `[m C, 1, kh, kw]` of C groups: x `[B, C, H, W]`, dy `[B, m C, Ho, Wo]`.
    pub(crate) fn depthwise_weight_grad(
        &mut self,
        x: Value,
        dy: Value,
        kernel: &[usize; 4],
        conv: ConvAttributes,
    ) -> Value {
        let taps = [kernel[2], kernel[3]];
        let op = Op::DepthwiseWeightGrad { conv, kernel: taps };
        self.node1(op, &[x, dy], kernel.to_vec())
    }
}
