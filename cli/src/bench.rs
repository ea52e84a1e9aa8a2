//! `acolyte bench`: how long the parts of recognition take, as JSON lines `{"work", "value", "unit"}`.
//!
//! Each figure is the median of repeated runs on otherwise equal input. `cargo xtask bench recognize` collects
//! them into a table.

use crate::model_args::{ModelArgs, Opened};
use crate::{Outcome, bench_decode, bench_faults, bench_live};
use acolyte::model::{BLOCK_FRAMES, CtcModel, ModelState};
use acolyte::spec::{FrontEnd, ModelSpec};
use acolyte::{Audio, Decoding, LogProbs};
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use ndarray::{Array2, ArrayView2, Axis};
use serde::Serialize;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Measure the parts of recognition; JSON lines
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to measure
    #[arg(value_enum)]
    part: Part,
    /// Recordings to measure on; manifests for `hearing` and `read`; folders of scores and ARPA files for `decode`;
    /// `features` and `greedy` need none
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Folder for the ids that `decode` finds
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Feature extraction, per feature frame
    Features,
    /// Greedy decoding, per output frame
    Greedy,
    /// All decoders on recorded scores, per utterance, and language models in memory; needs no model
    Decode,
    /// Whole recognition: real-time factor, and every part against the model's own run
    Recognize,
    /// Process start to first text, and peak memory
    Startup,
    /// Live use: delays and processor share
    Live,
    /// A day of a repeated recording, and an hour of it live at 20 times its pace: memory and drift
    Soak,
    /// Word errors of a manifest in noise and at other levels; words heard in silence and noise
    Hearing,
    /// A device that vanishes, a worker that stalls, a rate that changes, a slow sink: what is lost, and whether it is told
    Faults,
    /// Accuracy and time on crops of words, of manifests given as files
    Read,
    /// Crops of words read on all cores, of images given as files
    Crops,
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    work: &'a str,
    value: f64,
    unit: &'a str,
}

/// Seconds of sound where no recording is given.
const SECONDS: usize = 60;
/// Repetitions of a run, unless it takes long.
const REPEATS: usize = 15;
/// Time after which no repetition begins.
const ENOUGH: Duration = Duration::from_secs(3);
/// Starts of a process.
const STARTS: usize = 7;

/// Runs the command.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<Outcome> {
    if args.part == Part::Startup {
        startup(args, out)?;
        return Ok(Outcome::Done);
    }
    if args.part == Part::Read {
        crate::bench_read::run(&args.model, &args.files, out)?;
        return Ok(Outcome::Done);
    }
    if args.part == Part::Crops {
        crate::bench_crops::run(&args.model, &args.files, out)?;
        return Ok(Outcome::Done);
    }
    if args.part == Part::Decode {
        bench_decode::run(&args.files, args.out.as_deref(), |work, value, unit| {
            row(out, work, value, unit)
        })?;
        return Ok(Outcome::Done);
    }
    let opened = args.model.open()?;
    if args.part == Part::Hearing {
        let manifest = args.files.first().context("name a manifest (JSON lines)")?;
        bench_live::hearing(&opened, manifest, out)?;
        return Ok(Outcome::Done);
    }
    let sounds = sounds(args, opened.recognizer.spec())?;
    match args.part {
        Part::Live => bench_live::live(&opened, &sounds, out)?,
        Part::Soak => bench_live::soak(&opened, &sounds, out)?,
        Part::Faults => bench_faults::run(&opened, &sounds, out)?,
        Part::Features => features(&opened, &sounds, out)?,
        Part::Greedy => greedy(&opened, &sounds, out)?,
        Part::Recognize
        | Part::Startup
        | Part::Hearing
        | Part::Read
        | Part::Crops
        | Part::Decode => recognize(&opened, &sounds, out)?,
    }
    Ok(Outcome::Done)
}

/// Writes a measurement.
pub fn row(out: &mut dyn Write, work: &str, value: f64, unit: &str) -> Result<()> {
    writeln!(
        out,
        "{}",
        serde_json::to_string(&Row { work, value, unit })?
    )?;
    Ok(())
}

/// The recordings at the model's rate, or noise where `features` and `greedy` are given none.
fn sounds(args: &Args, spec: &ModelSpec) -> Result<Vec<Audio>> {
    let rate = match &spec.front_end {
        FrontEnd::LogMel(mel) => mel.sample_rate,
        FrontEnd::Waveform(wave) => wave.sample_rate,
        _ => bail!("this model takes no audio"),
    };
    if args.files.is_empty() {
        if args.part == Part::Recognize {
            bail!(
                "name at least one recording: how long recognition takes depends on what is said"
            );
        }
        // A linear congruential generator: the same noise on every machine.
        let mut state = 1u32;
        let noise = (0..SECONDS * rate as usize).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 * 0.1 - 0.1
        });
        return Ok(vec![Audio::new(noise.collect(), rate, 1)?]);
    }
    let open = |path| -> Result<Audio> {
        let samples = Audio::open(path)?.mono(rate)?;
        Ok(Audio::new(samples, rate, 1)?)
    };
    args.files.iter().map(open).collect()
}

/// The median time of `work`, in seconds.
fn median(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    work()?; // Caches and allocators are warm afterwards.
    let begun = Instant::now();
    let mut times = Vec::new();
    while times.len() < REPEATS && (times.is_empty() || begun.elapsed() < ENOUGH) {
        let started = Instant::now();
        work()?;
        times.push(started.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Median seconds for all sounds, and the feature frames they have.
fn time_features(opened: &Opened, sounds: &[Audio]) -> Result<(f64, usize)> {
    let fbank = opened.recognizer.front_end();
    let frames = sounds.iter().map(|sound| fbank.frames(sound.len())).sum();
    let seconds = median(|| {
        for sound in sounds {
            std::hint::black_box(fbank.compute(sound.samples())?);
        }
        Ok(())
    })?;
    Ok((seconds, frames))
}

/// Median seconds for all sounds, and the output frames they have.
fn time_greedy(opened: &Opened, sounds: &[Audio]) -> Result<(f64, usize)> {
    let recognizer = &opened.recognizer;
    let scores = sounds.iter().map(|sound| recognizer.scores(sound));
    let scores: Vec<Array2<f32>> = scores.collect::<Result<_, _>>()?;
    let plan = Decoding::greedy().plan(recognizer.tokens())?;
    let values = recognizer.spec().graph.output_values;
    let seconds = median(|| {
        for matrix in &scores {
            std::hint::black_box(plan.decode(&LogProbs::new(matrix.view(), values))?);
        }
        Ok(())
    })?;
    Ok((seconds, scores.iter().map(Array2::nrows).sum()))
}

/// Median seconds of the model's own runs for all sounds, in the blocks recognition uses.
fn time_model(opened: &Opened, sounds: &[Audio]) -> Result<f64> {
    let (model, spec) = (&opened.model, opened.recognizer.spec());
    let features = sounds.iter().map(|sound| {
        let features = opened.recognizer.front_end().compute(sound.samples())?;
        Ok(padded(features, spec, model.fixed_frames()))
    });
    let features: Vec<Array2<f32>> = features.collect::<Result<_>>()?;
    let block = match (&spec.streaming, model.fixed_frames()) {
        (_, Some(fixed)) => fixed,
        (Some(_), None) => BLOCK_FRAMES.next_multiple_of(spec.stride),
        (None, None) => usize::MAX,
    };
    median(|| {
        for matrix in &features {
            let mut state = ModelState::start(spec);
            let blocks: Vec<ArrayView2<'_, f32>> = match block < matrix.nrows() {
                true => matrix.axis_chunks_iter(Axis(0), block).collect(),
                false => vec![matrix.view()],
            };
            for block in blocks {
                std::hint::black_box(model.run(block, &mut state)?);
            }
        }
        Ok(())
    })
}

/// The features with the frames that recognition flushes with.
fn padded(features: Array2<f32>, spec: &ModelSpec, fixed: Option<usize>) -> Array2<f32> {
    let Some(streaming) = &spec.streaming else {
        return features;
    };
    let (frames, width) = features.dim();
    let steps = frames.div_ceil(spec.stride) + streaming.delay_frames;
    let wanted = (steps * spec.stride).next_multiple_of(fixed.unwrap_or(1));
    Array2::from_shape_fn((wanted, width), |(t, f)| {
        features
            .get((t, f))
            .copied()
            .unwrap_or(streaming.flush_value)
    })
}

fn features(opened: &Opened, sounds: &[Audio], out: &mut dyn Write) -> Result<()> {
    let (seconds, frames) = time_features(opened, sounds)?;
    row(
        out,
        "features",
        seconds * 1e6 / frames.max(1) as f64,
        "us per frame",
    )
}

fn greedy(opened: &Opened, sounds: &[Audio], out: &mut dyn Write) -> Result<()> {
    let (seconds, frames) = time_greedy(opened, sounds)?;
    row(
        out,
        "greedy",
        seconds * 1e6 / frames.max(1) as f64,
        "us per frame",
    )
}

fn recognize(opened: &Opened, sounds: &[Audio], out: &mut dyn Write) -> Result<()> {
    let plan = Decoding::greedy().plan(opened.recognizer.tokens())?;
    let whole = median(|| {
        for sound in sounds {
            std::hint::black_box(opened.recognizer.recognize_with(sound, &plan)?);
        }
        Ok(())
    })?;
    let model = time_model(opened, sounds)?;
    let (features, _) = time_features(opened, sounds)?;
    let (greedy, _) = time_greedy(opened, sounds)?;
    let audio: f64 = sounds.iter().map(Audio::duration).sum();
    if audio == 0.0 {
        bail!("the recordings are empty");
    }
    row(out, "real-time factor", whole / audio, "s per s of audio")?;
    row(out, "model run", model * 1e3 / audio, "ms per s of audio")?;
    let share = |part: f64| 100.0 * part / model;
    row(out, "features against model run", share(features), "%")?;
    row(out, "greedy against model run", share(greedy), "%")?;
    row(out, "all beside the model run", share(whole - model), "%")?;
    if let Some(bytes) = peak_memory() {
        row(out, "peak memory in process", bytes as f64 / 1e6, "MB")?;
    }
    Ok(())
}

/// Starts this program anew for each figure, as a user would.
fn startup(args: &Args, out: &mut dyn Write) -> Result<()> {
    let file = args
        .files
        .first()
        .context("name a recording to transcribe")?;
    let (mut times, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["transcribe", "--report-memory"]).arg(file);
        if let Some(model) = &args.model.model {
            command.args(["--model", model]);
        }
        command.args(["--threads", &args.model.threads.to_string()]);
        let started = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("no standard output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        times.push(started.elapsed().as_secs_f64());
        let mut said = String::new();
        let mut stderr = child.stderr.take().context("no standard error")?;
        stderr.read_to_string(&mut said)?;
        if !child.wait()?.success() {
            bail!("transcribe failed: {}", said.trim());
        }
        let peak = said
            .lines()
            .find_map(|line| line.strip_prefix("peak memory "));
        memory.extend(peak.and_then(|bytes| bytes.parse::<f64>().ok()));
    }
    times.sort_by(f64::total_cmp);
    memory.sort_by(f64::total_cmp);
    row(
        out,
        "process start to first text",
        times[times.len() / 2] * 1e3,
        "ms",
    )?;
    if let Some(bytes) = memory.get(memory.len() / 2) {
        row(out, "peak memory", bytes / 1e6, "MB")?;
    }
    Ok(())
}

/// The most memory this process has had, in bytes, where the system tells (Linux).
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
