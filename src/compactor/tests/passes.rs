//! Compaction, cleaning and retention over healthy blocks, and what a crash leaves.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::block::verify;
use crate::bucket::faulty::{Fault, FaultyBucket};
use crate::compactor::{Deduplication, Duty, RetentionSettings, mark_deleted};
use crate::foundation::Cancel;
use crate::foundation::cancel::CancelReason;

const FIVE: [(u64, (i64, i64)); 5] = [
    (1, (0, 2)),
    (2, (2, 4)),
    (3, (4, 6)),
    (4, (6, 8)),
    (5, (8, 10)),
];

async fn four_become_one(world: &World) {
    fill(&*world.bucket, &FIVE).await;
    let before = world.content().await;
    let report = world.compactor().compact(&Cancel::new()).await.unwrap();
    assert_eq!((report.set_aside, report.failed), (Vec::new(), Vec::new()));
    let [made] = report.made.as_slice() else {
        panic!("{:?}", report.made);
    };
    assert_eq!(made.sources, [id(1), id(2), id(3), id(4)]);
    let meta = made.block.clone().unwrap();
    assert_eq!((meta.min_time, meta.max_time), (0, 8 * HOUR_MS));
    assert_eq!(
        (meta.compaction.level, meta.compaction.parents.len()),
        (2, 4)
    );
    assert_eq!(meta.compaction.sources, made.sources);
    let thanos = meta.thanos.clone().unwrap();
    assert_eq!(
        (thanos.source.as_str(), thanos.segment_files),
        ("compactor", vec!["000001".to_owned()])
    );
    assert_eq!(
        thanos.labels,
        BTreeMap::from([("cluster".to_owned(), "a".to_owned())])
    );
    assert!(
        thanos.other["index_stats"]["series_max_size"]
            .as_u64()
            .unwrap()
            > 0
    );
    assert_eq!(world.content().await, before);
    let mut alive = vec![id(5), meta.ulid];
    alive.sort_unstable();
    assert_eq!(world.alive().await, alive);
    let dir = tempfile::tempdir().unwrap();
    world.fetch(meta.ulid, dir.path()).await.unwrap();
    let report = verify(&dir.path().join(meta.ulid.to_string()));
    assert!(report.is_healthy(), "{:?}", report.problems);
    world.assert_tidy();
    // Nothing is left to do, and the sources are no candidates again.
    let report = world.compactor().compact(&Cancel::new()).await.unwrap();
    assert_eq!(report.made, []);
}

#[tokio::test]
async fn four_blocks_of_a_directory_become_one() {
    four_become_one(&World::directory()).await;
}

#[tokio::test]
async fn four_blocks_of_s3_become_one() {
    four_become_one(&World::s3().await).await;
}

#[tokio::test]
async fn segments_go_up_one_by_one() {
    let world = World::s3().await;
    fill(&*world.bucket, &FIVE).await;
    let before = world.content().await;
    let mut settings = world.settings();
    settings.segment_bytes_max = 500;
    let compactor = world.compactor_with(settings, Arc::clone(&world.bucket));
    let report = compactor.compact(&Cancel::new()).await.unwrap();
    let meta = report.made[0].block.clone().unwrap();
    let n_segments = meta.thanos.unwrap().segment_files.len();
    assert!(3 < n_segments, "{n_segments}");
    assert_eq!(world.content().await, before);
    world.assert_tidy();
}

#[tokio::test]
async fn overlaps_are_merged_and_so_are_replicas() {
    let world = World::directory();
    fill(&*world.bucket, &[(1, (0, 2)), (2, (1, 4))]).await;
    let dir = tempfile::tempdir().unwrap();
    for (n, replica) in [(11, "x"), (12, "y")] {
        let meta = write(dir.path(), n, (0, 2));
        upload(
            &*world.bucket,
            dir.path(),
            meta,
            &[("cluster", "b"), ("replica", replica)],
        )
        .await;
    }
    let mut settings = world.settings();
    settings.replica_labels = BTreeSet::from(["replica".to_owned()]);
    settings.deduplication = Deduplication::Penalty;
    let compactor = world.compactor_with(settings, Arc::clone(&world.bucket));
    let report = compactor.compact(&Cancel::new()).await.unwrap();
    assert_eq!(report.failed, []);
    let sources: Vec<_> = report
        .made
        .iter()
        .map(|made| made.sources.clone())
        .collect();
    assert_eq!(sources, [[id(1), id(2)], [id(11), id(12)]]);
    let merged = report.made[1].block.clone().unwrap();
    let labels = merged.thanos.unwrap().labels;
    assert_eq!(
        labels,
        BTreeMap::from([("cluster".to_owned(), "b".to_owned())])
    );
    // The same samples twice: once each.
    assert_eq!(merged.stats.num_samples, 4 * 120);
}

#[tokio::test]
async fn a_canceled_compaction_leaves_nothing() {
    let world = World::directory();
    fill(&*world.bucket, &FIVE).await;
    let cancel = Cancel::new();
    cancel.cancel(CancelReason::Canceled);
    assert!(world.compactor().compact(&cancel).await.is_err());
    assert_eq!(world.alive().await.len(), 5);
}

#[tokio::test]
async fn a_listing_that_somebody_else_made_is_not_made_again() {
    let world = World::directory();
    let inventory = Arc::new(BucketInventory::new(
        Arc::clone(&world.bucket),
        Catalog::absent("test".to_owned()),
        4,
    ));
    let compactor = Compactor::new(
        world.settings(),
        Arc::clone(&inventory),
        Arc::new(world.clock.clone()),
        (tokio::runtime::Handle::current(), world.pool.clone()),
    );
    compactor.compact(&Cancel::new()).await.unwrap();
    assert_eq!(inventory.n_walks(), 1, "nobody had looked before");
    inventory.refresh().await.unwrap();
    world.clock.advance(HOUR_MS);
    compactor.compact(&Cancel::new()).await.unwrap();
    assert_eq!(inventory.n_walks(), 2, "the gateway has looked meanwhile");
    world.clock.advance(HOUR_MS);
    compactor.compact(&Cancel::new()).await.unwrap();
    assert_eq!(inventory.n_walks(), 3, "nobody has");
}

/// Every block that shows itself is whole, and what is marked is in another one.
async fn check_nothing_is_lost(world: &World, before: &Model) {
    let survey = world.survey().await;
    for block in &survey.blocks {
        let dir = tempfile::tempdir().unwrap();
        let fetched = world.fetch(block.meta.ulid, dir.path()).await;
        assert!(
            fetched.is_some(),
            "{} is visible and does not open",
            block.meta.ulid
        );
        let report = verify(&dir.path().join(block.meta.ulid.to_string()));
        assert!(report.is_healthy(), "{:?}", report.problems);
    }
    assert!(
        world.content().await == *before,
        "samples were lost or invented"
    );
}

async fn crash_everywhere(fault: Fault) {
    // Counted once, then every operation fails in its turn, and all behind it.
    let world = World::directory();
    fill(&*world.bucket, &FIVE).await;
    let faulty = Arc::new(FaultyBucket::new(Arc::clone(&world.bucket)));
    let compactor = world.compactor_with(world.settings(), Arc::clone(&faulty) as _);
    compactor.compact(&Cancel::new()).await.unwrap();
    let n_operations = faulty.n_operations();
    assert!(15 < n_operations, "{n_operations}");
    for number in 0..n_operations {
        let world = World::directory();
        fill(&*world.bucket, &FIVE).await;
        let before = world.content().await;
        let faulty = Arc::new(FaultyBucket::new(Arc::clone(&world.bucket)));
        faulty.fail(number..u64::MAX, fault);
        let compactor = world.compactor_with(world.settings(), Arc::clone(&faulty) as _);
        let failed = compactor.compact(&Cancel::new()).await;
        let has_failed = failed
            .as_ref()
            .map_or(true, |report| !report.failed.is_empty());
        assert!(
            has_failed,
            "operation {number} failed and nobody noticed: {failed:?}"
        );
        check_nothing_is_lost(&world, &before).await;
        // As after a start: cleaned, finished, and the rest is garbage of which nothing is needed.
        let again = world.compactor();
        again.compact(&Cancel::new()).await.unwrap();
        again.clean(&Cancel::new()).await.unwrap();
        check_nothing_is_lost(&world, &before).await;
        assert_eq!(world.alive().await.len(), 2, "operation {number}");
        assert_eq!(world.survey().await.leftovers, [], "operation {number}");
        world.assert_tidy();
    }
}

#[tokio::test]
async fn a_crash_at_any_operation_leaves_nothing_partial_visible_and_the_next_run_finishes() {
    crash_everywhere(Fault::Refused).await;
}

#[tokio::test]
async fn a_crash_whose_last_operation_happened_loses_nothing_either() {
    crash_everywhere(Fault::Unheard).await;
}

/// Index and chunks of what [`FIVE`] become.
async fn sizes_of_the_result() -> [(&'static str, usize); 2] {
    let world = World::directory();
    fill(&*world.bucket, &FIVE).await;
    let report = world.compactor().compact(&Cancel::new()).await.unwrap();
    let thanos = report.made[0].block.clone().unwrap().thanos.unwrap();
    ["index", "chunks/000001"].map(|name| {
        let file = thanos.files.iter().find(|file| file.rel_path == name);
        let n_bytes = file.unwrap().size_bytes.unwrap();
        (name, usize::try_from(n_bytes).unwrap())
    })
}

#[tokio::test]
async fn a_bit_that_turned_on_its_way_to_the_bucket_is_found_before_any_source_is_marked() {
    let world = World::directory();
    fill(&*world.bucket, &FIVE).await;
    let before = world.content().await;
    let mut alive = world.alive().await;
    let mut n_found = 0;
    for (name, n_bytes) in sizes_of_the_result().await {
        let every = n_bytes / 20;
        for at in (0..9).chain((9..n_bytes).step_by(every)) {
            let faulty = Arc::new(FaultyBucket::new(Arc::clone(&world.bucket)));
            faulty.flip(name, at);
            let compactor = world.compactor_with(world.settings(), Arc::clone(&faulty) as _);
            let report = compactor.compact(&Cancel::new()).await.unwrap();
            assert_eq!(report.made, [], "byte {at} of {name}");
            let [(_, reason)] = report.failed.as_slice() else {
                panic!("byte {at} of {name}: {report:?}");
            };
            assert!(reason.contains("differs from what was written"), "{reason}");
            n_found += 1;
        }
        assert_eq!(world.alive().await, alive);
        check_nothing_is_lost(&world, &before).await;
    }
    assert!(58 <= n_found, "{n_found}");
    let report = world.compactor().compact(&Cancel::new()).await.unwrap();
    alive.retain(|block| *block == id(5));
    alive.extend(
        report
            .made
            .iter()
            .map(|made| made.block.as_ref().unwrap().ulid),
    );
    alive.sort_unstable();
    assert_eq!(world.alive().await, alive);
}

#[tokio::test]
async fn copies_are_marked_and_go_after_the_delay() {
    let world = World::directory();
    fill(&*world.bucket, &FIVE).await;
    let before = world.content().await;
    let compactor = world.compactor();
    compactor.compact(&Cancel::new()).await.unwrap();
    // As if the marks had not been written.
    for n in 1..=4 {
        world
            .bucket
            .delete(&keys::deletion_mark(id(n)))
            .await
            .unwrap();
    }
    let report = compactor.clean(&Cancel::new()).await.unwrap();
    let outdated: Vec<_> = report.outdated.iter().map(|(copy, _)| *copy).collect();
    assert_eq!(outdated, [id(1), id(2), id(3), id(4)]);
    world.clock.advance(48 * HOUR_MS - 1_000);
    let report = compactor.clean(&Cancel::new()).await.unwrap();
    assert_eq!(report.deleted, []);
    world.clock.advance(2_000);
    let report = compactor.clean(&Cancel::new()).await.unwrap();
    assert_eq!(report.deleted, [id(1), id(2), id(3), id(4)]);
    assert_eq!(world.survey().await.blocks.len(), 2);
    assert_eq!(world.content().await, before);
}

#[tokio::test]
async fn a_copy_stays_while_what_covers_it_cannot_be_read() {
    let world = World::directory();
    fill(&*world.bucket, &FIVE).await;
    let compactor = world.compactor();
    let report = compactor.compact(&Cancel::new()).await.unwrap();
    let made = report.made[0].block.clone().unwrap().ulid;
    for n in 1..=4 {
        world
            .bucket
            .delete(&keys::deletion_mark(id(n)))
            .await
            .unwrap();
    }
    let key = keys::in_block(made, "chunks/000001");
    let mut bytes = world.bucket.get(&key, 1 << 20).await.unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    world.bucket.put(&key, Bytes::from(bytes)).await.unwrap();
    let report = compactor.clean(&Cancel::new()).await.unwrap();
    assert_eq!(report.outdated, []);
    assert_eq!(report.failed.len(), 1, "{:?}", report.failed);
    assert_eq!(world.alive().await.len(), 6);
}

#[tokio::test]
async fn leftovers_go_when_nothing_was_added_for_two_days_and_interrupted_deletions_go_on() {
    let world = World::directory();
    fill(&*world.bucket, &[(1, (0, 2)), (2, (2, 4))]).await;
    // An upload without its end, and a deletion without its end.
    world.bucket.delete(&keys::meta(id(1))).await.unwrap();
    mark_deleted(&*world.bucket, id(2), NOW_MS - 49 * HOUR_MS, "test")
        .await
        .unwrap();
    world.bucket.delete(&keys::meta(id(2))).await.unwrap();
    let newest = world.bucket.list(&id(1).to_string()).await.unwrap();
    let newest_ms = newest.iter().map(|info| info.modified_ms).max().unwrap();
    let compactor = world.compactor();
    world.clock.set(newest_ms.max(NOW_MS) + 48 * HOUR_MS);
    let report = compactor.clean(&Cancel::new()).await.unwrap();
    assert_eq!((report.deleted, report.given_up), (vec![id(2)], Vec::new()));
    world.clock.advance(1);
    let report = compactor.clean(&Cancel::new()).await.unwrap();
    assert_eq!(report.given_up, [id(1)]);
    assert_eq!(world.bucket.list("").await.unwrap(), []);
}

#[tokio::test]
async fn retention_marks_what_is_over_and_holds_what_has_no_next_resolution() {
    let world = World::directory();
    fill(&*world.bucket, &[(1, (0, 2))]).await;
    let mut settings = world.settings();
    settings.retention = RetentionSettings {
        raw_ms: Some(48 * HOUR_MS),
        ..RetentionSettings::default()
    };
    let compactor = world.compactor_with(settings.clone(), Arc::clone(&world.bucket));
    assert_eq!(compactor.retire().await.unwrap().held, [id(1)]);
    assert_eq!(world.alive().await, [id(1)]);
    settings.downsamples = false;
    let compactor = world.compactor_with(settings, Arc::clone(&world.bucket));
    // Whoever looks at the bucket counts what will be marked.
    compactor.compact(&Cancel::new()).await.unwrap();
    assert_eq!(compactor.status().n_to_retire, 1);
    assert_eq!(compactor.retire().await.unwrap().retire.len(), 1);
    assert_eq!(world.alive().await, []);
    assert_eq!(compactor.status().n_to_retire, 0);
    let at = compactor.progress(Duty::Retire);
    assert_eq!((at.n_blocks_done, at.n_blocks_left), (1, 0));
    assert!(0 < at.n_bytes_done && at.last.is_some(), "{at:?}");
}
