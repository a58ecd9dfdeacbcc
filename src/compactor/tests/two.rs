//! Two compactors on one bucket, which nobody should have: work is done twice, and nothing is lost.

use super::*;
use crate::foundation::Cancel;

/// Each with a scratch directory of its own, as on two machines.
fn pair(world: &World) -> [Compactor; 2] {
    ["one", "other"].map(|name| {
        let mut settings = world.settings();
        settings.directory = world.root.path().join(name);
        settings.delete_delay_ms = 0;
        world.compactor_with(settings, Arc::clone(&world.bucket))
    })
}

/// What whoever reads all blocks finds, marked or not: a deleted block without its replacement would be missed.
async fn everything(world: &World) -> Model {
    let mut model = Model::new();
    for block in world.survey().await.blocks {
        let dir = tempfile::tempdir().unwrap();
        if let Some(block) = world.fetch(block.meta.ulid, dir.path()).await {
            read_into(&block, &mut model);
        }
    }
    model
}

async fn nothing_is_lost(world: &World) {
    let blocks: Vec<_> = (1..=13u64)
        .map(|n| (n, (n.cast_signed() * 2 - 2, n.cast_signed() * 2)))
        .collect();
    fill(&*world.bucket, &blocks).await;
    let before = world.content().await;
    let [one, other] = pair(world);
    let cancel = Cancel::new();
    for round in 0..4 {
        // Both at once; cleaning deletes what the other may still read.
        let (compacted, both, cleaned) = tokio::join!(
            one.compact(&cancel),
            other.compact(&cancel),
            other.clean(&cancel)
        );
        // A source that is gone in the middle of it stops a run; the next one plans without it.
        for failed in [compacted.err(), both.err()].into_iter().flatten() {
            assert!(
                !matches!(failed.verdict(), crate::foundation::Verdict::Quarantine),
                "{failed}"
            );
        }
        cleaned.unwrap();
        assert_eq!(everything(world).await, before, "round {round}");
        one.clean(&cancel).await.unwrap();
        assert_eq!(everything(world).await, before, "round {round}, cleaned");
        world.clock.advance(HOUR_MS);
    }
    assert_eq!(world.content().await, before);
    assert!(world.alive().await.len() < 13, "something was compacted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_compactors_on_one_directory_lose_nothing() {
    nothing_is_lost(&World::directory()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_compactors_on_one_s3_bucket_lose_nothing() {
    nothing_is_lost(&World::s3().await).await;
}
