//! Texts to render: words of lists in the cases that signs have, numbers and prices, codes, addresses, signs.
//!
//! A list gives its words twice: each distinct word with equal weight, and the running text, in which words come as
//! often and with the punctuation that they have. What no list has (codes, numbers) is made up.

use crate::{Error, ErrorKind, Result};
use flate2::read::GzDecoder;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The most text read from all lists, in bytes.
const MAX_BYTES: usize = 256 << 20;

/// Texts one after another in one string.
#[derive(Debug, Default)]
struct Pool {
    text: String,
    ends: Vec<u32>,
}

impl Pool {
    fn push(&mut self, word: &str) {
        self.text.push_str(word);
        self.ends.push(self.text.len() as u32);
    }

    fn get(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start as usize..self.ends[index] as usize]
    }

    fn draw(&self, random: &mut ChaCha8Rng) -> Option<&str> {
        (!self.ends.is_empty()).then(|| self.get(random.random_range(0..self.ends.len())))
    }
}

/// Where texts come from.
#[derive(Debug)]
pub struct Words {
    distinct: Pool,
    running: Pool,
    characters: BTreeSet<char>,
    letters: Vec<char>,
    digits: Vec<char>,
    signs: Vec<char>,
    longest: usize,
}

impl Words {
    /// Reads the lists at `paths`, relative to `data`. Words with a character outside `characters` or of more than
    /// `longest` characters are left out.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] for a list that cannot be read, [`ErrorKind::Data`] for more than 256 MiB of them.
    pub fn load(
        paths: &[PathBuf],
        data: &Path,
        characters: &[char],
        longest: usize,
    ) -> Result<Self> {
        let characters: BTreeSet<char> = characters.iter().copied().collect();
        let some =
            |is: &dyn Fn(char) -> bool| characters.iter().copied().filter(|&c| is(c)).collect();
        let mut words = Self {
            distinct: Pool::default(),
            running: Pool::default(),
            letters: some(&|c| c.is_alphabetic()),
            digits: some(&|c| c.is_numeric()),
            signs: some(&|c| !c.is_alphanumeric() && !c.is_whitespace()),
            characters,
            longest,
        };
        let mut distinct = BTreeSet::new();
        for path in paths {
            let path = data.join(path);
            for file in files(&path)? {
                words.read(&file, &mut distinct)?;
            }
        }
        for word in &distinct {
            words.distinct.push(word);
        }
        Ok(words)
    }

    fn read(&mut self, path: &Path, distinct: &mut BTreeSet<String>) -> Result<()> {
        let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
        let mut reader: Box<dyn Read> = match path.extension().is_some_and(|e| e == "gz") {
            true => Box::new(GzDecoder::new(file)),
            false => Box::new(file),
        };
        let mut bytes = Vec::new();
        let room = MAX_BYTES - self.running.text.len().min(MAX_BYTES);
        (reader.by_ref().take(room as u64 + 1))
            .read_to_end(&mut bytes)
            .map_err(|e| Error::io(path, e))?;
        let refuse = |message: String| Err(Error::new(ErrorKind::Data, message).with_path(path));
        if bytes.len() > room {
            return refuse(format!(
                "the word lists have more than {MAX_BYTES} bytes: name fewer"
            ));
        }
        let text = String::from_utf8_lossy(&bytes);
        for token in text.split_whitespace() {
            let length = token.chars().count();
            if length > self.longest || !token.chars().all(|c| self.characters.contains(&c)) {
                continue;
            }
            self.running.push(token);
            let word = token.trim_matches(|c: char| !c.is_alphanumeric());
            // Lists have nearly every noun with an apostrophe too; signs seldom do.
            let owned = word.ends_with("'s");
            if !word.is_empty() && !owned && !distinct.contains(word) {
                distinct.insert(word.to_owned());
            }
        }
        Ok(())
    }

    /// A text, at most as long as was asked for, of nothing but known characters.
    pub fn draw(&self, random: &mut ChaCha8Rng) -> String {
        let drawn = self.compose(random);
        let known: String = (drawn.chars().filter(|c| self.characters.contains(c)))
            .take(self.longest)
            .collect();
        match known.trim() {
            "" => self.characters_of(&self.letters, 3, random),
            text => text.split_whitespace().collect::<Vec<_>>().join(" "),
        }
    }

    fn compose(&self, random: &mut ChaCha8Rng) -> String {
        let word = |random: &mut ChaCha8Rng| {
            let pool = if random.random_bool(0.6) {
                &self.distinct
            } else {
                &self.running
            };
            match pool.draw(random) {
                Some(word) => self.cased(word, random),
                None => self.characters_of(&self.letters, 6, random),
            }
        };
        match random.random_range(0..100) {
            0..66 => word(random),
            66..78 => self.number(random),
            78..86 => {
                let all = [&self.letters[..], &self.digits[..]].concat();
                let text = self.characters_of(&all, 8, random);
                if random.random_bool(0.6) {
                    text.to_uppercase()
                } else {
                    text
                }
            }
            86..91 => {
                let mut text = word(random);
                let sign = self.characters_of(&self.signs, 1, random);
                match random.random_range(0..4) {
                    0 => text.insert_str(0, &sign),
                    1 => text = format!("({text})"),
                    2 => text = format!("{text}{sign}{}", word(random)),
                    _ => text.push_str(&sign),
                }
                text
            }
            91..95 => {
                let (a, b) = (word(random).to_lowercase(), word(random).to_lowercase());
                let ends = ["com", "org", "net", "co.uk", "sg", "de", "info"];
                let end = ends[random.random_range(0..ends.len())];
                match random.random_range(0..3) {
                    0 => format!("www.{a}.{end}"),
                    1 => format!("{a}@{b}.{end}"),
                    _ => format!("{a}.{end}"),
                }
            }
            95..98 => format!("{} {}", word(random), word(random)),
            _ => {
                let all = [&self.letters[..], &self.digits[..], &self.signs[..]].concat();
                self.characters_of(&all, 7, random)
            }
        }
    }

    /// A word as signs write it: half of them shout.
    fn cased(&self, word: &str, random: &mut ChaCha8Rng) -> String {
        let capitalized = || {
            let mut letters = word.chars();
            let first = letters.next().map(|c| c.to_uppercase().to_string());
            first.unwrap_or_default() + &letters.as_str().to_lowercase()
        };
        match random.random_range(0..100) {
            0..40 => word.to_uppercase(),
            40..66 => capitalized(),
            66..82 => word.to_lowercase(),
            82..98 => word.to_owned(),
            _ => (word.chars())
                .map(|c| match random.random_bool(0.5) {
                    true => c.to_ascii_uppercase(),
                    false => c.to_ascii_lowercase(),
                })
                .collect(),
        }
    }

    fn number(&self, random: &mut ChaCha8Rng) -> String {
        let digits = |count: usize, random: &mut ChaCha8Rng| {
            (0..count)
                .map(|_| char::from(b'0' + random.random_range(0..10u8)))
                .collect::<String>()
        };
        let some = random.random_range(1..=4);
        match random.random_range(0..12) {
            0 | 1 => digits(some, random),
            2 => format!("{}", random.random_range(1950..2030)),
            3 => {
                let signs = ["$", "£", "€", "S$", "RM"];
                let sign = signs[random.random_range(0..signs.len())];
                format!("{sign}{}.{}", digits(some, random), digits(2, random))
            }
            4 => format!("{}%", random.random_range(1..=100)),
            5 => format!("{}-{}", digits(some.max(2), random), digits(4, random)),
            6 => format!("{}:{}", random.random_range(0..24), digits(2, random)),
            7 => format!("{}.{}", digits(some, random), digits(1, random)),
            8 => format!("{},{}", digits(some.min(3), random), digits(3, random)),
            9 => format!("#{}-{}", digits(2, random), digits(some.min(3), random)),
            10 => {
                let units = [
                    "kg", "km", "m", "ml", "L", "cm", "th", "am", "PM", "A", "B", "%",
                ];
                let unit = units[random.random_range(0..units.len())];
                format!("{}{unit}", digits(some.min(3), random))
            }
            _ => digits(some + 4, random),
        }
    }

    /// One to `most` characters of some; of all letters where there are none.
    fn characters_of(&self, some: &[char], most: usize, random: &mut ChaCha8Rng) -> String {
        let some = if some.is_empty() { &self.letters } else { some };
        if some.is_empty() {
            return self.digits.iter().take(1).collect();
        }
        let count = random.random_range(1..=most);
        (0..count)
            .map(|_| some[random.random_range(0..some.len())])
            .collect()
    }
}

/// The file at a path, or the files in a folder, in order.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).map_err(|e| Error::io(path, e))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Error::io(path, e))?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
