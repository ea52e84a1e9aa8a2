//! `acolyte bench crops`: crops of words read in a second by one process on all cores.
//!
//! As many threads as the machine has, each with crops of its own and one thread in a run of the model; the sessions are
//! those of one recognizer. Images are decoded before anything is timed.

use crate::bench::{peak_memory, row};
use crate::model_args::ModelArgs;
use acolyte::model::{ModelFile, OrtModel, OrtOptions};
use acolyte::{Decoding, Image, Library, TextRecognizer};
use anyhow::{Result, bail, ensure};
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

/// Measures on image files.
pub fn run(model: &ModelArgs, files: &[PathBuf], out: &mut dyn Write) -> Result<()> {
    ensure!(!files.is_empty(), "name at least one image of a word");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let path = crate::models::resolve(model.model.as_deref(), &crate::models::SCENE)?;
    let options = OrtOptions::default().with_pool(cores);
    let model = OrtModel::from_file(&Library::find()?, ModelFile::open(&path)?, &options)?;
    let recognizer = TextRecognizer::new(model).map_err(|e| e.with_path(&path))?;
    let plan = Decoding::greedy().plan(recognizer.tokens())?;
    let images: Vec<Image> = files.iter().map(Image::open).collect::<Result<_, _>>()?;
    let share = images.len().div_ceil(cores);
    let (recognizer, plan) = (&recognizer, &plan);
    let read = move |images: &[Image]| -> acolyte::Result<()> {
        for image in images {
            std::hint::black_box(recognizer.recognize_with(image.view(), plan)?);
        }
        Ok(())
    };
    // Every session is made and warm before the clock starts.
    let all = |most: usize| -> Result<()> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = images
                .chunks(share)
                .map(|part| scope.spawn(move || read(&part[..part.len().min(most)])))
                .collect();
            for thread in threads {
                match thread.join() {
                    Ok(done) => done?,
                    Err(_) => bail!("a thread of the bench failed"),
                }
            }
            Ok(())
        })
    };
    all(5)?;
    let started = Instant::now();
    all(usize::MAX)?;
    let seconds = started.elapsed().as_secs_f64();
    row(
        out,
        "1000 crops on all cores",
        1e3 * seconds / images.len() as f64,
        "s",
    )?;
    if let Some(bytes) = peak_memory() {
        row(out, "peak memory, all cores", bytes as f64 / 1e6, "MB")?;
    }
    Ok(())
}
