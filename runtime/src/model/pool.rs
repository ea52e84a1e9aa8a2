//! A bounded pool of things that one thread at a time may use, made when they are first needed.

use crate::Result;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// At most `capacity` items; whoever finds none idle waits.
pub(super) struct Pool<T> {
    held: Mutex<Held<T>>,
    returned: Condvar,
    capacity: usize,
}

struct Held<T> {
    idle: Vec<T>,
    made: usize,
}

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.lock();
        f.debug_struct("Pool")
            .field("capacity", &self.capacity)
            .field("made", &held.made)
            .field("idle", &held.idle.len())
            .finish()
    }
}

impl<T> Pool<T> {
    /// A pool that holds `first` already.
    pub(super) fn new(capacity: usize, first: T) -> Self {
        Self {
            held: Mutex::new(Held {
                idle: vec![first],
                made: 1,
            }),
            returned: Condvar::new(),
            capacity: capacity.max(1),
        }
    }

    /// Runs `work` with an item: an idle one, else a new one from `make`, else the next that comes back. An
    /// item whose `work` panics is not used again.
    pub(super) fn with<R>(
        &self,
        make: impl FnOnce() -> Result<T>,
        work: impl FnOnce(&mut T) -> Result<R>,
    ) -> Result<R> {
        let idle = self.claim();
        let mut slot = Slot {
            pool: self,
            item: None,
        };
        let mut item = idle.map_or_else(make, Ok)?;
        let result = work(&mut item);
        slot.item = Some(item);
        result
    }

    /// Waits until an item is idle or one more may be made, and counts it as in use.
    fn claim(&self) -> Option<T> {
        let mut held = self.lock();
        loop {
            if let Some(item) = held.idle.pop() {
                return Some(item);
            }
            if held.made < self.capacity {
                held.made += 1;
                return None;
            }
            held = self
                .returned
                .wait(held)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nothing that can panic runs under the lock, so a poisoned one still holds consistent counts.
    fn lock(&self) -> MutexGuard<'_, Held<T>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one item; dropping it gives back the item, or the place where there is none.
struct Slot<'p, T> {
    pool: &'p Pool<T>,
    item: Option<T>,
}

impl<T> Drop for Slot<'_, T> {
    fn drop(&mut self) {
        let mut held = self.pool.lock();
        match self.item.take() {
            Some(item) => held.idle.push(item),
            None => held.made -= 1,
        }
        drop(held);
        self.pool.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, ErrorKind};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn no_more_than_the_capacity_are_ever_made_or_in_use() {
        let pool = Pool::new(3, 0usize);
        let [made, busy, most] = [1, 0, 0].map(AtomicUsize::new);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let make = || Ok(made.fetch_add(1, Ordering::SeqCst));
                        let work = |uses: &mut usize| {
                            let now = busy.fetch_add(1, Ordering::SeqCst) + 1;
                            most.fetch_max(now, Ordering::SeqCst);
                            *uses += 1;
                            std::thread::yield_now();
                            busy.fetch_sub(1, Ordering::SeqCst);
                            Ok(())
                        };
                        pool.with(make, work).unwrap();
                    }
                });
            }
        });
        assert!(made.load(Ordering::SeqCst) <= 3);
        assert!(most.load(Ordering::SeqCst) <= 3);
        let held = pool.lock();
        assert_eq!(held.idle.len(), held.made);
    }

    #[test]
    fn failures_and_panics_give_their_slot_back() {
        let pool = Pool::new(1, 1);
        let failure = || Error::new(ErrorKind::Inference, "no");
        for _ in 0..3 {
            assert!(pool.with(|| Ok(2), |_| Err::<(), _>(failure())).is_err());
        }
        assert_eq!(pool.with(|| Ok(2), |item| Ok(*item)).unwrap(), 1);
        let panic = catch_unwind(AssertUnwindSafe(|| {
            pool.with(|| Ok(2), |_| -> Result<()> { panic!("within the work") })
        }));
        assert!(panic.is_err());
        for _ in 0..3 {
            assert!(pool.with(|| Err(failure()), |_| Ok(())).is_err());
        }
        assert_eq!(pool.with(|| Ok(3), |item| Ok(*item)).unwrap(), 3);
    }
}
