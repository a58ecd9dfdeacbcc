//! Blocks of samples that come from elsewhere and from the past.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use bytes::Bytes;
use thiserror::Error;

use crate::block::{BlockError, BlockMeta, NewBlock, write_block};
use crate::chunk::{ChunkError, encode_floats};
use crate::compact::levels;
use crate::exposition::{Entry, LabelBuffer, OpenMetricsParser, ParseError};
use crate::model::{BlockId, Labels, LabelsError, TimeRange, TimestampMs};
use crate::storage::{ChunkSeries, ChunkSlice, VecSeriesSet};

/// Length of blocks, unless longer ones are wanted: that of blocks cut from a head.
const BLOCK_RANGE_MS: i64 = 2 * 3_600_000;

/// Why samples did not become blocks.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BackfillError {
    /// The text does not read.
    #[error("read the exposition: {0}")]
    Parse(#[from] ParseError),
    /// A sample does not say when it was.
    #[error("series {series} has no timestamp; every sample needs one")]
    NoTimestamp {
        /// As written.
        series: String,
    },
    /// Labels that cannot be.
    #[error("series {series}: {problem}")]
    Labels {
        /// As written.
        series: String,
        /// What is wrong.
        problem: LabelsError,
    },
    /// Two values at one time.
    #[error("series {series} has two values at {t}: {first} and {second}")]
    Twice {
        /// Which.
        series: String,
        /// When.
        t: TimestampMs,
        /// The one.
        first: f64,
        /// The other.
        second: f64,
    },
    /// A chunk.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The block.
    #[error(transparent)]
    Block(#[from] BlockError),
}

/// The longest of 2 h, 6 h, 18 h, … up to 31 days that is not longer than `longest_ms`; at least 2 h.
pub fn backfill_range_ms(longest_ms: i64) -> i64 {
    let longest_ms = longest_ms.max(BLOCK_RANGE_MS);
    let ranges = levels(BLOCK_RANGE_MS, Some(longest_ms.saturating_mul(10))).ranges_ms;
    ranges.last().copied().unwrap_or(BLOCK_RANGE_MS)
}

/// The samples of one block.
#[derive(Debug, Default)]
pub struct BackfillBatch {
    series: BTreeMap<Labels, Vec<(TimestampMs, f64)>>,
}

impl BackfillBatch {
    /// Adds samples of a series, in any order.
    pub fn add(&mut self, labels: Labels, samples: impl IntoIterator<Item = (TimestampMs, f64)>) {
        self.series.entry(labels).or_default().extend(samples);
    }

    /// Writes the block below `dir`; its range is that of its samples. `None` when there are none.
    pub fn write(self, dir: &Path, id: BlockId) -> Result<Option<BlockMeta>, BackfillError> {
        let (mut min, mut max) = (TimestampMs::MAX, TimestampMs::MIN);
        let mut series = Vec::with_capacity(self.series.len());
        for (labels, mut samples) in self.series {
            samples.sort_by_key(|(t, _)| *t);
            samples.dedup_by_key(|(t, v)| (*t, v.to_bits()));
            for (first, second) in samples.iter().zip(samples.iter().skip(1)) {
                if first.0 == second.0 {
                    return Err(BackfillError::Twice {
                        series: labels.to_string(),
                        t: first.0,
                        first: first.1,
                        second: second.1,
                    });
                }
            }
            let (times, values): (Vec<TimestampMs>, Vec<f64>) = samples.into_iter().unzip();
            min = times.first().map_or(min, |first| min.min(*first));
            max = times.last().map_or(max, |last| max.max(*last));
            let chunks = encode_floats(&times, &values)?;
            let chunks = chunks.into_iter().map(|chunk| ChunkSlice {
                min_t: chunk.min_t,
                max_t: chunk.max_t,
                encoding: chunk.encoding,
                data: Bytes::from(chunk.data),
            });
            series.push(ChunkSeries {
                labels,
                chunks: chunks.collect(),
            });
        }
        let range = TimeRange {
            min,
            max: max.saturating_add(1),
        };
        let mut set = VecSeriesSet::new(series, Vec::new());
        Ok(write_block(dir, NewBlock::new(id, range), &mut set)?)
    }
}

/// An OpenMetrics text on its way into blocks.
#[derive(Debug)]
pub struct OpenMetricsImport<'a> {
    input: &'a [u8],
    range_ms: i64,
    labels: Vec<(String, String)>,
    /// Samples by the start of the block they belong to.
    n_samples: BTreeMap<TimestampMs, u64>,
}

impl<'a> OpenMetricsImport<'a> {
    /// Reads the text once, to know what is to be done. Blocks are aligned to `range_ms`; `labels` are put on every
    /// series.
    pub fn new(
        input: &'a [u8],
        range_ms: i64,
        labels: Vec<(String, String)>,
    ) -> Result<Self, BackfillError> {
        let mut import = Self {
            input,
            range_ms: range_ms.max(1),
            labels,
            n_samples: BTreeMap::new(),
        };
        let mut n_samples = BTreeMap::new();
        let mut last = None;
        import.each(&mut |_, line_t, _| {
            let start = import.start_of(line_t);
            // Lines of one time stand together more often than not.
            match &mut last {
                Some((at, n)) if *at == start => *n += 1,
                _ => {
                    if let Some((at, n)) = last.replace((start, 1)) {
                        *n_samples.entry(at).or_default() += n;
                    }
                }
            }
            Ok(())
        })?;
        if let Some((at, n)) = last {
            *n_samples.entry(at).or_default() += n;
        }
        import.n_samples = n_samples;
        Ok(import)
    }

    /// All samples.
    pub fn n_samples(&self) -> u64 {
        self.n_samples.values().sum()
    }

    /// Starts of the blocks there will be, oldest first, with their samples.
    pub fn blocks(&self) -> Vec<(TimestampMs, u64)> {
        self.n_samples
            .iter()
            .map(|(start, n)| (*start, *n))
            .collect()
    }

    /// Writes the block that starts at `start` below `dir`.
    pub fn write(
        &self,
        start: TimestampMs,
        dir: &Path,
        id: BlockId,
    ) -> Result<Option<BlockMeta>, BackfillError> {
        let mut numbers: HashMap<&str, usize, foldhash::fast::RandomState> = HashMap::default();
        let mut series: Vec<(Labels, Vec<(TimestampMs, f64)>)> = Vec::new();
        let mut buffer = LabelBuffer::new();
        self.each(&mut |parser, t, line| {
            if self.start_of(t) != start {
                return Ok(());
            }
            let number = match numbers.get(line.text) {
                Some(number) => *number,
                None => {
                    parser.labels(&mut buffer);
                    series.push((self.labelled(&buffer, line.text)?, Vec::new()));
                    numbers.insert(line.text, series.len() - 1);
                    series.len() - 1
                }
            };
            if let Some((_, samples)) = series.get_mut(number) {
                samples.push((t, line.v));
            }
            Ok(())
        })?;
        let mut batch = BackfillBatch::default();
        for (labels, samples) in series {
            batch.add(labels, samples);
        }
        batch.write(dir, id)
    }

    fn start_of(&self, t: TimestampMs) -> TimestampMs {
        t.div_euclid(self.range_ms).saturating_mul(self.range_ms)
    }

    fn labelled(&self, buffer: &LabelBuffer, text: &str) -> Result<Labels, BackfillError> {
        let wrong = |problem| BackfillError::Labels {
            series: text.to_owned(),
            problem,
        };
        let labels = buffer.to_labels().map_err(wrong)?;
        if self.labels.is_empty() {
            return Ok(labels);
        }
        let mut builder = labels.to_builder();
        for (name, value) in &self.labels {
            builder.set(name, value);
        }
        builder.build().map_err(wrong)
    }

    /// Calls `seen` with every sample.
    fn each(
        &self,
        seen: &mut dyn FnMut(
            &OpenMetricsParser<'a>,
            TimestampMs,
            crate::exposition::SeriesLine<'a>,
        ) -> Result<(), BackfillError>,
    ) -> Result<(), BackfillError> {
        let mut parser = OpenMetricsParser::new(self.input, false);
        while let Some(entry) = parser.next_entry()? {
            if let Entry::Series(line) = entry {
                let Some(t) = line.t else {
                    let series = line.text.to_owned();
                    return Err(BackfillError::NoTimestamp { series });
                };
                seen(&parser, t, line)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_as_long_as_a_level_that_fits() {
        let hour = 3_600_000;
        let range = |hours: i64| backfill_range_ms(hours * hour) / hour;
        assert_eq!(
            [0, 1, 2, 5, 6, 17, 18, 53].map(range),
            [2, 2, 2, 2, 6, 6, 18, 18]
        );
    }

    #[test]
    fn what_cannot_become_a_block_is_named() {
        let said = |text: &str| {
            let import = OpenMetricsImport::new(text.as_bytes(), 7_200_000, Vec::new());
            let dir = tempfile::tempdir().unwrap();
            let id = BlockId::from_parts(1, 1);
            let written = import.and_then(|import| {
                let start = import.blocks()[0].0;
                import.write(start, dir.path(), id)
            });
            written.unwrap_err().to_string()
        };
        assert_eq!(
            said("a{b=\"c\"} 1\n# EOF\n"),
            "series a{b=\"c\"} has no timestamp; every sample needs one"
        );
        assert_eq!(
            said("a 1 5\na 1 5\na 2 5\n# EOF\n"),
            "series {__name__=\"a\"} has two values at 5000: 1 and 2"
        );
        assert!(said("a 1 5\n").contains("# EOF"));
    }

    #[test]
    fn samples_in_any_order_go_to_the_block_of_their_time() {
        let text = "a 3 7300\na 1 10\nb 2 -5\na 2 9\n# EOF\n";
        let labels = vec![("job".to_owned(), "x".to_owned())];
        let import = OpenMetricsImport::new(text.as_bytes(), 7_200_000, labels).unwrap();
        assert_eq!(import.blocks(), [(-7_200_000, 1), (0, 2), (7_200_000, 1)]);
        assert_eq!(import.n_samples(), 4);
        let dir = tempfile::tempdir().unwrap();
        let meta = import
            .write(0, dir.path(), BlockId::from_parts(1, 1))
            .unwrap()
            .unwrap();
        assert_eq!((meta.min_time, meta.max_time), (9000, 10_001));
        let block = crate::block::Block::open(&dir.path().join(meta.ulid.to_string())).unwrap();
        assert_eq!(block.index().label_values("job", &[]).unwrap(), ["x"]);
    }
}
