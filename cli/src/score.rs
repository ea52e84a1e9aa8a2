//! `acolyte score`: error rates of transcripts against references.
//!
//! A side is a text file, one utterance a line, or JSON lines with `text` and, to be matched by, `path` or
//! `audio_filepath`: what `acolyte transcribe --json` writes and what training manifests are. Rates are in
//! percent.

use crate::Outcome;
use acolyte::metrics::{ErrorCounts, char_errors, word_errors};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Word and character error rates of transcripts against references
///
/// Both files hold one utterance a line, as plain text or as JSON objects with `text` and `path` or
/// `audio_filepath`. Objects are matched by path, or by file name where that is enough; everything else by
/// line. An utterance without a transcript counts as all words missed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What was said
    #[arg(value_name = "REF")]
    reference: PathBuf,
    /// What was recognized
    #[arg(value_name = "HYP")]
    hypothesis: PathBuf,
    /// One JSON object
    #[arg(long)]
    json: bool,
    /// Compare in lower case
    #[arg(long)]
    ignore_case: bool,
    /// Show the N utterances with the most errors
    #[arg(long, value_name = "N", default_value_t = 5)]
    worst: usize,
}

/// One utterance of a file.
#[derive(Debug, Clone, Default, Deserialize)]
struct Line {
    #[serde(default)]
    text: Option<String>,
    #[serde(default, alias = "audio_filepath")]
    path: Option<String>,
}

/// One utterance of both.
#[derive(Debug)]
struct Pair {
    name: String,
    reference: String,
    /// Absent where nothing was recognized for it.
    hypothesis: Option<String>,
}

#[derive(Debug, Serialize)]
struct Score {
    /// Word error rate in percent.
    wer: f64,
    /// Character error rate in percent.
    cer: f64,
    words: ErrorCounts,
    characters: ErrorCounts,
    utterances: usize,
    /// Utterances without a transcript.
    missing: usize,
    worst: Vec<Bad>,
}

/// An utterance with errors.
#[derive(Debug, Clone, Serialize)]
struct Bad {
    name: String,
    reference: String,
    hypothesis: String,
    words: ErrorCounts,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<Outcome> {
    let reference = read(&args.reference)?;
    let hypothesis = read(&args.hypothesis)?;
    let folder = args.reference.parent().unwrap_or(Path::new(""));
    let mut pairs = pairs(reference, hypothesis, folder).with_context(|| {
        let (reference, hypothesis) = (args.reference.display(), args.hypothesis.display());
        format!("{reference} and {hypothesis}")
    })?;
    if args.ignore_case {
        for pair in &mut pairs {
            pair.reference = pair.reference.to_lowercase();
            pair.hypothesis = pair.hypothesis.as_deref().map(str::to_lowercase);
        }
    }
    let score = score(&pairs, args.worst);
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&score)?)?;
    } else {
        write(&score, out)?;
    }
    Ok(Outcome::Done)
}

fn read(path: &Path) -> Result<Vec<Line>> {
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    parse(&text).with_context(|| name.to_string())
}

fn parse(text: &str) -> Result<Vec<Line>> {
    if !text.trim_start().starts_with('{') {
        let lines = text.lines().map(|line| Line {
            text: Some(line.to_owned()),
            path: None,
        });
        return Ok(lines.collect());
    }
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(at, line)| {
            serde_json::from_str(line).with_context(|| {
                let number = at + 1;
                format!(
                    "line {number} is no JSON object with `text` and `path` or `audio_filepath`"
                )
            })
        })
        .collect()
}

/// The utterances of the reference with their transcripts.
fn pairs(reference: Vec<Line>, hypothesis: Vec<Line>, folder: &Path) -> Result<Vec<Pair>> {
    let named = |lines: &[Line]| !lines.is_empty() && lines.iter().all(|line| line.path.is_some());
    if named(&reference) && named(&hypothesis) {
        return by_path(reference, hypothesis, folder);
    }
    if reference.len() != hypothesis.len() {
        bail!(
            "{} utterances in the reference and {} in the transcripts: they are matched by line, so there must be \
             as many (JSON lines with `path` on both sides are matched by path)",
            reference.len(),
            hypothesis.len()
        );
    }
    let both = reference.into_iter().zip(hypothesis).enumerate();
    both.map(|(at, (reference, hypothesis))| {
        let name = reference.path.unwrap_or_else(|| format!("line {}", at + 1));
        let reference = reference.text;
        Ok(Pair {
            reference: reference.with_context(|| format!("{name}: the reference has no text"))?,
            hypothesis: hypothesis.text,
            name,
        })
    })
    .collect()
}

fn by_path(reference: Vec<Line>, hypothesis: Vec<Line>, folder: &Path) -> Result<Vec<Pair>> {
    let mut exact: HashMap<PathBuf, Option<String>> = HashMap::new();
    // A file name that occurs twice identifies nothing.
    let mut by_name: HashMap<String, Option<Option<String>>> = HashMap::new();
    for line in hypothesis {
        let path = PathBuf::from(line.path.unwrap_or_default());
        by_name
            .entry(file_name(&path))
            .and_modify(|known| *known = None)
            .or_insert_with(|| Some(line.text.clone()));
        exact.insert(path, line.text);
    }
    let pairs = reference.into_iter().map(|line| {
        let name = line.path.unwrap_or_default();
        let path = Path::new(&name);
        let found = exact
            .get(path)
            .or_else(|| exact.get(&folder.join(path)))
            .or_else(|| by_name.get(&file_name(path))?.as_ref());
        Ok(Pair {
            hypothesis: found.cloned().flatten(),
            reference: line
                .text
                .with_context(|| format!("{name}: the reference has no text"))?,
            name,
        })
    });
    let pairs: Vec<Pair> = pairs.collect::<Result<_>>()?;
    if pairs.iter().all(|pair| pair.hypothesis.is_none()) {
        bail!(
            "no utterance of the reference has a transcript: do the paths belong to the same recordings?"
        );
    }
    Ok(pairs)
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

fn score(pairs: &[Pair], worst: usize) -> Score {
    let (mut words, mut characters) = (ErrorCounts::default(), ErrorCounts::default());
    let mut bad = Vec::new();
    for pair in pairs {
        let hypothesis = pair.hypothesis.as_deref().unwrap_or_default();
        let own = word_errors(&pair.reference, hypothesis);
        words += own;
        characters += char_errors(&pair.reference, hypothesis);
        if own.edits() > 0 {
            bad.push(Bad {
                name: pair.name.clone(),
                reference: pair.reference.clone(),
                hypothesis: hypothesis.to_owned(),
                words: own,
            });
        }
    }
    bad.sort_by(|a, b| {
        let edits = b.words.edits().cmp(&a.words.edits());
        edits.then(b.words.rate().total_cmp(&a.words.rate()))
    });
    bad.truncate(worst);
    Score {
        wer: 100.0 * words.rate(),
        cer: 100.0 * characters.rate(),
        words,
        characters,
        utterances: pairs.len(),
        missing: pairs.iter().filter(|p| p.hypothesis.is_none()).count(),
        worst: bad,
    }
}

fn write(score: &Score, out: &mut dyn Write) -> Result<()> {
    let rows = [
        ("WER", score.wer, &score.words),
        ("CER", score.cer, &score.characters),
    ];
    for (name, percent, counts) in rows {
        writeln!(
            out,
            "{name} {percent:6.2} %  {} substituted, {} deleted, {} inserted of {}",
            counts.substitutions, counts.deletions, counts.insertions, counts.reference
        )?;
    }
    let missing = match score.missing {
        0 => String::new(),
        missing => format!(", {missing} without a transcript"),
    };
    writeln!(out, "{} utterances{missing}", score.utterances)?;
    for bad in &score.worst {
        writeln!(out, "\n{} ({} errors)", bad.name, bad.words.edits())?;
        writeln!(out, "  ref {}\n  hyp {}", bad.reference, bad.hypothesis)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(reference: &str, hypothesis: &str) -> Result<Score> {
        let pairs = pairs(parse(reference)?, parse(hypothesis)?, Path::new("data"))?;
        Ok(score(&pairs, 5))
    }

    #[test]
    fn text_is_matched_by_line() {
        let score = scored("the cat\n\non a mat\n", "the hat\nso\non mat\n").unwrap();
        let words = score.words;
        assert_eq!(
            (words.substitutions, words.deletions, words.insertions),
            (1, 1, 1)
        );
        assert_eq!((words.reference, score.utterances), (5, 3));
        assert!((score.wer - 60.0).abs() < 1e-9);
        assert_eq!(score.worst.len(), 3);
        assert_eq!(score.worst[0].name, "line 2");
    }

    #[test]
    fn objects_are_matched_by_path_folder_or_name_in_any_order() {
        let reference = r#"{"audio_filepath": "dev/a.wav", "text": "one", "duration": 1.0}
                           {"audio_filepath": "dev/b.wav", "text": "two"}
                           {"audio_filepath": "dev/c.wav", "text": "three"}
                           {"audio_filepath": "dev/d.wav", "text": "four"}"#;
        let hypothesis = r#"{"path": "elsewhere/c.wav", "text": "three"}
                            {"path": "data/dev/b.wav", "text": "two"}
                            {"path": "dev/a.wav", "text": "one", "confidence": 0.9}
                            {"path": "dev/d.wav", "error": "no such file"}"#;
        let score = scored(reference, hypothesis).unwrap();
        assert_eq!((score.words.deletions, score.words.edits()), (1, 1));
        assert_eq!(
            (score.missing, score.worst[0].name.as_str()),
            (1, "dev/d.wav")
        );
    }

    #[test]
    fn what_cannot_be_matched_is_refused() {
        for (reference, hypothesis, words) in [
            ("a\nb\n", "a\n", "2 utterances in the reference and 1"),
            (
                "{\"text\": \"a\", \"path\": \"x\"}",
                "{\"text\": \"a\", \"path\": \"y\"}",
                "no utterance",
            ),
            ("{\"text\": \"a\"}\nb", "a\nb", "line 2"),
            (
                "{\"path\": \"x\"}",
                "{\"path\": \"x\", \"text\": \"a\"}",
                "no text",
            ),
        ] {
            let error = format!("{:#}", scored(reference, hypothesis).unwrap_err());
            assert!(error.contains(words), "{error} lacks {words}");
        }
    }
}
