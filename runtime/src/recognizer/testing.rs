//! A recognizer of tones without a network, for the tests of recordings and streams.
#![allow(clippy::unwrap_used, reason = "test helpers fail by panicking")]

use super::SpeechRecognizer;
use crate::Audio;
use crate::model::FakeModel;
use crate::model::testing::{TINY, tiny_spec};
use crate::spec::ModelSpec;
use std::f32::consts::TAU;

/// A tone in the middle of mel filter `filter` of the tiny model.
pub(crate) fn hertz(filter: usize) -> f32 {
    let mel = |hz: f32| 2595.0 * (1.0 + hz / 700.0).log10();
    let step = (mel(8000.0) - mel(20.0)) / 9.0;
    700.0 * (10f32.powf((mel(20.0) + step * (filter + 1) as f32) / 2595.0) - 1.0)
}

/// Tones for the tokens of `text` (letters from `a`, space), 0.1 s each with 0.1 s of silence after it.
pub(crate) fn tones(text: &str, rate: u32, channels: u16) -> Audio {
    let length = rate as usize / 10;
    let mut samples = Vec::new();
    for letter in text.bytes() {
        let token = if letter == b' ' {
            1
        } else {
            usize::from(letter - b'a') + 2
        };
        for at in 0..2 * length {
            let phase = TAU * hertz(token) * at as f32 / rate as f32;
            let sample = if at < length { 0.5 * phase.sin() } else { 0.0 };
            samples.extend((0..channels).map(|_| sample));
        }
    }
    Audio::new(samples, rate, channels).unwrap()
}

/// A streaming model whose tokens are tones, with a delay of one frame.
pub(crate) fn fake_spec() -> ModelSpec {
    let mut spec = tiny_spec(TINY);
    spec.streaming.as_mut().unwrap().state[0].shape = vec![8];
    spec
}

/// A recognizer of tones.
pub(crate) fn fake() -> SpeechRecognizer {
    SpeechRecognizer::new(FakeModel::new(fake_spec()).unwrap()).unwrap()
}
