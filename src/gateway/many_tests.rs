//! Ten thousand blocks: what a start knows, what it asks, and what idling costs.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use crate::block::BlockMeta;
use crate::bucket::contract::in_directory;
use crate::bucket::s3_server::S3Server;
use crate::bucket::{Bucket, MeteredBucket, Operation, RequestSort};
use crate::catalog::Catalog;
use crate::foundation::durable::hard_link;
use crate::foundation::{Clock, SystemClock};
use crate::gateway::tests::{Fixture, id, one_series, own, write};
use crate::model::Interval;
use crate::storage::contract::START_MS;
use crate::storage::{Queryable, SelectHints};

const BLOCK_MS: i64 = 7_200_000;

/// Blocks one after the other, each with the same few samples.
fn write_many(dir: &Path, n: u128) {
    write(dir, 0, &own(), &one_series("up"));
    let first = dir.join(id(0).to_string());
    let mut meta = BlockMeta::read(&first).unwrap();
    for number in 1..n {
        let block = dir.join(id(number).to_string());
        fs::create_dir_all(block.join("chunks")).unwrap();
        for name in ["index", "chunks/000001"] {
            hard_link(&first.join(name), &block.join(name)).unwrap();
        }
        (meta.ulid, meta.compaction.sources) = (id(number), vec![id(number)]);
        (meta.min_time, meta.max_time) = (meta.max_time, meta.max_time + BLOCK_MS);
        let text = serde_json::to_vec(&meta).unwrap();
        let mut file = File::create(block.join("meta.json")).unwrap();
        file.write_all(&text).unwrap();
    }
}

fn n_asked(metered: &MeteredBucket, operation: Operation) -> u64 {
    let counts = metered.counts();
    let mut counts = counts.iter();
    counts
        .find(|(what, _)| *what == operation)
        .unwrap()
        .1
        .n_started
}

async fn check_many(bucket: Arc<dyn Bucket>, n: u64) {
    let metered = Arc::new(MeteredBucket::new(bucket));
    let asked = |operation| n_asked(&metered, operation);
    let bucket = Arc::clone(&metered) as Arc<dyn Bucket>;
    let catalog_dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(catalog_dir.path());
    let cache = tempfile::tempdir().unwrap();
    let fixture = Fixture::over(Arc::clone(&bucket), cache, catalog.clone());
    let report = fixture.gateway.sync().await.unwrap();
    assert_eq!(report.n_served as u64, n);
    assert_eq!((asked(Operation::List), asked(Operation::Get)), (1, n));

    // A restart serves all of them before it has asked anything.
    let clock = SystemClock;
    let began_ns = clock.now_ns();
    let Fixture { cache, .. } = fixture;
    let fixture = Fixture::over(bucket, cache, catalog);
    assert_eq!(fixture.gateway.snapshot().blocks().len() as u64, n);
    let ready_ms = (clock.now_ns() - began_ns) / 1_000_000;
    // Without optimization, on a busy machine; `tests/bench/gateway.rs` measures it.
    assert!(ready_ms < 20_000, "{ready_ms} ms");
    assert_eq!((asked(Operation::List), asked(Operation::Get)), (1, n));

    // A question about two hours opens one block.
    let snapshot = fixture.gateway.snapshot();
    let hints = SelectHints::new(Interval {
        min: START_MS,
        max: START_MS + BLOCK_MS - 1,
    });
    let n_found = tokio::task::spawn_blocking(move || {
        let mut set = snapshot.select(&[], &hints).unwrap();
        std::iter::from_fn(|| set.next())
            .map(Result::unwrap)
            .count()
    });
    assert_eq!(n_found.await.unwrap(), 1);
    assert_eq!(fixture.gateway.status().n_open, 1);

    // Idling is listing and nothing else, and the larger the bucket is, the less often.
    let sent = || -> u64 {
        let requests = metered.requests();
        requests.map_or(asked(Operation::List), |requests| {
            let counts = requests.counts();
            let lists = counts.iter().filter(|(sort, _)| *sort == RequestSort::List);
            lists.map(|(_, counts)| counts.n_sent).sum()
        })
    };
    let (n_sent, n_read) = (sent(), asked(Operation::Get));
    fixture.gateway.sync().await.unwrap();
    let n_requests = sent() - n_sent;
    assert_eq!(asked(Operation::Get), n_read);
    assert_eq!(asked(Operation::Head), 0);
    let n_pages = (3 * n).div_ceil(1_000);
    assert!(n_requests <= n_pages + 1, "{n_requests}");
    let pause = fixture.gateway.sync_pause_min();
    assert_eq!(n_pages * 3_600 / pause.as_secs(), 80);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_blocks_in_a_directory_are_served_at_once_and_cost_little() {
    let dir = tempfile::tempdir().unwrap();
    write_many(dir.path(), 10_000);
    check_many(in_directory(dir.path()), 10_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_blocks_in_s3_are_served_at_once_and_cost_little() {
    let server = S3Server::start().await;
    write_many(&server.directory().join("many"), 1_500);
    check_many(server.bucket("many"), 1_500).await;
}
