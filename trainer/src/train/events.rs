//! TensorBoard event files: scalars over steps, one file a sitting.
//!
//! A file is a row of TFRecords: length (u64), masked CRC-32C of the length, an `Event` in protobuf, masked CRC-32C of
//! it, all little-endian. Messages carry only the fields written here, with TensorBoard's numbers
//! (`tensorflow/core/util/event.proto`, `framework/summary.proto`).

use crate::{Error, Result};
use crc::{CRC_32_ISCSI, Crc};
use prost::{Enumeration, Message, Oneof};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// CRC-32C, also called Castagnoli or iSCSI.
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(enumeration = "Status", tag = "1")]
    status: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
enum Status {
    Unspecified = 0,
    /// What earlier files say of this step and later ones no longer holds.
    Start = 1,
}

/// An open event file.
#[derive(Debug)]
pub struct EventFile {
    file: File,
    path: PathBuf,
}

impl EventFile {
    /// Creates a new file in `folder` for a sitting that goes on from `step`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io), naming the file.
    pub fn create(folder: &Path, step: u64) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
        // TensorBoard reads the files of a folder in the order of their names.
        let mut number = now() as u64;
        let (file, path) = loop {
            let path = folder.join(format!("events.out.tfevents.{number:010}.acolyte"));
            match File::create_new(&path) {
                Ok(file) => break (file, path),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(Error::io(path, error)),
            }
        };
        let mut events = Self { file, path };
        events.write(0, What::FileVersion("brain.Event:2".to_owned()))?;
        let status = Status::Start as i32;
        // The batch at `step` itself was made before; the next is the first that is told anew.
        events.write(step + 1, What::SessionLog(SessionLog { status }))?;
        Ok(events)
    }

    /// Appends scalars at a step.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io), naming the file.
    pub fn scalars(&mut self, step: u64, scalars: &[(&str, f64)]) -> Result<()> {
        let value = scalars
            .iter()
            .map(|&(tag, value)| Scalar {
                tag: tag.to_owned(),
                simple_value: value as f32,
            })
            .collect();
        self.write(step, What::Summary(Summary { value }))
    }

    fn write(&mut self, step: u64, what: What) -> Result<()> {
        let event = Event {
            wall_time: now(),
            step: i64::try_from(step).unwrap_or(i64::MAX),
            what: Some(what),
        };
        self.file
            .write_all(&record(&event.encode_to_vec()))
            .map_err(|error| Error::io(&self.path, error))
    }
}

fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// The checksum that TFRecords carry: rotated and shifted, so that a checksum of checksums is none of zeros.
fn masked(bytes: &[u8]) -> u32 {
    CRC.checksum(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// `data` as a TFRecord.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut bytes = Vec::with_capacity(data.len() + 16);
    bytes.extend(length);
    bytes.extend(masked(&length).to_le_bytes());
    bytes.extend(data);
    bytes.extend(masked(data).to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events of a file, every checksum verified.
    fn read(path: &Path) -> Vec<Event> {
        let bytes = std::fs::read(path).unwrap();
        let mut rest = bytes.as_slice();
        let mut events = Vec::new();
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(12);
            let length = u64::from_le_bytes(head[..8].try_into().unwrap()) as usize;
            assert_eq!(head[8..], masked(&head[..8]).to_le_bytes());
            let (data, tail) = tail.split_at(length);
            assert_eq!(tail[..4], masked(data).to_le_bytes());
            events.push(Event::decode(data).unwrap());
            rest = &tail[4..];
        }
        events
    }

    #[test]
    fn checksums_are_those_of_the_format() {
        // CRC-32C of the ASCII digits, from RFC 3720's algorithm; its masked form computed by hand.
        assert_eq!(CRC.checksum(b"123456789"), 0xe306_9283);
        assert_eq!(masked(b"123456789"), 0xc78a_b0e5);
        // 32 zero bytes: RFC 3720, appendix B.4.
        assert_eq!(CRC.checksum(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn an_event_has_the_bytes_that_tensorboard_reads() {
        let event = Event {
            wall_time: 1.0,
            step: 3,
            what: Some(What::Summary(Summary {
                value: vec![Scalar {
                    tag: "a".to_owned(),
                    simple_value: 2.0,
                }],
            })),
        };
        // Field 1, double; field 2, varint; field 5, a message of field 1, a message of fields 1 (string), 2 (float).
        let mut expected = vec![0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x10, 3];
        expected.extend([0x2a, 10, 0x0a, 8, 0x0a, 1, b'a', 0x15, 0, 0, 0, 0x40]);
        assert_eq!(event.encode_to_vec(), expected);
    }

    #[test]
    fn a_file_reads_back_and_every_sitting_has_its_own() {
        let folder = tempfile::tempdir().unwrap();
        for (sitting, start) in [0, 7].into_iter().enumerate() {
            let mut events = EventFile::create(folder.path(), start).unwrap();
            events
                .scalars(start + 1, &[("loss", 0.5), ("rate", 1e-3)])
                .unwrap();
            let found = read(&events.path);
            assert_eq!(
                found[0].what,
                Some(What::FileVersion("brain.Event:2".to_owned()))
            );
            let status = Status::Start as i32;
            assert_eq!(found[1].what, Some(What::SessionLog(SessionLog { status })));
            assert_eq!(found[1].step, start as i64 + 1);
            let Some(What::Summary(summary)) = &found[2].what else {
                panic!("{:?} is no summary", found[2]);
            };
            assert_eq!(
                (summary.value[1].tag.as_str(), summary.value[1].simple_value),
                ("rate", 1e-3)
            );
            assert_eq!(found.len(), 3);
            let files = std::fs::read_dir(folder.path()).unwrap().count();
            assert_eq!(files, sitting + 1);
        }
    }
}
