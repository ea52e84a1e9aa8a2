//! Small ONNX graphs written node by node, with the names and metadata of other toolkits' exports.

use acolyte_trainer::onnx::proto::{
    Dimension, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    ValueInfoProto,
};
use acolyte_trainer::onnx::{int, ints, tensor_f32, tensor_i64, value_info};
use prost::Message;

/// A graph under construction.
#[derive(Debug, Clone, Default)]
pub struct ToyOnnx {
    graph: GraphProto,
    metadata: Vec<StringStringEntryProto>,
}

/// Element types of inputs and outputs.
pub use acolyte_trainer::onnx::proto::data_type as element;

fn value(name: &str, element: i32, dims: &[&str]) -> ValueInfoProto {
    let dims = dims.iter().map(|dim| match dim.parse() {
        Ok(length) => Dimension::Fixed(length),
        Err(_) => Dimension::Named((*dim).to_owned()),
    });
    value_info(name, element, dims.collect())
}

impl ToyOnnx {
    /// An input; axes are lengths or names.
    #[must_use]
    pub fn input(mut self, name: &str, element: i32, dims: &[&str]) -> Self {
        self.graph.input.push(value(name, element, dims));
        self
    }

    /// An output.
    #[must_use]
    pub fn output(mut self, name: &str, element: i32, dims: &[&str]) -> Self {
        self.graph.output.push(value(name, element, dims));
        self
    }

    /// A tensor of floats.
    #[must_use]
    pub fn floats(mut self, name: &str, dims: &[usize], values: &[f32]) -> Self {
        self.graph.initializer.push(tensor_f32(name, dims, values));
        self
    }

    /// A list of integers.
    #[must_use]
    pub fn ints(mut self, name: &str, values: &[i64]) -> Self {
        let list = tensor_i64(name, &[values.len()], values);
        self.graph.initializer.push(list);
        self
    }

    /// A node with one output and, where given, one attribute of integers.
    #[must_use]
    pub fn node(
        mut self,
        op: &str,
        inputs: &[&str],
        out: &str,
        attribute: Option<(&str, &[i64])>,
    ) -> Self {
        let attribute = attribute.map(|(name, values)| match (name, values) {
            ("axis" | "to" | "keepdims", [one]) => int(name, *one),
            (_, values) => ints(name, values),
        });
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|&i| i.to_owned()).collect(),
            output: vec![out.to_owned()],
            op_type: Some(op.to_owned()),
            attribute: attribute.into_iter().collect(),
            ..Default::default()
        });
        self
    }

    /// `out = from[.., start..end by step, ..]` along one axis.
    #[must_use]
    pub fn slice(self, from: &str, axis: i64, range: (i64, i64, i64), out: &str) -> Self {
        let name = |part: &str| format!("{out}.{part}");
        self.ints(&name("from"), &[range.0])
            .ints(&name("to"), &[range.1])
            .ints(&name("axis"), &[axis])
            .ints(&name("step"), &[range.2])
            .node(
                "Slice",
                &[
                    from,
                    &name("from"),
                    &name("to"),
                    &name("axis"),
                    &name("step"),
                ],
                out,
                None,
            )
    }

    /// A metadata entry.
    #[must_use]
    pub fn meta(mut self, key: &str, value: &str) -> Self {
        self.metadata.push(StringStringEntryProto {
            key: Some(key.to_owned()),
            value: Some(value.to_owned()),
        });
        self
    }

    /// The file's bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut graph = self.graph.clone();
        graph.name = Some("toy".to_owned());
        ModelProto {
            ir_version: Some(8),
            graph: Some(graph),
            opset_import: vec![OperatorSetIdProto {
                domain: Some(String::new()),
                version: Some(17),
            }],
            metadata_props: self.metadata.clone(),
            ..Default::default()
        }
        .encode_to_vec()
    }
}

/// `count` numbers from -1 to 1, different for each `salt`.
#[must_use]
pub fn random(count: usize, salt: u32) -> Vec<f32> {
    let mut state = salt.wrapping_mul(2_654_435_761) | 1;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}
