//! What a set of columns books: samples, and memory.

use std::sync::Arc;

use crate::promql::limits::{Budget, QueryError};
use crate::promql::memory::{Hold, Share};

/// Samples and memory booked with the query's budget, given back when dropped.
#[derive(Debug, Default)]
pub(crate) struct Booking {
    budget: Option<Arc<Budget>>,
    n: usize,
    /// The memory of what is booked.
    pub(crate) memory: Hold,
    /// The same, of histograms.
    pub(crate) histograms: Hold,
}

impl Booking {
    /// Nothing yet.
    pub(crate) fn new(budget: &Arc<Budget>) -> Self {
        Self {
            budget: Some(Arc::clone(budget)),
            n: 0,
            memory: Hold::new(budget),
            histograms: Hold::new(budget),
        }
    }

    /// Nothing yet; memory counts as the selector's.
    pub(crate) fn of(budget: &Arc<Budget>, share: &Share) -> Self {
        let mut booking = Self::new(budget);
        booking.memory = Hold::of(budget, share);
        booking.histograms = Hold::of(budget, share);
        booking
    }

    /// Gives samples and histograms back, but not the memory of rows.
    pub(crate) fn restart(&mut self) {
        if let Some(budget) = &self.budget {
            budget.give(self.n);
        }
        self.n = 0;
        self.histograms.release();
    }

    /// Books `n` more samples.
    pub(crate) fn add(&mut self, n: usize) -> Result<(), QueryError> {
        self.n += n;
        match &self.budget {
            Some(budget) => budget.take(n),
            None => Ok(()),
        }
    }

    /// Samples and histograms of `other` are now these.
    pub(crate) fn absorb(&mut self, other: &mut Self) {
        self.n += other.n;
        other.n = 0;
        self.histograms.absorb(&other.histograms);
    }
}

impl Drop for Booking {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.give(self.n);
        }
    }
}
