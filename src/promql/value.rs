//! What a query answers with.

use std::sync::Arc;

use crate::model::{Histogram, Labels, Resolution, Sample, TimestampMs};
use crate::promql::columns::Columns;
use crate::promql::explain::Operator;
use crate::promql::memory::Held;

/// The value of one series at one time.
#[derive(Debug, Clone, PartialEq)]
pub enum PointValue {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<Histogram>),
}

impl PointValue {
    /// The float, if it is one.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(v) => Some(*v),
            Self::Histogram(_) => None,
        }
    }
}

/// One native histogram at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramPoint {
    /// When.
    pub t: TimestampMs,
    /// What.
    pub histogram: Arc<Histogram>,
}

/// One series of an instant vector.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSample {
    /// Who.
    pub labels: Labels,
    /// When: the evaluation time.
    pub t: TimestampMs,
    /// What.
    pub value: PointValue,
}

/// One series of a matrix; never without points.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixSeries {
    /// Who.
    pub labels: Labels,
    /// Floats, in time order.
    pub floats: Vec<Sample>,
    /// Native histograms, in time order; never at the time of a float.
    pub histograms: Vec<HistogramPoint>,
}

/// The four kinds of answer.
#[derive(Debug, Clone, PartialEq)]
pub enum QueryValue {
    /// One number; only instant queries answer so.
    Scalar {
        /// Evaluation time.
        t: TimestampMs,
        /// The number.
        v: f64,
    },
    /// One text; only instant queries answer so.
    String {
        /// Evaluation time.
        t: TimestampMs,
        /// The text.
        text: String,
    },
    /// Series with one value each; only instant queries answer so. In the order the query asks for, otherwise unspecified.
    Vector(Vec<VectorSample>),
    /// Series with their points, in label order.
    Matrix(Vec<MatrixSeries>),
    /// The same, as range queries compute it.
    Columns(Columns),
}

impl QueryValue {
    /// As the HTTP API's `resultType` writes it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Scalar { .. } => "scalar",
            Self::String { .. } => "string",
            Self::Vector(_) => "vector",
            Self::Matrix(_) | Self::Columns(_) => "matrix",
        }
    }

    /// The same with a list of points for every series, whatever it was computed as.
    pub fn into_lists(self) -> Self {
        match self {
            Self::Columns(columns) => Self::Matrix(columns.to_matrix()),
            other @ (Self::Scalar { .. }
            | Self::String { .. }
            | Self::Vector(_)
            | Self::Matrix(_)) => other,
        }
    }
}

/// What the query cost.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueryStats {
    /// Nanoseconds it waited before anybody worked on it.
    pub queue_ns: u64,
    /// Nanoseconds for parsing, planning and selecting series.
    pub preparation_ns: u64,
    /// Nanoseconds for evaluating.
    pub inner_eval_ns: u64,
    /// Nanoseconds for bringing series into order.
    pub sort_ns: u64,
    /// Series that selectors found.
    pub series: u64,
    /// Chunks of these series.
    pub chunks: u64,
    /// Encoded bytes of these chunks.
    pub chunk_bytes: u64,
    /// How coarse these chunks are, the finest first.
    pub resolutions: Vec<Resolution>,
    /// Samples that selectors handed to operators, summed over all steps.
    pub total_queryable_samples: u64,
    /// The same by step, if it was asked for.
    pub samples_per_step: Vec<(TimestampMs, u64)>,
    /// The same without samples that an earlier step was handed already: what the query reads at least.
    pub samples_read: u64,
    /// The same by step, if it was asked for.
    pub samples_read_per_step: Vec<(TimestampMs, u64)>,
    /// Samples decoded from chunks; selectors that look at the same ones share them.
    pub samples_decoded: u64,
    /// The most samples held at one time.
    pub peak_samples: u64,
    /// The most bytes of memory held at one time.
    pub peak_bytes: u64,
}

/// An answer with everything said about it.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryOutput {
    /// The answer.
    pub value: QueryValue,
    /// What may make the answer wrong, each once, in text order; no limit is applied.
    pub warnings: Vec<String>,
    /// What may make the query wrong, each once, in text order; no limit is applied.
    pub infos: Vec<String>,
    /// What it cost.
    pub stats: QueryStats,
    /// What every operator did, if it was asked for.
    pub analysis: Option<Operator>,
    /// The memory of the value, booked as long as this lives.
    pub held: Held,
}
