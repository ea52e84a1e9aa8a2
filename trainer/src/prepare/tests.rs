//! `prepare` on small corpora of every layout.

use super::*;
use crate::data::manifest;
use proptest::prelude::*;

/// A folder that corpora are written into.
struct Corpus(tempfile::TempDir);

impl Corpus {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn text(&self, name: &str, text: &str) -> &Self {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    /// A tone of that many samples whose pitch is its own, so that no two files are equal.
    fn wav(&self, name: &str, samples: u32, hz: f32) -> &Self {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 16_000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(path, spec).unwrap();
        for i in 0..samples {
            let angle = i as f32 * hz / 16_000.0 * std::f32::consts::TAU;
            writer.write_sample((9_000.0 * angle.sin()) as i16).unwrap();
        }
        writer.finalize().unwrap();
        self
    }

    fn prepare(&self, change: impl FnOnce(&mut PrepareOptions)) -> Result<PrepareReport> {
        let mut options = PrepareOptions::new(self.path(), self.path().join("out"));
        change(&mut options);
        prepare(&options, &|_| ())
    }
}

fn texts(report: &PrepareReport) -> Vec<(String, Option<String>)> {
    let mut rows = manifest::read(&report.train.manifest).unwrap();
    if let Some(dev) = &report.dev {
        rows.extend(manifest::read(&dev.manifest).unwrap());
    }
    let mut texts: Vec<_> = rows
        .into_iter()
        .map(|row| (row.text, row.speaker))
        .collect();
    texts.sort();
    texts
}

fn row(text: &str, speaker: Option<&str>) -> (String, Option<String>) {
    (text.to_owned(), speaker.map(str::to_owned))
}

#[test]
fn a_folder_of_recordings_with_text_beside_them() {
    let corpus = Corpus::new();
    corpus
        .wav("ann/one.wav", 16_000, 200.0)
        .text("ann/one.txt", "Hello, World!\n")
        .wav("bob/two.wav", 24_000, 300.0)
        .text("bob/two.txt", "Bye")
        .wav("bob/three.wav", 24_000, 400.0);
    let report = corpus.prepare(|_| ()).unwrap();
    assert_eq!((report.layout, report.rows), (Layout::Folder, 3));
    assert_eq!(report.split, SplitKind::BySpeaker);
    assert_eq!(
        texts(&report),
        [row("bye", Some("bob")), row("hello world", Some("ann"))]
    );
    assert_eq!(report.counts()[&ProblemKind::NoText], 1);
    assert_eq!(report.train.rows + report.dev.as_ref().unwrap().rows, 2);
    let letters: String = report.alphabet.iter().map(|(c, _)| *c).collect();
    assert_eq!(letters, " bdehlorwy");
    let text = report.to_string();
    assert!(
        text.contains("three.wav") && text.contains("no voice is in both"),
        "{text}"
    );
}

#[test]
fn librispeech() {
    let corpus = Corpus::new();
    corpus
        .wav("12/3/12-3-0000.wav", 32_000, 200.0)
        .wav("12/3/12-3-0001.wav", 32_000, 210.0)
        .text(
            "12/3/12-3.trans.txt",
            "12-3-0000 HELLO THERE\n12-3-0001 YES\n12-3-0002 LOST\n",
        );
    let report = corpus.prepare(|o| o.dev_share = 0.0).unwrap();
    assert_eq!(
        (report.layout, report.split),
        (Layout::LibriSpeech, SplitKind::None)
    );
    assert_eq!(
        texts(&report),
        [row("hello there", Some("12")), row("yes", Some("12"))]
    );
    let lost = &report.problems[0];
    assert_eq!((lost.kind, lost.line), (ProblemKind::NoAudio, Some(3)));
}

#[test]
fn ljspeech() {
    let corpus = Corpus::new();
    corpus.wav("wavs/LJ001-0001.wav", 32_000, 200.0).text(
        "metadata.csv",
        "LJ001-0001|In 1455, \"so\"|in fourteen fifty-five, \"so\"\n",
    );
    let report = corpus.prepare(|_| ()).unwrap();
    assert_eq!(report.layout, Layout::LjSpeech);
    assert_eq!(
        texts(&report),
        [row("in fourteen fifty five so", Some("ljspeech"))]
    );
}

#[test]
fn common_voice_keeps_its_own_split() {
    let corpus = Corpus::new();
    let header = "client_id\tpath\tsentence\tup_votes\n";
    corpus
        .wav("clips/a.wav", 32_000, 200.0)
        .wav("clips/b.wav", 32_000, 210.0)
        .text(
            "train.tsv",
            &format!("{header}c1\ta.wav\tIt's \"me\"\t2\nc1\tgone.mp3\tx\t0\n"),
        )
        .text("dev.tsv", &format!("{header}c2\tb\tYou\t2\n"));
    let report = corpus.prepare(|_| ()).unwrap();
    assert_eq!(
        (report.layout, report.split),
        (Layout::CommonVoice, SplitKind::Official)
    );
    assert_eq!(
        texts(&report),
        [row("it's me", Some("c1")), row("you", Some("c2"))]
    );
    assert_eq!(report.dev.as_ref().unwrap().rows, 1);
    corpus.text("train.tsv", "client_id\tsentence\nx\ty\n");
    let error = corpus.prepare(|_| ()).unwrap_err();
    assert!(
        error.to_string().contains("`path`") && error.to_string().contains("line 1"),
        "{error}"
    );
}

#[test]
fn kaldi_with_segments_and_commands() {
    let corpus = Corpus::new();
    corpus
        .wav("audio/rec.wav", 64_000, 200.0)
        .wav("audio/whole.wav", 16_000, 210.0)
        .text(
            "wav.scp",
            "rec audio/rec.wav\nu3 audio/whole.wav\nu4 rm -rf / |\n",
        )
        .text("segments", "u1 rec 0.5 1.5\nu2 rec 3.5 9.0\n")
        .text("text", "u1 one two\nu2 beyond\nu3 whole\nu4 evil\n")
        .text("utt2spk", "u1 s1\nu3 s2\n");
    let report = corpus.prepare(|_| ()).unwrap();
    assert_eq!(report.layout, Layout::Kaldi);
    assert_eq!(
        texts(&report),
        [row("one two", Some("s1")), row("whole", Some("s2"))]
    );
    let counts = report.counts();
    assert_eq!(
        (counts[&ProblemKind::Command], counts[&ProblemKind::NoAudio]),
        (1, 1)
    );
    assert_eq!(counts[&ProblemKind::Unreadable], 1);
    let rows: Vec<_> = [
        &report.train.manifest,
        &report.dev.as_ref().unwrap().manifest,
    ]
    .into_iter()
    .flat_map(|path| manifest::read(path).unwrap())
    .filter(|row| row.text == "one two")
    .collect();
    assert_eq!((rows[0].offset, rows[0].duration), (Some(0.5), 1.0));
    corpus.text("segments", "u1 rec 1.5 0.5\n");
    let error = corpus.prepare(|_| ()).unwrap_err();
    assert!(
        error.to_string().contains("segments") && error.to_string().contains("line 1"),
        "{error}"
    );
}

#[test]
fn troubles_are_counted_and_listed() {
    let corpus = Corpus::new();
    corpus
        .wav("a.wav", 16_000, 200.0)
        .text("a.txt", "hello")
        .wav("b.wav", 16_000, 200.0)
        .text("b.txt", "same sound")
        .wav("c.wav", 16_000, 230.0)
        .text("c.txt", "hello")
        .wav("d.wav", 800, 240.0)
        .text("d.txt", "far too much text")
        .wav("e.wav", 16_000, 0.0)
        .text("e.txt", "silence")
        .text("f.wav", "this is text")
        .text("f.txt", "unreadable")
        .wav("g.wav", 16_000, 250.0)
        .text("g.txt", "the 2nd")
        .wav("h.wav", 16_000, 260.0)
        .text("h.txt", "-- ?!");
    let report = corpus.prepare(|_| ()).unwrap();
    let expected = [
        (ProblemKind::Unreadable, 1),
        (ProblemKind::EmptyText, 1),
        (ProblemKind::Number, 1),
        (ProblemKind::DuplicateAudio, 1),
        (ProblemKind::Infeasible, 1),
        (ProblemKind::SuspectedDuplicate, 1),
        (ProblemKind::Silent, 1),
    ];
    assert_eq!(report.counts(), BTreeMap::from(expected));
    assert_eq!(texts(&report), [row("hello", None), row("hello", None)]);
    let text = report.to_string();
    assert!(
        text.contains("f.wav") && text.contains("left out"),
        "{text}"
    );
}

#[test]
fn nothing_usable_is_an_error_and_writes_nothing() {
    let corpus = Corpus::new();
    corpus.text("a.wav", "no sound").text("a.txt", "hello");
    let error = corpus.prepare(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.to_string().contains("a.wav"), "{error}");
    assert!(!corpus.path().join("out").exists());
    let empty = Corpus::new();
    assert_eq!(empty.prepare(|_| ()).unwrap_err().kind(), ErrorKind::Data);
    let missing = prepare(&PrepareOptions::new("no/such/folder", "out"), &|_| ()).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Io);
    assert!(missing.to_string().contains("no/such/folder"));
}

#[test]
fn prepared_manifests_train() {
    let corpus = Corpus::new();
    for clip in 0..6u8 {
        corpus
            .wav(&format!("s{clip}/a.wav"), 16_000, 200.0 + f32::from(clip))
            .text(&format!("s{clip}/a.txt"), "a cab");
    }
    let report = corpus.prepare(|o| o.dev_share = 0.3).unwrap();
    let text = "name = \"toy\"\ntask = \"speech\"\nlicense = \"MIT\"\n[data]\n\
                train = [{ manifest = \"train.jsonl\" }]\ndev = [{ name = \"d\", manifest = \"dev.jsonl\" }]\n";
    let recipe = crate::config::Recipe::parse(text, &[] as &[&str]).unwrap();
    let folder = report.train.manifest.parent().unwrap();
    let data = crate::data::speech::SpeechData::open(&recipe, folder, &|_| ()).unwrap();
    assert_eq!(data.train().utterances().len(), report.train.rows);
    assert_eq!(data.alphabet().concat(), " abc");
}

proptest! {
    #[test]
    fn any_index_file_is_read_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        which in 0usize..5,
    ) {
        let corpus = Corpus::new();
        let name = ["metadata.csv", "validated.tsv", "text", "segments", "a.trans.txt"][which];
        corpus.wav("wavs/a.wav", 1_600, 200.0).wav("clips/a.wav", 1_600, 200.0);
        corpus.text("wav.scp", "a wavs/a.wav\n");
        if name != "text" {
            corpus.text("text", "a b\n");
        }
        std::fs::write(corpus.path().join(name), bytes).unwrap();
        let layout = [Layout::LjSpeech, Layout::CommonVoice, Layout::Kaldi, Layout::Kaldi, Layout::LibriSpeech][which];
        let _ = corpus.prepare(|o| o.layout = Some(layout));
    }
}
