//! Damaged blocks beside healthy ones: the healthy are compacted, the others repaired or set aside and named.

use std::path::PathBuf;

use Expect::{Aside, Compacted, Leftover, Repaired};

use super::*;
use crate::block::{SortedBlockWriter, Tombstones};
use crate::compactor::DAMAGED;
use crate::foundation::Cancel;
use crate::index::SeriesEntry;

/// A group of its own for each kind of damage: four blocks that fill a window, the second one damaged, and one behind
/// them.
struct Kind {
    name: &'static str,
    harm: fn(&mut Harmed),
    expect: Expect,
}

/// What becomes of the damaged block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// It is left out and named.
    Aside,
    /// It is written anew, and compacted.
    Repaired,
    /// Nothing is wrong enough: it is compacted.
    Compacted,
    /// It is left alone until it is finished or given up.
    Leftover,
}

/// The files of a block before they go up.
struct Harmed {
    dir: PathBuf,
    files: BTreeMap<String, Vec<u8>>,
}

impl Harmed {
    fn read(dir: PathBuf) -> Self {
        let mut files = BTreeMap::new();
        for name in ["index", "chunks/000001", "meta.json"] {
            files.insert(name.to_owned(), std::fs::read(dir.join(name)).unwrap());
        }
        Self { dir, files }
    }

    fn file(&mut self, name: &str) -> &mut Vec<u8> {
        self.files.get_mut(name).unwrap()
    }

    fn meta(&mut self, change: impl FnOnce(&mut BlockMeta)) {
        let mut meta = BlockMeta::decode(self.file("meta.json")).unwrap();
        change(&mut meta);
        *self.file("meta.json") = meta.encode();
    }

    fn flip(&mut self, name: &str, part: (usize, usize)) {
        let bytes = self.file(name);
        let at = bytes.len() * part.0 / part.1;
        bytes[at] ^= 0x10;
    }
}

const MINUTE_MS: i64 = 60_000;

fn kind(name: &'static str, expect: Expect, harm: fn(&mut Harmed)) -> Kind {
    Kind { name, harm, expect }
}

fn kinds() -> Vec<Kind> {
    let mut kinds = damaged_files();
    kinds.extend(wrong_words());
    kinds
}

fn damaged_files() -> Vec<Kind> {
    vec![
        kind("the index is cut in its middle", Aside, |block| {
            let half = block.file("index").len() / 2;
            block.file("index").truncate(half);
        }),
        kind("the index is empty", Aside, |block| {
            block.file("index").clear();
        }),
        kind("the index is missing", Aside, |block| {
            block.files.remove("index");
        }),
        kind("a bit of the symbols is flipped", Aside, |block| {
            block.flip("index", (1, 30));
        }),
        kind("a bit of the contents is flipped", Aside, |block| {
            let end = block.file("index").len();
            block.file("index")[end - 10] ^= 1;
        }),
        kind("a bit of a series is flipped", Aside, |block| {
            let index = Block::open(&block.dir).unwrap();
            let at = usize::try_from(index.index().toc().series).unwrap();
            block.file("index")[at.next_multiple_of(16) + 3] ^= 1;
        }),
        kind("a bit of a chunk is flipped", Aside, |block| {
            block.flip("chunks/000001", (1, 2));
        }),
        kind("a chunk segment is missing", Aside, |block| {
            block.files.remove("chunks/000001");
        }),
        kind("a chunk segment is cut", Aside, |block| {
            let len = block.file("chunks/000001").len() - 20;
            block.file("chunks/000001").truncate(len);
        }),
        kind("a chunk segment is that of another block", Aside, |block| {
            *block.file("chunks/000001") = b"\x85\xbd\x40\xdd\x01\x00\x00\x00".to_vec();
        }),
    ]
}

/// Whole files that do not say what is true.
fn wrong_words() -> Vec<Kind> {
    vec![
        kind("meta.json is no JSON", Aside, |block| {
            *block.file("meta.json") = b"{\"ulid\":".to_vec();
        }),
        kind("meta.json is that of another block", Aside, |block| {
            block.meta(|meta| meta.ulid = id(77));
        }),
        kind("meta.json has an unknown version", Aside, |block| {
            block.meta(|meta| meta.version = 9);
        }),
        kind("there are no external labels", Aside, |block| {
            block.meta(|meta| meta.thanos.as_mut().unwrap().labels.clear());
        }),
        kind("the resolution does not exist", Aside, |block| {
            block.meta(|meta| meta.thanos.as_mut().unwrap().downsample.resolution = 7);
        }),
        kind("meta.json promises another size", Aside, |block| {
            block.meta(|meta| meta.thanos.as_mut().unwrap().files[0].size_bytes = Some(3));
        }),
        kind("the tombstones are cut", Aside, |block| {
            let mut tombstones = Tombstones::new();
            tombstones.add(1, Interval { min: 0, max: 1 });
            let mut bytes = tombstones.encode();
            bytes.pop();
            block.files.insert("tombstones".to_owned(), bytes);
        }),
        kind("chunks lie outside of the block", Repaired, |block| {
            block.meta(|meta| meta.max_time -= 30 * MINUTE_MS);
        }),
        kind("chunks of a series overlap", Compacted, |block| {
            overlap(block);
        }),
        kind("meta.json counts wrong", Compacted, |block| {
            block.meta(|meta| meta.stats.num_samples += 5);
        }),
        kind("the upload was not finished", Leftover, |block| {
            block.files.remove("meta.json");
        }),
        kind("the block overlaps its neighbour", Compacted, |block| {
            block.meta(|meta| meta.min_time -= HOUR_MS);
        }),
        kind("a mark is cut", Compacted, |block| {
            block
                .files
                .insert("deletion-mark.json".to_owned(), b"{\"id\"".to_vec());
        }),
    ]
}

/// A block whose chunks of one series are in the index in the wrong order: written with times that follow one another,
/// then the segment's first chunks are exchanged for those of an hour later.
fn overlap(block: &mut Harmed) {
    let opened = Block::open(&block.dir).unwrap();
    let meta = opened.meta().clone();
    let dir = tempfile::tempdir().unwrap();
    let texts = ["", "__name__", "a", "b", "job", "up", "x", "y"];
    let mut new = NewBlock::new(meta.ulid, meta.range());
    new.sources = vec![meta.ulid];
    let mut writer = SortedBlockWriter::create(dir.path(), new).unwrap();
    for text in texts {
        writer.add_symbol(text).unwrap();
    }
    // The chunk says it ends before the other begins, and holds times behind it.
    let half: Vec<i64> = (meta.min_time..meta.max_time).step_by(60_000).collect();
    let (first, second) = half.split_at(60);
    let mut chunks = slices(first, 1.0);
    chunks.extend(slices(second, 2.0));
    // Entries begin at multiples of sixteen; this one leaves room for a longer one.
    writer
        .add(&[(1, 5), (4, 2), (6, 2), (7, 2)], &chunks)
        .unwrap();
    writer.add(&[(1, 5), (4, 3)], &slices(first, 3.0)).unwrap();
    writer.finish().unwrap();
    *block = Harmed::read(dir.path().join(meta.ulid.to_string()));
    let bytes = out_of_order(block.file("index"));
    *block.file("index") = bytes;
    block.dir = dir.keep().join(meta.ulid.to_string());
    let labels = BTreeMap::from([("cluster".to_owned(), "a".to_owned())]);
    block.meta(|meta| {
        meta.thanos = Some(ThanosMeta {
            version: 1,
            labels,
            ..ThanosMeta::default()
        });
    });
}

/// Makes the two chunks of the first series overlap: the gap between them is the first thing behind the first chunk.
fn out_of_order(index: &[u8]) -> Vec<u8> {
    let reader = crate::index::IndexReader::new("test", Bytes::copy_from_slice(index)).unwrap();
    let series = reader.all_series().unwrap()[0];
    let mut entry = SeriesEntry::default();
    reader.series(series, &mut entry).unwrap();
    let at = usize::try_from(reader.version().series_offset(series)).unwrap();
    let mut before = Vec::new();
    entry.encode(&mut before);
    entry.chunks[1].min_t = entry.chunks[0].max_t - 1;
    let mut after = Vec::new();
    entry.encode(&mut after);
    // The gap is shorter or wraps to ten bytes; the span is longer. Only entries of one length can be exchanged.
    let mut bytes = index.to_vec();
    let old = 1 + before.len() + 4;
    let mut frame = Vec::new();
    crate::foundation::cursor::put_uvarint_bytes(&mut frame, &after);
    frame.extend_from_slice(&crate::foundation::checksum::crc32c(&after).to_be_bytes());
    let room = old.next_multiple_of(16);
    assert!(frame.len() <= room, "{} in {room}", frame.len());
    frame.resize(old.max(frame.len()), 0);
    bytes[at..at + frame.len()].copy_from_slice(&frame);
    bytes
}

/// Uploads the blocks of one kind in a group of its own; says which is the damaged one.
async fn put_group(bucket: &dyn Bucket, number: u64, kind: &Kind) -> BlockId {
    let dir = tempfile::tempdir().unwrap();
    let first = number * 10 + 100;
    let labels = format!("group-{number}");
    for n in 0..5u64 {
        let from = n.cast_signed() * 2;
        let meta = write(dir.path(), first + n, (from, from + 2));
        let labels = [("cluster", labels.as_str())];
        if n != 1 {
            upload(bucket, dir.path(), meta, &labels).await;
            continue;
        }
        // The upload says what meta.json promises; the damage comes later.
        let ulid = meta.ulid;
        upload(bucket, dir.path(), meta, &labels).await;
        let text = bucket.get(&keys::meta(ulid), 1 << 20).await.unwrap();
        let path = dir.path().join(ulid.to_string());
        let mut harmed = Harmed::read(path.clone());
        *harmed.file("meta.json") = text.to_vec();
        (kind.harm)(&mut harmed);
        if let Some(text) = harmed.files.get_mut("meta.json")
            && let Ok(mut meta) = BlockMeta::decode(text)
            && let Some(thanos) = &mut meta.thanos
            && thanos.labels.get("cluster").is_some_and(|name| name == "a")
        {
            thanos
                .labels
                .insert("cluster".to_owned(), labels[0].1.to_owned());
            *text = meta.encode();
        }
        for info in bucket.list(&ulid.to_string()).await.unwrap() {
            bucket.delete(&info.key).await.unwrap();
        }
        for (name, bytes) in harmed.files {
            let key = keys::in_block(ulid, &name);
            bucket.put(&key, Bytes::from(bytes)).await.unwrap();
        }
    }
    id(first + 1)
}

/// Overlapping samples of the two that hold other values at the same times are those of one of them: times count.
#[track_caller]
fn assert_nothing_lost(before: &Model, after: &Model) {
    for (labels, samples) in before {
        let found = after.get(labels);
        let missing = samples
            .keys()
            .filter(|t| !found.is_some_and(|found| found.contains_key(t)));
        assert_eq!(missing.count(), 0, "{labels} lost samples");
    }
}

async fn everything_goes_on(world: &World) {
    let kinds = kinds();
    assert!(20 <= kinds.len());
    let mut damaged = Vec::new();
    for (number, kind) in (0u64..).zip(&kinds) {
        damaged.push(put_group(&*world.bucket, number, kind).await);
    }
    // A copy of a healthy block, and a block of which everything is in another one.
    fill(&*world.bucket, &[(1, (0, 2)), (2, (0, 2))]).await;
    let before = world.content().await;
    let compactor = world.compactor();
    let report = compactor.compact(&Cancel::new()).await.unwrap();
    assert_eq!(report.failed, []);
    let survey = world.survey().await;
    let status = compactor.status();
    for (kind, block) in kinds.iter().zip(&damaged) {
        let name = kind.name;
        let now = survey.blocks.iter().find(|one| one.meta.ulid == *block);
        let is_merged = report.made.iter().any(|made| made.sources.contains(block));
        let repaired = report.repaired.iter().find(|(from, _)| from == block);
        match kind.expect {
            Aside => {
                assert!(status.aside.contains_key(block), "{name}: not named");
                assert!(!is_merged, "{name}");
                let mark = now.and_then(|one| one.no_compact.clone());
                let is_marked = mark.is_some_and(|(reason, _)| reason == DAMAGED);
                let is_read = now.is_some_and(|one| {
                    one.meta
                        .thanos
                        .as_ref()
                        .is_some_and(|thanos| !thanos.labels.is_empty())
                });
                let is_known = now.is_some_and(|one| one.meta.resolution().is_some());
                assert_eq!(is_marked, is_read && is_known, "{name}");
                assert!(now.is_none_or(|one| one.deletion_ms.is_none()), "{name}");
            }
            Repaired => {
                let (_, new) = repaired.unwrap_or_else(|| panic!("{name}: {report:?}"));
                assert!(
                    report.made.iter().any(|made| made.sources.contains(new)),
                    "{name}"
                );
            }
            Compacted => assert!(is_merged, "{name}: {:?}", status.aside.get(block)),
            Leftover => {
                let is_there = survey.leftovers.iter().any(|one| one.block == *block);
                assert!(is_there, "{name}");
            }
        }
        // The healthy neighbours behind the damaged block are one block now.
        let third = id(block.created_ms() + 1);
        let has_gone_on = report.made.iter().any(|made| made.sources.contains(&third));
        assert!(has_gone_on, "{name}: the rest did not go on");
    }
    assert_nothing_lost(&before, &world.content().await);
    world.assert_tidy();
    // A second look finds nothing new, and still names them.
    let again = world.compactor();
    let report = again.compact(&Cancel::new()).await.unwrap();
    assert_eq!((report.made, report.set_aside), (Vec::new(), Vec::new()));
    assert_eq!(again.status().aside.len(), status.aside.len());
}

#[tokio::test]
async fn a_directory_of_damaged_blocks_is_compacted_around_them() {
    everything_goes_on(&World::directory()).await;
}

#[tokio::test]
async fn an_s3_bucket_of_damaged_blocks_is_compacted_around_them() {
    everything_goes_on(&World::s3().await).await;
}
