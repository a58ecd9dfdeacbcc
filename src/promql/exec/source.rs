//! Series of the selectors, and their samples decoded.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use crate::chunk::{
    decode_floats_until, decode_floats_with_starts, decode_histograms,
    decode_histograms_with_starts, has_start_times, n_samples,
};
use crate::foundation::{Pool, touch};
use crate::model::{
    Encoding, Histogram, Interval, Labels, Matcher, ResetHint, Resolution, is_stale,
};
use crate::promql::annotations::Annotations;
use crate::promql::exec::coarse::resolution_of;
use crate::promql::limits::{Budget, QueryError};
use crate::promql::memory::{Hold, Share};
use crate::promql::plan::{Plan, Reading};
use crate::storage::{ChunkSlice, Queryable, ResolutionSlice, SelectHints, Windows};

/// Samples of one series as columns: floats, and beside them native histograms.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    /// Times of floats, ascending.
    pub(crate) t: Vec<i64>,
    /// Floats, as many as their times; markers of staleness included.
    pub(crate) v: Vec<f64>,
    /// Times of histograms, ascending.
    pub(crate) ht: Vec<i64>,
    /// Histograms, as many as their times; markers of staleness included.
    pub(crate) h: Vec<Arc<Histogram>>,
    /// Since when each float counts, 0 where that is unknown; empty when no chunk of the series says so.
    pub(crate) st: Vec<i64>,
    /// As `st`, of histograms.
    pub(crate) hst: Vec<i64>,
    /// How many raw samples each float is the sum of, where that was asked for and there are aggregates.
    pub(crate) weights: Vec<f64>,
    /// Where samples are windows, in order.
    pub(crate) coarse: Vec<ResolutionSlice>,
    pub(super) memory: Hold,
}

/// One series as the storage gave it.
#[derive(Debug)]
pub(crate) struct Series {
    /// Who.
    pub(crate) labels: Labels,
    pub(super) chunks: Vec<ChunkSlice>,
    /// Some of them hold aggregates.
    is_coarse: bool,
    decoded: OnceLock<Result<Arc<Samples>, QueryError>>,
}

/// What one selector found.
#[derive(Debug)]
pub(crate) struct Selected {
    /// In the order of the storage.
    pub(crate) series: Vec<Series>,
    /// Chunks of all of them.
    pub(crate) n_chunks: u64,
    /// Encoded bytes of all of them.
    n_bytes: u64,
    /// Samples decoded so far.
    pub(crate) n_read: AtomicU64,
    /// How long the storage took.
    pub(crate) took_ns: u64,
    /// Times that matter.
    interval: Interval,
    /// Where the storage read aggregates.
    slices: Vec<ResolutionSlice>,
    /// The resolutions of all chunks.
    pub(crate) resolutions: BTreeSet<Resolution>,
    /// More than one leaf reads it, so what is decoded is kept.
    is_shared: bool,
    /// Whatever the query holds for it.
    share: Share,
    memory: Hold,
}

/// Chunks of one series that are asked for ahead: a long series reads on where it is.
const CHUNKS_TOUCHED: usize = 2;

/// Chunks of one series that are decoded before somebody asks whether to go on.
const CHUNKS_BETWEEN_CHECKS: usize = 64;

/// What the selection cost.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct SelectCost {
    /// Series found.
    pub(crate) series: u64,
    /// Their chunks.
    pub(crate) chunks: u64,
    /// Bytes of these.
    pub(crate) bytes: u64,
}

/// Asks the storage for every selector of `plan`, whose query reads `text`; `helpers` may take part in collecting.
pub(crate) fn select_all(
    plan: &Plan,
    queryable: &dyn Queryable,
    (text, step_ms, helpers): (&str, i64, Option<&Pool>),
    budget: &Arc<Budget>,
    notes: &Annotations,
) -> Result<(Vec<Arc<Selected>>, SelectCost), QueryError> {
    let mut all = Vec::with_capacity(plan.selectors.len());
    let mut cost = SelectCost::default();
    for selector in &plan.selectors {
        let matchers: Vec<Matcher> = selector
            .matchers
            .iter()
            .map(|matcher| Matcher::clone(matcher))
            .collect();
        let hints = SelectHints {
            resolutions: selector.resolutions,
            windows: selector.windows,
            step_ms,
            range_ms: selector.range_ms,
            func: selector.func.to_owned(),
            presence_ms: selector.presence_ms,
            any_order: true,
            cancel: budget.cancel().clone(),
            helpers: helpers.cloned(),
            ..SelectHints::new(selector.interval)
        };
        let text = selector.text(text);
        let mut selected = select(queryable, (&matchers, &text), &hints, budget, notes)?;
        selected.is_shared = selector.n_leaves > 1;
        cost.chunks += selected.n_chunks;
        cost.bytes += selected.n_bytes;
        cost.series += selected.series.len() as u64;
        all.push(Arc::new(selected));
    }
    Ok((all, cost))
}

/// Asks the storage once; errors name the selector as `text`.
pub(crate) fn select(
    queryable: &dyn Queryable,
    (matchers, text): (&[Matcher], &str),
    hints: &SelectHints,
    budget: &Arc<Budget>,
    notes: &Annotations,
) -> Result<Selected, QueryError> {
    budget.check()?;
    let began_ns = budget.now_ns();
    let mut set = queryable
        .select(matchers, hints)
        .map_err(|error| budget.storage_error(&error))?;
    let share = budget.memory().share(text);
    let memory = Hold::of(budget, &share);
    let mut series = Vec::new();
    let mut resolutions = BTreeSet::new();
    let (mut n_bytes, mut n_held, mut n_chunks) = (0, 0, 0);
    while let Some(next) = set.next() {
        let next = next.map_err(|error| budget.storage_error(&error))?;
        if series.len() % 1024 == 1023 {
            budget.check()?;
        }
        let chunk_bytes: usize = next.chunks.iter().map(|chunk| chunk.data.len()).sum();
        n_bytes += chunk_bytes as u64;
        n_chunks += next.chunks.len() as u64;
        n_held += chunk_bytes
            + size_of::<Series>()
            + next.labels.n_bytes()
            + next.chunks.len() * size_of::<ChunkSlice>();
        memory.prepay(n_held)?;
        let mut encodings = next.chunks.iter().map(|chunk| chunk.encoding);
        let is_coarse = encodings.any(|encoding| encoding == Encoding::Aggregate);
        if is_coarse {
            let slices = hints.receipt.slices();
            resolutions.extend(
                next.chunks
                    .iter()
                    .map(|chunk| resolution_of(chunk, &slices)),
            );
        } else if !next.chunks.is_empty() {
            resolutions.insert(Resolution::Raw);
        }
        series.push(Series {
            labels: next.labels,
            chunks: next.chunks,
            is_coarse,
            decoded: OnceLock::new(),
        });
    }
    for warning in set.warnings() {
        notes.foreign(warning);
    }
    Ok(Selected {
        series,
        n_chunks,
        n_bytes,
        n_read: AtomicU64::new(0),
        took_ns: budget.now_ns().saturating_sub(began_ns),
        interval: hints.interval,
        slices: hints.receipt.slices(),
        resolutions,
        is_shared: false,
        share,
        memory,
    })
}

impl Selected {
    /// Times that matter.
    pub(crate) fn interval(&self) -> Interval {
        self.interval
    }

    /// Encoded bytes of all chunks.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// Whatever the query holds for it.
    pub(crate) fn share(&self) -> &Share {
        &self.share
    }

    /// Has `series` the very samples that `other`, a series of the same selection, has? Only floats that nobody keeps.
    pub(super) fn has_samples_of(&self, series: &Series, other: &Series) -> bool {
        match (series.chunks.as_slice(), other.chunks.as_slice()) {
            ([chunk], [other]) => {
                !self.is_shared
                    && chunk.data.as_ptr() == other.data.as_ptr()
                    && chunk.data.len() == other.data.len()
                    && (chunk.min_t, chunk.max_t) == (other.min_t, other.max_t)
                    && chunk.encoding == other.encoding
                    && !chunk.encoding.has_histograms()
                    && !series.is_coarse
            }
            _ => false,
        }
    }

    /// The samples of a series that `windows` can see, decoded into `scratch` unless they are kept for other readers.
    pub(crate) fn samples<'a>(
        &'a self,
        series: &'a Series,
        scratch: &'a mut Samples,
        (windows, reading): (Windows, Reading),
    ) -> Result<&'a Samples, QueryError> {
        if series.is_coarse {
            // Every reader may read something else, and there is not much to read.
            series.decode_coarse((windows, reading), &self.slices, scratch)?;
            return Ok(scratch);
        }
        if self.is_shared {
            let decoded = series.decoded.get_or_init(|| {
                let mut samples = Samples {
                    memory: self.memory.sibling(),
                    ..Samples::default()
                };
                series.decode(Windows::of(self.interval), &mut samples)?;
                self.memory.absorb(&samples.memory);
                Ok(Arc::new(samples))
            });
            return match decoded {
                Ok(samples) => Ok(samples),
                Err(error) => Err(error.clone()),
            };
        }
        series.decode(windows, scratch)?;
        Ok(scratch)
    }
}

impl Series {
    /// All of it, still encoded.
    pub(super) fn chunks(&self) -> &[ChunkSlice] {
        &self.chunks
    }

    /// Reads a little of the labels and of what [`Selected::samples`] reads first.
    pub(super) fn touch(&self, windows: Windows) -> u8 {
        let chunks = self.chunks.iter();
        let read = chunks.filter(|chunk| windows.touch(chunk.min_t, chunk.max_t));
        let first = read.take(CHUNKS_TOUCHED);
        first.fold(self.labels.touch(), |sum, chunk| sum ^ touch(&chunk.data))
    }

    /// About how much memory [`Self::decode`] takes: exact for floats, a guess for histograms.
    pub(super) fn n_bytes_decoded(&self, windows: Windows) -> usize {
        let sample_bytes = |encoding: Encoding| {
            if encoding.has_histograms() {
                size_of::<i64>() + size_of::<Arc<Histogram>>() + size_of::<Histogram>()
            } else {
                size_of::<i64>() + size_of::<f64>()
            }
        };
        let chunks = self.chunks.iter();
        let read = chunks.filter(|chunk| windows.touch(chunk.min_t, chunk.max_t));
        read.map(|chunk| {
            let promised = n_samples(chunk.encoding, &chunk.data).unwrap_or(0);
            // A sample takes two bits at least, whatever a damaged header says.
            promised.min(4 * chunk.data.len()) * sample_bytes(chunk.encoding)
        })
        .sum()
    }

    /// Decodes the chunks that `windows` touches; of samples with the same time the first chunk's stays.
    fn decode(&self, windows: Windows, out: &mut Samples) -> Result<(), QueryError> {
        out.clear();
        if self
            .chunks
            .iter()
            .any(|chunk| has_start_times(chunk.encoding, &chunk.data))
        {
            return self.decode_with_starts(windows, out);
        }
        let mut n_bytes = self.n_bytes_decoded(windows);
        out.memory.grow_to(n_bytes)?;
        let has_gaps = windows.have_gaps();
        for (i, chunk) in self.chunks.iter().enumerate() {
            if i % CHUNKS_BETWEEN_CHECKS == CHUNKS_BETWEEN_CHECKS - 1 {
                out.memory.check()?;
            }
            let Some(wanted) = windows.within(chunk.min_t, chunk.max_t) else {
                continue;
            };
            let until = if chunk.max_t <= wanted.max {
                i64::MAX
            } else {
                wanted.max
            };
            let damaged = |error| QueryError::Storage(format!("series {}: {error}", self.labels));
            if chunk.encoding.has_histograms() {
                let from = out.ht.len();
                decode_histograms(chunk.encoding, &chunk.data, &mut out.ht, &mut out.h)
                    .map_err(damaged)?;
                n_bytes += histogram_bytes(out.h.iter().skip(from));
                out.memory.grow_to(n_bytes)?;
                if !joins(&out.ht, from) {
                    interleave(&mut out.ht, &mut out.h, from, forget_reset);
                }
            } else {
                let from = out.t.len();
                let columns = (&mut out.t, &mut out.v);
                decode_floats_until(chunk.encoding, &chunk.data, until, columns)
                    .map_err(damaged)?;
                if has_gaps && chunk.min_t < wanted.min {
                    out.forget_floats(from, wanted.min);
                }
                if !joins(&out.t, from) {
                    interleave(&mut out.t, &mut out.v, from, |_| ());
                }
            }
        }
        Ok(())
    }

    /// The same where chunks say since when samples count.
    fn decode_with_starts(&self, windows: Windows, out: &mut Samples) -> Result<(), QueryError> {
        // A start time is as long as a time, and a sample takes more than that already.
        let mut n_bytes = self.n_bytes_decoded(windows).saturating_mul(2);
        out.memory.grow_to(n_bytes)?;
        for chunk in &self.chunks {
            if !windows.touch(chunk.min_t, chunk.max_t) {
                continue;
            }
            let damaged = |error| QueryError::Storage(format!("series {}: {error}", self.labels));
            if chunk.encoding.has_histograms() {
                let from = out.ht.len();
                let (t, h, st) = (&mut out.ht, &mut out.h, &mut out.hst);
                decode_histograms_with_starts(chunk.encoding, &chunk.data, t, h, st)
                    .map_err(damaged)?;
                n_bytes += histogram_bytes(h.iter().skip(from));
                out.memory.grow_to(n_bytes)?;
                interleave_with((t, h, st), from, forget_reset);
            } else {
                let from = out.t.len();
                let (t, v, st) = (&mut out.t, &mut out.v, &mut out.st);
                decode_floats_with_starts(chunk.encoding, &chunk.data, t, v, st)
                    .map_err(damaged)?;
                interleave_with((t, v, st), from, |_| ());
            }
        }
        Ok(())
    }
}

/// What histograms take beyond their own struct, which is booked before they are decoded.
pub(super) fn histogram_bytes<'a>(histograms: impl Iterator<Item = &'a Arc<Histogram>>) -> usize {
    histograms
        .map(|h| h.n_bytes().saturating_sub(size_of::<Histogram>()))
        .sum()
}

impl Samples {
    /// None yet; what they take is booked.
    pub(crate) fn booked(budget: &Arc<Budget>) -> Self {
        Self {
            memory: Hold::new(budget),
            ..Self::default()
        }
    }

    /// Books memory for `n` floats more; histograms are booked where they are made.
    pub(crate) fn book_floats(&self, n: usize) -> Result<(), QueryError> {
        let float_bytes = size_of::<i64>() + size_of::<f64>();
        self.memory.grow_to((self.t.len() + n) * float_bytes)
    }

    /// Forgets floats before `min`, from position `from` on: what no window sees would only lie between those it sees.
    fn forget_floats(&mut self, from: usize, min: i64) {
        let decoded = self.t.get(from..).unwrap_or_default();
        let to = from + decoded.partition_point(|t| *t < min);
        self.t.drain(from..to);
        self.v.drain(from..to);
    }

    /// The floats alone; what the copy takes is booked with nobody.
    pub(crate) fn copy_of_floats(&self) -> Self {
        Self {
            t: self.t.clone(),
            v: self.v.clone(),
            st: self.st.clone(),
            weights: self.weights.clone(),
            coarse: self.coarse.clone(),
            ..Self::default()
        }
    }

    /// Forgets all samples and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.t.clear();
        self.v.clear();
        self.ht.clear();
        self.h.clear();
        self.st.clear();
        self.hst.clear();
        self.weights.clear();
        self.coarse.clear();
    }

    /// Are there no histograms and no start times? False when in doubt.
    pub(crate) fn has_only_floats(&self) -> bool {
        self.ht.is_empty() && self.st.is_empty()
    }

    /// Are there neither floats nor histograms?
    pub(crate) fn is_empty(&self) -> bool {
        self.t.is_empty() && self.ht.is_empty()
    }

    /// How many floats and histograms.
    pub(crate) fn len(&self) -> usize {
        self.t.len() + self.ht.len()
    }

    /// Is there a marker of staleness?
    pub(crate) fn has_stale(&self) -> bool {
        // Without a branch, for there is hardly ever one.
        let floats = self.v.iter();
        floats.fold(false, |any, v| any | is_stale(*v)) || self.h.iter().any(|h| h.is_stale())
    }

    /// A copy without markers of staleness, in `out`.
    pub(crate) fn copy_without_stale(&self, out: &mut Self) {
        out.clear();
        out.coarse.extend_from_slice(&self.coarse);
        for (i, (t, v)) in self.t.iter().zip(&self.v).enumerate() {
            if !is_stale(*v) {
                out.t.push(*t);
                out.v.push(*v);
                out.st.extend(self.st.get(i));
                out.weights.extend(self.weights.get(i));
            }
        }
        for (i, (t, h)) in self.ht.iter().zip(&self.h).enumerate() {
            if !h.is_stale() {
                out.ht.push(*t);
                out.h.push(Arc::clone(h));
                out.hst.extend(self.hst.get(i));
            }
        }
    }
}

/// Do the times from position `from` follow those before?
pub(super) fn joins(times: &[i64], from: usize) -> bool {
    match (
        from.checked_sub(1).and_then(|last| times.get(last)),
        times.get(from),
    ) {
        (Some(last), Some(first)) => last < first,
        _ => true,
    }
}

/// What a chunk says of resets between its own samples is no news once samples of another chunk lie between them.
pub(super) fn forget_reset(histogram: &mut Arc<Histogram>) {
    if matches!(histogram.reset_hint, ResetHint::Reset | ResetHint::NotReset) {
        Arc::make_mut(histogram).reset_hint = ResetHint::Unknown;
    }
}

/// Sorts the samples from position `from` in among those before, which win where times are equal; `parted` hears of every
/// sample that does not follow the one before it any more.
pub(super) fn interleave<T>(
    times: &mut Vec<i64>,
    values: &mut Vec<T>,
    from: usize,
    parted: impl Fn(&mut T),
) {
    let (later_t, later_v) = (times.split_off(from), values.split_off(from));
    let (early_t, early_v) = (std::mem::take(times), std::mem::take(values));
    let mut early = early_t.into_iter().zip(early_v).peekable();
    let mut later = later_t.into_iter().zip(later_v).peekable();
    let mut was_early = None;
    loop {
        let (is_early, is_twin) = match (early.peek(), later.peek()) {
            (None, None) => return,
            (Some(_), None) => (true, false),
            (None, Some(_)) => (false, false),
            (Some((left, _)), Some((right, _))) => (left <= right, left == right),
        };
        let next = if is_early { early.next() } else { later.next() };
        if let Some((t, mut v)) = next {
            if was_early.is_some_and(|was_early| was_early != is_early) {
                parted(&mut v);
            }
            times.push(t);
            values.push(v);
        }
        was_early = Some(is_early);
        if is_twin {
            later.next();
            // Whatever comes next of the later ones has lost its neighbour.
            was_early = Some(true);
        }
    }
}

/// [`interleave`] with something beside the values, such as start times, where that is needed.
pub(super) fn interleave_with<T, S>(
    (times, values, beside): (&mut Vec<i64>, &mut Vec<T>, &mut Vec<S>),
    from: usize,
    parted: impl Fn(&mut T),
) {
    if joins(times, from) {
        return;
    }
    let mut pairs: Vec<(T, S)> = std::mem::take(values)
        .into_iter()
        .zip(std::mem::take(beside))
        .collect();
    interleave(times, &mut pairs, from, |(value, _)| parted(value));
    (*values, *beside) = pairs.into_iter().unzip();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_overlapping_chunks_the_first_wins() {
        let mut t = vec![10, 20, 30, 15, 20, 40];
        let mut v = vec![1, 2, 3, 4, 5, 6];
        interleave(&mut t, &mut v, 3, |v| *v = -*v);
        assert_eq!(t, [10, 15, 20, 30, 40]);
        assert_eq!(v, [1, -4, -2, 3, -6]);
    }

    #[test]
    fn what_a_chunk_knows_of_resets_ends_where_another_chunk_begins() {
        for (hint, expect) in [
            (ResetHint::NotReset, ResetHint::Unknown),
            (ResetHint::Reset, ResetHint::Unknown),
            (ResetHint::Gauge, ResetHint::Gauge),
        ] {
            let mut histogram = Arc::new(Histogram {
                reset_hint: hint,
                ..Histogram::default()
            });
            forget_reset(&mut histogram);
            assert_eq!(histogram.reset_hint, expect);
        }
    }
}
