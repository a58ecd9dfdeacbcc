//! What a block consists of: churn, cardinality, and how full its chunks are.

use std::collections::BTreeMap;

use crate::block::error::BlockError;
use crate::block::read::Block;
use crate::chunk::{StoredChunk, decode_histograms, n_samples};
use crate::index::SeriesEntry;
use crate::model::{METRIC_NAME, Matcher};

/// A name or a pair, and how much of it there is.
pub type Counted = (String, u64);

/// The tables of `promtool tsdb analyze`, each sorted by count, largest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockAnalysis {
    /// Series that match.
    pub n_series: u64,
    /// Names of their labels.
    pub n_label_names: u64,
    /// Different label pairs.
    pub n_pairs: u64,
    /// Label pairs of all series.
    pub n_pair_entries: u64,
    /// Whole series' lives that are missing in the block, by label pair.
    pub churn_by_pair: Vec<Counted>,
    /// The same by label name.
    pub churn_by_name: Vec<Counted>,
    /// Series by label pair.
    pub series_by_pair: Vec<Counted>,
    /// Bytes of all values by label name.
    pub value_bytes_by_name: Vec<Counted>,
    /// Values by label name.
    pub values_by_name: Vec<Counted>,
    /// Series by metric name.
    pub series_by_metric: Vec<Counted>,
}

/// How full chunks are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChunkAnalysis {
    /// Chunks of all kinds.
    pub n_chunks: usize,
    /// Samples of each chunk of floats.
    pub float_samples: Vec<usize>,
    /// Bytes of each.
    pub float_bytes: Vec<usize>,
    /// Samples of each chunk of histograms.
    pub histogram_samples: Vec<usize>,
    /// Bytes of each.
    pub histogram_bytes: Vec<usize>,
    /// Buckets of all samples of each.
    pub histogram_buckets: Vec<usize>,
}

#[derive(Default)]
struct Of {
    n_series: u64,
    uncovered_ms: u64,
}

impl Block {
    /// Counts the series that match all of `matchers`.
    pub fn analyze(&self, matchers: &[Matcher]) -> Result<BlockAnalysis, BlockError> {
        let index = self.index();
        let meta = self.meta();
        let span_ms = meta.max_time.wrapping_sub(meta.min_time).cast_unsigned();
        let mut by_pair: BTreeMap<(u32, u32), Of> = BTreeMap::new();
        let mut by_name: BTreeMap<u32, Of> = BTreeMap::new();
        let mut analysis = BlockAnalysis::default();
        let mut entry = SeriesEntry::default();
        for id in index.select(matchers)? {
            index.series(id, &mut entry)?;
            let (Some(first), Some(last)) = (entry.chunks.first(), entry.chunks.last()) else {
                continue;
            };
            let covered_ms = last.max_t.wrapping_sub(first.min_t).cast_unsigned();
            let uncovered_ms = span_ms.saturating_sub(covered_ms);
            analysis.n_series += 1;
            for &(name, value) in &entry.symbols {
                for of in [
                    by_pair.entry((name, value)).or_default(),
                    by_name.entry(name).or_default(),
                ] {
                    of.n_series += 1;
                    of.uncovered_ms = of.uncovered_ms.saturating_add(uncovered_ms);
                }
                analysis.n_pair_entries += 1;
            }
        }
        let share = |of: &Of| of.uncovered_ms.checked_div(span_ms).unwrap_or(0);
        let text = |symbol: u32| index.symbols().get(symbol);
        let mut values: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for (&(name, value), of) in &by_pair {
            let (name_text, value_text) = (text(name)?, text(value)?);
            let pair = format!("{name_text}={value_text}");
            analysis.churn_by_pair.push((pair.clone(), share(of)));
            analysis.series_by_pair.push((pair, of.n_series));
            if name_text == METRIC_NAME {
                let metric = value_text.to_owned();
                analysis.series_by_metric.push((metric, of.n_series));
            }
            let (n_values, n_bytes) = values.entry(name).or_default();
            *n_values += 1;
            *n_bytes += value_text.len() as u64;
        }
        for (&name, of) in &by_name {
            let name_text = text(name)?.to_owned();
            let (n_values, n_bytes) = values.get(&name).copied().unwrap_or_default();
            analysis.churn_by_name.push((name_text.clone(), share(of)));
            analysis.values_by_name.push((name_text.clone(), n_values));
            analysis.value_bytes_by_name.push((name_text, n_bytes));
        }
        (analysis.n_label_names, analysis.n_pairs) = (by_name.len() as u64, by_pair.len() as u64);
        for table in [
            &mut analysis.churn_by_pair,
            &mut analysis.churn_by_name,
            &mut analysis.series_by_pair,
            &mut analysis.value_bytes_by_name,
            &mut analysis.values_by_name,
            &mut analysis.series_by_metric,
        ] {
            table.sort_by(|left, right| (right.1, &left.0).cmp(&(left.1, &right.0)));
        }
        Ok(analysis)
    }

    /// Reads every chunk of the series that match all of `matchers`; `seen` hears of each series.
    pub fn analyze_chunks(
        &self,
        matchers: &[Matcher],
        seen: &mut dyn FnMut(usize, usize),
    ) -> Result<ChunkAnalysis, BlockError> {
        let mut analysis = ChunkAnalysis::default();
        let mut entry = SeriesEntry::default();
        let ids = self.index().select(matchers)?;
        for (n_done, id) in ids.iter().enumerate() {
            self.index().series(*id, &mut entry)?;
            for chunk in &entry.chunks {
                analysis.add(&self.segments().chunk(chunk.at)?)?;
            }
            seen(n_done + 1, ids.len());
        }
        Ok(analysis)
    }
}

impl ChunkAnalysis {
    fn add(&mut self, chunk: &StoredChunk) -> Result<(), BlockError> {
        let n = n_samples(chunk.encoding, &chunk.data)?;
        self.n_chunks += 1;
        if !chunk.encoding.has_histograms() {
            self.float_samples.push(n);
            self.float_bytes.push(chunk.data.len());
            return Ok(());
        }
        let (mut times, mut histograms) = (Vec::new(), Vec::new());
        decode_histograms(chunk.encoding, &chunk.data, &mut times, &mut histograms)?;
        let buckets = histograms
            .iter()
            .map(|h| h.positive.counts.len() + h.negative.counts.len());
        self.histogram_samples.push(n);
        self.histogram_bytes.push(chunk.data.len());
        self.histogram_buckets.push(buckets.sum());
        Ok(())
    }
}
