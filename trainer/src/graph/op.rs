//! The operators of the graph: ONNX's, plus those of ours that ONNX has no fast form for.

/// Element-wise functions of one operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unary {
    /// The operand itself.
    Identity,
    /// `max(x, 0)`.
    Relu,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `exp(x)`.
    Exp,
    /// Natural logarithm.
    Log,
    /// Square root.
    Sqrt,
    /// `1 / x`.
    Reciprocal,
    /// `-x`.
    Neg,
    /// The Gauss error function.
    Erf,
    /// `|x|`.
    Abs,
    /// -1, 0 or 1; gradient 0.
    Sign,
    /// The operand itself, held fixed: no gradient passes.
    Detach,
}

/// Element-wise functions of two operands, with ONNX (NumPy) broadcasting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a * b`.
    Mul,
    /// `a / b`.
    Div,
}

/// Strides, padding, dilation and groups of a convolution over `[B, C, H, W]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvAttributes {
    /// Steps along H and W.
    pub strides: [usize; 2],
    /// Zeros added: top, left, bottom, right.
    pub pads: [usize; 4],
    /// Spacing of the kernel's taps along H and W.
    pub dilations: [usize; 2],
    /// Number of groups the channels are divided into.
    pub group: usize,
}

impl Default for ConvAttributes {
    fn default() -> Self {
        Self {
            strides: [1, 1],
            pads: [0; 4],
            dilations: [1, 1],
            group: 1,
        }
    }
}

/// An operator with its attributes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Op {
    /// Element-wise, one operand.
    Unary(Unary),
    /// Element-wise, two operands, broadcast.
    Binary(Binary),
    /// `a > b` element by element, Bool.
    Greater,
    /// `a == b` element by element, Bool.
    Equal,
    /// `condition ? a : b`, broadcast.
    Where,
    /// Batched matrix product `[.., M, K] x [.., K, N]`.
    MatMul,
    /// `op(a) op(b)` for matrices, each transposed or not, plus an optional row `[N]`.
    Gemm {
        /// Whether a is `[K, M]`.
        transpose_a: bool,
        /// Whether b is `[N, K]`.
        transpose_b: bool,
    },
    /// Convolution: x `[B, Ci, H, W]`, w `[Co, Ci/g, kh, kw]`, optional bias `[Co]`.
    Conv(ConvAttributes),
    /// Transposed convolution: x `[B, Ci, H, W]`, w `[Ci, Co/g, kh, kw]`.
    ConvTranspose {
        /// The attributes of the convolution it reverses.
        conv: ConvAttributes,
        /// Rows and columns added at the bottom and right of the output.
        output_padding: [usize; 2],
    },
    /// `exp(x) / sum exp(x)` along an axis.
    Softmax {
        /// The axis.
        axis: usize,
    },
    /// `x - log sum exp(x)` along an axis.
    LogSoftmax {
        /// The axis.
        axis: usize,
    },
    /// Layer normalization over the last axis: x, scale, bias to y, mean, inverse deviation. Ours on the CPU.
    LayerNorm {
        /// Added to the variance.
        epsilon: f32,
    },
    /// Sum over axes.
    ReduceSum {
        /// The axes, ascending.
        axes: Vec<usize>,
        /// Whether they stay with length 1.
        keep: bool,
    },
    /// Mean over axes.
    ReduceMean {
        /// The axes, ascending.
        axes: Vec<usize>,
        /// Whether they stay with length 1.
        keep: bool,
    },
    /// Largest value over axes.
    ReduceMax {
        /// The axes, ascending.
        axes: Vec<usize>,
        /// Whether they stay with length 1.
        keep: bool,
    },
    /// Largest value of each window.
    MaxPool(Window),
    /// Mean of each window, padding left out.
    AveragePool(Window),
    /// The same elements in another shape.
    Reshape(Vec<usize>),
    /// Axes in another order.
    Transpose(Vec<usize>),
    /// A strided part: per axis start, end (both inclusive of direction), step.
    Slice(Vec<SliceRange>),
    /// Parts one after another along an axis.
    Concat {
        /// The axis.
        axis: usize,
    },
    /// Constant zeros before and after each axis.
    Pad {
        /// Zeros before each axis.
        before: Vec<usize>,
        /// Zeros after each axis.
        after: Vec<usize>,
    },
    /// Broadcast to a shape.
    Expand(Vec<usize>),
    /// Rows of a table: table `[N, ..]`, indices i64 `[..]`.
    Gather,
    /// `data` with `updates` added at rows `indices`: the gradient of [`Op::Gather`].
    ScatterAdd,
    /// Ours: batch normalization over unmasked positions, optionally with ReLU: x `[B, C, H, W]`, scale `[C]`,
    /// bias `[C]`, mask `[B, 1, H, W]` to y, mean `[C]`, variance `[C]`.
    BatchNorm {
        /// Added to the variance.
        epsilon: f32,
        /// Whether a ReLU follows.
        relu: bool,
    },
    /// Ours: gradient of [`Op::BatchNorm`]: x, y, scale, mask, mean, variance, dy to dx, dscale, dbias.
    BatchNormGrad {
        /// Added to the variance.
        epsilon: f32,
        /// Whether a ReLU followed.
        relu: bool,
    },
    /// Ours: CTC loss over segments of packed logits; see [`crate::loss::ctc`].
    CtcLoss {
        /// The blank's id.
        blank: usize,
    },
    /// Ours: weight gradient of a depthwise convolution: x, dy to dw.
    DepthwiseWeightGrad {
        /// The convolution's attributes.
        conv: ConvAttributes,
        /// Kernel height and width.
        kernel: [usize; 2],
    },
    /// Ours: gradient of [`Op::LayerNorm`]: x, scale, mean, inverse deviation, dy to dx, dscale, dbias.
    LayerNormGrad,
    /// Ours: depthwise convolution along the rows of x `[B, T, C]`, w `[C, 1, 1, K]`, bias `[C]`.
    DepthwiseRows(Taps),
    /// Ours: gradient of [`Op::DepthwiseRows`]: x, w, dy to dx, dw, dbias.
    DepthwiseRowsGrad(Taps),
    /// Ours: gradient of [`Op::MaxPool`]: x, y, dy to dx.
    MaxPoolGrad(Window),
    /// Ours: `x sigmoid(x)`.
    Silu,
    /// Ours: gradient of [`Op::Silu`]: x, dy to dx.
    SiluGrad,
    /// Ours: a dropout mask (0 or `1 / keep`) from a step seed, `[1]` i64.
    DropoutMask {
        /// Probability of zero.
        rate: f32,
        /// Distinguishes the masks of one step.
        stream: u64,
        /// Shape of the mask.
        shape: Vec<usize>,
    },
}

/// The windows of a pooling over `[B, C, H, W]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Height and width.
    pub kernel: [usize; 2],
    /// Steps along H and W.
    pub strides: [usize; 2],
    /// Padding: top, left, bottom, right; less than the window.
    pub pads: [usize; 4],
}

impl Window {
    /// Windows side by side, without padding.
    pub fn tiled(kernel: [usize; 2]) -> Self {
        Self {
            kernel,
            strides: kernel,
            pads: [0; 4],
        }
    }
}

/// Where the taps of a depthwise convolution along rows stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taps {
    /// Zero rows before the first.
    pub left: usize,
    /// Zero rows after the last.
    pub right: usize,
    /// Spacing of the taps.
    pub dilation: usize,
}

/// A strided range of one axis: `start, start + step, ..` for `length` elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SliceRange {
    /// First index.
    pub start: usize,
    /// Number of elements.
    pub length: usize,
    /// Distance between them; -1 walks backwards.
    pub step: isize,
}

impl SliceRange {
    /// The whole of an axis of length `length`.
    pub fn all(length: usize) -> Self {
        Self {
            start: 0,
            length,
            step: 1,
        }
    }
}
