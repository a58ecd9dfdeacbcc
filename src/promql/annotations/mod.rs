//! Remarks about an answer: warnings and infos, with Prometheus' texts.
//!
//! Owns: every text, which remarks are the same remark, and the place each is printed with.
//! Never: decides that something is remarkable; evaluation does.
//! Tested by: each text with its place, in `tests.rs`.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use parking_lot::Mutex;

use crate::model::labels::go_quote;
use crate::model::number::format_g;
use crate::promql::parse::ast::Span;
use crate::promql::parse::position;

/// Everything said while a query was answered; the same text counts once, at the last place it was said of.
#[derive(Debug, Default)]
pub(crate) struct Annotations {
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    warnings: BTreeMap<String, Remark>,
    infos: BTreeMap<String, Remark>,
    foreign: BTreeSet<String>,
}

/// Where something was said, and what the text tells when the query is known.
#[derive(Debug, Clone, Copy)]
struct Remark {
    at: Span,
    detail: Detail,
}

#[derive(Debug, Clone, Copy)]
enum Detail {
    None,
    Repair(Repair),
    Occurrences(u64),
}

impl Remark {
    /// Parts of a query are evaluated left to right, a part after what is inside it, and the last one has its place in
    /// the message, or the first one where the message sums up; taking it from the places makes the message independent of
    /// the order in which threads come by.
    fn merge(&mut self, other: &Self) {
        let order = |at: &Span| (at.end, std::cmp::Reverse(at.start));
        let first_or_last = match (&mut self.detail, &other.detail) {
            (Detail::Repair(repair), Detail::Repair(more)) => {
                repair.merge(more);
                std::cmp::min_by_key
            }
            (Detail::Occurrences(n), Detail::Occurrences(more)) => {
                *n += more;
                std::cmp::min_by_key
            }
            _ => std::cmp::max_by_key,
        };
        self.at = first_or_last(self.at, other.at, order);
    }
}

/// Which computation with two histograms a remark is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HistogramOperation {
    /// The operator `+`.
    Addition,
    /// The operator `-`, and differences within a range.
    Subtraction,
    /// `sum` and `avg`, over series or over time.
    Aggregation,
}

impl HistogramOperation {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Addition => "addition",
            Self::Subtraction => "subtraction",
            Self::Aggregation => "aggregation",
        }
    }
}

/// What had to be done to a classic histogram whose buckets were not cumulative.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Repair {
    /// Lowest bound of a bucket that was raised.
    pub(crate) bound_min: f64,
    /// Highest bound of a bucket that was raised.
    pub(crate) bound_max: f64,
    /// Most that a bucket was raised by.
    pub(crate) diff_max: f64,
    /// First evaluation time it happened at.
    pub(crate) t_min: i64,
    /// Last evaluation time it happened at.
    pub(crate) t_max: i64,
    /// How many histograms were repaired.
    pub(crate) count: u64,
}

impl Repair {
    fn merge(&mut self, other: &Self) {
        self.bound_min = self.bound_min.min(other.bound_min);
        self.bound_max = self.bound_max.max(other.bound_max);
        self.diff_max = self.diff_max.max(other.diff_max);
        self.t_min = self.t_min.min(other.t_min);
        self.t_max = self.t_max.max(other.t_max);
        self.count += other.count;
    }
}

fn for_metric(mut text: String, name: &str) -> String {
    if !name.is_empty() {
        write!(text, " for metric name {}", go_quote(name)).ok();
    }
    text
}

fn say(remarks: &mut BTreeMap<String, Remark>, text: String, remark: Remark) {
    match remarks.entry(text) {
        Entry::Vacant(free) => {
            free.insert(remark);
        }
        Entry::Occupied(mut earlier) => earlier.get_mut().merge(&remark),
    }
}

impl Annotations {
    fn warn(&self, text: String, at: Span) {
        let detail = Detail::None;
        say(&mut self.said.lock().warnings, text, Remark { at, detail });
    }

    fn info(&self, text: String, at: Span) {
        let detail = Detail::None;
        say(&mut self.said.lock().infos, text, Remark { at, detail });
    }

    /// A source's own warning; it has no place in the query.
    pub(crate) fn foreign(&self, text: String) {
        self.said.lock().foreign.insert(text);
    }

    /// A quantile outside 0 to 1.
    pub(crate) fn invalid_quantile(&self, q: f64, at: Span) {
        let q = format_g(q);
        self.warn(
            format!("quantile value should be between 0 and 1, got {q}"),
            at,
        );
    }

    /// A ratio outside -1 to 1.
    pub(crate) fn invalid_ratio(&self, ratio: f64, to: f64, at: Span) {
        let (ratio, to) = (format_g(ratio), format_g(to));
        let text = format!("ratio value should be between -1 and 1, got {ratio}, capping to {to}");
        self.warn(text, at);
    }

    /// A bucket without a number in `le`.
    pub(crate) fn bad_bucket_label(&self, name: &str, value: &str, at: Span) {
        let value = go_quote(value);
        let text = format!("bucket label \"le\" is missing or has a malformed value of {value}");
        self.warn(for_metric(text, name), at);
    }

    /// `sort` where the result is ordered by labels anyway.
    pub(crate) fn ineffective_sort(&self, at: Span) {
        let text =
            "sort is ineffective for range queries since results are always ordered by labels";
        self.warn(text.to_owned(), at);
    }

    /// A rate over what does not look like a counter.
    pub(crate) fn possible_non_counter(&self, name: &str, at: Span) {
        let text = format!(
            "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {}",
            go_quote(name)
        );
        self.info(text, at);
    }

    /// A rate over what is typed as something else than a counter.
    pub(crate) fn possible_non_counter_type(&self, name: &str, type_label: &str, at: Span) {
        let text = format!(
            "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got {}: {}",
            go_quote(type_label),
            go_quote(name)
        );
        self.info(text, at);
    }

    /// An operator met a float and a histogram, or two histograms, that it has no meaning for.
    pub(crate) fn incompatible_types(&self, left: &str, op: &str, right: &str, at: Span) {
        let text = format!(
            "incompatible sample types encountered for binary operator \"{op}\": {left} {op} {right}"
        );
        self.info(text, at);
    }

    /// Buckets that were not cumulative.
    pub(crate) fn forced_monotonicity(&self, name: &str, repair: &Repair, at: Span) {
        let text = "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)".to_owned();
        let detail = Detail::Repair(*repair);
        let text = for_metric(text, name);
        say(&mut self.said.lock().infos, text, Remark { at, detail });
    }

    /// Warnings and infos as texts, with places and details when the query's text is known.
    pub(crate) fn texts(&self, query: &str) -> (Vec<String>, Vec<String>) {
        let said = std::mem::take(&mut *self.said.lock());
        let finished = |kind: &str, remarks: BTreeMap<String, Remark>| {
            remarks
                .into_iter()
                .map(|(text, remark)| finished(kind, &text, &remark, query))
                .collect::<Vec<String>>()
        };
        let mut warnings = finished("PromQL warning: ", said.warnings);
        warnings.extend(said.foreign);
        warnings.sort_unstable();
        (warnings, finished("PromQL info: ", said.infos))
    }
}

/// What native histograms give rise to.
impl Annotations {
    /// A function of a range met floats and histograms in one series.
    pub(crate) fn mixed_floats_histograms(&self, name: &str, at: Span) {
        let name = go_quote(name);
        let text = format!("encountered a mix of histograms and floats for metric name {name}");
        self.warn(text, at);
    }

    /// An aggregation met floats and histograms in one group.
    pub(crate) fn mixed_floats_histograms_in_aggregation(&self, at: Span) {
        let text = "encountered a mix of histograms and floats for aggregation";
        self.warn(text.to_owned(), at);
    }

    /// The same labels have buckets as series and as a native histogram.
    pub(crate) fn mixed_classic_native_histograms(&self, name: &str, at: Span) {
        let text = "vector contains a mix of classic and native histograms";
        self.warn(for_metric(text.to_owned(), name), at);
    }

    /// A rate over histograms that are gauges.
    pub(crate) fn histogram_not_counter(&self, name: &str, at: Span) {
        let name = go_quote(name);
        let text = format!("this native histogram metric is not a counter: {name}");
        self.warn(text, at);
    }

    /// A difference over histograms that are counters.
    pub(crate) fn histogram_not_gauge(&self, name: &str, at: Span) {
        let name = go_quote(name);
        let text = format!("this native histogram metric is not a gauge: {name}");
        self.warn(text, at);
    }

    /// Bounds that follow from a schema met bounds that are listed.
    pub(crate) fn mixed_exponential_custom_histograms(&self, name: &str, at: Span) {
        let name = go_quote(name);
        let text = format!(
            "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {name}"
        );
        self.warn(text, at);
    }

    /// An operator met histograms whose buckets have nothing in common.
    pub(crate) fn incompatible_bucket_layout(&self, op: &str, at: Span) {
        let text = format!("incompatible bucket layout encountered for binary operator {op}");
        self.warn(text, at);
    }

    /// One histogram says that its counter was reset, the other that it was not.
    pub(crate) fn counter_reset_collision(&self, operation: HistogramOperation, at: Span) {
        let operation = operation.as_str();
        let text = format!("conflicting counter resets during histogram {operation}");
        self.warn(text, at);
    }

    /// The start times of a counter reach back over its own samples, `n_samples` times.
    pub(crate) fn start_time_overlap(&self, name: &str, n_samples: u64, at: Span) {
        let name = go_quote(name);
        let text = format!(
            "sample has start time that overlaps with previous sample timestamp for metric {name}"
        );
        let detail = Detail::Occurrences(n_samples);
        say(&mut self.said.lock().warnings, text, Remark { at, detail });
    }

    /// An aggregation that has no meaning for histograms left one out; `aggregation` is its name.
    pub(crate) fn histogram_ignored_in_aggregation(&self, aggregation: &str, at: Span) {
        let text = format!("ignored histogram in {aggregation} aggregation");
        self.info(text, at);
    }

    /// A function that has no meaning for histograms left them out of a range that has floats too.
    pub(crate) fn histograms_ignored_in_mixed_range(&self, name: &str, at: Span) {
        let name = go_quote(name);
        let text = format!(
            "ignored histograms in a range containing both floats and histograms for metric name {name}"
        );
        self.info(text, at);
    }

    /// The quantile lies among observations that are not numbers.
    pub(crate) fn quantile_is_nan(&self, name: &str, at: Span) {
        let text = "input to histogram_quantile has NaN observations, result is NaN";
        self.info(for_metric(text.to_owned(), name), at);
    }

    /// Observations that are not numbers counted as larger than all numbers.
    pub(crate) fn quantile_is_skewed(&self, name: &str, at: Span) {
        let text = "input to histogram_quantile has NaN observations, result is skewed higher";
        self.info(for_metric(text.to_owned(), name), at);
    }

    /// A fraction of what includes observations that are not numbers.
    pub(crate) fn fraction_without_nans(&self, name: &str, at: Span) {
        let text = "input to histogram_fraction has NaN observations, which are excluded from all fractions";
        self.info(for_metric(text.to_owned(), name), at);
    }

    /// Histograms with different listed bounds were reduced to the bounds they share.
    pub(crate) fn mismatched_custom_buckets(&self, operation: HistogramOperation, at: Span) {
        let operation = operation.as_str();
        let text = format!("mismatched custom buckets were reconciled during {operation}");
        self.info(text, at);
    }
}

fn finished(kind: &str, text: &str, remark: &Remark, query: &str) -> String {
    let mut out = kind.to_owned();
    out.push_str(text);
    if query.is_empty() {
        return out;
    }
    match remark.detail {
        Detail::None | Detail::Occurrences(0 | 1) => {}
        Detail::Occurrences(n) => {
            write!(out, " ({n} occurrences)").ok();
        }
        Detail::Repair(repair) => {
            write!(
                out,
                ", from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}",
                format_g(repair.bound_min),
                format_g(repair.bound_max),
                two_digits(repair.diff_max),
                repair.count,
                utc_seconds(repair.t_min),
                utc_seconds(repair.t_max)
            )
            .ok();
        }
    }
    if let Some((line, column)) = position(query, remark.at.start) {
        write!(out, " ({line}:{column})").ok();
    }
    out
}

/// Go's `%.2g`: two significant digits, trailing zeros dropped.
fn two_digits(v: f64) -> String {
    let rounded: f64 = format!("{v:.1e}").parse().unwrap_or(v);
    let magnitude = rounded.abs();
    if magnitude != 0.0 && magnitude.is_finite() && !(1e-4..100.0).contains(&magnitude) {
        let mut out = String::new();
        crate::model::number::push_e(&mut out, rounded);
        return out;
    }
    format_g(rounded)
}

fn utc_seconds(t_ms: i64) -> String {
    jiff::Timestamp::from_second(t_ms.div_euclid(1000))
        .map_or_else(|_out_of_range| t_ms.to_string(), |t| t.to_string())
}

#[cfg(test)]
mod tests;
