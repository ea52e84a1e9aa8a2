//! What a person sees of a run: a progress bar with loss, error and time left, and a line an epoch.

use acolyte_trainer::train::log::scores;
use acolyte_trainer::train::run::{EpochRecord, Observer, StepRecord};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Instant;

/// Progress is shown in this many parts.
const PARTS: u64 = 10_000;

/// A progress bar over a run.
#[derive(Debug)]
pub struct Watch {
    bar: ProgressBar,
    loading: Option<ProgressBar>,
    loss: f32,
    wer: String,
    started: Option<(Instant, f64)>,
    utterances: usize,
}

impl Watch {
    pub fn new() -> Self {
        let bar = ProgressBar::hidden();
        bar.set_length(PARTS);
        if let Ok(style) =
            ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}  {elapsed_precise}")
        {
            bar.set_style(style);
        }
        Self {
            bar,
            loading: None,
            loss: f32::NAN,
            wer: "-".to_owned(),
            started: None,
            utterances: 0,
        }
    }

    /// A bar for decoding the audio, which comes first.
    pub fn loading(&mut self) -> ProgressBar {
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} files decoded  {eta}")
        {
            bar.set_style(style);
        }
        self.loading = Some(bar.clone());
        bar
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn line(&self, text: String) {
        if self.bar.is_hidden() {
            eprintln!("{text}");
        } else {
            self.bar.println(text);
        }
    }
}

impl Observer for Watch {
    fn step(&mut self, record: &StepRecord) {
        if let Some(loading) = self.loading.take() {
            loading.finish_and_clear();
            self.bar
                .set_draw_target(indicatif::ProgressDrawTarget::stderr());
        }
        let (started, first) = *self
            .started
            .get_or_insert_with(|| (Instant::now(), record.progress));
        self.utterances += record.utterances;
        self.loss = if self.loss.is_nan() {
            record.loss
        } else {
            0.98 * self.loss + 0.02 * record.loss
        };
        let elapsed = started.elapsed().as_secs_f64();
        let part = (record.progress - first).max(1e-9);
        let left = elapsed * (1.0 - record.progress).max(0.0) / part;
        self.bar
            .set_position((record.progress * PARTS as f64) as u64);
        self.bar.set_message(format!(
            "epoch {}  step {}  loss {:.3}  WER {}  {:.0} utterances/s  {:.0} min left",
            record.epoch + 1,
            record.step,
            self.loss,
            self.wer,
            self.utterances as f64 / elapsed.max(1e-3),
            left / 60.0
        ));
    }

    fn epoch(&mut self, record: &EpochRecord) {
        self.wer = record
            .development
            .first()
            .map_or("-".to_owned(), |score| format!("{:.1}", score.wer));
        let skipped = match record.skipped {
            0 => String::new(),
            n => format!("  {n} batches left out"),
        };
        self.line(format!(
            "epoch {:>3}  {:>6.1} min  loss {:.4}  WER/CER {}{skipped}",
            record.epoch + 1,
            record.seconds / 60.0,
            record.loss,
            scores(&record.development)
        ));
    }

    fn note(&mut self, text: &str) {
        self.line(text.to_owned());
    }
}
