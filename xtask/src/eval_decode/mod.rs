//! `cargo xtask eval decode`: what each way of decoding is worth on real output of a shipped model, and the tables and
//! pictures of `docs/decoding.md`.
//!
//! `acolyte tune --json` runs the model once over a set and decodes it in every way. Language models and word lists come
//! from an4's **train** transcripts and from the books beside the data sets, never from a development set. The weights
//! below were chosen on the development sets of an4 and librispeech_mini, so their figures are a little too good.

mod commands;
mod measures;
mod report;
mod words;

use crate::Named;
use crate::process::{self, root};
use crate::setup;
use crate::table::{self, Row};
use anyhow::{Context, Result, bail};
use measures::Reading;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a set is decoded with besides plain beams.
struct Set {
    name: &'static str,
    label: &'static str,
    /// Where words are free.
    free: Weights,
    /// Where they are those of the lexicon.
    listed: Weights,
    /// Nats for each hotword.
    boost: f64,
}

/// What a language model counts.
struct Weights {
    lm: f64,
    word_bonus: f64,
}

const SETS: [Set; 2] = [
    Set {
        name: "an4",
        label: "an4 dev",
        free: Weights {
            lm: 0.6,
            word_bonus: 1.5,
        },
        listed: Weights {
            lm: 0.6,
            word_bonus: 1.5,
        },
        boost: 2.0,
    },
    Set {
        name: "librispeech_mini",
        label: "librispeech_mini dev",
        free: Weights {
            lm: 0.3,
            word_bonus: 1.5,
        },
        listed: Weights {
            lm: 0.7,
            word_bonus: 0.5,
        },
        boost: 2.0,
    },
];

/// Beam widths for accuracy against time.
const BEAMS: [usize; 5] = [5, 10, 25, 50, 100];

/// The beam that the other measurements use.
const BEAM: usize = 25;

/// The program, where the sets are, and room for files.
struct Place {
    acolyte: PathBuf,
    sets: PathBuf,
    scratch: PathBuf,
    model: String,
}

/// Results of one way of decoding a set.
struct Way {
    set: &'static str,
    name: String,
    wer: f64,
    cer: f64,
    /// Milliseconds of decoding for a second of audio.
    time: f64,
}

pub fn run(named: &Named) -> Result<()> {
    setup::ready()?;
    let place = Place {
        acolyte: process::release("acolyte-cli", "acolyte")?,
        sets: named.sets()?,
        scratch: root().join("target").join("xtask").join("eval-decode"),
        model: named.model.clone(),
    };
    std::fs::create_dir_all(&place.scratch)?;
    let mut ways = Vec::new();
    let mut confidences = Vec::new();
    let mut times = Vec::new();
    for set in &SETS {
        if !place.manifest(set.name).is_file() {
            bail!(
                "{} is not there: name the folder that holds the sets with --data or ACOLYTE_DATA",
                place.manifest(set.name).display()
            );
        }
        eprintln!("{}", set.label);
        let settings = settings(set, &place)?;
        let readings = place.tune(&place.manifest(set.name), &settings, None)?;
        for (name, _) in &settings {
            let own: Vec<&Reading> = readings.iter().filter(|r| r.decoding == *name).collect();
            ways.push(measures::way(set.label, name, &own));
        }
        let plain = |name: &str| {
            readings
                .iter()
                .filter(|r| r.decoding == name)
                .cloned()
                .collect()
        };
        confidences.push((
            set.label,
            words::calibration(&readings, "greedy"),
            words::calibration(&readings, &beam_name(BEAM)),
        ));
        times.push((
            set.label,
            words::boundaries(&place, set, plain("greedy"), plain(&beam_name(BEAM)))?,
        ));
    }
    eprintln!("commands");
    let commands = commands::measure(&place)?;
    let mut rows: Vec<Row> = Vec::new();
    for way in &ways {
        let Way { set, name, .. } = way;
        rows.push(Row::report(format!("{set}, {name}: WER"), way.wer, "%"));
        rows.push(Row::report(format!("{set}, {name}: CER"), way.cer, "%"));
        rows.push(Row::report(
            format!("{set}, {name}: decoding"),
            way.time,
            "ms per s of audio",
        ));
    }
    for (set, greedy, beam) in &confidences {
        for (name, calibration) in [("greedy", greedy), ("beam", beam)] {
            let work = format!("{set}, {name}: word confidence off by, in the mean");
            rows.push(Row::report(work, calibration.error, "%"));
        }
    }
    for (set, boundaries) in &times {
        rows.extend(boundaries.rows(set));
    }
    rows.extend(commands.rows());
    report::write(&place, &ways, &confidences, &commands, &rows)?;
    table::print("decode", &rows);
    Ok(())
}

/// The name of a plain beam's settings.
fn beam_name(width: usize) -> String {
    format!("beam {width}")
}

/// The books that language models of general English are made from, in the order of their names.
pub fn books(sets: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(sets.join("text").join("gutenberg"));
    let mut books: Vec<PathBuf> = (entries.into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "txt"))
        .collect();
    books.sort();
    books
}

/// The language model of a set, estimated where it is not there yet.
fn language_model(set: &Set, place: &Place) -> Result<PathBuf> {
    let model = place.scratch.join(format!("{}.arpa", set.name));
    if model.is_file() {
        return Ok(model);
    }
    let mut command = Command::new(process::release("acolyte-trainer", "acolyte-train")?);
    command.args(["lm", "--order", "3", "-o"]).arg(&model);
    match set.name {
        "an4" => command.arg(place.sets.join("an4").join("train.jsonl")),
        _ => command
            .args(["--prose", "--prune", "0,0,1"])
            .args(books(&place.sets)),
    };
    process::output(&mut command)?;
    Ok(model)
}

/// The settings that a set is decoded with, and their files.
fn settings(set: &Set, place: &Place) -> Result<Vec<(String, PathBuf)>> {
    let model = language_model(set, place)?;
    let words = words::vocabulary(&std::fs::read_to_string(&model)?);
    if words.is_empty() {
        bail!("{} has no words", model.display());
    }
    let lexicon = place.write(&format!("{}-words.txt", set.name), &lines(&words))?;
    let long = words.iter().filter(|word| word.len() >= 5).take(100);
    let hot: Vec<String> = long.map(|word| format!("{word}\t{}", set.boost)).collect();
    let hotwords = place.write(&format!("{}-hotwords.txt", set.name), &lines(&hot))?;
    let scored = |weights: &Weights| {
        let Weights { lm, word_bonus } = weights;
        format!("lm = {model:?}\nlm-weight = {lm}\nword-bonus = {word_bonus}\n")
    };
    let (free, listed) = (scored(&set.free), scored(&set.listed));
    let only = format!("lexicon = {lexicon:?}\n");
    let hot = format!("hotwords = {hotwords:?}\n");
    let mut texts = vec![("greedy".to_owned(), "beam = 0\n".to_owned())];
    let mut add = |width: usize, more: &str, keys: &[&str]| {
        let text = format!("beam = {width}\n{}", keys.concat());
        texts.push((format!("{}{more}", beam_name(width)), text));
    };
    for width in BEAMS {
        add(width, "", &[]);
        add(width, " + LM", &[&free]);
        add(width, " + LM + lexicon", &[&listed, &only]);
    }
    add(BEAM, " + lexicon", &[&only]);
    let open = "lexicon-open = true\n";
    add(BEAM, " + LM + open lexicon", &[&free, &only, open]);
    add(BEAM, " + hotwords", &[&hot]);
    add(BEAM, " + LM + lexicon + hotwords", &[&listed, &only, &hot]);
    let folder = format!("{}-settings", set.name);
    std::fs::create_dir_all(place.scratch.join(&folder))?;
    let write = |(name, text): (String, String)| {
        let file = place.write(&format!("{folder}/{name}.toml"), &text)?;
        Ok((name, file))
    };
    texts.into_iter().map(write).collect()
}

fn lines(entries: &[String]) -> String {
    entries.iter().map(|entry| format!("{entry}\n")).collect()
}

impl Place {
    fn manifest(&self, set: &str) -> PathBuf {
        self.sets.join(set).join("dev.jsonl")
    }

    /// Writes a file into the scratch folder; returns its path.
    fn write(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = self.scratch.join(name);
        std::fs::write(&path, content)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Decodes a manifest in every way.
    fn tune(
        &self,
        manifest: &Path,
        settings: &[(String, PathBuf)],
        window: Option<f64>,
    ) -> Result<Vec<Reading>> {
        let mut command = Command::new(&self.acolyte);
        command.current_dir(root()).arg("tune").arg(manifest);
        command.args(["--json", "--model", &self.model]);
        for (_, file) in settings {
            command.arg("--decoding").arg(file);
        }
        if let Some(window) = window {
            command.args(["--window", &window.to_string()]);
        }
        let text = process::output(&mut command)?;
        let reading = |line| {
            serde_json::from_str(line).with_context(|| format!("`acolyte tune` printed {line:?}"))
        };
        text.lines().map(reading).collect()
    }
}
