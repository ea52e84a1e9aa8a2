//! Reads a run's `metrics.jsonl` back, and thins it out to curves.

use crate::train::log::metrics_path;
use crate::train::records::{AverageRecord, EpochRecord, StartRecord};
use crate::{Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::Path;

/// One update as the log has it; numbers that were not finite are absent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Step {
    /// Batches so far.
    pub step: u64,
    /// The epoch, from 0.
    pub epoch: u64,
    /// CTC loss in nats per output frame.
    pub loss: Option<f64>,
    /// Gradient norm before clipping.
    pub gradient_norm: Option<f64>,
    /// Learning rate.
    pub learning_rate: f64,
    /// Seconds of audio; 0 in logs that do not have it.
    #[serde(default)]
    pub audio_seconds: f64,
    /// Seconds of training so far.
    pub seconds: f64,
}

/// The records of a run in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics {
    /// Updates.
    pub steps: Vec<Step>,
    /// Epochs.
    pub epochs: Vec<EpochRecord>,
    /// What the run started from, where that was a model.
    pub start: Option<StartRecord>,
    /// What averaging the weights gave.
    pub averages: Vec<AverageRecord>,
}

impl Metrics {
    /// Reads the metrics of the run in `folder`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io), naming the file.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = metrics_path(folder);
        let bytes = std::fs::read(&path).map_err(|error| Error::io(&path, error))?;
        Ok(Self::parse(&String::from_utf8_lossy(&bytes)))
    }

    /// Reads JSON lines; what is no record (the last line of a killed run may be half a one) is passed over, and a
    /// record that goes back to an earlier step replaces those after it.
    pub fn parse(text: &str) -> Self {
        let mut metrics = Self::default();
        for line in text.lines() {
            let Ok(record) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            if record.get("averaged_epochs").is_some() {
                metrics.averages.extend(read(record));
            } else if record.get("started_from").is_some() {
                metrics.start = read(record);
            } else if record.get("development").is_some() {
                if let Some(epoch) = read::<EpochRecord>(record) {
                    metrics.epochs.retain(|other| other.epoch < epoch.epoch);
                    metrics.epochs.push(epoch);
                }
            } else if let Some(step) = read::<Step>(record) {
                let after = metrics
                    .steps
                    .partition_point(|other| other.step < step.step);
                metrics.steps.truncate(after);
                metrics.steps.push(step);
            }
        }
        metrics
    }

    /// At most `most` points of a curve over batches, each the mean of its neighbors.
    pub fn curve(&self, most: usize, value: &dyn Fn(&Step) -> Option<f64>) -> Vec<[f64; 2]> {
        let each = |steps: &[Step]| {
            let values: Vec<f64> = steps.iter().filter_map(value).collect();
            let middle = steps.get(steps.len() / 2)?.step as f64;
            (!values.is_empty()).then(|| [middle, values.iter().sum::<f64>() / values.len() as f64])
        };
        self.parts(most).filter_map(each).collect()
    }

    /// Seconds of audio per second over batches; the time between epochs, when sets are judged, is left out.
    pub fn throughput(&self, most: usize) -> Vec<[f64; 2]> {
        let each = |steps: &[Step]| {
            let (mut audio, mut time) = (0.0, 0.0);
            for pair in steps.windows(2) {
                if pair[0].epoch == pair[1].epoch && pair[1].seconds > pair[0].seconds {
                    audio += pair[1].audio_seconds;
                    time += pair[1].seconds - pair[0].seconds;
                }
            }
            let middle = steps.get(steps.len() / 2)?.step as f64;
            (audio > 0.0 && time > 0.0).then(|| [middle, audio / time])
        };
        // A part needs several steps to have a duration.
        self.parts(most.min(self.steps.len().div_ceil(8)))
            .filter_map(each)
            .collect()
    }

    fn parts(&self, most: usize) -> impl Iterator<Item = &[Step]> {
        self.steps
            .chunks(self.steps.len().div_ceil(most.max(1)).max(1))
    }
}

fn read<T: DeserializeOwned>(record: Value) -> Option<T> {
    serde_json::from_value(record).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(step: u64, loss: &str) -> String {
        format!(
            "{{\"step\":{step},\"epoch\":0,\"loss\":{loss},\"gradient_norm\":1.0,\"learning_rate\":0.1,\
             \"audio_seconds\":6.0,\"seconds\":{}}}\n",
            2 * step
        )
    }

    #[test]
    fn curves_are_means_and_what_is_not_finite_is_a_gap() {
        let text: String = (1..=1000)
            .map(|step| line(step, if step <= 10 { "null" } else { "2.0" }))
            .collect();
        let metrics = Metrics::parse(&text);
        let loss = metrics.curve(100, &|step| step.loss);
        assert_eq!(loss.len(), 99, "the first tenth of a hundred has no number");
        assert!(loss.iter().all(|point| point[1] == 2.0));
        assert!(metrics.throughput(100).iter().all(|point| point[1] == 3.0));
        assert_eq!(metrics.throughput(100).len(), 100);
    }

    #[test]
    fn a_step_told_again_replaces_those_after_it() {
        let text: String = [1, 2, 3, 2].map(|step| line(step, "1.0")).concat();
        let steps: Vec<u64> = Metrics::parse(&text).steps.iter().map(|s| s.step).collect();
        assert_eq!(steps, [1, 2]);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "\\PC{0,300}", cut in 0usize..200) {
            let own = line(3, "1.0") + &text;
            let cut = own.floor_char_boundary(cut.min(own.len()));
            let metrics = Metrics::parse(&own[..cut]);
            metrics.throughput(3);
            metrics.curve(0, &|step| step.loss);
        }
    }
}
