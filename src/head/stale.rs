//! Series that ended leave the head before their time does.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::chunk::{decode_floats, decode_histograms};
use crate::head::HeadError;
use crate::head::core::{Head, Inner};
use crate::head::read::HeadView;
use crate::head::series::MemSeries;
use crate::head::stats::count;
use crate::head::truncate::retire;
use crate::model::{Interval, TimestampMs, is_stale};
use crate::storage::{ChunkSeries, ChunkSlice};
use crate::wal::{RefTombstone, encode_tombstones};

/// Entries of one record in the log.
const TOMBSTONES_PER_RECORD: usize = 4096;

/// Series whose newest sample says that they ended.
#[derive(Debug, Default)]
pub struct StaleSeries {
    /// In label order, each with the time of that sample.
    series: Vec<(Arc<MemSeries>, TimestampMs)>,
}

impl StaleSeries {
    /// How many.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// None at all?
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }
}

impl Head {
    /// Series that ended at or before `upto`. Their newest chunks are decoded, so this is not for every second.
    pub fn stale_series(&self, upto: TimestampMs) -> StaleSeries {
        let inner = self.inner();
        let view = self.view();
        let mut quiet = Vec::new();
        inner.series.for_each(|series| {
            let state = series.lock();
            // What came out of order is not in a block by then.
            let newest = state.max_t().filter(|_| state.late.is_none());
            drop(state);
            if let Some(newest) = newest.filter(|newest| *newest <= upto) {
                quiet.push((Arc::clone(series), newest));
            }
        });
        quiet.retain(|(series, newest)| {
            let at = Interval {
                min: *newest,
                max: *newest,
            };
            let chunks = view.chunks_of(series, at).chunks;
            chunks
                .last()
                .is_some_and(|chunk| ends_stale(chunk, *newest))
        });
        quiet.sort_unstable_by(|left, right| left.0.labels.cmp(&right.0.labels));
        StaleSeries { series: quiet }
    }

    /// Lets those of `stale` go that got no sample since; what they hold must be in blocks by now. How many went.
    pub fn evict(&self, stale: &StaleSeries) -> Result<usize, HeadError> {
        self.inner().evict(stale)
    }
}

/// Is the sample at `t`, the last of the chunk, a stale marker?
fn ends_stale(chunk: &ChunkSlice, t: TimestampMs) -> bool {
    let mut times = Vec::new();
    let last = if chunk.encoding.has_histograms() {
        let mut histograms = Vec::new();
        let decoded = decode_histograms(chunk.encoding, &chunk.data, &mut times, &mut histograms);
        decoded.ok().and_then(|()| Some(histograms.last()?.sum))
    } else {
        let mut values = Vec::new();
        let decoded = decode_floats(chunk.encoding, &chunk.data, &mut times, &mut values);
        decoded.ok().and_then(|()| values.last().copied())
    };
    times.last() == Some(&t) && last.is_some_and(is_stale)
}

impl HeadView {
    /// Those of `stale` with samples in `interval`, in label order. Chunks that touch the interval are whole.
    pub fn stale_in<'a>(
        &'a self,
        stale: &'a StaleSeries,
        interval: Interval,
    ) -> impl Iterator<Item = ChunkSeries> + 'a {
        stale.series.iter().filter_map(move |(series, _)| {
            let series = self.chunks_of(series, interval);
            (!series.chunks.is_empty()).then_some(series)
        })
    }
}

impl Inner {
    fn evict(&self, stale: &StaleSeries) -> Result<usize, HeadError> {
        // No commit meanwhile: who comes later finds the series dead and makes another.
        let mut committer = self.committer.lock();
        let turn = self.mapping_turn.lock();
        let unchanged = stale.series.iter().filter(|(series, newest)| {
            let state = series.lock();
            !state.is_dead && state.late.is_none() && state.max_t() == Some(*newest)
        });
        let going: Vec<Arc<MemSeries>> = unchanged.map(|(series, _)| Arc::clone(series)).collect();
        let tombstones: Vec<RefTombstone> = going
            .iter()
            .map(|series| RefTombstone {
                series: series.series,
                // So a replay knows that the series went, and not that samples of it were deleted.
                interval: Interval::ALL,
            })
            .collect();
        if !tombstones.is_empty() {
            self.retired.lock().has_left = true;
        }
        for entries in tombstones.chunks(TOMBSTONES_PER_RECORD) {
            if let Err(error) = committer.wal.append(&[&encode_tombstones(entries)]) {
                count(&self.counters.wal_failures, 1);
                return Err(error.into());
            }
        }
        let mut n_chunks = 0;
        for series in &going {
            let mut state = series.lock();
            n_chunks += state.truncate_before(i64::MAX) as u64;
            state.is_dead = true;
        }
        let segment = committer.wal.segment();
        self.wal_segment.store(segment, Ordering::Relaxed);
        drop((turn, committer));
        retire(self, &going, segment);
        count(&self.counters.chunks_removed, n_chunks);
        Ok(going.len())
    }
}
