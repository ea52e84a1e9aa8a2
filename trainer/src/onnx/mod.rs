//! Small constructors over ONNX's messages: attributes, tensors, value descriptions.

pub mod proto;
mod storage;

pub use storage::Storage;

use proto::{
    AttributeProto, Dimension, DimensionProto, TensorProto, TensorShapeProto, TensorTypeProto,
    TypeProto, ValueInfoProto, attribute_type, data_type,
};

/// The ONNX IR version written: old enough for every mobile runtime in use.
pub const IR_VERSION: i64 = 8;

/// The operator set written: 18 has axes of reductions as inputs and nothing later is needed.
pub const OPSET: i64 = 18;

/// An integer attribute.
pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        i: Some(value),
        r#type: Some(attribute_type::INT),
        ..Default::default()
    }
}

/// A float attribute.
pub fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        f: Some(value),
        r#type: Some(attribute_type::FLOAT),
        ..Default::default()
    }
}

/// A list-of-integers attribute.
pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        ints: values.to_vec(),
        r#type: Some(attribute_type::INTS),
        ..Default::default()
    }
}

/// A float tensor of shape `dims`.
pub fn tensor_f32(name: &str, dims: &[usize], values: &[f32]) -> TensorProto {
    raw_tensor(
        name,
        dims,
        data_type::FLOAT,
        values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    )
}

/// An int64 tensor of shape `dims`.
pub fn tensor_i64(name: &str, dims: &[usize], values: &[i64]) -> TensorProto {
    raw_tensor(
        name,
        dims,
        data_type::INT64,
        values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    )
}

fn raw_tensor(name: &str, dims: &[usize], data_type: i32, raw: Vec<u8>) -> TensorProto {
    TensorProto {
        dims: dims.iter().map(|&d| d as i64).collect(),
        data_type: Some(data_type),
        name: Some(name.to_owned()),
        raw_data: Some(raw),
    }
}

/// A tensor's name, element type and dimensions, as a graph input or output declares it.
pub fn value_info(name: &str, elem_type: i32, dims: Vec<Dimension>) -> ValueInfoProto {
    let dim = dims
        .into_iter()
        .map(|value| DimensionProto { value: Some(value) })
        .collect();
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorTypeProto {
                elem_type: Some(elem_type),
                shape: Some(TensorShapeProto { dim }),
            }),
        }),
    }
}
