//! Reads n-gram models in ARPA format, plain or (feature `gzip`) compressed.
//!
//! ```text
//! \data\
//! ngram 1=4
//! ngram 2=2
//!
//! \1-grams:
//! -0.7    <s>   -0.3
//! ...
//! \end\
//! ```
//!
//! Log-probs and back-off weights are base-10 logarithms. The file is read as a stream: no line may be longer than
//! [`MAX_LINE`], and nothing is allocated for what a header only promises.

use super::ngram::{Builder, EMPTY_WORD, Gram, MAX_ORDER, NgramModel, hash};
use crate::{Error, ErrorKind, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// The longest line read, in bytes.
const MAX_LINE: usize = 1 << 16;

/// The most n-grams of one order: places are numbers of 32 bits, over all orders.
const MAX_NGRAMS: u64 = 1 << 29;

impl NgramModel {
    /// Reads an ARPA file, plain or compressed with gzip.
    ///
    /// Fails with [`ErrorKind::Io`] where it cannot be read, [`ErrorKind::Malformed`] naming the line where it
    /// is no ARPA
    /// file, [`ErrorKind::Limit`] where it is of an order above [`MAX_ORDER`] or too large, and
    /// [`ErrorKind::Unsupported`]
    /// where it is compressed and the feature `gzip` is off.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = File::open(path).map_err(|error| Error::io(path, error))?;
        Self::read(BufReader::new(file)).map_err(|error| error.with_path(path))
    }

    /// Reads a model from the bytes of an ARPA file, plain or compressed with gzip; fails as
    /// [`NgramModel::open`] does.
    pub fn read(mut reader: impl BufRead) -> Result<Self> {
        const GZIP: [u8; 2] = [0x1f, 0x8b];
        let head = reader.fill_buf().map_err(unreadable)?;
        if head.starts_with(&GZIP) {
            return read_compressed(reader);
        }
        read_plain(reader)
    }
}

#[cfg(feature = "gzip")]
fn read_compressed(reader: impl BufRead) -> Result<NgramModel> {
    read_plain(BufReader::new(flate2::bufread::MultiGzDecoder::new(reader)))
}

#[cfg(not(feature = "gzip"))]
fn read_compressed(_: impl BufRead) -> Result<NgramModel> {
    let message =
        "the language model is compressed with gzip; unpack it, or build with the feature `gzip`";
    Err(Error::new(ErrorKind::Unsupported, message))
}

fn read_plain(reader: impl BufRead) -> Result<NgramModel> {
    let mut lines = Lines {
        reader,
        buffer: Vec::new(),
        number: 0,
    };
    let counts = read_header(&mut lines)?;
    let mut builder = read_unigrams(&mut lines, &counts)?;
    for order in 2..=counts.len() {
        let grams = read_order(&mut lines, &builder, order, &counts)?;
        let highest = order == counts.len();
        builder
            .add(grams, highest)
            .map_err(|e| lines.at(&e.to_string()))?;
    }
    match lines.next()? {
        Some(line) if line.trim() == "\\end\\" => Ok(builder.finish()),
        Some(_) => Err(lines.at("expected \\end\\ after the last order")),
        None => Err(lines.at("the file ends without \\end\\; it was cut")),
    }
}

/// The number of n-grams of each order.
fn read_header(lines: &mut Lines<impl BufRead>) -> Result<Vec<u64>> {
    loop {
        match lines.next()? {
            Some(line) if line.trim() == "\\data\\" => break,
            // Some tools write remarks before the data.
            Some(_) => {}
            None => return Err(lines.at("there is no \\data\\ line; this is no ARPA file")),
        }
    }
    let mut counts = Vec::new();
    while let Some(line) = lines.next()? {
        let line = line.trim();
        if line == "\\1-grams:" {
            if counts.is_empty() {
                return Err(lines.at("the header gives no counts (`ngram 1=...`)"));
            }
            return Ok(counts);
        }
        let count = (line.strip_prefix("ngram "))
            .and_then(|rest| rest.split_once('='))
            .and_then(|(order, count)| {
                let order = order.trim().parse::<usize>().ok()?;
                Some((order, count.trim().parse::<u64>().ok()?))
            });
        let Some((order, count)) = count else {
            return Err(lines.at("expected `ngram N=COUNT` or \\1-grams:"));
        };
        if order != counts.len() + 1 {
            return Err(lines.at(&format!("expected the count of order {}", counts.len() + 1)));
        }
        if order > MAX_ORDER || count > MAX_NGRAMS {
            let message = format!(
                "line {}: order {order} with {count} n-grams; at most order {MAX_ORDER} and {MAX_NGRAMS} \
                 n-grams per order are read",
                lines.number
            );
            return Err(Error::new(ErrorKind::Limit, message));
        }
        if order == 1 && count == 0 {
            return Err(lines.at("the model has no unigrams"));
        }
        counts.push(count);
    }
    Err(lines.at("the file ends within its header; it was cut"))
}

fn read_unigrams(lines: &mut Lines<impl BufRead>, counts: &[u64]) -> Result<Builder> {
    let order = counts.len();
    let mut unigrams = Vec::new();
    let mut characters = true;
    for _ in 0..counts[0] {
        let entry = lines.entry(1, order > 1, counts[0])?;
        let word = entry.words[0];
        let mut letters = word.chars();
        characters &= (letters.next().is_some() && letters.next().is_none())
            || (word.starts_with('<') && word.ends_with('>'));
        let hash = hash(EMPTY_WORD, word.as_bytes());
        unigrams.push((hash, entry.prob, entry.backoff));
    }
    if order > 1 {
        lines.section(2)?;
    }
    Builder::new(order, unigrams, characters).map_err(|error| lines.at(&error.to_string()))
}

fn read_order(
    lines: &mut Lines<impl BufRead>,
    builder: &Builder,
    order: usize,
    counts: &[u64],
) -> Result<Vec<Gram>> {
    let highest = order == counts.len();
    let mut grams = Vec::new();
    for _ in 0..counts[order - 1] {
        let entry = lines.entry(order, !highest, counts[order - 1])?;
        let mut ids = [0; MAX_ORDER];
        for (id, word) in ids.iter_mut().zip(&entry.words[..order]) {
            match builder.word(word) {
                Some(known) => *id = known,
                None => {
                    let message = format!("{word:?} is not among the unigrams");
                    return Err(lines.at(&message));
                }
            }
        }
        let Some(context) = builder.context(&ids[..order - 1]) else {
            return Err(lines.at("the n-gram's context is not among the n-grams one order lower"));
        };
        grams.push(Gram {
            context,
            word: ids[order - 1],
            prob: entry.prob,
            backoff: entry.backoff,
        });
    }
    if !highest {
        lines.section(order + 1)?;
    }
    Ok(grams)
}

/// One n-gram's line, logarithms turned natural.
struct Entry<'a> {
    prob: f32,
    words: [&'a str; MAX_ORDER],
    backoff: f32,
}

/// The lines of a file that are not empty, each of bounded length.
struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    /// The next line, without its end.
    fn next(&mut self) -> Result<Option<&str>> {
        if self.advance()? {
            self.line().map(Some)
        } else {
            Ok(None)
        }
    }

    /// Moves on to the next line that is not empty; whether there is one.
    fn advance(&mut self) -> Result<bool> {
        loop {
            self.buffer.clear();
            self.number += 1;
            let mut line = self.reader.by_ref().take(MAX_LINE as u64 + 1);
            line.read_until(b'\n', &mut self.buffer)
                .map_err(unreadable)?;
            if self.buffer.len() > MAX_LINE {
                return Err(self.at(&format!("the line is longer than {MAX_LINE} bytes")));
            }
            if self.buffer.is_empty() {
                return Ok(false);
            }
            if self.buffer.iter().any(|byte| !byte.is_ascii_whitespace()) {
                return Ok(true);
            }
        }
    }

    fn line(&self) -> Result<&str> {
        let line = self.buffer.trim_ascii_end();
        std::str::from_utf8(line).map_err(|_| self.at("the line is not UTF-8"))
    }

    /// Reads the line that begins an order.
    fn section(&mut self, order: usize) -> Result<()> {
        let heading = format!("\\{order}-grams:");
        match self.next()? {
            Some(line) if line.trim() == heading => Ok(()),
            _ => Err(self.at(&format!(
                "expected {heading}: the order before has more n-grams than its count, or the section is missing"
            ))),
        }
    }

    /// Reads one n-gram.
    fn entry(&mut self, order: usize, may_back_off: bool, count: u64) -> Result<Entry<'_>> {
        let found = self.advance()?;
        let refuse = |what: &str| Err(self.at(what));
        if !found {
            return refuse("the file ends within an order; it was cut");
        }
        let line = self.line()?;
        if line.starts_with('\\') {
            let what =
                format!("the header promises {count} n-grams of order {order}, there are fewer");
            return refuse(&what);
        }
        // Words may hold any character but these two.
        let mut fields = line.split([' ', '\t']).filter(|field| !field.is_empty());
        let Some(prob) = fields
            .next()
            .and_then(logarithm)
            .filter(|&prob| prob <= 0.0)
        else {
            return refuse("the line does not begin with a log-prob of at most 0");
        };
        let mut words = [""; MAX_ORDER];
        for place in &mut words[..order] {
            match fields.next() {
                Some(word) => *place = word,
                None => return refuse(&format!("expected {order} words")),
            }
        }
        let backoff = match fields.next() {
            None => 0.0,
            Some(_) if !may_back_off => {
                return refuse("the highest order has no back-off weights");
            }
            Some(field) => match logarithm(field).filter(|weight| weight.is_finite()) {
                Some(weight) => weight,
                None => return refuse("the back-off weight is no number"),
            },
        };
        if fields.next().is_some() {
            return refuse(&format!("expected {order} words and no more"));
        }
        Ok(Entry {
            prob,
            words,
            backoff,
        })
    }

    fn at(&self, what: &str) -> Error {
        malformed(self.number, what)
    }
}

/// A base-10 logarithm as a natural one; none where it is no number or plus infinity.
fn logarithm(field: &str) -> Option<f32> {
    let value: f64 = field.parse().ok()?;
    let natural = (value * std::f64::consts::LN_10) as f32;
    (!natural.is_nan() && natural < f32::INFINITY).then_some(natural)
}

fn malformed(line: u64, what: &str) -> Error {
    Error::new(ErrorKind::Malformed, format!("line {line}: {what}"))
}

fn unreadable(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, error.to_string()).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "remark\n\\data\\\nngram 1=3\nngram 2=1\n\n\\1-grams:\n-1\t<s>\t-0.5\n\
        -0.5\ta\n-0.7\t</s>\n\n\\2-grams:\n-0.1\t<s> a\n\n\\end\\\n";

    fn read(text: &str) -> Result<NgramModel> {
        NgramModel::read(text.as_bytes())
    }

    #[test]
    fn good_files_are_read() {
        for text in [
            GOOD.to_owned(),
            GOOD.replace('\n', "\r\n"),
            GOOD.replace('\t', "  "),
        ] {
            let model = read(&text).unwrap();
            assert_eq!((model.order(), model.len()), (2, 4));
        }
        let unigrams = "\\data\\\nngram 1=1\n\\1-grams:\n-0.5 a\n\\end\\";
        let model = read(unigrams).unwrap();
        let (score, state) = model.score(model.start(), model.word("a"));
        assert!((score + 0.5 * std::f32::consts::LN_10).abs() < 1e-6);
        assert_eq!(state, model.empty());
    }

    #[test]
    fn malformed_files_name_their_line() {
        // (what is replaced, by what, the message)
        let cases = [
            (GOOD, "", "line 1: there is no \\data\\"),
            ("\\data\\", "data", "there is no \\data\\"),
            (
                "ngram 1=3\nngram 2=1\n",
                "",
                "line 4: the header gives no counts",
            ),
            ("ngram 1=3", "ngram 1=x", "line 3: expected `ngram N=COUNT`"),
            (
                "ngram 2=1",
                "ngram 3=1",
                "line 4: expected the count of order 2",
            ),
            (
                "ngram 1=3",
                "ngram 1=0",
                "line 3: the model has no unigrams",
            ),
            (
                "ngram 1=3",
                "ngram 1=4",
                "line 11: the header promises 4 n-grams of order 1",
            ),
            ("ngram 1=3", "ngram 1=2", "line 9: expected \\2-grams:"),
            ("ngram 2=1", "ngram 2=2", "line 14: the header promises 2"),
            ("\\2-grams:", "\\3-grams:", "line 11: expected \\2-grams:"),
            ("\\end\\\n", "", "line 14: the file ends without \\end\\"),
            (
                "-0.1\t<s> a\n\n\\end\\\n",
                "",
                "line 12: the file ends within an order",
            ),
            (
                "-0.5\ta",
                "0.5\ta",
                "line 8: the line does not begin with a log-prob",
            ),
            (
                "-0.5\ta",
                "nan\ta",
                "line 8: the line does not begin with a log-prob",
            ),
            ("-0.5\ta", "-0.5\t</s>", "a word comes twice"),
            (
                "-1\t<s>\t-0.5",
                "-1\t<s>\tnan",
                "line 7: the back-off weight is no number",
            ),
            (
                "-1\t<s>\t-0.5",
                "-1\t<s>\tinf",
                "line 7: the back-off weight is no number",
            ),
            (
                "-1\t<s>\t-0.5",
                "-1\t<s>\t-0.5\tx",
                "line 7: expected 1 words and no more",
            ),
            ("<s> a\n", "<s>\n", "line 12: expected 2 words"),
            (
                "<s> a\n",
                "<s> b\n",
                "line 12: \"b\" is not among the unigrams",
            ),
            (
                "<s> a\n",
                "<s> a -0.1\n",
                "line 12: the highest order has no back-off",
            ),
        ];
        for (old, new, message) in cases {
            assert!(GOOD.contains(old), "{old}");
            let error = read(&GOOD.replacen(old, new, 1)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
            assert!(
                error.to_string().contains(message),
                "{error} lacks {message}"
            );
        }
        let error = NgramModel::read(&b"\\data\\\n\xff\n"[..]).unwrap_err();
        assert!(
            error.to_string().contains("line 2: the line is not UTF-8"),
            "{error}"
        );
    }

    #[test]
    fn missing_contexts_and_repeats_are_refused() {
        let trigrams = "\\data\\\nngram 1=2\nngram 2=2\nngram 3=1\n\\1-grams:\n-1 a\n-1 b\n\\2-grams:\n\
            -1 a b\n-1 b a\n\\3-grams:\n-1 a b b\n\\end\\\n";
        assert!(read(trigrams).is_ok());
        for (old, new, message) in [
            ("-1 a b b", "-1 a a b", "line 12: the n-gram's context"),
            ("-1 b a\n", "-1 a b\n", "an n-gram comes twice"),
        ] {
            let error = read(&trigrams.replacen(old, new, 1)).unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
        }
    }

    #[test]
    fn size_is_bounded() {
        for header in [
            "ngram 1=99999999999",
            "ngram 1=1\nngram 2=1\nngram 3=1\nngram 4=1\nngram 5=1\nngram 6=1\nngram 7=1",
        ] {
            let error = read(&format!("\\data\\\n{header}\n")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Limit);
        }
        // A gigabyte without a line end is refused after 64 KiB, and never held.
        let endless = std::io::Read::take(std::io::repeat(b'a'), 1 << 30);
        let error = NgramModel::read(BufReader::new(endless)).unwrap_err();
        assert!(error.to_string().contains("longer than"), "{error}");
    }

    #[test]
    fn files_are_named() {
        let error = NgramModel::open("no/such.arpa").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().starts_with("no/such.arpa"), "{error}");
    }

    #[cfg(feature = "gzip")]
    #[test]
    fn compressed_files_are_read() {
        use std::io::Write;
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(GOOD.as_bytes()).unwrap();
        let packed = packed.finish().unwrap();
        assert_eq!(NgramModel::read(&packed[..]).unwrap().len(), 4);
        let error = NgramModel::read(&packed[..packed.len() / 2]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
    }

    #[cfg(not(feature = "gzip"))]
    #[test]
    fn compressed_files_need_the_feature() {
        let error = NgramModel::read(&[0x1f, 0x8b, 8, 0][..]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(cut in 0usize..GOOD.len(), noise in prop::collection::vec(any::<u8>(), 0..12)) {
            let mut bytes = GOOD.as_bytes()[..cut].to_vec();
            bytes.extend(&noise);
            bytes.extend(&GOOD.as_bytes()[cut..]);
            if let Ok(model) = NgramModel::read(&bytes[..]) {
                prop_assert!(model.len() >= 1);
            }
        }
    }
}
