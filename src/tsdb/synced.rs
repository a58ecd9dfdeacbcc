//! The database for those who want every commit on the disk before it is acknowledged.

use std::sync::Arc;

use crate::model::{
    Counts, Exemplar, Histogram, Labels, LabelsError, Metadata, SampleTime, SeriesKey, Spelling,
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

    fn by_spelling(&mut self, spellings: &[Spelling], found: &mut Vec<Option<SeriesRef>>) {
        self.inner.by_spelling(spellings, found);
    }

    fn learn(&mut self, spelling: Spelling, series: SeriesRef) {
        self.inner.learn(spelling, series);
    }

    fn expect(&mut self, series: &[SeriesRef]) {
        self.inner.expect(series);
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

    fn discard_out_of_order(&mut self, discards: bool) {
        self.inner.discard_out_of_order(discards);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::SyncedTsdb;
    use crate::foundation::ManualClock;
    use crate::head::HeadSettings;
    use crate::model::Labels;
    use crate::storage::{AppendError, Appendable};
    use crate::tsdb::tests::scratch;
    use crate::tsdb::{Tsdb, TsdbSettings};

    #[test]
    fn what_the_database_is_told_of_the_order_of_samples_reaches_it() {
        let dir = scratch();
        let settings = TsdbSettings {
            head: HeadSettings {
                out_of_order_window_ms: 5000,
                ..HeadSettings::default()
            },
            ..TsdbSettings::default()
        };
        let clock = Arc::new(ManualClock::new(20_000));
        let db = SyncedTsdb::new(Tsdb::open(dir.path(), settings, clock).unwrap());
        let mut appender = db.appender();
        let labels = Labels::new(&[("n", "a")]).unwrap();
        let series = appender.append_labels(&labels, 10_000, 1.0).unwrap();
        appender.commit().unwrap();
        let mut appender = db.appender();
        appender.append(series, 9000, 1.0).unwrap();
        appender.discard_out_of_order(true);
        let newest = 10_000;
        assert_eq!(
            appender.append(series, 9500, 1.0),
            Err(AppendError::OutOfOrder { newest })
        );
        appender.commit().unwrap();
    }
}
