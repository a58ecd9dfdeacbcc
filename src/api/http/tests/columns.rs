//! Answers of the engine in columns are written as the same answers in lists are.

use actix_web::body::{BodySize, MessageBody, to_bytes};
use futures::executor::block_on;
use proptest::prelude::*;
use proptest::test_runner::Config;

use crate::api::http::columns::Manner;
use crate::api::http::json::{push_array, push_labels, push_number, push_result, push_timestamp};
use crate::api::http::portions::Pieces;
use crate::foundation::Cancel;
use crate::foundation::pool::Pool;
use crate::model::{Labels, stale_nan};
use crate::promql::testing::{LoadedData, SequenceValue, open_memory_store, parse_series};
use crate::promql::{
    Engine, EngineSettings, Held, MatrixSeries, QueryError, QueryOptions, QueryOutput, QueryValue,
};

const STEP_MS: i64 = 10_000;

fn value() -> impl Strategy<Value = SequenceValue> {
    let (_, histogram) =
        parse_series("h {{schema:1 count:7.5 sum:-1e-7 z_bucket:1 buckets:[1 0 2.5]}}").unwrap();
    prop_oneof![
        3 => Just(SequenceValue::Gap),
        8 => (0..3_u32).prop_map(|v| SequenceValue::Float(f64::from(v))),
        4 => (any::<i32>(), 0..12).prop_map(|(digits, scale)| {
            SequenceValue::Float(f64::from(digits) / 10_f64.powi(scale))
        }),
        3 => any::<u64>().prop_map(|bits| SequenceValue::Float(f64::from_bits(bits))),
        2 => prop::sample::select(vec![
            -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-7, 1e-6, 1e15, 1e21, stale_nan(),
        ])
        .prop_map(SequenceValue::Float),
        1 => Just(histogram[0].clone()),
    ]
}

/// Series named by any text, at steps from `start_ms`.
fn answer(series: &[(String, Vec<SequenceValue>)], start_ms: i64) -> QueryOutput {
    let mut data = LoadedData::default();
    for (name, values) in series {
        let labels = Labels::new(&[("__name__", "m"), ("name\"é", name.as_str())]).unwrap();
        data.series.remove(&labels);
        data.add_values(&labels, (start_ms, STEP_MS), values)
            .unwrap();
    }
    let store = open_memory_store(&data).unwrap();
    let n_steps = series
        .iter()
        .map(|(_, values)| values.len())
        .max()
        .unwrap_or(1);
    let end_ms = start_ms + STEP_MS * i64::try_from(n_steps).unwrap();
    let options = QueryOptions {
        lookback_ms: Some(STEP_MS),
        ..QueryOptions::default()
    };
    let engine = Engine::new(EngineSettings::default(), None);
    engine
        .range(
            store,
            "{__name__=\"m\"}",
            start_ms,
            end_ms,
            STEP_MS,
            &options,
        )
        .unwrap()
}

const WHOLE: Manner<'static> = Manner {
    limit: 0,
    helpers: None,
    whole_bytes_max: usize::MAX,
};

/// What is written, whether anything was left out, and whether the length was told.
async fn text(value: &QueryValue, manner: Manner<'_>) -> (String, bool, bool) {
    let mut pieces = Pieces::of(b"{");
    let held = Held::default();
    let written = push_result(&mut pieces, (value.clone(), &held), manner).await;
    pieces.out.push(b'}');
    let body = pieces.into_body();
    let size = body.size();
    let bytes = to_bytes(body).await.unwrap();
    let is_told = size == BodySize::Sized(bytes.len() as u64);
    assert!(is_told || size == BodySize::Stream);
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    (text, written.unwrap(), is_told)
}

/// The answer without histograms, point by point.
fn expected(series: &[MatrixSeries], limit: usize) -> String {
    let n_max = if limit == 0 { series.len() } else { limit };
    let mut out = Vec::new();
    push_array(&mut out, &series[..n_max.min(series.len())], |out, one| {
        out.extend_from_slice(b"{\"metric\":");
        push_labels(out, &one.labels);
        out.extend_from_slice(b",\"values\":");
        push_array(out, &one.floats, |out, sample| {
            out.push(b'[');
            push_timestamp(out, sample.t);
            let mut value = String::new();
            push_number(&mut value, sample.v);
            out.extend_from_slice(format!(",\"{value}\"]").as_bytes());
        });
        out.push(b'}');
    });
    let series = String::from_utf8(out).unwrap();
    format!("{{\"resultType\":\"matrix\",\"result\":{series}}}")
}

#[track_caller]
fn check(output: &QueryOutput, limit: usize, helpers: &Pool) {
    let QueryValue::Columns(columns) = &output.value else {
        panic!("a short range answers with columns");
    };
    let matrix = columns.to_matrix();
    let manner = Manner { limit, ..WHOLE };
    let lists = QueryValue::Matrix(matrix.clone());
    let whole = block_on(text(&lists, manner));
    if !columns.has_histograms() {
        assert_eq!(whole.0, expected(&matrix, limit));
    }
    serde_json::from_str::<serde_json::Value>(&whole.0).unwrap();
    assert_eq!(block_on(text(&output.value, manner)), whole);
    let helped = Manner {
        helpers: Some(helpers),
        ..manner
    };
    assert_eq!(block_on(text(&output.value, helped)), whole);
    let streamed = Manner {
        whole_bytes_max: 0,
        ..manner
    };
    for value in [&output.value, &lists] {
        let streamed = block_on(text(value, streamed));
        assert_eq!((streamed.0, streamed.1), (whole.0.clone(), whole.1));
        let is_long = !columns.is_empty() && !columns.has_histograms();
        assert_eq!(streamed.2, !is_long);
    }
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, cases: 64, ..Config::default() })]

    #[test]
    fn columns_are_written_as_lists_are(
        series in prop::collection::vec(
            (".{0,12}", prop::collection::vec(value(), 0..70)),
            0..12,
        ),
        start_ms in prop_oneof![Just(0_i64), Just(-25_000), -1_000_000..2_000_000_000_000_i64],
        limit in 0..4_usize,
    ) {
        let helpers = Pool::new("query", 3, 8).unwrap();
        check(&answer(&series, start_ms), limit, &helpers);
        helpers.stop();
    }
}

/// Long enough for several parts: twelve series of a thousand points.
fn long() -> QueryOutput {
    let one = |i: u32| {
        let values = (0..1_000).map(|n| SequenceValue::Float(f64::from(n * i) / 8.0));
        (format!("{i:02}"), values.collect())
    };
    answer(&(0..12).map(one).collect::<Vec<_>>(), 1_500)
}

#[test]
fn parts_written_by_several_threads_stand_in_order() {
    let helpers = Pool::new("query", 3, 8).unwrap();
    let output = long();
    for limit in [0, 1, 5, 11, 12] {
        check(&output, limit, &helpers);
    }
    helpers.stop();
}

#[test]
fn helpers_that_never_come_are_not_waited_for() {
    let helpers = Pool::new("query", 2, 8).unwrap();
    let (release, wait) = crossbeam::channel::bounded::<()>(0);
    for _ in 0..2 {
        let wait = wait.clone();
        helpers
            .try_spawn(move || wait.recv().unwrap_or_default())
            .unwrap();
    }
    check(&long(), 0, &helpers);
    drop(release);
    helpers.stop();
}

#[test]
fn a_written_answer_that_passes_the_memory_of_its_query_is_refused() {
    let mut settings = EngineSettings::default();
    let output = long();
    settings.memory_per_query_max = output.stats.peak_bytes + 64_000;
    let engine = Engine::new(settings, None);
    let mut data = LoadedData::default();
    let (labels, _) = parse_series("m 1").unwrap();
    let values: Vec<_> = (0..1_000)
        .map(|n| SequenceValue::Float(f64::from(n)))
        .collect();
    for i in 0..12 {
        let mut builder = labels.to_builder();
        builder.set("i", &format!("{i:02}"));
        data.add_values(&builder.build().unwrap(), (0, STEP_MS), &values)
            .unwrap();
    }
    let store = open_memory_store(&data).unwrap();
    let options = QueryOptions {
        cancel: Cancel::new(),
        ..QueryOptions::default()
    };
    let output = engine
        .range(store, "m", 0, 9_990_000, STEP_MS, &options)
        .unwrap();
    let mut pieces = Pieces::default();
    let written = push_result(&mut pieces, (output.value, &output.held), WHOLE);
    assert!(matches!(
        block_on(written),
        Err(QueryError::MemoryOfQuery(_))
    ));
}
