//! Compensated summation.

/// A running sum and what rounding has taken from it (Neumaier's variant of Kahan's algorithm).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Kahan {
    /// The sum as floats add up.
    pub(crate) sum: f64,
    /// What is missing from it.
    pub(crate) c: f64,
}

impl Kahan {
    /// Starts at `sum`, nothing lost.
    pub(crate) fn from(sum: f64) -> Self {
        Self { sum, c: 0.0 }
    }

    /// Adds `inc`. Once the sum is infinite there is nothing to compensate. Without branches, so that many sums are added
    /// to at once.
    #[inline]
    pub(crate) fn add(&mut self, inc: f64) {
        let t = self.sum + inc;
        let is_larger = self.sum.abs() >= inc.abs();
        let larger = if is_larger { self.sum } else { inc };
        let smaller = if is_larger { inc } else { self.sum };
        let c = self.c + ((larger - t) + smaller);
        self.c = if t.is_infinite() { 0.0 } else { c };
        self.sum = t;
    }

    /// Sum and compensation together.
    pub(crate) fn total(&self) -> f64 {
        self.sum + self.c
    }
}

/// A running mean: a compensated sum as long as it fits a float, an incremental mean from then on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mean {
    acc: Kahan,
    count: f64,
    is_incremental: bool,
}

impl Mean {
    /// The mean of one value.
    pub(crate) fn from(first: f64) -> Self {
        Self {
            acc: Kahan::from(first),
            count: 1.0,
            is_incremental: false,
        }
    }

    /// Takes one more value in.
    #[inline]
    pub(crate) fn add(&mut self, v: f64) {
        self.count += 1.0;
        if !self.is_incremental {
            let mut next = self.acc;
            next.add(v);
            if !next.sum.is_infinite() {
                self.acc = next;
                return;
            }
            self.is_incremental = true;
            self.acc.sum /= self.count - 1.0;
            self.acc.c /= self.count - 1.0;
        }
        let q = (self.count - 1.0) / self.count;
        self.acc = Kahan {
            sum: q * self.acc.sum,
            c: q * self.acc.c,
        };
        self.acc.add(v / self.count);
    }

    /// The mean of everything taken in.
    pub(crate) fn get(&self) -> f64 {
        if self.is_incremental {
            self.acc.total()
        } else {
            self.acc.sum / self.count + self.acc.c / self.count
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "exact results are what is tested")]
mod tests {
    use super::*;

    fn mean(values: &[f64]) -> f64 {
        let mut mean = Mean::from(values[0]);
        for v in &values[1..] {
            mean.add(*v);
        }
        mean.get()
    }

    #[test]
    fn what_rounding_takes_comes_back() {
        let mut sum = Kahan::default();
        for v in [1.0, 1e100, 1.0, -1e100] {
            sum.add(v);
        }
        assert_eq!(sum.total(), 2.0);
        assert_eq!(mean(&[1.0, 1e100, 1.0, -1e100]), 0.5);
    }

    #[test]
    fn a_mean_outlives_an_overflowing_sum() {
        assert_eq!(mean(&[1e308, 1e308]), 1e308);
        assert_eq!(mean(&[f64::INFINITY, 0.0, f64::INFINITY]), f64::INFINITY);
        assert!(mean(&[f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    }
}
