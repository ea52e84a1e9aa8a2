//! Words, times and confidences of a recording.
//!
//! `cargo run --release -p acolyte-examples --bin hello_wav -- examples/samples/spelled-robert.wav`
//! prints `r 0.34-0.38 0.99` and so on, a word a line.
#![allow(clippy::print_stdout)] // A program speaks to its user.

use acolyte::{Audio, Decoding, Library, SpeechRecognizer};
use anyhow::{Context, Result};

fn main() -> Result<()> {
    let file = std::env::args().nth(1).context("name a WAV file")?;
    let library = Library::find()?;
    let speech = SpeechRecognizer::builder(&library).open("models/speech-tiny/model.onnx")?;
    let said = speech.recognize(&Audio::open(file)?, &Decoding::greedy())?;
    for word in &said.words {
        println!(
            "{} {:.2}-{:.2} {:.2}",
            word.text, word.span.start, word.span.end, word.confidence
        );
    }
    Ok(())
}
