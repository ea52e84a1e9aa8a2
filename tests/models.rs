//! The shipped models, and what becomes of damaged or contradictory ones.

use acolyte::audio::Audio;
use acolyte::metrics::{ErrorCounts, char_errors};
use acolyte::model::ModelFile;
use acolyte::spec::{ModelSpec, Role, SPEC_VERSION};
use acolyte::{Decoding, ErrorKind, Image, SpeechRecognizer, TextRecognizer};
use acolyte_tests::{library, sample, scene_tiny, speech_tiny};

#[test]
fn the_shipped_model_reads_the_sample_words() {
    let reader = TextRecognizer::builder(&library())
        .open(scene_tiny())
        .unwrap();
    assert_eq!(reader.spec().role, Role::Student);
    let manifest = std::fs::read_to_string(sample("words.jsonl")).unwrap();
    for line in manifest.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let image = Image::open(sample(row["image"].as_str().unwrap())).unwrap();
        let read = reader.recognize(image.view(), &Decoding::greedy()).unwrap();
        assert_eq!(read.text, row["text"].as_str().unwrap());
    }
}

fn open(bytes: Vec<u8>) -> acolyte::Result<SpeechRecognizer> {
    SpeechRecognizer::builder(&library()).from_bytes(bytes)
}

/// The shipped model with its spec changed.
fn with_spec(change: impl FnOnce(&mut ModelSpec)) -> Vec<u8> {
    let bytes = std::fs::read(speech_tiny()).unwrap();
    let mut spec = ModelSpec::read(&bytes).unwrap();
    change(&mut spec);
    spec.stamp_unchecked(&bytes).unwrap()
}

fn kind(bytes: Vec<u8>) -> ErrorKind {
    match open(bytes) {
        Ok(_) => panic!("the model should have been refused"),
        Err(error) => error.kind(),
    }
}

/// Character error rate that the samples may have: they are synthetic voices, which the model never heard.
const SAMPLES_CER: f64 = 0.25;

#[test]
fn the_shipped_model_hears_the_samples() {
    let recognizer = SpeechRecognizer::builder(&library())
        .open(speech_tiny())
        .unwrap();
    let manifest = std::fs::read_to_string(sample("samples.jsonl")).unwrap();
    let mut errors = ErrorCounts::default();
    for line in manifest.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let file = row["audio_filepath"].as_str().unwrap();
        let heard = recognizer
            .recognize(&Audio::open(sample(file)).unwrap(), &Decoding::greedy())
            .unwrap();
        errors += char_errors(row["text"].as_str().unwrap(), &heard.text);
    }
    assert!(
        errors.rate() <= SAMPLES_CER,
        "{} of {} characters wrong",
        errors.edits(),
        errors.reference
    );
}

#[test]
fn a_model_cut_anywhere_is_refused() {
    let bytes = std::fs::read(speech_tiny()).unwrap();
    for part in [0, 1, 10, 100, 5_000, 9_000, 9_990, 9_999] {
        let cut = bytes.len() * part / 10_000;
        let kind = kind(bytes[..cut].to_vec());
        assert!(
            matches!(kind, ErrorKind::Model | ErrorKind::Spec),
            "{part}: {kind:?}"
        );
    }
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    assert!(matches!(kind(flipped), ErrorKind::Model | ErrorKind::Spec));
    assert_eq!(
        kind(b"not a model, but a sentence".to_vec()),
        ErrorKind::Model
    );
}

#[test]
fn a_spec_that_contradicts_its_graph_is_refused() {
    type Change = fn(&mut ModelSpec);
    let cases: [(&str, Change); 7] = [
        ("too few tokens", |spec| {
            spec.tokens.pieces.pop();
        }),
        ("too many tokens", |spec| {
            spec.tokens.pieces.push("extra".to_owned())
        }),
        ("no such input", |spec| {
            spec.graph.input = "audio".to_owned()
        }),
        ("no such output", |spec| {
            spec.graph.output = "scores".to_owned()
        }),
        ("another layout", |spec| {
            spec.graph.input_layout = acolyte::spec::InputLayout::BTF;
        }),
        ("a state of another shape", |spec| {
            if let Some(streaming) = &mut spec.streaming {
                streaming.state[0].shape[0] += 1;
            }
        }),
        ("blank outside the vocabulary", |spec| {
            spec.tokens.blank = 4_000
        }),
    ];
    for (label, change) in cases {
        assert_eq!(kind(with_spec(change)), ErrorKind::Spec, "{label}");
    }
    assert_eq!(
        kind(with_spec(|spec| spec.version = SPEC_VERSION + 1)),
        ErrorKind::SpecVersion
    );
    assert_eq!(
        kind(with_spec(|spec| spec.role = Role::OracleTeacher)),
        ErrorKind::Role
    );
}

#[test]
fn the_shipped_model_streams_and_stays_small() {
    let file = ModelFile::open(speech_tiny()).unwrap();
    let spec = file.spec();
    let streaming = spec.streaming.as_ref().unwrap();
    assert!(streaming.chunk_frames.is_multiple_of(spec.stride) && !streaming.state.is_empty());
    assert!(file.bytes().len() <= 10_000_000);
    assert_eq!(spec.role, Role::Student);
}
