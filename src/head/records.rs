//! What one commit writes to the log.

use smallvec::SmallVec;

use crate::head::open_chunk::Value;
use crate::model::{Counts, Exemplar, Labels, Metadata, SampleTime};
use crate::wal::{
    ExemplarsEncoder, HistogramsEncoder, MetadataEncoder, SamplesEncoder, SeriesEncoder,
    StartedSamplesEncoder, Wal, WalError,
};

/// The records of one commit; their buffers are reused.
#[derive(Debug, Default)]
pub(crate) struct CommitRecords {
    series: SeriesEncoder,
    metadata: MetadataEncoder,
    samples: SamplesEncoder,
    /// There once something else than plain floats was committed.
    rare: Option<Box<RareRecords>>,
    /// Values go into records with start times.
    has_starts: bool,
}

#[derive(Debug)]
struct RareRecords {
    started: StartedSamplesEncoder,
    /// In the order they are written.
    histograms: [HistogramsEncoder; 6],
    exemplars: ExemplarsEncoder,
    /// Finished records of values; later ones must not come before them.
    finished: Vec<Vec<u8>>,
}

impl Default for RareRecords {
    fn default() -> Self {
        Self {
            started: StartedSamplesEncoder::default(),
            histograms: [
                HistogramsEncoder::new(Counts::Whole, false),
                HistogramsEncoder::new(Counts::Whole, true),
                HistogramsEncoder::with_starts(Counts::Whole),
                HistogramsEncoder::new(Counts::Float, false),
                HistogramsEncoder::new(Counts::Float, true),
                HistogramsEncoder::with_starts(Counts::Float),
            ],
            exemplars: ExemplarsEncoder::default(),
            finished: Vec::new(),
        }
    }
}

impl RareRecords {
    fn clear(&mut self) {
        self.clear_values();
        self.exemplars.clear();
        self.finished.clear();
    }

    fn clear_values(&mut self) {
        self.started.clear();
        self.histograms
            .iter_mut()
            .for_each(HistogramsEncoder::clear);
    }

    fn values(&self) -> impl Iterator<Item = &[u8]> {
        let histograms = self.histograms.iter().map(HistogramsEncoder::record);
        std::iter::once(self.started.record())
            .chain(histograms)
            .flatten()
    }
}

impl CommitRecords {
    /// Begins a commit. `has_starts`: some of its values say since when they count.
    pub(crate) fn begin(&mut self, has_starts: bool) {
        self.has_starts = has_starts;
        self.series.clear();
        self.metadata.clear();
        self.samples.clear();
        if let Some(rare) = &mut self.rare {
            rare.clear();
        }
    }

    pub(crate) fn series(&mut self, series: u64, labels: &Labels) {
        self.series.push(series, labels);
    }

    pub(crate) fn metadata(&mut self, series: u64, metadata: &Metadata) {
        self.metadata.push(series, metadata);
    }

    pub(crate) fn exemplar(&mut self, series: u64, exemplar: &Exemplar) {
        let rare = self.rare.get_or_insert_default();
        rare.exemplars.push(series, exemplar);
    }

    pub(crate) fn value(&mut self, series: u64, at: SampleTime, value: Value<'_>) {
        match value {
            Value::Float(v) if self.has_starts => {
                let rare = self.rare.get_or_insert_default();
                rare.started.push(series, at, v);
            }
            Value::Float(v) => self.samples.push(series, at.t, v),
            Value::Histogram(counts, histogram) => {
                let place = match (self.has_starts, histogram.has_custom_buckets()) {
                    (true, _) => 2,
                    (false, true) => 1,
                    (false, false) => 0,
                };
                let place = match counts {
                    Counts::Whole => place,
                    Counts::Float => place + 3,
                };
                let rare = self.rare.get_or_insert_default();
                if let Some(encoder) = rare.histograms.get_mut(place) {
                    encoder.push(series, at, histogram);
                }
            }
        }
    }

    /// Later values come into later records: within one commit a series turned from floats to histograms or back, and
    /// whoever reads the log must meet its samples in their order.
    pub(crate) fn next_batch(&mut self) {
        let rare = self.rare.get_or_insert_default();
        let values = self.samples.record().into_iter().chain(rare.values());
        let finished: Vec<Vec<u8>> = values.map(<[u8]>::to_vec).collect();
        rare.finished.extend(finished);
        rare.clear_values();
        self.samples.clear();
    }

    /// Moves the records of values to `out`, in an order in which they can be read.
    pub(crate) fn take_values(&mut self, out: &mut Vec<Vec<u8>>) {
        if let Some(rare) = &mut self.rare {
            out.append(&mut rare.finished);
        }
        out.extend(self.samples.record().map(<[u8]>::to_vec));
        self.samples.clear();
        if let Some(rare) = &mut self.rare {
            out.extend(rare.values().map(<[u8]>::to_vec));
            rare.clear_values();
        }
    }

    /// May be called again when there was no room.
    pub(crate) fn write(&self, wal: &mut Wal) -> Result<(), WalError> {
        let mut records: SmallVec<[&[u8]; 4]> = SmallVec::new();
        records.extend(self.series.record());
        records.extend(self.metadata.record());
        if let Some(rare) = &self.rare {
            records.extend(rare.finished.iter().map(Vec::as_slice));
        }
        records.extend(self.samples.record());
        if let Some(rare) = &self.rare {
            records.extend(rare.values());
            records.extend(rare.exemplars.record());
        }
        if records.is_empty() {
            return Ok(());
        }
        wal.append(&records)
    }
}
