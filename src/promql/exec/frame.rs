//! Columns: one run of floats and one presence bitmap per series, over all steps of a grid.
#![expect(
    clippy::indexing_slicing,
    reason = "rows are cut by `n_steps` and `words`, which `Frame::push` and `Frame::new` establish"
)]

use std::sync::Arc;

use crate::model::Labels;
use crate::promql::limits::{Budget, QueryError};

/// Bits of one word of a presence bitmap.
const WORD_BITS: usize = u64::BITS as usize;

/// Cells of a row that are booked as a sample even when they are empty, for they take memory.
const CELLS_PER_SAMPLE: usize = 4;

/// Who a row belongs to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Head {
    /// The labels, name included.
    pub(crate) labels: Labels,
    /// The name (and type and unit) goes when the query is done.
    pub(crate) drop_name: bool,
}

impl Head {
    /// Labels that stay as they are.
    pub(crate) fn new(labels: Labels) -> Self {
        Self {
            labels,
            drop_name: false,
        }
    }
}

/// Samples booked with the query's budget, given back when dropped.
#[derive(Debug, Default)]
pub(crate) struct Booking {
    budget: Option<Arc<Budget>>,
    n: usize,
}

impl Booking {
    /// Nothing yet.
    pub(crate) fn new(budget: &Arc<Budget>) -> Self {
        Self {
            budget: Some(Arc::clone(budget)),
            n: 0,
        }
    }

    /// Books `n` more.
    pub(crate) fn add(&mut self, n: usize) -> Result<(), QueryError> {
        self.n += n;
        match &self.budget {
            Some(budget) => budget.take(n),
            None => Ok(()),
        }
    }
}

impl Drop for Booking {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.give(self.n);
        }
    }
}

/// An instant vector at every step of a grid.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    heads: Vec<Head>,
    n_steps: usize,
    words: usize,
    values: Vec<f64>,
    present: Vec<u64>,
    booking: Booking,
}

/// One series of a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    /// A value per step; meaningless where the bit is unset.
    pub(crate) values: &'a [f64],
    /// A bit per step, low bits first.
    pub(crate) present: &'a [u64],
}

/// One series of a frame, to be written.
#[derive(Debug)]
pub(crate) struct RowMut<'a> {
    /// A value per step.
    pub(crate) values: &'a mut [f64],
    /// A bit per step, low bits first.
    pub(crate) present: &'a mut [u64],
}

impl<'a> Row<'a> {
    /// The value at step `i`.
    pub(crate) fn get(&self, i: usize) -> Option<f64> {
        (self.present[i / WORD_BITS] >> (i % WORD_BITS) & 1 == 1).then(|| self.values[i])
    }

    /// Steps with a value, and the value.
    pub(crate) fn iter(self) -> impl Iterator<Item = (usize, f64)> + 'a {
        ones(self.present).map(move |i| (i, self.values[i]))
    }

    /// How many steps have a value.
    pub(crate) fn count(&self) -> usize {
        count_ones(self.present)
    }
}

impl RowMut<'_> {
    /// Gives step `i` a value.
    pub(crate) fn set(&mut self, i: usize, v: f64) {
        self.values[i] = v;
        self.present[i / WORD_BITS] |= 1 << (i % WORD_BITS);
    }

    /// Takes the value of step `i` away.
    pub(crate) fn unset(&mut self, i: usize) {
        self.present[i / WORD_BITS] &= !(1 << (i % WORD_BITS));
    }
}

/// Positions of set bits.
pub(crate) fn ones(words: &[u64]) -> impl Iterator<Item = usize> + '_ {
    words.iter().enumerate().flat_map(|(position, word)| {
        let mut rest = *word;
        std::iter::from_fn(move || {
            let bit = rest.trailing_zeros() as usize;
            rest &= rest.checked_sub(1)?;
            Some(position * WORD_BITS + bit)
        })
    })
}

/// How many bits are set.
pub(crate) fn count_ones(words: &[u64]) -> usize {
    words.iter().map(|word| word.count_ones() as usize).sum()
}

/// Words for `n_steps` bits.
pub(crate) fn words_for(n_steps: usize) -> usize {
    n_steps.div_ceil(WORD_BITS)
}

impl Frame {
    /// No series, `n_steps` steps.
    pub(crate) fn new(n_steps: usize, budget: &Arc<Budget>) -> Self {
        Self {
            n_steps,
            words: words_for(n_steps),
            booking: Booking::new(budget),
            ..Self::default()
        }
    }

    /// How many series.
    pub(crate) fn len(&self) -> usize {
        self.heads.len()
    }

    /// How many steps.
    pub(crate) fn n_steps(&self) -> usize {
        self.n_steps
    }

    /// Adds a series without values and hands out its row.
    pub(crate) fn push(&mut self, head: Head) -> RowMut<'_> {
        self.heads.push(head);
        let (values, words) = (self.values.len(), self.present.len());
        self.values.resize(values + self.n_steps, 0.0);
        self.present.resize(words + self.words, 0);
        RowMut {
            values: &mut self.values[values..],
            present: &mut self.present[words..],
        }
    }

    /// Adds a copy of `row`.
    pub(crate) fn push_row(&mut self, head: Head, row: Row<'_>) {
        self.heads.push(head);
        self.values.extend_from_slice(row.values);
        self.present.extend_from_slice(row.present);
    }

    /// Books the points of the last series, or takes the series back when it has none.
    pub(crate) fn settle_last(&mut self) -> Result<(), QueryError> {
        let Some(last) = self.len().checked_sub(1) else {
            return Ok(());
        };
        let count = self.row(last).count();
        if count == 0 {
            self.heads.pop();
            self.values.truncate(last * self.n_steps);
            self.present.truncate(last * self.words);
            return Ok(());
        }
        self.booking.add(count.max(self.n_steps / CELLS_PER_SAMPLE))
    }

    /// Drops series without values and books the rest; for frames that were not settled row by row.
    pub(crate) fn settle(&mut self, budget: &Arc<Budget>) -> Result<(), QueryError> {
        self.booking = Booking::new(budget);
        let mut kept = 0;
        let mut points = 0;
        for i in 0..self.len() {
            let count = self.row(i).count();
            if count == 0 {
                continue;
            }
            points += count.max(self.n_steps / CELLS_PER_SAMPLE);
            if kept < i {
                self.heads.swap(kept, i);
                let (n, w) = (self.n_steps, self.words);
                self.values.copy_within(i * n..(i + 1) * n, kept * n);
                self.present.copy_within(i * w..(i + 1) * w, kept * w);
            }
            kept += 1;
        }
        self.heads.truncate(kept);
        self.values.truncate(kept * self.n_steps);
        self.present.truncate(kept * self.words);
        self.booking.add(points)
    }

    /// Who series `i` is.
    pub(crate) fn head(&self, i: usize) -> &Head {
        &self.heads[i]
    }

    /// All heads.
    pub(crate) fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// All heads, to be changed.
    pub(crate) fn heads_mut(&mut self) -> &mut [Head] {
        &mut self.heads
    }

    /// Series `i`.
    pub(crate) fn row(&self, i: usize) -> Row<'_> {
        Row {
            values: &self.values[i * self.n_steps..(i + 1) * self.n_steps],
            present: &self.present[i * self.words..(i + 1) * self.words],
        }
    }

    /// Series `i`, to be changed.
    pub(crate) fn row_mut(&mut self, i: usize) -> RowMut<'_> {
        RowMut {
            values: &mut self.values[i * self.n_steps..(i + 1) * self.n_steps],
            present: &mut self.present[i * self.words..(i + 1) * self.words],
        }
    }

    /// All series in order.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&Head, Row<'_>)> {
        (0..self.len()).map(|i| (&self.heads[i], self.row(i)))
    }

    /// Every value of every series, whether present or not: kernels without branches.
    pub(crate) fn values_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }

    /// A bit per step: does any series have a value there?
    pub(crate) fn any_present(&self) -> Vec<u64> {
        let mut any = vec![0; self.words];
        for i in 0..self.len() {
            for (word, here) in any.iter_mut().zip(self.row(i).present) {
                *word |= here;
            }
        }
        any
    }

    /// The first step repeated `n_steps` times.
    pub(crate) fn broadcast(
        &self,
        n_steps: usize,
        budget: &Arc<Budget>,
    ) -> Result<Self, QueryError> {
        let mut wide = Self::new(n_steps, budget);
        for (head, row) in self.rows() {
            let Some(v) = (self.n_steps > 0).then(|| row.get(0)).flatten() else {
                continue;
            };
            wide.booking.add(n_steps)?;
            let mut out = wide.push(head.clone());
            for i in 0..n_steps {
                out.set(i, v);
            }
        }
        Ok(wide)
    }

    /// Appends the series of `other`, which must have as many steps.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.heads.append(&mut other.heads);
        self.values.append(&mut other.values);
        self.present.append(&mut other.present);
        self.booking.n += other.booking.n;
        other.booking.n = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foundation::{Cancel, ManualClock};

    fn budget() -> Arc<Budget> {
        let clock = Arc::new(ManualClock::new(0));
        Arc::new(Budget::new(1_000, Cancel::new(), clock, i64::MAX))
    }

    #[test]
    fn rows_keep_values_where_bits_are_set() {
        let budget = budget();
        let mut frame = Frame::new(130, &budget);
        let mut row = frame.push(Head::new(Labels::empty()));
        for i in [0, 63, 64, 129] {
            row.set(i, 1.0);
        }
        row.unset(63);
        frame.settle_last().unwrap();
        let row = frame.row(0);
        assert_eq!(row.iter().map(|(i, _)| i).collect::<Vec<_>>(), [0, 64, 129]);
        assert_eq!((row.get(63), row.get(64)), (None, Some(1.0)));
        assert_eq!(count_ones(&frame.any_present()), 3);
    }

    #[test]
    fn series_without_values_go_and_the_rest_is_booked_and_given_back() {
        let budget = budget();
        let mut frame = Frame::new(3, &budget);
        frame.push(Head::new(Labels::empty()));
        frame.push(Head::new(Labels::empty())).set(2, 5.0);
        frame.settle(&budget).unwrap();
        assert_eq!((frame.len(), frame.row(0).get(2)), (1, Some(5.0)));
        drop(frame);
        budget.take(1_000).unwrap();
    }

    #[test]
    fn broadcasting_repeats_the_first_step() {
        let budget = budget();
        let mut frame = Frame::new(1, &budget);
        frame.push(Head::new(Labels::empty())).set(0, 7.0);
        let wide = frame.broadcast(4, &budget).unwrap();
        assert_eq!(wide.row(0).count(), 4);
        assert_eq!(wide.row(0).get(3), Some(7.0));
    }
}
