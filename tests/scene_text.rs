//! Scene text from end to end on toy letters: a student learns crops of a manifest, its export reads the same through
//! the runtime, alone and in a batch, from every pixel layout.

use crate::letters::{RECIPE, picture, train, words, write_set};
use acolyte::features::LineReader;
use acolyte::image::{ImageView, PixelFormat};
use acolyte::model::{CtcModel, OrtModel, OrtOptions};
use acolyte::spec::FrontEnd;
use acolyte::{Crop, Decoding, ErrorKind, Image, LogProbs, Quad, TextRecognizer, Tokens};
use acolyte_tests::{Quiet, library};
use acolyte_trainer::config::Recipe;
use acolyte_trainer::data::task;
use acolyte_trainer::distill::stages::{Workshop, distill};
use acolyte_trainer::export::{ExportOptions, TOLERANCE, export};
use acolyte_trainer::fixed::{FixedShape, fix};
use acolyte_trainer::graph::exec::Engine;
use acolyte_trainer::train::run::Observer;
use std::sync::Arc;

#[test]
fn a_reader_learns_and_its_export_reads_the_same_alone_and_in_a_batch() {
    let data = tempfile::tempdir().unwrap();
    write_set(data.path(), "train", &words(96, 1));
    let judged = words(30, 2);
    write_set(data.path(), "dev", &judged);
    let score = &train(data.path()).development[0];
    assert!(score.wer <= 20.0, "{} % of toy words wrong", score.wer);

    let out = data.path().join("model");
    let run = data.path().join("run");
    let exported = export(&library(), &run, &out, &ExportOptions::default()).unwrap();
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

    // The same model as graphs of fixed widths and a fixed batch, as mobile providers take them.
    let bytes = std::fs::read(out.join("model.onnx")).unwrap();
    let widths = [64, 128].map(|frames| {
        let fixed = fix(&library(), &bytes, FixedShape { batch: 3, frames }).unwrap();
        assert!(fixed.difference <= TOLERANCE);
        OrtModel::from_bytes(&library(), fixed.bytes, &OrtOptions::default()).unwrap()
    });
    let fixed = TextRecognizer::with_widths(widths).unwrap();
    let widths: Vec<usize> = crops
        .iter()
        .map(|crop| fixed.line(crop).unwrap().frames())
        .collect();
    assert!(widths.contains(&64) && widths.contains(&128), "{widths:?}");
    let read = fixed.recognize_batch(&crops, &plan);
    let same = (read.into_iter().zip(&crops))
        .filter(|(read, crop)| {
            let expected = reader.recognize_with(**crop, &plan).unwrap();
            read.as_ref().unwrap().best().text == expected.best().text
        })
        .count();
    assert!(
        same * 10 >= crops.len() * 9,
        "{same} of {} read alike",
        crops.len()
    );
    for (batch, frames, says) in [(0, 64, "batch of 0"), (1, 66, "multiple of")] {
        let error = fix(&library(), &bytes, FixedShape { batch, frames }).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }

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

const DISTILL: &str = r#"
[teacher]
# Half the toy words have one or two letters: noise hits one of six now and then.
target = { layers = 1, heads = 2, mask = [0.3, 0.6] }
guards = { utterances = 60, shift_frames = 4, noise_most = 0.15 }
[teacher.model]
kind = "image"
dropout = 0.0
image = { widths = [8, 8, 16, 16, 32], depths = [1, 0, 1], kernel = 3 }
[teacher.train]
epochs = 16
batch_frames = 2048
max_batch = 48
warmup_steps = 10
learning_rate = 0.01
ema = 0.8
[distill]
view = "same"
objectives = [{ kind = "kl" }]
"#;

/// The machinery of speech does all of it: the teacher reads crop and text, passes the guards, guides a reader; both
/// run in the runtime.
#[test]
fn an_oracle_teacher_guides_a_reader() {
    let folder = tempfile::tempdir().unwrap();
    write_set(folder.path(), "train", &words(80, 1));
    let dev = words(24, 2);
    write_set(folder.path(), "dev", &dev);
    let none: [&str; 0] = [];
    let recipe = Recipe::parse(&format!("{RECIPE}{DISTILL}"), &none).unwrap();
    let data = task::open(&recipe, folder.path(), &|_| ()).unwrap();
    let engine = Engine::new(&library(), 1);
    let workshop = Workshop {
        engine: &engine,
        data: &*data,
        settled: None,
    };
    let run = folder.path().join("distilled");
    let mut announce = |_| -> Box<dyn Observer> { Box::new(Quiet) };
    let done = distill(&library(), &workshop, &recipe, &run, None, &mut announce).unwrap();
    let found = done.findings.unwrap();
    assert!(found.right > 0.8 && found.swap <= 0.05, "{found:?}");
    assert!(found.shift > 0.95, "{found:?}");
    assert!(done.student.best_wer.unwrap() <= 20.0);

    let path = run.join("model/oracle.onnx");
    let refused = TextRecognizer::builder(&library()).open(&path).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Role);
    let model = OrtModel::open(&library(), &path, &OrtOptions::default()).unwrap();
    let FrontEnd::Line(line) = &model.spec().front_end else {
        panic!("crops are lines")
    };
    let reader = LineReader::new(line).unwrap();
    let tokens = Arc::new(Tokens::new(model.spec().tokens.clone()).unwrap());
    let plan = Decoding::greedy().plan(&tokens).unwrap();
    let right = dev.iter().filter(|word| {
        let crop = reader.read(&picture(word).view()).unwrap();
        let label = tokens.encode(word).unwrap();
        let scores = model.run_labeled(crop.features(), &label).unwrap();
        let said = plan.decode(&LogProbs::from_logits(scores.view())).unwrap();
        said.best().text == **word
    });
    assert!(right.count() >= 18);
}
