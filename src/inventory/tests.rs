//! Walks over buckets: what is known after them, and what they ask.

use std::sync::Arc;

use bytes::Bytes;

use crate::bucket::faulty::{Fault, FaultyBucket};
use crate::bucket::{Bucket, MeteredBucket, Operation, StoreBucket, keys};
use crate::catalog::Catalog;
use crate::inventory::{
    BucketInventory, DeletionMark, Inventory, NoCompactMark, NoDownsampleMark, PartialReason, fetch,
};
use crate::model::BlockId;

fn id(n: u128) -> BlockId {
    BlockId::from_parts(1_700_000_000_000, n)
}

struct Fixture {
    bucket: Arc<MeteredBucket>,
    faulty: Arc<FaultyBucket>,
    _catalog_dir: tempfile::TempDir,
    catalog: Catalog,
}

impl Fixture {
    /// Blocks 1 to 3, and somebody else's objects.
    async fn new() -> Self {
        let faulty = Arc::new(FaultyBucket::new(Arc::new(StoreBucket::in_memory())));
        let catalog_dir = tempfile::tempdir().unwrap();
        let fixture = Self {
            bucket: Arc::new(MeteredBucket::new(Arc::clone(&faulty) as _)),
            catalog: Catalog::open(catalog_dir.path()),
            faulty,
            _catalog_dir: catalog_dir,
        };
        for n in 1..=3 {
            fixture.put_block(n).await;
        }
        fixture.put("debug/metas/x.json", "{}").await;
        fixture
    }

    async fn put(&self, key: &str, text: &str) {
        let content = Bytes::from(text.to_owned());
        self.bucket.put(key, content).await.unwrap();
    }

    async fn put_block(&self, n: u128) {
        let meta = format!(
            r#"{{"ulid": "{}", "minTime": 0, "maxTime": 9, "version": 1}}"#,
            id(n)
        );
        self.put(&keys::in_block(id(n), "index"), "12345").await;
        self.put(&keys::in_block(id(n), "chunks/000001"), "123")
            .await;
        self.put(&keys::meta(id(n)), &meta).await;
    }

    fn inventory(&self) -> BucketInventory {
        BucketInventory::new(Arc::clone(&self.bucket) as _, self.catalog.clone(), 4)
    }

    /// Texts read, and listings asked for.
    fn n_asked(&self) -> (u64, u64) {
        let counts = self.bucket.counts();
        let of = |wanted| {
            let mut counts = counts.iter();
            counts
                .find(|(what, _)| *what == wanted)
                .unwrap()
                .1
                .n_started
        };
        assert_eq!(of(Operation::Head), 0);
        (of(Operation::Get), of(Operation::List))
    }
}

fn names(inventory: &Inventory) -> (Vec<BlockId>, Vec<BlockId>) {
    let blocks = inventory.blocks.iter().map(|known| known.meta.ulid);
    let partial = inventory.partial.iter().map(|partial| partial.block);
    (blocks.collect(), partial.collect())
}

#[tokio::test]
async fn what_is_known_and_unchanged_is_not_read_again_also_after_a_restart() {
    let fixture = Fixture::new().await;
    let inventory = fixture.inventory();
    assert_eq!(*inventory.current(), Inventory::default());
    let first = inventory.refresh().await.unwrap();
    assert_eq!(names(&first), (vec![id(1), id(2), id(3)], vec![]));
    assert_eq!((first.n_objects, inventory.n_pages()), (10, 1));
    let known = first.block(id(2)).unwrap();
    assert_eq!(
        (known.size_of("index"), known.size_of("x")),
        (Some(5), None)
    );
    assert_eq!(fixture.n_asked(), (3, 1));
    assert_eq!(inventory.refresh().await.unwrap(), first);
    assert_eq!(fixture.n_asked(), (3, 2));
    let restarted = fixture.inventory();
    assert_eq!(restarted.current().blocks, first.blocks);
    assert_eq!(fixture.n_asked(), (3, 2), "a start asks the bucket nothing");
    assert_eq!(restarted.refresh().await.unwrap(), first);
    let again = fetch(&*fixture.bucket, &fixture.catalog, 4).await.unwrap();
    assert_eq!(again, *first);
    assert_eq!(fixture.n_asked(), (3, 4));
}

#[tokio::test]
async fn marks_come_and_go_and_each_is_read_once() {
    let fixture = Fixture::new().await;
    let inventory = fixture.inventory();
    inventory.refresh().await.unwrap();
    let deletion = DeletionMark::new(id(1), 5_000, String::new()).encode();
    let no_compact = NoCompactMark::new(id(1), 6_000, "manual".to_owned(), String::new());
    let no_downsample = NoDownsampleMark::new(id(1), 7_000, "manual".to_owned(), String::new());
    for (name, text) in [
        (keys::DELETION_MARK, deletion),
        (keys::NO_COMPACT_MARK, no_compact.encode()),
        (keys::NO_DOWNSAMPLE_MARK, no_downsample.encode()),
    ] {
        let text = String::from_utf8(text).unwrap();
        fixture.put(&keys::in_block(id(1), name), &text).await;
        fixture.put(&keys::in_block(id(2), name), "{").await;
    }
    let (before, _) = fixture.n_asked();
    for _ in 0..2 {
        let seen = inventory.refresh().await.unwrap();
        let known = seen.block(id(1)).unwrap();
        assert_eq!(known.marked_ms, Some(5_000));
        assert_eq!(known.no_compact.as_ref(), Some(&no_compact));
        assert_eq!(known.no_downsample.as_ref(), Some(&no_downsample));
        // What does not decode is no mark.
        let other = seen.block(id(2)).unwrap();
        assert_eq!((other.marked_ms, &other.no_compact), (None, &None));
        assert_eq!(fixture.n_asked().0, before + 6);
        assert_eq!(fixture.inventory().current().blocks, seen.blocks);
    }
    fixture
        .bucket
        .delete(&keys::deletion_mark(id(1)))
        .await
        .unwrap();
    let seen = inventory.refresh().await.unwrap();
    assert_eq!(seen.block(id(1)).unwrap().marked_ms, None);
    assert_eq!(fixture.n_asked().0, before + 6);
}

#[tokio::test]
async fn blocks_that_go_are_forgotten_and_those_without_a_sound_meta_are_partial() {
    let fixture = Fixture::new().await;
    let inventory = fixture.inventory();
    inventory.refresh().await.unwrap();
    fixture.bucket.delete(&keys::meta(id(1))).await.unwrap();
    fixture.put(&keys::meta(id(2)), "{\"version\": 1").await;
    for path in [keys::META, keys::INDEX, "chunks/000001"] {
        let key = keys::in_block(id(3), path);
        fixture.bucket.delete(&key).await.unwrap();
    }
    let seen = inventory.refresh().await.unwrap();
    assert_eq!(names(&seen), (vec![], vec![id(1), id(2)]));
    assert_eq!(seen.partial(id(1)).unwrap().reason, PartialReason::NoMeta);
    assert_eq!(seen.partial(id(1)).unwrap().files.len(), 2);
    let reason = &seen.partial(id(2)).unwrap().reason;
    assert!(
        matches!(reason, PartialReason::CorruptedMeta(why) if why.contains("EOF")),
        "{reason:?}"
    );
    // It is not read again until it changes.
    let n_asked = fixture.n_asked().0;
    inventory.refresh().await.unwrap();
    assert_eq!(fixture.n_asked().0, n_asked);
    let restarted = fixture.inventory().current();
    assert_eq!(restarted.partial, seen.partial);
    fixture.put_block(2).await;
    let seen = inventory.refresh().await.unwrap();
    assert_eq!(names(&seen), (vec![id(2)], vec![id(1)]));
}

#[tokio::test]
async fn single_blocks_are_looked_at_without_listing_the_bucket() {
    let fixture = Fixture::new().await;
    let inventory = fixture.inventory();
    inventory.refresh().await.unwrap();
    fixture.put_block(4).await;
    fixture.put_block(5).await;
    fixture.bucket.delete(&keys::meta(id(1))).await.unwrap();
    for path in [keys::META, keys::INDEX, "chunks/000001"] {
        let key = keys::in_block(id(2), path);
        fixture.bucket.delete(&key).await.unwrap();
    }
    let (n_read, n_listed) = fixture.n_asked();
    let seen = inventory
        .refresh_blocks(&[id(1), id(2), id(4)])
        .await
        .unwrap();
    assert_eq!(names(&seen), (vec![id(3), id(4)], vec![id(1)]));
    assert_eq!(fixture.n_asked(), (n_read + 1, n_listed + 3));
    assert_eq!(fixture.inventory().current().blocks, seen.blocks);
    let seen = inventory.refresh().await.unwrap();
    assert_eq!(names(&seen).0, [id(3), id(4), id(5)]);
}

#[tokio::test]
async fn what_was_read_before_an_error_is_not_read_again_and_nothing_is_lost() {
    let fixture = Fixture::new().await;
    for n in 10..60 {
        fixture.put_block(n).await;
    }
    let inventory = fixture.inventory();
    let mut n_tries = 0;
    // Three of ten requests fail, in a pattern that moves.
    loop {
        n_tries += 1;
        assert!(n_tries < 30);
        fixture.faulty.fail_some(n_tries, 30, Fault::Refused);
        match inventory.refresh().await {
            Ok(seen) => {
                assert_eq!(seen.blocks.len(), 53);
                break;
            }
            Err(_) => assert!(fixture.n_asked().0 < 300),
        }
    }
    assert!(1 < n_tries);
    fixture.faulty.heal();
    // A block whose change cannot be read stays as it was.
    let before = inventory.current();
    let mark = DeletionMark::new(id(1), 5_000, String::new()).encode();
    let mark = String::from_utf8(mark).unwrap();
    fixture.put(&keys::deletion_mark(id(1)), &mark).await;
    fixture.bucket.delete(&keys::meta(id(2))).await.unwrap();
    fixture.faulty.fail(1..u64::MAX, Fault::Refused);
    inventory.refresh().await.unwrap_err();
    assert_eq!(inventory.current().block(id(1)), before.block(id(1)));
    fixture.faulty.heal();
    let seen = inventory.refresh().await.unwrap();
    assert_eq!(seen.block(id(1)).unwrap().marked_ms, Some(5_000));
    assert_eq!(names(&seen).1, [id(2)]);
}
