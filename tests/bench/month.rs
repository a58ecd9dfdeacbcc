//! A month of blocks for the long range: `cargo bench --bench month -- DIRECTORY [SERIES]`.
//!
//! Writes 30 blocks of a day each, counters scraped every 15 seconds (100 series unless told otherwise), the same
//! numbers in every run. Start Prometheus (`--storage.tsdb.path`, `--storage.tsdb.retention.time=100y`) and
//! `gauntlet serve --data-dir` on a copy of the directory each, and ask both
//! `/api/v1/query_range?query=sum by (job) (rate(requests_total[5m]))&step=3600` with the `start` and `end` it prints,
//! turn by turn. Without a directory it asks the engine alone.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    reason = "a bench measures real time and may stop at anything odd"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use gauntlet::block::{Block, NewBlock, write_block};
use gauntlet::chunk::encode_floats;
use gauntlet::foundation::pool::Pool;
use gauntlet::model::{BlockId, Labels, TimeRange};
use gauntlet::promql::{Engine, EngineSettings, QueryOptions};
use gauntlet::storage::{ChunkSeries, ChunkSlice, Fanout, Queryable, VecSeriesSet};

/// Midnight, UTC.
const START_MS: i64 = 1_767_225_600_000;
const DAY_MS: i64 = 86_400_000;
const N_DAYS: i64 = 30;
const SCRAPE_MS: i64 = 15_000;
const HOUR_MS: i64 = 3_600_000;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let directory = args.next();
    let n_series = args.next().map_or(100, |n| n.parse().unwrap());
    let (start, end) = (
        START_MS + HOUR_MS + 7_000,
        START_MS + N_DAYS * DAY_MS - 8_000,
    );
    if let Some(directory) = directory {
        let directory = Path::new(&directory);
        std::fs::create_dir_all(directory).unwrap();
        write(directory, n_series);
        println!("start={} end={}", start / 1000, end / 1000);
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let ids = write(directory.path(), n_series);
    let blocks = ids.iter().map(|id| {
        let block = Block::open(&directory.path().join(id)).unwrap();
        Arc::new(block) as Arc<dyn Queryable>
    });
    let queryable: Arc<dyn Queryable> = Arc::new(Fanout::new(blocks.collect()));
    let pool = Pool::new("query", 2, 16).unwrap();
    let engine = Engine::new(EngineSettings::default(), Some(pool.clone()));
    for query in [
        "sum by (job) (rate(requests_total[5m]))",
        "sum by (job) (rate(requests_total[1h]))",
        "sum by (job) (requests_total)",
    ] {
        let mut best = f64::INFINITY;
        let mut n_read = 0;
        for _ in 0..5 {
            let source = Arc::clone(&queryable);
            let began = Instant::now();
            let output = engine.range(source, query, start, end, HOUR_MS, &QueryOptions::default());
            best = best.min(began.elapsed().as_secs_f64());
            n_read = output.unwrap().stats.samples_decoded;
        }
        let n_stored = i64::from(n_series) * N_DAYS * DAY_MS / SCRAPE_MS;
        println!(
            "{query:<45} {:>8.1} ms, decoded {n_read} of {n_stored} samples, {:>7.1} M stored samples/s",
            best * 1e3,
            n_stored as f64 / best / 1e6
        );
    }
    pool.stop();
}

/// Writes the blocks; their names.
fn write(directory: &Path, n_series: u32) -> Vec<String> {
    let mut totals = vec![0.0; n_series as usize];
    let mut state = 7_u64;
    let mut ids = Vec::new();
    for day in 0..N_DAYS {
        let min = START_MS + day * DAY_MS;
        let times: Vec<i64> = (0..DAY_MS / SCRAPE_MS)
            .map(|i| min + i * SCRAPE_MS)
            .collect();
        let mut series = Vec::new();
        for (number, total) in totals.iter_mut().enumerate() {
            let values: Vec<f64> = times
                .iter()
                .map(|_| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    *total += f64::from(u32::try_from(state >> 40).unwrap() % 100);
                    *total
                })
                .collect();
            let labels = Labels::new(&[
                ("__name__", "requests_total".to_owned()),
                ("job", format!("job-{}", number % 10)),
                ("instance", format!("10.0.0.{number}:9090")),
            ]);
            let chunks = encode_floats(&times, &values).unwrap().into_iter();
            series.push(ChunkSeries {
                labels: labels.unwrap(),
                chunks: chunks
                    .map(|chunk| ChunkSlice {
                        min_t: chunk.min_t,
                        max_t: chunk.max_t,
                        encoding: chunk.encoding,
                        data: chunk.data.into(),
                    })
                    .collect(),
            });
        }
        let max = min + DAY_MS;
        let id = BlockId::from_parts(u64::try_from(max).unwrap(), 1);
        let mut set = VecSeriesSet::new(series, Vec::new());
        let new = NewBlock::new(id, TimeRange { min, max });
        let meta = write_block(directory, new, &mut set).unwrap().unwrap();
        ids.push(meta.ulid.to_string());
    }
    ids
}
