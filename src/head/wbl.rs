//! `wbl/`: the log of what came out of order, written behind the write-ahead log of the same commit.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::foundation::durable::{self, sync_dir};
use crate::head::open_chunk::Value;
use crate::head::records::CommitRecords;
use crate::model::SampleTime;
use crate::wal::{
    LogEnd, MarkersEncoder, RefMarker, SegmentNumber, Wal, WalCounters, WalError, WalSettings,
    list_segments,
};

/// What the log says about itself.
#[derive(Debug, Default)]
pub(crate) struct LogNumbers {
    /// The segment being written.
    pub(crate) segment: AtomicU32,
    /// Writes that failed.
    pub(crate) n_failures: AtomicU64,
    /// Once there is a log.
    pub(crate) counters: OnceLock<Arc<WalCounters>>,
}

/// The log and the records of the commit under way. Its directory is made with the first record.
#[derive(Debug)]
pub(crate) struct OutOfOrderLog {
    dir: PathBuf,
    settings: WalSettings,
    wal: Option<Wal>,
    pub(crate) numbers: Arc<LogNumbers>,
    records: Vec<Vec<u8>>,
    values: CommitRecords,
    markers: MarkersEncoder,
}

impl OutOfOrderLog {
    /// Begins a segment where there is a log already.
    pub(crate) fn open(dir: &Path, settings: WalSettings) -> Result<Self, WalError> {
        let wal = if dir.is_dir() {
            Some(Wal::open(dir, settings)?)
        } else {
            None
        };
        let numbers = LogNumbers::default();
        if let Some(wal) = &wal {
            numbers.counters.get_or_init(|| Arc::clone(wal.counters()));
        }
        Ok(Self {
            dir: dir.to_owned(),
            settings,
            wal,
            numbers: Arc::new(numbers),
            records: Vec::new(),
            values: CommitRecords::default(),
            markers: MarkersEncoder::default(),
        })
    }

    /// Begins a commit. `has_starts`: some of its values say since when they count.
    pub(crate) fn begin(&mut self, has_starts: bool) {
        self.records.clear();
        self.values.begin(has_starts);
        self.markers.clear();
    }

    /// Adds a sample. It stands behind the markers added before it.
    pub(crate) fn push(&mut self, series: u64, at: SampleTime, value: Value<'_>) {
        self.end_markers();
        self.values.value(series, at, value);
    }

    /// Says that all samples of `series` that were added so far lie in files, some of them at this place.
    pub(crate) fn mark(&mut self, series: u64, (file, offset): (u32, u32)) {
        self.values.take_values(&mut self.records);
        self.markers.push(RefMarker {
            series,
            file,
            offset,
        });
    }

    fn end_markers(&mut self) {
        if let Some(record) = self.markers.record() {
            self.records.push(record.to_vec());
            self.markers.clear();
        }
    }

    /// Where it ends; `None` while there is no log.
    pub(crate) fn end(&self) -> Option<LogEnd> {
        self.wal.as_ref().map(Wal::end)
    }

    /// Bytes written since the start.
    pub(crate) fn n_bytes_written(&self) -> u64 {
        self.wal.as_ref().map_or(0, Wal::n_bytes_written)
    }

    /// Hands the records to the operating system. May be called again when there was no room.
    pub(crate) fn write(&mut self) -> Result<(), WalError> {
        self.values.take_values(&mut self.records);
        self.end_markers();
        if self.records.is_empty() {
            return Ok(());
        }
        let written = self.append();
        if written.is_err() {
            self.numbers.n_failures.fetch_add(1, Ordering::Relaxed);
        }
        self.note_segment();
        written
    }

    fn append(&mut self) -> Result<(), WalError> {
        let wal = match &mut self.wal {
            Some(wal) => wal,
            none => none.insert(Wal::open(&self.dir, self.settings)?),
        };
        let counters = &self.numbers.counters;
        counters.get_or_init(|| Arc::clone(wal.counters()));
        let records: Vec<&[u8]> = self.records.iter().map(Vec::as_slice).collect();
        wal.append(&records)
    }

    fn note_segment(&self) {
        let segment = self.wal.as_ref().map_or(0, Wal::segment);
        self.numbers.segment.store(segment, Ordering::Relaxed);
    }

    /// Begins a segment; what was logged so far lies before it. `None` while there is no log.
    pub(crate) fn next_segment(&mut self) -> Result<Option<SegmentNumber>, WalError> {
        let Some(wal) = &mut self.wal else {
            return Ok(None);
        };
        wal.next_segment()?;
        let segment = wal.segment();
        self.note_segment();
        Ok(Some(segment))
    }

    /// As [`Wal::forget_before`].
    pub(crate) fn forget_before(&mut self, first: SegmentNumber) {
        if let Some(wal) = &mut self.wal {
            wal.forget_before(first);
        }
    }

    /// The files whose fsync makes every commit so far durable.
    pub(crate) fn unsynced(&mut self) -> Vec<Arc<durable::DurableFile>> {
        self.wal.as_mut().map(Wal::unsynced).unwrap_or_default()
    }
}

/// Removes the segments before `first`: what they hold is in blocks.
pub(crate) fn remove_segments_before(dir: &Path, first: SegmentNumber) -> Result<(), WalError> {
    for segment in list_segments(dir)? {
        if segment.number < first {
            durable::remove_file(&segment.path).map_err(WalError::io("remove", &segment.path))?;
        }
    }
    sync_dir(dir).map_err(WalError::io("sync", dir))
}
