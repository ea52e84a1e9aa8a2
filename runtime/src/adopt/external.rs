//! Weights that stand in other files, brought into the model: one file is what is sealed, hashed and shipped.
//!
//! `TensorProto` field 13 names the file, offset and length, field 14 says that they count. Both are taken out and the
//! bytes put in as `raw_data` (field 9); everything else stays byte for byte. A name that leads out of the model's
//! folder, or a link, is refused.

use crate::model::MAX_MODEL_BYTES;
use crate::model::walk::entry;
use crate::model::wire::{Field, Value, fields, malformed, put_bytes};
use crate::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::io::Read;
use std::path::{Component, Path};

/// The ONNX file in `model` with the weights that stand in files of `folder`, where the model lies, inside.
///
/// # Errors
/// [`ErrorKind::Model`] for bytes that are no ONNX file, [`ErrorKind::Io`] for a file that cannot be read,
/// [`ErrorKind::Unsupported`] for a name that leads out of the folder or to a link, [`ErrorKind::Limit`] where all of it
/// exceeds what one file may have.
pub fn with_external_data(model: &[u8], folder: &Path) -> Result<Vec<u8>> {
    let mut files = Files {
        folder,
        read: HashMap::new(),
    };
    let mut out = Vec::with_capacity(model.len());
    for field in fields(model) {
        let field = field?;
        match field.number {
            7 => {
                let graph = graph(field.bytes("graph")?, &mut files)?;
                put_bytes(&mut out, 7, &graph);
            }
            _ => out.extend_from_slice(&model[field.start..field.end]),
        }
    }
    bounded(out.len() as u64)?;
    Ok(out)
}

fn graph(bytes: &[u8], files: &mut Files<'_>) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len());
    for field in fields(bytes) {
        let field = field?;
        match field.number {
            5 => match tensor(field.bytes("initializer")?, files)? {
                Some(inside) => put_bytes(&mut out, 5, &inside),
                None => out.extend_from_slice(&bytes[field.start..field.end]),
            },
            _ => out.extend_from_slice(&bytes[field.start..field.end]),
        }
        bounded(out.len() as u64)?;
    }
    Ok(out)
}

/// The tensor with its data inside; none if they are there already.
fn tensor(bytes: &[u8], files: &mut Files<'_>) -> Result<Option<Vec<u8>>> {
    let all: Vec<Field<'_>> = fields(bytes).collect::<Result<_>>()?;
    let outside = all
        .iter()
        .any(|f| f.number == 14 && matches!(f.value, Value::Varint(1..)));
    if !outside {
        return Ok(None);
    }
    let (mut location, mut offset, mut length) = (None, 0, None);
    let mut out = Vec::new();
    for field in &all {
        match field.number {
            13 => {
                let (key, value) = entry(field.bytes("external_data")?)?;
                let number = || {
                    value
                        .parse::<u64>()
                        .map_err(|_| malformed(format!("external data have the {key} {value:?}")))
                };
                match key {
                    "location" => location = Some(value),
                    "offset" => offset = number()?,
                    "length" => length = Some(number()?),
                    _ => {}
                }
            }
            9 | 14 => {}
            _ => out.extend_from_slice(&bytes[field.start..field.end]),
        }
    }
    let location = location.ok_or_else(|| malformed("external data name no file"))?;
    let data = files.part(location, offset, length)?;
    put_bytes(&mut out, 9, data);
    Ok(Some(out))
}

/// The files beside the model that were read so far.
struct Files<'f> {
    folder: &'f Path,
    read: HashMap<String, Vec<u8>>,
}

impl Files<'_> {
    fn part(&mut self, location: &str, offset: u64, length: Option<u64>) -> Result<&[u8]> {
        if !self.read.contains_key(location) {
            let bytes = self.open(location)?;
            self.read.insert(location.to_owned(), bytes);
        }
        let bytes = self
            .read
            .get(location)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = bytes.get(start..);
        let part = match (rest, length) {
            (Some(rest), None) => Some(rest),
            (Some(rest), Some(length)) => usize::try_from(length)
                .ok()
                .and_then(|length| rest.get(..length)),
            (None, _) => None,
        };
        part.ok_or_else(|| {
            malformed(format!(
                "external data {location:?} have {} bytes, {} from {offset} on are asked for",
                bytes.len(),
                length.map_or("those".to_owned(), |n| n.to_string())
            ))
        })
    }

    fn open(&self, location: &str) -> Result<Vec<u8>> {
        let mut parts = Path::new(location).components();
        let plain = matches!(
            (parts.next(), parts.next()),
            (Some(Component::Normal(_)), None)
        );
        if !plain || location.contains(['/', '\\']) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "external data {location:?} lie outside the model's folder: put the file beside the model and \
                     export it again"
                ),
            ));
        }
        let path = self.folder.join(location);
        let about = std::fs::symlink_metadata(&path).map_err(|e| Error::io(&path, e))?;
        if !about.is_file() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "external data must be a regular file, not a link or a folder",
            )
            .with_path(&path));
        }
        let held: u64 = self.read.values().map(|bytes| bytes.len() as u64).sum();
        bounded(held.saturating_add(about.len())).map_err(|e| e.with_path(&path))?;
        let file = std::fs::File::open(&path).map_err(|e| Error::io(&path, e))?;
        let mut bytes = Vec::new();
        file.take(MAX_MODEL_BYTES)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::io(&path, e))?;
        Ok(bytes)
    }
}

fn bounded(length: u64) -> Result<()> {
    match length <= MAX_MODEL_BYTES {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::Limit,
            format!(
                "with its external data the model has more than {MAX_MODEL_BYTES} bytes, the most one file may have"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::header::ModelHeader;
    use crate::model::testing::{TINY, tiny_onnx};

    /// The tiny model with its weight in a file, and the file's bytes.
    fn outside(location: &str, offset: &str, length: &str) -> (Vec<u8>, Vec<u8>) {
        let whole = tiny_onnx(TINY);
        let mut data = vec![7; 16];
        let mut out = Vec::new();
        for field in fields(&whole).map(Result::unwrap) {
            if field.number != 7 {
                out.extend_from_slice(&whole[field.start..field.end]);
                continue;
            }
            let (bytes, mut graph) = (field.bytes("graph").unwrap(), Vec::new());
            for field in fields(bytes).map(Result::unwrap) {
                let tensor = field.bytes("a field").unwrap_or_default();
                if field.number != 5 || !tensor.windows(6).any(|w| w == b"weight") {
                    graph.extend_from_slice(&bytes[field.start..field.end]);
                    continue;
                }
                let mut far = Vec::new();
                for field in fields(tensor).map(Result::unwrap) {
                    match field.number {
                        9 => data.extend_from_slice(field.bytes("raw").unwrap()),
                        _ => far.extend_from_slice(&tensor[field.start..field.end]),
                    }
                }
                for (key, value) in [
                    ("location", location),
                    ("offset", offset),
                    ("length", length),
                ] {
                    let mut pair = Vec::new();
                    put_bytes(&mut pair, 1, key.as_bytes());
                    put_bytes(&mut pair, 2, value.as_bytes());
                    put_bytes(&mut far, 13, &pair);
                }
                far.extend([14 << 3, 1]);
                put_bytes(&mut graph, 5, &far);
            }
            put_bytes(&mut out, 7, &graph);
        }
        (out, data)
    }

    #[test]
    fn weights_beside_the_model_come_inside() {
        let folder = tempfile::tempdir().unwrap();
        let (_, data) = outside("far.bin", "16", "0");
        let length = (data.len() - 16).to_string();
        let (model, data) = outside("far.bin", "16", &length);
        std::fs::write(folder.path().join("far.bin"), data).unwrap();
        assert_eq!(ModelHeader::read(&model).unwrap().external, ["weight"]);
        let inside = with_external_data(&model, folder.path()).unwrap();
        let header = ModelHeader::read(&inside).unwrap();
        assert!(header.external.is_empty());
        let whole = ModelHeader::read(&tiny_onnx(TINY)).unwrap();
        assert_eq!(header.parameters(), whole.parameters());
        assert_eq!(header.initializers.len(), whole.initializers.len());
        // A model without external data stays as it is.
        assert_eq!(
            with_external_data(&tiny_onnx(TINY), folder.path()).unwrap(),
            tiny_onnx(TINY)
        );
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("short.bin"), [1, 2, 3]).unwrap();
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        for (location, kind) in [
            ("../far.bin", ErrorKind::Unsupported),
            ("/etc/passwd", ErrorKind::Unsupported),
            ("a/b", ErrorKind::Unsupported),
            ("a\\b", ErrorKind::Unsupported),
            ("..", ErrorKind::Unsupported),
            ("folder", ErrorKind::Unsupported),
            ("missing.bin", ErrorKind::Io),
            ("short.bin", ErrorKind::Model),
        ] {
            let (model, _) = outside(location, "0", "64");
            let error = with_external_data(&model, folder.path()).unwrap_err();
            assert_eq!(error.kind(), kind, "{location}: {error}");
        }
        let (model, _) = outside("short.bin", "-1", "1");
        assert!(with_external_data(&model, folder.path()).is_err());
    }
}
