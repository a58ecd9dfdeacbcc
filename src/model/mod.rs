//! The nouns: what every room above talks about.
//!
//! Owns: labels, matchers, samples, exemplars, native histograms, times, durations, numbers as text, elementary functions, block ids, metadata.
//! Never: does I/O, waits, locks, or asks what time it is.
//! Tested by: the tests beside each noun.
pub mod aggregate;
pub mod duration;
pub mod encoding;
pub mod exemplar;
pub mod histogram;
pub mod id;
pub mod labels;
pub mod matcher;
pub mod math;
pub mod metadata;
pub mod number;
pub mod sample;
pub mod sort_key;
pub mod time;

pub use aggregate::Aggregate;
pub use encoding::Encoding;
pub use exemplar::{EXEMPLAR_CHARS_MAX, Exemplar};
pub use histogram::{
    Bucket, BucketSpan, Buckets, CUSTOM_BUCKETS_SCHEMA, Counts, Histogram, HistogramError,
    IncompatibleSchemas, KahanHistogram, Merged, ResetHint, Slot,
};
pub use id::BlockId;
pub use labels::{
    ExternalLabels, Label, Labels, LabelsBuilder, LabelsError, METRIC_NAME, SeriesKey, Spelling,
};
pub use matcher::{MatchType, Matcher, MatcherError, compile_anchored};
pub use metadata::{Metadata, MetricType};
pub use sample::{NORMAL_NAN_BITS, STALE_NAN_BITS, Sample, SampleTime, is_stale, stale_nan};
pub use sort_key::SortKeys;
pub use time::{Interval, Resolution, TimeRange, TimestampMs};
