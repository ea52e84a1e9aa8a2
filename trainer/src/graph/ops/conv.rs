//! Convolution over `[B, C, H, W]`; one-dimensional signals have H = 1.

use crate::Result;
use crate::graph::op::{ConvAttributes, Op};
use crate::graph::{Graph, Value};

/// Output length along one axis, or `None` where the kernel does not fit.
pub(crate) fn conv_length(
    input: usize,
    padding: usize,
    kernel: usize,
    dilation: usize,
    stride: usize,
) -> Option<usize> {
    let span = dilation * kernel.checked_sub(1)? + 1;
    Some((input + padding).checked_sub(span)? / stride.max(1) + 1)
}

impl Graph {
    /// Convolution: x `[B, Ci, H, W]`, w `[Co, Ci/g, kh, kw]`, optional bias `[Co]` to `[B, Co, Ho, Wo]`.
    pub fn conv(
        &mut self,
        x: Value,
        w: Value,
        bias: Option<Value>,
        attributes: ConvAttributes,
    ) -> Result<Value> {
        let operands: Vec<Value> = [x, w].into_iter().chain(bias).collect();
        let shape = self.conv_shape(x, w, &attributes);
        match shape {
            Some(shape)
                if self.floats(&operands) && bias.is_none_or(|b| self.shape(b) == [shape[1]]) =>
            {
                Ok(self.node1(Op::Conv(attributes), &operands, shape))
            }
            _ => Err(self.mismatch(
                &format!("Conv {attributes:?}"),
                "x [B, Ci, H, W], w [Co, Ci/g, kh, kw] no larger than x, bias [Co]",
                &operands,
            )),
        }
    }

    fn conv_shape(&self, x: Value, w: Value, a: &ConvAttributes) -> Option<Vec<usize>> {
        let (&[b, ci, h, width], &[co, per_group, kh, kw]) = (self.shape(x), self.shape(w)) else {
            return None;
        };
        if a.group == 0 || ci != per_group * a.group || co % a.group != 0 {
            return None;
        }
        let ho = conv_length(h, a.pads[0] + a.pads[2], kh, a.dilations[0], a.strides[0])?;
        let wo = conv_length(
            width,
            a.pads[1] + a.pads[3],
            kw,
            a.dilations[1],
            a.strides[1],
        )?;
        Some(vec![b, co, ho, wo])
    }

    /// Transposed convolution with the output shape `[B, C, H, W]` of the convolution it reverses; w is that
    /// convolution's kernel `[Ci, Co/g, kh, kw]`.
    pub fn conv_transpose(
        &mut self,
        x: Value,
        w: Value,
        conv: ConvAttributes,
        output: &[usize; 4],
    ) -> Result<Value> {
        let fail = |g: &Self| {
            g.mismatch(
                &format!("ConvTranspose {conv:?}"),
                &format!("operands whose convolution from {output:?} gives x"),
                &[x, w],
            )
        };
        let (&[b, ci, h, width], &[wi, per_group, kh, kw]) = (self.shape(x), self.shape(w)) else {
            return Err(fail(self));
        };
        let mut output_padding = [0; 2];
        for (axis, (length, kernel)) in [(h, kh), (width, kw)].into_iter().enumerate() {
            let span = conv.dilations[axis] * (kernel - 1) + 1;
            let full = (length - 1) * conv.strides[axis] + span;
            let padding = conv.pads[axis] + conv.pads[axis + 2];
            match (output[axis + 2] + padding).checked_sub(full) {
                Some(extra) if extra < conv.strides[axis] => output_padding[axis] = extra,
                _ => return Err(fail(self)),
            }
        }
        if wi != ci || output[0] != b || output[1] != per_group * conv.group {
            return Err(fail(self));
        }
        let op = Op::ConvTranspose {
            conv,
            output_padding,
        };
        Ok(self.node1(op, &[x, w], output.to_vec()))
    }
}
