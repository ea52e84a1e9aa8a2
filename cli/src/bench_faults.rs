//! `acolyte bench faults`: what goes wrong while listening, done on purpose.
//!
//! The recordings are heard one after another with pauses, once undisturbed, then with each fault. For each fault: how
//! much audio was told as lost, how much is missing without having been told (which must be nothing), and how many
//! words differ from the undisturbed run. The device is the ring that a microphone's callback writes into, fed by a thread
//! at the pace of a device; a device that vanishes and a rate that changes are played by a source of the same
//! interface.

use crate::bench::row;
use crate::model_args::Opened;
use acolyte::capture::{
    AudioFormat, AudioSource, AudioWriter, Captured, HandedAudio, handed_audio,
};
use acolyte::metrics::word_errors;
use acolyte::{Audio, Decoding, Event, Live, LiveState, LiveStats};
use anyhow::{Context, Result};
use std::io::Write;
use std::time::{Duration, Instant};

/// Frames per second of the device.
const RATE: u32 = 16_000;
/// Silence after each recording: longer than what ends an utterance.
const PAUSE: f64 = 1.6;
/// Between two writes of the device.
const BLOCK: Duration = Duration::from_millis(20);
/// Between two reads of a healthy worker.
const STEP: Duration = Duration::from_millis(10);
/// How long the worker stalls, and how long the device is away.
const FAULT: Duration = Duration::from_secs(2);
/// How long a slow sink takes for an event.
const SLOW: Duration = Duration::from_millis(400);

/// What the worker does.
#[derive(Clone, Copy, PartialEq)]
enum Worker {
    Healthy,
    /// Stalls once, a second after the start.
    Stalls,
    /// Takes its time for every event.
    SlowSink,
}

/// Runs every fault over the recordings.
pub fn run(opened: &Opened, sounds: &[Audio], out: &mut dyn Write) -> Result<()> {
    opened.recognizer.warm_up()?;
    let mut samples = Vec::new();
    for sound in sounds {
        samples.extend(sound.mono(RATE)?);
        samples.extend(std::iter::repeat_n(0.0, (PAUSE * f64::from(RATE)) as usize));
    }
    let frames = samples.len() as u64;
    let device = |seconds: f64| device(samples.clone(), seconds);
    let undisturbed = listen(opened, device(2.0)?, Worker::Healthy)?;
    let spoken = undisturbed.text.clone();
    let mut report = |name: &str, heard: &Heard, all: u64| -> Result<()> {
        let stats = heard.stats;
        let lost = stats.lost as f64 / f64::from(RATE);
        let untold = all.abs_diff(stats.frames + stats.lost);
        let errors = word_errors(&spoken, &heard.text);
        row(out, &format!("{name}: audio told as lost"), lost, "s")?;
        row(
            out,
            &format!("{name}: frames missing untold"),
            untold as f64,
            "frames",
        )?;
        row(
            out,
            &format!("{name}: gaps told"),
            heard.gaps as f64,
            "gaps",
        )?;
        row(
            out,
            &format!("{name}: times the device was told gone"),
            heard.gone as f64,
            "times",
        )?;
        row(
            out,
            &format!("{name}: words that differ"),
            100.0 * errors.rate(),
            "% of words",
        )
    };
    report("no fault", &undisturbed, frames)?;
    let heard = listen(opened, device(2.0)?, Worker::Stalls)?;
    report("worker stalls for 2 s, ring of 2 s", &heard, frames)?;
    let heard = listen(opened, device(1.0)?, Worker::Stalls)?;
    report("worker stalls for 2 s, ring of 1 s", &heard, frames)?;
    let heard = listen(opened, device(2.0)?, Worker::SlowSink)?;
    report("every event takes the sink 0.4 s", &heard, frames)?;
    let away = Vanishing::new(device(2.0)?);
    let heard = listen(opened, away, Worker::Healthy)?;
    report("device away for 2 s", &heard, frames)?;
    let changing = Changing::new(&samples)?;
    let given = changing.frames();
    let heard = listen(opened, changing, Worker::Healthy)?;
    report("rate changes from 16 to 48 kHz", &heard, given)
}

/// A device's ring of so many seconds, fed at its pace by a thread.
fn device(samples: Vec<f32>, seconds: f64) -> Result<HandedAudio> {
    let format = AudioFormat {
        rate: RATE,
        channels: 1,
    };
    let (writer, source) = handed_audio(format, seconds)?;
    std::thread::Builder::new()
        .spawn(move || feed(writer, &samples))
        .context("no thread for the device")?;
    Ok(source)
}

fn feed(mut writer: AudioWriter, samples: &[f32]) {
    let started = Instant::now();
    let block = (f64::from(RATE) * BLOCK.as_secs_f64()) as usize;
    for (index, samples) in samples.chunks(block).enumerate() {
        let due = BLOCK * index as u32;
        std::thread::sleep(due.saturating_sub(started.elapsed()));
        writer.write(samples.iter().copied());
    }
}

/// What came of listening.
struct Heard {
    text: String,
    gaps: usize,
    gone: usize,
    stats: LiveStats,
}

fn listen<S: AudioSource>(opened: &Opened, source: S, worker: Worker) -> Result<Heard> {
    let mut live = Live::new(source, opened.recognizer.stream(&Decoding::greedy())?);
    let started = Instant::now();
    let mut stalls = worker == Worker::Stalls;
    let (mut texts, mut gaps, mut gone) = (Vec::new(), 0, 0);
    let mut before = LiveState::Listening;
    loop {
        if stalls && started.elapsed() >= Duration::from_secs(1) {
            stalls = false;
            std::thread::sleep(FAULT);
        }
        let state = live.step()?;
        gone += usize::from(state == LiveState::Disconnected && before != state);
        before = state;
        while let Some(event) = live.poll()? {
            match event {
                Event::Final(readings) => texts.push(readings.into_best().text),
                Event::Gap { .. } => gaps += 1,
                _ => {}
            }
            if worker == Worker::SlowSink {
                std::thread::sleep(SLOW);
            }
        }
        if state == LiveState::Ended {
            break;
        }
        std::thread::sleep(STEP);
    }
    Ok(Heard {
        text: texts.join(" "),
        gaps,
        gone,
        stats: live.stats(),
    })
}

/// A device that is away for two seconds, a second after its start.
struct Vanishing {
    device: HandedAudio,
    /// Frames it gave so far.
    at: u64,
    from: u64,
    until: u64,
    told: bool,
    buffer: Vec<f32>,
    /// Samples that came after it was back.
    after: Vec<f32>,
}

impl Vanishing {
    fn new(device: HandedAudio) -> Self {
        let from = u64::from(RATE);
        Self {
            device,
            at: 0,
            from,
            until: from + (FAULT.as_secs_f64() * f64::from(RATE)) as u64,
            told: false,
            buffer: Vec::new(),
            after: Vec::new(),
        }
    }
}

impl AudioSource for Vanishing {
    fn format(&self) -> AudioFormat {
        self.device.format()
    }

    fn read(&mut self, out: &mut Vec<f32>) -> Result<Captured, acolyte::Error> {
        out.append(&mut self.after);
        self.buffer.clear();
        let captured = self.device.read(&mut self.buffer)?;
        let start = self.at;
        self.at += self.buffer.len() as u64;
        let place = |frame: u64| usize::try_from(frame.saturating_sub(start)).unwrap_or(usize::MAX);
        let (from, until) = (
            place(self.from).min(self.buffer.len()),
            place(self.until).min(self.buffer.len()),
        );
        if start >= self.until {
            out.append(&mut self.buffer);
            return Ok(captured);
        }
        out.extend_from_slice(&self.buffer[..from]);
        if self.at < self.from {
            return Ok(captured);
        }
        if !self.told {
            self.told = true;
            return Ok(Captured::Disconnected);
        }
        if self.at < self.until {
            return Ok(Captured::Current);
        }
        self.after.extend_from_slice(&self.buffer[until..]);
        Ok(Captured::Lost {
            frames: self.until - self.from,
        })
    }
}

/// A source whose second half comes at three times the rate.
struct Changing {
    parts: std::vec::IntoIter<(u32, Vec<f32>)>,
    rate: u32,
}

impl Changing {
    fn new(samples: &[f32]) -> Result<Self> {
        let (first, second) = samples.split_at(samples.len() / 2);
        let second = Audio::new(second.to_vec(), RATE, 1)?.mono(3 * RATE)?;
        let blocks = |rate: u32, samples: &[f32]| -> Vec<(u32, Vec<f32>)> {
            (samples.chunks(rate as usize / 10))
                .map(|part| (rate, part.to_vec()))
                .collect()
        };
        let mut parts = blocks(RATE, first);
        parts.extend(blocks(3 * RATE, &second));
        Ok(Self {
            parts: parts.into_iter(),
            rate: RATE,
        })
    }

    /// Frames still to come, of either rate.
    fn frames(&self) -> u64 {
        self.parts
            .as_slice()
            .iter()
            .map(|(_, samples)| samples.len() as u64)
            .sum()
    }
}

impl AudioSource for Changing {
    fn format(&self) -> AudioFormat {
        AudioFormat {
            rate: self.rate,
            channels: 1,
        }
    }

    fn read(&mut self, out: &mut Vec<f32>) -> Result<Captured, acolyte::Error> {
        if let Some((rate, _)) = self.parts.as_slice().first()
            && *rate != self.rate
        {
            self.rate = *rate;
            return Ok(Captured::Changed);
        }
        match self.parts.next() {
            Some((_, samples)) => {
                out.extend(samples);
                Ok(Captured::Current)
            }
            None => Ok(Captured::Ended),
        }
    }
}
