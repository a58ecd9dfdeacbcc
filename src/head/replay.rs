//! The head as it was: chunk files, then the checkpoint, then the log.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::head::HeadError;
use crate::head::chunk_files::{ChunkFiles, FoundChunks};
use crate::head::commit::Committer;
use crate::head::core::{Bounds, Head, HeadDirs, HeadSettings, Inner, Retired, Views};
use crate::head::delete::Deleted;
use crate::head::exemplars::ExemplarStore;
use crate::head::late::Late;
use crate::head::map::SeriesMap;
use crate::head::open_chunk::{Value, ValueKind};
use crate::head::postings::Postings;
use crate::head::progress::ReplayProgress;
use crate::head::room::{Room, free_reserve};
use crate::head::series::{CommitPoint, MemSeries, Pushed};
use crate::head::stats::{Counters, count};
use crate::head::sync::GroupSync;
use crate::head::truncate::retire;
use crate::head::wbl::OutOfOrderLog;
use crate::model::{Interval, Labels, LabelsError, SampleTime, TimestampMs};
use crate::wal::{
    RecordKind, RefExemplar, RefSample, RefTombstone, RepairOutcome, SegmentFile, SegmentReader,
    Wal, WalError, decode_exemplars, decode_histograms, decode_metadata, decode_samples,
    decode_series, decode_tombstones, last_checkpoint, list_segments, remove_unfinished,
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
}

/// Replay makes no commits: all of it is visible.
pub(crate) const AT_START: CommitPoint = CommitPoint {
    id: 0,
    oldest_view: 0,
};

/// Closed chunks wait for so many series before they go to files.
const CLOSED_SERIES_MAX: usize = 4096;

/// A head on its way into memory.
pub(crate) struct Replay {
    pub(crate) inner: Inner,
    pub(crate) found: FoundChunks,
    floor: TimestampMs,
    pub(crate) by_ref: HashMap<u64, Arc<MemSeries>, foldhash::fast::RandomState>,
    samples: Vec<RefSample>,
    pub(crate) report: ReplayReport,
    span: Option<Interval>,
    /// Series that left the head early, and may have come back.
    left: Vec<Arc<MemSeries>>,
    /// Segments to be repaired once everything is read.
    pub(crate) damaged: Vec<PathBuf>,
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
        let dirs = HeadDirs::of(data);
        free_reserve(&dirs.reserve);
        remove_unfinished(&dirs.wal)?;
        let (files, found) = ChunkFiles::open(
            &dirs.chunks,
            settings.chunk_file_bytes_max,
            &dirs.quarantine,
        )?;
        let segments = segments_of(&dirs)?;
        begin(progress, &dirs, &segments)?;
        let wal = Wal::open(&dirs.wal, settings.wal)?;
        let wbl = OutOfOrderLog::open(&dirs.wbl, settings.wal)?;
        let mut replay = Replay::new(settings, &dirs, (files, found), (wal, wbl, floor));
        for segment in segments {
            replay.segment(&segment.path)?;
            let is_of_log = segment.path.parent() == Some(&dirs.wal);
            progress.segment_done(is_of_log.then_some(segment.number), segment.n_bytes);
            progress.samples(replay.report.n_samples);
        }
        replay.out_of_order(&dirs.wbl, progress)?;
        replay.repair(&dirs.quarantine)?;
        Ok(replay.finish())
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
        let n_bytes_max = settings.chunk_file_bytes_max;
        let files = ChunkFiles::open(&dirs.chunks, n_bytes_max, &dirs.quarantine)?;
        let wal = Wal::open(&dirs.wal, settings.wal)?;
        let wbl = OutOfOrderLog::open(&dirs.wbl, settings.wal)?;
        let mut replay = Replay::new(settings, &dirs, files, (wal, wbl, floor));
        for segment in segments {
            replay.segment(&segment.path)?;
        }
        replay.out_of_order(&theirs.wbl, &ReplayProgress::default())?;
        Ok(replay.finish())
    }
}

fn begin(
    progress: &ReplayProgress,
    dirs: &HeadDirs,
    segments: &[SegmentFile],
) -> Result<(), HeadError> {
    let late = list_segments(&dirs.wbl)?;
    let numbers = segments
        .iter()
        .filter(|segment| segment.path.parent() == Some(&dirs.wal))
        .map(|segment| segment.number);
    let numbers = numbers.clone().min().zip(numbers.max());
    let n_bytes = segments.iter().chain(&late).map(|s| s.n_bytes).sum();
    progress.begin(segments.len() + late.len(), n_bytes, numbers);
    Ok(())
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

impl Replay {
    fn new(
        settings: HeadSettings,
        dirs: &HeadDirs,
        (files, found): (ChunkFiles, FoundChunks),
        (wal, wbl, floor): (Wal, OutOfOrderLog, TimestampMs),
    ) -> Self {
        let segment = wal.segment();
        let inner = Inner {
            settings,
            wal_dir: dirs.wal.clone(),
            series: SeriesMap::new(),
            postings: RwLock::new(Postings::default()),
            metadata: RwLock::default(),
            files,
            next_series: AtomicU64::new(found.series_max),
            bounds: Bounds::new(floor),
            views: Views::default(),
            deleted: Deleted::default(),
            exemplars: ExemplarStore::new(settings.exemplars_max),
            late: Late::new(
                &dirs.wbl,
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
            syncing: GroupSync::default(),
            room: Room::open(dirs.reserve.clone(), settings.reserve_bytes),
        };
        Self {
            inner,
            found,
            floor,
            by_ref: HashMap::default(),
            samples: Vec::new(),
            report: ReplayReport::default(),
            span: None,
            left: Vec::new(),
            damaged: Vec::new(),
        }
    }

    fn segment(&mut self, path: &Path) -> Result<(), HeadError> {
        let mut reader = SegmentReader::open(path)?;
        let mut is_damaged = false;
        loop {
            match reader.next_record() {
                Ok(Some(body)) => {
                    if let Err(error) = self.record(body) {
                        self.report.n_damages += 1;
                        tracing::warn!(path = %path.display(), %error, "a record of the log does not decode");
                    }
                }
                Ok(None) => break,
                Err(damage) => {
                    is_damaged = true;
                    self.report.n_damages += 1;
                    tracing::warn!(%damage, "the log is damaged; reading goes on behind it");
                    if !reader.resync()? {
                        break;
                    }
                }
            }
        }
        if is_damaged {
            self.damaged.push(path.to_owned());
        }
        self.report.n_segments += 1;
        self.inner.map_closed_chunks();
        Ok(())
    }

    fn record(&mut self, body: &[u8]) -> Result<(), WalError> {
        match RecordKind::of(body) {
            RecordKind::Series => decode_series(body, |number, labels| self.series(number, labels)),
            RecordKind::Samples | RecordKind::SamplesV2 => {
                let mut samples = std::mem::take(&mut self.samples);
                samples.clear();
                let result = decode_samples(body, &mut samples);
                for RefSample {
                    series,
                    t,
                    start_t,
                    v,
                } in &samples
                {
                    let at = SampleTime {
                        t: *t,
                        start_t: *start_t,
                    };
                    self.sample(*series, at, Value::Float(*v));
                }
                self.samples = samples;
                result
            }
            RecordKind::Metadata => {
                for entry in decode_metadata(body)? {
                    let Some(series) = self.by_ref.get(&entry.series) else {
                        self.report.n_unknown_refs += 1;
                        continue;
                    };
                    let name = series.labels.metric_name().to_owned();
                    let metadata = Arc::new(entry.metadata);
                    self.inner.metadata.write().insert(name, metadata);
                }
                Ok(())
            }
            RecordKind::Tombstones => {
                for tombstone in decode_tombstones(body)? {
                    self.tombstone(tombstone);
                }
                Ok(())
            }
            RecordKind::Histograms
            | RecordKind::FloatHistograms
            | RecordKind::CustomHistograms
            | RecordKind::CustomFloatHistograms
            | RecordKind::HistogramsV2
            | RecordKind::FloatHistogramsV2 => {
                for entry in decode_histograms(body)? {
                    let value = Value::Histogram(entry.counts, &entry.histogram);
                    self.sample(entry.series, entry.at, value);
                }
                Ok(())
            }
            RecordKind::Exemplars => {
                for entry in decode_exemplars(body)? {
                    self.exemplar(&entry);
                }
                Ok(())
            }
            RecordKind::MmapMarkers | RecordKind::Unknown(_) => {
                self.report.n_records_skipped += 1;
                Ok(())
            }
        }
    }

    fn series(&mut self, number: u64, labels: Result<Labels, LabelsError>) {
        self.report.n_series += 1;
        let labels = match labels {
            Ok(labels) if !labels.is_empty() => labels,
            Ok(_) | Err(_) => {
                self.report.n_damages += 1;
                return;
            }
        };
        self.inner.next_series.fetch_max(number, Ordering::Relaxed);
        if self.by_ref.contains_key(&number) {
            return;
        }
        let key = labels.key();
        let (series, is_new) = self
            .inner
            .series
            .get_or_insert(key, || Arc::new(MemSeries::new(number, key, labels)));
        let mut state = series.lock();
        state.is_logged = true;
        let chunks = self.found.chunks.remove(&number).unwrap_or_default();
        for chunk in chunks.into_iter().filter(|chunk| chunk.max_t >= self.floor) {
            if state.attach(chunk) {
                self.report.n_chunks_mapped += 1;
                extend(&mut self.span, chunk.min_t, chunk.max_t);
            }
        }
        if let Some(last) = state.last_mapped()
            && let Some((encoding, _)) = self.inner.files.chunk(last.file, last.offset)
        {
            state.kind = ValueKind::of(encoding);
        }
        drop(state);
        if is_new {
            self.inner.postings.write().insert(number, &series.labels);
            count(&self.inner.counters.series_created, 1);
        } else {
            let mut retired = self.inner.retired.lock();
            retired.aliases.insert(number, series.series);
        }
        self.by_ref.insert(number, series);
    }

    fn tombstone(&mut self, tombstone: RefTombstone) {
        let RefTombstone { series, interval } = tombstone;
        // Older than the floor it may still hide samples that came out of order.
        match self.by_ref.get(&series) {
            // So Prometheus notes a series that left the head early; what comes later was appended later.
            Some(series) if interval == Interval::ALL => {
                series.lock().truncate_before(i64::MAX);
                self.left.push(Arc::clone(series));
            }
            Some(series) => self.inner.deleted.add(series.series, interval),
            None if interval.max < self.floor => (),
            None => self.report.n_unknown_refs += 1,
        }
    }

    fn exemplar(&mut self, entry: &RefExemplar) {
        match self.by_ref.get(&entry.series) {
            Some(series) => {
                self.inner.exemplars.add(series, &entry.exemplar);
            }
            None => self.report.n_unknown_refs += 1,
        }
    }

    fn sample(&mut self, number: u64, at: SampleTime, value: Value<'_>) {
        if at.t < self.floor {
            self.report.n_samples_old += 1;
            return;
        }
        let Some(series) = self.by_ref.get(&number) else {
            self.report.n_unknown_refs += 1;
            return;
        };
        let mut state = series.lock();
        let had_chunk = state.has_open();
        let rules = self.inner.settings.chunk_rules();
        let pushed = state.push(at, value, AT_START, rules);
        drop(state);
        match pushed {
            Ok(Pushed::Appended) => {
                count(&self.inner.counters.chunks_created, u64::from(!had_chunk));
            }
            Ok(Pushed::AppendedAndClosed) => {
                count(&self.inner.counters.chunks_created, 1);
                let mut queue = self.inner.mapping.lock();
                queue.push(Arc::clone(series));
                let is_full = queue.len() >= CLOSED_SERIES_MAX;
                drop(queue);
                if is_full {
                    self.inner.map_closed_chunks();
                }
            }
            Ok(Pushed::Same) | Err(_) => {
                self.report.n_samples_old += 1;
                return;
            }
        }
        self.report.n_samples += 1;
        extend(&mut self.span, at.t, at.t);
    }

    fn repair(&mut self, quarantine: &Path) -> Result<(), HeadError> {
        for path in &self.damaged {
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

    fn finish(self) -> (Head, ReplayReport) {
        let Self {
            inner,
            found,
            report,
            span,
            mut left,
            ..
        } = self;
        left.retain(|series| {
            let mut state = series.lock();
            state.is_dead = state.n_chunks() == 0;
            state.is_dead
        });
        left.sort_unstable_by_key(|series| series.series);
        left.dedup_by_key(|series| series.series);
        let segment = inner.wal_segment.load(Ordering::Relaxed);
        retire(&inner, &left, segment);
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
        (Head::from_inner(inner), report)
    }
}

fn extend(span: &mut Option<Interval>, min: TimestampMs, max: TimestampMs) {
    *span = Some(match *span {
        None => Interval { min, max },
        Some(span) => Interval {
            min: span.min.min(min),
            max: span.max.max(max),
        },
    });
}
