//! A static-shape graph whose nodes are ONNX operators: built forward, differentiated in reverse
//! ([`gradients`]), written as plain ONNX ([`emit`]), run by ONNX Runtime ([`exec`]).
//!
//! Every node is one ONNX operator (or one of ours in the domain [`custom::DOMAIN`]), so that what is trained
//! is what is exported. Shapes are concrete numbers, known when a node is added: a mistake is an error at the
//! line that made it. Values are identified by [`Value`]; nodes stand in topological order by construction.

pub mod custom;
mod emit;
pub mod exec;
mod grad;
mod lower;
mod op;
mod ops;
#[cfg(test)]
pub(crate) mod testing;

pub use emit::{ExportNames, Kernels, emit};
pub use grad::{gradients, pull_back, recomputing_gradients};
pub use lower::lower;
pub use op::{Binary, ConvAttributes, Gate, Op, SliceRange, Slope, Taps, Unary, Window};

use crate::{Error, ErrorKind, Result};

/// A value of a [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(u32);

impl Value {
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// Element types of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// 32-bit signed integer.
    I32,
    /// 64-bit signed integer.
    I64,
    /// Boolean.
    Bool,
}

/// A constant's elements, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// Floats.
    F32(Vec<f32>),
    /// Integers.
    I64(Vec<i64>),
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// Fed at every run.
    Input,
    /// Trained; fed from a buffer that outlives the runs.
    Parameter,
    /// Fixed.
    Constant(Literal),
    /// Output `output` of node `node`.
    Node {
        /// Index of the node.
        node: usize,
        /// Which of its outputs.
        output: usize,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct ValueInfo {
    pub name: String,
    pub dtype: DType,
    pub shape: Vec<usize>,
    pub origin: Origin,
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub op: Op,
    pub inputs: Vec<Value>,
    pub outputs: Vec<Value>,
}

/// A graph under construction.
#[derive(Debug, Clone)]
pub struct Graph {
    name: String,
    pub(crate) values: Vec<ValueInfo>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) inputs: Vec<Value>,
    pub(crate) parameters: Vec<Value>,
    pub(crate) outputs: Vec<Value>,
}

impl Graph {
    /// An empty graph; `name` appears in the ONNX file.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            values: Vec::new(),
            nodes: Vec::new(),
            inputs: Vec::new(),
            parameters: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// The graph's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds an input that is fed at every run.
    pub fn input(&mut self, name: &str, dtype: DType, shape: &[usize]) -> Result<Value> {
        let value = self.declare(name, dtype, shape, Origin::Input)?;
        self.inputs.push(value);
        Ok(value)
    }

    /// Adds a trained f32 parameter.
    pub fn parameter(&mut self, name: &str, shape: &[usize]) -> Result<Value> {
        let value = self.declare(name, DType::F32, shape, Origin::Parameter)?;
        self.parameters.push(value);
        Ok(value)
    }

    /// Adds an f32 constant.
    pub fn constant(&mut self, shape: &[usize], data: Vec<f32>) -> Result<Value> {
        self.literal(DType::F32, shape, data.len(), Literal::F32(data))
    }

    /// Adds an i64 constant, as indices.
    pub fn constant_i64(&mut self, shape: &[usize], data: Vec<i64>) -> Result<Value> {
        self.literal(DType::I64, shape, data.len(), Literal::I64(data))
    }

    fn literal(
        &mut self,
        dtype: DType,
        shape: &[usize],
        count: usize,
        data: Literal,
    ) -> Result<Value> {
        let elements: usize = shape.iter().product();
        if elements != count {
            return Err(Error::new(
                ErrorKind::Graph,
                format!(
                    "a constant of shape {shape:?} takes {elements} numbers, {count} were given"
                ),
            ));
        }
        let name = format!("c{}", self.values.len());
        self.declare(&name, dtype, shape, Origin::Constant(data))
    }

    /// Adds an f32 scalar constant, shape `[]`.
    pub fn scalar(&mut self, value: f32) -> Result<Value> {
        self.constant(&[], vec![value])
    }

    /// Names `value` as an output under `name`; a value that is not a node's output passes through `Identity`.
    pub fn output(&mut self, name: &str, value: Value) -> Result<Value> {
        let value = if matches!(self.values[value.index()].origin, Origin::Node { .. })
            && !self.outputs.contains(&value)
        {
            value
        } else {
            self.unary(Unary::Identity, value)?
        };
        self.check_name(name)?;
        self.values[value.index()].name = name.to_owned();
        self.outputs.push(value);
        Ok(value)
    }

    /// The shape of `value`.
    pub fn shape(&self, value: Value) -> &[usize] {
        &self.values[value.index()].shape
    }

    /// The number of elements of `value`.
    pub fn elements(&self, value: Value) -> usize {
        self.shape(value).iter().product()
    }

    /// The element type of `value`.
    pub fn dtype(&self, value: Value) -> DType {
        self.values[value.index()].dtype
    }

    /// The name of `value`.
    pub fn value_name(&self, value: Value) -> &str {
        &self.values[value.index()].name
    }

    /// The trained parameters, in the order they were added.
    pub fn parameters(&self) -> &[Value] {
        &self.parameters
    }

    /// The inputs, in the order they were added.
    pub fn inputs(&self) -> &[Value] {
        &self.inputs
    }

    /// The outputs, in the order they were named.
    pub fn outputs(&self) -> &[Value] {
        &self.outputs
    }

    /// The number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether the graph has no nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    fn check_name(&self, name: &str) -> Result<()> {
        if name.is_empty() || self.values.iter().any(|v| v.name == name) {
            return Err(Error::new(
                ErrorKind::Graph,
                format!("the name {name:?} is empty or already taken in this graph"),
            ));
        }
        Ok(())
    }

    fn declare(
        &mut self,
        name: &str,
        dtype: DType,
        shape: &[usize],
        origin: Origin,
    ) -> Result<Value> {
        self.check_name(name)?;
        Ok(self.push_value(name.to_owned(), dtype, shape.to_vec(), origin))
    }

    fn push_value(
        &mut self,
        name: String,
        dtype: DType,
        shape: Vec<usize>,
        origin: Origin,
    ) -> Value {
        self.values.push(ValueInfo {
            name,
            dtype,
            shape,
            origin,
        });
        Value((self.values.len() - 1) as u32)
    }

    /// Adds a node whose outputs have the given types and shapes: the shape rules in [`ops`] call this.
    pub(crate) fn node(
        &mut self,
        op: Op,
        inputs: &[Value],
        outputs: &[(DType, Vec<usize>)],
    ) -> Vec<Value> {
        let node = self.nodes.len();
        let outputs: Vec<Value> = outputs
            .iter()
            .enumerate()
            .map(|(output, (dtype, shape))| {
                let name = format!("v{}", self.values.len());
                self.push_value(name, *dtype, shape.clone(), Origin::Node { node, output })
            })
            .collect();
        self.nodes.push(Node {
            op,
            inputs: inputs.to_vec(),
            outputs: outputs.clone(),
        });
        outputs
    }

    pub(crate) fn node1(&mut self, op: Op, inputs: &[Value], shape: Vec<usize>) -> Value {
        self.node(op, inputs, &[(DType::F32, shape)])[0]
    }

    pub(crate) fn floats(&self, values: &[Value]) -> bool {
        values.iter().all(|&value| self.dtype(value) == DType::F32)
    }

    pub(crate) fn mismatch(&self, op: &str, expected: &str, values: &[Value]) -> Error {
        let found: Vec<String> = values
            .iter()
            .map(|&v| format!("{} {:?}", self.value_name(v), self.shape(v)))
            .collect();
        Error::new(
            ErrorKind::Graph,
            format!("{op} takes {expected}; found {}", found.join(", ")),
        )
    }
}
