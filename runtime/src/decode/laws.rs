//! Laws of beam search, held against the definition: sums over every path a small matrix has.

use super::*;
use crate::{FrameSpan, LogProbs, NBest, Tokens, Transcript};
use ndarray::{Array2, ArrayView2, Axis, Slice};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most readings a test asks for: all of them.
const ALL: usize = 10_000;

fn exhaustive() -> Decoding {
    let search = Search::Beam(BeamSearch {
        width: usize::MAX,
        score_cut: f32::INFINITY,
        token_cut: f32::INFINITY,
        max_tokens: usize::MAX,
    });
    Decoding::default().search(search).n_best(ALL)
}

/// The log-probability of every text of a matrix of log-probs, by summing up all `V^T` paths.
fn brute_force(scores: &Array2<f32>, tokens: &Tokens) -> BTreeMap<Vec<u32>, f64> {
    let mut paths = BTreeMap::from([((Vec::new(), tokens.blank()), 1.0)]);
    for row in scores.rows() {
        let norm = row.iter().map(|&x| f64::from(x).exp()).sum::<f64>();
        let mut next = BTreeMap::new();
        for ((ids, last), mass) in paths {
            for (id, &x) in (0u32..).zip(row) {
                let mut ids: Vec<u32> = ids.clone();
                if id != tokens.blank() && id != last {
                    ids.push(id);
                }
                *next.entry((ids, id)).or_insert(0.0) += mass * f64::from(x).exp() / norm;
            }
        }
        paths = next;
    }
    let mut texts = BTreeMap::new();
    for ((ids, _), mass) in paths {
        *texts.entry(ids).or_insert(0.0) += mass;
    }
    texts
        .into_iter()
        .map(|(ids, mass)| (ids, mass.ln()))
        .collect()
}

/// A vocabulary of letters, with the space where `spaced`.
fn tokens(spaced: bool, blank: u32) -> Arc<Tokens> {
    let mut pieces = vec!["a", "b", if spaced { " " } else { "c" }];
    pieces.insert(blank as usize, "");
    Arc::new(Tokens::characters(pieces, blank).unwrap())
}

/// Logits of up to `frames` frames of 4 tokens.
fn logits(frames: usize) -> impl Strategy<Value = Array2<f32>> {
    prop::collection::vec(prop::array::uniform4(-5f32..5.0), 0..=frames)
        .prop_map(|rows| Array2::from_shape_fn((rows.len(), 4), |(t, v)| rows[t][v]))
}

fn decode(decoding: &Decoding, tokens: &Arc<Tokens>, logits: &Array2<f32>) -> NBest<FrameSpan> {
    decoding
        .decode(tokens, &LogProbs::from_logits(logits.view()))
        .unwrap()
}

fn rows(matrix: &Array2<f32>, start: usize, end: usize) -> ArrayView2<'_, f32> {
    matrix.slice_axis(Axis(0), Slice::from(start..end))
}

/// A bigram model of the words "a" and "ab", and the boosted phrase "ab a".
fn guided(decoding: Decoding) -> Decoding {
    let arpa = "\\data\\\nngram 1=5\nngram 2=3\n\\1-grams:\n-1.5 <unk>\n-99 <s> -0.4\n-0.7 </s>\n-0.5 a -0.3\n\
        -0.9 ab -0.2\n\\2-grams:\n-0.2 <s> a\n-0.3 a ab\n-0.6 ab </s>\n\\end\\\n";
    let model = NgramModel::read(arpa.as_bytes()).unwrap();
    let mut decoding = decoding.lm(Arc::new(model), 0.7).hotwords([("ab a", 2.0)]);
    decoding.word_bonus = 0.3;
    decoding
}

/// What the parts of [`guided`] add to a text's score.
fn guidance(decoding: &Decoding, text: &str) -> f64 {
    let model = &decoding.lm.as_ref().unwrap().model;
    let words = text.split_whitespace().count() as f64;
    let around = format!(" {text} ");
    let boosts = (0..around.len())
        .filter(|&at| around[at..].starts_with(" ab a "))
        .count();
    0.7 * model.sentence(text).log_prob + 0.3 * words + 2.0 * boosts as f64
}

proptest! {
    #[test]
    fn an_exhaustive_beam_sums_up_all_paths(logits in logits(5), blank in 0u32..4) {
        let tokens = tokens(false, blank);
        let truth = brute_force(&logits, &tokens);
        let readings = decode(&exhaustive(), &tokens, &logits);
        prop_assert_eq!(readings.iter().count(), truth.len());
        let mut total = 0.0;
        let mut before = f64::INFINITY;
        for reading in readings.iter() {
            let error = (reading.score - truth[&reading.ids()]).abs();
            prop_assert!(error < 1e-5, "{:?} is off by {error}", reading.text);
            prop_assert!(reading.score <= before);
            before = reading.score;
            total += reading.score.exp();
        }
        prop_assert!((total - 1.0).abs() < 1e-5, "all texts sum up to {total}");
    }

    #[test]
    fn a_narrow_beam_never_claims_too_much(logits in logits(5), width in 1usize..6) {
        let tokens = tokens(false, 0);
        let truth = brute_force(&logits, &tokens);
        for reading in decode(&Decoding::beam(width).n_best(ALL), &tokens, &logits).iter() {
            prop_assert!(reading.score <= truth[&reading.ids()] + 1e-5);
        }
    }

    #[test]
    fn guides_add_what_they_say(logits in logits(5)) {
        let tokens = tokens(true, 3);
        let truth = brute_force(&logits, &tokens);
        let decoding = guided(exhaustive());
        for reading in decode(&decoding, &tokens, &logits).iter() {
            let expected = truth[&reading.ids()] + guidance(&decoding, &reading.text);
            prop_assert!((reading.score - expected).abs() < 1e-4, "{:?}", reading.text);
        }
    }

    #[test]
    fn a_lexicon_charges_in_advance_but_not_twice(logits in logits(5)) {
        let tokens = tokens(true, 3);
        let truth = brute_force(&logits, &tokens);
        let mut decoding = guided(exhaustive()).lexicon(["a", "ab", "bba"]);
        for reading in decode(&decoding, &tokens, &logits).iter() {
            for word in &reading.words {
                prop_assert!(["a", "ab", "bba"].contains(&word.text.as_str()), "{:?}", word.text);
            }
            let expected = truth[&reading.ids()] + guidance(&decoding, &reading.text);
            prop_assert!((reading.score - expected).abs() < 1e-4, "{:?}", reading.text);
        }
        let (per_word, per_letter) = (1.25, 0.5);
        decoding.lexicon.as_mut().unwrap().open = Some(OpenVocabulary { per_word, per_letter });
        for reading in decode(&decoding, &tokens, &logits).iter() {
            let cost = |word: &str| {
                let known = (0..=word.len()).rev().find(|&n| {
                    ["a", "ab", "bba"].iter().any(|entry| entry.starts_with(&word[..n]))
                });
                let beyond = word.len() - known.unwrap();
                if ["a", "ab", "bba"].contains(&word) { 0.0 } else { 1.25 + 0.5 * beyond as f64 }
            };
            let outside: f64 = reading.words.iter().map(|word| cost(&word.text)).sum();
            let expected =
                truth[&reading.ids()] + guidance(&decoding, &reading.text) - outside;
            prop_assert!((reading.score - expected).abs() < 1e-4, "{:?}", reading.text);
        }
    }

    #[test]
    fn a_closed_list_is_searched_exactly(logits in logits(6)) {
        let tokens = tokens(true, 0);
        let phrases = ["a", "ab", "a b", "bab"];
        let truth = brute_force(&logits, &tokens);
        let best = phrases.iter()
            .filter_map(|phrase| Some((*truth.get(&tokens.encode(phrase).unwrap())?, *phrase)))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let free = truth.values().copied().fold(f64::NEG_INFINITY, f64::max);
        let decoding = exhaustive().constrain(Constraint::phrases(phrases));
        let readings = decode(&decoding, &tokens, &logits);
        let found = readings.best();
        match best {
            Some((score, phrase)) if score > f64::NEG_INFINITY => {
                // Separators before and after a phrase are no part of its text, so the reading may be of
                // another spelling.
                prop_assert!(found.score >= score - 1e-5);
                prop_assert!(phrases.contains(&found.text.as_str()), "{:?}", found.text);
                if found.ids() == tokens.encode(phrase).unwrap() {
                    prop_assert!((found.margin.unwrap() - (score - free)).abs() < 1e-4);
                }
            }
            _ => prop_assert_eq!((found.text.as_str(), found.margin), ("", Some(f64::NEG_INFINITY))),
        }
    }

    #[test]
    fn a_closed_list_needs_no_wide_beam(logits in logits(10), width in 1usize..4) {
        let tokens = tokens(true, 0);
        // Spaces before, between and after the words make many spellings of each.
        let list = || Constraint::phrases(["a b a", "ab", "b", "bbab ba", "aaaa"]);
        let exact = decode(&exhaustive().n_best(1).constrain(list()), &tokens, &logits);
        for decoding in [Decoding::greedy(), Decoding::beam(width)] {
            let narrow = decode(&decoding.constrain(list()), &tokens, &logits);
            let (found, best) = (narrow.best().score, exact.best().score);
            prop_assert!(found <= best + 1e-5);
            prop_assert!(best - found < 0.5 || best == f64::NEG_INFINITY, "{found} instead of {best}");
        }
    }

    #[test]
    fn a_pattern_is_filled_where_that_is_possible(logits in logits(7), width in 1usize..4) {
        let tokens = tokens(true, 0);
        let truth = brute_force(&logits, &tokens);
        let fits = |text: &str| {
            let c: Vec<char> = text.chars().collect();
            c.len() == 4 && c[0].is_alphabetic() && c[1].is_alphabetic() && c[2] == ' ' && c[3].is_alphabetic()
        };
        let pattern = || Constraint::Pattern("AA A".into());
        let best = (truth.iter())
            .filter(|(ids, _)| fits(&tokens.text(ids)))
            .map(|(_, score)| *score)
            .fold(f64::NEG_INFINITY, f64::max);
        let exact = decode(&exhaustive().constrain(pattern()), &tokens, &logits);
        let narrow = decode(&Decoding::beam(width).constrain(pattern()), &tokens, &logits);
        if best > f64::NEG_INFINITY {
            prop_assert!((exact.best().score - best).abs() < 1e-5);
            prop_assert!(fits(&narrow.best().text), "{:?}", narrow.best().text);
            prop_assert!(narrow.best().score <= best + 1e-5);
        } else {
            prop_assert_eq!(&narrow.best().text, "");
        }
    }

    #[test]
    fn chunks_change_no_bit(logits in logits(40), cuts in prop::collection::vec(0usize..7, 0..30), width in 1usize..30) {
        let tokens = tokens(true, 1);
        for decoding in [
            Decoding::greedy(),
            Decoding::beam(width).n_best(3),
            guided(Decoding::beam(width)).n_best(3),
            Decoding::beam(width).constrain(Constraint::Pattern("AAXA".into())),
        ] {
            let plan = decoding.plan(&tokens).unwrap();
            let whole = plan.decode(&LogProbs::from_logits(logits.view())).unwrap();
            let mut decoder = plan.decoder();
            let mut at = 0;
            for cut in cuts.iter().copied().chain([usize::MAX]) {
                let end = logits.nrows().min(usize::saturating_add(at, cut));
                decoder.push(&LogProbs::from_logits(rows(&logits, at, end))).unwrap();
                at = end;
            }
            prop_assert_eq!(decoder.finish().unwrap(), whole);
        }
    }

    #[test]
    fn stable_text_only_grows(logits in logits(40)) {
        let tokens = tokens(true, 0);
        let mut decoder = Decoding::beam(4).plan(&tokens).unwrap().decoder();
        let mut stable = String::new();
        for t in 0..logits.nrows() {
            decoder.push(&LogProbs::from_logits(rows(&logits, t, t + 1))).unwrap();
            let partial = decoder.partial();
            prop_assert!(partial.stable.starts_with(&stable));
            stable = partial.stable;
        }
        let last = decoder.partial();
        let best = decoder.finish().unwrap().into_best();
        prop_assert_eq!(&best.text, &(last.stable + &last.tentative));
    }

    #[test]
    fn taking_stable_words_loses_none(logits in logits(60), every in 1usize..9) {
        let tokens = tokens(true, 0);
        let plan = guided(Decoding::beam(5)).plan(&tokens).unwrap();
        let whole = plan.decode(&LogProbs::from_logits(logits.view())).unwrap().into_best();
        let mut decoder = plan.decoder();
        let mut words = Vec::new();
        for t in 0..logits.nrows() {
            decoder.push(&LogProbs::from_logits(rows(&logits, t, t + 1))).unwrap();
            if t % every == 0 {
                words.extend(decoder.take_stable().words);
            }
        }
        let last = decoder.finish().unwrap().into_best();
        words.extend(last.words);
        let texts = |words: &[crate::Word<FrameSpan>]| words.iter().map(|w| w.text.clone()).collect::<Vec<_>>();
        prop_assert_eq!(texts(&words), texts(&whole.words));
        prop_assert!((last.score - whole.score).abs() < 1e-9);
        let spans: Vec<FrameSpan> = words.iter().map(|word| word.span).collect();
        prop_assert!(spans.windows(2).all(|pair| pair[0].end <= pair[1].start), "{spans:?}");
    }

    #[test]
    fn spans_follow_one_another(logits in logits(40), width in 1usize..30) {
        let tokens = tokens(true, 2);
        for reading in decode(&Decoding::beam(width).n_best(4), &tokens, &logits).iter() {
            let mut end = 0;
            for token in &reading.tokens {
                prop_assert!(token.span.start >= end && token.span.start < token.span.end);
                prop_assert!((0.0..=1.0).contains(&token.confidence));
                end = token.span.end;
            }
            prop_assert!(end <= logits.nrows() as u64);
        }
    }

    #[test]
    fn ids_are_only_names(logits in logits(30), order in Just([0usize, 1, 2, 3]).prop_shuffle()) {
        let pieces = ["", " ", "a", "b"];
        let plain = Arc::new(Tokens::characters(pieces, 0).unwrap());
        let blank = order.iter().position(|&v| v == 0).unwrap() as u32;
        let renamed = Arc::new(Tokens::characters(order.map(|v| pieces[v]), blank).unwrap());
        let moved = Array2::from_shape_fn(logits.dim(), |(t, v)| logits[[t, order[v]]]);
        let summary = |reading: &Transcript<FrameSpan>| {
            (reading.text.clone(), reading.words.iter().map(|word| word.span).collect::<Vec<_>>())
        };
        let decoding = guided(Decoding::beam(9));
        let (plain, moved) = (decode(&decoding, &plain, &logits), decode(&decoding, &renamed, &moved));
        prop_assert!((plain.best().score - moved.best().score).abs() < 1e-4);
        prop_assert_eq!(summary(plain.best()), summary(moved.best()));
    }
}

/// Any vocabulary up to 20,000, the blank anywhere, scores of any kind and in any order in memory.
#[test]
fn size_kind_and_layout_of_scores_change_nothing() {
    for (vocabulary, blank) in [
        (2usize, 1),
        (32, 0),
        (129, 128),
        (1_000, 999),
        (20_000, 12_345),
    ] {
        let pieces = (0..vocabulary as u32).map(|id| char::from_u32(0x1_0000 + id).unwrap());
        let tokens = Tokens::characters(pieces.map(String::from), blank).unwrap();
        let tokens = Arc::new(tokens);
        let mut state = 1u64;
        let logits = Array2::from_shape_simple_fn((20, vocabulary), || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 40) as f32 / 1e6
        });
        let norm = |row: ArrayView2<'_, f32>| row.iter().map(|x| x.exp()).sum::<f32>().ln();
        let mut logs = logits.clone();
        for t in 0..20 {
            let norm = norm(rows(&logits, t, t + 1));
            logs.row_mut(t).mapv_inplace(|x| x - norm);
        }
        let probs = logs.mapv(f32::exp);
        let columns = logits.t().as_standard_layout().to_owned();
        for decoding in [Decoding::greedy(), Decoding::beam(12).n_best(3)] {
            let plan = decoding.plan(&tokens).unwrap();
            let whole = plan.decode(&LogProbs::from_logits(logits.view())).unwrap();
            let strided = plan.decode(&LogProbs::from_logits(columns.t())).unwrap();
            assert_eq!(strided, whole);
            for scores in [
                LogProbs::from_log_probs(logs.view()),
                LogProbs::from_probs(probs.view()),
            ] {
                let other = plan.decode(&scores).unwrap();
                let difference = (other.best().score - whole.best().score).abs();
                assert!(difference < 1e-3, "V={vocabulary}: {difference}");
            }
        }
    }
}

#[test]
fn certain_input_is_read_as_greedy_reads_it() {
    let tokens = tokens(true, 0);
    let path = [0, 1, 1, 0, 1, 2, 0, 0, 3, 3, 2, 2, 2, 0];
    let logits = Array2::from_shape_fn(
        (path.len(), 4),
        |(t, v)| if path[t] == v { 9.0 } else { 0.0 },
    );
    let greedy = decode(&Decoding::greedy(), &tokens, &logits);
    let beam = decode(&Decoding::beam(10), &tokens, &logits);
    assert_eq!(greedy.best().tokens, beam.best().tokens);
    assert_eq!(greedy.best().words, beam.best().words);
    assert_eq!(beam.best().text, "aab b");
}

#[test]
fn impossible_scores_leave_no_reading() {
    let inf = f32::INFINITY;
    let tokens = tokens(false, 0);
    // Only "c" is possible, which the phrases do not have.
    let logits = Array2::from_shape_fn((3, 4), |(_, v)| if v == 3 { 0.0 } else { -inf });
    let decoding = Decoding::beam(5)
        .constrain(Constraint::phrases(["ab"]))
        .reject(-20.0);
    let readings = decode(&decoding, &tokens, &logits);
    assert_eq!(readings.best().text, "");
    assert_eq!(readings.best().margin, Some(f64::NEG_INFINITY));
    assert!(decoding.rejects(readings.best()));
    assert_eq!(
        decode(&Decoding::beam(5), &tokens, &logits).best().text,
        "c"
    );
}

#[test]
fn a_phrase_is_told_from_everything_else() {
    let tokens = tokens(true, 0);
    let decoding = Decoding::greedy()
        .constrain(Constraint::phrases(["ab", "ba"]))
        .reject(-5.0);
    let say = |path: &[usize]| {
        let logits = Array2::from_shape_fn(
            (path.len(), 4),
            |(t, v)| if path[t] == v { 6.0 } else { 0.0 },
        );
        decode(&decoding, &tokens, &logits).into_best()
    };
    let inside = say(&[0, 1, 1, 0, 2, 0]);
    assert_eq!(inside.text, "ab");
    assert!(inside.margin.unwrap().abs() < 1e-3 && !decoding.rejects(&inside));
    for outside in [
        say(&[0, 1, 0, 1, 0, 1, 2, 0]),
        say(&[0; 9]),
        say(&[2, 3, 2]),
    ] {
        assert!(["ab", "ba"].contains(&outside.text.as_str()));
        assert!(decoding.rejects(&outside), "{outside:?}");
    }
}

#[test]
fn one_of_thousands_of_phrases_is_found_even_in_something_else() {
    let tokens = tokens(false, 0);
    let spell = |n: u32| -> String {
        let digits = (0..12).map(|place| ["a", "b"][(n >> place & 1) as usize]);
        digits.collect()
    };
    let phrases: Vec<String> = (0..4096).map(spell).collect();
    let decoding = Decoding::greedy().constrain(Constraint::phrases(&phrases));
    let say = |path: &[usize]| {
        let logits = Array2::from_shape_fn(
            (path.len(), 4),
            |(t, v)| if path[t] == v { 9.0 } else { 0.0 },
        );
        decode(&decoding, &tokens, &logits).into_best()
    };
    let path: Vec<usize> = [1, 2, 0, 2, 1, 2, 1, 0, 1, 2, 0, 2, 1, 0, 1, 2].into();
    assert_eq!(say(&path).text, "abbabaabbaab");
    let other = say(&[3; 40]);
    assert_eq!(other.text.len(), 12, "{other:?}");
    assert!(other.margin.unwrap() < -50.0);
}

#[test]
fn bad_settings_are_refused() {
    let cut = |score_cut, token_cut, max_tokens| {
        let beam = BeamSearch {
            score_cut,
            token_cut,
            max_tokens,
            ..BeamSearch::default()
        };
        Decoding::default().search(Search::Beam(beam))
    };
    let mut open = Decoding::beam(4).lexicon(["a"]);
    let per_letter = f32::NAN;
    open.lexicon.as_mut().unwrap().open = Some(OpenVocabulary {
        per_letter,
        ..Default::default()
    });
    for (decoding, message) in [
        (Decoding::beam(0), "width"),
        (cut(-1.0, 1.0, 1), "score cut"),
        (cut(1.0, f32::NAN, 1), "token cut"),
        (cut(1.0, 1.0, 0), "tokens per frame"),
        (Decoding::beam(4).n_best(0), "n-best"),
        (Decoding::beam(4).word_bonus(f32::INFINITY), "word bonus"),
        (Decoding::greedy().blank_penalty(f32::NAN), "blank penalty"),
        (Decoding::greedy().hotwords([("a", 1.0)]), "greedy"),
        (Decoding::beam(4).hotwords([("ax", 1.0)]), "'x'"),
        (Decoding::beam(4).lexicon::<&str>([]), "lexicon is empty"),
        (
            Decoding::beam(4).lexicon(["a", "xa"]),
            "lexicon word: the tokens cannot spell 'x' at position 1 of \"xa\"",
        ),
        (Decoding::beam(4).lexicon(["a b"]), "more than one word"),
        (open, "outside the lexicon"),
        (guided(Decoding::greedy()), "greedy"),
    ] {
        let error = decoding.plan(&tokens(true, 0)).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::InvalidArgument);
        assert!(
            error.to_string().contains(message),
            "{error} lacks {message}"
        );
    }
}
