//! A transcript's form: NFC, punctuation, numbers, case, in this order.
//!
//! English numbers can be spelled: cardinals with American wording (`1,203` becomes `one thousand two hundred
//! three`), decimals digit by digit after `point`, numbers with leading zeros or beyond 15 digits digit by digit.
//! Ordinals, dates, times and money need a reader's judgment and are reported, not guessed.

use super::{PrepareOptions, ProblemKind};
use crate::config::Case;
use crate::data::text::normalize;
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// What happens to digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Numbers {
    /// They stay; the alphabet gets them.
    Keep,
    /// A row with digits is left out and reported.
    Refuse,
    /// They become English words; what is no plain number is left out and reported.
    Spell,
}

/// What happens to characters that are neither letters, digits nor white space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Punctuation {
    /// They stay; the alphabet gets them.
    Keep,
    /// They become spaces; apostrophes within words stay, typographic ones as `'`.
    Strip,
}

/// The transcript in its final form, or why it has none.
pub(super) fn prepare(
    text: &str,
    options: &PrepareOptions,
) -> Result<String, (ProblemKind, String)> {
    clean(text, options.case, options.numbers, options.punctuation)
}

/// A text in the form of a transcript, or why it has none and what of it is to blame.
pub fn clean(
    text: &str,
    case: Case,
    numbers: Numbers,
    punctuation: Punctuation,
) -> Result<String, (ProblemKind, String)> {
    let text: String = text.nfc().collect();
    let text = match numbers {
        Numbers::Keep => text,
        Numbers::Refuse => {
            if text.chars().any(char::is_numeric) {
                return Err((ProblemKind::Number, format!("{text:?}")));
            }
            text
        }
        Numbers::Spell => spell_numbers(&text).map_err(|word| {
            (
                ProblemKind::Number,
                format!("{word:?} is no plain number, in {text:?}"),
            )
        })?,
    };
    let text = match punctuation {
        Punctuation::Keep => text,
        Punctuation::Strip => strip(&text),
    };
    let text = normalize(&text, case);
    if text.is_empty() {
        return Err((ProblemKind::EmptyText, String::new()));
    }
    Ok(text)
}

fn strip(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let is_word = |c: &char| c.is_alphanumeric() || is_combining_mark(*c);
    characters
        .iter()
        .enumerate()
        .map(|(at, &c)| {
            let inside = at > 0
                && characters.get(at - 1).is_some_and(is_word)
                && characters.get(at + 1).is_some_and(is_word);
            match c {
                '\'' | '\u{2019}' | '\u{2bc}' if inside => '\'',
                c if is_word(&c) => c,
                _ => ' ',
            }
        })
        .collect()
}

/// Spells the numbers of a text; the error is a word with digits that is none.
fn spell_numbers(text: &str) -> Result<String, String> {
    let words = text.split_whitespace().map(|word| {
        if !word.chars().any(char::is_numeric) {
            return Ok(word.to_owned());
        }
        let core = word.trim_matches(|c: char| !c.is_alphanumeric() && c != '$' && c != '%');
        let Some((before, after)) = word.split_once(core) else {
            return Err(word.to_owned());
        };
        let spelled = spell(core).ok_or_else(|| word.to_owned())?;
        Ok(format!("{before}{spelled}{after}"))
    });
    Ok(words.collect::<Result<Vec<_>, _>>()?.join(" "))
}

const ONES: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 10] = [
    "", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
];
const SCALES: [&str; 5] = ["", "thousand", "million", "billion", "trillion"];

/// The words of one number such as `7`, `1,203` or `3.14`.
fn spell(number: &str) -> Option<String> {
    let (whole, decimals) = match number.split_once('.') {
        Some((whole, decimals)) => (whole, Some(decimals)),
        None => (number, None),
    };
    let digits = ungroup(whole)?;
    let mut words = if digits.len() > 15 || (digits.len() > 1 && digits.starts_with('0')) {
        digit_words(&digits)?
    } else {
        cardinal(digits.parse().ok()?)
    };
    if let Some(decimals) = decimals {
        words.push("point");
        words.extend(digit_words(decimals)?);
    }
    Some(words.join(" "))
}

/// The digits of a number without its thousands commas, which must stand where they belong.
fn ungroup(number: &str) -> Option<String> {
    let groups: Vec<&str> = number.split(',').collect();
    let (first, rest) = groups.split_first()?;
    let well_formed = rest.is_empty()
        || ((1..=3).contains(&first.len()) && rest.iter().all(|group| group.len() == 3));
    let digits = groups.concat();
    let numeric = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    (well_formed && numeric).then_some(digits)
}

fn digit_words(digits: &str) -> Option<Vec<&'static str>> {
    if digits.is_empty() {
        return None;
    }
    digits
        .chars()
        .map(|c| ONES.get(c.to_digit(10)? as usize).copied())
        .collect()
}

fn cardinal(number: u64) -> Vec<&'static str> {
    if number == 0 {
        return vec!["zero"];
    }
    let mut words = Vec::new();
    for (power, scale) in SCALES.iter().enumerate().rev() {
        let group = (number / 1_000u64.pow(power as u32) % 1_000) as usize;
        if group == 0 {
            continue;
        }
        if group >= 100 {
            words.extend([ONES[group / 100], "hundred"]);
        }
        match group % 100 {
            0 => {}
            small @ 1..20 => words.push(ONES[small]),
            large => {
                words.push(TENS[large / 10]);
                if large % 10 > 0 {
                    words.push(ONES[large % 10]);
                }
            }
        }
        if !scale.is_empty() {
            words.push(scale);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn options(numbers: Numbers, punctuation: Punctuation, case: Case) -> PrepareOptions {
        PrepareOptions {
            numbers,
            punctuation,
            case,
            ..PrepareOptions::new("", "")
        }
    }

    #[test]
    fn numbers_are_spelled() {
        let cases = [
            ("0", Some("zero")),
            ("7", Some("seven")),
            ("13", Some("thirteen")),
            ("40", Some("forty")),
            ("99", Some("ninety nine")),
            ("100", Some("one hundred")),
            ("1,203", Some("one thousand two hundred three")),
            ("2000019", Some("two million nineteen")),
            ("007", Some("zero zero seven")),
            ("3.14", Some("three point one four")),
            (
                "999999999999999",
                Some(
                    "nine hundred ninety nine trillion nine hundred ninety nine billion nine hundred ninety nine million \
                 nine hundred ninety nine thousand nine hundred ninety nine",
                ),
            ),
            (
                "1234567890123456",
                Some(
                    "one two three four five six seven eight nine zero one two three four five six",
                ),
            ),
            ("12,34", None),
            ("1st", None),
            ("3.", None),
            ("10:30", None),
            ("$5", None),
            ("\u{663}", None),
        ];
        for (number, expected) in cases {
            assert_eq!(spell(number).as_deref(), expected, "{number}");
        }
    }

    #[test]
    fn policies_are_applied() {
        use Numbers::{Keep as KeepNumbers, Refuse, Spell};
        use Punctuation::{Keep, Strip};
        let cases = [
            (
                "Don\u{2019}t  stop - 'now'!",
                Refuse,
                Strip,
                Case::Lower,
                Ok("don't stop now"),
            ),
            ("Don't, stop.", Refuse, Keep, Case::Keep, Ok("Don't, stop.")),
            (
                "Room 12, (7).",
                Spell,
                Strip,
                Case::Upper,
                Ok("ROOM TWELVE SEVEN"),
            ),
            ("Room 12", KeepNumbers, Strip, Case::Lower, Ok("room 12")),
            (
                "Room 12",
                Refuse,
                Strip,
                Case::Lower,
                Err(ProblemKind::Number),
            ),
            (
                "the 2nd",
                Spell,
                Strip,
                Case::Lower,
                Err(ProblemKind::Number),
            ),
            (
                "... -- !",
                Refuse,
                Strip,
                Case::Lower,
                Err(ProblemKind::EmptyText),
            ),
            (
                "e\u{301}te\u{301}",
                Refuse,
                Strip,
                Case::Lower,
                Ok("\u{e9}t\u{e9}"),
            ),
            ("well-known", Refuse, Strip, Case::Lower, Ok("well known")),
        ];
        for (text, numbers, punctuation, case, expected) in cases {
            let found = prepare(text, &options(numbers, punctuation, case));
            let found = found.as_deref().map_err(|(kind, _)| *kind);
            assert_eq!(found, expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_has_a_form_or_a_reason(text in "\\PC{0,60}") {
            for numbers in [Numbers::Keep, Numbers::Refuse, Numbers::Spell] {
                for punctuation in [Punctuation::Keep, Punctuation::Strip] {
                    if let Ok(text) = prepare(&text, &options(numbers, punctuation, Case::Lower)) {
                        prop_assert!(!text.is_empty() && text.trim() == text);
                        if numbers != Numbers::Keep {
                            prop_assert!(!text.chars().any(char::is_numeric));
                        }
                    }
                }
            }
        }

        #[test]
        fn spelling_is_unambiguous(a in 0u64..1_000_000_000_000_000, b in 0u64..1_000_000) {
            prop_assert_eq!(cardinal(a) == cardinal(b), a == b);
        }
    }
}
