//! Records of the log, applied: which series a record means is known here, and what it says goes to the thread that has the
//! series.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::head::append::RareValue;
use crate::head::chunk_files::FoundChunks;
use crate::head::core::Inner;
use crate::head::logged::read_values;
use crate::head::redo::NewestChunks;
use crate::head::replay::ReplayReport;
use crate::head::replay_lanes::{Lanes, Rare};
use crate::head::replay_slots::Slot;
use crate::head::series::{MappedChunk, MemSeries};
use crate::head::stats::count;
use crate::model::{Interval, LabelsError, SampleTime, TimestampMs};
use crate::wal::{
    RecordKind, RefMarker, RefMetadata, RefSample, RefTombstone, WalError, decode_exemplars,
    decode_markers, decode_metadata, decode_tombstones, read_samples,
};

/// Applies both logs.
pub(crate) struct Reader<'a> {
    pub(crate) inner: &'a Inner,
    found: &'a mut FoundChunks,
    /// What the redo point has beside them, if it holds.
    newest: NewestChunks,
    pub(crate) lanes: Lanes,
    floor: TimestampMs,
    pub(crate) report: ReplayReport,
    /// Segments to be repaired once everything is read.
    damaged: Vec<PathBuf>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(
        inner: &'a Inner,
        (found, newest): (&'a mut FoundChunks, NewestChunks),
        lanes: Lanes,
    ) -> Self {
        Self {
            inner,
            found,
            newest,
            lanes,
            floor: inner.bounds.floor(),
            report: ReplayReport::default(),
            damaged: Vec::new(),
        }
    }

    /// What was read, and the segments that are to be repaired. The threads end.
    pub(crate) fn finish(self) -> (ReplayReport, Vec<PathBuf>) {
        self.lanes.finish();
        (self.report, self.damaged)
    }

    /// Everything that a segment has was applied.
    pub(crate) fn end_segment(&mut self, path: &Path, is_damaged: bool) {
        if is_damaged {
            self.damaged.push(path.to_owned());
        }
        self.report.n_segments += 1;
    }

    /// A record of the log in order.
    pub(crate) fn record(&mut self, body: &[u8]) -> Result<(), WalError> {
        match RecordKind::of(body) {
            // Whoever read it made series of it.
            RecordKind::Series => Ok(()),
            RecordKind::Samples => self.lanes.floats(body, self.floor, &mut self.report),
            RecordKind::SamplesV2 => read_samples(body, |sample| self.started_float(sample)),
            RecordKind::Metadata => {
                for entry in decode_metadata(body)? {
                    self.metadata(entry);
                }
                Ok(())
            }
            RecordKind::Tombstones => {
                for tombstone in decode_tombstones(body)? {
                    self.tombstone(tombstone);
                }
                Ok(())
            }
            RecordKind::Exemplars => {
                for entry in decode_exemplars(body)? {
                    match self.living(entry.series) {
                        Some(series) => {
                            self.inner.exemplars.add(&series, &entry.exemplar);
                        }
                        None => self.report.n_unknown_refs += 1,
                    }
                }
                Ok(())
            }
            RecordKind::MmapMarkers
            | RecordKind::Histograms
            | RecordKind::FloatHistograms
            | RecordKind::CustomHistograms
            | RecordKind::CustomFloatHistograms
            | RecordKind::HistogramsV2
            | RecordKind::FloatHistogramsV2
            | RecordKind::Unknown(_) => {
                let values = read_values(body, |series, at, value| {
                    if let Some(slot) = self.slot_at(series, at.t) {
                        let sample = |place| Rare::Sample(place, at, value);
                        self.lanes.rare(slot, sample);
                    }
                });
                values.unwrap_or_else(|| {
                    self.report.n_records_skipped += 1;
                    Ok(())
                })
            }
        }
    }

    fn started_float(&mut self, sample: &RefSample) {
        let RefSample {
            series,
            t,
            start_t,
            v,
        } = *sample;
        let Some(slot) = self.slot_at(series, t) else {
            return;
        };
        if start_t == 0 {
            let is_wanted = self.lanes.float(slot, t, v);
            self.report.n_samples_old += u64::from(!is_wanted);
        } else {
            let at = SampleTime { t, start_t };
            let sample = |place| Rare::Sample(place, at, RareValue::Float(v));
            self.lanes.rare(slot, sample);
        }
    }

    /// Who has the series, if a sample at `t` is wanted.
    fn slot_at(&mut self, series: u64, t: TimestampMs) -> Option<Slot> {
        if t < self.floor {
            self.report.n_samples_old += 1;
            return None;
        }
        let slot = self.lanes.slots.get(series);
        if slot.is_none() {
            self.report.n_unknown_refs += 1;
        }
        slot
    }

    /// The series that the log means.
    fn living(&self, number: u64) -> Option<Arc<MemSeries>> {
        let retired = self.inner.retired.lock();
        let number = retired.aliases.get(&number).copied().unwrap_or(number);
        self.inner.series.by_ref(number)
    }

    /// A series under its number in the log.
    pub(crate) fn series(&mut self, number: u64, series: Result<Arc<MemSeries>, LabelsError>) {
        self.report.n_series += 1;
        let series = match series {
            Ok(series) if !series.labels.is_empty() => series,
            Ok(_) | Err(_) => {
                self.report.n_damages += 1;
                return;
            }
        };
        self.inner.next_series.fetch_max(number, Ordering::Relaxed);
        if self.lanes.slots.get(number).is_some() {
            return;
        }
        let (series, is_new) = self.inner.series.get_or_insert(series.key, || series);
        let newest = self.newest.of(number);
        if is_new {
            count(&self.inner.counters.series_created, 1);
            let (mut from, n_bytes) = self.begin(&series);
            if let Some((max_t, _)) = &newest {
                from = from.max(max_t.saturating_add(1));
            }
            let slot = self.lanes.adopt(series, from, n_bytes);
            if let (Some(slot), Some((_, newest))) = (slot, newest) {
                self.lanes.rare(slot, |place| Rare::Newest(place, newest));
            }
            return;
        }
        let mut retired = self.inner.retired.lock();
        retired.aliases.insert(number, series.series);
        drop(retired);
        if let Some(slot) = self.lanes.slots.get(series.series) {
            self.lanes.slots.insert(number, slot, TimestampMs::MIN);
            let chunks = self.found.chunks.of(number).to_vec();
            if !chunks.is_empty() {
                self.lanes.rare(slot, |place| Rare::Chunks(place, chunks));
            }
            if let Some((_, newest)) = newest {
                self.lanes.rare(slot, |place| Rare::Newest(place, newest));
            }
        }
    }

    /// A new series takes what files have of it; the time behind that, and how long its last chunk became.
    fn begin(&mut self, series: &MemSeries) -> (TimestampMs, u32) {
        let chunks = self.found.chunks.of(series.series);
        let mut state = series.lock();
        state.is_logged = true;
        let Some(last) = chunks.last() else {
            return (TimestampMs::MIN, 0);
        };
        let report = &mut self.report;
        if let Some(span) = self.inner.attach_chunks(&mut state, chunks, report) {
            self.inner.bounds.extend(span);
        }
        let behind = state.last_mapped();
        let behind = behind.map_or(TimestampMs::MIN, |last| last.max_t.saturating_add(1));
        (behind, last.n_bytes)
    }

    fn metadata(&mut self, entry: RefMetadata) {
        let Some(series) = self.living(entry.series) else {
            self.report.n_unknown_refs += 1;
            return;
        };
        let name = series.labels.metric_name();
        let mut metadata = self.inner.metadata.write();
        // Every series of a metric says the same.
        match metadata.get_mut(name) {
            Some(said) if **said == entry.metadata => (),
            Some(said) => *said = Arc::new(entry.metadata),
            None => {
                metadata.insert(name.to_owned(), Arc::new(entry.metadata));
            }
        }
    }

    fn tombstone(&mut self, tombstone: RefTombstone) {
        let RefTombstone { series, interval } = tombstone;
        if interval == Interval::ALL {
            self.inner.retired.lock().has_left = true;
        }
        match self.lanes.slots.get(series) {
            // So Prometheus notes a series that left the head early.
            Some(slot) if interval == Interval::ALL => {
                if let Some(series) = self.living(series) {
                    self.lanes.slots.want_all(series.series);
                }
                self.lanes.left(slot);
            }
            _ if interval.max < self.floor => (),
            Some(_) => {
                if let Some(series) = self.living(series) {
                    self.inner.deleted.add(series.series, interval);
                }
            }
            None => self.report.n_unknown_refs += 1,
        }
    }

    /// A record of the log of out-of-order samples. A chunk is taken over when a marker names it: without one its samples
    /// are in the log, or in a block.
    pub(crate) fn late_record(&mut self, body: &[u8]) -> Result<(), WalError> {
        let late_sample = |number, at, value| self.late_sample(number, at, value);
        if let Some(read) = read_values(body, late_sample) {
            return read;
        }
        if RecordKind::of(body) != RecordKind::MmapMarkers {
            self.report.n_records_skipped += 1;
            return Ok(());
        }
        for marker in decode_markers(body)? {
            let RefMarker {
                series,
                file,
                offset,
            } = marker;
            self.late_chunk(Some(series), (file, offset));
        }
        Ok(())
    }

    /// Where there is no log of out-of-order samples, nothing says which of their chunks count: all do.
    pub(crate) fn unmarked_chunks(&mut self) {
        let mut chunks: Vec<_> = self.found.out_of_order.keys().copied().collect();
        chunks.sort_unstable();
        for place in chunks {
            self.late_chunk(None, place);
        }
    }

    fn late_slot(&mut self, number: u64) -> Option<Slot> {
        // A number this log still mentions must not be given to another series.
        self.inner.next_series.fetch_max(number, Ordering::Relaxed);
        let slot = self.lanes.slots.get(number);
        if slot.is_none() {
            count(&self.inner.counters.wbl_unknown_refs, 1);
            self.report.n_unknown_refs += 1;
        }
        slot
    }

    fn late_sample(&mut self, number: u64, at: SampleTime, value: RareValue) {
        if let Some(slot) = self.late_slot(number) {
            self.lanes.rare(slot, |place| Rare::Late(place, at, value));
        }
    }

    /// A chunk that is not there leaves the samples before its marker where they are.
    fn late_chunk(&mut self, number: Option<u64>, place: (u32, u32)) {
        let found: Option<(u64, MappedChunk, _)> = self.found.out_of_order.remove(&place);
        let Some((owner, chunk, encoding)) = found else {
            return;
        };
        if let Some(slot) = self.late_slot(number.unwrap_or(owner)) {
            let mark = |place| Rare::LateChunk(place, chunk, encoding);
            self.lanes.rare(slot, mark);
        }
    }
}
