//! What the benches of the compactor share: blocks of floats, a bucket that is read in ranges, and what work takes.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gauntlet::block::{BlockMeta, NewBlock, ThanosMeta, write_block};
use gauntlet::bucket::{Bucket, BucketFuture, BucketKind, BucketSettings, ObjectInfo, open};
use gauntlet::catalog::Catalog;
use gauntlet::chunk::{EncodedChunk, encode_floats};
use gauntlet::compactor::{Compactor, CompactorSettings};
use gauntlet::foundation::buffers::Buffers;
use gauntlet::foundation::{Pool, SystemClock};
use gauntlet::inventory::BucketInventory;
use gauntlet::model::{BlockId, Labels, TimeRange};
use gauntlet::storage::{ChunkSeries, ChunkSlice, SeriesSet, StorageError};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Midnight, as a block of any length may begin.
pub(crate) const START_MS: i64 = 1_699_920_000_000;
pub(crate) const STEP_MS: i64 = 15_000;
pub(crate) const HOUR_MS: i64 = 3_600_000;

/// A directory that does not say so: it is read in ranges, as what is far away.
#[derive(Debug)]
pub(crate) struct Ranged(Arc<dyn Bucket>);

impl Ranged {
    pub(crate) fn open(path: &Path) -> Arc<dyn Bucket> {
        Arc::new(Self(directory(path)))
    }
}

/// A directory as it is.
pub(crate) fn directory(path: &Path) -> Arc<dyn Bucket> {
    let kind = BucketKind::Filesystem {
        directory: path.to_owned(),
    };
    let prefix = String::new();
    open(&BucketSettings { kind, prefix }).unwrap()
}

impl Bucket for Ranged {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn put<'a>(&'a self, key: &'a str, content: Bytes) -> BucketFuture<'a, ()> {
        self.0.put(key, content)
    }
    fn upload<'a>(&'a self, key: &'a str, file: &'a Path) -> BucketFuture<'a, u64> {
        self.0.upload(key, file)
    }
    fn get<'a>(&'a self, key: &'a str, size_max: u64) -> BucketFuture<'a, Bytes> {
        self.0.get(key, size_max)
    }
    fn get_range<'a>(&'a self, key: &'a str, range: Range<u64>) -> BucketFuture<'a, Bytes> {
        self.0.get_range(key, range)
    }
    fn get_part<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
        buffers: &'a Buffers,
    ) -> BucketFuture<'a, Bytes> {
        self.0.get_part(key, range, buffers)
    }
    fn download<'a>(&'a self, key: &'a str, file: &'a Path) -> BucketFuture<'a, u64> {
        self.0.download(key, file)
    }
    fn head<'a>(&'a self, key: &'a str) -> BucketFuture<'a, ObjectInfo> {
        self.0.head(key)
    }
    fn list<'a>(&'a self, dir: &'a str) -> BucketFuture<'a, Vec<ObjectInfo>> {
        self.0.list(dir)
    }
    fn list_dirs(&self) -> BucketFuture<'_, Vec<String>> {
        self.0.list_dirs()
    }
    fn delete<'a>(&'a self, key: &'a str) -> BucketFuture<'a, ()> {
        self.0.delete(key)
    }
    fn local_path(&self, _: &str) -> Option<PathBuf> {
        None
    }
}

/// A compactor of that bucket that works in `scratch`.
pub(crate) fn compactor(runtime: &Runtime, bucket: Arc<dyn Bucket>, scratch: &Path) -> Compactor {
    let mut settings = CompactorSettings::new(scratch.to_owned());
    settings.consistency_delay_ms = 0;
    let catalog = Catalog::absent("a bench".to_owned());
    let inventory = Arc::new(BucketInventory::new(bucket, catalog, 4));
    let pool = Pool::new("bench", 1, 4).unwrap();
    let handle = runtime.handle().clone();
    Compactor::new(settings, inventory, Arc::new(SystemClock), (handle, pool))
}

/// A block as a bucket has it, of counters, gauges and flat lines.
pub(crate) fn make(dir: &Path, id: BlockId, range: TimeRange, n_series: u32) -> BlockMeta {
    let mut series = Floats {
        range,
        n_series,
        next: 0,
    };
    let mut new = NewBlock::new(id, range);
    new.thanos = Some(ThanosMeta {
        version: 1,
        labels: [("cluster".to_owned(), "a".to_owned())].into(),
        source: "sidecar".to_owned(),
        ..ThanosMeta::default()
    });
    let meta = write_block(dir, new, &mut series).unwrap().unwrap();
    fs::remove_file(dir.join(id.to_string()).join("tombstones")).unwrap();
    meta
}

struct Floats {
    range: TimeRange,
    n_series: u32,
    next: u32,
}

impl SeriesSet for Floats {
    fn next(&mut self) -> Option<Result<ChunkSeries, StorageError>> {
        let n = self.next;
        if n == self.n_series {
            return None;
        }
        self.next += 1;
        let (instance, path) = (format!("host-{:05}", n / 10), format!("/path/{}", n % 10));
        let labels = [
            ("__name__", "http_requests_total"),
            ("cluster", "eu-north-1"),
            ("instance", &instance),
            ("job", "api"),
            ("path", &path),
        ];
        let times: Vec<i64> = (self.range.min..self.range.max)
            .step_by(usize::try_from(STEP_MS).unwrap())
            .map(|t| t + i64::from(n % 977))
            .collect();
        let mut total = f64::from(n);
        let values: Vec<f64> = (0..times.len())
            .map(|i| {
                total += match n % 3 {
                    // A counter that is reset now and then.
                    0 if i % 5_000 == 4_999 => -total,
                    0 => f64::from(n % 17),
                    1 => (i as f64 * 0.1).sin(),
                    _ => 0.0,
                };
                total
            })
            .collect();
        let chunks = encode_floats(&times, &values).unwrap();
        Some(Ok(ChunkSeries {
            labels: Labels::new(&labels).unwrap(),
            chunks: chunks.into_iter().map(slice).collect(),
        }))
    }
}

pub(crate) fn slice(chunk: EncodedChunk) -> ChunkSlice {
    ChunkSlice {
        min_t: chunk.min_t,
        max_t: chunk.max_t,
        encoding: chunk.encoding,
        data: Bytes::from(chunk.data),
    }
}

/// Processor time of a process, its own and the kernel's, as the kernel counts it: in hundredths.
pub(crate) fn processor_times(process: &str) -> (f64, f64) {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace();
    let mut seconds = fields
        .skip(11)
        .map(|field| field.parse::<u64>().unwrap() as f64 / 100.0);
    (seconds.next().unwrap(), seconds.next().unwrap())
}

/// A line of a process' status, in KiB.
pub(crate) fn status_kib(process: &str, line: &str) -> u64 {
    kib(
        &fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default(),
        line,
    )
}

fn kib(status: &str, line: &str) -> u64 {
    let value = status.lines().find_map(|found| found.strip_prefix(line));
    let value = value.and_then(|value| value.trim_start_matches(':').split_whitespace().next());
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// Looks at this process, and at a directory, every few milliseconds while something is done.
pub(crate) struct Watcher {
    began: Instant,
    cpu: (f64, f64),
    anonymous_kib: u64,
    all_kib: u64,
    is_over: Arc<AtomicBool>,
    most: Arc<[AtomicU64; 3]>,
    /// Says what it took itself.
    thread: JoinHandle<(f64, f64)>,
}

/// What something took beyond what was there before, in seconds and MiB.
pub(crate) struct Cost {
    pub(crate) seconds: f64,
    /// Of these the kernel's.
    pub(crate) kernel_seconds: f64,
    pub(crate) wall: Duration,
    pub(crate) anonymous: u64,
    pub(crate) resident: u64,
    pub(crate) scratch: u64,
}

impl Watcher {
    pub(crate) fn start(directory: &Path) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let most = Arc::new([const { AtomicU64::new(0) }; 3]);
        let (over, seen, directory) = (
            Arc::clone(&is_over),
            Arc::clone(&most),
            directory.to_owned(),
        );
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
                let now = [
                    kib(&status, "RssAnon"),
                    kib(&status, "VmRSS"),
                    n_bytes(&directory) / 1024,
                ];
                for (most, now) in seen.iter().zip(now) {
                    most.fetch_max(now, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            processor_times("thread-self")
        });
        Self {
            began: Instant::now(),
            cpu: processor_times("self"),
            anonymous_kib: status_kib("self", "RssAnon"),
            all_kib: status_kib("self", "VmRSS"),
            is_over,
            most,
            thread,
        }
    }

    pub(crate) fn stop(self) -> Cost {
        let (user, kernel) = processor_times("self");
        let wall = self.began.elapsed();
        self.is_over.store(true, Ordering::Relaxed);
        // Looking on is no part of the work.
        let (user_here, kernel_here) = self.thread.join().unwrap();
        let kernel_seconds = kernel - kernel_here - self.cpu.1;
        let seconds = user - user_here - self.cpu.0 + kernel_seconds;
        let [anonymous, all, scratch] = &*self.most;
        let most = |kib: &AtomicU64| kib.load(Ordering::Relaxed);
        Cost {
            seconds,
            kernel_seconds,
            wall,
            anonymous: most(anonymous).saturating_sub(self.anonymous_kib) / 1024,
            resident: most(all).saturating_sub(self.all_kib) / 1024,
            scratch: most(scratch) / 1024,
        }
    }
}

impl Cost {
    /// Of so many samples.
    pub(crate) fn print(&self, what: &str, n_samples: u64) {
        println!(
            "{what}: {:.1} M samples/s of processor time ({:.1} M samples, {:.2} s, of which {:.2} s the kernel's, in {:.1} s), at most {} MiB private, {} MiB resident, {} MiB of scratch",
            n_samples as f64 / self.seconds / 1e6,
            n_samples as f64 / 1e6,
            self.seconds,
            self.kernel_seconds,
            self.wall.as_secs_f64(),
            self.anonymous,
            self.resident,
            self.scratch,
        );
    }
}

/// All files below a directory.
fn n_bytes(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => n_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_gone) => 0,
    });
    sizes.sum()
}

/// The number and the directory among the arguments, in any order; `words` mean something else.
pub(crate) fn arguments(n_otherwise: u32, words: &[&str]) -> (u32, Option<PathBuf>) {
    let mut found = (n_otherwise, None);
    for argument in std::env::args().skip(1) {
        if let Ok(n) = argument.parse() {
            found.0 = n;
        } else if !argument.starts_with('-') && !words.contains(&argument.as_str()) {
            found.1 = Some(PathBuf::from(argument));
        }
    }
    found
}
