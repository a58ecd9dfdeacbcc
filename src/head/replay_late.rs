//! What came out of order, from `wbl/` and the chunks it names.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::head::HeadError;
use crate::head::open_chunk::Value;
use crate::head::out_of_order::Inserted;
use crate::head::progress::ReplayProgress;
use crate::head::replay::{AT_START, Replay};
use crate::head::series::MemSeries;
use crate::head::stats::count;
use crate::model::{Interval, SampleTime};
use crate::wal::{
    RecordKind, RefMarker, SegmentReader, WalError, decode_histograms, decode_markers,
    decode_samples, list_segments,
};

impl Replay {
    /// Reads the log of out-of-order samples, once all series are known.
    ///
    /// A chunk is taken over when a marker names it: without one its samples are in the log, or in a block. Where there
    /// is no log at all, nothing says so, and all chunks are taken.
    pub(crate) fn out_of_order(
        &mut self,
        wbl: &Path,
        progress: &ReplayProgress,
    ) -> Result<(), HeadError> {
        let segments = if wbl.is_dir() {
            list_segments(wbl)?
        } else {
            Vec::new()
        };
        let has_log = !segments.is_empty();
        for segment in segments {
            let mut reader = SegmentReader::open(&segment.path)?;
            let mut is_damaged = false;
            loop {
                match reader.next_record() {
                    Ok(Some(body)) => {
                        if let Err(error) = self.late_record(body) {
                            self.report.n_damages += 1;
                            tracing::warn!(path = %segment.path.display(), %error, "a record of the out-of-order log does not decode");
                        }
                    }
                    Ok(None) => break,
                    Err(damage) => {
                        is_damaged = true;
                        self.report.n_damages += 1;
                        tracing::warn!(%damage, "the out-of-order log is damaged; reading goes on behind it");
                        if !reader.resync()? {
                            break;
                        }
                    }
                }
            }
            if is_damaged {
                self.damaged.push(segment.path.clone());
            }
            self.report.n_segments += 1;
            progress.segment_done(None, segment.n_bytes);
            progress.samples(self.report.n_samples);
        }
        if !has_log {
            let mut chunks: Vec<_> = self.found.out_of_order.keys().copied().collect();
            chunks.sort_unstable();
            for place in chunks {
                self.late_chunk(None, place);
            }
        }
        Ok(())
    }

    fn late_record(&mut self, body: &[u8]) -> Result<(), WalError> {
        match RecordKind::of(body) {
            RecordKind::Samples | RecordKind::SamplesV2 => {
                let mut samples = Vec::new();
                let result = decode_samples(body, &mut samples);
                for sample in samples {
                    let at = SampleTime {
                        t: sample.t,
                        start_t: sample.start_t,
                    };
                    self.late_sample(sample.series, at, Value::Float(sample.v));
                }
                result
            }
            RecordKind::Histograms
            | RecordKind::FloatHistograms
            | RecordKind::CustomHistograms
            | RecordKind::CustomFloatHistograms
            | RecordKind::HistogramsV2
            | RecordKind::FloatHistogramsV2 => {
                for entry in decode_histograms(body)? {
                    let value = Value::Histogram(entry.counts, &entry.histogram);
                    self.late_sample(entry.series, entry.at, value);
                }
                Ok(())
            }
            RecordKind::MmapMarkers => {
                for RefMarker {
                    series,
                    file,
                    offset,
                } in decode_markers(body)?
                {
                    self.late_chunk(Some(series), (file, offset));
                }
                Ok(())
            }
            RecordKind::Series
            | RecordKind::Tombstones
            | RecordKind::Exemplars
            | RecordKind::Metadata
            | RecordKind::Unknown(_) => {
                self.report.n_records_skipped += 1;
                Ok(())
            }
        }
    }

    fn late_series(&mut self, number: u64) -> Option<Arc<MemSeries>> {
        // A number this log still mentions must not be given to another series.
        self.inner.next_series.fetch_max(number, Ordering::Relaxed);
        let series = self.by_ref.get(&number).cloned();
        if series.is_none() {
            count(&self.inner.counters.wbl_unknown_refs, 1);
            self.report.n_unknown_refs += 1;
        }
        series
    }

    fn late_sample(&mut self, number: u64, at: SampleTime, value: Value<'_>) {
        let Some(series) = self.late_series(number) else {
            return;
        };
        let mut state = series.lock();
        let is_first = state.late.is_none();
        let late = state.late.get_or_insert_default();
        let before = late.n_chunks();
        let inserted = late.insert(at, value, AT_START);
        let n_new = late.n_chunks() - before;
        drop(state);
        match inserted {
            Ok(Inserted::New | Inserted::NewAndClosed) => {
                count(&self.inner.counters.chunks_created, n_new as u64);
                self.report.n_samples += 1;
                self.note_late(
                    &series,
                    is_first,
                    Interval {
                        min: at.t,
                        max: at.t,
                    },
                );
            }
            Ok(Inserted::Same) | Err(_) => self.report.n_samples_old += 1,
        }
    }

    /// A chunk that is not there leaves the samples before its marker where they are.
    fn late_chunk(&mut self, number: Option<u64>, place: (u32, u32)) {
        let Some((owner, chunk, encoding)) = self.found.out_of_order.remove(&place) else {
            return;
        };
        let Some(series) = self.late_series(number.unwrap_or(owner)) else {
            return;
        };
        let mut state = series.lock();
        let is_first = state.late.is_none();
        let late = state.late.get_or_insert_default();
        let before = late.n_chunks();
        late.attach(chunk, encoding);
        let n_new = late.n_chunks().saturating_sub(before);
        drop(state);
        count(&self.inner.counters.chunks_created, n_new as u64);
        self.report.n_chunks_mapped += 1;
        self.report.n_out_of_order_chunks += 1;
        self.note_late(
            &series,
            is_first,
            Interval {
                min: chunk.min_t,
                max: chunk.max_t,
            },
        );
    }

    fn note_late(&mut self, series: &Arc<MemSeries>, is_first: bool, span: Interval) {
        if is_first {
            self.inner.late.series.lock().push(Arc::clone(series));
        }
        self.inner.late.extend(span);
    }
}
