//! Blocks that are here and in the bucket, and blocks that are damaged here.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::block::{Block, BlockMeta, NewBlock, merge_blocks};
use crate::gateway::{BlockInfo, Snapshot};
use crate::index::SeriesEntry;
use crate::model::{BlockId, Interval, Labels, Matcher, Resolution, TimeRange};
use crate::promql::{Engine, EngineSettings, QueryOptions, QueryOutput};
use crate::storage::{
    ChunkSeries, LabelAnswer, LabelHints, Queryable, SelectHints, SeriesSet, StorageError,
};
use crate::tsdb::Tsdb;
use crate::tsdb::tests::{Model, append, copy_dir, open, samples, scratch};

/// A block of the bucket, and how many chunks were taken from it.
struct Counted {
    block: Block,
    n_chunks: Arc<AtomicU64>,
}

struct CountedSet(Box<dyn SeriesSet>, Arc<AtomicU64>);

impl SeriesSet for CountedSet {
    fn next(&mut self) -> Option<Result<ChunkSeries, StorageError>> {
        let next = self.0.next();
        if let Some(Ok(series)) = &next {
            self.1
                .fetch_add(series.chunks.len() as u64, Ordering::Relaxed);
        }
        next
    }
}

impl Queryable for Counted {
    fn select(
        &self,
        matchers: &[Matcher],
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        let set = self.block.select(matchers, hints)?;
        Ok(Box::new(CountedSet(set, Arc::clone(&self.n_chunks))))
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        self.block.label_names(matchers, hints)
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        self.block.label_values(name, matchers, hints)
    }
}

/// A bucket of these blocks; the blocks named in `rewritten` do not say what they were made of.
fn bucket(blocks: &[&Block], rewritten: &[BlockId], n_chunks: &Arc<AtomicU64>) -> Arc<Snapshot> {
    let served = blocks.iter().map(|block| {
        let meta = block.meta();
        let info = BlockInfo {
            id: meta.ulid,
            range: meta.range(),
            resolution: Resolution::Raw,
            sources: if rewritten.contains(&meta.ulid) {
                Vec::new()
            } else {
                meta.compaction.sources.clone()
            },
            external: Labels::empty(),
            is_own: true,
        };
        let counted = Counted {
            block: (*block).clone(),
            n_chunks: Arc::clone(n_chunks),
        };
        (info, Arc::new(counted) as Arc<dyn Queryable>)
    });
    Arc::new(Snapshot::new(served.collect()))
}

fn shipped(db: &Tsdb, block: &Block, to: &Path) -> Block {
    let name = block.meta().ulid.to_string();
    copy_dir(&db.dir().join(&name), &to.join(&name));
    Block::open(&to.join(&name)).unwrap()
}

/// How often each series has a sample, and what the answer cost.
fn query(db: &Tsdb) -> QueryOutput {
    let engine = Engine::new(EngineSettings::default(), None);
    let options = QueryOptions::default();
    engine
        .instant(db.timeline(), "count_over_time(m[1h])", 10_000, &options)
        .unwrap()
}

/// Samples of two series in two blocks and the head.
fn three_parts(dir: &Path) -> (Tsdb, Model) {
    let db = open(dir);
    let mut model = Model::new();
    append(&db, &["a", "b"], (0..1500).map(|n| n * 2), &mut model);
    while db.cut().unwrap().is_some() {}
    assert_eq!(db.blocks().len(), 2);
    (db, model)
}

#[test]
fn a_block_that_is_here_and_in_the_bucket_is_read_once_and_here() {
    let (dir, there) = (scratch(), scratch());
    let (db, model) = three_parts(dir.path());
    let alone = query(&db);
    let [a, b] = [&db.blocks()[0], &db.blocks()[1]].map(|one| shipped(&db, one, there.path()));
    let (id_a, id_b) = (a.meta().ulid, b.meta().ulid);
    let new = NewBlock {
        level: 2,
        sources: vec![id_a, id_b],
        ..NewBlock::new(BlockId::from_parts(1, 1), TimeRange { min: 0, max: 2000 })
    };
    let both: [Arc<dyn Queryable>; 2] = [Arc::new(a.clone()), Arc::new(b.clone())];
    let meta = merge_blocks(there.path(), new, &both).unwrap().unwrap();
    let joined = Block::open(&there.path().join(meta.ulid.to_string())).unwrap();
    let n_read = Arc::new(AtomicU64::new(0));
    let check = |blocks: &[&Block], rewritten: &[BlockId], n_chunks: u64| {
        db.set_bucket(bucket(blocks, rewritten, &n_read));
        n_read.store(0, Ordering::Relaxed);
        assert_eq!(samples(&*db.timeline()), model);
        assert_eq!(n_read.load(Ordering::Relaxed), n_chunks);
        let output = query(&db);
        assert_eq!(output.value, alone.value);
        let cost = |output: &QueryOutput| {
            let stats = &output.stats;
            (
                stats.series,
                stats.chunks,
                stats.chunk_bytes,
                stats.samples_decoded,
            )
        };
        assert_eq!(cost(&output), cost(&alone));
    };
    let per_block = n_chunks(&a);
    assert_eq!((per_block, n_chunks(&joined)), (8, 16));
    check(&[&a, &b], &[], 0);
    check(&[&joined], &[], 0);
    // Nobody knows what was done to it.
    check(&[&joined], &[joined.meta().ulid], 16);
    db.set_bucket(bucket(&[&a, &b], &[], &n_read));
    let held = db.timeline();
    assert!(db.delete_block(id_a).unwrap());
    n_read.store(0, Ordering::Relaxed);
    assert_eq!(samples(&*held), model);
    assert_eq!(n_read.load(Ordering::Relaxed), 0, "held from before");
    check(&[&a, &b], &[], per_block);
    check(&[&joined], &[], 16);
    assert!(db.delete_block(id_b).unwrap());
    check(&[&a, &b], &[], 2 * per_block);
}

#[test]
fn what_was_deleted_here_is_not_taken_from_the_copy_in_the_bucket() {
    let (dir, there) = (scratch(), scratch());
    let (db, mut model) = three_parts(dir.path());
    let whole = shipped(&db, &db.blocks()[0], there.path());
    db.set_bucket(bucket(&[&whole], &[], &Arc::default()));
    let gone = Interval { min: 100, max: 300 };
    db.delete_series(&[Matcher::equal("n", "a")], gone).unwrap();
    let of_a = model.get_mut("a").unwrap();
    of_a.retain(|t, _| !gone.contains(*t));
    assert_eq!(samples(&*db.timeline()), model);
}

#[test]
fn when_the_disk_is_full_blocks_that_the_bucket_has_go_first_and_answers_stay_the_same() {
    let (dir, there) = (scratch(), scratch());
    let db = open(dir.path());
    let mut model = Model::new();
    append(&db, &["a", "b"], (0..2500).map(|n| n * 2), &mut model);
    while db.cut().unwrap().is_some() {}
    let blocks = db.blocks();
    let ids: Vec<BlockId> = blocks.iter().map(|block| block.meta().ulid).collect();
    assert_eq!(ids.len(), 4);
    let copies = [&blocks[1], &blocks[3]].map(|one| shipped(&db, one, there.path()));
    db.set_bucket(bucket(&[&copies[0], &copies[1]], &[], &Arc::default()));
    let is_shipped = |meta: &BlockMeta| [ids[1], ids[3]].contains(&meta.ulid);
    assert_eq!(db.make_room(&is_shipped).unwrap(), [], "there is room");
    db.head().note_full();
    // Nobody knows how much is needed: one goes, and then there is room.
    assert_eq!(db.make_room(&is_shipped).unwrap(), [ids[1]]);
    assert!(!db.head().is_full());
    append(&db, &["a", "b"], [6000], &mut model);
    assert_eq!(samples(&*db.timeline()), model);
    db.head().note_full();
    assert_eq!(db.make_room(&is_shipped).unwrap(), [ids[3]]);
    db.head().note_full();
    assert_eq!(
        db.make_room(&is_shipped).unwrap(),
        [],
        "the others are the only copies"
    );
    assert!(!db.head().is_full());
    assert_eq!(samples(&*db.timeline()), model);
}

fn n_chunks(block: &Block) -> u64 {
    block.meta().stats.num_chunks
}

/// Series, times and place of every chunk.
fn chunks_of(block: &Block) -> Vec<(String, Interval, usize)> {
    let mut entry = SeriesEntry::default();
    let mut all = Vec::new();
    for id in block.index().all_series().unwrap() {
        block.index().series(id, &mut entry).unwrap();
        let labels = block.index().labels(id, &entry).unwrap();
        for chunk in &entry.chunks {
            let offset = usize::try_from(chunk.at.offset()).unwrap();
            all.push((labels.value("n").to_owned(), chunk.interval(), offset));
        }
    }
    all
}

/// Changes a byte of a file that is mapped, in place.
fn flip(path: &Path, at: usize) {
    use std::os::unix::fs::FileExt;
    let file = fs::File::options().read(true).write(true).open(path);
    let file = file.unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at as u64).unwrap();
}

#[test]
fn a_damaged_chunk_here_is_a_warning_that_names_it_and_all_else_answers() {
    let dir = scratch();
    let (db, model) = three_parts(dir.path());
    let block = db.blocks()[0].clone();
    let segment = block.dir().join("chunks/000001");
    let all = chunks_of(&block);
    assert_eq!(all.len(), 8);
    for (n, (name, lost, offset)) in all.iter().enumerate() {
        flip(&segment, offset + 20);
        let mut rest = model.clone();
        rest.get_mut(name)
            .unwrap()
            .retain(|t, _| !lost.contains(*t));
        assert_eq!(samples(&*db.timeline()), rest);
        let output = query(&db);
        assert_eq!(output.warnings.len(), 1, "{:?}", output.warnings);
        let series = format!("{{__name__=\"m\", n=\"{name}\"}}");
        for part in [
            format!("block {}", block.meta().ulid),
            format!("{}: offset {offset}: ", segment.display()),
            "checksum".to_owned(),
            format!(
                "samples of {series} from {} to {} are missing",
                lost.min, lost.max
            ),
        ] {
            assert!(
                output.warnings[0].contains(&part),
                "{part}: {:?}",
                output.warnings
            );
        }
        let stats = db.stats();
        assert_eq!(
            (stats.n_damaged, stats.damages_met_total),
            (1, 2 * n as u64 + 2)
        );
        flip(&segment, offset + 20);
    }
    let known = db.damaged();
    assert_eq!(known[&block.meta().ulid].len(), 8, "{known:?}");
    assert_eq!(samples(&*db.timeline()), model);
    assert!(db.delete_block(block.meta().ulid).unwrap());
    assert_eq!(db.stats().n_damaged, 0);
}

#[test]
fn a_missing_segment_and_a_damaged_index_here_are_warnings() {
    let dir = scratch();
    let (db, model) = three_parts(dir.path());
    let block = db.blocks()[1].clone();
    let (name, later) = (block.dir().to_owned(), block.meta().range());
    drop((db, block));
    fs::remove_file(name.join("chunks/000001")).unwrap();
    let db = open(dir.path());
    let mut rest = model;
    for times in rest.values_mut() {
        times.retain(|t, _| *t < later.min || later.max <= *t);
    }
    assert_eq!(samples(&*db.timeline()), rest);
    let output = query(&db);
    assert_eq!(output.warnings.len(), 2, "{:?}", output.warnings);
    assert!(output.warnings[0].contains("the file is missing"));
    // A byte of a series entry, behind the symbols, in the block that is whole otherwise.
    let sound = db.blocks()[0].clone();
    let at = usize::try_from(sound.index().toc().series).unwrap() + 20;
    flip(&sound.dir().join("index"), at);
    let output = query(&db);
    let names = |warning: &String| warning.contains("index: offset") && warning.contains("series");
    assert!(output.warnings.iter().any(names), "{:?}", output.warnings);
}

#[test]
fn a_block_that_is_damaged_here_is_read_in_the_bucket_too() {
    let (dir, there) = (scratch(), scratch());
    let (db, model) = three_parts(dir.path());
    let block = db.blocks()[0].clone();
    let copy = shipped(&db, &block, there.path());
    db.set_bucket(bucket(&[&copy], &[], &Arc::default()));
    let (name, lost, offset) = chunks_of(&block)[3].clone();
    flip(&block.dir().join("chunks/000001"), offset + 20);
    let mut rest = model.clone();
    rest.get_mut(&name)
        .unwrap()
        .retain(|t, _| !lost.contains(*t));
    assert_eq!(
        samples(&*db.timeline()),
        rest,
        "nobody knows of the damage yet"
    );
    assert_eq!(samples(&*db.timeline()), model);
    assert_eq!(query(&db).warnings.len(), 1);
    // With something deleted here the copy would bring it back.
    let gone = Interval { min: 100, max: 110 };
    db.delete_series(&[Matcher::equal("n", "a")], gone).unwrap();
    rest.get_mut("a").unwrap().retain(|t, _| !gone.contains(*t));
    samples(&*db.timeline());
    assert_eq!(samples(&*db.timeline()), rest);
}
