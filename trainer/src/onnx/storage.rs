//! Weights stored in fewer bits than they are computed in: f16, or int8 with one scale an output channel.
//!
//! A stored weight is an initializer and the operators that give it back as f32: a `Cast`, and for int8 a product with
//! the scales, `w[o, ...] = q[o, ...] scale[o]`, `scale[o] = max |w[o]| / 127`. ONNX Runtime computes them once, when it
//! loads the file, so that only the file is smaller: a run takes as long and computes in f32. Kernels are stored so;
//! vectors (biases), and matrices under int8, whose outputs are not their first axis, stay wider.

use super::proto::{NodeProto, TensorProto, data_type};
use super::{int, raw_tensor, tensor_f32};
use half::f16;

/// How a file stores its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Storage {
    /// As they are: four bytes each.
    #[default]
    F32,
    /// Half precision: two bytes each.
    F16,
    /// One byte each and a scale an output channel for kernels of convolutions `[Co, Ci, kh, kw]`; half precision for
    /// matrices.
    Int8,
}

impl Storage {
    /// Its name on the command line and in the spec.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        }
    }

    /// What it does to a weight of so many axes.
    fn of(self, axes: usize) -> Self {
        match (self, axes) {
            (_, 0 | 1) => Self::F32,
            (Self::Int8, 2 | 3) => Self::F16,
            (storage, _) => storage,
        }
    }

    /// The values that a stored weight of shape `dims` gives back.
    pub fn round(self, dims: &[usize], values: &[f32]) -> Vec<f32> {
        match self.of(dims.len()) {
            Self::F32 => values.to_vec(),
            Self::F16 => values.iter().map(|&v| half(v).to_f32()).collect(),
            Self::Int8 => {
                let (quantized, scales) = quantize(dims, values);
                let each = each(dims);
                let scales = scales
                    .iter()
                    .flat_map(|scale| std::iter::repeat_n(scale, each));
                quantized
                    .iter()
                    .zip(scales)
                    .map(|(&q, scale)| f32::from(q) * scale)
                    .collect()
            }
        }
    }

    /// The initializers of a stored weight, and the nodes that compute the value `name` from them.
    pub(crate) fn write(
        self,
        name: &str,
        dims: &[usize],
        values: &[f32],
    ) -> (Vec<TensorProto>, Vec<NodeProto>) {
        let stored = format!("{name}.stored");
        match self.of(dims.len()) {
            Self::F32 => (vec![tensor_f32(name, dims, values)], Vec::new()),
            Self::F16 => {
                let raw = values.iter().flat_map(|&v| half(v).to_le_bytes()).collect();
                let tensor = raw_tensor(&stored, dims, data_type::FLOAT16, raw);
                (vec![tensor], vec![node("Cast", &[&stored], name)])
            }
            Self::Int8 => {
                let (quantized, scales) = quantize(dims, values);
                let raw = quantized.iter().flat_map(|q| q.to_le_bytes()).collect();
                let (whole, scale) = (format!("{name}.whole"), format!("{name}.scale"));
                let mut channels = vec![1; dims.len()];
                channels[0] = dims[0];
                let tensors = vec![
                    raw_tensor(&stored, dims, data_type::INT8, raw),
                    tensor_f32(&scale, &channels, &scales),
                ];
                let nodes = vec![
                    node("Cast", &[&stored], &whole),
                    node("Mul", &[&whole, &scale], name),
                ];
                (tensors, nodes)
            }
        }
    }
}

/// The nearest finite half-precision number.
fn half(value: f32) -> f16 {
    f16::from_f32(value.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()))
}

/// Weights of one output channel.
fn each(dims: &[usize]) -> usize {
    dims.iter().skip(1).product::<usize>().max(1)
}

fn quantize(dims: &[usize], values: &[f32]) -> (Vec<i8>, Vec<f32>) {
    let mut quantized = Vec::with_capacity(values.len());
    let mut scales = Vec::new();
    for channel in values.chunks(each(dims)) {
        let largest = channel.iter().fold(0.0f32, |top, v| top.max(v.abs()));
        let scale = largest / 127.0;
        scales.push(scale);
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        quantized.extend(
            channel
                .iter()
                .map(|v| (v * inverse).round().clamp(-127.0, 127.0) as i8),
        );
    }
    (quantized, scales)
}

fn node(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
    let to = (operator == "Cast").then(|| int("to", i64::from(data_type::FLOAT)));
    NodeProto {
        input: inputs.iter().map(|&input| input.to_owned()).collect(),
        output: vec![output.to_owned()],
        name: Some(format!("{output}.{}", operator.to_lowercase())),
        op_type: Some(operator.to_owned()),
        attribute: to.into_iter().collect(),
        domain: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::exec::Engine;
    use crate::graph::testing::numbers;
    use crate::graph::{DType, ExportNames, Graph, emit};
    use acolyte::model::Library;
    use ort::value::Tensor;
    use prost::Message;

    /// What ONNX Runtime computes from a stored weight is what `round` says, to the bit; and it is near the weight.
    #[test]
    fn a_stored_weight_comes_back_as_rounded() {
        let engine = Engine::new(&Library::find().unwrap(), 1);
        for dims in [vec![5, 3, 2, 2], vec![6, 1, 3, 3], vec![7, 9], vec![8]] {
            let count: usize = dims.iter().product();
            let mut values = numbers(count, 11);
            // A channel of zeros, and one that is larger than the others.
            let each = each(&dims);
            values[..each].fill(0.0);
            values[count - each..].iter_mut().for_each(|v| *v *= 300.0);
            for storage in [Storage::F32, Storage::F16, Storage::Int8] {
                let mut g = Graph::new("stored");
                let x = g.input("x", DType::F32, &dims).unwrap();
                let w = g.parameter("w", &dims).unwrap();
                let sum = g.add(x, w).unwrap();
                g.output("y", sum).unwrap();
                let names = ExportNames {
                    embedded: [("w".to_owned(), values.clone())].into(),
                    storage,
                    ..Default::default()
                };
                let bytes = emit(&g, &names).unwrap().encode_to_vec();
                let mut session = engine.session(&bytes, None).unwrap();
                let zeros = Tensor::from_array((dims.clone(), vec![0.0f32; count])).unwrap();
                let outputs = session.run(ort::inputs!["x" => zeros]).unwrap();
                let (_, found) = outputs["y"].try_extract_tensor::<f32>().unwrap();
                let expected = storage.round(&dims, &values);
                assert_eq!(found, expected, "{storage:?} {dims:?}");
                for (channel, (rounded, exact)) in
                    expected.chunks(each).zip(values.chunks(each)).enumerate()
                {
                    let largest = exact.iter().fold(0.0f32, |top, v| top.max(v.abs()));
                    for (rounded, exact) in rounded.iter().zip(exact) {
                        let error = (rounded - exact).abs();
                        assert!(
                            error <= largest / 250.0,
                            "{storage:?} {dims:?} {channel}: {exact}"
                        );
                    }
                }
            }
        }
    }
}
