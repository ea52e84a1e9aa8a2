//! Protobuf's wire format, read only: a walk over the fields of one message in borrowed bytes.
//!
//! Follows the "Encoding" page of the Protocol Buffers documentation: a field is a varint tag
//! `number << 3 | type` and a value of type 0 (varint), 1 (8 bytes), 2 (length-delimited) or 5 (4 bytes). The
//! group types 3 and 4, which ONNX has never used, are refused. Nothing is copied or allocated, a length is
//! held against the bytes that are there before it is used, and any bytes give fields or an error.

use crate::{Error, ErrorKind, Result};

/// The value of one field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1 or 5: a fixed-width number, which no field we read has.
    Fixed,
    /// Wire type 2: a string, bytes, a message, or packed numbers.
    Bytes(&'a [u8]),
}

/// One field and where it stands in its message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'a> {
    /// The field's number.
    pub number: u64,
    /// Its value.
    pub value: Value<'a>,
    /// First byte of the tag.
    pub start: usize,
    /// One past the last byte of the value.
    pub end: usize,
}

/// An iterator over a message's fields; it ends after the first error.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
    position: usize,
}

/// The fields of the message in `bytes`.
pub(crate) fn fields(bytes: &[u8]) -> Fields<'_> {
    Fields { bytes, position: 0 }
}

/// An error of a file that is no protobuf message, or not the one expected.
pub(crate) fn malformed(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Model, message)
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let Some(&byte) = self.bytes.get(self.position) else {
                return Err(malformed("it ends within a number: the file is cut"));
            };
            self.position += 1;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(malformed("a number is longer than 64 bits"))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8]> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let taken = usize::try_from(length).ok().and_then(|n| rest.get(..n));
        let taken = taken.ok_or_else(|| {
            malformed(format!(
                "a field claims {length} bytes where {} are left: the file is cut or no ONNX model",
                rest.len()
            ))
        })?;
        self.position += taken.len();
        Ok(taken)
    }

    fn field(&mut self) -> Result<Field<'a>> {
        let start = self.position;
        let tag = self.varint()?;
        let number = tag >> 3;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            other => {
                return Err(malformed(format!(
                    "field {number} has wire type {other}: not an ONNX model"
                )));
            }
        };
        if number == 0 {
            return Err(malformed("a field has number 0: not an ONNX model"));
        }
        Ok(Field {
            number,
            value,
            start,
            end: self.position,
        })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.position >= self.bytes.len() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.position = self.bytes.len();
        }
        Some(field)
    }
}

impl<'a> Field<'a> {
    /// The value as bytes; `what` names the field in the error.
    pub(crate) fn bytes(&self, what: &str) -> Result<&'a [u8]> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(malformed(format!(
                "{what} is not length-delimited: not an ONNX model"
            ))),
        }
    }

    /// The value as text.
    pub(crate) fn text(&self, what: &str) -> Result<&'a str> {
        std::str::from_utf8(self.bytes(what)?)
            .map_err(|e| malformed(format!("{what} is not UTF-8")).with_source(e))
    }

    /// The value as a number.
    pub(crate) fn varint(&self, what: &str) -> Result<u64> {
        match self.value {
            Value::Varint(value) => Ok(value),
            _ => Err(malformed(format!(
                "{what} is not a number: not an ONNX model"
            ))),
        }
    }

    /// Appends a repeated number to `into`, packed or not, up to `limit` in all.
    pub(crate) fn varints(&self, what: &str, into: &mut Vec<u64>, limit: usize) -> Result<()> {
        let mut push = |value| {
            if into.len() == limit {
                return Err(malformed(format!("{what} has more than {limit} entries")));
            }
            into.push(value);
            Ok(())
        };
        match self.value {
            Value::Varint(value) => push(value),
            Value::Bytes(bytes) => {
                let mut packed = fields(bytes);
                while packed.position < bytes.len() {
                    push(packed.varint()?)?;
                }
                Ok(())
            }
            Value::Fixed => Err(malformed(format!("{what} is not a number"))),
        }
    }
}

/// Appends `value` as a varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a length-delimited field.
pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_varint(out, number << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_each_wire_type() {
        let mut bytes = vec![0x08, 0x96, 0x01];
        put_bytes(&mut bytes, 2, b"testing");
        bytes.extend([0x1d, 0, 0, 0x80, 0x3f]);
        bytes.extend([0x21, 1, 2, 3, 4, 5, 6, 7, 8]);
        let found: Vec<_> = fields(&bytes).map(|f| f.unwrap()).collect();
        assert_eq!(found.len(), 4);
        assert_eq!((found[0].number, found[0].value), (1, Value::Varint(150)));
        assert_eq!(found[1].text("name").unwrap(), "testing");
        assert_eq!((found[2].number, found[2].value), (3, Value::Fixed));
        assert_eq!((found[3].start, found[3].end), (17, 26));
    }

    #[test]
    fn refuses_what_is_no_message() {
        for (bytes, word) in [
            (&b"\x08"[..], "cut"),
            (b"\x0a\x05abc", "claims 5 bytes"),
            (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "claims"),
            (b"\x00\x00", "number 0"),
            (b"\x0b", "wire type 3"),
            (
                b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
                "longer than 64 bits",
            ),
        ] {
            let error = fields(bytes).find_map(Result::err).expect("refused");
            assert_eq!(error.kind(), ErrorKind::Model);
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    proptest! {
        #[test]
        fn varints_survive(value: u64) {
            let mut bytes = vec![0x08];
            put_varint(&mut bytes, value);
            let field = fields(&bytes).next().unwrap().unwrap();
            prop_assert_eq!(field.value, Value::Varint(value));
        }

        #[test]
        fn fields_cover_the_bytes_or_fail(bytes: Vec<u8>) {
            let mut end = 0;
            let mut failed = false;
            for field in fields(&bytes) {
                match field {
                    Ok(field) => {
                        prop_assert_eq!(field.start, end);
                        end = field.end;
                    }
                    Err(_) => failed = true,
                }
            }
            prop_assert!(failed || end == bytes.len());
        }
    }
}
