//! The database for those who want every commit on the disk before it is acknowledged.

use std::sync::Arc;

use crate::model::{
    Counts, Exemplar, Histogram, Labels, LabelsError, Metadata, SampleTime, SeriesKey,
};
use crate::storage::{AppendError, Appendable, Appender, SeriesRef};
use crate::tsdb::Tsdb;

/// A database whose commits return when the log is synced.
#[derive(Debug, Clone)]
pub struct SyncedTsdb(Tsdb);

impl SyncedTsdb {
    /// The same database, with slower and safer commits.
    pub fn new(tsdb: Tsdb) -> Self {
        Self(tsdb)
    }
}

impl Appendable for SyncedTsdb {
    fn appender(&self) -> Box<dyn Appender + '_> {
        Box::new(SyncedAppender {
            inner: self.0.appender(),
            tsdb: &self.0,
        })
    }
}

struct SyncedAppender<'a> {
    inner: Box<dyn Appender + 'a>,
    tsdb: &'a Tsdb,
}

impl Appender for SyncedAppender<'_> {
    fn series(
        &mut self,
        key: SeriesKey,
        labels: &mut dyn FnMut() -> Result<Labels, LabelsError>,
    ) -> Result<SeriesRef, AppendError> {
        self.inner.series(key, labels)
    }

    fn append_at(&mut self, series: SeriesRef, at: SampleTime, v: f64) -> Result<(), AppendError> {
        self.inner.append_at(series, at, v)
    }

    fn append_histogram(
        &mut self,
        series: SeriesRef,
        at: SampleTime,
        counts: Counts,
        histogram: &Arc<Histogram>,
    ) -> Result<(), AppendError> {
        self.inner.append_histogram(series, at, counts, histogram)
    }

    fn exemplar(&mut self, series: SeriesRef, exemplar: &Exemplar) -> Result<(), AppendError> {
        self.inner.exemplar(series, exemplar)
    }

    fn metadata(&mut self, series: SeriesRef, metadata: &Metadata) -> Result<(), AppendError> {
        self.inner.metadata(series, metadata)
    }

    fn commit(self: Box<Self>) -> Result<(), AppendError> {
        self.inner.commit()?;
        let synced = self.tsdb.sync();
        synced.map_err(|error| AppendError::Wal(error.to_string()))
    }

    fn rollback(self: Box<Self>) {
        self.inner.rollback();
    }
}
