//! The newest exemplars of all series, so many and no more.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;

use crate::head::core::Head;
use crate::head::series::MemSeries;
use crate::model::{
    EXEMPLAR_CHARS_MAX, Exemplar, Interval, Labels, Matcher, SeriesKey, TimestampMs,
};
use crate::storage::{AppendError, SeriesExemplars};

/// Exemplars in a ring: a new one takes the place of the oldest.
#[derive(Debug)]
pub(crate) struct ExemplarStore {
    n_max: AtomicUsize,
    ring: RwLock<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    slots: Vec<Slot>,
    /// Where the next one goes once the ring is full.
    next: usize,
    series: HashMap<SeriesKey, Chain, foldhash::fast::RandomState>,
}

/// The exemplars of one series are linked, oldest first.
#[derive(Debug)]
struct Slot {
    exemplar: Exemplar,
    series: SeriesKey,
    newer: Option<usize>,
}

#[derive(Debug)]
struct Chain {
    labels: Labels,
    oldest: usize,
    newest: usize,
}

/// What the ring holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExemplarStats {
    /// Exemplars.
    pub n_exemplars: usize,
    /// Series that have some.
    pub n_series: usize,
    /// At most so many exemplars.
    pub n_max: usize,
    /// The time of the one that goes next.
    pub oldest_t: Option<TimestampMs>,
}

impl ExemplarStore {
    pub(crate) fn new(n_max: usize) -> Self {
        Self {
            n_max: AtomicUsize::new(n_max),
            ring: RwLock::default(),
        }
    }

    /// May it follow? `Ok(false)` when it is there, or when none are kept.
    pub(crate) fn check(
        &self,
        series: SeriesKey,
        exemplar: &Exemplar,
    ) -> Result<bool, AppendError> {
        if self.n_max() == 0 {
            return Ok(false);
        }
        let n_chars = exemplar.n_chars();
        if EXEMPLAR_CHARS_MAX < n_chars {
            return Err(AppendError::ExemplarLabels { n_chars });
        }
        let ring = self.ring.read();
        let newest = ring.series.get(&series).map(|chain| chain.newest);
        let Some(newest) = newest.and_then(|newest| ring.slots.get(newest)) else {
            return Ok(true);
        };
        let newest = &newest.exemplar;
        if exemplar.is_same(newest) {
            return Ok(false);
        }
        // At one time they come by value, then by labels.
        let order = exemplar.t.cmp(&newest.t);
        let order = order.then_with(|| exemplar.v.total_cmp(&newest.v));
        let order = order.then_with(|| exemplar.labels.cmp(&newest.labels));
        if order.is_lt() {
            return Err(AppendError::OutOfOrderExemplar { newest: newest.t });
        }
        Ok(true)
    }

    /// Adds what [`Self::check`] allows; whether it is new.
    pub(crate) fn add(&self, series: &MemSeries, exemplar: &Exemplar) -> bool {
        if self.check(series.key, exemplar) != Ok(true) {
            return false;
        }
        let mut ring = self.ring.write();
        ring.add(self.n_max(), (series.key, &series.labels), exemplar);
        true
    }

    fn n_max(&self) -> usize {
        self.n_max.load(Ordering::Relaxed)
    }

    /// Keeps so many of the newest, and of those to come.
    fn resize(&self, n_max: usize) {
        let mut ring = self.ring.write();
        if n_max == self.n_max() {
            return;
        }
        let old = std::mem::take(&mut *ring);
        let (newer, older) = old.slots.split_at_checked(old.next).unwrap_or_default();
        let n_gone = old.slots.len().saturating_sub(n_max);
        for slot in older.iter().chain(newer).skip(n_gone) {
            if let Some(chain) = old.series.get(&slot.series) {
                ring.add(n_max, (slot.series, &chain.labels), &slot.exemplar);
            }
        }
        self.n_max.store(n_max, Ordering::Relaxed);
    }

    /// Forgets all.
    pub(crate) fn clear(&self) {
        *self.ring.write() = Ring::default();
    }

    /// Hands all to `each` with the labels of their series, oldest first.
    pub(crate) fn for_each(&self, mut each: impl FnMut(&Labels, &Exemplar)) {
        let ring = self.ring.read();
        let (newer, older) = ring.slots.split_at(ring.next.min(ring.slots.len()));
        for slot in older.iter().chain(newer) {
            if let Some(chain) = ring.series.get(&slot.series) {
                each(&chain.labels, &slot.exemplar);
            }
        }
    }

    fn select(&self, selectors: &[Vec<Matcher>], interval: Interval) -> Vec<SeriesExemplars> {
        let ring = self.ring.read();
        let is_wanted = |labels: &Labels| {
            selectors.iter().any(|matchers| {
                let mut matchers = matchers.iter();
                matchers.all(|matcher| matcher.matches(labels.value(&matcher.name)))
            })
        };
        let mut found: Vec<SeriesExemplars> = ring
            .series
            .values()
            .filter(|chain| is_wanted(&chain.labels))
            .map(|chain| {
                let exemplars = ring.of(chain).filter(|e| interval.contains(e.t));
                SeriesExemplars {
                    labels: chain.labels.clone(),
                    exemplars: exemplars.cloned().collect(),
                }
            })
            .filter(|found| !found.exemplars.is_empty())
            .collect();
        drop(ring);
        found.sort_unstable_by(|left, right| left.labels.cmp(&right.labels));
        found
    }
}

impl Ring {
    fn of(&self, chain: &Chain) -> impl Iterator<Item = &Exemplar> {
        let mut next = Some(chain.oldest);
        std::iter::from_fn(move || {
            let slot = self.slots.get(next?)?;
            next = slot.newer;
            Some(&slot.exemplar)
        })
    }

    fn add(&mut self, n_max: usize, (key, labels): (SeriesKey, &Labels), exemplar: &Exemplar) {
        // Between the check and this there may have been other limits.
        if n_max == 0 {
            return;
        }
        let slot = Slot {
            exemplar: exemplar.clone(),
            series: key,
            newer: None,
        };
        let place = if self.slots.len() < n_max {
            self.slots.push(slot);
            self.slots.len() - 1
        } else {
            let place = self.next;
            self.next = (place + 1) % n_max;
            let Some(here) = self.slots.get_mut(place) else {
                return;
            };
            let old = std::mem::replace(here, slot);
            self.unlink(&old);
            place
        };
        match self.series.get_mut(&key) {
            Some(chain) => {
                let before = std::mem::replace(&mut chain.newest, place);
                if let Some(before) = self.slots.get_mut(before) {
                    before.newer = Some(place);
                }
            }
            None => {
                let chain = Chain {
                    labels: labels.clone(),
                    oldest: place,
                    newest: place,
                };
                self.series.insert(key, chain);
            }
        }
    }

    /// `old` was the oldest of all, so the oldest of its series.
    fn unlink(&mut self, old: &Slot) {
        match old.newer {
            Some(newer) => {
                if let Some(chain) = self.series.get_mut(&old.series) {
                    chain.oldest = newer;
                }
            }
            None => {
                self.series.remove(&old.series);
            }
        }
    }
}

impl Head {
    /// The exemplars in `interval` of the series that match any of `selectors`, by the labels of the series.
    pub fn exemplars(
        &self,
        selectors: &[Vec<Matcher>],
        interval: Interval,
    ) -> Vec<SeriesExemplars> {
        self.inner().exemplars.select(selectors, interval)
    }

    /// From now on so many exemplars are kept, the newest ones.
    pub fn set_exemplars_max(&self, n_max: usize) {
        self.inner().exemplars.resize(n_max);
    }

    /// How many exemplars there are.
    pub fn exemplar_stats(&self) -> ExemplarStats {
        let store = &self.inner().exemplars;
        let ring = store.ring.read();
        ExemplarStats {
            n_exemplars: ring.slots.len(),
            n_series: ring.series.len(),
            n_max: store.n_max(),
            oldest_t: ring.slots.get(ring.next).map(|slot| slot.exemplar.t),
        }
    }
}
