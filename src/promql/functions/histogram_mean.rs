//! Running sums and means of native histograms, and what is to be said of them.

use crate::model::{Histogram, KahanHistogram, ResetHint};

/// Twice this is no infinity.
const SMALL: f64 = f64::MAX / 4.0;

/// What was noticed while histograms were taken together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Noticed {
    /// One of them says that its counter was reset.
    has_reset: bool,
    /// One of them says that its counter was not reset.
    has_no_reset: bool,
    /// Custom bounds were reduced to those that all have.
    pub(crate) reconciled: bool,
}

impl Noticed {
    /// Do some say that the counter was reset and others that it was not?
    pub(crate) fn is_collision(self) -> bool {
        self.has_reset && self.has_no_reset
    }

    fn take(&mut self, histogram: &Histogram) {
        match histogram.reset_hint {
            ResetHint::Reset => self.has_reset = true,
            ResetHint::NotReset => self.has_no_reset = true,
            ResetHint::Unknown | ResetHint::Gauge => (),
        }
    }
}

/// Exponential and custom buckets do not add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Incompatible;

/// What histograms become together.
pub(crate) trait HistogramFold: Sized {
    /// The first of them.
    fn first(histogram: &Histogram) -> Self;
    /// One more.
    fn add(&mut self, histogram: &Histogram) -> Result<(), Incompatible>;
    /// What was noticed.
    fn noticed(&self) -> Noticed;
    /// The result, not compacted.
    fn get(self) -> Histogram;
}

/// A compensated sum.
#[derive(Debug, Clone)]
pub(crate) struct HistogramSum {
    sum: KahanHistogram,
    noticed: Noticed,
}

impl HistogramFold for HistogramSum {
    fn first(histogram: &Histogram) -> Self {
        let mut noticed = Noticed::default();
        noticed.take(histogram);
        Self {
            sum: KahanHistogram::new(histogram),
            noticed,
        }
    }

    fn add(&mut self, histogram: &Histogram) -> Result<(), Incompatible> {
        self.noticed.take(histogram);
        let merged = self.sum.add(histogram).map_err(|_schemas| Incompatible)?;
        self.noticed.reconciled |= merged.reconciled;
        Ok(())
    }

    fn noticed(&self) -> Noticed {
        self.noticed
    }

    fn get(self) -> Histogram {
        self.sum.total()
    }
}

/// A running mean: a compensated sum as long as it fits floats, an incremental mean from then on.
#[derive(Debug, Clone)]
pub(crate) struct HistogramMean {
    sum: HistogramSum,
    count: f64,
    is_incremental: bool,
}

impl HistogramFold for HistogramMean {
    fn first(histogram: &Histogram) -> Self {
        Self {
            sum: HistogramSum::first(histogram),
            count: 1.0,
            is_incremental: false,
        }
    }

    fn add(&mut self, histogram: &Histogram) -> Result<(), Incompatible> {
        self.count += 1.0;
        if !self.is_incremental {
            // Two small histograms have a sum that fits floats: no need to remember what was before it.
            let is_small = self.sum.sum.is_within(SMALL)
                && histogram.counts().all(|count| count.abs() < SMALL);
            let before = (!is_small).then(|| self.sum.sum.clone());
            self.sum.add(histogram)?;
            let Some(before) = before.filter(|_| self.sum.sum.has_overflow()) else {
                return Ok(());
            };
            self.is_incremental = true;
            self.sum.sum = before;
            self.sum.sum.divide(self.count - 1.0);
        }
        self.sum.sum.scale((self.count - 1.0) / self.count);
        self.sum.add(&histogram.divide(self.count))
    }

    fn noticed(&self) -> Noticed {
        self.sum.noticed
    }

    fn get(mut self) -> Histogram {
        if !self.is_incremental {
            self.sum.sum.divide(self.count);
        }
        self.sum.sum.total()
    }
}
