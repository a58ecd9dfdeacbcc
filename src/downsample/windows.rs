//! Windows of time, and what floats add up to in them.

use crate::chunk::{AggregateChunk, ChunkError, XorAppender};
use crate::model::{Aggregate, Encoding, Interval, TimestampMs};
use crate::storage::ChunkSlice;

/// What raw samples are taken to be apart when chunks are sized; most are closer.
pub(crate) const RAW_SAMPLE_MS: i64 = 60_000;

/// Chunks get fewer windows than this, on average.
const WINDOWS_PER_CHUNK_MAX: usize = 141;

/// The last millisecond of the window that `t` is in.
pub(crate) fn window_end(t: TimestampMs, window_ms: i64) -> TimestampMs {
    t.saturating_sub(t.rem_euclid(window_ms))
        .saturating_add(window_ms - 1)
}

/// How many chunks a series becomes: `n_samples` of them, about `from_ms` apart, become windows of `to_ms`.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "spans and numbers of samples are far below 2^53, and the product is not negative"
)]
pub(crate) fn n_chunks(span: Interval, from_ms: i64, to_ms: i64, n_samples: usize) -> usize {
    let span_ms = span.max.saturating_sub(span.min);
    let n_windows_max = (span_ms / to_ms) as f64;
    // How much of the span the samples fill. Of a span of nothing: all of it.
    let filled = n_samples as f64 / (span_ms as f64 / from_ms as f64);
    let n_windows = (n_windows_max * filled.min(1.0)) as usize + 1;
    n_windows / WINDOWS_PER_CHUNK_MAX + 1
}

/// The end of the first window of `times`, and how many of them are in it. `times` rise; the window ends no later than
/// the last of them, because the next chunk may begin right there.
pub(crate) fn first_window(times: &[TimestampMs], window_ms: i64) -> Option<(TimestampMs, usize)> {
    let (&first, &last) = (times.first()?, times.last()?);
    let end = window_end(first, window_ms).min(last);
    let n = times.iter().position(|t| end < *t).unwrap_or(times.len());
    Some((end, n.max(1)))
}

/// What the samples of one window add up to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Window {
    /// Its end.
    pub(crate) t: TimestampMs,
    pub(crate) count: f64,
    pub(crate) sum: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// The counter since the first window, without its resets.
    pub(crate) counter: f64,
}

/// Goes through the windows of samples whose times rise.
#[derive(Debug, Clone)]
pub(crate) struct Windows<'a> {
    times: &'a [TimestampMs],
    values: &'a [f64],
    window_ms: i64,
    /// The counter so far, and its last value.
    counter: Option<(f64, f64)>,
}

impl<'a> Windows<'a> {
    pub(crate) fn new(times: &'a [TimestampMs], values: &'a [f64], window_ms: i64) -> Self {
        Self {
            times,
            values,
            window_ms,
            counter: None,
        }
    }

    /// Adds the values to the counter; a value below the one before it has begun again from zero.
    fn count_on(&mut self, values: &[f64]) -> f64 {
        let (mut counter, mut last, rest) = match (self.counter, values.split_first()) {
            (Some((counter, last)), _) => (counter, last, values),
            (None, Some((&first, rest))) => (first, first, rest),
            (None, None) => (0.0, 0.0, values),
        };
        for &v in rest {
            counter += if v < last { v } else { v - last };
            last = v;
        }
        self.counter = Some((counter, last));
        counter
    }
}

impl Iterator for Windows<'_> {
    type Item = Window;

    #[expect(clippy::cast_precision_loss, reason = "no slice has 2^53 samples")]
    fn next(&mut self) -> Option<Window> {
        let (t, n) = first_window(self.times, self.window_ms)?;
        let (_, later) = self.times.split_at_checked(n)?;
        let (values, later_values) = self.values.split_at_checked(n)?;
        (self.times, self.values) = (later, later_values);
        let counter = self.count_on(values);
        // In the order of the samples: another one rounds in another way.
        let mut sum = 0.0;
        // A window of infinities alone has one as its minimum, where Thanos has the largest number there is.
        let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
        for &v in values {
            sum += v;
            min = if v < min { v } else { min };
            max = if max < v { v } else { max };
        }
        Some(Window {
            t,
            count: n as f64,
            sum,
            min,
            max,
            counter,
        })
    }
}

/// The five chunks of floats that become one.
#[derive(Debug, Default)]
pub(crate) struct FloatParts {
    parts: [XorAppender; Aggregate::ALL.len()],
}

impl FloatParts {
    pub(crate) fn append(
        &mut self,
        aggregate: Aggregate,
        t: TimestampMs,
        v: f64,
    ) -> Result<(), ChunkError> {
        for (part, at) in self.parts.iter_mut().zip(Aggregate::ALL) {
            if at == aggregate {
                part.append(t, v)?;
            }
        }
        Ok(())
    }

    pub(crate) fn append_window(&mut self, window: &Window) -> Result<(), ChunkError> {
        let [count, sum, min, max, counter] = &mut self.parts;
        count.append(window.t, window.count)?;
        sum.append(window.t, window.sum)?;
        min.append(window.t, window.min)?;
        max.append(window.t, window.max)?;
        counter.append(window.t, window.counter)
    }

    /// The chunk of what was appended; a part without samples is absent.
    pub(crate) fn finish(&self, span: Interval) -> ChunkSlice {
        let parts = self.parts.iter().zip(Aggregate::ALL);
        let parts = parts.filter(|(part, _)| 0 < part.n_samples());
        let chunk = parts.fold(AggregateChunk::default(), |chunk, (part, aggregate)| {
            chunk.with(aggregate, Encoding::Xor, part.used_bytes())
        });
        ChunkSlice {
            min_t: span.min,
            max_t: span.max,
            encoding: Encoding::Aggregate,
            data: chunk.encode().into(),
        }
    }
}

/// The chunk of one batch of samples, none of them NaN; `None` of none.
pub(crate) fn float_chunk(
    times: &[TimestampMs],
    values: &[f64],
    window_ms: i64,
) -> Result<Option<ChunkSlice>, ChunkError> {
    let (Some(&first_t), Some(&first)) = (times.first(), values.first()) else {
        return Ok(None);
    };
    let mut parts = FloatParts::default();
    // The true first and last values: whoever reads the next chunk sees a reset between them.
    parts.append(Aggregate::Counter, first_t, first)?;
    let mut span: Option<Interval> = None;
    for window in Windows::new(times, values, window_ms) {
        parts.append_window(&window)?;
        let begin = span.map_or(window.t, |span| span.min);
        span = Some(Interval {
            min: begin,
            max: window.t,
        });
    }
    let (Some(span), Some(&last)) = (span, values.last()) else {
        return Ok(None);
    };
    parts.append(Aggregate::Counter, span.max, last)?;
    Ok(Some(parts.finish(span)))
}

/// From `from` on, leaves out what `is_out` says and what goes back in time.
pub(crate) fn keep_rising<T>(
    times: &mut Vec<TimestampMs>,
    values: &mut Vec<T>,
    from: usize,
    is_out: impl Fn(&T) -> bool,
) {
    let before = from.checked_sub(1).and_then(|at| times.get(at)).copied();
    let new_times = times.get(from..).unwrap_or_default();
    let is_fine = new_times.is_sorted()
        && before <= new_times.first().copied().or(before)
        && !values.get(from..).unwrap_or_default().iter().any(&is_out);
    if is_fine {
        return;
    }
    let mut last = before.unwrap_or(TimestampMs::MIN);
    let new_times = times.split_off(from);
    let new_values = values.split_off(from);
    for (t, value) in new_times.into_iter().zip(new_values) {
        if last <= t && !is_out(&value) {
            last = t;
            times.push(t);
            values.push(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_ends_in_the_millisecond_before_the_next() {
        for (t, end) in [
            (0, 299_999),
            (299_999, 299_999),
            (300_000, 599_999),
            (-1, -1),
            (-300_000, -1),
        ] {
            assert_eq!(window_end(t, 300_000), end, "{t}");
        }
        assert_eq!(window_end(i64::MAX, 300_000), i64::MAX);
    }

    #[test]
    fn series_become_as_many_chunks_as_thanos_makes() {
        let n = |span_ms: i64, from, to, n| {
            n_chunks(
                Interval {
                    min: 7,
                    max: 7 + span_ms,
                },
                from,
                to,
                n,
            )
        };
        // Computed by hand from the rule: so many chunks that each has at most 140 windows.
        assert_eq!(n(0, 60_000, 300_000, 1), 1);
        assert_eq!(n(140 * 300_000, 60_000, 300_000, 100_000), 2);
        assert_eq!(n(139 * 300_000, 60_000, 300_000, 100_000), 1);
        assert_eq!(n(280 * 300_000, 60_000, 300_000, 100_000), 2);
        assert_eq!(n(281 * 300_000, 60_000, 300_000, 100_000), 3);
        // Two days of which a tenth is filled.
        assert_eq!(n(48 * 3_600_000, 60_000, 300_000, 288), 1);
        assert_eq!(n(48 * 3_600_000, 60_000, 300_000, 2_880), 5);
        assert_eq!(n(14 * 86_400_000, 300_000, 3_600_000, 4_032), 3);
    }

    #[test]
    fn what_is_stale_or_goes_back_is_left_out_and_equal_times_stay() {
        let (mut t, mut v) = (vec![5, 9, 3, 9, 10, 11], vec![0, 1, 2, 3, 4, 5]);
        keep_rising(&mut t, &mut v, 1, |v| *v == 4);
        assert_eq!((t, v), (vec![5, 9, 9, 11], vec![0, 1, 3, 5]));
        let (mut t, mut v) = (vec![5, 4], vec![0, 1]);
        keep_rising(&mut t, &mut v, 1, |_| false);
        assert_eq!((t, v), (vec![5], vec![0]));
    }

    #[test]
    fn infinities_are_least_and_greatest_where_there_is_nothing_else() {
        let (inf, neg) = (f64::INFINITY, f64::NEG_INFINITY);
        let values = [inf, inf, neg, 4.0, inf];
        let windows: Vec<Window> = Windows::new(&[1, 2, 11, 21, 22], &values, 10).collect();
        let ends: Vec<_> = windows.iter().map(|w| (w.t, w.min, w.max)).collect();
        assert_eq!(ends, [(9, inf, inf), (19, neg, neg), (22, 4.0, inf)]);
    }
}
