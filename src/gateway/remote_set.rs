//! Series of a remote block, a batch at a time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::foundation::Cancel;
use crate::gateway::pages::Ask;
use crate::gateway::remote::{Entry, Inner, corrupt};
use crate::gateway::stats::Kind;
use crate::gateway::store::PAGE_BYTES;
use crate::index::{ChunkMeta, SeriesEntry, Source};
use crate::model::{Interval, Labels};
use crate::storage::{
    ChunkSeries, ChunkSlice, SelectHints, SeriesSet, StorageError, Tally, Windows, lost_samples,
};

/// Series whose entries are read together, at most.
const SERIES_PER_BATCH: usize = 256;
/// Chunks that are read together, at most, unless one series has more: a few megabytes.
const CHUNKS_PER_BATCH: usize = 8_192;
/// First guess at the length of an entry: more is read where its length field says so.
const SERIES_BYTES_GUESS: u64 = 512;
const CHUNK_BYTES_GUESS: u64 = 1_024;
/// Checksum behind an entry.
const CHECKSUM_BYTES: u64 = 4;

/// Reads series a batch at a time: the smaller, the more blocks are read beside this one, down to a series. A damaged
/// series is an error in its place, and one with a damaged chunk an error before what is left of it; those after it still
/// come.
pub(crate) struct RemoteSet {
    block: Arc<Inner>,
    ids: std::vec::IntoIter<u32>,
    /// Entries that were read, their chunks not yet.
    found: VecDeque<Found>,
    ready: VecDeque<Result<ChunkSeries, StorageError>>,
    times: Windows,
    skip_chunks: bool,
    n_left: usize,
    cancel: Cancel,
    tally: Tally,
    last: Option<Labels>,
}

/// A series whose entry was read.
struct Found {
    id: u32,
    labels: Labels,
    chunks: Vec<ChunkMeta>,
    slices: Vec<ChunkSlice>,
    flaw: Option<StorageError>,
    /// What the chunks span that could not be read.
    lost: Option<Interval>,
}

/// About how many bytes the chunks of a series have: they lie one behind the other, unless a segment ends among them.
fn bytes_of(chunks: &[ChunkMeta]) -> u64 {
    match (chunks.first(), chunks.last()) {
        (Some(first), Some(last)) if first.at.segment() == last.at.segment() => {
            let before = last.at.offset().saturating_sub(first.at.offset());
            u64::from(before) + CHUNK_BYTES_GUESS
        }
        _ => CHUNK_BYTES_GUESS.saturating_mul(chunks.len() as u64),
    }
}

/// Copies their chunks: a slice keeps the whole page it lies in, which is more than many blocks may hold together.
fn own(found: &mut [Found]) {
    for slice in found.iter_mut().flat_map(|series| &mut series.slices) {
        slice.data = Bytes::copy_from_slice(&slice.data);
    }
}

impl RemoteSet {
    /// The series with these numbers.
    pub(crate) fn new(block: Arc<Inner>, ids: Vec<u32>, hints: &SelectHints) -> Self {
        let set = Self {
            block,
            ids: ids.into_iter(),
            found: VecDeque::new(),
            ready: VecDeque::new(),
            times: hints.times(),
            skip_chunks: hints.skip_chunks,
            n_left: if hints.limit == 0 {
                usize::MAX
            } else {
                hints.limit
            },
            cancel: hints.cancel.clone(),
            tally: hints.tally.clone(),
            last: None,
        };
        set.prefetch();
        set
    }

    /// The entries of the next series come while their askers do something else: look into other blocks, or decode.
    fn prefetch(&self) {
        let ids = self.ids.as_slice();
        let n = ids.len().min(self.n_series_at_once());
        let entries = self.entries(ids.get(..n).unwrap_or_default());
        let ask = self.ask(Kind::Series);
        self.block.prefetch(&self.block.index, &entries, &ask);
    }

    fn ask(&self, kind: Kind) -> Ask {
        Ask {
            kind,
            cancel: self.cancel.clone(),
            tally: self.tally.clone(),
        }
    }

    /// Its share of the memory of all that are read side by side.
    fn share_bytes(&self) -> u64 {
        self.block.share_bytes(self.tally.n_sources())
    }

    fn n_series_at_once(&self) -> usize {
        let n_in_share = usize::try_from(self.share_bytes() / SERIES_BYTES_GUESS);
        let n_at_once = n_in_share.unwrap_or(usize::MAX).max(1);
        n_at_once.min(SERIES_PER_BATCH).min(self.n_left)
    }

    /// Makes some series ready, or learns that there are none.
    fn fill(&mut self) -> Result<(), StorageError> {
        if self.found.is_empty() {
            self.find()?;
        }
        let mut batch = Vec::new();
        let (mut n_chunks, mut n_bytes) = (0, 0);
        let share_bytes = self.share_bytes();
        while let Some(next) = self.found.front() {
            n_chunks += next.chunks.len();
            n_bytes += bytes_of(&next.chunks);
            let is_enough = CHUNKS_PER_BATCH < n_chunks || share_bytes < n_bytes;
            if !batch.is_empty() && is_enough {
                break;
            }
            batch.extend(self.found.pop_front());
        }
        if !self.skip_chunks {
            self.read_chunks(&mut batch)?;
            if share_bytes < PAGE_BYTES {
                own(&mut batch);
            }
        }
        for series in batch {
            let is_known = series.flaw.is_none() || series.lost.is_some();
            if let Some(flaw) = series.flaw {
                let flaw = match series.lost {
                    Some(lost) => lost_samples(flaw, &series.labels, lost),
                    None => flaw,
                };
                self.ready.push_back(Err(flaw));
            }
            if is_known && (self.skip_chunks || !series.slices.is_empty()) {
                self.ready.push_back(Ok(ChunkSeries {
                    labels: series.labels,
                    chunks: series.slices,
                }));
            }
        }
        Ok(())
    }

    /// Reads the entries of the next series.
    fn find(&mut self) -> Result<(), StorageError> {
        let n = self.n_series_at_once();
        let ids: Vec<u32> = self.ids.by_ref().take(n).collect();
        for (id, entry) in ids.iter().zip(self.read_series(&ids)?) {
            match entry.and_then(|bytes| self.parse(*id, bytes)) {
                Ok(Some(series)) => self.found.push_back(series),
                Ok(None) => (),
                Err(StorageError::Corrupt(flaw)) => self.found.push_back(Found {
                    id: *id,
                    labels: Labels::empty(),
                    chunks: Vec::new(),
                    slices: Vec::new(),
                    flaw: Some(StorageError::Corrupt(flaw)),
                    lost: None,
                }),
                Err(error) => return Err(error),
            }
        }
        self.prefetch();
        Ok(())
    }

    fn offset(&self, id: u32) -> u64 {
        self.block.header.version().series_offset(id)
    }

    fn entries(&self, ids: &[u32]) -> Vec<Entry> {
        let entry = |id: &u32| Entry {
            offset: self.offset(*id),
            guess: SERIES_BYTES_GUESS,
            n_bytes_more: CHECKSUM_BYTES,
        };
        ids.iter().map(entry).collect()
    }

    fn read_series(&self, ids: &[u32]) -> Result<Vec<Result<Bytes, StorageError>>, StorageError> {
        let ask = self.ask(Kind::Series);
        self.block
            .read_entries(&self.block.index, &self.entries(ids), &ask)
    }

    fn parse(&mut self, id: u32, bytes: Bytes) -> Result<Option<Found>, StorageError> {
        let offset = self.offset(id);
        let source = Source::part(&self.block.index_name, bytes, offset);
        let mut entry = SeriesEntry::default();
        entry.read(&source, offset).map_err(corrupt)?;
        let deleted = self.block.tombstones.of(u64::from(id));
        entry.chunks.retain(|chunk| {
            self.times.touch(chunk.min_t, chunk.max_t)
                && !deleted
                    .iter()
                    .any(|gone| gone.min <= chunk.min_t && chunk.max_t <= gone.max)
        });
        if entry.chunks.is_empty() {
            return Ok(None);
        }
        let labels = entry.labels(self.block.header.symbols()).map_err(corrupt)?;
        let labels = labels.map_err(|flaw| {
            let file = &self.block.index;
            self.block.corrupt(file, offset, &flaw.to_string())
        })?;
        // Whoever merges relies on label order; an index that was not written in it would lose series.
        if self.last.as_ref().is_some_and(|last| labels <= *last) {
            let problem = format!("series {labels} is out of order");
            return Err(self.block.corrupt(&self.block.index, offset, &problem));
        }
        self.last = Some(labels.clone());
        Ok(Some(Found {
            id,
            labels,
            chunks: entry.chunks,
            slices: Vec::new(),
            flaw: None,
            lost: None,
        }))
    }

    /// Segment by segment, so that neighbours in a file are fetched together.
    fn read_chunks(&self, found: &mut [Found]) -> Result<(), StorageError> {
        let mut wanted: BTreeMap<u32, Vec<(usize, ChunkMeta)>> = BTreeMap::new();
        for (number, series) in found.iter().enumerate() {
            for chunk in &series.chunks {
                wanted
                    .entry(chunk.at.segment())
                    .or_default()
                    .push((number, *chunk));
            }
        }
        for chunks in wanted.into_values() {
            let Some((_, first)) = chunks.first() else {
                continue;
            };
            let entries: Vec<_> = chunks
                .iter()
                .map(|(_, chunk)| Entry {
                    offset: u64::from(chunk.at.offset()),
                    guess: CHUNK_BYTES_GUESS,
                    // The encoding byte is not counted.
                    n_bytes_more: 1 + CHECKSUM_BYTES,
                })
                .collect();
            let read = match self.block.segment(first) {
                Ok(file) => {
                    let ask = self.ask(Kind::Chunks);
                    self.block.read_entries(file, &entries, &ask)?
                }
                Err(missing) => entries.iter().map(|_| Err(missing.clone())).collect(),
            };
            for ((number, chunk), bytes) in chunks.iter().zip(read) {
                let Some(series) = found.get_mut(*number) else {
                    continue;
                };
                match bytes.and_then(|bytes| self.block.slice(series.id, chunk, &bytes)) {
                    Ok(slice) => series.slices.extend(slice),
                    Err(flaw) => {
                        series.flaw.get_or_insert(flaw);
                        let span = chunk.interval();
                        series.lost = Some(series.lost.map_or(span, |lost| lost.joined(span)));
                    }
                }
            }
        }
        for series in found {
            series.slices.sort_by_key(|slice| slice.min_t);
        }
        Ok(())
    }
}

impl SeriesSet for RemoteSet {
    fn next(&mut self) -> Option<Result<ChunkSeries, StorageError>> {
        if self.cancel.reason().is_some() {
            self.n_left = 0;
            self.ready.clear();
            self.found.clear();
            self.ids = Vec::new().into_iter();
            return Some(Err(StorageError::Canceled));
        }
        while self.ready.is_empty()
            && 0 < self.n_left
            && (self.ids.len() != 0 || !self.found.is_empty())
        {
            if let Err(error) = self.fill() {
                self.n_left = 0;
                return Some(Err(error));
            }
        }
        if self.n_left == 0 {
            return None;
        }
        let item = self.ready.pop_front()?;
        if item.is_ok() {
            self.n_left -= 1;
        }
        Some(item)
    }
}
