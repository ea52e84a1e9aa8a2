//! The microphone path without a microphone: ALSA's `file` plugin reads a pipe that a thread here feeds at the pace of a
//! device, and the program runs as a child with that configuration.

use acolyte::Audio;
use acolyte_tests::{acolyte, repository, sample, speech_tiny};
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// What `cpal` opens a device with that takes any format: 48 kHz, two channels, f32.
const RATE: u32 = 48_000;
const CHANNELS: usize = 2;

/// A device `default` whose samples are read from `input`, taken as they are. ALSA's `null` device, which stands behind
/// it, has no pace of its own.
fn device(folder: &Path, input: &Path) -> PathBuf {
    let config = folder.join("asound.conf");
    let text = format!(
        "pcm.null {{ type null }}\n\
         pcm.!default {{ type file\n slave.pcm \"null\"\n file \"/dev/null\"\n infile \"{}\"\n format raw }}\n\
         ctl.!default {{ type hw\n card 0 }}\n",
        input.display()
    );
    std::fs::write(&config, text).unwrap();
    config
}

/// A device that is fed through a pipe: its configuration and the pipe.
fn fed_device(folder: &Path) -> (PathBuf, PathBuf) {
    let pipe = folder.join("samples");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success(), "mkfifo");
    (device(folder, &pipe), pipe)
}

/// Writes frames at the pace of a device, then silence until nobody reads any more.
fn feed(pipe: PathBuf, samples: Vec<f32>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut pipe = OpenOptions::new().write(true).open(pipe).unwrap();
        let started = Instant::now();
        let mut all = samples.into_iter().chain(std::iter::repeat(0.0));
        let block = RATE as usize / 50;
        for blocks in 1u32.. {
            let frames = (&mut all).take(block);
            let bytes: Vec<u8> = frames
                .flat_map(|sample| [sample; CHANNELS])
                .flat_map(f32::to_le_bytes)
                .collect();
            if pipe.write_all(&bytes).is_err() {
                return;
            }
            let due = Duration::from_millis(20) * blocks;
            std::thread::sleep(due.saturating_sub(started.elapsed()));
        }
    })
}

fn listen(config: &Path, arguments: &[&str]) -> Output {
    Command::new(acolyte())
        .current_dir(repository())
        .env("ALSA_CONFIG_PATH", config)
        .args([
            "listen",
            "--json",
            "--model",
            speech_tiny().to_str().unwrap(),
        ])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn finals(output: &Output) -> Vec<String> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let events = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let finals = events.filter(|event| event["event"] == "final");
    finals
        .map(|event| event["text"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_device_is_heard_to_the_last_sample() {
    let folder = tempfile::tempdir().unwrap();
    let (config, pipe) = fed_device(folder.path());
    let speech = Audio::open(sample("command-stop.wav"))
        .unwrap()
        .mono(RATE)
        .unwrap();
    let fed = feed(pipe, speech.clone());
    let saved = folder.path().join("heard.wav");
    let output = listen(
        &config,
        &["--seconds", "6", "--save-audio", saved.to_str().unwrap()],
    );
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    fed.join().unwrap();
    assert_eq!(finals(&output), ["stop"], "{stderr}");
    assert!(!stderr.contains("lost"), "{stderr}");
    // Every sample once and in order: what was heard begins with what was fed.
    let mut reader = hound::WavReader::open(&saved).unwrap();
    let spec = reader.spec();
    assert_eq!(
        (spec.sample_rate, usize::from(spec.channels)),
        (RATE, CHANNELS)
    );
    let heard: Vec<i16> = reader.samples::<i16>().map(Result::unwrap).collect();
    let expected: Vec<i16> = speech
        .iter()
        .flat_map(|&sample| {
            [(sample.clamp(-1.0, 1.0) * f32::from(i16::MAX)).round() as i16; CHANNELS]
        })
        .collect();
    assert_eq!(heard[..expected.len()], expected);
    assert!(heard[expected.len()..].iter().all(|&sample| sample == 0));
}

#[test]
fn a_reader_that_is_too_slow_is_told_what_it_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (config, pipe) = fed_device(folder.path());
    let fed = feed(pipe, Vec::new());
    // Nothing reads the ring for 4 seconds, and it holds 2.
    let output = listen(&config, &["--seconds", "2", "--stall", "4"]);
    fed.join().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("acolyte: lost"), "{stderr}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let gap = stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .find(|event| event["event"] == "gap");
    let lost = gap.unwrap_or_else(|| panic!("{stdout}{stderr}"))["lost"]
        .as_f64()
        .unwrap();
    assert!((1.0..3.5).contains(&lost), "{lost} s lost");
}

#[test]
fn a_wrong_name_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let config = device(folder.path(), Path::new("/dev/zero"));
    let output = listen(&config, &["--device", "nobody"]);
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("no microphone \"nobody\""), "{stderr}");
}
