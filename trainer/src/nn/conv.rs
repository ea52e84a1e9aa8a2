//! Convolution along time with batch norm: the one building block of the convolutional students and encoders.
//!
//! x `[1, Ci, 1, T]` to `[1, Co, 1, T / stride]`; the output at frame j of a causal one sees inputs up to
//! `(j + 1) stride - 1` and none later, of a symmetric one inputs around `j stride`, as many after as before. In a packed
//! row the context is what stands there (zeros between utterances); in a stream, which only causal ones have, it is the
//! state: the last `(k - 1) d + 1 - stride` frames of the convolution's own input.

use super::{Convolution, Form, Net, NormedConvolution};
use crate::Result;
use crate::config::Context;
use crate::graph::Value;

/// A convolution, batch norm and perhaps ReLU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvNorm {
    /// Prefix of the parameters' names.
    pub name: String,
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Taps along time.
    pub kernel: usize,
    /// Spacing of the taps.
    pub dilation: usize,
    /// Input frames per output frame.
    pub stride: usize,
    /// Which frames it sees.
    pub context: Context,
    /// Whether a ReLU follows.
    pub relu: bool,
}

impl ConvNorm {
    /// Frames of its own input that an output sees beyond its own `stride`: those before for a causal one, the
    /// larger side for a symmetric one. So many zeros between utterances keep them apart.
    pub fn context(&self) -> usize {
        let [before, after] = self.padding();
        before.max(after)
    }

    /// Frames of its own input, beyond the `stride` that are its own, from the first to the last that an output sees.
    pub fn span(&self) -> usize {
        self.padding().iter().sum()
    }

    /// Zeros before and after the input. With `(k - 1) d` of them in all, a symmetric one gives
    /// `ceil(T / stride)` frames for any T.
    fn padding(&self) -> [usize; 2] {
        let reach = (self.kernel - 1) * self.dilation;
        match self.context {
            Context::Causal => [(reach + 1).saturating_sub(self.stride), 0],
            Context::Symmetric => [reach / 2, reach - reach / 2],
        }
    }

    /// Adds the layer to a network; positions outside utterances give 0.
    pub fn apply(&self, net: &mut Net, x: Value) -> Result<Value> {
        let &[1, channels, 1, frames] = net.graph.shape(x) else {
            return Err(net.graph.mismatch(&self.name, "x [1, C, 1, T]", &[x]));
        };
        let whole = self.context == Context::Symmetric || frames.is_multiple_of(self.stride);
        if channels != self.inputs || !whole {
            return Err(net.graph.mismatch(
                &self.name,
                &format!(
                    "{} channels and a multiple of {} frames",
                    self.inputs, self.stride
                ),
                &[x],
            ));
        }
        let mut layer = self.layer();
        if net.form != Form::Stream {
            return layer.apply(net, x, net.mask);
        }
        if self.context != Context::Causal {
            return Err(net.graph.mismatch(
                &self.name,
                "a causal convolution: a symmetric one does not stream",
                &[x],
            ));
        }
        layer.convolution = layer.convolution.with_pads([0; 4]);
        let input = self.with_state(net, x)?;
        layer.apply(net, input, net.mask)
    }

    /// The layer over a whole row.
    pub fn layer(&self) -> NormedConvolution {
        let [before, after] = self.padding();
        let convolution = Convolution::along_time(&self.name, self.outputs, self.kernel)
            .with_strides([1, self.stride])
            .with_dilations([1, self.dilation])
            .with_pads([0, before, 0, after]);
        NormedConvolution {
            relu: self.relu,
            ..convolution.normed()
        }
    }

    fn with_state(&self, net: &mut Net, x: Value) -> Result<Value> {
        let context = self.context();
        if context == 0 {
            return Ok(x);
        }
        let state = net.state(&[self.inputs, 1, context])?;
        let joined = net.graph.concat(&[state, x], 3)?;
        let length = net.graph.shape(joined)[3];
        let next = net.graph.narrow(joined, 3, length - context, context)?;
        net.next_state(next)?;
        Ok(joined)
    }
}
