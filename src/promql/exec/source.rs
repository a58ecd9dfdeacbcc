//! Series of the selectors, and their samples decoded.

use std::sync::{Arc, OnceLock};

use crate::chunk::decode_floats;
use crate::model::{Encoding, Histogram, Interval, Labels, Matcher, is_stale};
use crate::promql::annotations::Annotations;
use crate::promql::limits::{Budget, QueryError};
use crate::promql::parse::ast::Span;
use crate::promql::plan::Plan;
use crate::storage::{ChunkSlice, Queryable, SelectHints};

/// Samples of one series as columns: floats, and beside them native histograms.
#[derive(Debug, Default, Clone)]
pub(crate) struct Samples {
    /// Times of floats, ascending.
    pub(crate) t: Vec<i64>,
    /// Floats, as many as their times; markers of staleness included.
    pub(crate) v: Vec<f64>,
    /// Times of histograms, ascending.
    pub(crate) ht: Vec<i64>,
    /// Histograms, as many as their times; markers of staleness included.
    pub(crate) h: Vec<Arc<Histogram>>,
}

/// One series as the storage gave it.
#[derive(Debug)]
pub(crate) struct Series {
    /// Who.
    pub(crate) labels: Labels,
    chunks: Vec<ChunkSlice>,
    decoded: OnceLock<Result<Arc<Samples>, QueryError>>,
}

/// What one selector found.
#[derive(Debug)]
pub(crate) struct Selected {
    /// In label order.
    pub(crate) series: Vec<Series>,
    /// Encoded bytes of all of them.
    n_bytes: u64,
    /// Times that matter.
    interval: Interval,
    /// More than one leaf reads it, so what is decoded is kept.
    is_shared: bool,
}

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

/// Asks the storage for every selector of `plan`.
pub(crate) fn select_all(
    plan: &Plan,
    queryable: &dyn Queryable,
    step_ms: i64,
    budget: &Budget,
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
            step_ms,
            range_ms: selector.range_ms,
            func: selector.func.to_owned(),
            cancel: budget.cancel().clone(),
            ..SelectHints::new(selector.interval)
        };
        let mut selected = select(queryable, &matchers, &hints, budget, notes)?;
        selected.is_shared = selector.n_leaves > 1;
        for series in &selected.series {
            cost.chunks += series.chunks.len() as u64;
        }
        cost.bytes += selected.n_bytes;
        cost.series += selected.series.len() as u64;
        all.push(Arc::new(selected));
    }
    Ok((all, cost))
}

/// Asks the storage once.
pub(crate) fn select(
    queryable: &dyn Queryable,
    matchers: &[Matcher],
    hints: &SelectHints,
    budget: &Budget,
    notes: &Annotations,
) -> Result<Selected, QueryError> {
    budget.check()?;
    let mut set = queryable
        .select(matchers, hints)
        .map_err(|error| budget.storage_error(&error))?;
    let mut series = Vec::new();
    let mut n_bytes = 0;
    while let Some(next) = set.next() {
        let next = next.map_err(|error| budget.storage_error(&error))?;
        if series.len() % 1024 == 1023 {
            budget.check()?;
        }
        n_bytes += next
            .chunks
            .iter()
            .map(|chunk| chunk.data.len() as u64)
            .sum::<u64>();
        series.push(Series {
            labels: next.labels,
            chunks: next.chunks,
            decoded: OnceLock::new(),
        });
    }
    for warning in set.warnings() {
        notes.foreign(warning);
    }
    Ok(Selected {
        series,
        n_bytes,
        interval: hints.interval,
        is_shared: false,
    })
}

impl Selected {
    /// Encoded bytes of all chunks.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// The samples of a series that `reach` can see, decoded into `scratch` unless they are kept for other readers.
    pub(crate) fn samples<'a>(
        &'a self,
        series: &'a Series,
        scratch: &'a mut Samples,
        reader: &Reader<'_>,
    ) -> Result<&'a Samples, QueryError> {
        let interval = self.interval;
        if self.is_shared {
            let decoded = series.decoded.get_or_init(|| {
                let mut samples = Samples::default();
                series.decode(interval, &mut samples, reader)?;
                Ok(Arc::new(samples))
            });
            return match decoded {
                Ok(samples) => Ok(samples),
                Err(error) => Err(error.clone()),
            };
        }
        let interval = Interval {
            min: interval.min.max(reader.reach.min),
            max: interval.max.min(reader.reach.max),
        };
        series.decode(interval, scratch, reader)?;
        Ok(scratch)
    }
}

/// Who decodes: where remarks go and for which part of the query.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    /// Where remarks go.
    pub(crate) notes: &'a Annotations,
    /// Which part of the query.
    pub(crate) span: Span,
    /// Times that matter now.
    pub(crate) reach: Interval,
}

impl Series {
    /// Decodes the chunks that touch `interval`; of samples with the same time the first chunk's stays.
    fn decode(
        &self,
        interval: Interval,
        out: &mut Samples,
        reader: &Reader<'_>,
    ) -> Result<(), QueryError> {
        out.clear();
        for chunk in &self.chunks {
            let reach = Interval {
                min: chunk.min_t,
                max: chunk.max_t,
            };
            if !reach.overlaps(&interval) {
                continue;
            }
            if !matches!(chunk.encoding, Encoding::Xor | Encoding::Xor2) {
                let encoding = format!("{:?}", chunk.encoding);
                reader
                    .notes
                    .histogram_chunks(self.labels.metric_name(), &encoding, reader.span);
                continue;
            }
            let from = out.t.len();
            decode_floats(chunk.encoding, &chunk.data, &mut out.t, &mut out.v)
                .map_err(|error| QueryError::Storage(format!("series {}: {error}", self.labels)))?;
            let joins_after = match (
                from.checked_sub(1).and_then(|last| out.t.get(last)),
                out.t.get(from),
            ) {
                (Some(last), Some(first)) => last < first,
                _ => true,
            };
            if !joins_after {
                out.interleave(from);
            }
        }
        Ok(())
    }
}

impl Samples {
    /// Forgets all samples and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.t.clear();
        self.v.clear();
        self.ht.clear();
        self.h.clear();
    }

    /// Are there neither floats nor histograms?
    pub(crate) fn is_empty(&self) -> bool {
        self.t.is_empty() && self.ht.is_empty()
    }

    /// How many floats and histograms.
    pub(crate) fn len(&self) -> usize {
        self.t.len() + self.ht.len()
    }

    /// Sorts the floats from position `from` in among those before, which win where times are equal.
    fn interleave(&mut self, from: usize) {
        let (later_t, later_v) = (self.t.split_off(from), self.v.split_off(from));
        let (early_t, early_v) = (std::mem::take(&mut self.t), std::mem::take(&mut self.v));
        let mut early = early_t.into_iter().zip(early_v).peekable();
        let mut later = later_t.into_iter().zip(later_v).peekable();
        loop {
            let next = match (early.peek().copied(), later.peek().copied()) {
                (None, None) => break,
                (Some(_), None) => early.next(),
                (None, Some(_)) => later.next(),
                (Some((left, _)), Some((right, _))) => {
                    if left == right {
                        later.next();
                    }
                    if left <= right {
                        early.next()
                    } else {
                        later.next()
                    }
                }
            };
            if let Some((t, v)) = next {
                self.t.push(t);
                self.v.push(v);
            }
        }
    }

    /// Is there a marker of staleness?
    pub(crate) fn has_stale(&self) -> bool {
        self.v.iter().any(|v| is_stale(*v)) || self.h.iter().any(|h| h.is_stale())
    }

    /// A copy without markers of staleness, in `out`.
    pub(crate) fn copy_without_stale(&self, out: &mut Self) {
        out.clear();
        for (t, v) in self.t.iter().zip(&self.v) {
            if !is_stale(*v) {
                out.t.push(*t);
                out.v.push(*v);
            }
        }
        for (t, h) in self.ht.iter().zip(&self.h) {
            if !h.is_stale() {
                out.ht.push(*t);
                out.h.push(Arc::clone(h));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_overlapping_chunks_the_first_wins() {
        let mut samples = Samples {
            t: vec![10, 20, 30, 15, 20, 40],
            v: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            ..Samples::default()
        };
        samples.interleave(3);
        assert_eq!(samples.t, [10, 15, 20, 30, 40]);
        assert_eq!(samples.v, [1.0, 4.0, 2.0, 3.0, 6.0]);
    }
}
