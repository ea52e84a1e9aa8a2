//! From whoever has frames to whoever reads them: a slot for the newest frame between two threads.
//!
//! A frame that is put while another waits replaces it ([`Keep::Newest`]), so that a reader, however slow, reads what
//! the camera sees now; or whoever puts waits ([`Keep::All`]), so that a folder or a file is read to the last frame.
//! One frame waits at most: memory does not grow.

use super::{Frame, FrameSource};
use crate::{Error, ErrorKind, Result};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What becomes of a frame that waits when another comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Keep {
    /// The older is dropped: for cameras.
    #[default]
    Newest,
    /// None is dropped; whoever puts frames waits: for folders and files.
    All,
}

/// What a feed has.
#[derive(Debug)]
#[non_exhaustive]
pub enum Fed {
    /// A frame.
    Frame {
        /// The frame.
        frame: Frame,
        /// How many frames came before it, dropped ones included.
        number: u64,
        /// When it came, since the feed began.
        at: Duration,
    },
    /// None in the time allowed.
    Waiting,
    /// No more will come, and the last was given out.
    Ended,
}

/// What a feed has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct FeedStats {
    /// Frames that came.
    pub frames: u64,
    /// Frames that were dropped because a newer one came before they were read.
    pub dropped: u64,
    /// Frames that were damaged.
    pub damaged: u64,
}

#[derive(Debug)]
struct Slot {
    state: Mutex<State>,
    changed: Condvar,
    began: Instant,
}

#[derive(Debug, Default)]
struct State {
    waiting: Option<(Frame, u64, Duration)>,
    stats: FeedStats,
    /// Why the last damaged frame was.
    damage: Option<Error>,
    /// Why the source ended, if not by itself.
    failure: Option<Error>,
    ended: bool,
    /// Nobody reads any more.
    closed: bool,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole after every statement, so a reader that panicked left it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, most: Duration) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout(state, most);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The end that frames are put into: an app calls it from its camera's callback.
#[derive(Debug)]
pub struct FrameSender {
    slot: Arc<Slot>,
    keep: Keep,
}

impl FrameSender {
    /// Puts a frame, and says whether anybody still reads. With [`Keep::Newest`] it never waits for the reader.
    pub fn put(&self, frame: Frame) -> bool {
        let mut state = self.slot.lock();
        while self.keep == Keep::All && state.waiting.is_some() && !state.closed {
            state = self.slot.wait(state, Duration::from_secs(1));
        }
        if state.closed {
            return false;
        }
        let number = state.stats.frames;
        state.stats.frames += 1;
        let replaced = state
            .waiting
            .replace((frame, number, self.slot.began.elapsed()));
        state.stats.dropped += u64::from(replaced.is_some());
        self.slot.changed.notify_all();
        true
    }

    /// Counts a frame that could not be had, and says whether anybody still reads.
    pub fn damaged(&self, why: Error) -> bool {
        let mut state = self.slot.lock();
        state.stats.damaged += 1;
        state.damage = Some(why);
        !state.closed
    }

    /// Ends the feed with an error, which the reader gets after the last frame.
    pub fn fail(self, why: Error) {
        self.slot.lock().failure = Some(why);
    }
}

impl Drop for FrameSender {
    fn drop(&mut self) {
        self.slot.lock().ended = true;
        self.slot.changed.notify_all();
    }
}

/// The end that frames are read from.
#[derive(Debug)]
pub struct FrameFeed {
    slot: Arc<Slot>,
    interval: Duration,
    /// When the next frame may be given out.
    due: Option<Instant>,
}

impl FrameFeed {
    /// A feed and its other end. It gives out at most `per_second` frames a second: in between, newer frames replace
    /// older ones. Infinity sets no limit.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] unless the rate is at least 0.001.
    pub fn new(keep: Keep, per_second: f64) -> Result<(FrameSender, Self)> {
        if per_second.is_nan() || per_second < 0.001 {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("at most {per_second} frames a second: 0.001 or more are expected"),
            ));
        }
        let slot = Arc::new(Slot {
            state: Mutex::default(),
            changed: Condvar::new(),
            began: Instant::now(),
        });
        let sender = FrameSender {
            slot: slot.clone(),
            keep,
        };
        let feed = Self {
            slot,
            interval: Duration::from_secs_f64(per_second.recip()),
            due: None,
        };
        Ok((sender, feed))
    }

    /// A feed of a source, which is asked on a thread of its own. Dropping the feed ends the thread with the source's
    /// next frame.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`ErrorKind::Io`] when the system gives no thread.
    pub fn start(
        mut source: impl FrameSource + 'static,
        keep: Keep,
        per_second: f64,
    ) -> Result<Self> {
        let (sender, feed) = Self::new(keep, per_second)?;
        let ask = move || {
            loop {
                let goes_on = match source.next_frame() {
                    Ok(Some(frame)) => sender.put(frame),
                    Ok(None) => return,
                    Err(error) => match error.kind() {
                        ErrorKind::Malformed | ErrorKind::Unsupported | ErrorKind::Limit => {
                            sender.damaged(error)
                        }
                        _ => return sender.fail(error),
                    },
                };
                if !goes_on {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("acolyte-frames".into());
        thread.spawn(ask).map_err(|e| {
            Error::new(ErrorKind::Io, format!("no thread for the frames: {e}")).with_source(e)
        })?;
        Ok(feed)
    }

    /// The newest frame, waiting for one up to `wait`.
    ///
    /// # Errors
    /// The one that ended the source, once all its frames were given out.
    pub fn next(&mut self, wait: Duration) -> Result<Fed> {
        let until = Instant::now().checked_add(wait);
        let mut state = self.slot.lock();
        loop {
            let now = Instant::now();
            let due = self.due.is_none_or(|due| due <= now);
            if due && let Some((frame, number, at)) = state.waiting.take() {
                self.due = now.checked_add(self.interval);
                self.slot.changed.notify_all();
                return Ok(Fed::Frame { frame, number, at });
            }
            if state.ended && state.waiting.is_none() {
                return state.failure.take().map_or(Ok(Fed::Ended), Err);
            }
            if until.is_some_and(|until| until <= now) {
                return Ok(Fed::Waiting);
            }
            let next = match (self.due, state.waiting.is_some()) {
                (Some(due), true) => until.map_or(due, |until| until.min(due)),
                _ => until.unwrap_or(now + Duration::from_secs(1)),
            };
            state = self.slot.wait(state, next.saturating_duration_since(now));
        }
    }

    /// What the feed has done.
    pub fn stats(&self) -> FeedStats {
        self.slot.lock().stats
    }

    /// Why the last damaged frame was, once.
    pub fn damage(&mut self) -> Option<Error> {
        self.slot.lock().damage.take()
    }
}

impl Drop for FrameFeed {
    fn drop(&mut self) {
        self.slot.lock().closed = true;
        self.slot.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::{FrameLayout, RawFrames};
    use crate::image::PixelFormat;
    use proptest::prelude::*;

    const GRAY: FrameLayout = FrameLayout::Interleaved(PixelFormat::Gray);

    fn frame(value: u8) -> Frame {
        Frame::new(vec![value], 1, 1, GRAY).unwrap()
    }

    fn number(fed: Fed) -> Option<u64> {
        match fed {
            Fed::Frame { number, .. } => Some(number),
            _ => None,
        }
    }

    proptest! {
        /// Whatever is put and read in whatever order: what is read is the newest, and every frame is read, dropped or
        /// waiting.
        #[test]
        fn the_newest_is_never_dropped(steps in prop::collection::vec(any::<bool>(), 1..60)) {
            let (sender, mut feed) = FrameFeed::new(Keep::Newest, f64::INFINITY).unwrap();
            let (mut put, mut read, mut newest) = (0u64, 0u64, None);
            for puts in steps {
                if puts {
                    prop_assert!(sender.put(frame(0)));
                    newest = Some(put);
                    put += 1;
                } else {
                    let found = number(feed.next(Duration::ZERO).unwrap());
                    prop_assert_eq!(found, newest.take());
                    read += u64::from(found.is_some());
                }
                let stats = feed.stats();
                prop_assert_eq!(stats.frames, put);
                prop_assert_eq!(read + stats.dropped + u64::from(newest.is_some()), put);
            }
            drop(sender);
            prop_assert_eq!(number(feed.next(Duration::ZERO).unwrap()), newest);
            prop_assert!(matches!(feed.next(Duration::ZERO), Ok(Fed::Ended)));
        }
    }

    #[test]
    fn a_slow_reader_gets_the_last_frame_of_a_fast_source() {
        let bytes = vec![0u8; 500];
        let source = RawFrames::new(std::io::Cursor::new(bytes), 1, 1, GRAY).unwrap();
        let mut feed = FrameFeed::start(source, Keep::Newest, 50.0).unwrap();
        let mut numbers = Vec::new();
        let started = Instant::now();
        loop {
            match feed.next(Duration::from_secs(5)).unwrap() {
                Fed::Frame { number, .. } => numbers.push(number),
                Fed::Ended => break,
                Fed::Waiting => panic!("the source ends by itself"),
            }
        }
        assert_eq!(numbers.last(), Some(&499));
        assert!(numbers.is_sorted());
        let stats = feed.stats();
        assert_eq!(
            (stats.frames, stats.dropped),
            (500, 500 - numbers.len() as u64)
        );
        let least = Duration::from_millis(20) * (numbers.len() as u32 - 1);
        assert!(
            started.elapsed() >= least,
            "frames came faster than the limit"
        );
    }

    #[test]
    fn all_frames_are_kept_where_asked() {
        let source = RawFrames::new(std::io::Cursor::new(vec![0u8; 300]), 1, 1, GRAY).unwrap();
        let mut feed = FrameFeed::start(source, Keep::All, f64::INFINITY).unwrap();
        for expected in 0..300 {
            assert_eq!(
                number(feed.next(Duration::from_secs(5)).unwrap()),
                Some(expected)
            );
        }
        assert!(matches!(feed.next(Duration::from_secs(5)), Ok(Fed::Ended)));
        assert_eq!(feed.stats().dropped, 0);
    }

    /// A source that fails for one frame, then for good.
    struct Failing(Vec<Result<Option<Frame>>>);

    impl FrameSource for Failing {
        fn next_frame(&mut self) -> Result<Option<Frame>> {
            self.0.remove(0)
        }
    }

    #[test]
    fn damage_is_counted_and_failure_comes_after_the_last_frame() {
        let error = |kind| Err(Error::new(kind, "as told"));
        let script = vec![
            Ok(Some(frame(1))),
            error(ErrorKind::Malformed),
            Ok(Some(frame(2))),
            error(ErrorKind::Device),
        ];
        let mut feed = FrameFeed::start(Failing(script), Keep::All, f64::INFINITY).unwrap();
        let wait = Duration::from_secs(5);
        assert_eq!(number(feed.next(wait).unwrap()), Some(0));
        assert_eq!(number(feed.next(wait).unwrap()), Some(1));
        assert_eq!(feed.next(wait).unwrap_err().kind(), ErrorKind::Device);
        assert!(matches!(feed.next(wait), Ok(Fed::Ended)));
        assert_eq!(feed.stats().damaged, 1);
        assert_eq!(feed.damage().unwrap().kind(), ErrorKind::Malformed);
        assert!(feed.damage().is_none());
    }

    #[test]
    fn nobody_waits_for_a_reader_that_left() {
        let (sender, feed) = FrameFeed::new(Keep::All, 10.0).unwrap();
        assert!(sender.put(frame(1)));
        drop(feed);
        assert!(!sender.put(frame(2)));
        assert!(FrameFeed::new(Keep::All, 0.0).is_err());
    }
}
