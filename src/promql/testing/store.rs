//! What scripts load, and the simplest holder of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::chunk::{Counts, EncodedChunk, encode_floats_with_starts, encode_histograms};
use crate::model::{Histogram, Labels, Matcher, TimestampMs, is_stale};
use crate::promql::testing::classic::native_histograms;
use crate::promql::testing::script::{Load, LoadSeries};
use crate::promql::testing::series::SequenceValue;
use crate::promql::value::PointValue;
use crate::storage::{
    ChunkSeries, ChunkSlice, LabelAnswer, LabelHints, Queryable, SelectHints, SeriesSet,
    StorageError, VecSeriesSet,
};

/// One sample as loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedSample {
    /// When.
    pub t: TimestampMs,
    /// When its counter began; zero is unknown.
    pub st: TimestampMs,
    /// What.
    pub value: PointValue,
}

/// One series as loaded so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoadedSeries {
    samples: Vec<LoadedSample>,
}

impl LoadedSeries {
    /// In time order.
    pub fn samples(&self) -> &[LoadedSample] {
        &self.samples
    }

    /// Adds a sample; its time has to lie behind all others'. A stale marker behind a histogram becomes a stale histogram.
    pub fn push(&mut self, mut sample: LoadedSample) -> Result<(), String> {
        if let Some(last) = self.samples.last() {
            if sample.t <= last.t {
                return Err(format!("is loaded twice at {}", sample.t));
            }
            if let (PointValue::Histogram(_), PointValue::Float(v)) = (&last.value, &sample.value)
                && is_stale(*v)
            {
                sample.value = PointValue::Histogram(Arc::new(Histogram::stale()));
            }
        }
        self.samples.push(sample);
        Ok(())
    }

    /// Encoded as blocks have them: floats and histograms in chunks of their own, with start times where any is known.
    pub fn chunks(&self) -> Result<Vec<EncodedChunk>, String> {
        let mut chunks = Vec::new();
        let is_float = |sample: &LoadedSample| sample.value.as_float().is_some();
        for run in self
            .samples
            .chunk_by(|left, right| is_float(left) == is_float(right))
        {
            let times: Vec<TimestampMs> = run.iter().map(|sample| sample.t).collect();
            let starts: Vec<TimestampMs> = run.iter().map(|sample| sample.st).collect();
            let (mut floats, mut histograms) = (Vec::new(), Vec::new());
            for sample in run {
                match &sample.value {
                    PointValue::Float(v) => floats.push(*v),
                    PointValue::Histogram(h) => histograms.push(Arc::clone(h)),
                }
            }
            let encoded = if histograms.is_empty() {
                encode_floats_with_starts(&times, &floats, &starts)
            } else {
                encode_histograms(Counts::Float, &times, &histograms, Some(&starts))
            };
            chunks.extend(encoded.map_err(|error| error.to_string())?);
        }
        Ok(chunks)
    }
}

/// All that has been loaded since the last `clear`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoadedData {
    /// Series with their samples.
    pub series: BTreeMap<Labels, LoadedSeries>,
}

impl LoadedData {
    /// Adds the values of series notation ([`crate::promql::testing::parse_series`]) from `start` on, `step_ms` apart.
    pub fn add_values(
        &mut self,
        labels: &Labels,
        (start, step_ms): (TimestampMs, i64),
        values: &[SequenceValue],
    ) -> Result<(), String> {
        self.add_values_with_starts(labels, (start, step_ms), values, &[])
    }

    fn add_values_with_starts(
        &mut self,
        labels: &Labels,
        (start, step_ms): (TimestampMs, i64),
        values: &[SequenceValue],
        start_offsets: &[Option<i64>],
    ) -> Result<(), String> {
        let series = self.series.entry(labels.clone()).or_default();
        let mut t = start;
        for (position, value) in values.iter().enumerate() {
            let value = match value {
                SequenceValue::Gap => None,
                SequenceValue::Float(v) => Some(PointValue::Float(*v)),
                SequenceValue::Histogram(h) => {
                    Some(PointValue::Histogram(Arc::clone(&h.histogram)))
                }
            };
            if let Some(value) = value {
                let offset = start_offsets.get(position).copied().flatten();
                let st = offset.map_or(0, |offset| t + offset);
                series
                    .push(LoadedSample { t, st, value })
                    .map_err(|why| format!("{labels} {why}"))?;
            }
            t += step_ms;
        }
        Ok(())
    }

    /// Adds what a `load` says.
    pub(super) fn add(&mut self, load: &Load) -> Result<(), String> {
        // A series that stands in one load twice is what its last line says.
        let last: BTreeMap<&Labels, &LoadSeries> = load
            .series
            .iter()
            .map(|series| (&series.labels, series))
            .collect();
        for added in last.values() {
            let offsets = added.start_offsets.as_deref().unwrap_or_default();
            let grid = (0, load.step_ms);
            self.add_values_with_starts(&added.labels, grid, &added.values, offsets)?;
        }
        if load.with_native_histograms {
            for (labels, histograms) in native_histograms(last.into_values(), load.step_ms)? {
                let series = self.series.entry(labels).or_default();
                for (t, histogram) in histograms {
                    let value = PointValue::Histogram(Arc::new(histogram));
                    series.push(LoadedSample { t, st: 0, value })?;
                }
            }
        }
        Ok(())
    }

    /// Are there native histograms? A holder of floats alone is no place for them.
    pub fn has_histograms(&self) -> bool {
        let is_histogram = |sample: &LoadedSample| sample.value.as_float().is_none();
        self.series
            .values()
            .any(|series| series.samples.iter().any(is_histogram))
    }

    /// Is the start of any counter known?
    pub fn has_start_times(&self) -> bool {
        self.series
            .values()
            .any(|series| series.samples.iter().any(|sample| sample.st != 0))
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
            let chunks = loaded
                .chunks()?
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

    /// Holds series as they are.
    pub fn from_series(series: Vec<ChunkSeries>) -> Self {
        Self { series }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Encoding;
    use crate::promql::testing::script::{Command, parse_script};

    fn load(text: &str) -> LoadedData {
        let mut data = LoadedData::default();
        for command in parse_script(text).unwrap() {
            match command {
                Command::Load(load) => data.add(&load).unwrap(),
                other @ (Command::Clear | Command::Eval(_)) => panic!("{other:?}"),
            }
        }
        data
    }

    #[track_caller]
    fn check_encodings(text: &str, expect: &[Encoding]) {
        let data = load(text);
        let chunks = data
            .series
            .values()
            .flat_map(|series| series.chunks().unwrap());
        let found: Vec<Encoding> = chunks.map(|chunk| chunk.encoding).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn each_kind_of_sample_has_chunks_of_its_own() {
        use Encoding::{FloatHistogram, FloatHistogramSt, Xor, Xor2};
        check_encodings("load 1m\n a 1 2 _ 3", &[Xor]);
        check_encodings("load 1m\n a@st _ -30s\n a 1 2", &[Xor2]);
        check_encodings("load 1m\n a 1 {{}} {{}} 2", &[Xor, FloatHistogram, Xor]);
        check_encodings("load 1m\n a@st -1s\n a {{}}", &[FloatHistogramSt]);
    }

    #[test]
    fn what_was_loaded_is_known() {
        let plain = load("load 1m\n a 1 2\n b 3");
        assert!(!plain.has_histograms() && !plain.has_start_times());
        assert!(load("load 1m\n a 1 {{}}").has_histograms());
        let started = load("load 1m\n a@st _ -30s\n a 1 2");
        assert!(started.has_start_times());
        let samples = started.series.values().next().unwrap().samples();
        let starts: Vec<i64> = samples.iter().map(|sample| sample.st).collect();
        assert_eq!(starts, [0, 30_000]);
    }

    #[test]
    fn loads_add_up_but_no_time_comes_twice() {
        let mut data = load("load 1m\n a 1");
        let (labels, values) = crate::promql::testing::parse_series("a 2 3").unwrap();
        data.add_values(&labels, (60_000, 60_000), &values).unwrap();
        let samples = data.series.get(&labels).unwrap().samples();
        let times: Vec<i64> = samples.iter().map(|sample| sample.t).collect();
        assert_eq!(times, [0, 60_000, 120_000]);
        let why = data.add_values(&labels, (120_000, 1), &values).unwrap_err();
        assert_eq!(why, r#"{__name__="a"} is loaded twice at 120000"#);
    }

    #[test]
    fn a_marker_behind_a_histogram_is_a_stale_histogram() {
        let data = load("load 1m\n a 1 stale {{}} stale");
        let samples = data.series.values().next().unwrap().samples();
        let kinds: Vec<bool> = samples
            .iter()
            .map(|sample| match &sample.value {
                PointValue::Float(_) => false,
                PointValue::Histogram(h) => h.is_stale(),
            })
            .collect();
        assert_eq!(kinds, [false, false, false, true]);
    }
}
