//! Words with times as SubRip subtitles.
//!
//! A cue ends before a pause, when it would grow longer than a line is comfortably read, or when it has stood
//! for long enough.

use acolyte::{TimeSpan, Word};
use std::io::{self, Write};

/// Longest text of a cue in characters: two lines of 42.
const MAX_CHARS: usize = 84;
/// Longest time a cue stands, in seconds.
const MAX_SECONDS: f64 = 6.0;
/// A pause of this many seconds between words begins a new cue.
const PAUSE: f64 = 0.8;

/// Writes the words as cues numbered after the first `before`, and says how many they are.
pub fn write(words: &[Word<TimeSpan>], before: usize, out: &mut dyn Write) -> io::Result<usize> {
    let cues = cues(words);
    let count = cues.len();
    for (number, cue) in cues.into_iter().enumerate() {
        let (Some(first), Some(last)) = (cue.first(), cue.last()) else {
            continue;
        };
        let text: Vec<&str> = cue.iter().map(|word| word.text.as_str()).collect();
        writeln!(out, "{}", before + number + 1)?;
        writeln!(
            out,
            "{} --> {}",
            clock(first.span.start),
            clock(last.span.end)
        )?;
        writeln!(out, "{}\n", text.join(" "))?;
    }
    Ok(count)
}

fn cues(words: &[Word<TimeSpan>]) -> Vec<&[Word<TimeSpan>]> {
    let mut cues = Vec::new();
    let (mut first, mut chars) = (0, 0);
    for (at, word) in words.iter().enumerate() {
        let length = word.text.chars().count();
        let pause = at > first && word.span.start - words[at - 1].span.end >= PAUSE;
        let long = at > first && chars + 1 + length > MAX_CHARS;
        let slow = at > first && word.span.end - words[first].span.start > MAX_SECONDS;
        if pause || long || slow {
            cues.push(&words[first..at]);
            (first, chars) = (at, 0);
        }
        chars += length + usize::from(at > first);
    }
    if first < words.len() {
        cues.push(&words[first..]);
    }
    cues
}

/// `HH:MM:SS,mmm`.
fn clock(seconds: f64) -> String {
    let milliseconds = (seconds.max(0.0) * 1000.0).round() as u64;
    format!(
        "{:02}:{:02}:{:02},{:03}",
        milliseconds / 3_600_000,
        milliseconds / 60_000 % 60,
        milliseconds / 1000 % 60,
        milliseconds % 1000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str, start: f64, end: f64) -> Word<TimeSpan> {
        Word {
            text: text.into(),
            span: TimeSpan { start, end },
            confidence: 1.0,
            tokens: 0..0,
        }
    }

    #[test]
    fn words_become_numbered_cues_that_end_at_pauses() {
        let words = [
            word("one", 0.5, 0.9),
            word("two", 1.0, 1.4),
            word("three", 3661.0, 3661.5),
        ];
        let mut out = Vec::new();
        write(&words, 0, &mut out).unwrap();
        let expected = "1\n00:00:00,500 --> 00:00:01,400\none two\n\n2\n01:01:01,000 --> 01:01:01,500\nthree\n\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn cues_stay_short_and_keep_every_word() {
        let words: Vec<_> = (0..200)
            .map(|i| word("word", f64::from(i) * 0.2, f64::from(i) * 0.2 + 0.15))
            .collect();
        let cues = cues(&words);
        assert_eq!(cues.iter().map(|cue| cue.len()).sum::<usize>(), 200);
        for cue in cues {
            let chars: usize = cue.iter().map(|w| w.text.len() + 1).sum();
            assert!(chars - 1 <= MAX_CHARS);
            assert!(cue[cue.len() - 1].span.end - cue[0].span.start <= MAX_SECONDS);
        }
    }

    #[test]
    fn no_words_give_no_cues() {
        let mut out = Vec::new();
        write(&[], 0, &mut out).unwrap();
        assert!(out.is_empty());
    }
}
