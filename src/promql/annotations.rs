//! Remarks about an answer: warnings and infos, with Prometheus' texts.

use std::collections::BTreeMap;
use std::fmt::Write;

use parking_lot::Mutex;

use crate::model::labels::go_quote;
use crate::model::number::format_g;
use crate::promql::parse::ast::Span;
use crate::promql::parse::position;

/// Everything said while a query was answered; the same text at the same place counts once.
#[derive(Debug, Default)]
pub(crate) struct Annotations {
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    warnings: BTreeMap<(String, usize), ()>,
    infos: BTreeMap<(String, usize), ()>,
    monotonicity: BTreeMap<(String, usize), Repair>,
    foreign: BTreeMap<String, ()>,
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

fn for_metric(text: &mut String, name: &str) {
    if !name.is_empty() {
        write!(text, " for metric name {}", go_quote(name)).ok();
    }
}

impl Annotations {
    fn warn(&self, text: String, at: Span) {
        self.said.lock().warnings.insert((text, at.start), ());
    }

    fn info(&self, text: String, at: Span) {
        self.said.lock().infos.insert((text, at.start), ());
    }

    /// A source's own warning; it has no place in the query.
    pub(crate) fn foreign(&self, text: String) {
        self.said.lock().foreign.insert(text, ());
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
        let mut text = format!(
            "bucket label \"le\" is missing or has a malformed value of {}",
            go_quote(value)
        );
        for_metric(&mut text, name);
        self.warn(text, at);
    }

    /// `sort` where the result is ordered by labels anyway.
    pub(crate) fn ineffective_sort(&self, at: Span) {
        let text =
            "sort is ineffective for range queries since results are always ordered by labels";
        self.warn(text.to_owned(), at);
    }

    /// Chunks of an encoding that holds histograms, which are left out.
    pub(crate) fn histogram_chunks(&self, name: &str, encoding: &str, at: Span) {
        let text = format!(
            "samples in chunks of encoding {encoding} were left out for metric name {}",
            go_quote(name)
        );
        self.warn(text, at);
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

    /// A trim operator, which is for histograms, met floats.
    pub(crate) fn incompatible_types(&self, left: &str, op: &str, right: &str, at: Span) {
        let text = format!(
            "incompatible sample types encountered for binary operator \"{op}\": {left} {op} {right}"
        );
        self.info(text, at);
    }

    /// Buckets that were not cumulative.
    pub(crate) fn forced_monotonicity(&self, name: &str, repair: &Repair, at: Span) {
        let mut text = "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)".to_owned();
        for_metric(&mut text, name);
        let mut said = self.said.lock();
        said.monotonicity
            .entry((text, at.start))
            .and_modify(|earlier| earlier.merge(repair))
            .or_insert(*repair);
    }

    /// Warnings and infos as texts, with places when the query's text is known.
    pub(crate) fn texts(&self, query: &str) -> (Vec<String>, Vec<String>) {
        let said = std::mem::take(&mut *self.said.lock());
        let place = |offset: usize| {
            position(query, offset)
                .map_or_else(String::new, |(line, column)| format!(" ({line}:{column})"))
        };
        let mut warnings: Vec<String> = said
            .warnings
            .into_keys()
            .map(|(text, offset)| format!("PromQL warning: {text}{}", place(offset)))
            .collect();
        warnings.extend(said.foreign.into_keys());
        let mut infos: Vec<String> = said
            .infos
            .into_keys()
            .map(|(text, offset)| format!("PromQL info: {text}{}", place(offset)))
            .collect();
        for ((text, offset), repair) in said.monotonicity {
            infos.push(format!(
                "PromQL info: {text}, from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}{}",
                format_g(repair.bound_min),
                format_g(repair.bound_max),
                two_digits(repair.diff_max),
                repair.count,
                utc_seconds(repair.t_min),
                utc_seconds(repair.t_max),
                place(offset)
            ));
        }
        warnings.sort_unstable();
        warnings.dedup();
        infos.sort_unstable();
        infos.dedup();
        (warnings, infos)
    }
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
mod tests {
    use super::*;

    const AT: Span = Span { start: 7, end: 9 };

    #[test]
    fn remarks_carry_line_and_column_when_the_query_is_known() {
        let annotations = Annotations::default();
        annotations.invalid_quantile(1.5, AT);
        annotations.invalid_quantile(1.5, AT);
        annotations.possible_non_counter("up", AT);
        let (warnings, infos) = annotations.texts("rate(\nup[5m])");
        assert_eq!(
            warnings,
            ["PromQL warning: quantile value should be between 0 and 1, got 1.5 (2:2)"]
        );
        assert_eq!(
            infos,
            [
                "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"up\" (2:2)"
            ]
        );
    }

    #[test]
    fn repairs_of_the_same_histogram_are_one_remark() {
        let annotations = Annotations::default();
        let repair = Repair {
            bound_min: 1.0,
            bound_max: 2.0,
            diff_max: 0.125,
            t_min: 0,
            t_max: 60_000,
            count: 1,
        };
        annotations.forced_monotonicity("h", &repair, AT);
        annotations.forced_monotonicity(
            "h",
            &Repair {
                bound_max: f64::INFINITY,
                t_max: 90_000,
                ..repair
            },
            AT,
        );
        let (_, infos) = annotations.texts("");
        assert_eq!(
            infos,
            [
                "PromQL info: input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile) for metric name \"h\", from buckets 1 to +Inf, with a max diff of 0.12, over 2 samples from 1970-01-01T00:00:00Z to 1970-01-01T00:01:30Z"
            ]
        );
    }

    #[test]
    fn two_digits_are_what_go_prints() {
        for (v, text) in [
            (0.125, "0.12"),
            (1234.0, "1.2e+03"),
            (99.6, "1e+02"),
            (3.0, "3"),
        ] {
            assert_eq!(two_digits(v), text);
        }
    }
}
