//! Columns: one run of floats and one presence bitmap per series, over all steps of a grid.
//!
//! A step of a series has a float, a native histogram, or nothing. The bitmap says whether there is anything; a series
//! with histograms has a further column of them, and a step whose bit is set and whose histogram is not there is a float.
//! So who asks only for presence treats both alike, and who asks for floats never sees a histogram.
#![expect(
    clippy::indexing_slicing,
    reason = "rows are cut by `n_steps` and `words`, which `Frame::push` and `Frame::new` establish"
)]

mod bits;

use std::ops::Range;
use std::sync::Arc;

use crate::model::{Histogram, Labels};
use crate::promql::exec::booking::Booking;
use crate::promql::limits::{Budget, QueryError};
use crate::promql::memory::{Hold, Share};
use crate::promql::value::PointValue;
use bits::{Floats, set_bits};
pub(crate) use bits::{WORD_BITS, count_ones, ones, words_for};

/// Cells of a row that are booked as a sample even when they are empty, for they take memory.
const CELLS_PER_SAMPLE: usize = 4;

/// About as much memory a frame takes at first.
const FIRST_BYTES: usize = 4096;

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

/// An instant vector at every step of a grid.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    heads: Vec<Head>,
    n_steps: usize,
    words: usize,
    values: Vec<f64>,
    present: Vec<u64>,
    /// By series.
    histograms: Vec<HistogramColumn>,
    /// Series there is memory for.
    rows_max: usize,
    booking: Booking,
}

/// A histogram per step, where a series has any at all. Entries count only where the bit is set.
pub(crate) type HistogramColumn = Option<Box<[Option<Arc<Histogram>>]>>;

/// What stands at one step of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Cell<'a> {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(&'a Arc<Histogram>),
}

impl Cell<'_> {
    /// The same as a value of its own.
    pub(crate) fn to_point(self) -> PointValue {
        match self {
            Self::Float(v) => PointValue::Float(v),
            Self::Histogram(histogram) => PointValue::Histogram(Arc::clone(histogram)),
        }
    }
}

/// One series of a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    /// A value per step; meaningless where the bit is unset or a histogram stands.
    pub(crate) values: &'a [f64],
    /// A bit per step, low bits first: is there a float or a histogram?
    pub(crate) present: &'a [u64],
    histograms: Option<&'a [Option<Arc<Histogram>>]>,
}

/// One series of a frame, to be written.
#[derive(Debug)]
pub(crate) struct RowMut<'a> {
    /// A value per step.
    pub(crate) values: &'a mut [f64],
    /// A bit per step, low bits first.
    pub(crate) present: &'a mut [u64],
    histograms: &'a mut HistogramColumn,
}

impl<'a> Row<'a> {
    /// The float at step `i`.
    pub(crate) fn get(&self, i: usize) -> Option<f64> {
        (self.is_present(i) && self.histogram_entry(i).is_none()).then(|| self.values[i])
    }

    /// Whatever stands at step `i`.
    pub(crate) fn cell(&self, i: usize) -> Option<Cell<'a>> {
        self.is_present(i).then(|| match self.histogram_entry(i) {
            Some(histogram) => Cell::Histogram(histogram),
            None => Cell::Float(self.values[i]),
        })
    }

    /// Is there anything at step `i`?
    pub(crate) fn is_present(&self, i: usize) -> bool {
        self.present[i / WORD_BITS] >> (i % WORD_BITS) & 1 == 1
    }

    fn histogram_entry(&self, i: usize) -> Option<&'a Arc<Histogram>> {
        self.histograms.and_then(|column| column[i].as_ref())
    }

    /// Has every step a float?
    pub(crate) fn is_all_floats(&self) -> bool {
        self.histograms.is_none() && self.count() == self.values.len()
    }

    /// May there be histograms? False is certain.
    pub(crate) fn has_histograms(&self) -> bool {
        self.histograms.is_some()
    }

    /// Steps with a float, and the float.
    pub(crate) fn iter(self) -> impl Iterator<Item = (usize, f64)> + 'a {
        ones(self.present)
            .filter(move |i| self.histogram_entry(*i).is_none())
            .map(move |i| (i, self.values[i]))
    }

    /// Steps with anything, and what it is.
    pub(crate) fn cells(self) -> impl Iterator<Item = (usize, Cell<'a>)> + 'a {
        ones(self.present).filter_map(move |i| Some((i, self.cell(i)?)))
    }

    /// Steps with a histogram, and the histogram.
    pub(crate) fn histograms(self) -> impl Iterator<Item = (usize, &'a Arc<Histogram>)> + 'a {
        let words = if self.has_histograms() {
            self.present
        } else {
            &[]
        };
        ones(words).filter_map(move |i| Some((i, self.histogram_entry(i)?)))
    }

    /// How many steps have anything.
    pub(crate) fn count(&self) -> usize {
        count_ones(self.present)
    }

    /// What the series is booked with: its points, histograms by their size.
    fn n_booked(&self) -> usize {
        let floats = self.count();
        let histograms = self.histograms();
        floats + histograms.map(|(_, h)| h.n_samples()).sum::<usize>()
    }
}

impl RowMut<'_> {
    /// To write floats only, step after step; the row must have no histograms.
    pub(crate) fn floats(&mut self) -> Floats<'_> {
        Floats {
            values: self.values,
            present: self.present,
            word: 0,
            bits: 0,
        }
    }

    /// Says that there is something at these steps: floats that are written already.
    pub(crate) fn mark(&mut self, steps: Range<usize>) {
        set_bits(self.present, steps);
    }

    /// Gives step `i` a float.
    pub(crate) fn set(&mut self, i: usize, v: f64) {
        self.values[i] = v;
        self.present[i / WORD_BITS] |= 1 << (i % WORD_BITS);
        if let Some(column) = self.histograms {
            column[i] = None;
        }
    }

    /// Gives step `i` a histogram.
    pub(crate) fn set_histogram(&mut self, i: usize, histogram: Arc<Histogram>) {
        self.present[i / WORD_BITS] |= 1 << (i % WORD_BITS);
        let n_steps = self.values.len();
        let column = self
            .histograms
            .get_or_insert_with(|| vec![None; n_steps].into_boxed_slice());
        column[i] = Some(histogram);
    }

    /// Gives step `i` what stands in a cell.
    pub(crate) fn set_cell(&mut self, i: usize, cell: Cell<'_>) {
        match cell {
            Cell::Float(v) => self.set(i, v),
            Cell::Histogram(histogram) => self.set_histogram(i, Arc::clone(histogram)),
        }
    }

    /// May there be histograms? False is certain.
    pub(crate) fn has_histograms(&self) -> bool {
        self.histograms.is_some()
    }

    /// Gives step `i` a value.
    pub(crate) fn set_point(&mut self, i: usize, point: PointValue) {
        match point {
            PointValue::Float(v) => self.set(i, v),
            PointValue::Histogram(histogram) => self.set_histogram(i, histogram),
        }
    }

    /// Puts what `f` makes of a cell in its place, or nothing.
    pub(crate) fn map_cells(&mut self, mut f: impl FnMut(usize, Cell<'_>) -> Option<PointValue>) {
        let before = self.histograms.take();
        for i in 0..self.values.len() {
            if self.present[i / WORD_BITS] >> (i % WORD_BITS) & 1 == 0 {
                continue;
            }
            let histogram = before.as_ref().and_then(|column| column[i].as_ref());
            let cell = histogram.map_or_else(|| Cell::Float(self.values[i]), Cell::Histogram);
            match f(i, cell) {
                Some(point) => self.set_point(i, point),
                None => self.unset(i),
            }
        }
    }

    /// Is there a float at any step?
    pub(crate) fn has_floats(&self) -> bool {
        ones(self.present).any(|i| {
            let column = self.histograms.as_ref();
            column.is_none_or(|column| column[i].is_none())
        })
    }

    /// Takes every histogram away.
    pub(crate) fn drop_histograms(&mut self) {
        if let Some(column) = self.histograms.take() {
            for (i, entry) in column.iter().enumerate() {
                if entry.is_some() {
                    self.unset(i);
                }
            }
        }
    }

    /// Lets a float stand wherever a histogram stood.
    pub(crate) fn forget_histograms(&mut self) {
        *self.histograms = None;
    }

    /// Takes whatever stands at step `i` away.
    pub(crate) fn unset(&mut self, i: usize) {
        self.present[i / WORD_BITS] &= !(1 << (i % WORD_BITS));
    }
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

    /// One series without labels that has a float at every step.
    pub(crate) fn of_scalar(values: &[f64], budget: &Arc<Budget>) -> Result<Self, QueryError> {
        let mut frame = Self::new(values.len(), budget);
        let row = frame.push(Head::new(Labels::empty()));
        row.values.copy_from_slice(values);
        for i in 0..values.len() {
            row.present[i / WORD_BITS] |= 1 << (i % WORD_BITS);
        }
        frame.settle_last()?;
        Ok(frame)
    }

    /// Memory for as many series as will come, if there is so much: room that is found bit by bit is copied each time.
    pub(crate) fn expect_rows(&mut self, n_rows: usize) {
        let missing = (self.heads.len() + n_rows).saturating_sub(self.rows_max);
        let bytes = missing.saturating_mul(self.row_bytes());
        if self.booking.memory.try_add(bytes) {
            self.reserve_booked(n_rows);
        }
    }

    /// Is there memory for that many series?
    pub(crate) fn has_room_for(&self, n_rows: usize) -> bool {
        self.heads.len() + n_rows <= self.rows_max
    }

    /// The same, for series of the selector whose share this is.
    pub(crate) fn of_selector(n_steps: usize, budget: &Arc<Budget>, share: &Share) -> Self {
        let mut frame = Self::new(n_steps, budget);
        frame.booking = Booking::of(budget, share);
        frame
    }

    /// Bytes booked for it.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.booking.memory.bytes() + self.booking.histograms.bytes()
    }

    /// Memory for one series more, booked before it is taken: for twice as many if there is room, else for this one.
    /// A refusal ends the query where it next looks at its budget.
    #[inline]
    fn make_room(&mut self) {
        if self.rows_max <= self.heads.len() {
            self.grow();
        }
    }

    fn row_bytes(&self) -> usize {
        self.n_steps * size_of::<f64>()
            + self.words * size_of::<u64>()
            + size_of::<Head>()
            + size_of::<HistogramColumn>()
    }

    #[cold]
    fn grow(&mut self) {
        let row_bytes = self.row_bytes();
        let many = self.rows_max.max(FIRST_BYTES / row_bytes).max(1);
        let memory = &self.booking.memory;
        if memory.try_add(many.saturating_mul(row_bytes)) {
            self.reserve_booked(many);
        } else {
            memory.add(row_bytes).ok();
            self.reserve_booked(1);
        }
    }

    /// Memory for `n_rows` series more, booked before it is taken: for twice as many as there are if there is room.
    fn reserve(&mut self, n_rows: usize) -> Result<(), QueryError> {
        let missing = (self.heads.len() + n_rows).saturating_sub(self.rows_max);
        if missing == 0 {
            return Ok(());
        }
        let bytes = |rows: usize| rows.saturating_mul(self.row_bytes());
        let (memory, many) = (&self.booking.memory, missing.max(self.rows_max));
        if memory.try_add(bytes(many)) {
            self.reserve_booked(n_rows - missing + many);
        } else {
            memory.add(bytes(missing))?;
            self.reserve_booked(n_rows);
        }
        Ok(())
    }

    fn reserve_booked(&mut self, n_rows: usize) {
        self.rows_max = self.rows_max.max(self.heads.len() + n_rows);
        self.heads.reserve_exact(n_rows);
        self.values.reserve_exact(n_rows * self.n_steps);
        self.present.reserve_exact(n_rows * self.words);
        self.histograms.reserve_exact(n_rows);
    }

    /// Books the histograms of a series: each by its size, one that stands at several steps in a row once.
    fn hold_histograms(&self, i: usize) -> Result<(), QueryError> {
        let Some(column) = &self.histograms[i] else {
            return Ok(());
        };
        let mut bytes = column.len() * size_of::<Option<Arc<Histogram>>>();
        let mut last: Option<&Arc<Histogram>> = None;
        for histogram in column.iter().flatten() {
            if last.is_none_or(|last| !Arc::ptr_eq(last, histogram)) {
                bytes += histogram.n_bytes();
            }
            last = Some(histogram);
        }
        self.booking.histograms.add(bytes)
    }

    /// What was held elsewhere for what is in it now goes with it.
    pub(crate) fn hold(&self, memory: &Hold) {
        self.booking.memory.absorb(memory);
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
        self.make_room();
        self.heads.push(head);
        let (values, words) = (self.values.len(), self.present.len());
        let row = self.histograms.len();
        self.values.resize(values + self.n_steps, 0.0);
        self.present.resize(words + self.words, 0);
        self.histograms.push(None);
        RowMut {
            values: &mut self.values[values..],
            present: &mut self.present[words..],
            histograms: &mut self.histograms[row],
        }
    }

    /// Adds a copy of `row`.
    pub(crate) fn push_row(&mut self, head: Head, row: Row<'_>) {
        self.make_room();
        self.heads.push(head);
        self.values.extend_from_slice(row.values);
        self.present.extend_from_slice(row.present);
        self.histograms.push(row.histograms.map(Into::into));
    }

    /// Books the points of the last series, or takes the series back when it has none.
    pub(crate) fn settle_last(&mut self) -> Result<(), QueryError> {
        let Some(last) = self.len().checked_sub(1) else {
            return Ok(());
        };
        let count = self.row(last).n_booked();
        if count == 0 {
            self.heads.pop();
            self.histograms.pop();
            self.values.truncate(last * self.n_steps);
            self.present.truncate(last * self.words);
            return Ok(());
        }
        self.hold_histograms(last)?;
        self.booking.add(count.max(self.n_steps / CELLS_PER_SAMPLE))
    }

    /// Drops series without values and books the rest; for frames that were not settled row by row.
    pub(crate) fn settle(&mut self, budget: &Arc<Budget>) -> Result<(), QueryError> {
        budget.check()?;
        self.booking.restart();
        let mut kept = 0;
        let mut points = 0;
        for i in 0..self.len() {
            budget.every(i)?;
            let count = self.row(i).n_booked();
            if count == 0 {
                continue;
            }
            points += count.max(self.n_steps / CELLS_PER_SAMPLE);
            self.hold_histograms(i)?;
            if kept < i {
                self.heads.swap(kept, i);
                self.histograms.swap(kept, i);
                let (n, w) = (self.n_steps, self.words);
                self.values.copy_within(i * n..(i + 1) * n, kept * n);
                self.present.copy_within(i * w..(i + 1) * w, kept * w);
            }
            kept += 1;
        }
        self.heads.truncate(kept);
        self.histograms.truncate(kept);
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
            histograms: self.histograms[i].as_deref(),
        }
    }

    /// Series `i`, to be changed.
    pub(crate) fn row_mut(&mut self, i: usize) -> RowMut<'_> {
        RowMut {
            values: &mut self.values[i * self.n_steps..(i + 1) * self.n_steps],
            present: &mut self.present[i * self.words..(i + 1) * self.words],
            histograms: &mut self.histograms[i],
        }
    }

    /// All series in order.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&Head, Row<'_>)> {
        (0..self.len()).map(|i| (&self.heads[i], self.row(i)))
    }

    /// May there be histograms? False is certain.
    pub(crate) fn has_histograms(&self) -> bool {
        self.histograms.iter().any(Option::is_some)
    }

    /// Takes every histogram away: what functions of floats do with them.
    pub(crate) fn drop_histograms(&mut self) {
        for i in 0..self.len() {
            self.row_mut(i).drop_histograms();
        }
    }

    /// Every float of every series, whether present or not: kernels without branches.
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
        for (i, (head, row)) in self.rows().enumerate() {
            budget.every(i)?;
            let Some(cell) = (self.n_steps > 0).then(|| row.cell(0)).flatten() else {
                continue;
            };
            wide.booking.add(n_steps)?;
            let mut out = wide.push(head.clone());
            for i in 0..n_steps {
                out.set_cell(i, cell);
            }
        }
        Ok(wide)
    }

    /// Appends the series of `other`, which must have as many steps.
    pub(crate) fn append(&mut self, mut other: Self) -> Result<(), QueryError> {
        self.reserve(other.len())?;
        self.heads.append(&mut other.heads);
        self.values.append(&mut other.values);
        self.present.append(&mut other.present);
        self.histograms.append(&mut other.histograms);
        self.booking.absorb(&mut other.booking);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
