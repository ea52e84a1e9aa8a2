//! `cargo xtask bench adopt`: the recognizers and detectors inside the wheels of RapidOCR and TinyOCR, adopted, beside
//! their origin on the same pixels.
//!
//! For each recognizer: in how many of 500 real crops the text differs (runs of spaces count as one, outer ones not at
//! all: the origin keeps a leading space, a text of ours is words), what less padding costs and gains, what the pipeline
//! adds to the model's own run, and 1,000 crops by one process on all cores. For each detector: rendered pages and
//! photographs of them, found and read end to end. Both sides of a time run in turn.

use crate::Named;
use crate::bench::{Measured, ROUNDS, measure, medians};
use crate::peers::interpreter;
use crate::process::{self, root};
use crate::setup;
use crate::table::{self, Row};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Manifests of real crops.
const SETS: [&str; 4] = [
    "icdar2015/val.jsonl",
    "iiit5k/val.jsonl",
    "icdar2015/train.jsonl",
    "iiit5k/train.jsonl",
];

/// Crops for speed; every second is held against the origin's text.
const CROPS: usize = 1000;

/// Of those, every so many is timed alone.
const TIMED: usize = 5;

/// The least width that is tried instead of the origin's 320.
const NARROW: &str = "160";

/// A recognizer and a detector of one wheel.
#[derive(Debug, Deserialize)]
struct Model {
    name: String,
    recognizer: PathBuf,
    detector: PathBuf,
    /// How the origin feeds and reads the detector.
    options: Value,
}

/// A page and what it says.
#[derive(Debug, Deserialize)]
struct Page {
    path: PathBuf,
    lines: Vec<String>,
}

/// What a bench works with.
struct Bench {
    program: PathBuf,
    folder: PathBuf,
    crops: Vec<PathBuf>,
    labels: Vec<String>,
    rows: Vec<Row>,
}

pub fn run(named: &Named) -> Result<()> {
    setup::ready()?;
    let data = match &named.data {
        Some(folder) => std::path::absolute(folder)?,
        None => root().join("../shared/data"),
    };
    let manifests: Vec<PathBuf> = SETS.iter().map(|set| data.join(set)).collect();
    if let Some(missing) = manifests.iter().find(|path| !path.is_file()) {
        bail!(
            "{} is not there: name the folder that holds the sets with --data or ACOLYTE_DATA",
            missing.display()
        );
    }
    let models: Vec<Model> = lines(&peer(&["models"])?)
        .map(|line| Ok(serde_json::from_str(line)?))
        .collect::<Result<_>>()?;
    let folder = root().join("target").join("bench-adopt");
    std::fs::create_dir_all(&folder)?;
    let pixels = folder.join("crops");
    let mut arguments = vec!["crops".to_owned(), shown(&pixels), CROPS.to_string()];
    arguments.extend(manifests.iter().map(|path| shown(path)));
    let labels: Vec<String> = strings(&peer(&arguments)?)?;
    let mut bench = Bench {
        program: process::release("acolyte-cli", "acolyte")?,
        crops: (0..labels.len())
            .map(|i| pixels.join(format!("{i:05}.png")))
            .collect(),
        labels,
        folder,
        rows: Vec::new(),
    };
    bench.write_manifest()?;
    let mut lost = Vec::new();
    for model in &models {
        bench.adopt(model, &[], "320")?;
        bench.adopt(model, &["--min-width", NARROW], NARROW)?;
        bench.texts(model, &mut lost)?;
        bench.times(model)?;
        bench.speed(model)?;
    }
    let mean = lost.iter().sum::<f64>() / lost.len().max(1) as f64;
    bench.rows.push(Row::at_most(
        format!("words lost at {NARROW} columns, mean of the models"),
        mean,
        0.5,
        "points",
    ));
    let pages: Vec<Page> = lines(&peer(&[
        "pages".to_owned(),
        shown(&bench.folder.join("pages")),
    ])?)
    .map(|line| Ok(serde_json::from_str(line)?))
    .collect::<Result<_>>()?;
    for model in &models {
        for kind in ["page", "photo"] {
            let of_kind = |page: &&Page| {
                let name = page.path.file_name().unwrap_or_default();
                name.to_string_lossy().starts_with(kind)
            };
            let pages: Vec<&Page> = pages.iter().filter(of_kind).collect();
            bench.find(model, kind, &pages)?;
        }
    }
    table::print("adopt", &bench.rows);
    Ok(())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim().is_empty())
}

fn strings(text: &str) -> Result<Vec<String>> {
    lines(text)
        .map(|line| Ok(serde_json::from_str(line)?))
        .collect()
}

fn script<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Command {
    let mut command = Command::new(interpreter());
    command
        .arg(root().join("xtask").join("peers").join("adopt.py"))
        .args(arguments);
    command
}

/// What the origin's side prints.
fn peer<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Result<String> {
    process::output(&mut script(arguments)).context(
        "the origin's side failed; `cargo xtask setup --peers adopt` fetches what it needs",
    )
}

/// Runs of spaces as one, none at the ends; other white space is text.
fn spaced(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

fn folded(text: &str) -> String {
    text.chars()
        .map(|c| c.to_ascii_lowercase())
        .filter(char::is_ascii_alphanumeric)
        .collect()
}

/// The fewest characters to insert, delete or replace.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = before + usize::from(x != *y);
            before = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(before + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

/// Lines of a page that are found (at least seven tenths of their characters right in one line), and characters right.
fn page_score(expected: &[String], found: &[String]) -> (usize, usize) {
    let (mut lines, mut characters) = (0, 0);
    for line in expected {
        let count = line.chars().count();
        let wrong = found.iter().map(|other| edits(line, &spaced(other))).min();
        let right = count.saturating_sub(wrong.unwrap_or(count));
        lines += usize::from(10 * right >= 7 * count);
        characters += right;
    }
    (lines, characters)
}

impl Bench {
    fn write_manifest(&self) -> Result<()> {
        let rows: Vec<String> = (self.crops.iter().zip(&self.labels).step_by(TIMED))
            .map(|(image, text)| serde_json::json!({"image": image, "text": text}).to_string())
            .collect();
        std::fs::write(self.folder.join("crops.jsonl"), rows.join("\n"))?;
        Ok(())
    }

    fn model(&self, model: &Model, width: &str) -> PathBuf {
        self.folder.join(format!("{}-{width}.onnx", model.name))
    }

    fn adopt(&self, model: &Model, more: &[&str], width: &str) -> Result<()> {
        let mut command = Command::new(&self.program);
        command
            .current_dir(root())
            .arg("adopt")
            .arg(&model.recognizer)
            .args(["--as", "ppocr", "--license", "Apache-2.0", "-o"])
            .arg(self.model(model, width))
            .args(more);
        eprint!("{}", process::output(&mut command)?);
        Ok(())
    }

    /// What we read in every second crop.
    fn read(&self, model: &Model, width: &str) -> Result<Vec<String>> {
        let mut command = Command::new(&self.program);
        command
            .current_dir(root())
            .args(["read", "--json", "--provider", "cpu", "--model"])
            .arg(self.model(model, width))
            .args(self.crops.iter().step_by(2));
        lines(&process::output(&mut command)?)
            .map(|line| {
                let row: Value = serde_json::from_str(line)?;
                let text = row["text"].as_str().with_context(|| line.to_owned())?;
                Ok(text.to_owned())
            })
            .collect()
    }

    fn texts(&mut self, model: &Model, lost: &mut Vec<f64>) -> Result<()> {
        let name = &model.name;
        eprintln!("{name}: texts");
        let mut arguments = vec!["texts".to_owned(), name.clone()];
        arguments.extend(self.crops.iter().step_by(2).map(|path| shown(path)));
        let theirs = strings(&peer(&arguments)?)?;
        let (ours, narrow) = (self.read(model, "320")?, self.read(model, NARROW)?);
        ensure!(
            ours.len() == theirs.len() && narrow.len() == ours.len(),
            "{name}: {} texts against {}",
            ours.len(),
            theirs.len()
        );
        let differ = (ours.iter().zip(&theirs))
            .filter(|(ours, theirs)| spaced(ours) != spaced(theirs))
            .inspect(|(ours, theirs)| eprintln!("{name}: {ours:?} where the origin has {theirs:?}"))
            .count();
        let share = |count: usize, of: usize| 100.0 * count as f64 / of.max(1) as f64;
        self.rows.push(Row::at_most(
            format!(
                "{name}: texts that differ from the origin's, of {}",
                ours.len()
            ),
            share(differ, ours.len()),
            0.5,
            "%",
        ));
        let labels: Vec<String> = self.labels.iter().step_by(2).map(|l| folded(l)).collect();
        let of = labels.iter().filter(|label| !label.is_empty()).count();
        let right = |texts: &[String]| {
            let pairs = texts
                .iter()
                .zip(&labels)
                .filter(|(_, label)| !label.is_empty());
            share(
                pairs
                    .filter(|(text, label)| folded(text) == **label)
                    .count(),
                of,
            )
        };
        let (wide, thin) = (right(&ours), right(&narrow));
        let mut report = |width: &str, value: f64| {
            let work = format!("{name}: words right, at least {width} columns");
            self.rows.push(Row::report(work, value, "%"));
        };
        report("320", wide);
        report(NARROW, thin);
        lost.push(wide - thin);
        Ok(())
    }

    /// Time a crop at both widths, and what of it is not the model's run.
    fn times(&mut self, model: &Model) -> Result<()> {
        let name = &model.name;
        let (mut wide, mut narrow) = (Vec::new(), Vec::new());
        for round in 1..=ROUNDS {
            for (width, rounds) in [("320", &mut wide), (NARROW, &mut narrow)] {
                eprintln!("{name}, {width} columns: round {round} of {ROUNDS}");
                let mut command = Command::new(&self.program);
                command
                    .current_dir(root())
                    .args([
                        "bench",
                        "read",
                        "--threads",
                        "1",
                        "--provider",
                        "cpu",
                        "--model",
                    ])
                    .arg(self.model(model, width))
                    .arg(self.folder.join("crops.jsonl"));
                rounds.push(measure(&mut command)?);
            }
        }
        let pick = |rounds: &[Vec<Measured>], ending: &str| {
            let found = medians(rounds)
                .into_iter()
                .find(|(work, ..)| work.ends_with(ending));
            found
                .map(|(_, value, _)| value)
                .with_context(|| format!("no {ending:?}"))
        };
        let (slow, fast) = (pick(&wide, ": median")?, pick(&narrow, ": median")?);
        self.rows.push(Row::against(
            format!("{name}: a crop at {NARROW} columns, against 320"),
            fast,
            slow,
            1.0,
            "ms",
        ));
        let percent = pick(&wide, "outside the model's run")?;
        let milliseconds = pick(&wide, "outside the model's run, a crop")?;
        let work = format!("{name}: a crop outside the model's run");
        self.rows.push(match percent <= 3.0 {
            true => Row::at_most(work, percent, 3.0, "%"),
            false => Row::at_most(work, milliseconds, 0.2, "ms"),
        });
        Ok(())
    }

    fn speed(&mut self, model: &Model) -> Result<()> {
        let name = &model.name;
        eprintln!("{name}: all cores");
        // A thousand crops are long enough for one round.
        let (mut ours, mut narrow) = (Vec::new(), Vec::new());
        for (width, rounds) in [("320", &mut ours), (NARROW, &mut narrow)] {
            let mut command = Command::new(&self.program);
            command
                .current_dir(root())
                .args(["bench", "crops", "--model"])
                .arg(self.model(model, width))
                .args(&self.crops);
            rounds.push(measure(&mut command)?);
        }
        let mut command = script(&["speed", name]);
        let theirs = vec![measure(command.args(&self.crops))?];
        let theirs = medians(&theirs);
        for (width, rounds) in [("320", ours), (NARROW, narrow)] {
            for ((work, value, unit), (_, peer, _)) in medians(&rounds).into_iter().zip(&theirs) {
                let work = format!("{name}, at least {width} columns: {work}");
                self.rows.push(Row::against(work, value, *peer, 1.0, &unit));
            }
        }
        Ok(())
    }

    /// Pages of one kind found and read by both sides.
    fn find(&mut self, model: &Model, kind: &str, pages: &[&Page]) -> Result<()> {
        let name = &model.name;
        eprintln!("{name}: finding and reading, {kind}");
        let options = self.folder.join(format!("{name}-detector.json"));
        std::fs::write(&options, model.options.to_string())?;
        let output = Command::new(&self.program)
            .current_dir(root())
            .args([
                "read",
                "--find",
                "--json",
                "--threads",
                "2",
                "--provider",
                "cpu",
                "--report-memory",
            ])
            .arg("--model")
            .arg(self.model(model, NARROW))
            .arg("--detector")
            .arg(&model.detector)
            .arg("--detector-options")
            .arg(&options)
            .args(pages.iter().map(|page| &page.path))
            .output()?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{name}: {told}");
        let memory = told
            .lines()
            .find_map(|line| line.strip_prefix("peak memory ")?.parse::<f64>().ok());
        let mut ours: Vec<(Vec<String>, f64)> = vec![(Vec::new(), 0.0); pages.len()];
        for line in lines(&String::from_utf8_lossy(&output.stdout)) {
            let row: Value = serde_json::from_str(line)?;
            let path = row["path"].as_str().unwrap_or_default();
            let at = pages.iter().position(|page| page.path == Path::new(path));
            let (texts, seconds) = &mut ours[at.with_context(|| line.to_owned())?];
            texts.push(row["text"].as_str().unwrap_or_default().to_owned());
            *seconds = row["elapsed"].as_f64().unwrap_or_default();
        }
        let mut arguments = vec!["find".to_owned(), name.clone()];
        arguments.extend(pages.iter().map(|page| shown(&page.path)));
        let (mut theirs, mut peer_memory) = (Vec::new(), None);
        for line in lines(&peer(&arguments)?) {
            let row: Value = serde_json::from_str(line)?;
            match row["lines"].as_array() {
                Some(texts) => theirs.push((
                    texts
                        .iter()
                        .filter_map(|t| t.as_str().map(str::to_owned))
                        .collect(),
                    row["seconds"].as_f64().unwrap_or_default(),
                )),
                None => peer_memory = row["memory"].as_f64(),
            }
        }
        let score = |sides: &[(Vec<String>, f64)]| {
            let mut sums = (0, 0, 0.0);
            for (page, (found, seconds)) in pages.iter().zip(sides) {
                let (lines, characters) = page_score(&page.lines, found);
                sums = (sums.0 + lines, sums.1 + characters, sums.2 + seconds);
            }
            sums
        };
        let (ours, theirs) = (score(&ours), score(&theirs));
        let all: usize = pages.iter().map(|page| page.lines.len()).sum();
        let characters: usize = (pages.iter().flat_map(|page| &page.lines))
            .map(|line| line.chars().count())
            .sum();
        let label = |what: &str| format!("{name}, {} {kind}s: {what}", pages.len());
        let missed = |found: usize, all: usize| (all - found.min(all)) as f64;
        let mut row = |what: &str, ours: f64, theirs: f64, unit: &str| {
            // Where the origin misses nothing, neither may we.
            self.rows.push(match theirs > 0.0 {
                true => Row::against(label(what), ours, theirs, 1.0, unit),
                false => Row::at_most(label(what), ours, 0.0, unit),
            });
        };
        row(
            &format!("lines missed of {all}"),
            missed(ours.0, all),
            missed(theirs.0, all),
            "lines",
        );
        row(
            "characters wrong",
            100.0 * missed(ours.1, characters) / characters.max(1) as f64,
            100.0 * missed(theirs.1, characters) / characters.max(1) as f64,
            "%",
        );
        row("time", ours.2, theirs.2, "s");
        if let (Some(memory), Some(peer)) = (memory, peer_memory) {
            row("peak memory", memory / 1e6, peer, "MB");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_compared_word_by_word() {
        assert_eq!(spaced("  a  b "), "a b");
        assert_eq!(spaced("\u{3000}a"), "\u{3000}a");
        assert_eq!(folded("A-b 1"), "ab1");
        for (a, b, count) in [
            ("", "", 0),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("ab", "ba", 2),
        ] {
            assert_eq!(edits(a, b), count, "{a} {b}");
        }
    }

    #[test]
    fn pages_are_scored_by_lines_and_characters() {
        let said = ["Handle with care", "Total: 12"].map(str::to_owned);
        assert_eq!(page_score(&said, &said), (2, 25));
        assert_eq!(page_score(&said, &["Handle wlth care".to_owned()]), (1, 15));
        assert_eq!(page_score(&said, &[]), (0, 0));
    }
}
