//! Blocks open late and close early; limits, shards, and buckets that fail.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::bucket::contract::in_directory;
use crate::bucket::faulty::{Fault, FaultyBucket};
use crate::bucket::{Bucket, MeteredBucket, RetryingBucket, StoreBucket, keys};
use crate::catalog::Catalog;
use crate::foundation::{Clock, SystemClock};
use crate::gateway::tests::{Fixture, copy, id, labels, n_reads, one_series, own, write};
use crate::gateway::{ExcludeReason, Selector};
use crate::model::{Interval, Matcher};
use crate::relabel::{RelabelRule, RelabelSettings};
use crate::storage::{LabelHints, Queryable, SelectHints, StorageError, contract};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_opens_at_the_first_question_and_closes_when_nobody_asks() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 1, &own(), &contract::fixture());
    let memory = Arc::new(StoreBucket::in_memory());
    copy(dir.path(), &*memory).await;
    for bucket in [in_directory(dir.path()), memory as Arc<dyn Bucket>] {
        let fixture = Fixture::new(bucket);
        let n_open = || fixture.gateway.status().n_open;
        fixture.gateway.sync().await.unwrap();
        assert_eq!(n_open(), 0);
        for n_loads in 1..=2 {
            let held = fixture.gateway.snapshot();
            let mut set = tokio::task::spawn_blocking(move || {
                held.select(&[], &SelectHints::new(Interval::ALL)).unwrap()
            })
            .await
            .unwrap();
            assert_eq!(n_open(), 1);
            fixture.clock.advance(299_000);
            fixture.gateway.close_idle();
            assert_eq!(n_open(), 1, "the idle timeout is five minutes");
            fixture.clock.advance(1_000);
            fixture.gateway.close_idle();
            assert_eq!(n_open(), 0);
            let stats = fixture.gateway.stats();
            assert_eq!(
                (stats.header_loads, stats.header_unloads),
                (n_loads, n_loads)
            );
            // Who began to read goes on.
            let n_read = tokio::task::spawn_blocking(move || {
                let mut n = 0;
                while let Some(series) = set.next() {
                    series.unwrap();
                    n += 1;
                }
                n
            });
            assert_eq!(n_read.await.unwrap(), 12);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_are_fetched_in_the_background_and_nothing_stays_open() {
    let dir = tempfile::tempdir().unwrap();
    for n in 1..=9 {
        write(dir.path(), n, &own(), &one_series("up"));
    }
    let metered = Arc::new(MeteredBucket::new(Arc::new(StoreBucket::in_memory())));
    copy(dir.path(), &*metered).await;
    let fixture = Fixture::new(Arc::clone(&metered) as Arc<dyn Bucket>);
    fixture.gateway.sync().await.unwrap();
    assert_eq!(fixture.gateway.fetch_headers().await, 9);
    assert_eq!(n_reads(&metered), 9);
    assert_eq!(fixture.gateway.fetch_headers().await, 0);
    assert_eq!(fixture.gateway.status().n_open, 0);
    let (found, _) = fixture.ask(&[Matcher::equal("a", "b")]).await.unwrap();
    assert_eq!(found, []);
    assert_eq!(n_reads(&metered), 9, "the headers are enough to know that");
    let ids: BTreeSet<_> = [id(1), id(20)].into();
    assert_eq!(fixture.gateway.verified(ids).await, [id(1)].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_serves_what_the_catalog_remembers_before_it_asks_the_bucket() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 1, &own(), &contract::fixture());
    let faulty = Arc::new(FaultyBucket::new(Arc::new(StoreBucket::in_memory())));
    copy(dir.path(), &*faulty).await;
    let catalog_dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(catalog_dir.path());
    let cache = tempfile::tempdir().unwrap();
    let bucket = Arc::clone(&faulty) as Arc<dyn Bucket>;
    let fixture = Fixture::over(Arc::clone(&bucket), cache, catalog.clone());
    assert_eq!(fixture.gateway.snapshot().blocks(), []);
    fixture.gateway.sync().await.unwrap();
    fixture.gateway.fetch_headers().await;
    faulty.fail(0..u64::MAX, Fault::Refused);
    let Fixture { cache, .. } = fixture;
    let fixture = Fixture::over(bucket, cache, catalog);
    assert_eq!(faulty.n_operations(), 0);
    assert_eq!(fixture.gateway.snapshot().blocks().len(), 1);
    assert_eq!(fixture.gateway.status().served.len(), 1);
    let hints = LabelHints::new(Interval::ALL);
    let snapshot = fixture.gateway.snapshot();
    let names = tokio::task::spawn_blocking(move || snapshot.label_names(&[], &hints));
    assert!(!names.await.unwrap().unwrap().values.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_that_somebody_names_are_looked_at_without_a_listing() {
    let dir = tempfile::tempdir().unwrap();
    for n in 1..=2 {
        write(dir.path(), n, &own(), &one_series("up"));
    }
    let memory: Arc<dyn Bucket> = Arc::new(StoreBucket::in_memory());
    let fixture = Fixture::new(Arc::clone(&memory));
    fixture.gateway.sync().await.unwrap();
    copy(dir.path(), &*memory).await;
    let report = fixture.gateway.look_at(&[id(1), id(7)]).await.unwrap();
    assert_eq!((report.added, report.n_served), (vec![id(1)], 1));
    for name in ["meta.json", "index", "chunks/000001"] {
        memory.delete(&keys::in_block(id(1), name)).await.unwrap();
    }
    let report = fixture.gateway.look_at(&[id(1), id(2)]).await.unwrap();
    assert_eq!((report.added, report.removed), (vec![id(2)], vec![id(1)]));
    assert_eq!(fixture.ask(&[]).await.unwrap().0.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_was_written_anew_is_read_anew() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(dir.path(), 1, &own(), &one_series("up"));
    write(other.path(), 1, &own(), &one_series("another_name"));
    let memory: Arc<dyn Bucket> = Arc::new(StoreBucket::in_memory());
    copy(dir.path(), &*memory).await;
    let fixture = Fixture::new(Arc::clone(&memory));
    fixture.gateway.sync().await.unwrap();
    assert_eq!(fixture.ask(&[]).await.unwrap().0.len(), 1);
    copy(other.path(), &*memory).await;
    fixture.gateway.sync().await.unwrap();
    let (found, warnings) = fixture.ask(&[]).await.unwrap();
    let name = labels(&[("__name__", "another_name")]);
    assert_eq!((found, warnings), (vec![(name, 300)], vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_select_beyond_a_limit_is_refused_with_its_name_near_and_far() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 1, &own(), &contract::fixture());
    write(dir.path(), 2, &own(), &one_series("up"));
    let memory = Arc::new(StoreBucket::in_memory());
    copy(dir.path(), &*memory).await;
    for bucket in [in_directory(dir.path()), memory as Arc<dyn Bucket>] {
        for (limits, expect) in [
            (
                (Some(12), None),
                "takes 13 series from the bucket, at most 12 are allowed",
            ),
            (
                (None, Some(240)),
                "samples (120 for every chunk) from the bucket, at most 240",
            ),
        ] {
            let place = (tempfile::tempdir().unwrap(), Catalog::absent(String::new()));
            let fixture = Fixture::with(Arc::clone(&bucket), place, |settings| {
                (settings.limits.series_max, settings.limits.samples_max) = limits;
            });
            fixture.gateway.sync().await.unwrap();
            let error = fixture.ask(&[]).await.unwrap_err();
            assert!(
                matches!(&error, StorageError::Limit(text) if text.contains(expect)),
                "{error:?}"
            );
            // One series of three chunks is within both.
            let one = [Matcher::equal("__name__", "nothing_has_it")];
            assert_eq!(fixture.ask(&one).await.unwrap().0, []);
            let refused = fixture.gateway.status().refused;
            let n_refused: u64 = refused.iter().map(|(_, n)| n).sum();
            assert_eq!(n_refused, 1, "{refused:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_together_serve_the_whole_and_no_block_twice() {
    let dir = tempfile::tempdir().unwrap();
    for n in 1..=20 {
        let cluster = format!("c{n}");
        let external = labels(&[("cluster", &cluster)]);
        write(dir.path(), n, &external, &one_series("up"));
    }
    let bucket = in_directory(dir.path());
    let served = |shard: Option<u64>| {
        let place = (tempfile::tempdir().unwrap(), Catalog::absent(String::new()));
        let fixture = Fixture::with(Arc::clone(&bucket), place, |settings| {
            if let Some(shard) = shard {
                settings.partition.selector = shard_of_three(shard);
            }
        });
        async move {
            fixture.gateway.sync().await.unwrap();
            let excluded = fixture.gateway.status().excluded;
            assert!(
                excluded
                    .values()
                    .all(|why| *why == ExcludeReason::OtherShard)
            );
            fixture.ask(&[]).await.unwrap().0
        }
    };
    let whole = served(None).await;
    assert_eq!(whole.len(), 20);
    let mut union = Vec::new();
    for shard in 0..3 {
        let part = served(Some(shard)).await;
        assert!(!part.is_empty() && part.len() < 20);
        union.extend(part);
    }
    union.sort();
    assert_eq!(union, whole);
}

fn shard_of_three(shard: u64) -> Selector {
    let rule = |action: &str, source: &str| RelabelSettings {
        source_labels: Some(vec![source.to_owned()]),
        action: Some(action.parse().unwrap()),
        ..RelabelSettings::default()
    };
    let hash = RelabelSettings {
        modulus: Some(3),
        target_label: Some("shard".to_owned()),
        ..rule("hashmod", "cluster")
    };
    let keep = RelabelSettings {
        regex: Some(shard.to_string()),
        ..rule("keep", "shard")
    };
    let rules = [hash, keep].map(|rule| RelabelRule::new(rule).unwrap());
    Selector::new(rules.into()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_of_ten_requests_fail_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    for n in 1..=30 {
        let cluster = format!("c{n}");
        let external = labels(&[("cluster", &cluster)]);
        write(dir.path(), n, &external, &contract::fixture());
    }
    let faulty = Arc::new(FaultyBucket::new(Arc::new(StoreBucket::in_memory())));
    copy(dir.path(), &*faulty).await;
    faulty.fail_some(7, 30, Fault::Refused);
    // As the appliance opens a bucket, several attempts for each request.
    let patient = RetryingBucket::new(
        Arc::clone(&faulty) as Arc<dyn Bucket>,
        8,
        Duration::from_millis(1),
    );
    let fixture = Fixture::new(Arc::new(patient));
    fixture.gateway.sync().await.unwrap();
    fixture.gateway.fetch_headers().await;
    let (found, warnings) = fixture.ask(&[]).await.unwrap();
    assert_eq!((found.len(), warnings), (30 * 12, vec![]));
    // And without that patience who asks again gets further each time.
    let fixture = Fixture::new(Arc::clone(&faulty) as Arc<dyn Bucket>);
    let mut n_tries = 0;
    while fixture.gateway.sync().await.is_err() {
        n_tries += 1;
        assert!(n_tries < 50);
    }
    assert_eq!(fixture.gateway.status().served.len(), 30);
    let (found, warnings) = loop {
        n_tries += 1;
        assert!(n_tries < 300);
        match fixture.ask(&[]).await {
            Ok(answer) => break answer,
            Err(error) => assert!(matches!(error, StorageError::Unavailable(_)), "{error:?}"),
        }
    };
    assert_eq!((found.len(), warnings), (30 * 12, vec![]));
    assert!(fixture.gateway.status().damaged.is_empty());
}

/// How long a slow bucket takes for anything.
const PAUSE_MS: u64 = 30;

/// A gateway that knows its blocks, over a bucket that is slow from now on.
struct Slow {
    fixture: Fixture,
    bucket: Arc<FaultyBucket>,
    began_ns: u64,
}

impl Slow {
    /// With the blocks in `dir`.
    async fn new(dir: &Path) -> Self {
        let bucket = Arc::new(FaultyBucket::new(Arc::new(StoreBucket::in_memory())));
        copy(dir, &*bucket).await;
        let fixture = Fixture::new(Arc::clone(&bucket) as Arc<dyn Bucket>);
        fixture.gateway.sync().await.unwrap();
        bucket.fail(0..u64::MAX, Fault::Late(Duration::from_millis(PAUSE_MS)));
        Self {
            fixture,
            bucket,
            began_ns: SystemClock.now_ns(),
        }
    }

    fn took_ms(&self) -> u64 {
        (SystemClock.now_ns() - self.began_ns) / 1_000_000
    }

    /// So many requests at least were made, and not one after the other.
    fn assert_at_once(&self, n_least: u64, took_ms: u64) {
        let n_requests = self.bucket.n_operations();
        assert!(n_least <= n_requests, "{n_requests}");
        let in_turn_ms = n_requests * PAUSE_MS;
        assert!(took_ms < in_turn_ms / 3, "{took_ms} of {in_turn_ms} ms");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_blocks_are_opened_and_read_at_once() {
    const N_BLOCKS: u64 = 40;
    let dir = tempfile::tempdir().unwrap();
    for n in 1..=N_BLOCKS {
        write(dir.path(), u128::from(n), &own(), &one_series("up"));
    }
    let slow = Slow::new(dir.path()).await;
    let fixture = &slow.fixture;
    let (found, warnings) = fixture.ask(&[]).await.unwrap();
    let took_ms = slow.took_ms();
    assert_eq!((found.len(), warnings), (1, vec![]));
    assert_eq!(fixture.gateway.status().n_open as u64, N_BLOCKS);
    slow.assert_at_once(2 * N_BLOCKS, took_ms);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_blocks_are_opened_and_asked_about_labels_at_once() {
    const N_BLOCKS: u64 = 100;
    let dir = tempfile::tempdir().unwrap();
    for n in 1..=N_BLOCKS {
        let series = one_series(&format!("m{}", n % 70));
        write(dir.path(), u128::from(n), &own(), &series);
    }
    let slow = Slow::new(dir.path()).await;
    let fixture = &slow.fixture;
    let snapshot = fixture.gateway.snapshot();
    let asked = tokio::task::spawn_blocking(move || {
        let hints = LabelHints::new(Interval::ALL);
        let all = snapshot.label_values("__name__", &[], &hints);
        let few = LabelHints { limit: 3, ..hints };
        let some = snapshot.label_values("__name__", &[], &few);
        (all.unwrap(), some.unwrap())
    });
    let (all, some) = asked.await.unwrap();
    let took_ms = slow.took_ms();
    let mut expect: Vec<String> = (0..70).map(|n| format!("m{n}")).collect();
    expect.sort_unstable();
    assert_eq!(all.values, expect);
    assert_eq!(some.values, expect[..3]);
    assert_eq!(fixture.gateway.status().n_open as u64, N_BLOCKS);
    slow.assert_at_once(N_BLOCKS, took_ms);
}
