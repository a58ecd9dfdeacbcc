//! Compacted blocks answer as their sources did, whatever overlaps and whatever was deleted.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use crate::block::{
    Block, BlockMeta, BlockSource, NewBlock, Tombstones, meta, verify, write_block,
};
use crate::chunk::{
    Counts, EncodedChunk, decode_floats_with_starts, decode_histograms, encode_floats,
    encode_floats_with_starts, encode_histograms,
};
use crate::compact::{CompactError, compact, merged_block};
use crate::foundation::Cancel;
use crate::foundation::cancel::CancelReason;
use crate::model::{BlockId, Histogram, Interval, Labels, TimeRange};
use crate::storage::{ChunkSeries, ChunkSlice, Fanout, Queryable, SelectHints, VecSeriesSet};

/// Times of one series with what was there: bits of a float, or the count of a histogram.
type Samples = BTreeMap<i64, u64>;
type Model = BTreeMap<String, Samples>;

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_not_there| tempfile::tempdir())
        .unwrap()
}

fn id(n: u64) -> BlockId {
    BlockId::from_parts(n, 7)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Float,
    FloatSince,
    Whole,
    Native,
}

/// One series of one source: its name, what it holds, its first time, and how many samples 7 apart.
#[derive(Debug, Clone)]
struct Spec {
    name: u8,
    kind: Kind,
    start: i64,
    n: i64,
}

fn encoded(spec: &Spec, source: u32) -> Vec<EncodedChunk> {
    let times: Vec<i64> = (0..spec.n).map(|i| spec.start + i * 7).collect();
    let value = |t: i64| f64::from(i32::try_from(t).unwrap()) * 10.0 + f64::from(source);
    let values: Vec<f64> = times.iter().map(|t| value(*t)).collect();
    let starts = vec![1; times.len()];
    let histograms: Vec<Arc<Histogram>> = values
        .iter()
        .map(|v| {
            Arc::new(Histogram {
                count: *v,
                zero_count: *v,
                ..Histogram::default()
            })
        })
        .collect();
    match spec.kind {
        Kind::Float => encode_floats(&times, &values),
        Kind::FloatSince => encode_floats_with_starts(&times, &values, &starts),
        Kind::Whole => encode_histograms(Counts::Whole, &times, &histograms, None),
        Kind::Native => encode_histograms(Counts::Float, &times, &histograms, Some(&starts)),
    }
    .unwrap()
}

fn slices(chunks: Vec<EncodedChunk>) -> Vec<ChunkSlice> {
    chunks
        .into_iter()
        .map(|chunk| ChunkSlice {
            min_t: chunk.min_t,
            max_t: chunk.max_t,
            encoding: chunk.encoding,
            data: Bytes::from(chunk.data),
        })
        .collect()
}

const RANGE: TimeRange = TimeRange {
    min: 0,
    max: 10_000,
};

fn write(dir: &Path, source: u32, specs: &[Spec]) -> Option<Block> {
    let mut by_name: BTreeMap<u8, Vec<ChunkSlice>> = BTreeMap::new();
    for spec in specs {
        let chunks = by_name.entry(spec.name).or_default();
        chunks.extend(slices(encoded(spec, source)));
    }
    let series = by_name.into_iter().map(|(name, mut chunks)| {
        chunks.sort_by_key(|chunk| chunk.min_t);
        let (own, name) = (format!("own-{source}"), name.to_string());
        let labels = [("__name__", "m"), ("n", &*name), (&*own, "1")];
        // Every third series is in one source only, so that symbols differ.
        let n_labels = if name.ends_with('3') { 3 } else { 2 };
        ChunkSeries {
            labels: Labels::new(&labels[..n_labels]).unwrap(),
            chunks,
        }
    });
    let mut set = VecSeriesSet::new(series.collect(), Vec::new());
    let meta = write_block(dir, NewBlock::new(id(u64::from(source)), RANGE), &mut set).unwrap()?;
    Some(Block::open(&dir.join(meta.ulid.to_string())).unwrap())
}

/// Every time once, from the chunk that comes first.
fn read(source: &dyn Queryable) -> Model {
    let mut set = source
        .select(&[], &SelectHints::new(Interval::ALL))
        .unwrap();
    let mut model = Model::new();
    while let Some(series) = set.next() {
        let series = series.unwrap();
        let samples = model.entry(series.labels.to_string()).or_default();
        for chunk in &series.chunks {
            for (t, v) in decode(chunk) {
                samples.entry(t).or_insert(v);
            }
        }
    }
    model
}

fn decode(chunk: &ChunkSlice) -> Vec<(i64, u64)> {
    let mut times = Vec::new();
    if chunk.encoding.has_histograms() {
        let mut histograms = Vec::new();
        decode_histograms(chunk.encoding, &chunk.data, &mut times, &mut histograms).unwrap();
        let counts = histograms.iter().map(|h| h.count.to_bits() ^ 1);
        return times.into_iter().zip(counts).collect();
    }
    let (mut values, mut starts) = (Vec::new(), Vec::new());
    let (t, v, st) = (&mut times, &mut values, &mut starts);
    decode_floats_with_starts(chunk.encoding, &chunk.data, t, v, st).unwrap();
    times
        .into_iter()
        .zip(values.into_iter().map(f64::to_bits))
        .collect()
}

fn compacted(dir: &Path, blocks: &[Block], range: Option<TimeRange>) -> Option<Block> {
    let metas: Vec<&BlockMeta> = blocks.iter().map(Block::meta).collect();
    let mut new = merged_block(id(1000), &metas);
    new.range = range.unwrap_or(new.range);
    let sources: Vec<&dyn BlockSource> = blocks.iter().map(|b| b as &dyn BlockSource).collect();
    let meta = compact(dir, new, &sources, &Cancel::new()).unwrap()?;
    let path = dir.join(meta.ulid.to_string());
    let report = verify(&path);
    assert!(report.is_healthy(), "{report:?}");
    assert_eq!(report.stats, meta.stats);
    assert_eq!(BlockMeta::read(&path).unwrap(), meta);
    Some(Block::open(&path).unwrap())
}

fn spec() -> impl Strategy<Value = Spec> {
    let kind = proptest::sample::select(vec![
        Kind::Float,
        Kind::FloatSince,
        Kind::Whole,
        Kind::Native,
    ]);
    (0u8..8, kind, 0i64..3000, 1i64..300).prop_map(|(name, kind, start, n)| Spec {
        name,
        kind,
        start,
        n,
    })
}

type Deletion = (u32, usize, i64, i64);

/// The sources on disk, and what they hold together once deletions are applied, computed without them.
fn sources(dir: &Path, all: &[Vec<Spec>], deletions: &[Deletion]) -> Vec<Block> {
    let mut blocks = Vec::new();
    for (source, specs) in (0u32..).zip(all) {
        let Some(block) = write(dir, source, specs) else {
            continue;
        };
        let mut tombstones = Tombstones::new();
        let ids = block.index().all_series().unwrap();
        for (of, series, min, len) in deletions {
            if *of == source {
                let series = ids[*series % ids.len()];
                let gone = Interval {
                    min: *min,
                    max: min + len,
                };
                tombstones.add(u64::from(series), gone);
            }
        }
        tombstones.write(block.dir()).unwrap();
        blocks.push(Block::open(block.dir()).unwrap());
    }
    blocks
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_result_answers_as_its_sources_did(
        all in prop::collection::vec(prop::collection::vec(spec(), 0..9), 1..5),
        deletions in prop::collection::vec((0u32..5, 0usize..8, 0i64..4000, 0i64..2000), 0..9),
        cut in prop::option::of((0i64..3000, 1i64..4000)),
    ) {
        let dir = scratch();
        let blocks = sources(dir.path(), &all, &deletions);
        let together: Vec<Arc<dyn Queryable>> = blocks
            .iter()
            .map(|block| Arc::new(block.clone()) as Arc<dyn Queryable>)
            .collect();
        let range = cut.map(|(min, len)| TimeRange { min, max: min + len });
        let mut expect = read(&Fanout::new(together));
        if let Some(range) = range {
            for samples in expect.values_mut() {
                samples.retain(|t, _| range.min <= *t && *t < range.max);
            }
        }
        expect.retain(|_, samples| !samples.is_empty());
        let found = compacted(dir.path(), &blocks, range);
        prop_assert_eq!(found.is_none(), expect.is_empty());
        if let Some(found) = found {
            let stats = found.meta().stats;
            let n: usize = expect.values().map(BTreeMap::len).sum();
            prop_assert_eq!((stats.num_samples, stats.num_series), (n as u64, expect.len() as u64));
            prop_assert_eq!(read(&found), expect);
        }
    }
}

#[test]
fn deleted_samples_are_not_in_the_result_and_come_from_the_source_that_has_them() {
    let dir = scratch();
    let float = |start| Spec {
        name: 1,
        kind: Kind::Float,
        start,
        n: 100,
    };
    let blocks = sources(
        dir.path(),
        &[vec![float(0)], vec![float(70)]],
        &[(0, 0, 140, 70)],
    );
    let found = read(&compacted(dir.path(), &blocks, None).unwrap());
    let samples = found.values().next().unwrap();
    let source_of = |t: i64| (f64::from_bits(samples[&t]) % 10.0).to_string();
    assert_eq!([133, 140, 210, 217].map(source_of), ["0", "1", "1", "0"]);
    assert_eq!((samples.len(), source_of(700).as_str()), (110, "1"));
}

#[test]
fn chunks_that_overlap_nothing_keep_their_bytes() {
    let dir = scratch();
    let kinds = [Kind::Float, Kind::FloatSince, Kind::Whole, Kind::Native];
    let specs = |start| -> Vec<Spec> {
        (0u8..)
            .zip(kinds)
            .map(|(name, kind)| Spec {
                name,
                kind,
                start,
                n: 200,
            })
            .collect()
    };
    let blocks = sources(dir.path(), &[specs(0), specs(2000)], &[]);
    let chunks = |source: &dyn Queryable| -> Vec<(i64, Bytes)> {
        let mut set = source
            .select(&[], &SelectHints::new(Interval::ALL))
            .unwrap();
        let mut all = Vec::new();
        while let Some(series) = set.next() {
            let chunks = series.unwrap().chunks;
            all.extend(chunks.into_iter().map(|chunk| (chunk.min_t, chunk.data)));
        }
        all.sort();
        all
    };
    let mut expect: Vec<_> = blocks.iter().flat_map(|block| chunks(block)).collect();
    expect.sort();
    assert_eq!(
        chunks(&compacted(dir.path(), &blocks, None).unwrap()),
        expect
    );
}

#[test]
fn the_result_descends_from_all_sources() {
    let made = |n: u32, (min, max): (i64, i64), level, hints: &[&str], sources: &[u64]| {
        let dir = scratch();
        let block = write(
            dir.path(),
            n,
            &[Spec {
                name: 0,
                kind: Kind::Float,
                start: 0,
                n: 1,
            }],
        );
        let mut meta = block.unwrap().meta().clone();
        (meta.min_time, meta.max_time) = (min, max);
        meta.compaction.level = level;
        meta.compaction.hints = hints.iter().map(|&hint| hint.to_owned()).collect();
        meta.compaction.sources = sources.iter().map(|n| id(*n)).collect();
        meta
    };
    let late = [meta::HINT_OUT_OF_ORDER];
    let first = made(3, (0, 20), 1, &late, &[3]);
    let second = made(2, (10, 60), 3, &[], &[2, 1]);
    let new = merged_block(id(9), &[&first, &second]);
    assert_eq!((new.range.min, new.range.max, new.level), (0, 60, 4));
    assert_eq!(new.sources, [id(1), id(2), id(3)]);
    let parents: Vec<_> = new
        .parents
        .iter()
        .map(|p| (p.ulid, p.min_time, p.max_time))
        .collect();
    assert_eq!(parents, [(id(3), 0, 20), (id(2), 10, 60)]);
    assert!(new.hints.is_empty());
    assert_eq!(merged_block(id(9), &[&first, &first]).hints, late);
    let stale = made(4, (0, 20), 1, &[meta::HINT_STALE_SERIES], &[4]);
    let hints = merged_block(id(9), &[&second, &stale]).hints;
    assert_eq!(hints, [meta::HINT_STALE_SERIES]);
}

#[test]
fn a_source_that_is_damaged_is_named_and_nothing_is_left() {
    let dir = scratch();
    let specs = [Spec {
        name: 0,
        kind: Kind::Float,
        start: 0,
        n: 50,
    }];
    let healthy = write(dir.path(), 0, &specs).unwrap();
    let damaged = write(dir.path(), 1, &specs).unwrap();
    let path = damaged.dir().join("chunks/000001");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    drop(damaged);
    crate::foundation::durable::replace_file(&path, &bytes).unwrap();
    let damaged = Block::open(path.ancestors().nth(2).unwrap()).unwrap();
    let sources: [&dyn BlockSource; 2] = [&healthy, &damaged];
    let new = || merged_block(id(9), &[healthy.meta(), damaged.meta()]);
    let error = compact(dir.path(), new(), &sources, &Cancel::new()).unwrap_err();
    assert_eq!(error.culprit(), Some(id(1)));
    assert!(
        error.to_string().contains("chunks/000001: offset 8"),
        "{error}"
    );
    let cancel = Cancel::new();
    cancel.cancel(CancelReason::Canceled);
    let error = compact(dir.path(), new(), &sources, &cancel).unwrap_err();
    assert!(matches!(error, CompactError::Canceled), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    assert!(verify(healthy.dir()).is_healthy());
}
