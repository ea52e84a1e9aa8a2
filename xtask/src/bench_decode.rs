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
    let script = sets.join("../bench/decoders_peers.py");
    if !script.is_file() {
        bail!(
            "{} is not there: it makes the scores; name the folder with the data sets beside `bench` with --data",
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
        process::output(bench.peers("gen"))?;
    }
    eprintln!("ours, first time");
    let before = bench.ours()?;
    eprintln!("peers: minutes, the slowest of them take seconds for an utterance");
    let peers = bench.theirs(&scratch.join("peers.json"))?;
    eprintln!("ours, second time");
    let after = bench.ours()?;
    let ours = |work: &str| -> Result<f64> {
        let value = |rows: &[Measured]| rows.iter().find(|row| row.work == work).map(|row| row.value);
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
    rows.push(memory(&bench, &sets, &scratch)?);
    table::print("decode", &rows);
    Ok(())
}

impl Bench {
    fn peers(&self, what: &str) -> &mut Command {
        let mut command = Command::new(interpreter());
        command.arg(&self.script).arg(what).arg("--data").arg(&self.data);
        Box::leak(Box::new(command))
    }
}
