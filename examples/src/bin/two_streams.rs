//! Two callers, one model: streams share its weights, and their chunks run as one batch.
//!
//! `cargo run --release -p acolyte-examples --bin two_streams -- examples/samples/digits.wav
//! examples/samples/number.wav` writes what each of them said.
#![allow(clippy::print_stdout)] // A program speaks to its user.

use acolyte::{Audio, Decoding, Event, Library, Samples, SpeechRecognizer, SpeechStream};
use anyhow::{Result, ensure};

fn main() -> Result<()> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    ensure!(files.len() == 2, "name two WAV files");
    let library = Library::find()?;
    let speech = SpeechRecognizer::builder(&library).open("models/speech-tiny/model.onnx")?;
    let audio: Vec<Audio> = files.iter().map(Audio::open).collect::<Result<_, _>>()?;
    let mut streams = vec![
        speech.stream(&Decoding::greedy())?,
        speech.stream(&Decoding::greedy())?,
    ];
    // Tenths of a second, as if both called at the same time.
    let longest = audio.iter().map(Audio::duration).fold(0.0, f64::max);
    for tenth in 0..(longest * 10.0).ceil() as usize {
        for (stream, audio) in streams.iter_mut().zip(&audio) {
            let block = audio.sample_rate() as usize / 10;
            let samples = audio.samples().chunks(block).nth(tenth).unwrap_or(&[]);
            stream.feed(Samples::mono(samples, audio.sample_rate()))?;
        }
        let mut all: Vec<&mut SpeechStream> = streams.iter_mut().collect();
        SpeechStream::run_together(&mut all)?;
    }
    for (file, stream) in files.iter().zip(streams) {
        for event in stream.finish()? {
            if let Event::Final(readings) = event {
                println!("{file}: {}", readings.best().text);
            }
        }
    }
    Ok(())
}
