//! What values of a group become at every step, value by value.
#![expect(
    clippy::indexing_slicing,
    reason = "groups and steps are numbered by those who make room for them"
)]

use crate::promql::exec::frame::{Row, WORD_BITS, count_ones, words_for};
use crate::promql::functions::kahan::{Kahan, Mean};

/// What a group has become at one step.
pub(crate) trait Fold: Copy + Send + 'static {
    /// Does it matter whether there is a value, and not which?
    const ONLY_COUNTS: bool = false;

    /// The first value.
    fn first(v: f64) -> Self;
    /// One more value.
    fn add(&mut self, v: f64);
    /// The same value so many times more.
    fn add_again(&mut self, v: f64, more: u32) {
        (0..more).for_each(|_| self.add(v));
    }
    /// The result.
    fn get(&self) -> f64;
}

impl Fold for Kahan {
    fn first(v: f64) -> Self {
        Self::from(v)
    }

    #[inline]
    fn add(&mut self, v: f64) {
        Self::add(self, v);
    }

    fn get(&self) -> f64 {
        self.total()
    }
}

impl Fold for Mean {
    fn first(v: f64) -> Self {
        Self::from(v)
    }

    #[inline]
    fn add(&mut self, v: f64) {
        Self::add(self, v);
    }

    fn get(&self) -> f64 {
        Self::get(self)
    }
}

#[derive(Clone, Copy)]
pub(super) struct Count(f64);

impl Fold for Count {
    const ONLY_COUNTS: bool = true;

    fn first(_: f64) -> Self {
        Self(1.0)
    }

    #[inline]
    fn add(&mut self, _: f64) {
        self.0 += 1.0;
    }

    fn add_again(&mut self, _: f64, more: u32) {
        self.0 += f64::from(more);
    }

    fn get(&self) -> f64 {
        self.0
    }
}

#[derive(Clone, Copy)]
pub(super) struct One;

impl Fold for One {
    const ONLY_COUNTS: bool = true;

    fn first(_: f64) -> Self {
        Self
    }

    fn add(&mut self, _: f64) {}

    fn add_again(&mut self, _: f64, _: u32) {}

    fn get(&self) -> f64 {
        1.0
    }
}

#[derive(Clone, Copy)]
pub(super) struct Min(f64);

impl Fold for Min {
    fn first(v: f64) -> Self {
        Self(v)
    }

    #[inline]
    fn add(&mut self, v: f64) {
        if self.0 > v || self.0.is_nan() {
            self.0 = v;
        }
    }

    fn get(&self) -> f64 {
        self.0
    }
}

#[derive(Clone, Copy)]
pub(super) struct Max(f64);

impl Fold for Max {
    fn first(v: f64) -> Self {
        Self(v)
    }

    #[inline]
    fn add(&mut self, v: f64) {
        if self.0 < v || self.0.is_nan() {
            self.0 = v;
        }
    }

    fn get(&self) -> f64 {
        self.0
    }
}

/// Welford's running mean and sum of squared distances.
#[derive(Clone, Copy)]
pub(super) struct Variance {
    count: f64,
    mean: f64,
    sum: f64,
}

impl Fold for Variance {
    fn first(v: f64) -> Self {
        Self {
            count: 1.0,
            mean: v,
            sum: if v.is_finite() { 0.0 } else { f64::NAN },
        }
    }

    #[inline]
    fn add(&mut self, v: f64) {
        self.count += 1.0;
        let delta = v - self.mean;
        self.mean += delta / self.count;
        self.sum += delta * (v - self.mean);
    }

    fn get(&self) -> f64 {
        self.sum / self.count
    }
}

/// Groups being folded: one slot per group and step, and a bit that says whether it has a value.
#[derive(Debug)]
pub(crate) struct Folds<F> {
    n_steps: usize,
    slots: Vec<F>,
    present: Vec<u64>,
}

/// The slots of one group.
#[derive(Debug)]
pub(crate) struct GroupFolds<'a, F> {
    slots: &'a mut [F],
    present: &'a mut [u64],
}

impl<F: Fold> Folds<F> {
    /// No group yet.
    pub(crate) fn new(n_steps: usize) -> Self {
        Self {
            n_steps,
            slots: Vec::new(),
            present: Vec::new(),
        }
    }

    /// What a group takes.
    pub(crate) fn group_bytes(&self) -> usize {
        self.n_steps * size_of::<F>() + words_for(self.n_steps) * size_of::<u64>()
    }

    /// Takes memory for `n` groups more.
    pub(crate) fn reserve(&mut self, n: usize) {
        self.slots.reserve_exact(n * self.n_steps);
        self.present.reserve_exact(n * words_for(self.n_steps));
    }

    /// One group more, without values.
    pub(crate) fn push(&mut self) {
        // What stands where no bit is set is never read.
        let slots = self.slots.len() + self.n_steps;
        self.slots.resize(slots, F::first(0.0));
        let words = self.present.len() + words_for(self.n_steps);
        self.present.resize(words, 0);
    }

    /// The slots of a group.
    pub(crate) fn group(&mut self, group: usize) -> GroupFolds<'_, F> {
        let (from, words) = (group * self.n_steps, words_for(self.n_steps));
        GroupFolds {
            slots: &mut self.slots[from..from + self.n_steps],
            present: &mut self.present[group * words..(group + 1) * words],
        }
    }
}

impl<F: Fold> GroupFolds<'_, F> {
    /// So many there are.
    pub(crate) fn n_steps(&self) -> usize {
        self.slots.len()
    }

    /// What a step has become, if there was a value.
    pub(crate) fn get(&self, step: usize) -> Option<&F> {
        self.is_present(step).then(|| &self.slots[step])
    }

    pub(crate) fn is_present(&self, step: usize) -> bool {
        self.present[step / WORD_BITS] >> (step % WORD_BITS) & 1 == 1
    }

    /// One more value.
    #[inline]
    pub(crate) fn add(&mut self, step: usize, v: f64) {
        if self.is_present(step) {
            self.slots[step].add(v);
        } else {
            self.slots[step] = F::first(v);
            self.present[step / WORD_BITS] |= 1 << (step % WORD_BITS);
        }
    }

    /// So many more series with a row that was added.
    pub(crate) fn add_again(&mut self, row: Row<'_>, more: u32) {
        for (step, v) in row.iter() {
            self.slots[step].add_again(v, more);
        }
    }

    /// One more series without histograms.
    pub(crate) fn add_row(&mut self, row: Row<'_>) {
        let is_all_floats = row.is_all_floats();
        if is_all_floats && count_ones(self.present) == self.slots.len() {
            let slots = self.slots.iter_mut().zip(row.values);
            slots.for_each(|(slot, v)| slot.add(*v));
        } else if is_all_floats && count_ones(self.present) == 0 {
            let slots = self.slots.iter_mut().zip(row.values);
            slots.for_each(|(slot, v)| *slot = F::first(*v));
            self.present.copy_from_slice(row.present);
        } else {
            row.iter().for_each(|(step, v)| self.add(step, v));
        }
    }
}
