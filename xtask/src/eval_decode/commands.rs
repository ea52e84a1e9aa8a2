//! A closed list of commands: how many are understood, and how often other sound is taken for one.
//!
//! Read speech is decoded a recording at a time, as `acolyte transcribe` does and `acolyte listen` between two pauses; and
//! like silence and noise in pieces of a second that overlap by half, as something without any sense of pauses would hear
//! it. A piece sets off a command where its margin reaches the threshold.

use super::Place;
use super::measures::{Reading, alarms, seconds};
use crate::table::Row;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// The length of a piece, which is that of the set's recordings.
const WINDOW: f64 = 1.0;

/// Seconds of silence and of each noise.
const SECONDS: usize = 600;

const RATE: usize = 16_000;

/// The most false alarms an hour.
const MOST: f64 = 1.0;

/// Sound without commands.
pub struct Other {
    pub name: &'static str,
    pub hours: f64,
    readings: Vec<Reading>,
}

/// What was measured.
pub struct Commands {
    /// Commands that were said.
    said: Vec<Reading>,
    pub others: Vec<Other>,
    pub phrases: usize,
}

/// A row of a manifest.
#[derive(Debug, Deserialize)]
struct Said {
    text: String,
}

pub fn measure(place: &Place) -> Result<Commands> {
    let folder = place.sets.join("speech_commands");
    let train = folder.join("train.jsonl");
    let text = std::fs::read_to_string(&train)
        .with_context(|| format!("cannot read {}", train.display()))?;
    let said = text
        .lines()
        .map(|line| Ok(serde_json::from_str::<Said>(line)?.text));
    let phrases: BTreeSet<String> = said.collect::<Result<_>>()?;
    let listed: String = phrases.iter().map(|phrase| format!("{phrase}\n")).collect();
    let list = place.write("commands.txt", &listed)?;
    let settings = place.write("commands.toml", &format!("phrases = {list:?}\n"))?;
    let settings = [("commands".to_owned(), settings)];
    let said = place.tune(&place.manifest("speech_commands"), &settings, None)?;
    if said.is_empty() {
        bail!("no command was decoded");
    }
    let mut others = Vec::new();
    let speech = place.manifest("librispeech_mini");
    let pieces = Some(WINDOW);
    for (name, manifest, window) in [
        ("read speech, whole recordings", speech.clone(), None),
        ("read speech, pieces of 1 s", speech, pieces),
        ("silence", sound(place, "silence", |_| 0.0)?, pieces),
        ("white noise", sound(place, "white", white(0.03))?, pieces),
        ("brown noise", sound(place, "brown", brown(0.1))?, pieces),
    ] {
        let readings = place.tune(&manifest, &settings, window)?;
        others.push(Other {
            name,
            hours: seconds(&readings) / 3600.0,
            readings,
        });
    }
    Ok(Commands {
        said,
        others,
        phrases: phrases.len(),
    })
}

/// Writes minutes of a sound and a manifest of it; returns the manifest.
fn sound(place: &Place, name: &str, mut sample: impl FnMut(usize) -> f64) -> Result<PathBuf> {
    let data: Vec<u8> = (0..SECONDS * RATE)
        .flat_map(|at| ((sample(at).clamp(-1.0, 1.0) * 32_767.0) as i16).to_le_bytes())
        .collect();
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + data.len() as u32).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    bytes.extend((RATE as u32).to_le_bytes());
    bytes.extend((2 * RATE as u32).to_le_bytes());
    bytes.extend(b"\x02\0\x10\0data");
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend(data);
    let file = place.scratch.join(format!("{name}.wav"));
    std::fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
    let row = format!("{{\"audio_filepath\": \"{name}.wav\", \"text\": \"\"}}\n");
    place.write(&format!("{name}.jsonl"), &row)
}

/// Uniform noise up to a peak: a linear congruential generator, the same on every machine.
fn white(peak: f64) -> impl FnMut(usize) -> f64 {
    let mut state = 1u64;
    move |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as f64 / (1u64 << 30) as f64 - 1.0) * peak
    }
}

/// Noise whose power falls with the square of the frequency, like wind and engines.
fn brown(peak: f64) -> impl FnMut(usize) -> f64 {
    let (mut noise, mut sum) = (white(peak * 0.1), 0.0);
    move |at| {
        sum = 0.99 * sum + noise(at);
        sum
    }
}

impl Commands {
    /// Commands understood as what they were, in percent, where margins below a threshold are rejected.
    pub fn recall(&self, threshold: f64) -> f64 {
        let right = |r: &&Reading| r.text == r.reference && r.margin() >= threshold;
        100.0 * self.said.iter().filter(right).count() as f64 / self.said.len() as f64
    }

    /// Recall and false alarms an hour at each threshold, from the lowest.
    pub fn curve(&self, other: &Other) -> Vec<(f64, f64, f64)> {
        let mut thresholds: Vec<f64> = (self.said.iter().chain(&other.readings))
            .map(Reading::margin)
            .filter(|margin| margin.is_finite())
            .collect();
        thresholds.sort_by(f64::total_cmp);
        let step = (thresholds.len() / 200).max(1);
        let points = thresholds.into_iter().step_by(step);
        points
            .map(|t| (t, self.recall(t), other.per_hour(t)))
            .collect()
    }

    pub fn rows(&self) -> Vec<Row> {
        let label = format!("speech_commands dev, list of {}", self.phrases);
        let mut rows = vec![Row::report(
            format!("{label}: right without rejection"),
            self.recall(f64::NEG_INFINITY),
            "%",
        )];
        for other in &self.others {
            rows.push(Row::report(
                format!("{}: listened to", other.name),
                other.hours,
                "h",
            ));
            rows.push(Row::report(
                format!("{}: false alarms without rejection", other.name),
                other.per_hour(f64::NEG_INFINITY),
                "per hour",
            ));
            let threshold = other.threshold();
            let work = format!(
                "{}: margin for less than one false alarm an hour",
                other.name
            );
            rows.push(Row::report(work, threshold, "nats"));
            let work = format!("{label}: right at the margin for {}", other.name);
            rows.push(Row::report(work, self.recall(threshold), "%"));
        }
        rows
    }
}

impl Other {
    fn per_hour(&self, threshold: f64) -> f64 {
        alarms(&self.readings, threshold) as f64 / self.hours.max(f64::MIN_POSITIVE)
    }

    /// The lowest threshold with fewer false alarms than one an hour; with less than an hour of sound that means none.
    pub fn threshold(&self) -> f64 {
        let mut margins: Vec<f64> = self
            .readings
            .iter()
            .map(Reading::margin)
            .filter(|m| m.is_finite())
            .collect();
        margins.sort_by(f64::total_cmp);
        // Just above a margin, so that this one is rejected.
        let above = |margin: f64| margin + 0.01;
        let enough = |threshold: &f64| self.per_hour(*threshold) < MOST;
        margins.into_iter().map(above).find(enough).unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::measures::reading;
    use super::*;

    #[test]
    fn thresholds_trade_recall_for_silence() {
        let other = Other {
            name: "noise",
            hours: 0.5,
            readings: vec![
                reading("a", 0.0, "no", -4.0),
                reading("a", 0.5, "go", -9.0),
                reading("a", 1.0, "", 0.0),
            ],
        };
        let commands = Commands {
            said: vec![
                reading("x", 0.0, "yes", -1.0),
                reading("y", 0.0, "yes", -8.0),
                reading("z", 0.0, "no", 0.0),
            ],
            others: Vec::new(),
            phrases: 2,
        };
        assert!((other.threshold() + 3.99).abs() < 1e-9);
        assert!((other.per_hour(-10.0) - 4.0).abs() < 1e-9);
        assert!((commands.recall(f64::NEG_INFINITY) - 200.0 / 3.0).abs() < 1e-9);
        assert!((commands.recall(other.threshold()) - 100.0 / 3.0).abs() < 1e-9);
        let curve = commands.curve(&other);
        assert!(
            curve
                .windows(2)
                .all(|pair| pair[1].1 <= pair[0].1 && pair[1].2 <= pair[0].2)
        );
    }

    #[test]
    fn noise_stays_within_its_peak() {
        let mut noise = white(0.03);
        let samples: Vec<f64> = (0..10_000).map(&mut noise).collect();
        let mean = samples.iter().sum::<f64>() / 10_000.0;
        assert!(samples.iter().all(|x| x.abs() <= 0.03) && mean.abs() < 1e-3);
    }
}
