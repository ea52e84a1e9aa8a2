//! Settings as people keep them: lists in text files, and a saved set of settings.
//!
//! Lists are UTF-8, one entry a line; empty lines, spaces around entries and a byte-order mark are ignored. A
//! hotword may have
//! a tab and its boost after it; of a lexicon only what stands before a tab is read.

use super::config::{BeamSearch, Decoding, LanguageModel, Lexicon, LmUnit, OpenVocabulary, Search};
use super::constraint::Constraint;
use super::hotwords::Hotword;
use super::ngram::NgramModel;
use crate::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest list read, in bytes.
const MOST_BYTES: u64 = 1 << 28;

/// The boost of a hotword without one, in nats.
pub const DEFAULT_BOOST: f32 = 4.0;

/// The weight of a language model without one.
pub const DEFAULT_LM_WEIGHT: f32 = 0.5;

/// The beam width where something is asked for that greedy decoding cannot do.
pub const DEFAULT_BEAM: usize = 25;

/// A set of decoding settings with files in place of what they hold: what a command line or a settings file says.
///
/// Paths are relative to the folder that [`resolve`](DecodingFile::resolve) is given.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct DecodingFile {
    /// Beam width; 0 is greedy. Without it a beam is used where the other settings need one.
    pub beam: Option<usize>,
    /// Readings to return.
    pub nbest: Option<usize>,
    /// Taken off the blank's log-prob, in nats.
    pub blank_penalty: Option<f32>,
    /// Added per word, in nats.
    pub word_bonus: Option<f32>,
    /// A language model in ARPA format.
    pub lm: Option<PathBuf>,
    /// The factor on its log-probs.
    pub lm_weight: Option<f32>,
    /// A list of the words there are.
    pub lexicon: Option<PathBuf>,
    /// Whether words outside the lexicon are allowed, at a cost.
    pub lexicon_open: Option<bool>,
    /// What such a word costs once, in nats.
    pub lexicon_open_word: Option<f32>,
    /// What such a word costs for every letter that leaves the lexicon, in nats.
    pub lexicon_open_letter: Option<f32>,
    /// A list of hotwords.
    pub hotwords: Option<PathBuf>,
    /// A list of the phrases there are.
    pub phrases: Option<PathBuf>,
    /// The characters there are.
    pub alphabet: Option<String>,
    /// The shape of the text, such as `AA-000`.
    pub pattern: Option<String>,
    /// The margin below which a constrained reading is rejected, in nats.
    pub reject: Option<f32>,
}

impl DecodingFile {
    /// The same with what `over` says in place of its own.
    #[must_use]
    pub fn overridden_by(self, over: Self) -> Self {
        Self {
            beam: over.beam.or(self.beam),
            nbest: over.nbest.or(self.nbest),
            blank_penalty: over.blank_penalty.or(self.blank_penalty),
            word_bonus: over.word_bonus.or(self.word_bonus),
            lm: over.lm.or(self.lm),
            lm_weight: over.lm_weight.or(self.lm_weight),
            lexicon: over.lexicon.or(self.lexicon),
            lexicon_open: over.lexicon_open.or(self.lexicon_open),
            lexicon_open_word: over.lexicon_open_word.or(self.lexicon_open_word),
            lexicon_open_letter: over.lexicon_open_letter.or(self.lexicon_open_letter),
            hotwords: over.hotwords.or(self.hotwords),
            phrases: over.phrases.or(self.phrases),
            alphabet: over.alphabet.or(self.alphabet),
            pattern: over.pattern.or(self.pattern),
            reject: over.reject.or(self.reject),
        }
    }

    /// The same with paths that are relative to `folder` made relative to the working directory.
    #[must_use]
    pub fn within(mut self, folder: &Path) -> Self {
        let paths = [
            &mut self.lm,
            &mut self.lexicon,
            &mut self.hotwords,
            &mut self.phrases,
        ];
        for path in paths.into_iter().flatten() {
            *path = folder.join(&*path);
        }
        self
    }

    /// Refuses settings that would have no effect: what was meant is something else.
    fn check(&self) -> Result<()> {
        let refuse = |message: &str| Err(Error::new(ErrorKind::InvalidArgument, message));
        if self.lm.is_none() && self.lm_weight.is_some() {
            return refuse("lm-weight is given without lm, the model it weighs");
        }
        let costs = self.lexicon_open_word.or(self.lexicon_open_letter);
        if self.lexicon.is_none() && (costs.is_some() || self.lexicon_open == Some(true)) {
            return refuse("an open lexicon is asked for without lexicon, the list of words");
        }
        let constrained =
            self.alphabet.is_some() || self.phrases.is_some() || self.pattern.is_some();
        if self.reject.is_some() && !constrained {
            return refuse(
                "reject is given without phrases, alphabet or pattern: only what is constrained has a margin",
            );
        }
        if self.beam == Some(0) && self.nbest.is_some_and(|count| count > 1) {
            return refuse("greedy decoding (beam 0) has one reading only; nbest needs a beam");
        }
        Ok(())
    }

    /// Reads the files and makes the settings.
    ///
    /// Fails with [`ErrorKind::InvalidArgument`] on a setting that only means something together with one
    /// that is missing, with [`ErrorKind::Io`] where a file cannot be read, and as [`read_list`],
    /// [`read_hotwords`] and [`NgramModel::open`] do.
    pub fn resolve(&self, folder: &Path) -> Result<Decoding> {
        self.check()?;
        let needs_beam = self.lm.is_some()
            || self.lexicon.is_some()
            || self.hotwords.is_some()
            || self.word_bonus.is_some_and(|bonus| bonus != 0.0)
            || self.nbest.is_some_and(|count| count > 1);
        let mut decoding = Decoding::default();
        match self.beam {
            Some(0) => {}
            None if !needs_beam => {}
            width => {
                decoding.search = Search::Beam(BeamSearch {
                    width: width.unwrap_or(DEFAULT_BEAM),
                    ..BeamSearch::default()
                });
            }
        }
        decoding.n_best = self.nbest.unwrap_or(1);
        decoding.blank_penalty = self.blank_penalty.unwrap_or(0.0);
        decoding.word_bonus = self.word_bonus.unwrap_or(0.0);
        decoding.reject = self.reject;
        if let Some(path) = &self.lm {
            decoding.lm = Some(LanguageModel {
                model: Arc::new(NgramModel::open(folder.join(path))?),
                weight: self.lm_weight.unwrap_or(DEFAULT_LM_WEIGHT),
                unit: LmUnit::Detect,
            });
        }
        if let Some(path) = &self.lexicon {
            let entries = read_list(&folder.join(path))?;
            let words = entries.iter().filter_map(|entry| entry.split('\t').next());
            decoding.lexicon = Some(Lexicon {
                words: words.map(|word| word.trim().to_owned()).collect(),
                open: self.open_vocabulary(),
            });
        }
        if let Some(path) = &self.hotwords {
            decoding.hotwords = read_hotwords(&folder.join(path), DEFAULT_BOOST)?;
        }
        if let Some(alphabet) = &self.alphabet {
            decoding = decoding.constrain(Constraint::Alphabet(alphabet.clone()));
        }
        if let Some(path) = &self.phrases {
            decoding = decoding.constrain(Constraint::Phrases(read_list(&folder.join(path))?));
        }
        if let Some(pattern) = &self.pattern {
            decoding = decoding.constrain(Constraint::Pattern(pattern.clone()));
        }
        Ok(decoding)
    }

    /// Naming a cost is asking for an open vocabulary, unless it is denied.
    fn open_vocabulary(&self) -> Option<OpenVocabulary> {
        let costs = self.lexicon_open_word.or(self.lexicon_open_letter);
        let default = OpenVocabulary::default();
        self.lexicon_open
            .unwrap_or(costs.is_some())
            .then(|| OpenVocabulary {
                per_word: self.lexicon_open_word.unwrap_or(default.per_word),
                per_letter: self.lexicon_open_letter.unwrap_or(default.per_letter),
            })
    }
}

/// Reads a list: one entry a line.
///
/// Fails with [`ErrorKind::Io`], with [`ErrorKind::Limit`] above 256 MiB, and with [`ErrorKind::Malformed`]
/// where the file is not UTF-8
/// or holds no entry.
pub fn read_list(path: &Path) -> Result<Vec<String>> {
    let size = std::fs::metadata(path)
        .map_err(|error| Error::io(path, error))?
        .len();
    if size > MOST_BYTES {
        let message = format!("the list has {size} bytes; at most {MOST_BYTES} are read");
        return Err(Error::new(ErrorKind::Limit, message).with_path(path));
    }
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, error))?;
    parse_list(&bytes).map_err(|error| error.with_path(path))
}

/// Reads a list of hotwords: one a line, optionally with a tab and its boost after it.
///
/// Fails as [`read_list`] does, and with [`ErrorKind::Malformed`] where a boost is no number.
pub fn read_hotwords(path: &Path, default_boost: f32) -> Result<Vec<Hotword>> {
    let entries = read_list(path)?;
    let hotword = |entry: &String| parse_hotword(entry, default_boost);
    let hotwords: Result<Vec<Hotword>> = entries.iter().map(hotword).collect();
    hotwords.map_err(|error| error.with_path(path))
}

fn parse_list(bytes: &[u8]) -> Result<Vec<String>> {
    let malformed = |message: String| Err(Error::new(ErrorKind::Malformed, message));
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let line = 1 + bytes[..error.valid_up_to()]
                .iter()
                .filter(|&&b| b == b'\n')
                .count();
            return malformed(format!("line {line} is not UTF-8; save the list as UTF-8"));
        }
    };
    let entries = text
        .lines()
        .map(str::trim)
        .filter(|entry| !entry.is_empty());
    let entries: Vec<String> = entries.map(str::to_owned).collect();
    if entries.is_empty() {
        return malformed("the list has no entries; write one a line".into());
    }
    Ok(entries)
}

fn parse_hotword(entry: &str, default_boost: f32) -> Result<Hotword> {
    let Some((phrase, boost)) = entry.split_once('\t') else {
        return Ok(Hotword::new(entry, default_boost));
    };
    match boost.trim().parse() {
        Ok(boost) => Ok(Hotword::new(phrase.trim(), boost)),
        Err(_) => {
            let message = format!("the boost {boost:?} of hotword {phrase:?} is no number");
            Err(Error::new(ErrorKind::Malformed, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_lines() {
        let list = parse_list("\u{feff}one\r\n\n  two words \nthree\t2.5".as_bytes()).unwrap();
        assert_eq!(list, ["one", "two words", "three\t2.5"]);
        assert_eq!(
            parse_hotword(&list[2], 4.0).unwrap(),
            Hotword::new("three", 2.5)
        );
        assert_eq!(
            parse_hotword(&list[0], 4.0).unwrap(),
            Hotword::new("one", 4.0)
        );
        for (bytes, message) in [(&b"a\n\xff"[..], "line 2"), (b" \n", "no entries")] {
            let error = parse_list(bytes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed);
            assert!(error.to_string().contains(message), "{error}");
        }
        let error = parse_hotword("a\tmuch", 4.0).unwrap_err();
        assert!(error.to_string().contains("no number"), "{error}");
    }

    #[test]
    fn files_become_settings() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("words.txt", "a\t a\nab\n");
        write("hot.txt", "ab\t3\n");
        write("phrases.txt", "a b\n");
        write(
            "lm.arpa",
            "\\data\\\nngram 1=1\n\\1-grams:\n-1 ab\n\\end\\\n",
        );
        let text = r#"{"lm": "lm.arpa", "lexicon": "words.txt", "lexicon-open-word": 2, "hotwords": "hot.txt",
            "phrases": "phrases.txt", "pattern": "A A", "alphabet": "ab", "reject": -8, "nbest": 3}"#;
        let file: DecodingFile = serde_json::from_str(text).unwrap();
        let decoding = file.resolve(folder.path()).unwrap();
        assert!(matches!(decoding.search, Search::Beam(beam) if beam.width == DEFAULT_BEAM));
        let lexicon = decoding.lexicon.unwrap();
        assert_eq!(lexicon.words, ["a", "ab"]);
        assert_eq!(lexicon.open.map(|open| open.per_word), Some(2.0));
        assert_eq!(decoding.hotwords, [Hotword::new("ab", 3.0)]);
        assert_eq!(decoding.constraints.len(), 3);
        assert_eq!((decoding.reject, decoding.n_best), (Some(-8.0), 3));
        let greedy = DecodingFile::default().resolve(folder.path()).unwrap();
        assert_eq!(greedy.search, Search::Greedy);
        assert!(serde_json::from_str::<DecodingFile>(r#"{"beams": 3}"#).is_err());
        let short = r#"{"hotwords": "hot.txt", "nbest": 2, "lm-weight": 0.9}"#;
        let over: DecodingFile = serde_json::from_str(short).unwrap();
        let both = file.within(folder.path());
        let both = both.overridden_by(over.within(folder.path()));
        let decoding = both.resolve(Path::new("elsewhere")).unwrap();
        assert_eq!((decoding.reject, decoding.n_best), (Some(-8.0), 2));
        assert_eq!(decoding.lm.unwrap().weight, 0.9);
        let missing = DecodingFile {
            phrases: Some("none.txt".into()),
            ..DecodingFile::default()
        };
        let error = missing.resolve(folder.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("none.txt"), "{error}");
    }

    #[test]
    fn settings_without_effect_are_refused() {
        for (text, message) in [
            (r#"{"lm-weight": 1}"#, "without lm"),
            (r#"{"lexicon-open": true}"#, "without lexicon"),
            (r#"{"lexicon-open-letter": 1}"#, "without lexicon"),
            (r#"{"reject": -5}"#, "without phrases"),
            (r#"{"beam": 0, "nbest": 2}"#, "needs a beam"),
        ] {
            let file: DecodingFile = serde_json::from_str(text).unwrap();
            let error = file.resolve(Path::new("")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(
                error.to_string().contains(message),
                "{error} lacks {message}"
            );
        }
    }
}
