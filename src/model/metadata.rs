//! What a metric says about itself.

/// The type of a metric family, as `# TYPE` gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MetricType {
    /// Nothing was said, or `untyped`.
    #[default]
    Unknown,
    /// Only goes up, or restarts at zero.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets.
    Histogram,
    /// Buckets that may go down.
    GaugeHistogram,
    /// Quantiles made by the target.
    Summary,
    /// A constant 1 whose labels are the message.
    Info,
    /// One of several states.
    StateSet,
}

impl MetricType {
    /// As the HTTP API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
        }
    }
}

/// Type, unit and help of a metric family.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Metadata {
    /// `# TYPE`.
    pub metric_type: MetricType,
    /// `# HELP`, unescaped.
    pub help: String,
    /// `# UNIT`.
    pub unit: String,
}
