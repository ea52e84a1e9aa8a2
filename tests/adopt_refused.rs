//! Models that cannot be adopted: each is refused with its kind and a message that names what is wrong, and nothing is
//! written.

use crate::adopt::{icefall, weights};
use acolyte::ErrorKind;
use acolyte::adopt::{Adoption, Convention, Preset, Report, adopt};
use acolyte_tests::toy_onnx::{
    ToyOnnx,
    element::{FLOAT, FLOAT16, INT32},
    random,
};
use acolyte_tests::{acolyte, library};
use std::path::Path;
use std::process::Command;

const TOKENS: &str = "<blk>\n<unk>\na\nb\nc\nd\n";

/// A recognizer of PP-OCR in small: 3 by 48 pixels a column to 5 probabilities, every eighth column.
fn ppocr(output: &[&str], input: (i32, &[&str])) -> ToyOnnx {
    ToyOnnx::default()
        .input("x", input.0, input.1)
        .floats("kernel", &[5, 3, 48, 8], &random(5 * 3 * 48 * 8, 5))
        .ints("axis", &[2])
        .node(
            "Conv",
            &["x", "kernel"],
            "steps",
            Some(("strides", &[48, 8])),
        )
        .node("Squeeze", &["steps", "axis"], "flat", None)
        .node("Transpose", &["flat"], "scores", Some(("perm", &[0, 2, 1])))
        .node("Softmax", &["scores"], "probs", Some(("axis", &[2])))
        .output("probs", FLOAT, output)
        .meta("character", "a\nb\nc")
}

const IMAGE: (i32, &[&str]) = (FLOAT, &["N", "3", "48", "W"]);

/// icefall's toy with another declaration of its input.
fn speech(element: i32, dims: &[&str]) -> ToyOnnx {
    ToyOnnx::default()
        .input("x", element, dims)
        .floats("weight", &[80, 6], weights().as_slice().unwrap())
        .slice("x", 1, (0, i64::MAX, 4), "every.fourth")
        .node("MatMul", &["every.fourth", "weight"], "scores", None)
        .node("LogSoftmax", &["scores"], "log_probs", Some(("axis", &[2])))
        .output("log_probs", FLOAT, &["N", "S", "6"])
        .meta("model_author", "k2-fsa")
        .meta("comment", "ctc")
}

/// What is wrong, the file, how it is to be adopted, the kind of the refusal, and words of its message.
type Case = (
    &'static str,
    Vec<u8>,
    Adoption,
    ErrorKind,
    &'static [&'static str],
);

fn refused(bytes: &[u8], adoption: &Adoption) -> (ErrorKind, String) {
    let mut report = Report::default();
    let error = adopt(&library(), bytes, adoption, &mut report).expect_err("refused");
    (error.kind(), error.to_string())
}

#[test]
fn each_bad_model_is_refused_by_name() {
    let plain = Adoption::default;
    let listed = || Adoption::default().with_tokens(TOKENS);
    let of = |convention| Adoption::of(convention).with_tokens(TOKENS);
    let good = ppocr(&["N", "S", "5"], IMAGE);
    adopt(&library(), &good.bytes(), &plain(), &mut Report::default()).unwrap();
    let nan = ToyOnnx::default()
        .input("x", FLOAT, &["N", "T", "80"])
        .floats("weight", &[80, 6], &[f32::NAN; 480])
        .node("MatMul", &["x", "weight"], "log_probs", None)
        .output("log_probs", FLOAT, &["N", "T", "6"]);
    let unknown =
        speech(FLOAT, &["N", "T", "80"]).node("NoSuchOperator", &["scores"], "never", None);
    let cases: [Case; 22] = [
        (
            "wrong convention",
            good.bytes(),
            of(Convention::NemoCtc),
            ErrorKind::Spec,
            &["nemo-ctc", "ppocr"],
        ),
        (
            "a model of speech as PP-OCR",
            icefall().bytes(),
            of(Convention::Ppocr),
            ErrorKind::Spec,
            &["icefall-ctc"],
        ),
        (
            "a detector",
            ToyOnnx::default()
                .input("x", FLOAT, &["N", "3", "H", "W"])
                .node("Sigmoid", &["x"], "map", None)
                .output("map", FLOAT, &["N", "1", "H", "W"])
                .bytes(),
            of(Convention::Ppocr),
            ErrorKind::Spec,
            &["map", "4 axes", "detector"],
        ),
        (
            "a classifier",
            ToyOnnx::default()
                .input("x", FLOAT, &["N", "3", "48", "W"])
                .node("Sigmoid", &["x"], "turned", None)
                .output("turned", FLOAT, &["N", "2"])
                .bytes(),
            of(Convention::Ppocr),
            ErrorKind::Spec,
            &["turned", "2 axes"],
        ),
        (
            "one character too few",
            ppocr(&["N", "S", "6"], IMAGE).bytes(),
            plain(),
            ErrorKind::Spec,
            &["1 too few"],
        ),
        (
            "one character too many",
            ppocr(&["N", "S", "3"], IMAGE).bytes(),
            plain(),
            ErrorKind::Spec,
            &["too many"],
        ),
        (
            "too few where the graph does not say",
            ppocr(&["N", "S", "V"], IMAGE).bytes(),
            Adoption::default().with_tokens("a\nb\n"),
            ErrorKind::Spec,
            &["probe run", "4 tokens"],
        ),
        (
            "one token too few",
            icefall().bytes(),
            Adoption::default().with_tokens("<blk>\na\nb\nc\nd\n"),
            ErrorKind::Spec,
            &["1 too few"],
        ),
        (
            "one token too many",
            icefall().bytes(),
            Adoption::default().with_tokens(format!("{TOKENS}e\n")),
            ErrorKind::Spec,
            &["1 too many"],
        ),
        (
            "two blanks",
            icefall().bytes(),
            Adoption::default().with_tokens("<blk>\n<blank>\na\nb\nc\nd\n"),
            ErrorKind::Spec,
            &["both look like the blank"],
        ),
        (
            "two blanks in a list of characters",
            good.bytes(),
            Adoption::default().with_tokens("<blank>\na\nb\n"),
            ErrorKind::Spec,
            &["there would be two"],
        ),
        (
            "no tokens",
            icefall().bytes(),
            plain(),
            ErrorKind::Spec,
            &["--tokens"],
        ),
        (
            "a fixed time axis",
            speech(FLOAT, &["N", "100", "80"]).bytes(),
            listed(),
            ErrorKind::Unsupported,
            &["fixed number of frames"],
        ),
        (
            "a fixed batch beyond all reason",
            speech(FLOAT, &["4096", "T", "80"]).bytes(),
            listed(),
            ErrorKind::Spec,
            &["4096", "x"],
        ),
        (
            "float16",
            speech(FLOAT16, &["N", "T", "80"]).bytes(),
            listed(),
            ErrorKind::Unsupported,
            &["x float16", "float32"],
        ),
        (
            "integers",
            speech(INT32, &["N", "T", "80"]).bytes(),
            listed(),
            ErrorKind::Unsupported,
            &["x int32"],
        ),
        (
            "an input nobody knows",
            icefall().input("speed", FLOAT, &["N"]).bytes(),
            listed(),
            ErrorKind::Spec,
            &["speed"],
        ),
        (
            "NaN",
            nan.bytes(),
            of(Convention::IcefallCtc),
            ErrorKind::Inference,
            &["log_probs", "NaN"],
        ),
        (
            "a graph that does not load",
            unknown.bytes(),
            listed(),
            ErrorKind::Model,
            &["NoSuchOperator"],
        ),
        (
            "a text file",
            b"This is no model.".to_vec(),
            plain(),
            ErrorKind::Model,
            &[],
        ),
        (
            "nothing that says whose it is",
            ToyOnnx::default()
                .input("in", FLOAT, &["N", "T", "80"])
                .node("Identity", &["in"], "out", None)
                .output("out", FLOAT, &["N", "T", "80"])
                .bytes(),
            listed(),
            ErrorKind::Spec,
            &["whose export", "ppocr"],
        ),
        (
            "another stride than was said",
            icefall().bytes(),
            listed().with_preset(Preset {
                stride: Some(2),
                ..Preset::default()
            }),
            ErrorKind::Spec,
            &["said to be 2", "shows 4"],
        ),
    ];
    for (what, bytes, adoption, kind, says) in cases {
        let (found, message) = refused(&bytes, &adoption);
        assert_eq!(found, kind, "{what}: {message}");
        for word in says {
            assert!(message.contains(word), "{what}: {message:?} lacks {word:?}");
        }
    }
}

fn run(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(acolyte())
        .current_dir(folder)
        .arg("adopt")
        .args(arguments)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_command_writes_a_model_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    std::fs::write(
        here.join("good.onnx"),
        ppocr(&["N", "S", "5"], IMAGE).bytes(),
    )
    .unwrap();
    std::fs::write(
        here.join("bad.onnx"),
        ppocr(&["N", "S", "9"], IMAGE).bytes(),
    )
    .unwrap();
    let (done, text) = run(here, &["bad.onnx", "-o", "out.onnx"]);
    assert!(!done && text.contains("too few"), "{text}");
    assert_eq!(
        files(here),
        ["bad.onnx", "good.onnx"],
        "nothing half-written"
    );
    let (done, text) = run(here, &["good.onnx", "-o", "good.onnx"]);
    assert!(!done && text.contains("the model itself"), "{text}");

    let (done, text) = run(
        here,
        &[
            "good.onnx",
            "-o",
            "out.onnx",
            "--min-width",
            "160",
            "--license",
            "Apache-2.0",
        ],
    );
    assert!(done, "{text}");
    for line in [
        "found    characters",
        "assumed  blank",
        "given    min_width      160",
        "found    stride",
    ] {
        assert!(text.contains(line), "{text} lacks {line:?}");
    }
    let info = Command::new(acolyte())
        .current_dir(here)
        .args(["info", "out.onnx"])
        .output()
        .unwrap();
    let text = String::from_utf8(info.stdout).unwrap();
    for words in [
        "Apache-2.0",
        "adopted as",
        "ppocr",
        "160 to",
        "good.onnx",
        "assumed",
    ] {
        assert!(text.contains(words), "{text} lacks {words:?}");
    }
    // The spec's hash is that of the original.
    let sum = Command::new("sha256sum")
        .current_dir(here)
        .arg("good.onnx")
        .output();
    if let Ok(sum) = sum {
        let hash = String::from_utf8(sum.stdout).unwrap();
        let hash = hash.split_whitespace().next().unwrap();
        assert!(text.contains(hash), "{text} lacks {hash}");
    }
    let info = Command::new(acolyte())
        .current_dir(here)
        .args(["info", "good.onnx"])
        .output()
        .unwrap();
    assert!(
        String::from_utf8(info.stdout)
            .unwrap()
            .contains("--as ppocr")
    );
}
