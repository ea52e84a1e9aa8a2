//! `cargo xtask bench faults`: what goes wrong while listening, what happened then, and what was lost.
//!
//! `acolyte bench faults` plays the faults of devices, workers and sinks. A full disk and a reader of the output that is
//! slow are tried on `acolyte listen` itself: `/dev/full` takes the recording, a pipe that is emptied slowly the text.

use crate::Named;
use crate::bench::measure;
use crate::process::{self, root};
use crate::setup;
use crate::table::{self, Row};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Recordings of the repository, heard one after another.
const SAMPLES: [&str; 4] = [
    "command-stop.wav",
    "digits.wav",
    "phone-number.wav",
    "sentence-door.wav",
];

/// A file that is always full (Linux).
const FULL: &str = "/dev/full";

pub fn run(named: &Named) -> Result<()> {
    setup::ready()?;
    let program = process::release("acolyte-cli", "acolyte")?;
    let files = SAMPLES.map(|name| root().join("examples/samples").join(name));
    let mut command = Command::new(&program);
    command
        .current_dir(root())
        .args(["bench", "faults", "--threads", "1", "--model", &named.model])
        .args(&files);
    let mut rows: Vec<Row> = (measure(&mut command)?.into_iter())
        .map(|found| match found.work.ends_with("untold") {
            true => Row::at_most(found.work, found.value, 0.0, &found.unit),
            false => Row::report(found.work, found.value, &found.unit),
        })
        .collect();
    let long = &files[2];
    let expected = listen(&program, named, long, None, Duration::ZERO)?;
    if Path::new(FULL).exists() {
        let full = listen(&program, named, long, Some(FULL.into()), Duration::ZERO)?;
        rows.extend(full.against("disk full while audio is saved", &expected));
        let told = usize::from(!(full.failed && full.said.contains(FULL)));
        let work = "disk full while audio is saved: not told, or exit code 0";
        rows.push(Row::at_most(work, told as f64, 0.0, "times"));
    }
    let slow = listen(&program, named, long, None, Duration::from_millis(200))?;
    rows.extend(slow.against("output read a line every 0.2 s", &expected));
    table::print("faults", &rows);
    if rows.iter().any(|row| row.holds == Some(false)) {
        bail!("something was lost without being told");
    }
    Ok(())
}

/// What `acolyte listen` did.
struct Listened {
    lines: Vec<String>,
    said: String,
    failed: bool,
}

impl Listened {
    fn against(&self, name: &str, expected: &Self) -> Vec<Row> {
        let missing = (expected.lines.iter())
            .filter(|line| !self.lines.contains(line))
            .count();
        let work = format!("{name}: utterances that differ");
        vec![Row::at_most(work, missing as f64, 0.0, "utterances")]
    }
}

/// Listens to a recording as fast as it can be recognized, its text read a line at a time with `pause` after each.
fn listen(
    program: &Path,
    named: &Named,
    input: &Path,
    saved: Option<PathBuf>,
    pause: Duration,
) -> Result<Listened> {
    let mut command = Command::new(program);
    command
        .current_dir(root())
        .args(["listen", "--speed", "0", "--model", &named.model, "--input"])
        .arg(input);
    if let Some(saved) = saved {
        command.arg("--save-audio").arg(saved);
    }
    let shown = process::shown(&command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let mut lines = Vec::new();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            std::thread::sleep(pause);
            lines.push(line?);
        }
    }
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if lines.is_empty() {
        bail!("`{shown}` heard nothing: {said}");
    }
    Ok(Listened {
        lines,
        said,
        failed: !output.status.success(),
    })
}
