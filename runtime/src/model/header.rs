//! What an ONNX file says about itself: names, types, shapes, operators, sizes, metadata.
//!
//! [`ModelHeader::read`] takes it from the bytes without running anything. The checks before the first run,
//! stamping, and `acolyte info` read this instead of asking ONNX Runtime to load a file nobody has looked at.

use crate::Result;
use std::collections::BTreeMap;
use std::fmt;

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ElementType {
    /// 32-bit float.
    F32,
    /// 16-bit IEEE float.
    F16,
    /// 16-bit brain float.
    Bf16,
    /// 64-bit float.
    F64,
    /// 8-bit signed integer.
    I8,
    /// 8-bit unsigned integer.
    U8,
    /// 32-bit signed integer.
    I32,
    /// 64-bit signed integer.
    I64,
    /// Truth value.
    Bool,
    /// Another of ONNX's types, by its number there.
    Other(u64),
}

impl ElementType {
    pub(super) fn from_onnx(number: u64) -> Self {
        match number {
            1 => Self::F32,
            2 => Self::U8,
            3 => Self::I8,
            6 => Self::I32,
            7 => Self::I64,
            9 => Self::Bool,
            10 => Self::F16,
            11 => Self::F64,
            16 => Self::Bf16,
            other => Self::Other(other),
        }
    }

    /// Bytes of one element; `None` for types that are not read.
    pub fn size(self) -> Option<u64> {
        match self {
            Self::I8 | Self::U8 | Self::Bool => Some(1),
            Self::F16 | Self::Bf16 => Some(2),
            Self::F32 | Self::I32 => Some(4),
            Self::F64 | Self::I64 => Some(8),
            Self::Other(_) => None,
        }
    }

    /// Whether numbers of this type are weights (floats and 8-bit quantized ones), not indices or shapes.
    fn holds_weights(self) -> bool {
        !matches!(self, Self::I32 | Self::I64 | Self::Bool | Self::Other(_))
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
            Self::F64 => "float64",
            Self::I8 => "int8",
            Self::U8 => "uint8",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::Bool => "bool",
            Self::Other(number) => return write!(f, "ONNX type {number}"),
        })
    }
}

/// One axis of a graph input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dim {
    /// A fixed length.
    Fixed(u64),
    /// Any length, equal wherever the name recurs.
    Named(String),
    /// Any length.
    Free,
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(length) => write!(f, "{length}"),
            Self::Named(name) => f.write_str(name),
            Self::Free => f.write_str("?"),
        }
    }
}

/// A graph input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// The type of its elements; `None` where the value is no tensor.
    pub element: Option<ElementType>,
    /// Its axes; `None` where the graph leaves even their number open.
    pub dims: Option<Vec<Dim>>,
}

impl fmt::Display for TensorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.name)?;
        match self.element {
            Some(element) => write!(f, "{element}")?,
            None => f.write_str("no tensor")?,
        }
        match &self.dims {
            Some(dims) => {
                let dims: Vec<String> = dims.iter().map(Dim::to_string).collect();
                write!(f, " [{}]", dims.join(", "))
            }
            None => f.write_str(" of any shape"),
        }
    }
}

/// A tensor stored in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitializerInfo {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub element: ElementType,
    /// Its axes.
    pub dims: Vec<u64>,
    /// Bytes its elements take in the file.
    pub bytes: u64,
}

impl InitializerInfo {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.dims.iter().fold(1, |n, &dim| n.saturating_mul(dim))
    }
}

/// An ONNX file's self-description. Subgraphs count into `operators` and `initializers`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelHeader {
    /// Version of the ONNX format.
    pub ir_version: u64,
    /// The program that wrote the file.
    pub producer: String,
    /// That program's version.
    pub producer_version: String,
    /// Operator sets as `(domain, version)`; the standard domain is the empty string.
    pub opsets: Vec<(String, u64)>,
    /// The graph's name.
    pub graph: String,
    /// Inputs that a run must be given: without those that have an initializer.
    pub inputs: Vec<TensorInfo>,
    /// Outputs.
    pub outputs: Vec<TensorInfo>,
    /// How often each operator occurs; other domains than the standard one as `domain::Operator`.
    pub operators: BTreeMap<String, usize>,
    /// The tensors stored in the file, constants of nodes among them.
    pub initializers: Vec<InitializerInfo>,
    /// Names of tensors whose data stand in other files.
    pub external: Vec<String>,
    /// Metadata entries in the order of the file, the model spec among them.
    pub metadata: Vec<(String, String)>,
}

impl ModelHeader {
    /// Reads the header of the ONNX file in `bytes`.
    ///
    /// # Errors
    /// [`ErrorKind::Model`](crate::ErrorKind::Model) if the bytes are no ONNX model, are cut, contradict
    /// themselves, or exceed a bound.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        super::walk::read(bytes)
    }

    /// Number of weights: elements of the float and 8-bit tensors stored in the file.
    pub fn parameters(&self) -> u64 {
        let weights = self
            .initializers
            .iter()
            .filter(|i| i.element.holds_weights());
        weights.fold(0, |sum, i| sum.saturating_add(i.elements()))
    }

    /// Number of nodes.
    pub fn nodes(&self) -> usize {
        self.operators.values().sum()
    }

    /// The value of a metadata entry.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        let found = self.metadata.iter().find(|(k, _)| k == key);
        found.map(|(_, value)| value.as_str())
    }

    /// The input called `name`.
    pub fn input(&self, name: &str) -> Option<&TensorInfo> {
        self.inputs.iter().find(|i| i.name == name)
    }

    /// The output called `name`.
    pub fn output(&self, name: &str) -> Option<&TensorInfo> {
        self.outputs.iter().find(|o| o.name == name)
    }
}
