//! Words an app expects right now, changed while it listens: a new list takes over at the next utterance.
//!
//! `cargo run --release -p acolyte-examples --bin hotwords_live -- examples/samples/command-stop.wav` hears the
//! recording twice: with a list that has its word, then with one that does not.
#![allow(clippy::print_stdout)] // A program speaks to its user.

use acolyte::{Audio, Decoding, Event, Library, Samples, SpeechRecognizer};
use anyhow::{Context, Result};

fn main() -> Result<()> {
    let file = std::env::args().nth(1).context("name a WAV file")?;
    let audio = Audio::open(file)?;
    let library = Library::find()?;
    let speech = SpeechRecognizer::builder(&library).open("models/speech-tiny/model.onnx")?;
    let expecting =
        |words: &[&str]| Decoding::beam(16).hotwords(words.iter().map(|&word| (word, 4.0)));
    let mut stream = speech.stream(&expecting(&["stop", "left"]))?;
    let silence = vec![0.0; 2 * audio.sample_rate() as usize];
    for round in 0..2 {
        stream.push(Samples::mono(audio.samples(), audio.sample_rate()))?;
        stream.push(Samples::mono(&silence, audio.sample_rate()))?;
        if round == 0 {
            stream.swap(&speech, &expecting(&["marvin", "sheila"]))?;
        }
    }
    for event in stream.finish()? {
        if let Event::Final(readings) = event {
            let best = readings.best();
            println!("{} ({:.0} % sure)", best.text, 100.0 * best.confidence);
        }
    }
    Ok(())
}
