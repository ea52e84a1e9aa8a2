//! Lists of tokens as toolkits write them, and where blank and word mark stand in them.
//!
//! `tokens.txt` (sherpa, icefall, WeNet, NeMo): a piece, white space, its id. A plain list: a piece a line, in order.
//! `vocab.json` (wav2vec2): an object from pieces to ids.

use super::{Convention, Preset, Report, unsure};
use crate::spec::{TokensSpec, WordMark};
use crate::{Result, Tokens, tokens::MAX_TOKENS};
use std::collections::BTreeMap;

/// What toolkits call the blank.
const BLANKS: [&str; 5] = ["<blk>", "<blank>", "<eps>", "[blank]", "blank"];

/// What `transformers` calls the blank.
const PADS: [&str; 2] = ["<pad>", "[PAD]"];

/// Tokens of `transformers` that show nothing.
const SPECIAL: [&str; 7] = ["<s>", "</s>", "<unk>", "[UNK]", "[CLS]", "[SEP]", "<mask>"];

/// The mark by which SentencePiece begins a word.
const WORD: &str = "\u{2581}";

/// The pieces of a list, in the order of their ids.
pub(super) fn parse(text: &str) -> Result<Vec<String>> {
    let pieces = match text.trim_start().starts_with('{') {
        true => object(text)?,
        false => lines(text)?,
    };
    if pieces.is_empty() || pieces.len() > MAX_TOKENS {
        return Err(unsure(format!(
            "the list of tokens has {} entries, 1 to {MAX_TOKENS} are expected",
            pieces.len()
        )));
    }
    Ok(pieces)
}

fn object(text: &str) -> Result<Vec<String>> {
    let map: BTreeMap<String, u32> = serde_json::from_str(text).map_err(|e| {
        unsure(format!(
            "the list of tokens is no JSON object from pieces to ids: {e}"
        ))
        .with_source(e)
    })?;
    numbered(map.into_iter().map(|(piece, id)| (piece, u64::from(id))))
}

fn lines(text: &str) -> Result<Vec<String>> {
    let mut lines: Vec<&str> = text
        .split('\n')
        .map(|l| l.strip_suffix('\r').unwrap_or(l))
        .collect();
    if lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop();
    }
    let with_id = |line: &&str| -> Option<(String, u64)> {
        let (piece, id) = line.rsplit_once([' ', '\t'])?;
        Some((piece.to_owned(), id.parse().ok()?))
    };
    let pairs: Option<Vec<(String, u64)>> = lines.iter().map(with_id).collect();
    match pairs {
        // A space has no text before the white space that parts it from its id.
        Some(pairs) if !pairs.is_empty() => numbered(pairs.into_iter().map(|(piece, id)| {
            let space = piece.is_empty();
            (if space { " ".to_owned() } else { piece }, id)
        })),
        _ => Ok(lines.into_iter().map(str::to_owned).collect()),
    }
}

fn numbered(pairs: impl ExactSizeIterator<Item = (String, u64)>) -> Result<Vec<String>> {
    let count = pairs.len();
    let mut pieces: Vec<Option<String>> = vec![None; count];
    for (piece, id) in pairs {
        let place = usize::try_from(id).ok().and_then(|id| pieces.get_mut(id));
        match place {
            Some(place @ None) => *place = Some(piece),
            Some(Some(other)) => {
                return Err(unsure(format!(
                    "the list of tokens gives id {id} to {other:?} and to {piece:?}"
                )));
            }
            None => {
                return Err(unsure(format!(
                    "the list of tokens gives {piece:?} id {id}, but has {count} entries: an id below is missing"
                )));
            }
        }
    }
    Ok(pieces.into_iter().flatten().collect())
}

/// The vocabulary of a model that scores `vocabulary` tokens, if its graph says how many.
pub(super) fn vocabulary(
    listed: Vec<String>,
    vocabulary: Option<usize>,
    convention: Option<Convention>,
    preset: &Preset,
    report: &mut Report,
) -> Result<TokensSpec> {
    let (mut pieces, blank) = match (preset.blank, convention) {
        (Some(blank), _) => {
            report.note(super::Standing::Given, "blank", blank);
            (listed, blank)
        }
        (None, Some(Convention::Ppocr)) => paddle(listed, vocabulary, report)?,
        (None, convention) => named(listed, vocabulary, convention, report)?,
    };
    if convention == Some(Convention::Wav2vec2Ctc) {
        let hidden: Vec<usize> = (0..pieces.len())
            .filter(|&id| id != blank as usize && SPECIAL.contains(&pieces[id].as_str()))
            .collect();
        for id in hidden {
            report.found("without text", format!("token {id}, {:?}", pieces[id]));
            pieces[id].clear();
        }
    }
    let mark = word_mark(&pieces, blank, convention);
    let word_mark = match &preset.word_mark {
        Some(mark) => {
            report.note(super::Standing::Given, "word mark", shown(mark));
            mark.clone()
        }
        None => {
            report.found("word mark", shown(&mark));
            mark
        }
    };
    report.found("tokens", pieces.len());
    let spec = TokensSpec {
        pieces,
        blank,
        word_mark,
    };
    if let Some(expected) = vocabulary
        && expected != spec.pieces.len()
    {
        let more = if spec.pieces.len() < expected {
            "few"
        } else {
            "many"
        };
        return Err(unsure(format!(
            "the list makes {} tokens with the blank, but the graph scores {expected}: it has {} too {more}",
            spec.pieces.len(),
            spec.pieces.len().abs_diff(expected)
        )));
    }
    Tokens::new(spec.clone())?;
    Ok(spec)
}

fn shown(mark: &WordMark) -> String {
    match mark {
        WordMark::Separator(mark) => format!("{mark:?} between words"),
        WordMark::Prefix(mark) => format!("{mark:?} before words"),
        WordMark::Continuation(mark) => format!("{mark:?} within words"),
        WordMark::None => "none: no words".to_owned(),
    }
}

/// PaddleOCR's vocabulary: the blank, the listed characters, and the space where the graph has room for it.
fn paddle(
    listed: Vec<String>,
    vocabulary: Option<usize>,
    report: &mut Report,
) -> Result<(Vec<String>, u32)> {
    let count = listed.len();
    if let Some(at) = listed
        .iter()
        .position(|piece| BLANKS[..4].contains(&piece.as_str()))
    {
        return Err(unsure(format!(
            "entry {at} of the characters is {:?}: PP-OCR's lists have no blank, it comes before them; with it there \
             would be two. Take it out, or name it with `blank` in a preset",
            listed[at]
        )));
    }
    report.assumed("blank", "0, before the characters");
    let spaced = vocabulary.is_none_or(|v| v == count + 2);
    if spaced {
        report.assumed("space", "after the characters");
    }
    if let Some(v) = vocabulary
        && v != count + 2
        && v != count + 1
    {
        return Err(unsure(format!(
            "{count} characters, but the graph scores {v} tokens: with blank and space {} are expected, so the list has \
             {} too {}",
            count + 2,
            v.abs_diff(count + 2),
            if count + 2 < v { "few" } else { "many" }
        )));
    }
    let space = spaced.then(|| " ".to_owned());
    let pieces = std::iter::once("<blank>".to_owned())
        .chain(listed)
        .chain(space);
    Ok((pieces.collect(), 0))
}

/// The vocabulary of lists that have the blank by its name, or lack it and no more.
fn named(
    mut listed: Vec<String>,
    vocabulary: Option<usize>,
    convention: Option<Convention>,
    report: &mut Report,
) -> Result<(Vec<String>, u32)> {
    let names: &[&str] = match convention {
        Some(Convention::Wav2vec2Ctc) => &PADS,
        _ => &BLANKS[..4],
    };
    let found: Vec<usize> = (0..listed.len())
        .filter(|&id| names.contains(&listed[id].as_str()))
        .collect();
    match (found.as_slice(), convention) {
        (&[blank], _) => {
            report.found("blank", format!("{blank}, {:?}", listed[blank]));
            Ok((listed, blank as u32))
        }
        ([], Some(Convention::NemoCtc)) if vocabulary.is_none_or(|v| v == listed.len() + 1) => {
            let blank = listed.len() as u32;
            listed.push("<blk>".to_owned());
            report.assumed("blank", format!("{blank}, after the tokens"));
            Ok((listed, blank))
        }
        ([], _) => Err(unsure(format!(
            "none of the {} tokens is a blank ({}): name its id with `blank` in a preset",
            listed.len(),
            names.join(", ")
        ))),
        ([first, second, ..], _) => Err(unsure(format!(
            "tokens {first}, {:?}, and {second}, {:?}, both look like the blank: say which is with `blank` in a preset",
            listed[*first], listed[*second]
        ))),
    }
}

fn word_mark(pieces: &[String], blank: u32, convention: Option<Convention>) -> WordMark {
    let mut others = (0u32..)
        .zip(pieces)
        .filter(|(id, _)| *id != blank)
        .map(|(_, piece)| piece);
    if convention == Some(Convention::Wav2vec2Ctc) && others.clone().any(|p| p == "|") {
        return WordMark::Separator("|".into());
    }
    if others.clone().any(|p| p.starts_with(WORD)) {
        return WordMark::Prefix(WORD.into());
    }
    match others.any(|p| p == " ") {
        true => WordMark::Separator(" ".into()),
        false => WordMark::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A list, how many tokens the graph scores, the convention; the blank, the tokens there are, the mark.
    type Good = (
        &'static [&'static str],
        Option<usize>,
        Convention,
        u32,
        usize,
        WordMark,
    );

    /// A list, how many tokens the graph scores, the convention, and what the refusal says.
    type Bad = (
        &'static [&'static str],
        Option<usize>,
        Option<Convention>,
        &'static str,
    );

    #[test]
    fn lists_are_read_in_every_form() {
        let expected = ["<blk>", "a", " ", "b c"].map(str::to_owned);
        for text in [
            "<blk> 0\na 1\n  2\nb c 3\n",
            "b c\t3\r\na\t1\r\n<blk>\t0\r\n \t2\r\n",
            "<blk>\na\n \nb c",
            r#"{"a": 1, "<blk>": 0, "b c": 3, " ": 2}"#,
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text:?}");
        }
        // One digit a line is a list of digits, not of ids.
        assert_eq!(parse("0\n1\n2\n").unwrap(), ["0", "1", "2"]);
    }

    #[test]
    fn bad_lists_are_named() {
        for (text, says) in [
            ("", "0 entries"),
            ("a 0\nb 0\n", "id 0 to \"a\" and to \"b\""),
            ("a 0\nb 7\n", "\"b\" id 7, but has 2 entries"),
            ("{\"a\": -1}", "no JSON object"),
            ("{\"a\": 0, \"b\"", "no JSON object"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    fn made(
        listed: &[&str],
        size: Option<usize>,
        convention: Option<Convention>,
        preset: &Preset,
    ) -> Result<TokensSpec> {
        let listed = listed.iter().map(|&p| p.to_owned()).collect();
        vocabulary(listed, size, convention, preset, &mut Report::default())
    }

    #[test]
    fn blanks_and_words_are_where_the_conventions_have_them() {
        use Convention::{IcefallCtc, NemoCtc, Ppocr, Wav2vec2Ctc, WenetCtc};
        let cases: [Good; 6] = [
            (
                &["a", "b"],
                Some(4),
                Ppocr,
                0,
                4,
                WordMark::Separator(" ".into()),
            ),
            (&["a", "b"], Some(3), Ppocr, 0, 3, WordMark::None),
            (
                &["<unk>", "\u{2581}a", "<blk>"],
                None,
                NemoCtc,
                2,
                3,
                WordMark::Prefix(WORD.into()),
            ),
            (
                &[" ", "a"],
                Some(3),
                NemoCtc,
                2,
                3,
                WordMark::Separator(" ".into()),
            ),
            (
                &["<blk>", "<sos/eos>", "\u{2581}a"],
                None,
                IcefallCtc,
                0,
                3,
                WordMark::Prefix(WORD.into()),
            ),
            (
                &["<blank>", "<unk>", "\u{4f60}", "<sos/eos>"],
                None,
                WenetCtc,
                0,
                4,
                WordMark::None,
            ),
        ];
        for (listed, size, convention, blank, count, mark) in cases {
            let spec = made(listed, size, Some(convention), &Preset::default()).unwrap();
            assert_eq!(
                (spec.blank, spec.pieces.len(), &spec.word_mark),
                (blank, count, &mark)
            );
        }
        let spec = made(
            &["<pad>", "<s>", "|", "E"],
            None,
            Some(Wav2vec2Ctc),
            &Preset::default(),
        )
        .unwrap();
        assert_eq!((spec.blank, spec.pieces[1].as_str()), (0, ""));
        assert_eq!(spec.word_mark, WordMark::Separator("|".into()));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        use Convention::{IcefallCtc, NemoCtc, Ppocr};
        let cases: [Bad; 7] = [
            (&["a", "b"], Some(5), Some(Ppocr), "1 too few"),
            (&["a", "b", "c"], Some(3), Some(Ppocr), "2 too many"),
            (
                &["<blank>", "a"],
                Some(4),
                Some(Ppocr),
                "there would be two",
            ),
            (
                &["<blk>", "a", "<blank>"],
                None,
                Some(IcefallCtc),
                "both look like the blank",
            ),
            (
                &["a", "b"],
                None,
                Some(IcefallCtc),
                "none of the 2 tokens is a blank",
            ),
            (&["<blk>", "a"], Some(3), Some(NemoCtc), "1 too few"),
            (&["<blk>", "a", "a"], Some(3), None, "same piece"),
        ];
        for (listed, size, convention, says) in cases {
            let error = made(listed, size, convention, &Preset::default()).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
        }
        let preset = Preset {
            blank: Some(1),
            ..Preset::default()
        };
        assert_eq!(made(&["a", "b"], Some(2), None, &preset).unwrap().blank, 1);
    }

    proptest! {
        #[test]
        fn any_text_is_a_list_or_an_error(text: String) {
            if let Ok(pieces) = parse(&text) {
                prop_assert!(!pieces.is_empty());
            }
        }
    }
}
