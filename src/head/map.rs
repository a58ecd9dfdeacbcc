//! Series by key and by reference.

use std::collections::HashMap;
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use parking_lot::{RwLock, RwLockReadGuard};
use smallvec::SmallVec;

use crate::head::series::MemSeries;
use crate::head::spellings::Spellings;
use crate::head::uneven::UnevenShards;
use crate::model::SeriesKey;

/// As many as a word has bits.
const N_SHARDS: usize = 64;

/// A series has its key in itself, and whoever finds it looks at it next.
type ByKey = HashTable<Arc<MemSeries>>;

/// The second word decides the place in a shard; the first one chose the shard.
fn hash_of(series: &Arc<MemSeries>) -> u64 {
    words(series.key).1
}

/// Numbers next to each other share a page.
const SERIES_PER_PAGE: usize = 256;

/// So many are looked up under one lock of each shard.
const NUMBERS_PER_LOOKUP: usize = 128;

/// Series whose memory is asked for at once: a core waits for some twenty places at a time.
pub(crate) const SERIES_PER_GROUP: usize = 16;

/// Series by their number's place in the page.
struct Page {
    series: Box<[Option<Arc<MemSeries>>]>,
    n_series: usize,
}

/// Numbers are given one after another, and series made together are asked for together.
#[derive(Default)]
struct ByRef {
    pages: HashMap<u64, Page, foldhash::fast::RandomState>,
}

/// The page a number is on, and its place there.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a remainder of SERIES_PER_PAGE"
)]
fn page_and_place(series: u64) -> (u64, usize) {
    let n = SERIES_PER_PAGE as u64;
    (series / n, (series % n) as usize)
}

impl ByRef {
    fn insert(&mut self, series: Arc<MemSeries>) {
        let (page, place) = page_and_place(series.series);
        let page = self.pages.entry(page).or_insert_with(|| Page {
            series: vec![None; SERIES_PER_PAGE].into_boxed_slice(),
            n_series: 0,
        });
        if let Some(slot) = page.series.get_mut(place)
            && slot.replace(series).is_none()
        {
            page.n_series += 1;
        }
    }

    fn get(&self, series: u64) -> Option<&Arc<MemSeries>> {
        let (page, place) = page_and_place(series);
        self.pages.get(&page)?.series.get(place)?.as_ref()
    }

    fn remove(&mut self, series: u64) {
        let (number, place) = page_and_place(series);
        let Some(page) = self.pages.get_mut(&number) else {
            return;
        };
        if let Some(slot) = page.series.get_mut(place)
            && slot.take().is_some()
        {
            page.n_series -= 1;
        }
        if page.n_series == 0 {
            self.pages.remove(&number);
        }
    }

    fn values(&self) -> impl Iterator<Item = &Arc<MemSeries>> {
        self.pages
            .values()
            .flat_map(|page| page.series.iter().flatten())
    }
}

/// All series of a head, in shards with a lock each.
pub(crate) struct SeriesMap {
    by_key: Vec<RwLock<ByKey>>,
    /// Which of them a key belongs to.
    uneven: UnevenShards,
    by_ref: Vec<RwLock<ByRef>>,
    pub(crate) spellings: Spellings,
}

impl std::fmt::Debug for SeriesMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SeriesMap").finish_non_exhaustive()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the two words of a 128-bit key"
)]
fn words(key: SeriesKey) -> (u64, u64) {
    ((key.0 >> 64) as u64, key.0 as u64)
}

#[expect(clippy::cast_possible_truncation, reason = "a remainder of N_SHARDS")]
fn shard_of_page(page: u64) -> usize {
    (page % N_SHARDS as u64) as usize
}

#[expect(
    clippy::indexing_slicing,
    reason = "there are N_SHARDS shards and the index is a remainder of N_SHARDS"
)]
fn shard<T>(shards: &[T], page: u64) -> &T {
    &shards[shard_of_page(page)]
}

impl SeriesMap {
    pub(crate) fn new() -> Self {
        Self {
            by_key: (0..N_SHARDS).map(|_| RwLock::default()).collect(),
            uneven: UnevenShards::new(N_SHARDS),
            by_ref: (0..N_SHARDS).map(|_| RwLock::default()).collect(),
            spellings: Spellings::new(),
        }
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "there are N_SHARDS shards, and the index is below the number of shards"
    )]
    fn shard_of(&self, left: u64) -> &RwLock<ByKey> {
        &self.by_key[self.uneven.of(left)]
    }

    pub(crate) fn by_key(&self, key: SeriesKey) -> Option<Arc<MemSeries>> {
        let (left, right) = words(key);
        let by_key = self.shard_of(left).read();
        by_key.find(right, |series| series.key == key).cloned()
    }

    pub(crate) fn by_ref(&self, series: u64) -> Option<Arc<MemSeries>> {
        let page = page_and_place(series).0;
        shard(&self.by_ref, page).read().get(series).cloned()
    }

    /// Hands those of `numbers` that are here to `each`, in their order. Nobody can add series next to them meanwhile.
    pub(crate) fn by_refs(&self, numbers: &[u64], mut each: impl FnMut(&Arc<MemSeries>)) {
        self.groups_by_refs(numbers, MemSeries::touch, |group| {
            group.iter().for_each(|series| each(series));
        });
    }

    /// The same; `touch` reads what will be read of each.
    pub(crate) fn by_refs_touched(
        &self,
        numbers: &[u64],
        touch: fn(&MemSeries) -> u64,
        mut each: impl FnMut(&Arc<MemSeries>),
    ) {
        self.groups_by_refs(numbers, touch, |group| {
            group.iter().for_each(|series| each(series));
        });
    }

    /// The same, a few series at a time.
    ///
    /// Series lie far apart, and what follows locks each of them, so it would wait for the memory of one after the other.
    /// Looked up and touched without a lock in between, they come all at once. Those of one metric have numbers far
    /// apart, so pages are looked up together too.
    pub(crate) fn groups_by_refs(
        &self,
        numbers: &[u64],
        touch: fn(&MemSeries) -> u64,
        mut each: impl FnMut(&[&Arc<MemSeries>]),
    ) {
        for some in numbers.chunks(NUMBERS_PER_LOOKUP) {
            let shards = self.lock_shards_of(some);
            let found: SmallVec<[&Arc<MemSeries>; NUMBERS_PER_LOOKUP]> = some
                .iter()
                .filter_map(|number| {
                    let shard = shards.get(shard_of_page(page_and_place(*number).0))?;
                    shard.as_ref()?.get(*number)
                })
                .collect();
            for group in found.chunks(SERIES_PER_GROUP) {
                let touched = group.iter().fold(0, |sum, series| sum ^ touch(series));
                std::hint::black_box(touched);
                each(group);
            }
        }
    }

    /// The shards that `numbers` are in, at their places. Whoever locks several takes them in ascending order, so that two
    /// never wait for each other.
    fn lock_shards_of(&self, numbers: &[u64]) -> [Option<RwLockReadGuard<'_, ByRef>>; N_SHARDS] {
        let wanted = numbers.iter().fold(0_u64, |wanted, number| {
            wanted | 1 << shard_of_page(page_and_place(*number).0)
        });
        let mut shards = self.by_ref.iter().enumerate();
        std::array::from_fn(|_| {
            let (at, shard) = shards.next()?;
            (wanted >> at & 1 == 1).then(|| shard.read())
        })
    }

    /// The living series of `key`; made by `make` when there is none. True when it was made.
    ///
    /// A series that is being taken out of the head is replaced: nobody else finds it any more.
    pub(crate) fn get_or_insert(
        &self,
        key: SeriesKey,
        make: impl FnOnce() -> Arc<MemSeries>,
    ) -> (Arc<MemSeries>, bool) {
        let (left, right) = words(key);
        let mut by_key = self.shard_of(left).write();
        let series = match by_key.entry(right, |series| series.key == key, hash_of) {
            Entry::Occupied(mut entry) => {
                if !entry.get().lock().is_dead {
                    return (Arc::clone(entry.get()), false);
                }
                let series = make();
                *entry.get_mut() = Arc::clone(&series);
                series
            }
            Entry::Vacant(entry) => Arc::clone(entry.insert(make()).get()),
        };
        shard(&self.by_ref, page_and_place(series.series).0)
            .write()
            .insert(Arc::clone(&series));
        self.spellings.count_series(1, 0);
        (series, true)
    }

    /// Takes a dead series out.
    pub(crate) fn remove(&self, series: &Arc<MemSeries>) {
        let (left, right) = words(series.key);
        let mut by_key = self.shard_of(left).write();
        if let Ok(entry) = by_key.find_entry(right, |here| Arc::ptr_eq(here, series)) {
            entry.remove();
        }
        drop(by_key);
        shard(&self.by_ref, page_and_place(series.series).0)
            .write()
            .remove(series.series);
        self.spellings.count_series(0, 1);
    }

    /// Every series, shard by shard; those made meanwhile may be missing.
    pub(crate) fn for_each(&self, mut each: impl FnMut(&Arc<MemSeries>)) {
        let mut shard_now = Vec::new();
        for shard in &self.by_ref {
            shard_now.clear();
            shard_now.extend(shard.read().values().cloned());
            shard_now.iter().for_each(&mut each);
        }
    }

    /// Gives unused space back.
    pub(crate) fn shrink(&self) {
        self.spellings.forget_dead();
        for shard in &self.by_key {
            let mut shard = shard.write();
            if shard.len() * 4 < shard.capacity() {
                shard.shrink_to_fit(hash_of);
            }
        }
        for shard in &self.by_ref {
            let pages = &mut shard.write().pages;
            if pages.len() * 4 < pages.capacity() {
                pages.shrink_to_fit();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;

    #[test]
    fn series_are_found_by_their_numbers_until_they_are_removed() {
        let map = SeriesMap::new();
        let numbers = [1, 2, 255, 256, 257, 70_000];
        for number in numbers {
            let labels = Labels::new(&[("n", number.to_string())]).unwrap();
            let key = labels.key();
            map.get_or_insert(key, || Arc::new(MemSeries::new(number, key, labels)));
        }
        let found = |asked: &[u64]| {
            let mut found = Vec::new();
            map.by_refs(asked, |series| found.push(series.series));
            found
        };
        assert_eq!(
            found(&[0, 1, 3, 255, 256, 512, 70_000]),
            [1, 255, 256, 70_000]
        );
        let apart: Vec<u64> = (0..1000).map(|n| 100_000 + n * 300).collect();
        for number in &apart {
            let labels = Labels::new(&[("n", number.to_string())]).unwrap();
            let key = labels.key();
            map.get_or_insert(key, || Arc::new(MemSeries::new(*number, key, labels)));
        }
        assert_eq!(found(&apart), apart);
        for number in apart {
            map.remove(&map.by_ref(number).unwrap());
        }
        let gone = map.by_ref(255).unwrap();
        map.remove(&gone);
        assert!(map.by_ref(255).is_none());
        assert_eq!(found(&numbers), [1, 2, 256, 257, 70_000]);
        map.remove(&map.by_ref(70_000).unwrap());
        map.shrink();
        let mut all = Vec::new();
        map.for_each(|series| all.push(series.series));
        all.sort_unstable();
        assert_eq!(all, [1, 2, 256, 257]);
    }
}
