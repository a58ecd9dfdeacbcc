//! What was deleted from the newest samples: hidden from readers at once, gone when the block is cut.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;

use crate::block::Tombstones;
use crate::chunk::without_intervals;
use crate::head::HeadError;
use crate::head::core::Head;
use crate::model::{Interval, Matcher, TimestampMs};
use crate::storage::ChunkSlice;
use crate::wal::{RefTombstone, encode_tombstones};

/// Entries of one record in the log.
const TOMBSTONES_PER_RECORD: usize = 4096;

/// Deleted intervals by number of the living series.
#[derive(Debug, Default)]
pub(crate) struct Deleted {
    /// Looked at before the lock, because nearly always nothing is.
    is_any: AtomicBool,
    tombstones: RwLock<Tombstones>,
}

impl Deleted {
    pub(crate) fn add(&self, series: u64, interval: Interval) {
        self.tombstones.write().add(series, interval);
        self.is_any.store(true, Ordering::SeqCst);
    }

    /// Was anything of `series` deleted?
    pub(crate) fn has(&self, series: u64) -> bool {
        self.is_any.load(Ordering::SeqCst) && !self.tombstones.read().of(series).is_empty()
    }

    /// Takes deleted samples of `series` away, of those that came in order.
    pub(crate) fn hide(&self, series: u64, chunks: &mut Vec<ChunkSlice>) {
        if !self.is_any.load(Ordering::SeqCst) || chunks.is_empty() {
            return;
        }
        let tombstones = self.tombstones.read();
        let deleted = tombstones.of(series);
        if deleted.is_empty() {
            return;
        }
        chunks.retain_mut(|chunk| {
            let span = Interval {
                min: chunk.min_t,
                max: chunk.max_t,
            };
            if !deleted.iter().any(|gone| gone.overlaps(&span)) {
                return true;
            }
            match without_intervals(chunk.encoding, &chunk.data, deleted) {
                Ok(Some(rest)) => {
                    *chunk = ChunkSlice {
                        min_t: rest.min_t,
                        max_t: rest.max_t,
                        encoding: rest.encoding,
                        data: Bytes::from(rest.data),
                    };
                    true
                }
                Ok(None) => false,
                // Whoever decodes it gets the error.
                Err(_) => true,
            }
        });
    }

    /// Every interval with its series.
    pub(crate) fn all(&self) -> Vec<RefTombstone> {
        let tombstones = self.tombstones.read();
        let all = tombstones.iter().flat_map(|(series, intervals)| {
            let of_series = intervals.iter();
            of_series.map(move |&interval| RefTombstone { series, interval })
        });
        all.collect()
    }

    /// Forgets what ended before `mint`, as its samples have.
    pub(crate) fn truncate_before(&self, mint: TimestampMs) {
        if !self.is_any.load(Ordering::SeqCst) {
            return;
        }
        let mut tombstones = self.tombstones.write();
        tombstones.forget_before(mint);
        self.is_any.store(!tombstones.is_empty(), Ordering::SeqCst);
    }
}

impl Head {
    /// Declares the samples in `interval` of the series that match deleted; of how many series. They are hidden when
    /// this returns, and as safe from coming back as a commit is from being lost.
    ///
    /// Samples that came out of order stay: nobody could tell those that came before from those that come after, which
    /// are taken. Whoever wants to delete them has them cut into blocks before.
    pub fn delete(&self, matchers: &[Matcher], interval: Interval) -> Result<usize, HeadError> {
        let inner = self.inner();
        let matching = self.view().matching(matchers);
        // No commit meanwhile: what was committed before this is deleted, what comes later is not.
        let mut committer = inner.committer.lock();
        inner.settle_for_deletion(&mut committer)?;
        let mut tombstones = Vec::new();
        for series in matching {
            let state = series.lock();
            let Some((first, last)) = state.min_t().zip(state.max_t()) else {
                continue;
            };
            // Only times that the series has: the interval may be all of time.
            let interval = Interval {
                min: interval.min.max(first),
                max: interval.max.min(last),
            };
            if interval.min <= interval.max {
                tombstones.push(RefTombstone {
                    series: series.series,
                    interval,
                });
            }
        }
        for entries in tombstones.chunks(TOMBSTONES_PER_RECORD) {
            if let Err(error) = committer.wal.append(&[&encode_tombstones(entries)]) {
                inner.refuse(&mut committer.wal, &error);
                return Err(error.into());
            }
        }
        for RefTombstone { series, interval } in &tombstones {
            inner.deleted.add(*series, *interval);
        }
        Ok(tombstones.len())
    }

    /// Intervals that are deleted and not yet gone.
    pub fn n_tombstones(&self) -> usize {
        self.inner().deleted.tombstones.read().n_intervals()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::chunk::decode_floats;
    use crate::head::{HeadSettings, ReplayProgress};
    use crate::model::{Labels, MatchType};
    use crate::storage::{Appendable, Queryable, SelectHints};

    type Model = BTreeMap<String, Vec<i64>>;

    fn open(dir: &Path, floor: i64) -> Head {
        let settings = HeadSettings {
            chunk_range_ms: 300,
            ..HeadSettings::default()
        };
        let (head, report) = Head::open(dir, settings, floor, &ReplayProgress::default()).unwrap();
        assert_eq!((report.n_records_skipped, report.n_damages), (0, 0));
        head
    }

    fn times(source: &dyn Queryable) -> Model {
        let all = [Matcher::new(MatchType::Regex, "n", ".*").unwrap()];
        let hints = SelectHints::new(Interval::ALL);
        let mut set = source.select(&all, &hints).unwrap();
        let mut model = Model::new();
        while let Some(series) = set.next() {
            let series = series.unwrap();
            let (mut times, mut values) = (Vec::new(), Vec::new());
            for chunk in &series.chunks {
                let start = times.len();
                let (t, v) = (&mut times, &mut values);
                decode_floats(chunk.encoding, &chunk.data, t, v).unwrap();
                let span = (times.get(start), times.last());
                assert_eq!(span, (Some(&chunk.min_t), Some(&chunk.max_t)));
            }
            model.insert(series.labels.value("n").to_owned(), times);
        }
        model
    }

    #[derive(Debug, Clone)]
    enum Step {
        Append(u8),
        Delete(u8, i64, i64),
        Truncate(i64),
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (1u8..90).prop_map(Step::Append),
            4 => (0u8..4, -20i64..2000, 0i64..900).prop_map(|(n, min, len)| Step::Delete(n, min, min + len)),
            1 => (0i64..600).prop_map(Step::Truncate),
            1 => Just(Step::Restart),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 40, ..ProptestConfig::default() })]

        #[test]
        fn what_was_deleted_stays_away_and_nothing_else_does(
            steps in prop::collection::vec(step(), 1..24),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut head = Some(open(dir.path(), i64::MIN));
            let (mut model, mut now, mut floor) = (Model::new(), 0, i64::MIN);
            for step in steps {
                let here = head.clone().unwrap();
                match step {
                    Step::Append(n) => {
                        for _ in 0..n {
                            now += 10;
                            let mut appender = here.appender();
                            for name in ["0", "1", "2"] {
                                // The last one is a hundred behind the others.
                                let t = if name == "2" { now - 100 } else { now };
                                let labels = Labels::new(&[("n", name)]).unwrap();
                                if appender.append_labels(&labels, t, 0.5).is_ok() {
                                    model.entry(name.to_owned()).or_default().push(t);
                                }
                            }
                            appender.commit().unwrap();
                        }
                    }
                    Step::Delete(n, min, max) => {
                        let matcher = match n {
                            3 => Matcher::new(MatchType::Regex, "n", ".+").unwrap(),
                            n => Matcher::equal("n", &n.to_string()),
                        };
                        here.delete(&[matcher], Interval { min, max }).unwrap();
                        for (name, times) in &mut model {
                            if n == 3 || *name == n.to_string() {
                                times.retain(|t| *t < min || max < *t);
                            }
                        }
                    }
                    Step::Truncate(ahead) => {
                        let mint = floor.max(0) + ahead;
                        if mint + 300 < now {
                            floor = mint;
                            here.truncate_before(mint).unwrap();
                        }
                    }
                    Step::Restart => {
                        drop(here);
                        drop(head.take());
                        head = Some(open(dir.path(), floor));
                        continue;
                    }
                }
                let since = |model: &Model| {
                    let mut model = model.clone();
                    for times in model.values_mut() {
                        times.retain(|t| floor <= *t);
                    }
                    model.retain(|_, times| !times.is_empty());
                    model
                };
                // Chunks that reach over the floor come back whole.
                prop_assert_eq!(since(&times(&here)), since(&model));
            }
        }
    }

    #[test]
    fn a_truncation_forgets_what_ended_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let head = open(dir.path(), i64::MIN);
        for t in 0..100 {
            let mut appender = head.appender();
            let labels = Labels::new(&[("n", "0")]).unwrap();
            appender.append_labels(&labels, t * 10, 0.5).unwrap();
            appender.commit().unwrap();
        }
        let all = [Matcher::equal("n", "0")];
        for (min, max) in [(0, 50), (200, 310), (990, i64::MAX)] {
            assert_eq!(head.delete(&all, Interval { min, max }).unwrap(), 1);
        }
        let nobody = [Matcher::equal("n", "1")];
        assert_eq!(head.delete(&nobody, Interval::ALL).unwrap(), 0);
        assert_eq!(head.n_tombstones(), 3);
        head.truncate_before(300).unwrap();
        assert_eq!(head.n_tombstones(), 2);
        assert_eq!(times(&head)["0"].first(), Some(&320));
    }
}
