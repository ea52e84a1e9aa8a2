//! Estimates held against files that KenLM's `lmplz` made, and against the definition.

use super::*;
use acolyte::decode::NgramModel;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

fn file(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/lm");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

fn estimated<S: AsRef<str>>(config: &LmConfig, sentences: impl IntoIterator<Item = S>) -> Estimate {
    let mut counter = Counter::new(config).unwrap();
    for sentence in sentences {
        counter.add(sentence.as_ref()).unwrap();
    }
    counter.estimate().unwrap()
}

fn arpa(estimate: &Estimate) -> String {
    let mut bytes = Vec::new();
    estimate.write(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// The n-grams of an ARPA file: log-prob and back-off weight, base 10.
fn ngrams(arpa: &str) -> BTreeMap<&str, (f64, f64)> {
    arpa.lines()
        .filter_map(|line| {
            let mut fields = line.split('\t');
            let prob = fields.next()?.parse().ok()?;
            let words = fields.next()?;
            let backoff = fields.next().map_or(0.0, |field| field.parse().unwrap());
            Some((words, (prob, backoff)))
        })
        .collect()
}

#[test]
fn numbers_are_those_of_kenlm() {
    let corpus = file("corpus.txt");
    for (config, recorded) in [
        (LmConfig::default(), "kenlm.arpa"),
        (
            LmConfig::default().with_prune([0, 0, 1]),
            "kenlm-pruned.arpa",
        ),
        (
            LmConfig::default()
                .with_order(4)
                .with_unit(Unit::Characters),
            "kenlm-characters.arpa",
        ),
    ] {
        let ours = arpa(&estimated(&config, corpus.lines()));
        let theirs = file(recorded);
        let (ours, theirs) = (ngrams(&ours), ngrams(&theirs));
        assert!(theirs.len() > 500, "{recorded} has {}", theirs.len());
        let words =
            |table: &BTreeMap<&str, _>| table.keys().map(|k| (*k).to_owned()).collect::<Vec<_>>();
        assert_eq!(words(&ours), words(&theirs), "{recorded}");
        for (ngram, (prob, backoff)) in theirs {
            let own = ours[ngram];
            // KenLM computes in f32.
            let difference = (own.0 - prob).abs().max((own.1 - backoff).abs());
            assert!(
                difference < 2e-5,
                "{recorded}: {ngram}: {own:?} is not {prob} {backoff}"
            );
        }
    }
}

#[test]
fn the_same_text_gives_the_same_bytes() {
    let corpus = file("corpus.txt");
    let whole = arpa(&estimated(&LmConfig::default(), corpus.lines()));
    let mut counter = Counter::new(&LmConfig::default()).unwrap();
    for (at, sentence) in corpus.lines().enumerate() {
        counter.add(sentence).unwrap();
        if at % 7 == 0 {
            counter.merge();
        }
    }
    assert_eq!(arpa(&counter.estimate().unwrap()), whole);
}

#[test]
fn perplexity_leaves_unknown_words_out() {
    let estimate = estimated(&LmConfig::default().with_order(1), ["a b", "a"]);
    let model = NgramModel::read(arpa(&estimate).as_bytes()).unwrap();
    let found = perplexity(&model, Unit::Words, ["a x", ""]);
    let log_prob = model.sentence("a").log_prob;
    assert_eq!((found.known, found.unknown), (2, 1));
    assert!((found.log_prob - log_prob).abs() < 1e-9);
    assert!((found.value() - (-log_prob / 2.0).exp()).abs() < 1e-9);
    assert_eq!(Perplexity::default().value(), 1.0);
}

#[test]
fn what_cannot_be_estimated_is_refused() {
    for (config, message) in [
        (LmConfig::default().with_order(0), "order 0"),
        (LmConfig::default().with_order(7), "order 7"),
        (LmConfig::default().with_prune([0, 2, 1]), "fall"),
        (
            LmConfig::default().with_prune([0; 4]),
            "4 pruning thresholds",
        ),
    ] {
        let error = Counter::new(&config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument);
        assert!(error.to_string().contains(message), "{error}");
    }
    let mut counter = Counter::new(&LmConfig::default()).unwrap();
    counter.add("  ").unwrap();
    let error = counter.add("a <s> b").unwrap_err();
    assert!(error.to_string().contains("<s>"), "{error}");
    let error = Counter::new(&LmConfig::default())
        .unwrap()
        .estimate()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.to_string().contains("no words"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn every_context_sums_up_to_one(
        sentences in prop::collection::vec("[abc]( [abcd]){0,6}", 1..30),
        order in 1usize..5,
        last in 0u64..3,
        characters in any::<bool>(),
    ) {
        let unit = if characters { Unit::Characters } else { Unit::Words };
        let mut prune = vec![0; order];
        prune[order - 1] = if order > 1 { last } else { 0 };
        let config = LmConfig::default().with_order(order).with_unit(unit).with_prune(prune);
        let model = NgramModel::read(arpa(&estimated(&config, &sentences)).as_bytes()).unwrap();
        let vocabulary = ["a", "b", "c", "d", "<space>", "</s>", "<unk>"];
        let known: Vec<_> = vocabulary.iter().filter_map(|word| model.word(word)).collect();
        for sentence in &sentences {
            let mut state = model.start();
            for word in sentence.split_whitespace() {
                let total: f64 = known.iter().map(|&word| f64::from(model.score(state, Some(word)).0).exp()).sum();
                prop_assert!((total - 1.0).abs() < 1e-4, "{total} after a beginning of {sentence:?}");
                state = model.score(state, model.word(word)).1;
            }
        }
    }
}
