//! `acolyte-train prepare`: a folder of recordings to manifests and a recipe to start from.

use acolyte_trainer::config::Case;
use acolyte_trainer::prepare::{
    Layout, Numbers, PrepareOptions, PrepareReport, Punctuation, prepare,
};
use acolyte_trainer::train::checkpoint::write_atomically;
use anyhow::Result;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::{Path, PathBuf};

/// Turn recordings into manifests and a starter recipe. Layouts: WAV files with .txt files of the same names,
/// LibriSpeech, LJSpeech, Common Voice, Kaldi.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The folder with the recordings.
    source: PathBuf,
    /// Folder for train.jsonl, dev.jsonl and recipe.toml.
    #[arg(short, long)]
    out: PathBuf,
    /// The layout; told from the folder's files if absent.
    #[arg(long, value_parser = layout)]
    layout: Option<Layout>,
    /// Letter case of the transcripts.
    #[arg(long, value_enum, default_value_t = CaseArgument::Lower)]
    case: CaseArgument,
    /// What to do with digits: refuse the row, spell them out, or keep them as characters.
    #[arg(long, value_enum, default_value_t = NumbersArgument::Refuse)]
    numbers: NumbersArgument,
    /// Keep punctuation as characters.
    #[arg(long)]
    keep_punctuation: bool,
    /// Share of the audio for the development set, by whole speakers; 0 makes none.
    #[arg(long, default_value_t = 0.05)]
    dev_share: f64,
    /// Decides which speakers go where.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CaseArgument {
    Keep,
    Lower,
    Upper,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum NumbersArgument {
    Keep,
    Refuse,
    Spell,
}

fn layout(text: &str) -> Result<Layout, String> {
    text.parse::<Layout>().map_err(|error| error.to_string())
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let mut options = PrepareOptions::new(&arguments.source, &arguments.out);
    options.layout = arguments.layout;
    options.case = match arguments.case {
        CaseArgument::Keep => Case::Keep,
        CaseArgument::Lower => Case::Lower,
        CaseArgument::Upper => Case::Upper,
    };
    options.numbers = match arguments.numbers {
        NumbersArgument::Keep => Numbers::Keep,
        NumbersArgument::Refuse => Numbers::Refuse,
        NumbersArgument::Spell => Numbers::Spell,
    };
    if arguments.keep_punctuation {
        options.punctuation = Punctuation::Keep;
    }
    options.dev_share = arguments.dev_share;
    options.seed = arguments.seed;
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} files  {eta}") {
        bar.set_style(style);
    }
    let report = prepare(&options, &|progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
    })?;
    bar.finish_and_clear();
    println!("{report}");
    let recipe = arguments.out.join("recipe.toml");
    if recipe.exists() {
        println!("{} was there and is left as it is", recipe.display());
    } else {
        write_atomically(&recipe, starter(arguments, &report).as_bytes())?;
        println!(
            "next: acolyte-train train {} --data {}",
            recipe.display(),
            arguments.out.display()
        );
    }
    Ok(())
}

/// A recipe over the manifests just written, with the alphabet that was found.
fn starter(arguments: &Arguments, report: &PrepareReport) -> String {
    let name = Path::new(&arguments.out)
        .file_name()
        .map_or("model".into(), |name| name.to_string_lossy());
    let tokens: Vec<String> = report
        .alphabet
        .iter()
        .map(|(character, _)| toml_string(&character.to_string()))
        .collect();
    let dev = match report.dev {
        Some(_) => "dev = [{ name = \"dev\", manifest = \"dev.jsonl\" }]\n",
        None => "",
    };
    let case = match arguments.case {
        CaseArgument::Keep => "keep",
        CaseArgument::Lower => "lower",
        CaseArgument::Upper => "upper",
    };
    format!(
        "# Started by `acolyte-train prepare`; see trainer/recipes for one with everything set.\n\
         name = {}\ntask = \"speech\"\nlicense = \"unknown\"\n\n\
         [data]\ntrain = [{{ manifest = \"train.jsonl\" }}]\n{dev}\n\
         [text]\ntokens = [{}]\ncase = \"{case}\"\n\n\
         [augment]\nspeed = [0.9, 1.1]\ngain_db = [-12.0, 6.0]\nnoise = {{ probability = 0.4 }}\n",
        toml_string(&name),
        tokens.join(", ")
    )
}

/// `text` as a TOML basic string.
fn toml_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
