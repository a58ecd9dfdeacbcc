//! The head as it was: chunk files, then the snapshot of a clean stop, or the checkpoint, then the log; from the redo point on,
//! where that is newer than the snapshot.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;

use parking_lot::{Mutex, RwLock};

use crate::head::HeadError;
use crate::head::chunk_files::{ChunkFiles, FoundChunks};
use crate::head::commit::Committer;
use crate::head::core::{Bounds, Head, HeadDirs, HeadSettings, Inner, Retired, Views};
use crate::head::delete::Deleted;
use crate::head::exemplars::ExemplarStore;
use crate::head::late::Late;
use crate::head::map::SeriesMap;
use crate::head::postings::Postings;
use crate::head::progress::ReplayProgress;
use crate::head::redo::{
    NewestChunks, RedoPoint, remove_unfinished_redo_point, tell_unusable as tell_unusable_redo,
};
use crate::head::replay_apply::Applied;
use crate::head::replay_lanes::Lanes;
use crate::head::replay_read::Reader;
use crate::head::replay_turns::{Ahead, Log, ReadsFirst, ToRead, read_segments};
use crate::head::room::{Room, free_reserve};
use crate::head::save::remove_unfinished_snapshot;
use crate::head::saved::{FILE_NAME, Position, Saved};
use crate::head::stats::{Counters, count};
use crate::head::sync::GroupSync;
use crate::head::truncate::retire;
use crate::head::wbl::OutOfOrderLog;
use crate::model::{Interval, TimestampMs};
use crate::wal::{
    RepairOutcome, SegmentFile, Wal, last_checkpoint, list_segments, remove_unfinished,
    repair_segment,
};

/// What a replay found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplayReport {
    /// Segments read, those of the checkpoint included.
    pub n_segments: u32,
    /// Series records.
    pub n_series: u64,
    /// Samples taken from the log.
    pub n_samples: u64,
    /// Samples not taken: already in a block or a mapped chunk.
    pub n_samples_old: u64,
    /// Mapped chunks taken over.
    pub n_chunks_mapped: u64,
    /// Entries whose series is not known.
    pub n_unknown_refs: u64,
    /// Records of kinds nobody knows.
    pub n_records_skipped: u64,
    /// Of the mapped chunks those with out-of-order samples.
    pub n_out_of_order_chunks: u64,
    /// Damaged places.
    pub n_damages: u64,
    /// Series taken from the snapshot of a clean stop.
    pub n_restored: u64,
    /// Records not read further: chunk files and the redo point have their samples.
    pub n_records_redone: u64,
    /// Chunks taken from the redo point.
    pub n_chunks_redone: u64,
}

impl ReplayReport {
    pub(crate) fn add(&mut self, other: &Self) {
        let Self {
            n_segments,
            n_series,
            n_samples,
            n_samples_old,
            n_chunks_mapped,
            n_unknown_refs,
            n_records_skipped,
            n_out_of_order_chunks,
            n_damages,
            n_restored,
            n_records_redone,
            n_chunks_redone,
        } = other;
        self.n_segments += n_segments;
        self.n_series += n_series;
        self.n_samples += n_samples;
        self.n_samples_old += n_samples_old;
        self.n_chunks_mapped += n_chunks_mapped;
        self.n_unknown_refs += n_unknown_refs;
        self.n_records_skipped += n_records_skipped;
        self.n_out_of_order_chunks += n_out_of_order_chunks;
        self.n_damages += n_damages;
        self.n_restored += n_restored;
        self.n_records_redone += n_records_redone;
        self.n_chunks_redone += n_chunks_redone;
    }
}

/// What is read, and into what.
struct Replay<'a> {
    settings: HeadSettings,
    /// Where what is written from now on goes.
    dirs: &'a HeadDirs,
    floor: TimestampMs,
    segments: Vec<SegmentFile>,
    /// Those of the log of out-of-order samples.
    late_segments: Vec<SegmentFile>,
    /// What was saved; only what came later is read.
    saved: Option<&'a Saved>,
    /// From where on the log has floats that are nowhere else, if that is known; with the data directory.
    redo: Option<(RedoPoint, &'a Path)>,
    /// The chunks of the redo point.
    newest: NewestChunks,
    n_threads: usize,
    progress: &'a ReplayProgress,
}

impl Head {
    /// Opens the head of data directory `data`; samples before `floor` are in blocks already.
    ///
    /// Never fails for damaged content: what does not decode is cut, skipped or set aside, and counted.
    pub fn open(
        data: &Path,
        settings: HeadSettings,
        floor: TimestampMs,
        progress: &ReplayProgress,
    ) -> Result<(Self, ReplayReport), HeadError> {
        Self::open_with(data, (settings, floor), progress, n_threads())
    }

    /// The same, with so many threads that apply what is read.
    pub(crate) fn open_with(
        data: &Path,
        (settings, floor): (HeadSettings, TimestampMs),
        progress: &ReplayProgress,
        n_threads: usize,
    ) -> Result<(Self, ReplayReport), HeadError> {
        let dirs = HeadDirs::of(data);
        free_reserve(&dirs.reserve);
        remove_unfinished(&dirs.wal)?;
        remove_unfinished_snapshot(data)?;
        remove_unfinished_redo_point(data)?;
        let saved = usable_snapshot(data, settings, &dirs);
        let redo = RedoPoint::open(data, &dirs).filter(|(redo, _)| {
            // A snapshot does not know chunks that were written after it, so it is the one or the other.
            (saved.as_ref()).is_none_or(|saved| redo.is_beyond(&saved.position.wal))
        });
        let open = |saved: Option<&Saved>, redo: Option<(RedoPoint, NewestChunks)>| {
            let (redo, newest) = redo.unzip();
            let replay = Replay {
                settings,
                dirs: &dirs,
                floor,
                segments: segments_of(&dirs)?,
                late_segments: list_segments(&dirs.wbl)?,
                saved,
                redo: redo.map(|redo| (redo, data)),
                newest: newest.unwrap_or_default(),
                n_threads,
                progress,
            };
            replay.run()
        };
        let from_redo = redo.is_some();
        let opened = match redo {
            Some(redo) => open(None, Some(redo)),
            None => open(saved.as_ref(), None),
        };
        let (head, report, damaged) = match opened {
            Err(HeadError::Snapshot(reason)) => {
                if from_redo {
                    tell_unusable_redo(data, &reason);
                } else {
                    tell_unusable(data, &reason);
                }
                open(None, None)?
            }
            opened => opened?,
        };
        repair(&damaged, &dirs.quarantine)?;
        Ok((head, report))
    }

    /// The head of data directory `data`, of which nothing is changed: what a replay writes goes below `scratch`.
    ///
    /// Closed chunks of `data` are not looked at, for their samples are in the log too.
    pub fn open_read_only(
        data: &Path,
        scratch: &Path,
        settings: HeadSettings,
        floor: TimestampMs,
    ) -> Result<(Self, ReplayReport), HeadError> {
        let theirs = HeadDirs::of(data);
        let segments = segments_of(&theirs)?;
        let dirs = HeadDirs::of(scratch);
        let settings = HeadSettings {
            reserve_bytes: 0,
            ..settings
        };
        let replay = Replay {
            settings,
            dirs: &dirs,
            floor,
            segments,
            late_segments: list_segments(&theirs.wbl)?,
            saved: None,
            redo: None,
            newest: NewestChunks::default(),
            n_threads: n_threads(),
            progress: &ReplayProgress::default(),
        };
        let (head, report, _) = replay.run()?;
        Ok((head, report))
    }
}

/// The thread that reads is often done with its part before they are with theirs, so there is one for each core.
fn n_threads() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// The snapshot of a clean stop, if it fits the log that is there.
fn usable_snapshot(data: &Path, settings: HeadSettings, dirs: &HeadDirs) -> Option<Saved> {
    let saved = match Saved::open(&data.join(FILE_NAME)) {
        Ok(saved) => saved?,
        Err(reason) => {
            tell_unusable(data, &reason);
            return None;
        }
    };
    let position = &saved.position;
    let mismatch = position.mismatch(settings.chunk_range_ms, (&dirs.wal, &dirs.wbl));
    let reason = match mismatch {
        Ok(None) => return Some(saved),
        Ok(Some(reason)) => reason.to_owned(),
        Err(error) => error.to_string(),
    };
    tell_unusable(data, &reason);
    None
}

fn tell_unusable(data: &Path, reason: &str) {
    let path = data.join(FILE_NAME);
    tracing::warn!(path = %path.display(), reason, "the head snapshot is not used: the whole log is replayed");
}

/// The segments to be read: those of the newest checkpoint, then those behind it.
fn segments_of(dirs: &HeadDirs) -> Result<Vec<SegmentFile>, HeadError> {
    let mut segments = Vec::new();
    let checkpoint = last_checkpoint(&dirs.wal)?;
    if let Some(checkpoint) = &checkpoint {
        segments.extend(list_segments(&checkpoint.path)?);
    }
    let folded_in = checkpoint.map(|checkpoint| checkpoint.number);
    segments.extend(
        list_segments(&dirs.wal)?
            .into_iter()
            .filter(|segment| folded_in.is_none_or(|folded_in| folded_in < segment.number)),
    );
    Ok(segments)
}

impl Replay<'_> {
    /// The head, what was found, and the segments to be repaired.
    fn run(mut self) -> Result<(Head, ReplayReport, Vec<PathBuf>), HeadError> {
        let newest = std::mem::take(&mut self.newest);
        let segments = self.to_read();
        let ahead = Ahead::new(&segments);
        thread::scope(|scope| {
            let first = ahead.begin(scope, self.n_threads);
            self.run_ahead((&ahead, first), &segments, newest)
        })
    }

    /// The same, while a thread reads `segments` already.
    fn run_ahead(
        &self,
        (ahead, first): (&Ahead<'_>, ReadsFirst<'_>),
        segments: &[ToRead<'_>],
        newest: NewestChunks,
    ) -> Result<(Head, ReplayReport, Vec<PathBuf>), HeadError> {
        let n_bytes_max = self.settings.chunk_file_bytes_max;
        let (files, mut found) =
            ChunkFiles::open(&self.dirs.chunks, n_bytes_max, &self.dirs.quarantine)?;
        let redo = self.redo.as_ref();
        let holds = redo.is_some_and(|(redo, data)| redo.holds(data, &files, &found));
        ahead.pass_over(holds);
        let newest = if holds {
            newest
        } else {
            NewestChunks::default()
        };
        let wal = Wal::open(&self.dirs.wal, self.settings.wal)?;
        let wbl = OutOfOrderLog::open(&self.dirs.wbl, self.settings.wal)?;
        let inner = self.empty_head(files, found.series_max, (wal, wbl));
        let (applied, damaged) = thread::scope(|scope| {
            let (lanes, threads) = Lanes::start(scope, self.n_threads, &inner, self.progress)?;
            let mut reader = Reader::new(&inner, (&mut found, newest), lanes);
            let read = self.read(segments, (ahead, first), &mut reader);
            let (report, damaged) = reader.finish();
            let mut applied = threads.join()?;
            read?;
            if let Some(reason) = applied.failed.take() {
                return Err(HeadError::Snapshot(reason));
            }
            applied.report.add(&report);
            Ok::<_, HeadError>((applied, damaged))
        })?;
        let report = finish(&inner, &found, applied);
        Ok((Head::from_inner(inner), report, damaged))
    }

    /// The segments that are to be read, in their order: those of out-of-order samples once all series are known.
    fn to_read(&self) -> Vec<ToRead<'_>> {
        let nothing = Position::default();
        let saved = self.saved.map_or(&nothing, |saved| &saved.position);
        let is_of_log = |segment: &SegmentFile| segment.path.parent() == Some(&self.dirs.wal);
        // A checkpoint is older than any snapshot that is used.
        let in_order = (self.segments.iter())
            .filter(|segment| self.saved.is_none() || is_of_log(segment))
            .filter_map(|segment| {
                let number = is_of_log(segment).then_some(segment.number);
                let redo = self.redo.as_ref().zip(number);
                Some(ToRead {
                    segment,
                    log: Log::InOrder,
                    from: saved.wal.later_from(segment.number)?,
                    redone_to: redo.map_or(0, |((redo, _), number)| redo.redone_to(number)),
                    number,
                })
            });
        let late = self.late_segments.iter().filter_map(|segment| {
            Some(ToRead {
                segment,
                log: Log::OutOfOrder,
                from: saved.wbl.later_from(segment.number)?,
                redone_to: 0,
                number: None,
            })
        });
        in_order.chain(late).collect()
    }

    fn read(
        &self,
        segments: &[ToRead<'_>],
        ahead: (&Ahead<'_>, ReadsFirst<'_>),
        reader: &mut Reader<'_>,
    ) -> Result<(), HeadError> {
        let numbers = segments.iter().filter_map(|to_read| to_read.number);
        let numbers = numbers.clone().min().zip(numbers.max());
        let n_bytes = segments.iter().map(|it| it.segment.n_bytes).sum();
        self.progress.begin(segments.len(), n_bytes, numbers);
        if let Some(saved) = self.saved {
            reader.restore(saved).map_err(HeadError::Snapshot)?;
        }
        let n_redone = read_segments(ahead, reader, self.progress, self.n_threads)?;
        reader.report.n_records_redone += n_redone;
        if self.late_segments.is_empty() && self.saved.is_none() {
            reader.unmarked_chunks();
        }
        Ok(())
    }

    fn empty_head(
        &self,
        files: ChunkFiles,
        series_max: u64,
        (wal, wbl): (Wal, OutOfOrderLog),
    ) -> Inner {
        let settings = self.settings;
        let segment = wal.segment();
        let wal_counters = Arc::clone(wal.counters());
        Inner {
            settings,
            wal_dir: self.dirs.wal.clone(),
            series: SeriesMap::new(),
            postings: RwLock::new(Postings::default()),
            metadata: RwLock::default(),
            files,
            next_series: AtomicU64::new(series_max),
            bounds: Bounds::new(self.floor),
            views: Views::default(),
            deleted: Deleted::default(),
            exemplars: ExemplarStore::new(settings.exemplars_max),
            late: Late::new(
                &self.dirs.wbl,
                Arc::clone(&wbl.numbers),
                settings.out_of_order_window_ms,
            ),
            counters: Counters::default(),
            committer: Mutex::new(Committer::new(wal, wbl)),
            mapping: Mutex::default(),
            mapping_turn: Mutex::default(),
            staging: Mutex::default(),
            retired: Mutex::new(Retired::default()),
            wal_segment: AtomicU32::new(segment),
            wal_counters,
            syncing: GroupSync::default(),
            room: Room::open(self.dirs.reserve.clone(), settings.reserve_bytes),
        }
    }
}

fn repair(damaged: &[PathBuf], quarantine: &Path) -> Result<(), HeadError> {
    for path in damaged {
        match repair_segment(path, quarantine)? {
            RepairOutcome::Intact => (),
            RepairOutcome::Cut { n_bytes } => {
                tracing::warn!(path = %path.display(), n_bytes, "cut the torn end of the log");
            }
            RepairOutcome::Salvaged { n_records } => {
                tracing::warn!(path = %path.display(), n_records, "wrote the readable records anew and set the damaged segment aside");
            }
        }
    }
    Ok(())
}

/// Everything is read and applied.
fn finish(inner: &Inner, found: &FoundChunks, applied: Applied) -> ReplayReport {
    inner.map_closed_chunks();
    applied.publish(inner);
    let Applied {
        report,
        span,
        mut left,
        ..
    } = applied;
    left.retain(|series| {
        let mut state = series.lock();
        state.is_dead = state.n_chunks() == 0;
        state.is_dead
    });
    left.sort_unstable_by_key(|series| series.series);
    left.dedup_by_key(|series| series.series);
    let segment = inner.wal_segment.load(Ordering::Relaxed);
    retire(inner, &left, segment);
    let counters = &inner.counters;
    // Late ones were counted where they took the place of samples that waited.
    let n_chunks = report.n_chunks_mapped - report.n_out_of_order_chunks;
    count(&counters.chunks_created, n_chunks);
    count(&counters.chunk_file_corruptions, found.n_corruptions);
    count(&counters.wal_corruptions, report.n_damages);
    count(&counters.wal_unknown_refs, report.n_unknown_refs);
    count(&counters.wal_skipped_records, report.n_records_skipped);
    if report.n_records_skipped > 0 {
        tracing::warn!(
            n_records = report.n_records_skipped,
            "the log has records of kinds that are not known here"
        );
    }
    if let Some(span) = span {
        inner.bounds.extend(span);
    }
    if let Err(error) = inner.room.regain() {
        tracing::error!(%error, "there is no room to hold back: no sample is taken until there is");
        inner.room.note_full();
    }
    report
}

pub(crate) fn extend(span: &mut Option<Interval>, min: TimestampMs, max: TimestampMs) {
    *span = Some(match *span {
        None => Interval { min, max },
        Some(span) => Interval {
            min: span.min.min(min),
            max: span.max.max(max),
        },
    });
}
