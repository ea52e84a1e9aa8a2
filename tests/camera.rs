//! `acolyte scan` on toy letters: from a folder, from MJPEG and raw frames on standard input; stopped in the middle;
//! with a camera that is much faster than reading.

use crate::letters::{picture, train, words, write_set};
use acolyte::{Decoding, Image, TextRecognizer};
use acolyte_tests::{acolyte, library, repository};
use acolyte_trainer::export::{ExportOptions, export};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A reader of toy letters, and two words of one length that it reads well.
struct Toy {
    model: PathBuf,
    words: [String; 2],
}

fn toy(data: &Path) -> Toy {
    write_set(data, "train", &words(96, 1));
    write_set(data, "dev", &words(30, 2));
    train(data);
    let out = data.join("model");
    export(
        &library(),
        &data.join("run"),
        &out,
        &ExportOptions::default(),
    )
    .unwrap();
    let model = out.join("model.onnx");
    let reader = TextRecognizer::builder(&library()).open(&model).unwrap();
    let mut sure: Vec<(f32, String)> = (words(60, 3).into_iter().filter(|word| word.len() == 3))
        .filter_map(|word| {
            let read = reader
                .recognize(picture(&word).view(), &Decoding::greedy())
                .unwrap();
            (read.text == word).then_some((read.confidence, word))
        })
        .collect();
    sure.sort_by(|a, b| b.0.total_cmp(&a.0));
    sure.dedup_by(|a, b| a.1 == b.1);
    let [(_, first), (_, second), ..] = sure.as_slice() else {
        panic!("the toy reader reads next to nothing");
    };
    Toy {
        model,
        words: [first.clone(), second.clone()],
    }
}

fn jpeg(image: &Image) -> Vec<u8> {
    let mut out = Vec::new();
    let (width, height) = (image.width() as u16, image.height() as u16);
    jpeg_encoder::Encoder::new(&mut out, 95)
        .encode(image.rgb(), width, height, jpeg_encoder::ColorType::Rgb)
        .unwrap();
    out
}

impl Toy {
    fn scan(&self, arguments: &[&str]) -> Child {
        Command::new(acolyte())
            .current_dir(repository())
            .args(["scan", "--model", self.model.to_str().unwrap()])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn scan_bytes(&self, arguments: &[&str], bytes: &[u8]) -> Output {
        let mut child = self.scan(arguments);
        let mut input = child.stdin.take().unwrap();
        input.write_all(bytes).unwrap();
        drop(input);
        child.wait_with_output().unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Event and text of every line.
fn events(output: &Output) -> Vec<(String, String)> {
    let lines = text(&output.stdout);
    let field = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    (lines.lines())
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|row| (field(&row, "event"), field(&row, "text")))
        .collect()
}

#[test]
fn a_camera_is_read_from_a_folder_and_from_standard_input() {
    let data = tempfile::tempdir().unwrap();
    let toy = toy(data.path());
    let pictures = toy.words.each_ref().map(|word| picture(word));

    // A folder: six frames of one word, then six of another; each is told once.
    let folder = data.path().join("frames");
    std::fs::create_dir(&folder).unwrap();
    for index in 0..12 {
        let png = pictures[index / 6].to_png().unwrap();
        std::fs::write(folder.join(format!("{index:03}.png")), png).unwrap();
    }
    let output = toy.scan_bytes(&[folder.to_str().unwrap()], b"");
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert_eq!(
        text(&output.stdout),
        format!("{}\n{}\n", toy.words[0], toy.words[1]),
        "{stderr}"
    );
    assert!(stderr.contains("12 frames: 0 dropped"), "{stderr}");

    // The same as MJPEG on standard input, with a broken frame between them.
    let [first, second] = pictures.each_ref().map(jpeg);
    let broken = [0xff, 0xd8, 0xff, 0xd9];
    let stream = [first.repeat(6), broken.to_vec(), second.repeat(6)].concat();
    let output = toy.scan_bytes(&["-", "--every-frame", "--json"], &stream);
    assert_eq!(output.status.code(), Some(1), "a damaged frame is told");
    assert!(text(&output.stderr).contains("1 damaged"));
    let settled: Vec<String> = (events(&output).into_iter())
        .filter(|(event, _)| event == "settled")
        .map(|(_, text)| text)
        .collect();
    assert_eq!(settled, toy.words);

    // Raw frames, too few to settle: the last words are delivered all the same.
    let size = format!("{}x{}", pictures[0].width(), pictures[0].height());
    let raw = ["-", "--every-frame", "--raw", &size, "--pixels", "rgb"];
    let output = toy.scan_bytes(&raw, &pictures[0].rgb().repeat(2));
    assert_eq!(text(&output.stdout), format!("{}\n", toy.words[0]));

    // A camera much faster than reading: what is dropped is counted, and the last frame is read.
    let stream = first.repeat(300);
    let output = toy.scan_bytes(&["-", "--rate", "2", "--json"], &stream);
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(
        stderr.contains("300 frames") && !stderr.contains(": 0 dropped"),
        "{stderr}"
    );
    let (event, last) = events(&output).pop().unwrap();
    assert_eq!(
        (event.as_str(), last.as_str()),
        ("left", toy.words[0].as_str())
    );

    // Ctrl-C while a word is being read.
    let mut child = toy.scan(&["-", "--json"]);
    let mut input = child.stdin.take().unwrap();
    input.write_all(&first).unwrap();
    input.flush().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let row: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(
        (row["event"].as_str(), row["text"].as_str()),
        (Some("tentative"), Some(&*toy.words[0]))
    );
    let asked = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(asked.success());
    let row: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(
        (row["event"].as_str(), row["text"].as_str()),
        (Some("left"), Some(&*toy.words[0]))
    );
    assert!(child.wait().unwrap().success());
    drop(input);
}

#[test]
fn what_is_no_camera_is_refused_in_words() {
    let output = Command::new(acolyte())
        .args(["scan", "/dev/null", "--model"])
        .arg(acolyte_tests::speech_tiny())
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(
        text(&output.stderr).contains("reads no images"),
        "a model of speech"
    );
}
