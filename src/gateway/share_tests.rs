//! Blocks that are read side by side hold as much as one may, whatever their number.

use std::path::Path;
use std::sync::Arc;

use crate::bucket::{Bucket, StoreBucket};
use crate::catalog::Catalog;
use crate::gateway::tests::{Fixture, copy, labels, own, write};
use crate::model::{Interval, Labels, Sample};
use crate::storage::contract::{self, START_MS};
use crate::storage::{ChunkSeries, Queryable, SelectHints};

const BLOCKS: u128 = 8;
const SERIES: usize = 60;

/// Series of many chunks each, with samples that no two blocks share.
fn series(block: u128) -> contract::Fixture {
    let from_ms = START_MS + i64::try_from(block).unwrap() * 600_000;
    let samples =
        |number: i64| (0..1_200).map(move |k| (from_ms + k * 500 + number, k * 7919 % 13));
    let one = |number: usize| {
        let text = format!("{number:03}");
        let samples = samples(i64::try_from(number).unwrap());
        let samples = samples.map(|(t, v)| Sample {
            t,
            v: f64::from(i32::try_from(v).unwrap()) / 7.0,
        });
        (
            labels(&[("__name__", "x"), ("n", &text)]),
            samples.collect(),
        )
    };
    (0..SERIES).map(one).collect()
}

async fn bucket(dir: &Path) -> Arc<dyn Bucket> {
    let bucket = StoreBucket::in_memory();
    for block in 0..BLOCKS {
        write(dir, block, &own(), &series(block));
    }
    copy(dir, &bucket).await;
    Arc::new(bucket)
}

/// Bytes of a chunk with its length, its encoding and its checksum.
fn in_file(n_bytes: usize) -> u64 {
    let length = if n_bytes < 128 { 1 } else { 2 };
    n_bytes as u64 + length + 1 + 4
}

struct Asked {
    found: Vec<(Labels, Vec<Vec<u8>>)>,
    /// Most bytes of chunks that were read and not taken yet.
    held_bytes_max: u64,
}

/// Asks a gateway with so much memory for everything.
async fn ask(bucket: &Arc<dyn Bucket>, memory_bytes: u64, hints: SelectHints) -> Asked {
    let place = (
        tempfile::tempdir().unwrap(),
        Catalog::absent("test".to_owned()),
    );
    let fixture = Fixture::with(Arc::clone(bucket), place, |settings| {
        settings.memory_bytes_max = memory_bytes;
    });
    fixture.gateway.sync().await.unwrap();
    let gateway = Arc::clone(&fixture.gateway);
    let asked = tokio::task::spawn_blocking(move || {
        let snapshot = gateway.snapshot();
        let mut set = snapshot.select(&[], &hints).unwrap();
        let read_bytes = || -> u64 {
            let kinds = gateway.stats().kinds;
            let kinds = kinds.iter().filter(|(kind, _)| kind.as_str() == "chunks");
            kinds.map(|(_, counts)| counts.touched_bytes).sum()
        };
        let (mut found, mut held_bytes_max, mut taken) = (Vec::new(), 0, 0);
        while let Some(next) = set.next() {
            held_bytes_max = held_bytes_max.max(read_bytes() - taken);
            let ChunkSeries { labels, chunks } = next.unwrap();
            let chunks: Vec<Vec<u8>> = chunks.iter().map(|chunk| chunk.data.to_vec()).collect();
            taken += chunks.iter().map(|chunk| in_file(chunk.len())).sum::<u64>();
            found.push((labels, chunks));
        }
        Asked {
            found,
            held_bytes_max,
        }
    });
    asked.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_blocks_hold_that_are_read_side_by_side_stays_below_the_memory_they_may_take() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = bucket(dir.path()).await;
    let all = || SelectHints::new(Interval::ALL);
    let plenty = ask(&bucket, 128 << 20, all()).await;
    assert_eq!(plenty.found.len(), SERIES);
    let whole_bytes: usize = plenty.found.iter().flat_map(|(_, c)| c).map(Vec::len).sum();
    // Everything is read at once, the first series apart.
    assert!(whole_bytes as u64 <= plenty.held_bytes_max);
    for memory_bytes in [0, 1, 32 << 10, 128 << 10, 256 << 10] {
        let asked = ask(&bucket, memory_bytes, all()).await;
        assert!(asked.found == plenty.found, "{memory_bytes}");
        // A series of each block there is always, and the one that was taken.
        let one_of_each = plenty.held_bytes_max.div_ceil(SERIES as u64) * 2;
        let allowed = (memory_bytes / 2).max(one_of_each);
        assert!(
            asked.held_bytes_max <= allowed,
            "{} of {allowed} bytes",
            asked.held_bytes_max
        );
        let limited = SelectHints { limit: 7, ..all() };
        let limited = ask(&bucket, memory_bytes, limited).await;
        assert!(limited.found[..] == plenty.found[..7], "{memory_bytes}");
    }
}
