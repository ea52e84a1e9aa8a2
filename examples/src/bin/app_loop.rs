//! An app that has samples of its own: push them as they come, poll what came of it.
//!
//! `cargo run --release -p acolyte-examples --bin app_loop -- examples/samples/digits.wav` shows the text growing, as a
//! caption would.
#![allow(clippy::print_stdout)] // A program speaks to its user.

use acolyte::{Audio, Decoding, Event, Library, Samples, SpeechRecognizer};
use anyhow::{Context, Result};

fn main() -> Result<()> {
    let file = std::env::args().nth(1).context("name a WAV file")?;
    let audio = Audio::open(file)?;
    let library = Library::find()?;
    let speech = SpeechRecognizer::builder(&library).open("models/speech-tiny/model.onnx")?;
    let mut stream = speech.stream(&Decoding::greedy())?;
    // Whatever an audio callback hands over: here 10 ms at a time.
    let block = audio.sample_rate() as usize / 100;
    for samples in audio.samples().chunks(block) {
        stream.push(Samples::mono(samples, audio.sample_rate()))?;
        while let Some(event) = stream.poll()? {
            show(stream.seconds(), &event);
        }
    }
    let end = stream.seconds();
    for event in stream.finish()? {
        show(end, &event);
    }
    Ok(())
}

fn show(seconds: f64, event: &Event) {
    match event {
        Event::Partial { stable, tentative } => println!("{seconds:6.2} s  {stable}[{tentative}]"),
        Event::Final(readings) => println!("{seconds:6.2} s  {}.", readings.best().text),
        _ => {}
    }
}
