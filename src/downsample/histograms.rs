//! What native histograms add up to in windows.

use std::sync::Arc;

use crate::chunk::{AggregateChunk, HistogramAppender, XorAppender};
use crate::downsample::error::SeriesFlaw;
use crate::downsample::windows::first_window;
use crate::model::{Aggregate, Encoding, Histogram, IncompatibleSchemas, ResetHint, TimestampMs};
use crate::storage::ChunkSlice;

/// Histograms that can be added to one another, and may share chunks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Kind {
    is_gauge: bool,
    /// The bounds, when the buckets are listed. Thanos crashes where listed buckets meet others; here they part.
    custom_bounds: Option<Arc<[f64]>>,
}

impl Kind {
    pub(crate) fn of(histogram: &Histogram) -> Self {
        let bounds = histogram.has_custom_buckets();
        Self {
            is_gauge: histogram.reset_hint == ResetHint::Gauge,
            custom_bounds: bounds.then(|| Arc::clone(&histogram.custom_bounds)),
        }
    }
}

/// A histogram for every window, and when the window ends.
pub(crate) type HistogramWindows = Vec<(TimestampMs, Histogram)>;

/// The coarsest schema of all.
fn schema_of(histograms: &[Arc<Histogram>]) -> i32 {
    let schemas = histograms.iter().map(|histogram| histogram.schema);
    schemas.min().unwrap_or(i32::MAX)
}

fn reduced(histogram: &Arc<Histogram>, schema: i32) -> Arc<Histogram> {
    if histogram.schema <= schema {
        return Arc::clone(histogram);
    }
    let mut coarser = Histogram::clone(histogram);
    coarser.reduce_to(schema);
    Arc::new(coarser)
}

/// Calls `add` with the end of each window and what is in it.
fn each_window(
    mut times: &[TimestampMs],
    mut histograms: &[Arc<Histogram>],
    window_ms: i64,
    mut add: impl FnMut(TimestampMs, &[Arc<Histogram>]) -> Result<(), IncompatibleSchemas>,
) -> Result<(), IncompatibleSchemas> {
    while let Some((t, n)) = first_window(times, window_ms) {
        let (Some((_, later)), Some((inside, later_histograms))) =
            (times.split_at_checked(n), histograms.split_at_checked(n))
        else {
            break;
        };
        add(t, inside)?;
        (times, histograms) = (later, later_histograms);
    }
    Ok(())
}

/// The sum of each window: a gauge, because it may fall.
pub(crate) fn sums(
    times: &[TimestampMs],
    histograms: &[Arc<Histogram>],
    window_ms: i64,
) -> Result<HistogramWindows, IncompatibleSchemas> {
    let schema = schema_of(histograms);
    let mut out = Vec::new();
    each_window(times, histograms, window_ms, |t, inside| {
        let mut sum: Option<Histogram> = None;
        for histogram in inside {
            let histogram = reduced(histogram, schema);
            match &mut sum {
                None => sum = Some(Histogram::clone(&histogram)),
                Some(sum) => drop(sum.add(&histogram)?),
            }
        }
        out.extend(sum.map(|mut sum| {
            sum.reset_hint = ResetHint::Gauge;
            (t, sum)
        }));
        Ok(())
    })?;
    Ok(out)
}

/// The counter at the end of each window, without its resets; of a gauge, what it said last.
pub(crate) fn counters(
    times: &[TimestampMs],
    histograms: &[Arc<Histogram>],
    window_ms: i64,
) -> Result<HistogramWindows, IncompatibleSchemas> {
    let schema = schema_of(histograms);
    let is_gauge = histograms
        .first()
        .is_some_and(|h| h.reset_hint == ResetHint::Gauge);
    let mut out = Vec::new();
    let mut total: Option<Histogram> = None;
    // As it was, which tells whether it was reset, and in the schema of all.
    let mut before: Option<(Arc<Histogram>, Arc<Histogram>)> = None;
    each_window(times, histograms, window_ms, |t, inside| {
        for histogram in inside {
            let coarse = reduced(histogram, schema);
            match (&mut total, &before) {
                (Some(total), Some((before, coarse_before))) => {
                    if !is_gauge && histogram.detect_reset(before) {
                        total.add(&coarse)?;
                    } else {
                        let mut delta = Histogram::clone(&coarse);
                        delta.sub(coarse_before)?;
                        total.add(&delta)?;
                    }
                }
                _ => total = Some(Histogram::clone(&coarse)),
            }
            before = Some((Arc::clone(histogram), coarse));
        }
        if let Some(total) = &mut total {
            total.reset_hint = if is_gauge {
                ResetHint::Gauge
            } else {
                ResetHint::Unknown
            };
            out.push((t, total.clone()));
        }
        Ok(())
    })?;
    Ok(out)
}

/// How many samples are in each window.
#[expect(clippy::cast_precision_loss, reason = "no slice has 2^53 samples")]
pub(crate) fn counts(mut times: &[TimestampMs], window_ms: i64) -> Vec<(TimestampMs, f64)> {
    let mut out = Vec::new();
    while let Some((t, n)) = first_window(times, window_ms) {
        out.push((t, n as f64));
        times = times.get(n..).unwrap_or_default();
    }
    out
}

/// Aggregates of the same windows as chunks: one, unless buckets cannot share one.
pub(crate) fn encode(
    mut counts: &[(TimestampMs, f64)],
    mut sums: &[(TimestampMs, Histogram)],
    mut counters: &[(TimestampMs, Histogram)],
    out: &mut Vec<ChunkSlice>,
) -> Result<(), SeriesFlaw> {
    let times = || counts.iter().map(|(t, _)| *t);
    for (aggregate, windows) in [(Aggregate::Sum, sums), (Aggregate::Counter, counters)] {
        if !times().eq(windows.iter().map(|(t, _)| *t)) {
            return Err(SeriesFlaw::Unaligned(aggregate));
        }
    }
    while !counts.is_empty() {
        let n = encode_some(counts, sums, counters, out)?;
        counts = counts.get(n..).unwrap_or_default();
        sums = sums.get(n..).unwrap_or_default();
        counters = counters.get(n..).unwrap_or_default();
    }
    Ok(())
}

/// One chunk, and how many windows went into it.
fn encode_some(
    counts: &[(TimestampMs, f64)],
    sums: &[(TimestampMs, Histogram)],
    counters: &[(TimestampMs, Histogram)],
    out: &mut Vec<ChunkSlice>,
) -> Result<usize, SeriesFlaw> {
    let sum = encode_prefix(sums)?;
    let counter = encode_prefix(counters)?;
    let n = sum.n_samples().min(counter.n_samples()).max(1);
    let shortened = |appender: HistogramAppender, windows: &[(TimestampMs, Histogram)]| {
        if appender.n_samples() == n {
            return Ok(appender);
        }
        encode_prefix(windows.get(..n).unwrap_or_default())
    };
    let (sum, counter) = (shortened(sum, sums)?, shortened(counter, counters)?);
    let counts = counts.get(..n).unwrap_or(counts);
    let mut count = XorAppender::with_capacity(counts.len() * 4);
    for &(t, n) in counts {
        count.append(t, n)?;
    }
    let (Some((min_t, _)), Some((max_t, _))) = (counts.first(), counts.last()) else {
        return Ok(n);
    };
    let chunk = AggregateChunk::default()
        .with(Aggregate::Count, Encoding::Xor, count.used_bytes())
        .with(Aggregate::Sum, sum.encoding(), sum.bytes())
        .with(Aggregate::Counter, counter.encoding(), counter.bytes());
    out.push(ChunkSlice {
        min_t: *min_t,
        max_t: *max_t,
        encoding: Encoding::Aggregate,
        data: chunk.encode().into(),
    });
    Ok(n)
}

/// As many windows as can share a chunk. Where Thanos forgets the windows before one that cannot, another chunk begins.
fn encode_prefix(windows: &[(TimestampMs, Histogram)]) -> Result<HistogramAppender, SeriesFlaw> {
    let mut appender = HistogramAppender::new(Encoding::FloatHistogram)?;
    for (t, histogram) in windows {
        if !appender.append(*t, 0, histogram)? {
            break;
        }
    }
    Ok(appender)
}
