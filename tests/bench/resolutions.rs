//! Thirty days in a bucket that is read in ranges, raw, in windows of five minutes and of an hour: what queries over all of
//! it take at each resolution, with nothing cached, and again.
//!
//! `cargo bench --bench resolutions`, or with the number of series as argument (1,000), a sample every 15 seconds each. The
//! blocks span ten days; their coarser ones are made by the compactor.
//!
//! Two cores, CPU seconds and MiB read with nothing cached, raw, 5m and 1h: `rate[2h]` 7.0, 0.6, 0.09 and 501, 112, 10;
//! `max_over_time[1h]` 7.0, 0.9, 0.07; `avg_over_time[1d]` 20.6, 1.2, 0.15.
#![expect(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::panic,
    reason = "a bench measures, prints and stops at anything odd"
)]

#[expect(dead_code, reason = "the other benches use the rest")]
mod measure;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use gauntlet::bucket::{Bucket, MeteredBucket, Operation};
use gauntlet::catalog::Catalog;
use gauntlet::foundation::pool::Pool;
use gauntlet::foundation::{Cancel, SystemClock};
use gauntlet::gateway::{Gateway, GatewaySettings};
use gauntlet::model::{BlockId, ExternalLabels, Labels, Resolution, TimeRange};
use gauntlet::promql::{Engine, EngineSettings, QueryOptions, QueryValue};
use gauntlet::storage::ResolutionWish;
use measure::{HOUR_MS, Ranged, START_MS, compactor, make, processor_times};
use tokio::runtime::Runtime;

const BLOCK_MS: i64 = 10 * 24 * HOUR_MS;
const N_BLOCKS: i64 = 3;
/// A rate takes windows of an hour from two hours on.
const QUERIES: [&str; 4] = [
    "sum by (instance) (rate(http_requests_total[5m]))",
    "sum by (instance) (rate(http_requests_total[2h]))",
    "max by (path) (max_over_time(http_requests_total[1h]))",
    "sum(avg_over_time(http_requests_total[1d]))",
];
const RESOLUTIONS: [Resolution; 3] = [
    Resolution::Raw,
    Resolution::FiveMinutes,
    Resolution::OneHour,
];

fn main() {
    let (n_series, kept) = measure::arguments(1_000, &[]);
    let scratch = tempfile::tempdir().unwrap();
    let root = kept.unwrap_or_else(|| scratch.path().to_owned());
    let bucket = root.join("bucket");
    let runtime = Runtime::new().unwrap();
    if !bucket.is_dir() {
        write(&runtime, &bucket, n_series);
    }
    for query in QUERIES {
        println!("{query}");
        for resolution in RESOLUTIONS {
            let cache = tempfile::tempdir().unwrap();
            let metered = Arc::new(MeteredBucket::new(Ranged::open(&bucket)));
            let gateway = open(
                &runtime,
                Arc::clone(&metered) as Arc<dyn Bucket>,
                cache.path(),
            );
            for state in ["cold", "warm"] {
                ask(&gateway, &metered, query, (resolution, state));
            }
        }
    }
    runtime.shutdown_background();
}

fn write(runtime: &Runtime, bucket: &Path, n_series: u32) {
    fs::create_dir_all(bucket).unwrap();
    for number in 0..N_BLOCKS {
        let min = START_MS + number * BLOCK_MS;
        let max = min + BLOCK_MS;
        let id = BlockId::from_parts(number.unsigned_abs() + 1, 1);
        make(bucket, id, TimeRange { min, max }, n_series);
    }
    let scratch = tempfile::tempdir().unwrap();
    let compactor = compactor(runtime, Ranged::open(bucket), scratch.path());
    let report = runtime.block_on(compactor.downsample(&Cancel::new()));
    let n_made = report.unwrap().made.len();
    assert_eq!(n_made, 6, "of five minutes, and of an hour");
    let sizes = RESOLUTIONS.map(|resolution| n_bytes(bucket, resolution) >> 20);
    println!("{n_series} series, MiB raw, 5m, 1h: {sizes:?}");
}

/// Of all blocks of a resolution.
fn n_bytes(bucket: &Path, resolution: Resolution) -> u64 {
    let dirs = fs::read_dir(bucket).unwrap();
    let mut sum = 0;
    for dir in dirs.map(|entry| entry.unwrap().path()) {
        let meta = gauntlet::block::BlockMeta::read(&dir).unwrap();
        if meta.resolution() == Some(resolution) {
            let chunks = fs::read_dir(dir.join("chunks")).unwrap();
            let lengths = chunks.map(|entry| entry.unwrap().metadata().unwrap().len());
            sum += lengths.sum::<u64>() + dir.join("index").metadata().unwrap().len();
        }
    }
    sum
}

fn open(runtime: &Runtime, bucket: Arc<dyn Bucket>, cache: &Path) -> Arc<Gateway> {
    let external = ExternalLabels(Labels::new(&[("cluster", "a")]).unwrap());
    let settings = GatewaySettings::new(external, cache.to_owned());
    let catalog = Catalog::absent("a bench".to_owned());
    let clock = Arc::new(SystemClock);
    let gateway = Gateway::new(settings, bucket, catalog, clock, runtime.handle().clone());
    let gateway = Arc::new(gateway.unwrap());
    assert_eq!(runtime.block_on(gateway.sync()).unwrap().n_served, 9);
    gateway
}

/// Requests for ranges so far, and their bytes.
fn asked(metered: &MeteredBucket) -> (u64, u64) {
    let counts = metered.counts();
    let ranges = counts.iter().find(|(what, _)| *what == Operation::GetRange);
    let counts = &ranges.unwrap().1;
    (counts.n_started, counts.bytes)
}

fn ask(
    gateway: &Gateway,
    metered: &MeteredBucket,
    query: &str,
    (resolution, state): (Resolution, &str),
) {
    let pool = Pool::new("query", 2, 16).unwrap();
    let engine = Engine::new(EngineSettings::default(), Some(pool.clone()));
    let options = QueryOptions {
        resolutions: ResolutionWish::AtMost(resolution).bounds(HOUR_MS),
        ..QueryOptions::default()
    };
    // At the ends of windows, where all resolutions have the same.
    let start = START_MS + 24 * HOUR_MS - 1;
    let end = START_MS + N_BLOCKS * BLOCK_MS - 1;
    let before = asked(metered);
    let (before_cpu, began) = (processor_times("self"), Instant::now());
    let own = gateway.snapshot().own();
    let output = engine.range(own, query, start, end, HOUR_MS, &options);
    let output = output.unwrap();
    let seconds = began.elapsed().as_secs_f64();
    let (user, kernel) = processor_times("self");
    let cpu = user - before_cpu.0 + kernel - before_cpu.1;
    let after = asked(metered);
    let QueryValue::Columns(columns) = &output.value else {
        panic!("{output:?}");
    };
    let n_points: usize = columns.iter().map(|series| series.floats().count()).sum();
    println!(
        "  at most {:>4} {state}: {:>8.1} ms, {cpu:>5.2} CPU s, {:>6} requests, {:>7.1} MiB read, {:>11} samples, {n_points} points, read {:?}",
        resolution.as_ms() / 1000,
        seconds * 1e3,
        after.0 - before.0,
        (after.1 - before.1) as f64 / f64::from(1 << 20),
        output.stats.samples_read,
        output.stats.resolutions,
    );
    pool.stop();
}
