//! `acolyte compare`: models side by side on the same recordings or crops: size, speed, memory, errors, agreement.
//!
//! Each model is measured in a process of its own, so that load time and peak memory are its own. An oracle teacher is
//! given the transcripts; its latency includes the encoder that reads them, and its errors say so.

pub(crate) mod items;
mod measure;
mod plot;

use crate::Outcome;
use crate::bench::peak_memory;
use crate::models;
use acolyte::Provider;
use acolyte::bootstrap::{Interval, Tally, difference_interval, rate, rate_interval};
use acolyte::metrics::percentile;
use anyhow::{Context, Result, bail};
use measure::Measured;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Compare models on the same recordings or crops: size, load time, latency, memory, errors, agreement
///
/// The first model is the one the others are held against. An oracle teacher is told the transcripts of the manifest:
/// its latency counts its target encoder, and its errors are given the transcript. A crop counts as one word, right if
/// its letters, in any case, and digits are.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model files, folders that hold `model.onnx`, or names under `models/`
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<String>,
    /// Manifest: JSON lines with `text` and either `audio_filepath`, and perhaps `speaker`, or `image`
    #[arg(long, value_name = "MANIFEST")]
    data: PathBuf,
    /// Recordings or crops that are taken, evenly spaced; all where there are fewer
    #[arg(long, value_name = "N", default_value_t = 200)]
    most: usize,
    /// Threads within one run: each number gives a row
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1",
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1024))]
    threads: Vec<usize>,
    /// What to run on: each name gives a row; a named provider is required, never replaced
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "cpu",
          value_parser = clap::builder::PossibleValuesParser::new(Provider::ALL.map(Provider::name)))]
    provider: Vec<String>,
    /// Write everything that was measured as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a picture of errors against latency
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Measure one model and print what was found (how this command measures each)
    #[arg(long, hide = true)]
    measure: bool,
}

/// One model, provider and thread count.
#[derive(Debug, Serialize)]
struct Row {
    model: String,
    name: String,
    role: String,
    sha256: String,
    provider: String,
    threads: usize,
    parameters: u64,
    bytes: u64,
    load_ms: f64,
    latency_ms: BTreeMap<&'static str, f64>,
    /// Absent for crops.
    real_time_factor: Option<f64>,
    peak_memory_bytes: Option<u64>,
    /// In percent; an oracle teacher's are given the transcript.
    wer: f64,
    wer_ci95: Interval,
    cer: f64,
    given_the_transcript: bool,
}

/// A model's words beside the first model's.
#[derive(Debug, Serialize)]
struct Against {
    model: String,
    first: String,
    /// Recordings or crops both read alike, in percent.
    agreement: f64,
    /// The first's WER less the model's, in points.
    difference: f64,
    difference_ci95: Interval,
    /// Speakers, or recordings or crops where the manifest names none, that the interval is drawn over.
    groups: usize,
}

#[derive(Debug, Serialize)]
struct Comparison {
    data: String,
    /// Recordings or crops.
    items: usize,
    seconds: f64,
    machine: String,
    cores: usize,
    rows: Vec<Row>,
    against: Vec<Against>,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<Outcome> {
    if args.measure {
        let found = measure::measure(args)?;
        writeln!(out, "{}", serde_json::to_string(&found)?)?;
        return Ok(Outcome::Done);
    }
    let mut rows = Vec::new();
    let mut firsts: Vec<(String, Measured)> = Vec::new();
    for model in &args.models {
        let path = models::resolve(Some(model), &[])?;
        for provider in &args.provider {
            for &threads in &args.threads {
                let found = in_a_process(args, &path.display().to_string(), provider, threads)?;
                rows.push(row(model, provider, threads, &found));
                if firsts.iter().all(|(known, _)| known != model) {
                    firsts.push((model.clone(), found));
                }
            }
        }
    }
    let against = match firsts.split_first() {
        Some((first, others)) => others.iter().map(|other| held(first, other)).collect(),
        None => Vec::new(),
    };
    let comparison = Comparison {
        data: args.data.display().to_string(),
        items: firsts.first().map_or(0, |(_, m)| m.utterances.len()),
        seconds: firsts.first().map_or(0.0, |(_, m)| m.audio_seconds),
        machine: machine(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        rows,
        against,
    };
    write(&comparison, out)?;
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&comparison)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &args.svg {
        let points: Vec<plot::Point<'_>> = comparison.rows.iter().map(point).collect();
        std::fs::write(path, plot::svg(&points))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(Outcome::Done)
}

/// Measures a model in a process of its own.
fn in_a_process(args: &Args, model: &str, provider: &str, threads: usize) -> Result<Measured> {
    let output = Command::new(std::env::current_exe()?)
        .args(["compare", "--measure", model, "--data"])
        .arg(&args.data)
        .args(["--most", &args.most.to_string()])
        .args(["--provider", provider])
        .args(["--threads", &threads.to_string()])
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        bail!(
            "measuring {model} failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    serde_json::from_slice(&output.stdout).context("what was measured cannot be read")
}

fn row(model: &str, provider: &str, threads: usize, found: &Measured) -> Row {
    let at = |percent| percentile(&found.latencies_ms, percent).unwrap_or_default();
    let total: f64 = found.latencies_ms.iter().sum();
    let words: Vec<Tally> = groups(found).into_values().collect();
    Row {
        model: model.to_owned(),
        name: found.name.clone(),
        role: found.role.clone(),
        sha256: found.sha256.clone(),
        provider: provider.to_owned(),
        threads,
        parameters: found.parameters,
        bytes: found.bytes,
        load_ms: found.load_ms,
        latency_ms: [("p50", 50.0), ("p95", 95.0), ("p99", 99.0)]
            .map(|(name, percent)| (name, at(percent)))
            .into(),
        real_time_factor: (found.audio_seconds > 0.0).then(|| total / 1e3 / found.audio_seconds),
        peak_memory_bytes: found.peak_memory,
        wer: rate(words.iter().copied()),
        wer_ci95: rate_interval(&words),
        cer: rate(found.utterances.iter().map(|u| u.characters)),
        given_the_transcript: found.labeled,
    }
}

/// Word errors by speaker, or by recording where a speaker is missing.
fn groups(found: &Measured) -> BTreeMap<String, Tally> {
    let named = found.utterances.iter().all(|u| u.speaker.is_some());
    let mut groups: BTreeMap<String, Tally> = BTreeMap::new();
    for (index, utterance) in found.utterances.iter().enumerate() {
        let key = match &utterance.speaker {
            Some(speaker) if named => speaker.clone(),
            _ => index.to_string(),
        };
        let own = groups.entry(key).or_default();
        own[0] += utterance.words[0];
        own[1] += utterance.words[1];
    }
    groups
}

fn held((first, ours): &(String, Measured), (model, found): &(String, Measured)) -> Against {
    let pairs = ours.utterances.iter().zip(&found.utterances);
    let same = pairs.filter(|(a, b)| a.text == b.text).count();
    let theirs = groups(found);
    let pairs: Vec<(Tally, Tally)> = groups(ours)
        .into_iter()
        .filter_map(|(name, own)| Some((own, *theirs.get(&name)?)))
        .collect();
    Against {
        model: model.clone(),
        first: first.clone(),
        agreement: 100.0 * same as f64 / ours.utterances.len().max(1) as f64,
        difference: rate(pairs.iter().map(|p| p.0)) - rate(pairs.iter().map(|p| p.1)),
        difference_ci95: difference_interval(&pairs),
        groups: pairs.len(),
    }
}

fn point(row: &Row) -> plot::Point<'_> {
    plot::Point {
        label: &row.model,
        threads: row.threads,
        latency_ms: row.latency_ms.get("p50").copied().unwrap_or_default(),
        wer: row.wer,
        given: row.given_the_transcript,
    }
}

/// The processor's name, where the system tells.
fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    named.map_or_else(
        || format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        |(_, name)| name.trim().to_owned(),
    )
}

fn write(found: &Comparison, out: &mut dyn Write) -> Result<()> {
    writeln!(
        out,
        "{}; {}, {} cores\n",
        match found.seconds > 0.0 {
            true => format!("{} recordings, {:.0} s", found.items, found.seconds),
            false => format!("{} crops", found.items),
        },
        found.machine,
        found.cores
    )?;
    writeln!(
        out,
        "| model | role | runs on | threads | parameters | MB | load ms | p50 ms | p95 ms | p99 ms | RTF | peak MB | WER % | CER % |"
    )?;
    writeln!(
        out,
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
    )?;
    for row in &found.rows {
        let given = if row.given_the_transcript {
            " given the transcript"
        } else {
            ""
        };
        let memory = row
            .peak_memory_bytes
            .map_or("-".to_owned(), |bytes| format!("{:.0}", bytes as f64 / 1e6));
        let latency = |name| row.latency_ms.get(name).copied().unwrap_or_default();
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {:.2} | {:.0} | {:.1} | {:.1} | {:.1} | {} | {memory} | {:.2} [{:.1}, {:.1}]{given} | {:.2} |",
            row.model,
            row.role,
            row.provider,
            row.threads,
            row.parameters,
            row.bytes as f64 / 1e6,
            row.load_ms,
            latency("p50"),
            latency("p95"),
            latency("p99"),
            row.real_time_factor
                .map_or("-".to_owned(), |factor| format!("{factor:.4}")),
            row.wer,
            row.wer_ci95.low,
            row.wer_ci95.high,
            row.cer
        )?;
    }
    for other in &found.against {
        writeln!(
            out,
            "\n{} and {} read {:.1} % alike; the WER of {} less that of {} is {:+.2} points, 95 % {:+.2} to \
             {:+.2} over {} speakers, recordings or crops",
            other.first,
            other.model,
            other.agreement,
            other.first,
            other.model,
            other.difference,
            other.difference_ci95.low,
            other.difference_ci95.high,
            other.groups
        )?;
    }
    Ok(())
}
