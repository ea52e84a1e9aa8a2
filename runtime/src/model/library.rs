//! The ONNX Runtime library: found, looked at, and loaded once for the whole process.
//!
//! Loading code is the one step nothing can undo, so everything that can be known before is checked before:
//! the path is a regular file that was named or found in a known place (never a bare name for the operating
//! system's loader, which could find an old or planted copy), and the file holds no telemetry uploader. From
//! 1.29 on the official builds for Linux, macOS, Android and iOS have one, which is on by default and may send
//! a first event before any call can stop it. Telemetry calls are switched off for every library besides.

use crate::{Error, ErrorKind, Result};
use ort::environment::{Environment, EnvironmentBuilder};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

#[cfg(feature = "load-dynamic")]
use super::search;

/// What to do with a library that holds a telemetry uploader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum TelemetryUploader {
    /// Refuse it, unless the environment variable `ORT_DISABLE_TELEMETRY` is `1`, which keeps the uploader
    /// from being created.
    #[default]
    Refuse,
    /// Load it: the caller knows that it may have sent an event before it is switched off.
    Allow,
}

/// How a library is loaded.
#[derive(Debug, Clone, Default)]
pub struct LibraryOptions {
    /// What to do with a library that holds a telemetry uploader.
    pub uploader: TelemetryUploader,
}

impl LibraryOptions {
    /// The same options with another answer to a telemetry uploader.
    #[must_use]
    pub fn with_uploader(mut self, uploader: TelemetryUploader) -> Self {
        self.uploader = uploader;
        self
    }
}

/// A loaded ONNX Runtime. Clones are one library; it stays loaded until the process ends, and a process has
/// at most one.
#[derive(Clone)]
pub struct Library {
    loaded: Arc<Loaded>,
}

struct Loaded {
    path: PathBuf,
    environment: Environment,
}

/// What this process has loaded.
enum Process {
    Nothing,
    Library(Arc<Loaded>),
    /// Loaded but of no use; it cannot be unloaded.
    Spoiled(PathBuf),
}

static PROCESS: Mutex<Process> = Mutex::new(Process::Nothing);

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Library")
            .field("path", &self.loaded.path)
            .finish_non_exhaustive()
    }
}

impl Library {
    /// Loads the library at `path`; loading the same file again gives the same library.
    ///
    /// # Errors
    /// [`ErrorKind::Library`] if there is no such file, it is no ONNX Runtime, it is too old, it holds a
    /// telemetry uploader, or the process has loaded another one.
    #[cfg(feature = "load-dynamic")]
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::load_with(path, &LibraryOptions::default())
    }

    /// [`load`](Self::load) with options.
    ///
    /// # Errors
    /// As `load`.
    #[cfg(feature = "load-dynamic")]
    pub fn load_with(path: impl AsRef<Path>, options: &LibraryOptions) -> Result<Self> {
        let path = search::library_file(path.as_ref())?;
        let uploader_off = || std::env::var_os("ORT_DISABLE_TELEMETRY").is_some_and(|v| v == "1");
        if options.uploader == TelemetryUploader::Refuse
            && !uploader_off()
            && search::holds_uploader(&path)?
        {
            return Err(refused(
                &path,
                "this build of ONNX Runtime contains a telemetry uploader: use 1.28.0, which has none (`cargo \
                 xtask setup`), set ORT_DISABLE_TELEMETRY=1, or allow it with `TelemetryUploader::Allow`",
            ));
        }
        Self::claim(&path, || {
            ort::init_from(&path).map_err(|e| {
                let message = match &e {
                    ort::LoadDynamicError::BadVersion { version_str, .. } => format!(
                        "ONNX Runtime {version_str} is too old, 1.{} or newer is needed: run `cargo xtask setup`",
                        ort::MINOR_VERSION
                    ),
                    ort::LoadDynamicError::MissingApi { .. } => {
                        "a library, but not ONNX Runtime: it has no OrtGetApiBase".to_owned()
                    }
                    ort::LoadDynamicError::Dlopen { error, .. } => {
                        // The loader's own words ("invalid ELF header") are the cause below ort's.
                        let cause = std::error::Error::source(error);
                        let cause = cause.map_or_else(|| error.to_string(), ToString::to_string);
                        format!("not a library that can be loaded here: {cause}")
                    }
                    _ => e.to_string(),
                };
                refused(&path, message).with_source(e)
            })
        })
    }

    /// Finds and loads the library: the file named by the environment variable `ORT_DYLIB_PATH`; the folder
    /// named by `ONNXRUNTIME_DIR`; the folder of the running executable; a folder `.onnxruntime` beside the
    /// executable or the working directory, or beside a folder above either.
    ///
    /// # Errors
    /// [`ErrorKind::Library`] if there is none, saying how to get it, and as [`load`](Self::load).
    #[cfg(feature = "load-dynamic")]
    pub fn find() -> Result<Self> {
        Self::load(search::find()?)
    }

    /// The ONNX Runtime this program was linked with.
    ///
    /// # Errors
    /// [`ErrorKind::Library`] if its environment cannot be made. Nothing can be looked at before: whoever
    /// links a library chooses one without a telemetry uploader.
    #[cfg(not(feature = "load-dynamic"))]
    pub fn linked() -> Result<Self> {
        Self::claim(Path::new("the linked ONNX Runtime"), || Ok(ort::init()))
    }

    /// Makes the process's library by `open`, or gives back the one that is there if it has the same path.
    fn claim(path: &Path, open: impl FnOnce() -> Result<EnvironmentBuilder>) -> Result<Self> {
        let mut process = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
        match &*process {
            Process::Library(loaded) if loaded.path == path => {
                return Ok(Self {
                    loaded: loaded.clone(),
                });
            }
            Process::Library(loaded) => {
                let other = loaded.path.display();
                return Err(refused(
                    path,
                    format!("this process has loaded {other}, and can hold only one ONNX Runtime"),
                ));
            }
            Process::Spoiled(other) => {
                let other = other.display();
                return Err(refused(
                    path,
                    format!("this process has loaded {other}, which is of no use: start anew"),
                ));
            }
            Process::Nothing => {}
        }
        // ort asserts where a library breaks its own promises (no API for the version it claims).
        let broken = |_| refused(path, "not ONNX Runtime: it gives no interface");
        let builder = catch_unwind(AssertUnwindSafe(open)).map_err(broken)??;
        *process = Process::Spoiled(path.to_owned());
        let build = || builder.with_name("acolyte").with_telemetry(false).build();
        let environment = catch_unwind(AssertUnwindSafe(build))
            .map_err(broken)?
            .map_err(|e| refused(path, format!("its environment: {e}")).with_source(e))?;
        // Failures come back as errors; a library does not write to its user's standard error beside them.
        if std::env::var_os("ORT_LOG").is_none() {
            environment.set_log_level(ort::logging::LogLevel::Fatal);
        }
        let loaded = Arc::new(Loaded {
            path: path.to_owned(),
            environment,
        });
        *process = Process::Library(loaded.clone());
        Ok(Self { loaded })
    }

    /// The file it was loaded from, symbolic links resolved.
    pub fn path(&self) -> &Path {
        &self.loaded.path
    }

    /// What the library says about how it was built.
    pub fn build_info(&self) -> String {
        // ort asserts that the text is UTF-8.
        catch_unwind(ort::info).unwrap_or_default().to_owned()
    }

    /// The process's one environment. Hidden because its type is that of a pre-release crate; the trainer,
    /// which is built with the same one, runs its own sessions in it.
    #[doc(hidden)]
    pub fn environment(&self) -> &Environment {
        &self.loaded.environment
    }
}

fn refused(path: &Path, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Library, message).with_path(path)
}

#[cfg(test)]
#[cfg(feature = "load-dynamic")]
mod tests {
    use super::*;
    use std::process::Command;

    /// A library that has ONNX Runtime's entry point and claims `version`, or gives nothing at all.
    fn imitation(folder: &Path, version: Option<&str>) -> PathBuf {
        let base = match version {
            Some(version) => {
                format!("&Base(api, version); const VERSION: &str = \"{version}\\0\";")
            }
            None => "std::ptr::null(); const VERSION: &str = \"\\0\";".to_owned(),
        };
        let source = format!(
            "#[repr(C)] pub struct Base(extern \"system\" fn(u32) -> usize, extern \"system\" fn() -> *const u8);
             extern \"system\" fn api(_: u32) -> usize {{ 0 }}
             extern \"system\" fn version() -> *const u8 {{ VERSION.as_ptr() }}
             #[allow(unused)] fn keep() {{ api(0); version(); }}
             #[unsafe(no_mangle)] pub extern \"system\" fn OrtGetApiBase() -> *const Base {{ BASE }}
             const BASE: *const Base = {base}"
        );
        let path = folder.join("imitation.rs");
        std::fs::write(&path, source).unwrap();
        let library = folder.join("imitation.so");
        let compiler = Path::new(env!("CARGO")).with_file_name("rustc");
        let done = Command::new(compiler)
            .args(["--edition=2024", "--crate-type=cdylib", "-o"])
            .args([&library, &path])
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        library
    }

    fn error(path: &Path) -> String {
        let error = Library::load(path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Library);
        assert!(error.path().is_some());
        error.to_string()
    }

    /// A process has one library, and other tests load it: this one runs in a process of its own.
    #[test]
    fn what_is_no_usable_library_is_refused_and_the_right_one_still_loads() {
        const ALONE: &str = "ACOLYTE_TEST_ALONE";
        if std::env::var_os(ALONE).is_none() {
            let name = std::thread::current().name().unwrap().to_owned();
            let child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", &name])
                .env(ALONE, "1")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&child.stdout);
            assert!(
                child.status.success() && said.contains("1 passed"),
                "{said}"
            );
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("libonnxruntime.so");
        assert!(error(&text).contains("cargo xtask setup"));
        std::fs::write(&text, "a text file").unwrap();
        assert!(error(&text).contains("not a library"));
        let old = imitation(folder.path(), Some("1.20.1"));
        assert!(error(&old).contains("1.20.1 is too old, 1.24 or newer"));
        let empty = imitation(folder.path(), None);
        assert!(error(&empty).contains("gives no interface"));
        #[cfg(target_os = "linux")]
        {
            let other = imitation(folder.path(), Some("1.28.0"));
            let mut bytes = std::fs::read(&other).unwrap();
            let name = b"OrtGetApiBase";
            while let Some(at) = bytes.windows(name.len()).position(|w| w == name) {
                bytes[at] = b'X';
            }
            std::fs::write(&text, bytes).unwrap();
            assert!(error(&text).contains("no OrtGetApiBase"));
        }

        let library = Library::find().unwrap();
        assert!(library.build_info().contains("ORT Build Info"));
        assert_eq!(
            Library::load(library.path()).unwrap().path(),
            library.path()
        );
        assert!(error(&old).contains("can hold only one ONNX Runtime"));
    }

    #[test]
    fn a_library_with_a_telemetry_uploader_is_refused_unless_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libonnxruntime.so");
        std::fs::write(
            &path,
            "some code, then https://host/OneCollector/1.0/, and more",
        )
        .unwrap();
        assert!(error(&path).contains("telemetry uploader"));
        let allowed = LibraryOptions::default().with_uploader(TelemetryUploader::Allow);
        let error = Library::load_with(&path, &allowed).unwrap_err().to_string();
        assert!(!error.contains("telemetry"), "{error}");
    }
}
