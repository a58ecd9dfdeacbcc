//! Aggregates become coarser aggregates.

use std::sync::Arc;

use crate::chunk::{AggregateChunk, AggregatePart, decode_floats, decode_histograms, n_samples};
use crate::downsample::counter::CounterChain;
use crate::downsample::error::SeriesFlaw;
use crate::downsample::histograms::{self, Kind};
use crate::downsample::raw::RawSeries;
use crate::downsample::windows::{FloatParts, Window, Windows, keep_rising, n_chunks};
use crate::model::{Aggregate, Encoding, Histogram, Interval, Resolution, TimestampMs, is_stale};
use crate::storage::ChunkSlice;

/// Columns of one aggregate; their memory serves the next.
#[derive(Debug, Default)]
pub(crate) struct AggregateSeries {
    raw: RawSeries,
    times: Vec<TimestampMs>,
    values: Vec<f64>,
    total_times: Vec<TimestampMs>,
    totals: Vec<f64>,
}

/// What of a window of finer aggregates is the coarser one.
type Fold = (Aggregate, fn(&Window) -> f64);

/// From windows of one length to windows of another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
}

impl AggregateSeries {
    /// Appends the coarser aggregates of one series. Chunks are sorted and apart; raw ones among them are made finer
    /// aggregates before.
    pub(crate) fn downsample(
        &mut self,
        chunks: &[ChunkSlice],
        step: Step,
        out: &mut Vec<ChunkSlice>,
    ) -> Result<(), SeriesFlaw> {
        let mut finer: Vec<ChunkSlice> = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            if chunk.encoding == Encoding::Aggregate {
                finer.push(chunk.clone());
            } else if 0 < n_samples(chunk.encoding, &chunk.data)? {
                let window_ms = Resolution::FiveMinutes.as_ms();
                self.raw
                    .downsample(std::slice::from_ref(chunk), window_ms, &mut finer)?;
            }
        }
        let mut kinds = Vec::with_capacity(finer.len());
        for chunk in &finer {
            kinds.push(kind_of(&AggregateChunk::decode(&chunk.data)?)?);
        }
        let mut rest = finer.as_slice();
        for run in kinds.chunk_by(|left, right| left == right) {
            let (chunks, later) = rest.split_at_checked(run.len()).unwrap_or((rest, &[]));
            rest = later;
            let is_of_histograms = run.first().is_some_and(Option::is_some);
            self.downsample_run(chunks, is_of_histograms, step, out)?;
        }
        Ok(())
    }

    /// Only whole chunks go together: each knows the true first and last values of the counter.
    fn downsample_run(
        &mut self,
        chunks: &[ChunkSlice],
        is_of_histograms: bool,
        step: Step,
        out: &mut Vec<ChunkSlice>,
    ) -> Result<(), SeriesFlaw> {
        let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else {
            return Ok(());
        };
        let span = Interval {
            min: first.min_t,
            max: last.max_t,
        };
        let mut n_windows = 0;
        for chunk in chunks {
            n_windows += n_samples(chunk.encoding, &chunk.data)?;
        }
        let n = n_chunks(span, step.from_ms, step.to_ms, n_windows);
        for batch in chunks.chunks((chunks.len() / n).max(1)) {
            let mut parts = Vec::with_capacity(batch.len());
            for chunk in batch {
                parts.push(AggregateChunk::decode(&chunk.data)?);
            }
            if is_of_histograms {
                self.histograms(&parts, step.to_ms, out)?;
            } else {
                out.extend(self.floats(&parts, step.to_ms)?);
            }
        }
        Ok(())
    }

    fn floats(
        &mut self,
        chunks: &[AggregateChunk<'_>],
        window_ms: i64,
    ) -> Result<Option<ChunkSlice>, SeriesFlaw> {
        let mut parts = FloatParts::default();
        let mut span: Option<Interval> = None;
        let folds: [Fold; 4] = [
            // How many there were, not how many counts.
            (Aggregate::Count, |window| window.sum),
            (Aggregate::Sum, |window| window.sum),
            (Aggregate::Min, |window| window.min),
            (Aggregate::Max, |window| window.max),
        ];
        for (aggregate, fold) in folds {
            self.gather(chunks, aggregate)?;
            for window in Windows::new(&self.times, &self.values, window_ms) {
                parts.append(aggregate, window.t, fold(&window))?;
                if aggregate == Aggregate::Count {
                    let at = Interval {
                        min: window.t,
                        max: window.t,
                    };
                    span = Some(span.map_or(at, |span| span.joined(at)));
                }
            }
        }
        self.counter(chunks, window_ms, &mut parts)?;
        // Without counts nobody could say how many windows there are.
        Ok(span.map(|span| parts.finish(span)))
    }

    fn counter(
        &mut self,
        chunks: &[AggregateChunk<'_>],
        window_ms: i64,
        parts: &mut FloatParts,
    ) -> Result<(), SeriesFlaw> {
        let mut chain = CounterChain::default();
        self.total_times.clear();
        self.totals.clear();
        for chunk in chunks {
            self.gather(std::slice::from_ref(chunk), Aggregate::Counter)?;
            let out = (&mut self.total_times, &mut self.totals);
            chain.add(&self.times, &self.values, out);
        }
        let (Some(&first_t), Some(&first), Some(last)) = (
            self.total_times.first(),
            self.totals.first(),
            chain.last_value(),
        ) else {
            return Ok(());
        };
        parts.append(Aggregate::Counter, first_t, first)?;
        let mut last_t = first_t;
        for window in Windows::new(&self.total_times, &self.totals, window_ms) {
            parts.append(Aggregate::Counter, window.t, window.counter)?;
            last_t = window.t;
        }
        Ok(parts.append(Aggregate::Counter, last_t, last)?)
    }

    /// One aggregate of all chunks, in columns.
    fn gather(
        &mut self,
        chunks: &[AggregateChunk<'_>],
        aggregate: Aggregate,
    ) -> Result<(), SeriesFlaw> {
        self.times.clear();
        self.values.clear();
        for (encoding, data) in chunks.iter().filter_map(|chunk| chunk.part(aggregate)) {
            let from = self.values.len();
            decode_floats(encoding, data, &mut self.times, &mut self.values)?;
            keep_rising(&mut self.times, &mut self.values, from, |v| is_stale(*v));
        }
        Ok(())
    }

    fn histograms(
        &mut self,
        chunks: &[AggregateChunk<'_>],
        window_ms: i64,
        out: &mut Vec<ChunkSlice>,
    ) -> Result<(), SeriesFlaw> {
        let (times, parts) = histogram_column(chunks, Aggregate::Counter)?;
        let counters = histograms::counters(&times, &parts, window_ms)?;
        let (times, parts) = histogram_column(chunks, Aggregate::Sum)?;
        let sums = histograms::sums(&times, &parts, window_ms)?;
        self.gather(chunks, Aggregate::Count)?;
        let counts: Vec<(TimestampMs, f64)> = Windows::new(&self.times, &self.values, window_ms)
            .map(|window| (window.t, window.sum))
            .collect();
        histograms::encode(&counts, &sums, &counters, out)
    }
}

type HistogramColumn = (Vec<TimestampMs>, Vec<Arc<Histogram>>);

fn histogram_column(
    chunks: &[AggregateChunk<'_>],
    aggregate: Aggregate,
) -> Result<HistogramColumn, SeriesFlaw> {
    let (mut times, mut histograms) = (Vec::new(), Vec::new());
    for (encoding, data) in chunks.iter().filter_map(|chunk| chunk.part(aggregate)) {
        let from = histograms.len();
        decode_histograms(encoding, data, &mut times, &mut histograms)?;
        keep_rising(&mut times, &mut histograms, from, |h| h.is_stale());
    }
    Ok((times, histograms))
}

/// What kind of histograms the chunk aggregates; `None` of floats.
fn kind_of(chunk: &AggregateChunk<'_>) -> Result<Option<Option<Kind>>, SeriesFlaw> {
    let counter: Option<AggregatePart<'_>> = chunk.part(Aggregate::Counter);
    let Some((encoding, data)) = counter.filter(|(encoding, _)| encoding.has_histograms()) else {
        return Ok(None);
    };
    let (mut times, mut histograms) = (Vec::new(), Vec::new());
    decode_histograms(encoding, data, &mut times, &mut histograms)?;
    Ok(Some(histograms.first().map(|first| Kind::of(first))))
}
