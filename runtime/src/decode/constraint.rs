//! Constraints: what a reading may be at all. An alphabet, a closed list of phrases, a pattern.
//!
//! A constraint forces the input into its own; the margin against the unconstrained best reading
//! ([`Transcript::margin`](crate::Transcript::margin)) tells how much force that took.

use super::pattern::Pattern;
use super::plan::spell;
use super::trie::{ByteTrie, START};
use crate::{Error, ErrorKind, Result, Tokens};
use std::collections::BTreeSet;

/// A restriction of what may be read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Constraint {
    /// Only these characters; boundaries between words are always allowed.
    Alphabet(String),
    /// One of these phrases, and nothing else.
    Phrases(Vec<String>),
    /// A text of this shape: `A` a letter, `0` a digit, `X` either, `\` takes the next character as
    /// itself, others stand for themselves.
    Pattern(String),
}

impl Constraint {
    /// A closed list of phrases.
    pub fn phrases<P: Into<String>>(phrases: impl IntoIterator<Item = P>) -> Self {
        Self::Phrases(phrases.into_iter().map(Into::into).collect())
    }
}

/// Constraints made ready for a vocabulary.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// Tokens that are allowed everywhere an alphabet is concerned. `[V]`
    pub allowed: Option<Vec<bool>>,
    phrases: Option<ByteTrie>,
    pattern: Option<Pattern>,
}

/// Where a text stands in the phrases and in the pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RuleState {
    phrase: u32,
    /// Characters read, which is where it stands in the pattern.
    pub read: u32,
}

impl Rules {
    /// Checks `constraints` against `tokens`.
    ///
    /// Fails with [`ErrorKind::InvalidArgument`] on an empty alphabet or list, on two lists or two patterns,
    /// and on what
    /// the tokens cannot spell.
    pub fn new(constraints: &[Constraint], tokens: &Tokens) -> Result<Self> {
        let mut rules = Self {
            allowed: None,
            phrases: None,
            pattern: None,
        };
        let twice = |what: &str| {
            let message = format!("there are two {what}; merge them into one");
            Err(Error::new(ErrorKind::InvalidArgument, message))
        };
        for constraint in constraints {
            match constraint {
                Constraint::Alphabet(alphabet) => rules.restrict(alphabet, tokens)?,
                Constraint::Phrases(_) if rules.phrases.is_some() => return twice("phrase lists"),
                Constraint::Phrases(phrases) => {
                    rules.phrases = Some(phrase_trie(phrases, tokens)?);
                }
                Constraint::Pattern(_) if rules.pattern.is_some() => return twice("patterns"),
                Constraint::Pattern(pattern) => rules.pattern = Some(Pattern::new(pattern)?),
            }
        }
        Ok(rules)
    }

    fn restrict(&mut self, alphabet: &str, tokens: &Tokens) -> Result<()> {
        let alphabet: BTreeSet<char> = alphabet.chars().collect();
        let mut spells = false;
        let within: Vec<bool> = (0..tokens.len() as u32)
            .map(|id| {
                let (_, text) = tokens.contribution(id);
                let within = text.chars().all(|c| alphabet.contains(&c));
                spells |= within && !text.is_empty();
                within
            })
            .collect();
        if !spells {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "no token of the model is spelled in the alphabet given; check its case and script",
            ));
        }
        self.allowed = Some(match self.allowed.take() {
            None => within,
            Some(before) => before.iter().zip(within).map(|(&a, b)| a && b).collect(),
        });
        Ok(())
    }

    /// Whether a whole text is prescribed, not only its characters.
    pub fn closed(&self) -> bool {
        self.phrases.is_some() || self.pattern.is_some()
    }

    /// The number of beginnings that closed rules leave, where it is known.
    pub fn beginnings(&self) -> Option<usize> {
        self.phrases.as_ref().map(ByteTrie::len)
    }

    /// Whether a token may be part of a reading at all.
    pub fn admits(&self, id: u32, text: &str) -> bool {
        let allowed = self
            .allowed
            .as_ref()
            .is_none_or(|allowed| allowed[id as usize]);
        allowed
            && self
                .pattern
                .as_ref()
                .is_none_or(|pattern| pattern.admits(text))
    }

    pub fn start(&self) -> RuleState {
        RuleState {
            phrase: START,
            read: 0,
        }
    }

    /// The state after `text`, none where that is against the rules.
    pub fn step(&self, state: RuleState, text: &str) -> Option<RuleState> {
        let phrase = match &self.phrases {
            Some(phrases) => phrases.walk(state.phrase, text.as_bytes())?,
            None => START,
        };
        let read = match &self.pattern {
            Some(pattern) => pattern.step(state.read, text)?,
            // No phrase has so many; where nothing is prescribed the number means nothing.
            None => state.read.saturating_add(text.chars().count() as u32),
        };
        Some(RuleState { phrase, read })
    }

    /// Whether the text may end here.
    pub fn complete(&self, state: RuleState) -> bool {
        let phrase = (self.phrases.as_ref()).is_none_or(|trie| trie.key(state.phrase).is_some());
        phrase && (self.pattern.as_ref()).is_none_or(|pattern| pattern.complete(state.read))
    }
}

/// The trie of phrases as they are written: words joined by single spaces.
fn phrase_trie(phrases: &[String], tokens: &Tokens) -> Result<ByteTrie> {
    let mut texts = BTreeSet::new();
    for phrase in phrases {
        let text = tokens.text(&spell("phrase", phrase, tokens)?);
        if text.is_empty() {
            let message = "a phrase is empty; leave it out";
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        texts.insert(text);
    }
    if texts.is_empty() {
        let message = "the list of phrases is empty; give at least one";
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    let texts: Vec<String> = texts.into_iter().collect();
    Ok(ByteTrie::new(&texts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters() -> Tokens {
        Tokens::characters(["", " ", "a", "b", "1"], 0).unwrap()
    }

    #[test]
    fn rules_hold_together() {
        let constraints = [
            Constraint::phrases(["a b", "a1", "ab1", "a1"]),
            Constraint::Pattern("AX".into()),
            Constraint::Alphabet("a1b".into()),
            Constraint::Alphabet("a1".into()),
        ];
        let rules = Rules::new(&constraints, &letters()).unwrap();
        assert!(rules.closed());
        let read = |text| rules.step(rules.start(), text);
        assert!(rules.complete(read("a1").unwrap()));
        assert!(!rules.complete(read("ab").unwrap()));
        assert_eq!(read("b"), None);
        assert_eq!(read("ab1"), None);
        assert!(rules.admits(2, "a") && !rules.admits(3, "b") && !rules.admits(2, "-"));
    }

    #[test]
    fn bad_constraints_are_refused() {
        let twice = Constraint::phrases(["a"]);
        for (constraints, message) in [
            (vec![Constraint::phrases::<&str>([])], "is empty"),
            (vec![Constraint::phrases(["a", " "])], "a phrase is empty"),
            (vec![Constraint::phrases(["a", "xa"])], "'x' at position 1"),
            (vec![Constraint::Alphabet("A".into())], "no token"),
            (vec![twice.clone(), twice], "two phrase lists"),
            (vec![Constraint::Pattern(String::new())], "is empty"),
        ] {
            let error = Rules::new(&constraints, &letters()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.to_string().contains(message), "{error}");
        }
    }
}
