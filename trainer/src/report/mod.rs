//! Reports: pictures and tables of a run as one HTML file that needs nothing else.
//!
//! [`svg`] draws, [`image`] turns matrices into pictures, [`page`] puts parts together; [`write_report`] does so for a
//! run's folder.

mod axis;
pub mod image;
mod metrics;
pub mod page;
pub mod svg;

pub use metrics::{Metrics, Step};

use crate::config::Recipe;
use crate::train::checkpoint::write_atomically;
use crate::train::evaluate::Score;
use crate::train::records::EpochRecord;
use crate::{Error, Result};
use page::Page;
use std::path::{Path, PathBuf};
use svg::{Axis, Chart, Series};

/// Most points of a curve: more would not be seen.
const POINTS: usize = 400;

/// Writes `report.html` into a run's folder; returns its path.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) where the folder holds no metrics or cannot be written,
/// [`ErrorKind::Recipe`](crate::ErrorKind::Recipe) for a recipe that does not read.
pub fn write_report(run: &Path) -> Result<PathBuf> {
    let metrics = Metrics::read(run)?;
    let recipe_path = run.join("recipe.toml");
    let recipe = Recipe::load(&recipe_path, &[] as &[&str])?;
    let text =
        std::fs::read_to_string(&recipe_path).map_err(|error| Error::io(&recipe_path, error))?;
    let path = run.join("report.html");
    write_atomically(&path, render(&recipe, &text, &metrics).as_bytes())?;
    Ok(path)
}

/// The report of a run as HTML.
pub fn render(recipe: &Recipe, recipe_text: &str, metrics: &Metrics) -> String {
    let mut page = Page::new(&format!("Training {}", recipe.name));
    page.table(&["", ""], &summary(recipe, metrics));
    if let Some(start) = &metrics.start {
        page.paragraph(&start.summary());
    }
    for average in &metrics.averages {
        let epochs: Vec<String> = average
            .averaged_epochs
            .iter()
            .map(|epoch| (epoch + 1).to_string())
            .collect();
        page.paragraph(&format!(
            "The mean of the weights of epochs {} has WER/CER {}: {} than the best epoch.",
            epochs.join(", "),
            crate::train::log::scores(&average.errors),
            if average.better {
                "better"
            } else {
                "no better"
            }
        ));
    }
    page.heading("Errors on the development sets");
    for (label, rate) in [
        ("Word error rate, %", wer as fn(&Score) -> f64),
        ("Character error rate, %", cer),
    ] {
        page.picture(&errors_over_epochs(label, metrics, rate));
    }
    page.heading("Training");
    let x = || Axis::new("batch");
    let curve = |value: &dyn Fn(&Step) -> Option<f64>| metrics.curve(POINTS, value);
    let mut chart = Chart::new("Loss, nats per output frame", x(), Axis::new("loss").log());
    chart.series = vec![
        Series::line("updates", curve(&|step| step.loss)),
        Series::dots(
            "mean of an epoch",
            metrics
                .epochs
                .iter()
                .map(|epoch| [epoch.step as f64, epoch.loss])
                .collect(),
        ),
    ];
    page.picture(&chart.to_svg());
    let mut chart = Chart::new(
        "Gradient norm before clipping",
        x(),
        Axis::new("norm").log(),
    );
    chart.series = vec![Series::line("", curve(&|step| step.gradient_norm))];
    page.picture(&chart.to_svg());
    let mut chart = Chart::new("Learning rate", x(), Axis::new("rate").from_zero());
    chart.series = vec![Series::line("", curve(&|step| Some(step.learning_rate)))];
    page.picture(&chart.to_svg());
    let throughput = metrics.throughput(POINTS);
    if !throughput.is_empty() {
        let axis = Axis::new("s/s").from_zero();
        let mut chart = Chart::new("Throughput, seconds of audio per second", x(), axis);
        chart.series = vec![Series::line("", throughput)];
        page.picture(&chart.to_svg());
    }
    page.details("All epochs", |page| {
        let mut header = vec!["epoch", "batches", "minutes", "loss", "left out"];
        let names = set_names(&metrics.epochs);
        let columns: Vec<String> = names
            .iter()
            .map(|name| format!("{name} WER/CER %"))
            .collect();
        header.extend(columns.iter().map(String::as_str));
        let rows: Vec<Vec<String>> = metrics
            .epochs
            .iter()
            .map(|e| epoch_row(e, &names))
            .collect();
        page.table(&header, &rows);
    });
    page.details("The recipe, all defaults spelled out", |page| {
        page.preformatted(recipe_text);
    });
    page.finish()
}

fn wer(score: &Score) -> f64 {
    score.wer
}

fn cer(score: &Score) -> f64 {
    score.cer
}

fn summary(recipe: &Recipe, metrics: &Metrics) -> Vec<Vec<String>> {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let last = metrics.steps.last();
    let audio: f64 = metrics.steps.iter().map(|step| step.audio_seconds).sum();
    let mut rows = vec![
        row(
            "epochs",
            format!(
                "{} of at most {}",
                metrics.epochs.len(),
                recipe.train.epochs
            ),
        ),
        row("batches", last.map_or(0, |step| step.step).to_string()),
        row(
            "minutes",
            format!("{:.1}", last.map_or(0.0, |step| step.seconds) / 60.0),
        ),
    ];
    if audio > 0.0 {
        rows.push(row("hours of audio seen", format!("{:.2}", audio / 3600.0)));
    }
    for name in set_names(&metrics.epochs) {
        let scores = metrics.epochs.iter().filter_map(|epoch| {
            let score = epoch.development.iter().find(|score| score.name == name)?;
            Some((epoch.epoch, score))
        });
        let best = scores.min_by(|(_, a), (_, b)| a.wer.total_cmp(&b.wer));
        if let Some((epoch, score)) = best {
            rows.push(row(
                &format!("best on {name}"),
                format!(
                    "WER {:.2} %, CER {:.2} % in epoch {}",
                    score.wer,
                    score.cer,
                    epoch + 1
                ),
            ));
        }
    }
    let sum =
        |count: fn(&EpochRecord) -> usize| -> usize { metrics.epochs.iter().map(count).sum() };
    rows.push(row(
        "batches left out, not finite",
        sum(|epoch| epoch.skipped).to_string(),
    ));
    rows.push(row(
        "targets that did not fit",
        sum(|epoch| epoch.infeasible).to_string(),
    ));
    rows
}

/// Names of the development sets in the order they are judged.
fn set_names(epochs: &[EpochRecord]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for score in epochs.iter().flat_map(|epoch| &epoch.development) {
        if !names.contains(&score.name) {
            names.push(score.name.clone());
        }
    }
    names
}

/// Word errors on the development sets over the epochs, as an `<svg>` element.
pub(crate) fn word_errors_over_epochs(title: &str, metrics: &Metrics) -> String {
    errors_over_epochs(title, metrics, wer)
}

fn errors_over_epochs(title: &str, metrics: &Metrics, rate: fn(&Score) -> f64) -> String {
    let mut chart = Chart::new(title, Axis::new("epoch"), Axis::new("%").from_zero());
    chart.series = error_curves(&metrics.epochs, rate);
    chart.to_svg()
}

fn error_curves(epochs: &[EpochRecord], rate: fn(&Score) -> f64) -> Vec<Series> {
    set_names(epochs)
        .into_iter()
        .map(|name| {
            let points = epochs
                .iter()
                .filter_map(|epoch| {
                    let score = epoch.development.iter().find(|score| score.name == name)?;
                    Some([(epoch.epoch + 1) as f64, rate(score)])
                })
                .collect();
            Series::line(&name, points).with_dots()
        })
        .collect()
}

fn epoch_row(epoch: &EpochRecord, names: &[String]) -> Vec<String> {
    let mut row = vec![
        (epoch.epoch + 1).to_string(),
        epoch.step.to_string(),
        format!("{:.1}", epoch.seconds / 60.0),
        format!("{:.4}", epoch.loss),
        epoch.skipped.to_string(),
    ];
    row.extend(names.iter().map(|name| {
        let score = epoch.development.iter().find(|score| score.name == *name);
        score.map_or(String::new(), |s| format!("{:.2} / {:.2}", s.wer, s.cer))
    }));
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe() -> (Recipe, String) {
        let text = "name = \"a <b> & c\"\ntask = \"speech\"\nlicense = \"MIT\"\n[data]\n\
                    train = [{ manifest = \"m.jsonl\" }]\n";
        (
            Recipe::parse(text, &[] as &[&str]).unwrap(),
            text.to_owned(),
        )
    }

    fn log(steps: u64) -> String {
        let mut text = String::new();
        for step in 1..=steps {
            let (epoch, loss) = ((step - 1) / 10, 2.0 / step as f64);
            text += &format!(
                "{{\"step\":{step},\"epoch\":{epoch},\"progress\":0.1,\"loss\":{loss},\"gradient_norm\":null,\
                 \"learning_rate\":0.001,\"utterances\":4,\"infeasible\":0,\"audio_seconds\":8.0,\"seconds\":{step}}}\n"
            );
            if step % 10 == 0 {
                text += &format!(
                    "{{\"epoch\":{epoch},\"step\":{step},\"loss\":{loss},\"skipped\":1,\"infeasible\":0,\"development\":\
                     [{{\"name\":\"dev\",\"words\":{{\"substitutions\":1,\"deletions\":0,\"insertions\":0,\
                     \"reference\":4}},\"characters\":{{\"substitutions\":1,\"deletions\":0,\"insertions\":0,\
                     \"reference\":20}},\"wer\":{},\"cer\":5.0}}],\"seconds\":{step}}}\n",
                    100.0 * loss
                );
            }
        }
        text
    }

    #[test]
    fn a_run_becomes_one_self_contained_file() {
        let run = tempfile::tempdir().unwrap();
        std::fs::write(run.path().join("recipe.toml"), recipe().1).unwrap();
        std::fs::write(
            run.path().join("metrics.jsonl"),
            log(25) + "{\"step\":26,\"lo",
        )
        .unwrap();
        let path = write_report(run.path()).unwrap();
        let html = std::fs::read_to_string(path).unwrap();
        for part in [
            "a &lt;b&gt; &amp; c",
            "Word error rate",
            "Gradient norm",
            "Throughput",
            "WER 10.00 %, CER 5.00 % in epoch 2",
            "2 of at most 40",
            "0.06",
        ] {
            assert!(html.contains(part), "{part} in {html}");
        }
        assert_eq!(html.matches("<svg").count(), 6);
        for foreign in ["src=\"http", "href=\"http", "<script", "NaN", "inf"] {
            assert!(!html.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn a_run_that_has_just_begun_has_a_report_too() {
        let (recipe, text) = recipe();
        let html = render(&recipe, &text, &Metrics::parse(""));
        assert!(html.contains("no data") && html.contains("0 of at most 40"));
        let nowhere = write_report(Path::new("no/such/run")).unwrap_err();
        assert_eq!(nowhere.kind(), crate::ErrorKind::Io);
    }
}
