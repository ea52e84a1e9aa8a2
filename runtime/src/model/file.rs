//! A model file that was read and checked, before any engine has seen it.

use super::header::ModelHeader;
use crate::spec::ModelSpec;
use crate::{Error, ErrorKind, Result};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// Largest model file that is read: protobuf's own limit of 2 GiB.
pub const MAX_MODEL_BYTES: u64 = (1 << 31) - 1;

/// An ONNX file's bytes with its header and its verified spec. Cloning shares the bytes.
#[derive(Debug, Clone)]
pub struct ModelFile {
    bytes: Arc<[u8]>,
    header: ModelHeader,
    spec: ModelSpec,
}

impl ModelFile {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if it cannot be read, [`ErrorKind::Limit`] above [`MAX_MODEL_BYTES`], and as
    /// [`from_bytes`](Self::from_bytes); all name the path.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = read_bytes(path)?;
        Self::from_bytes(bytes).map_err(|e| e.with_path(path))
    }

    /// Checks a model held in memory.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] if the bytes are no ONNX file or were cut or altered since they were exported;
    /// [`ErrorKind::Spec`], [`ErrorKind::SpecVersion`] and [`ErrorKind::Unsupported`] as
    /// [`ModelSpec::read`] and [`ModelSpec::check`].
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Result<Self> {
        let bytes = bytes.into();
        let header = ModelHeader::read(&bytes)?;
        let spec = ModelSpec::read(&bytes)?;
        spec.check(&header)?;
        Ok(Self {
            bytes,
            header,
            spec,
        })
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What the graph says about itself.
    pub fn header(&self) -> &ModelHeader {
        &self.header
    }

    /// What the model says about itself.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }
}

/// The bytes of the file at `path`, which may be no model at all.
///
/// # Errors
/// [`ErrorKind::Io`] if it cannot be read, [`ErrorKind::Limit`] above [`MAX_MODEL_BYTES`].
pub fn read_bytes(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    let path = path.as_ref();
    let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    let too_large = || {
        Error::new(
            ErrorKind::Limit,
            format!(
                "the file is larger than {MAX_MODEL_BYTES} bytes, the most an ONNX model can have"
            ),
        )
        .with_path(path)
    };
    let length = file.metadata().map_err(|e| Error::io(path, e))?.len();
    if length > MAX_MODEL_BYTES {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    // The length is taken while reading: a device or a growing file has none that could be trusted.
    let mut bounded = file.take(MAX_MODEL_BYTES + 1);
    bounded
        .read_to_end(&mut bytes)
        .map_err(|e| Error::io(path, e))?;
    if bytes.len() as u64 > MAX_MODEL_BYTES {
        return Err(too_large());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{TINY, tiny_onnx, tiny_spec};

    #[test]
    fn a_file_is_read_and_errors_name_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.onnx");
        let missing = ModelFile::open(&path).unwrap_err();
        assert_eq!(
            (missing.kind(), missing.path()),
            (ErrorKind::Io, Some(&*path))
        );
        let stamped = tiny_spec(TINY).stamp(&tiny_onnx(TINY)).unwrap();
        std::fs::write(&path, &stamped).unwrap();
        let file = ModelFile::open(&path).unwrap();
        assert_eq!((file.bytes(), file.spec().stride), (&stamped[..], 2));
        for (bytes, kind) in [
            (&stamped[..stamped.len() / 2], ErrorKind::Model),
            (b"", ErrorKind::Model),
            (b"a text file", ErrorKind::Model),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let error = ModelFile::open(&path).unwrap_err();
            assert_eq!((error.kind(), error.path()), (kind, Some(&*path)));
        }
    }

    #[test]
    fn a_file_above_the_limit_is_refused_unread() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("huge.onnx");
        // Sparse: it takes no room on the disk.
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(MAX_MODEL_BYTES + 1).unwrap();
        let error = ModelFile::open(&path).unwrap_err();
        assert_eq!(
            (error.kind(), error.path()),
            (ErrorKind::Limit, Some(&*path))
        );
    }

    #[test]
    fn a_spec_that_does_not_fit_is_refused_before_any_run() {
        let mut spec = tiny_spec(TINY);
        spec.tokens.pieces.truncate(5);
        let bytes = spec.stamp_unchecked(&tiny_onnx(TINY)).unwrap();
        let error = ModelFile::from_bytes(bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Spec);
        assert!(error.to_string().contains("too short"), "{error}");
    }
}
