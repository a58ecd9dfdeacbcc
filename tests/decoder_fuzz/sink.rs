//! A storage that takes everything and remembers only sizes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gauntlet::model::{
    Counts, Exemplar, Histogram, Labels, LabelsError, Metadata, SampleTime, SeriesKey,
};
use gauntlet::storage::{AppendError, Appendable, Appender, SeriesRef};

/// Takes what is handed in, as far as it is what it says.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    n_taken: AtomicUsize,
    largest: AtomicUsize,
}

impl Sink {
    pub(crate) fn n_taken(&self) -> usize {
        self.n_taken.load(Ordering::Relaxed)
    }

    /// Bytes of the largest thing that was handed in.
    pub(crate) fn largest(&self) -> usize {
        self.largest.load(Ordering::Relaxed)
    }

    fn take(&self, n_bytes: usize) {
        self.n_taken.fetch_add(1, Ordering::Relaxed);
        self.largest.fetch_max(n_bytes, Ordering::Relaxed);
    }
}

impl Appendable for Sink {
    fn appender(&self) -> Box<dyn Appender + '_> {
        Box::new(Transaction(self))
    }
}

struct Transaction<'a>(&'a Sink);

fn text_bytes(labels: &Labels) -> usize {
    let pairs = labels.iter();
    pairs.map(|(name, value)| name.len() + value.len()).sum()
}

impl Appender for Transaction<'_> {
    fn series(
        &mut self,
        key: SeriesKey,
        labels: &mut dyn FnMut() -> Result<Labels, LabelsError>,
    ) -> Result<SeriesRef, AppendError> {
        let labels = labels()?;
        assert_eq!(labels.key(), key, "the key of other labels");
        self.0.take(text_bytes(&labels));
        Ok(SeriesRef(1))
    }

    fn append_at(&mut self, _: SeriesRef, _: SampleTime, _: f64) -> Result<(), AppendError> {
        self.0.take(0);
        Ok(())
    }

    fn append_histogram(
        &mut self,
        _: SeriesRef,
        _: SampleTime,
        counts: Counts,
        histogram: &Arc<Histogram>,
    ) -> Result<(), AppendError> {
        self.0.take(histogram.n_bytes());
        Ok(histogram.check(counts)?)
    }

    fn discard_out_of_order(&mut self, _: bool) {}

    fn exemplar(&mut self, _: SeriesRef, exemplar: &Exemplar) -> Result<(), AppendError> {
        self.0.take(text_bytes(&exemplar.labels));
        Ok(())
    }

    fn metadata(&mut self, _: SeriesRef, metadata: &Metadata) -> Result<(), AppendError> {
        self.0.take(metadata.help.len() + metadata.unit.len());
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<(), AppendError> {
        Ok(())
    }

    fn rollback(self: Box<Self>) {}
}
