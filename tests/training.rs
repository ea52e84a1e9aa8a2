//! Whole runs on the toy language: a student learns, an interrupted run equals an uninterrupted one bit for bit
//! (stopped, killed, or with its checkpoint damaged), the exported file gives the same text through the runtime, and
//! another run starts from it.

use acolyte::audio::Audio;
use acolyte::{Decoding, SpeechRecognizer};
use acolyte_tests::{RATE, RECIPE, acolyte_train, library, sentences, tones, write_set};
use acolyte_trainer::config::Recipe;
use acolyte_trainer::export::{ExportOptions, TOLERANCE, export};
use acolyte_trainer::fixed::{FixedShape, fix};
use acolyte_trainer::graph::exec::Engine;
use acolyte_trainer::onnx::Storage;
use acolyte_trainer::pipeline::{Sitting, run};
use acolyte_trainer::train::checkpoint::{Checkpoint, previous};
use acolyte_trainer::train::run::{EpochRecord, Observer, StepRecord, best_path, checkpoint_path};
use acolyte_trainer::{ErrorKind, Result};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

#[derive(Default)]
struct Records {
    losses: Vec<f32>,
    epochs: Vec<EpochRecord>,
    notes: Vec<String>,
}

impl Observer for Records {
    fn step(&mut self, record: &StepRecord) {
        self.losses.push(record.loss);
    }

    fn epoch(&mut self, record: &EpochRecord) {
        self.epochs.push(record.clone());
    }

    fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }
}

fn train(
    data: &Path,
    folder: &Path,
    overrides: &[&str],
    stop_after: Option<u64>,
) -> Result<Records> {
    let sitting = Sitting {
        resume: true,
        previous: false,
        stop_after,
        ..Sitting::default()
    };
    sit(data, folder, overrides, &sitting)
}

fn sit(data: &Path, folder: &Path, overrides: &[&str], sitting: &Sitting) -> Result<Records> {
    let recipe = Recipe::parse(RECIPE, overrides)?;
    let mut records = Records::default();
    run(
        &Engine::new(&library(), 1),
        &recipe,
        data,
        folder,
        sitting,
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
    assert_eq!(records.notes, [""; 0], "nothing should go wrong here");
    let report = std::fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(report.contains("30 of at most 30") && report.contains("</svg>"));
    assert_eq!(
        std::fs::read_dir(folder.join("tensorboard"))
            .unwrap()
            .count(),
        1
    );

    let out = data.path().join("model");
    let options = ExportOptions {
        about: BTreeMap::from([("data".to_owned(), "tones".to_owned())]),
        storage: Storage::Int8,
    };
    let exported = export(&library(), &folder, &out, &options).unwrap();
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

    // Fixed shapes change nothing of what is heard.
    let bytes = std::fs::read(out.join("model.onnx")).unwrap();
    let shape = FixedShape {
        batch: 2,
        frames: 32,
    };
    let fixed = fix(&library(), &bytes, shape).unwrap();
    assert!(fixed.difference <= TOLERANCE);
    let again = fix(&library(), &fixed.bytes, shape).unwrap_err();
    assert!(again.to_string().contains("fixed already"), "{again}");
    let fixed = SpeechRecognizer::builder(&library())
        .from_bytes(fixed.bytes)
        .unwrap();
    assert_eq!(fixed.spec().streaming.as_ref().unwrap().chunk_frames, 32);
    for text in &spoken {
        let audio = Audio::new(tones(text), RATE, 1).unwrap();
        let heard =
            [&fixed, &recognizer].map(|r| r.recognize(&audio, &Decoding::greedy()).unwrap().text);
        assert_eq!(heard[0], heard[1]);
    }
}

/// What a run leaves that must not depend on interruptions: tensors of checkpoint and best weights, and metrics but for
/// the clock.
fn left_by(folder: &Path) -> (Vec<Checkpoint>, Vec<serde_json::Value>) {
    let load = |path: &Path| {
        let mut checkpoint = Checkpoint::load(path).unwrap();
        checkpoint.position.seconds = 0.0;
        checkpoint.position.processor_seconds = 0.0;
        checkpoint
    };
    let metrics = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let records = metrics.lines().map(|line| {
        let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
        record.as_object_mut().unwrap().remove("seconds");
        record
    });
    (
        vec![load(&checkpoint_path(folder)), load(&best_path(folder))],
        records.collect(),
    )
}

#[test]
fn an_interrupted_run_equals_an_uninterrupted_one_bit_for_bit() {
    let data = toy_data(40);
    let cases: [(&str, &[&str]); 3] = [
        ("plain", &[]),
        (
            "groups",
            &[
                "train.optimizer=novograd",
                "train.learning_rate=0.02",
                "train.accumulate=3",
                "train.average={ epochs = 2, of = \"best\" }",
            ],
        ),
        (
            "patience",
            &[
                "train.learning_rate=1e-8",
                "train.final_learning_rate=0",
                "train.patience=1",
            ],
        ),
    ];
    for (name, overrides) in cases {
        let overrides = [&["train.epochs=3"], overrides].concat();
        let whole = data.path().join(format!("{name}-whole"));
        let once = train(data.path(), &whole, &overrides, None).unwrap();
        let parts = data.path().join(format!("{name}-parts"));
        let mut losses = Vec::new();
        let mut notes = Vec::new();
        // 4 updates a sitting cut the epochs at different rows.
        for _ in 0..once.losses.len().div_ceil(4) + 1 {
            let records = train(data.path(), &parts, &overrides, Some(4)).unwrap();
            losses.extend(records.losses);
            notes.extend(records.notes);
        }
        assert_eq!(losses, once.losses, "{name}");
        assert_eq!(notes, once.notes, "{name}");
        assert_eq!(left_by(&parts), left_by(&whole), "{name}");
        let told = once.notes.join("\n");
        match name {
            "groups" => {
                assert!(told.contains("mean of 2 epochs' weights"), "{told}");
                let kept = std::fs::read_dir(whole.join("epochs")).unwrap().count();
                assert_eq!(kept, 2);
            }
            "patience" => {
                assert!(told.contains("no better for 1 epochs"), "{told}");
                assert_eq!(once.epochs.len(), 2);
            }
            _ => assert!(told.is_empty(), "{told}"),
        }
    }
}

#[test]
fn a_damaged_checkpoint_is_refused_and_the_one_before_goes_on() {
    let data = toy_data(24);
    let overrides = ["train.epochs=2"];
    let whole = data.path().join("whole");
    train(data.path(), &whole, &overrides, None).unwrap();
    let folder = data.path().join("run");
    for _ in 0..2 {
        train(data.path(), &folder, &overrides, Some(2)).unwrap();
    }
    let path = checkpoint_path(&folder);
    let mut bytes = std::fs::read(&path).unwrap();
    let place = bytes.len() - 100;
    bytes[place] ^= 4;
    std::fs::write(&path, &bytes).unwrap();
    let error = train(data.path(), &folder, &overrides, None).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Checkpoint);
    let told = error.to_string();
    assert!(told.contains("--previous") && told.contains(previous(&path).to_str().unwrap()));
    let back = Sitting {
        resume: true,
        previous: true,
        stop_after: None,
        ..Sitting::default()
    };
    sit(data.path(), &folder, &overrides, &back).unwrap();
    assert_eq!(left_by(&folder), left_by(&whole));
}

#[test]
fn a_run_killed_again_and_again_equals_an_uninterrupted_one() {
    let data = toy_data(40);
    // A checkpoint about every half second, as often as a recipe may ask for.
    let overrides = ["train.epochs=8", "train.checkpoint_minutes=0.01"];
    let whole = data.path().join("whole");
    train(data.path(), &whole, &overrides, None).unwrap();
    let folder = data.path().join("killed");
    let recipe = data.path().join("recipe.toml");
    std::fs::write(&recipe, RECIPE).unwrap();
    let start = || {
        Command::new(acolyte_train())
            .current_dir(acolyte_tests::repository())
            .arg("train")
            .arg(&recipe)
            .arg("--data")
            .arg(data.path())
            .arg("--run")
            .arg(&folder)
            .args(overrides.iter().flat_map(|set| ["--set", set]))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let lines = || {
        std::fs::read_to_string(folder.join("metrics.jsonl")).map_or(0, |text| text.lines().count())
    };
    let all = std::fs::read_to_string(whole.join("metrics.jsonl")).unwrap();
    let mut kills = 0;
    for part in 1..=4 {
        let mut child = start();
        // Whatever it does just then: a batch, a checkpoint, a judgment.
        while lines() < all.lines().count() * part / 6 && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(3));
        }
        kills += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(kills >= 2, "{kills} kills before the run was over");
    let output = start().wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert_eq!(left_by(&folder), left_by(&whole));
}

#[test]
fn a_run_starts_from_a_shipped_model() {
    let data = toy_data(96);
    let base = data.path().join("base");
    train(data.path(), &base, &["train.epochs=20"], None).unwrap();
    let model = data.path().join("model");
    export(&library(), &base, &model, &ExportOptions::default()).unwrap();

    // Other tokens in another order, at a rate of next to nothing: what is known after an epoch was known before. Random
    // weights and rows of the wrong symbols get nearly every word wrong; statistics that follow the new batches a few.
    let tokens = "text.tokens=[\"d\", \"x\", \" \", \"b\", \"a\", \"c\"]";
    let from = |folder: &Path| format!("start_from.model={:?}", folder.to_str().unwrap());
    for start in [from(&model), from(&base)] {
        let folder = data.path().join(format!("still-{}", start.len()));
        let overrides = [
            tokens,
            &start,
            "train.epochs=1",
            "train.learning_rate=1e-9",
            "train.final_learning_rate=0",
        ];
        let records = train(data.path(), &folder, &overrides, None).unwrap();
        let wer = records.epochs[0].development[0].wer;
        assert!(wer <= 30.0, "{wer} % of the words wrong");
        let told = records.notes.join("\n");
        for part in [
            "6 tokens matched",
            "1 new (x)",
            "0 of the model's left out",
            "0 new;",
        ] {
            assert!(told.contains(part), "{part} in {told}");
        }
    }

    // Frozen layers keep their weights while the others learn, and an interrupted run does not start over.
    let folder = data.path().join("frozen");
    let overrides = [
        tokens,
        &from(&base),
        "start_from.freeze=[\"stem\", \"block.0\"]",
        "train.epochs=2",
    ];
    train(data.path(), &folder, &overrides, Some(3)).unwrap();
    let records = train(data.path(), &folder, &overrides, None).unwrap();
    assert!(records.notes.is_empty(), "{:?}", records.notes);
    let (source, new) = (
        Checkpoint::load(&best_path(&base)).unwrap().tensors,
        Checkpoint::load(&best_path(&folder)).unwrap().tensors,
    );
    for (name, same) in [
        ("stem.weight", true),
        ("stem.scale", true),
        ("block.0.second.weight", true),
        ("block.1.first.weight", false),
        ("stem.running_mean", false),
    ] {
        assert_eq!(source[name] == new[name], same, "{name}");
    }

    let error = train(
        data.path(),
        &data.path().join("other"),
        &[&from(&model), "features.mels=30"],
        None,
    )
    .err()
    .unwrap();
    assert_eq!(error.kind(), ErrorKind::Recipe);
    assert!(error.to_string().contains("mels"), "{error}");
}

#[test]
fn a_checkpoint_of_another_recipe_is_refused() {
    let data = toy_data(24);
    let folder = data.path().join("run");
    train(data.path(), &folder, &["train.epochs=1"], None).unwrap();
    let error = train(data.path(), &folder, &["train.clip_norm=2.0"], None)
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Checkpoint);
    assert!(error.to_string().contains("another recipe"), "{error}");
}

#[test]
fn a_run_can_be_given_more_epochs() {
    let data = toy_data(24);
    let folder = data.path().join("run");
    let first = train(data.path(), &folder, &["train.epochs=1"], None).unwrap();
    let second = train(data.path(), &folder, &["train.epochs=3"], None).unwrap();
    let epochs = |records: &Records| records.epochs.iter().map(|e| e.epoch).collect::<Vec<_>>();
    assert_eq!((epochs(&first), epochs(&second)), (vec![0], vec![1, 2]));
    assert!(
        second
            .notes
            .iter()
            .any(|note| note.contains("now after 3 epochs"))
    );
    let kept = Recipe::load(folder.join("recipe.toml"), &[] as &[&str]).unwrap();
    assert_eq!(kept.train.epochs, 3);
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
        previous: false,
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
