//! WAV files: a header that is checked before it is believed, then plain little-endian samples.
//!
//! A header may lie, so its fields are held against one another and the data chunk against the file's real
//! length; chunks of other kinds are stepped over (odd ones carry a pad byte). The `RIFF` size field is
//! ignored, since many writers leave it wrong; so is whatever follows the data chunk. A data chunk of length
//! zero is a valid, empty sound. Both the checks and the speed are why this is not left to `hound`, which takes
//! the frame size and chunk padding at their word and reads byte by byte, 20 times slower.

use super::mix::{Mixer, check_shape};
use super::{Audio, malformed, read_error};
use crate::{Error, ErrorKind, Result};
use std::io::{Read, Seek, SeekFrom};

/// Chunks looked at before the data must have come.
const MAX_CHUNKS: usize = 1_024;
/// Frames decoded at a time.
const BLOCK: usize = 4_096;

const PCM: u16 = 1;
const FLOAT: u16 = 3;
const EXTENSIBLE: u16 = 0xfffe;

/// What a WAV file holds.
pub(super) enum Content {
    /// Integer or 32-bit float samples, decoded.
    Samples(Audio),
    /// A valid header with an encoding that is left to `codecs`, with its name.
    Other(&'static str),
}

/// The fields of a `fmt ` chunk.
struct Layout {
    encoding: u16,
    channels: u16,
    sample_rate: u32,
    byte_rate: u32,
    block_align: u16,
    bits: u16,
}

/// Reads a WAV file whose first 12 bytes have been recognized.
pub(super) fn read(mut reader: impl Read + Seek) -> Result<Content> {
    let file_length = reader.seek(SeekFrom::End(0)).map_err(read_error)?;
    let mut position = 12;
    let mut layout = None;
    for _ in 0..MAX_CHUNKS {
        reader.seek(SeekFrom::Start(position)).map_err(read_error)?;
        let mut header = [0; 8];
        let next = if layout.is_none() { "`fmt `" } else { "`data`" };
        reader
            .read_exact(&mut header)
            .map_err(|e| missing(e, next))?;
        let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        match (&header[..4], &layout) {
            (b"fmt ", None) => layout = Some(read_layout(&mut reader, length)?),
            (b"data", None) => {
                return Err(malformed("the `data` chunk comes before the `fmt ` chunk"));
            }
            (b"data", Some(layout)) => {
                let available = file_length.saturating_sub(position + 8);
                return read_data(reader, layout, length, available);
            }
            _ => {}
        }
        position += 8 + u64::from(length) + u64::from(length % 2);
    }
    Err(malformed(format!(
        "no `data` chunk among the first {MAX_CHUNKS} chunks"
    )))
}

/// A header that could not be read: says which chunk the file should still have had.
fn missing(cause: std::io::Error, chunk: &str) -> Error {
    match read_error(cause) {
        e if e.kind() == ErrorKind::Malformed => {
            malformed(format!("the file ends before its {chunk} chunk"))
        }
        e => e,
    }
}

fn read_layout(reader: &mut impl Read, length: u32) -> Result<Layout> {
    if length < 16 {
        return Err(malformed(format!(
            "the `fmt ` chunk has {length} bytes, expected at least 16"
        )));
    }
    let mut bytes = Vec::with_capacity(40);
    reader
        .take(u64::from(length.min(40)))
        .read_to_end(&mut bytes)
        .map_err(read_error)?;
    if bytes.len() < 16 {
        return Err(malformed("the file ends within its `fmt ` chunk"));
    }
    let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
    let mut layout = Layout {
        encoding: u16_at(0),
        channels: u16_at(2),
        sample_rate: u32_at(4),
        byte_rate: u32_at(8),
        block_align: u16_at(12),
        bits: u16_at(14),
    };
    if layout.encoding == EXTENSIBLE {
        if bytes.len() < 40 {
            return Err(malformed(format!(
                "the `fmt ` chunk is of the extensible kind with {length} bytes, expected at least 40"
            )));
        }
        // The real encoding opens the sub-format GUID. The number of valid bits beside it is not needed:
        // they are the upper ones, so the container read whole has the right scale.
        layout.encoding = u16_at(24);
    }
    Ok(layout)
}

fn read_data(
    mut reader: impl Read,
    layout: &Layout,
    length: u32,
    available: u64,
) -> Result<Content> {
    let channels = check_shape(layout.sample_rate, u32::from(layout.channels))?;
    if available < u64::from(length) {
        return Err(malformed(format!(
            "the header promises {length} bytes of samples, the file holds {available}: it was cut, or its \
             writer never filled in the length"
        )));
    }
    let coding = match (layout.encoding, layout.bits) {
        (PCM, 8) => Coding::Unsigned8,
        (PCM, 16) => Coding::Signed16,
        // Some recorders keep 24-bit samples in the lower bytes of 32-bit words.
        (PCM, 24) if u32::from(layout.block_align) == 4 * u32::from(channels) => {
            Coding::Signed24Of32
        }
        (PCM, 24) => Coding::Signed24,
        (PCM, 32) => Coding::Signed32,
        (FLOAT, 32) => Coding::Float32,
        (FLOAT, 64) => return Ok(Content::Other("WAV with 64-bit float samples")),
        (6, _) => return Ok(Content::Other("WAV with A-law samples")),
        (7, _) => return Ok(Content::Other("WAV with mu-law samples")),
        (2 | 0x11, _) => return Ok(Content::Other("WAV with ADPCM samples")),
        (encoding, bits) => {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "a WAV file with encoding {encoding:#06x} of {bits} bits: convert it to 16-bit integers"
                ),
            ));
        }
    };
    let frame = coding.bytes() * usize::from(channels);
    if usize::from(layout.block_align) != frame {
        return Err(malformed(format!(
            "the header gives {} bytes per frame, expected {frame} for {channels} channels of {} bits",
            layout.block_align, layout.bits
        )));
    }
    let byte_rate = frame as u64 * u64::from(layout.sample_rate);
    if u64::from(layout.byte_rate) != byte_rate {
        return Err(malformed(format!(
            "the header gives {} bytes per second, expected {byte_rate} for {} Hz and {frame} bytes per frame",
            layout.byte_rate, layout.sample_rate
        )));
    }
    let length = length as usize;
    if !length.is_multiple_of(frame) {
        return Err(malformed(format!(
            "the data chunk has {length} bytes, expected a multiple of the {frame} bytes of a frame"
        )));
    }

    let mut mixer = Mixer::new(channels, ErrorKind::Malformed);
    let mut bytes = vec![0; length.min(BLOCK * frame)];
    let mut samples = Vec::with_capacity(BLOCK * usize::from(channels));
    let mut rest = length;
    while rest > 0 {
        let block = rest.min(bytes.len());
        reader.read_exact(&mut bytes[..block]).map_err(read_error)?;
        samples.clear();
        coding.decode(&bytes[..block], &mut samples);
        mixer.push(&samples)?;
        rest -= block;
    }
    Ok(Content::Samples(mixer.finish(layout.sample_rate)))
}

/// How one sample is written, little-endian.
#[derive(Clone, Copy)]
enum Coding {
    Unsigned8,
    Signed16,
    Signed24,
    /// 24 bits in the lower bytes of a 32-bit word.
    Signed24Of32,
    Signed32,
    Float32,
}

impl Coding {
    /// Bytes per sample.
    fn bytes(self) -> usize {
        match self {
            Self::Unsigned8 => 1,
            Self::Signed16 => 2,
            Self::Signed24 => 3,
            Self::Signed24Of32 | Self::Signed32 | Self::Float32 => 4,
        }
    }

    /// Appends the samples in `bytes`, a whole number of them, as floats in [-1, 1].
    fn decode(self, bytes: &[u8], out: &mut Vec<f32>) {
        /// The scale of integers whose top byte is that of an i32.
        const FULL: f32 = 1.0 / 2_147_483_648.0;
        let words = || bytes.as_chunks::<4>().0.iter();
        match self {
            Self::Unsigned8 => out.extend(bytes.iter().map(|&x| (f32::from(x) - 128.0) / 128.0)),
            Self::Signed16 => {
                let pairs = bytes.as_chunks::<2>().0.iter();
                out.extend(pairs.map(|&x| f32::from(i16::from_le_bytes(x)) / 32_768.0));
            }
            Self::Signed24 => {
                let triples = bytes.as_chunks::<3>().0.iter();
                out.extend(
                    triples.map(|&[a, b, c]| i32::from_le_bytes([0, a, b, c]) as f32 * FULL),
                );
            }
            Self::Signed24Of32 => {
                out.extend(
                    words().map(|&[a, b, c, _]| i32::from_le_bytes([0, a, b, c]) as f32 * FULL),
                );
            }
            Self::Signed32 => out.extend(words().map(|&x| i32::from_le_bytes(x) as f32 * FULL)),
            Self::Float32 => out.extend(words().map(|&x| f32::from_le_bytes(x))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A canonical file: 44 header bytes, then `data`.
    fn wav(encoding: u16, channels: u16, sample_rate: u32, bits: u16, data: &[u8]) -> Vec<u8> {
        let block_align = channels.wrapping_mul(bits / 8);
        let mut fmt = [encoding.to_le_bytes(), channels.to_le_bytes()].concat();
        fmt.extend_from_slice(&sample_rate.to_le_bytes());
        fmt.extend_from_slice(
            &sample_rate
                .wrapping_mul(u32::from(block_align))
                .to_le_bytes(),
        );
        fmt.extend_from_slice(&[block_align.to_le_bytes(), bits.to_le_bytes()].concat());
        let mut bytes = chunks(&[(b"fmt ", &fmt), (b"data", data)]);
        bytes.truncate(44 + data.len());
        bytes
    }

    fn samples(bytes: &[u8]) -> Vec<f32> {
        Audio::from_bytes(bytes).unwrap().samples().to_vec()
    }

    fn refused(bytes: &[u8], kind: ErrorKind, says: &str) {
        let error = Audio::from_bytes(bytes).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }

    #[test]
    fn every_sample_type_keeps_its_scale() {
        let float: Vec<u8> = [0.5f32, -1.5]
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        let cases: [(u16, u16, &[u8], &[f32]); 5] = [
            (
                PCM,
                8,
                &[0, 64, 128, 255],
                &[-1.0, -0.5, 0.0, 127.0 / 128.0],
            ),
            (
                PCM,
                16,
                &[0, 0x80, 0, 0x40, 1, 0],
                &[-1.0, 0.5, 1.0 / 32_768.0],
            ),
            (PCM, 24, &[0, 0, 0x80, 0, 0, 0x40], &[-1.0, 0.5]),
            (PCM, 32, &[0, 0, 0, 0x80, 0, 0, 0, 0x40], &[-1.0, 0.5]),
            (FLOAT, 32, &float, &[0.5, -1.5]),
        ];
        for (encoding, bits, data, expected) in cases {
            assert_eq!(
                samples(&wav(encoding, 1, 16_000, bits, data)),
                expected,
                "{bits} bits"
            );
        }
    }

    #[test]
    fn what_hound_writes_is_read_back() {
        let spec = hound::WavSpec {
            channels: 16,
            sample_rate: 192_000,
            bits_per_sample: 24,
            sample_format: hound::SampleFormat::Int,
        };
        let mut bytes = std::io::Cursor::new(Vec::new());
        let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
        for frame in 0..1_000 {
            for channel in 0..16 {
                writer.write_sample(frame * 100 + channel).unwrap();
            }
        }
        writer.finalize().unwrap();
        let audio = Audio::from_bytes(bytes.get_ref()).unwrap();
        assert_eq!(
            (audio.len(), audio.channels(), audio.sample_rate()),
            (1_000, 16, 192_000)
        );
        let expected: Vec<f32> = (0..1_000)
            .map(|f| (f as f32 * 100.0 + 7.5) / 8_388_608.0)
            .collect();
        assert_eq!(audio.samples(), expected);
    }

    #[test]
    fn extensible_headers_and_wide_words_are_read() {
        let mut fmt = Vec::new();
        for field in [
            EXTENSIBLE, 1, 16_000, 0, 0x0000, 0, 4, 32, 22, 24, 4, 0, PCM,
        ] {
            fmt.extend_from_slice(&field.to_le_bytes());
        }
        fmt[8..12].copy_from_slice(&64_000u32.to_le_bytes());
        fmt.extend_from_slice(&[0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71]);
        let data = [0, 0, 0, 0x40, 0, 0, 0, 0xc0];
        let bytes = chunks(&[(b"fmt ", &fmt), (b"data", &data)]);
        assert_eq!(samples(&bytes), [0.5, -0.5]);

        // 24 bits in the lower bytes of 32-bit words, as `arecord -f S24_LE` writes them.
        let mut bytes = wav(PCM, 1, 16_000, 24, &[0, 0, 0x40, 0, 0, 0, 0xc0, 0xff]);
        bytes[28..32].copy_from_slice(&64_000u32.to_le_bytes());
        bytes[32] = 4;
        assert_eq!(samples(&bytes), [0.5, -0.5]);
    }

    /// A RIFF file of these chunks, odd ones padded.
    fn chunks(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
        let mut bytes = b"RIFF\0\0\0\0WAVE".to_vec();
        for (id, content) in chunks {
            bytes.extend_from_slice(*id);
            bytes.extend_from_slice(&(content.len() as u32).to_le_bytes());
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(2), 0);
        }
        bytes
    }

    #[test]
    fn other_chunks_are_stepped_over() {
        let plain = wav(PCM, 1, 16_000, 16, &[0, 0x40]);
        let (fmt, data) = (&plain[20..36], &plain[44..]);
        let mixed = chunks(&[
            (b"LIST", b"odd"),
            (b"fmt ", fmt),
            (b"fact", &[1, 0, 0, 0, 9, 9]),
            (b"data", data),
        ]);
        assert_eq!(samples(&mixed), [0.5]);
        let trailing = [plain.as_slice(), b"LIST\xff\xff\xff\xffcut"].concat();
        assert_eq!(samples(&trailing), [0.5]);
        refused(
            &chunks(&[(b"data", data), (b"fmt ", fmt)]),
            ErrorKind::Malformed,
            "before the `fmt `",
        );
        refused(
            &chunks(&[(b"fmt ", fmt)]),
            ErrorKind::Malformed,
            "before its `data`",
        );
        refused(
            &chunks(&[(b"LIST", b"x")]),
            ErrorKind::Malformed,
            "before its `fmt `",
        );
        let many = vec![(b"junk", &b""[..]); MAX_CHUNKS + 1];
        refused(&chunks(&many), ErrorKind::Malformed, "first 1024 chunks");
    }

    #[test]
    fn empty_and_one_sample_sounds_are_sounds() {
        assert!(
            Audio::from_bytes(&wav(PCM, 1, 16_000, 16, &[]))
                .unwrap()
                .is_empty()
        );
        assert_eq!(samples(&wav(PCM, 1, 16_000, 16, &[0, 0x40])), [0.5]);
    }

    #[test]
    fn samples_that_are_no_numbers_are_refused_with_their_frame() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let data: Vec<u8> = [0.0, 0.1, 0.2, bad]
                .iter()
                .flat_map(|x| x.to_le_bytes())
                .collect();
            refused(
                &wav(FLOAT, 1, 16_000, 32, &data),
                ErrorKind::Malformed,
                "frame 3 ",
            );
            refused(
                &wav(FLOAT, 2, 16_000, 32, &data),
                ErrorKind::Malformed,
                "frame 1 ",
            );
        }
    }

    #[test]
    fn lying_header_fields_are_refused() {
        let good = wav(PCM, 2, 16_000, 16, &[0; 400]);
        assert_eq!(samples(&good).len(), 100);
        let cases: [(usize, &[u8], ErrorKind, &str); 14] = [
            (16, &[15, 0, 0, 0], ErrorKind::Malformed, "at least 16"),
            (16, &[0xff; 4], ErrorKind::Malformed, "before its `data`"),
            (20, &[0xfe, 0xff], ErrorKind::Malformed, "at least 40"),
            (22, &[0, 0], ErrorKind::Malformed, "0 channels"),
            (22, &[0xff, 0xff], ErrorKind::Unsupported, "65535 channels"),
            (22, &[65, 0], ErrorKind::Unsupported, "65 channels"),
            (22, &[1, 0], ErrorKind::Malformed, "bytes per frame"),
            (24, &[0; 4], ErrorKind::Malformed, "0 Hz"),
            (24, &[0xff; 4], ErrorKind::Unsupported, "4294967295 Hz"),
            (28, &[0; 4], ErrorKind::Malformed, "bytes per second"),
            (32, &[5, 0], ErrorKind::Malformed, "bytes per frame"),
            (34, &[17, 0], ErrorKind::Unsupported, "17 bits"),
            (40, &[0xff; 4], ErrorKind::Malformed, "promises 4294967295"),
            (
                40,
                &[0x8e, 1, 0, 0],
                ErrorKind::Malformed,
                "multiple of the 4 bytes",
            ),
        ];
        for (at, value, kind, says) in cases {
            let mut bytes = good.clone();
            bytes[at..at + value.len()].copy_from_slice(value);
            refused(&bytes, kind, says);
        }
    }

    #[test]
    fn a_file_cut_anywhere_is_refused() {
        let good = wav(PCM, 1, 16_000, 16, &[7; 40]);
        for length in 0..good.len() {
            let error = Audio::from_bytes(&good[..length]).unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::Malformed,
                "cut to {length}: {error}"
            );
        }
    }

    proptest! {
        #[test]
        fn damaged_files_never_panic(
            data in proptest::collection::vec(any::<u8>(), 0..200),
            damage in proptest::collection::vec((0usize..60, any::<u8>()), 0..8),
            shape in (1u16..4, 1u16..20),
            encoding in prop_oneof![Just(PCM), Just(FLOAT), Just(EXTENSIBLE), 0u16..0x60],
            bits in prop_oneof![Just(8u16), Just(16), Just(24), Just(32), Just(64), Just(4)],
        ) {
            let mut bytes = wav(encoding, shape.0, u32::from(shape.1) * 4_000, bits, &data);
            for (at, value) in damage {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            if let Ok(audio) = Audio::from_bytes(&bytes) {
                prop_assert!(audio.len() <= bytes.len() * 8);
            }
        }
    }
}
