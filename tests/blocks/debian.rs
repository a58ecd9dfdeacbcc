//! Sixty days of blocks that promtool wrote, in a bucket that is kept in order day after day.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;

use gauntlet::block::{Block, verify};
use gauntlet::bucket::{Bucket, BucketKind, BucketSettings, open};
use gauntlet::catalog::Catalog;
use gauntlet::compactor::{Compactor, CompactorSettings};
use gauntlet::foundation::pool::Pool;
use gauntlet::foundation::{Cancel, ManualClock};
use gauntlet::gateway::{Gateway, GatewaySettings};
use gauntlet::inventory::BucketInventory;
use gauntlet::model::number::format_openmetrics;
use gauntlet::model::{ExternalLabels, Labels, Resolution};
use gauntlet::promql::{Engine, EngineSettings, QueryOptions, QueryValue};
use gauntlet::storage::{ResolutionBounds, ResolutionWish};
use tokio::runtime::Handle;

use crate::promtool::{dump, has_promtool, promtool};
use crate::samples::{Dump, Numbers, block_dirs, read};
use crate::windows::assert_add_up;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// A multiple of fourteen days, and in the future: blocks are older than the clock that the compactor reads.
const START: i64 = 2_800 * 14 * DAY_MS;
const DAYS: i64 = 60;
/// Days between two uploads.
const STEP: i64 = 2;
/// Between two samples.
const EVERY_MS: i64 = 120_000;
const KINDS: [&str; 5] = ["counted", "gapped", "wave", "whole", "flat"];
const SERIES: usize = 20;

fn labels(series: usize) -> Labels {
    let name = match KINDS[series % 5] {
        kind @ ("counted" | "gapped") => format!("{kind}_total"),
        kind => kind.to_owned(),
    };
    let instance = format!("host-{series:02}");
    let job = if series.is_multiple_of(2) {
        "even"
    } else {
        "odd"
    };
    Labels::new(&[
        ("__name__", name.as_str()),
        ("instance", &instance),
        ("job", job),
    ])
    .unwrap()
}

/// Is there a sample at `t`? Some series come late and go early, some have gaps of hours and one of days.
fn is_there(series: usize, t: i64) -> bool {
    let since = t - START;
    let is_gap = since / HOUR_MS % 40 < 3 || (20..23).contains(&(since / DAY_MS));
    let is_alive = series < 15 || (7..33).contains(&(since / DAY_MS));
    is_alive && (series % 5 != 1 || !is_gap)
}

/// Counters that start anew now and then, gauges, whole numbers and flat lines, a bit off their schedule.
fn samples(series: usize) -> Vec<(i64, u64)> {
    let mut numbers = Numbers(series as u64 + 9);
    let mut total = 0.0;
    let mut all = Vec::new();
    for i in 0..u32::try_from(DAYS * DAY_MS / EVERY_MS).unwrap() {
        let late = i64::from(numbers.below(if series.is_multiple_of(2) { 1 } else { 700 }));
        let t = START + i64::from(i) * EVERY_MS + late;
        total += f64::from(numbers.below(30));
        if numbers.below(2000) == 0 {
            total = 0.0;
        }
        let v = match series % 5 {
            0 | 1 => total,
            2 => (f64::from(i) / 360.0).sin() * 1e4,
            3 => f64::from(numbers.below(1000)) - 500.0,
            _ => 1.0,
        };
        if is_there(series, t) {
            all.push((t, v.to_bits()));
        }
    }
    all
}

type Series = (Labels, Vec<(i64, u64)>);

/// Has promtool write the blocks of `STEP` days that begin with day `day`.
fn write_blocks(root: &Path, day: i64, all: &[Series]) {
    let (min, max) = (START + day * DAY_MS, START + (day + STEP) * DAY_MS);
    let mut text = String::new();
    for (labels, samples) in all {
        let pairs = labels.iter().filter(|(name, _)| *name != "__name__");
        let pairs: Vec<String> = pairs.map(|(name, v)| format!("{name}=\"{v}\"")).collect();
        let series = format!("{}{{{}}}", labels.metric_name(), pairs.join(","));
        let from = samples.partition_point(|(t, _)| *t < min);
        let to = samples.partition_point(|(t, _)| *t < max);
        for (t, bits) in &samples[from..to] {
            let v = format_openmetrics(f64::from_bits(*bits));
            writeln!(text, "{series} {v} {}.{:03}", t / 1000, t % 1000).unwrap();
        }
    }
    text.push_str("# EOF\n");
    let input = root.join(format!("day-{day:02}.om"));
    let mut file = File::create(&input).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let args = ["tsdb", "create-blocks-from", "openmetrics"];
    let out = slice(root, day);
    promtool(&[&args[..], &[input.to_str().unwrap()]].concat(), &out);
    std::fs::remove_file(input).unwrap();
}

fn slice(root: &Path, day: i64) -> PathBuf {
    root.join(format!("day-{day:02}"))
}

/// Several at once: mostly they wait for the disk. Each reserves half a gigabyte while it writes.
fn write_all_blocks(root: &Path, all: &[Series]) {
    let next = AtomicI64::new(0);
    let write = || {
        loop {
            let day = next.fetch_add(STEP, Ordering::Relaxed);
            if DAYS <= day {
                break;
            }
            write_blocks(root, day, all);
        }
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(write);
        }
    });
}

/// Copies of what is in a bucket, at no cost.
fn link_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            link_all(&path, &target);
        } else {
            std::fs::hard_link(&path, target).unwrap();
        }
    }
}

fn upload(blocks: &Path, bucket: &Path) {
    let yaml = format!(
        "{{type: FILESYSTEM, config: {{directory: \"{}\"}}}}",
        bucket.display()
    );
    let output = Command::new(env!("CARGO_BIN_EXE_gauntlet"))
        .args(["bucket", "upload-blocks", "--label", "cluster=\"a\""])
        .args(["--objstore.config", &yaml, "--path"])
        .arg(blocks)
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
}

/// A bucket, the clock of those who work on it, and what they did.
struct World {
    root: tempfile::TempDir,
    clock: ManualClock,
    compactor: Compactor,
    n_compacted: usize,
    n_downsampled: usize,
    n_deleted: usize,
}

/// Where nobody waits for a disk, if there is such a place.
fn in_memory() -> tempfile::TempDir {
    let made = tempfile::tempdir_in("/dev/shm");
    made.or_else(|_| tempfile::tempdir()).unwrap()
}

impl World {
    fn new() -> Self {
        let root = in_memory();
        std::fs::create_dir(root.path().join("bucket")).unwrap();
        let clock = ManualClock::new(START);
        let bucket = directory(&root.path().join("bucket"));
        let catalog = Catalog::absent("test".to_owned());
        let inventory = Arc::new(BucketInventory::new(bucket, catalog, 4));
        let threads = (Handle::current(), Pool::new("compactor", 2, 16).unwrap());
        let settings = CompactorSettings::new(root.path().join("scratch"));
        let compactor = Compactor::new(settings, inventory, Arc::new(clock.clone()), threads);
        Self {
            root,
            clock,
            compactor,
            n_compacted: 0,
            n_downsampled: 0,
            n_deleted: 0,
        }
    }

    fn bucket(&self) -> PathBuf {
        self.root.path().join("bucket")
    }

    /// All duties, once, at the end of day `day`.
    async fn work(&mut self, day: i64) {
        self.clock.set(START + day * DAY_MS + HOUR_MS);
        let go_on = Cancel::new();
        let compacted = self.compactor.compact(&go_on).await.unwrap();
        let downsampled = self.compactor.downsample(&go_on).await.unwrap();
        let retired = self.compactor.retire().await.unwrap();
        let cleaned = self.compactor.clean(&go_on).await.unwrap();
        assert!(
            compacted.failed.is_empty() && compacted.set_aside.is_empty(),
            "{compacted:?}"
        );
        assert!(
            downsampled.failed.is_empty() && downsampled.set_aside.is_empty(),
            "{downsampled:?}"
        );
        assert!(
            retired.retire.is_empty() && cleaned.failed.is_empty(),
            "{cleaned:?}"
        );
        assert!(cleaned.given_up.is_empty(), "{cleaned:?}");
        self.n_compacted += compacted.made.len();
        self.n_downsampled += downsampled.made.len();
        self.n_deleted += cleaned.deleted.len();
    }
}

fn directory(path: &Path) -> Arc<dyn Bucket> {
    let kind = BucketKind::Filesystem {
        directory: path.to_owned(),
    };
    let prefix = String::new();
    open(&BucketSettings { kind, prefix }).unwrap()
}

/// Blocks of a resolution, in time order.
fn blocks(bucket: &Path, resolution: Resolution) -> Vec<Block> {
    let all = block_dirs(bucket).into_iter();
    let all = all.map(|dir| Block::open(&dir).unwrap());
    let mut of: Vec<Block> = all
        .filter(|block| block.meta().resolution() == Some(resolution))
        .collect();
    of.sort_by_key(|block| block.meta().min_time);
    of
}

fn all_samples(blocks: &[Block]) -> Dump {
    let mut all = Dump::new();
    for block in blocks {
        for (labels, samples) in read(block) {
            all.entry(labels).or_default().extend(samples);
        }
    }
    all
}

/// Times and values, as bits, by the labels of the answer.
type Answer = Vec<(String, Vec<(i64, u64)>)>;

/// What queries over the sixty days answer.
async fn ask(
    bucket: &Path,
    cache: &Path,
    queries: &[&str],
    bounds: ResolutionBounds,
) -> Vec<Answer> {
    let external = Labels::new(&[("cluster", "a")]).unwrap();
    let settings = GatewaySettings::new(ExternalLabels(external), cache.join("cache"));
    let catalog = Catalog::open(&cache.join("catalog"));
    let clock = Arc::new(ManualClock::new(START + (DAYS + 10) * DAY_MS));
    let gateway = Gateway::new(
        settings,
        directory(bucket),
        catalog,
        clock,
        Handle::current(),
    );
    let gateway = gateway.unwrap();
    gateway.sync().await.unwrap();
    let engine = Engine::new(EngineSettings::default(), None);
    let options = QueryOptions {
        resolutions: bounds,
        ..QueryOptions::default()
    };
    let snapshot = gateway.snapshot();
    let (from, to) = (START + DAY_MS - 1, START + DAYS * DAY_MS - 1);
    let one = |query: &&str| {
        let output = engine.range(snapshot.own(), query, from, to, 6 * HOUR_MS, &options);
        let output = output.unwrap();
        let QueryValue::Columns(columns) = &output.value else {
            panic!("{output:?}");
        };
        let series = columns.to_matrix().into_iter().map(|series| {
            let points = series.floats.iter().map(|s| (s.t, s.v.to_bits()));
            (series.labels.to_string(), points.collect())
        });
        series.collect()
    };
    queries.iter().map(one).collect()
}

const QUERIES: [&str; 6] = [
    "sum by (job) (rate(counted_total[10m]))",
    "increase(gapped_total[1d])",
    "quantile_over_time(0.9, wave[6h])",
    "resets({__name__=~\".+_total\"}[1d])",
    "last_over_time(whole[7m]) - on (instance) group_right () whole offset 1d",
    "count_over_time({job=~\".+\"}[1d])",
];
/// What one-hour windows answer to the digit at the ends of windows.
const EXACT: [&str; 3] = [
    "count_over_time({job=~\".+\"}[1d])",
    "max_over_time(wave[6h])",
    "sum by (job) (sum_over_time(whole[1d]))",
];

/// What promtool finds in a block, and in all raw ones together.
fn assert_promtool_reads(world: &World, all: &Dump) {
    for resolution in [
        Resolution::Raw,
        Resolution::FiveMinutes,
        Resolution::OneHour,
    ] {
        let database = world.root.path().join(format!("of-{}", resolution.as_ms()));
        for block in blocks(&world.bucket(), resolution) {
            let id = block.meta().ulid.to_string();
            let dir = world.bucket().join(&id);
            let report = verify(&dir);
            assert!(report.is_healthy(), "{id}: {:?}", report.problems);
            link_all(&dir, &database.join(&id));
        }
        std::fs::create_dir_all(database.join("wal")).unwrap();
        let list = promtool(&["tsdb", "list"], &database);
        for block in blocks(&database, resolution) {
            let id = block.meta().ulid.to_string();
            assert!(list.contains(&id), "{list}");
            let analysis = analyze(&database, &id);
            let n_series = block.meta().stats.num_series;
            assert!(
                analysis.contains(&format!("Series: {n_series}\n")),
                "{analysis}"
            );
        }
    }
    let found = dump(&world.root.path().join("of-0"));
    assert!(found == *all, "promtool reads other samples");
}

fn analyze(database: &Path, block: &str) -> String {
    let output = Command::new("promtool")
        .args(["tsdb", "analyze"])
        .arg(database)
        .arg(block)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Two days are uploaded, then everything is done that is due; what was uploaded stays in `before`.
async fn live_through(world: &mut World, series: &[Series], before: &Path) {
    let theirs = tempfile::tempdir().unwrap();
    write_all_blocks(theirs.path(), series);
    for day in (0..DAYS).step_by(2) {
        let slice = slice(theirs.path(), day);
        let made = block_dirs(&slice);
        assert_eq!(made.len(), 24, "blocks of two hours");
        upload(&slice, &world.bucket());
        for dir in made {
            let name = dir.file_name().unwrap();
            link_all(&world.bucket().join(name), &before.join(name));
        }
        std::fs::remove_dir_all(slice).unwrap();
        world.work(day + STEP).await;
    }
    // What was replaced goes two days after it was marked.
    world.work(DAYS + 3).await;
}

/// Raw samples are those that were written, and aggregates what they add up to.
fn assert_samples(world: &World, all: &Dump) {
    let of = |resolution| blocks(&world.bucket(), resolution);
    let raw = of(Resolution::Raw);
    let (fives, hours) = (of(Resolution::FiveMinutes), of(Resolution::OneHour));
    let spans = |blocks: &[Block]| -> Vec<i64> {
        let ranges = blocks.iter().map(|block| block.meta().range());
        let spans = ranges.map(|range| (range.max - range.min) / HOUR_MS);
        spans.collect()
    };
    // From the first sample to the last one, in whole hours: fourteen days, two days, eight and two hours.
    let (old, newest) = ([335; 4], [47, 7, 7, 7, 7, 7, 1, 1, 1, 1]);
    assert_eq!(spans(&raw), [&old[..], &newest].concat());
    assert_eq!(spans(&fives), [&old[..], &newest[..1]].concat());
    assert_eq!(spans(&hours), old);
    let n_made = 720 + world.n_compacted + world.n_downsampled;
    let n_left = raw.len() + fives.len() + hours.len();
    assert_eq!(
        n_made - world.n_deleted,
        n_left,
        "what was replaced is gone"
    );

    assert!(all_samples(&raw) == *all, "raw samples are other ones");
    // Blocks end with their last sample, not with the last window.
    let end = |blocks: &[Block]| (blocks.last().unwrap().meta().max_time / DAY_MS + 1) * DAY_MS;
    let is_counter = |labels: &str| labels.contains("_total");
    for (blocks, resolution) in [
        (fives, Resolution::FiveMinutes),
        (hours, Resolution::OneHour),
    ] {
        let n_windows = assert_add_up(&blocks, (all, end(&blocks)), resolution, is_counter);
        assert!(20_000 < n_windows, "{n_windows}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_days_of_promtools_blocks_stay_the_same_and_add_up() {
    if !has_promtool() {
        return;
    }
    let series: Vec<Series> = (0..SERIES).map(|n| (labels(n), samples(n))).collect();
    let mut world = World::new();
    let [before, was, is] = ["before", "was", "is"].map(|name| world.root.path().join(name));
    live_through(&mut world, &series, &before).await;
    let all = series
        .into_iter()
        .map(|(labels, samples)| (labels.to_string(), samples));
    let all: Dump = all.collect();
    let uploaded = all_samples(&blocks(&before, Resolution::Raw));
    assert!(uploaded == all, "promtool wrote other samples");
    assert_samples(&world, &all);
    assert_promtool_reads(&world, &all);

    let (now, raw_only) = (world.bucket(), ResolutionBounds::RAW_ONLY);
    let expect = ask(&before, &was, &QUERIES, raw_only).await;
    let found = ask(&now, &is, &QUERIES, raw_only).await;
    assert!(found == expect, "raw answers are other ones");
    let n_points = |answer: &Answer| answer.iter().map(|(_, points)| points.len()).sum::<usize>();
    assert!(expect.iter().all(|answer| 400 < n_points(answer)));
    let coarse = ResolutionWish::AtMost(Resolution::OneHour).bounds(0);
    let expect = ask(&before, &was, &EXACT, raw_only).await;
    let found = ask(&now, &is, &EXACT, coarse).await;
    for ((query, found), expect) in EXACT.iter().zip(found).zip(expect) {
        let is_same = found == expect && 400 < n_points(&expect);
        assert!(is_same, "{query} is another one from windows of an hour");
    }
}
