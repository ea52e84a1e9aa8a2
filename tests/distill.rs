//! Whole distillations on the toy language: the teacher is trained, shows that it listens, guides a student; both are
//! exported and run through the runtime; finished stages are not done again.

use acolyte::ErrorKind as RuntimeErrorKind;
use acolyte::audio::Audio;
use acolyte::features::Fbank;
use acolyte::model::{CtcModel, ModelState, OrtModel, OrtOptions};
use acolyte::spec::{FrontEnd, Role};
use acolyte::{Decoding, LogProbs, SpeechRecognizer, Tokens};
use acolyte_tests::{Quiet, RATE, RECIPE, library, sentences, tones, write_set};
use acolyte_trainer::ErrorKind;
use acolyte_trainer::config::Recipe;
use acolyte_trainer::data::speech::SpeechData;
use acolyte_trainer::distill::stages::{Distilled, Stage, Workshop, distill};
use acolyte_trainer::graph::exec::Engine;
use acolyte_trainer::train::run::Observer;
use std::path::Path;
use std::sync::Arc;

const DISTILL: &str = r#"
[teacher]
model = { channels = 32, blocks = 2, kernel = 3, dilations = [1, 2], context = "symmetric", delay_frames = 0, dropout = 0.0 }
target = { layers = 1, heads = 2, mask = [0.3, 0.6] }
train = { epochs = 24, batch_frames = 1024, learning_rate = 0.005, warmup_steps = 20, ema = 0.95, threads = 1 }
guards = { utterances = 40 }

[distill]
objectives = [{ kind = "kl" }]
"#;

fn toy() -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    write_set(data.path(), "train", &sentences(96, 1));
    write_set(data.path(), "dev", &sentences(16, 2));
    data
}

fn go(
    data: &Path,
    recipe: &Recipe,
    folder: &Path,
    stages: &mut Vec<Stage>,
) -> acolyte_trainer::Result<Distilled> {
    let engine = Engine::new(&library(), 1);
    let opened = SpeechData::open(recipe, data, &|_| ())?;
    let workshop = Workshop {
        engine: &engine,
        data: &opened,
        settled: None,
    };
    let mut announce = |stage| -> Box<dyn Observer> {
        stages.push(stage);
        Box::new(Quiet)
    };
    distill(&library(), &workshop, recipe, folder, None, &mut announce)
}

#[test]
fn an_oracle_teacher_guides_a_student_and_both_run_in_the_runtime() {
    let data = toy();
    let folder = data.path().join("run");
    let recipe = Recipe::parse(&format!("{RECIPE}{DISTILL}"), &["train.epochs=20"]).unwrap();
    let mut stages = Vec::new();
    let done = go(data.path(), &recipe, &folder, &mut stages).unwrap();
    assert_eq!(stages.len(), 5);
    let found = done.findings.clone().unwrap();
    assert!(found.right > 0.8, "{found:?}");
    assert!(found.shift > 0.95 && found.swap <= 0.05, "{found:?}");
    assert!(done.student.best_wer.unwrap() <= 15.0, "{done:?}");
    let report = std::fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(report.contains("<polyline") && report.contains("another's"));

    // Again: everything is known, nothing is trained.
    let begun = std::time::Instant::now();
    let again = go(data.path(), &recipe, &folder, &mut Vec::new()).unwrap();
    assert_eq!(again, done);
    assert!(begun.elapsed().as_secs_f64() < done.student.seconds + 20.0);

    // The student is a recognizer.
    let student = SpeechRecognizer::builder(&library())
        .open(folder.join("model/model.onnx"))
        .unwrap();
    assert_eq!(student.spec().role, Role::Student);
    assert_eq!(student.spec().sha256, done.sha256);

    // The teacher is none, but runs when it is told what was said.
    let path = folder.join("model/oracle.onnx");
    let refused = SpeechRecognizer::builder(&library())
        .open(&path)
        .unwrap_err();
    assert_eq!(refused.kind(), RuntimeErrorKind::Role);
    let model = OrtModel::open(&library(), &path, &OrtOptions::default()).unwrap();
    let spec = model.spec().clone();
    assert_eq!(spec.role, Role::OracleTeacher);
    let FrontEnd::LogMel(mel) = &spec.front_end else {
        panic!("tones are log-mel features")
    };
    let fbank = Fbank::new(mel).unwrap();
    let tokens = Arc::new(Tokens::new(spec.tokens.clone()).unwrap());
    let plan = Decoding::greedy().plan(&tokens).unwrap();
    let mut right = 0;
    let said = sentences(16, 2);
    for text in &said {
        let audio = Audio::new(tones(text), RATE, 1).unwrap();
        let features = fbank.compute(audio.samples()).unwrap();
        let label = tokens.encode(text).unwrap();
        let scores = model.run_labeled(features.view(), &label).unwrap();
        assert_eq!(scores.nrows(), features.nrows().div_ceil(spec.stride));
        let heard = plan.decode(&LogProbs::from_logits(scores.view())).unwrap();
        right += usize::from(&heard.best().text == text);
        let bare = model.run(features.view(), &mut ModelState::start(&spec));
        assert_eq!(bare.unwrap_err().kind(), RuntimeErrorKind::Role);
    }
    assert!(right >= 12, "{right} of {}", said.len());
    let long = vec![1; 1000];
    let fbank_of = fbank.compute(&tones("ab")).unwrap();
    let error = model.run_labeled(fbank_of.view(), &long).unwrap_err();
    assert_eq!(error.kind(), RuntimeErrorKind::InvalidArgument);
}

#[test]
fn a_teacher_that_has_learned_too_little_is_refused_before_any_student() {
    let data = toy();
    let folder = data.path().join("run");
    let recipe = Recipe::parse(
        &format!("{RECIPE}{DISTILL}"),
        &["teacher.train.epochs=1", "train.epochs=1"],
    )
    .unwrap();
    let mut stages = Vec::new();
    let error = go(data.path(), &recipe, &folder, &mut stages).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Copies);
    assert!(error.to_string().contains("refused as a guide"), "{error}");
    assert_eq!(stages, [Stage::Teacher, Stage::Check]);
}

#[test]
fn views_live_guidance_and_a_symmetric_student_go_together() {
    let data = toy();
    let folder = data.path().join("run");
    let text = format!("{RECIPE}{DISTILL}").replace(
        "objectives = [{ kind = \"kl\" }]",
        "view = \"same\"\nguide = \"occupancy\"\nobjectives = [{ kind = \"kl\", frames = \"window\" }, \
         { kind = \"consistency\", weight = 0.2 }, { kind = \"hidden\", weight = 0.1 }, { kind = \"sequence\", weight = 0.1 }]",
    );
    let recipe = Recipe::parse(
        &text,
        &[
            "model.context=symmetric",
            "model.delay_frames=0",
            "train.epochs=6",
            "teacher.train.epochs=16",
            "augment.spec_augment={ time_masks = 1, time_width = 6, frequency_masks = 1, frequency_width = 4 }",
        ],
    )
    .unwrap();
    let done = go(data.path(), &recipe, &folder, &mut Vec::new()).unwrap();
    let metrics = std::fs::read_to_string(folder.join("student/metrics.jsonl")).unwrap();
    for part in [
        "part.ctc",
        "part.0.kl",
        "part.1.consistency",
        "part.2.hidden",
        "part.3.sequence",
    ] {
        assert!(metrics.contains(part), "{part}");
    }
    let student = SpeechRecognizer::builder(&library())
        .open(folder.join("model/model.onnx"))
        .unwrap();
    assert!(student.spec().streaming.is_none());
    let audio = Audio::new(tones("ab"), RATE, 1).unwrap();
    student.recognize(&audio, &Decoding::greedy()).unwrap();
    assert!(done.difference <= 1e-4);
}
