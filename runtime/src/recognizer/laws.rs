//! The laws of streams: cuts change nothing, streaming equals recognizing, and no sample is lost or heard twice.

use super::testing::{fake, fake_spec, hertz, tones};
use super::{EndpointRules, Event, Samples, SpeechRecognizer, SpeechStream};
use crate::decode::Constraint;
use crate::model::FakeModel;
use crate::spec::{FrontEnd, Normalization};
use crate::{Audio, Decoding, ErrorKind};
use proptest::prelude::*;
use std::f32::consts::TAU;

/// Mono samples of `text` in tones at `rate`; `_` is a second of silence. Under it all hums the blank, as in a silence
/// without any sound all tokens of the model are equally likely, and a beam search sums up many spellings of nothing.
fn signal(text: &str, rate: u32) -> Vec<f32> {
    let mut samples = Vec::new();
    for part in text.split_inclusive('_') {
        samples.extend(tones(part.trim_end_matches('_'), rate, 1).samples());
        if part.ends_with('_') {
            samples.extend(std::iter::repeat_n(0.0, rate as usize));
        }
    }
    for (at, sample) in samples.iter_mut().enumerate() {
        *sample += 0.05 * (TAU * hertz(0) * at as f32 / rate as f32).sin();
    }
    samples
}

/// All events of a stream that is pushed these pieces; partials are left out, as polling late skips some.
fn finals(mut stream: SpeechStream, pieces: &[&[f32]], rate: u32) -> Vec<Event> {
    let mut events = Vec::new();
    for piece in pieces {
        stream.push(Samples::mono(piece, rate)).unwrap();
        while let Some(event) = stream.poll().unwrap() {
            events.push(event);
        }
    }
    events.extend(stream.finish().unwrap());
    events.retain(|event| !matches!(event, Event::Partial { .. }));
    events
}

fn texts(events: &[Event]) -> Vec<String> {
    let text = |event: &Event| match event {
        Event::Final(readings) => readings.best().text.clone(),
        Event::Rejected(heard) => format!("not {}", heard.text),
        Event::Gap { lost } => format!("gap {lost}"),
        Event::Partial { .. } => "partial".into(),
    };
    events.iter().map(text).collect()
}

fn stream(decoding: &Decoding) -> SpeechStream {
    fake().stream(decoding).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn cuts_change_nothing(
        cuts in prop::collection::vec(0.0f64..1.0, 0..12),
        rate in prop::sample::select(vec![8_000u32, 16_000, 22_050, 44_100, 48_000]),
        beam in any::<bool>(),
    ) {
        let samples = signal("ab_cad bad__dac_", rate);
        let decoding = if beam { Decoding::beam(8) } else { Decoding::greedy() };
        let mut cuts: Vec<usize> = cuts.iter().map(|c| (c * samples.len() as f64) as usize).collect();
        cuts.extend([0, samples.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[f32]> = cuts.windows(2).map(|w| &samples[w[0]..w[1]]).collect();
        let whole = finals(stream(&decoding), &[&samples], rate);
        prop_assert_eq!(texts(&whole), ["abcad bad", "dac"]);
        prop_assert_eq!(finals(stream(&decoding), &pieces, rate), whole);
    }

    #[test]
    fn an_utterance_streamed_equals_the_utterance_recognized(
        text in "[a-d]{1,4}( [a-d]{1,4}){0,3}",
        rate in prop::sample::select(vec![8_000u32, 16_000, 44_100]),
        step in 1usize..9_000,
    ) {
        let samples = signal(&text, rate);
        let audio = Audio::new(samples.clone(), rate, 1).unwrap();
        for decoding in [Decoding::greedy(), Decoding::beam(8).n_best(3)] {
            let plan = decoding.plan(fake().tokens()).unwrap();
            let recognized = fake().recognize_with(&audio, &plan).unwrap();
            let pieces: Vec<&[f32]> = samples.chunks(step).collect();
            prop_assert_eq!(
                finals(stream(&decoding), &pieces, rate),
                [Event::Final(recognized)]
            );
        }
    }
}

#[test]
fn utterances_are_kept_apart_with_times_from_the_start() {
    let samples = signal("ab__cad___", 16_000);
    let events = finals(stream(&Decoding::greedy()), &[&samples], 16_000);
    assert_eq!(texts(&events), ["ab", "cad"]);
    let starts: Vec<f64> = events
        .iter()
        .map(|event| match event {
            Event::Final(readings) => readings.best().words[0].span.start,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(
        starts[0].abs() < 0.03 && (starts[1] - 2.4).abs() < 0.05,
        "{starts:?}"
    );
}

#[test]
fn partials_grow_and_polling_late_gives_the_last() {
    let samples = signal("abc de", 16_000);
    let mut stream = stream(&Decoding::greedy());
    let mut seen = Vec::new();
    for piece in samples.chunks(1_600) {
        stream.push(Samples::mono(piece, 16_000)).unwrap();
        while let Some(event) = stream.poll().unwrap() {
            match event {
                Event::Partial { stable, tentative } => seen.push(stable + &tentative),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(
        seen,
        ["a", "ab", "abc", "abc ", "abc d", "abc de"]
            .map(|s| s.trim_end())
            .into_iter()
            .fold(Vec::<&str>::new(), |mut seen, text| {
                if seen.last() != Some(&text) {
                    seen.push(text);
                }
                seen
            })
    );
    let mut late = fake().stream(&Decoding::greedy()).unwrap();
    late.push(Samples::mono(&samples, 16_000)).unwrap();
    let Some(Event::Partial { stable, tentative }) = late.poll().unwrap() else {
        panic!("a partial");
    };
    assert_eq!(stable + &tentative, "abc de");
    assert_eq!(late.poll().unwrap(), None);
}

#[test]
fn silence_and_empty_pushes_tell_nothing() {
    let minute = "_".repeat(60);
    for (decoding, minute) in [
        (Decoding::greedy(), vec![0.0; 16_000 * 60]),
        (Decoding::beam(4), signal(&minute, 16_000)),
    ] {
        let mut stream = stream(&decoding);
        for _ in 0..10 {
            stream.push(Samples::mono(&minute, 16_000)).unwrap();
            stream.push(Samples::mono(&[], 16_000)).unwrap();
            assert_eq!(
                texts(&stream.poll().unwrap().into_iter().collect::<Vec<_>>()),
                [""; 0]
            );
        }
        assert_eq!(stream.seconds(), 600.0);
        assert_eq!(stream.finish().unwrap().len(), 0);
    }
    assert_eq!(
        fake()
            .stream(&Decoding::greedy())
            .unwrap()
            .finish()
            .unwrap(),
        []
    );
}

#[test]
fn a_gap_ends_the_utterance_and_times_go_on() {
    let mut stream = stream(&Decoding::greedy());
    stream
        .push(Samples::mono(&signal("ab", 16_000), 16_000))
        .unwrap();
    stream.gap(10.0).unwrap();
    stream
        .push(Samples::mono(&signal("cad", 16_000), 16_000))
        .unwrap();
    let events = stream.finish().unwrap();
    let events: Vec<Event> = events
        .into_iter()
        .filter(|event| !matches!(event, Event::Partial { .. }))
        .collect();
    assert_eq!(texts(&events), ["ab", "gap 10", "cad"]);
    let Event::Final(readings) = &events[2] else {
        panic!("a final");
    };
    assert!((readings.best().words[0].span.start - 10.4).abs() < 0.03);
    for lost in [-1.0, f64::NAN, f64::INFINITY] {
        let error = fake()
            .stream(&Decoding::greedy())
            .unwrap()
            .gap(lost)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn the_rate_may_change_under_way() {
    let mut stream = stream(&Decoding::greedy());
    stream
        .push(Samples::mono(&signal("ab", 44_100), 44_100))
        .unwrap();
    stream
        .push(Samples::mono(&signal("cad", 16_000), 16_000))
        .unwrap();
    let stereo: Vec<f32> = signal(" feed", 48_000)
        .iter()
        .flat_map(|&x| [x, x])
        .collect();
    let samples = Samples {
        data: &stereo,
        rate: 48_000,
        channels: 2,
    };
    stream.push(samples).unwrap();
    let events = stream.finish().unwrap();
    assert_eq!(texts(&events), ["abcad feed"]);
}

#[test]
fn another_model_takes_over_between_utterances_and_hears_every_sample() {
    let samples = signal("ab__cad__feed", 16_000);
    let alone = finals(stream(&Decoding::greedy()), &[&samples], 16_000);
    for at in [0, 1_000, 6_400, 9_000, 40_000, 60_000] {
        let mut stream = stream(&Decoding::greedy());
        stream.push(Samples::mono(&samples[..at], 16_000)).unwrap();
        let other = SpeechRecognizer::new(FakeModel::new(fake_spec()).unwrap()).unwrap();
        stream.swap(&other, &Decoding::greedy()).unwrap();
        let mut events = Vec::new();
        while let Some(event) = stream.poll().unwrap() {
            events.push(event);
        }
        events.extend(finals(stream, &[&samples[at..]], 16_000));
        events.retain(|event| !matches!(event, Event::Partial { .. }));
        assert_eq!(texts(&events), texts(&alone), "at {at}");
    }
    let mut spec = fake_spec();
    if let FrontEnd::LogMel(mel) = &mut spec.front_end {
        (mel.sample_rate, mel.high_hz) = (8_000, 4_000.0);
    }
    let slower = SpeechRecognizer::new(FakeModel::new(spec).unwrap()).unwrap();
    let error = stream(&Decoding::greedy())
        .swap(&slower, &Decoding::greedy())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_canceled_utterance_is_not_told() {
    let mut stream = stream(&Decoding::greedy());
    stream
        .push(Samples::mono(&signal("ab", 16_000), 16_000))
        .unwrap();
    stream.cancel();
    stream
        .push(Samples::mono(&signal("_cad", 16_000), 16_000))
        .unwrap();
    assert_eq!(texts(&stream.finish().unwrap()).last().unwrap(), "cad");
}

#[test]
fn an_endless_utterance_is_given_out_in_parts_and_loses_no_word() {
    let text = ["ab", "cad", "feed", "bad"].repeat(12).join(" ");
    let samples = signal(&text, 16_000);
    for decoding in [Decoding::greedy(), Decoding::beam(6)] {
        let rules = EndpointRules::default().with_longest(5.0);
        let stream = fake().stream_with(&decoding, rules).unwrap();
        let parts = texts(&finals(stream, &[&samples], 16_000));
        assert!(parts.len() > 4, "{parts:?}");
        assert_eq!(parts.join(" "), text);
    }
}

#[test]
fn what_is_outside_the_phrases_is_rejected_and_never_split() {
    let decoding = Decoding::greedy()
        .constrain(Constraint::phrases(["ab cad", "feed"]))
        .reject(-5.0);
    let samples = signal("ab cad__deaf bad__feed", 16_000);
    let events = finals(stream(&decoding), &[&samples], 16_000);
    let found = texts(&events);
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!((found[0].as_str(), found[2].as_str()), ("ab cad", "feed"));
    assert!(found[1].starts_with("not "), "{found:?}");
}

#[test]
fn streams_run_together_equal_streams_alone() {
    let recognizer = fake();
    let signals = ["ab__cad", "feed deaf", "_bad__", ""].map(|text| signal(text, 16_000));
    let mut streams: Vec<SpeechStream> = signals
        .iter()
        .map(|_| recognizer.stream(&Decoding::greedy()).unwrap())
        .collect();
    let longest = signals.iter().map(Vec::len).max().unwrap();
    for start in (0..longest).step_by(5_000) {
        for (stream, signal) in streams.iter_mut().zip(&signals) {
            let piece = &signal[start.min(signal.len())..(start + 5_000).min(signal.len())];
            stream.feed(Samples::mono(piece, 16_000)).unwrap();
        }
        let mut all: Vec<&mut SpeechStream> = streams.iter_mut().collect();
        SpeechStream::run_together(&mut all).unwrap();
    }
    for (together, signal) in streams.into_iter().zip(&signals) {
        let alone = finals(
            recognizer.stream(&Decoding::greedy()).unwrap(),
            &[signal],
            16_000,
        );
        let mut events = together.finish().unwrap();
        events.retain(|event| !matches!(event, Event::Partial { .. }));
        assert_eq!(events, alone);
    }
    let (mut one, mut other) = (stream(&Decoding::greedy()), stream(&Decoding::greedy()));
    one.feed(Samples::mono(&signals[0], 16_000)).unwrap();
    let error = SpeechStream::run_together(&mut [&mut one, &mut other]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn models_that_take_whole_utterances_say_so() {
    let mut whole = fake_spec();
    whole.streaming = None;
    if let FrontEnd::LogMel(mel) = &mut whole.front_end {
        mel.normalization = Normalization::Utterance { epsilon: 1e-3 };
    }
    let recognizer = SpeechRecognizer::new(FakeModel::new(whole).unwrap()).unwrap();
    let error = recognizer.stream(&Decoding::greedy()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Role);
    assert_eq!(recognizer.latency(), None);
    let latency = fake().latency().unwrap();
    let spec = fake_spec();
    let streaming = spec.streaming.unwrap();
    let frames = streaming.delay_frames + streaming.chunk_frames / spec.stride;
    assert!((latency - frames as f64 * 0.02).abs() < 1e-9);
    fake().warm_up().unwrap();
}

#[test]
fn bad_samples_are_refused_and_nothing_is_taken_in() {
    let mut stream = stream(&Decoding::greedy());
    let bad = [f32::NAN; 10];
    for samples in [
        Samples::mono(&bad, 16_000),
        Samples::mono(&[0.0; 10], 1),
        Samples {
            data: &[0.0; 9],
            rate: 16_000,
            channels: 2,
        },
        Samples {
            data: &[0.0; 9],
            rate: 16_000,
            channels: 0,
        },
    ] {
        let error = stream.push(samples).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
    assert_eq!(stream.seconds(), 0.0);
    stream
        .push(Samples::mono(&signal("ab", 16_000), 16_000))
        .unwrap();
    assert_eq!(texts(&stream.finish().unwrap()), ["ab"]);
}
