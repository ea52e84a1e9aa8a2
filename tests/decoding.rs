//! Every way of decoding from the command line, on the sample recordings and the shipped model.

use acolyte_tests::{acolyte, repository};
use acolyte_trainer::lm::{Counter, LmConfig, Unit};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder with lists, models and settings files.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write("commands.txt", "\u{feff}stop\r\n\n left \nyes\nno\ngo\n");
        files.write(
            "words.txt",
            "stop\tS T OH P\nleft\nyes\none\ntwo\nthree\nfour\nfive\nhundred\n",
        );
        files.write("hot.txt", "hundred\t6\nfive hundred\n");
        let mut words = Counter::new(&LmConfig::default().with_order(2)).unwrap();
        let mut letters = LmConfig::default()
            .with_order(3)
            .with_unit(Unit::Characters);
        letters.prune = vec![0, 0, 1];
        let mut letters = Counter::new(&letters).unwrap();
        for sentence in [
            "five hundred",
            "one two three four",
            "two hundred",
            "four hundred one",
        ] {
            words.add(sentence).unwrap();
            letters.add(sentence).unwrap();
        }
        for (name, counter) in [("words.arpa", words), ("letters.arpa", letters)] {
            let mut bytes = Vec::new();
            counter.estimate().unwrap().write(&mut bytes).unwrap();
            std::fs::write(files.path(name), bytes).unwrap();
        }
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    /// Runs `acolyte` in this folder, so that its lists go by their names.
    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(acolyte())
            .current_dir(self.0.path())
            .args(arguments)
            .output()
            .unwrap()
    }

    /// What `transcribe --json` says of a sample.
    fn said(&self, name: &str, options: &[&str]) -> Value {
        let file = sample(name);
        let output = self.run(&[&["transcribe", "--json", &file], options].concat());
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{options:?}: {err}");
        serde_json::from_str(out.trim()).unwrap()
    }
}

fn sample(name: &str) -> String {
    let path = repository().join("examples/samples").join(name);
    path.to_str().unwrap().to_owned()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn string<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key]
        .as_str()
        .unwrap_or_else(|| panic!("no {key} in {row}"))
}

#[test]
fn every_option_is_obeyed() {
    let files = Files::new();
    let row = files.said("number.wav", &["--beam", "20", "--nbest", "4"]);
    let others = row["alternatives"].as_array().unwrap();
    assert!((1..4).contains(&others.len()), "{row}");
    assert!(others.iter().all(|other| other["text"] != row["text"]));
    let letters = files.said("number.wav", &["--alphabet", "fivehundr"]);
    assert!(
        string(&letters, "text")
            .chars()
            .all(|c| "fivehundr ".contains(c)),
        "{letters}"
    );
    assert!(letters["margin"].as_f64().unwrap() <= 0.0);
    let shape = files.said("command-stop.wav", &["--pattern", "AAAA AA"]);
    let lengths: Vec<usize> = string(&shape, "text").split(' ').map(str::len).collect();
    assert_eq!(lengths, [4, 2], "{shape}");
    let listed = files.said("command-stop.wav", &["--phrases", "commands.txt"]);
    assert_eq!(listed["text"], "stop");
    let known = files.said("number.wav", &["--lexicon", "words.txt"]);
    let words = [
        "stop", "left", "yes", "one", "two", "three", "four", "five", "hundred",
    ];
    assert!(
        string(&known, "text")
            .split(' ')
            .all(|word| words.contains(&word)),
        "{known}"
    );
    for options in [
        &[
            "--lm",
            "words.arpa",
            "--lm-weight",
            "0.8",
            "--word-bonus",
            "1",
        ][..],
        &["--lm", "letters.arpa", "--beam", "12"],
        &["--hotwords", "hot.txt"],
        &[
            "--lexicon",
            "words.txt",
            "--lexicon-open",
            "--lexicon-open-word",
            "3",
        ],
        &["--blank-penalty", "-0.5"],
    ] {
        let row = files.said("number.wav", options);
        assert!(!string(&row, "text").is_empty() && !row["words"].as_array().unwrap().is_empty());
        assert!(row.get("margin").is_none(), "{options:?}");
    }
}

#[test]
fn language_model_lexicon_and_hotwords_set_text_right() {
    let files = Files::new();
    let options = [
        "--lm",
        "words.arpa",
        "--lexicon",
        "words.txt",
        "--hotwords",
        "hot.txt",
    ];
    assert_eq!(files.said("number.wav", &options)["text"], "five hundred");
    assert_eq!(
        files.said("digits.wav", &options)["text"],
        "one two three four"
    );
}

#[test]
fn what_is_outside_the_list_is_rejected_and_nothing_without_asking() {
    let files = Files::new();
    let forced = files.said("sentence-door.wav", &["--phrases", "commands.txt"]);
    assert!(!string(&forced, "text").is_empty());
    let margin = forced["margin"].as_f64().unwrap();
    let inside = files.said("command-stop.wav", &["--phrases", "commands.txt"]);
    let least = inside["margin"].as_f64().unwrap();
    assert!(margin < least - 5.0, "{margin} is not far below {least}");
    let between = format!("{}", (margin + least) / 2.0);
    let options = ["--phrases", "commands.txt", "--reject", &between];
    let outside = files.said("sentence-door.wav", &options);
    assert_eq!(
        (&outside["text"], &outside["rejected"]),
        (&"".into(), &forced["text"])
    );
    let inside = files.said("command-stop.wav", &options);
    assert_eq!(
        (&inside["text"], inside.get("rejected")),
        (&"stop".into(), None)
    );
}

#[test]
fn a_settings_file_says_the_same_as_options() {
    let files = Files::new();
    let sub = files.path("saved");
    std::fs::create_dir(&sub).unwrap();
    std::fs::write(
        sub.join("numbers.toml"),
        "# settings for numbers\nbeam = 30\nlm = \"../words.arpa\"\nlm-weight = 0.7\nhotwords = \"../hot.txt\"\nnbest = 2\n",
    )
    .unwrap();
    let file = files.said("number.wav", &["--decoding", "saved/numbers.toml"]);
    let options = [
        "--beam",
        "30",
        "--lm",
        "words.arpa",
        "--lm-weight",
        "0.7",
        "--hotwords",
        "hot.txt",
        "--nbest",
        "2",
    ];
    let given = files.said("number.wav", &options);
    for key in ["text", "confidence", "words", "alternatives"] {
        assert_eq!(file[key], given[key], "{key}");
    }
    let over = files.said(
        "number.wav",
        &["--decoding", "saved/numbers.toml", "--nbest", "1"],
    );
    assert!(over.get("alternatives").is_none());
}

#[test]
fn mistakes_are_named_before_anything_is_decoded() {
    let files = Files::new();
    files.write("empty.txt", "\n \n");
    files.write("latin1.txt", "");
    std::fs::write(files.path("latin1.txt"), b"a\ncaf\xe9\n").unwrap();
    files.write("capital.txt", "stop\nStop\n");
    files.write("boost.txt", "stop\tmuch\n");
    files.write("twice.txt", "stop\t1\nstop\t2\n");
    files.write(
        "bad.arpa",
        "\\data\\\nngram 1=2\n\\1-grams:\n-1 a\n\\end\\\n",
    );
    files.write("bad.toml", "beam = 3\nlmweight = 1\n");
    for (options, message) in [
        (&["--lm", "none.arpa"][..], "none.arpa"),
        (&["--lm", "bad.arpa"], "bad.arpa: line 5"),
        (&["--lm-weight", "1"], "without lm"),
        (
            &["--lm", "words.arpa", "--lm-weight", "-1"],
            "weight must be from 0",
        ),
        (&["--lm", "words.arpa", "--beam", "0"], "greedy"),
        (
            &["--lexicon", "empty.txt"],
            "empty.txt: the list has no entries",
        ),
        (
            &["--lexicon", "latin1.txt"],
            "latin1.txt: line 2 is not UTF-8",
        ),
        (
            &["--lexicon", "capital.txt"],
            "lexicon word: the tokens cannot spell 'S'",
        ),
        (
            &["--phrases", "capital.txt"],
            "phrase: the tokens cannot spell 'S'",
        ),
        (
            &["--hotwords", "capital.txt"],
            "hotword: the tokens cannot spell 'S'",
        ),
        (
            &["--hotwords", "boost.txt"],
            "boost.txt: the boost \"much\"",
        ),
        (&["--hotwords", "twice.txt"], "comes twice"),
        (&["--alphabet", "ABC"], "no token"),
        (&["--pattern", "A\\"], "backslash"),
        (&["--pattern", ""], "is empty"),
        (&["--reject", "-3"], "without phrases"),
        (&["--decoding", "none.toml"], "none.toml"),
        (&["--decoding", "bad.toml"], "lmweight"),
        (&["--beam", "0", "--nbest", "2"], "needs a beam"),
        (&["--word-bonus", "inf"], "finite"),
    ] {
        let output = files.run(&[&["transcribe", &sample("command-stop.wav")], options].concat());
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{options:?}: {err}");
        assert!(
            err.starts_with("acolyte: ") && err.contains(message),
            "{options:?}: {err}"
        );
        assert!(output.stdout.is_empty(), "{options:?}");
    }
    for options in [
        &["--beam", "-1"][..],
        &["--nbest", "0"],
        &["--reject"],
        &["--lm-weight", "x"],
    ] {
        let output = files.run(&[&["transcribe", &sample("command-stop.wav")], options].concat());
        assert_eq!(output.status.code(), Some(2), "{options:?}");
    }
}

#[test]
fn settings_are_compared_on_a_manifest() {
    let files = Files::new();
    files.write("greedy.toml", "");
    files.write(
        "numbers.toml",
        "lexicon = \"words.txt\"\nlm = \"words.arpa\"\n",
    );
    let manifest = repository().join("examples/samples/samples.jsonl");
    let manifest = manifest.to_str().unwrap();
    let settings = ["--decoding", "greedy.toml", "--decoding", "numbers.toml"];
    let table = files.run(&[&["tune", manifest], &settings[..]].concat());
    let shown = text(&table.stdout);
    assert!(table.status.success(), "{}", text(&table.stderr));
    assert_eq!(shown.lines().count(), 4, "{shown}");
    assert!(
        shown.contains("| greedy | ") && shown.contains("| numbers | "),
        "{shown}"
    );
    let rows = files.run(&[&["tune", manifest, "--json"], &settings[..]].concat());
    let rows: Vec<Value> = text(&rows.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), 2 * 9);
    for row in &rows {
        assert_eq!(
            row["word_errors"]["reference"],
            string(row, "reference").split(' ').count()
        );
        for word in row["words"].as_array().unwrap() {
            if let Some(at) = word["matches"].as_u64() {
                assert_eq!(
                    string(row, "reference").split(' ').nth(at as usize),
                    word["text"].as_str()
                );
            }
        }
    }
    let windows = files.run(&["tune", manifest, "--json", "--window", "0.5"]);
    assert!(text(&windows.stdout).lines().count() > 9);
    let none = Path::new("none.jsonl");
    let missing = files.run(&["tune", none.to_str().unwrap()]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("none.jsonl"));
}
