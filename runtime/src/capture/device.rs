//! A device that may vanish, change, or come back: what is told of it, and when it is opened again.

use super::ring::Reader;
use super::{AudioFormat, Captured};
use crate::Result;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Between two looks for a device that vanished.
const RETRY: Duration = Duration::from_millis(500);

/// An open device.
pub(super) trait Device {
    fn format(&self) -> AudioFormat;
    fn reader(&mut self) -> &mut Reader;
    fn faults(&self) -> &Faults;
    /// Frames it has offered, lost ones included.
    fn offered(&self) -> u64;
}

/// What the device's error callback leaves for the reader.
#[derive(Debug, Default)]
pub(super) struct Faults {
    gone: AtomicBool,
    replaced: AtomicBool,
    changes: AtomicU64,
    overruns: AtomicU64,
}

impl Faults {
    /// The device is gone.
    pub(super) fn gone(&self) {
        self.gone.store(true, Ordering::Release);
    }

    /// The device is gone because another took its place.
    pub(super) fn replaced(&self) {
        self.replaced.store(true, Ordering::Release);
        self.gone();
    }

    /// The stream goes on, on another device.
    pub(super) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// The device lost samples before they were handed over.
    pub(super) fn overrun(&self) {
        self.overruns.fetch_add(1, Ordering::Release);
    }
}

/// The way to open a device.
type Opener<D> = Box<dyn FnMut() -> Result<D> + Send>;

/// A device that is opened again where that was asked for.
pub(super) struct Reopening<D> {
    open: Opener<D>,
    /// Whether a device that vanished is looked for.
    reconnect: bool,
    /// Whether a device that was replaced by another is opened again.
    follow: bool,
    state: State<D>,
    format: AudioFormat,
    /// Frames of devices before this one.
    before: u64,
    overruns: u64,
    changes: u64,
}

enum State<D> {
    Open(D),
    /// Gone since then; looked for again from the second time on.
    Gone {
        since: Instant,
        next: Instant,
    },
    Ended,
}

impl<D: Device> Reopening<D> {
    pub(super) fn new(mut open: Opener<D>, reconnect: bool, follow: bool) -> Result<Self> {
        let device = open()?;
        Ok(Self {
            open,
            reconnect,
            follow,
            format: device.format(),
            state: State::Open(device),
            before: 0,
            overruns: 0,
            changes: 0,
        })
    }

    pub(super) fn format(&self) -> AudioFormat {
        self.format
    }

    /// Frames the devices have offered, lost ones included.
    pub(super) fn offered(&self) -> u64 {
        let here = match &self.state {
            State::Open(device) => device.offered(),
            State::Gone { .. } | State::Ended => 0,
        };
        self.before + here
    }

    pub(super) fn read(&mut self, out: &mut Vec<f32>) -> Result<Captured> {
        let device = match &mut self.state {
            State::Ended => return Ok(Captured::Ended),
            &mut State::Gone { since, next } => return Ok(self.look_for(since, next)),
            State::Open(device) => device,
        };
        // Asked before reading: what the device gave before it went is still read.
        let faults = device.faults();
        let gone = faults.gone.load(Ordering::Acquire);
        let replaced = faults.replaced.load(Ordering::Acquire);
        let overruns = faults.overruns.load(Ordering::Acquire);
        let changes = faults.changes.load(Ordering::Acquire);
        if let Some(frames) = device.reader().read(out) {
            return Ok(Captured::Lost { frames });
        }
        if overruns != self.overruns {
            self.overruns = overruns;
            return Ok(Captured::Lost { frames: 0 });
        }
        if changes != self.changes {
            self.changes = changes;
            return Ok(Captured::Changed);
        }
        if !gone {
            return Ok(Captured::Current);
        }
        let frames = device.reader().lost_at_the_end();
        self.before += device.offered();
        let now = Instant::now();
        let lost = Duration::from_secs_f64(frames as f64 / f64::from(self.format.rate.max(1)));
        self.state = match self.reconnect || (self.follow && replaced) {
            true => State::Gone {
                since: now.checked_sub(lost).unwrap_or(now),
                // The one that took its place is there already.
                next: if replaced { now } else { now + RETRY },
            },
            false => State::Ended,
        };
        Ok(Captured::Disconnected)
    }

    /// Opens the device again if it is time to, and it is there.
    fn look_for(&mut self, since: Instant, next: Instant) -> Captured {
        if Instant::now() < next {
            return Captured::Current;
        }
        match (self.open)() {
            Err(_) => {
                let next = Instant::now() + RETRY;
                self.state = State::Gone { since, next };
                Captured::Current
            }
            Ok(device) => {
                self.format = device.format();
                (self.overruns, self.changes) = (0, 0);
                self.state = State::Open(device);
                let frames = since.elapsed().as_secs_f64() * f64::from(self.format.rate);
                Captured::Lost {
                    frames: frames as u64,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ring::{AudioWriter, ring};
    use super::*;
    use crate::{Error, ErrorKind};
    use std::sync::{Arc, Mutex};

    struct Fake {
        reader: Reader,
        faults: Arc<Faults>,
        rate: u32,
    }

    impl Device for Fake {
        fn format(&self) -> AudioFormat {
            AudioFormat {
                rate: self.rate,
                channels: 1,
            }
        }

        fn reader(&mut self) -> &mut Reader {
            &mut self.reader
        }

        fn faults(&self) -> &Faults {
            &self.faults
        }

        fn offered(&self) -> u64 {
            self.reader.offered()
        }
    }

    /// The callback's ends of the devices that were opened, the newest last.
    type Ends = Arc<Mutex<Vec<(AudioWriter, Arc<Faults>)>>>;

    /// A device that opens with each of the rates in turn; a rate of 0 does not open.
    fn device(rates: &[u32], reconnect: bool, follow: bool) -> (Reopening<Fake>, Ends) {
        let ends = Ends::default();
        let opened = ends.clone();
        let rates: Vec<u32> = rates.into();
        let mut rates = rates.into_iter();
        let open = move || {
            let rate = rates.next().filter(|&rate| rate > 0);
            let rate = rate.ok_or_else(|| Error::new(ErrorKind::Device, "away"))?;
            let (writer, reader) = ring(100, 1);
            let faults = Arc::new(Faults::default());
            opened.lock().unwrap().push((writer, faults.clone()));
            Ok(Fake {
                reader,
                faults,
                rate,
            })
        };
        (
            Reopening::new(Box::new(open), reconnect, follow).unwrap(),
            ends,
        )
    }

    fn write(ends: &Ends, samples: usize) {
        let mut ends = ends.lock().unwrap();
        ends.last_mut().unwrap().0.write((0..samples).map(|_| 0.5));
    }

    fn faults(ends: &Ends) -> Arc<Faults> {
        ends.lock().unwrap().last().unwrap().1.clone()
    }

    /// Reads until something other than nothing happens, or for two seconds.
    fn next(device: &mut Reopening<Fake>) -> (usize, Captured) {
        let started = Instant::now();
        let mut out = Vec::new();
        loop {
            let captured = device.read(&mut out).unwrap();
            if captured != Captured::Current
                || !out.is_empty()
                || started.elapsed() > Duration::from_secs(2)
            {
                return (out.len(), captured);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_device_that_vanishes_is_found_again_and_the_time_without_it_told() {
        let (mut device, ends) = device(&[1000, 0, 2000], true, false);
        write(&ends, 30);
        faults(&ends).gone();
        assert_eq!(next(&mut device), (30, Captured::Disconnected));
        assert_eq!(device.format().rate, 1000);
        // Not there at the first look, half a second later it is, with another rate.
        let (read, captured) = next(&mut device);
        let Captured::Lost { frames } = captured else {
            panic!("{captured:?}");
        };
        assert!(read == 0 && (1900..3000).contains(&frames), "{frames}");
        assert_eq!(device.format().rate, 2000);
        write(&ends, 40);
        assert_eq!(next(&mut device), (40, Captured::Current));
        assert_eq!(device.offered(), 70);
    }

    #[test]
    fn without_being_asked_nobody_looks_for_it() {
        let (mut device, ends) = device(&[1000, 1000], false, false);
        faults(&ends).replaced();
        assert_eq!(next(&mut device), (0, Captured::Disconnected));
        assert_eq!(next(&mut device), (0, Captured::Ended));
        assert_eq!(next(&mut device), (0, Captured::Ended));
    }

    #[test]
    fn the_default_device_is_followed_at_once() {
        let (mut device, ends) = device(&[1000, 1000], false, true);
        write(&ends, 10);
        faults(&ends).changed();
        assert_eq!(next(&mut device), (10, Captured::Changed));
        faults(&ends).replaced();
        assert_eq!(next(&mut device), (0, Captured::Disconnected));
        let started = Instant::now();
        assert!(matches!(next(&mut device).1, Captured::Lost { .. }));
        assert!(started.elapsed() < RETRY);
        write(&ends, 20);
        assert_eq!(next(&mut device), (20, Captured::Current));
    }

    #[test]
    fn overruns_and_what_was_lost_at_the_end_are_told() {
        let (mut device, ends) = device(&[1000, 1000], true, false);
        faults(&ends).overrun();
        assert_eq!(next(&mut device), (0, Captured::Lost { frames: 0 }));
        write(&ends, 100);
        write(&ends, 60);
        faults(&ends).gone();
        assert_eq!(next(&mut device), (100, Captured::Disconnected));
        let Captured::Lost { frames } = next(&mut device).1 else {
            panic!("it is back");
        };
        // The 60 that did not fit, and half a second.
        assert!((560..900).contains(&frames), "{frames}");
    }
}
