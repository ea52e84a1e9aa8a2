//! `cargo xtask reproduce speech`: the proof, or what is left of it, and its tables under `docs/results`.

use crate::process::{self, root};
use crate::setup;
use anyhow::{Result, bail};
use clap::ValueEnum;
use std::path::PathBuf;
use std::process::Command;

/// Which proof, and how much of it.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What is proved: speech.
    name: Option<String>,
    /// One regime only.
    #[arg(long, value_enum)]
    regime: Option<Regime>,
    /// Every row, ablation and budget, not the core alone.
    #[arg(long)]
    full: bool,
    /// Begin no run after so many hours; the same command goes on later.
    #[arg(long)]
    hours: Option<f64>,
    /// Folder with the data sets [default: ../shared/data beside the repository].
    #[arg(long, env = "ACOLYTE_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Where the effect can be small, and where it must show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Regime {
    /// Small and easy.
    An4,
    /// Hard.
    Librispeech,
}

impl Regime {
    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::An4 => "an4",
            Self::Librispeech => "librispeech",
        }
    }

    /// The manifests of all its recordings.
    pub fn manifests(self) -> &'static [&'static str] {
        match self {
            Self::An4 => &["an4/train.jsonl", "an4/dev.jsonl"],
            Self::Librispeech => &[
                "librispeech_mini/train.jsonl",
                "librispeech_mini/dev.jsonl",
                "librispeech_extra/train.jsonl",
                "librispeech_more/train.jsonl",
                "librispeech_more/dev.jsonl",
            ],
        }
    }

    fn recipe(self) -> &'static str {
        match self {
            Self::An4 => "trainer/recipes/proof-an4.toml",
            Self::Librispeech => "trainer/recipes/proof-librispeech.toml",
        }
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let name = arguments.name.as_deref().unwrap_or_default();
    if name != "speech" {
        bail!("nothing called {name:?} can be reproduced; there is: speech");
    }
    setup::ready()?;
    let program = process::release("acolyte-trainer", "acolyte-train")?;
    let data = match &arguments.data {
        Some(folder) => std::path::absolute(folder)?,
        None => root().join("../shared/data"),
    };
    let regimes = match arguments.regime {
        Some(regime) => vec![regime],
        None => vec![Regime::An4, Regime::Librispeech],
    };
    let mut command = Command::new(program);
    command
        .current_dir(root())
        .arg("proof")
        .args(regimes.iter().map(|regime| regime.recipe()))
        .arg("--data")
        .arg(data);
    if arguments.full {
        command.arg("--full");
    }
    if let Some(hours) = arguments.hours {
        command.arg("--hours").arg(hours.to_string());
    }
    process::run(&mut command)
}
