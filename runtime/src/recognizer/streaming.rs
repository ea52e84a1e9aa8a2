//! Speech recognition of an endless stream: samples in of any size, events out.
//!
//! Features, the model's state and the decoder's state are carried exactly, and the model runs in the fixed chunks of
//! its spec: however the samples are cut into pushes, the events are the same to the last bit, and one utterance gives
//! the tokens and times that [`SpeechRecognizer::recognize`] gives for it. Utterances of one stream share the model's
//! state, as the audio is one: an endpoint cuts what is said and loses no sample. A [gap](SpeechStream::gap) is where
//! audio is missing: everything before it is flushed, and the model starts anew after it.

use super::endpoint::{EndpointRules, Endpointer, Verdict, level};
use super::events::{Event, Events, Samples};
use super::front::Front;
use super::offline::SpeechRecognizer;
use crate::audio::{Audio, Resampler};
use crate::decode::{Decoder, Plan};
use crate::model::Sequence;
use crate::transcript::{FrameSpan, NBest, TimeSpan};
use crate::{Decoding, Error, ErrorKind, LogProbs, Result};
use ndarray::{Array2, ArrayView2, Axis};
use std::collections::VecDeque;

/// Tokens at the end of a long utterance that stay undecided when a part of it is given out.
const OPEN_TOKENS: u32 = 16;

/// A stream of speech; made by [`SpeechRecognizer::stream`].
#[derive(Debug)]
pub struct SpeechStream {
    recognizer: SpeechRecognizer,
    decoding: Decoding,
    plan: Plan,
    rules: EndpointRules,
    endpointer: Endpointer,
    /// What takes over at the next end of an utterance.
    next: Option<(SpeechRecognizer, Decoding, Plan)>,
    input: Option<Input>,
    clock: Clock,
    front: Front,
    /// Where frame 0 of `front` stands, in seconds.
    origin: f64,
    /// Output frames of `front` decoded so far.
    frames: u64,
    /// The frame at which `decoder` began.
    begun: u64,
    decoder: Decoder,
    /// Samples at the model's rate from frame `frames` on: what another model would start with.
    undecoded: VecDeque<f32>,
    resampled: Vec<f32>,
    events: Events,
}

/// The conversion of what comes in.
#[derive(Debug)]
struct Input {
    rate: u32,
    resampler: Resampler,
}

/// Time taken in, exact for as long as the rate stays the same.
#[derive(Debug, Default)]
struct Clock {
    before: f64,
    frames: u64,
    rate: u32,
}

impl Clock {
    fn seconds(&self) -> f64 {
        self.before + self.frames as f64 / f64::from(self.rate.max(1))
    }

    fn advance(&mut self, frames: usize, rate: u32) {
        if rate != self.rate {
            *self = Self {
                before: self.seconds(),
                frames: 0,
                rate,
            };
        }
        self.frames += frames as u64;
    }

    fn skip(&mut self, seconds: f64) {
        *self = Self {
            before: self.seconds() + seconds,
            frames: 0,
            rate: self.rate,
        };
    }
}

impl SpeechRecognizer {
    /// A stream with the usual [`EndpointRules`].
    ///
    /// # Errors
    /// [`ErrorKind::Role`] for a model that takes only whole utterances (no `streaming` in its spec, or features
    /// normalized over the utterance); [`ErrorKind::InvalidArgument`] for settings that do not fit the vocabulary.
    pub fn stream(&self, decoding: &Decoding) -> Result<SpeechStream> {
        self.stream_with(decoding, EndpointRules::default())
    }

    /// A stream with other endpoint rules.
    ///
    /// # Errors
    /// As [`stream`](Self::stream), and [`ErrorKind::InvalidArgument`] for rules out of their range.
    pub fn stream_with(&self, decoding: &Decoding, rules: EndpointRules) -> Result<SpeechStream> {
        rules.check()?;
        let plan = decoding.plan(self.tokens())?;
        let front = self.front()?;
        Ok(SpeechStream {
            endpointer: Endpointer::new(rules.clone(), self.seconds_per_frame()),
            rules,
            decoder: plan.decoder(),
            plan,
            decoding: decoding.clone(),
            recognizer: self.clone(),
            next: None,
            input: None,
            clock: Clock::default(),
            front,
            origin: 0.0,
            frames: 0,
            begun: 0,
            undecoded: VecDeque::new(),
            resampled: Vec::new(),
            events: Events::default(),
        })
    }

    /// Seconds from a sound to the scores of its frame: the model's look-ahead and one chunk. What computing adds is
    /// not in it.
    pub fn latency(&self) -> Option<f64> {
        let streaming = self.spec().streaming.as_ref()?;
        let chunk = streaming.chunk_frames.div_ceil(self.spec().stride);
        Some((streaming.delay_frames + chunk) as f64 * self.seconds_per_frame())
    }

    /// Runs the model once on nothing, so that the first utterance does not wait for what a first run prepares.
    ///
    /// # Errors
    /// As [`CtcModel::run`](crate::model::CtcModel::run).
    pub fn warm_up(&self) -> Result<()> {
        let chunk = self
            .spec()
            .streaming
            .as_ref()
            .map_or(64, |s| s.chunk_frames);
        let features = self.front_end().features();
        let mut sequence = Sequence::new(self.model().clone(), chunk);
        sequence.push(Array2::zeros((chunk, features)).view())?;
        sequence.finish().map(drop)
    }

    /// A fresh run of the front-end and the model in the chunks of its spec.
    fn front(&self) -> Result<Front> {
        let refuse = |why: &str| {
            let name = &self.spec().name;
            let message = format!(
                "model {name:?} {why}: recognize whole recordings with it, or stream with a model that can"
            );
            Err(Error::new(ErrorKind::Role, message))
        };
        let Some(streaming) = &self.spec().streaming else {
            return refuse("takes only whole utterances");
        };
        if !self.front_end().streams() {
            return refuse("normalizes features over the whole utterance");
        }
        Ok(Front::new(
            self.model().clone(),
            self.front_end(),
            streaming.chunk_frames,
        ))
    }
}

impl SpeechStream {
    /// Takes samples in and recognizes what they complete; [`poll`](Self::poll) tells what came of it.
    ///
    /// The rate may change from push to push: a device that was switched loses nothing.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for a rate, a channel count or samples that are none (nothing is then taken in);
    /// [`ErrorKind::Inference`] if the model fails; [`ErrorKind::Limit`] where nobody polls.
    pub fn push(&mut self, samples: Samples<'_>) -> Result<()> {
        self.feed(samples)?;
        self.advance()
    }

    /// Takes samples in without running the model, for [`run_together`](Self::run_together).
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn feed(&mut self, samples: Samples<'_>) -> Result<()> {
        let audio = Audio::new(samples.data.to_vec(), samples.rate, samples.channels)?;
        if self
            .input
            .as_ref()
            .is_none_or(|input| input.rate != samples.rate)
        {
            let resampler =
                Resampler::new(samples.rate, self.recognizer.front_end().sample_rate())?;
            self.end_of_input()?;
            self.input = Some(Input {
                rate: samples.rate,
                resampler,
            });
        }
        self.clock.advance(audio.len(), samples.rate);
        self.through_resampler(|resampler, out| resampler.push(audio.samples(), out))
    }

    /// The next event, if there is one.
    ///
    /// # Errors
    /// None at present; streams on other engines may report what went wrong since the last call here.
    pub fn poll(&mut self) -> Result<Option<Event>> {
        Ok(self.events.pop())
    }

    /// Ends the stream and returns the events not polled yet, the last utterance's among them.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(mut self) -> Result<Vec<Event>> {
        self.flush()?;
        let mut events = Vec::new();
        while let Some(event) = self.events.pop() {
            events.push(event);
        }
        Ok(events)
    }

    /// Says that `lost` seconds of audio are missing here. What came before is given out, then [`Event::Gap`]; times
    /// after it count the lost seconds.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] unless `lost` is a number of seconds up to a year; and as [`push`](Self::push).
    pub fn gap(&mut self, lost: f64) -> Result<()> {
        if !(0.0..=366.0 * 86_400.0).contains(&lost) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("a gap of {lost} s: 0 seconds to a year are expected"),
            ));
        }
        self.flush()?;
        self.clock.skip(lost);
        self.begin_at(self.clock.seconds())?;
        self.events.push(Event::Gap { lost })
    }

    /// Gives up the utterance under way: what was said so far is not told.
    pub fn cancel(&mut self) {
        self.begin_utterance();
    }

    /// Lets another model or other settings take over where the utterance under way ends, or here if nothing was said
    /// yet. No audio is lost or heard twice.
    ///
    /// # Errors
    /// As [`SpeechRecognizer::stream`]; [`ErrorKind::InvalidArgument`] for a model of another sample rate.
    pub fn swap(&mut self, recognizer: &SpeechRecognizer, decoding: &Decoding) -> Result<()> {
        let rates = [&self.recognizer, recognizer].map(|r| r.front_end().sample_rate());
        if rates[0] != rates[1] {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "a model for {} Hz cannot take over from one for {} Hz: start a new stream",
                    rates[1], rates[0]
                ),
            ));
        }
        recognizer.front()?;
        let plan = decoding.plan(recognizer.tokens())?;
        self.next = Some((recognizer.clone(), decoding.clone(), plan));
        if !self.said() {
            self.take_over()?;
        }
        self.advance()
    }

    /// Runs what was fed to several streams of one model, their chunks in batches.
    ///
    /// Batched or not, a stream has the same events; log-probs may differ in the last bits, as ONNX Runtime may compute
    /// a batch in another order.
    ///
    /// # Errors
    /// As [`push`](Self::push); [`ErrorKind::InvalidArgument`] for streams of different models.
    pub fn run_together(streams: &mut [&mut Self]) -> Result<()> {
        while streams.iter().any(|s| s.front.sequence.is_ready()) {
            let mut sequences: Vec<&mut Sequence> = (streams.iter_mut())
                .map(|stream| &mut stream.front.sequence)
                .collect();
            let scores = Sequence::run_together(&mut sequences)?;
            for (stream, scores) in streams.iter_mut().zip(scores) {
                stream.decode(scores.view())?;
                stream.show()?;
            }
        }
        Ok(())
    }

    /// The recognizer at work.
    pub fn recognizer(&self) -> &SpeechRecognizer {
        &self.recognizer
    }

    /// Seconds taken in, gaps included.
    pub fn seconds(&self) -> f64 {
        self.clock.seconds()
    }

    /// Runs every chunk that is complete.
    fn advance(&mut self) -> Result<()> {
        Self::run_together(&mut [self])
    }

    fn said(&self) -> bool {
        self.decoder.trailing_blanks() < self.decoder.frames()
    }

    /// Passes what a resampler gives on to the front-end.
    fn through_resampler(
        &mut self,
        step: impl FnOnce(&mut Resampler, &mut Vec<f32>) -> Result<()>,
    ) -> Result<()> {
        let Some(input) = &mut self.input else {
            return Ok(());
        };
        self.resampled.clear();
        step(&mut input.resampler, &mut self.resampled)?;
        self.undecoded.extend(&self.resampled);
        self.front.feed(&self.resampled)
    }

    /// Takes what the resampler still holds.
    fn end_of_input(&mut self) -> Result<()> {
        self.through_resampler(|resampler, out| resampler.finish(out))?;
        self.input = None;
        Ok(())
    }

    /// Recognizes everything taken in and ends the utterance.
    fn flush(&mut self) -> Result<()> {
        self.end_of_input()?;
        loop {
            self.advance()?;
            let waiting = self.next.is_some();
            let front = std::mem::replace(&mut self.front, self.recognizer.front()?);
            let rest = front.finish()?;
            self.decode(rest.view())?;
            // Another model may have taken over within the rest: it has some left to hear.
            if waiting == self.next.is_some() {
                return self.end_utterance();
            }
        }
    }

    /// Starts front-end and model anew, frame 0 at `origin` seconds.
    fn begin_at(&mut self, origin: f64) -> Result<()> {
        self.front = self.recognizer.front()?;
        self.origin = origin;
        self.frames = 0;
        self.undecoded.clear();
        self.endpointer = Endpointer::new(self.rules.clone(), self.recognizer.seconds_per_frame());
        self.begin_utterance();
        Ok(())
    }

    fn begin_utterance(&mut self) {
        self.decoder = self.plan.decoder();
        self.begun = self.frames;
        self.endpointer.restart();
        self.events.forget_partial();
    }

    /// Decodes scores `[m, V]` frame by frame, so that an endpoint falls on the same frame whatever was pushed.
    fn decode(&mut self, scores: ArrayView2<'_, f32>) -> Result<()> {
        let values = self.recognizer.spec().graph.output_values;
        for frame in scores.axis_chunks_iter(Axis(0), 1) {
            self.decoder.push(&LogProbs::new(frame, values))?;
            self.frames += 1;
            let level = self.next_level();
            let (blanks, said) = (self.decoder.trailing_blanks(), self.said());
            match self.endpointer.frame(level, blanks, said) {
                Verdict::Continue => {}
                Verdict::Restart => self.begin_utterance(),
                Verdict::Split if !self.plan.is_closed() => self.split()?,
                Verdict::End | Verdict::Split => self.end_utterance()?,
            }
            let between = self.begun == self.frames;
            if between && self.next.is_some() {
                // The other model hears the rest: its chunks stand elsewhere.
                return self.take_over();
            }
        }
        Ok(())
    }

    /// The level of the frame just decoded, whose samples are then given up.
    fn next_level(&mut self) -> f32 {
        let length = self.samples_per_frame().min(self.undecoded.len());
        let energy: f64 = self
            .undecoded
            .drain(..length)
            .map(|x| f64::from(x * x))
            .sum();
        level((energy / length.max(1) as f64) as f32)
    }

    fn samples_per_frame(&self) -> usize {
        let rate = f64::from(self.recognizer.front_end().sample_rate());
        (self.recognizer.seconds_per_frame() * rate).round() as usize
    }

    fn show(&mut self) -> Result<()> {
        let partial = self.decoder.partial();
        self.events.show(partial.stable, partial.tentative)
    }

    fn timed(&self, readings: NBest<FrameSpan>) -> NBest<TimeSpan> {
        let (seconds, end) = (self.recognizer.seconds_per_frame(), self.clock.seconds());
        let at = |frame: u64| (self.origin + (self.begun + frame) as f64 * seconds).min(end);
        readings.map_spans(|span| TimeSpan {
            start: at(span.start),
            end: at(span.end),
        })
    }

    /// Gives out what no later audio can change of an utterance that is too long.
    fn split(&mut self) -> Result<()> {
        let mut part = self.decoder.take_stable();
        if part.words.is_empty() {
            self.decoder.decide(OPEN_TOKENS);
            part = self.decoder.take_stable();
        }
        if part.words.is_empty() {
            return Ok(());
        }
        self.endpointer.restart();
        self.events.forget_partial();
        let part = self.timed(NBest::new(part, Vec::new()));
        self.events.push(Event::Final(part))
    }

    /// Gives out the utterance, if it has a text, and begins the next one.
    fn end_utterance(&mut self) -> Result<()> {
        let said = self.said();
        let decoder = std::mem::replace(&mut self.decoder, self.plan.decoder());
        let readings = self.timed(decoder.finish()?);
        self.begin_utterance();
        let rejected = said && self.decoding.rejects(readings.best());
        if rejected {
            return self.events.push(Event::Rejected(readings.into_best()));
        }
        match readings.best().text.is_empty() {
            true => Ok(()),
            false => self.events.push(Event::Final(readings)),
        }
    }

    /// Lets the waiting model start on the first sample that is not decoded.
    fn take_over(&mut self) -> Result<()> {
        let Some((recognizer, decoding, plan)) = self.next.take() else {
            return Ok(());
        };
        let origin = self.origin + self.frames as f64 * self.recognizer.seconds_per_frame();
        let undecoded: Vec<f32> = self.undecoded.drain(..).collect();
        (self.recognizer, self.decoding, self.plan) = (recognizer, decoding, plan);
        self.begin_at(origin)?;
        self.front.feed(&undecoded)?;
        self.undecoded.extend(&undecoded);
        Ok(())
    }
}
