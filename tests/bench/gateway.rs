//! A bucket of ten thousand small blocks, in a directory and in S3: the first sync, a start that knows them, what idling
//! asks and holds, all index headers, and a question that opens every block.
//!
//! `cargo bench --bench gateway`, or with the number of blocks as argument. The S3 server runs in this process, and takes
//! most of the time of a listing.
//!
//! Two cores, 10,000 blocks of 100 series: ready after a restart in 0.15 s (directory) and 0.14 s (S3); idle 127 and 147 MiB
//! resident, 3 and 80 requests an hour; a question about every block 2.4 s and, nothing cached, 22 s (538 s before blocks
//! were begun at once) with 413 MiB resident (1,050 before they shared memory).
#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a bench measures time, prints and stops at the first failure"
)]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gauntlet::block::{BlockMeta, NewBlock, ThanosMeta, write_block};
use gauntlet::bucket::{
    Bucket, BucketKind, BucketSettings, MeteredBucket, S3Credentials, S3Settings, open,
};
use gauntlet::catalog::Catalog;
use gauntlet::chunk::encode_floats;
use gauntlet::foundation::SystemClock;
use gauntlet::gateway::{Gateway, GatewaySettings};
use gauntlet::model::{BlockId, ExternalLabels, Interval, Labels, Matcher, TimeRange};
use gauntlet::storage::{
    ChunkSeries, ChunkSlice, LabelHints, Queryable, SelectHints, VecSeriesSet,
};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

#[path = "../peers/s3.rs"]
mod peer;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const START_MS: i64 = 1_700_000_000_000;
const BLOCK_MS: i64 = 7_200_000;
const SERIES: usize = 100;
/// What appliance.toml ships with.
const SYNC_EVERY: Duration = Duration::from_mins(5);

fn id(n: u64) -> BlockId {
    BlockId::from_parts(START_MS.cast_unsigned(), u128::from(n))
}

fn external() -> Labels {
    Labels::new(&[("cluster", "c1")]).expect("valid labels")
}

fn series(number: usize) -> ChunkSeries {
    let times: Vec<i64> = (0..120).map(|n| START_MS + n * 60_000).collect();
    let values: Vec<f64> = (0_u32..120).map(|n| f64::from(n * 7 % 13)).collect();
    let number = number.to_string();
    let chunks = encode_floats(&times, &values).expect("samples in order");
    ChunkSeries {
        labels: Labels::new(&[("__name__", "up"), ("instance", &number)]).expect("valid labels"),
        chunks: chunks
            .into_iter()
            .map(|chunk| ChunkSlice {
                min_t: chunk.min_t,
                max_t: chunk.max_t,
                encoding: chunk.encoding,
                data: chunk.data.into(),
            })
            .collect(),
    }
}

/// `n` blocks one after the other, with the same files.
fn write_bucket(dir: &Path, n: u64) {
    let range = TimeRange {
        min: START_MS,
        max: START_MS + BLOCK_MS,
    };
    let mut new = NewBlock::new(id(0), range);
    let labels = external();
    new.thanos = Some(ThanosMeta {
        version: 1,
        labels: labels
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        ..ThanosMeta::default()
    });
    let mut set = VecSeriesSet::new((0..SERIES).map(series).collect(), Vec::new());
    write_block(dir, new, &mut set)
        .expect("the block is written")
        .expect("it is not empty");
    let first = dir.join(id(0).to_string());
    fs::remove_file(first.join("tombstones")).ok();
    let mut meta = BlockMeta::read(&first).expect("it has a meta.json");
    for number in 1..n {
        let block = dir.join(id(number).to_string());
        fs::create_dir_all(block.join("chunks")).expect("there is room");
        for name in ["index", "chunks/000001"] {
            fs::hard_link(first.join(name), block.join(name)).expect("one file system");
        }
        (meta.ulid, meta.compaction.sources) = (id(number), vec![id(number)]);
        (meta.min_time, meta.max_time) = (meta.max_time, meta.max_time + BLOCK_MS);
        let mut file = File::create(block.join("meta.json")).expect("there is room");
        file.write_all(&meta.encode()).expect("there is room");
    }
}

/// Resident bytes: all, and those that are no file pages.
fn resident_mib() -> (f64, f64) {
    let text = fs::read_to_string("/proc/self/status").expect("proc is mounted");
    let kib = |name: &str| -> f64 {
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(name));
        let value = value.and_then(|value| value.split_whitespace().next()?.parse().ok());
        value.unwrap_or_default()
    };
    (kib("VmRSS:") / 1024.0, kib("RssAnon:") / 1024.0)
}

fn serve_s3(runtime: &Runtime, root: &Path) -> String {
    let listener = runtime
        .block_on(TcpListener::bind("127.0.0.1:0"))
        .expect("a free port");
    let endpoint = listener.local_addr().expect("it is bound").to_string();
    let served = root.to_owned();
    runtime.spawn(async move { peer::serve(listener, &served, Some(peer::KEY), |_| ()).await });
    endpoint
}

/// Requests so far: as HTTP counts them where there is HTTP, else as the bucket was asked.
fn n_requests(bucket: &MeteredBucket) -> u64 {
    match bucket.requests() {
        Some(requests) => requests
            .counts()
            .iter()
            .map(|(_, counts)| counts.n_sent)
            .sum(),
        None => {
            let counts = bucket.counts();
            counts.iter().map(|(_, counts)| counts.n_started).sum()
        }
    }
}

struct Bench {
    runtime: Runtime,
    bucket: Arc<MeteredBucket>,
    work: tempfile::TempDir,
}

impl Bench {
    fn gateway(&self) -> Arc<Gateway> {
        let settings =
            GatewaySettings::new(ExternalLabels(external()), self.work.path().join("cache"));
        let catalog = Catalog::open(&self.work.path().join("catalog"));
        let bucket = Arc::clone(&self.bucket) as Arc<dyn Bucket>;
        let clock = Arc::new(SystemClock);
        let handle = self.runtime.handle().clone();
        Arc::new(Gateway::new(settings, bucket, catalog, clock, handle).expect("there is room"))
    }

    fn line(&self, what: &str, began: Instant, before: u64) {
        let (all, anonymous) = resident_mib();
        println!(
            "  {what:<34} {:>9.3} s {:>7} requests, resident {all:>5.0} MiB ({anonymous:.0} of it no file pages)",
            began.elapsed().as_secs_f64(),
            n_requests(&self.bucket) - before,
        );
    }

    fn run(&self) {
        let (began, before) = (Instant::now(), n_requests(&self.bucket));
        let gateway = self.gateway();
        let report = self.runtime.block_on(gateway.sync());
        let n = report.expect("the bucket answers").n_served;
        self.line(&format!("first sync of {n} blocks"), began, before);
        drop(gateway);

        let (began, before) = (Instant::now(), n_requests(&self.bucket));
        let gateway = self.gateway();
        assert_eq!(
            gateway.snapshot().blocks().len(),
            n,
            "all are served at once"
        );
        self.line("ready after a restart", began, before);

        let (began, before) = (Instant::now(), n_requests(&self.bucket));
        self.runtime
            .block_on(gateway.sync())
            .expect("the bucket answers");
        let a_sync = n_requests(&self.bucket) - before;
        self.line("a sync that finds nothing new", began, before);
        let pause = gateway.sync_pause_min().max(SYNC_EVERY);
        let an_hour = a_sync as f64 * 3_600.0 / pause.as_secs_f64();
        println!("  idle: a sync every {pause:?}, {an_hour:.0} requests an hour");

        let (began, before) = (Instant::now(), n_requests(&self.bucket));
        self.runtime.block_on(gateway.fetch_headers());
        self.line("index headers that are not here", began, before);

        for what in ["labels of every block", "the same again"] {
            self.ask_labels(&gateway, what);
        }
        for what in ["one block, cold", "one block, warm"] {
            let last = START_MS + BLOCK_MS - 1;
            self.ask(&gateway, what, START_MS..=last);
        }
        for what in ["a question about every block", "the same again"] {
            self.ask(&gateway, what, i64::MIN..=i64::MAX);
        }
        let status = gateway.status();
        println!(
            "  {} blocks open, {} MiB of pages in memory, {} MiB on disk",
            status.n_open,
            status.memory_bytes >> 20,
            status.cached_bytes >> 20
        );
    }

    /// Values of a label over series that match, so that postings and series are read too.
    fn ask_labels(&self, gateway: &Arc<Gateway>, what: &str) {
        let (began, before) = (Instant::now(), n_requests(&self.bucket));
        let snapshot = gateway.snapshot();
        let matcher = Matcher::equal("__name__", "up");
        let hints = LabelHints::new(Interval::ALL);
        let answer = snapshot.label_values("instance", &[matcher], &hints);
        let answer = answer.expect("the bucket answers");
        assert_eq!(answer.values.len(), SERIES, "each value once");
        self.line(what, began, before);
    }

    fn ask(&self, gateway: &Arc<Gateway>, what: &str, times: std::ops::RangeInclusive<i64>) {
        let (began, before) = (Instant::now(), n_requests(&self.bucket));
        let snapshot = gateway.snapshot();
        let hints = SelectHints::new(Interval {
            min: *times.start(),
            max: *times.end(),
        });
        let mut set = snapshot.select(&[], &hints).expect("the bucket answers");
        let mut n_series = 0;
        while let Some(series) = set.next() {
            series.expect("the bucket answers");
            n_series += 1;
        }
        assert_eq!(n_series, SERIES, "each series once");
        self.line(what, began, before);
    }
}

fn main() {
    let n = std::env::args().find_map(|text| text.parse().ok());
    let n: u64 = n.unwrap_or(10_000);
    let root = tempfile::tempdir().expect("there is room");
    let directory = root.path().join("blocks");
    fs::create_dir_all(&directory).expect("there is room");
    write_bucket(&directory, n);
    let runtime = Runtime::new().expect("threads");
    let endpoint = serve_s3(&runtime, root.path());
    let s3 = S3Settings {
        bucket: "blocks".to_owned(),
        endpoint: Some(endpoint),
        credentials: Some(S3Credentials {
            access_key: "key".to_owned(),
            secret_key: "secret".to_owned(),
            session_token: None,
        }),
        insecure: true,
        ..S3Settings::default()
    };
    for (name, kind) in [
        ("directory", BucketKind::Filesystem { directory }),
        ("S3", BucketKind::S3(Box::new(s3))),
    ] {
        println!("{name}:");
        let prefix = String::new();
        let bucket = open(&BucketSettings { kind, prefix }).expect("a bucket");
        let bench = Bench {
            runtime: Runtime::new().expect("threads"),
            bucket: Arc::new(MeteredBucket::new(bucket)),
            work: tempfile::tempdir().expect("there is room"),
        };
        bench.run();
    }
    runtime.shutdown_background();
}
