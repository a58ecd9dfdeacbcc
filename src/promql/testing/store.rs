//! What scripts load, and the simplest holder of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::chunk::encode_floats;
use crate::model::{Labels, Matcher, Sample, TimestampMs};
use crate::promql::testing::script::{Load, LoadSeries};
use crate::promql::testing::series::SequenceValue;
use crate::storage::{
    ChunkSeries, ChunkSlice, LabelAnswer, LabelHints, Queryable, SelectHints, SeriesSet,
    StorageError, VecSeriesSet,
};

/// One series as loaded so far.
#[derive(Debug, Clone, Default)]
pub struct LoadedSeries {
    /// Floats, in time order.
    pub samples: Vec<Sample>,
    /// For samples that say so: when their counter began.
    pub start_times: BTreeMap<TimestampMs, TimestampMs>,
}

/// All that has been loaded since the last `clear`.
#[derive(Debug, Clone, Default)]
pub struct LoadedData {
    /// Series with their floats.
    pub series: BTreeMap<Labels, LoadedSeries>,
    /// Native histograms were loaded; holders of floats do not see them.
    pub has_histograms: bool,
    /// Start times were loaded.
    pub has_start_times: bool,
}

impl LoadedData {
    /// Adds what a `load` says.
    pub(super) fn add(&mut self, load: &Load) -> Result<(), String> {
        self.has_histograms |= load.with_native_histograms;
        // A series that stands in one load twice is what its last line says.
        let last: BTreeMap<&Labels, &LoadSeries> = load
            .series
            .iter()
            .map(|series| (&series.labels, series))
            .collect();
        for added in last.into_values() {
            let series = self.series.entry(added.labels.clone()).or_default();
            let mut t = 0;
            for (position, value) in added.values.iter().enumerate() {
                match value {
                    SequenceValue::Gap => (),
                    SequenceValue::Histogram(_) => self.has_histograms = true,
                    SequenceValue::Float(v) => {
                        if series.samples.last().is_some_and(|last| t <= last.t) {
                            return Err(format!("{} is loaded twice at {t}", added.labels));
                        }
                        series.samples.push(Sample { t, v: *v });
                        let offset = added
                            .start_offsets
                            .as_ref()
                            .and_then(|offsets| offsets.get(position).copied().flatten());
                        if let Some(offset) = offset {
                            self.has_start_times = true;
                            series.start_times.insert(t, t + offset);
                        }
                    }
                }
                t += load.step_ms;
            }
        }
        Ok(())
    }
}

/// Series in memory, encoded as blocks have them.
#[derive(Debug, Default)]
pub struct MemoryStore {
    series: Vec<ChunkSeries>,
}

impl MemoryStore {
    /// Encodes what was loaded.
    pub fn new(data: &LoadedData) -> Result<Self, String> {
        let mut series = Vec::with_capacity(data.series.len());
        for (labels, loaded) in &data.series {
            let times: Vec<TimestampMs> = loaded.samples.iter().map(|sample| sample.t).collect();
            let values: Vec<f64> = loaded.samples.iter().map(|sample| sample.v).collect();
            let chunks = encode_floats(&times, &values).map_err(|error| error.to_string())?;
            let chunks = chunks
                .into_iter()
                .map(|chunk| ChunkSlice {
                    min_t: chunk.min_t,
                    max_t: chunk.max_t,
                    encoding: chunk.encoding,
                    data: chunk.data.into(),
                })
                .collect();
            series.push(ChunkSeries {
                labels: labels.clone(),
                chunks,
            });
        }
        Ok(Self { series })
    }

    fn matching<'a>(
        &'a self,
        matchers: &'a [Matcher],
    ) -> impl Iterator<Item = &'a ChunkSeries> + 'a {
        self.series.iter().filter(|series| {
            matchers
                .iter()
                .all(|matcher| matcher.matches(series.labels.value(&matcher.name)))
        })
    }
}

fn answer(values: BTreeSet<&str>, limit: usize) -> LabelAnswer {
    let limit = if limit == 0 { usize::MAX } else { limit };
    LabelAnswer {
        values: values.into_iter().take(limit).map(str::to_owned).collect(),
        warnings: Vec::new(),
    }
}

impl Queryable for MemoryStore {
    fn select(
        &self,
        matchers: &[Matcher],
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        let limit = if hints.limit == 0 {
            usize::MAX
        } else {
            hints.limit
        };
        let mut found = Vec::new();
        for series in self.matching(matchers) {
            let chunks: Vec<ChunkSlice> = series
                .chunks
                .iter()
                .filter(|chunk| {
                    chunk.min_t <= hints.interval.max && hints.interval.min <= chunk.max_t
                })
                .cloned()
                .collect();
            if chunks.is_empty() || limit <= found.len() {
                continue;
            }
            found.push(ChunkSeries {
                labels: series.labels.clone(),
                chunks: if hints.skip_chunks {
                    Vec::new()
                } else {
                    chunks
                },
            });
        }
        Ok(Box::new(VecSeriesSet::new(found, Vec::new())))
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        let names = self
            .matching(matchers)
            .flat_map(|series| series.labels.iter().map(|(name, _)| name))
            .collect();
        Ok(answer(names, hints.limit))
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        let values = self
            .matching(matchers)
            .filter_map(|series| series.labels.get(name))
            .collect();
        Ok(answer(values, hints.limit))
    }
}

/// Makes a holder of what was loaded; the memory one, or a head, a block, a gateway over the same samples.
pub type OpenStore = dyn Fn(&LoadedData) -> Result<Arc<dyn Queryable>, String> + Send + Sync;

/// Opens [`MemoryStore`].
pub fn open_memory_store(data: &LoadedData) -> Result<Arc<dyn Queryable>, String> {
    Ok(Arc::new(MemoryStore::new(data)?))
}
