//! Convolution over images with batch norm: the building block of students of scene text.
//!
//! x `[1, Ci, H, W]` to `[1, Co, Ho, Wo]`, zeros around. In a packed row of crops the positions between them are set to
//! zero after every layer, so that each crop sees the same zeros at its ends as it would alone.

use super::{Form, Init, Net, folded_names, normed};
use crate::graph::{ConvAttributes, Value};
use crate::{Error, ErrorKind, Result};

/// A convolution, batch norm and perhaps ReLU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaneConv {
    /// Prefix of the parameters' names.
    pub name: String,
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Strides, padding, groups.
    pub attributes: ConvAttributes,
    /// Whether a ReLU follows.
    pub relu: bool,
}

impl PlaneConv {
    /// A dense convolution with ReLU of stride 1 that keeps H and W; the kernel is odd.
    pub fn new(name: String, inputs: usize, outputs: usize, kernel: [usize; 2]) -> Self {
        let [down, across] = kernel.map(|k| k / 2);
        Self {
            name,
            inputs,
            outputs,
            kernel,
            attributes: ConvAttributes {
                pads: [down, across, down, across],
                ..Default::default()
            },
            relu: true,
        }
    }

    /// Each channel alone.
    #[must_use]
    pub fn depthwise(mut self) -> Self {
        self.attributes.group = self.inputs;
        self
    }

    /// With these steps along H and W.
    #[must_use]
    pub fn with_strides(mut self, strides: [usize; 2]) -> Self {
        self.attributes.strides = strides;
        self
    }

    /// Without padding.
    #[must_use]
    pub fn unpadded(mut self) -> Self {
        self.attributes.pads = [0; 4];
        self
    }

    /// Without the ReLU.
    #[must_use]
    pub fn linear(mut self) -> Self {
        self.relu = false;
        self
    }

    /// Columns beyond an item's own that its outputs see, on the side where there are more.
    pub fn reach(&self) -> usize {
        let (left, stride) = (self.attributes.pads[1], self.attributes.strides[1]);
        left.max(self.kernel[1].saturating_sub(stride + left))
    }

    /// Adds the layer to a network; `mask` is 1 at the output columns that belong to an item: `[1, 1, Ho, Wo]` in
    /// training, `[1, 1, 1, Wo]` in evaluation, absent in the deployed form.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Graph`] where x or the mask does not fit.
    pub fn apply(&self, net: &mut Net, x: Value, mask: Option<Value>) -> Result<Value> {
        let [kh, kw] = self.kernel;
        let per_group = self.inputs / self.attributes.group.max(1);
        let weight = net.parameter(
            &format!("{}.weight", self.name),
            &[self.outputs, per_group, kh, kw],
            Init::He {
                fan_in: per_group * kh * kw,
            },
            true,
        )?;
        if net.form == Form::Train {
            let y = net.graph.conv(x, weight, None, self.attributes.clone())?;
            let mask = mask.ok_or_else(|| {
                let message = format!("{}: a training network needs its mask", self.name);
                Error::new(ErrorKind::Graph, message)
            })?;
            return normed::normalize(net, &self.name, y, mask, self.relu);
        }
        let (_, bias) = folded_names(&self.name);
        let bias = net.parameter(&bias, &[self.outputs], Init::Constant(0.0), false)?;
        let mut y = net
            .graph
            .conv(x, weight, Some(bias), self.attributes.clone())?;
        if self.relu {
            y = net.graph.relu(y)?;
        }
        match mask {
            Some(mask) => net.graph.mul(y, mask),
            None => Ok(y),
        }
    }

    /// The folded weight and bias: `w' = w g`, `b' = bias - mean g`, `g = scale / sqrt(variance + epsilon)`.
    pub fn fold<'a>(
        &self,
        get: impl Fn(&str) -> Result<&'a [f32]>,
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        normed::fold(&self.name, get)
    }
}
