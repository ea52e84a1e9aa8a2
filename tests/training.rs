//! Whole runs on the toy language: a student learns, an interrupted run equals an uninterrupted one bit for bit,
//! the exported file gives the same text through the runtime.

use acolyte::audio::Audio;
use acolyte::{Decoding, SpeechRecognizer};
use acolyte_tests::{RATE, RECIPE, library, sentences, tones, write_set};
use acolyte_trainer::config::Recipe;
use acolyte_trainer::export::{TOLERANCE, export};
use acolyte_trainer::graph::exec::Engine;
use acolyte_trainer::pipeline::{Sitting, run};
use acolyte_trainer::train::checkpoint::Checkpoint;
use acolyte_trainer::train::run::{EpochRecord, Observer, StepRecord, checkpoint_path};
use acolyte_trainer::{ErrorKind, Result};
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Default)]
struct Records {
    losses: Vec<f32>,
    epochs: Vec<EpochRecord>,
}

impl Observer for Records {
    fn step(&mut self, record: &StepRecord) {
        self.losses.push(record.loss);
    }

    fn epoch(&mut self, record: &EpochRecord) {
        self.epochs.push(record.clone());
    }

    fn note(&mut self, text: &str) {
        panic!("nothing should go wrong here: {text}");
    }
}

fn train(
    data: &Path,
    folder: &Path,
    overrides: &[&str],
    stop_after: Option<u64>,
) -> Result<Records> {
    let recipe = Recipe::parse(RECIPE, overrides)?;
    let mut records = Records::default();
    let sitting = Sitting {
        resume: true,
        stop_after,
        ..Sitting::default()
    };
    run(
        &Engine::new(&library(), 1),
        &recipe,
        data,
        folder,
        &sitting,
        &|_| (),
        &mut records,
    )?;
    Ok(records)
}

fn toy_data(count: usize) -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    write_set(data.path(), "train", &sentences(count, 1));
    write_set(data.path(), "dev", &sentences(16, 2));
    data
}

#[test]
fn a_student_learns_and_its_export_says_the_same() {
    let data = toy_data(96);
    let folder = data.path().join("run");
    let records = train(data.path(), &folder, &[], None).unwrap();
    let wer = records.epochs.last().unwrap().development[0].wer;
    assert!(wer <= 10.0, "WER {wer} % after 30 epochs of tones");
    assert!(records.losses.last().unwrap() < &(0.2 * records.losses[0]));

    let out = data.path().join("model");
    let about = BTreeMap::from([("data".to_owned(), "tones".to_owned())]);
    let exported = export(&library(), &folder, &out, about).unwrap();
    assert!(exported.difference <= TOLERANCE);
    let recognizer = SpeechRecognizer::builder(&library())
        .open(out.join("model.onnx"))
        .unwrap();
    assert_eq!(recognizer.spec().sha256, exported.sha256);
    let mut right = 0;
    let spoken = sentences(16, 2);
    for text in &spoken {
        let audio = Audio::new(tones(text), RATE, 1).unwrap();
        let heard = recognizer.recognize(&audio, &Decoding::greedy()).unwrap();
        right += usize::from(&heard.text == text);
    }
    assert!(right >= 12, "{right} of {} toy sentences", spoken.len());
}

#[test]
fn an_interrupted_run_equals_an_uninterrupted_one_bit_for_bit() {
    let data = toy_data(40);
    let overrides = ["train.epochs=3"];
    let whole = data.path().join("whole");
    let once = train(data.path(), &whole, &overrides, None).unwrap();
    let parts = data.path().join("parts");
    let mut losses = Vec::new();
    // 4 updates a sitting cut the epochs at different rows.
    for _ in 0..once.losses.len().div_ceil(4) + 1 {
        losses.extend(
            train(data.path(), &parts, &overrides, Some(4))
                .unwrap()
                .losses,
        );
    }
    assert_eq!(losses, once.losses);
    let load = |folder: &Path| Checkpoint::load(&checkpoint_path(folder)).unwrap();
    assert_eq!(load(&parts).tensors, load(&whole).tensors);
}

#[test]
fn a_checkpoint_of_another_recipe_is_refused() {
    let data = toy_data(24);
    let folder = data.path().join("run");
    train(data.path(), &folder, &["train.epochs=1"], None).unwrap();
    let error = train(data.path(), &folder, &["train.epochs=2"], None)
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Checkpoint);
    assert!(error.to_string().contains("another recipe"), "{error}");
}

#[test]
fn a_run_that_diverges_stops_and_names_the_batch() {
    let data = toy_data(24);
    let recipe = Recipe::parse(
        RECIPE,
        &[
            "train.learning_rate=10.0",
            "train.clip_norm=1000000.0",
            "train.warmup_steps=1",
        ],
    )
    .unwrap();
    struct Notes(Vec<String>);
    impl Observer for Notes {
        fn step(&mut self, _: &StepRecord) {}
        fn epoch(&mut self, _: &EpochRecord) {}
        fn note(&mut self, text: &str) {
            self.0.push(text.to_owned());
        }
    }
    let mut notes = Notes(Vec::new());
    let folder = data.path().join("run");
    // The weights are poisoned, so that every step is not finite whatever the optimizer does.
    let sitting = |stop_after| Sitting {
        resume: true,
        stop_after,
        ..Sitting::default()
    };
    let engine = Engine::new(&library(), 1);
    let go = |stop, notes: &mut Notes| {
        run(
            &engine,
            &recipe,
            data.path(),
            &folder,
            &sitting(stop),
            &|_| (),
            notes,
        )
    };
    go(Some(1), &mut notes).unwrap();
    let path = checkpoint_path(&folder);
    let mut checkpoint = Checkpoint::load(&path).unwrap();
    if let Some((_, data)) = checkpoint.tensors.get_mut("weights/head.bias") {
        data[1] = f32::NAN;
    }
    checkpoint.save(&path).unwrap();
    let error = go(None, &mut notes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Diverged);
    assert!(
        error.to_string().contains("train-"),
        "names its utterances: {error}"
    );
    assert!(
        !notes.0.is_empty(),
        "skipped steps are noted before the run stops"
    );
}
