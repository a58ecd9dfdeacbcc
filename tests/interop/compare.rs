//! The questions both servers are asked, and when two answers are the same.

use crate::peers::{Peer, encode};

/// Instant and range queries over what a Prometheus and a node exporter expose about themselves.
///
/// None of them draws an annotation (2.42 has none), adds up fractions (2.42 sums without compensation), or depends on
/// the closed left end of ranges in 2.x: evaluation times lie off the sample grid. Rates are taken of counters far from
/// zero: 2.42 limits the extrapolation of a counter to its zero before it looks for a gap at the start, 3.x after it.
pub(crate) const QUERIES: &[&str] = &[
    "up",
    "up == 1",
    "up{job=\"node\"}",
    "up{job!=\"node\"}",
    "up{job=~\"no.*|prom.*\"}",
    "up{job!~\"no.*\"}",
    "up{absent_label=\"\"}",
    "count(up)",
    "count by (job) (up)",
    "sum without (instance) (up)",
    "sum(up) by (job)",
    "group(up)",
    "topk(1, prometheus_tsdb_head_series)",
    "bottomk(2, node_filesystem_size_bytes)",
    "count_values(\"value\", up)",
    "quantile(0.5, node_cpu_seconds_total{mode=\"idle\"})",
    "min(node_cpu_seconds_total)",
    "max by (mode) (node_cpu_seconds_total)",
    "stddev(up)",
    "prometheus_http_requests_total",
    "prometheus_http_requests_total{code=\"200\"}",
    "count by (handler) (prometheus_http_requests_total)",
    "increase(node_cpu_seconds_total{mode=\"idle\"}[30s])",
    "rate(node_cpu_seconds_total{mode=\"idle\"}[20s])",
    "irate(prometheus_http_requests_total[20s])",
    "delta(go_goroutines[30s])",
    "idelta(go_goroutines[30s])",
    "deriv(go_goroutines[30s])",
    "predict_linear(go_goroutines[30s], 60)",
    "changes(go_goroutines[30s])",
    "resets(prometheus_http_requests_total[30s])",
    "max_over_time(go_goroutines[30s])",
    "min_over_time(go_goroutines[30s])",
    "count_over_time(go_goroutines[30s])",
    "last_over_time(go_goroutines[30s])",
    "present_over_time(go_goroutines[30s])",
    "sum_over_time(up[30s])",
    "avg_over_time(up[30s])",
    "quantile_over_time(0.9, go_goroutines[30s])",
    "absent(nothing_here{job=\"x\"})",
    "absent_over_time(nothing_here{job=\"x\"}[30s])",
    "absent(up)",
    "go_goroutines offset 10s",
    "go_goroutines offset -5s",
    "rate(node_cpu_seconds_total{mode=\"idle\"}[20s] offset 10s)",
    "max_over_time(go_goroutines[20s:2s])",
    "max_over_time(rate(node_cpu_seconds_total{mode=\"idle\"}[10s])[20s:5s])",
    "go_goroutines > 10",
    "go_goroutines > bool 10",
    "go_goroutines * 2 + 1",
    "-go_goroutines",
    "2 ^ 3 ^ 2",
    "1 / 0",
    "time() > bool 0",
    "vector(1)",
    "scalar(count(up))",
    "\"a string\"",
    "process_open_fds / process_max_fds",
    "go_memstats_alloc_bytes / on (instance, job) go_memstats_sys_bytes",
    "up * on (job) group_left () count by (job) (up)",
    "up and on (job) process_open_fds",
    "up or nothing_here",
    "up unless on (job) node_uname_info",
    "node_uname_info * on (instance) group_right (nodename) up",
    "histogram_quantile(0.9, prometheus_http_response_size_bytes_bucket)",
    "histogram_quantile(0.5, sum by (le) (prometheus_http_request_duration_seconds_bucket))",
    "label_replace(up, \"short\", \"$1\", \"instance\", \"(.*):.*\")",
    "label_join(up, \"both\", \"-\", \"job\", \"instance\")",
    "sort(go_goroutines)",
    "sort_desc(node_filesystem_size_bytes)",
    "round(go_memstats_alloc_bytes, 1024)",
    "clamp(go_goroutines, 5, 20)",
    "clamp_min(go_goroutines, 20)",
    "ceil(process_cpu_seconds_total)",
    "floor(process_cpu_seconds_total)",
    "abs(-go_goroutines)",
    "sqrt(go_goroutines)",
    "timestamp(up)",
    "minute(vector(1700000000))",
    "day_of_week(vector(1700000000))",
    "sgn(go_goroutines)",
    "{__name__=~\"go_mem.*\", job=\"prometheus\"}",
    "count({__name__=~\".+\"})",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "go_goroutines @ end()",
];

/// Paths of the API that answer with series or labels; `{start}` and `{end}` are filled in.
pub(crate) const LISTS: &[&str] = &[
    "/api/v1/labels?start={start}&end={end}",
    "/api/v1/labels?start={start}&end={end}&match[]=up",
    "/api/v1/label/job/values?start={start}&end={end}",
    "/api/v1/label/__name__/values?start={start}&end={end}",
    "/api/v1/label/instance/values?start={start}&end={end}&match[]=up",
    "/api/v1/label/nothing/values?start={start}&end={end}",
    "/api/v1/series?match[]=up&start={start}&end={end}",
    "/api/v1/series?match[]=up&match[]=go_goroutines&start={start}&end={end}",
    "/api/v1/series?match[]={__name__=~%22node_cpu.*%22}&start={start}&end={end}",
    "/api/v1/series?match[]=nothing_here&start={start}&end={end}",
];

/// Asks both servers everything; returns how many questions and which answers differ.
///
/// `start_s` and `end_s` are seconds since the epoch, with a fraction that no scrape has.
pub(crate) fn differences(
    left: &Peer,
    right: &Peer,
    start_s: f64,
    end_s: f64,
) -> (usize, Vec<String>) {
    let mut paths = Vec::new();
    for query in QUERIES {
        let is_instant_only = query.starts_with("sort") || query.starts_with('"');
        let query = encode(query);
        paths.push(format!("/api/v1/query?query={query}&time={end_s:.3}"));
        paths.push(format!(
            "/api/v1/query?query={query}&time={:.3}",
            (start_s + end_s) / 2.0
        ));
        // Over a range 3.x warns that sorting has no effect, and words the refusal of strings its own way.
        if is_instant_only {
            continue;
        }
        paths.push(format!(
            "/api/v1/query_range?query={query}&start={start_s:.3}&end={end_s:.3}&step=3"
        ));
    }
    for list in LISTS {
        paths.push(
            list.replace("{start}", &format!("{start_s:.3}"))
                .replace("{end}", &format!("{end_s:.3}")),
        );
    }
    let mut different = Vec::new();
    for path in &paths {
        let (ours, theirs) = (left.get(path), right.get(path));
        if (ours.status, canonical(&ours.body)) != (theirs.status, canonical(&theirs.body)) {
            different.push(format!(
                "{path}\n  left  {} {}\n  right {} {}",
                ours.status,
                short(&ours.body),
                theirs.status,
                short(&theirs.body)
            ));
        }
    }
    (paths.len(), different)
}

/// Queries whose samples the two count differently, and why.
const COUNTED_OTHERWISE: &[&str] = &[];

/// Asks both servers how many samples each query read, in all and at each step; returns how many questions and which
/// answers differ.
pub(crate) fn count_differences(
    left: &Peer,
    right: &Peer,
    start_s: f64,
    end_s: f64,
) -> (usize, Vec<String>) {
    let mut different = Vec::new();
    let mut n = 0;
    for query in QUERIES {
        if COUNTED_OTHERWISE.contains(query) {
            continue;
        }
        let text = encode(query);
        for path in [
            format!("/api/v1/query?query={text}&time={end_s:.3}&stats=all"),
            format!(
                "/api/v1/query_range?query={text}&start={start_s:.3}&end={end_s:.3}&step=3&stats=all"
            ),
        ] {
            let bodies = [left, right].map(|peer| peer.get(&path).body);
            if bodies
                .iter()
                .all(|body| body.contains("\"status\":\"error\""))
            {
                // What cannot be asked over a range read nothing.
                continue;
            }
            let [ours, theirs] = bodies.map(|body| counts(&body));
            n += 1;
            if ours != theirs
                || !ours
                    .as_deref()
                    .is_some_and(|counts| counts.contains("PerStep"))
            {
                different.push(format!("{path}\n  left  {ours:?}\n  right {theirs:?}"));
            }
        }
    }
    (n, different)
}

/// The samples counted by step and in all, as they are written.
fn counts(body: &str) -> Option<String> {
    let (_, samples) = body.split_once("\"samples\":{")?;
    let end = samples
        .find(",\"samplesRead")
        .or_else(|| samples.find(",\"peakSamples\""))?;
    samples.get(..end).map(str::to_owned)
}

fn short(body: &str) -> String {
    body.chars().take(1500).collect()
}

/// The body with the elements of an instant vector in byte order: the API leaves their order open. All else must
/// match to the byte.
fn canonical(body: &str) -> String {
    let Some((head, list)) = body.split_once("\"resultType\":\"vector\",\"result\":[") else {
        return body.to_owned();
    };
    let mut items: Vec<&str> = list.split("},{\"metric\":").collect();
    let first = items
        .first()
        .map(|first| first.trim_start_matches("{\"metric\":"))
        .unwrap_or_default();
    if let Some(slot) = items.first_mut() {
        *slot = first;
    }
    let last = items
        .last()
        .map(|last| last.trim_end_matches("}]}}"))
        .unwrap_or_default();
    if let Some(slot) = items.last_mut() {
        *slot = last;
    }
    items.sort_unstable();
    format!("{head}\n{}", items.join("\n"))
}

#[test]
fn only_the_order_of_an_instant_vector_is_left_open() {
    let one = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"1"},"value":[1,"2"]},{"metric":{"a":"2"},"value":[1,"3"]}]}}"#;
    let two = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"2"},"value":[1,"3"]},{"metric":{"a":"1"},"value":[1,"2"]}]}}"#;
    assert_eq!(canonical(one), canonical(two));
    assert_ne!(canonical(one), canonical(&two.replace("\"3\"", "\"4\"")));
    assert_ne!(canonical("[1,2]"), canonical("[2,1]"));
}

#[test]
fn counts_of_samples_are_found_in_answers_of_both() {
    let ours = r#"{"stats":{"samples":{"totalQueryableSamplesPerStep":[[1,2]],"totalQueryableSamples":2,"samplesReadPerStep":[[1,9]],"samplesRead":9,"peakSamples":3}}}"#;
    let theirs = ours.replace("\"samplesReadPerStep\":[[1,9]],\"samplesRead\":9,", "");
    assert_eq!(counts(ours), counts(&theirs));
    assert_eq!(
        counts(ours).unwrap(),
        "\"totalQueryableSamplesPerStep\":[[1,2]],\"totalQueryableSamples\":2"
    );
    assert_ne!(counts(ours), counts(&theirs.replace("[1,2]", "[1,3]")));
}
