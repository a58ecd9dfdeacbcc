//! Part of what a source holds.

use bytes::Bytes;

use crate::chunk::without_intervals;
use crate::model::{Interval, Matcher, TimestampMs};
use crate::storage::{
    ChunkSeries, ChunkSlice, Queryable, SelectHints, SeriesSet, StorageError, VecSeriesSet,
};

/// Series of `source`, whose samples lie in `extent`, but only what lies in `parts`: a chunk that reaches beyond them is
/// cut. The parts are in order and apart.
pub fn select_within(
    source: &dyn Queryable,
    (extent, parts): (Interval, &[Interval]),
    matchers: &[Matcher],
    hints: &SelectHints,
) -> Result<Box<dyn SeriesSet>, StorageError> {
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else {
        return Ok(Box::new(VecSeriesSet::default()));
    };
    let hull = first.joined(*last);
    let wanted = hints.interval.common(extent);
    if parts.len() == 1 && wanted.is_none_or(|wanted| hull.common(wanted) == Some(wanted)) {
        return source.select(matchers, hints);
    }
    let mut hints = hints.clone();
    hints.interval = hull.common(hints.interval).unwrap_or(hull);
    if let Some(windows) = hints.windows {
        match windows.narrowed(hull) {
            Some(narrowed) => hints.windows = Some(narrowed),
            None => return Ok(Box::new(VecSeriesSet::default())),
        }
    }
    if hints.skip_chunks {
        return source.select(matchers, &hints);
    }
    // Series are left out here too.
    hints.limit = 0;
    Ok(Box::new(Cut {
        inner: source.select(matchers, &hints)?,
        outside: complement(parts),
    }))
}

/// All other times.
fn complement(parts: &[Interval]) -> Vec<Interval> {
    let mut outside = Vec::with_capacity(parts.len() + 1);
    let mut from = Some(TimestampMs::MIN);
    for part in parts {
        let before = part.min.checked_sub(1);
        if let Some((min, max)) = from.zip(before).filter(|(min, max)| min <= max) {
            outside.push(Interval { min, max });
        }
        from = part.max.checked_add(1);
    }
    outside.extend(from.map(|min| Interval {
        min,
        max: TimestampMs::MAX,
    }));
    outside
}

struct Cut {
    inner: Box<dyn SeriesSet>,
    outside: Vec<Interval>,
}

impl Cut {
    /// What is left of a chunk.
    fn cut(&self, chunk: ChunkSlice) -> Result<Option<ChunkSlice>, StorageError> {
        let span = Interval {
            min: chunk.min_t,
            max: chunk.max_t,
        };
        let mut outside = self.outside.iter().filter(|gone| gone.overlaps(&span));
        match outside.next() {
            None => return Ok(Some(chunk)),
            Some(gone) if gone.min <= span.min && span.max <= gone.max => return Ok(None),
            Some(_) => (),
        }
        let rest = without_intervals(chunk.encoding, &chunk.data, &self.outside)
            .map_err(|flaw| StorageError::Corrupt(format!("a chunk from {}: {flaw}", span.min)))?;
        Ok(rest.map(|rest| ChunkSlice {
            min_t: rest.min_t,
            max_t: rest.max_t,
            encoding: rest.encoding,
            data: Bytes::from(rest.data),
        }))
    }

    fn cut_all(&self, mut series: ChunkSeries) -> Result<ChunkSeries, StorageError> {
        let chunks = std::mem::take(&mut series.chunks).into_iter();
        let cut = chunks.filter_map(|chunk| self.cut(chunk).transpose());
        series.chunks = cut.collect::<Result<_, _>>()?;
        Ok(series)
    }
}

impl SeriesSet for Cut {
    fn next(&mut self) -> Option<Result<ChunkSeries, StorageError>> {
        loop {
            let series = match self.inner.next()? {
                Ok(series) => series,
                Err(error) => return Some(Err(error)),
            };
            match self.cut_all(series) {
                Ok(series) if series.chunks.is_empty() => (),
                done => return Some(done),
            }
        }
    }

    fn sort(&mut self) {
        self.inner.sort();
    }

    fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    fn warnings(&mut self) -> Vec<String> {
        self.inner.warnings()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_complement_of_parts_is_all_other_times() {
        let at = |min, max| Interval { min, max };
        assert_eq!(
            complement(&[at(0, 9), at(20, 29)]),
            [at(i64::MIN, -1), at(10, 19), at(30, i64::MAX)]
        );
        assert_eq!(complement(&[Interval::ALL]), []);
        assert_eq!(complement(&[at(i64::MIN, 4), at(9, i64::MAX)]), [at(5, 8)]);
    }
}
