//! The vocabulary: ids to text and text to ids, for characters and for word pieces.
//!
//! An id is a position on the last axis of `[T, V]` scores. Every id but the blank's has a *piece* of text, an empty one
//! where it shows nothing (the `<s>` of other toolkits), and
//! the [`WordMark`] says how pieces make words: a separator between them, a prefix that begins one, a mark that
//! continues one, or no words at all. Text made from ids is its words joined by single spaces.

use crate::spec::{TokensSpec, WordMark};
use crate::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::ops::Range;

/// The most tokens a vocabulary may have: it keeps a lying model file from asking for all memory.
pub const MAX_TOKENS: usize = 1 << 18;

/// The longest piece, in bytes.
pub const MAX_PIECE_BYTES: usize = 256;

/// A validated vocabulary of V tokens, the blank among them.
#[derive(Debug, Clone)]
pub struct Tokens {
    pieces: Vec<String>,
    blank: u32,
    word_mark: WordMark,
    /// The id of each piece; the blank is not in it, so no text is ever encoded as a blank.
    ids: HashMap<String, u32>,
    longest_piece_chars: usize,
    separator: Option<u32>,
}

/// A word of a token sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WordRange {
    /// The word's text.
    pub text: String,
    /// Positions of its tokens within the sequence; separators belong to no word.
    pub tokens: Range<usize>,
}

impl Tokens {
    /// Checks `spec` and builds the tables both ways.
    ///
    /// Fails with [`ErrorKind::Spec`] on fewer than two or more than 262,144 tokens, a blank that is no
    /// id, no text at all, an overlong or repeated piece, an empty word mark, or a separator that is no piece.
    pub fn new(spec: TokensSpec) -> Result<Self> {
        let refuse = |message: String| Err(Error::new(ErrorKind::Spec, message));
        let size = spec.pieces.len();
        if !(2..=MAX_TOKENS).contains(&size) {
            return refuse(format!(
                "the vocabulary has {size} tokens; a blank and at least one more are needed, at most {MAX_TOKENS}"
            ));
        }
        if spec.blank as usize >= size {
            return refuse(format!(
                "blank id {} is outside the vocabulary of {size} tokens (ids 0 to {})",
                spec.blank,
                size - 1
            ));
        }
        if let WordMark::Separator(mark) | WordMark::Prefix(mark) | WordMark::Continuation(mark) =
            &spec.word_mark
            && mark.is_empty()
        {
            return refuse("the word mark is an empty string; use the kind `none`".into());
        }
        let mut ids = HashMap::with_capacity(size);
        let mut longest_piece_chars = 0;
        for (id, piece) in (0u32..).zip(&spec.pieces) {
            if id == spec.blank {
                continue;
            }
            if piece.len() > MAX_PIECE_BYTES {
                return refuse(format!(
                    "the piece of token {id} has {} bytes; at most {MAX_PIECE_BYTES} are allowed",
                    piece.len()
                ));
            }
            if piece.is_empty() {
                continue;
            }
            if let Some(first) = ids.insert(piece.clone(), id) {
                return refuse(format!(
                    "tokens {first} and {id} have the same piece {piece:?}; every piece but the blank's must be unique"
                ));
            }
            longest_piece_chars = longest_piece_chars.max(piece.chars().count());
        }
        if ids.is_empty() {
            return refuse("no token has a text".into());
        }
        let separator = match &spec.word_mark {
            WordMark::Separator(mark) => match ids.get(mark) {
                Some(&id) => Some(id),
                None => {
                    return refuse(format!(
                        "the word separator {mark:?} is none of the pieces; add it or use the word mark `none`"
                    ));
                }
            },
            _ => None,
        };
        Ok(Self {
            pieces: spec.pieces,
            blank: spec.blank,
            word_mark: spec.word_mark,
            ids,
            longest_piece_chars,
            separator,
        })
    }

    /// A vocabulary of `pieces` with words parted by `" "` where that is a piece, else without words.
    ///
    /// Fails as [`Tokens::new`] does.
    pub fn characters<P: Into<String>>(
        pieces: impl IntoIterator<Item = P>,
        blank: u32,
    ) -> Result<Self> {
        let pieces: Vec<String> = pieces.into_iter().map(Into::into).collect();
        let spaced = (0u32..)
            .zip(&pieces)
            .any(|(id, piece)| id != blank && piece == " ");
        Self::new(TokensSpec {
            pieces,
            blank,
            word_mark: if spaced {
                WordMark::Separator(" ".into())
            } else {
                WordMark::None
            },
        })
    }

    /// V: the number of tokens, the blank included.
    #[allow(clippy::len_without_is_empty)] // A vocabulary is never empty.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// The blank's id.
    pub fn blank(&self) -> u32 {
        self.blank
    }

    /// The text of a token as the model has it, marks included; none for the blank, for tokens without text and for ids
    /// beyond V.
    pub fn piece(&self, id: u32) -> Option<&str> {
        if id == self.blank {
            return None;
        }
        let piece = self.pieces.get(id as usize)?;
        (!piece.is_empty()).then_some(piece)
    }

    /// The id of a piece, marks included.
    pub fn id(&self, piece: &str) -> Option<u32> {
        self.ids.get(piece).copied()
    }

    /// How words are told apart.
    pub fn word_mark(&self) -> &WordMark {
        &self.word_mark
    }

    /// The id of the word separator, where words are parted by one.
    pub fn separator(&self) -> Option<u32> {
        self.separator
    }

    /// What a token adds to the text: whether it ends the word before it, and its text without marks.
    ///
    /// The blank, tokens without text and ids beyond V add nothing.
    pub fn contribution(&self, id: u32) -> (bool, &str) {
        let Some(piece) = self.piece(id) else {
            return (false, "");
        };
        match &self.word_mark {
            WordMark::Separator(_) if Some(id) == self.separator => (true, ""),
            WordMark::Separator(_) | WordMark::None => (false, piece),
            WordMark::Prefix(mark) => match piece.strip_prefix(mark.as_str()) {
                Some(rest) => (true, rest),
                None => (false, piece),
            },
            WordMark::Continuation(mark) => match piece.strip_prefix(mark.as_str()) {
                Some(rest) => (false, rest),
                None => (true, piece),
            },
        }
    }

    /// The words of a token sequence, in order. Words without text (two separators in a row) are left out.
    pub fn words(&self, ids: &[u32]) -> Vec<WordRange> {
        let mut words = Vec::new();
        let mut text = String::new();
        let mut range: Option<Range<usize>> = None;
        let mut close = |text: &mut String, range: Option<Range<usize>>| {
            if let Some(tokens) = range
                && !text.is_empty()
            {
                let text = std::mem::take(text);
                words.push(WordRange { text, tokens });
            }
        };
        for (position, &id) in ids.iter().enumerate() {
            let (new_word, piece) = self.contribution(id);
            if new_word {
                close(&mut text, range.take());
            }
            if Some(id) == self.separator || self.piece(id).is_none() {
                continue;
            }
            text.push_str(piece);
            range.get_or_insert(position..position).end = position + 1;
        }
        close(&mut text, range);
        words
    }

    /// The text of a token sequence: its words joined by single spaces.
    pub fn text(&self, ids: &[u32]) -> String {
        let mut text = String::new();
        for word in self.words(ids) {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(&word.text);
        }
        text
    }

    /// The ids that spell `text`: the longest piece that fits, from left to right, word by word.
    ///
    /// Runs of whitespace stand for one word boundary; with [`WordMark::None`] whitespace is text like any
    /// other. Fails with [`ErrorKind::InvalidArgument`] where no piece fits, naming the character and its
    /// position (in characters, from 1).
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() + 1);
        if self.word_mark == WordMark::None {
            self.encode_word(text, text, 0, &mut ids)?;
            return Ok(ids);
        }
        for word in text.split_whitespace() {
            // The word's place in the text, for the message: `word` is a slice of `text`.
            let offset = word.as_ptr() as usize - text.as_ptr() as usize;
            if let Some(separator) = self.separator
                && !ids.is_empty()
            {
                ids.push(separator);
            }
            self.encode_word(word, text, offset, &mut ids)?;
        }
        Ok(ids)
    }

    /// Appends the ids of one word, which stands at byte `offset` of `text`.
    fn encode_word(&self, word: &str, text: &str, offset: usize, ids: &mut Vec<u32>) -> Result<()> {
        let mut rest = word;
        let mut candidate = String::new();
        while !rest.is_empty() {
            let first = rest.len() == word.len();
            let mark = match &self.word_mark {
                WordMark::Prefix(mark) if first => mark.as_str(),
                WordMark::Continuation(mark) if !first => mark.as_str(),
                _ => "",
            };
            let found = self.longest_piece(mark, rest, &mut candidate).or_else(|| {
                // A word may also begin with the bare mark, where the vocabulary has it as a piece.
                let bare = first && matches!(self.word_mark, WordMark::Prefix(_));
                let mark_id = bare.then(|| self.id(mark)).flatten()?;
                let (id, bytes) = self.longest_piece("", rest, &mut candidate)?;
                ids.push(mark_id);
                Some((id, bytes))
            });
            let Some((id, bytes)) = found else {
                let position = text[..offset + word.len() - rest.len()].chars().count() + 1;
                let character = rest.chars().next().unwrap_or_default();
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    format!(
                        "the tokens cannot spell {character:?} at position {position} of {:?}; \
                         leave the character out or use a model whose alphabet has it",
                        excerpt(text)
                    ),
                ));
            };
            ids.push(id);
            rest = &rest[bytes..];
        }
        Ok(())
    }

    /// The longest piece that is `mark` followed by a beginning of `rest`, and that beginning's bytes.
    fn longest_piece(
        &self,
        mark: &str,
        rest: &str,
        candidate: &mut String,
    ) -> Option<(u32, usize)> {
        let mut ends = rest.char_indices().map(|(at, c)| at + c.len_utf8());
        let mut best = None;
        for _ in 0..self.longest_piece_chars {
            let Some(end) = ends.next() else { break };
            candidate.clear();
            candidate.push_str(mark);
            candidate.push_str(&rest[..end]);
            // The separator parts words, so it never spells a part of one.
            if let Some(id) = self.id(candidate)
                && Some(id) != self.separator
            {
                best = Some((id, end));
            }
        }
        best
    }
}

/// The beginning of a text, short enough for a message.
fn excerpt(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut shown: String = text.chars().take(SHOWN).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokens(pieces: &[&str], blank: u32, word_mark: WordMark) -> Result<Tokens> {
        Tokens::new(TokensSpec {
            pieces: pieces.iter().map(|&p| p.to_owned()).collect(),
            blank,
            word_mark,
        })
    }

    #[test]
    fn refuses_bad_vocabularies() {
        let long = "x".repeat(MAX_PIECE_BYTES + 1);
        let separator = || WordMark::Separator(" ".into());
        let cases: [(&[&str], u32, WordMark, &str); 8] = [
            (&[], 0, WordMark::None, "0 tokens"),
            (&[""], 0, WordMark::None, "1 tokens"),
            (&["", "a"], 2, WordMark::None, "blank id 2"),
            (&["", "a", "a"], 0, WordMark::None, "tokens 1 and 2"),
            (&["a", ""], 0, WordMark::None, "no token has a text"),
            (&["", &long], 0, WordMark::None, "257 bytes"),
            (&["", "a"], 0, separator(), "word separator \" \""),
            (
                &["", "a"],
                0,
                WordMark::Prefix(String::new()),
                "empty string",
            ),
        ];
        for (pieces, blank, mark, message) in cases {
            let error = tokens(pieces, blank, mark).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Spec, "{error}");
            assert!(
                error.to_string().contains(message),
                "{error} lacks {message}"
            );
        }
    }

    #[test]
    fn tokens_without_text_show_nothing() {
        let tokens = tokens(
            &["<pad>", "", "", "a", "|"],
            0,
            WordMark::Separator("|".into()),
        )
        .unwrap();
        assert_eq!(tokens.text(&[1, 3, 2, 3, 4, 1, 3, 2]), "aa a");
        assert_eq!(
            (tokens.piece(1), tokens.contribution(2)),
            (None, (false, ""))
        );
        assert_eq!(tokens.encode("a a").unwrap(), [3, 4, 3]);
    }

    #[test]
    fn the_blank_may_repeat_a_piece_and_stand_anywhere() {
        let tokens = tokens(&["a", "b", "a"], 2, WordMark::None).unwrap();
        assert_eq!(tokens.encode("ab").unwrap(), [0, 1]);
        assert_eq!(tokens.text(&[0, 2, 1, 9]), "ab");
        assert_eq!(tokens.piece(2), None);
    }

    #[test]
    // A list of ranges may hold a single one.
    #[allow(clippy::single_range_in_vec_init)]
    fn words_follow_the_mark() {
        let prefix = WordMark::Prefix("▁".into());
        let continuation = WordMark::Continuation("##".into());
        let separator = WordMark::Separator("|".into());
        // (pieces after the blank, mark, ids, text, token ranges of the words)
        type Case<'a> = (
            &'a [&'a str],
            WordMark,
            &'a [u32],
            &'a str,
            &'a [Range<usize>],
        );
        let cases: [Case<'_>; 7] = [
            (
                &["|", "a", "b"],
                separator.clone(),
                &[1, 2, 3, 1, 1, 3, 1],
                "ab b",
                &[1..3, 5..6],
            ),
            (&["|", "a"], separator, &[1, 1], "", &[]),
            (
                &["▁a", "b", "▁c"],
                prefix.clone(),
                &[1, 2, 3, 2],
                "ab cb",
                &[0..2, 2..4],
            ),
            (
                &["▁", "b", "▁c"],
                prefix.clone(),
                &[2, 1, 2, 1, 3],
                "b b c",
                &[0..1, 1..3, 4..5],
            ),
            (&["▁a", "é"], prefix, &[2, 1], "é a", &[0..1, 1..2]),
            (
                &["a", "##b"],
                continuation,
                &[2, 1, 2, 2, 1],
                "b abb a",
                &[0..1, 1..4, 4..5],
            ),
            (
                &["a", " ", "字"],
                WordMark::None,
                &[3, 2, 1],
                "字 a",
                &[0..3],
            ),
        ];
        for (pieces, mark, ids, text, ranges) in cases {
            let pieces: Vec<&str> = std::iter::once("").chain(pieces.iter().copied()).collect();
            let tokens = tokens(&pieces, 0, mark).unwrap();
            let found: Vec<Range<usize>> =
                tokens.words(ids).into_iter().map(|w| w.tokens).collect();
            assert_eq!(tokens.text(ids), text);
            assert_eq!(found, ranges, "{text:?}");
        }
    }

    #[test]
    fn encodes_the_longest_piece_first() {
        let pieces = ["", "▁", "▁he", "h", "l", "lo", "▁w", "o", "e"];
        let tokens = tokens(&pieces, 0, WordMark::Prefix("▁".into())).unwrap();
        assert_eq!(tokens.encode(" hello \t w").unwrap(), [2, 4, 5, 6]);
        assert_eq!(tokens.encode("loo").unwrap(), [1, 5, 7]);
        let error = tokens.encode("hello wxl").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("'x' at position 8"), "{error}");
    }

    proptest! {
        #[test]
        fn text_survives_the_round_trip(words in prop::collection::vec("[a-dé]{1,6}", 0..5)) {
            let text = words.join(" ");
            let vocabularies = [
                tokens(&["", " ", "a", "b", "c", "d", "é", "ab", "dé"], 0, WordMark::Separator(" ".into())),
                tokens(&["▁", "▁ab", "a", "b", "c", "d", "é", "cd", ""], 8, WordMark::Prefix("▁".into())),
                tokens(
                    &["a", "b", "c", "d", "é", "", "##a", "##b", "##c", "##d", "##é", "##ab"],
                    5,
                    WordMark::Continuation("##".into()),
                ),
                tokens(&["", " ", "a", "b", "c", "d", "é"], 0, WordMark::None),
            ];
            for tokens in vocabularies {
                let tokens = tokens.unwrap();
                prop_assert_eq!(tokens.text(&tokens.encode(&text).unwrap()), text.clone());
            }
        }

        #[test]
        fn any_text_encodes_or_is_refused(text in ".*") {
            let tokens = Tokens::characters(["", " ", "a", "b"], 0).unwrap();
            match tokens.encode(&text) {
                Ok(ids) => prop_assert_eq!(
                    tokens.text(&ids),
                    text.split_whitespace().collect::<Vec<_>>().join(" ")
                ),
                Err(error) => prop_assert_eq!(error.kind(), ErrorKind::InvalidArgument),
            }
        }
    }
}
