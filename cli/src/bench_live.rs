//! `acolyte bench live | soak | hearing`: live recognition, as an app that pushes 10 ms at a time meets it.
//!
//! *Final delay* is from the last sample to the final text: what `finish` takes, once all else has been recognized. Its
//! companion, the model's look-ahead, is stated by the spec and printed beside it. Delays are times that pass, shares of a
//! processor are times on it, which need one thread for a run of the model. *Drift* is how far a word's time
//! moves against the audio's when one recording is repeated for hours.

use crate::bench::row;
use crate::clock;
use crate::model_args::Opened;
use acolyte::capture::PacedAudio;
use acolyte::metrics::{ErrorCounts, word_errors};
use acolyte::{Audio, Decoding, Event, Live, LiveState, Samples};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Samples pushed at a time, in seconds.
const PUSH: f64 = 0.01;
/// Audio of a soak through the streaming recognizer, and through the whole live path at [`PACE`].
const SOAK_HOURS: f64 = 24.0;
const LIVE_HOURS: f64 = 1.0;
const PACE: f64 = 20.0;
/// Time between the repeated recordings of a soak.
const PAUSE_SECONDS: f64 = 2.0;

/// Delays and processor share of one live stream, over the recordings.
pub fn live(opened: &Opened, sounds: &[Audio], out: &mut dyn Write) -> Result<()> {
    let recognizer = &opened.recognizer;
    recognizer.warm_up()?;
    let (mut finals, mut pushes) = (Vec::new(), Vec::new());
    let (mut busy, mut audio) = (0.0, 0.0);
    for sound in sounds {
        let mut stream = recognizer.stream(&Decoding::greedy())?;
        let block = (f64::from(sound.sample_rate()) * PUSH) as usize;
        for samples in sound.samples().chunks(block.max(1)) {
            let (started, worked) = (Instant::now(), clock::worked());
            stream.push(Samples::mono(samples, sound.sample_rate()))?;
            while stream.poll()?.is_some() {}
            pushes.push(started.elapsed().as_secs_f64() * 1e3);
            busy += (clock::worked() - worked).as_secs_f64();
        }
        let (started, worked) = (Instant::now(), clock::worked());
        let events = stream.finish()?;
        std::hint::black_box(events);
        finals.push(started.elapsed().as_secs_f64() * 1e3);
        busy += (clock::worked() - worked).as_secs_f64();
        audio += sound.duration();
    }
    if audio == 0.0 {
        bail!("name recordings: how long live recognition takes depends on what is said");
    }
    let latency = recognizer.latency().context("a model that streams")?;
    let ms = "ms";
    row(
        out,
        "last sample to final text, p50",
        percentile(&mut finals, 0.5),
        ms,
    )?;
    row(
        out,
        "last sample to final text, p95",
        percentile(&mut finals, 0.95),
        ms,
    )?;
    row(
        out,
        "a push of 10 ms, p95",
        percentile(&mut pushes, 0.95),
        ms,
    )?;
    row(
        out,
        "a push of 10 ms, longest",
        percentile(&mut pushes, 1.0),
        ms,
    )?;
    row(out, "stated latency of a partial", latency * 1e3, ms)?;
    row(
        out,
        "processor share of one live stream",
        100.0 * busy / audio,
        "% of a core",
    )?;
    row(
        out,
        "live streams that one core keeps up with",
        audio / busy,
        "streams",
    )
}

fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values
        .get((last as f64 * share).round() as usize)
        .copied()
        .unwrap_or_default()
}

/// Hours of the recordings, over and over: memory and word times.
pub fn soak(opened: &Opened, sounds: &[Audio], out: &mut dyn Write) -> Result<()> {
    let sound = sounds.first().context("name a recording to repeat")?;
    let rate = sound.sample_rate();
    let mut turn = sound.samples().to_vec();
    turn.extend(std::iter::repeat_n(
        0.0,
        (PAUSE_SECONDS * f64::from(rate)) as usize,
    ));
    let seconds = turn.len() as f64 / f64::from(rate);
    let turns = (SOAK_HOURS * 3600.0 / seconds).ceil() as usize;
    let mut stream = opened.recognizer.stream(&Decoding::greedy())?;
    let mut watch = Watch::new(turns, seconds);
    for turn_index in 0..turns {
        for samples in turn.chunks(rate as usize / 10) {
            stream.push(Samples::mono(samples, rate))?;
            while let Some(event) = stream.poll()? {
                watch.event(&event);
            }
        }
        watch.turn(turn_index);
    }
    for event in stream.finish()? {
        watch.event(&event);
    }
    watch.report("24 h streamed", out)?;
    let turns = (LIVE_HOURS * 3600.0 / seconds).ceil() as usize;
    let hour: Vec<f32> = turn
        .iter()
        .copied()
        .cycle()
        .take(turn.len() * turns)
        .collect();
    let source = PacedAudio::new(Audio::new(hour, rate, 1)?, PACE)?;
    let mut live = Live::new(source, opened.recognizer.stream(&Decoding::greedy())?);
    let mut watch = Watch::new(turns, seconds);
    let mut done = 0;
    loop {
        let state = live.step()?;
        while let Some(event) = live.poll()? {
            watch.event(&event);
        }
        let turn_index = (live.stats().frames as usize) / turn.len();
        while done < turn_index {
            watch.turn(done);
            done += 1;
        }
        if state == LiveState::Ended {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    watch.report("1 h live at 20x", out)
}

/// Memory and word times over the turns of a soak.
struct Watch {
    turns: usize,
    seconds: f64,
    /// Resident bytes after each turn, from a tenth of the turns on.
    memory: Vec<f64>,
    /// Start of the first word of each utterance within its turn.
    starts: Vec<f64>,
    finals: usize,
}

impl Watch {
    fn new(turns: usize, seconds: f64) -> Self {
        Self {
            turns,
            seconds,
            memory: Vec::with_capacity(turns),
            starts: Vec::with_capacity(turns),
            finals: 0,
        }
    }

    fn event(&mut self, event: &Event) {
        if let Event::Final(readings) = event {
            self.finals += 1;
            if let Some(word) = readings.best().words.first() {
                self.starts.push(word.span.start % self.seconds);
            }
        }
    }

    fn turn(&mut self, index: usize) {
        if index * 10 >= self.turns
            && let Some(bytes) = resident()
        {
            self.memory.push(bytes as f64);
        }
    }

    fn report(&self, what: &str, out: &mut dyn Write) -> Result<()> {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let fifth = self.memory.len() / 5;
        let growth = mean(&self.memory[self.memory.len() - fifth..]) - mean(&self.memory[..fifth]);
        row(
            out,
            &format!("{what}: utterances"),
            self.finals as f64,
            "of turns",
        )?;
        row(out, &format!("{what}: turns"), self.turns as f64, "turns")?;
        row(
            out,
            &format!("{what}: memory growth after warm-up"),
            growth / 1024.0,
            "KiB",
        )?;
        // The first and last tenths: the model may hear a repetition as something else, but not elsewhere.
        let tenth = (self.starts.len() / 10).max(1).min(self.starts.len());
        let drift = mean(&self.starts[self.starts.len() - tenth..]) - mean(&self.starts[..tenth]);
        row(
            out,
            &format!("{what}: drift of word times"),
            drift.abs() * 1e3,
            "ms",
        )
    }
}

/// Bytes of this process in memory, where the system tells (Linux).
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// A row of a manifest.
#[derive(Debug, Deserialize)]
struct Entry {
    audio_filepath: PathBuf,
    text: String,
}

/// Word errors over a manifest with noise and at other levels, and words heard where nobody speaks.
pub fn hearing(opened: &Opened, manifest: &Path, out: &mut dyn Write) -> Result<()> {
    let folder = manifest.parent().unwrap_or(Path::new("."));
    let text = std::fs::read_to_string(manifest)
        .with_context(|| format!("cannot read {}", manifest.display()))?;
    let mut spoken = Vec::new();
    for (number, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let entry: Entry = serde_json::from_str(line)
            .with_context(|| format!("{}: line {}", manifest.display(), number + 1))?;
        let audio = Audio::open(folder.join(&entry.audio_filepath))?;
        spoken.push((audio, entry.text));
    }
    let conditions = [
        ("as recorded", None, 0.0),
        ("20 dB SNR", Some(20.0), 0.0),
        ("10 dB SNR", Some(10.0), 0.0),
        ("0 dB SNR", Some(0.0), 0.0),
        ("12 dB louder", None, 12.0),
        ("12 dB softer", None, -12.0),
    ];
    for (name, snr, gain) in conditions {
        let mut errors = ErrorCounts::default();
        for (index, (audio, reference)) in spoken.iter().enumerate() {
            let heard = changed(audio, snr, gain, index as u32)?;
            let said = opened.recognizer.recognize(&heard, &Decoding::greedy())?;
            errors += word_errors(&reference.to_lowercase(), &said.text);
        }
        row(out, &format!("WER, {name}"), 100.0 * errors.rate(), "%")?;
    }
    let ten_minutes = 600 * 16_000;
    for (name, level) in [("silence", 0.0), ("noise at -30 dB", 10f32.powf(-1.5))] {
        let mut noise = Noise::new(1);
        let samples = (0..ten_minutes).map(|_| level * noise.sample()).collect();
        let said = words_live(opened, &Audio::new(samples, 16_000, 1)?)?;
        row(
            out,
            &format!("words in 10 minutes of {name}"),
            said as f64,
            "words",
        )?;
    }
    Ok(())
}

/// The recording with white noise of that distance to its own level, and louder by `gain` dB; what then exceeds full
/// scale is clipped, as a device would.
fn changed(audio: &Audio, snr: Option<f64>, gain: f32, seed: u32) -> Result<Audio> {
    let samples = audio.samples();
    let power =
        samples.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / samples.len().max(1) as f64;
    let noise_level = snr.map_or(0.0, |snr| (power / 10f64.powf(snr / 10.0)).sqrt() as f32);
    let gain = 10f32.powf(gain / 20.0);
    let mut noise = Noise::new(seed);
    let changed = samples
        .iter()
        .map(|&x| (gain * (x + noise_level * noise.sample())).clamp(-1.0, 1.0));
    Ok(Audio::new(changed.collect(), audio.sample_rate(), 1)?)
}

/// White noise of variance 1, the same on every machine: sums of twelve uniform numbers.
struct Noise(u32);

impl Noise {
    fn new(seed: u32) -> Self {
        Self(seed.wrapping_mul(2_654_435_761) | 1)
    }

    fn sample(&mut self) -> f32 {
        let mut sum = 0.0;
        for _ in 0..12 {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            sum += (self.0 >> 8) as f32 / (1 << 24) as f32;
        }
        sum - 6.0
    }
}

fn words_live(opened: &Opened, audio: &Audio) -> Result<usize> {
    let mut stream = opened.recognizer.stream(&Decoding::greedy())?;
    let mut words = 0;
    let mut count = |event: &Event| {
        if let Event::Final(readings) = event {
            words += readings.best().words.len();
        }
    };
    for samples in audio.samples().chunks(16_000) {
        stream.push(Samples::mono(samples, audio.sample_rate()))?;
        while let Some(event) = stream.poll()? {
            count(&event);
        }
    }
    stream.finish()?.iter().for_each(count);
    Ok(words)
}
