//! What is said into the default microphone, as it is said.
//!
//! `cargo run --release -p acolyte-examples --features mic --bin live_microphone` writes an utterance a line, and
//! stops after a minute.
#![allow(clippy::print_stdout)] // A program speaks to its user.

use acolyte::capture::{MicOptions, Microphone};
use acolyte::{Decoding, Event, Library, Live, LiveState, SpeechRecognizer};
use anyhow::Result;
use std::time::{Duration, Instant};

fn main() -> Result<()> {
    let library = Library::find()?;
    let speech = SpeechRecognizer::builder(&library).open("models/speech-tiny/model.onnx")?;
    speech.warm_up()?;
    let microphone = Microphone::open(MicOptions::default())?;
    let mut live = Live::new(microphone, speech.stream(&Decoding::greedy())?);
    let started = Instant::now();
    while live.step()? != LiveState::Ended {
        while let Some(event) = live.poll()? {
            show(&event);
        }
        if started.elapsed() > Duration::from_secs(60) {
            live.stop()?;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    while let Some(event) = live.poll()? {
        show(&event);
    }
    Ok(())
}

fn show(event: &Event) {
    match event {
        Event::Final(readings) => println!("{}", readings.best().text),
        Event::Gap { lost } => println!("({lost:.1} s lost)"),
        _ => {}
    }
}
