//! The shipped model live: any pushes equal each other, live equals offline, silence and noise say nothing.

use acolyte::{Audio, Decoding, Event, NBest, Samples, SpeechRecognizer, SpeechStream, TimeSpan};
use acolyte_tests::{library, sample, speech_tiny};
use proptest::prelude::*;
use std::sync::OnceLock;

fn recognizer() -> SpeechRecognizer {
    static RECOGNIZER: OnceLock<SpeechRecognizer> = OnceLock::new();
    RECOGNIZER
        .get_or_init(|| {
            SpeechRecognizer::builder(&library())
                .open(speech_tiny())
                .unwrap()
        })
        .clone()
}

fn finals(mut stream: SpeechStream, pieces: &[&[f32]], rate: u32) -> Vec<NBest<TimeSpan>> {
    let mut events = Vec::new();
    for piece in pieces {
        stream.push(Samples::mono(piece, rate)).unwrap();
        while let Some(event) = stream.poll().unwrap() {
            events.push(event);
        }
    }
    events.extend(stream.finish().unwrap());
    let readings = events.into_iter().filter_map(|event| match event {
        Event::Final(readings) => Some(readings),
        _ => None,
    });
    readings.collect()
}

/// One sample after the other with two seconds of silence between them.
fn all_samples() -> Vec<f32> {
    let mut samples = Vec::new();
    for name in [
        "command-stop.wav",
        "digits.wav",
        "command-left.wav",
        "number.wav",
    ] {
        let audio = Audio::open(sample(name)).unwrap();
        samples.extend(audio.mono(16_000).unwrap());
        samples.extend([0.0; 32_000]);
    }
    samples
}

#[test]
fn a_recording_live_has_the_tokens_and_times_it_has_offline() {
    for name in [
        "command-stop-44k1-stereo-24bit.wav",
        "digits.wav",
        "sentence-door.wav",
    ] {
        let audio = Audio::open(sample(name)).unwrap();
        for decoding in [Decoding::greedy(), Decoding::beam(8)] {
            let offline = recognizer().recognize(&audio, &decoding).unwrap();
            let pieces: Vec<&[f32]> = audio.samples().chunks(977).collect();
            let stream = recognizer().stream(&decoding).unwrap();
            let live = finals(stream, &pieces, audio.sample_rate());
            let words = |said: &[acolyte::Word<TimeSpan>]| -> Vec<(String, TimeSpan)> {
                said.iter()
                    .map(|word| (word.text.clone(), word.span))
                    .collect()
            };
            let live: Vec<acolyte::Word<TimeSpan>> = live
                .iter()
                .flat_map(|readings| readings.best().words.clone())
                .collect();
            assert_eq!(words(&live), words(&offline.words), "{name}");
        }
    }
}

#[test]
fn chunks_give_the_scores_of_one_run() {
    let audio = Audio::open(sample("digits.wav")).unwrap();
    let whole = recognizer().scores(&audio).unwrap();
    let chunk = recognizer().spec().streaming.as_ref().unwrap().chunk_frames;
    let chunked = recognizer()
        .with_block_frames(chunk)
        .scores(&audio)
        .unwrap();
    assert_eq!(whole.dim(), chunked.dim());
    let apart = whole.iter().zip(&chunked).map(|(a, b)| (a - b).abs());
    let apart = apart.fold(0.0, f32::max);
    assert!(apart <= 1e-4, "scores differ by {apart}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn any_pushes_give_the_same_events(
        sizes in prop::collection::vec(1usize..20_000, 1..40),
        rate in prop::sample::select(vec![16_000u32, 44_100]),
    ) {
        let sixteen = Audio::new(all_samples(), 16_000, 1).unwrap();
        let samples = sixteen.mono(rate).unwrap();
        let mut rest = &samples[..];
        let mut pieces = Vec::new();
        for size in sizes.iter().cycle() {
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            pieces.push(piece);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        let stream = || recognizer().stream(&Decoding::greedy()).unwrap();
        let whole = finals(stream(), &[&samples], rate);
        prop_assert!(whole.len() >= 3, "{} utterances", whole.len());
        prop_assert_eq!(finals(stream(), &pieces, rate), whole);
    }
}

#[test]
fn silence_says_nothing() {
    let minute = vec![0.0; 60 * 16_000];
    let said = finals(
        recognizer().stream(&Decoding::greedy()).unwrap(),
        &[&minute],
        16_000,
    );
    let texts: Vec<&str> = said
        .iter()
        .map(|readings| readings.best().text.as_str())
        .collect();
    assert_eq!(texts, [""; 0]);
}

#[test]
fn streams_in_a_batch_say_what_they_say_alone() {
    let audio: Vec<Vec<f32>> = ["command-stop.wav", "digits.wav", "number.wav"]
        .iter()
        .map(|name| Audio::open(sample(name)).unwrap().mono(16_000).unwrap())
        .collect();
    let stream = || recognizer().stream(&Decoding::greedy()).unwrap();
    let alone: Vec<Vec<String>> = audio
        .iter()
        .map(|samples| texts(finals(stream(), &[samples], 16_000)))
        .collect();
    let mut streams: Vec<SpeechStream> = audio.iter().map(|_| stream()).collect();
    let longest = audio.iter().map(Vec::len).max().unwrap();
    for start in (0..longest).step_by(3_200) {
        for (stream, samples) in streams.iter_mut().zip(&audio) {
            let piece = samples.get(start..).unwrap_or(&[]);
            let piece = &piece[..piece.len().min(3_200)];
            stream.feed(Samples::mono(piece, 16_000)).unwrap();
        }
        let mut all: Vec<&mut SpeechStream> = streams.iter_mut().collect();
        SpeechStream::run_together(&mut all).unwrap();
    }
    let together: Vec<Vec<String>> = streams
        .into_iter()
        .map(|stream| texts(finals(stream, &[], 16_000)))
        .collect();
    assert_eq!(together, alone);
}

fn texts(said: Vec<NBest<TimeSpan>>) -> Vec<String> {
    said.into_iter()
        .map(|readings| readings.into_best().text)
        .collect()
}
