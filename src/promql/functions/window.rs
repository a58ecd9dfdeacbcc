//! The samples a range function sees at one evaluation time.

/// A run of samples of one series.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window<'a> {
    /// Times, ascending.
    pub(crate) t: &'a [i64],
    /// Values, as many as times.
    pub(crate) v: &'a [f64],
    /// Where the range begins (exclusive).
    pub(crate) start: i64,
    /// Where the range ends (inclusive).
    pub(crate) end: i64,
    /// When it is evaluated.
    pub(crate) eval_t: i64,
    /// Position of the first sample within its series.
    pub(crate) offset: usize,
}

impl Window<'_> {
    /// First and last sample, when there are at least two.
    pub(crate) fn ends(&self) -> Option<((i64, f64), (i64, f64))> {
        if self.t.len() < 2 {
            return None;
        }
        let first = (*self.t.first()?, *self.v.first()?);
        Some((first, (*self.t.last()?, *self.v.last()?)))
    }

    /// Length of the range in seconds.
    #[expect(
        clippy::cast_precision_loss,
        reason = "ranges are far below 2^53 milliseconds"
    )]
    pub(crate) fn range_seconds(&self) -> f64 {
        (self.end - self.start) as f64 / 1000.0
    }
}
