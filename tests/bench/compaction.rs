//! How fast blocks are compacted: samples per second of processor time.
//!
//! `cargo bench --bench compaction -- DIRECTORY` keeps the blocks there, for others to compact the same.
#![expect(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    reason = "a bench may stop at anything odd"
)]

use std::path::{Path, PathBuf};

use bytes::Bytes;
use gauntlet::block::{Block, BlockMeta, BlockSource, NewBlock, write_block};
use gauntlet::chunk::encode_floats;
use gauntlet::compact::{compact, merged_block};
use gauntlet::foundation::Cancel;
use gauntlet::model::{BlockId, Labels, TimeRange};
use gauntlet::storage::{ChunkSeries, ChunkSlice, SeriesSet, StorageError};

const N_BLOCKS: u64 = 12;
const N_SERIES: u32 = 10_000;
const BLOCK_MS: i64 = 7_200_000;
const STEP_MS: i64 = 15_000;
const START_MS: i64 = 1_699_920_000_000;

fn main() {
    let kept = std::env::args()
        .nth(1)
        .filter(|argument| !argument.starts_with('-'));
    let scratch = tempfile::tempdir().unwrap();
    let root = kept.map_or_else(|| scratch.path().to_owned(), PathBuf::from);
    // Neighbours, and then pairs that overlap by half a block.
    for (name, step_ms) in [("apart", BLOCK_MS), ("overlapping", BLOCK_MS / 2)] {
        let dir = root.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let blocks: Vec<Block> = (0..N_BLOCKS)
            .map(|n| make(&dir, n, START_MS + n.cast_signed() * step_ms))
            .collect();
        run(name, &root, &blocks);
    }
}

fn run(name: &str, root: &Path, blocks: &[Block]) {
    let metas: Vec<&BlockMeta> = blocks.iter().map(Block::meta).collect();
    let n_samples: u64 = metas.iter().map(|meta| meta.stats.num_samples).sum();
    let sources: Vec<&dyn BlockSource> = blocks
        .iter()
        .map(|block| block as &dyn BlockSource)
        .collect();
    let new = merged_block(BlockId::from_parts(1, 99), &metas);
    let before = processor_seconds();
    let made = compact(root, new, &sources, &Cancel::new())
        .unwrap()
        .unwrap();
    let seconds = processor_seconds() - before;
    std::fs::remove_dir_all(root.join(made.ulid.to_string())).unwrap();
    println!(
        "compact {N_BLOCKS} blocks, {name:<12} {:>8.1} M samples/s of processor time, {seconds:.2} s, {} MiB private at the end",
        n_samples as f64 / seconds / 1e6,
        private_mib(),
    );
}

/// A block of counters, gauges and flat lines.
fn make(dir: &Path, n: u64, start: i64) -> Block {
    let range = TimeRange {
        min: start,
        max: start + BLOCK_MS,
    };
    let new = NewBlock::new(BlockId::from_parts(1_700_000_000_000 + n, 7), range);
    let mut series = Made { start, next: 0 };
    let meta = write_block(dir, new, &mut series).unwrap().unwrap();
    Block::open(&dir.join(meta.ulid.to_string())).unwrap()
}

struct Made {
    start: i64,
    next: u32,
}

impl SeriesSet for Made {
    fn next(&mut self) -> Option<Result<ChunkSeries, StorageError>> {
        let n = self.next;
        if n == N_SERIES {
            return None;
        }
        self.next += 1;
        let (instance, path) = (format!("host-{:04}", n / 10), format!("/path/{}", n % 10));
        let labels = [
            ("__name__", "http_requests_total"),
            ("cluster", "eu-north-1"),
            ("instance", &instance),
            ("job", "api"),
            ("path", &path),
        ];
        let times: Vec<i64> = (self.start..self.start + BLOCK_MS)
            .step_by(usize::try_from(STEP_MS).unwrap())
            .map(|t| t + i64::from(n % 977))
            .collect();
        let mut total = f64::from(n);
        let values: Vec<f64> = (0..times.len())
            .map(|i| {
                total += match n % 3 {
                    0 => f64::from(n % 17),
                    1 => (i as f64 * 0.1).sin(),
                    _ => 0.0,
                };
                total
            })
            .collect();
        let chunks = encode_floats(&times, &values).unwrap();
        let chunks = chunks.into_iter().map(|chunk| ChunkSlice {
            min_t: chunk.min_t,
            max_t: chunk.max_t,
            encoding: chunk.encoding,
            data: Bytes::from(chunk.data),
        });
        Some(Ok(ChunkSeries {
            labels: Labels::new(&labels).unwrap(),
            chunks: chunks.collect(),
        }))
    }
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
fn private_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}
