//! Scene text from end to end on toy letters: a student learns crops of a manifest, its export reads the same through
//! the runtime, alone and in a batch, from every pixel layout.

use acolyte::image::{ImageView, PixelFormat};
use acolyte::{Crop, Decoding, ErrorKind, Image, Quad, TextRecognizer};
use acolyte_tests::library;
use acolyte_trainer::config::Recipe;
use acolyte_trainer::export::{ExportOptions, TOLERANCE, export};
use acolyte_trainer::graph::exec::Engine;
use acolyte_trainer::pipeline::{Sitting, run};
use acolyte_trainer::train::run::{EpochRecord, Observer, StepRecord};
use std::path::Path;

const RECIPE: &str = r#"
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
fn words(count: usize, seed: usize) -> Vec<String> {
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
fn picture(word: &str) -> Image {
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

fn write_set(folder: &Path, name: &str, words: &[String]) {
    let mut rows = String::new();
    for (index, word) in words.iter().enumerate() {
        let file = format!("{name}-{index}.png");
        std::fs::write(folder.join(&file), picture(word).to_png().unwrap()).unwrap();
        rows += &format!("{{\"image\": \"{file}\", \"text\": \"{word}\"}}\n");
    }
    std::fs::write(folder.join(format!("{name}.jsonl")), rows).unwrap();
}

#[test]
fn a_reader_learns_and_its_export_reads_the_same_alone_and_in_a_batch() {
    let data = tempfile::tempdir().unwrap();
    write_set(data.path(), "train", &words(96, 1));
    let judged = words(30, 2);
    write_set(data.path(), "dev", &judged);
    let none: [&str; 0] = [];
    let recipe = Recipe::parse(RECIPE, &none).unwrap();
    let folder = data.path().join("run");
    let mut last = Last::default();
    run(
        &Engine::new(&library(), 1),
        &recipe,
        data.path(),
        &folder,
        &Sitting::default(),
        &|_| (),
        &mut last,
    )
    .unwrap();
    let score = &last.0.unwrap().development[0];
    assert!(score.wer <= 20.0, "{} % of toy words wrong", score.wer);

    let out = data.path().join("model");
    let exported = export(&library(), &folder, &out, &ExportOptions::default()).unwrap();
    assert!(exported.difference <= TOLERANCE);
    let reader = TextRecognizer::builder(&library())
        .threads(1)
        .open(out.join("model.onnx"))
        .unwrap();
    let plan = Decoding::greedy().plan(reader.tokens()).unwrap();
    let pictures: Vec<Image> = judged.iter().map(|word| picture(word)).collect();
    let crops: Vec<Crop<'_>> = pictures.iter().map(|p| p.view().into()).collect();
    let together = reader.recognize_batch(&crops, &plan);
    let mut right = 0;
    for ((crop, word), together) in crops.iter().zip(&judged).zip(together) {
        let alone = reader.recognize_with(*crop, &plan).unwrap();
        let (alone, together) = (alone.best(), together.unwrap().into_best());
        assert_eq!(alone.text, together.text);
        assert!((alone.confidence - together.confidence).abs() < 1e-3);
        assert_eq!(alone.tokens.len(), together.tokens.len());
        right += usize::from(&alone.text == word);
    }
    let accuracy = 100.0 - 100.0 * right as f64 / judged.len() as f64;
    assert!(
        (accuracy - score.wer).abs() < 1e-6,
        "trainer and runtime judge alike"
    );

    // One picture in other layouts, and as a part of a larger one.
    let picture = &pictures[0];
    let expected = reader.recognize(crops[0], &Decoding::greedy()).unwrap();
    let (width, height) = (picture.width(), picture.height());
    let bgra: Vec<u8> = (picture.rgb().as_chunks::<3>().0.iter())
        .flat_map(|&[r, g, b]| [b, g, r, 255])
        .collect();
    let view = ImageView::new(&bgra, width, height, 4 * width, PixelFormat::Bgra).unwrap();
    let found = reader.recognize(view, &Decoding::greedy()).unwrap();
    assert_eq!(found.text, expected.text);
    let stride = width + 50;
    let mut larger = vec![225; stride * (height + 40)];
    for y in 0..height {
        for x in 0..width {
            larger[(y + 20) * stride + x + 25] = picture.rgb()[3 * (y * width + x) + 1];
        }
    }
    let view = ImageView::new(&larger, stride, height + 40, stride, PixelFormat::Gray).unwrap();
    let quad = Quad::rectangle(25.0, 20.0, width as f32, height as f32);
    let crop = Crop {
        image: view,
        quad: Some(quad),
    };
    let found = reader.recognize(crop, &Decoding::greedy()).unwrap();
    assert_eq!(found.text, expected.text);
    for token in &found.tokens {
        let [left, top, right, bottom] = token.span.bounds();
        assert!(
            left >= 24.9
                && right <= 25.1 + width as f32
                && top >= 19.9
                && bottom <= 20.1 + height as f32
        );
    }
}

#[test]
fn a_model_of_speech_reads_nothing() {
    let speech = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../models/speech-tiny/model.onnx"
    );
    let error = TextRecognizer::builder(&library())
        .open(speech)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Role);
    assert!(error.to_string().contains("reads no images"), "{error}");
}
