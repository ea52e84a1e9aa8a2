//! `acolyte-train lm`: an n-gram language model out of text.

use acolyte::decode::NgramModel;
use acolyte_trainer::lm::{Corpus, Counter, Estimate, Form, LmConfig, Perplexity, Unit};
use acolyte_trainer::train::checkpoint::write_atomically;
use anyhow::{Context, Result};
use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use std::path::PathBuf;

/// Without a text to measure on, every so many sentences of the text itself are held out for it.
const HELD_OUT: u64 = 20;

/// Estimate a language model from text: modified Kneser-Ney, written in ARPA format.
///
/// The text has a sentence a line, its words as the recognizer is to write them. Files `*.jsonl` are manifests,
/// whose transcripts are taken. The report goes to standard output.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  acolyte-train lm transcripts.txt -o lm.arpa.gz\n  acolyte-train lm --prose book.txt --order 4 --prune 0,0,1 -o lm.arpa\n  acolyte-train lm --characters train.jsonl -o characters.arpa"
)]
pub struct Arguments {
    /// Files with text.
    #[arg(required = true, value_name = "TEXT")]
    text: Vec<PathBuf>,
    /// The file to write; compressed where it ends with .gz.
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// The longest n-gram [default: 3, or 6 for characters].
    #[arg(long, value_name = "N")]
    order: Option<usize>,
    /// A model of characters instead of words.
    #[arg(long)]
    characters: bool,
    /// Leave out n-grams that occur at most so often, by order from 1: 0,0,1 leaves out what occurs once from
    /// order 3 on.
    #[arg(long, value_name = "COUNT,...", value_delimiter = ',')]
    prune: Vec<u64>,
    /// The text is running prose: find its sentences, lower the case, drop punctuation, spell plain numbers.
    #[arg(long)]
    prose: bool,
    /// Measure perplexity on these files [default: on every 20th sentence, with a model of the others; the model
    /// written is of all].
    #[arg(long, value_name = "TEXT", num_args = 1..)]
    held_out: Vec<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let unit = if arguments.characters {
        Unit::Characters
    } else {
        Unit::Words
    };
    let default = if arguments.characters { 6 } else { 3 };
    let config = LmConfig::default()
        .with_order(arguments.order.unwrap_or(default))
        .with_unit(unit)
        .with_prune(arguments.prune.clone());
    let corpus = |files: &[PathBuf]| Corpus {
        files: files.to_vec(),
        form: if arguments.prose {
            Form::Prose
        } else {
            Form::Lines
        },
    };
    let text = corpus(&arguments.text);
    let counted = |keep: &dyn Fn(u64) -> bool| -> Result<Estimate> {
        let mut counter = Counter::new(&config)?;
        let mut number = 0;
        text.visit(|sentence| {
            number += 1;
            if keep(number) {
                counter.add(sentence)
            } else {
                Ok(())
            }
        })?;
        Ok(counter.estimate()?)
    };
    let estimate = counted(&|_| true)?;
    let mut arpa = Vec::new();
    estimate.write(&mut arpa)?;
    let model = NgramModel::read(&arpa[..]).context("the model cannot be read back")?;
    report(&estimate, &model);
    let mut perplexity = Perplexity::default();
    let said = if arguments.held_out.is_empty() {
        let is_held_out = |number: u64| number.is_multiple_of(HELD_OUT);
        let mut number = 0;
        match counted(&|number| !is_held_out(number)) {
            Ok(others) => {
                let mut arpa = Vec::new();
                others.write(&mut arpa)?;
                let others = NgramModel::read(&arpa[..])?;
                text.visit(|sentence| {
                    number += 1;
                    if is_held_out(number) {
                        perplexity.add(&others, unit, sentence);
                    }
                    Ok(())
                })?;
            }
            // A text of a sentence or two leaves nothing to estimate from.
            Err(_) => perplexity = Perplexity::default(),
        }
        format!("every {HELD_OUT}th sentence, by a model of the others")
    } else {
        corpus(&arguments.held_out).visit(|sentence| {
            perplexity.add(&model, unit, sentence);
            Ok(())
        })?;
        "the text held out".to_owned()
    };
    let all = perplexity.known + perplexity.unknown;
    match all {
        0 => println!("too little text to hold some out for the perplexity"),
        _ => println!(
            "perplexity {:.2} on {said}: {all} words, {} of them ({:.2} %) unknown and left out",
            perplexity.value(),
            perplexity.unknown,
            100.0 * perplexity.unknown as f64 / all as f64
        ),
    }
    let bytes = match arguments.out.extension().is_some_and(|end| end == "gz") {
        false => arpa,
        true => {
            // Without name and time in its header, so that the same text gives the same bytes.
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(&arpa)?;
            encoder.finish()?
        }
    };
    write_atomically(&arguments.out, &bytes)?;
    println!(
        "{} ({:.2} MB)",
        arguments.out.display(),
        bytes.len() as f64 / 1e6
    );
    Ok(())
}

fn report(estimate: &Estimate, model: &NgramModel) {
    println!(
        "{} sentences, {} words with the sentences' ends, {} different",
        estimate.sentences(),
        estimate.tokens(),
        // Without <unk> and <s>, which no text has.
        model.vocabulary() - 2
    );
    println!("| order | n-grams | pruned | discounts |\n|---|---|---|---|");
    for (n, order) in (1..).zip(estimate.reports()) {
        let [one, two, more] = order.discounts.amounts;
        let note = match order.discounts.derived {
            true => "",
            false => " (the usual ones: too few rare n-grams to derive them)",
        };
        println!(
            "| {n} | {} | {} | {one:.4} {two:.4} {more:.4}{note} |",
            order.kept, order.pruned
        );
    }
    println!(
        "{:.2} MB in memory, {:.1} bytes an n-gram",
        model.bytes() as f64 / 1e6,
        model.bytes() as f64 / model.len() as f64
    );
}
