//! `acolyte bench read`: word accuracy and time of reading the crops of manifests, one at a time.
//!
//! A manifest has a JSON object a line with `image` and `text`. Images are decoded before anything is timed. Accuracy
//! is that of scene text by custom: lower-case letters `a` to `z` and digits alone, rows without any left out.

use crate::bench::{peak_memory, row};
use crate::compare::items::{self, Row, folded};
use crate::model_args::ModelArgs;
use acolyte::model::{CtcModel, ModelState};
use acolyte::{Decoding, Image, TextRecognizer};
use anyhow::{Context, Result, ensure};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Crops read before any is timed.
const WARM_UP: usize = 10;

/// Measures on every manifest.
pub fn run(model: &ModelArgs, manifests: &[PathBuf], out: &mut dyn Write) -> Result<()> {
    ensure!(!manifests.is_empty(), "name at least one manifest of crops");
    let started = Instant::now();
    let (path, model) = model.open_for(&crate::models::SCENE)?;
    let recognizer = TextRecognizer::new(model.clone()).map_err(|e| e.with_path(&path))?;
    row(out, "load", started.elapsed().as_secs_f64() * 1e3, "ms")?;
    let size = std::fs::metadata(&path)
        .with_context(|| path.display().to_string())?
        .len();
    row(out, "model size", size as f64 / 1e6, "MB")?;
    for manifest in manifests {
        measure(&recognizer, &model, manifest, out)?;
    }
    if let Some(bytes) = peak_memory() {
        row(out, "peak memory", bytes as f64 / 1e6, "MB")?;
    }
    Ok(())
}

fn measure(
    recognizer: &TextRecognizer,
    model: &dyn CtcModel,
    manifest: &Path,
    out: &mut dyn Write,
) -> Result<()> {
    let crops = crops(manifest)?;
    let plan = Decoding::greedy().plan(recognizer.tokens())?;
    for (image, _) in crops.iter().take(WARM_UP) {
        recognizer.recognize_with(image.view(), &plan)?;
    }
    let (mut times, mut runs) = (Vec::new(), Vec::new());
    let mut right = 0;
    for (image, text) in &crops {
        let started = Instant::now();
        let read = recognizer.recognize_with(image.view(), &plan)?.into_best();
        times.push(started.elapsed().as_secs_f64() * 1e3);
        right += usize::from(folded(&read.text) == *text);
        let line = recognizer.line(&image.view().into())?;
        let mut state = ModelState::start(recognizer.spec());
        let started = Instant::now();
        std::hint::black_box(model.run(line.features(), &mut state)?);
        runs.push(started.elapsed().as_secs_f64() * 1e3);
    }
    let set = manifest
        .parent()
        .and_then(Path::file_name)
        .unwrap_or_default()
        .to_string_lossy();
    let (whole, alone): (f64, f64) = (times.iter().sum(), runs.iter().sum());
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let count = crops.len() as f64;
    row(
        out,
        &format!("{set}: word accuracy"),
        100.0 * right as f64 / count,
        "%",
    )?;
    row(out, &format!("{set}: median"), at(0.5), "ms")?;
    row(out, &format!("{set}: p95"), at(0.95), "ms")?;
    row(
        out,
        &format!("{set}: outside the model's run"),
        100.0 * (whole - alone).max(0.0) / whole,
        "%",
    )?;
    row(
        out,
        &format!("{set}: outside the model's run, a crop"),
        (whole - alone).max(0.0) / count,
        "ms",
    )
}

fn crops(manifest: &Path) -> Result<Vec<(Image, String)>> {
    let folder = manifest.parent().unwrap_or(Path::new(""));
    let rows = items::read(manifest, usize::MAX)?;
    let crop = |row: &Row| Ok((row.image(folder)?, folded(&row.text)));
    rows.iter().map(crop).collect()
}
