//! `acolyte bench decode`: our decoders on the files of `decoders_peers.py gen`, and language models in memory.
//!
//! A folder holds `NAME.npy` (`[N, T, V]` log-probs, f32) and `NAME.labels.json` (V tokens, blank first); each utterance
//! is decoded alone. Times are the thread's own, medians over utterances and repetitions; those of greedy decoding and of
//! a plain maximum, medians over repetitions of means over utterances. The ids found go to
//! `OUT/NAME.DECODER.json`, which `decoders_peers.py score` reads.

use crate::clock;
use acolyte::decode::{Decoding, NgramModel, OpenVocabulary, Plan};
use acolyte::{LogProbs, Tokens};
use anyhow::{Context, Result, bail, ensure};
use ndarray::{Array2, Array3, ArrayView2, Axis, concatenate};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const CASES: [&str; 5] = [
    "asr_char_v32",
    "asr_char_v32_hard",
    "asr_bpe_v1000",
    "asr_bpe_v1000_hard",
    "ocr_line_v6625",
];
/// Times every utterance is decoded by every decoder; all decoders have their turn before the next time.
const REPETITIONS: usize = 9;
/// Passes over all utterances that are measured as one where an utterance takes microseconds: asking for the time
/// takes one of them.
const PASSES: usize = 20;
const GREEDY: &str = "greedy";
const BEAMS: [usize; 2] = [25, 100];
const HOTWORD_BOOST: f32 = 4.0;
/// What an utterance is repeated to, to see whether time grows with its length only.
const LONG: usize = 8;
/// Times that is done.
const GROWTH_REPETITIONS: usize = 3;

/// Measures every case found in `paths`, folders, and the size of every model in it, ARPA files.
pub fn run(
    paths: &[PathBuf],
    out: Option<&Path>,
    mut row: impl FnMut(&str, f64, &str) -> Result<()>,
) -> Result<()> {
    for path in paths {
        if path.is_dir() {
            let cases = CASES
                .iter()
                .filter(|c| path.join(format!("{c}.npy")).is_file());
            let cases: Vec<&&str> = cases.collect();
            if cases.is_empty() {
                bail!(
                    "{} holds no case of `decoders_peers.py gen`",
                    path.display()
                );
            }
            for case in cases {
                bench(path, out, case, &mut row).with_context(|| (*case).to_owned())?;
            }
        } else {
            let model = NgramModel::open(path)?;
            let bytes = model.bytes() as f64 / model.len() as f64;
            row("n-grams", model.len() as f64, "n-grams")?;
            row("language model in memory", bytes, "bytes per n-gram")?;
        }
    }
    Ok(())
}

/// One decoder of a case.
struct Contender {
    name: String,
    plan: Plan,
    /// Milliseconds.
    times: Vec<f64>,
    ids: Vec<Vec<u32>>,
}

fn bench(
    data: &Path,
    out: Option<&Path>,
    case: &str,
    row: &mut impl FnMut(&str, f64, &str) -> Result<()>,
) -> Result<()> {
    let scores = read_npy(&data.join(format!("{case}.npy")))?;
    let labels = std::fs::read(data.join(format!("{case}.labels.json")))?;
    let labels: Vec<String> = serde_json::from_slice(&labels).context("the labels")?;
    let words = labels.iter().any(|label| label == " ");
    let tokens = Arc::new(Tokens::characters(labels, 0)?);
    let mut contenders = Vec::new();
    for (name, decoding) in decoders(data, words)? {
        contenders.push(Contender {
            name,
            plan: decoding.plan(&tokens)?,
            times: Vec::new(),
            ids: Vec::new(),
        });
    }
    let utterances: Vec<ArrayView2<'_, f32>> = scores.axis_iter(Axis(0)).collect();
    let mut plain = Vec::new();
    for repetition in 0..REPETITIONS {
        plain.push(passes(&utterances, |scores| {
            std::hint::black_box(maxima(scores));
        }));
        for contender in &mut contenders {
            let Contender { plan, times, .. } = contender;
            let scores = utterances.iter().copied().map(LogProbs::from_log_probs);
            if contender.name == GREEDY {
                times.push(passes(&utterances, |scores| {
                    let _ = std::hint::black_box(plan.decode(&LogProbs::from_log_probs(scores)));
                }));
            } else {
                times.extend(
                    scores
                        .clone()
                        .map(|s| clock::milliseconds(|| plan.decode(&s)).1),
                );
            }
            if repetition == 0 {
                let found: acolyte::Result<Vec<Vec<u32>>> =
                    scores.map(|s| Ok(plan.decode(&s)?.best().ids())).collect();
                contender.ids = found?;
            }
        }
    }
    row(&format!("{case}: plain maximum"), median(&mut plain), "ms")?;
    for contender in &mut contenders {
        let name = &contender.name;
        row(
            &format!("{case}: {name}"),
            median(&mut contender.times),
            "ms",
        )?;
        if let Some(out) = out {
            std::fs::create_dir_all(out)?;
            let ids = serde_json::to_vec(&contender.ids)?;
            std::fs::write(out.join(format!("{case}.{name}.json")), ids)?;
        }
    }
    for beam in BEAMS {
        let name = format!("beam{beam}");
        if let Some(contender) = contenders.iter().find(|c| c.name == name) {
            let ratio = growth(&scores, &contender.plan)?;
            row(
                &format!("{case}: {name}, per frame when {LONG} times as long"),
                ratio,
                "x",
            )?;
        }
    }
    Ok(())
}

/// Milliseconds for an utterance, in the mean over passes over all of them.
fn passes(utterances: &[ArrayView2<'_, f32>], work: impl Fn(ArrayView2<'_, f32>)) -> f64 {
    let all = || {
        for _ in 0..PASSES {
            utterances.iter().copied().for_each(&work);
        }
    };
    clock::milliseconds(all).1 / (PASSES * utterances.len().max(1)) as f64
}

/// Time per frame of long utterances over that of their parts, both from the same memory: the parts are read where the
/// whole is, so that a processor's caches favor neither.
fn growth(scores: &Array3<f32>, plan: &Plan) -> Result<f64> {
    let (mut short, mut long) = (0.0, 0.0);
    for utterance in scores.axis_iter(Axis(0)) {
        let repeated: Array2<f32> = concatenate(Axis(0), &[utterance; LONG])?;
        for _ in 0..GROWTH_REPETITIONS {
            for part in repeated.axis_chunks_iter(Axis(0), utterance.nrows()) {
                let scores = LogProbs::from_log_probs(part);
                short += clock::milliseconds(|| plan.decode(&scores)).1;
            }
            let scores = LogProbs::from_log_probs(repeated.view());
            long += clock::milliseconds(|| plan.decode(&scores)).1;
        }
    }
    Ok(long / short)
}

/// The least that any decoder must do: the maximum of each frame.
fn maxima(scores: ArrayView2<'_, f32>) -> f32 {
    let rows = scores.rows().into_iter().filter_map(|row| row.to_slice());
    rows.map(|row| row.iter().copied().fold(f32::NEG_INFINITY, f32::max))
        .sum()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The decoders by name; those that need words only where the vocabulary has them.
fn decoders(data: &Path, words: bool) -> Result<Vec<(String, Decoding)>> {
    let mut decoders = vec![(GREEDY.to_owned(), Decoding::greedy())];
    for beam in BEAMS {
        decoders.push((format!("beam{beam}"), Decoding::beam(beam).n_best(5)));
    }
    if !words {
        return Ok(decoders);
    }
    let hotwords = acolyte::decode::read_list(&data.join("hotwords.txt"))?;
    let lexicon = acolyte::decode::read_list(&data.join("lexicon.txt"))?;
    let lexicon: Vec<&str> = lexicon
        .iter()
        .filter_map(|line| line.split('\t').next())
        .collect();
    let bigram = Arc::new(NgramModel::open(data.join("bigram.arpa"))?);
    for beam in BEAMS {
        let plain = || Decoding::beam(beam).n_best(5);
        let hot = plain().hotwords(hotwords.iter().map(|word| (word.as_str(), HOTWORD_BOOST)));
        decoders.push((format!("beam{beam}+100hotwords"), hot));
        // The peers' weights: pyctcdecode's is on natural logarithms, flashlight's on logarithms of base 10.
        let scored = |weight| plain().lm(Arc::clone(&bigram), weight).word_bonus(1.0);
        let mut open = scored(0.5).lexicon(lexicon.iter().copied());
        if let Some(lexicon) = &mut open.lexicon {
            lexicon.open = Some(OpenVocabulary::default());
        }
        decoders.push((format!("beam{beam}+open+2gram"), open));
        let closed = scored(0.5 / std::f32::consts::LN_10).lexicon(lexicon.iter().copied());
        decoders.push((format!("beam{beam}+lexicon+2gram"), closed));
    }
    Ok(decoders)
}

/// Reads a version 1 file of little-endian f32 in C order with three axes.
fn read_npy(path: &Path) -> Result<Array3<f32>> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    ensure!(
        bytes.len() > 10 && bytes.starts_with(b"\x93NUMPY\x01"),
        "no .npy file of version 1"
    );
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let text = std::str::from_utf8(bytes.get(10..header).context("the header is cut")?)?;
    ensure!(
        text.contains("'<f4'") && text.contains("'fortran_order': False"),
        "not f32 in C order"
    );
    let shape = (text.split_once("'shape': (")).and_then(|(_, rest)| rest.split_once(')'));
    let axes = shape.context("no shape")?.0.split(',').map(str::trim);
    let axes = axes.filter(|axis| !axis.is_empty()).map(str::parse);
    let axes: Vec<usize> = axes.collect::<Result<_, _>>()?;
    ensure!(axes.len() == 3, "expected three axes, found {}", axes.len());
    let values = bytes[header..].chunks_exact(4);
    let values = values
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    Ok(Array3::from_shape_vec((axes[0], axes[1], axes[2]), values)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numpy_files_are_read_and_others_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let write = |shape: &str, values: &[f32]| {
            let header =
                format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}\n");
            let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
            bytes.extend((header.len() as u16).to_le_bytes());
            bytes.extend(header.bytes());
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            std::fs::write(&path, bytes).unwrap();
            read_npy(&path)
        };
        let read = write("1, 2, 3", &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        assert_eq!((read.dim(), read[[0, 1, 0]]), ((1, 2, 3), 3.0));
        for (shape, values) in [("2, 3", 6), ("1, 2, 3", 5), ("a", 6)] {
            assert!(write(shape, &vec![0.0; values]).is_err(), "{shape}");
        }
        std::fs::write(&path, "text").unwrap();
        assert!(read_npy(&path).is_err());
    }
}
