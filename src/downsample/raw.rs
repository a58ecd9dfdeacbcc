//! What was scraped becomes aggregates.

use std::sync::Arc;

use crate::chunk::{decode_floats, decode_histograms};
use crate::downsample::error::SeriesFlaw;
use crate::downsample::histograms::{self, Kind};
use crate::downsample::windows::{RAW_SAMPLE_MS, float_chunk, keep_rising, n_chunks, window_end};
use crate::model::{Histogram, Interval, TimestampMs, is_stale};
use crate::storage::ChunkSlice;

/// The samples of one series; its memory serves the next.
#[derive(Debug, Default)]
pub(crate) struct RawSeries {
    times: Vec<TimestampMs>,
    values: Vec<f64>,
    /// Times of the histograms.
    histogram_times: Vec<TimestampMs>,
    histograms: Vec<Arc<Histogram>>,
    /// What of a batch is a number.
    number_times: Vec<TimestampMs>,
    numbers: Vec<f64>,
}

impl RawSeries {
    /// Appends the aggregates of one series. Chunks are sorted and apart.
    pub(crate) fn downsample(
        &mut self,
        chunks: &[ChunkSlice],
        window_ms: i64,
        out: &mut Vec<ChunkSlice>,
    ) -> Result<(), SeriesFlaw> {
        self.clear();
        for chunk in chunks {
            if chunk.encoding.has_histograms() {
                self.flush_floats(window_ms, out)?;
                let from = self.histograms.len();
                let (times, histograms) = (&mut self.histogram_times, &mut self.histograms);
                decode_histograms(chunk.encoding, &chunk.data, times, histograms)?;
                keep_rising(times, histograms, from, |h| h.is_stale());
            } else {
                self.flush_histograms(window_ms, out)?;
                let from = self.values.len();
                let (times, values) = (&mut self.times, &mut self.values);
                decode_floats(chunk.encoding, &chunk.data, times, values)?;
                keep_rising(times, values, from, |v| is_stale(*v));
            }
        }
        self.flush_floats(window_ms, out)?;
        self.flush_histograms(window_ms, out)
    }

    fn clear(&mut self) {
        self.times.clear();
        self.values.clear();
        self.histogram_times.clear();
        self.histograms.clear();
    }

    fn flush_floats(
        &mut self,
        window_ms: i64,
        out: &mut Vec<ChunkSlice>,
    ) -> Result<(), SeriesFlaw> {
        for range in batches(&self.times, window_ms) {
            let times = self.times.get(range.clone()).unwrap_or_default();
            let values = self.values.get(range).unwrap_or_default();
            if !values.iter().any(|v| v.is_nan()) {
                out.extend(float_chunk(times, values, window_ms)?);
                continue;
            }
            self.number_times.clear();
            self.numbers.clear();
            for (&t, &v) in times.iter().zip(values).filter(|(_, v)| !v.is_nan()) {
                self.number_times.push(t);
                self.numbers.push(v);
            }
            out.extend(float_chunk(&self.number_times, &self.numbers, window_ms)?);
        }
        self.times.clear();
        self.values.clear();
        Ok(())
    }

    fn flush_histograms(
        &mut self,
        window_ms: i64,
        out: &mut Vec<ChunkSlice>,
    ) -> Result<(), SeriesFlaw> {
        let mut times = self.histogram_times.as_slice();
        for run in self
            .histograms
            .chunk_by(|left, right| Kind::of(left) == Kind::of(right))
        {
            let (run_times, later) = times.split_at_checked(run.len()).unwrap_or((times, &[]));
            times = later;
            for range in batches(run_times, window_ms) {
                let times = run_times.get(range.clone()).unwrap_or_default();
                let batch = run.get(range).unwrap_or_default();
                histogram_chunks(times, batch, window_ms, out)?;
            }
        }
        self.histogram_times.clear();
        self.histograms.clear();
        Ok(())
    }
}

/// Where chunks are cut: behind so many samples, and behind the window that the last of them is in.
fn batches(times: &[TimestampMs], window_ms: i64) -> impl Iterator<Item = std::ops::Range<usize>> {
    let span = Interval {
        min: times.first().copied().unwrap_or_default(),
        max: times.last().copied().unwrap_or_default(),
    };
    let n_samples = times.len() / n_chunks(span, RAW_SAMPLE_MS, window_ms, times.len()) + 1;
    let mut start = 0usize;
    std::iter::from_fn(move || {
        let begin = start;
        let inside = begin.saturating_add(n_samples).min(times.len());
        let &last = times.get(begin..inside)?.last()?;
        let end_t = window_end(last, window_ms);
        let more = times.get(inside..).unwrap_or_default().iter();
        start = inside + more.take_while(|t| **t <= end_t).count();
        Some(begin..start)
    })
}

/// The aggregates of one batch of histograms of one kind.
fn histogram_chunks(
    times: &[TimestampMs],
    histograms: &[Arc<Histogram>],
    window_ms: i64,
    out: &mut Vec<ChunkSlice>,
) -> Result<(), SeriesFlaw> {
    let is_number = |histogram: &Arc<Histogram>| !histogram.sum.is_nan();
    if !histograms.iter().all(is_number) {
        let both = times.iter().copied().zip(histograms.iter().cloned());
        let (times, histograms): (Vec<_>, Vec<_>) =
            both.filter(|(_, histogram)| is_number(histogram)).unzip();
        return histogram_chunks(&times, &histograms, window_ms, out);
    }
    let counts = histograms::counts(times, window_ms);
    let sums = histograms::sums(times, histograms, window_ms)?;
    let counters = histograms::counters(times, histograms, window_ms)?;
    histograms::encode(&counts, &sums, &counters, out)
}
