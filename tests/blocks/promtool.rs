//! promtool reads our blocks, and we read the ones it makes.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use gauntlet::block::{Block, NewBlock, merge_blocks, verify, write_block};
use gauntlet::chunk::XorAppender;
use gauntlet::model::number::format_openmetrics;
use gauntlet::model::{BlockId, Encoding, Interval, Matcher, TimeRange};
use gauntlet::storage::{Queryable, SelectHints};

use crate::samples::{Dump, block_dirs, labels, parse_dump, read, samples, series_set};

const START_MS: i64 = 1_700_006_400_000;

/// Is the tool there? Where it must be, its absence fails; elsewhere it is said aloud.
pub(crate) fn has_promtool() -> bool {
    let found = Command::new("promtool").arg("--version").output().is_ok();
    if !found {
        assert!(
            std::env::var_os("CI").is_none(),
            "promtool is not installed"
        );
        std::io::stderr()
            .write_all(b"SKIPPED: promtool is not installed (Debian package prometheus)\n")
            .unwrap();
    }
    found
}

pub(crate) fn promtool(args: &[&str], dir: &Path) -> String {
    let output = Command::new("promtool")
        .args(args)
        .arg(dir)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {args:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// What promtool reads in a database directory.
pub(crate) fn dump(dir: &Path) -> Dump {
    std::fs::create_dir_all(dir.join("wal")).unwrap();
    parse_dump(&promtool(&["tsdb", "dump"], dir))
}

fn id(n: u128) -> BlockId {
    BlockId::from_parts(1_700_013_600_000, n)
}

fn range(from_ms: i64, to_ms: i64) -> TimeRange {
    TimeRange {
        min: START_MS + from_ms,
        max: START_MS + to_ms,
    }
}

#[test]
fn promtool_reads_the_samples_of_a_block_we_wrote() {
    if !has_promtool() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let new = NewBlock::new(id(1), range(0, 7_200_000));
    let meta = write_block(root.path(), new, &mut series_set(300, 400, START_MS))
        .unwrap()
        .unwrap();
    let block = Block::open(&root.path().join(meta.ulid.to_string())).unwrap();
    let ours = read(&block);
    assert_eq!(ours.len(), 300);
    assert_eq!(ours.values().map(Vec::len).sum::<usize>(), 300 * 400);
    assert_eq!(dump(root.path()), ours);
    let analysis = promtool(&["tsdb", "analyze"], root.path());
    assert!(analysis.contains("Series: 300"), "{analysis}");
    let list = promtool(&["tsdb", "list"], root.path());
    assert!(list.contains(&meta.ulid.to_string()), "{list}");
}

#[test]
fn promtool_reads_merged_blocks_and_leaves_out_what_was_deleted() {
    if !has_promtool() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let parts = root.path().join("parts");
    std::fs::create_dir(&parts).unwrap();
    let mut sources: Vec<Arc<dyn Queryable>> = Vec::new();
    for (n, (from, to)) in (1..).zip([(0, 2_000_000), (1_500_000, 7_200_000)]) {
        let new = NewBlock::new(id(n), range(from, to));
        let meta = write_block(&parts, new, &mut series_set(50, 400, START_MS))
            .unwrap()
            .unwrap();
        sources.push(Arc::new(
            Block::open(&parts.join(meta.ulid.to_string())).unwrap(),
        ));
    }
    let mut new = NewBlock::new(id(3), range(0, 7_200_000));
    new.level = 2;
    new.sources = vec![id(1), id(2)];
    let database = root.path().join("database");
    std::fs::create_dir(&database).unwrap();
    let meta = merge_blocks(&database, new, &sources).unwrap().unwrap();
    let dir = database.join(meta.ulid.to_string());
    let merged = read(&Block::open(&dir).unwrap());
    assert_eq!(merged.values().map(Vec::len).sum::<usize>(), 50 * 400);
    assert_eq!(dump(&database), merged);

    let gone = Interval {
        min: START_MS + 100_000,
        max: START_MS + 2_900_000,
    };
    let block = Block::open(&dir).unwrap();
    block
        .delete(&[Matcher::equal("__name__", "metric_1_total")], gone)
        .unwrap();
    block
        .delete(&[Matcher::equal("instance", "host-0003")], Interval::ALL)
        .unwrap();
    let left = read(&Block::open(&dir).unwrap());
    assert_eq!(left.len(), 49);
    assert_eq!(dump(&database), left);
}

/// Two hours and a bit in OpenMetrics text: promtool cuts it into blocks.
fn openmetrics(n_series: u32) -> String {
    let mut text = String::new();
    for name in 0..5 {
        text.push_str(&format!("# TYPE metric_{name} counter\n"));
        for number in (0..n_series).filter(|number| number % 5 == name) {
            let labels = labels(number);
            let pairs: Vec<String> = labels
                .iter()
                .filter(|(name, _)| *name != "__name__")
                .map(|(name, value)| {
                    let value = value
                        .replace('\\', "\\\\")
                        .replace('"', "\\\"")
                        .replace('\n', "\\n");
                    format!("{name}=\"{value}\"")
                })
                .collect();
            for sample in samples(number, 600, START_MS) {
                text.push_str(&format!(
                    "{}{{{}}} {} {}.{:03}\n",
                    labels.metric_name(),
                    pairs.join(","),
                    format_openmetrics(sample.v),
                    sample.t / 1000,
                    sample.t % 1000,
                ));
            }
        }
    }
    text.push_str("# EOF\n");
    text
}

fn made_by_promtool(root: &Path) -> std::path::PathBuf {
    let input = root.join("input.om");
    std::fs::File::create(&input)
        .unwrap()
        .write_all(openmetrics(40).as_bytes())
        .unwrap();
    let out = root.join("out");
    let input = input.to_str().unwrap();
    promtool(&["tsdb", "create-blocks-from", "openmetrics", input], &out);
    out
}

#[test]
fn a_block_made_by_promtool_is_read_as_promtool_reads_it() {
    if !has_promtool() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let out = made_by_promtool(root.path());
    let dirs = block_dirs(&out);
    assert_eq!(dirs.len(), 2);
    let mut ours = Dump::new();
    for dir in &dirs {
        let report = verify(dir);
        assert!(report.is_healthy(), "{report:?}");
        for (labels, samples) in read(&Block::open(dir).unwrap()) {
            ours.entry(labels).or_default().extend(samples);
        }
    }
    assert_eq!(ours.values().map(Vec::len).sum::<usize>(), 40 * 600);
    assert_eq!(ours, dump(&out));
}

#[test]
fn a_block_made_by_promtool_and_written_again_has_the_same_bytes() {
    if !has_promtool() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let out = made_by_promtool(root.path());
    let again = root.path().join("again");
    std::fs::create_dir(&again).unwrap();
    for dir in block_dirs(&out) {
        let block = Block::open(&dir).unwrap();
        let mut new = NewBlock::new(block.meta().ulid, block.meta().range());
        new.sources.clone_from(&block.meta().compaction.sources);
        let mut series = block.select(&[], &SelectHints::new(Interval::ALL)).unwrap();
        let meta = write_block(&again, new, &mut *series).unwrap().unwrap();
        let copy = again.join(meta.ulid.to_string());
        let both = |name: &str| {
            let of = |dir: &Path| std::fs::read(dir.join(name)).unwrap();
            (of(&dir), of(&copy))
        };
        let (theirs, ours) = both("chunks/000001");
        assert_eq!(theirs, ours);
        let (theirs, ours) = both("tombstones");
        assert_eq!(theirs, ours);
        // Up to the end of the series: this release still writes label indices behind them.
        let (theirs, ours) = both("index");
        let series_end = usize::try_from(block.index().toc().label_indices).unwrap();
        assert!(1000 < series_end);
        assert_eq!(theirs[..series_end], ours[..series_end]);
        assert_eq!(read(&Block::open(&copy).unwrap()), read(&block));
    }
}

#[test]
fn chunks_encoded_again_have_the_bytes_that_prometheus_gave_them() {
    if !has_promtool() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let out = made_by_promtool(root.path());
    let mut n_chunks = 0;
    for dir in block_dirs(&out) {
        let block = Block::open(&dir).unwrap();
        let mut set = block.select(&[], &SelectHints::new(Interval::ALL)).unwrap();
        while let Some(series) = set.next() {
            let series = series.unwrap();
            for chunk in series.chunks {
                assert_eq!(chunk.encoding, Encoding::Xor);
                let (mut times, mut values) = (Vec::new(), Vec::new());
                gauntlet::chunk::decode_floats(
                    chunk.encoding,
                    &chunk.data,
                    &mut times,
                    &mut values,
                )
                .unwrap();
                let mut appender = XorAppender::new();
                for (t, v) in times.into_iter().zip(values) {
                    appender.append(t, v).unwrap();
                }
                assert_eq!(appender.bytes(), &chunk.data[..], "{}", series.labels);
                n_chunks += 1;
            }
        }
    }
    assert!(100 < n_chunks, "{n_chunks}");
}
