//! `cargo xtask bench scene-text`: our readers of scene text beside the peers, in one run.
//!
//! `acolyte bench read` and `xtask/peers/scene_text.py` print the same works for the same manifests; the sides run in
//! turn, round by round, and the table holds medians over the rounds. A peer that is not installed is named as missing.

use crate::Named;
use crate::bench::{Measured, ROUNDS, last_line, measure, medians};
use crate::peers::interpreter;
use crate::process::{self, root};
use crate::setup;
use crate::table::{self, Row};
use anyhow::{Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// Sets of crops and their manifests.
const SETS: [(&str, &str); 2] = [("icdar2015", "val.jsonl"), ("iiit5k", "val.jsonl")];

const PEERS: [&str; 5] = [
    "tesseract",
    "rapidocr",
    "rapidocr1",
    "ppocr6tiny",
    "ppocr6small-bare",
];

/// What each of our models is measured against: the peer, and the most our median may be of its network's.
const AGAINST: [(&str, &str, f64); 2] = [
    ("scene-tiny", "ppocr6tiny", 0.6),
    ("scene-small", "ppocr6small-bare", 0.2),
];

/// A model or a peer: its name, what each round measured, and why it could not be measured.
type Side<'a> = (&'a str, Vec<Vec<Measured>>, Option<String>);

pub fn run(named: &Named) -> Result<()> {
    setup::ready()?;
    let data = match &named.data {
        Some(folder) => std::path::absolute(folder)?,
        None => root().join("../shared/data"),
    };
    let manifests: Vec<PathBuf> = SETS
        .iter()
        .map(|(set, file)| data.join(set).join(file))
        .collect();
    if let Some(missing) = manifests.iter().find(|path| !path.is_file()) {
        bail!(
            "{} is not there: name the folder that holds the sets with --data or ACOLYTE_DATA",
            missing.display()
        );
    }
    let program = process::release("acolyte-cli", "acolyte")?;
    let models: Vec<&str> = AGAINST
        .iter()
        .map(|(model, ..)| *model)
        .filter(|model| {
            root()
                .join("models")
                .join(model)
                .join("model.onnx")
                .is_file()
        })
        .collect();
    let script = root().join("xtask").join("peers").join("scene_text.py");
    let sides = models.iter().chain(&PEERS);
    let mut found: Vec<Side<'_>> = sides.map(|&side| (side, Vec::new(), None)).collect();
    for round in 1..=ROUNDS {
        for (side, rounds, missing) in &mut found {
            if missing.is_some() {
                continue;
            }
            eprintln!("{side}: round {round} of {ROUNDS}");
            let ours = models.contains(side);
            let mut command = match ours {
                true => Command::new(&program),
                false => Command::new(interpreter()),
            };
            command.current_dir(root());
            match ours {
                true => command.args([
                    "bench",
                    "read",
                    "--threads",
                    "1",
                    "--provider",
                    "cpu",
                    "--model",
                    side,
                ]),
                false => command.arg(&script).arg(&side),
            };
            match measure(command.args(&manifests)) {
                Ok(measured) => rounds.push(measured),
                Err(error) if ours => return Err(error),
                Err(error) => *missing = Some(last_line(&error)),
            }
        }
    }
    let figures: Vec<_> = found
        .iter()
        .map(|(side, rounds, _)| (*side, medians(rounds)))
        .collect();
    let of = |side: &str, work: &str| {
        let (_, works) = figures.iter().find(|(name, _)| *name == side)?;
        works
            .iter()
            .find(|(name, ..)| name == work)
            .map(|(_, value, _)| *value)
    };
    let mut rows = Vec::new();
    for (side, works) in &figures {
        for (work, value, unit) in works {
            let peer = AGAINST.iter().find(|(model, ..)| model == side);
            let set = work.strip_suffix(": median");
            let network = peer.zip(set).and_then(|((_, peer, goal), set)| {
                of(peer, &format!("{set}: bare network")).map(|theirs| (theirs, *goal))
            });
            let label = format!("{side}: {work}");
            rows.push(match network {
                Some((theirs, goal)) => Row::against(label, *value, theirs, goal, unit),
                None => Row::report(label, *value, unit),
            });
        }
    }
    for (side, _, missing) in &found {
        if let Some(reason) = missing {
            let note = format!(
                "not measured ({reason}); `cargo xtask setup --peers scene-text` installs the peers"
            );
            rows.push(Row::missing(
                format!("{side}: word accuracy"),
                None,
                "%",
                note,
            ));
        }
    }
    table::print("scene-text", &rows);
    Ok(())
}
