//! Operators of ours: see [`crate::graph::custom`] for what they compute.

use crate::Result;
use crate::graph::op::{ConvAttributes, Op, Taps};
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

    /// A mask of 0 and `1 / (1 - rate)` drawn from the counter-based stream (`seed`, `stream`); seed i64 `[1]`.
    pub fn dropout_mask(
        &mut self,
        seed: Value,
        rate: f32,
        stream: u64,
        shape: &[usize],
    ) -> Result<Value> {
        if self.dtype(seed) != DType::I64 || !(0.0..1.0).contains(&rate) {
            return Err(self.mismatch("DropoutMask", "an i64 seed and a rate in [0, 1)", &[seed]));
        }
        let op = Op::DropoutMask {
            rate,
            stream,
            shape: shape.to_vec(),
        };
        Ok(self.node1(op, &[seed], shape.to_vec()))
    }

    /// Gradient with respect to a depthwise kernel `[C, 1, kh, kw]`: x `[B, C, H, W]`, dy `[B, C, Ho, Wo]`.
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
