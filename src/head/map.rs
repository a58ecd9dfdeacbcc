//! Series by key and by reference.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::head::series::MemSeries;
use crate::model::SeriesKey;

const N_SHARDS: u64 = 64;

/// A series key is a hash already.
#[derive(Default)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        // The second word comes last and decides the bucket; the first one chose the shard.
        self.0 = value;
    }
}

type ByKey = HashMap<(u64, u64), Arc<MemSeries>, BuildHasherDefault<KeyHasher>>;
type ByRef = HashMap<u64, Arc<MemSeries>, foldhash::fast::RandomState>;

/// All series of a head, in shards with a lock each.
pub(crate) struct SeriesMap {
    by_key: Vec<RwLock<ByKey>>,
    by_ref: Vec<RwLock<ByRef>>,
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

#[expect(
    clippy::indexing_slicing,
    reason = "there are N_SHARDS shards and the index is a remainder of N_SHARDS"
)]
fn shard<T>(shards: &[T], hash: u64) -> &T {
    &shards[(hash % N_SHARDS) as usize]
}

impl SeriesMap {
    pub(crate) fn new() -> Self {
        Self {
            by_key: (0..N_SHARDS).map(|_| RwLock::default()).collect(),
            by_ref: (0..N_SHARDS).map(|_| RwLock::default()).collect(),
        }
    }

    pub(crate) fn by_key(&self, key: SeriesKey) -> Option<Arc<MemSeries>> {
        let words = words(key);
        shard(&self.by_key, words.0).read().get(&words).cloned()
    }

    pub(crate) fn by_ref(&self, series: u64) -> Option<Arc<MemSeries>> {
        shard(&self.by_ref, series).read().get(&series).cloned()
    }

    /// The living series of `key`; made by `make` when there is none. True when it was made.
    ///
    /// A series that is being taken out of the head is replaced: nobody else finds it any more.
    pub(crate) fn get_or_insert(
        &self,
        key: SeriesKey,
        make: impl FnOnce() -> Arc<MemSeries>,
    ) -> (Arc<MemSeries>, bool) {
        let words = words(key);
        let mut by_key = shard(&self.by_key, words.0).write();
        let series = match by_key.entry(words) {
            Entry::Occupied(mut entry) => {
                if !entry.get().lock().is_dead {
                    return (Arc::clone(entry.get()), false);
                }
                let series = make();
                entry.insert(Arc::clone(&series));
                series
            }
            Entry::Vacant(entry) => Arc::clone(entry.insert(make())),
        };
        shard(&self.by_ref, series.series)
            .write()
            .insert(series.series, Arc::clone(&series));
        (series, true)
    }

    /// Takes a dead series out.
    pub(crate) fn remove(&self, series: &Arc<MemSeries>) {
        let words = words(series.key);
        if let Entry::Occupied(entry) = shard(&self.by_key, words.0).write().entry(words)
            && Arc::ptr_eq(entry.get(), series)
        {
            entry.remove();
        }
        shard(&self.by_ref, series.series)
            .write()
            .remove(&series.series);
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
        for shard in &self.by_key {
            let mut shard = shard.write();
            if shard.len() * 4 < shard.capacity() {
                shard.shrink_to_fit();
            }
        }
        for shard in &self.by_ref {
            let mut shard = shard.write();
            if shard.len() * 4 < shard.capacity() {
                shard.shrink_to_fit();
            }
        }
    }
}
