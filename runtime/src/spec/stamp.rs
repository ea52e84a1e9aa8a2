//! Writing a spec into an ONNX file and taking it out again, sealed so that no byte can change unnoticed.
//!
//! The spec is one `metadata_props` field (number 14 of `ModelProto`) appended to the file's bytes: protobuf
//! allows repeated fields in any place, so the graph's bytes stay as they are. Its value is the spec's JSON
//! object plus a last key `seal`. Two digests hold the file together: `sha256` is that of the file's bytes
//! without the spec entry, and `seal` that of the JSON text without the seal's own digits.

use super::{ModelSpec, SPEC_KEY, SPEC_VERSION};
use crate::model::header::ModelHeader;
use crate::model::walk::entry;
use crate::model::wire::{fields, malformed, put_bytes};
use crate::{Error, ErrorKind, Result};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::ops::Range;

/// Field number of `ModelProto.metadata_props`.
const METADATA_PROPS: u64 = 14;
/// Longest JSON text of a spec; 20,000 pieces take a few hundred kilobytes.
const MAX_SPEC: usize = 16 << 20;
/// What stands between the spec's JSON and the seal's 64 digits, and after them.
const SEAL: (&str, &str) = (",\"seal\":\"", "\"}");

impl ModelSpec {
    /// The model in `model` with this spec stamped in, in place of an older one; `sha256` and `version` are
    /// filled in.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] if `model` is no ONNX file; [`ErrorKind::Spec`] if the spec contradicts itself or
    /// the graph (see [`ModelSpec::check`]).
    pub fn stamp(&self, model: &[u8]) -> Result<Vec<u8>> {
        let spec = Self {
            version: SPEC_VERSION,
            ..self.clone()
        };
        spec.check(&ModelHeader::read(model)?)?;
        spec.stamp_unchecked(model)
    }

    /// [`stamp`](Self::stamp) without the checks and with the spec's own version: how tests make the files
    /// that must be refused.
    #[doc(hidden)]
    pub fn stamp_unchecked(&self, model: &[u8]) -> Result<Vec<u8>> {
        let old = entries(model)?;
        let mut out = Vec::with_capacity(model.len() + 4096);
        let mut kept = 0;
        for range in &old {
            out.extend_from_slice(&model[kept..range.start]);
            kept = range.end;
        }
        out.extend_from_slice(&model[kept..]);
        let spec = Self {
            sha256: hex(&Sha256::digest(&out)),
            ..self.clone()
        };
        let json = serde_json::to_string(&spec)
            .map_err(|e| Error::new(ErrorKind::Spec, "the spec is no JSON").with_source(e))?;
        let open = json.strip_suffix('}').unwrap_or(&json);
        let value = format!("{open}{}{}{}", SEAL.0, seal(open), SEAL.1);
        if value.len() > MAX_SPEC {
            return Err(too_long(value.len()));
        }
        let mut pair = Vec::new();
        put_bytes(&mut pair, 1, SPEC_KEY.as_bytes());
        put_bytes(&mut pair, 2, value.as_bytes());
        put_bytes(&mut out, METADATA_PROPS, &pair);
        Ok(out)
    }

    /// The spec in the ONNX file `model`, after both digests were verified.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] if the bytes are no ONNX file, or were cut or altered since they were stamped;
    /// [`ErrorKind::Spec`] if there is no spec or it does not parse; [`ErrorKind::SpecVersion`] if it was
    /// written by a newer version.
    pub fn read(model: &[u8]) -> Result<Self> {
        let found = entries(model)?;
        let range = match found.as_slice() {
            [] => {
                return Err(Error::new(
                    ErrorKind::Spec,
                    format!(
                        "the model has no spec (metadata key {SPEC_KEY:?}): it was not exported by \
                         acolyte-train, or it is cut; export it again, or stamp a spec into it"
                    ),
                ));
            }
            [one] => one.clone(),
            more => {
                return Err(malformed(format!(
                    "the model has {} specs where one is expected: stamp it again",
                    more.len()
                )));
            }
        };
        let text = value(&model[range.clone()])?;
        let (open, digits) = parts(text)?;
        if seal(open) != digits {
            return Err(altered("the spec's seal does not match its text"));
        }
        let spec: Self = serde_json::from_str(&format!("{open}}}"))
            .map_err(|e| Error::new(ErrorKind::Spec, format!("the spec: {e}")).with_source(e))?;
        let mut digest = Sha256::new();
        digest.update(&model[..range.start]);
        digest.update(&model[range.end..]);
        if hex(&digest.finalize()) != spec.sha256 {
            return Err(altered("the graph's bytes do not match the spec's sha256"));
        }
        Ok(spec)
    }
}

/// The byte ranges of the file's spec entries.
fn entries(model: &[u8]) -> Result<Vec<Range<usize>>> {
    let mut found = Vec::new();
    for field in fields(model) {
        let field = field?;
        if field.number == METADATA_PROPS && entry(field.bytes("metadata_props")?)?.0 == SPEC_KEY {
            found.push(field.start..field.end);
        }
    }
    Ok(found)
}

/// The JSON text of a spec entry, which must hold a key, a value and nothing else.
fn value(entry: &[u8]) -> Result<&str> {
    let mut outer = fields(entry);
    let pair = outer.next().ok_or_else(|| malformed("an empty entry"))??;
    let inner: Vec<_> = fields(pair.bytes("metadata_props")?).collect::<Result<_>>()?;
    match inner.as_slice() {
        [key, value] if key.number == 1 && value.number == 2 => {
            let text = value.text("the spec")?;
            if text.len() > MAX_SPEC {
                return Err(too_long(text.len()));
            }
            Ok(text)
        }
        _ => Err(altered("the spec's entry is not one key and one value")),
    }
}

/// The JSON text before the seal and the seal's digits. A newer version may be sealed otherwise, so the
/// version is looked at first.
fn parts(text: &str) -> Result<(&str, &str)> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u64,
    }
    let versioned: Versioned = serde_json::from_str(text)
        .map_err(|e| Error::new(ErrorKind::Spec, format!("the spec: {e}")).with_source(e))?;
    if versioned.version > u64::from(SPEC_VERSION) {
        return Err(Error::new(
            ErrorKind::SpecVersion,
            format!(
                "the model's spec has version {}, this build reads up to {SPEC_VERSION}: update acolyte, or \
                 export the model again with this version",
                versioned.version
            ),
        ));
    }
    let parts = text.strip_suffix(SEAL.1).and_then(|text| {
        let (rest, digits) = text.split_at_checked(text.len().checked_sub(64)?)?;
        Some((rest.strip_suffix(SEAL.0)?, digits))
    });
    parts.ok_or_else(|| altered("the spec has no seal"))
}

fn seal(open: &str) -> String {
    hex(&Sha256::digest(format!("{open}{}{}", SEAL.0, SEAL.1)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn altered(what: &str) -> Error {
    malformed(format!(
        "{what}: the file was cut or altered after it was exported; copy or export it again"
    ))
}

fn too_long(length: usize) -> Error {
    Error::new(
        ErrorKind::Limit,
        format!("the spec takes {length} bytes, at most {MAX_SPEC} are read"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{TINY, tiny_onnx, tiny_spec};
    use proptest::prelude::*;

    #[test]
    fn a_stamped_spec_comes_back() {
        let model = tiny_onnx(TINY);
        let spec = tiny_spec(TINY);
        let stamped = spec.stamp(&model).unwrap();
        assert_eq!(&stamped[..model.len()], &model[..]);
        let back = ModelSpec::read(&stamped).unwrap();
        let sha256 = hex(&Sha256::digest(&model));
        assert_eq!(back, ModelSpec { sha256, ..spec });
    }

    #[test]
    fn stamping_again_replaces_the_old_spec() {
        let model = tiny_onnx(TINY);
        let mut spec = tiny_spec(TINY);
        let first = spec.stamp(&model).unwrap();
        spec.name = "another".into();
        let second = spec.stamp(&first).unwrap();
        assert_eq!(second, spec.stamp(&model).unwrap());
        assert_eq!(ModelSpec::read(&second).unwrap().name, "another");
    }

    #[test]
    fn a_missing_or_newer_spec_has_its_own_kind() {
        let model = tiny_onnx(TINY);
        let error = ModelSpec::read(&model).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Spec);
        assert!(error.to_string().contains("no spec"), "{error}");
        let newer = ModelSpec {
            version: SPEC_VERSION + 1,
            ..tiny_spec(TINY)
        };
        let error = ModelSpec::read(&newer.stamp_unchecked(&model).unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SpecVersion);
    }

    #[test]
    fn a_file_cut_anywhere_is_refused() {
        let stamped = tiny_spec(TINY).stamp(&tiny_onnx(TINY)).unwrap();
        for end in 0..stamped.len() {
            let error = ModelSpec::read(&stamped[..end]).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Model | ErrorKind::Spec));
        }
    }

    proptest! {
        #[test]
        fn a_file_altered_by_one_byte_is_refused(at: prop::sample::Index, flip in 1u8..) {
            let mut stamped = tiny_spec(TINY).stamp(&tiny_onnx(TINY)).unwrap();
            let at = at.index(stamped.len());
            stamped[at] ^= flip;
            prop_assert!(ModelSpec::read(&stamped).is_err());
        }

        #[test]
        fn a_file_with_a_byte_lost_or_added_is_refused(at: prop::sample::Index, byte: Option<u8>) {
            let mut stamped = tiny_spec(TINY).stamp(&tiny_onnx(TINY)).unwrap();
            let at = at.index(stamped.len());
            match byte {
                Some(byte) => stamped.insert(at, byte),
                None => drop(stamped.remove(at)),
            }
            prop_assert!(ModelSpec::read(&stamped).is_err());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            prop_assert!(ModelSpec::read(&bytes).is_err());
        }
    }
}
