//! What several integration tests share: a toy language of tones, and the library they all need.
//!
//! In the toy language each letter is a tone of its own pitch, 120 ms long, and a space is silence: a few seconds
//! of training are enough to recognize it, so that whole pipelines can be tested on real numbers.
#![allow(clippy::missing_panics_doc)] // Test helpers fail by panicking.

pub mod toy_onnx;

use acolyte_trainer::train::run::{EpochRecord, Observer, StepRecord};
use std::path::{Path, PathBuf};

/// Watches a training in which nothing may go wrong.
#[derive(Debug)]
pub struct Quiet;

impl Observer for Quiet {
    fn step(&mut self, _: &StepRecord) {}
    fn epoch(&mut self, _: &EpochRecord) {}
    fn note(&mut self, text: &str) {
        panic!("nothing should go wrong here: {text}");
    }
}

/// Sample rate of the toy language.
pub const RATE: u32 = 16_000;

/// Samples of a letter.
const LETTER: usize = 1_920;

/// The samples of `text` in the toy language, in [-1, 1], with 50 ms of silence at both ends.
pub fn tones(text: &str) -> Vec<f32> {
    let mut samples = vec![0.0; 800];
    for letter in text.chars() {
        let hz = match letter {
            'a' => 400.0,
            'b' => 800.0,
            'c' => 1_400.0,
            'd' => 2_400.0,
            _ => 0.0,
        };
        samples.extend((0..LETTER).map(|i| {
            let fade = (i.min(LETTER - i) as f32 / 160.0).min(1.0);
            let phase = i as f32 * hz * std::f32::consts::TAU / RATE as f32;
            0.4 * fade * phase.sin()
        }));
    }
    samples.extend(std::iter::repeat_n(0.0, 800));
    samples
}

/// Texts of the toy language: `count` of them, different for each `salt`, no letter twice in a row.
pub fn sentences(count: usize, salt: u64) -> Vec<String> {
    let mut state = salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) % below
    };
    (0..count)
        .map(|_| {
            let words = 1 + next(2);
            let mut text = String::new();
            let mut last = ' ';
            for word in 0..words {
                if word > 0 {
                    text.push(' ');
                }
                for _ in 0..2 + next(2) {
                    let letter = loop {
                        let letter = ['a', 'b', 'c', 'd'][next(4) as usize];
                        if letter != last {
                            break letter;
                        }
                    };
                    text.push(letter);
                    last = letter;
                }
            }
            text
        })
        .collect()
}

/// Writes `sentences` as WAV files with a manifest `NAME.jsonl` into `folder`.
pub fn write_set(folder: &Path, name: &str, sentences: &[String]) {
    let mut manifest = String::new();
    for (index, text) in sentences.iter().enumerate() {
        let file = format!("{name}-{index}.wav");
        let samples = tones(text);
        write_wav(&folder.join(&file), &samples);
        let duration = samples.len() as f64 / f64::from(RATE);
        manifest.push_str(&format!(
            "{{\"audio_filepath\": \"{file}\", \"duration\": {duration}, \"text\": \"{text}\"}}\n"
        ));
    }
    std::fs::write(folder.join(format!("{name}.jsonl")), manifest).expect("a writable folder");
}

/// Writes a 16-bit mono WAV.
pub fn write_wav(path: &Path, samples: &[f32]) {
    let data: Vec<u8> = samples
        .iter()
        .flat_map(|&x| ((x * 32_767.0) as i16).to_le_bytes())
        .collect();
    let mut bytes = Vec::with_capacity(44 + data.len());
    bytes.extend(b"RIFF");
    bytes.extend((36 + data.len() as u32).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(16u32.to_le_bytes());
    bytes.extend(1u16.to_le_bytes());
    bytes.extend(1u16.to_le_bytes());
    bytes.extend(RATE.to_le_bytes());
    bytes.extend((2 * RATE).to_le_bytes());
    bytes.extend(2u16.to_le_bytes());
    bytes.extend(16u16.to_le_bytes());
    bytes.extend(b"data");
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend(data);
    std::fs::write(path, bytes).expect("a writable folder");
}

/// A recipe that learns the toy language in a few seconds; `train.jsonl` and `dev.jsonl` are its sets.
pub const RECIPE: &str = r#"
name = "tones"
task = "speech"
license = "MIT"
seed = 3

[data]
train = [{ manifest = "train.jsonl" }]
dev = [{ name = "dev", manifest = "dev.jsonl" }]

[text]
tokens = [" ", "a", "b", "c", "d"]

[features]
mels = 40

[model]
channels = 24
blocks = 2
kernel = 3
dilations = [1, 2]
delay_frames = 4
dropout = 0.05

[augment]
gain_db = [-6.0, 6.0]

[train]
epochs = 30
batch_frames = 1024
learning_rate = 0.005
warmup_steps = 20
ema = 0.95
threads = 1
"#;

/// The root of the repository.
pub fn repository() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().unwrap_or(crate_folder).to_owned()
}

/// The library that setup fetched; without it every test that needs it fails and says what to do.
pub fn library() -> acolyte::model::Library {
    acolyte::model::Library::find()
        .expect("run `cargo xtask setup` first: this test needs libonnxruntime")
}

/// The command `acolyte`, built as the tests are, once a test run; with the microphone where the tests have it.
pub fn acolyte() -> PathBuf {
    static PROGRAM: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    PROGRAM
        .get_or_init(|| {
            let features: &[&str] = match cfg!(feature = "mic") {
                true => &["--features", "mic"],
                false => &[],
            };
            program("acolyte-cli", "acolyte", features)
        })
        .clone()
}

/// The command `acolyte-train`, built as the tests are, once a test run.
pub fn acolyte_train() -> PathBuf {
    static PROGRAM: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    PROGRAM
        .get_or_init(|| program("acolyte-trainer", "acolyte-train", &[]))
        .clone()
}

fn program(package: &str, name: &str, options: &[&str]) -> PathBuf {
    let built = std::process::Command::new(env!("CARGO"))
        .current_dir(repository())
        .args(["build", "--quiet", "--package", package, "--bin", name])
        .args(options)
        .status()
        .expect("cargo starts");
    assert!(built.success(), "{package} does not build");
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| repository().join("target"), PathBuf::from);
    target
        .join("debug")
        .join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

/// The shipped speech model.
pub fn speech_tiny() -> PathBuf {
    let path = repository().join("models/speech-tiny/model.onnx");
    assert!(
        path.is_file(),
        "{} is part of the repository",
        path.display()
    );
    path
}

/// The shipped model of scene text.
pub fn scene_tiny() -> PathBuf {
    let path = repository().join("models/scene-tiny/model.onnx");
    assert!(
        path.is_file(),
        "{} is part of the repository",
        path.display()
    );
    path
}

/// A sample recording of the repository.
pub fn sample(name: &str) -> PathBuf {
    let path = repository().join("examples/samples").join(name);
    assert!(
        path.is_file(),
        "{} is part of the repository",
        path.display()
    );
    path
}
