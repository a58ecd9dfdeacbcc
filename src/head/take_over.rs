//! What was committed to another head is taken over from its log: by the head that was replayed meanwhile, or by the one
//! of the next start.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::chunk::{self, decode_floats};
use crate::head::HeadError;
use crate::head::append::{RareValue, Staged, StagedRare, Staging};
use crate::head::core::{Head, HeadDirs, Inner};
use crate::head::late::Limits;
use crate::head::logged::read_values;
use crate::head::open_chunk::Value;
use crate::head::series::{CommitId, MemSeries, SeriesState};
use crate::head::stats::count;
use crate::head::truncate::retire;
use crate::model::{Histogram, Interval, Labels, LabelsError, SampleTime, TimestampMs, is_stale};
use crate::storage::AppendError;
use crate::wal::{
    RecordKind, SegmentNumber, SegmentReader, WalError, decode_exemplars, decode_metadata,
    decode_series, list_segments,
};

/// So many samples are committed together.
const SAMPLES_PER_COMMIT: usize = 1 << 14;
/// Refused samples of which it is said who they are.
const REFUSALS_TOLD: u64 = 5;

/// How far the logs of a head are closed; see [`Head::close_segments`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClosedSegments {
    /// Segments of the log before this one are closed.
    log: SegmentNumber,
    /// Those of the out-of-order log, where there is one.
    late: Option<SegmentNumber>,
}

/// What a head took over from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TakenOver {
    /// Samples that went in.
    pub n_samples: u64,
    /// Samples that were here already.
    pub n_known: u64,
    /// Samples that this head would have refused, and does.
    pub n_refused: u64,
    /// Entries whose series is not known.
    pub n_unknown_refs: u64,
    /// Damaged places in the log.
    pub n_damages: u64,
    /// Bytes of the segments that were read.
    pub n_bytes: u64,
}

/// Reads the log of one head into another, as far as it is closed, as often as there is more.
///
/// What is here already is not taken again, so whoever was interrupted begins anew.
pub struct TakeOver<'a> {
    head: &'a Head,
    dirs: HeadDirs,
    /// The first segment that was not read yet.
    next: ClosedSegments,
    by_ref: HashMap<u64, Arc<MemSeries>, foldhash::fast::RandomState>,
    staging: Staging,
    /// Metadata goes into one commit with the samples that follow it.
    holds: bool,
    report: TakenOver,
}

impl std::fmt::Debug for TakeOver<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TakeOver")
            .field("next", &self.next)
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}

impl RareValue {
    /// Does it end a series?
    fn is_marker(&self) -> bool {
        match self {
            Self::Float(v) => is_stale(*v),
            Self::Histogram(_, histogram) => is_stale(histogram.sum),
        }
    }
}

impl<'a> TakeOver<'a> {
    /// Of the head whose data directory is `data`, into `head`.
    pub fn new(head: &'a Head, data: &Path) -> Self {
        Self {
            head,
            dirs: HeadDirs::of(data),
            next: ClosedSegments {
                log: 0,
                late: Some(0),
            },
            by_ref: HashMap::default(),
            staging: Staging::default(),
            holds: false,
            report: TakenOver::default(),
        }
    }

    /// Takes over what lies before `closed` and was not read yet; how many bytes of segments that was.
    pub fn read(&mut self, closed: ClosedSegments) -> Result<u64, HeadError> {
        let before = self.report.n_bytes;
        let wal = self.dirs.wal.clone();
        self.segments(&wal, self.next.log, closed.log)?;
        self.next.log = closed.log;
        self.commit()?;
        if let (Some(from), Some(upto)) = (self.next.late, closed.late) {
            let wbl = self.dirs.wbl.clone();
            self.segments(&wbl, from, upto)?;
            self.next.late = Some(upto);
        }
        self.commit()?;
        Ok(self.report.n_bytes - before)
    }

    /// Everything was read: series end here that are ended under the number they had there.
    pub fn finish(self) -> TakenOver {
        let inner = self.head.inner();
        let mut successors: Vec<(u64, u64)> = self
            .by_ref
            .iter()
            .map(|(there, here)| (*there, here.series))
            .collect();
        successors.sort_unstable();
        inner.retired.lock().successors = successors;
        count(&inner.counters.wal_corruptions, self.report.n_damages);
        count(&inner.counters.wal_unknown_refs, self.report.n_unknown_refs);
        self.report
    }

    fn segments(
        &mut self,
        dir: &Path,
        from: SegmentNumber,
        upto: SegmentNumber,
    ) -> Result<(), HeadError> {
        if !dir.is_dir() {
            return Ok(());
        }
        for segment in list_segments(dir)? {
            if from <= segment.number && segment.number < upto {
                self.segment(&segment.path)?;
                self.report.n_bytes += segment.n_bytes;
            }
        }
        Ok(())
    }

    fn segment(&mut self, path: &Path) -> Result<(), HeadError> {
        let mut reader = SegmentReader::open(path)?;
        loop {
            match reader.next_record() {
                Ok(Some(body)) => {
                    if let Err(error) = self.record(body) {
                        self.report.n_damages += 1;
                        tracing::warn!(path = %path.display(), %error, "a record of the log does not decode");
                    }
                }
                Ok(None) => return Ok(()),
                Err(damage) => {
                    self.report.n_damages += 1;
                    tracing::warn!(%damage, "the log is damaged; reading goes on behind it");
                    if !reader.resync()? {
                        return Ok(());
                    }
                }
            }
            let n_staged = self.staging.samples.len() + self.staging.rare.len();
            if SAMPLES_PER_COMMIT <= n_staged && !self.holds {
                self.commit()?;
            }
        }
    }

    fn record(&mut self, body: &[u8]) -> Result<(), WalError> {
        let kind = RecordKind::of(body);
        self.holds = matches!(kind, RecordKind::Series | RecordKind::Metadata);
        match kind {
            RecordKind::Series => decode_series(body, |number, labels| self.series(number, labels)),
            RecordKind::Metadata => {
                for entry in decode_metadata(body)? {
                    if let Some(series) = self.known_series(entry.series) {
                        let metadata = Arc::new(entry.metadata);
                        self.staging.metadata.push((series, metadata));
                    }
                }
                Ok(())
            }
            RecordKind::Exemplars => {
                for entry in decode_exemplars(body)? {
                    if let Some(series) = self.known_series(entry.series) {
                        self.staging.exemplars.push((series, entry.exemplar));
                    }
                }
                Ok(())
            }
            // Of the others, nothing is deleted there, and which chunks lie in files concerns that head alone.
            RecordKind::Samples
            | RecordKind::SamplesV2
            | RecordKind::Histograms
            | RecordKind::FloatHistograms
            | RecordKind::CustomHistograms
            | RecordKind::CustomFloatHistograms
            | RecordKind::HistogramsV2
            | RecordKind::FloatHistogramsV2
            | RecordKind::Tombstones
            | RecordKind::MmapMarkers
            | RecordKind::Unknown(_) => {
                let sample = |number, at, value| self.sample(number, at, value);
                read_values(body, sample).unwrap_or(Ok(()))
            }
        }
    }

    fn series(&mut self, number: u64, labels: Result<Labels, LabelsError>) {
        match labels {
            Ok(labels) if !labels.is_empty() => {
                let series = self.head.inner().get_or_create(labels.key(), &labels);
                self.by_ref.insert(number, series);
            }
            Ok(_) | Err(_) => self.report.n_damages += 1,
        }
    }

    fn known_series(&mut self, number: u64) -> Option<Arc<MemSeries>> {
        let series = self.by_ref.get(&number).cloned();
        self.report.n_unknown_refs += u64::from(series.is_none());
        series
    }

    fn sample(&mut self, number: u64, at: SampleTime, value: RareValue) {
        let Some(series) = self.known_series(number) else {
            return;
        };
        let inner = self.head.inner();
        let state = series.lock();
        // The end of a series is worth nothing behind newer samples.
        let is_behind = value.is_marker() && state.span().is_some_and(|span| at.t <= span.max);
        let judged = if is_behind {
            Ok(false)
        } else {
            judge(inner, &state, at.t, state.settled(value.as_value()))
        };
        drop(state);
        match judged {
            Ok(true) => {
                self.report.n_samples += 1;
                self.stage(series, at, value);
            }
            Ok(false) => self.report.n_known += 1,
            Err(refusal) => self.refuse(&series, at.t, &refusal),
        }
    }

    fn stage(&mut self, series: Arc<MemSeries>, at: SampleTime, value: RareValue) {
        let has_start = at.start_t != 0 && self.head.settings().keeps_start_times;
        match value {
            RareValue::Float(v) if !has_start && !is_stale(v) => {
                self.staging.samples.push(Staged { series, t: at.t, v });
            }
            value @ (RareValue::Float(_) | RareValue::Histogram(..)) => {
                self.staging.rare.push(StagedRare {
                    after: self.staging.samples.len(),
                    series,
                    at,
                    is_in_order: value.is_marker(),
                    value,
                });
            }
        }
    }

    fn refuse(&mut self, series: &MemSeries, t: TimestampMs, refusal: &AppendError) {
        let counters = &self.head.inner().counters;
        let counter = if matches!(refusal, AppendError::Duplicate) {
            &counters.duplicate
        } else if matches!(refusal, AppendError::OutOfBounds { .. }) {
            &counters.out_of_bounds
        } else {
            &counters.out_of_order
        };
        count(counter, 1);
        self.report.n_refused += 1;
        if self.report.n_refused <= REFUSALS_TOLD {
            tracing::warn!(series = %series.labels, t, %refusal, "a sample that came while the log was replayed is refused");
        }
    }

    fn commit(&mut self) -> Result<(), HeadError> {
        if self.staging.is_empty() {
            return Ok(());
        }
        let inner = self.head.inner();
        let committed = inner.commit(&self.staging, limits(inner));
        self.staging = Staging::default();
        inner.map_closed_chunks();
        committed.map_err(|refused| HeadError::Refused(refused.to_string()))
    }
}

/// These samples were acknowledged: none is too old, where there is a place for it.
fn limits(inner: &Inner) -> Limits {
    Limits {
        floor: TimestampMs::MIN,
        newest: TimestampMs::MIN,
        oldest: inner
            .late
            .oldest(TimestampMs::MAX)
            .map(|_takes_late| TimestampMs::MIN),
    }
}

/// May it come? `Ok(false)` when it is here.
fn judge(
    inner: &Inner,
    state: &SeriesState,
    t: TimestampMs,
    value: Value<'_>,
) -> Result<bool, AppendError> {
    let newest = state.span().map(|span| span.max).filter(|max| t <= *max);
    if newest.is_some()
        && let Some(is_same) = is_here(inner, state, t, value)
    {
        return if is_same {
            Ok(false)
        } else {
            Err(AppendError::Duplicate)
        };
    }
    let limits = limits(inner);
    let floor = inner.bounds.floor();
    match state.max_t() {
        _ if limits.oldest.is_some() => Ok(true),
        _ if t < floor => Err(AppendError::OutOfBounds { oldest: floor }),
        Some(newest) if t <= newest => Err(AppendError::OutOfOrder { newest }),
        Some(_) | None => Ok(true),
    }
}

/// Is there a sample at `t`, and the same?
fn is_here(inner: &Inner, state: &SeriesState, t: TimestampMs, value: Value<'_>) -> Option<bool> {
    let slices = state.slices(
        Interval { min: t, max: t },
        CommitId::MAX,
        &inner.files,
        |_| (),
    );
    let (mut times, mut values, mut histograms) = (Vec::new(), Vec::new(), Vec::new());
    for slice in slices {
        times.clear();
        values.clear();
        histograms.clear();
        let decoded = if slice.encoding.has_histograms() {
            chunk::decode_histograms(slice.encoding, &slice.data, &mut times, &mut histograms)
        } else {
            decode_floats(slice.encoding, &slice.data, &mut times, &mut values)
        };
        if decoded.is_err() {
            continue;
        }
        let Ok(at) = times.binary_search(&t) else {
            continue;
        };
        return Some(match value {
            Value::Float(v) => values
                .get(at)
                .is_some_and(|here| here.to_bits() == v.to_bits()),
            Value::Histogram(_, histogram) => histograms
                .get(at)
                .is_some_and(|here| are_equal(here, histogram)),
        });
    }
    None
}

/// In a chunk a histogram has the buckets of its neighbours too, empty.
fn are_equal(left: &Histogram, right: &Histogram) -> bool {
    let (mut left, mut right) = (left.clone(), right.clone());
    left.compact();
    right.compact();
    left.equals(&right)
}

impl Head {
    /// Goes on in new segments; those before are closed for good. A head that takes nothing more goes nowhere: all are.
    pub fn close_segments(&self) -> Result<ClosedSegments, HeadError> {
        let inner = self.inner();
        let mut committer = inner.committer.lock();
        if committer.wal.poisoned().is_some() {
            return Ok(ClosedSegments {
                log: SegmentNumber::MAX,
                late: Some(SegmentNumber::MAX),
            });
        }
        committer.wal.next_segment()?;
        let log = committer.wal.segment();
        inner
            .wal_segment
            .store(log, std::sync::atomic::Ordering::Relaxed);
        let late = committer.late.next_segment()?;
        Ok(ClosedSegments { log, late })
    }

    /// Lets go of everything and takes no more: another head has it all, and the directory may be removed.
    pub fn abandon(&self) {
        let inner = self.inner();
        // A file that is removed while it is open keeps its room: the one that stays open is empty.
        self.close_segments().ok();
        let mut committer = inner.committer.lock();
        drop(committer.unsynced());
        let reason = "another head has taken over from this one";
        committer.wal.poison(reason.to_owned());
        drop(committer);
        let mut mapping = inner.mapping.lock();
        mapping.clear();
        let mut dead = Vec::new();
        inner.series.for_each(|series| {
            let mut state = series.lock();
            *state = SeriesState::default();
            state.is_dead = true;
            dead.push(Arc::clone(series));
        });
        retire(inner, &dead, 0);
        inner.retired.lock().removed = HashMap::default();
        inner.late.series.lock().clear();
        inner.exemplars.clear();
        // Its files go with the directory.
        inner.files.remove_before(inner.files.write_position()).ok();
    }
}
