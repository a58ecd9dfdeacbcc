//! How fast a block is downsampled: samples per second of processor time, and the most memory it takes. Blocks that lie
//! here first, floats and native histograms, then one in a bucket that is read in ranges.
//!
//! `cargo bench --bench downsample -- 500 DIRECTORY`: fewer series, in blocks that stay there.
#![expect(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench measures, prints and stops at anything odd"
)]

mod measure;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use gauntlet::block::{Block, NewBlock, write_block};
use gauntlet::chunk::encode_histograms;
use gauntlet::downsample::run;
use gauntlet::foundation::Cancel;
use gauntlet::model::{
    BlockId, BucketSpan, Buckets, Counts, Histogram, Labels, Resolution, TimeRange,
};
use gauntlet::storage::{ChunkSeries, SeriesSet, StorageError};
use measure::{HOUR_MS, Ranged, START_MS, STEP_MS, Watcher, compactor, make, slice};
use tokio::runtime::Runtime;

/// From so long on a block of five minutes becomes one of an hour.
const BLOCK_MS: i64 = 10 * 24 * HOUR_MS;
const RANGE: TimeRange = TimeRange {
    min: START_MS,
    max: START_MS + BLOCK_MS,
};

fn main() {
    let (n_series, kept) = measure::arguments(2_000, &[]);
    let scratch = tempfile::tempdir().unwrap();
    let root = kept.unwrap_or_else(|| scratch.path().to_owned());
    let bucket = root.join("bucket");
    fs::create_dir_all(&bucket).unwrap();
    let floats = make(&bucket, BlockId::from_parts(1, 1), RANGE, n_series);
    let raw = Block::open(&bucket.join(floats.ulid.to_string())).unwrap();
    let five = downsample(&root, "floats", &raw, BlockId::from_parts(1, 2));
    downsample(&root, "floats", &five, BlockId::from_parts(1, 3));

    let mut series = Histograms {
        n_series: n_series / 100,
        next: 0,
    };
    let id = BlockId::from_parts(2, 1);
    write_block(&root, NewBlock::new(id, RANGE), &mut series).unwrap();
    let raw = Block::open(&root.join(id.to_string())).unwrap();
    let five = downsample(&root, "histograms", &raw, BlockId::from_parts(2, 2));
    downsample(&root, "histograms", &five, BlockId::from_parts(2, 3));

    let runtime = Runtime::new().unwrap();
    let scratch = root.join("scratch");
    let compactor = compactor(&runtime, Ranged::open(&bucket), &scratch);
    let watcher = Watcher::start(&scratch);
    let report = runtime.block_on(compactor.downsample(&Cancel::new()));
    let cost = watcher.stop();
    assert_eq!(
        report.unwrap().made.len(),
        2,
        "of five minutes, and of an hour"
    );
    cost.print(
        "floats in a bucket, to 5m and from there to 1h",
        floats.stats.num_samples,
    );
}

fn downsample(root: &Path, name: &str, source: &Block, id: BlockId) -> Block {
    let to = match source.meta().resolution() {
        Some(Resolution::Raw) => "5m",
        _ => "1h",
    };
    let watcher = Watcher::start(&root.join("scratch"));
    let made = run(root, id, source, &Cancel::new(), &mut |_| ());
    let cost = watcher.stop();
    let made = made.unwrap().unwrap();
    cost.print(&format!("{name} to {to}"), source.meta().stats.num_samples);
    Block::open(&root.join(made.ulid.to_string())).unwrap()
}

/// Twenty buckets that all grow.
struct Histograms {
    n_series: u32,
    next: u32,
}

impl SeriesSet for Histograms {
    fn next(&mut self) -> Option<Result<ChunkSeries, StorageError>> {
        let n = self.next;
        if n == self.n_series {
            return None;
        }
        self.next += 1;
        let instance = format!("host-{n:05}");
        let labels = [("__name__", "latency"), ("instance", &instance)];
        let times: Vec<i64> = (RANGE.min..RANGE.max)
            .step_by(usize::try_from(STEP_MS).unwrap())
            .collect();
        let histograms: Vec<Arc<Histogram>> = (1..=times.len())
            .map(|i| {
                let counts: Vec<f64> = (0..20).map(|k| (i * (k + 1) / 4) as f64).collect();
                let span = BucketSpan {
                    offset: -3,
                    length: 20,
                };
                Arc::new(Histogram {
                    schema: 3,
                    zero_threshold: 1e-9,
                    count: counts.iter().sum(),
                    sum: i as f64 * f64::from(n + 1) * 0.1,
                    positive: Buckets {
                        spans: vec![span],
                        counts,
                    },
                    ..Histogram::default()
                })
            })
            .collect();
        let chunks = encode_histograms(Counts::Whole, &times, &histograms, None).unwrap();
        Some(Ok(ChunkSeries {
            labels: Labels::new(&labels).unwrap(),
            chunks: chunks.into_iter().map(slice).collect(),
        }))
    }
}
