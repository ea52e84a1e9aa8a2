//! The command `acolyte` as a user meets it: what goes to which stream, exit codes, bad input among good.

use acolyte_tests::{acolyte, repository, sample, speech_tiny, write_wav};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(acolyte())
        .current_dir(repository())
        .args(arguments)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn objects(output: &Output) -> Vec<Value> {
    stdout(output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn json_has_an_object_a_file_in_order() {
    let files = [
        "examples/samples/spelled-robert.wav",
        "examples/samples/command-yes.wav",
    ];
    let output = run(&["transcribe", "--json", files[0], files[1]]);
    assert!(output.status.success(), "{}", stderr(&output));
    let rows = objects(&output);
    assert_eq!(rows.len(), 2);
    for (row, file) in rows.iter().zip(files) {
        assert_eq!(row["path"], file, "the path as given");
        assert!(row.get("error").is_none());
        let duration = row["duration"].as_f64().unwrap();
        assert!(duration > 0.5 && row["elapsed"].as_f64().unwrap() > 0.0);
        assert!((0.0..=1.0).contains(&row["confidence"].as_f64().unwrap()));
        let mut end = 0.0;
        let words = row["words"].as_array().unwrap();
        let joined: Vec<&str> = words.iter().map(|w| w["text"].as_str().unwrap()).collect();
        assert_eq!(joined.join(" "), row["text"].as_str().unwrap());
        for word in words {
            let (start, stop) = (
                word["start"].as_f64().unwrap(),
                word["end"].as_f64().unwrap(),
            );
            assert!(
                start >= end && stop > start && stop <= duration + 0.1,
                "{word}"
            );
            end = start;
        }
    }
    assert_eq!(rows[1]["text"], "yes");
}

#[test]
fn bad_files_are_objects_too_and_the_others_are_done() {
    let folder = tempfile::tempdir().unwrap();
    let fake = folder.path().join("fake.wav");
    std::fs::write(&fake, "this is a text file").unwrap();
    let empty = folder.path().join("empty.wav");
    std::fs::write(&empty, "").unwrap();
    let missing = folder.path().join("missing.wav");
    let good = sample("command-stop.wav");
    let output = run(&[
        "transcribe",
        "--json",
        text(&fake),
        text(&good),
        text(&missing),
        text(&empty),
        text(&good),
    ]);
    assert_eq!(output.status.code(), Some(1));
    let rows = objects(&output);
    assert_eq!(rows.len(), 5);
    for (index, row) in rows.iter().enumerate() {
        let is_good = index == 1 || index == 4;
        assert_eq!(row.get("error").is_none(), is_good, "{row}");
        assert_eq!(row.get("text").is_some(), is_good, "{row}");
    }
    assert_eq!(rows[1]["text"], rows[4]["text"]);
}

#[test]
fn silence_and_a_single_sample_give_empty_text_and_success() {
    let folder = tempfile::tempdir().unwrap();
    let silence = folder.path().join("silence.wav");
    write_wav(&silence, &vec![0.0; 48_000]);
    let one = folder.path().join("one.wav");
    write_wav(&one, &[0.5]);
    let none = folder.path().join("none.wav");
    write_wav(&none, &[]);
    let output = run(&[
        "transcribe",
        "--json",
        text(&silence),
        text(&one),
        text(&none),
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    for row in objects(&output) {
        assert_eq!(row["text"], "", "{row}");
        assert_eq!(row["words"], Value::Array(vec![]));
    }
}

#[test]
fn other_rates_channels_and_widths_say_the_same() {
    let output = run(&[
        "transcribe",
        "--json",
        text(&sample("command-stop.wav")),
        text(&sample("command-stop-44k1-stereo-24bit.wav")),
    ]);
    let rows = objects(&output);
    assert_eq!(rows[0]["text"], rows[1]["text"]);
    let lengths = [0, 1].map(|i: usize| rows[i]["duration"].as_f64().unwrap());
    assert!((lengths[0] - lengths[1]).abs() < 0.001);
}

#[test]
fn srt_counts_and_times() {
    let output = run(&["transcribe", "--srt", text(&sample("spelled-robert.wav"))]);
    assert!(output.status.success());
    let srt = stdout(&output);
    assert!(srt.starts_with("1\n00:00:0"), "{srt}");
    assert!(srt.contains(" --> 00:00:0"), "{srt}");
}

#[test]
fn info_tells_what_the_file_says() {
    let output = run(&["info", "--json", "speech-tiny"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let info: Value = serde_json::from_str(stdout(&output).trim()).unwrap();
    let shown = info.to_string();
    let spec = acolyte::model::ModelFile::open(speech_tiny())
        .unwrap()
        .spec()
        .clone();
    for expected in [spec.sha256.as_str(), "speech-tiny", "CPU"] {
        assert!(
            shown.to_lowercase().contains(&expected.to_lowercase()),
            "{expected} in {shown}"
        );
    }
    let plain = run(&["info", "speech-tiny"]);
    assert!(stdout(&plain).contains(&spec.sha256));
    let ran = run(&["info", "speech-tiny", "--provider", "cpu"]);
    let shown = stdout(&ran);
    let line = shown
        .lines()
        .find(|line| line.starts_with("nodes ran"))
        .unwrap();
    assert!(line.ends_with(" on CPUExecutionProvider"), "{line}");
    // A provider that is named is used or refused.
    let refused = run(&["info", "speech-tiny", "--provider", "nnapi"]);
    assert!(!refused.status.success() && stderr(&refused).contains("nnapi is not in this build"));
}

#[test]
fn score_counts_each_kind_of_error() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let reference = write("ref.txt", "the cat sat\non the mat\n");
    let hypothesis = write("hyp.txt", "the cat sat down\non a mat\n");
    let output = run(&["score", "--json", text(&reference), text(&hypothesis)]);
    assert!(output.status.success(), "{}", stderr(&output));
    let score: Value = serde_json::from_str(stdout(&output).trim()).unwrap();
    assert!(
        (score["wer"].as_f64().unwrap() - 100.0 * 2.0 / 6.0).abs() < 1e-6,
        "{score}"
    );
}

#[test]
fn a_missing_model_or_provider_is_a_clear_error() {
    let good = sample("command-stop.wav");
    let output = run(&["transcribe", "--model", "no-such-model", text(&good)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("no-such-model"),
        "{}",
        stderr(&output)
    );
    let output = run(&["transcribe", "--provider", "cuda", text(&good)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).to_lowercase().contains("cuda"),
        "never a silent fallback"
    );
    assert!(stdout(&output).is_empty());
}

#[test]
fn without_the_library_the_error_is_the_command_to_run() {
    // A copy of the program outside the repository finds neither library nor models.
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("acolyte");
    std::fs::copy(acolyte(), &program).unwrap();
    let output = Command::new(&program)
        .current_dir(folder.path())
        .env_remove("ORT_DYLIB_PATH")
        .env_remove("ONNXRUNTIME_DIR")
        .args([
            "transcribe",
            "--model",
            text(&speech_tiny()),
            text(&sample("command-stop.wav")),
        ])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("cargo xtask setup"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn compare_measures_models_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let (json, svg) = (folder.path().join("c.json"), folder.path().join("c.svg"));
    let samples = sample("samples.jsonl");
    let output = run(&[
        "compare",
        text(&speech_tiny()),
        "speech-tiny",
        "--data",
        text(&samples),
        "--threads",
        "1,2",
        "--json",
        text(&json),
        "--svg",
        text(&svg),
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let found: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let rows = found["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4, "two names, two thread counts");
    for row in rows {
        assert!(row["latency_ms"]["p50"].as_f64().unwrap() > 0.0);
        assert!(row["latency_ms"]["p50"].as_f64() <= row["latency_ms"]["p99"].as_f64());
        assert!(row["parameters"].as_u64().unwrap() > 100_000);
        assert_eq!(row["given_the_transcript"], false);
        assert_eq!(row["wer"], rows[0]["wer"]);
    }
    let against = &found["against"][0];
    assert_eq!(against["agreement"], 100.0);
    assert_eq!(against["difference"], 0.0);
    assert!(
        std::fs::read_to_string(&svg)
            .unwrap()
            .matches("<circle")
            .count()
            == 4
    );
    assert!(stdout(&output).contains("| RTF |"));

    let words = sample("words.jsonl");
    let crops = run(&["compare", "scene-tiny", "--data", text(&words)]);
    assert!(crops.status.success(), "{}", stderr(&crops));
    assert!(stdout(&crops).starts_with("4 crops"));
    assert!(
        stdout(&crops).contains("| - |") && stdout(&crops).contains("| 0.00 [0.0, 0.0] | 0.00 |")
    );
    let mixed = run(&["compare", "speech-tiny", "--data", text(&words)]);
    assert!(stderr(&mixed).contains("hears recordings"));

    let missing = run(&["compare", "speech-tiny", "--data", "no-such.jsonl"]);
    assert!(!missing.status.success());
    assert!(stderr(&missing).contains("no-such.jsonl"));
}
