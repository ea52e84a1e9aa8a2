//! `acolyte info`: what a model file says about itself.

use crate::{Outcome, models};
use acolyte::Library;
use acolyte::model::header::{ModelHeader, TensorInfo};
use acolyte::model::{Availability, CpuNodes, OrtModel, OrtOptions, Provider, availability};
use acolyte::spec::{FrontEnd, ModelSpec};
use anyhow::{Context, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// Show what a model is: spec, hash, size, parameters, operators, and the providers it can run on
///
/// A file whose spec is missing or damaged is shown as far as it can be read, and the exit code is 1.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A model file, or the name of one under `models/`
    #[arg(value_name = "MODEL")]
    model: String,
    /// One JSON object, with the whole spec
    #[arg(long)]
    json: bool,
    /// Run the model once on this provider, which is required, and count the nodes that each provider ran
    #[arg(long, value_name = "NAME",
          value_parser = clap::builder::PossibleValuesParser::new(Provider::ALL.map(Provider::name)))]
    provider: Option<String>,
    /// With --provider: let the CPU run what it does not run, instead of refusing the model
    #[arg(long, requires = "provider")]
    allow_cpu_nodes: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    path: String,
    /// Bytes of the file.
    size: usize,
    parameters: u64,
    nodes: usize,
    operators: BTreeMap<String, usize>,
    opsets: BTreeMap<String, u64>,
    ir_version: u64,
    producer: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// Availability by provider, or why it is not known.
    providers: BTreeMap<&'static str, String>,
    library: String,
    /// Nodes that each provider ran, after fusion, under ONNX Runtime's names.
    #[serde(skip_serializing_if = "Option::is_none")]
    ran: Option<BTreeMap<String, usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<Latency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spec: Option<ModelSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What live use costs in time, in seconds.
#[derive(Debug, Serialize)]
struct Latency {
    frame: f64,
    chunk: f64,
    look_ahead: f64,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<Outcome> {
    let path = models::resolve(Some(&args.model), &[])?;
    let mut report = report(&path)?;
    if let Some(provider) = &args.provider {
        report.ran = ran(&path, provider.parse()?, args.allow_cpu_nodes)?;
    }
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        write(&report, out)?;
    }
    Ok(match report.error {
        None => Outcome::Done,
        Some(_) => Outcome::SomeFailed,
    })
}

fn report(path: &Path) -> Result<Report> {
    let bytes = acolyte::model::read_bytes(path)?;
    let header = ModelHeader::read(&bytes).map_err(|e| e.with_path(path))?;
    let read = ModelSpec::read(&bytes);
    let error = match &read {
        Ok(spec) => spec.check(&header).err().map(|e| e.to_string()),
        Err(e) => Some(match crate::adopt::hint(&header) {
            Some(hint) => format!("{e}; {hint}"),
            None => e.to_string(),
        }),
    };
    let spec = read.ok();
    let library = Library::find();
    let providers = Provider::ALL.into_iter().filter(|p| *p != Provider::Auto);
    let providers = providers.map(|provider| {
        let state = match library.as_ref().map(|l| availability(l, provider)) {
            Ok(Availability::Ready) => "ready",
            Ok(Availability::NotBuilt) => "not in this build",
            Ok(Availability::NotInLibrary) => "not in the library",
            _ => "unknown",
        };
        (provider.name(), state.to_owned())
    });
    let latency = spec.as_ref().and_then(latency);
    let names = |list: &[TensorInfo]| list.iter().map(TensorInfo::to_string).collect();
    Ok(Report {
        path: path.display().to_string(),
        size: bytes.len(),
        parameters: header.parameters(),
        nodes: header.nodes(),
        inputs: names(&header.inputs),
        outputs: names(&header.outputs),
        ir_version: header.ir_version,
        producer: format!("{} {}", header.producer, header.producer_version)
            .trim()
            .to_owned(),
        opsets: header
            .opsets
            .iter()
            .map(|(domain, version)| match domain.as_str() {
                "" => ("ai.onnx".to_owned(), *version),
                domain => (domain.to_owned(), *version),
            })
            .collect(),
        operators: header.operators,
        providers: providers.collect(),
        library: match &library {
            Ok(library) => library.path().display().to_string(),
            Err(e) => e.to_string(),
        },
        ran: None,
        latency,
        spec,
        error,
    })
}

/// How many nodes each provider ran in one run on `provider`.
fn ran(
    path: &Path,
    provider: Provider,
    allow_cpu_nodes: bool,
) -> Result<Option<BTreeMap<String, usize>>> {
    let cpu_nodes = match allow_cpu_nodes {
        true => CpuNodes::Allow,
        false => CpuNodes::Refuse,
    };
    let options = OrtOptions::default()
        .with_provider(provider)
        .with_cpu_nodes(cpu_nodes)
        .with_pool(1);
    let model = OrtModel::open(&Library::find()?, path, &options)?;
    Ok(model.report_nodes()?.nodes)
}

fn latency(spec: &ModelSpec) -> Option<Latency> {
    let frames = spec.front_end.frame_rate()?;
    let streaming = spec.streaming.as_ref()?;
    let late = streaming.delay_frames * spec.stride + streaming.overlap_frames;
    Some(Latency {
        frame: spec.stride as f64 / frames,
        chunk: streaming.chunk_frames as f64 / frames,
        look_ahead: late as f64 / frames,
    })
}

fn write(report: &Report, out: &mut dyn Write) -> Result<()> {
    let mut line = |key: &str, value: &str| writeln!(out, "{key:<12} {value}").context("output");
    line("file", &report.path)?;
    line("size", &format!("{} bytes", report.size))?;
    if let Some(spec) = &report.spec {
        let word = |value: serde_json::Result<serde_json::Value>| match value {
            Ok(serde_json::Value::String(word)) => word,
            _ => "unknown".to_owned(),
        };
        line("name", &spec.name)?;
        line("task", &word(serde_json::to_value(spec.task)))?;
        line("role", &word(serde_json::to_value(spec.role)))?;
        line("license", &spec.license)?;
        line("sha256", &spec.sha256)?;
        let tokens = &spec.tokens;
        let blank = tokens.blank;
        line("tokens", &format!("{}, blank {blank}", tokens.pieces.len()))?;
        let front_end = match &spec.front_end {
            FrontEnd::LogMel(mel) => {
                format!("log-mel, {} filters, {} Hz", mel.mels, mel.sample_rate)
            }
            FrontEnd::Line(image) => format!(
                "lines of {} rows, {} channel(s), {} to {} columns",
                image.height,
                image.channels.count(),
                image.min_width,
                image.max_width
            ),
            FrontEnd::Waveform(wave) => format!("samples, {} Hz", wave.sample_rate),
            _ => "of a kind this program does not know".to_owned(),
        };
        line("front-end", &front_end)?;
        line("stride", &format!("{} feature frames", spec.stride))?;
        match &report.latency {
            Some(latency) => line(
                "streaming",
                &format!(
                    "output every {:.0} ms, chunks of {:.0} ms, look-ahead {:.0} ms",
                    latency.frame * 1e3,
                    latency.chunk * 1e3,
                    latency.look_ahead * 1e3
                ),
            )?,
            None => line("streaming", "no: whole utterances only")?,
        }
        for (key, value) in &spec.about {
            line(key, value)?;
        }
    }
    line("parameters", &report.parameters.to_string())?;
    let operators: Vec<String> = report
        .operators
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    line("operators", &operators.join(", "))?;
    let opsets: Vec<String> = report
        .opsets
        .iter()
        .map(|(domain, version)| format!("{domain} {version}"))
        .collect();
    line(
        "ONNX",
        &format!(
            "IR {}, opset {}, by {}",
            report.ir_version,
            opsets.join(", "),
            report.producer
        ),
    )?;
    for input in &report.inputs {
        line("input", input)?;
    }
    for output in &report.outputs {
        line("output", output)?;
    }
    let providers: Vec<String> = report
        .providers
        .iter()
        .map(|(name, state)| format!("{name} ({state})"))
        .collect();
    line("providers", &providers.join(", "))?;
    line("library", &report.library)?;
    if let Some(ran) = &report.ran {
        let ran: Vec<String> = ran
            .iter()
            .map(|(name, nodes)| format!("{nodes} on {name}"))
            .collect();
        line("nodes ran", &ran.join(", "))?;
    }
    if let Some(error) = &report.error {
        line("error", error)?;
    }
    Ok(())
}
