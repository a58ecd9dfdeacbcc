//! The series of several indexes, in label order, each once.

use crate::block::{BlockError, BlockSource, SeriesIds, TakeRaw, chunk_that_counts};
use crate::compact::CompactError;
use crate::compact::symbols::SymbolMap;
use crate::index::SeriesEntry;
use crate::model::{BlockId, Interval, TimestampMs};
use crate::storage::ChunkSlice;

/// The series of one source; labels are compared as numbers of the merged symbols, which rise as the texts do.
pub(crate) struct SeriesCursor<'a> {
    source: &'a dyn BlockSource,
    map: SymbolMap,
    ids: SeriesIds<'a>,
    /// The series it stands at.
    id: Option<u32>,
    entry: SeriesEntry,
    before: Vec<(u32, u32)>,
}

impl<'a> SeriesCursor<'a> {
    /// Stands at the first series.
    pub(crate) fn new(source: &'a dyn BlockSource, map: SymbolMap) -> Result<Self, CompactError> {
        let ids = source.series_ids();
        let ids = ids.map_err(|error| failed(source.meta().ulid, error))?;
        let mut cursor = Self {
            source,
            map,
            ids,
            id: None,
            entry: SeriesEntry::default(),
            before: Vec::new(),
        };
        cursor.advance()?;
        Ok(cursor)
    }

    /// The labels of the series it stands at; `None` at the end.
    pub(crate) fn labels(&self) -> Option<&[(u32, u32)]> {
        self.id.map(|_| self.entry.symbols.as_slice())
    }

    /// Goes to the next series.
    pub(crate) fn advance(&mut self) -> Result<(), CompactError> {
        let is_first = self.id.is_none();
        let next = self.ids.next().transpose();
        self.id = next.map_err(|error| failed(self.source.meta().ulid, error))?;
        let Some(id) = self.id else {
            return Ok(());
        };
        std::mem::swap(&mut self.before, &mut self.entry.symbols);
        let block = self.source.meta().ulid;
        let read = self.source.series(id, &mut self.entry);
        read.map_err(|error| failed(block, error))?;
        for (name, value) in &mut self.entry.symbols {
            let (Some(to_name), Some(to_value)) = (self.map.get(*name), self.map.get(*value))
            else {
                return Err(self.damaged(id, "a label is not among the symbols"));
            };
            (*name, *value) = (to_name, to_value);
        }
        // Otherwise the writer would refuse the series, and nobody would know whose it was.
        let is_rising = self
            .entry
            .symbols
            .is_sorted_by(|left, right| left.0 < right.0);
        if !is_rising || self.entry.symbols.is_empty() {
            return Err(self.damaged(id, "labels are out of order, twice there or none"));
        }
        if !is_first && self.entry.symbols <= self.before {
            return Err(self.damaged(id, "series are out of order"));
        }
        Ok(())
    }

    /// Do the chunks of the series it stands at go through as they are, behind `end` and within `wanted`? Says where they
    /// end.
    pub(crate) fn passes(
        &self,
        wanted: Interval,
        end: Option<TimestampMs>,
    ) -> Option<Option<TimestampMs>> {
        let tombstones = self.source.tombstones();
        let is_cut = !tombstones.is_empty()
            && self
                .id
                .is_some_and(|id| !tombstones.of(u64::from(id)).is_empty());
        if is_cut {
            return None;
        }
        let mut end = end;
        for chunk in &self.entry.chunks {
            let is_behind = end.is_none_or(|end| end < chunk.min_t);
            if !is_behind
                || chunk.max_t < chunk.min_t
                || wanted.max < chunk.max_t
                || chunk.min_t < wanted.min
            {
                return None;
            }
            end = Some(chunk.max_t);
        }
        Some(end)
    }

    /// Has memory bring the chunks of the series it stands at.
    pub(crate) fn touch(&self) -> u8 {
        self.source.touch(&self.entry.chunks)
    }

    /// Shows the chunks of the series it stands at as they lie in their segments.
    pub(crate) fn raw_chunks(&self, take: &mut TakeRaw<'_>) -> Result<(), CompactError> {
        let shown = self.source.raw_chunks(&self.entry.chunks, take);
        shown.map_err(|error| failed(self.source.meta().ulid, error))
    }

    /// Adds the chunks of the series it stands at, without what was deleted.
    pub(crate) fn take_chunks(&self, out: &mut Vec<ChunkSlice>) -> Result<(), CompactError> {
        let Some(id) = self.id else { return Ok(()) };
        for meta in &self.entry.chunks {
            let chunk = chunk_that_counts(self.source, id, meta);
            out.extend(chunk.map_err(|error| failed(self.source.meta().ulid, error))?);
        }
        Ok(())
    }

    fn damaged(&self, id: u32, problem: &str) -> CompactError {
        let error = self.source.damaged(id, problem.to_owned());
        failed(self.source.meta().ulid, error)
    }
}

pub(crate) fn failed(block: BlockId, source: BlockError) -> CompactError {
    CompactError::Source { block, source }
}
