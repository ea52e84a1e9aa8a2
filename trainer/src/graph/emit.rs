//! Writes a graph as plain ONNX: one `NodeProto` a node, shapes as attributes or int64 initializers.
//!
//! A training graph takes its parameters as inputs (they live in buffers that the optimizer updates); an export
//! embeds them. Dimensions of inputs and outputs may be given names, which makes them dynamic.

use super::op::{Binary, ConvAttributes, Op, SliceRange, Unary, Window};
use super::{DType, Graph, Literal, Node, Origin, Value, custom};
use crate::onnx::proto::{
    AttributeProto, Dimension, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    data_type,
};
use crate::onnx::{self, Storage, float, int, ints};
use crate::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, HashMap};

/// Who computes what ONNX has no fast operator for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kernels {
    /// ONNX operators alone, as [`super::lower()`] writes them: for exports, and for other providers than the CPU.
    #[default]
    PlainOnnx,
    /// Kernels of ours ([`custom`]), which run on the CPU provider.
    Native,
}

/// How a graph is written: names, embedded parameters, kernels.
#[derive(Debug, Default)]
pub struct ExportNames {
    /// Who computes what ONNX has no fast operator for.
    pub kernels: Kernels,
    /// Names of dynamic dimensions: (input or output, axis) to name.
    pub dynamic: BTreeMap<(String, usize), String>,
    /// Values of the parameters to embed, by name; parameters not listed stay inputs.
    pub embedded: HashMap<String, Vec<f32>>,
    /// How embedded parameters are stored.
    pub storage: Storage,
}

/// The graph as an ONNX model.
///
/// # Errors
/// [`ErrorKind::Graph`] where an embedded parameter's length does not fit its shape.
pub fn emit(graph: &Graph, names: &ExportNames) -> Result<ModelProto> {
    let graph = &super::lower(graph, names.kernels)?;
    let mut proto = GraphProto {
        name: Some(graph.name().to_owned()),
        ..Default::default()
    };
    for (index, value) in graph.values.iter().enumerate() {
        match &value.origin {
            Origin::Constant(Literal::F32(data)) if used(graph, Value(index as u32)) => proto
                .initializer
                .push(onnx::tensor_f32(&value.name, &value.shape, data)),
            Origin::Constant(Literal::I64(data)) if used(graph, Value(index as u32)) => proto
                .initializer
                .push(onnx::tensor_i64(&value.name, &value.shape, data)),
            Origin::Parameter => match names.embedded.get(&value.name) {
                Some(data) if data.len() == value.shape.iter().product::<usize>() => {
                    let (tensors, nodes) = names.storage.write(&value.name, &value.shape, data);
                    proto.initializer.extend(tensors);
                    proto.node.extend(nodes);
                }
                Some(data) => {
                    return Err(Error::new(
                        ErrorKind::Graph,
                        format!(
                            "parameter {:?} has shape {:?}, {} numbers were given",
                            value.name,
                            value.shape,
                            data.len()
                        ),
                    ));
                }
                None => {}
            },
            _ => {}
        }
    }
    let describe = |value: Value| {
        let info = &graph.values[value.index()];
        let dims = info
            .shape
            .iter()
            .enumerate()
            .map(
                |(axis, &length)| match names.dynamic.get(&(info.name.clone(), axis)) {
                    Some(name) => Dimension::Named(name.clone()),
                    None => Dimension::Fixed(length as i64),
                },
            )
            .collect();
        onnx::value_info(&info.name, onnx_type(info.dtype), dims)
    };
    proto.input = graph
        .inputs
        .iter()
        .chain(
            graph
                .parameters
                .iter()
                .filter(|v| !names.embedded.contains_key(graph.value_name(**v))),
        )
        .map(|&v| describe(v))
        .collect();
    proto.output = graph.outputs.iter().map(|&v| describe(v)).collect();
    let mut domains = false;
    for index in order(graph) {
        let node = &graph.nodes[index];
        let native = names.kernels == Kernels::Native && custom::replaces(&node.op);
        let emitted = if native {
            custom_node(graph, index, node)
        } else {
            emit_node(graph, index, node, &mut proto.initializer)
        };
        domains |= emitted.domain.is_some();
        proto.node.push(emitted);
    }
    let import = |domain: &str, version| OperatorSetIdProto {
        domain: Some(domain.to_owned()),
        version: Some(version),
    };
    let mut opset_import = vec![import("", onnx::OPSET)];
    if domains {
        opset_import.push(import(custom::DOMAIN, 1));
    }
    Ok(ModelProto {
        ir_version: Some(onnx::IR_VERSION),
        producer_name: Some("acolyte".to_owned()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        graph: Some(proto),
        opset_import,
        metadata_props: Vec::new(),
    })
}

/// Which nodes the outputs depend on.
fn live(graph: &Graph) -> Vec<bool> {
    let mut wanted = vec![false; graph.values.len()];
    for output in &graph.outputs {
        wanted[output.index()] = true;
    }
    let mut live = vec![false; graph.nodes.len()];
    for (index, node) in graph.nodes.iter().enumerate().rev() {
        live[index] = node.outputs.iter().any(|v| wanted[v.index()]);
        if live[index] {
            for input in &node.inputs {
                wanted[input.index()] = true;
            }
        }
    }
    live
}

/// The nodes that outputs depend on, in the order that ONNX Runtime should run them. It takes the last node that nothing
/// reads, runs what that depends on, and goes on with the one before. So nodes that nothing reads, weight gradients
/// above all, come last and in reverse: each then runs as soon as it can, and what it read is free again.
fn order(graph: &Graph) -> Vec<usize> {
    let live = live(graph);
    let mut read = vec![false; graph.values.len()];
    for (node, _) in graph.nodes.iter().zip(&live).filter(|(_, live)| **live) {
        for input in &node.inputs {
            read[input.index()] = true;
        }
    }
    let is_read = |&index: &usize| graph.nodes[index].outputs.iter().any(|v| read[v.index()]);
    let all = (0..graph.nodes.len()).filter(|&index| live[index]);
    let (inner, last): (Vec<usize>, Vec<usize>) = all.partition(is_read);
    inner.into_iter().chain(last.into_iter().rev()).collect()
}

fn used(graph: &Graph, value: Value) -> bool {
    graph.nodes.iter().any(|node| node.inputs.contains(&value))
}

fn onnx_type(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => data_type::FLOAT,
        DType::I32 => data_type::INT32,
        DType::I64 => data_type::INT64,
        DType::Bool => data_type::BOOL,
    }
}

/// The node; int64 operands that ONNX wants as tensors are added to `initializers`.
fn emit_node(
    graph: &Graph,
    index: usize,
    node: &Node,
    initializers: &mut Vec<TensorProto>,
) -> NodeProto {
    let mut inputs: Vec<String> = node
        .inputs
        .iter()
        .map(|&v| graph.value_name(v).to_owned())
        .collect();
    let mut operand = |suffix: &str, values: Vec<i64>| {
        let name = format!("n{index}.{suffix}");
        initializers.push(onnx::tensor_i64(&name, &[values.len()], &values));
        name
    };
    let as_i64 = |values: &[usize]| values.iter().map(|&v| v as i64).collect::<Vec<_>>();
    let mut attributes = Vec::new();
    let op_type = match &node.op {
        Op::Unary(function) => unary_name(*function),
        Op::Binary(Binary::Add) => "Add",
        Op::Binary(Binary::Sub) => "Sub",
        Op::Binary(Binary::Mul) => "Mul",
        Op::Binary(Binary::Div) => "Div",
        Op::Greater => "Greater",
        Op::Equal => "Equal",
        Op::Where => "Where",
        Op::MatMul => "MatMul",
        Op::Gemm {
            transpose_a,
            transpose_b,
        } => {
            attributes.push(int("transA", i64::from(*transpose_a)));
            attributes.push(int("transB", i64::from(*transpose_b)));
            "Gemm"
        }
        Op::Conv(conv) => {
            attributes = conv_attributes(conv);
            "Conv"
        }
        Op::ConvTranspose {
            conv,
            output_padding,
        } => {
            attributes = conv_attributes(conv);
            attributes.push(ints("output_padding", &as_i64(output_padding)));
            "ConvTranspose"
        }
        Op::Softmax { axis } => {
            attributes.push(int("axis", *axis as i64));
            "Softmax"
        }
        Op::LogSoftmax { axis } => {
            attributes.push(int("axis", *axis as i64));
            "LogSoftmax"
        }
        Op::LayerNorm { epsilon } => {
            attributes.push(int("axis", -1));
            attributes.push(float("epsilon", *epsilon));
            "LayerNormalization"
        }
        Op::ReduceSum { axes, keep } => {
            inputs.push(operand("axes", as_i64(axes)));
            attributes.push(int("keepdims", i64::from(*keep)));
            "ReduceSum"
        }
        Op::ReduceMean { axes, keep } => {
            inputs.push(operand("axes", as_i64(axes)));
            attributes.push(int("keepdims", i64::from(*keep)));
            "ReduceMean"
        }
        Op::ReduceMax { axes, keep } => {
            inputs.push(operand("axes", as_i64(axes)));
            attributes.push(int("keepdims", i64::from(*keep)));
            "ReduceMax"
        }
        Op::MaxPool(window) => {
            attributes = pool_attributes(window);
            "MaxPool"
        }
        Op::AveragePool(window) => {
            attributes = pool_attributes(window);
            "AveragePool"
        }
        Op::Reshape(shape) => {
            inputs.push(operand("shape", as_i64(shape)));
            "Reshape"
        }
        Op::Transpose(order) => {
            attributes.push(ints("perm", &as_i64(order)));
            "Transpose"
        }
        Op::Slice(ranges) => {
            let shape = graph.shape(node.inputs[0]);
            inputs.extend(slice_operands(ranges, shape, &mut operand));
            "Slice"
        }
        Op::Concat { axis } => {
            attributes.push(int("axis", *axis as i64));
            "Concat"
        }
        Op::Pad { before, after } => {
            let pads: Vec<usize> = before.iter().chain(after).copied().collect();
            inputs.push(operand("pads", as_i64(&pads)));
            "Pad"
        }
        Op::Expand(shape) => {
            inputs.push(operand("shape", as_i64(shape)));
            "Expand"
        }
        Op::Gather => "Gather",
        Op::Gru => {
            let hidden = graph.shape(node.outputs[1]).last().copied().unwrap_or(0);
            // The fifth operand, the lengths, is left out.
            inputs.insert(4, String::new());
            attributes.push(int("hidden_size", hidden as i64));
            attributes.push(int("linear_before_reset", 1));
            "GRU"
        }
        _ => return custom_node(graph, index, node),
    };
    NodeProto {
        input: inputs,
        output: node
            .outputs
            .iter()
            .map(|&v| graph.value_name(v).to_owned())
            .collect(),
        name: Some(format!("n{index}")),
        op_type: Some(op_type.to_owned()),
        attribute: attributes,
        domain: None,
    }
}

/// A node of one of our operators.
fn custom_node(graph: &Graph, index: usize, node: &Node) -> NodeProto {
    let names = |values: &[Value]| {
        let names = values.iter().map(|&v| graph.value_name(v).to_owned());
        names.collect()
    };
    NodeProto {
        input: names(&node.inputs),
        output: names(&node.outputs),
        name: Some(format!("n{index}")),
        op_type: Some(custom::name(&node.op).to_owned()),
        attribute: custom::attributes(&node.op),
        domain: Some(custom::DOMAIN.to_owned()),
    }
}

fn unary_name(function: Unary) -> &'static str {
    match function {
        Unary::Identity | Unary::Detach => "Identity",
        Unary::Relu => "Relu",
        Unary::Sigmoid => "Sigmoid",
        Unary::Tanh => "Tanh",
        Unary::Exp => "Exp",
        Unary::Log => "Log",
        Unary::Sqrt => "Sqrt",
        Unary::Reciprocal => "Reciprocal",
        Unary::Neg => "Neg",
        Unary::Erf => "Erf",
        Unary::Abs => "Abs",
        Unary::Sign => "Sign",
    }
}

fn conv_attributes(conv: &ConvAttributes) -> Vec<AttributeProto> {
    let list = |values: &[usize]| values.iter().map(|&v| v as i64).collect::<Vec<_>>();
    vec![
        ints("strides", &list(&conv.strides)),
        ints("pads", &list(&conv.pads)),
        ints("dilations", &list(&conv.dilations)),
        int("group", conv.group as i64),
    ]
}

fn pool_attributes(window: &Window) -> Vec<AttributeProto> {
    let list = |values: &[usize]| values.iter().map(|&v| v as i64).collect::<Vec<_>>();
    vec![
        ints("kernel_shape", &list(&window.kernel)),
        ints("strides", &list(&window.strides)),
        ints("pads", &list(&window.pads)),
    ]
}

/// Starts, ends, axes, steps of the axes that are not whole. A range that reaches an axis' end is written as
/// reaching any end, and one that is a fixed distance from the end counts from there, so that the node stays
/// right when the axis is dynamic.
fn slice_operands(
    ranges: &[SliceRange],
    shape: &[usize],
    operand: &mut impl FnMut(&str, Vec<i64>) -> String,
) -> Vec<String> {
    let (mut starts, mut ends, mut axes, mut steps) = (vec![], vec![], vec![], vec![]);
    for (axis, (range, &length)) in ranges.iter().zip(shape).enumerate() {
        if *range == SliceRange::all(length) {
            continue;
        }
        let last = range.start as i64 + (range.length as i64 - 1) * range.step as i64;
        let reaches_end = range.step > 0 && last + range.step as i64 >= length as i64;
        if reaches_end && range.start > 0 && range.step == 1 {
            starts.push(range.start as i64 - length as i64);
        } else {
            starts.push(range.start as i64);
        }
        ends.push(match (reaches_end, range.step < 0 && last == 0) {
            (true, _) => i64::MAX,
            (_, true) => i64::MIN + 1,
            _ => last + range.step.signum() as i64,
        });
        axes.push(axis as i64);
        steps.push(range.step as i64);
    }
    vec![
        operand("starts", starts),
        operand("ends", ends),
        operand("axes", axes),
        operand("steps", steps),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::gradients;

    /// Nodes stand after what they read, and the gradients of the last layer, which are there first, come last: that is
    /// the order in which ONNX Runtime runs them.
    #[test]
    fn weight_gradients_run_as_soon_as_they_can() {
        let mut g = Graph::new("deep");
        let mut x = g.input("x", DType::F32, &[5, 3]).unwrap();
        for layer in 0..3 {
            let w = g.parameter(&format!("w{layer}"), &[3, 3]).unwrap();
            let y = g.gemm(x, w, false, false).unwrap();
            x = g.unary(Unary::Tanh, y).unwrap();
        }
        g.relu(x).unwrap();
        let loss = g.sum_all(x).unwrap();
        let wrt = g.parameters().to_vec();
        let found = gradients(&mut g, loss, &wrt).unwrap();
        for (layer, gradient) in found.into_iter().enumerate() {
            g.output(&format!("grad{layer}"), gradient).unwrap();
        }
        let model = emit(&g, &ExportNames::default()).unwrap();
        let proto = model.graph.unwrap();
        let named = |values: &[crate::onnx::proto::ValueInfoProto]| -> Vec<String> {
            values.iter().filter_map(|v| v.name.clone()).collect()
        };
        let mut there = named(&proto.input);
        there.extend(proto.initializer.iter().filter_map(|t| t.name.clone()));
        for node in &proto.node {
            assert!(node.input.iter().all(|input| there.contains(input)));
            there.extend(node.output.iter().cloned());
        }
        let last: Vec<&str> = proto
            .node
            .iter()
            .rev()
            .map(|n| n.output[0].as_str())
            .collect();
        assert_eq!(last[..3], ["grad2", "grad1", "grad0"]);
        let relu = |node: &NodeProto| node.op_type.as_deref() == Some("Relu");
        assert!(!proto.node.iter().any(relu), "nothing reads it");
    }
}
