//! A stream of JPEG images cut into images: what cameras, `ffmpeg -f mjpeg` and HTTP servers call MJPEG.
//!
//! An image begins with SOI (`FF D8`) and ends with EOI (`FF D9`), found by walking its segments, so that a thumbnail
//! within a segment ends nothing (ITU-T T.81, annex B). What stands between images, as the headers of a multipart
//! stream, is skipped.

use crate::{Error, ErrorKind, Result};
use std::io::{self, BufRead, Read};

/// Most bytes of one image.
const MAX_BYTES: usize = 64 << 20;

/// Cuts a stream into JPEG images.
#[derive(Debug)]
pub(super) struct JpegStream<R> {
    input: R,
    /// The first marker of an image was read already.
    begun: bool,
    ended: bool,
}

/// Where walking through an image ended.
enum Walk {
    Whole,
    /// Another image begins before this one ended.
    NextImage,
    Ended,
    Broken,
}

impl<R: BufRead> JpegStream<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            begun: false,
            ended: false,
        }
    }

    /// The bytes of the next image; `None` at the end.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] for an image that is cut or no JPEG, [`ErrorKind::Limit`] for one above 64 MiB: asked
    /// again, the stream goes on after it. [`ErrorKind::Io`] when reading fails.
    pub(super) fn next_image(&mut self) -> Result<Option<Vec<u8>>> {
        if self.ended || !(self.begun || self.find_start().map_err(failed)?) {
            self.ended = true;
            return Ok(None);
        }
        self.begun = false;
        let mut image = vec![0xff, 0xd8];
        let cut = |what: &str| Err(Error::new(ErrorKind::Malformed, what));
        match self.walk(&mut image).map_err(failed)? {
            _ if image.len() > MAX_BYTES => Err(Error::new(
                ErrorKind::Limit,
                format!("a JPEG image of the stream has more than {MAX_BYTES} bytes"),
            )),
            Walk::Whole => Ok(Some(image)),
            Walk::NextImage => {
                self.begun = true;
                cut("a JPEG image of the stream is cut: another begins before its end")
            }
            Walk::Ended => {
                self.ended = true;
                cut("the stream ends within a JPEG image")
            }
            Walk::Broken => {
                cut("a JPEG image of the stream is broken: its segments do not follow one another")
            }
        }
    }

    /// Skips to the start of an image; false at the end.
    fn find_start(&mut self) -> io::Result<bool> {
        loop {
            self.input.skip_until(0xff)?;
            loop {
                match self.byte()? {
                    None => return Ok(false),
                    Some(0xd8) => return Ok(true),
                    Some(0xff) => {}
                    Some(_) => break,
                }
            }
        }
    }

    fn walk(&mut self, image: &mut Vec<u8>) -> io::Result<Walk> {
        if self.byte()? != Some(0xff) {
            return Ok(Walk::Broken);
        }
        image.push(0xff);
        loop {
            // The byte before is FF; more of them are fill.
            let marker = loop {
                match self.byte()? {
                    None => return Ok(Walk::Ended),
                    Some(0xff) => {}
                    Some(marker) => break marker,
                }
            };
            image.push(marker);
            match marker {
                0xd8 => return Ok(Walk::NextImage),
                0xd9 => return Ok(Walk::Whole),
                0x01 | 0xd0..=0xd7 => {
                    if self.byte()? != Some(0xff) {
                        return Ok(Walk::Broken);
                    }
                    image.push(0xff);
                }
                _ => {
                    let (Some(high), Some(low)) = (self.byte()?, self.byte()?) else {
                        return Ok(Walk::Ended);
                    };
                    image.extend([high, low]);
                    let Some(rest) = usize::from(u16::from_be_bytes([high, low])).checked_sub(2)
                    else {
                        return Ok(Walk::Broken);
                    };
                    let read = (&mut self.input).take(rest as u64).read_to_end(image)?;
                    if read < rest {
                        return Ok(Walk::Ended);
                    }
                    if marker != 0xda {
                        match self.byte()? {
                            None => return Ok(Walk::Ended),
                            Some(0xff) => image.push(0xff),
                            Some(_) => return Ok(Walk::Broken),
                        }
                    } else if !self.scan(image)? {
                        return Ok(Walk::Ended);
                    }
                }
            }
            if image.len() > MAX_BYTES {
                return Ok(Walk::Broken);
            }
        }
    }

    /// Reads the coded data of a scan up to the FF of the marker that ends it; false where the stream ends or the
    /// image grows too large.
    fn scan(&mut self, image: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            let room = (MAX_BYTES + 1).saturating_sub(image.len());
            let read = (&mut self.input)
                .take(room as u64)
                .read_until(0xff, image)?;
            if read == 0 || image.last() != Some(&0xff) {
                return Ok(image.len() > MAX_BYTES);
            }
            // FF 00 is data and FF D0 to D7 restart it; anything else is a marker, and stays to be read.
            match self.input.fill_buf()?.first() {
                None => return Ok(false),
                Some(&next @ (0 | 0xd0..=0xd7)) => {
                    self.input.consume(1);
                    image.push(next);
                }
                Some(_) => return Ok(true),
            }
        }
    }

    fn byte(&mut self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        let read = (&mut self.input).take(1).read(&mut byte)?;
        Ok((read == 1).then_some(byte[0]))
    }
}

fn failed(error: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("the stream of frames: {error}")).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(bytes: &[u8], buffer: usize) -> Vec<std::result::Result<Vec<u8>, ErrorKind>> {
        let mut stream = JpegStream::new(io::BufReader::with_capacity(buffer, bytes));
        let mut out = Vec::new();
        loop {
            match stream.next_image() {
                Ok(None) => return out,
                Ok(Some(image)) => out.push(Ok(image)),
                Err(error) => out.push(Err(error.kind())),
            }
        }
    }

    /// An image with a thumbnail in a segment, stuffed bytes, a restart, and fill before the last marker.
    fn image(value: u8) -> Vec<u8> {
        let mut out = vec![0xff, 0xd8, 0xff, 0xe1, 0, 8, 0xff, 0xd8, 9, 9, 0xff, 0xd9];
        out.extend([
            0xff, 0xda, 0, 3, 1, value, 0xff, 0, 5, 0xff, 0xd3, 6, 0xff, 0xd9,
        ]);
        out
    }

    #[test]
    fn images_are_cut_out_of_what_stands_between_them() {
        let (a, b) = (image(1), image(2));
        let stream = [
            b"--frame\r\n\xff\r\n",
            &a[..],
            b"\r\n--frame\r\n",
            &b,
            &a,
            b"\r\n--",
        ]
        .concat();
        for buffer in [1, 2, 7, 4096] {
            assert_eq!(
                cut(&stream, buffer),
                [Ok(a.clone()), Ok(b.clone()), Ok(a.clone())]
            );
        }
        assert_eq!(cut(b"", 16), []);
        assert_eq!(cut(b"no image at all", 16), []);
    }

    #[test]
    fn cut_images_are_told_and_the_next_is_whole() {
        let whole = image(3);
        let cases: [(&[u8], ErrorKind); 3] = [
            (&whole[..whole.len() - 2], ErrorKind::Malformed),
            (&[0xff, 0xd8, 0xff, 0xe0, 0, 1], ErrorKind::Malformed),
            (&[0xff, 0xd8, 0x00], ErrorKind::Malformed),
        ];
        for (broken, kind) in cases {
            let stream = [broken, &whole].concat();
            assert_eq!(
                cut(&stream, 5),
                [Err(kind), Ok(whole.clone())],
                "{broken:x?}"
            );
        }
        for length in 3..whole.len() {
            assert_eq!(
                cut(&whole[..length], 5).last(),
                Some(&Err(ErrorKind::Malformed)),
                "{length}"
            );
        }
    }

    #[test]
    fn an_endless_image_is_refused_at_the_limit() {
        let start = [0xff, 0xd8, 0xff, 0xda, 0, 2];
        let endless = io::repeat(7).take(2 * MAX_BYTES as u64);
        let mut stream = JpegStream::new(io::BufReader::new(start.chain(endless)));
        assert_eq!(stream.next_image().unwrap_err().kind(), ErrorKind::Limit);
        assert!(stream.next_image().unwrap().is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_cut_without_loss_of_whole_images(
            junk in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..5), buffer in 1usize..9,
        ) {
            let mut stream = Vec::new();
            for junk in &junk {
                stream.extend(junk.iter().map(|&b| if b == 0xff { 0 } else { b }));
                stream.extend(image(4));
            }
            let found = cut(&stream, buffer);
            prop_assert_eq!(found, vec![Ok(image(4)); junk.len()]);
        }

        #[test]
        fn any_bytes_end(bytes in prop::collection::vec(prop_oneof![Just(0xffu8), 0xd0u8..0xe2, any::<u8>()], 0..300)) {
            let _ = cut(&bytes, 3);
        }
    }
}
