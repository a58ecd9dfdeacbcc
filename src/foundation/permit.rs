//! Bounds that hold: room is taken before work is queued, and given back when the permit is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// There is no room, and no room to wait for it either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("too many {what} at once: {capacity} at work and {queue_max} waiting is the limit")]
pub struct Full {
    /// What the gate admits.
    pub what: &'static str,
    /// Units at work at most.
    pub capacity: usize,
    /// Waiting at most.
    pub queue_max: usize,
}

/// Hands out a fixed amount of room; clones are the same gate.
///
/// At the limit `try_admit` refuses at once; `admit` waits, but at most `queue_max` wait and the rest is refused.
#[derive(Debug, Clone)]
pub struct Gate {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    what: &'static str,
    capacity: usize,
    queue_max: usize,
    room: Arc<Semaphore>,
    waiting: AtomicUsize,
    refused: AtomicU64,
}

/// Room taken from a gate; it travels with the work and is given back by dropping it.
#[derive(Debug)]
pub struct Permit {
    _room: OwnedSemaphorePermit,
}

impl Gate {
    /// `capacity` units at work, `queue_max` askers waiting.
    pub fn new(what: &'static str, capacity: usize, queue_max: usize) -> Self {
        let capacity = capacity.clamp(1, Semaphore::MAX_PERMITS);
        let inner = Inner {
            what,
            capacity,
            queue_max,
            room: Arc::new(Semaphore::new(capacity)),
            waiting: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Takes `units` of room now or refuses now. More than the capacity counts as the capacity.
    pub fn try_admit(&self, units: usize) -> Result<Permit, Full> {
        let room = Arc::clone(&self.inner.room);
        match room.try_acquire_many_owned(self.units(units)) {
            Ok(room) => Ok(Permit { _room: room }),
            Err(_full) => Err(self.refuse()),
        }
    }

    /// Waits for one unit of room behind at most `queue_max` others. Dropping the future leaves the queue.
    pub async fn admit(&self) -> Result<Permit, Full> {
        if let Ok(room) = Arc::clone(&self.inner.room).try_acquire_owned() {
            return Ok(Permit { _room: room });
        }
        let _place = Place::take(&self.inner).ok_or_else(|| self.refuse())?;
        match Arc::clone(&self.inner.room).acquire_owned().await {
            Ok(room) => Ok(Permit { _room: room }),
            Err(_closed) => Err(self.refuse()),
        }
    }

    /// Units at work now.
    pub fn n_used(&self) -> usize {
        self.inner
            .capacity
            .saturating_sub(self.inner.room.available_permits())
    }

    /// Units at work at most.
    pub fn capacity(&self) -> usize {
        self.inner.capacity
    }

    /// Askers waiting now.
    pub fn n_waiting(&self) -> usize {
        self.inner.waiting.load(Ordering::Relaxed)
    }

    /// Askers refused since the start.
    pub fn n_refused(&self) -> u64 {
        self.inner.refused.load(Ordering::Relaxed)
    }

    fn units(&self, units: usize) -> u32 {
        u32::try_from(units.clamp(1, self.inner.capacity)).unwrap_or(u32::MAX)
    }

    fn refuse(&self) -> Full {
        self.inner.refused.fetch_add(1, Ordering::Relaxed);
        Full {
            what: self.inner.what,
            capacity: self.inner.capacity,
            queue_max: self.inner.queue_max,
        }
    }
}

/// A place in the queue, left on drop, so that an asker who goes away does not hold it.
struct Place<'a>(&'a Inner);

impl<'a> Place<'a> {
    fn take(inner: &'a Inner) -> Option<Self> {
        let is_free = |waiting| (waiting < inner.queue_max).then_some(waiting + 1);
        inner
            .waiting
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, is_free)
            .ok()?;
        Some(Self(inner))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_across_clones_of_the_gate() {
        let gate = Gate::new("writes", 10, 0);
        let held = gate.clone().try_admit(8).unwrap();
        assert!(gate.try_admit(3).is_err());
        assert_eq!((gate.n_used(), gate.n_refused()), (8, 1));
        drop(held);
        assert!(gate.try_admit(3).is_ok());
    }

    #[test]
    fn more_than_the_capacity_takes_all_of_it() {
        let gate = Gate::new("writes", 4, 0);
        let _all = gate.try_admit(100).unwrap();
        assert_eq!(gate.n_used(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded_and_an_asker_who_leaves_makes_room_in_it() {
        let gate = Gate::new("queries", 1, 1);
        let held = gate.admit().await.unwrap();
        let waiter = tokio::spawn({
            let gate = gate.clone();
            async move { gate.admit().await.map(drop) }
        });
        tokio::task::yield_now().await;
        let refused = gate.admit().await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "too many queries at once: 1 at work and 1 waiting is the limit"
        );
        waiter.abort();
        waiter.await.unwrap_err();
        assert_eq!(gate.n_waiting(), 0);
        drop(held);
        assert!(gate.admit().await.is_ok());
    }
}
