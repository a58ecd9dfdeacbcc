//! Sixty days of samples, compacted and downsampled as in a bucket.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use gauntlet::block::{
    Block, BlockMeta, BlockSource, NewBlock, ThanosDownsample, ThanosMeta, verify, write_block,
};
use gauntlet::chunk::encode_floats;
use gauntlet::compact::{compact, merged_block};
use gauntlet::downsample::{Candidate, Coverage, plan, run};
use gauntlet::foundation::Cancel;
use gauntlet::model::{BlockId, Resolution, Sample, TimeRange};
use gauntlet::storage::{ChunkSeries, ChunkSlice, VecSeriesSet};

use crate::samples::{Dump, labels, read, samples};
use crate::windows::assert_add_up;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// A multiple of fourteen days.
const START: i64 = 1_405 * 14 * DAY_MS;
const DAYS: i64 = 60;
/// Counters, gauges and what is neither, in label order.
const SERIES: [u32; 6] = [0, 5, 1, 2, 3, 4];

/// A minute apart.
fn sixty_days(series: u32) -> Vec<Sample> {
    let n = u32::try_from(DAYS * DAY_MS / 60_000).unwrap();
    let spread = |sample: Sample| Sample {
        t: START + (sample.t - START) * 4,
        v: sample.v,
    };
    samples(series, n, START).into_iter().map(spread).collect()
}

/// Blocks are named in the order in which they are made.
struct Bucket<'a> {
    dir: &'a Path,
    n_made: u64,
    blocks: Vec<BlockMeta>,
}

impl Bucket<'_> {
    fn next_id(&mut self) -> BlockId {
        self.n_made += 1;
        BlockId::from_parts(self.n_made, 0)
    }

    fn thanos(resolution: Resolution) -> Option<ThanosMeta> {
        Some(ThanosMeta {
            version: 1,
            labels: BTreeMap::from([("cluster".to_owned(), "a".to_owned())]),
            downsample: ThanosDownsample {
                resolution: resolution.as_ms(),
            },
            source: "sidecar".to_owned(),
            ..ThanosMeta::default()
        })
    }

    /// Eight hours of every series.
    fn cut(&mut self, range: TimeRange, all: &[(u32, Vec<Sample>)]) {
        let series = all.iter().map(|(number, samples)| {
            let inside = samples
                .iter()
                .filter(|s| range.min <= s.t && s.t < range.max);
            let (times, values): (Vec<i64>, Vec<f64>) = inside.map(|s| (s.t, s.v)).unzip();
            let slice = |chunk: gauntlet::chunk::EncodedChunk| ChunkSlice {
                min_t: chunk.min_t,
                max_t: chunk.max_t,
                encoding: chunk.encoding,
                data: Bytes::from(chunk.data),
            };
            ChunkSeries {
                labels: labels(*number),
                chunks: encode_floats(&times, &values)
                    .unwrap()
                    .into_iter()
                    .map(slice)
                    .collect(),
            }
        });
        let mut set = VecSeriesSet::new(series.collect(), Vec::new());
        let mut new = NewBlock::new(self.next_id(), range);
        new.thanos = Self::thanos(Resolution::Raw);
        self.blocks
            .extend(write_block(self.dir, new, &mut set).unwrap());
    }

    fn open(&self, id: BlockId) -> Block {
        Block::open(&self.dir.join(id.to_string())).unwrap()
    }

    /// Makes blocks of `resolution` one that lie within the same `span_ms`.
    fn compact(&mut self, resolution: Resolution, span_ms: i64) {
        let (mine, mut rest): (Vec<BlockMeta>, Vec<BlockMeta>) = self
            .blocks
            .drain(..)
            .partition(|meta| meta.resolution() == Some(resolution));
        let mut groups: BTreeMap<i64, Vec<BlockMeta>> = BTreeMap::new();
        for meta in mine {
            groups
                .entry(meta.min_time / span_ms)
                .or_default()
                .push(meta);
        }
        for (_, mut group) in groups {
            group.sort_by_key(|meta| meta.min_time);
            let span = group.last().unwrap().max_time - group[0].min_time;
            if span < span_ms || group.len() < 2 {
                rest.extend(group);
                continue;
            }
            let sources: Vec<Block> = group.iter().map(|meta| self.open(meta.ulid)).collect();
            let metas: Vec<&BlockMeta> = group.iter().collect();
            let mut new = merged_block(self.next_id(), &metas);
            new.thanos = Self::thanos(resolution);
            let sources: Vec<&dyn BlockSource> = sources
                .iter()
                .map(|source| source as &dyn BlockSource)
                .collect();
            rest.extend(compact(self.dir, new, &sources, &Cancel::new()).unwrap());
        }
        self.blocks = rest;
    }

    /// Does everything that is due.
    fn downsample(&mut self) -> usize {
        let candidates: Vec<Candidate<'_>> = self
            .blocks
            .iter()
            .map(|meta| Candidate {
                meta,
                is_marked: false,
            })
            .collect();
        let tasks = plan(&candidates).tasks;
        for task in &tasks {
            let source = self.open(task.block);
            let id = self.next_id();
            let mut n_series = 0;
            let mut progress =
                |at: gauntlet::downsample::DownsampleProgress| n_series = at.n_series;
            let made = run(self.dir, id, &source, &Cancel::new(), &mut progress)
                .unwrap()
                .unwrap();
            assert_eq!(n_series, SERIES.len() as u64);
            let (from, thanos) = (source.meta(), made.thanos.as_ref().unwrap());
            assert_eq!(
                (made.min_time, made.max_time),
                (from.min_time, from.max_time)
            );
            assert_eq!(made.compaction, from.compaction);
            assert_eq!(made.resolution(), Some(task.to));
            assert_eq!(
                (thanos.source.as_str(), thanos.labels.len()),
                ("compactor", 1)
            );
            assert_eq!(thanos.segment_files, ["000001"]);
            assert!(thanos.other["index_stats"]["chunk_max_size"].as_u64() > Some(100));
            self.blocks.push(made);
        }
        tasks.len()
    }

    fn of(&self, resolution: Resolution) -> Vec<&BlockMeta> {
        let mut of: Vec<&BlockMeta> = self
            .blocks
            .iter()
            .filter(|meta| meta.resolution() == Some(resolution))
            .collect();
        of.sort_by_key(|meta| meta.min_time);
        of
    }

    fn raw(&self) -> Dump {
        let mut all = Dump::new();
        for meta in self.of(Resolution::Raw) {
            for (labels, samples) in read(&self.open(meta.ulid)) {
                all.entry(labels).or_default().extend(samples);
            }
        }
        all
    }
}

/// Infinities make no counter, and fractions no exact one.
fn is_counter(labels: &str) -> bool {
    labels.contains("host-0000")
}

/// Every window is what the samples add up to, and none is missing in `days` days.
fn compare(bucket: &Bucket<'_>, raw: &Dump, resolution: Resolution, days: i64) {
    let blocks: Vec<Block> = bucket
        .of(resolution)
        .into_iter()
        .map(|meta| bucket.open(meta.ulid))
        .collect();
    assert_eq!(raw.len(), SERIES.len());
    assert_add_up(
        &blocks,
        (raw, START + days * DAY_MS),
        resolution,
        is_counter,
    );
}

#[test]
fn sixty_days_compacted_and_downsampled_are_what_they_were_and_add_up() {
    let root = tempfile::tempdir().unwrap();
    let mut bucket = Bucket {
        dir: root.path(),
        n_made: 0,
        blocks: Vec::new(),
    };
    let all: Vec<(u32, Vec<Sample>)> = SERIES.map(|n| (n, sixty_days(n))).into();
    for at in 0..DAYS * 3 {
        let min = START + at * 8 * HOUR_MS;
        let max = min + 8 * HOUR_MS;
        bucket.cut(TimeRange { min, max }, &all);
    }
    let before = bucket.raw();
    assert_eq!(bucket.downsample(), 0, "eight hours are not enough");
    bucket.compact(Resolution::Raw, 2 * DAY_MS);
    assert_eq!(bucket.downsample(), 30);
    assert_eq!(bucket.downsample(), 0, "they are there");
    bucket.compact(Resolution::Raw, 14 * DAY_MS);
    bucket.compact(Resolution::FiveMinutes, 14 * DAY_MS);
    assert_eq!(bucket.downsample(), 4);
    assert_eq!(bucket.downsample(), 0);
    let n_blocks = Resolution::from_ms(0).into_iter();
    let n_blocks = n_blocks.chain([Resolution::FiveMinutes, Resolution::OneHour]);
    let n_blocks: Vec<usize> = n_blocks.map(|at| bucket.of(at).len()).collect();
    assert_eq!(
        n_blocks,
        [6, 6, 4],
        "fourteen days four times, and two days twice"
    );

    assert_eq!(bucket.raw(), before, "raw samples");
    compare(&bucket, &before, Resolution::FiveMinutes, DAYS);
    compare(&bucket, &before, Resolution::OneHour, 56);
    let coverage = Coverage::of(&bucket.blocks);
    for meta in &bucket.blocks {
        let report = verify(&root.path().join(meta.ulid.to_string()));
        assert!(report.is_healthy(), "{:?}", report.problems);
        let is_last = meta.resolution() == Some(Resolution::FiveMinutes)
            && meta.max_time > START + 56 * DAY_MS;
        assert_eq!(coverage.covers(meta), !is_last);
    }
}
