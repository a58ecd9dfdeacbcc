//! Series by the bytes in which senders write their labels, so that a known series is found without reading them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{RwLock, RwLockReadGuard};
use smallvec::SmallVec;

use crate::foundation::HashedMap;
use crate::head::series::MemSeries;
use crate::head::uneven::UnevenShards;
use crate::model::Spelling;

const N_SHARDS: usize = 16;

/// Spellings a series may have on average; a sender who never writes the same series twice alike gains nothing by more.
const PER_SERIES_MAX: usize = 2;

/// Spellings a shard may have however few series there are.
const PER_SHARD_MIN: usize = 1024;

/// A spelling is a hash already: the first word chooses the shard, the second the place in it.
type BySpelling = HashedMap<(u64, u64), Arc<MemSeries>>;

/// What is known of how series are written; forgetting any of it costs time and nothing else.
pub(crate) struct Spellings {
    shards: [RwLock<BySpelling>; N_SHARDS],
    uneven: UnevenShards,
    /// Living series, which bound how many spellings are kept.
    n_series: AtomicUsize,
}

impl Spellings {
    pub(crate) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| RwLock::default()),
            uneven: UnevenShards::new(N_SHARDS),
            n_series: AtomicUsize::new(0),
        }
    }

    /// The series of every spelling, in this order.
    pub(crate) fn find(&self, spellings: &[Spelling], found: &mut Vec<Option<Arc<MemSeries>>>) {
        // All shards at once: a lock between two look-ups would make the second wait for the memory of the first.
        let shards: SmallVec<[RwLockReadGuard<'_, BySpelling>; N_SHARDS]> =
            self.shards.iter().map(RwLock::read).collect();
        let hits: SmallVec<[Option<&Arc<MemSeries>>; 64]> = spellings
            .iter()
            .map(|spelling| {
                shards
                    .get(self.uneven.of(spelling.words().0))?
                    .get(&spelling.words())
            })
            .collect();
        // The same for what is read of each series next.
        let touched = hits
            .iter()
            .flatten()
            .fold(0, |sum, series| sum ^ series.touch_state());
        std::hint::black_box(touched);
        found.extend(hits.iter().map(|hit| hit.cloned()));
    }

    /// From now on `series` is found by `spelling`.
    pub(crate) fn learn(&self, spelling: Spelling, series: &Arc<MemSeries>) {
        let n_max = self.n_series.load(Ordering::Relaxed) * PER_SERIES_MAX / N_SHARDS;
        let Some(shard) = self.shards.get(self.uneven.of(spelling.words().0)) else {
            return;
        };
        let mut shard = shard.write();
        if n_max.max(PER_SHARD_MIN) <= shard.len() {
            *shard = BySpelling::default();
        }
        shard.insert(spelling.words(), Arc::clone(series));
    }

    pub(crate) fn count_series(&self, n_more: usize, n_fewer: usize) {
        self.n_series.fetch_add(n_more, Ordering::Relaxed);
        self.n_series.fetch_sub(n_fewer, Ordering::Relaxed);
    }

    /// Lets go of series that were taken out of the head.
    pub(crate) fn forget_dead(&self) {
        let mut dead = Vec::new();
        for shard in &self.shards {
            // Looked for beside the readers, and taken out quickly.
            let is_dead = |series: &MemSeries| series.lock().is_dead;
            dead.extend(
                shard
                    .read()
                    .iter()
                    .filter(|(_, series)| is_dead(series))
                    .map(|(words, _)| *words),
            );
            if dead.is_empty() {
                continue;
            }
            let mut shard = shard.write();
            for words in dead.drain(..) {
                if shard.get(&words).is_some_and(|series| is_dead(series)) {
                    shard.remove(&words);
                }
            }
            if shard.len() * 4 < shard.capacity() {
                shard.shrink_to_fit();
            }
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;

    fn series(number: u64) -> Arc<MemSeries> {
        let labels = Labels::new(&[("n", number.to_string())]).unwrap();
        Arc::new(MemSeries::new(number, labels.key(), labels))
    }

    fn spelling(n: usize) -> Spelling {
        Spelling::of_bytes(&n.to_le_bytes())
    }

    fn numbers(spellings: &Spellings, asked: &[Spelling]) -> Vec<Option<u64>> {
        let mut found = Vec::new();
        spellings.find(asked, &mut found);
        let numbers = found.iter().map(|series| Some(series.as_ref()?.series));
        numbers.collect()
    }

    #[test]
    fn a_series_is_found_by_every_spelling_until_it_is_dead() {
        let spellings = Spellings::new();
        spellings.count_series(2, 0);
        let (one, two) = (series(1), series(2));
        let asked = [0, 1, 2, 3].map(spelling);
        assert_eq!(numbers(&spellings, &asked), [None; 4]);
        spellings.learn(asked[0], &one);
        spellings.learn(asked[2], &two);
        spellings.learn(asked[3], &one);
        assert_eq!(
            numbers(&spellings, &asked),
            [Some(1), None, Some(2), Some(1)]
        );
        one.lock().is_dead = true;
        spellings.forget_dead();
        assert_eq!(numbers(&spellings, &asked), [None, None, Some(2), None]);
        assert_eq!(Arc::strong_count(&one), 1);
    }

    #[test]
    fn a_sender_that_never_writes_alike_fills_no_memory() {
        let spellings = Spellings::new();
        spellings.count_series(1, 0);
        let one = series(1);
        for n in 0..N_SHARDS * PER_SHARD_MIN * 3 {
            spellings.learn(spelling(n), &one);
        }
        assert!(spellings.len() <= N_SHARDS * PER_SHARD_MIN);
        let last = spelling(N_SHARDS * PER_SHARD_MIN * 3 - 1);
        assert_eq!(numbers(&spellings, &[last]), [Some(1)]);
    }
}
