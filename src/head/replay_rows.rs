//! The floats that wait for one page of series of a replay, as they lie in memory.
#![expect(
    clippy::indexing_slicing,
    reason = "a place is a byte, and all that has places has at least 256 of them; a row is taken modulo their number"
)]

use crate::model::{Sample, TimestampMs};
use crate::wal::FLOATS_PER_RUN;

/// As many as a byte can tell apart.
pub(crate) const SLOTS_PER_PAGE: usize = 256;

/// So many floats of a series are handed over together at most. A log has one of each series, then the next one of each:
/// what is done for a series, and fetched from memory for it, is then done once for so many.
pub(crate) const FLOATS_PER_GROUP: usize = 16;

/// Floats of the series of one page: the first of each series, then the second of each, in the order in which they mostly
/// come.
#[derive(Debug)]
pub(crate) struct Rows {
    /// How many each series has.
    n: [u8; SLOTS_PER_PAGE],
    /// How many it may have.
    n_max: u8,
    /// What the times are counted from.
    base: TimestampMs,
    values: Box<[f64; VALUES_PER_ROW * FLOATS_PER_GROUP]>,
    times: Box<[u32; TIMES_PER_ROW * FLOATS_PER_GROUP]>,
}

/// A few places more than are used: rows a multiple of a page of memory apart would push each other out of the cache.
const VALUES_PER_ROW: usize = SLOTS_PER_PAGE + 8;
/// The same.
const TIMES_PER_ROW: usize = SLOTS_PER_PAGE + 16;

/// [`FLOATS_PER_GROUP`] as a byte.
#[expect(clippy::cast_possible_truncation, reason = "sixteen fits a byte")]
const N_MAX: u8 = FLOATS_PER_GROUP as u8;

/// Times so much before the first one that came can be told too.
const BACK_MS: i64 = 1 << 30;

impl Rows {
    /// Empty ones, for floats at about `t`. A row has no memory before the first float is put into it: nearly all pages
    /// begin at once, and whoever waits for them would wait for all rows.
    pub(crate) fn new(t: TimestampMs) -> Self {
        Self {
            n: [0; SLOTS_PER_PAGE],
            n_max: N_MAX,
            base: t.wrapping_sub(BACK_MS),
            values: boxed(vec![0.0; VALUES_PER_ROW * FLOATS_PER_GROUP]),
            times: boxed(vec![0; TIMES_PER_ROW * FLOATS_PER_GROUP]),
        }
    }

    /// Makes them empty again.
    pub(crate) fn clear(&mut self, t: TimestampMs) {
        self.n = [0; SLOTS_PER_PAGE];
        self.n_max = N_MAX;
        self.base = t.wrapping_sub(BACK_MS);
    }

    /// Does the series at this place have any?
    pub(crate) fn has(&self, place: u8) -> bool {
        0 < self.n[usize::from(place)]
    }

    /// A series may have so many, 1 to [`FLOATS_PER_GROUP`].
    pub(crate) fn take_at_most(&mut self, n: usize) {
        self.n_max = u8::try_from(n).map_or(N_MAX, |n| n.clamp(1, N_MAX));
    }

    #[inline(always)]
    pub(crate) fn free(&mut self) -> Free<'_> {
        Free {
            n: &mut self.n,
            n_max: self.n_max,
            base: self.base,
            values: self.values.as_chunks_mut().0,
            times: self.times.as_chunks_mut().0,
        }
    }

    /// The floats of the series at places from [`SERIES_PER_BLOCK`] times `block` on, put into `columns`, if there are any.
    /// They are read row by row: one after the other, each series would wait for all rows.
    pub(crate) fn columns<'c>(
        &self,
        block: usize,
        columns: &'c mut Columns,
    ) -> Option<[&'c [Sample]; SERIES_PER_BLOCK]> {
        let n = *self.n.as_chunks::<SERIES_PER_BLOCK>().0.get(block)?;
        let n_max = n.iter().max().copied().filter(|n_max| 0 < *n_max)?;
        // Another thread wrote them: looked at like this, they come all at once.
        let rows = self.rows().take(usize::from(n_max));
        let touched = rows.clone().fold(0, |sum, (values, times)| {
            let first = block * SERIES_PER_BLOCK % SLOTS_PER_PAGE;
            let values = values[first].to_bits() ^ values[first + 8].to_bits();
            sum ^ values ^ u64::from(times[first])
        });
        std::hint::black_box(touched);
        for (at, (values, times)) in rows.enumerate() {
            let values = values.as_chunks::<SERIES_PER_BLOCK>().0.get(block)?;
            let times = times.as_chunks::<SERIES_PER_BLOCK>().0.get(block)?;
            for ((column, v), time) in columns.iter_mut().zip(values).zip(times) {
                column[at % FLOATS_PER_GROUP] = Sample {
                    t: self.base.wrapping_add(i64::from(*time)),
                    v: *v,
                };
            }
        }
        let mut floats = [[].as_slice(); SERIES_PER_BLOCK];
        for ((floats, column), n) in floats.iter_mut().zip(columns).zip(n) {
            *floats = column.get(..usize::from(n)).unwrap_or_default();
        }
        Some(floats)
    }

    fn rows(
        &self,
    ) -> impl Iterator<Item = (&[f64; VALUES_PER_ROW], &[u32; TIMES_PER_ROW])> + Clone {
        let (values, times) = (self.values.as_chunks().0, self.times.as_chunks().0);
        values.iter().zip(times)
    }
}

/// Zeroes stay as the system gives them: nothing is written.
fn boxed<T: Default, const N: usize>(zeroed: Vec<T>) -> Box<[T; N]> {
    zeroed
        .try_into()
        .unwrap_or_else(|_| Box::new(std::array::from_fn(|_| T::default())))
}

/// What of [`Rows`] takes floats.
pub(crate) struct Free<'r> {
    n: &'r mut [u8; SLOTS_PER_PAGE],
    n_max: u8,
    base: TimestampMs,
    values: &'r mut [[f64; VALUES_PER_ROW]],
    times: &'r mut [[u32; TIMES_PER_ROW]],
}

impl Free<'_> {
    /// Adds a float; false where its series has all it may have, or the time is too far from the others.
    #[inline(always)]
    pub(crate) fn push(&mut self, place: u8, t: TimestampMs, v: f64) -> bool {
        let place = usize::from(place);
        let n = self.n[place];
        let time = u32::try_from(t.wrapping_sub(self.base).cast_unsigned());
        match time {
            Ok(time) if n < self.n_max => {
                let row = usize::from(n) % FLOATS_PER_GROUP;
                self.times[row][place] = time;
                self.values[row][place] = v;
                self.n[place] = n + 1;
                true
            }
            _ => false,
        }
    }

    /// Adds a float of each of series that follow each other, all of one time; false where that cannot be done in one step.
    #[inline(always)]
    pub(crate) fn push_run(
        &mut self,
        place: u8,
        t: TimestampMs,
        values: &[f64; FLOATS_PER_RUN],
    ) -> bool {
        let place = usize::from(place);
        let Some(n) = self.n.get_mut(place..place + FLOATS_PER_RUN) else {
            return false;
        };
        let n_each = n[0];
        let time = u32::try_from(t.wrapping_sub(self.base).cast_unsigned());
        let (Ok(time), true) = (time, n_each < self.n_max) else {
            return false;
        };
        if n.iter().fold(0, |all, n| all | (n ^ n_each)) != 0 {
            return false;
        }
        n.fill(n_each + 1);
        let row = usize::from(n_each) % FLOATS_PER_GROUP;
        self.times[row][place..place + FLOATS_PER_RUN].fill(time);
        self.values[row][place..place + FLOATS_PER_RUN].copy_from_slice(values);
        true
    }

    /// The same where series have not all as many, or want floats from different times on: those that are not wanted are
    /// written where the next one goes, and not counted. How many these are; `None` where that cannot be done.
    #[inline(always)]
    pub(crate) fn push_uneven(
        &mut self,
        place: u8,
        t: TimestampMs,
        values: &[f64; FLOATS_PER_RUN],
        from: &[TimestampMs; SLOTS_PER_PAGE],
    ) -> Option<u64> {
        let place = usize::from(place);
        let n = self.n.get_mut(place..)?;
        let n = n.first_chunk_mut::<FLOATS_PER_RUN>()?;
        let from = from.get(place..)?.first_chunk::<FLOATS_PER_RUN>()?;
        let time = u32::try_from(t.wrapping_sub(self.base).cast_unsigned()).ok()?;
        if n.iter().fold(false, |any, n| any | (*n >= self.n_max)) {
            return None;
        }
        let mut n_old = 0;
        for at in 0..FLOATS_PER_RUN {
            let row = usize::from(n[at]) % FLOATS_PER_GROUP;
            self.times[row][place + at] = time;
            self.values[row][place + at] = values[at];
            let is_wanted = from[at] <= t;
            n[at] += u8::from(is_wanted);
            n_old += u64::from(!is_wanted);
        }
        Some(n_old)
    }
}

/// Series whose floats are looked at together.
pub(crate) const SERIES_PER_BLOCK: usize = 16;

/// So many are on one page.
pub(crate) const BLOCKS_PER_PAGE: usize = SLOTS_PER_PAGE / SERIES_PER_BLOCK;

/// Floats series by series.
pub(crate) type Columns = [[Sample; FLOATS_PER_GROUP]; SERIES_PER_BLOCK];

/// No floats.
pub(crate) const NO_COLUMNS: Columns =
    [[Sample { t: 0, v: 0.0 }; FLOATS_PER_GROUP]; SERIES_PER_BLOCK];

/// The floats of the series at this place.
#[cfg(test)]
pub(crate) fn column(rows: &Rows, place: usize) -> Vec<Sample> {
    let mut columns = NO_COLUMNS;
    let floats = rows.columns(place / SERIES_PER_BLOCK, &mut columns);
    let floats = floats.unwrap_or_default();
    floats[place % SERIES_PER_BLOCK].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_takes_fewer_floats_of_a_series_when_it_is_told_so() {
        for (told, n) in [(0, 1), (1, 1), (7, 7), (16, 16), (17, 16), (300, 16)] {
            let mut rows = Rows::new(0);
            rows.take_at_most(told);
            for place in [0, 9, 255] {
                let n_taken = (0..40)
                    .take_while(|t| rows.free().push(place, *t, 1.0))
                    .count();
                assert_eq!(n_taken, n, "{told}");
                assert_eq!(column(&rows, usize::from(place)).len(), n);
            }
            rows.clear(0);
            let n_taken = (0..40).take_while(|t| rows.free().push(9, *t, 1.0)).count();
            assert_eq!(n_taken, FLOATS_PER_GROUP);
        }
    }

    #[test]
    fn times_far_from_the_others_wait_among_themselves() {
        for first in [i64::MIN, -1, 0, 1_700_000_000_000, i64::MAX] {
            let far = first.wrapping_add(1 << 33);
            let mut rows = Rows::new(first);
            let near = first.wrapping_sub(1000);
            assert!(rows.free().push(9, first, 1.0));
            assert!(rows.free().push(9, near, 2.0));
            assert!(!rows.free().push(9, far, 3.0));
            assert!(!rows.free().push(9, first.wrapping_sub(1 << 33), 3.0));
            let times = |rows: &Rows| {
                let column = column(rows, 9).into_iter();
                column.map(|float| float.t).collect::<Vec<_>>()
            };
            assert_eq!(times(&rows), [first, near]);
            rows.clear(far);
            assert!(times(&rows).is_empty());
            assert!(rows.free().push(9, far, 3.0));
            assert_eq!(times(&rows), [far]);
        }
    }
}
