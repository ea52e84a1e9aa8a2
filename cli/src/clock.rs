//! How long this thread has worked: what others do on the machine meanwhile does not count.

use std::time::Duration;

/// Time this thread has had on a processor, since a moment of no importance.
#[cfg(unix)]
pub fn worked() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    // Neither is ever negative.
    Duration::new(
        time.tv_sec.unsigned_abs(),
        time.tv_nsec.unsigned_abs() as u32,
    )
}

/// Time that has passed, since a moment of no importance: the next best thing.
#[cfg(not(unix))]
pub fn worked() -> Duration {
    use std::sync::LazyLock;
    use std::time::Instant;
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

/// What `work` returns, and the milliseconds it took this thread.
pub fn milliseconds<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = worked();
    let result = work();
    (result, (worked() - start).as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_time() {
        let (sum, took) = milliseconds(|| (0..3_000_000u64).map(std::hint::black_box).sum::<u64>());
        assert_eq!(sum, 3_000_000 * 2_999_999 / 2);
        assert!(took > 0.1, "{took}");
    }
}
