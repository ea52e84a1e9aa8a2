//! Decoders on made-up scores of 500 frames: `cargo bench -p acolyte --bench decode`.
//!
//! Peaky frames, as of a model that is sure of most of what it hears, over vocabularies of characters, word pieces and
//! glyphs. Peers are measured by `cargo xtask bench decode`; this is for changes to our own code.

use acolyte::decode::NgramModel;
use acolyte::{Decoding, LogProbs, Tokens};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ndarray::Array2;
use std::hint::black_box;
use std::sync::Arc;

const FRAMES: usize = 500;

/// Numbers in [0, 1): a linear congruential generator.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = (self.0.wrapping_mul(6_364_136_223_846_793_005)).wrapping_add(1);
        (self.0 >> 33) as f64 / (1u64 << 31) as f64
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() * bound as f64) as usize
    }
}

/// Log-probs `[T, V]`: a token in every fourth frame, doubted in every fifth of those, blanks between, and a
/// floor of improbable tokens.
fn scores(vocabulary: usize) -> Array2<f32> {
    let mut random = Random(vocabulary as u64);
    let mut scores = Array2::from_shape_simple_fn((FRAMES, vocabulary), || {
        (-12.0 + 4.0 * random.next()) as f32
    });
    for (t, mut row) in scores.rows_mut().into_iter().enumerate() {
        let best = if t % 4 == 1 {
            1 + random.below(vocabulary - 1)
        } else {
            0
        };
        let doubt = if t % 20 == 1 {
            1 + random.below(vocabulary - 1)
        } else {
            0
        };
        row[doubt] = -1.2;
        row[best] = -0.1;
    }
    scores
}

/// A vocabulary with a space, letters, and as many more pieces as it takes.
fn tokens(vocabulary: usize) -> Arc<Tokens> {
    let letters = ('a'..='z').map(String::from);
    let more = (0..vocabulary).map(|n| char::from_u32(0x4e00 + n as u32).unwrap_or('?').into());
    let pieces = ["".to_owned(), " ".to_owned()]
        .into_iter()
        .chain(letters)
        .chain(more);
    let tokens = Tokens::characters(pieces.take(vocabulary), 0);
    Arc::new(tokens.expect("the pieces are distinct"))
}

fn decoders(c: &mut Criterion) {
    for vocabulary in [32, 1000, 6625] {
        let (scores, tokens) = (scores(vocabulary), tokens(vocabulary));
        let scores = LogProbs::from_log_probs(scores.view());
        let mut group = c.benchmark_group(format!("V={vocabulary}"));
        group.throughput(Throughput::Elements(FRAMES as u64));
        let mut bench = |name: &str, decoding: Decoding| {
            let plan = decoding.plan(&tokens).expect("sound settings");
            group.bench_function(BenchmarkId::from_parameter(name), |b| {
                b.iter(|| plan.decode(black_box(&scores)).expect("sound scores"));
            });
        };
        bench("greedy", Decoding::greedy());
        bench("beam 25", Decoding::beam(25));
        bench("beam 100", Decoding::beam(100));
        let words: Vec<String> = WORDS.split(' ').map(str::to_owned).collect();
        bench(
            "beam 25, hotwords",
            Decoding::beam(25).hotwords(words.iter().map(|w| (w.as_str(), 4.0))),
        );
        bench("beam 25, lexicon", Decoding::beam(25).lexicon(&words));
        let model = Arc::new(NgramModel::read(arpa(&words).as_bytes()).expect("a sound model"));
        bench("beam 25, 2-gram", Decoding::beam(25).lm(model, 0.5));
        group.finish();
    }
}

const WORDS: &str = "the of and to in is you that it he was for on are as with his they at be this have from or one \
    had by word but not what all were we when your can said there use an each which she do how their if will up other";

/// A model in which every word may follow the first ten.
fn arpa(words: &[String]) -> String {
    let mut text = format!(
        "\\data\\\nngram 1={}\nngram 2={}\n\n\\1-grams:\n-99\t<s>\t-0.3\n-1\t</s>\n",
        words.len() + 2,
        10 * words.len()
    );
    for (n, word) in words.iter().enumerate() {
        text += &format!("{:.3}\t{word}\t-0.3\n", -1.0 - 0.02 * n as f64);
    }
    text += "\n\\2-grams:\n";
    for first in &words[..10] {
        for second in words {
            text += &format!("-1.2\t{first} {second}\n");
        }
    }
    text + "\n\\end\\\n"
}

criterion_group!(benches, decoders);
criterion_main!(benches);
