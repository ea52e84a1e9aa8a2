//! Toy letters for tests of scene text: six shapes that a reader learns in seconds, and a recipe that trains one.

use acolyte::Image;
use acolyte_tests::library;
use acolyte_trainer::config::Recipe;
use acolyte_trainer::graph::exec::Engine;
use acolyte_trainer::pipeline::{Sitting, run};
use acolyte_trainer::train::run::{EpochRecord, Observer, StepRecord};
use std::path::Path;

/// A recipe that reads the toy letters.
pub const RECIPE: &str = r#"
name = "toy-text"
task = "scene-text"
license = "CC0-1.0"
[data]
train = [{ manifest = "train.jsonl", repeat = 4.0 }]
dev = [{ name = "dev", manifest = "dev.jsonl" }]
[text]
case = "keep"
tokens = ["a", "b", "c", "d", "e", "f"]
separator = ""
[model]
kind = "image"
dropout = 0.0
[model.image]
widths = [8, 8, 16, 16, 32]
depths = [1, 0, 1]
kernel = 3
[train]
epochs = 16
batch_frames = 2048
max_batch = 48
warmup_steps = 10
learning_rate = 0.01
ema = 0.8
"#;

/// The last epoch's record.
#[derive(Default)]
struct Last(Option<EpochRecord>);

impl Observer for Last {
    fn step(&mut self, _: &StepRecord) {}

    fn epoch(&mut self, record: &EpochRecord) {
        self.0 = Some(record.clone());
    }

    fn note(&mut self, text: &str) {
        panic!("nothing should go wrong here: {text}");
    }
}

/// Words of one to five letters, the same every time.
pub fn words(count: usize, seed: usize) -> Vec<String> {
    let mut state = seed * 7919 + 17;
    let mut next = |most: usize| {
        state = (state * 1_103_515_245 + 12_345) % (1 << 31);
        (state >> 8) % most
    };
    (0..count)
        .map(|_| {
            (0..1 + next(5))
                .map(|_| char::from(b'a' + next(6) as u8))
                .collect()
        })
        .collect()
}

/// A crop: each letter is 12 columns of 24 rows with a bar in one of three heights, to the left or over both halves.
pub fn picture(word: &str) -> Image {
    let (width, height) = (16 * word.len() + 8, 24);
    let mut pixels = vec![225u8; 3 * width * height];
    for (index, letter) in word.bytes().enumerate() {
        let kind = usize::from(letter - b'a');
        for y in 0..height {
            for x in 0..12 {
                let stem = x < 3;
                let bar = y / 8 == kind % 3 && (kind < 3 || x < 8);
                if stem || bar {
                    let at = 3 * (y * width + 6 + 16 * index + x);
                    pixels[at..at + 3].copy_from_slice(&[40, 30, 60]);
                }
            }
        }
    }
    Image::from_rgb(width, height, pixels).unwrap()
}

pub fn write_set(folder: &Path, name: &str, words: &[String]) {
    let mut rows = String::new();
    for (index, word) in words.iter().enumerate() {
        let file = format!("{name}-{index}.png");
        std::fs::write(folder.join(&file), picture(word).to_png().unwrap()).unwrap();
        rows += &format!("{{\"image\": \"{file}\", \"text\": \"{word}\"}}\n");
    }
    std::fs::write(folder.join(format!("{name}.jsonl")), rows).unwrap();
}

/// Trains a reader on the sets `train` and `dev` of a folder, into its subfolder `run`; returns the last epoch's record.
pub fn train(data: &Path) -> EpochRecord {
    let none: [&str; 0] = [];
    let recipe = Recipe::parse(RECIPE, &none).unwrap();
    let mut last = Last::default();
    run(
        &Engine::new(&library(), 1),
        &recipe,
        data,
        &data.join("run"),
        &Sitting::default(),
        &|_| (),
        &mut last,
    )
    .unwrap();
    last.0.unwrap()
}
