//! Native histograms of our making, read by a stock Prometheus and by us.

use std::path::Path;
use std::sync::Arc;

use gauntlet::block::{Block, BlockSource, NewBlock, write_block};
use gauntlet::chunk::{Counts, encode_histograms};
use gauntlet::compact::{compact, merged_block};
use gauntlet::foundation::Cancel;
use gauntlet::model::{
    BlockId, BucketSpan, Buckets, Histogram, Interval, Labels, Matcher, ResetHint, TimeRange,
};
use gauntlet::storage::{ChunkSeries, ChunkSlice, VecSeriesSet};

use crate::peers::gauntlet::gauntlet;
use crate::peers::{Peer, copy_tree, encode, prometheus};

pub(crate) const START_MS: i64 = 1_700_006_400_000;
pub(crate) const STEP_MS: i64 = 15_000;
const IDLE: &str = "global: {scrape_interval: 1h}\n";

/// Questions whose answers show every field of every histogram.
const QUERIES: [&str; 3] = ["whole", "float", "gauge"];

/// Buckets come, grow and, now and then, start again from nothing; markers of staleness end what follows nothing.
pub(crate) fn histograms(scale: f64, hint: ResetHint) -> Vec<Arc<Histogram>> {
    (0..60u32)
        .map(|i| {
            if i == 43 {
                return Arc::new(Histogram::stale());
            }
            let since_reset = f64::from(i % 25);
            let n_buckets = 2 + i % 25 / 8;
            let positive: Vec<f64> = (0..n_buckets)
                .map(|bucket| scale * since_reset * f64::from(bucket + 1))
                .collect();
            let negative = vec![scale * (since_reset / 3.0).floor()];
            let zero_count = scale * (since_reset / 5.0).floor();
            Arc::new(Histogram {
                reset_hint: hint,
                schema: 1,
                zero_threshold: 0.001,
                zero_count,
                count: zero_count + positive.iter().chain(&negative).sum::<f64>(),
                sum: 1.5 * since_reset,
                positive: Buckets {
                    spans: vec![BucketSpan {
                        offset: -1,
                        length: n_buckets,
                    }],
                    counts: positive,
                },
                negative: Buckets {
                    spans: vec![BucketSpan {
                        offset: 3,
                        length: 1,
                    }],
                    counts: negative,
                },
                ..Histogram::default()
            })
        })
        .collect()
}

fn series(name: &str, (counts, scale): (Counts, f64), hint: ResetHint, start: i64) -> ChunkSeries {
    let histograms = histograms(scale, hint);
    let times: Vec<i64> = (0..60).map(|i| start + i * STEP_MS).collect();
    let chunks = encode_histograms(counts, &times, &histograms, None).unwrap();
    assert!(2 <= chunks.len(), "{name}: {} chunks", chunks.len());
    let chunks = chunks.into_iter().map(|chunk| ChunkSlice {
        min_t: chunk.min_t,
        max_t: chunk.max_t,
        encoding: chunk.encoding,
        data: chunk.data.into(),
    });
    ChunkSeries {
        labels: Labels::new(&[("__name__", name)]).unwrap(),
        chunks: chunks.collect(),
    }
}

fn write(data: &Path, n: u128, after_ms: i64) {
    let range = TimeRange {
        min: START_MS,
        max: START_MS + 7_200_000,
    };
    let id = BlockId::from_parts(START_MS.unsigned_abs(), n);
    let start = START_MS + after_ms;
    let series = vec![
        series("float", (Counts::Float, 0.7), ResetHint::Unknown, start),
        series("gauge", (Counts::Whole, 1.0), ResetHint::Gauge, start),
        series("whole", (Counts::Whole, 2.0), ResetHint::Unknown, start),
    ];
    let mut set = VecSeriesSet::new(series, Vec::new());
    let meta = write_block(data, NewBlock::new(id, range), &mut set);
    assert_eq!(meta.unwrap().unwrap().stats.num_histogram_samples, 180);
}

#[test]
fn a_stock_prometheus_reads_the_native_histograms_of_our_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let (theirs, ours) = (dir.path().join("theirs"), dir.path().join("ours"));
    std::fs::create_dir(&theirs).unwrap();
    write(&theirs, 1, 0);
    copy_tree(&theirs, &ours);
    let Some(stock) = prometheus(dir.path(), &theirs, IDLE, &[]) else {
        return;
    };
    let gauntlet = gauntlet(dir.path(), &ours, IDLE, &[]);
    let n_histograms = same_answers(&gauntlet, &stock);
    println!("{n_histograms} histograms are the same to the byte");
    assert!(170 < n_histograms, "{n_histograms} histograms");
}

/// Asks both for every histogram at every step; how many there were.
pub(crate) fn same_answers(left: &Peer, right: &Peer) -> usize {
    let mut n_histograms = 0;
    for query in QUERIES {
        for i in 0..100 {
            // Never five minutes to the millisecond after a sample: there the releases differ.
            let time = (START_MS + i * STEP_MS) / 1000 + 1;
            let path = format!("/api/v1/query?query={}&time={time}", encode(query));
            let (left, right) = (left.get(&path), right.get(&path));
            assert_eq!(right.status, 200, "{}", right.body);
            assert_eq!(left.body, right.body, "{query} at {i}");
            n_histograms += right.body.matches("\"count\"").count();
        }
    }
    n_histograms
}

#[test]
fn histograms_answer_the_same_after_deletion_and_compaction_here_and_there() {
    let dir = tempfile::tempdir().unwrap();
    let sources = dir.path().join("sources");
    std::fs::create_dir(&sources).unwrap();
    // The second block begins in the middle of the first.
    write(&sources, 1, 0);
    write(&sources, 2, 30 * STEP_MS + 7_000);
    let ids = [1, 2].map(|n| BlockId::from_parts(START_MS.unsigned_abs(), n));
    let open = |n: usize| Block::open(&sources.join(ids[n].to_string())).unwrap();
    let gone = Interval {
        min: START_MS + 5 * STEP_MS,
        max: START_MS + 38 * STEP_MS,
    };
    open(0)
        .delete(&[Matcher::equal("__name__", "whole")], gone)
        .unwrap();
    open(1)
        .delete(&[Matcher::equal("__name__", "float")], gone)
        .unwrap();
    let compacted = dir.path().join("compacted");
    std::fs::create_dir(&compacted).unwrap();
    let blocks = [open(0), open(1)];
    let refs: Vec<&dyn BlockSource> = blocks.iter().map(|b| b as &dyn BlockSource).collect();
    let new = merged_block(
        BlockId::from_parts(START_MS.unsigned_abs(), 3),
        &[blocks[0].meta(), blocks[1].meta()],
    );
    let meta = compact(&compacted, new, &refs, &Cancel::new())
        .unwrap()
        .unwrap();
    let n_left = meta.stats.num_histogram_samples;
    assert!(300 < n_left && n_left < 360, "{n_left}");
    // Ours reads the sources, tombstones and all. Prometheus 2.42 shows the first sample of a chunk of histograms that is
    // deleted in part, so it is asked for the result only.
    let Some(stock) = prometheus(dir.path(), &compacted, IDLE, &[]) else {
        return;
    };
    let gauntlet = gauntlet(dir.path(), &sources, IDLE, &[]);
    let n_histograms = same_answers(&gauntlet, &stock);
    assert!(200 < n_histograms, "{n_histograms}");
}
