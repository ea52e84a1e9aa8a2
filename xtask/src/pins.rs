//! The pinned ONNX Runtime: one wheel a target, both the wheel and the library inside verified by SHA-256.
//!
//! From 1.29 on the official builds contain a telemetry uploader that is on by default; 1.28.0 has none, and its GPU
//! twin is built for CUDA 13 with cuDNN 9. The hashes are of the wheels for CPython 3.12; the library in them does not depend on
//! the Python version.

/// The pinned version.
pub const VERSION: &str = "1.28.0";

/// The Python version whose wheels are pinned.
pub const PYTHON: &str = "3.12";

/// What is fetched for one target.
#[derive(Debug, Clone, Copy)]
pub struct Pin {
    /// Name of the package.
    pub package: &'static str,
    /// Platform tags for the package client, most specific first.
    pub platforms: &'static [&'static str],
    /// SHA-256 of the wheel.
    pub wheel: &'static str,
    /// SHA-256 of the library in it.
    pub library: &'static str,
    /// The library's file name in the wheel and in the folder it is put into.
    pub file: &'static str,
    /// Libraries that it loads from its own folder.
    pub beside: &'static [&'static str],
}

const LINUX_FILE: &str = "libonnxruntime.so.1.28.0";

const GPU_PROVIDERS: [&str; 3] = [
    "libonnxruntime_providers_shared.so",
    "libonnxruntime_providers_cuda.so",
    "libonnxruntime_providers_tensorrt.so",
];

/// The pin for a target, or `None` where there is no wheel.
pub fn pin(os: &str, arch: &str, gpu: bool) -> Option<Pin> {
    let pin = |platforms, wheel, library, file| {
        Some(Pin {
            package: if gpu {
                "onnxruntime-gpu"
            } else {
                "onnxruntime"
            },
            platforms,
            wheel,
            library,
            file,
            beside: if gpu { &GPU_PROVIDERS } else { &[] },
        })
    };
    match (os, arch, gpu) {
        ("linux", "x86_64", false) => pin(
            &["manylinux_2_28_x86_64", "manylinux_2_27_x86_64"],
            "0a83bdb70d143cede762b677789bf2a7acca54b3fb82565601d5c30695aa933c",
            "aa4079d18f4ea7a5f3a94d80cd4bbe0f2740436626622d64d793803a20381083",
            LINUX_FILE,
        ),
        ("linux", "x86_64", true) => pin(
            &["manylinux_2_28_x86_64", "manylinux_2_27_x86_64"],
            "3b3a63cecd239d72432cd44569d047de8f4d69e471cd5f60f7ac7fc8769be5ec",
            "018d05f615e96f6e0cfb95d2865f63915681d5d2688dd187f599822b245d27bc",
            LINUX_FILE,
        ),
        ("linux", "aarch64", false) => pin(
            &["manylinux_2_28_aarch64", "manylinux_2_27_aarch64"],
            "4e81a23df16e7acb9d51b06d30cc098e49315ef9180f97bc2221d167b4b04d9c",
            "23a37c2994bc273e1d59a4f49af6cba5bf1cfbc29f04907ec27df375aba50a7d",
            LINUX_FILE,
        ),
        ("macos", "aarch64", false) => pin(
            &["macosx_14_0_arm64"],
            "26ff0fdd06efb6c155bae95387a09db1a2be89c7a03e4d0bffd5a171cc2826da",
            "cadd9517e089d197e5d381bc31813875eb8addce8712bac501645fea8008800c",
            "libonnxruntime.1.28.0.dylib",
        ),
        ("windows", "x86_64", false) => pin(
            &["win_amd64"],
            "c35064f9b3c43c81c5d5d282091401d0f1ff22796d93ccade4ea2ece5e137ab8",
            "3d6bd02dc137b9a1dfdac045a52b147ffb920bb06ab812b08fc8e14279859855",
            "onnxruntime.dll",
        ),
        ("windows", "aarch64", false) => pin(
            &["win_arm64"],
            "e02feeb0165c5f13b4cc954738078d59b90128516ac12b671ee24a530242bf02",
            "e651433cfe465292e80abf7b9624c181a749cd4f34e1770e34f18fa0196bba3e",
            "onnxruntime.dll",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pin_has_whole_hashes_and_its_version_in_the_name() {
        let targets = [
            ("linux", "x86_64", false),
            ("linux", "x86_64", true),
            ("linux", "aarch64", false),
            ("macos", "aarch64", false),
            ("windows", "x86_64", false),
            ("windows", "aarch64", false),
        ];
        let mut seen = std::collections::HashSet::new();
        for (os, arch, gpu) in targets {
            let pin = pin(os, arch, gpu).unwrap();
            for hash in [pin.wheel, pin.library] {
                assert_eq!(hash.len(), 64);
                assert!(
                    hash.bytes()
                        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
                );
                assert!(seen.insert(hash), "{hash} is pinned twice");
            }
            // Windows names libraries without a version.
            assert!(pin.file.contains(VERSION) || os == "windows");
        }
        assert!(pin("macos", "x86_64", false).is_none());
        assert!(pin("linux", "aarch64", true).is_none());
    }
}
