//! Opening: with everything replayed, or at once with a young head that takes samples meanwhile.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::block::TMP_FOR_DELETION;
use crate::foundation::durable::{create_dirs, remove_dir_all, rename_durably};
use crate::foundation::{Cancel, Clock};
use crate::head::{Head, HeadSettings, ReplayProgress, ReplayReport, TakeOver, TakenOver};
use crate::model::{Interval, TimestampMs};
use crate::storage::Flaws;
use crate::tsdb::TsdbError;
use crate::tsdb::db::{Inner, Tsdb, TsdbSettings};
use crate::tsdb::floor::read_floor;
use crate::tsdb::heads::{Heads, Young};
use crate::tsdb::load::load;
use crate::tsdb::lock::DirLock;
use crate::tsdb::stats::Counters;
use crate::tsdb::timeline::Sources;
use crate::wal::{last_checkpoint, list_segments};

/// The data directory of the young head, within that of the database. Prometheus looks at no directory of that name.
pub(crate) const YOUNG_DIR: &str = "head-young";
/// Files of a young head are closed at this size; they live for minutes.
const YOUNG_FILE_BYTES_MAX: u64 = 16 << 20;
/// Appends are paused for the rest once the last pass over the young log was shorter than this.
const PAUSED_BYTES_MAX: u64 = 256 << 10;
/// Passes over the young log after which they are paused whatever is left.
const PASSES_MAX: usize = 16;

/// A database that takes samples while its log is still to be replayed.
///
/// Until [`Opening::run`] has returned, nothing is cut, deleted or copied, and answers say what they cannot have yet.
#[derive(Debug)]
pub struct Opening {
    tsdb: Tsdb,
    floor: TimestampMs,
    progress: Arc<ReplayProgress>,
    replayed: Option<(Head, ReplayReport)>,
}

impl Tsdb {
    /// Opens `dir`, making it when it is not there. Damaged content never stops it: see [`Tsdb::quarantined`].
    pub fn open(
        dir: &Path,
        settings: TsdbSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TsdbError> {
        Self::open_watched(dir, settings, clock, &Arc::default())
    }

    /// [`Tsdb::open`] that tells how far the replay is.
    pub fn open_watched(
        dir: &Path,
        settings: TsdbSettings,
        clock: Arc<dyn Clock>,
        progress: &Arc<ReplayProgress>,
    ) -> Result<Self, TsdbError> {
        let (tsdb, opening) = open(dir, settings, (clock, progress), false)?;
        if let Some(mut opening) = opening {
            opening.run()?;
        }
        Ok(tsdb)
    }

    /// Opens `dir` without reading the log: samples are taken at once, and the rest comes with [`Opening::run`]. `None`
    /// where there is nothing to be replayed.
    pub fn open_at_once(
        dir: &Path,
        settings: TsdbSettings,
        clock: Arc<dyn Clock>,
        progress: &Arc<ReplayProgress>,
    ) -> Result<(Self, Option<Opening>), TsdbError> {
        let is_empty = log_is_empty(dir)?;
        open(dir, settings, (clock, progress), !is_empty)
    }

    /// Whether the log is still being replayed.
    pub fn is_replaying(&self) -> bool {
        self.inner().heads.still_young().is_some()
    }
}

fn open(
    dir: &Path,
    settings: TsdbSettings,
    (clock, progress): (Arc<dyn Clock>, &Arc<ReplayProgress>),
    at_once: bool,
) -> Result<(Tsdb, Option<Opening>), TsdbError> {
    create_dirs(dir).map_err(TsdbError::io("create", dir))?;
    let lock = DirLock::take(dir)?;
    let loaded = load(dir)?;
    let in_order = loaded
        .blocks
        .iter()
        .filter(|block| !block.meta().is_partial());
    let blocks_end = in_order.map(|block| block.meta().max_time).max();
    let floor = blocks_end.unwrap_or(i64::MIN).max(read_floor(dir));
    let young_dir = dir.join(YOUNG_DIR);
    let doomed = doomed(&young_dir);
    if doomed.is_dir() {
        remove_dir_all(&doomed).map_err(TsdbError::io("remove", &doomed))?;
    }
    let replayed = OnceLock::new();
    // What a young head held when the process ended is not in the log yet.
    let has_young = at_once || young_dir.is_dir();
    let heads = if has_young {
        create_dirs(&young_dir).map_err(TsdbError::io("create", &young_dir))?;
        let nobody = ReplayProgress::default();
        let (head, _) = Head::open(&young_dir, young_settings(settings.head), floor, &nobody)?;
        let missing = Interval {
            min: floor.saturating_sub(settings.head.out_of_order_window_ms),
            max: clock.now_ms(),
        };
        Heads::young(head, Young::new(young_dir, missing, Arc::clone(progress)))
    } else {
        let (head, report) = Head::open(dir, settings.head, floor, progress)?;
        replayed.set(report).ok();
        Heads::replayed(head)
    };
    let sources = Sources {
        blocks: loaded.blocks,
        ..Sources::default()
    };
    let tsdb = Tsdb::from_inner(Inner {
        dir: dir.to_owned(),
        settings,
        clock,
        heads: Arc::new(heads),
        sources: ArcSwap::from_pointee(sources),
        quarantined: Mutex::new(loaded.quarantined),
        replayed,
        counters: Counters::default(),
        flaws: Flaws::default(),
        changing: Mutex::new(()),
        cutting: Mutex::new(()),
        last_stale_ms: AtomicI64::new(i64::MIN),
        last_redo_ms: AtomicI64::new(i64::MIN),
        stopping: Cancel::new(),
        _lock: lock,
    });
    let opening = has_young.then(|| Opening {
        tsdb: tsdb.clone(),
        floor,
        progress: Arc::clone(progress),
        replayed: None,
    });
    Ok((tsdb, opening))
}

impl Opening {
    /// Replays the log, takes over what the young head holds, and puts the replayed head in its place. Appends wait for
    /// the last of it only.
    ///
    /// After an error the database goes on with the young head, and this may be called again: nothing is lost, and nothing
    /// comes twice.
    pub fn run(&mut self) -> Result<TakenOver, TsdbError> {
        let inner = self.tsdb.inner();
        let Some((young, about)) = inner.heads.still_young() else {
            return Ok(TakenOver::default());
        };
        let (head, report) = match &self.replayed {
            Some(replayed) => replayed,
            None => {
                let settings = inner.settings.head;
                let opened = Head::open(&inner.dir, settings, self.floor, &self.progress)?;
                self.replayed.insert(opened)
            }
        };
        if head.is_full() {
            head.resume();
        }
        let tune = || {
            head.set_out_of_order_window(young.out_of_order_window());
            head.set_exemplars_max(young.exemplar_stats().n_max);
        };
        tune();
        let mut take_over = TakeOver::new(head, &about.dir);
        for _ in 0..PASSES_MAX {
            if take_over.read(young.close_segments()?)? <= PAUSED_BYTES_MAX {
                break;
            }
        }
        // No block is cut before the young log is gone: what it holds must be in the head for as long.
        let _one_at_a_time = inner.cutting.lock();
        let pause = about.turns.pause();
        take_over.read(young.close_segments()?)?;
        // The young log is the only one that has it, until this one is on the disk.
        head.sync(&*inner.clock)?;
        let taken = take_over.finish();
        inner.replayed.set(*report).ok();
        let changing = inner.changing.lock();
        tune();
        inner.heads.replace(head.clone());
        drop((changing, pause));
        young.abandon();
        remove_young(&about.dir)?;
        self.replayed = None;
        Ok(taken)
    }
}

impl Opening {
    /// Whether [`Opening::run`] can go on once the disk has room.
    pub fn is_full(&self) -> bool {
        let replayed = self
            .replayed
            .as_ref()
            .is_some_and(|(head, _)| head.is_full());
        replayed || self.tsdb.head().is_full()
    }
}

/// Renames first, so that half of it is never taken for a log.
fn remove_young(dir: &Path) -> Result<(), TsdbError> {
    let doomed = doomed(dir);
    rename_durably(dir, &doomed).map_err(TsdbError::io("rename", dir))?;
    remove_dir_all(&doomed).map_err(TsdbError::io("remove", &doomed))
}

fn doomed(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(TMP_FOR_DELETION);
    dir.with_file_name(name)
}

fn young_settings(settings: HeadSettings) -> HeadSettings {
    let mut young = HeadSettings {
        // The replayed head holds it back.
        reserve_bytes: 0,
        chunk_file_bytes_max: settings.chunk_file_bytes_max.min(YOUNG_FILE_BYTES_MAX),
        ..settings
    };
    young.wal.segment_bytes_max = settings.wal.segment_bytes_max.min(YOUNG_FILE_BYTES_MAX);
    young
}

/// Is there nothing to be replayed?
fn log_is_empty(dir: &Path) -> Result<bool, TsdbError> {
    let wal = dir.join("wal");
    let wbl = dir.join("wbl");
    if wal.is_dir()
        && last_checkpoint(&wal)
            .map_err(crate::head::HeadError::from)?
            .is_some()
    {
        return Ok(false);
    }
    for log in [wal, wbl] {
        if !log.is_dir() {
            continue;
        }
        let segments = list_segments(&log).map_err(crate::head::HeadError::from)?;
        if segments.iter().any(|segment| 0 < segment.n_bytes) {
            return Ok(false);
        }
    }
    Ok(true)
}
