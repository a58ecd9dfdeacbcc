//! Blocks of buckets near and far answer alike; damage costs what is damaged.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;

use crate::block::{Block, NewBlock, ThanosFile, ThanosMeta, write_block};
use crate::bucket::contract::in_directory;
use crate::bucket::faulty::{Fault, FaultyBucket};
use crate::bucket::s3_server::S3Server;
use crate::bucket::{Bucket, MeteredBucket, Operation, StoreBucket, keys};
use crate::catalog::Catalog;
use crate::chunk::{SAMPLES_PER_CHUNK, decode_floats, encode_floats};
use crate::foundation::ManualClock;
use crate::gateway::{ExcludeReason, Gateway, GatewaySettings, Snapshot};
use crate::inventory::PartialReason;
use crate::model::{
    BlockId, Encoding, ExternalLabels, Interval, Labels, Matcher, Sample, TimeRange,
};
use crate::storage::contract::{self, START_MS};
use crate::storage::{
    ChunkSeries, ChunkSlice, LabelHints, Queryable, SelectHints, StorageError, VecSeriesSet,
};

const NOW_MS: i64 = START_MS + 10 * 86_400_000;
const DAY_MS: i64 = 86_400_000;

pub(super) fn id(n: u128) -> BlockId {
    BlockId::from_parts(START_MS.cast_unsigned(), n)
}

pub(super) fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::new(pairs).unwrap()
}

pub(super) fn own() -> Labels {
    labels(&[("cluster", "c1")])
}

fn decode(encoding: Encoding, data: &[u8]) -> Vec<Sample> {
    let (mut times, mut values) = (Vec::new(), Vec::new());
    decode_floats(encoding, data, &mut times, &mut values).unwrap();
    times
        .into_iter()
        .zip(values)
        .map(|(t, v)| Sample { t, v })
        .collect()
}

fn chunk_series((labels, samples): &(Labels, Vec<Sample>)) -> ChunkSeries {
    let times: Vec<_> = samples.iter().map(|sample| sample.t).collect();
    let values: Vec<_> = samples.iter().map(|sample| sample.v).collect();
    let chunks = encode_floats(&times, &values).unwrap().into_iter();
    ChunkSeries {
        labels: labels.clone(),
        chunks: chunks
            .map(|chunk| ChunkSlice {
                min_t: chunk.min_t,
                max_t: chunk.max_t,
                encoding: chunk.encoding,
                data: chunk.data.into(),
            })
            .collect(),
    }
}

/// A block as a shipper leaves it in a bucket directory.
pub(super) fn write(dir: &Path, n: u128, external: &Labels, fixture: &contract::Fixture) {
    let range = TimeRange {
        min: START_MS,
        max: START_MS + 7_200_000,
    };
    let mut new = NewBlock::new(id(n), range);
    new.thanos = Some(ThanosMeta {
        version: 1,
        labels: external
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        ..ThanosMeta::default()
    });
    let series = fixture.iter().map(chunk_series).collect();
    let mut set = VecSeriesSet::new(series, Vec::new());
    let mut meta = write_block(dir, new, &mut set).unwrap().unwrap();
    let block = dir.join(id(n).to_string());
    let files = ["chunks/000001", "index"].map(|name| ThanosFile {
        rel_path: name.to_owned(),
        size_bytes: Some(fs::metadata(block.join(name)).unwrap().len()),
        hash: None,
    });
    meta.thanos.as_mut().unwrap().files = files.into();
    meta.write(&block).unwrap();
    // A shipper uploads no tombstones where there are none.
    fs::remove_file(block.join("tombstones")).ok();
}

/// Everything below a directory, by path inside it.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(here) = dirs.pop() {
        for entry in fs::read_dir(here).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().display().to_string();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

pub(super) async fn copy(dir: &Path, bucket: &dyn Bucket) {
    for (name, content) in files(dir) {
        bucket.put(&name, Bytes::from(content)).await.unwrap();
    }
}

pub(super) fn one_series(metric: &str) -> contract::Fixture {
    let samples = (0..300).map(|k| Sample {
        t: START_MS + k * 1_000,
        v: 1.5,
    });
    vec![(labels(&[("__name__", metric)]), samples.collect())]
}

pub(super) struct Fixture {
    pub(super) cache: tempfile::TempDir,
    pub(super) clock: ManualClock,
    pub(super) gateway: Arc<Gateway>,
}

impl Fixture {
    pub(super) fn new(bucket: Arc<dyn Bucket>) -> Self {
        Self::over(
            bucket,
            tempfile::tempdir().unwrap(),
            Catalog::absent("test".to_owned()),
        )
    }

    pub(super) fn over(
        bucket: Arc<dyn Bucket>,
        cache: tempfile::TempDir,
        catalog: Catalog,
    ) -> Self {
        Self::with(bucket, (cache, catalog), |_| ())
    }

    pub(super) fn with(
        bucket: Arc<dyn Bucket>,
        (cache, catalog): (tempfile::TempDir, Catalog),
        change: impl FnOnce(&mut GatewaySettings),
    ) -> Self {
        let clock = ManualClock::new(NOW_MS);
        let mut settings = GatewaySettings {
            mark_delay_ms: DAY_MS,
            fetch_concurrency: 4,
            cache_bytes_max: 64 << 20,
            ..GatewaySettings::new(ExternalLabels(own()), cache.path().to_owned())
        };
        change(&mut settings);
        let with_clock = Arc::new(clock.clone());
        let gateway = Gateway::new(settings, bucket, catalog, with_clock, Handle::current());
        Self {
            cache,
            clock,
            gateway: Arc::new(gateway.unwrap()),
        }
    }

    /// What a query sees: labels and number of samples of each series, and the warnings.
    pub(super) async fn ask(&self, matchers: &[Matcher]) -> Result<Seen, StorageError> {
        ask(self.gateway.snapshot(), matchers).await
    }
}

pub(super) type Seen = (Vec<(Labels, usize)>, Vec<String>);

/// Queries run in threads of their own, as in the query pool.
pub(super) async fn ask(
    snapshot: Arc<Snapshot>,
    matchers: &[Matcher],
) -> Result<Seen, StorageError> {
    let matchers = matchers.to_vec();
    tokio::task::spawn_blocking(move || {
        let mut set = snapshot.select(&matchers, &SelectHints::new(Interval::ALL))?;
        let mut found = Vec::new();
        while let Some(series) = set.next() {
            let series = series?;
            let chunks = series.chunks.iter();
            let n = chunks
                .map(|chunk| decode(chunk.encoding, &chunk.data).len())
                .sum();
            found.push((series.labels, n));
        }
        Ok((found, set.warnings()))
    })
    .await
    .unwrap()
}

async fn check_contract(bucket: Arc<dyn Bucket>) -> Fixture {
    let fixture = Fixture::new(bucket);
    let report = fixture.gateway.sync().await.unwrap();
    assert_eq!(report.added, [id(1)]);
    // Cold, then from what was kept.
    for _ in 0..2 {
        let snapshot = fixture.gateway.snapshot();
        tokio::task::spawn_blocking(move || contract::check(&*snapshot, decode))
            .await
            .unwrap();
    }
    fixture
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_in_a_directory_keeps_the_storage_contract_and_is_mapped() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 1, &own(), &contract::fixture());
    let fixture = check_contract(in_directory(dir.path())).await;
    assert_eq!(fs::read_dir(fixture.cache.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_in_s3_keeps_the_storage_contract() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 1, &own(), &contract::fixture());
    let server = S3Server::start().await;
    let bucket = server.bucket("tenant");
    copy(dir.path(), &*bucket).await;
    check_contract(bucket).await;
}

/// Range reads so far.
pub(super) fn n_reads(metered: &MeteredBucket) -> u64 {
    let counts = metered.counts();
    let mut reads = counts.iter();
    reads
        .find(|(what, _)| *what == Operation::GetRange)
        .unwrap()
        .1
        .n_started
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remote_block_is_read_in_few_requests_and_not_again() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 1, &own(), &contract::fixture());
    let metered = Arc::new(MeteredBucket::new(Arc::new(StoreBucket::in_memory())));
    copy(dir.path(), &*metered).await;
    let bucket = Arc::clone(&metered) as Arc<dyn Bucket>;
    let fixture = Fixture::new(Arc::clone(&bucket));
    fixture.gateway.sync().await.unwrap();
    assert_eq!(n_reads(&metered), 0, "nobody has asked yet");
    let hints = LabelHints::new(Interval {
        min: 0,
        max: START_MS - 1,
    });
    let early = fixture.gateway.snapshot();
    let early = tokio::task::spawn_blocking(move || early.label_names(&[], &hints));
    assert_eq!(early.await.unwrap().unwrap().values, Vec::<String>::new());
    assert_eq!(n_reads(&metered), 0, "no block has anything of that time");
    fixture.ask(&[]).await.unwrap();
    // The index, which is small; the page of postings and series, and that of chunks.
    assert_eq!(n_reads(&metered), 3);
    let Fixture { cache, .. } = fixture;
    let fixture = Fixture::over(bucket, cache, Catalog::absent("test".to_owned()));
    fixture.gateway.sync().await.unwrap();
    assert_eq!(fixture.ask(&[]).await.unwrap().0.len(), 12);
    assert_eq!(n_reads(&metered), 3, "header and pages are on disk");
    // A damaged copy of the header is made anew.
    let header = fixture.cache.path().join(id(1).to_string());
    let header = header.join("index-header");
    let whole = fs::read(&header).unwrap();
    // Magic number, symbols, postings table, contents.
    for at in [3, 40, whole.len() - 80, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        crate::foundation::durable::replace_file(&header, &bytes).unwrap();
        let before = n_reads(&metered);
        fixture.clock.advance(DAY_MS);
        fixture.gateway.close_idle();
        assert_eq!(fixture.ask(&[]).await.unwrap().0.len(), 12);
        assert_eq!(n_reads(&metered), before + 1);
        assert_eq!(fs::read(&header).unwrap(), whole);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_metas_are_not_read_again() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 1, &own(), &one_series("up"));
    let metered = Arc::new(MeteredBucket::new(Arc::new(StoreBucket::in_memory())));
    copy(dir.path(), &*metered).await;
    let catalog_dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(catalog_dir.path());
    let bucket = Arc::clone(&metered) as Arc<dyn Bucket>;
    let cache = tempfile::tempdir().unwrap();
    let fixture = Fixture::over(bucket, cache, catalog.clone());
    let n_gets = || {
        let counts = metered.counts();
        counts
            .iter()
            .find(|(what, _)| *what == Operation::Get)
            .unwrap()
            .1
            .n_started
    };
    fixture.gateway.sync().await.unwrap();
    assert_eq!(n_gets(), 1);
    fixture.gateway.sync().await.unwrap();
    assert_eq!(n_gets(), 1);
    assert_eq!(catalog.blocks().len(), 1);
    for key in ["meta.json", "index", "chunks/000001"] {
        metered.delete(&keys::in_block(id(1), key)).await.unwrap();
    }
    assert_eq!(fixture.gateway.sync().await.unwrap().removed, [id(1)]);
    assert_eq!(catalog.blocks(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_series_come_bare_and_those_of_others_under_their_labels() {
    let dir = tempfile::tempdir().unwrap();
    let foreign = labels(&[("cluster", "c2")]);
    write(dir.path(), 1, &own(), &one_series("up"));
    write(dir.path(), 2, &foreign, &one_series("up"));
    let fixture = Fixture::new(in_directory(dir.path()));
    fixture.gateway.sync().await.unwrap();
    let bare = labels(&[("__name__", "up")]);
    let named = labels(&[("__name__", "up"), ("cluster", "c2")]);
    let (found, _) = fixture.ask(&[]).await.unwrap();
    assert_eq!(found, [(bare, 300), (named.clone(), 300)]);
    let (found, _) = fixture
        .ask(&[Matcher::equal("cluster", "c2")])
        .await
        .unwrap();
    assert_eq!(found, [(named, 300)]);
    let snapshot = fixture.gateway.snapshot();
    assert_eq!(snapshot.producers().keys().collect::<Vec<_>>(), [&foreign]);
    assert_eq!(snapshot.own_interval().unwrap().min, START_MS);
    let hints = LabelHints::new(Interval::ALL);
    let own_names = snapshot.own().label_names(&[], &hints).unwrap();
    assert_eq!(own_names.values, ["__name__"]);
    let names = snapshot.others().unwrap().label_names(&[], &hints).unwrap();
    assert_eq!(names.values, ["__name__", "cluster"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_changes_the_snapshot_once_and_a_query_keeps_the_one_it_has() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 1, &own(), &one_series("up"));
    let fixture = Fixture::new(in_directory(dir.path()));
    assert_eq!(fixture.ask(&[]).await.unwrap().0, []);
    fixture.gateway.sync().await.unwrap();
    let held = fixture.gateway.snapshot();
    assert_eq!(ask(Arc::clone(&held), &[]).await.unwrap().0.len(), 1);
    write(dir.path(), 2, &own(), &one_series("down"));
    fs::remove_dir_all(dir.path().join(id(1).to_string())).unwrap();
    let report = fixture.gateway.sync().await.unwrap();
    assert_eq!((report.added, report.removed), (vec![id(2)], vec![id(1)]));
    let without = Arc::new(held.without(&BTreeSet::from([id(1)])));
    assert_eq!(ask(without, &[]).await.unwrap().0, []);
    let (found, _) = ask(held, &[]).await.unwrap();
    assert_eq!(found, [(labels(&[("__name__", "up")]), 300)]);
    let (found, _) = fixture.ask(&[]).await.unwrap();
    assert_eq!(found, [(labels(&[("__name__", "down")]), 300)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_marked_block_is_served_until_the_delay_has_passed() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 1, &own(), &one_series("up"));
    let bucket = in_directory(dir.path());
    let mark = format!(
        r#"{{"id":"{}","version":1,"deletion_time":{}}}"#,
        id(1),
        NOW_MS / 1_000
    );
    bucket
        .put(&keys::deletion_mark(id(1)), Bytes::from(mark))
        .await
        .unwrap();
    let fixture = Fixture::new(bucket);
    assert_eq!(fixture.gateway.sync().await.unwrap().n_served, 1);
    fixture.clock.advance(DAY_MS - 1);
    assert_eq!(fixture.gateway.sync().await.unwrap().n_served, 1);
    fixture.clock.advance(1);
    assert_eq!(fixture.gateway.sync().await.unwrap().removed, [id(1)]);
    let excluded = fixture.gateway.status().excluded;
    assert_eq!(excluded[&id(1)], ExcludeReason::MarkedForDeletion);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partial_blocks_are_listed_and_the_others_served() {
    let dir = tempfile::tempdir().unwrap();
    for n in 1..=3 {
        write(dir.path(), n, &own(), &one_series("up"));
    }
    let path = |n: u128| dir.path().join(id(n).to_string()).join("meta.json");
    fs::remove_file(path(1)).unwrap();
    crate::foundation::durable::replace_file(&path(2), b"{\"version\": 1").unwrap();
    fs::create_dir_all(dir.path().join("debug/metas")).unwrap();
    let fixture = Fixture::new(in_directory(dir.path()));
    assert_eq!(fixture.gateway.sync().await.unwrap().added, [id(3)]);
    let partial = fixture.gateway.status().partial;
    assert_eq!(
        (partial[0].block, &partial[0].reason),
        (id(1), &PartialReason::NoMeta)
    );
    assert_eq!(partial[0].created_ms, START_MS.cast_unsigned());
    let reason = &partial[1].reason;
    assert!(
        matches!(reason, PartialReason::CorruptedMeta(why) if why.contains("EOF")),
        "{reason:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_away_changes_nothing_and_a_query_that_needs_it_fails() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 1, &own(), &contract::fixture());
    let faulty = Arc::new(FaultyBucket::new(Arc::new(StoreBucket::in_memory())));
    copy(dir.path(), &*faulty).await;
    let fixture = Fixture::new(Arc::clone(&faulty) as Arc<dyn Bucket>);
    fixture.gateway.sync().await.unwrap();
    faulty.fail(0..u64::MAX, Fault::Refused);
    let error = fixture.gateway.sync().await.unwrap_err().to_string();
    assert_eq!(
        error,
        "sync blocks of the bucket: touch  in memory: on purpose"
    );
    assert_eq!(fixture.gateway.status().served.len(), 1);
    let error = fixture.ask(&[]).await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable(_)), "{error:?}");
    faulty.heal();
    assert_eq!(fixture.ask(&[]).await.unwrap().0.len(), 12);
    faulty.fail(0..u64::MAX, Fault::Refused);
    // What was read once needs no bucket.
    assert_eq!(fixture.ask(&[]).await.unwrap().0.len(), 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_samples_are_gone_near_and_far() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 1, &own(), &one_series("up"));
    let block = Block::open(&dir.path().join(id(1).to_string())).unwrap();
    let gone = Interval {
        min: START_MS + 100_000,
        max: START_MS + 199_000,
    };
    block.delete(&[], gone).unwrap();
    let memory = Arc::new(StoreBucket::in_memory());
    copy(dir.path(), &*memory).await;
    for bucket in [in_directory(dir.path()), memory as Arc<dyn Bucket>] {
        let fixture = Fixture::new(bucket);
        fixture.gateway.sync().await.unwrap();
        let (found, _) = fixture.ask(&[]).await.unwrap();
        assert_eq!(found, [(labels(&[("__name__", "up")]), 200)]);
    }
}

/// Flips one bit of a file of block 1 and asks for everything: block 2 answers, and what block 1 lacks is explained by
/// words that name the block, the file and the offset. How many samples it lacks.
async fn check_damage(bucket: &Arc<dyn Bucket>, name: &str, content: &[u8], at: usize) -> usize {
    let mut damaged = content.to_vec();
    damaged[at] ^= 0x10;
    bucket
        .put(&keys::in_block(id(1), name), Bytes::from(damaged))
        .await
        .unwrap();
    let fixture = Fixture::new(Arc::clone(bucket));
    fixture.gateway.sync().await.unwrap();
    let (found, warnings) = fixture.ask(&[]).await.unwrap();
    let status = fixture.gateway.status();
    let other = labels(&[("__name__", "other")]);
    assert!(found.contains(&(other, 300)), "{name} at {at}: {found:?}");
    let n_missing = 13 - found.len();
    let n_samples: usize = found.iter().map(|(_, n)| n).sum();
    let n_expect: usize = contract::fixture()
        .iter()
        .map(|(_, samples)| samples.len())
        .sum();
    if n_missing == 0 && n_samples == n_expect + 300 {
        return 0;
    }
    let aside = status.aside.get(&id(1)).cloned().into_iter();
    let said: Vec<_> = warnings.iter().cloned().chain(aside).collect();
    let is_named = said.iter().any(|text| {
        text.contains(&id(1).to_string()) && text.contains(name) && text.contains("offset")
    });
    assert!(
        is_named,
        "{name} at {at}, {n_missing} series are missing: {said:?}"
    );
    if status.aside.is_empty() {
        assert!(
            status.damaged.contains_key(&id(1)),
            "{name} at {at}: {status:?}"
        );
    }
    let n_lost = n_expect + 300 - n_samples;
    // Behind the header of the file, a damaged chunk costs its own samples.
    if name != "index" && 8 <= at {
        assert!(n_lost <= SAMPLES_PER_CHUNK, "{name} at {at}: {n_lost}");
        assert!(said[0].contains("are missing"), "{said:?}");
    }
    n_lost
}

async fn check_every_damage(dir: &Path, bucket: Arc<dyn Bucket>) {
    let mut n_explained = 0;
    for (name, step) in [("index", 7), ("chunks/000001", 61)] {
        let content = fs::read(dir.join(id(1).to_string()).join(name)).unwrap();
        for at in (0..content.len()).step_by(step) {
            n_explained += usize::from(0 < check_damage(&bucket, name, &content, at).await);
        }
        bucket
            .put(&keys::in_block(id(1), name), Bytes::from(content))
            .await
            .unwrap();
    }
    assert!(200 < n_explained, "{n_explained}");
}

fn two_blocks(dir: &Path) {
    write(dir, 1, &own(), &contract::fixture());
    write(dir, 2, &own(), &one_series("other"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_in_a_mapped_block_is_named_and_the_rest_answers() {
    let (dir, copied) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    two_blocks(dir.path());
    let bucket = in_directory(copied.path());
    copy(dir.path(), &*bucket).await;
    check_every_damage(dir.path(), bucket).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_in_a_remote_block_is_named_and_the_rest_answers() {
    let dir = tempfile::tempdir().unwrap();
    two_blocks(dir.path());
    let bucket: Arc<dyn Bucket> = Arc::new(StoreBucket::in_memory());
    copy(dir.path(), &*bucket).await;
    check_every_damage(dir.path(), bucket).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_and_missing_files_are_named_and_the_rest_answers() {
    let dir = tempfile::tempdir().unwrap();
    two_blocks(dir.path());
    let far: Arc<dyn Bucket> = Arc::new(StoreBucket::in_memory());
    let near_dir = tempfile::tempdir().unwrap();
    let near = in_directory(near_dir.path());
    for bucket in [near, far] {
        copy(dir.path(), &*bucket).await;
        for name in ["chunks/000001", "index"] {
            let key = keys::in_block(id(1), name);
            let content = Bytes::from(files(dir.path()).remove(&key).unwrap());
            for cut in [0, 4, content.len() / 2, content.len() - 1] {
                bucket.put(&key, content.slice(..cut)).await.unwrap();
                check_cut(&bucket, name).await;
            }
            bucket.delete(&key).await.unwrap();
            check_cut(&bucket, name).await;
            bucket.put(&key, content).await.unwrap();
        }
    }
}

async fn check_cut(bucket: &Arc<dyn Bucket>, name: &str) {
    let fixture = Fixture::new(Arc::clone(bucket));
    fixture.gateway.sync().await.unwrap();
    let (found, _) = fixture.ask(&[]).await.unwrap();
    assert!(
        found.contains(&(labels(&[("__name__", "other")]), 300)),
        "{found:?}"
    );
    let status = fixture.gateway.status();
    let said: Vec<_> = status
        .aside
        .values()
        .chain(status.damaged.values().flatten())
        .collect();
    // Without its only segment a directory has no `chunks` at all.
    let part = name.split('/').next().unwrap();
    assert!(
        said.iter().any(|text| text.contains(part)),
        "{name}: {said:?}"
    );
}
