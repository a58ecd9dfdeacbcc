//! Queries over a few series in memory.

use std::sync::Arc;

use crate::chunk::encode_floats;
use crate::foundation::ManualClock;
use crate::foundation::cancel::CancelReason;
use crate::model::{Labels, stale_nan};
use crate::promql::testing::MemoryStore;
use crate::promql::{
    Engine, EngineSettings, ErrorKind, QueryError, QueryOptions, QueryOutput, QueryValue,
};
use crate::storage::{ChunkSeries, ChunkSlice, Queryable};

/// `values` every ten seconds from time zero.
pub(crate) fn series(pairs: &[(&str, &str)], values: &[f64]) -> ChunkSeries {
    let t: Vec<i64> = (0..).step_by(10_000).take(values.len()).collect();
    let chunks = encode_floats(&t, values)
        .unwrap()
        .into_iter()
        .map(|chunk| ChunkSlice {
            min_t: chunk.min_t,
            max_t: chunk.max_t,
            encoding: chunk.encoding,
            data: chunk.data.into(),
        })
        .collect();
    ChunkSeries {
        labels: Labels::new(pairs).unwrap(),
        chunks,
    }
}

fn memory() -> Arc<dyn Queryable> {
    let line = |from: f64, step: f64| -> Vec<f64> {
        (0..100u32).map(|i| from + f64::from(i) * step).collect()
    };
    let mut ends = line(1.0, 0.0);
    ends[50] = stale_nan();
    ends.truncate(51);
    Arc::new(MemoryStore::from_series(vec![
        series(
            &[("__name__", "c_total"), ("job", "a"), ("i", "0")],
            &line(0.0, 10.0),
        ),
        series(
            &[("__name__", "c_total"), ("job", "a"), ("i", "1")],
            &line(0.0, 20.0),
        ),
        series(
            &[("__name__", "c_total"), ("job", "b"), ("i", "0")],
            &line(5.0, 30.0),
        ),
        series(&[("__name__", "g"), ("job", "a")], &line(100.0, -1.0)),
        series(&[("__name__", "g"), ("job", "b")], &line(-50.0, 1.0)),
        series(&[("__name__", "ends"), ("job", "a")], &ends),
    ]))
}

fn engine() -> Engine {
    Engine::new(
        EngineSettings {
            clock: Arc::new(ManualClock::new(0)),
            ..EngineSettings::default()
        },
        None,
    )
}

fn instant(query: &str, t_s: i64) -> Result<QueryOutput, QueryError> {
    engine().instant(memory(), query, t_s * 1000, &QueryOptions::default())
}

fn range(query: &str, [start, end, step]: [i64; 3]) -> Result<QueryOutput, QueryError> {
    engine().range(
        memory(),
        query,
        start * 1000,
        end * 1000,
        step * 1000,
        &QueryOptions::default(),
    )
}

/// `{labels} value` or `{labels} value@seconds …`, one line per series.
pub(crate) fn lines(value: &QueryValue) -> Vec<String> {
    match value {
        QueryValue::Columns(columns) => lines(&QueryValue::Matrix(columns.to_matrix())),
        QueryValue::Scalar { v, .. } => vec![v.to_string()],
        QueryValue::String { text, .. } => vec![text.clone()],
        QueryValue::Vector(samples) => samples
            .iter()
            .map(|sample| format!("{} {}", sample.labels, sample.value.as_float().unwrap()))
            .collect(),
        QueryValue::Matrix(matrix) => matrix
            .iter()
            .map(|series| {
                let points: Vec<String> = series
                    .floats
                    .iter()
                    .map(|point| format!("{}@{}", point.v, point.t / 1000))
                    .collect();
                format!("{} {}", series.labels, points.join(" "))
            })
            .collect(),
    }
}

#[track_caller]
fn at(query: &str, t_s: i64, expected: &[&str]) {
    let output = instant(query, t_s).unwrap();
    assert_eq!(lines(&output.value), expected, "{query}");
}

#[track_caller]
fn over(query: &str, times: [i64; 3], expected: &[&str]) {
    let output = range(query, times).unwrap();
    assert_eq!(lines(&output.value), expected, "{query}");
}

#[test]
fn selectors_show_the_newest_sample_until_it_is_stale_or_too_old() {
    at("g{job=\"a\"}", 15, &[r#"{__name__="g", job="a"} 99"#]);
    at("ends", 495, &[r#"{__name__="ends", job="a"} 1"#]);
    at("ends", 505, &[]);
    at("g{job=\"a\"}", 1289, &[r#"{__name__="g", job="a"} 1"#]);
    at("g{job=\"a\"}", 1290, &[]);
    at(
        "g{job=\"a\"} offset 10s",
        15,
        &[r#"{__name__="g", job="a"} 100"#],
    );
    over(
        "g{job=\"a\"} @ end()",
        [0, 20, 10],
        &[r#"{__name__="g", job="a"} 98@0 98@10 98@20"#],
    );
}

#[test]
fn range_functions_see_left_open_ranges() {
    at(
        "count_over_time(g{job=\"a\"}[30s])",
        60,
        &[r#"{job="a"} 3"#],
    );
    at(
        "g{job=\"a\"}[20s]",
        60,
        &[r#"{__name__="g", job="a"} 95@50 94@60"#],
    );
    over(
        "rate(c_total{i=\"0\"}[1m])",
        [120, 180, 60],
        &[
            r#"{i="0", job="a"} 1@120 1@180"#,
            r#"{i="0", job="b"} 3@120 3@180"#,
        ],
    );
    at(
        "sum_over_time(g{job=\"a\"}[1m:20s])",
        100,
        &[r#"{job="a"} 276"#],
    );
}

#[test]
fn aggregations_group_series() {
    at(
        "sum by (job) (c_total)",
        100,
        &[r#"{job="a"} 300"#, r#"{job="b"} 305"#],
    );
    at("count(c_total)", 100, &["{} 3"]);
    at(
        "avg without (i, job) (c_total)",
        100,
        &["{} 201.66666666666666"],
    );
    at(
        "topk(2, c_total)",
        100,
        &[
            r#"{__name__="c_total", i="0", job="b"} 305"#,
            r#"{__name__="c_total", i="1", job="a"} 200"#,
        ],
    );
    at("quantile(0.5, c_total)", 100, &["{} 200"]);
    at(
        "count_values(\"v\", clamp_max(c_total, 200))",
        100,
        &[r#"{v="100"} 1"#, r#"{v="200"} 2"#],
    );
}

#[test]
fn vectors_match_by_their_labels() {
    at(
        "c_total / on (job) group_left g",
        100,
        &[
            r#"{i="0", job="a"} 1.1111111111111112"#,
            r#"{i="0", job="b"} -7.625"#,
            r#"{i="1", job="a"} 2.2222222222222223"#,
        ],
    );
    at("g > bool 0", 100, &[r#"{job="a"} 1"#, r#"{job="b"} 0"#]);
    at(
        "g unless on (job) ends",
        100,
        &[r#"{__name__="g", job="b"} -40"#],
    );
    assert_eq!(
        instant("g + on () c_total", 100).unwrap_err().to_string(),
        r#"found duplicate series for the match group {} on the right hand-side of the operation: [{__name__="c_total", i="0", job="a"}, {__name__="c_total", i="0", job="b"}];many-to-many matching not allowed: matching labels must be unique on one side"#
    );
    assert_eq!(
        instant("c_total + on (job) g", 100)
            .unwrap_err()
            .to_string(),
        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
    );
}

#[test]
fn names_go_when_the_query_is_done() {
    at(
        "label_replace(max_over_time(g{job=\"a\"}[1m]), \"was\", \"$1\", \"__name__\", \"(.*)\")",
        100,
        &[r#"{job="a", was="g"} 95"#],
    );
    assert_eq!(
        instant("-{job=\"a\", i=\"\"}", 100)
            .unwrap_err()
            .to_string(),
        "vector cannot contain metrics with the same labelset"
    );
    let engine = Engine::new(
        EngineSettings {
            delayed_name_removal: false,
            ..EngineSettings::default()
        },
        None,
    );
    let query = "sum by (__name__) (rate({job=\"a\", i=\"0\"}[1m]))";
    let output = engine.instant(memory(), query, 100_000, &QueryOptions::default());
    assert_eq!(lines(&output.unwrap().value), ["{} 1"]);
}

#[test]
fn series_that_a_sign_makes_alike_at_different_steps_are_one() {
    let engine = Engine::new(
        EngineSettings {
            delayed_name_removal: false,
            ..EngineSettings::default()
        },
        None,
    );
    let query = "-count_values(\"__name__\", g{job=\"a\"})";
    let options = QueryOptions::default();
    let output = engine.range(memory(), query, 0, 10_000, 10_000, &options);
    assert_eq!(lines(&output.unwrap().value), ["{} -1@0 -1@10"]);
    let output = engine.instant(memory(), "-{job=\"a\", i=\"\"}", 100_000, &options);
    assert_eq!(
        output.unwrap_err().to_string(),
        "vector cannot contain metrics with the same labelset"
    );
}

#[test]
fn remarks_and_errors_are_prometheus_own() {
    let output = instant("rate(g[1m])", 100).unwrap();
    assert_eq!(
        output.infos,
        [
            "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"g\" (1:6)"
        ]
    );
    let error = range("g[1m]", [0, 10, 10]).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (
            ErrorKind::BadData,
            "invalid expression type \"range vector\" for range query, must be Scalar or instant Vector"
        )
    );
    assert_eq!(instant("sum(", 0).unwrap_err().kind(), ErrorKind::BadData);
}

#[test]
fn limits_end_a_query() {
    let options = QueryOptions {
        samples_max: Some(5),
        ..QueryOptions::default()
    };
    let refused = engine().range(memory(), "c_total", 0, 20_000, 10_000, &options);
    assert_eq!(
        refused.unwrap_err(),
        QueryError::TooManySamples("query execution")
    );
    let options = QueryOptions::default();
    options.cancel.cancel(CancelReason::Canceled);
    let stopped = engine().instant(memory(), "c_total", 0, &options);
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Canceled);
}

#[test]
fn a_pool_answers_the_same_bit_for_bit() {
    let many: Vec<ChunkSeries> = (0..900u32)
        .map(|i| {
            let values: Vec<f64> = (0..240u32)
                .map(|step| f64::from(step * i) * 0.1 + f64::from(step % 7))
                .collect();
            let job = (i % 3).to_string();
            series(
                &[("__name__", "m"), ("job", &job), ("i", &i.to_string())],
                &values,
            )
        })
        .collect();
    let many: Arc<dyn Queryable> = Arc::new(MemoryStore::from_series(many));
    let pool = crate::foundation::pool::Pool::new("query", 2, 8).unwrap();
    let ask = |pool: Option<crate::foundation::pool::Pool>| {
        let engine = Engine::new(EngineSettings::default(), pool);
        let query = "sum by (job) (rate(m[1m])) + on (job) avg by (job) (m)";
        let options = QueryOptions::default();
        let output = engine.range(Arc::clone(&many), query, 0, 2_400_000, 60_000, &options);
        output.unwrap().value
    };
    assert_eq!(ask(Some(pool.clone())), ask(None));
    pool.stop();
}

#[test]
fn long_ranges_over_many_series_are_computed_in_slices_without_seams() {
    let many: Vec<ChunkSeries> = (0..5_000u32)
        .map(|i| {
            let values: Vec<f64> = (0..100u32).map(|step| f64::from(step + i)).collect();
            series(&[("__name__", "m"), ("i", &i.to_string())], &values)
        })
        .collect();
    let many: Arc<dyn Queryable> = Arc::new(MemoryStore::from_series(many));
    let options = QueryOptions::default();
    let query = "sum(rate(m[1m])) + vector(time())";
    let whole = engine().range(Arc::clone(&many), query, 60_000, 990_000, 1_000, &options);
    let QueryValue::Matrix(whole) = whole.unwrap().value.into_lists() else {
        panic!("a range query answers with a matrix");
    };
    assert_eq!((whole.len(), whole[0].floats.len()), (1, 931));
    for point in whole[0].floats.iter().step_by(150) {
        let single = engine().instant(Arc::clone(&many), query, point.t, &options);
        let QueryValue::Vector(single) = single.unwrap().value else {
            panic!("an instant query of a vector answers with one");
        };
        assert_eq!(single[0].value.as_float(), Some(point.v), "at {}", point.t);
    }
}

#[test]
fn the_highest_tree_that_is_parsed_is_evaluated_on_a_thread_of_a_pool() {
    let pool = crate::foundation::Pool::new("query", 1, 8).unwrap();
    let store: Arc<dyn Queryable> = Arc::new(MemoryStore::from_series(vec![series(
        &[("__name__", "m")],
        &[1.0, 2.0, 3.0],
    )]));
    let n = crate::promql::parse::EXPR_HEIGHT_MAX - 1;
    let queries = [
        format!("m{}", " or m".repeat(n)),
        format!("m{}", " + m".repeat(n)),
        format!("{}m{}", "abs(".repeat(140), ")".repeat(140)),
    ];
    for query in queries {
        let store = Arc::clone(&store);
        let done = pool.run(move || {
            let options = QueryOptions::default();
            engine()
                .range(store, &query, 0, 30_000, 15_000, &options)
                .map(|_| ())
        });
        assert_eq!(futures::executor::block_on(done.unwrap()), Ok(Ok(())));
    }
    pool.stop();
}

#[test]
fn rewrites_change_no_bit_of_an_answer() {
    let many: Vec<ChunkSeries> = (0..300u32)
        .map(|i| {
            let values: Vec<f64> = (0..60u32)
                .map(|step| f64::from((step * i) % 97) * 0.1 + f64::from(step % 7))
                .collect();
            let job = (i % 3).to_string();
            series(
                &[("__name__", "m"), ("job", &job), ("i", &i.to_string())],
                &values,
            )
        })
        .collect();
    let many: Arc<dyn Queryable> = Arc::new(MemoryStore::from_series(many));
    for op in [
        "sum", "avg", "count", "group", "min", "max", "stddev", "stdvar",
    ] {
        for inner in [
            "m",
            "rate(m[1m])",
            "last_over_time(m[1m])",
            "m @ 100 offset 10s",
        ] {
            let query =
                format!("{op} by (job) ({inner}) or {op} without (job, i) ({inner}) + 2 * 3");
            let ask = |plain_plan| {
                let options = QueryOptions {
                    plain_plan,
                    ..QueryOptions::default()
                };
                let source = Arc::clone(&many);
                let output = engine().range(source, &query, 0, 700_000, 15_000, &options);
                output.unwrap().value
            };
            assert_eq!(ask(true), ask(false), "{query}");
        }
    }
}
