//! Samples from a device's callback to the thread that recognizes, without a lock: what does not fit is counted, and the
//! place where it is missing is kept.
//!
//! Two wait-free queues of one writer and one reader: samples, and *marks*. A mark says how many samples were written
//! before a loss and how many frames it took; the reader stops at each. The writer never allocates, waits or logs.

use rtrb::{Consumer, Producer, RingBuffer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Losses that can be under way from writer to reader; further ones join the last.
const MARKS: usize = 64;

/// A place where frames are missing.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// Samples written before it.
    after: u64,
    /// Frames missing.
    frames: u64,
}

/// The end that a device's callback writes into: it never allocates, waits or logs, and drops nothing uncounted.
#[derive(Debug)]
pub struct AudioWriter {
    samples: Producer<f32>,
    marks: Producer<Mark>,
    channels: u64,
    written: u64,
    /// Frames lost since the last mark.
    lost: u64,
    /// All frames ever offered, for the reader.
    offered: Arc<AtomicU64>,
    /// Frames lost that no mark tells of yet, for a reader after the writer's end.
    unmarked: Arc<AtomicU64>,
}

/// The recognizing thread's end.
#[derive(Debug)]
pub(super) struct Reader {
    samples: Consumer<f32>,
    marks: Consumer<Mark>,
    read: u64,
    offered: Arc<AtomicU64>,
    unmarked: Arc<AtomicU64>,
}

/// A ring for `frames` frames of `channels` channels.
pub(super) fn ring(frames: usize, channels: u16) -> (AudioWriter, Reader) {
    let channels = usize::from(channels.max(1));
    let (samples, from_samples) = RingBuffer::new(frames.saturating_mul(channels).max(channels));
    let (marks, from_marks) = RingBuffer::new(MARKS);
    let offered = Arc::new(AtomicU64::new(0));
    let unmarked = Arc::new(AtomicU64::new(0));
    let writer = AudioWriter {
        samples,
        marks,
        channels: channels as u64,
        written: 0,
        lost: 0,
        offered: offered.clone(),
        unmarked: unmarked.clone(),
    };
    let reader = Reader {
        samples: from_samples,
        marks: from_marks,
        read: 0,
        offered,
        unmarked,
    };
    (writer, reader)
}

impl AudioWriter {
    /// Takes interleaved samples, whole frames, or counts them all as lost where the ring is too full.
    pub fn write(&mut self, samples: impl ExactSizeIterator<Item = f32>) {
        let count = samples.len();
        let frames = count as u64 / self.channels;
        self.offered.fetch_add(frames, Ordering::Relaxed);
        let marked = self.lost == 0 || self.mark();
        let room = if marked {
            self.samples.write_chunk_uninit(count).ok()
        } else {
            None
        };
        match room {
            Some(chunk) => self.written += chunk.fill_from_iter(samples) as u64,
            None => {
                self.lost += frames;
                self.unmarked.store(self.lost, Ordering::Release);
            }
        }
    }

    /// Says where the last frames were lost, before anything is written after them. False while the reader lags so far
    /// behind that even the marks do not fit: then samples must wait too.
    fn mark(&mut self) -> bool {
        let mark = Mark {
            after: self.written,
            frames: self.lost,
        };
        // Only where there is room for samples again: until then the loss still grows.
        if self.samples.slots() < self.channels as usize || self.marks.push(mark).is_err() {
            return false;
        }
        self.lost = 0;
        self.unmarked.store(0, Ordering::Release);
        true
    }
}

impl Reader {
    /// Appends the samples up to the next loss, and returns the frames lost there, if there is one.
    pub(super) fn read(&mut self, out: &mut Vec<f32>) -> Option<u64> {
        let available = self.samples.slots();
        // Marks are looked at after the samples: a mark comes before the samples that follow it.
        let mark = self.marks.peek().ok().copied();
        let until = mark.map_or(u64::MAX, |mark| mark.after - self.read);
        let count = available.min(usize::try_from(until).unwrap_or(usize::MAX));
        if let Ok(chunk) = self.samples.read_chunk(count) {
            let (first, second) = chunk.as_slices();
            out.extend_from_slice(first);
            out.extend_from_slice(second);
            chunk.commit_all();
            self.read += count as u64;
        }
        let mark = mark.filter(|mark| mark.after == self.read)?;
        let _ = self.marks.pop();
        Some(mark.frames)
    }

    /// The frames lost that no mark tells of: what a reader asks when the writer is gone and all was read.
    pub(super) fn lost_at_the_end(&self) -> u64 {
        self.unmarked.load(Ordering::Acquire)
    }

    /// Whether the writer is gone: what was not read yet is all there will be.
    pub(super) fn is_abandoned(&self) -> bool {
        self.samples.is_abandoned()
    }

    /// All frames the device ever offered.
    pub(super) fn offered(&self) -> u64 {
        self.offered.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Frame i holds the number i: whatever is read in whatever order, every frame is read or counted, in its place.
        #[test]
        fn every_frame_is_read_or_counted_where_it_is_missing(
            steps in prop::collection::vec((0usize..60, any::<bool>()), 1..80),
            channels in 1u16..3,
        ) {
            let (mut writer, mut reader) = ring(64, channels);
            let (mut next, mut seen) = (0u64, 0u64);
            let drain = |reader: &mut Reader, seen: &mut u64| {
                loop {
                    let mut out = Vec::new();
                    let lost = reader.read(&mut out);
                    for frame in out.chunks_exact(usize::from(channels)) {
                        assert!(frame.iter().all(|&x| x as u64 == *seen));
                        *seen += 1;
                    }
                    match lost {
                        Some(frames) => *seen += frames,
                        None => break,
                    }
                }
            };
            for (frames, reads) in steps {
                let first = next;
                let count = frames * usize::from(channels);
                writer.write((0..count).map(|i| (first + (i / usize::from(channels)) as u64) as f32));
                next += frames as u64;
                if reads {
                    drain(&mut reader, &mut seen);
                }
            }
            drain(&mut reader, &mut seen);
            prop_assert_eq!(seen + reader.lost_at_the_end(), next);
            prop_assert_eq!(reader.offered(), next);
        }
    }

    #[test]
    fn two_threads_lose_nothing_uncounted() {
        let (mut writer, mut reader) = ring(1_000, 1);
        let total = 300_000u64;
        let write = std::thread::spawn(move || {
            let mut next = 0;
            while next < total {
                let count = 100.min(total - next);
                writer.write((0..count as usize).map(|i| ((next + i as u64) % 4096) as f32));
                next += count;
            }
        });
        let mut seen = 0u64;
        let mut done = false;
        loop {
            let mut out = Vec::new();
            let lost = reader.read(&mut out);
            for &sample in &out {
                assert_eq!(sample, (seen % 4096) as f32);
                seen += 1;
            }
            seen += lost.unwrap_or(0);
            if out.is_empty() && lost.is_none() {
                if done {
                    break;
                }
                done = write.is_finished();
            }
        }
        assert_eq!(seen + reader.lost_at_the_end(), total);
    }
}
