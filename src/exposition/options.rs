//! What a parser is to make of histograms and of what counters say of their beginning.

/// Which representations of a histogram are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HistogramOptions {
    /// Native histograms are taken as such; otherwise only their classic buckets are seen.
    pub native: bool,
    /// The classic series of a histogram are yielded beside the native one.
    pub keeps_classic: bool,
    /// Classic histograms become native ones with listed bounds.
    pub converts_classic: bool,
}

/// How expositions are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ParserOptions {
    /// What histograms become.
    pub histograms: HistogramOptions,
    /// The `_created` series of OpenMetrics are start timestamps and no series.
    pub start_timestamps: bool,
}
