//! What a target said last time: series text to reference, so that a steady scrape parses no label.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::storage::SeriesRef;

/// Entries beyond twice the last good scrape by more than this, left by failing scrapes, are thrown away.
const LEFTOVERS_MAX: usize = 1_000;

/// So many entries are announced to the database at once.
const ANNOUNCED: usize = 64;

/// Position of an entry; valid until the scrape ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(usize);

/// What the text of a series stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// A series of the database.
    Series(SeriesRef),
    /// Relabelling drops it.
    Dropped,
}

#[derive(Debug)]
struct Entry {
    text: Arc<str>,
    known: Known,
    /// The scrape that had it last.
    seen: u64,
    /// It needs a stale marker when it does not come back.
    is_tracked: bool,
    /// What `is_tracked` becomes if this scrape succeeds.
    tracks_now: bool,
}

/// Series of one target by their text.
///
/// Expositions keep their order, so the entry after the last hit is tried before the table is asked.
#[derive(Debug, Default)]
pub(super) struct SeriesCache {
    entries: Vec<Entry>,
    by_text: HashMap<Arc<str>, usize, foldhash::fast::RandomState>,
    next: usize,
    /// The database was told of the entries before this one.
    announced: usize,
    scrape: u64,
    n_last_good: usize,
    /// Series of a time when other rules held; they get a marker unless the next scrape has them too.
    orphans: Vec<SeriesRef>,
}

impl SeriesCache {
    /// Begins a scrape.
    pub(super) fn begin(&mut self) {
        self.scrape += 1;
        self.next = 0;
        self.announced = 0;
    }

    /// Fills `series` with what comes next if the target keeps its order; false when the database knows it already.
    #[inline]
    pub(super) fn announce(&mut self, series: &mut Vec<SeriesRef>) -> bool {
        if self.next < self.announced {
            return false;
        }
        self.announced = self.next + ANNOUNCED;
        let entries = self.entries.iter().skip(self.next).take(ANNOUNCED);
        series.clear();
        series.extend(entries.filter_map(|entry| match entry.known {
            Known::Series(series) => Some(series),
            Known::Dropped => None,
        }));
        !series.is_empty()
    }

    /// Number of the scrape that was begun last.
    pub(super) fn scrape(&self) -> u64 {
        self.scrape
    }

    /// The text of the next series if the target keeps its order; empty when that is not known.
    #[inline]
    pub(super) fn next_text(&self) -> &str {
        self.entries.get(self.next).map_or("", |entry| &entry.text)
    }

    /// The entry of `text`, and whether this scrape had it before.
    #[inline]
    pub(super) fn find(&mut self, text: &str) -> Option<(Slot, Known, bool)> {
        let mut at = self.next;
        if self
            .entries
            .get(at)
            .is_none_or(|entry| *entry.text != *text)
        {
            at = *self.by_text.get(text)?;
        }
        self.next = at + 1;
        let entry = self.entries.get_mut(at)?;
        let again = entry.seen == self.scrape;
        entry.seen = self.scrape;
        if !again {
            entry.tracks_now = false;
        }
        Some((Slot(at), entry.known, again))
    }

    /// Notes what a new text stands for.
    pub(super) fn insert(&mut self, text: &str, known: Known) -> Slot {
        let text: Arc<str> = Arc::from(text);
        let at = self.entries.len();
        self.entries.push(Entry {
            text: Arc::clone(&text),
            known,
            seen: self.scrape,
            is_tracked: false,
            tracks_now: false,
        });
        self.by_text.insert(text, at);
        self.next = at + 1;
        Slot(at)
    }

    /// The database knows the series by another reference now.
    pub(super) fn set_series(&mut self, slot: Slot, series: SeriesRef) {
        if let Some(entry) = self.entries.get_mut(slot.0) {
            entry.known = Known::Series(series);
        }
    }

    /// The series gets a stale marker when it is gone.
    #[inline]
    pub(super) fn track(&mut self, slot: Slot) {
        if let Some(entry) = self.entries.get_mut(slot.0) {
            entry.tracks_now = true;
        }
    }

    /// Ends a scrape that succeeded: forgets what it did not have and hands out what became stale.
    pub(super) fn finish(&mut self) -> Vec<SeriesRef> {
        let scrape = self.scrape;
        let mut stale = std::mem::take(&mut self.orphans);
        let mut is_any_gone = false;
        for entry in &mut self.entries {
            if entry.seen == scrape {
                entry.is_tracked = entry.tracks_now;
                continue;
            }
            is_any_gone = true;
            if let (true, Known::Series(series)) = (entry.is_tracked, entry.known) {
                stale.push(series);
            }
        }
        if is_any_gone {
            self.entries.retain(|entry| entry.seen == scrape);
            self.index_again();
        }
        self.n_last_good = self.entries.len();
        if !stale.is_empty() {
            // Another text may stand for the same series: it is not gone then.
            let current: HashSet<SeriesRef> = self.series().collect();
            stale.retain(|series| !current.contains(series));
        }
        stale
    }

    /// Ends a scrape that failed: everything that was tracked is stale. True when leftovers had to be thrown away.
    pub(super) fn abandon(&mut self) -> (Vec<SeriesRef>, bool) {
        let mut stale = std::mem::take(&mut self.orphans);
        for entry in &mut self.entries {
            if let (true, Known::Series(series)) = (entry.is_tracked, entry.known) {
                stale.push(series);
            }
            entry.is_tracked = false;
            entry.tracks_now = false;
        }
        let is_too_large = self.entries.len() > 2 * self.n_last_good + LEFTOVERS_MAX;
        if is_too_large {
            self.entries.clear();
            self.index_again();
        }
        (stale, is_too_large)
    }

    /// Forgets what texts stand for, because other rules hold now; stale markers are still owed.
    pub(super) fn forget_texts(&mut self) {
        for entry in self.entries.drain(..) {
            if let (true, Known::Series(series)) = (entry.is_tracked, entry.known) {
                self.orphans.push(series);
            }
        }
        self.by_text.clear();
    }

    /// How many texts are known.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn series(&self) -> impl Iterator<Item = SeriesRef> {
        self.entries.iter().filter_map(|entry| match entry.known {
            Known::Series(series) => Some(series),
            Known::Dropped => None,
        })
    }

    fn index_again(&mut self) {
        self.by_text.clear();
        for (at, entry) in self.entries.iter().enumerate() {
            self.by_text.insert(Arc::clone(&entry.text), at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(cache: &mut SeriesCache, texts: &[(&str, u64)]) -> Vec<bool> {
        cache.begin();
        let mut hits = Vec::new();
        for (text, series) in texts {
            let found = cache.find(text);
            hits.push(found.is_some());
            let slot = match found {
                Some((slot, _, _)) => slot,
                None => cache.insert(text, Known::Series(SeriesRef(*series))),
            };
            cache.track(slot);
        }
        hits
    }

    fn refs(stale: &[SeriesRef]) -> Vec<u64> {
        stale.iter().map(|series| series.0).collect()
    }

    #[test]
    fn what_is_gone_is_stale_once_and_forgotten() {
        let mut cache = SeriesCache::default();
        assert_eq!(scrape(&mut cache, &[("a", 1), ("b", 2)]), [false, false]);
        assert!(cache.finish().is_empty());
        assert_eq!(scrape(&mut cache, &[("b", 2)]), [true]);
        assert_eq!(refs(&cache.finish()), [1]);
        assert_eq!(scrape(&mut cache, &[("b", 2), ("a", 1)]), [true, false]);
        assert!(cache.finish().is_empty());
    }

    #[test]
    fn another_order_is_found_too() {
        let mut cache = SeriesCache::default();
        scrape(&mut cache, &[("a", 1), ("b", 2), ("c", 3)]);
        cache.finish();
        assert_eq!(
            scrape(&mut cache, &[("c", 3), ("a", 1), ("b", 2)]),
            [true; 3]
        );
        assert!(cache.finish().is_empty());
    }

    #[test]
    fn a_series_under_a_new_text_is_not_stale() {
        let mut cache = SeriesCache::default();
        scrape(&mut cache, &[("a{x=\"1\",y=\"2\"}", 1)]);
        cache.finish();
        scrape(&mut cache, &[("a{y=\"2\",x=\"1\"}", 1)]);
        assert!(cache.finish().is_empty());
    }

    #[test]
    fn a_failure_makes_everything_stale_and_keeps_the_references() {
        let mut cache = SeriesCache::default();
        scrape(&mut cache, &[("a", 1), ("b", 2)]);
        cache.finish();
        scrape(&mut cache, &[("a", 1)]);
        assert_eq!(cache.abandon(), (vec![SeriesRef(1), SeriesRef(2)], false));
        assert_eq!(cache.abandon(), (vec![], false));
        assert_eq!(scrape(&mut cache, &[("a", 1), ("b", 2)]), [true, true]);
        assert!(cache.finish().is_empty());
    }

    #[test]
    fn failing_scrapes_do_not_grow_the_cache_for_ever() {
        let mut cache = SeriesCache::default();
        for round in 0..3 {
            let texts: Vec<_> = (0..600).map(|n| format!("s{round}_{n}")).collect();
            let texts: Vec<_> = texts.iter().map(|text| (text.as_str(), 1)).collect();
            scrape(&mut cache, &texts);
            let (_, flushed) = cache.abandon();
            assert_eq!(flushed, round == 1, "{round}");
        }
        assert_eq!(cache.len(), 600);
    }

    #[test]
    fn markers_are_owed_across_a_change_of_rules() {
        let mut cache = SeriesCache::default();
        scrape(&mut cache, &[("a", 1), ("b", 2)]);
        cache.finish();
        cache.forget_texts();
        assert_eq!(scrape(&mut cache, &[("a", 1)]), [false]);
        assert_eq!(refs(&cache.finish()), [2]);
    }
}
