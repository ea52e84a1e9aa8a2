//! Times our decoders on the files of `decoders_peers.py gen` and writes ids that its `score` reads.
//!
//! `cargo run --release -p acolyte-examples --bin bench_decode -- DATA [OUT] [CASE...]`
//!
//! DATA holds `NAME.npy` (`[N, T, V]` log-probs) and `NAME.labels.json`; one JSON line per case and decoder goes to
//! standard output, one file of ids, `OUT/CASE.DECODER.json`, to the folder OUT. Each utterance is decoded alone on one thread.

use acolyte::decode::{Decoding, NgramModel, OpenVocabulary, Plan};
use acolyte::{LogProbs, Tokens};
use anyhow::{Context, Result, ensure};
use ndarray::{Array3, Axis};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

const CASES: [&str; 5] = [
    "asr_char_v32",
    "asr_char_v32_hard",
    "asr_bpe_v1000",
    "asr_bpe_v1000_hard",
    "ocr_line_v6625",
];
const REPETITIONS: usize = 15;
const BEAMS: [usize; 2] = [25, 100];
const HOTWORD_BOOST: f32 = 4.0;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let data = PathBuf::from(
        arguments
            .next()
            .context("usage: bench_decode DATA [OUT] [CASE...]")?,
    );
    let out = arguments.next().map(PathBuf::from);
    let wanted: Vec<String> = arguments
        .filter_map(|case| case.into_string().ok())
        .collect();
    for case in CASES {
        if wanted.is_empty() || wanted.iter().any(|name| name == case) {
            bench(&data, out.as_deref(), case).with_context(|| case.to_owned())?;
        }
    }
    Ok(())
}

fn bench(data: &Path, out: Option<&Path>, case: &str) -> Result<()> {
    let scores = read_npy(&data.join(format!("{case}.npy")))?;
    let labels = std::fs::read(data.join(format!("{case}.labels.json")))?;
    let labels: Vec<String> = serde_json::from_slice(&labels)?;
    let words = labels.iter().any(|label| label == " ");
    let tokens = Arc::new(Tokens::characters(labels, 0)?);
    let plain = time(&scores, |utterance| {
        let scores = utterance.scores();
        let row_maximum = |row: &[f32]| row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let rows = scores.rows().into_iter().filter_map(|row| row.to_slice());
        std::hint::black_box(rows.map(row_maximum).sum::<f32>());
        Ok(Vec::new())
    })?;
    report(case, "plain maximum", &plain, None)?;
    for (name, decoding) in decoders(data, words)? {
        let plan: Plan = decoding.plan(&tokens)?;
        let timed = time(&scores, |utterance| {
            Ok(plan.decode(utterance)?.best().ids())
        })?;
        report(case, &name, &timed, out)?;
    }
    Ok(())
}

/// The decoders by name; those that need words only where the vocabulary has them.
fn decoders(data: &Path, words: bool) -> Result<Vec<(String, Decoding)>> {
    let mut decoders = vec![("greedy".to_owned(), Decoding::greedy())];
    for beam in BEAMS {
        decoders.push((format!("beam{beam}"), Decoding::beam(beam).n_best(5)));
    }
    if !words {
        return Ok(decoders);
    }
    let hotwords = std::fs::read_to_string(data.join("hotwords.txt"))?;
    let lexicon = std::fs::read_to_string(data.join("lexicon.txt"))?;
    let lexicon: Vec<&str> = lexicon
        .lines()
        .filter_map(|line| line.split('\t').next())
        .collect();
    let bigram = Arc::new(NgramModel::open(data.join("bigram.arpa"))?);
    for beam in BEAMS {
        let plain = || Decoding::beam(beam).n_best(5);
        let hot = plain().hotwords(hotwords.lines().map(|line| (line, HOTWORD_BOOST)));
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

/// What a decoder did: milliseconds per utterance, sorted, and the ids of each.
struct Timed {
    milliseconds: Vec<f64>,
    ids: Vec<Vec<u32>>,
}

fn time(
    scores: &Array3<f32>,
    mut decode: impl FnMut(&LogProbs<'_>) -> Result<Vec<u32>>,
) -> Result<Timed> {
    let mut timed = Timed {
        milliseconds: Vec::new(),
        ids: Vec::new(),
    };
    for repetition in 0..REPETITIONS {
        for utterance in scores.axis_iter(Axis(0)) {
            let utterance = LogProbs::from_log_probs(utterance);
            let start = Instant::now();
            let ids = decode(&utterance)?;
            timed.milliseconds.push(start.elapsed().as_secs_f64() * 1e3);
            if repetition == 0 {
                timed.ids.push(ids);
            }
        }
    }
    timed.milliseconds.sort_by(f64::total_cmp);
    Ok(timed)
}

fn report(case: &str, decoder: &str, timed: &Timed, out: Option<&Path>) -> Result<()> {
    let times = &timed.milliseconds;
    let row = json!({
        "case": case,
        "decoder": decoder,
        "ms_median": times[times.len() / 2],
        "ms_min": times[0],
        "ms_p90": times[times.len() * 9 / 10],
    });
    #[allow(clippy::print_stdout)] // The report is the program's output.
    {
        println!("{row}");
    }
    if let Some(out) = out {
        std::fs::create_dir_all(out)?;
        let ids = serde_json::to_vec(&timed.ids)?;
        std::fs::write(out.join(format!("{case}.{decoder}.json")), ids)?;
    }
    Ok(())
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
    let axes = shape
        .context("no shape")?
        .0
        .split(',')
        .map(str::trim)
        .filter(|axis| !axis.is_empty());
    let axes: Vec<usize> = axes.map(str::parse).collect::<Result<_, _>>()?;
    ensure!(axes.len() == 3, "expected three axes, found {}", axes.len());
    let values = bytes[header..].chunks_exact(4);
    let values = values
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    Ok(Array3::from_shape_vec((axes[0], axes[1], axes[2]), values)?)
}
