//! `acolyte listen`: live speech to text, from a microphone or from a recording played as if heard now.

use crate::decoding_args::DecodingArgs;
use crate::interrupt::Interrupt;
use crate::model_args::ModelArgs;
use crate::{Outcome, srt};
use acolyte::capture::{AudioFormat, AudioSource, PacedAudio};
use acolyte::{
    Audio, EndpointRules, Event, Live, LiveState, NBest, SpeechStream, TimeSpan, Transcript,
};
use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Between two looks at the microphone.
const STEP: Duration = Duration::from_millis(10);

/// Listen to a microphone and write down what is said, as it is said
///
/// Utterances that ended go to standard output, one a line; the one under way is shown on standard error where that is
/// a terminal, and rewrites itself. Ctrl-C stops listening and delivers the last words.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  acolyte listen\n  acolyte listen --json --device hw:1 | jq .text\n  \
                  acolyte listen --save-audio talk.wav --srt > talk.srt\n  acolyte listen --input talk.wav --speed 4"
)]
pub struct Args {
    /// The microphone, by the id or name that `acolyte devices` lists [default: the system's]
    #[arg(long, value_name = "ID", conflicts_with = "input")]
    device: Option<String>,
    /// Look for a microphone that vanished until it is back, instead of stopping
    #[arg(long, conflicts_with = "input")]
    reconnect: bool,
    /// Play a recording as if it were heard now, instead of a microphone
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Play the recording this many times as fast; 0: as fast as it can be recognized
    #[arg(long, value_name = "TIMES", default_value_t = 1.0, requires = "input")]
    speed: f64,
    /// Stop after so many seconds of listening
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// One JSON object for each event: partial, final, rejected, gap; times in seconds
    #[arg(long, conflicts_with = "srt")]
    json: bool,
    /// Subtitles in SubRip format
    #[arg(long)]
    srt: bool,
    /// Keep what is heard as a 16-bit WAV file
    #[arg(long, value_name = "FILE")]
    save_audio: Option<PathBuf>,
    /// Silence that ends an utterance
    #[arg(long, value_name = "SECONDS", default_value_t = EndpointRules::default().silence)]
    silence: f64,
    /// Length from which on a long utterance is given out in parts, cut between words
    #[arg(long, value_name = "SECONDS", default_value_t = EndpointRules::default().longest)]
    longest: f64,
    /// Do not read from the source for so long at first: shows what a machine that is too slow loses
    #[arg(long, value_name = "SECONDS", hide = true)]
    stall: Option<f64>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    decoding: DecodingArgs,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> Result<Outcome> {
    let opened = args.model.open()?;
    let recognizer = &opened.recognizer;
    let rules = EndpointRules::default()
        .with_silence(args.silence)
        .with_longest(args.longest);
    let stream = recognizer.stream_with(&args.decoding.decoding()?, rules)?;
    recognizer.warm_up()?;
    let stop = Interrupt::listen()?;
    let session = Session {
        stop,
        stall: args.stall.map(Duration::try_from_secs_f64).transpose()?,
        deadline: args.seconds.map(Duration::try_from_secs_f64).transpose()?,
        printer: Printer::new(args),
        saved: args.save_audio.clone().map(Saved::new),
        outcome: Outcome::Done,
    };
    match &args.input {
        Some(path) => {
            let speed = if args.speed == 0.0 {
                f64::INFINITY
            } else {
                args.speed
            };
            let source = PacedAudio::new(Audio::open(path)?, speed)?;
            session.listen(source, stream, out, err)
        }
        None => microphone(args, session, stream, out, err),
    }
}

#[cfg(feature = "mic")]
fn microphone(
    args: &Args,
    session: Session,
    stream: SpeechStream,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Outcome> {
    let options = acolyte::capture::MicOptions {
        device: args.device.clone(),
        reconnect: args.reconnect,
        ..Default::default()
    };
    let source = acolyte::capture::Microphone::open(options)?;
    session.listen(source, stream, out, err)
}

#[cfg(not(feature = "mic"))]
fn microphone(
    _: &Args,
    _: Session,
    _: SpeechStream,
    _: &mut dyn Write,
    _: &mut dyn Write,
) -> Result<Outcome> {
    anyhow::bail!("{}", crate::devices::NO_MICROPHONE)
}

/// What a sitting needs besides source and stream.
struct Session {
    stop: Interrupt,
    stall: Option<Duration>,
    deadline: Option<Duration>,
    printer: Printer,
    saved: Option<Saved>,
    outcome: Outcome,
}

impl Session {
    fn listen<S: AudioSource>(
        mut self,
        source: S,
        stream: SpeechStream,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<Outcome> {
        let mut live = Live::new(source, stream);
        std::thread::sleep(self.stall.unwrap_or_default());
        let started = Instant::now();
        loop {
            let over = self.deadline.is_some_and(|most| started.elapsed() >= most);
            let ends = over || self.stop.asked();
            let before = live.stats().frames;
            let mut trouble = None;
            let saved = &mut self.saved;
            let state = live.step_with(|samples, format| {
                if let Some(wav) = saved
                    && let Err(error) = wav.write(samples, format)
                {
                    trouble = Some(error);
                    *saved = None;
                }
                Ok(())
            })?;
            if let Some(error) = trouble {
                // The words matter more than the recording.
                self.printer
                    .note(err, &format!("{error:#}; listening goes on without saving"))?;
                self.outcome = Outcome::SomeFailed;
            }
            if ends && state != LiveState::Ended {
                live.stop()?;
            }
            while let Some(event) = live.poll()? {
                self.printer.event(&event, out, err)?;
            }
            if ends || state == LiveState::Ended {
                break;
            }
            self.printer.meter(state, live.stats().level);
            if live.stats().frames == before {
                std::thread::sleep(STEP);
            }
        }
        if let Some(saved) = self.saved
            && let Err(error) = saved.finish()
        {
            self.printer.note(err, &format!("{error:#}"))?;
            self.outcome = Outcome::SomeFailed;
        }
        self.printer.bar.finish_and_clear();
        let stats = live.stats();
        if stats.losses > 0 {
            writeln!(
                err,
                "acolyte: lost {} frames in {} places: the machine was too slow, or the device was away",
                stats.lost, stats.losses
            )?;
        }
        Ok(self.outcome)
    }
}

/// An event on a line of its own; times in seconds.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Line<'a> {
    Partial { stable: &'a str, tentative: &'a str },
    Final(Said<'a>),
    Rejected(Said<'a>),
    Gap { lost: f64 },
}

#[derive(Debug, Serialize)]
struct Said<'a> {
    text: &'a str,
    confidence: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    margin: Option<f64>,
    words: Vec<Word<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    alternatives: Vec<&'a str>,
}

#[derive(Debug, Serialize)]
struct Word<'a> {
    text: &'a str,
    start: f64,
    end: f64,
    confidence: f32,
}

impl<'a> Said<'a> {
    fn new(best: &'a Transcript<TimeSpan>, others: &'a [Transcript<TimeSpan>]) -> Self {
        let rounded = |seconds: f64| (seconds * 1000.0).round() / 1000.0;
        let word = |word: &'a acolyte::Word<TimeSpan>| Word {
            text: &word.text,
            start: rounded(word.span.start),
            end: rounded(word.span.end),
            confidence: word.confidence,
        };
        Self {
            text: &best.text,
            confidence: best.confidence,
            margin: best.margin.filter(|margin| margin.is_finite()),
            words: best.words.iter().map(word).collect(),
            alternatives: others.iter().map(|other| other.text.as_str()).collect(),
        }
    }
}

/// Writes events as they come.
struct Printer {
    json: bool,
    srt: bool,
    /// Subtitles written so far.
    cues: usize,
    bar: ProgressBar,
    text: String,
}

impl Printer {
    fn new(args: &Args) -> Self {
        let bar = match std::io::stderr().is_terminal() {
            true => ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(20)),
            false => ProgressBar::hidden(),
        };
        if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_msg}") {
            bar.set_style(style);
        }
        Self {
            json: args.json,
            srt: args.srt,
            cues: 0,
            bar,
            text: String::new(),
        }
    }

    fn event(&mut self, event: &Event, out: &mut dyn Write, err: &mut dyn Write) -> Result<()> {
        if self.json {
            let line = match event {
                Event::Partial { stable, tentative } => Line::Partial { stable, tentative },
                Event::Final(readings) => {
                    Line::Final(Said::new(readings.best(), readings.others()))
                }
                Event::Rejected(heard) => Line::Rejected(Said::new(heard, &[])),
                Event::Gap { lost } => Line::Gap { lost: *lost },
                _ => return Ok(()),
            };
            let line = serde_json::to_string(&line)?;
            return self.line(out, |out| writeln!(out, "{line}"));
        }
        match event {
            Event::Partial { stable, tentative } => {
                self.text = format!("{stable}{tentative}");
                self.bar.set_message(self.text.clone());
                Ok(())
            }
            Event::Final(readings) => self.said(readings, out),
            Event::Rejected(heard) => {
                self.forget();
                self.note(err, &format!("not of the list: {:?}", heard.text))
            }
            Event::Gap { lost } => {
                self.note(err, &format!("{lost:.2} s of audio are missing here"))
            }
            _ => Ok(()),
        }
    }

    fn said(&mut self, readings: &NBest<TimeSpan>, out: &mut dyn Write) -> Result<()> {
        self.forget();
        if self.srt {
            let first = self.cues;
            let mut count = 0;
            let words = &readings.best().words;
            self.line(out, |out| {
                count = srt::write(words, first, out)?;
                Ok(())
            })?;
            self.cues = first + count;
            return Ok(());
        }
        self.line(out, |out| {
            for reading in readings.iter() {
                writeln!(out, "{}", reading.text)?;
            }
            Ok(())
        })
    }

    fn forget(&mut self) {
        self.text.clear();
        self.bar.set_message("");
    }

    fn line(
        &self,
        out: &mut dyn Write,
        write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<()> {
        self.bar.suspend(|| {
            write(out)?;
            out.flush()
        })?;
        Ok(())
    }

    fn note(&self, err: &mut dyn Write, text: &str) -> Result<()> {
        self.line(err, |err| writeln!(err, "acolyte: {text}"))
    }

    /// The level meter before the text under way: ten steps of 6 dB.
    fn meter(&self, state: LiveState, level: f32) {
        let prefix = match state {
            LiveState::Disconnected => "[no device]".to_owned(),
            _ => {
                let db = 20.0 * level.max(1e-5).log10();
                let steps = ((db + 60.0) / 6.0).clamp(0.0, 10.0) as usize;
                format!("[{}{}]", "#".repeat(steps), " ".repeat(10 - steps))
            }
        };
        self.bar.set_prefix(prefix);
    }
}

/// A WAV file that is written while it is heard.
struct Saved {
    path: PathBuf,
    open: Option<(hound::WavWriter<BufWriter<File>>, AudioFormat)>,
}

impl Saved {
    fn new(path: PathBuf) -> Self {
        Self { path, open: None }
    }

    fn write(&mut self, samples: &[f32], format: AudioFormat) -> Result<()> {
        let failed = || format!("cannot save audio to {}", self.path.display());
        if self.open.is_none() {
            let spec = hound::WavSpec {
                channels: format.channels,
                sample_rate: format.rate,
                bits_per_sample: 16,
                sample_format: hound::SampleFormat::Int,
            };
            let writer = hound::WavWriter::create(&self.path, spec).with_context(failed)?;
            self.open = Some((writer, format));
        }
        let Some((writer, first)) = &mut self.open else {
            return Ok(());
        };
        anyhow::ensure!(
            *first == format,
            "{}: the device changed from {first:?} to {format:?}, which one WAV file cannot hold",
            self.path.display()
        );
        for &sample in samples {
            let value = (sample.clamp(-1.0, 1.0) * f32::from(i16::MAX)).round() as i16;
            writer.write_sample(value).with_context(failed)?;
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        if let Some((writer, _)) = self.open {
            let failed = || format!("cannot save audio to {}", self.path.display());
            writer.finalize().with_context(failed)?;
        }
        Ok(())
    }
}
