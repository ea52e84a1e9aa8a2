//! Where the ONNX Runtime library is looked for, and what can be known of a file before it is loaded.

use crate::{Error, ErrorKind, Result};
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The folder `cargo xtask setup` fills.
const FOLDER: &str = ".onnxruntime";

/// A string that every build with the uploader contains: the path of the collector it sends to.
const UPLOADER: &[u8] = b"OneCollector/1.0";

/// What to do where there is no library.
const REMEDY: &str = "run `cargo xtask setup` in the repository, or set ORT_DYLIB_PATH to the file of an ONNX \
                      Runtime library (1.24 or newer)";

/// The absolute path of the library file at `path`, symbolic links resolved.
pub(super) fn library_file(path: &Path) -> Result<PathBuf> {
    let missing = |message: String| Error::new(ErrorKind::Library, message).with_path(path);
    let real = std::fs::canonicalize(path)
        .map_err(|e| missing(format!("no ONNX Runtime library: {e}; {REMEDY}")).with_source(e))?;
    match real.metadata() {
        Ok(data) if data.is_file() => Ok(real),
        _ => Err(missing(format!("not a file; {REMEDY}"))),
    }
}

/// Whether the library at `path` contains the telemetry uploader.
pub(super) fn holds_uploader(path: &Path) -> Result<bool> {
    let finder = memchr::memmem::Finder::new(UPLOADER);
    let mut file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    // The end of one block is kept in front of the next, so that a string across the border is seen.
    let mut block = vec![0; 1 << 18];
    let mut kept = 0;
    loop {
        let read = file
            .read(&mut block[kept..])
            .map_err(|e| Error::io(path, e))?;
        if read == 0 {
            return Ok(false);
        }
        let held = kept + read;
        if finder.find(&block[..held]).is_some() {
            return Ok(true);
        }
        kept = held.min(UPLOADER.len() - 1);
        block.copy_within(held - kept..held, 0);
    }
}

/// The first library in the places [`super::Library::find`] names.
pub(super) fn find() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(path) = variable("ORT_DYLIB_PATH") {
        return Ok(path.into());
    }
    let mut folders: Vec<PathBuf> = variable("ONNXRUNTIME_DIR")
        .map(Into::into)
        .into_iter()
        .collect();
    let executable = std::env::current_exe().and_then(std::fs::canonicalize).ok();
    let beside = executable.as_deref().and_then(Path::parent);
    folders.extend(beside.map(Path::to_owned));
    folders.extend(upward(beside));
    folders.extend(upward(std::env::current_dir().ok().as_deref()));
    let found = folders.iter().find_map(|folder| library_in(folder));
    found.ok_or_else(|| {
        Error::new(
            ErrorKind::Library,
            format!("no ONNX Runtime library was found: {REMEDY}"),
        )
    })
}

/// The folders `.onnxruntime` beside `from` and everything above it.
fn upward(from: Option<&Path>) -> Vec<PathBuf> {
    let above = from.into_iter().flat_map(Path::ancestors);
    above.map(|folder| folder.join(FOLDER)).collect()
}

/// The library in `folder`; of several versions the newest.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let named = files.filter_map(|path| Some((version(path.file_name()?)?, path)));
    named
        .filter(|(_, path)| path.is_file())
        .max()
        .map(|(_, path)| path)
}

/// The version in a file name of this platform's libraries, empty where the name has none: `None` for other
/// files, the provider libraries beside it among them.
fn version(name: &OsStr) -> Option<Vec<u32>> {
    let name = name.to_str()?;
    let middle = if cfg!(windows) {
        name.strip_prefix("onnxruntime")?.strip_suffix(".dll")?
    } else if cfg!(target_vendor = "apple") {
        name.strip_prefix("libonnxruntime")?
            .strip_suffix(".dylib")?
    } else {
        name.strip_prefix("libonnxruntime.so")?
    };
    match middle.strip_prefix('.') {
        Some(numbers) => numbers.split('.').map(|n| n.parse().ok()).collect(),
        None => middle.is_empty().then(Vec::new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_versions_the_newest_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let names = |version: &str| match (cfg!(windows), cfg!(target_vendor = "apple")) {
            (true, _) => format!("onnxruntime.{version}.dll"),
            (_, true) => format!("libonnxruntime.{version}.dylib"),
            _ => format!("libonnxruntime.so.{version}"),
        };
        assert_eq!(library_in(folder.path()), None);
        for name in [
            "libonnxruntime_providers_cuda.so",
            "libonnxruntime.so.txt",
            "readme",
        ] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(library_in(folder.path()), None);
        for version in ["1.9.0", "1.28.0", "1.27.3"] {
            std::fs::write(folder.path().join(names(version)), "").unwrap();
        }
        let newest = folder.path().join(names("1.28.0"));
        assert_eq!(library_in(folder.path()), Some(newest));
    }

    #[test]
    fn a_missing_library_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        for path in [
            folder.path().join("libonnxruntime.so"),
            folder.path().to_owned(),
        ] {
            let error = library_file(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Library);
            assert!(error.to_string().contains("cargo xtask setup"), "{error}");
        }
    }

    #[test]
    fn the_uploader_is_seen_anywhere_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("library");
        for at in [0, 100, (1 << 18) - 8, (1 << 18) - 1, 1 << 18, 600_000] {
            let mut bytes = vec![7u8; 700_000];
            std::fs::write(&path, &bytes).unwrap();
            assert!(!holds_uploader(&path).unwrap());
            bytes[at..at + UPLOADER.len()].copy_from_slice(UPLOADER);
            std::fs::write(&path, &bytes).unwrap();
            assert!(holds_uploader(&path).unwrap(), "at {at}");
        }
    }
}
