//! What a query cost, as JSON: Prometheus' statistics, and operators as Thanos' page reads them.

use crate::api::http::json::{push_array, push_float, push_float_timestamp, push_int, push_text};
use crate::model::{Resolution, TimestampMs};
use crate::promql::QueryStats;
use crate::promql::explain::{Operator, go_duration};

/// Appends an operator of a plan with the names Thanos' page looks for, and what else is known of it.
pub(super) fn push_operator(out: &mut Vec<u8>, operator: &Operator) {
    let name = match &operator.selector {
        Some(selector) => format!("{} {selector}", operator.name),
        None => operator.name.clone(),
    };
    out.extend_from_slice(b"{\"name\":");
    push_text(out, &name);
    let mut field = |name: &str, value: u64| {
        out.push(b',');
        push_text(out, name);
        out.push(b':');
        push_int(out, value);
    };
    if let Some(series) = operator.estimated_series {
        field("estimatedSeries", series);
    }
    if let Some(samples) = operator.estimated_samples {
        field("estimatedSamples", samples);
    }
    if let Some(actual) = &operator.actual {
        for (name, value) in [
            ("peakSamples", actual.peak_samples),
            ("totalSamples", actual.total_samples),
            ("calls", actual.calls),
            ("series", actual.series),
            ("samples", actual.samples),
            ("bytes", actual.bytes),
        ] {
            field(name, value);
        }
        if operator.selector.is_some() {
            field("samplesRead", actual.samples_read);
            field("chunks", actual.chunks);
            field("chunkBytes", actual.chunk_bytes);
            out.extend_from_slice(b",\"resolutions\":");
            push_text(out, &Resolution::list(&actual.resolutions));
        }
        for (name, ns) in [
            ("executionTime", actual.time_ns),
            ("selfTime", actual.self_ns),
            ("selectTime", actual.select_ns),
        ] {
            out.push(b',');
            push_text(out, name);
            out.push(b':');
            push_text(out, &go_duration(ns));
        }
    }
    if !operator.children.is_empty() {
        out.extend_from_slice(b",\"children\":");
        push_array(out, &operator.children, push_operator);
    }
    out.push(b'}');
}

/// Appends `,"stats":{…}`.
#[expect(
    clippy::cast_precision_loss,
    reason = "nanoseconds of a query stay below 2^53"
)]
pub(super) fn push_stats(out: &mut Vec<u8>, stats: &QueryStats) {
    let seconds = |ns: u64| ns as f64 / 1e9;
    let eval_ns = stats.preparation_ns + stats.inner_eval_ns;
    let timings = [
        ("evalTotalTime", eval_ns),
        ("resultSortTime", stats.sort_ns),
        ("queryPreparationTime", stats.preparation_ns),
        (
            "innerEvalTime",
            stats.inner_eval_ns.saturating_sub(stats.sort_ns),
        ),
        ("execQueueTime", stats.queue_ns),
        ("execTotalTime", stats.queue_ns + eval_ns),
    ];
    out.extend_from_slice(b",\"stats\":{\"timings\":{");
    for (position, (name, ns)) in timings.into_iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        push_text(out, name);
        out.push(b':');
        push_float(out, seconds(ns));
    }
    out.extend_from_slice(b"},\"samples\":{");
    push_steps(
        out,
        "\"totalQueryableSamplesPerStep\":",
        &stats.samples_per_step,
    );
    out.extend_from_slice(b"\"totalQueryableSamples\":");
    push_int(out, stats.total_queryable_samples);
    out.push(b',');
    push_steps(out, "\"samplesReadPerStep\":", &stats.samples_read_per_step);
    out.extend_from_slice(b"\"samplesRead\":");
    push_int(out, stats.samples_read);
    out.extend_from_slice(b",\"peakSamples\":");
    push_int(out, stats.peak_samples);
    out.push(b'}');
    // Whoever never downsampled gets what Prometheus says, and nothing more.
    if stats
        .resolutions
        .iter()
        .any(|level| *level != Resolution::Raw)
    {
        out.extend_from_slice(b",\"resolutions\":");
        push_text(out, &Resolution::list(&stats.resolutions));
    }
    out.push(b'}');
}

/// Counts by step and a comma, unless there are none.
fn push_steps(out: &mut Vec<u8>, field: &str, steps: &[(TimestampMs, u64)]) {
    if steps.is_empty() {
        return;
    }
    out.extend_from_slice(field.as_bytes());
    push_array(out, steps, |out, (t, n)| {
        out.push(b'[');
        push_float_timestamp(out, *t);
        out.push(b',');
        push_int(out, n);
        out.push(b']');
    });
    out.push(b',');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::explain::Actual;

    #[track_caller]
    fn check(push: impl FnOnce(&mut Vec<u8>), expect: &str) {
        let mut out = Vec::new();
        push(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expect);
    }

    #[test]
    fn stats_have_prometheus_fields() {
        let stats = QueryStats {
            queue_ns: 250_000_000,
            preparation_ns: 250_000_000,
            inner_eval_ns: 1_000_000_000,
            sort_ns: 1_000,
            total_queryable_samples: 7,
            samples_read: 8,
            peak_samples: 9,
            ..QueryStats::default()
        };
        let timings = ",\"stats\":{\"timings\":{\"evalTotalTime\":1.25,\"resultSortTime\":0.000001,\
             \"queryPreparationTime\":0.25,\"innerEvalTime\":0.999999,\"execQueueTime\":0.25,\"execTotalTime\":1.5},";
        let (queried, read) = (
            "\"totalQueryableSamples\":7",
            "\"samplesRead\":8,\"peakSamples\":9}}",
        );
        check(
            |out| push_stats(out, &stats),
            &format!("{timings}\"samples\":{{{queried},{read}"),
        );
        let per_step = QueryStats {
            samples_per_step: vec![(1_000, 3), (1_500, 4)],
            samples_read_per_step: vec![(1_000, 3), (1_500, 1)],
            ..stats
        };
        check(
            |out| push_stats(out, &per_step),
            &format!(
                "{timings}\"samples\":{{\"totalQueryableSamplesPerStep\":[[1,3],[1.5,4]],{queried},\
                 \"samplesReadPerStep\":[[1,3],[1.5,1]],{read}"
            ),
        );
    }

    #[test]
    fn operators_have_the_fields_of_thanos_and_more() {
        let leaf = Operator {
            name: "select #0".to_owned(),
            selector: Some("up{a=\"<\"}".to_owned()),
            estimated_series: Some(3),
            estimated_samples: Some(360),
            ..Operator::default()
        };
        let root = Operator {
            name: "negate".to_owned(),
            actual: Some(Actual {
                calls: 1,
                time_ns: 1_500,
                series: 2,
                ..Actual::default()
            }),
            children: vec![leaf],
            ..Operator::default()
        };
        check(
            |out| push_operator(out, &root),
            "{\"name\":\"negate\",\"peakSamples\":0,\"totalSamples\":0,\"calls\":1,\"series\":2,\"samples\":0,\"bytes\":0,\
             \"executionTime\":\"1.5µs\",\"selfTime\":\"0s\",\"selectTime\":\"0s\",\"children\":[{\"name\":\
             \"select #0 up{a=\\\"\\u003c\\\"}\",\"estimatedSeries\":3,\"estimatedSamples\":360}]}",
        );
    }
}
