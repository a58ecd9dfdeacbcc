//! A source of series that tests fill and break.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use gauntlet::api::grpc::{Database, Source};
use gauntlet::chunk::encode_floats;
use gauntlet::foundation::Cancel;
use gauntlet::model::{Interval, Labels, Matcher};
use gauntlet::storage::{
    ChunkSeries, ChunkSlice, LabelAnswer, LabelHints, Queryable, SelectHints, SeriesSet,
    StorageError, merge_label_lists,
};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// `select` refuses.
    Unavailable,
    /// The set breaks after the first series.
    Corrupt,
    /// The set panics after the first series.
    Panic,
    /// The set never ends.
    Endless,
}

/// Series in memory.
pub(crate) struct Memory {
    pub(crate) series: Vec<ChunkSeries>,
    pub(crate) fault: Fault,
    /// Series handed out so far.
    pub(crate) n_taken: Arc<AtomicUsize>,
    /// A set was dropped.
    pub(crate) is_dropped: Arc<AtomicBool>,
}

impl Memory {
    pub(crate) fn new(labels: &[&str], fault: Fault) -> Self {
        Self {
            series: labels.iter().map(|text| series(text)).collect(),
            fault,
            n_taken: Arc::default(),
            is_dropped: Arc::default(),
        }
    }

    fn matching(&self, matchers: &[Matcher], interval: Interval) -> Vec<ChunkSeries> {
        let mut found: Vec<_> = self.series.clone();
        found.retain(|series| {
            matchers
                .iter()
                .all(|matcher| matcher.matches(series.labels.value(&matcher.name)))
        });
        for series in &mut found {
            series
                .chunks
                .retain(|chunk| interval.min <= chunk.max_t && chunk.min_t <= interval.max);
        }
        found.retain(|series| !series.chunks.is_empty());
        found.sort_by(|left, right| left.labels.cmp(&right.labels));
        found
    }
}

/// `a=1,b=2`
pub(crate) fn labels(text: &str) -> Labels {
    let pairs: Vec<_> = text
        .split(',')
        .filter_map(|pair| pair.split_once('='))
        .collect();
    Labels::new(&pairs).unwrap()
}

/// 300 samples, one a second from 0 ms, value = number.
pub(crate) fn series(text: &str) -> ChunkSeries {
    let times: Vec<i64> = (0..300).map(|n| n * 1_000).collect();
    let values: Vec<f64> = (0..300).map(f64::from).collect();
    let chunks = encode_floats(&times, &values).unwrap();
    ChunkSeries {
        labels: labels(text),
        chunks: chunks
            .into_iter()
            .map(|chunk| ChunkSlice {
                min_t: chunk.min_t,
                max_t: chunk.max_t,
                encoding: chunk.encoding,
                data: chunk.data.into(),
            })
            .collect(),
    }
}

struct Set {
    series: Vec<ChunkSeries>,
    next: usize,
    fault: Fault,
    skip_chunks: bool,
    cancel: Cancel,
    n_taken: Arc<AtomicUsize>,
    is_dropped: Arc<AtomicBool>,
}

impl SeriesSet for Set {
    fn next(&mut self) -> Option<Result<ChunkSeries, StorageError>> {
        if self.cancel.reason().is_some() {
            return Some(Err(StorageError::Canceled));
        }
        let number = self.next;
        self.next += 1;
        match self.fault {
            Fault::Corrupt if number == 1 => {
                let text = "chunks/000001 offset 8: checksum".to_owned();
                return Some(Err(StorageError::Corrupt(text)));
            }
            Fault::Panic if number == 1 => panic!("on purpose"),
            Fault::Endless => {
                let mut series = series(&format!("__name__=up,n={number:012}"));
                series.chunks.truncate(1);
                self.n_taken.fetch_add(1, Ordering::SeqCst);
                return Some(Ok(series));
            }
            Fault::None | Fault::Unavailable | Fault::Corrupt | Fault::Panic => (),
        }
        let mut series = self.series.get(number)?.clone();
        if self.skip_chunks {
            series.chunks.clear();
        }
        Some(Ok(series))
    }

    fn warnings(&mut self) -> Vec<String> {
        Vec::new()
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        self.is_dropped.store(true, Ordering::SeqCst);
    }
}

impl Queryable for Memory {
    fn select(
        &self,
        matchers: &[Matcher],
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        if self.fault == Fault::Unavailable {
            return Err(StorageError::Unavailable("the bucket is away".to_owned()));
        }
        let mut series = self.matching(matchers, hints.interval);
        if hints.limit != 0 {
            series.truncate(hints.limit);
        }
        Ok(Box::new(Set {
            series,
            next: 0,
            fault: self.fault,
            skip_chunks: hints.skip_chunks,
            cancel: hints.cancel.clone(),
            n_taken: Arc::clone(&self.n_taken),
            is_dropped: Arc::clone(&self.is_dropped),
        }))
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        let found = self.matching(matchers, hints.interval);
        let names = found.iter().flat_map(|series| series.labels.iter());
        let values = names.map(|(name, _)| name.to_owned()).collect();
        Ok(answer(values, hints.limit))
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        let found = self.matching(matchers, hints.interval);
        let values = found.iter().filter_map(|series| series.labels.get(name));
        Ok(answer(values.map(str::to_owned).collect(), hints.limit))
    }
}

fn answer(values: Vec<String>, limit: usize) -> LabelAnswer {
    let warnings = Vec::new();
    merge_label_lists(vec![LabelAnswer { values, warnings }], limit)
}

/// An appliance with external labels.
pub(crate) struct Appliance {
    pub(crate) external: Labels,
    pub(crate) own: Arc<dyn Queryable>,
    pub(crate) others: Option<Arc<dyn Queryable>>,
    pub(crate) is_ready: bool,
}

impl Source for Appliance {
    fn is_ready(&self) -> bool {
        self.is_ready
    }

    fn external_labels(&self) -> Labels {
        self.external.clone()
    }

    fn own(&self) -> Arc<dyn Queryable> {
        Arc::clone(&self.own)
    }

    fn others(&self) -> Option<Arc<dyn Queryable>> {
        self.others.clone()
    }

    fn databases(&self) -> Vec<Database> {
        let interval = Interval {
            min: 0,
            max: 299_000,
        };
        vec![Database {
            external: self.external.clone(),
            interval,
        }]
    }
}
