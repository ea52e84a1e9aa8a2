//! What runs in a device's callback never allocates: every allocation of this program is counted.
//!
//! The callback writes into the ring behind [`handed_audio`]; the microphone's callback writes into the same. With the
//! feature `mic` the whole path through `cpal` and ALSA is counted too, in a child process, since ALSA's configuration
//! comes from the environment.

#![allow(clippy::unwrap_used)] // A test that unwraps fails with the line that did it.

mod counting {
    //! An allocator that counts what it passes on.

    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU64, Ordering};

    static OTHERS: AtomicU64 = AtomicU64::new(0);

    thread_local! {
        static HERE: Cell<u64> = const { Cell::new(0) };
        static APART: Cell<bool> = const { Cell::new(false) };
    }

    /// The system's allocator, counted.
    pub struct Counting;

    fn count() {
        HERE.set(HERE.get() + 1);
        if !APART.get() {
            OTHERS.fetch_add(1, Ordering::Relaxed);
        }
    }

    // SAFETY: each call goes to the system's allocator as it came, so its guarantees hold. Counting touches an atomic and
    // thread-locals that are initialized at compile time and have no destructor: it neither allocates nor unwinds.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            count();
            // SAFETY: the caller's promise about `layout` is passed on.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            count();
            // SAFETY: the caller's promise that `pointer` came from here with `layout` is passed on.
            unsafe { System.dealloc(pointer, layout) }
        }

        unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            count();
            // SAFETY: as for `dealloc`, and `size` is passed on.
            unsafe { System.realloc(pointer, layout, size) }
        }
    }

    /// Allocations and releases of this thread so far.
    pub fn here() -> u64 {
        HERE.get()
    }

    /// Allocations and releases of all threads but those set apart.
    #[cfg(feature = "mic")]
    pub fn others() -> u64 {
        OTHERS.load(Ordering::SeqCst)
    }

    /// Sets this thread apart.
    #[cfg(feature = "mic")]
    pub fn apart() {
        APART.set(true);
    }
}

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

use acolyte::capture::{AudioFormat, AudioSource, Captured, handed_audio};

#[test]
fn writing_audio_allocates_nothing_even_where_it_overflows() {
    let format = AudioFormat {
        rate: 48_000,
        channels: 2,
    };
    let (mut writer, mut source) = handed_audio(format, 0.1).unwrap();
    let writes = std::thread::spawn(move || {
        let before = counting::here();
        for turn in 0..20_000usize {
            let samples = 2 * (turn * 7 % 960);
            writer.write((0..samples).map(|i| i as f32));
            if turn % 100 == 0 {
                std::thread::yield_now();
            }
        }
        counting::here() - before
    });
    let (mut read, mut lost) = (0, 0);
    let mut out = Vec::new();
    loop {
        out.clear();
        match source.read(&mut out).unwrap() {
            Captured::Ended => break,
            Captured::Lost { frames } => lost += frames,
            _ => {}
        }
        read += out.len() as u64 / 2;
    }
    let offered: u64 = (0..20_000u64).map(|turn| turn * 7 % 960).sum();
    assert_eq!(writes.join().unwrap(), 0, "allocations in the callback");
    assert_eq!(read + lost, offered);
    assert!(lost > 0, "the ring should have overflowed");
    assert!(counting::here() > 0, "the counter counts");
}

#[cfg(feature = "mic")]
mod mic {
    use super::counting;
    use acolyte::capture::{AudioSource, Captured, MicOptions, Microphone};
    use std::process::Command;
    use std::time::{Duration, Instant};

    /// Set in the child process.
    const CHILD: &str = "ACOLYTE_COUNTED_CHILD";

    #[test]
    fn the_microphone_starts_at_once_and_its_callback_allocates_nothing() {
        if std::env::var_os(CHILD).is_some() {
            return counted();
        }
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("asound.conf");
        // Zeros as fast as they are read: many more calls than a device makes.
        let text = "pcm.null { type null }\n\
                    pcm.!default { type file\n slave.pcm \"null\"\n file \"/dev/null\"\n infile \"/dev/zero\"\n format raw }\n\
                    ctl.!default { type hw\n card 0 }\n";
        std::fs::write(&config, text).unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "mic::the_microphone_starts_at_once_and_its_callback_allocates_nothing",
                "--nocapture",
            ])
            .env("ALSA_CONFIG_PATH", &config)
            .env(CHILD, "1")
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr]
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(output.status.success(), "{said:?}");
        assert!(said[0].contains("1 passed"), "{said:?}");
    }

    fn counted() {
        counting::apart();
        // The best of three: a machine that does something else at that moment proves nothing.
        let started = (0..3).map(|_| first_samples()).min().unwrap();
        assert!(
            started < Duration::from_millis(200),
            "{started:?} to the first samples"
        );
        let options = MicOptions {
            buffer_seconds: 0.05,
            ..MicOptions::default()
        };
        let mut microphone = Microphone::open(options).unwrap();
        let mut out = Vec::new();
        while out.is_empty() {
            microphone.read(&mut out).unwrap();
        }
        let (before, offered) = (counting::others(), microphone.offered());
        let until = Instant::now() + Duration::from_millis(500);
        let mut losses = 0;
        while Instant::now() < until {
            // Too slow on purpose.
            std::thread::sleep(Duration::from_millis(60));
            while let Captured::Lost { .. } = microphone.read(&mut out).unwrap() {
                losses += 1;
            }
            out.clear();
        }
        let allocated = counting::others() - before;
        assert!(
            microphone.offered() > offered + 4_800,
            "the device gave next to nothing"
        );
        assert!(losses > 0, "the ring should have overflowed");
        assert_eq!(allocated, 0, "allocations in the device's thread");
    }

    /// Time from opening a microphone to its first samples.
    fn first_samples() -> Duration {
        let started = Instant::now();
        let mut microphone = Microphone::open(MicOptions::default()).unwrap();
        let mut out = Vec::new();
        while out.is_empty() && started.elapsed() < Duration::from_secs(5) {
            microphone.read(&mut out).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        started.elapsed()
    }
}
