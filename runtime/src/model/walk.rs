//! The walk over an ONNX file's protobuf that fills a [`ModelHeader`].
//!
//! Field numbers follow `onnx.proto3` (IR version 13). The walk takes names, types and shapes and skips the
//! weights, so it costs microseconds and little memory whatever the file holds; sizes, counts and nesting are
//! bounded, and any bytes give a header or a typed error.

use super::header::{Dim, ElementType, InitializerInfo, ModelHeader, TensorInfo};
use super::wire::{Field, fields, malformed};
use crate::Result;
use std::collections::HashSet;

/// Most nodes, subgraphs' included.
const MAX_NODES: usize = 1 << 20;
/// Most initializers, inputs and outputs together.
const MAX_TENSORS: usize = 1 << 17;
/// Most axes of a tensor.
const MAX_RANK: usize = 64;
/// Deepest nesting of subgraphs.
const MAX_DEPTH: usize = 8;
/// Most metadata entries and operator sets.
const MAX_ENTRIES: usize = 4096;
/// Longest name in bytes.
const MAX_NAME: usize = 1 << 16;

/// Reads the header of the ONNX file in `bytes`; see [`ModelHeader::read`].
pub(super) fn read(bytes: &[u8]) -> Result<ModelHeader> {
    let mut walk = Walk::default();
    let mut graph = None;
    for field in fields(bytes) {
        let field = field?;
        let header = &mut walk.header;
        match field.number {
            1 => header.ir_version = field.varint("ir_version")?,
            2 => header.producer = name(&field, "producer_name")?,
            3 => header.producer_version = name(&field, "producer_version")?,
            // Protobuf would merge two; nobody writes that, and a merged graph is not what we checked.
            7 if graph.is_some() => return Err(malformed("it holds two graphs")),
            7 => graph = Some(field.bytes("graph")?),
            8 => {
                bound(header.opsets.len(), MAX_ENTRIES, "operator sets")?;
                header.opsets.push(opset(field.bytes("opset_import")?)?);
            }
            14 => {
                bound(header.metadata.len(), MAX_ENTRIES, "metadata entries")?;
                let (key, value) = entry(field.bytes("metadata_props")?)?;
                header.metadata.push((key.to_owned(), value.to_owned()));
            }
            25 => walk.function(field.bytes("functions")?)?,
            _ => {}
        }
    }
    let graph = graph.ok_or_else(|| malformed("it holds no graph: not an ONNX model"))?;
    walk.graph(graph, 0)?;
    let mut header = walk.header;
    if header.ir_version == 0 || header.opsets.is_empty() {
        return Err(malformed(
            "ir_version or opset_import is missing: not an ONNX model, or cut",
        ));
    }
    // Up to IR version 3 initializers were listed as inputs too; a run need not be given those.
    let stored: HashSet<&str> = header
        .initializers
        .iter()
        .map(|i| i.name.as_str())
        .collect();
    header
        .inputs
        .retain(|input| !stored.contains(input.name.as_str()));
    Ok(header)
}

/// Key and value of a `StringStringEntryProto`.
pub(crate) fn entry(bytes: &[u8]) -> Result<(&str, &str)> {
    let (mut key, mut value) = ("", "");
    for field in fields(bytes) {
        let field = field?;
        match field.number {
            1 => key = field.text("metadata key")?,
            2 => value = field.text("metadata value")?,
            _ => {}
        }
    }
    Ok((key, value))
}

fn bound(count: usize, limit: usize, what: &str) -> Result<()> {
    if count < limit {
        return Ok(());
    }
    Err(malformed(format!("it has more than {limit} {what}")))
}

fn name(field: &Field<'_>, what: &str) -> Result<String> {
    let text = field.text(what)?;
    if text.len() > MAX_NAME {
        return Err(malformed(format!("{what} has {} bytes", text.len())));
    }
    Ok(text.to_owned())
}

fn opset(bytes: &[u8]) -> Result<(String, u64)> {
    let (mut domain, mut version) = (String::new(), 0);
    for field in fields(bytes) {
        let field = field?;
        match field.number {
            1 => domain = name(&field, "operator set's domain")?,
            2 => version = field.varint("operator set's version")?,
            _ => {}
        }
    }
    Ok((domain, version))
}

/// The header so far and what the bounds count.
#[derive(Default)]
struct Walk {
    header: ModelHeader,
    nodes: usize,
    tensors: usize,
}

impl Walk {
    fn graph(&mut self, bytes: &[u8], depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(malformed(format!(
                "graphs nest deeper than {MAX_DEPTH} levels"
            )));
        }
        for field in fields(bytes) {
            let field = field?;
            match field.number {
                1 => self.node(field.bytes("node")?, depth)?,
                2 if depth == 0 => self.header.graph = name(&field, "graph name")?,
                5 => self.initializer(field.bytes("initializer")?)?,
                11 | 12 if depth == 0 => {
                    bound(self.tensors, MAX_TENSORS, "tensors")?;
                    self.tensors += 1;
                    let info = value_info(field.bytes("graph input or output")?)?;
                    match field.number {
                        11 => self.header.inputs.push(info),
                        _ => self.header.outputs.push(info),
                    }
                }
                15 => self.sparse(field.bytes("sparse_initializer")?)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn function(&mut self, bytes: &[u8]) -> Result<()> {
        for field in fields(bytes) {
            let field = field?;
            if field.number == 7 {
                self.node(field.bytes("function's node")?, 1)?;
            }
        }
        Ok(())
    }

    fn node(&mut self, bytes: &[u8], depth: usize) -> Result<()> {
        bound(self.nodes, MAX_NODES, "nodes")?;
        self.nodes += 1;
        let (mut operator, mut domain) = ("", "");
        for field in fields(bytes) {
            let field = field?;
            match field.number {
                4 => operator = field.text("op_type")?,
                5 => self.attribute(field.bytes("attribute")?, depth)?,
                7 => domain = field.text("node's domain")?,
                _ => {}
            }
        }
        if operator.is_empty() || operator.len() + domain.len() > MAX_NAME {
            return Err(malformed(format!(
                "node {} names no operator",
                self.nodes - 1
            )));
        }
        let operator = match domain {
            "" | "ai.onnx" => operator.to_owned(),
            domain => format!("{domain}::{operator}"),
        };
        *self.header.operators.entry(operator).or_default() += 1;
        Ok(())
    }

    fn attribute(&mut self, bytes: &[u8], depth: usize) -> Result<()> {
        for field in fields(bytes) {
            let field = field?;
            match field.number {
                // Exporters keep weights in constants too.
                5 | 10 => self.initializer(field.bytes("attribute's tensor")?)?,
                6 | 11 => self.graph(field.bytes("subgraph")?, depth + 1)?,
                22 | 23 => self.sparse(field.bytes("attribute's sparse tensor")?)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn initializer(&mut self, bytes: &[u8]) -> Result<()> {
        bound(self.tensors, MAX_TENSORS, "tensors")?;
        self.tensors += 1;
        let (info, external) = tensor(bytes)?;
        self.outside(info.name.clone(), external);
        self.header.initializers.push(info);
        Ok(())
    }

    fn sparse(&mut self, bytes: &[u8]) -> Result<()> {
        for field in fields(bytes) {
            let field = field?;
            if matches!(field.number, 1 | 2) {
                self.initializer(field.bytes("sparse tensor's values")?)?;
            }
        }
        Ok(())
    }

    fn outside(&mut self, name: String, external: bool) {
        if external && self.header.external.len() < MAX_ENTRIES {
            self.header.external.push(name);
        }
    }
}

/// A `TensorProto` and whether its data stand in another file.
fn tensor(bytes: &[u8]) -> Result<(InitializerInfo, bool)> {
    let (mut label, mut dims) = (String::new(), Vec::new());
    let (mut element, mut raw, mut listed, mut external) = (0, None, 0u64, false);
    for field in fields(bytes) {
        let field = field?;
        match field.number {
            1 => field.varints("a tensor's dims", &mut dims, MAX_RANK)?,
            2 => element = field.varint("a tensor's data_type")?,
            4..=7 | 10 | 11 => listed = listed.saturating_add((field.end - field.start) as u64),
            8 => label = name(&field, "a tensor's name")?,
            9 => raw = Some(field.bytes("raw_data")?.len() as u64),
            13 => external = true,
            14 => external |= field.varint("data_location")? != 0,
            _ => {}
        }
    }
    let elements = dims
        .iter()
        .try_fold(1u64, |product, &dim| product.checked_mul(dim));
    let element = ElementType::from_onnx(element);
    let wanted = elements.and_then(|n| n.checked_mul(element.size().unwrap_or(1)));
    let Some(wanted) = wanted else {
        return Err(malformed(format!(
            "tensor {label:?} has impossible dims {dims:?}"
        )));
    };
    if let (Some(raw), Some(_), false) = (raw, element.size(), external)
        && raw != wanted
    {
        return Err(malformed(format!(
            "tensor {label:?} of dims {dims:?} needs {wanted} bytes and has {raw}"
        )));
    }
    let info = InitializerInfo {
        name: label,
        element,
        dims,
        bytes: raw.unwrap_or(listed),
    };
    Ok((info, external))
}

fn value_info(bytes: &[u8]) -> Result<TensorInfo> {
    let mut info = TensorInfo {
        name: String::new(),
        element: None,
        dims: None,
    };
    for field in fields(bytes) {
        let field = field?;
        match field.number {
            1 => info.name = name(&field, "a graph input's or output's name")?,
            2 => {
                for field in fields(field.bytes("type")?) {
                    let field = field?;
                    // Field 1 of TypeProto is a dense tensor; sequences, maps and optionals are other fields.
                    if field.number == 1 {
                        tensor_type(field.bytes("tensor_type")?, &mut info)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(info)
}

fn tensor_type(bytes: &[u8], info: &mut TensorInfo) -> Result<()> {
    for field in fields(bytes) {
        let field = field?;
        match field.number {
            1 => info.element = Some(ElementType::from_onnx(field.varint("elem_type")?)),
            2 => {
                let mut dims = Vec::new();
                for field in fields(field.bytes("shape")?) {
                    let field = field?;
                    if field.number == 1 {
                        bound(dims.len(), MAX_RANK, "axes")?;
                        dims.push(dimension(field.bytes("dim")?)?);
                    }
                }
                info.dims = Some(dims);
            }
            _ => {}
        }
    }
    Ok(())
}

fn dimension(bytes: &[u8]) -> Result<Dim> {
    let mut dim = Dim::Free;
    for field in fields(bytes) {
        let field = field?;
        match field.number {
            // Exporters write -1 and 0 for an open axis.
            1 => match field.varint("dim_value")? as i64 {
                length @ 1.. => dim = Dim::Fixed(length as u64),
                _ => dim = Dim::Free,
            },
            2 => match name(&field, "dim_param")? {
                empty if empty.is_empty() => dim = Dim::Free,
                param => dim = Dim::Named(param),
            },
            _ => {}
        }
    }
    Ok(dim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::model::testing::{TINY, tiny_onnx};
    use crate::model::wire::put_bytes;
    use proptest::prelude::*;

    #[test]
    fn reads_the_tiny_model() {
        let header = ModelHeader::read(&tiny_onnx(TINY)).unwrap();
        assert_eq!((header.ir_version, header.nodes()), (8, 3));
        assert_eq!(header.opsets, [(String::new(), 17)]);
        assert_eq!(header.operators["Conv"], 1);
        assert_eq!(header.parameters(), 8 * 8 * 4);
        let weight = &header.initializers[0];
        assert_eq!(
            (weight.dims.as_slice(), weight.bytes),
            (&[8, 8, 1, 4][..], 1024)
        );
        let input = header.input("features").unwrap();
        assert_eq!(input.to_string(), "features float32 [batch, 8, 1, time]");
        assert_eq!(
            header.output("next.0").unwrap().dims.as_ref().unwrap()[3],
            Dim::Fixed(2)
        );
    }

    #[test]
    fn refuses_what_is_no_model() {
        let model = tiny_onnx(TINY);
        let twice = [&model[..], &model].concat();
        let mut deep = Vec::new();
        for _ in 0..1000 {
            let (mut attribute, mut node, mut graph) = (Vec::new(), Vec::new(), Vec::new());
            put_bytes(&mut attribute, 6, &deep);
            put_bytes(&mut node, 4, b"If");
            put_bytes(&mut node, 5, &attribute);
            put_bytes(&mut graph, 1, &node);
            deep = graph;
        }
        let mut nested = Vec::new();
        put_bytes(&mut nested, 7, &deep);
        for (bytes, words) in [
            (&b""[..], "no graph"),
            (b"This is a text file.\n", ""),
            (b"RIFF\x24\x00\x00\x00WAVEfmt ", ""),
            (b"\x7fELF\x02\x01\x01\x00", ""),
            (&twice, "two graphs"),
            (&nested, "nest deeper"),
        ] {
            let error = ModelHeader::read(bytes).expect_err(words);
            assert_eq!(error.kind(), ErrorKind::Model);
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn external_data_are_reported() {
        let (mut tensor, mut graph) = (Vec::new(), Vec::new());
        put_bytes(&mut tensor, 8, b"far");
        put_bytes(&mut tensor, 13, b"\x0a\x08location");
        put_bytes(&mut graph, 5, &tensor);
        let mut only = vec![0x08, 8];
        put_bytes(&mut only, 7, &graph);
        put_bytes(&mut only, 8, b"\x10\x11");
        assert_eq!(ModelHeader::read(&only).unwrap().external, ["far"]);
    }

    #[test]
    fn a_tensor_that_lies_about_its_size_is_refused() {
        for (dims, raw) in [(&[4u8][..], 15), (&[0xff; 9], 4)] {
            let mut tensor = vec![0x0a, dims.len() as u8];
            tensor.extend(dims);
            tensor.extend([0x10, 1]);
            put_bytes(&mut tensor, 9, &vec![0; raw]);
            let (mut graph, mut model) = (Vec::new(), vec![0x08, 8]);
            put_bytes(&mut graph, 5, &tensor);
            put_bytes(&mut model, 7, &graph);
            assert!(ModelHeader::read(&model).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_header_or_an_error(bytes: Vec<u8>) {
            let _ = ModelHeader::read(&bytes);
        }

        #[test]
        fn a_damaged_model_gives_a_header_or_an_error(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)
        ) {
            let mut model = tiny_onnx(TINY);
            for (at, byte) in damage {
                let at = at.index(model.len());
                model[at] = byte;
            }
            let _ = ModelHeader::read(&model);
        }
    }
}
