//! FLAC, Ogg Vorbis, MP3 and WAV's rarer encodings, decoded by `symphonia` (feature `codecs`).
//!
//! A file gives all of its sound or an error, never a part without saying so: a packet that does not decode,
//! an Ogg stream without its last page, fewer frames than FLAC's header or an MP3 info tag promises, and a
//! FLAC checksum that does not match are all [`ErrorKind::Malformed`]. An MP3 file without an info tag has no
//! marked end, so one that was cut gives what is left of it. Encoder delay and padding are trimmed where the
//! file states them; ADPCM does not, so its last block's filling (a few milliseconds) stays.
//!
//! Decoders of hostile bytes must not bring an app down. `symphonia` 0.6 holds asserts and divisions that a
//! damaged Vorbis header reaches (`lookup1_values` in its Ogg mapping, `render_line` in its floor decoder),
//! so a panic inside it is caught and becomes [`ErrorKind::Malformed`]. In a program built with
//! `panic = "abort"` that cannot work: there, decode files of unknown origin in a process of their own.
//!
//! The source is read strictly forward. A seekable one would make the MP3 reader guess the length from the
//! bit rate and trim the end to its guess, which loses the tail of files with a variable rate.

use super::mix::{Mixer, check_shape};
use super::{Audio, malformed, read_error};
use crate::{Error, ErrorKind, Result};
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use symphonia::core::audio::GenericAudioBufferRef;
use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::errors::Error as Cause;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSourceStream, ReadOnlySource};
use symphonia::core::meta::MetadataOptions;

/// Decodes a whole file from its start; `what` names its format for messages.
pub(super) fn decode(source: impl Read + Send + Sync, what: &str) -> Result<Audio> {
    // Nothing the closure touches is looked at again after a panic, so no broken state can be seen.
    catch_unwind(AssertUnwindSafe(|| decode_all(source, what))).unwrap_or_else(|_| {
        Err(malformed(format!(
            "{what}: the file is so damaged that the decoder gave up on it; fetch or make it again"
        )))
    })
}

fn decode_all(source: impl Read + Send + Sync, what: &str) -> Result<Audio> {
    let stream = MediaSourceStream::new(Box::new(ReadOnlySource::new(source)), Default::default());
    let mut format = symphonia::default::get_probe()
        .probe(
            &Hint::new(),
            stream,
            FormatOptions::default(),
            MetadataOptions::default(),
        )
        // The first bytes were those of a known format: if no reader takes them, they are damaged.
        .map_err(|e| match e {
            Cause::Unsupported(_) => malformed(format!(
                "{what}: the file is cut or damaged within its header"
            ))
            .with_source(e),
            e => error(e, what),
        })?;
    let mut sound = Sound::default();
    // One turn for each link of a chained Ogg stream; all other files have one.
    while decode_link(format.as_mut(), &mut sound, what)? == Link::Next {}
    match (sound.mixer, sound.sample_rate) {
        (Some(mixer), Some(rate)) => Ok(mixer.finish(rate)),
        _ => Err(malformed(format!(
            "{what}: the file has a header but no sound"
        ))),
    }
}

/// What has been decoded so far.
#[derive(Default)]
struct Sound {
    mixer: Option<Mixer>,
    sample_rate: Option<u32>,
    /// One packet, interleaved.
    block: Vec<f32>,
}

/// What follows a link.
#[derive(PartialEq)]
enum Link {
    Next,
    End,
}

fn decode_link(format: &mut dyn FormatReader, sound: &mut Sound, what: &str) -> Result<Link> {
    let track = format
        .default_track(TrackType::Audio)
        .ok_or_else(|| malformed(format!("{what}: the file has no audio track")))?;
    let Some(CodecParameters::Audio(parameters)) = &track.codec_params else {
        return Err(malformed(format!(
            "{what}: the audio track says nothing about its encoding"
        )));
    };
    let (id, promised) = (track.id, track.num_frames);
    if let (Some(rate), Some(channels)) = (parameters.sample_rate, &parameters.channels) {
        check_shape(rate, u32::try_from(channels.count()).unwrap_or(u32::MAX))?;
    }
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(parameters, &AudioDecoderOptions::default().verify(true))
        .map_err(|e| error(e, what))?;

    let before = sound.frames();
    let link = loop {
        match format.next_packet() {
            Ok(Some(packet)) if packet.track_id == id => {
                sound.push(decoder.decode(&packet).map_err(|e| error(e, what))?, what)?;
            }
            Ok(Some(_)) => {}
            Ok(None) => break Link::End,
            Err(Cause::ResetRequired) => break Link::Next,
            Err(e) => return Err(error(e, what)),
        }
    };
    let frames = (sound.frames() - before) as u64;
    if let Some(promised) = promised.filter(|&promised| frames < promised) {
        return Err(malformed(format!(
            "{what}: the header promises {promised} frames, the file holds {frames}: it was cut"
        )));
    }
    if decoder.finalize().verify_ok == Some(false) {
        return Err(malformed(format!(
            "{what}: the checksum of the decoded sound does not match the header's: the file is damaged"
        )));
    }
    Ok(link)
}

impl Sound {
    fn frames(&self) -> usize {
        self.mixer.as_ref().map_or(0, |mixer| mixer.mono.len())
    }

    /// Mixes one packet; the first says which shape all have.
    fn push(&mut self, buffer: GenericAudioBufferRef<'_>, what: &str) -> Result<()> {
        if buffer.is_unused() {
            return Ok(());
        }
        let rate = buffer.spec().rate();
        let channels = u32::try_from(buffer.spec().channels().count()).unwrap_or(u32::MAX);
        let channels = check_shape(rate, channels)?;
        let mixer = self
            .mixer
            .get_or_insert_with(|| Mixer::new(channels, ErrorKind::Malformed));
        if mixer.channels != channels || *self.sample_rate.get_or_insert(rate) != rate {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "{what}: the sample rate or the channel count changes within the file: split it there"
                ),
            ));
        }
        buffer.copy_to_vec_interleaved(&mut self.block);
        mixer.push(&self.block)
    }
}

fn error(cause: Cause, what: &str) -> Error {
    let kind = match cause {
        Cause::IoError(e) => return read_error(e),
        Cause::Unsupported(_) => ErrorKind::Unsupported,
        Cause::LimitError(_) => ErrorKind::Limit,
        _ => ErrorKind::Malformed,
    };
    let remedy = match kind {
        ErrorKind::Unsupported => "convert it to 16-bit WAV",
        _ => "the file is damaged, fetch or make it again",
    };
    Error::new(kind, format!("{what}: {cause}; {remedy}")).with_source(cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OGG: &[u8] = include_bytes!("../../testdata/tone.ogg");
    const FLAC: &[u8] = include_bytes!("../../testdata/tone.flac");
    const MP3: &[u8] = include_bytes!("../../testdata/tone.mp3");

    /// Sample n of the sound in the test files.
    fn tone(n: usize) -> f32 {
        (0.5 * (std::f64::consts::TAU * 1_000.0 * n as f64 / 16_000.0).sin()) as f32
    }

    fn wav(encoding: u16, bits: u16, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"RIFF\0\0\0\0WAVEfmt \x12\0\0\0".to_vec();
        bytes.extend_from_slice(&encoding.to_le_bytes());
        bytes.extend_from_slice(&[1, 0, 0x80, 0x3e, 0, 0]);
        bytes.extend_from_slice(&(16_000 * u32::from(bits) / 8).to_le_bytes());
        bytes.extend_from_slice(&(bits / 8).to_le_bytes());
        bytes.extend_from_slice(&bits.to_le_bytes());
        bytes.extend_from_slice(b"\0\0data");
        bytes.extend_from_slice(&(data.len() as u32).to_le_bytes());
        bytes.extend_from_slice(data);
        let length = bytes.len() as u32 - 8;
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        bytes
    }

    #[test]
    fn every_codec_gives_the_whole_tone_in_place() {
        for (bytes, name, tolerance) in
            [(FLAC, "FLAC", 2e-5), (OGG, "Ogg", 0.07), (MP3, "MP3", 0.03)]
        {
            let audio = Audio::from_bytes(bytes).unwrap();
            assert_eq!(
                (audio.len(), audio.sample_rate(), audio.channels()),
                (4_000, 16_000, 1),
                "{name}"
            );
            for (n, x) in audio.samples().iter().enumerate().take(3_500).skip(500) {
                assert!(
                    (x - tone(n)).abs() < tolerance,
                    "{name}: sample {n} is {x}, expected {}",
                    tone(n)
                );
            }
        }
    }

    #[test]
    fn rare_wav_encodings_keep_their_scale() {
        let doubles: Vec<u8> = (0..100)
            .flat_map(|n| f64::from(tone(n)).to_le_bytes())
            .collect();
        let audio = Audio::from_bytes(&wav(3, 64, &doubles)).unwrap();
        assert_eq!(audio.len(), 100);
        assert!(
            audio
                .samples()
                .iter()
                .enumerate()
                .all(|(n, x)| (x - tone(n)).abs() < 1e-6)
        );
        // G.711: 0x80 is the largest mu-law step, 32124 of 32768; 0x2a the largest A-law one, -32256 (0xaa is +).
        let law = |encoding, code| {
            Audio::from_bytes(&wav(encoding, 8, &[code; 4]))
                .unwrap()
                .samples()
                .to_vec()
        };
        assert_eq!(law(7, 0x80), [32_124.0 / 32_768.0; 4]);
        assert_eq!(law(6, 0x2a), [-32_256.0 / 32_768.0; 4]);
    }

    #[test]
    fn unknown_wav_encodings_are_unsupported() {
        let error = Audio::from_bytes(&wav(0x160, 16, &[0; 32])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("0x0160"), "{error}");
    }

    #[test]
    fn numbers_that_are_none_are_refused_in_64_bits_too() {
        let data: Vec<u8> = [0.0, f64::NAN]
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        let error = Audio::from_bytes(&wav(3, 64, &data)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert!(error.to_string().contains("frame 1 "), "{error}");
    }

    #[test]
    fn a_stream_cut_anywhere_is_refused() {
        for (bytes, name) in [(FLAC, "FLAC"), (OGG, "Ogg"), (MP3, "MP3")] {
            for length in (0..bytes.len() - 1).step_by(37) {
                let error = match Audio::from_bytes(&bytes[..length]) {
                    Ok(audio) => {
                        panic!("{name} cut to {length} bytes gives {} frames", audio.len())
                    }
                    Err(error) => error,
                };
                assert_eq!(
                    error.kind(),
                    ErrorKind::Malformed,
                    "{name} cut to {length}: {error}"
                );
            }
        }
    }

    #[test]
    fn a_chained_stream_is_read_to_its_end() {
        let audio = Audio::from_bytes(&[OGG, OGG].concat()).unwrap();
        assert_eq!(audio.len(), 8_000);
    }

    /// The checksum of an Ogg page: CRC-32 with polynomial 0x04c11db7, not reflected, starting from zero.
    fn page_checksum(page: &[u8]) -> u32 {
        page.iter().fold(0, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte) << 24, |crc, _| {
                if crc >> 31 == 1 {
                    crc << 1 ^ 0x04c1_1db7
                } else {
                    crc << 1
                }
            })
        })
    }

    /// Writes the right checksum into every page, so that damage reaches the Vorbis decoder.
    fn mend_checksums(bytes: &mut [u8]) {
        let mut start = 0;
        while let Some(header) = bytes.get(start..start + 27) {
            let segments = usize::from(header[26]);
            let Some(table) = bytes.get(start + 27..start + 27 + segments) else {
                return;
            };
            let end = start + 27 + segments + table.iter().map(|&n| usize::from(n)).sum::<usize>();
            if end > bytes.len() {
                return;
            }
            bytes[start + 22..start + 26].fill(0);
            let checksum = page_checksum(&bytes[start..end]);
            bytes[start + 22..start + 26].copy_from_slice(&checksum.to_le_bytes());
            start = end;
        }
    }

    #[test]
    fn a_panic_of_the_decoder_is_an_error() {
        let mut same = OGG.to_vec();
        mend_checksums(&mut same);
        assert_eq!(
            same, OGG,
            "the checksums of an undamaged file are right already"
        );
        // This byte is part of a codebook's size; with 0 the decoder's own assertion fails.
        let mut bytes = OGG.to_vec();
        bytes[1356] = 0;
        mend_checksums(&mut bytes);
        let error = Audio::from_bytes(&bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert!(error.to_string().contains("gave up"), "{error}");
    }

    #[test]
    fn a_damaged_flac_is_refused() {
        let mut bytes = FLAC.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        assert_eq!(
            Audio::from_bytes(&bytes).unwrap_err().kind(),
            ErrorKind::Malformed
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn damaged_streams_never_panic(
            file in 0usize..4,
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            early in any::<bool>(),
            length in any::<prop::sample::Index>(),
            cut in any::<bool>(),
        ) {
            let mut bytes = [OGG, FLAC, MP3, OGG][file].to_vec();
            // Half of the time only the headers are hit, where the sizes are.
            let range = if early { bytes.len().min(200) } else { bytes.len() };
            for (at, value) in damage {
                bytes[at.index(range)] = value;
            }
            if file == 0 {
                mend_checksums(&mut bytes);
            }
            if cut {
                bytes.truncate(length.index(bytes.len()));
            }
            if let Ok(audio) = Audio::from_bytes(&bytes) {
                prop_assert!(audio.samples().iter().all(|x| x.is_finite()));
            }
        }
    }
}
