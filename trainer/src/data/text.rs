//! Transcripts to token ids: Unicode form, case, white space, and the alphabet.
//!
//! The one place that decides what a transcript looks like to the model; `prepare` writes manifests through
//! the same [`normalize`], and scoring compares against the normalized text.

use crate::config::{Case, TextConfig};
use crate::error::{Error, ErrorKind, Result};
use acolyte::Tokens;
use std::collections::BTreeSet;
use unicode_normalization::UnicodeNormalization;

/// The text in Unicode form NFC and the given case, runs of white space made one space, none at the ends.
pub fn normalize(text: &str, case: Case) -> String {
    let spaced = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let cased = match case {
        Case::Keep => spaced,
        Case::Lower => spaced.to_lowercase(),
        Case::Upper => spaced.to_uppercase(),
    };
    // Last, because changing case can leave a decomposed sequence (İ becomes i and a combining dot).
    cased.nfc().collect()
}

/// The sorted characters of some normalized texts: an alphabet derived from data.
pub fn derive_alphabet<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    texts
        .into_iter()
        .flat_map(str::chars)
        .collect::<BTreeSet<char>>()
        .into_iter()
        .map(String::from)
        .collect()
}

/// The vocabulary of `alphabet`, the blank at id 0.
///
/// # Errors
/// `Recipe` if it cannot be one (no token at all, a token twice).
pub fn vocabulary(config: &TextConfig, alphabet: &[String]) -> Result<Tokens> {
    Tokens::new(config.tokens_spec(alphabet))
        .map_err(|e| Error::new(ErrorKind::Recipe, format!("[text] tokens: {e}")).with_source(e))
}

/// The fewest output frames a CTC path of `targets` needs: one a token, and a blank between equal neighbors.
pub fn frames_needed(targets: &[u32]) -> usize {
    targets.len() + targets.windows(2).filter(|pair| pair[0] == pair[1]).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_normalized() {
        let cases = [
            ("  Hello \t world\n", Case::Lower, "hello world"),
            ("Cafe\u{301}", Case::Keep, "Caf\u{e9}"),
            ("straße", Case::Upper, "STRASSE"),
            ("\u{130}", Case::Lower, "i\u{307}"),
            ("   ", Case::Lower, ""),
        ];
        for (text, case, expected) in cases {
            assert_eq!(normalize(text, case), expected, "{text:?}");
        }
    }

    #[test]
    fn a_vocabulary_needs_unique_tokens_and_no_separator() {
        let config = TextConfig::default();
        let tokens = vocabulary(&config, &["a".to_owned(), "b".to_owned()]).unwrap();
        assert_eq!(tokens.encode("ab").unwrap(), [1, 2]);
        assert_eq!(tokens.separator(), None);
        for unusable in [vec![], vec!["a".to_owned(); 2]] {
            let error = vocabulary(&config, &unusable).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Recipe);
        }
    }

    #[test]
    fn repeats_need_a_blank() {
        for (targets, frames) in [
            (&[][..], 0),
            (&[1, 2, 3], 3),
            (&[1, 1], 3),
            (&[2, 2, 2, 1], 6),
        ] {
            assert_eq!(frames_needed(targets), frames);
        }
    }

    proptest! {
        #[test]
        fn text_of_a_derived_alphabet_survives_the_round_trip(text in "\\PC{1,40}") {
            let text = normalize(&text, Case::Lower);
            prop_assume!(!text.is_empty() && text != " ");
            let tokens = vocabulary(&TextConfig::default(), &derive_alphabet([text.as_str()])).unwrap();
            let ids = tokens.encode(&text).unwrap();
            prop_assert_eq!(tokens.text(&ids), text);
        }

        #[test]
        fn normalizing_twice_changes_nothing(text in "\\PC{0,40}") {
            for case in [Case::Keep, Case::Lower] {
                let once = normalize(&text, case);
                prop_assert_eq!(normalize(&once, case), once);
            }
        }
    }
}
