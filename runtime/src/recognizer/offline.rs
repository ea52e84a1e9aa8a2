//! Speech recognition of whole recordings, of any length in bounded memory.
//!
//! Samples pass through resampler, front-end, model and decoder block by block, so beyond the recording
//! itself an hour takes no more memory than half a minute. Output frame i begins at sample
//! `i * stride * hop_length` of the model's rate; spans are given in seconds.

use super::front::Front;
use super::serves;
use crate::audio::{Audio, Resampler};
use crate::decode::{Decoder, Plan};
use crate::features::AudioFeatures;
use crate::model::{BLOCK_FRAMES, CtcModel, Sequence};
use crate::spec::{ModelSpec, Task};
use crate::transcript::{FrameSpan, NBest, TimeSpan, Transcript};
use crate::{Decoding, Error, ErrorKind, LogProbs, Result, Tokens};
use ndarray::{Array2, ArrayView2, Axis, concatenate};
use std::sync::Arc;

#[cfg(feature = "onnx")]
use super::builder::{Opened, RecognizerBuilder};
#[cfg(feature = "onnx")]
use crate::model::{Library, OrtModel};

/// Samples that go from resampler to front-end at a time: about two seconds.
const BLOCK_SAMPLES: usize = 1 << 15;

/// Turns recordings of speech into text. Clones share the model; any number of threads may call one.
#[derive(Debug, Clone)]
pub struct SpeechRecognizer {
    model: Arc<dyn CtcModel>,
    features: AudioFeatures,
    tokens: Arc<Tokens>,
    block_frames: usize,
}

impl SpeechRecognizer {
    /// A recognizer over any model.
    ///
    /// # Errors
    /// [`ErrorKind::Role`] for a model of another task or an oracle teacher, which sees the label it would
    /// have to find; [`ErrorKind::Spec`] if front-end or tokens are not what can be run.
    pub fn new(model: impl CtcModel + 'static) -> Result<Self> {
        let spec = model.spec();
        serves(spec, Task::Speech)?;
        Ok(Self {
            features: AudioFeatures::new(&spec.front_end)?,
            tokens: Arc::new(Tokens::new(spec.tokens.clone())?),
            model: Arc::new(model),
            block_frames: BLOCK_FRAMES,
        })
    }

    /// The way to a recognizer over an ONNX file.
    #[cfg(feature = "onnx")]
    pub fn builder(library: &Library) -> RecognizerBuilder<Self> {
        RecognizerBuilder::new(library)
    }

    /// The same recognizer with blocks of `frames` feature frames where the model can be run in blocks; the
    /// default is [`BLOCK_FRAMES`].
    #[must_use]
    pub fn with_block_frames(mut self, frames: usize) -> Self {
        self.block_frames = frames;
        self
    }

    /// What the model says about itself.
    pub fn spec(&self) -> &ModelSpec {
        self.model.spec()
    }

    /// The model.
    pub fn model(&self) -> &Arc<dyn CtcModel> {
        &self.model
    }

    /// The model's front-end.
    pub fn front_end(&self) -> &AudioFeatures {
        &self.features
    }

    /// The model's vocabulary.
    pub fn tokens(&self) -> &Arc<Tokens> {
        &self.tokens
    }

    /// Seconds from one output frame to the next.
    pub fn seconds_per_frame(&self) -> f64 {
        let samples = self.spec().stride * self.features.hop();
        samples as f64 / f64::from(self.features.sample_rate())
    }

    /// The text of a recording. A recording shorter than one window of the front-end has none.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for settings that do not fit the vocabulary; [`ErrorKind::Limit`] for a
    /// recording too long for a model that takes only whole utterances; [`ErrorKind::Inference`] if the model
    /// fails.
    pub fn recognize(&self, audio: &Audio, decoding: &Decoding) -> Result<Transcript<TimeSpan>> {
        let plan = decoding.plan(&self.tokens)?;
        Ok(self.recognize_with(audio, &plan)?.into_best())
    }

    /// The best readings of a recording, with settings already made for [`tokens`](Self::tokens): for many
    /// recordings, or more than one reading.
    ///
    /// # Errors
    /// As [`recognize`](Self::recognize).
    pub fn recognize_with(&self, audio: &Audio, plan: &Plan) -> Result<NBest<TimeSpan>> {
        let mut decoder = plan.decoder();
        self.run(audio, |scores| self.push(&mut decoder, scores))?;
        let (seconds, end) = (self.seconds_per_frame(), audio.duration());
        let time = |span: FrameSpan| {
            let time = span.time(seconds);
            TimeSpan {
                start: time.start.min(end),
                end: time.end.min(end),
            }
        };
        Ok(decoder.finish()?.map_spans(time))
    }

    /// The model's scores `[T', V]` of a recording, delay taken out, in the values the spec names; the whole
    /// matrix is in memory.
    ///
    /// # Errors
    /// As [`recognize`](Self::recognize).
    pub fn scores(&self, audio: &Audio) -> Result<Array2<f32>> {
        let mut parts = Vec::new();
        self.run(audio, |scores| {
            parts.push(scores);
            Ok(())
        })?;
        let views: Vec<ArrayView2<'_, f32>> = parts.iter().map(|part| part.view()).collect();
        concatenate(Axis(0), &views)
            .map_err(|e| Error::new(ErrorKind::Inference, "scores").with_source(e))
    }

    fn push(&self, decoder: &mut Decoder, scores: Array2<f32>) -> Result<()> {
        let values = self.spec().graph.output_values;
        decoder.push(&LogProbs::new(scores.view(), values))
    }

    /// Runs a recording through front-end and model, handing each block of scores to `sink`.
    fn run(&self, audio: &Audio, mut sink: impl FnMut(Array2<f32>) -> Result<()>) -> Result<()> {
        let rate = self.features.sample_rate();
        // What does not stream, or has a least length, is taken whole.
        if !self.features.streams() || matches!(self.features, AudioFeatures::Waveform(_)) {
            let mut sequence = Sequence::new(self.model.clone(), self.block_frames);
            let features = self.features.compute(&audio.mono(rate)?)?;
            sink(sequence.push(features.view())?)?;
            return sink(sequence.finish()?);
        }
        let mut front = Front::new(self.model.clone(), &self.features, self.block_frames);
        let mut resampler = Resampler::new(audio.sample_rate(), rate)?;
        let mut resampled = Vec::new();
        for block in audio.samples().chunks(BLOCK_SAMPLES) {
            resampled.clear();
            resampler.push(block, &mut resampled)?;
            sink(front.push(&resampled)?)?;
        }
        resampled.clear();
        resampler.finish(&mut resampled)?;
        sink(front.push(&resampled)?)?;
        sink(front.finish()?)
    }
}

#[cfg(feature = "onnx")]
impl Opened for SpeechRecognizer {
    const TASK: Task = Task::Speech;

    fn over(model: OrtModel) -> Result<Self> {
        Self::new(model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FakeModel;
    #[cfg(all(feature = "onnx", feature = "load-dynamic"))]
    use crate::model::Provider;
    use crate::model::testing::line_spec;
    #[cfg(all(feature = "onnx", feature = "load-dynamic"))]
    use crate::model::testing::{TINY, tiny_spec};
    use crate::recognizer::testing::{fake, fake_spec, tones};
    use crate::spec::{FrontEnd, Normalization, Role};

    const fn is_shared<T: Clone + Send + Sync + 'static>() {}
    const _: () = is_shared::<SpeechRecognizer>();
    #[cfg(feature = "onnx")]
    const _: () = is_shared::<crate::model::OrtModel>();

    fn text(recognizer: &SpeechRecognizer, audio: &Audio) -> String {
        recognizer
            .recognize(audio, &Decoding::greedy())
            .unwrap()
            .text
    }

    #[test]
    fn tones_read_as_text_at_any_rate_with_times() {
        let recognizer = fake();
        for (rate, channels) in [(16_000, 1), (48_000, 2), (44_100, 1), (192_000, 16)] {
            let audio = tones("ab cad", rate, channels);
            let said = recognizer.recognize(&audio, &Decoding::greedy()).unwrap();
            assert_eq!(said.text, "ab cad", "{rate} Hz");
            let spans: Vec<TimeSpan> = said.words.iter().map(|w| w.span).collect();
            for (span, (start, end)) in spans.iter().zip([(0.0, 0.3), (0.6, 1.1)]) {
                assert!((span.start - start).abs() < 0.05 && (span.end - end).abs() < 0.05);
            }
        }
    }

    #[test]
    fn nothing_and_silence_have_no_text() {
        for length in [0, 1, 399, 400, 160_000] {
            let audio = Audio::new(vec![0.0; length], 16_000, 1).unwrap();
            let said = fake().recognize(&audio, &Decoding::greedy()).unwrap();
            assert_eq!((said.text.as_str(), said.words.len()), ("", 0));
        }
    }

    #[test]
    fn blocks_change_nothing() {
        let audio = tones("deaf cab feed a bad cafe", 16_000, 1);
        let whole = fake().with_block_frames(1 << 16).scores(&audio).unwrap();
        assert_eq!(
            whole.nrows(),
            fake().front_end().frames(audio.len()).div_ceil(2)
        );
        for block in [1, 7, 64, 2048] {
            assert_eq!(
                fake().with_block_frames(block).scores(&audio).unwrap(),
                whole
            );
        }
    }

    #[test]
    fn sixteen_threads_read_the_same() {
        let recognizer = fake();
        let audio = tones("bad face", 22_050, 1);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| assert_eq!(text(&recognizer.clone(), &audio), "bad face"));
            }
        });
    }

    #[test]
    fn oracle_teachers_and_other_tasks_are_refused_with_the_reason() {
        let oracle = ModelSpec {
            role: Role::OracleTeacher,
            ..fake_spec()
        };
        for (spec, word) in [
            (oracle, "takes the transcript"),
            (line_spec(8), "reads images"),
        ] {
            let error = SpeechRecognizer::new(FakeModel::new(spec).unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Role);
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn normalization_over_the_utterance_takes_it_whole() {
        let mut spec = fake_spec();
        spec.streaming = None;
        let FrontEnd::LogMel(mel) = &mut spec.front_end else {
            panic!("a speech model")
        };
        mel.normalization = Normalization::Utterance { epsilon: 1e-3 };
        let recognizer = SpeechRecognizer::new(FakeModel::new(spec).unwrap()).unwrap();
        let audio = tones("ab", 48_000, 1);
        let frames = recognizer
            .front_end()
            .frames(audio.mono(16_000).unwrap().len());
        assert_eq!(
            recognizer.scores(&audio).unwrap().nrows(),
            frames.div_ceil(2)
        );
    }

    #[cfg(all(feature = "onnx", feature = "load-dynamic"))]
    #[test]
    fn sixteen_threads_read_the_same_from_an_onnx_file() {
        let library = Library::find().unwrap();
        let model = tiny_spec(TINY)
            .stamp(&crate::model::testing::tiny_onnx(TINY))
            .unwrap();
        let recognizer = SpeechRecognizer::builder(&library)
            .provider(Provider::Cpu)
            .threads(1)
            .pool(3)
            .from_bytes(model)
            .unwrap();
        let audio = tones("bad face", 16_000, 1);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                let own = recognizer.clone();
                scope.spawn(|| {
                    let own = own;
                    assert_eq!(text(&own, &audio), "bad face");
                });
            }
        });
    }

    #[cfg(all(feature = "onnx", feature = "load-dynamic"))]
    #[test]
    fn an_onnx_oracle_teacher_is_refused_before_it_is_loaded() {
        let spec = ModelSpec {
            role: Role::OracleTeacher,
            ..tiny_spec(TINY)
        };
        let model = spec.stamp(&crate::model::testing::tiny_onnx(TINY)).unwrap();
        let library = Library::find().unwrap();
        let error = SpeechRecognizer::builder(&library)
            .from_bytes(model)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Role);
    }
}
