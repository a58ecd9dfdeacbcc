//! Records to the newest segment.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::foundation::durable::{DurableFile, create_dirs, remove_file, sync_dir};
use crate::wal::page::{Compressor, PAGE_BYTES, PageCursor, RECORD_BYTES_MAX};
use crate::wal::{Compression, SegmentNumber, WalCounters, WalError, list_segments, segment_name};

/// How the log is written.
#[derive(Debug, Clone, Copy)]
pub struct WalSettings {
    /// A segment is closed before it grows beyond this; rounded up to whole pages of 32 KiB.
    pub segment_bytes_max: u64,
    /// How records are made smaller.
    pub compression: Compression,
}

impl Default for WalSettings {
    fn default() -> Self {
        Self {
            segment_bytes_max: 128 << 20,
            compression: Compression::Snappy,
        }
    }
}

/// Where what was acknowledged of a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnd {
    /// The segment being written.
    pub segment: SegmentNumber,
    /// Bytes of it.
    pub n_bytes: u64,
}

/// The log as it is written: one process, one writer.
///
/// An acknowledged append is with the operating system: it survives the end of the process. [`Wal::unsynced`] hands
/// out the files whose fsync makes it survive the end of the machine.
pub struct Wal {
    dir: PathBuf,
    n_pages_max: u64,
    segment: SegmentNumber,
    path: PathBuf,
    file: Arc<DurableFile>,
    pages: PageCursor,
    compressor: Compressor,
    /// Fragments of this append, written in one call.
    pending: Vec<u8>,
    /// Segments this append has left, and how far they went before it.
    left: Vec<(Arc<DurableFile>, PathBuf, PageCursor)>,
    /// Segments before the newest that were written since they were last handed out for fsync.
    dirty: Vec<(SegmentNumber, Arc<DurableFile>)>,
    is_dirty: bool,
    n_bytes_written: u64,
    poisoned: Option<String>,
    counters: Arc<WalCounters>,
}

impl std::fmt::Debug for Wal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wal")
            .field("dir", &self.dir)
            .field("segment", &self.segment)
            .field("poisoned", &self.poisoned)
            .finish_non_exhaustive()
    }
}

/// Buffers above this length are given back after use.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

impl Wal {
    /// Starts a fresh segment behind all that are there. Those are handed out for fsync with it: nobody knows how far
    /// whoever wrote them came with that.
    pub fn open(dir: &Path, settings: WalSettings) -> Result<Self, WalError> {
        create_dirs(dir).map_err(WalError::io("create", dir))?;
        let segments = list_segments(dir)?;
        let last = segments.last().map(|segment| segment.number);
        let checkpoint = crate::wal::last_checkpoint(dir)?.map(|checkpoint| checkpoint.number);
        let segment = last.max(checkpoint).map_or(0, |last| last + 1);
        let mut wal = Self::create(dir, segment, settings)?;
        for before in segments.iter().filter(|segment| 0 < segment.n_bytes) {
            let file = DurableFile::open(&before.path);
            let file = file.map_err(WalError::io("open", &before.path))?;
            wal.dirty.push((before.number, Arc::new(file)));
        }
        Ok(wal)
    }

    /// Writes segment `segment` of `dir`, which must not be there.
    pub(crate) fn create(
        dir: &Path,
        segment: SegmentNumber,
        settings: WalSettings,
    ) -> Result<Self, WalError> {
        let (path, file) = create_segment(dir, segment)?;
        Ok(Self {
            dir: dir.to_owned(),
            n_pages_max: settings
                .segment_bytes_max
                .div_ceil(PAGE_BYTES as u64)
                .max(1),
            segment,
            path,
            file,
            pages: PageCursor::default(),
            compressor: Compressor::new(settings.compression),
            pending: Vec::new(),
            left: Vec::new(),
            dirty: Vec::new(),
            is_dirty: false,
            n_bytes_written: 0,
            poisoned: None,
            counters: Arc::default(),
        })
    }

    /// The segment being written.
    pub fn segment(&self) -> SegmentNumber {
        self.segment
    }

    /// Where it ends.
    pub fn end(&self) -> LogEnd {
        LogEnd {
            segment: self.segment,
            n_bytes: self.pages.n_bytes(),
        }
    }

    /// Bytes written since the start.
    pub fn n_bytes_written(&self) -> u64 {
        self.n_bytes_written
    }

    /// What it counts. Whoever syncs its files tells them.
    pub fn counters(&self) -> &Arc<WalCounters> {
        &self.counters
    }

    /// Why nothing more is taken, if so.
    pub fn poisoned(&self) -> Option<&str> {
        self.poisoned.as_deref()
    }

    /// Hands `records` to the operating system in order, in one write per segment touched.
    ///
    /// All of them or none: what was written of them when the disk is full is cut off again, and a later append may have
    /// more luck. Any other failure is the last: nobody knows what is on disk then.
    pub fn append(&mut self, records: &[&[u8]]) -> Result<(), WalError> {
        if let Some(reason) = &self.poisoned {
            return Err(WalError::Poisoned(reason.clone()));
        }
        for record in records {
            if record.len() > RECORD_BYTES_MAX {
                return Err(WalError::TooLong {
                    bytes: record.len(),
                    limit: RECORD_BYTES_MAX,
                });
            }
        }
        let (pages, n_bytes_written) = (self.pages, self.n_bytes_written);
        let result = self.append_all(records, pages);
        if self.pending.capacity() > BUFFER_BYTES_KEPT {
            self.pending = Vec::new();
        }
        let result = result.map_err(|error| self.undo(error, pages, n_bytes_written));
        self.left.clear();
        result
    }

    /// Cuts off what an append has written that found the disk full.
    fn undo(&mut self, error: WalError, pages: PageCursor, n_bytes_written: u64) -> WalError {
        self.pending.clear();
        if !error.is_full() {
            self.poisoned = Some(error.to_string());
            return error;
        }
        self.pages = match self.left.is_empty() {
            true => pages,
            false => PageCursor::default(),
        };
        self.n_bytes_written = n_bytes_written;
        let touched = self
            .left
            .iter()
            .map(|(file, path, pages)| (file, path, *pages));
        for (file, path, pages) in touched.chain([(&self.file, &self.path, self.pages)]) {
            if let Err(failed) = file.set_len(pages.n_bytes()) {
                let failed = WalError::io("cut", path)(failed);
                self.poisoned = Some(failed.to_string());
                return failed;
            }
        }
        WalError::full(&self.dir, error)
    }

    /// `start` is where the segment being written ended before this append.
    fn append_all(&mut self, records: &[&[u8]], mut start: PageCursor) -> Result<(), WalError> {
        for record in records {
            let (stored, flag) = self.compressor.compress(record)?;
            if stored.len() as u64 > self.pages.room(self.n_pages_max) && self.pages.n_bytes() > 0 {
                Self::write(&self.file, &self.path, &mut self.pending)?;
                self.counters.add_written(start, self.pages, true);
                let (path, file) = create_segment(&self.dir, self.segment + 1)?;
                let before = self.segment;
                self.segment += 1;
                let left = std::mem::replace(&mut self.file, file);
                let left_path = std::mem::replace(&mut self.path, path);
                self.dirty.push((before, Arc::clone(&left)));
                self.left.push((left, left_path, start));
                self.pages = PageCursor::default();
                start = self.pages;
            }
            let before = self.pending.len();
            self.pages.push(stored, flag, &mut self.pending);
            self.n_bytes_written += (self.pending.len() - before) as u64;
        }
        self.is_dirty = true;
        Self::write(&self.file, &self.path, &mut self.pending)?;
        self.counters.add_written(start, self.pages, false);
        Ok(())
    }

    fn write(file: &Arc<DurableFile>, path: &Path, pending: &mut Vec<u8>) -> Result<(), WalError> {
        let result = (&**file).write_all(pending);
        pending.clear();
        result.map_err(WalError::io("write", path))
    }

    /// Closes the newest segment and starts the next, so that everything so far can go into a checkpoint.
    pub fn next_segment(&mut self) -> Result<(), WalError> {
        if let Some(reason) = &self.poisoned {
            return Err(WalError::Poisoned(reason.clone()));
        }
        let (path, file) = create_segment(&self.dir, self.segment + 1)
            .map_err(|error| self.undo(error, self.pages, self.n_bytes_written))?;
        self.counters.add_written(self.pages, self.pages, true);
        let before = std::mem::replace(&mut self.file, file);
        self.dirty.push((self.segment, before));
        self.segment += 1;
        self.path = path;
        self.pages = PageCursor::default();
        Ok(())
    }

    /// The files whose fsync makes every append so far durable. Sync them without holding the log, and tell a failure
    /// to [`Wal::poison`].
    pub fn unsynced(&mut self) -> Vec<Arc<DurableFile>> {
        let dirty = std::mem::take(&mut self.dirty).into_iter();
        let mut files: Vec<_> = dirty.map(|(_, file)| file).collect();
        if std::mem::take(&mut self.is_dirty) {
            files.push(Arc::clone(&self.file));
        }
        files
    }

    /// Segments before `first` were removed: nobody syncs them, and held open they would keep their room on the disk.
    pub fn forget_before(&mut self, first: SegmentNumber) {
        self.dirty.retain(|(number, _)| first <= *number);
    }

    /// After a failed fsync nobody knows what is on disk: nothing more is taken.
    pub fn poison(&mut self, reason: String) {
        self.poisoned.get_or_insert(reason);
    }
}

fn create_segment(
    dir: &Path,
    segment: SegmentNumber,
) -> Result<(PathBuf, Arc<DurableFile>), WalError> {
    let path = dir.join(segment_name(segment));
    let file = DurableFile::create_new(&path).map_err(WalError::io("create", &path))?;
    if let Err(error) = sync_dir(dir) {
        // The next attempt takes the same name.
        remove_file(&path).ok();
        return Err(WalError::io("sync", dir)(error));
    }
    Ok((path, Arc::new(file)))
}
