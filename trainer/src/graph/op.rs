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

/// Activations `x g(x)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gate {
    /// g the logistic function (SiLU, arXiv 1702.03118).
    Silu,
    /// g the normal distribution (GELU, arXiv 1606.08415).
    Gelu,
}

/// Activations whose slope follows from their result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Slope {
    /// 1 where y > 0, else 0.
    Relu,
    /// `y (1 - y)`.
    Sigmoid,
    /// `1 - y^2`.
    Tanh,
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
    /// ONNX's gated recurrent unit, with the reset gate applied after the product: x `[T, B, I]`, w `[1, 3H, I]`,
    /// r `[1, 3H, H]`, bias `[1, 6H]`, start `[1, B, H]` to y `[T, 1, B, H]`, last `[1, B, H]`. It has no gradient: a
    /// network trains with [`Op::GruSteps`].
    Gru,
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
    /// Ours: weight gradient of a convolution whose outputs see one input channel each: x, dy to dw.
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
    /// Ours: x times a share of it.
    Gated(Gate),
    /// Ours: gradient of [`Op::Gated`]: x, dy to dx.
    GatedGrad(Gate),
    /// Ours: gradient of an activation by its result: y, dy to dx.
    SlopeGrad(Slope),
    /// Ours: gradient of [`Op::Softmax`] along the last axis: y, dy to dx.
    SoftmaxGrad,
    /// Ours: gradient of [`Op::Gather`]: indices i64, dy to a table of as many rows, rows taken twice added up.
    GatherGrad {
        /// Rows of the table.
        rows: usize,
    },
    /// Weight gradient of a convolution: x, dy to dw. [`super::lower()`] writes it in the form that suits the kernels.
    ConvWeightGrad {
        /// The convolution's attributes.
        conv: ConvAttributes,
        /// Kernel height and width.
        kernel: [usize; 2],
    },
    /// Ours: what a convolution's kernel sees at each position: x `[B, C, H, W]` to `[B, Ho Wo, kh kw C]`.
    Unfold {
        /// The convolution's attributes; its groups do not count.
        conv: ConvAttributes,
        /// Kernel height and width.
        kernel: [usize; 2],
    },
    /// Ours: the recurrence of a gated recurrent unit: gates `[B, T, 3H]` (what the inputs contribute, update, reset,
    /// candidate), r `[H, 3H]`, bias `[3H]` to y `[B, T, H]` and what its gradient reads, `[B, T, 4H]`.
    GruSteps,
    /// Ours: gradient of [`Op::GruSteps`]: r, y, saved, dy to the gradients of gates `[B, T, 3H]` and of
    /// `r^T y + bias`, `[B, T, 3H]`.
    GruStepsGrad,
    /// Ours: x, not before the second operand is there. What is computed from it is computed then, not earlier.
    Later,
    /// Ours: x with elements dropped, the others divided by `1 - rate`; the seed i64 `[1]` decides which.
    Dropout {
        /// Probability of zero.
        rate: f32,
        /// Distinguishes the dropouts of one step.
        stream: u64,
    },
    /// Ours: the mask (0 or `1 / (1 - rate)`) that [`Op::Dropout`] multiplies by, from the seed.
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
