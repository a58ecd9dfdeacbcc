//! Written blocks are read back; damage costs only what it hits.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::block::{
    Block, BlockError, BlockMeta, NewBlock, TMP_FOR_CREATION, ThanosMeta, merge_blocks, verify,
    write_block,
};
use crate::chunk::{decode_floats, encode_floats};
use crate::foundation::Pool;
use crate::model::{BlockId, Encoding, Interval, Labels, Matcher, Sample, TimeRange};
use crate::storage::contract::{self, START_MS, STEP_MS};
use crate::storage::{
    ChunkSeries, ChunkSlice, Queryable, SelectHints, SeriesSet, StorageError, VecSeriesSet, Windows,
};

const RANGE: TimeRange = TimeRange {
    min: START_MS,
    max: START_MS + 7_200_000,
};

fn id(n: u128) -> BlockId {
    BlockId::from_parts(1_700_000_000_000, n)
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

fn chunk_series(labels: &Labels, samples: &[Sample]) -> ChunkSeries {
    let (times, values): (Vec<i64>, Vec<f64>) =
        samples.iter().map(|sample| (sample.t, sample.v)).unzip();
    let chunks = encode_floats(&times, &values)
        .unwrap()
        .into_iter()
        .map(|chunk| ChunkSlice {
            min_t: chunk.min_t,
            max_t: chunk.max_t,
            encoding: chunk.encoding,
            data: Bytes::from(chunk.data),
        })
        .collect();
    ChunkSeries {
        labels: labels.clone(),
        chunks,
    }
}

fn set_of(fixture: &contract::Fixture) -> VecSeriesSet {
    let series = fixture
        .iter()
        .map(|(labels, samples)| chunk_series(labels, samples))
        .collect();
    VecSeriesSet::new(series, Vec::new())
}

fn written(
    parent: &Path,
    new: NewBlock,
    fixture: &contract::Fixture,
) -> Option<(BlockMeta, PathBuf)> {
    let meta = write_block(parent, new, &mut set_of(fixture)).unwrap()?;
    let dir = parent.join(meta.ulid.to_string());
    Some((meta, dir))
}

/// Samples per series, or the error that ended them.
fn read(source: &dyn Queryable, matchers: &[Matcher]) -> Result<contract::Fixture, StorageError> {
    let mut set = source.select(matchers, &SelectHints::new(Interval::ALL))?;
    let mut all = Vec::new();
    while let Some(series) = set.next() {
        let series = series?;
        let samples = series
            .chunks
            .iter()
            .flat_map(|chunk| decode(chunk.encoding, &chunk.data))
            .collect();
        all.push((series.labels, samples));
    }
    Ok(all)
}

#[track_caller]
fn assert_same(found: &contract::Fixture, expect: &contract::Fixture) {
    let text = |fixture: &contract::Fixture| -> Vec<String> {
        let bits = |samples: &[Sample]| -> Vec<(i64, u64)> {
            samples
                .iter()
                .map(|sample| (sample.t, sample.v.to_bits()))
                .collect()
        };
        fixture
            .iter()
            .map(|(labels, samples)| format!("{labels} {:?}", bits(samples)))
            .collect()
    };
    assert_eq!(text(found), text(expect));
}

#[test]
fn a_block_keeps_the_contract_of_a_source() {
    let root = tempfile::tempdir().unwrap();
    let (meta, dir) = written(
        root.path(),
        NewBlock::new(id(1), RANGE),
        &contract::fixture(),
    )
    .unwrap();
    let block = Block::open(&dir).unwrap();
    contract::check(&block, decode);
    assert_eq!(block.meta(), &meta);
    assert_eq!((meta.stats.num_series, meta.compaction.level), (12, 1));
    assert_eq!(meta.compaction.sources, [id(1)]);
    let n_samples: usize = contract::fixture()
        .iter()
        .map(|(_, samples)| samples.len())
        .sum();
    assert_eq!(meta.stats.num_samples, n_samples as u64);
    let report = block.verify();
    assert!(report.is_healthy(), "{report:?}");
    assert_eq!(report.stats, meta.stats);
    let mut names: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["chunks", "index", "meta.json", "tombstones"]);
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
}

#[test]
fn chunks_between_the_windows_of_a_query_are_not_read() {
    let root = tempfile::tempdir().unwrap();
    let (_, dir) = written(
        root.path(),
        NewBlock::new(id(1), RANGE),
        &contract::fixture(),
    )
    .unwrap();
    let block = Block::open(&dir).unwrap();
    let n_chunks = |windows| {
        let hints = SelectHints {
            windows,
            ..SelectHints::new(Interval::ALL)
        };
        let mut set = block.select(&[], &hints).unwrap();
        let series = std::iter::from_fn(|| set.next());
        series.map(|s| s.unwrap().chunks.len()).max().unwrap()
    };
    let half_hour_ms = 1_800_000;
    let windows = Windows {
        first: Interval {
            min: START_MS,
            max: START_MS + 60_000,
        },
        step_ms: 2 * half_hour_ms,
        n: 2,
    };
    assert_eq!(n_chunks(None), 4);
    assert_eq!(n_chunks(Some(windows)), 2);
}

#[test]
fn merged_blocks_keep_the_contract_wherever_they_were_cut() {
    let root = tempfile::tempdir().unwrap();
    // Odd blocks overlap their neighbours by a few minutes; samples there are held twice.
    let mut sources: Vec<Arc<dyn Queryable>> = Vec::new();
    for (n, (from, to)) in (1u128..).zip([(0, 41), (40, 130), (100, 101), (120, 500)]) {
        let range = TimeRange {
            min: START_MS + from * STEP_MS,
            max: START_MS + to * STEP_MS,
        };
        let new = NewBlock::new(id(n), range);
        let (_, dir) = written(root.path(), new, &contract::fixture()).unwrap();
        assert!(verify(&dir).is_healthy(), "{:?}", verify(&dir));
        sources.push(Arc::new(Block::open(&dir).unwrap()));
    }
    let mut new = NewBlock::new(id(9), RANGE);
    new.level = 2;
    new.sources = vec![id(1), id(2), id(3), id(4)];
    new.thanos = Some(ThanosMeta {
        source: "compactor".to_owned(),
        ..ThanosMeta::default()
    });
    let meta = merge_blocks(root.path(), new, &sources).unwrap().unwrap();
    let dir = root.path().join(meta.ulid.to_string());
    contract::check(&Block::open(&dir).unwrap(), decode);
    assert!(verify(&dir).is_healthy(), "{:?}", verify(&dir));
    assert_eq!(BlockMeta::read(&dir).unwrap(), meta);
    assert_eq!(meta.compaction.sources.len(), 4);
}

#[test]
fn the_range_cuts_samples_on_both_ends() {
    let root = tempfile::tempdir().unwrap();
    let range = TimeRange {
        min: START_MS + 50 * STEP_MS,
        max: START_MS + 200 * STEP_MS,
    };
    let (_, dir) = written(
        root.path(),
        NewBlock::new(id(1), range),
        &contract::fixture(),
    )
    .unwrap();
    let mut expect = contract::fixture();
    for (_, samples) in &mut expect {
        samples.retain(|sample| range.min <= sample.t && sample.t < range.max);
    }
    expect.retain(|(_, samples)| !samples.is_empty());
    assert_same(&read(&Block::open(&dir).unwrap(), &[]).unwrap(), &expect);
    assert!(verify(&dir).is_healthy());
}

#[test]
fn no_samples_make_no_block_and_leave_nothing() {
    let root = tempfile::tempdir().unwrap();
    let before = TimeRange {
        min: 0,
        max: START_MS,
    };
    assert!(
        written(
            root.path(),
            NewBlock::new(id(1), before),
            &contract::fixture()
        )
        .is_none()
    );
    assert!(written(root.path(), NewBlock::new(id(1), RANGE), &Vec::new()).is_none());
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

/// Fails after two series.
struct Broken(VecSeriesSet, usize);

impl SeriesSet for Broken {
    fn next(&mut self) -> Option<Result<ChunkSeries, StorageError>> {
        self.1 += 1;
        if self.1 < 3 {
            return self.0.next();
        }
        Some(Err(StorageError::Corrupt("torn".to_owned())))
    }
}

#[test]
fn a_source_that_fails_leaves_no_block() {
    let root = tempfile::tempdir().unwrap();
    let left_over = root.path().join(format!("{}{TMP_FOR_CREATION}", id(1)));
    fs::create_dir_all(left_over.join("chunks")).unwrap();
    let mut broken = Broken(set_of(&contract::fixture()), 0);
    let result = write_block(root.path(), NewBlock::new(id(1), RANGE), &mut broken);
    assert!(matches!(result, Err(BlockError::Source(_))), "{result:?}");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn deleted_samples_are_gone_and_the_block_tells_how_many_tombstones_it_has() {
    let root = tempfile::tempdir().unwrap();
    let (_, dir) = written(
        root.path(),
        NewBlock::new(id(1), RANGE),
        &contract::fixture(),
    )
    .unwrap();
    let gone = Interval {
        min: START_MS + 10 * STEP_MS,
        max: START_MS + 300 * STEP_MS,
    };
    let block = Block::open(&dir).unwrap();
    let job = [Matcher::equal("job", "api")];
    assert_eq!(block.delete(&job, gone).unwrap(), 5);
    let all = [Matcher::equal("instance", "host-3")];
    assert_eq!(block.delete(&all, Interval::ALL).unwrap(), 1);
    Block::open(&dir).unwrap().delete(&job, gone).unwrap();
    let n_tombstones = Block::open(&dir)
        .unwrap()
        .delete(&all, Interval::ALL)
        .unwrap();
    let block = Block::open(&dir).unwrap();
    assert_eq!(block.meta().stats.num_tombstones, n_tombstones as u64);
    let mut expect = contract::fixture();
    for (labels, samples) in &mut expect {
        let is_api = labels.value("job") == "api";
        samples.retain(|sample| !(is_api && gone.contains(sample.t)));
    }
    expect.retain(|(labels, samples)| !samples.is_empty() && labels.value("instance") != "host-3");
    assert_same(&read(&block, &[]).unwrap(), &expect);
}

/// Two small series whose chunks, index and tombstones are short enough to damage everywhere.
fn small(root: &Path) -> (PathBuf, contract::Fixture) {
    let sample = |t: i64, v: f64| Sample { t: START_MS + t, v };
    let fixture = vec![
        (
            Labels::new(&[("a", "1")]).unwrap(),
            vec![sample(0, 1.0), sample(9, 2.5)],
        ),
        (Labels::new(&[("b", "2")]).unwrap(), vec![sample(5, -1.0)]),
    ];
    let (_, dir) = written(root, NewBlock::new(id(1), RANGE), &fixture).unwrap();
    (dir, fixture)
}

/// Without waiting for the disk, thousands of times. Nothing maps the file meanwhile.
fn overwrite(path: &Path, bytes: &[u8]) {
    fs::File::create(path).unwrap().write_all(bytes).unwrap();
}

/// Calls `check` with every truncation and every flipped bit of one file in place.
fn damage(path: &Path, check: &mut dyn FnMut(&str)) {
    let whole = fs::read(path).unwrap();
    let mut with = |bytes: &[u8], how: &str| {
        overwrite(path, bytes);
        check(how);
    };
    for len in 0..whole.len() {
        with(&whole[..len], &format!("cut to {len}"));
    }
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 0x80 >> (bit % 8);
        with(&damaged, &format!("bit {bit}"));
    }
    overwrite(path, &whole);
}

#[test]
fn a_damaged_chunk_costs_only_the_select_that_needs_it() {
    let root = tempfile::tempdir().unwrap();
    let (dir, fixture) = small(root.path());
    let (mut n_left_lost, mut n_right_lost) = (0, 0);
    damage(&dir.join("chunks/000001"), &mut |how| {
        let block = Block::open(&dir).unwrap();
        let left = read(&block, &[Matcher::equal("a", "1")]);
        let right = read(&block, &[Matcher::equal("b", "2")]);
        for (result, expect, n_lost) in [
            (&left, &fixture[..1], &mut n_left_lost),
            (&right, &fixture[1..], &mut n_right_lost),
        ] {
            match result {
                Ok(found) => assert_same(found, &expect.to_vec()),
                Err(error) => {
                    *n_lost += 1;
                    assert!(
                        error.to_string().contains("000001: offset "),
                        "{how}: {error}"
                    );
                }
            }
        }
        if left.is_err() || right.is_err() {
            assert!(!verify(&dir).is_healthy(), "{how}");
        }
    });
    let n_header_bits = 5 * 8;
    assert!(n_left_lost > n_header_bits && n_right_lost > n_header_bits);
    assert!(verify(&dir).is_healthy());
}

#[test]
fn many_series_are_read_by_several_threads_as_by_one() {
    let root = tempfile::tempdir().unwrap();
    let fixture: contract::Fixture = (0..1000)
        .map(|n| {
            let labels = Labels::new(&[("n", &format!("{n:04}"))]).unwrap();
            let t = START_MS + n;
            (labels, vec![Sample { t, v: 1.0 }])
        })
        .collect();
    let (_, dir) = written(root.path(), NewBlock::new(id(1), RANGE), &fixture).unwrap();
    let segment = dir.join("chunks/000001");
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    overwrite(&segment, &bytes);
    let block = Block::open(&dir).unwrap();
    let read_with = |helpers| {
        let hints = SelectHints {
            helpers,
            ..SelectHints::new(Interval::ALL)
        };
        let mut set = block.select(&[], &hints).unwrap();
        let all = std::iter::from_fn(|| set.next());
        let all = all.map(|series| match series {
            Ok(series) => format!("{} {:?}", series.labels, series.chunks),
            Err(error) => error.to_string(),
        });
        all.collect::<Vec<_>>()
    };
    let alone = read_with(None);
    assert!(alone.len() == 1000 && alone.iter().any(|line| line.contains("checksum")));
    let pool = Pool::new("block-test", 3, 64).unwrap();
    assert_eq!(read_with(Some(pool.clone())), alone);
    pool.stop();
}

#[test]
fn a_damaged_index_is_an_error_or_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let (dir, fixture) = small(root.path());
    let mut n_errors = 0;
    damage(&dir.join("index"), &mut |how| {
        let opened = Block::open(&dir).map_err(|error| error.to_string());
        let found = opened.and_then(|block| read(&block, &[]).map_err(|error| error.to_string()));
        match found {
            Ok(found) => assert_same(&found, &fixture),
            Err(error) => {
                n_errors += 1;
                assert!(error.contains("index: offset "), "{how}: {error}");
            }
        }
    });
    assert!(n_errors > 1000, "{n_errors}");
}

#[test]
fn damaged_tombstones_are_an_error() {
    let root = tempfile::tempdir().unwrap();
    let (dir, _) = small(root.path());
    Block::open(&dir)
        .unwrap()
        .delete(&[Matcher::equal("a", "1")], Interval::ALL)
        .unwrap();
    damage(&dir.join("tombstones"), &mut |how| {
        let error = Block::open(&dir).unwrap_err().to_string();
        assert!(error.contains("tombstones: offset "), "{how}: {error}");
        assert!(!verify(&dir).is_healthy());
    });
    fs::remove_file(dir.join("tombstones")).unwrap();
    assert!(Block::open(&dir).unwrap().tombstones().is_empty());
}

#[test]
fn a_damaged_meta_is_an_error_or_a_meta() {
    let root = tempfile::tempdir().unwrap();
    let (dir, _) = small(root.path());
    damage(&dir.join("meta.json"), &mut |how| match Block::open(&dir) {
        Ok(block) => assert_eq!(block.meta().version, 1, "{how}"),
        Err(error) => assert!(error.to_string().contains("meta.json: "), "{how}: {error}"),
    });
}

#[test]
fn missing_files_are_named() {
    let root = tempfile::tempdir().unwrap();
    for file in ["meta.json", "index", "chunks/000001", "chunks"] {
        let (dir, _) = small(root.path());
        let path = dir.join(file);
        let is_dir = path.is_dir();
        if is_dir {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        }
        .unwrap();
        let text = match Block::open(&dir) {
            Ok(block) => read(&block, &[]).unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(text.contains(file), "{text}");
        fs::remove_dir_all(&dir).unwrap();
    }
}
