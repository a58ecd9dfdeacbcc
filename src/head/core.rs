//! The head as a whole, and what its parts share.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::head::append::Staging;
use crate::head::chunk_files::{ChunkFiles, ChunkToWrite};
use crate::head::commit::Committer;
use crate::head::delete::Deleted;
use crate::head::exemplars::ExemplarStore;
use crate::head::late::Late;
use crate::head::map::SeriesMap;
use crate::head::open_chunk::ChunkRules;
use crate::head::postings::Postings;
use crate::head::room::Room;
use crate::head::series::{CommitId, MemSeries};
use crate::head::stats::{Counters, count};
use crate::head::sync::GroupSync;
use crate::model::{Interval, Labels, Metadata, SeriesKey, TimestampMs};
use crate::storage::SeriesRef;
use crate::wal::{SegmentNumber, WalCounters, WalSettings, list_segments};

/// How the head works.
#[derive(Debug, Clone, Copy)]
pub struct HeadSettings {
    /// Length of the aligned ranges that become blocks; no chunk crosses their edges.
    pub chunk_range_ms: i64,
    /// The log.
    pub wal: WalSettings,
    /// A file of closed chunks is closed before it grows beyond this.
    pub chunk_file_bytes_max: u64,
    /// Floats go into XOR2 chunks, which Prometheus reads since version 3.
    pub writes_xor2: bool,
    /// Keeps since when samples count, in chunks and log records that Prometheus reads since version 3.
    pub keeps_start_times: bool,
    /// Held back on the disk, so that there is room for closing and deleting when it is full; none when zero.
    pub reserve_bytes: u64,
    /// So many exemplars are kept; none when zero.
    pub exemplars_max: usize,
    /// Samples as much older than the newest one are taken out of order; none when zero.
    pub out_of_order_window_ms: i64,
}

impl HeadSettings {
    pub(crate) fn chunk_rules(&self) -> ChunkRules {
        ChunkRules {
            range_ms: self.chunk_range_ms,
            writes_xor2: self.writes_xor2,
            keeps_starts: self.keeps_start_times,
        }
    }
}

impl Default for HeadSettings {
    fn default() -> Self {
        Self {
            chunk_range_ms: 2 * 3_600_000,
            wal: WalSettings::default(),
            chunk_file_bytes_max: crate::chunk::HEAD_FILE_BYTES_MAX,
            writes_xor2: false,
            keeps_start_times: false,
            reserve_bytes: 0,
            exemplars_max: 100_000,
            out_of_order_window_ms: 0,
        }
    }
}

/// The newest samples: in memory, with a log that brings them back. Clones are the same head.
#[derive(Debug, Clone)]
pub struct Head {
    inner: Arc<Inner>,
}

/// Locks are taken in this order: committer, mapping turn, mapping, a shard of the series map, postings or metadata, a series.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) settings: HeadSettings,
    pub(crate) wal_dir: PathBuf,
    pub(crate) series: SeriesMap,
    pub(crate) postings: RwLock<Postings>,
    pub(crate) metadata: RwLock<BTreeMap<String, Arc<Metadata>>>,
    pub(crate) files: ChunkFiles,
    pub(crate) next_series: AtomicU64,
    pub(crate) bounds: Bounds,
    pub(crate) views: Views,
    /// What is hidden from readers.
    pub(crate) deleted: Deleted,
    pub(crate) exemplars: ExemplarStore,
    /// What came out of order.
    pub(crate) late: Late,
    pub(crate) counters: Counters,
    /// One commit at a time: the order of the log is the order in memory.
    pub(crate) committer: Mutex<Committer>,
    /// Series whose closed chunks want to be mapped; held only to put some there or to take them.
    pub(crate) mapping: Mutex<Vec<Arc<MemSeries>>>,
    /// Held while chunks are mapped, and while they are dropped. No commit waits for it.
    pub(crate) mapping_turn: Mutex<()>,
    /// Staging buffers that are not in use.
    pub(crate) staging: Mutex<Vec<Staging>>,
    /// Numbers the log still may mention beside the living series.
    pub(crate) retired: Mutex<Retired>,
    /// The segment being written.
    pub(crate) wal_segment: AtomicU32,
    /// What the log counts.
    pub(crate) wal_counters: Arc<WalCounters>,
    /// Who waits for the disk waits together.
    pub(crate) syncing: GroupSync,
    /// Whether the disk has room.
    pub(crate) room: Room,
}

/// Series numbers that only the log knows.
#[derive(Debug, Default)]
pub(crate) struct Retired {
    /// Dropped series, and the segment being written when they went: until it is gone, so must their labels stay.
    pub(crate) removed: HashMap<u64, SegmentNumber, foldhash::fast::RandomState>,
    /// Other numbers of living series.
    pub(crate) aliases: HashMap<u64, u64, foldhash::fast::RandomState>,
    /// Numbers that another head gave, whose samples were taken over, and those of the series here; sorted.
    pub(crate) successors: Vec<(u64, u64)>,
    /// The log says of some series that it left the head early. A replay then lets go of all its chunks, those too that
    /// were closed under its number later, and takes what came later from the log.
    pub(crate) has_left: bool,
}

impl Retired {
    /// The series that took over from `series` of another head.
    pub(crate) fn successor(&self, series: SeriesRef) -> Option<SeriesRef> {
        let there = series.of_young()?;
        let at = self
            .successors
            .binary_search_by_key(&there, |(there, _)| *there);
        let (_, here) = self.successors.get(at.ok()?)?;
        Some(SeriesRef(*here))
    }
}

/// The time the head spans, and from when on it takes samples.
#[derive(Debug)]
pub(crate) struct Bounds {
    min: AtomicI64,
    max: AtomicI64,
    floor: AtomicI64,
}

impl Bounds {
    pub(crate) fn new(floor: TimestampMs) -> Self {
        Self {
            min: AtomicI64::new(i64::MAX),
            max: AtomicI64::new(i64::MIN),
            floor: AtomicI64::new(floor),
        }
    }

    /// `None` while there is no sample.
    pub(crate) fn get(&self) -> Option<Interval> {
        let (min, max) = (
            self.min.load(Ordering::SeqCst),
            self.max.load(Ordering::SeqCst),
        );
        (min <= max).then_some(Interval { min, max })
    }

    pub(crate) fn floor(&self) -> TimestampMs {
        self.floor.load(Ordering::SeqCst)
    }

    pub(crate) fn extend(&self, span: Interval) {
        self.min.fetch_min(span.min, Ordering::SeqCst);
        self.max.fetch_max(span.max, Ordering::SeqCst);
    }

    pub(crate) fn raise_floor(&self, floor: TimestampMs) {
        self.floor.fetch_max(floor, Ordering::SeqCst);
    }

    /// The oldest sample is now at `min` or later.
    pub(crate) fn raise_min(&self, min: TimestampMs) {
        self.min.fetch_max(min, Ordering::SeqCst);
    }
}

/// Which commits are visible, and the oldest state any reader still looks at.
#[derive(Debug, Default)]
pub(crate) struct Views {
    published: AtomicU64,
    open: Mutex<BTreeMap<CommitId, usize>>,
}

impl Views {
    /// Registers a reader of everything published so far.
    pub(crate) fn open(&self) -> CommitId {
        let mut open = self.open.lock();
        let view = self.published.load(Ordering::SeqCst);
        *open.entry(view).or_default() += 1;
        view
    }

    pub(crate) fn close(&self, view: CommitId) {
        let mut open = self.open.lock();
        if let Some(n) = open.get_mut(&view) {
            *n -= 1;
            if *n == 0 {
                open.remove(&view);
            }
        }
    }

    /// No reader looks at, or will look at, a state older than this.
    pub(crate) fn oldest(&self) -> CommitId {
        let open = self.open.lock();
        let published = self.published.load(Ordering::SeqCst);
        open.keys().next().copied().unwrap_or(published)
    }

    pub(crate) fn publish(&self, id: CommitId) {
        self.published.store(id, Ordering::SeqCst);
    }
}

impl Head {
    pub(crate) fn from_inner(inner: Inner) -> Self {
        Self {
            inner: Arc::new(inner),
        }
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// The settings it was opened with.
    pub fn settings(&self) -> HeadSettings {
        self.inner.settings
    }

    /// Why no more samples are taken, if so.
    pub fn poisoned(&self) -> Option<String> {
        let committer = self.inner.committer.lock();
        committer.wal.poisoned().map(str::to_owned)
    }

    /// What metrics say about themselves, by metric name.
    pub fn metadata(&self) -> Vec<(String, Arc<Metadata>)> {
        self.inner
            .metadata
            .read()
            .iter()
            .map(|(name, metadata)| (name.clone(), Arc::clone(metadata)))
            .collect()
    }

    /// Bytes of the log on disk, out-of-order samples included.
    pub fn wal_bytes(&self) -> u64 {
        let mut dirs = vec![self.inner.wal_dir.clone()];
        if let Ok(Some(checkpoint)) = crate::wal::last_checkpoint(&self.inner.wal_dir) {
            dirs.push(checkpoint.path);
        }
        dirs.push(self.inner.late.dir.clone());
        let segments = dirs.iter().filter_map(|dir| list_segments(dir).ok());
        segments.flatten().map(|segment| segment.n_bytes).sum()
    }

    /// Bytes of the redo point.
    pub fn redo_point_bytes(&self) -> u64 {
        self.inner.redo_point_bytes()
    }

    /// Bytes of the mapped chunk files.
    pub fn chunk_file_bytes(&self) -> u64 {
        self.inner.files.n_bytes()
    }
}

impl Inner {
    /// The living series of `labels`, made when there is none.
    pub(crate) fn get_or_create(&self, key: SeriesKey, labels: &Labels) -> Arc<MemSeries> {
        let (series, is_new) = self.series.get_or_insert(key, || {
            let number = self.next_series.fetch_add(1, Ordering::SeqCst) + 1;
            Arc::new(MemSeries::new(number, key, labels.clone()))
        });
        if is_new {
            self.postings.write().insert(series.series, &series.labels);
            count(&self.counters.series_created, 1);
        }
        series
    }

    /// Moves closed chunks from memory to files. A failure leaves them in memory, where they are read from; so does
    /// somebody who has the turn, until the next commit.
    pub(crate) fn map_closed_chunks(&self) {
        if self.mapping.lock().is_empty() {
            return;
        }
        let Some(_turn) = self.mapping_turn.try_lock() else {
            return;
        };
        let mut queue = std::mem::take(&mut *self.mapping.lock());
        // A series that closed two chunks is here twice; both are taken together.
        queue.sort_unstable_by_key(|series| series.series);
        queue.dedup_by(|left, right| Arc::ptr_eq(left, right));
        let mut chunks = Vec::new();
        let mut owners: Vec<(Arc<MemSeries>, usize)> = Vec::new();
        for series in queue.drain(..) {
            let state = series.lock();
            let before = chunks.len();
            chunks.extend(state.closed().iter().map(|chunk| ChunkToWrite {
                series: series.series,
                min_t: chunk.min_t,
                max_t: chunk.max_t,
                is_out_of_order: false,
                encoding: chunk.encoding,
                data: chunk.data.clone(),
            }));
            drop(state);
            owners.push((series, chunks.len() - before));
        }
        match self.files.write(&chunks) {
            Ok(places) => {
                let mut rest = places.as_slice();
                for (series, n) in owners {
                    let (mine, after) = rest.split_at_checked(n).unwrap_or((rest, &[]));
                    series.lock().set_mapped(mine);
                    rest = after;
                }
                count(&self.counters.chunks_mapped, places.len() as u64);
            }
            Err(error) => {
                count(&self.counters.chunk_file_failures, 1);
                tracing::warn!(%error, "closed chunks stay in memory");
            }
        }
    }
}

/// Where the parts of a head lie in a data directory.
#[derive(Debug)]
pub(crate) struct HeadDirs {
    pub(crate) wal: PathBuf,
    pub(crate) wbl: PathBuf,
    pub(crate) chunks: PathBuf,
    pub(crate) quarantine: PathBuf,
    pub(crate) reserve: PathBuf,
}

impl HeadDirs {
    pub(crate) fn of(data: &Path) -> Self {
        Self {
            wal: data.join("wal"),
            wbl: data.join("wbl"),
            chunks: data.join("chunks_head"),
            quarantine: data.join("quarantine"),
            reserve: data.join("disk-reserve"),
        }
    }
}
