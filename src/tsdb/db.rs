//! Head and blocks under one lock.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::block::{Block, BlockMeta, NewBlock, write_block};
use crate::foundation::file_system::{capacity_bytes, free_bytes};
use crate::foundation::{Cancel, Clock};
use crate::gateway::Snapshot;
use crate::head::{Head, HeadSettings, ReplayReport};
use crate::model::{BlockId, Interval, TimeRange};
use crate::storage::{Appendable, Appender, ChunkSeries, Flaws, SeriesSet, StorageError};
use crate::tsdb::floor::raise_floor;
use crate::tsdb::heads::Heads;
use crate::tsdb::load::{Quarantined, delete_block_dir};
use crate::tsdb::lock::DirLock;
use crate::tsdb::retention::{BlockSize, RetentionReason, RetentionSettings, plan_retention};
use crate::tsdb::stats::Counters;
use crate::tsdb::timeline::{Sources, Timeline};
use crate::tsdb::{TsdbError, plan_cut};

/// How the database works.
#[derive(Debug, Clone, Copy, Default)]
pub struct TsdbSettings {
    /// The head; its chunk range is the length of the blocks that are cut.
    pub head: HeadSettings,
    /// What is kept locally.
    pub retention: RetentionSettings,
    /// Ended series leave the head early when so many hundredths of all have; `None` lets them stay.
    pub stale_percent: Option<u8>,
}

/// A Prometheus data directory, opened. Clones are the same database; the directory is free when the last one is gone.
#[derive(Debug, Clone)]
pub struct Tsdb {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) dir: PathBuf,
    pub(crate) settings: TsdbSettings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) heads: Arc<Heads>,
    pub(crate) sources: ArcSwap<Sources>,
    pub(crate) quarantined: Mutex<Vec<Quarantined>>,
    pub(crate) replayed: OnceLock<ReplayReport>,
    pub(crate) counters: Counters,
    /// Damage that queries met in local blocks.
    pub(crate) flaws: Flaws,
    /// Held by whoever replaces the sources or the head: one cut, deletion or hand-in at a time.
    pub(crate) changing: Mutex<()>,
    /// One cut, compaction, deletion, snapshot or retention at a time; appends and queries go on.
    pub(crate) cutting: Mutex<()>,
    /// When it was last looked how many series ended.
    pub(crate) last_stale_ms: AtomicI64,
    /// When it was last looked how far chunk files have the log.
    pub(crate) last_redo_ms: AtomicI64,
    /// Raised when the process is about to end.
    pub(crate) stopping: Cancel,
    /// Last, so that the directory is free only when everything else is closed.
    pub(crate) _lock: DirLock,
}

/// Series of a head on their way into a block, which is given up when the process is about to end.
pub(crate) struct HeadSeries<'a, I> {
    series: I,
    stopping: &'a Cancel,
}

impl<I: Iterator<Item = ChunkSeries> + Send> SeriesSet for HeadSeries<'_, I> {
    fn next(&mut self) -> Option<Result<ChunkSeries, StorageError>> {
        if self.stopping.reason().is_some() {
            return Some(Err(StorageError::Canceled));
        }
        self.series.next().map(Ok)
    }
}

impl Tsdb {
    pub(crate) fn from_inner(inner: Inner) -> Self {
        Self {
            inner: Arc::new(inner),
        }
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// The clock it was opened with.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    /// The settings it was opened with.
    pub fn settings(&self) -> TsdbSettings {
        self.inner.settings
    }

    /// The newest samples: while the log is replayed, those that came since the start.
    pub fn head(&self) -> &Head {
        self.inner.head()
    }

    /// What the replay at the start found; nothing while it runs.
    pub fn replayed(&self) -> ReplayReport {
        self.inner.replayed.get().copied().unwrap_or_default()
    }

    /// Changes what the head does from now on. What is set while the log is replayed holds afterwards too.
    pub fn tune(&self, tune: impl FnOnce(&Head)) {
        // Not while one head gives way to another.
        let _one_at_a_time = self.inner.changing.lock();
        tune(self.inner.head());
    }

    /// The local blocks, oldest first.
    pub fn blocks(&self) -> Vec<Block> {
        self.inner.sources.load().blocks.clone()
    }

    /// What could not be opened and lies in `quarantine/`.
    pub fn quarantined(&self) -> Vec<Quarantined> {
        self.inner.quarantined.lock().clone()
    }

    /// Everything committed so far, in one snapshot for one query.
    pub fn timeline(&self) -> Arc<Timeline> {
        let sources = self.inner.sources.load_full();
        let flaws = self.inner.flaws.clone();
        Arc::new(Timeline::new(&self.inner.heads, sources, flaws))
    }

    /// Replaces what the timeline knows of the bucket. It reads the blocks of this appliance that are not here.
    pub fn set_bucket(&self, bucket: Arc<Snapshot>) {
        self.inner.replace(|now| Sources {
            blocks: now.blocks.clone(),
            bucket,
            ..Sources::default()
        });
    }

    /// What queries found damaged in local blocks: file, offset, problem.
    pub fn damaged(&self) -> BTreeMap<BlockId, Vec<String>> {
        self.inner.flaws.all()
    }

    /// The block that is due, if one is; none is when the process is about to end.
    pub fn cut_due(&self) -> Option<TimeRange> {
        if self.is_replaying() || self.inner.stopping.reason().is_some() {
            return None;
        }
        let stats = self.inner.head().stats();
        let span = stats.min_t.zip(stats.max_t);
        let span = span.map(|(min, max)| Interval { min, max });
        plan_cut(span, self.inner.settings.head.chunk_range_ms)
    }

    /// Cuts the block that is due; `None` when none is, or when its range holds no sample.
    ///
    /// Appends and queries go on meanwhile. The order is what makes a query see every sample: the range is closed, the
    /// block is written, every timeline learns of it, and only then the head lets go. [`Tsdb::stop_making_blocks`] ends
    /// it: nothing is left of the block, and the head keeps everything.
    pub fn cut(&self) -> Result<Option<BlockMeta>, TsdbError> {
        let _one_at_a_time = self.inner.cutting.lock();
        let Some(range) = self.cut_due() else {
            return Ok(None);
        };
        let result = self.inner.with_room(|| self.inner.cut(range));
        let counter = match &result {
            Ok(_) => &self.inner.counters.cuts,
            Err(_) => &self.inner.counters.cuts_failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        result
    }

    /// Deletes blocks beyond the retention for which `is_released` says yes; those deleted.
    ///
    /// With a shipper, a block is released when it is in the bucket and the gateway serves it.
    pub fn apply_retention(
        &self,
        is_released: &dyn Fn(&BlockMeta) -> bool,
    ) -> Result<Vec<BlockId>, TsdbError> {
        let inner = &self.inner;
        let _one_at_a_time = inner.cutting.lock();
        let blocks = self.blocks();
        let sizes: Vec<BlockSize> = blocks
            .iter()
            .map(|block| BlockSize {
                id: block.meta().ulid,
                range: block.meta().range(),
                n_bytes: block.n_bytes(),
            })
            .collect();
        let head = inner.head();
        let other_bytes = head.wal_bytes() + head.chunk_file_bytes() + head.redo_point_bytes();
        let mut settings = inner.settings.retention;
        if settings.percent.is_some() {
            let capacity = capacity_bytes(&inner.dir);
            settings =
                settings.on_capacity(capacity.map_err(TsdbError::io("inspect", &inner.dir))?);
        }
        let planned = plan_retention(&sizes, settings, other_bytes);
        let mut deleted = Vec::new();
        for (id, reason) in planned {
            let Some(block) = blocks.iter().find(|block| block.meta().ulid == id) else {
                continue;
            };
            let counter = match reason {
                _ if !is_released(block.meta()) => &inner.counters.retentions_held_back,
                RetentionReason::Time => &inner.counters.time_retentions,
                RetentionReason::Size => &inner.counters.size_retentions,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            if is_released(block.meta()) {
                self.delete_block(id)?;
                deleted.push(id);
            }
        }
        Ok(deleted)
    }

    /// When the disk is full, or nearly, deletes blocks of which the bucket has a copy, oldest first, until there is
    /// room; those deleted. Then looks whether samples can be taken again.
    pub fn make_room(
        &self,
        is_in_bucket: &dyn Fn(&BlockMeta) -> bool,
    ) -> Result<Vec<BlockId>, TsdbError> {
        let head = self.inner.head();
        let wanted_bytes = head.reserve_bytes();
        let mut deleted = Vec::new();
        for block in self.blocks() {
            let free = free_bytes(&self.inner.dir);
            let free = free.map_err(TsdbError::io("inspect", &self.inner.dir))?;
            let has_room = wanted_bytes <= free && !head.is_full();
            if has_room || !is_in_bucket(block.meta()) {
                continue;
            }
            let _one_at_a_time = self.inner.cutting.lock();
            let id = block.meta().ulid;
            // Its room is free when nobody maps its files, and it is to be seen before the next one goes.
            drop(block);
            let lent = head.lend_room();
            if self.delete_block(id)? {
                tracing::warn!(block = %id, "the disk is full: a local block goes of which the bucket has a copy");
                deleted.push(id);
            }
            drop(lent);
            head.resume();
        }
        if head.is_full() {
            head.resume();
        }
        Ok(deleted)
    }

    /// Takes a local block away. Queries that hold a timeline keep reading it.
    pub fn delete_block(&self, id: BlockId) -> Result<bool, TsdbError> {
        let mut gone = None;
        self.inner.replace(|now| {
            let (doomed, stay): (Vec<_>, Vec<_>) = now
                .blocks
                .iter()
                .cloned()
                .partition(|block| block.meta().ulid == id);
            gone = doomed.into_iter().next();
            Sources {
                blocks: stay,
                bucket: Arc::clone(&now.bucket),
                ..Sources::default()
            }
        });
        match gone {
            Some(block) => delete_block_dir(block.dir()).map(|()| true),
            None => Ok(false),
        }
    }

    /// Ends well: every commit survives the end of the machine, and the next start finds the head saved and replays
    /// nothing. What is committed after this is in the log only. While the log is still replayed nothing is saved.
    pub fn close(&self) -> Result<(), TsdbError> {
        self.sync()?;
        if self.is_replaying() {
            return Ok(());
        }
        let head = self.inner.head();
        let _one_at_a_time = self.inner.cutting.lock();
        // Without it the next start takes longer, and finds the same.
        match head.save() {
            Ok(Some(saved)) => {
                tracing::info!(
                    n_series = saved.n_series,
                    n_bytes = saved.n_bytes,
                    "saved the head"
                );
            }
            Ok(None) => tracing::warn!("the head is not saved: the log does not have all of it"),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "save the head");
            }
        }
        Ok(())
    }

    /// Makes every commit so far survive the end of the machine.
    pub fn sync(&self) -> Result<(), TsdbError> {
        let was_replaying = self.is_replaying();
        let clock = &*self.inner.clock;
        match self.inner.head().sync(clock) {
            // The young head is gone; the other one has what was asked for.
            Err(_) if was_replaying && !self.is_replaying() => Ok(self.inner.head().sync(clock)?),
            synced => Ok(synced?),
        }
    }
}

impl Inner {
    pub(crate) fn head(&self) -> &Head {
        self.heads.current()
    }

    /// Says no while the log is replayed.
    pub(crate) fn must_be_replayed(&self, what: &'static str) -> Result<(), TsdbError> {
        match self.heads.still_young() {
            Some(_) => Err(TsdbError::Replaying { what }),
            None => Ok(()),
        }
    }

    pub(crate) fn replace(&self, make: impl FnOnce(&Sources) -> Sources) {
        let _one_at_a_time = self.changing.lock();
        let now = self.sources.load_full();
        let next = Arc::new(make(&now));
        now.replaced_by(&next);
        self.flaws
            .retain(|id| next.blocks.iter().any(|block| block.meta().ulid == id));
        self.sources.store(next);
    }

    /// Runs what makes room. When it finds the disk full it runs once more, with what is held back for that.
    pub(crate) fn with_room<T>(
        &self,
        run: impl Fn() -> Result<T, TsdbError>,
    ) -> Result<T, TsdbError> {
        let lent = self.head().lend_room();
        let result = run();
        drop(lent);
        match result {
            Err(error) if error.is_full() && !self.head().is_full() => {
                self.head().note_full();
                let _lent = self.head().lend_room();
                run()
            }
            result => result,
        }
    }

    /// The series of a head, for whoever writes them to a block.
    pub(crate) fn for_block<I>(&self, series: I) -> HeadSeries<'_, I> {
        HeadSeries {
            series,
            stopping: &self.stopping,
        }
    }

    fn cut(&self, range: TimeRange) -> Result<Option<BlockMeta>, TsdbError> {
        self.head().close_before(range.max);
        let id = self.new_id();
        let view = self.head().view();
        let wanted = Interval {
            min: range.min,
            max: range.max.saturating_sub(1),
        };
        let mut series = self.for_block(view.series_in_order_in(wanted));
        let written = write_block(&self.dir, NewBlock::new(id, range), &mut series)?;
        drop(series);
        drop(view);
        if let Some(meta) = &written {
            // When it does not open, the head keeps the samples, and the next attempt writes another block.
            let block = self.open_new(meta)?;
            self.show_cut(block);
        }
        if written.is_none() {
            raise_floor(&self.dir, range.max)?;
        }
        self.head()
            .truncate_before_with(range.max, &self.stopping)?;
        Ok(written)
    }
}

impl Appendable for Tsdb {
    fn appender(&self) -> Box<dyn Appender + '_> {
        self.inner.heads.appender()
    }
}
