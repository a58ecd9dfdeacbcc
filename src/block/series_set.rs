//! The series of a block that a query asked for, one after the other.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::block::read::{Inner, check_cancel, chunk_failed, index_failed};
use crate::foundation::{Cancel, Pool};
use crate::index::SeriesEntry;
use crate::model::{Interval, Labels};
use crate::storage::{
    ChunkSeries, ChunkSlice, SelectHints, SeriesSet, StorageError, Windows, lost_samples,
};

/// Series that one thread reads before it takes the next part: at twenty chunks each about a third of a millisecond,
/// several times what it costs to wake a thread up.
const SERIES_PER_PART: usize = 64;

/// Parts that are read at once. What is read ahead is references into a mapped file, not booked by anybody yet.
const PARTS_AT_ONCE: usize = 4;

/// Why chunks of a series are missing, and what they span.
type Lost = (StorageError, Interval);

/// One series as it was read.
struct Read {
    labels: Labels,
    chunks: Vec<ChunkSlice>,
    lost: Option<Lost>,
}

/// How series are read: shared with the threads that help.
struct Reader {
    block: Arc<Inner>,
    times: Windows,
    skip_chunks: bool,
    cancel: Cancel,
}

impl Reader {
    /// A series, unless nothing of it is wanted.
    fn read(&self, id: u32, entry: &mut SeriesEntry) -> Result<Option<Read>, StorageError> {
        check_cancel(&self.cancel)?;
        let read = self.block.series(id, self.times, entry);
        let Some(labels) = read.map_err(index_failed)? else {
            return Ok(None);
        };
        let (chunks, lost) = if self.skip_chunks {
            (Vec::new(), None)
        } else {
            self.chunks(id, entry)?
        };
        let has_some = self.skip_chunks || !chunks.is_empty() || lost.is_some();
        Ok(has_some.then_some(Read {
            labels,
            chunks,
            lost,
        }))
    }

    /// The chunks of a series as its entry lists them, and what is wrong with those that are missing.
    fn chunks(
        &self,
        id: u32,
        entry: &SeriesEntry,
    ) -> Result<(Vec<ChunkSlice>, Option<Lost>), StorageError> {
        let mut chunks = Vec::with_capacity(entry.chunks.len());
        let mut lost: Option<Lost> = None;
        for meta in &entry.chunks {
            match self.block.chunk(id, meta) {
                Ok(chunk) => chunks.extend(chunk),
                Err(error) => {
                    let flaw = chunk_failed(&self.block.dir, &error);
                    if !matches!(flaw, StorageError::Corrupt(_)) {
                        return Err(flaw);
                    }
                    let (_, span) = lost.get_or_insert((flaw, meta.interval()));
                    *span = span.joined(meta.interval());
                }
            }
        }
        Ok((chunks, lost))
    }
}

/// Reads one series after the other; many of them some ahead, with the help of other threads.
pub(super) struct BlockSeriesSet {
    reader: Arc<Reader>,
    helpers: Option<Pool>,
    ids: std::vec::IntoIter<u32>,
    entry: SeriesEntry,
    ahead: VecDeque<Result<Option<Read>, StorageError>>,
    n_left: usize,
    last: Option<Labels>,
    /// What is left of a series of which a chunk is damaged: it comes behind the error.
    rest: Option<ChunkSeries>,
}

impl BlockSeriesSet {
    /// What `hints` ask for of the series `ids` of `block`.
    pub(super) fn new(block: Arc<Inner>, ids: Vec<u32>, hints: &SelectHints) -> Self {
        // Labels alone are read faster than a thread wakes up; a limit is for few.
        let is_much = !hints.skip_chunks && hints.limit == 0;
        Self {
            helpers: hints.helpers.clone().filter(|_| is_much),
            reader: Arc::new(Reader {
                block,
                times: hints.times(),
                skip_chunks: hints.skip_chunks,
                cancel: hints.cancel.clone(),
            }),
            ids: ids.into_iter(),
            entry: SeriesEntry::default(),
            ahead: VecDeque::new(),
            n_left: if hints.limit == 0 {
                usize::MAX
            } else {
                hints.limit
            },
            last: None,
            rest: None,
        }
    }

    /// The next series as it was read; `None` at the end.
    fn read_next(&mut self) -> Result<Option<Read>, StorageError> {
        loop {
            if self.ahead.is_empty()
                && self.ids.len() > SERIES_PER_PART
                && let Some(helpers) = self.helpers.clone()
            {
                self.read_ahead(&helpers)?;
            }
            let read = match self.ahead.pop_front() {
                Some(read) => read,
                None => match self.ids.next() {
                    Some(id) => self.reader.read(id, &mut self.entry),
                    None => return Ok(None),
                },
            };
            if let Some(read) = read? {
                return Ok(Some(read));
            }
        }
    }

    fn read_ahead(&mut self, helpers: &Pool) -> Result<(), StorageError> {
        let ids: Vec<u32> = (&mut self.ids)
            .take(SERIES_PER_PART * PARTS_AT_ONCE)
            .collect();
        let reader = Arc::clone(&self.reader);
        let n_parts = ids.len().div_ceil(SERIES_PER_PART);
        let parts = helpers.share(n_parts, move |part| {
            let mut entry = SeriesEntry::default();
            let ids = ids.chunks(SERIES_PER_PART).nth(part).unwrap_or_default();
            let read = ids.iter().map(|id| reader.read(*id, &mut entry));
            read.collect::<Vec<_>>()
        });
        let parts = parts.map_err(|panic| StorageError::Unavailable(panic.to_string()))?;
        self.ahead.extend(parts.into_iter().flatten());
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<ChunkSeries>, StorageError> {
        if let Some(rest) = self.rest.take() {
            self.n_left -= 1;
            return Ok(Some(rest));
        }
        if self.n_left == 0 {
            return Ok(None);
        }
        let Some(read) = self.read_next()? else {
            return Ok(None);
        };
        let Read {
            labels,
            chunks,
            lost,
        } = read;
        // Whoever merges relies on label order; an index that was not written in it would lose series.
        if self.last.as_ref().is_some_and(|last| labels <= *last) {
            let dir = self.reader.block.dir.display();
            return Err(StorageError::Corrupt(format!(
                "{dir}: series {labels} is out of order"
            )));
        }
        self.last = Some(labels.clone());
        if let Some((flaw, span)) = lost {
            let flaw = lost_samples(flaw, &labels, span);
            self.rest = (!chunks.is_empty()).then_some(ChunkSeries { labels, chunks });
            return Err(flaw);
        }
        self.n_left -= 1;
        Ok(Some(ChunkSeries { labels, chunks }))
    }
}

impl SeriesSet for BlockSeriesSet {
    fn next(&mut self) -> Option<Result<ChunkSeries, StorageError>> {
        let item = self.advance().transpose();
        // A damaged series is an error in its place, and a damaged chunk one before what is left of its series; those
        // after it still come, for whoever goes on.
        if matches!(item, Some(Err(StorageError::Canceled))) {
            self.n_left = 0;
        }
        item
    }
}
