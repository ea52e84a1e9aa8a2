//! Convolution layers over `[B, C, H, W]`, dense, grouped and depthwise; one-dimensional signals have H = 1.

use super::linear::Bias;
use super::{Init, Net};
use crate::Result;
use crate::graph::{ConvAttributes, Value};

/// A convolution with its parameters `NAME.weight [Co, Ci / groups, kh, kw]` and `NAME.bias [Co]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Convolution {
    /// Prefix of the parameters' names.
    pub name: String,
    /// Output channels.
    pub outputs: usize,
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Strides, padding, dilation, groups.
    pub attributes: ConvAttributes,
    /// Whether a bias is added.
    pub bias: Bias,
}

impl Convolution {
    /// A dense convolution of stride 1 that keeps H and W: zeros all around (one more after than before where the
    /// kernel is even).
    pub fn new(name: &str, outputs: usize, kernel: [usize; 2]) -> Self {
        let attributes = ConvAttributes {
            pads: same_padding(kernel, [1, 1]),
            ..Default::default()
        };
        Self {
            name: name.to_owned(),
            outputs,
            kernel,
            attributes,
            bias: Bias::Trained,
        }
    }

    /// As [`Convolution::new`] along time: `[B, C, 1, T]`.
    pub fn along_time(name: &str, outputs: usize, taps: usize) -> Self {
        Self::new(name, outputs, [1, taps])
    }

    /// With these steps along H and W.
    pub fn with_strides(mut self, strides: [usize; 2]) -> Self {
        self.attributes.strides = strides;
        self
    }

    /// With the taps spread, and the padding that keeps H and W.
    pub fn with_dilations(mut self, dilations: [usize; 2]) -> Self {
        self.attributes.dilations = dilations;
        self.attributes.pads = same_padding(self.kernel, dilations);
        self
    }

    /// With the channels divided into groups.
    pub fn with_groups(mut self, groups: usize) -> Self {
        self.attributes.group = groups;
        self
    }

    /// With padding of its own: top, left, bottom, right.
    pub fn with_pads(mut self, pads: [usize; 4]) -> Self {
        self.attributes.pads = pads;
        self
    }

    /// Without a bias, as before a batch norm.
    pub fn without_bias(mut self) -> Self {
        self.bias = Bias::Absent;
        self
    }

    /// x `[B, Ci, H, W]` to `[B, Co, Ho, Wo]`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Graph`] where x does not fit.
    pub fn apply(&self, net: &mut Net, x: Value) -> Result<Value> {
        let weight = self.weight(net, x)?;
        let bias = match self.bias {
            Bias::Trained => Some(net.vector(&self.name, "bias", self.outputs, 0.0)?),
            Bias::Absent => None,
        };
        net.graph.conv(x, weight, bias, self.attributes.clone())
    }

    /// Declares `NAME.weight` for x `[B, Ci, H, W]`.
    pub(super) fn weight(&self, net: &mut Net, x: Value) -> Result<Value> {
        let groups = self.attributes.group;
        let &[_, inputs, _, _] = net.graph.shape(x) else {
            return Err(net.graph.mismatch(&self.name, "x [B, C, H, W]", &[x]));
        };
        if groups == 0 || !inputs.is_multiple_of(groups) {
            let expected = format!("channels that {groups} groups divide");
            return Err(net.graph.mismatch(&self.name, &expected, &[x]));
        }
        let [kh, kw] = self.kernel;
        let shape = [self.outputs, inputs / groups, kh, kw];
        let fan_in = shape[1] * kh * kw;
        let init = Init::He { fan_in };
        net.parameter(&format!("{}.weight", self.name), &shape, init, true)
    }

    /// Columns beyond an item's own that its outputs see, on the side where there are more. So many zeros between items
    /// in a row keep them apart.
    pub fn reach(&self) -> usize {
        let (left, stride) = (self.attributes.pads[1], self.attributes.strides[1]);
        let span = self.kernel[1].saturating_sub(1) * self.attributes.dilations[1] + 1;
        left.max(span.saturating_sub(stride + left))
    }
}

/// A depthwise separable convolution (arXiv 1704.04861): each channel alone over `kernel` (parameters
/// `NAME.depthwise.*`), then all channels at each position (`NAME.pointwise.*`). x `[B, Ci, H, W]` to
/// `[B, outputs, Ho, Wo]`.
///
/// # Errors
/// [`crate::ErrorKind::Graph`] where x does not fit.
pub fn separable(
    net: &mut Net,
    name: &str,
    x: Value,
    outputs: usize,
    kernel: [usize; 2],
    strides: [usize; 2],
) -> Result<Value> {
    let channels = net.graph.shape(x).get(1).copied().unwrap_or(0);
    let each = Convolution::new(&format!("{name}.depthwise"), channels, kernel)
        .with_strides(strides)
        .with_groups(channels)
        .without_bias();
    let all = Convolution::new(&format!("{name}.pointwise"), outputs, [1, 1]);
    let y = each.apply(net, x)?;
    all.apply(net, y)
}

fn same_padding(kernel: [usize; 2], dilations: [usize; 2]) -> [usize; 4] {
    let reach = [0, 1].map(|axis| dilations[axis] * kernel[axis].saturating_sub(1));
    let before = reach.map(|reach| reach / 2);
    [
        before[0],
        before[1],
        reach[0] - before[0],
        reach[1] - before[1],
    ]
}

#[cfg(test)]
mod tests {
    use super::super::testing::check_layer;
    use super::*;
    use crate::nn::Form;

    #[test]
    fn gradients_and_shapes() {
        let cases = [
            (Convolution::new("c", 5, [3, 3]), [2, 5, 4, 7]),
            (
                Convolution::new("c", 4, [2, 3]).with_strides([2, 2]),
                [2, 4, 2, 4],
            ),
            (
                Convolution::along_time("c", 3, 4).with_dilations([1, 2]),
                [2, 3, 4, 7],
            ),
            (
                Convolution::new("c", 6, [3, 1])
                    .with_groups(3)
                    .without_bias(),
                [2, 6, 4, 7],
            ),
            (
                Convolution::new("c", 2, [3, 3]).with_pads([0; 4]),
                [2, 2, 2, 5],
            ),
        ];
        for (layer, expected) in cases {
            check_layer(&format!("{layer:?}"), &[&[2, 3, 4, 7]], &|net, x| {
                let y = layer.apply(net, x[0])?;
                assert_eq!(net.graph.shape(y), expected);
                Ok(y)
            });
        }
        check_layer("separable", &[&[1, 4, 5, 6]], &|net, x| {
            separable(net, "s", x[0], 3, [3, 5], [2, 1])
        });
        let mut net = Net::new("t", Form::Train);
        let x = net.graph.parameter("x", &[1, 5, 3, 3]).unwrap();
        let halves = Convolution::new("c", 4, [1, 1]).with_groups(2);
        assert!(halves.apply(&mut net, x).is_err());
    }
}
