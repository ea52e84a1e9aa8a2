//! `acolyte-train synth`: look at rendered words, and measure how fast they come.

use acolyte::features::LineReader;
use acolyte::image::Image;
use acolyte_trainer::config::Recipe;
use acolyte_trainer::data::images::ImageData;
use acolyte_trainer::student::text::STRIDE;
use acolyte_trainer::synth::{Key, Renderer, named_vocabulary, shards, sheet::sheet};
use acolyte_trainer::train::checkpoint::write_atomically;
use anyhow::{Result, bail};
use clap::Args;
use std::path::PathBuf;
use std::time::Instant;

/// Render words of a recipe: a contact sheet to look at, shards to train from, or a measurement.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The recipe (TOML).
    recipe: PathBuf,
    /// Folder that the recipe's manifests and word lists are relative to.
    #[arg(long, env = "ACOLYTE_DATA", default_value = "../shared/data")]
    data: PathBuf,
    /// Write a contact sheet (PNG) of this many pictures.
    #[arg(long, value_name = "N")]
    show: Option<usize>,
    /// Show the recipe's real training crops instead, for comparison.
    #[arg(long, requires = "show")]
    real: bool,
    /// Pictures in a row of the sheet.
    #[arg(long, default_value_t = 6)]
    columns: usize,
    /// Render this many pictures into shards (safetensors) in the folder given by --out.
    #[arg(long, value_name = "N", conflicts_with = "show")]
    shards: Option<usize>,
    /// Pictures in a shard.
    #[arg(long, default_value_t = 20_000)]
    per_shard: usize,
    /// The sheet's file or the shards' folder.
    #[arg(short, long, default_value = "synth.png")]
    out: PathBuf,
    /// The epoch to render.
    #[arg(long, default_value_t = 0)]
    epoch: u64,
    /// Measure pictures a second on one core over this many.
    #[arg(long, value_name = "N")]
    time: Option<usize>,
    /// Change a value of the recipe: `--set seed=2`. May be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let recipe = Recipe::load(&arguments.recipe, &arguments.set)?;
    if arguments.real {
        let mut plain = recipe;
        plain.synth.per_epoch = 0;
        let data = ImageData::open(&plain, &arguments.data, &|_| ())?;
        let images = &data.train().images;
        let count = arguments.show.unwrap_or(0).min(images.len());
        let step = images.len() / count.max(1);
        let pictures: Vec<Image> = (0..count).map(|i| images[i * step].image.clone()).collect();
        return write(&pictures, arguments);
    }
    let started = Instant::now();
    let tokens = named_vocabulary(&recipe.text)?;
    let reader = LineReader::new(&recipe.image.spec())?;
    let renderer = Renderer::new(&recipe.synth, &arguments.data, &tokens, &reader, STRIDE)?;
    println!(
        "{} faces and the word lists loaded in {:.1} s",
        renderer.fonts().faces().len(),
        started.elapsed().as_secs_f64()
    );
    let key = |item: usize| Key {
        seed: recipe.seed,
        epoch: arguments.epoch,
        item: item as u64,
    };
    if let Some(count) = arguments.shards {
        let written = shards::write(
            &renderer,
            key(0),
            count,
            arguments.per_shard,
            &arguments.out,
        )?;
        println!(
            "{count} pictures in {written} shards in {}",
            arguments.out.display()
        );
        return Ok(());
    }
    if let Some(count) = arguments.show {
        let mut pictures = Vec::with_capacity(count);
        for item in 0..count {
            let (sketch, _) = renderer.sketch(key(item))?;
            pictures.push(renderer.paint(&sketch, key(item))?);
        }
        return write(&pictures, arguments);
    }
    let Some(count) = arguments.time else {
        bail!("say what to do: --show N, --shards N or --time N");
    };
    let started = Instant::now();
    for item in 0..count {
        renderer.sketch(key(item))?;
    }
    let sketched = started.elapsed().as_secs_f64();
    for item in 0..count {
        let (sketch, _) = renderer.sketch(key(item))?;
        let picture = renderer.paint(&sketch, key(item))?;
        reader.read(&picture.view())?;
    }
    let all = started.elapsed().as_secs_f64() - sketched;
    println!(
        "one core: {:.0} sketches/s, {:.0} pictures/s with their lines",
        count as f64 / sketched,
        count as f64 / all
    );
    Ok(())
}

fn write(pictures: &[Image], arguments: &Arguments) -> Result<()> {
    let sheet = sheet(pictures, arguments.columns)?;
    write_atomically(&arguments.out, &sheet.to_png()?)?;
    println!("{} pictures in {}", pictures.len(), arguments.out.display());
    Ok(())
}
