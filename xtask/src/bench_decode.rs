//! `cargo xtask bench decode`: our decoders and the peers' on the same scores, in one go.
//!
//! `decoders_peers.py`, which lies beside the data sets, makes the scores, times the peers and judges what anybody
//! found: token error rate and mean exact log-likelihood. Both sides count the time of their own thread. Ours are
//! measured before and after the peers, and the mean of both counts.

use crate::Named;
use crate::bench::{Measured, last_line, measure};
use crate::peers::interpreter;
use crate::process::{self, root};
use crate::setup;
use crate::table::{self, Row};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A time and the most it may be of the best peer's.
struct Goal {
    case: &'static str,
    label: &'static str,
    /// For beams of 25 and 100.
    most: [f64; 2],
    /// The mean log-likelihood to reach with a beam of 100, negated.
    unlikelihood: Option<f64>,
}

const BEAMS: [usize; 2] = [25, 100];

const GOALS: [Goal; 5] = [
    Goal {
        case: "asr_char_v32",
        label: "V=32, T=500",
        most: [0.3, 0.3],
        unlikelihood: None,
    },
    Goal {
        case: "asr_char_v32_hard",
        label: "V=32 hard, T=500",
        most: [0.3, 0.3],
        unlikelihood: Some(72.45),
    },
    Goal {
        case: "asr_bpe_v1000",
        label: "V=1000, T=500",
        most: [0.06, 0.025],
        unlikelihood: None,
    },
    Goal {
        case: "asr_bpe_v1000_hard",
        label: "V=1000 hard, T=500",
        most: [0.1, 0.1],
        unlikelihood: Some(49.92),
    },
    Goal {
        case: "ocr_line_v6625",
        label: "V=6625, T=40",
        most: [0.08, 0.08],
        unlikelihood: None,
    },
];

/// The cases whose tokens are characters with a space: hotwords, lexicon and language model apply.
const WORDS: [&str; 2] = ["asr_char_v32", "asr_char_v32_hard"];

/// Peers that nobody would use: far slower and no better.
const SKIPPED: &str = "no cut,numpy,viterbi";

/// A row of the peers' results.
#[derive(Debug, Deserialize)]
struct Peer {
    case: String,
    decoder: String,
    cpu_ms_median: Option<f64>,
    ter_percent: Option<f64>,
    mean_loglik: Option<f64>,
    utterances: Option<usize>,
}

/// Token error rate in percent and mean log-likelihood in nats.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Quality {
    errors: f64,
    likelihood: f64,
}

/// Where everything is.
struct Bench {
    program: PathBuf,
    script: PathBuf,
    data: PathBuf,
    out: PathBuf,
}

pub fn run(named: &Named) -> Result<()> {
    setup::ready()?;
    let sets = named.sets()?;
    let script = named.scripts()?.join("decoders_peers.py");
    if !script.is_file() {
        bail!(
            "{} is not there: it makes the scores and runs the peers; name its folder with --peer-scripts",
            script.display()
        );
    }
    if !interpreter().exists() {
        bail!("the peers are not installed: run `cargo xtask setup --peers decoders`");
    }
    let scratch = root().join("target").join("xtask").join("decoders");
    std::fs::create_dir_all(&scratch)?;
    let bench = Bench {
        program: process::release("acolyte-cli", "acolyte")?,
        script,
        data: scratch.join("scores"),
        out: scratch.join("ids"),
    };
    if !bench.data.join("manifest.json").is_file() {
        process::output(&mut bench.peers("gen"))?;
    }
    // First of all, because it builds a program: what takes minutes shall not fail in the end.
    let memory = memory(&bench, &sets, &scratch)?;
    eprintln!("ours, first time");
    let before = bench.ours()?;
    eprintln!("peers: minutes, the slowest of them take seconds for an utterance");
    let peers = bench.theirs(&scratch.join("peers.json"))?;
    eprintln!("ours, second time");
    let after = bench.ours()?;
    let ours = |work: &str| -> Result<f64> {
        let value = |rows: &[Measured]| {
            rows.iter()
                .find(|row| row.work == work)
                .map(|row| row.value)
        };
        match (value(&before), value(&after)) {
            (Some(a), Some(b)) => Ok((a + b) / 2.0),
            _ => bail!("`acolyte bench decode` printed no row {work:?}"),
        }
    };
    let mut rows = Vec::new();
    for goal in &GOALS {
        plain(goal, &ours, &peers, &bench, &mut rows)?;
    }
    for case in WORDS {
        words(case, &ours, &peers, &bench, &mut rows)?;
    }
    for goal in &GOALS {
        limits(goal, &ours, &mut rows)?;
    }
    rows.push(memory);
    table::print("decode", &rows);
    Ok(())
}

impl Bench {
    fn peers(&self, what: &str) -> Command {
        let mut command = Command::new(interpreter());
        command
            .arg(&self.script)
            .arg(what)
            .arg("--data")
            .arg(&self.data);
        command
    }

    fn ours(&self) -> Result<Vec<Measured>> {
        let mut command = Command::new(&self.program);
        command.args(["bench", "decode"]).arg(&self.data);
        measure(command.arg("--out").arg(&self.out))
    }

    fn theirs(&self, results: &Path) -> Result<Vec<Peer>> {
        let mut command = self.peers("run");
        command
            .args(["--reps", "3", "--skip", SKIPPED, "--out"])
            .arg(results);
        process::output(&mut command)?;
        let text = std::fs::read_to_string(results)?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} holds no results", results.display()))
    }

    /// What the peers' script says of the ids that a decoder of ours found.
    fn quality(&self, case: &str, decoder: &str) -> Result<Quality> {
        let found = self.out.join(format!("{case}.{decoder}.json"));
        let mut command = self.peers("score");
        let said = process::output(command.args(["--case", case, "--hyp"]).arg(found))?;
        quality(&said).with_context(|| format!("the peers' script scored {said:?}"))
    }
}

/// Reads `TER 5.80%  mean log-lik -72.45`.
fn quality(said: &str) -> Option<Quality> {
    let (errors, likelihood) = said.trim().strip_prefix("TER")?.split_once('%')?;
    Some(Quality {
        errors: errors.trim().parse().ok()?,
        likelihood: likelihood.split_whitespace().last()?.parse().ok()?,
    })
}

/// The peers of a case without hotwords or language model, at one beam.
fn rivals<'a>(peers: &'a [Peer], case: &str, beam: usize) -> Vec<&'a Peer> {
    let mark = format!(" beam{beam}");
    let is_rival = |peer: &&Peer| {
        let plain = !["hotwords", "2gram"]
            .iter()
            .any(|word| peer.decoder.contains(word));
        let width = peer
            .decoder
            .split_once(&mark)
            .is_some_and(|(_, rest)| !rest.starts_with(char::is_numeric));
        peer.case == case && width && plain
    };
    peers.iter().filter(is_rival).collect()
}

/// Beam search alone: time beside the fastest peer, and how well the best text was found.
fn plain(
    goal: &Goal,
    ours: &impl Fn(&str) -> Result<f64>,
    peers: &[Peer],
    bench: &Bench,
    rows: &mut Vec<Row>,
) -> Result<()> {
    for (beam, most) in BEAMS.into_iter().zip(goal.most) {
        let rivals = rivals(peers, goal.case, beam);
        let fastest = rivals
            .iter()
            .filter_map(|peer| peer.cpu_ms_median)
            .reduce(f64::min);
        let time = ours(&format!("{}: beam{beam}", goal.case))?;
        let work = format!("{}, beam {beam}", goal.label);
        rows.push(match fastest {
            Some(fastest) => Row::against(work, time, fastest, most, "ms"),
            None => Row::no_peer(work, time, most, "ms", missing()),
        });
        let own = bench.quality(goal.case, &format!("beam{beam}"))?;
        let work = format!(
            "{}, beam {beam}: nats by which the text found is unlikely",
            goal.label
        );
        // Only who decoded all utterances can be compared.
        let all = rivals.iter().filter(|peer| peer.utterances >= Some(8));
        let best = all.filter_map(|peer| peer.mean_loglik).reduce(f64::max);
        // Scores are on a grid: what differs by less than its rounding is equal.
        let equal = |value: f64| value + 0.01;
        rows.push(match best {
            Some(best) => Row::at_most(work, -own.likelihood, equal(-best), "nats"),
            None => Row::report(work, -own.likelihood, "nats"),
        });
        if let (100, Some(most)) = (beam, goal.unlikelihood) {
            let work = format!(
                "{}, beam {beam}: the same against the issue's figure",
                goal.label
            );
            rows.push(Row::at_most(work, -own.likelihood, most, "nats"));
        }
        let work = format!("{}, beam {beam}: token errors", goal.label);
        rows.push(Row::report(work, own.errors, "%"));
    }
    Ok(())
}

fn missing() -> String {
    "a peer is missing; `cargo xtask setup --peers decoders` installs it".to_owned()
}

/// Hotwords, lexicon and language model.
fn words(
    case: &str,
    ours: &impl Fn(&str) -> Result<f64>,
    peers: &[Peer],
    bench: &Bench,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let label = if case.ends_with("hard") {
        "V=32 hard"
    } else {
        "V=32"
    };
    let peer = |name: &str| {
        peers
            .iter()
            .find(|peer| peer.case == case && peer.decoder == name)
    };
    for beam in BEAMS {
        let own = ours(&format!("{case}: beam{beam}+100hotwords"))?;
        let plain = ours(&format!("{case}: beam{beam}"))?;
        let work = format!("{label}, beam {beam}: 100 hotwords beside our plain beam");
        rows.push(Row::against(work, own, plain, 1.3, "ms"));
        if let Some(time) = peer(&format!("pyctcdecode beam{beam} +100 hotwords"))
            .and_then(|peer| peer.cpu_ms_median)
        {
            let work = format!("{label}, beam {beam}: 100 hotwords beside pyctcdecode");
            rows.push(Row::against(work, own, time, 0.01, "ms"));
        }
        let without = bench.quality(case, &format!("beam{beam}"))?;
        let with = bench.quality(case, &format!("beam{beam}+100hotwords"))?;
        let work = format!("{label}, beam {beam}: token errors with 100 hotwords");
        rows.push(Row::at_most(work, with.errors, without.errors, "%"));
    }
    for beam in BEAMS {
        let name = format!("beam{beam}+lexicon+2gram");
        let own = ours(&format!("{case}: {name}"))?;
        let found = bench.quality(case, &name)?;
        let work = format!("{label}, beam {beam}: lexicon and 2-gram");
        match peer(&format!("flashlight lexicon+2gram beam{beam}")) {
            Some(Peer {
                cpu_ms_median: Some(time),
                ter_percent: Some(errors),
                ..
            }) => {
                rows.push(Row::against(work.as_str(), own, *time, 0.1, "ms"));
                rows.push(Row::at_most(
                    format!("{work}: token errors"),
                    found.errors,
                    *errors,
                    "%",
                ));
            }
            _ => rows.push(Row::no_peer(work, own, 0.1, "ms", missing())),
        }
        let open = ours(&format!("{case}: beam{beam}+open+2gram"))?;
        rows.push(Row::report(
            format!("{label}, beam {beam}: open lexicon and 2-gram"),
            open,
            "ms",
        ));
    }
    Ok(())
}

/// Greedy decoding beside a plain maximum, and growth with length.
fn limits(goal: &Goal, ours: &impl Fn(&str) -> Result<f64>, rows: &mut Vec<Row>) -> Result<()> {
    let (greedy, least) = (
        ours(&format!("{}: greedy", goal.case))?,
        ours(&format!("{}: plain maximum", goal.case))?,
    );
    let work = format!("{}: greedy beside a plain maximum", goal.label);
    rows.push(Row::against(work, greedy, least, 2.0, "ms"));
    for beam in BEAMS {
        let grown = ours(&format!(
            "{}: beam{beam}, per frame when 8 times as long",
            goal.case
        ))?;
        let work = format!(
            "{}, beam {beam}: time per frame when 8 times as long",
            goal.label
        );
        rows.push(Row::at_most(work, grown, 1.15, "x"));
    }
    Ok(())
}

/// Bytes that each n-gram of a real model takes, beside KenLM's.
fn memory(bench: &Bench, sets: &Path, scratch: &Path) -> Result<Row> {
    let work = "3-gram model of 17 books in memory";
    let books = crate::eval_decode::books(sets);
    if books.is_empty() {
        let note = format!("{} is not there", sets.join("text/gutenberg").display());
        return Ok(Row::missing(work, Some(1.0), "bytes per n-gram", note));
    }
    let model = scratch.join("books.arpa");
    if !model.is_file() {
        let trainer = process::release("acolyte-trainer", "acolyte-train")?;
        let mut command = Command::new(trainer);
        command
            .args(["lm", "--prose", "--order", "3", "-o"])
            .arg(&model);
        process::output(command.args(books))?;
    }
    let size = |rows: Vec<Measured>| {
        let row = rows
            .into_iter()
            .find(|row| row.work == "language model in memory");
        row.map(|row| row.value).context("no size was printed")
    };
    let mut command = Command::new(&bench.program);
    let own = size(measure(command.args(["bench", "decode"]).arg(&model))?)?;
    let script = root().join("xtask").join("peers").join("ngram_memory.py");
    let mut command = Command::new(interpreter());
    Ok(
        match measure(command.arg(script).arg(&model)).and_then(size) {
            Ok(peer) => Row::against(work, own, peer, 1.0, "bytes per n-gram"),
            Err(error) => Row::no_peer(work, own, 1.0, "bytes per n-gram", last_line(&error)),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peers_words_are_understood() {
        let found = quality("TER 5.80%  mean log-lik -72.45\n").unwrap();
        assert_eq!((found.errors, found.likelihood), (5.8, -72.45));
        assert_eq!(quality("TER much"), None);
    }

    #[test]
    fn rivals_do_the_same_work() {
        let peer = |case: &str, decoder: &str| Peer {
            case: case.to_owned(),
            decoder: decoder.to_owned(),
            cpu_ms_median: Some(1.0),
            ter_percent: None,
            mean_loglik: None,
            utterances: None,
        };
        let peers = [
            peer("a", "fast-ctc-decode beam10 cut 0.5/V"),
            peer("a", "fast-ctc-decode beam100 cut 0.5/V"),
            peer("b", "fast-ctc-decode beam10 cut 0.5/V"),
            peer("a", "pyctcdecode beam10"),
            peer("a", "pyctcdecode beam10 +100 hotwords"),
            peer("a", "flashlight lexicon+2gram beam10"),
        ];
        let found: Vec<&str> = rivals(&peers, "a", 10)
            .iter()
            .map(|p| p.decoder.as_str())
            .collect();
        assert_eq!(
            found,
            ["fast-ctc-decode beam10 cut 0.5/V", "pyctcdecode beam10"]
        );
    }
}
