//! Options of every command that decodes, and the settings file that holds a set of them.
//!
//! Options and file say the same in the same words; an option given overrides the file's. Paths in the file are
//! relative to the file, paths on the command line to the working directory.

use acolyte::Decoding;
use acolyte::decode::DecodingFile;
use anyhow::{Context, Result, bail};
use clap::Args;
use clap::builder::RangedU64ValueParser;
use std::path::{Path, PathBuf};

/// The largest settings file read, in bytes.
const MOST_BYTES: u64 = 1 << 20;

/// How scores become text.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Decoding")]
pub struct DecodingArgs {
    /// Take settings from this file (TOML, the options below without dashes); options given override it
    #[arg(long, value_name = "FILE")]
    decoding: Option<PathBuf>,
    /// Search N prefixes at a time; 0 takes the best token of each frame [default: 0, or 25 where another option needs a beam]
    #[arg(long, value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(0..=100_000))]
    beam: Option<usize>,
    /// Return the N best readings [default: 1]
    #[arg(long, value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    nbest: Option<usize>,
    /// Language model in ARPA format, of words or characters, plain or gzip
    #[arg(long, value_name = "FILE")]
    lm: Option<PathBuf>,
    /// Factor on the language model's log-probs [default: 0.5]
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true)]
    lm_weight: Option<f32>,
    /// Added for each word, in nats [default: 0]
    #[arg(long, value_name = "NATS", allow_negative_numbers = true)]
    word_bonus: Option<f32>,
    /// Taken off the blank's log-prob in every frame: above 0 brings more tokens, below 0 fewer [default: 0]
    #[arg(long, value_name = "NATS", allow_negative_numbers = true)]
    blank_penalty: Option<f32>,
    /// Only words of this list, one a line
    #[arg(long, value_name = "FILE")]
    lexicon: Option<PathBuf>,
    /// Allow words outside the lexicon at a cost; `false` overrides the settings file
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    lexicon_open: Option<bool>,
    /// What a word outside the lexicon costs once, in nats; opens the lexicon [default: 5]
    #[arg(long, value_name = "NATS", allow_negative_numbers = true)]
    lexicon_open_word: Option<f32>,
    /// What such a word costs for each letter that leaves the lexicon, in nats; opens it [default: 1]
    #[arg(long, value_name = "NATS", allow_negative_numbers = true)]
    lexicon_open_letter: Option<f32>,
    /// Draw the search towards these phrases, one a line, optionally a tab and a boost in nats [default boost: 4]
    #[arg(long, value_name = "FILE")]
    hotwords: Option<PathBuf>,
    /// Only one of these phrases as the whole text, one a line
    #[arg(long, value_name = "FILE")]
    phrases: Option<PathBuf>,
    /// Only these characters
    #[arg(long, value_name = "CHARACTERS")]
    alphabet: Option<String>,
    /// Only a text of this shape: A a letter, 0 a digit, X either, \ takes the next character as itself
    #[arg(long, value_name = "SHAPE")]
    pattern: Option<String>,
    /// Reject what phrases, alphabet or pattern allow only with log-odds below this against anything else, in nats
    #[arg(long, value_name = "MARGIN", allow_negative_numbers = true)]
    reject: Option<f32>,
}

impl DecodingArgs {
    /// The settings that options and settings file mean, all files read.
    pub fn decoding(&self) -> Result<Decoding> {
        let file = match &self.decoding {
            Some(path) => read(path)?,
            None => DecodingFile::default(),
        };
        Ok(file.overridden_by(self.given()).resolve(Path::new(""))?)
    }

    /// The options given.
    fn given(&self) -> DecodingFile {
        let given = self.clone();
        DecodingFile {
            beam: given.beam,
            nbest: given.nbest,
            lm: given.lm,
            lm_weight: given.lm_weight,
            word_bonus: given.word_bonus,
            blank_penalty: given.blank_penalty,
            lexicon: given.lexicon,
            lexicon_open: given.lexicon_open,
            lexicon_open_word: given.lexicon_open_word,
            lexicon_open_letter: given.lexicon_open_letter,
            hotwords: given.hotwords,
            phrases: given.phrases,
            alphabet: given.alphabet,
            pattern: given.pattern,
            reject: given.reject,
        }
    }
}

/// Reads a settings file; its paths become relative to the working directory.
pub fn read(path: &Path) -> Result<DecodingFile> {
    let name = path.display();
    let size = std::fs::metadata(path)
        .with_context(|| format!("cannot read {name}"))?
        .len();
    if size > MOST_BYTES {
        bail!("{name} has {size} bytes: decoding settings are a small TOML file");
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    let file: DecodingFile =
        toml::from_str(&text).with_context(|| format!("{name} holds no decoding settings"))?;
    Ok(file.within(path.parent().unwrap_or(Path::new(""))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use acolyte::decode::{DEFAULT_BEAM, Search};
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        decoding: DecodingArgs,
    }

    fn parsed(arguments: &[&str]) -> DecodingArgs {
        Line::try_parse_from([&["acolyte"], arguments].concat())
            .unwrap()
            .decoding
    }

    fn width(decoding: &Decoding) -> usize {
        match decoding.search {
            Search::Beam(beam) => beam.width,
            _ => 0,
        }
    }

    #[test]
    fn options_override_the_file_and_paths_are_relative_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        write("words.txt", "yes\nno\n");
        let hot = write("hot.txt", "yes please\t6\nno\n");
        let text = "beam = 50\nnbest = 3\nlexicon = \"words.txt\"\nlexicon-open = true\nword-bonus = 0.5\n";
        let settings = write("settings.toml", text);
        let decoding = parsed(&["--decoding", &settings]).decoding().unwrap();
        assert_eq!((width(&decoding), decoding.n_best), (50, 3));
        let lexicon = decoding.lexicon.unwrap();
        assert_eq!((lexicon.words.len(), lexicon.open.is_some()), (2, true));
        let options = [
            "--decoding",
            &settings,
            "--beam",
            "7",
            "--lexicon-open=false",
            "--word-bonus",
            "-1",
            "--hotwords",
            &hot,
        ];
        let decoding = parsed(&options).decoding().unwrap();
        assert_eq!((width(&decoding), decoding.n_best), (7, 3));
        assert_eq!(decoding.word_bonus, -1.0);
        assert_eq!(decoding.lexicon.unwrap().open, None);
        let boosts: Vec<f32> = decoding.hotwords.iter().map(|h| h.boost).collect();
        assert_eq!(boosts, [6.0, 4.0]);
    }

    #[test]
    fn without_options_decoding_is_greedy() {
        assert_eq!(width(&parsed(&[]).decoding().unwrap()), 0);
        assert_eq!(
            width(&parsed(&["--nbest", "2"]).decoding().unwrap()),
            DEFAULT_BEAM
        );
        assert_eq!(width(&parsed(&["--nbest", "1"]).decoding().unwrap()), 0);
    }

    #[test]
    fn every_option_is_a_key_of_the_file() {
        let all = "beam = 1\nnbest = 1\nlm = 'a'\nlm-weight = 1\nword-bonus = 1\nblank-penalty = 1\n\
            lexicon = 'a'\nlexicon-open = true\nlexicon-open-word = 1\nlexicon-open-letter = 1\n\
            hotwords = 'a'\nphrases = 'a'\nalphabet = 'a'\npattern = 'a'\nreject = -1\n";
        let file: DecodingFile = toml::from_str(all).unwrap();
        let arguments = [
            "--beam",
            "1",
            "--nbest",
            "1",
            "--lm",
            "a",
            "--lm-weight",
            "1",
            "--word-bonus",
            "1",
            "--blank-penalty",
            "1",
            "--lexicon",
            "a",
            "--lexicon-open",
            "--lexicon-open-word",
            "1",
            "--lexicon-open-letter",
            "1",
            "--hotwords",
            "a",
            "--phrases",
            "a",
            "--alphabet",
            "a",
            "--pattern",
            "a",
            "--reject",
            "-1",
        ];
        assert_eq!(parsed(&arguments).given(), file);
    }

    #[test]
    fn bad_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bad.toml");
        for (text, message) in [("beams = 3", "unknown field"), ("beam = -1", "bad.toml")] {
            std::fs::write(&path, text).unwrap();
            let error = format!("{:#}", read(&path).unwrap_err());
            assert!(
                error.contains(message) && error.contains("bad.toml"),
                "{error}"
            );
        }
        let error = format!("{:#}", read(Path::new("no.toml")).unwrap_err());
        assert!(error.contains("no.toml"), "{error}");
    }
}
