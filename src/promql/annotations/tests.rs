//! Every text, and the place that is printed.

use super::*;

const QUERY: &str = "rate(\nup[5m])";
const AT: Span = Span { start: 7, end: 9 };

#[track_caller]
fn check(say: impl Fn(&Annotations), text: &str) {
    let annotations = Annotations::default();
    say(&annotations);
    say(&annotations);
    let (mut warnings, infos) = annotations.texts(QUERY);
    warnings.extend(infos);
    assert_eq!(warnings, [text]);
}

#[test]
fn warnings_about_arguments_and_labels_have_their_texts() {
    check(
        |a| a.invalid_quantile(1.5, AT),
        "PromQL warning: quantile value should be between 0 and 1, got 1.5 (2:2)",
    );
    check(
        |a| a.invalid_quantile(f64::NAN, AT),
        "PromQL warning: quantile value should be between 0 and 1, got NaN (2:2)",
    );
    check(
        |a| a.invalid_quantile(f64::INFINITY, AT),
        "PromQL warning: quantile value should be between 0 and 1, got +Inf (2:2)",
    );
    check(
        |a| a.invalid_ratio(-12_345_678.0, -1.0, AT),
        "PromQL warning: ratio value should be between -1 and 1, got -1.2345678e+07, capping to -1 (2:2)",
    );
    check(
        |a| a.bad_bucket_label("h", "a\"b\n", AT),
        "PromQL warning: bucket label \"le\" is missing or has a malformed value of \"a\\\"b\\n\" for metric name \"h\" (2:2)",
    );
    check(
        |a| a.bad_bucket_label("", "", AT),
        "PromQL warning: bucket label \"le\" is missing or has a malformed value of \"\" (2:2)",
    );
    check(
        |a| a.ineffective_sort(AT),
        "PromQL warning: sort is ineffective for range queries since results are always ordered by labels (2:2)",
    );
}

#[test]
fn warnings_about_histograms_have_their_texts() {
    check(
        |a| a.mixed_floats_histograms("m", AT),
        "PromQL warning: encountered a mix of histograms and floats for metric name \"m\" (2:2)",
    );
    check(
        |a| a.mixed_floats_histograms("", AT),
        "PromQL warning: encountered a mix of histograms and floats for metric name \"\" (2:2)",
    );
    check(
        |a| a.mixed_floats_histograms_in_aggregation(AT),
        "PromQL warning: encountered a mix of histograms and floats for aggregation (2:2)",
    );
    check(
        |a| a.mixed_classic_native_histograms("m", AT),
        "PromQL warning: vector contains a mix of classic and native histograms for metric name \"m\" (2:2)",
    );
    check(
        |a| a.mixed_classic_native_histograms("", AT),
        "PromQL warning: vector contains a mix of classic and native histograms (2:2)",
    );
    check(
        |a| a.histogram_not_counter("m", AT),
        "PromQL warning: this native histogram metric is not a counter: \"m\" (2:2)",
    );
    check(
        |a| a.histogram_not_gauge("m", AT),
        "PromQL warning: this native histogram metric is not a gauge: \"m\" (2:2)",
    );
    check(
        |a| a.mixed_exponential_custom_histograms("m", AT),
        "PromQL warning: vector contains a mix of histograms with exponential and custom buckets schemas for metric name \"m\" (2:2)",
    );
    check(
        |a| a.incompatible_bucket_layout("-", AT),
        "PromQL warning: incompatible bucket layout encountered for binary operator - (2:2)",
    );
}

#[test]
fn warnings_about_counters_name_the_operation() {
    for (operation, word) in [
        (HistogramOperation::Addition, "addition"),
        (HistogramOperation::Subtraction, "subtraction"),
        (HistogramOperation::Aggregation, "aggregation"),
    ] {
        check(
            |a| a.counter_reset_collision(operation, AT),
            &format!("PromQL warning: conflicting counter resets during histogram {word} (2:2)"),
        );
        check(
            |a| a.mismatched_custom_buckets(operation, AT),
            &format!("PromQL info: mismatched custom buckets were reconciled during {word} (2:2)"),
        );
    }
}

#[test]
fn infos_have_their_texts() {
    check(
        |a| a.possible_non_counter("up", AT),
        "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"up\" (2:2)",
    );
    check(
        |a| a.possible_non_counter_type("up", "gauge", AT),
        "PromQL info: metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got \"gauge\": \"up\" (2:2)",
    );
    check(
        |a| a.incompatible_types("float", "</", "histogram", AT),
        "PromQL info: incompatible sample types encountered for binary operator \"</\": float </ histogram (2:2)",
    );
    check(
        |a| a.histogram_ignored_in_aggregation("stddev", AT),
        "PromQL info: ignored histogram in stddev aggregation (2:2)",
    );
    check(
        |a| a.histograms_ignored_in_mixed_range("m", AT),
        "PromQL info: ignored histograms in a range containing both floats and histograms for metric name \"m\" (2:2)",
    );
    check(
        |a| a.quantile_is_nan("m", AT),
        "PromQL info: input to histogram_quantile has NaN observations, result is NaN for metric name \"m\" (2:2)",
    );
    check(
        |a| a.quantile_is_skewed("", AT),
        "PromQL info: input to histogram_quantile has NaN observations, result is skewed higher (2:2)",
    );
    check(
        |a| a.fraction_without_nans("m", AT),
        "PromQL info: input to histogram_fraction has NaN observations, which are excluded from all fractions for metric name \"m\" (2:2)",
    );
}

#[test]
fn start_time_overlaps_are_counted() {
    check(
        |a| a.start_time_overlap("m", 2, AT),
        "PromQL warning: sample has start time that overlaps with previous sample timestamp for metric \"m\" (4 occurrences) (2:2)",
    );
    let annotations = Annotations::default();
    annotations.start_time_overlap("m", 1, AT);
    assert_eq!(
        annotations.texts(QUERY).0,
        [
            "PromQL warning: sample has start time that overlaps with previous sample timestamp for metric \"m\" (2:2)"
        ]
    );
}

#[test]
fn the_same_remark_has_the_place_that_was_evaluated_last() {
    let inner = Span { start: 1, end: 6 };
    let outer = Span { start: 0, end: 11 };
    let right = Span { start: 9, end: 10 };
    let query = "(a + b) + c";
    for (first, second, place) in [
        (inner, outer, "(1:1)"),
        (outer, inner, "(1:1)"),
        (inner, right, "(1:10)"),
        (right, inner, "(1:10)"),
    ] {
        let annotations = Annotations::default();
        annotations.incompatible_bucket_layout("+", first);
        annotations.incompatible_bucket_layout("+", second);
        let (warnings, _) = annotations.texts(query);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].ends_with(place), "{warnings:?}");
    }
}

#[test]
fn a_source_s_own_warning_has_no_place() {
    let annotations = Annotations::default();
    annotations.foreign("zone b did not answer".to_owned());
    annotations.invalid_quantile(2.0, AT);
    let (warnings, infos) = annotations.texts(QUERY);
    assert_eq!(
        warnings,
        [
            "PromQL warning: quantile value should be between 0 and 1, got 2 (2:2)",
            "zone b did not answer"
        ]
    );
    assert!(infos.is_empty(), "{infos:?}");
}

#[test]
fn repairs_of_the_same_histogram_are_one_remark() {
    let repair = Repair {
        bound_min: 1.0,
        bound_max: 2.0,
        diff_max: 0.125,
        t_min: 0,
        t_max: 60_000,
        count: 1,
    };
    let wider = Repair {
        bound_max: f64::INFINITY,
        t_max: 90_000,
        ..repair
    };
    let text = "PromQL info: input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile) for metric name \"h\"";
    for (query, detail) in [
        ("", ""),
        (
            QUERY,
            ", from buckets 1 to +Inf, with a max diff of 0.12, over 2 samples from 1970-01-01T00:00:00Z to 1970-01-01T00:01:30Z (2:2)",
        ),
    ] {
        let annotations = Annotations::default();
        annotations.forced_monotonicity("h", &repair, AT);
        annotations.forced_monotonicity("h", &wider, AT);
        let (_, infos) = annotations.texts(query);
        assert_eq!(infos, [format!("{text}{detail}")]);
    }
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
