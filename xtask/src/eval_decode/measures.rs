//! Readings as `acolyte tune --json` prints them, and what they add up to.

use super::Way;
use serde::Deserialize;

/// One reading of a recording, or of a piece of one.
#[derive(Debug, Clone, Deserialize)]
pub struct Reading {
    pub decoding: String,
    pub path: String,
    pub start: f64,
    pub duration: f64,
    pub reference: String,
    pub text: String,
    /// Null stands for minus infinity.
    #[serde(default)]
    pub margin: Option<f64>,
    pub words: Vec<Word>,
    pub word_errors: Errors,
    pub character_errors: Errors,
    /// Milliseconds.
    pub took: f64,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Word {
    pub start: f64,
    pub end: f64,
    pub confidence: f64,
    /// Which word of the reference it is; none where it is wrong.
    pub matches: Option<usize>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Errors {
    substitutions: usize,
    deletions: usize,
    insertions: usize,
    reference: usize,
}

impl Reading {
    pub fn margin(&self) -> f64 {
        self.margin.unwrap_or(f64::NEG_INFINITY)
    }
}

/// Error rates and time of one way of decoding.
pub fn way(set: &'static str, name: &str, readings: &[&Reading]) -> Way {
    let seconds: f64 = readings.iter().map(|reading| reading.duration).sum();
    let took: f64 = readings.iter().map(|reading| reading.took).sum();
    Way {
        set,
        name: name.to_owned(),
        wer: rate(readings.iter().map(|reading| reading.word_errors)),
        cer: rate(readings.iter().map(|reading| reading.character_errors)),
        time: took / seconds.max(f64::MIN_POSITIVE),
    }
}

/// Edits for a hundred items of the reference.
fn rate(errors: impl Iterator<Item = Errors>) -> f64 {
    let (mut edits, mut items) = (0, 0);
    for e in errors {
        edits += e.substitutions + e.deletions + e.insertions;
        items += e.reference;
    }
    100.0 * edits as f64 / items.max(1) as f64
}

/// Seconds of audio behind readings that may overlap: for each recording the end of its last piece.
pub fn seconds(readings: &[Reading]) -> f64 {
    let mut ends = std::collections::BTreeMap::new();
    for reading in readings {
        let end = ends.entry(reading.path.as_str()).or_insert(0.0f64);
        *end = end.max(reading.start + reading.duration);
    }
    ends.values().sum()
}

/// Phrases set off at a threshold: pieces overlap, so the same phrase in the next piece is the same alarm.
pub fn alarms(readings: &[Reading], threshold: f64) -> usize {
    let fires = |reading: &Reading| !reading.text.is_empty() && reading.margin() >= threshold;
    let mut before: Option<&Reading> = None;
    let mut count = 0;
    for reading in readings {
        if fires(reading) {
            let again = before.is_some_and(|b| b.path == reading.path && b.text == reading.text);
            count += usize::from(!again);
            before = Some(reading);
        } else {
            before = None;
        }
    }
    count
}

#[cfg(test)]
pub fn reading(path: &str, start: f64, text: &str, margin: f64) -> Reading {
    let json = serde_json::json!({
        "decoding": "d", "path": path, "start": start, "duration": 1.0, "reference": "yes", "text": text,
        "margin": margin, "took": 2.0, "words": [],
        "word_errors": {"substitutions": 1, "deletions": 0, "insertions": 0, "reference": 2},
        "character_errors": {"substitutions": 0, "deletions": 1, "insertions": 0, "reference": 10},
    });
    serde_json::from_value(json).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_in_overlapping_pieces_count_once() {
        let readings = [
            reading("a", 0.0, "yes", -1.0),
            reading("a", 0.5, "yes", -2.0),
            reading("a", 1.0, "no", -2.0),
            reading("a", 1.5, "no", -9.0),
            reading("a", 2.0, "no", -1.0),
            reading("b", 0.0, "no", -1.0),
            reading("b", 0.5, "", 0.0),
        ];
        assert_eq!(alarms(&readings, -5.0), 4);
        assert_eq!(alarms(&readings, 1.0), 0);
        assert!((seconds(&readings) - 4.5).abs() < 1e-9);
    }

    #[test]
    fn ways_add_up() {
        let readings = [reading("a", 0.0, "yes", 0.0), reading("b", 0.0, "no", 0.0)];
        let way = way("s", "n", &readings.iter().collect::<Vec<_>>());
        assert_eq!((way.wer, way.cer, way.time), (50.0, 10.0, 2.0));
        let nothing: Reading = serde_json::from_str(
            &serde_json::to_string(&serde_json::json!({
                "decoding": "d", "path": "p", "start": 0.0, "duration": 1.0, "reference": "", "text": "",
                "margin": null, "took": 0.0, "words": [],
                "word_errors": {"substitutions": 0, "deletions": 0, "insertions": 0, "reference": 0},
                "character_errors": {"substitutions": 0, "deletions": 0, "insertions": 0, "reference": 0},
            }))
            .unwrap(),
        )
        .unwrap();
        assert_eq!(nothing.margin(), f64::NEG_INFINITY);
    }
}
