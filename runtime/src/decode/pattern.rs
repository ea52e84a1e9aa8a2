//! Patterns of characters, such as `AA-000`: closed shapes for plates, codes and numbers.
//!
//! `A` stands for a letter, `0` for a digit, `X` for a letter or a digit; a backslash takes the next
//! character as itself, and every other character stands for itself.

use crate::{Error, ErrorKind, Result};

/// The longest pattern, in characters.
const MOST_CHARACTERS: usize = 256;

/// What one character may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Digit,
    LetterOrDigit,
    Exactly(char),
}

impl Class {
    fn has(self, c: char) -> bool {
        match self {
            Self::Letter => c.is_alphabetic(),
            Self::Digit => c.is_numeric(),
            Self::LetterOrDigit => c.is_alphanumeric(),
            Self::Exactly(this) => c == this,
        }
    }
}

/// A parsed pattern. A state is the number of characters matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Class>);

impl Pattern {
    /// Parses a pattern.
    ///
    /// Fails with [`ErrorKind::InvalidArgument`] on an empty or overlong pattern and a backslash at the end.
    pub fn new(pattern: &str) -> Result<Self> {
        let refuse = |what: &str| {
            let message = format!("pattern {pattern:?} {what}");
            Err(Error::new(ErrorKind::InvalidArgument, message))
        };
        let mut classes = Vec::new();
        let mut characters = pattern.chars();
        while let Some(c) = characters.next() {
            classes.push(match c {
                'A' => Class::Letter,
                '0' => Class::Digit,
                'X' => Class::LetterOrDigit,
                '\\' => match characters.next() {
                    Some(c) => Class::Exactly(c),
                    None => return refuse("ends with a backslash, which takes one more character"),
                },
                c => Class::Exactly(c),
            });
            if classes.len() > MOST_CHARACTERS {
                return refuse("is longer than 256 characters");
            }
        }
        if classes.is_empty() {
            return refuse("is empty; leave it out");
        }
        Ok(Self(classes))
    }

    /// The state after `text`, none where it does not match.
    pub fn step(&self, state: u32, text: &str) -> Option<u32> {
        let mut at = state as usize;
        for c in text.chars() {
            if !self.0.get(at)?.has(c) {
                return None;
            }
            at += 1;
        }
        Some(at as u32)
    }

    /// Whether the whole pattern has been matched.
    pub fn complete(&self, state: u32) -> bool {
        state as usize == self.0.len()
    }

    /// Whether a text of these characters can be part of a match at all.
    pub fn admits(&self, text: &str) -> bool {
        text.chars()
            .all(|c| self.0.iter().any(|class| class.has(c)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_character_by_character() {
        for (pattern, text, matches) in [
            ("AA-000", "ab-123", true),
            ("AA-000", "ÄB-12", false),
            ("AA-000", "AB-1234", false),
            ("AA-000", "AB 123", false),
            ("X\\A 0", "7A 1", true),
            ("X\\A 0", "7B 1", false),
        ] {
            let pattern = Pattern::new(pattern).unwrap();
            let end = pattern.step(0, text);
            assert_eq!(
                end.is_some_and(|end| pattern.complete(end)),
                matches,
                "{text}"
            );
        }
    }

    #[test]
    fn bad_patterns_are_refused() {
        for pattern in ["", "a\\", &"A".repeat(2000)] {
            let error = Pattern::new(pattern).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
    }
}
