//! Sound, damaged, doubled and overlapping blocks in directories and in memory.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::block::meta::META_FILE;
use crate::block::{Block, BlockMeta, NewBlock, ThanosMeta, verify, write_block};
use crate::bucket::{Bucket, StoreBucket, keys};
use crate::catalog::Catalog;
use crate::chunk::{decode_floats, encode_floats};
use crate::foundation::durable::rename_durably;
use crate::inventory::{Inventory, fetch};
use crate::maintenance::{
    Change, CleanupSettings, Clearing, Deletion, FileHashes, Issue, Marked, Marker, RepairSettings,
    Repaired, Replicated, Replication, Rewrite, check_block, check_metas, clear, download_block,
    mark, plan_cleanup, plan_replication, repair_block, replicate_block, rewrite, unmark,
    upload_block,
};
use crate::model::{BlockId, Interval, Labels, Matcher, Resolution, TimeRange};
use crate::relabel::{RelabelAction, RelabelRule, RelabelSettings};
use crate::storage::{ChunkSeries, ChunkSlice, Queryable, SelectHints, VecSeriesSet};

const HOUR: i64 = 3_600_000;

pub(super) fn id(n: u64) -> BlockId {
    BlockId::from_parts(n, u128::from(n))
}

pub(super) fn memory() -> Arc<dyn Bucket> {
    Arc::new(StoreBucket::in_memory())
}

pub(super) fn labels(n: usize) -> Labels {
    Labels::new(&[("__name__", "up"), ("n", &n.to_string())]).unwrap()
}

/// A chunk of a sample a minute from `from` on.
fn chunk(from: i64, n_samples: i64) -> ChunkSlice {
    let times: Vec<_> = (0..n_samples).map(|n| from + n * 60_000).collect();
    let values: Vec<_> = (0_u32..).map(f64::from).take(times.len()).collect();
    let mut chunks = Vec::new();
    for encoded in encode_floats(&times, &values).unwrap() {
        chunks.push(ChunkSlice {
            min_t: encoded.min_t,
            max_t: encoded.max_t,
            encoding: encoded.encoding,
            data: Bytes::from(encoded.data),
        });
    }
    assert_eq!(chunks.len(), 1);
    chunks.remove(0)
}

/// Three series of two chunks each over two hours, written below `dir`.
pub(super) fn write(dir: &Path, name: u64, hour: i64) -> BlockMeta {
    let start = hour * HOUR;
    let range = TimeRange {
        min: start,
        max: start + 2 * HOUR,
    };
    let mut new = NewBlock::new(id(name), range);
    new.thanos = Some(ThanosMeta {
        version: 1,
        labels: [("cluster".to_owned(), "eu".to_owned())].into(),
        source: "test".to_owned(),
        ..ThanosMeta::default()
    });
    let series = (0..3).map(|n| ChunkSeries {
        labels: labels(n),
        chunks: vec![chunk(start, 60), chunk(start + HOUR, 60)],
    });
    let mut series = VecSeriesSet::new(series.collect(), Vec::new());
    write_block(dir, new, &mut series).unwrap().unwrap()
}

pub(super) async fn upload(bucket: &dyn Bucket, dir: &Path, meta: &BlockMeta) {
    let dir = dir.join(meta.ulid.to_string());
    let hashes = FileHashes::None;
    upload_block(bucket, &dir, HOUR, hashes).await.unwrap();
}

async fn inventory(bucket: &dyn Bucket) -> Inventory {
    let catalog = Catalog::absent("a test".to_owned());
    fetch(bucket, &catalog, 4).await.unwrap()
}

/// Every sample of the block, by the text of its labels.
fn samples(dir: &Path) -> Vec<(String, Vec<(i64, u64)>)> {
    let block = Block::open(dir).unwrap();
    let mut set = block.select(&[], &SelectHints::new(Interval::ALL)).unwrap();
    let mut found = Vec::new();
    while let Some(series) = set.next() {
        let series = series.unwrap();
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for chunk in &series.chunks {
            decode_floats(chunk.encoding, &chunk.data, &mut times, &mut values).unwrap();
        }
        let values = values.into_iter().map(f64::to_bits);
        found.push((
            series.labels.to_string(),
            times.into_iter().zip(values).collect(),
        ));
    }
    found
}

#[tokio::test]
async fn overlaps_and_duplicates_are_told_from_metas_and_a_duplicate_goes_to_the_backup() {
    let dir = tempfile::tempdir().unwrap();
    let first = write(dir.path(), 1, 0);
    let next = write(dir.path(), 2, 2);
    let late = write(dir.path(), 3, 3);
    let mut double = first.clone();
    double.ulid = id(4);
    let findings = check_metas([&first, &next, &late, &double]);
    let found: Vec<_> = findings
        .iter()
        .map(|finding| (finding.issue, finding.block))
        .collect();
    let expect = [
        (Issue::Overlap, late.ulid),
        (Issue::Overlap, double.ulid),
        (Issue::Duplicate, double.ulid),
    ];
    assert_eq!(found, expect);
    assert_eq!(check_metas([&first, &next]), []);
    let (bucket, backup) = (memory(), StoreBucket::in_memory());
    let copy = dir.path().join(double.ulid.to_string());
    rename_durably(&dir.path().join(first.ulid.to_string()), &copy).unwrap();
    double.write(&copy).unwrap();
    upload(&*bucket, dir.path(), &double).await;
    let settings = RepairSettings {
        backup: &backup,
        delete_delay_ms: 0,
        now_ms: HOUR,
    };
    let repaired = repair_block(&bucket, &findings[2], dir.path(), id(9), settings).await;
    assert_eq!(repaired.unwrap(), Repaired::Removed);
    assert_eq!(bucket.list("").await.unwrap(), []);
    assert_eq!(inventory(&backup).await.blocks.len(), 1);
    // An overlap is nobody's damage.
    let refused = repair_block(&bucket, &findings[0], dir.path(), id(9), settings).await;
    refused.unwrap_err();
}

#[tokio::test]
async fn a_block_with_samples_outside_of_its_times_is_replaced_and_the_old_one_is_safe() {
    let dir = tempfile::tempdir().unwrap();
    let (bucket, backup) = (memory(), StoreBucket::in_memory());
    let mut meta = write(dir.path(), 1, 0);
    let expect = samples(&dir.path().join(meta.ulid.to_string()));
    // It says that it ends after the first hour, so the second chunk of each series lies outside.
    meta.max_time = HOUR;
    meta.write(&dir.path().join(meta.ulid.to_string())).unwrap();
    upload(&*bucket, dir.path(), &meta).await;
    let scratch = dir.path().join("scratch");
    let block_dir = scratch.join(meta.ulid.to_string());
    let found = check_block(&bucket, meta.ulid, &block_dir, |_| ()).await;
    let finding = found.unwrap().unwrap();
    let settings = RepairSettings {
        backup: &backup,
        delete_delay_ms: HOUR,
        now_ms: 7_000,
    };
    let repaired = repair_block(&bucket, &finding, &scratch, id(9), settings).await;
    assert_eq!(repaired.unwrap(), Repaired::Replaced(id(9)));
    let there = inventory(&*bucket).await;
    assert_eq!(there.block(meta.ulid).unwrap().marked_ms, Some(7_000));
    let new = &there.block(id(9)).unwrap().meta;
    let thanos = new.thanos.as_ref().unwrap();
    assert_eq!(
        (new.range(), thanos.source.as_str()),
        (meta.range(), "bucket.repair")
    );
    assert_eq!(thanos.labels["cluster"], "eu");
    assert_eq!(new.compaction.sources, meta.compaction.sources);
    let back = dir.path().join("back");
    assert_eq!(
        check_block(&bucket, id(9), &back, |_| ()).await.unwrap(),
        None
    );
    download_block(&*bucket, id(9), &back, |_| ())
        .await
        .unwrap();
    let kept: Vec<_> = expect
        .into_iter()
        .map(|(labels, samples)| {
            let kept = samples.into_iter().filter(|(t, _)| *t < HOUR);
            (labels, kept.collect::<Vec<_>>())
        })
        .collect();
    assert_eq!(samples(&back), kept);
    assert!(inventory(&backup).await.block(meta.ulid).is_some());
    // Once more: the backup has a block of this name, so nothing goes.
    let again = repair_block(&bucket, &finding, &scratch, id(10), settings).await;
    assert!(
        again
            .unwrap_err()
            .to_string()
            .contains("has a block of this name")
    );
}

#[tokio::test]
async fn marks_are_put_once_and_taken_away_and_only_beside_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = StoreBucket::in_memory();
    let meta = write(dir.path(), 1, 0);
    upload(&bucket, dir.path(), &meta).await;
    for marker in Marker::ALL {
        let put = mark(&bucket, meta.ulid, marker, "why", 5_000).await;
        assert_eq!(put.unwrap(), Marked::Done);
        let put = mark(&bucket, meta.ulid, marker, "other", 9_000).await;
        assert_eq!(put.unwrap(), Marked::Already);
    }
    let there = inventory(&bucket).await;
    let known = there.block(meta.ulid).unwrap();
    assert_eq!(known.marked_ms, Some(5_000));
    assert_eq!(known.no_compact.as_ref().unwrap().details, "why");
    assert_eq!(known.no_downsample.as_ref().unwrap().reason, "manual");
    for marker in Marker::ALL {
        let gone = unmark(&bucket, meta.ulid, marker).await;
        assert_eq!(gone.unwrap(), Marked::Done);
        let gone = unmark(&bucket, meta.ulid, marker).await;
        assert_eq!(gone.unwrap(), Marked::Already);
    }
    let refused = mark(&bucket, id(8), Marker::Deletion, "why", 0).await;
    let text = refused.unwrap_err().to_string();
    assert!(text.ends_with("memory has no such block"), "{text}");
}

#[tokio::test]
async fn only_what_was_marked_long_enough_ago_or_given_up_goes() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = StoreBucket::in_memory();
    for n in 1..=3 {
        let meta = write(dir.path(), n, 0);
        upload(&bucket, dir.path(), &meta).await;
    }
    let now_ms = 100 * HOUR;
    for (n, since_ms) in [(1, now_ms - 48 * HOUR), (2, now_ms - 47 * HOUR)] {
        let marked = mark(&bucket, id(n), Marker::Deletion, "old", since_ms).await;
        marked.unwrap();
    }
    let key = keys::in_block(id(7), "chunks/000001");
    bucket.put(&key, Bytes::from_static(b"half")).await.unwrap();
    let settings = CleanupSettings {
        delete_delay_ms: 48 * HOUR,
        consistency_delay_ms: HOUR / 2,
    };
    let there = inventory(&bucket).await;
    let planned = plan_cleanup(&there, settings, now_ms);
    assert_eq!(planned.len(), 1);
    assert_eq!(planned[0].block, id(1));
    assert_eq!(planned[0].why, Clearing::Marked(now_ms - 48 * HOUR));
    // The leftover is as old as its newest object, which is new by the clock of the store.
    let newest_ms = there.partial[0].files[0].modified_ms;
    for (age_ms, n_partial) in [(47 * HOUR, 0), (49 * HOUR, 1)] {
        let planned = plan_cleanup(&there, settings, newest_ms + age_ms);
        let partial = planned.iter().filter(|one| one.why == Clearing::Partial);
        assert_eq!(partial.count(), n_partial);
    }
    assert_eq!(clear(&bucket, &planned[0]).await.unwrap(), 4);
    let there = inventory(&bucket).await;
    assert!(there.block(id(1)).is_none() && there.partial(id(1)).is_none());
    assert_eq!(there.blocks.len(), 2);
}

#[tokio::test]
async fn blocks_are_copied_oldest_first_once_and_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (StoreBucket::in_memory(), StoreBucket::in_memory());
    for (n, hour) in [(1, 4), (2, 0), (3, 2)] {
        let meta = write(dir.path(), n, hour);
        upload(&from, dir.path(), &meta).await;
    }
    let marked = mark(&from, id(3), Marker::Deletion, "old", 0).await;
    marked.unwrap();
    let wanted = Replication {
        resolutions: vec![Resolution::Raw],
        levels: vec![1, 2],
        max_time: i64::MAX,
        ..Replication::default()
    };
    let there = inventory(&from).await;
    let names = |wanted: &Replication| -> Vec<_> {
        let metas = plan_replication(&there, wanted);
        metas.iter().map(|meta| meta.ulid).collect()
    };
    assert_eq!(names(&wanted), [id(2), id(3), id(1)]);
    let others = |change: fn(&mut Replication)| {
        let mut wanted = wanted.clone();
        change(&mut wanted);
        names(&wanted)
    };
    assert_eq!(
        others(|wanted| wanted.without_marked = true),
        [id(2), id(1)]
    );
    assert_eq!(others(|wanted| wanted.blocks = vec![id(1)]), [id(1)]);
    assert_eq!(others(|wanted| wanted.levels = vec![2]), []);
    assert_eq!(others(|wanted| wanted.min_time = 5 * HOUR), [id(1)]);
    let us = [Matcher::equal("cluster", "us")];
    let wanted_us = Replication {
        matchers: us.to_vec(),
        ..wanted.clone()
    };
    assert_eq!(names(&wanted_us), []);
    let scratch = dir.path().join("scratch");
    for expect in ["copied", "there"] {
        for meta in plan_replication(&there, &wanted) {
            let copied = replicate_block(&from, &to, meta.ulid, &scratch)
                .await
                .unwrap();
            assert_eq!(copied == Replicated::Already, expect == "there");
        }
    }
    for info in from.list("").await.unwrap() {
        let content = from.get(&info.key, 1 << 20).await.unwrap();
        if info.key.ends_with("deletion-mark.json") {
            assert!(to.head(&info.key).await.unwrap_err().is_not_found());
        } else {
            assert_eq!(to.get(&info.key, 1 << 20).await.unwrap(), content);
        }
    }
    assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0);
}

fn rule(settings: RelabelSettings) -> RelabelRule {
    RelabelRule::new(settings).unwrap()
}

fn deletions_and_a_rule() -> Rewrite {
    Rewrite {
        deletions: vec![
            Deletion {
                matchers: vec![Matcher::equal("n", "0")],
                intervals: Vec::new(),
                request_id: "r1".to_owned(),
            },
            Deletion {
                matchers: vec![Matcher::equal("n", "1")],
                intervals: vec![Interval {
                    min: 30 * 60_000,
                    max: 40 * 60_000,
                }],
                request_id: String::new(),
            },
            // No series has this label, so nothing matches, whatever the comparison.
            Deletion {
                matchers: vec![
                    Matcher::new(crate::model::MatchType::NotEqual, "absent", "x").unwrap(),
                ],
                intervals: Vec::new(),
                request_id: String::new(),
            },
        ],
        rules: vec![rule(RelabelSettings {
            action: Some(RelabelAction::Replace),
            target_label: Some("a".to_owned()),
            replacement: Some("new".to_owned()),
            source_labels: Some(vec!["n".to_owned()]),
            regex: Some("2".to_owned()),
            separator: None,
            modulus: None,
        })],
    }
}

#[test]
fn a_rewritten_block_lacks_what_was_deleted_and_has_the_new_labels() {
    let dir = tempfile::tempdir().unwrap();
    let meta = write(dir.path(), 1, 0);
    let from = dir.path().join(meta.ulid.to_string());
    let before = samples(&from);
    let block = Block::open(&from).unwrap();
    let wanted = deletions_and_a_rule();
    let told = rewrite(&block, &wanted, id(5), None).unwrap();
    assert!(told.meta.is_none());
    let new = dir.path().join(id(5).to_string());
    assert!(!new.try_exists().unwrap());
    let texts: Vec<_> = told.changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "Deleted {__name__=\"up\", n=\"0\"} [{0 7140000}]",
            "Deleted {__name__=\"up\", n=\"1\"} [{1800000 2400000}]",
            "Relabelled {__name__=\"up\", n=\"2\"} {__name__=\"up\", a=\"new\", n=\"2\"}",
        ]
    );
    let done = rewrite(&block, &wanted, id(5), Some(dir.path())).unwrap();
    assert_eq!(done.changes, told.changes);
    let new = done.meta.unwrap();
    assert_eq!((new.ulid, new.compaction.sources), (id(5), vec![id(5)]));
    let thanos = new.thanos.unwrap();
    assert_eq!(thanos.source, "bucket.rewrite");
    let entry = &thanos.other["rewrites"][0];
    assert_eq!(entry["sources"][0], meta.ulid.to_string());
    assert_eq!(entry["deletions_applied"][0]["request_id"], "r1");
    assert_eq!(
        entry["deletions_applied"][1]["intervals"][0]["Mint"],
        1_800_000
    );
    assert_eq!(entry["relabels_applied"][0]["target_label"], "a");
    let to = dir.path().join(id(5).to_string());
    let problems = verify(&to).problems;
    assert_eq!(problems, Vec::<String>::new());
    let after = samples(&to);
    let cut: Vec<_> = before[1]
        .1
        .iter()
        .filter(|(t, _)| !(1_800_000..=2_400_000).contains(t))
        .copied()
        .collect();
    let relabelled = "{__name__=\"up\", a=\"new\", n=\"2\"}".to_owned();
    assert_eq!(
        after,
        [
            (relabelled, before[2].1.clone()),
            (before[1].0.clone(), cut)
        ]
    );
    assert!(to.join(META_FILE).try_exists().unwrap());
}

#[test]
fn series_that_get_the_same_labels_become_one_and_dropped_ones_go() {
    let dir = tempfile::tempdir().unwrap();
    let meta = write(dir.path(), 1, 0);
    let from = dir.path().join(meta.ulid.to_string());
    let block = Block::open(&from).unwrap();
    let plain = |action, source: Option<&str>, regex: &str| {
        rule(RelabelSettings {
            action: Some(action),
            source_labels: source.map(|name| vec![name.to_owned()]),
            regex: Some(regex.to_owned()),
            separator: None,
            modulus: None,
            target_label: None,
            replacement: None,
        })
    };
    let wanted = Rewrite {
        deletions: Vec::new(),
        rules: vec![
            plain(RelabelAction::Drop, Some("n"), "0"),
            plain(RelabelAction::LabelDrop, None, "n"),
        ],
    };
    let done = rewrite(&block, &wanted, id(5), Some(dir.path())).unwrap();
    assert!(matches!(done.changes[0], Change::Deleted(..)));
    let after = samples(&dir.path().join(id(5).to_string()));
    assert_eq!(after.len(), 1);
    assert_eq!(after[0].1, samples(&from)[1].1);
    assert_eq!(done.meta.unwrap().stats.num_series, 1);
}
