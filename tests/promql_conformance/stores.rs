//! What a script loads, held by what holds samples in the appliance: a block, a bucket, a head.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use gauntlet::block::{Block, NewBlock, ThanosFile, ThanosMeta, write_block};
use gauntlet::bucket::{BucketKind, BucketSettings};
use gauntlet::catalog::Catalog;
use gauntlet::foundation::ManualClock;
use gauntlet::gateway::{Gateway, GatewaySettings};
use gauntlet::model::{
    BlockId, Counts, ExternalLabels, Interval, Labels, Matcher, SampleTime, TimeRange,
};
use gauntlet::promql::PointValue;
use gauntlet::promql::testing::{LoadedData, LoadedSeries, MemoryStore};
use gauntlet::storage::{
    Appendable, LabelAnswer, LabelHints, Queryable, SelectHints, SeriesSet, StorageError,
};
use gauntlet::tsdb::{Tsdb, TsdbSettings};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Later than everything scripts load.
const NOW_MS: i64 = 4_000_000_000_000;

/// A store, and the directory it reads while it lives.
struct Held {
    store: Arc<dyn Queryable>,
    /// The database behind the store, closed before its directory goes.
    _database: Option<Tsdb>,
    _dir: TempDir,
}

impl Queryable for Held {
    fn select(
        &self,
        matchers: &[Matcher],
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        self.store.select(matchers, hints)
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        self.store.label_names(matchers, hints)
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        self.store.label_values(name, matchers, hints)
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// In memory where that is possible: hundreds of stores are synced to it.
fn new_dir() -> Result<TempDir, String> {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_no_such_place| tempfile::tempdir())
        .map_err(text)
}

/// Writes one block of everything; `None` when there is nothing.
fn write(dir: &Path, data: &LoadedData) -> Result<Option<BlockId>, String> {
    let times = data.series.values().flat_map(LoadedSeries::samples);
    let times = times.map(|sample| sample.t);
    let (Some(min), Some(max)) = (times.clone().min(), times.max()) else {
        return Ok(None);
    };
    let range = TimeRange { min, max: max + 1 };
    let mut new = NewBlock::new(BlockId::from_parts(1, 1), range);
    new.thanos = Some(ThanosMeta {
        version: 1,
        ..ThanosMeta::default()
    });
    let memory = MemoryStore::new(data)?;
    let mut set = memory
        .select(&[], &SelectHints::new(Interval::ALL))
        .map_err(text)?;
    let meta = write_block(dir, new, &mut *set).map_err(text)?;
    let Some(mut meta) = meta else {
        return Ok(None);
    };
    let block = dir.join(meta.ulid.to_string());
    let mut files = Vec::new();
    for name in ["chunks/000001", "index"] {
        files.push(ThanosFile {
            rel_path: name.to_owned(),
            size_bytes: Some(std::fs::metadata(block.join(name)).map_err(text)?.len()),
            hash: None,
        });
    }
    if let Some(thanos) = &mut meta.thanos {
        thanos.files = files;
    }
    meta.write(&block).map_err(text)?;
    Ok(Some(meta.ulid))
}

fn empty() -> Arc<dyn Queryable> {
    Arc::new(MemoryStore::default())
}

/// One local block.
pub(crate) fn open_block(data: &LoadedData) -> Result<Arc<dyn Queryable>, String> {
    let dir = new_dir()?;
    let Some(id) = write(dir.path(), data)? else {
        return Ok(empty());
    };
    let block = Block::open(&dir.path().join(id.to_string())).map_err(text)?;
    Ok(Arc::new(Held {
        store: Arc::new(block),
        _database: None,
        _dir: dir,
    }))
}

/// The runtime that reads of bucket blocks run on.
fn runtime() -> Result<&'static Runtime, String> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(text)
    });
    runtime.as_ref().map_err(Clone::clone)
}

/// One block in a bucket.
pub(crate) fn open_gateway(data: &LoadedData) -> Result<Arc<dyn Queryable>, String> {
    let dir = new_dir()?;
    let directory = dir.path().join("bucket");
    std::fs::create_dir(&directory).map_err(text)?;
    if write(&directory, data)?.is_none() {
        return Ok(empty());
    }
    let kind = BucketKind::Filesystem { directory };
    let prefix = String::new();
    let bucket = gauntlet::bucket::open(&BucketSettings { kind, prefix }).map_err(text)?;
    let settings = GatewaySettings {
        mark_delay_ms: 1,
        fetch_concurrency: 1,
        cache_bytes_max: 1 << 20,
        ..GatewaySettings::new(ExternalLabels(Labels::empty()), dir.path().join("cache"))
    };
    let catalog = Catalog::absent("scripts need none".to_owned());
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let handle = runtime()?.handle().clone();
    let gateway = Gateway::new(settings, bucket, catalog, clock, handle).map_err(text)?;
    let report = runtime()?.block_on(gateway.sync()).map_err(text)?;
    if report.n_served != 1 {
        return Err(format!("the gateway serves {} blocks", report.n_served));
    }
    Ok(Arc::new(Held {
        store: gateway.snapshot(),
        _database: None,
        _dir: dir,
    }))
}

/// A database that keeps all that scripts load.
fn open_database(dir: &Path) -> Result<Tsdb, String> {
    let mut settings = TsdbSettings::default();
    settings.head.keeps_start_times = true;
    Tsdb::open(dir, settings, Arc::new(ManualClock::new(NOW_MS))).map_err(text)
}

fn fill(database: &Tsdb, data: &LoadedData) -> Result<(), String> {
    // As time goes by, so that nothing comes too late.
    let mut samples = Vec::new();
    for (labels, series) in &data.series {
        // A series is of one kind: at a change its chunk would end, and with it what is known of resets.
        let is_whole = series.samples().iter().all(|sample| match &sample.value {
            PointValue::Float(_) => true,
            PointValue::Histogram(h) => h.has_whole_counts() && h.check(Counts::Whole).is_ok(),
        });
        let counts = if is_whole {
            Counts::Whole
        } else {
            Counts::Float
        };
        let series = series.samples().iter();
        samples.extend(series.map(|sample| (sample, labels, counts)));
    }
    samples.sort_by_key(|(sample, ..)| sample.t);
    let mut appender = database.head().appender();
    for (sample, labels, counts) in samples {
        let key = labels.key();
        let series = appender.series(key, &mut || Ok(labels.clone()));
        let series = series.map_err(text)?;
        let at = SampleTime {
            t: sample.t,
            start_t: sample.st,
        };
        let appended = match &sample.value {
            PointValue::Float(v) => appender.append_at(series, at, *v),
            PointValue::Histogram(histogram) => {
                appender.append_histogram(series, at, counts, histogram)
            }
        };
        appended.map_err(|error| format!("{labels} at {}: {error}", sample.t))?;
    }
    appender.commit().map_err(text)
}

/// A head.
pub(crate) fn open_head(data: &LoadedData) -> Result<Arc<dyn Queryable>, String> {
    let dir = new_dir()?;
    let database = open_database(dir.path())?;
    fill(&database, data)?;
    Ok(Arc::new(Held {
        store: database.timeline(),
        _database: Some(database),
        _dir: dir,
    }))
}

/// A head that comes out of its log.
pub(crate) fn open_replayed_head(data: &LoadedData) -> Result<Arc<dyn Queryable>, String> {
    let dir = new_dir()?;
    let database = open_database(dir.path())?;
    fill(&database, data)?;
    drop(database);
    let database = open_database(dir.path())?;
    Ok(Arc::new(Held {
        store: database.timeline(),
        _database: Some(database),
        _dir: dir,
    }))
}
