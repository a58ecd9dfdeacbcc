//! How fast a block is downsampled: samples per second of processor time, and the most memory it takes.
//!
//! `cargo bench --bench downsample -- DIRECTORY` keeps the blocks there, for others to downsample the same.
#![expect(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    reason = "a bench may stop at anything odd"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use gauntlet::block::{Block, NewBlock, write_block};
use gauntlet::chunk::{EncodedChunk, encode_floats, encode_histograms};
use gauntlet::downsample::run;
use gauntlet::foundation::Cancel;
use gauntlet::model::{
    BlockId, BucketSpan, Buckets, Counts, Histogram, Labels, Resolution, TimeRange,
};
use gauntlet::storage::{ChunkSeries, ChunkSlice, SeriesSet, StorageError};

/// Two days: what Thanos' planner makes before it downsamples.
const BLOCK_MS: i64 = 48 * 3_600_000;
const STEP_MS: i64 = 15_000;
const START_MS: i64 = 1_699_920_000_000;

fn main() {
    let kept = std::env::args()
        .nth(1)
        .filter(|argument| !argument.starts_with('-'));
    let scratch = tempfile::tempdir().unwrap();
    let root = kept.map_or_else(|| scratch.path().to_owned(), PathBuf::from);
    for (n, (name, n_series)) in (1..).zip([("floats", 4_000), ("histograms", 100)]) {
        let raw = make(&root, BlockId::from_parts(n, 1), name, n_series);
        let five = downsample(&root, name, &raw, BlockId::from_parts(n, 2));
        downsample(&root, name, &five, BlockId::from_parts(n, 3));
    }
}

fn downsample(root: &Path, name: &str, source: &Block, id: BlockId) -> Block {
    let to = match source.meta().resolution() {
        Some(Resolution::Raw) => "5m",
        _ => "1h",
    };
    let mut most_kib = 0;
    let idle_kib = private_kib();
    let before = processor_seconds();
    let made = run(root, id, source, &Cancel::new(), &mut |_| {
        most_kib = most_kib.max(private_kib());
    });
    let made = made.unwrap().unwrap();
    let seconds = processor_seconds() - before;
    let n_samples = source.meta().stats.num_samples;
    println!(
        "downsample {name} to {to}: {:>7.1} M samples/s of processor time ({n_samples} in, {} windows out, {seconds:.2} s), {} MiB private at most, {} MiB before",
        n_samples as f64 / seconds / 1e6,
        made.stats.num_samples,
        most_kib / 1024,
        idle_kib / 1024,
    );
    Block::open(&root.join(made.ulid.to_string())).unwrap()
}

fn make(dir: &Path, id: BlockId, name: &'static str, n_series: u32) -> Block {
    let range = TimeRange {
        min: START_MS,
        max: START_MS + BLOCK_MS,
    };
    let mut series = Made {
        name,
        n_series,
        next: 0,
    };
    write_block(dir, NewBlock::new(id, range), &mut series).unwrap();
    Block::open(&dir.join(id.to_string())).unwrap()
}

struct Made {
    name: &'static str,
    n_series: u32,
    next: u32,
}

impl SeriesSet for Made {
    fn next(&mut self) -> Option<Result<ChunkSeries, StorageError>> {
        let n = self.next;
        if n == self.n_series {
            return None;
        }
        self.next += 1;
        let instance = format!("host-{n:05}");
        let labels = [
            ("__name__", self.name),
            ("cluster", "eu-north-1"),
            ("instance", &instance),
            ("job", "api"),
        ];
        let times: Vec<i64> = (START_MS..START_MS + BLOCK_MS)
            .step_by(usize::try_from(STEP_MS).unwrap())
            .map(|t| t + i64::from(n % 977))
            .collect();
        let chunks = if self.name == "floats" {
            floats(n, &times)
        } else {
            histograms(n, &times)
        };
        let slice = |chunk: EncodedChunk| ChunkSlice {
            min_t: chunk.min_t,
            max_t: chunk.max_t,
            encoding: chunk.encoding,
            data: Bytes::from(chunk.data),
        };
        Some(Ok(ChunkSeries {
            labels: Labels::new(&labels).unwrap(),
            chunks: chunks.into_iter().map(slice).collect(),
        }))
    }
}

/// Counters that are reset now and then, gauges and flat lines.
fn floats(n: u32, times: &[i64]) -> Vec<EncodedChunk> {
    let mut total = f64::from(n);
    let values: Vec<f64> = (0..times.len())
        .map(|i| {
            total += match n % 3 {
                0 if i % 5_000 == 4_999 => -total,
                0 => f64::from(n % 17),
                1 => (i as f64 * 0.1).sin(),
                _ => 0.0,
            };
            total
        })
        .collect();
    encode_floats(times, &values).unwrap()
}

/// Twenty buckets that all grow.
fn histograms(n: u32, times: &[i64]) -> Vec<EncodedChunk> {
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
    encode_histograms(Counts::Whole, times, &histograms, None).unwrap()
}

/// User and system time of this process, as the kernel counts it: in hundredths.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: u64 = fields
        .iter()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().unwrap())
        .sum();
    ticks as f64 / 100.0
}

/// Memory that is not a mapped file.
fn private_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0)
}
