//! Series of which some chunks hold aggregates: windows as samples, beside raw samples.

use std::ops::Range;
use std::sync::Arc;

use crate::chunk::{AggregateChunk, AggregatePart, decode_floats, decode_histograms, decode_times};
use crate::model::{Aggregate, Encoding, Interval, Resolution, is_stale};
use crate::promql::exec::source::{
    Samples, Series, forget_reset, histogram_bytes, interleave, interleave_with, joins,
};
use crate::promql::limits::QueryError;
use crate::promql::plan::Reading;
use crate::storage::{ChunkSlice, ResolutionSlice, Windows};

impl Series {
    /// Decodes the chunks that `windows` touches or that hold the window before; of samples with the same time the first
    /// chunk's stays. `slices` tell how coarse aggregates are.
    pub(super) fn decode_coarse(
        &self,
        (windows, reading): (Windows, Reading),
        slices: &[ResolutionSlice],
        out: &mut Samples,
    ) -> Result<(), QueryError> {
        out.clear();
        // Beside each value there may be a weight.
        let mut n_bytes = self.n_bytes_decoded(windows).saturating_mul(2);
        out.memory.grow_to(n_bytes)?;
        let mut counter = Counter::default();
        for chunk in &self.chunks {
            let resolution = resolution_of(chunk, slices);
            // A window is worth something until the next one ends.
            let max_t = chunk.max_t.saturating_add(resolution.as_ms());
            if !windows.touch(chunk.min_t, max_t) {
                continue;
            }
            out.memory.check()?;
            let (from, histograms_from) = (out.t.len(), out.ht.len());
            let damaged =
                |problem| QueryError::Storage(format!("series {}: {problem}", self.labels));
            if resolution == Resolution::Raw {
                out.add_raw(chunk, reading).map_err(damaged)?;
            } else {
                out.add_windows(chunk, reading).map_err(damaged)?;
                out.coarse.push(ResolutionSlice {
                    interval: Interval {
                        min: chunk.min_t,
                        max: chunk.max_t,
                    },
                    resolution,
                });
            }
            n_bytes += histogram_bytes(out.h.iter().skip(histograms_from));
            out.memory.grow_to(n_bytes)?;
            match reading {
                Reading::Counter => counter.follow(out, from),
                Reading::Mean => {
                    let (t, v, weights) = (&mut out.t, &mut out.v, &mut out.weights);
                    interleave_with((t, v, weights), from, |_| ());
                }
                Reading::Average | Reading::Min | Reading::Max | Reading::Sum | Reading::Count => {
                    if !joins(&out.t, from) {
                        interleave(&mut out.t, &mut out.v, from, |_| ());
                    }
                }
            }
            if !joins(&out.ht, histograms_from) {
                interleave(&mut out.ht, &mut out.h, histograms_from, forget_reset);
            }
        }
        if !out.ht.is_empty() {
            // Beside histograms floats are averaged as they are: window by window.
            for (v, weight) in out.v.iter_mut().zip(out.weights.drain(..)) {
                *v /= weight;
            }
        }
        Ok(())
    }
}

/// How coarse a chunk is. It may begin before the times that were asked for, and before the first slice: then the first
/// one that it reaches tells.
pub(super) fn resolution_of(chunk: &ChunkSlice, slices: &[ResolutionSlice]) -> Resolution {
    if chunk.encoding != Encoding::Aggregate {
        return Resolution::Raw;
    }
    let span = Interval {
        min: chunk.min_t,
        max: chunk.max_t,
    };
    let reached = slices
        .iter()
        .filter_map(|slice| slice.interval.common(span));
    let first = reached.map(|part| part.min).min();
    // Nobody makes windows of less than five minutes.
    ResolutionSlice::coarsest_at(slices, first.unwrap_or(chunk.min_t)).max(Resolution::FiveMinutes)
}

impl Samples {
    /// How long a step may look back for the sample at `t`: a window is followed by the next one only when that has ended.
    pub(crate) fn lookback_ms(&self, t: i64, lookback_ms: i64) -> i64 {
        let n_before = self.coarse.partition_point(|slice| slice.interval.min <= t);
        let slice = n_before.checked_sub(1).and_then(|at| self.coarse.get(at));
        match slice {
            Some(slice) if t <= slice.interval.max => {
                lookback_ms.saturating_add(slice.resolution.as_ms())
            }
            _ => lookback_ms,
        }
    }

    /// Of the `window` around a range from `start` to `end`: what lies in the range, the last sample before and the first
    /// one behind it. Raw ones lie within `reach_ms`, windows may be one window further away.
    pub(crate) fn reached(
        &self,
        times: &[i64],
        (start, end, reach_ms): (i64, i64, i64),
        window: Range<usize>,
    ) -> Range<usize> {
        let inside = times.get(window.clone()).unwrap_or_default();
        let mut from = window.start + inside.partition_point(|t| *t <= start);
        let mut to = window.start + inside.partition_point(|t| *t <= end);
        let at = |position: usize| times.get(position).copied();
        if let Some(before) = from.checked_sub(1).filter(|before| window.start <= *before)
            && let Some(t) = at(before)
            && start.saturating_sub(self.lookback_ms(t, reach_ms)) < t
        {
            from = before;
        }
        if to < window.end
            && let Some(t) = at(to)
            && t <= end.saturating_add(self.lookback_ms(t, reach_ms))
        {
            to += 1;
        }
        from..to
    }

    fn add_raw(&mut self, chunk: &ChunkSlice, reading: Reading) -> Result<(), String> {
        let from = self.t.len();
        let (encoding, data) = (chunk.encoding, &chunk.data);
        let text = |error: crate::chunk::ChunkError| error.to_string();
        if !encoding.has_histograms() {
            decode_floats(encoding, data, &mut self.t, &mut self.v).map_err(text)?;
        } else if reading == Reading::Count {
            decode_times(encoding, data, &mut self.t).map_err(text)?;
            self.v.resize(self.t.len(), 1.0);
        } else {
            decode_histograms(encoding, data, &mut self.ht, &mut self.h).map_err(text)?;
        }
        match reading {
            Reading::Count => {
                let values = self.v.iter_mut().skip(from);
                values
                    .filter(|v| !is_stale(**v))
                    .for_each(|value| *value = 1.0);
            }
            Reading::Mean => self.weights.resize(self.t.len(), 1.0),
            Reading::Average | Reading::Min | Reading::Max | Reading::Sum | Reading::Counter => (),
        }
        Ok(())
    }

    fn add_windows(&mut self, chunk: &ChunkSlice, reading: Reading) -> Result<(), String> {
        let parts = AggregateChunk::decode(&chunk.data).map_err(|error| error.to_string())?;
        let part = |aggregate: Aggregate| {
            let missing = || format!("aggregate {} does not exist", aggregate.name());
            parts.part(aggregate).ok_or_else(missing)
        };
        match reading {
            Reading::Average | Reading::Mean => {
                let (counts, sums) = (part(Aggregate::Count)?, part(Aggregate::Sum)?);
                self.add_averages(counts, sums, reading)
            }
            Reading::Count => self.add_part(part(Aggregate::Count)?),
            Reading::Sum => self.add_part(part(Aggregate::Sum)?),
            Reading::Counter => self.add_part(part(Aggregate::Counter)?),
            // Of histograms there is no least and no greatest.
            Reading::Min | Reading::Max if parts.has_histograms() => Ok(()),
            Reading::Min => self.add_part(part(Aggregate::Min)?),
            Reading::Max => self.add_part(part(Aggregate::Max)?),
        }
    }

    fn add_part(&mut self, (encoding, data): AggregatePart<'_>) -> Result<(), String> {
        if encoding.has_histograms() {
            decode_histograms(encoding, data, &mut self.ht, &mut self.h)
        } else {
            decode_floats(encoding, data, &mut self.t, &mut self.v)
        }
        .map_err(|error| error.to_string())
    }

    fn add_averages(
        &mut self,
        (encoding, data): AggregatePart<'_>,
        sums: AggregatePart<'_>,
        reading: Reading,
    ) -> Result<(), String> {
        let (mut t, mut counts) = (Vec::new(), Vec::new());
        decode_floats(encoding, data, &mut t, &mut counts).map_err(|error| error.to_string())?;
        let (from, histograms_from) = (self.t.len(), self.ht.len());
        self.add_part(sums)?;
        let floats = self.t.get(from..).unwrap_or_default();
        let histograms = self.ht.get(histograms_from..).unwrap_or_default();
        if floats != t && histograms != t {
            return Err("aggregates count and sum are of different windows".to_owned());
        }
        for (h, count) in self.h.iter_mut().skip(histograms_from).zip(&counts) {
            *h = Arc::new(h.divide(*count));
        }
        if reading == Reading::Mean {
            // Of histograms averages are averaged.
            counts.truncate(self.t.len() - from);
            self.weights.extend(counts);
            return Ok(());
        }
        for (v, count) in self.v.iter_mut().skip(from).zip(counts) {
            *v /= count;
        }
        Ok(())
    }
}

/// A counter followed through the chunks of a series, as if it had never been reset.
#[derive(Debug, Default)]
pub(super) struct Counter {
    last: Option<(i64, f64)>,
    total: f64,
}

impl Counter {
    /// Makes what was decoded behind `from` go on from what was before. A time that comes twice says what the counter
    /// really was at the end of a chunk, which only the next chunk is compared with; times that go back are passed over.
    pub(super) fn follow(&mut self, samples: &mut Samples, from: usize) {
        let times = samples.t.split_off(from.min(samples.t.len()));
        let values = samples.v.split_off(from.min(samples.v.len()));
        for (t, v) in times.into_iter().zip(values) {
            let total = match self.last {
                Some((last_t, _)) if t < last_t => continue,
                // It ends a series here too, whatever the counter was.
                Some((last_t, _)) if is_stale(v) && last_t < t => v,
                _ if v.is_nan() => continue,
                Some((last_t, _)) if t == last_t => {
                    self.last = Some((t, v));
                    continue;
                }
                Some((_, last)) => {
                    self.total += if last <= v { v - last } else { v };
                    self.total
                }
                None => {
                    self.total = v;
                    v
                }
            };
            if !total.is_nan() {
                self.last = Some((t, v));
            }
            samples.t.push(t);
            samples.v.push(total);
        }
    }
}
