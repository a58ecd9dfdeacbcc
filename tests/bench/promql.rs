//! How fast queries are answered: series in memory as encoded chunks, the engine alone.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    reason = "a bench measures real time and may stop at anything odd"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use gauntlet::chunk::encode_floats;
use gauntlet::foundation::pool::Pool;
use gauntlet::model::Labels;
use gauntlet::promql::testing::MemoryStore;
use gauntlet::promql::{Engine, EngineSettings, QueryOptions, QueryValue};
use gauntlet::storage::{ChunkSeries, ChunkSlice, Queryable};

/// How long one measurement takes.
const MEASURED: Duration = Duration::from_millis(1_500);

const N_SERIES: u32 = 10_000;
const SCRAPE_MS: i64 = 15_000;
const N_SAMPLES: i64 = 520;

/// Counters of 100 jobs with 100 instances each, scraped every 15 seconds for a little over two hours.
fn counters() -> MemoryStore {
    let times: Vec<i64> = (0..N_SAMPLES).map(|i| i * SCRAPE_MS).collect();
    let mut state = 7_u64;
    let mut series = Vec::new();
    for number in 0..N_SERIES {
        let mut value = 0.0;
        let values: Vec<f64> = times
            .iter()
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                value += f64::from(u32::try_from(state >> 40).unwrap() % 100);
                if state >> 52 == 0 {
                    value = 0.0;
                }
                value
            })
            .collect();
        let labels = Labels::new(&[
            ("__name__", "requests_total".to_owned()),
            ("job", format!("job-{}", number % 100)),
            (
                "instance",
                format!("10.0.{}.{}:9090", number / 256, number % 256),
            ),
            ("region", "eu-west-1".to_owned()),
        ]);
        let chunks = encode_floats(&times, &values).unwrap();
        series.push(ChunkSeries {
            labels: labels.unwrap(),
            chunks: chunks
                .into_iter()
                .map(|chunk| ChunkSlice {
                    min_t: chunk.min_t,
                    max_t: chunk.max_t,
                    encoding: chunk.encoding,
                    data: chunk.data.into(),
                })
                .collect(),
        });
    }
    series.sort_by(|left, right| left.labels.cmp(&right.labels));
    MemoryStore::from_series(series)
}

fn main() {
    let queryable: Arc<dyn Queryable> = Arc::new(counters());
    let pool = Pool::new("query", 2, 16).unwrap();
    let engines = [
        ("plain, one thread", true, None),
        ("one thread", false, None),
        ("with a pool of two", false, Some(pool.clone())),
    ];
    let end = (N_SAMPLES - 1) * SCRAPE_MS;
    let start = end - 119 * 60_000;
    for query in [
        "requests_total",
        "rate(requests_total[5m])",
        "sum by (job) (rate(requests_total[5m]))",
        "sum by (job) (requests_total)",
        "count(requests_total)",
        "max_over_time(requests_total[5m])",
        "quantile by (job) (0.9, requests_total)",
        "requests_total / on (job, instance) requests_total",
        "topk(5, rate(requests_total[5m]))",
        "max_over_time(sum(rate(requests_total[2m]))[5m:30s])",
        "histogram_quantile(0.9, label_replace(requests_total, \"le\", \"$1\", \"instance\", \".*\\\\.(.*):.*\"))",
    ] {
        for (name, is_plain, pool) in &engines {
            let engine = Engine::new(EngineSettings::default(), pool.clone());
            let begin = Instant::now();
            let mut best = f64::INFINITY;
            let mut n_points = 0;
            let mut n_read = 0;
            while begin.elapsed() < MEASURED {
                let started = Instant::now();
                let options = QueryOptions {
                    plain_plan: *is_plain,
                    ..QueryOptions::default()
                };
                let output =
                    engine.range(Arc::clone(&queryable), query, start, end, 60_000, &options);
                best = best.min(started.elapsed().as_secs_f64());
                let output = output.unwrap();
                n_read = output.stats.samples_decoded;
                n_points = match output.value {
                    QueryValue::Columns(columns) => {
                        columns.iter().map(|series| series.floats().count()).sum()
                    }
                    QueryValue::Matrix(matrix) => {
                        matrix.iter().map(|series| series.floats.len()).sum()
                    }
                    QueryValue::Scalar { .. }
                    | QueryValue::String { .. }
                    | QueryValue::Vector(_) => 0,
                };
            }
            let per_second = n_read as f64 / best / 1e6;
            println!(
                "{query:<50.50} {name:<20} {:>8.1} ms {per_second:>7.1} M samples/s {n_points:>8} points",
                best * 1e3
            );
        }
    }
    pool.stop();
}
