//! Twelve blocks of two hours become one of a day: samples per second of processor time, the most memory and the most
//! scratch. First from a directory to a directory, which is what Prometheus' compaction does; then the compactor's whole
//! duty on a bucket: reading in ranges, merging, uploading, reading back, marking. Then blocks that overlap. Where
//! `prometheus` is installed it compacts the same twelve blocks.
//!
//! `cargo bench --bench compaction -- 10000 DIRECTORY`: fewer series, in blocks that stay there and are used again.
//! `-- ranges directory`: only these of [`STEPS`].
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
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gauntlet::block::{Block, BlockMeta, BlockSource, SortedBlockWriter, join_chunks};
use gauntlet::bucket::{Bucket, keys};
use gauntlet::compact::{Merge, compact, compact_into, merged_block};
use gauntlet::foundation::Cancel;
use gauntlet::foundation::durable::replace_file;
use gauntlet::model::{BlockId, Interval, TimeRange};
use measure::{
    HOUR_MS, Ranged, START_MS, Watcher, compactor, directory, make, processor_times, status_kib,
};
use tokio::runtime::Runtime;

const N_BLOCKS: i64 = 12;
const BLOCK_MS: i64 = 2 * HOUR_MS;

/// What is measured, in this order.
const STEPS: [&str; 5] = ["prometheus", "alone", "ranges", "directory", "halves"];

fn main() {
    let is_all = !std::env::args().any(|argument| STEPS.contains(&argument.as_str()));
    let is_wanted = |step: &str| is_all || std::env::args().any(|argument| argument == step);
    let (n_series, kept) = measure::arguments(100_000, &STEPS);
    let scratch = tempfile::tempdir().unwrap();
    let root = kept.unwrap_or_else(|| scratch.path().to_owned());
    let day = root.join("day");
    // They say that they reach a millisecond into the next, so that all of them are made one at once; no chunk does.
    let metas = fill(&day, n_series, BLOCK_MS, 1);
    if is_wanted("prometheus") && !prometheus(&root, &day, &metas) {
        println!("prometheus is not installed");
    }
    if is_wanted("alone") {
        merge_alone(&root, &day, &metas, false);
        merge_alone(&root, &day, &metas, true);
    }
    let duty = |name: &str, bucket: &dyn Fn(&Path) -> Arc<dyn Bucket>| {
        let links = root.join("bucket");
        link(&day, &links, &metas);
        ours(name, &root, &bucket(&links), &metas);
        fs::remove_dir_all(&links).unwrap();
    };
    if is_wanted("ranges") {
        duty("12 blocks of 2 h in ranges", &Ranged::open);
    }
    if is_wanted("directory") {
        duty("12 blocks of 2 h in a directory", &directory);
    }
    if is_wanted("halves") {
        let halves = root.join("halves");
        let metas = fill(&halves, n_series / 10, BLOCK_MS / 2, 0);
        let what = "12 blocks of 2 h in ranges, each half over the next";
        ours(what, &root, &Ranged::open(&halves), &metas);
        fs::remove_dir_all(&halves).unwrap();
    }
}

/// Twelve blocks, each `step_ms` behind the one before; those that are there already stay.
fn fill(dir: &Path, n_series: u32, step_ms: i64, more_ms: i64) -> Vec<BlockMeta> {
    fs::create_dir_all(dir).unwrap();
    let made = (0..N_BLOCKS).map(|n| {
        let min = START_MS + n * step_ms;
        let max = min + BLOCK_MS;
        let id = BlockId::from_parts(START_MS.cast_unsigned() + n.cast_unsigned(), 7);
        if let Ok(there) = BlockMeta::read(&dir.join(id.to_string())) {
            assert_eq!(there.stats.num_series, u64::from(n_series), "other blocks");
            return there;
        }
        let mut meta = make(dir, id, TimeRange { min, max }, n_series);
        meta.max_time += more_ms;
        replace_file(&dir.join(keys::meta(id)), &meta.encode()).unwrap();
        meta
    });
    made.collect()
}

/// From a directory to a directory, synced, and nothing else.
fn merge_alone(root: &Path, day: &Path, metas: &[BlockMeta], is_uncached: bool) {
    let scratch = root.join("alone");
    fs::create_dir_all(&scratch).unwrap();
    let watcher = Watcher::start(&scratch);
    let blocks = metas
        .iter()
        .map(|meta| Block::open(&day.join(meta.ulid.to_string())).unwrap());
    let blocks: Vec<Block> = blocks.collect();
    let sources: Vec<&dyn BlockSource> = blocks.iter().map(|block| block as _).collect();
    let metas: Vec<&BlockMeta> = metas.iter().collect();
    let new = merged_block(BlockId::from_parts(1, 1), &metas);
    let cancel = Cancel::new();
    let (what, made) = if is_uncached {
        let how = Merge {
            wanted: Interval {
                min: new.range.min,
                max: new.range.max - 1,
            },
            cancel: &cancel,
            join: &join_chunks,
        };
        let create = || Ok(SortedBlockWriter::create(&scratch, new)?.uncached());
        let made = compact_into(&sources, &how, create);
        ("12 blocks of 2 h, merged alone past the page cache", made)
    } else {
        let made = compact(&scratch, new, &sources, &cancel);
        ("12 blocks of 2 h, merged alone", made)
    };
    let made = made.unwrap().unwrap();
    watcher.stop().print(what, made.stats.num_samples);
    fs::remove_dir_all(&scratch).unwrap();
}

fn ours(what: &str, root: &Path, bucket: &Arc<dyn Bucket>, metas: &[BlockMeta]) {
    let runtime = Runtime::new().unwrap();
    let scratch = root.join("scratch");
    let compactor = compactor(&runtime, Arc::clone(bucket), &scratch);
    let watcher = Watcher::start(&scratch);
    let report = runtime.block_on(compactor.compact(&Cancel::new())).unwrap();
    let cost = watcher.stop();
    assert_eq!(report.made.len(), 1, "{report:?}");
    let n_read: u64 = metas.iter().map(|meta| meta.stats.num_samples).sum();
    cost.print(what, n_read);
    let n_series = metas
        .iter()
        .map(|meta| meta.stats.num_series)
        .max()
        .unwrap();
    println!(
        "  limits: {} MiB of memory, 1024 MiB of scratch",
        256 + ((n_series * 64) >> 20)
    );
}

/// The same blocks under other names: nothing that is done to those changes them.
fn link(blocks: &Path, to: &Path, metas: &[BlockMeta]) {
    for meta in metas {
        let (from, to) = (
            blocks.join(meta.ulid.to_string()),
            to.join(meta.ulid.to_string()),
        );
        fs::create_dir_all(to.join("chunks")).unwrap();
        fs::hard_link(from.join("index"), to.join("index")).unwrap();
        for segment in fs::read_dir(from.join("chunks")).unwrap() {
            let segment = segment.unwrap();
            let there = to.join("chunks").join(segment.file_name());
            fs::hard_link(segment.path(), there).unwrap();
        }
        replace_file(&to.join("meta.json"), &meta.encode()).unwrap();
    }
}

/// Has Prometheus compact links to the same files, all at once: blocks of eight hours are what it believes to begin with.
fn prometheus(root: &Path, blocks: &Path, metas: &[BlockMeta]) -> bool {
    let data = root.join("prometheus");
    fs::create_dir_all(&data).unwrap();
    let metas: Vec<BlockMeta> = metas.to_vec();
    let shorter = metas.into_iter().map(|mut meta| {
        meta.max_time -= 1;
        meta
    });
    link(blocks, &data, &shorter.collect::<Vec<_>>());
    // The newest block is never compacted.
    let min = START_MS + N_BLOCKS * BLOCK_MS;
    let max = min + BLOCK_MS;
    let newest = BlockId::from_parts(min.cast_unsigned(), 9);
    make(&data, newest, TimeRange { min, max }, 1);
    let config = root.join("prometheus.yml");
    replace_file(&config, b"global: {}\n").unwrap();
    let flag = |name: &str, value: &dyn std::fmt::Display| format!("--{name}={value}");
    let log = fs::File::create(root.join("prometheus.log")).unwrap();
    let started = Command::new("prometheus")
        .arg(flag("config.file", &config.display()))
        .arg(flag("storage.tsdb.path", &data.display()))
        .arg(flag("storage.tsdb.min-block-duration", &"8h"))
        .arg(flag("storage.tsdb.max-block-duration", &"24h"))
        .arg(flag("web.listen-address", &"127.0.0.1:0"))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    let Ok(mut process) = started else {
        return false;
    };
    let id = process.id().to_string();
    // It looks for something to compact after a minute.
    std::thread::sleep(Duration::from_secs(30));
    let (before, base_kib) = (processor_times(&id), status_kib(&id, "VmRSS"));
    let began = Instant::now();
    let made = loop {
        std::thread::sleep(Duration::from_millis(500));
        let found = fs::read_dir(&data).unwrap().flatten();
        let found = found.filter_map(|entry| BlockMeta::read(&entry.path()).ok());
        if let Some(made) = found.into_iter().find(|meta| meta.compaction.level == 2) {
            break made;
        }
        assert!(
            began.elapsed() < Duration::from_mins(10),
            "see prometheus.log"
        );
    };
    let (user, kernel) = processor_times(&id);
    let seconds = user - before.0 + kernel - before.1;
    let most = status_kib(&id, "VmHWM").saturating_sub(base_kib) / 1024;
    process.kill().unwrap();
    process.wait().unwrap();
    let n_samples = made.stats.num_samples;
    println!(
        "prometheus: {:.1} M samples/s of processor time ({:.1} M samples, {seconds:.2} s), at most {most} MiB more resident than before",
        n_samples as f64 / seconds / 1e6,
        n_samples as f64 / 1e6,
    );
    fs::remove_dir_all(&data).unwrap();
    true
}
