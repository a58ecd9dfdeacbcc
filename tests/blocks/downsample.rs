//! Sixty days of samples, compacted and downsampled as in a bucket.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use gauntlet::block::{
    Block, BlockMeta, BlockSource, NewBlock, ThanosDownsample, ThanosMeta, verify, write_block,
};
use gauntlet::chunk::{AggregateChunk, decode_floats, encode_floats};
use gauntlet::compact::{compact, merged_block};
use gauntlet::downsample::{Candidate, Coverage, plan, run};
use gauntlet::foundation::Cancel;
use gauntlet::model::{Aggregate, BlockId, Interval, Resolution, Sample, TimeRange};
use gauntlet::storage::{ChunkSeries, ChunkSlice, Queryable, SelectHints, VecSeriesSet};

use crate::samples::{Dump, labels, read, samples};

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
            assert_eq!(n_series, SERIES.len());
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

/// Count, sum, minimum, maximum, and what a counter rose to at its end, by the end of the window.
type Windows = BTreeMap<i64, [f64; 5]>;

fn expected(samples: &[(i64, u64)], window_ms: i64) -> Windows {
    let mut all = Windows::new();
    let (mut total, mut before) = (0.0, 0.0);
    let numbers = samples.iter().map(|(t, bits)| (*t, f64::from_bits(*bits)));
    for (t, v) in numbers.filter(|(_, v)| !v.is_nan()) {
        total += if v < before { v } else { v - before };
        before = v;
        let end = t - t % window_ms + window_ms - 1;
        let none = [0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY, 0.0];
        let [count, sum, min, max, counter] = all.entry(end).or_insert(none);
        *count += 1.0;
        *sum += v;
        *min = v.min(*min);
        *max = v.max(*max);
        *counter = total;
    }
    all
}

/// What the aggregate chunks of all blocks of a resolution decode to.
fn found(bucket: &Bucket<'_>, resolution: Resolution) -> BTreeMap<String, Windows> {
    let mut all: BTreeMap<String, Windows> = BTreeMap::new();
    // The counter goes on where the block before ended: its value then, and the total.
    let mut counters: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for meta in bucket.of(resolution) {
        let block = bucket.open(meta.ulid);
        let mut set = block.select(&[], &SelectHints::new(Interval::ALL)).unwrap();
        while let Some(series) = set.next() {
            let ChunkSeries { labels, chunks } = series.unwrap();
            let name = labels.to_string();
            let windows = all.entry(name.clone()).or_default();
            let counter = counters.entry(name).or_default();
            for chunk in chunks {
                add_chunk(windows, counter, &chunk, resolution.as_ms());
            }
        }
    }
    all
}

fn add_chunk(windows: &mut Windows, counter: &mut (f64, f64), chunk: &ChunkSlice, window_ms: i64) {
    let parts = AggregateChunk::decode(&chunk.data).unwrap();
    let mut last_t = i64::MIN;
    for (at, aggregate) in Aggregate::ALL.into_iter().enumerate() {
        let (encoding, data) = parts.part(aggregate).unwrap();
        let (mut times, mut values) = (Vec::new(), Vec::new());
        decode_floats(encoding, data, &mut times, &mut values).unwrap();
        for (t, v) in times.into_iter().zip(values) {
            let end = t - t % window_ms + window_ms - 1;
            let none = [0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY, 0.0];
            let window = windows.entry(end).or_insert(none);
            match aggregate {
                Aggregate::Count | Aggregate::Sum => window[at] += v,
                Aggregate::Min => window[at] = v.min(window[at]),
                Aggregate::Max => window[at] = v.max(window[at]),
                Aggregate::Counter => {
                    if last_t < t {
                        let (before, total) = *counter;
                        *counter = (v, total + if v < before { v } else { v - before });
                        window[at] = counter.1;
                    } else {
                        counter.0 = v;
                    }
                    last_t = t;
                }
            }
        }
    }
}

fn is_near(left: f64, right: f64) -> bool {
    left.to_bits() == right.to_bits() || (left - right).abs() <= 1e-9 * left.abs().max(1.0)
}

/// Every window that was found is what the samples add up to, and none is missing in `days` days.
fn compare(bucket: &Bucket<'_>, raw: &Dump, resolution: Resolution, days: i64) {
    let all = found(bucket, resolution);
    assert_eq!(all.len(), SERIES.len());
    for (labels, windows) in all {
        let mut expect = expected(&raw[&labels], resolution.as_ms());
        expect.retain(|end, _| *end < START + days * DAY_MS);
        assert!(windows.keys().eq(expect.keys()), "{labels}: other windows");
        // Infinities make no counter, and fractions no exact one.
        let is_counter = labels.contains("host-0000");
        for ((end, window), (_, expect)) in windows.iter().zip(&expect) {
            let place = format!("{labels} at {end}: {window:?}, not {expect:?}");
            for at in [0, 2, 3] {
                assert_eq!(window[at].to_bits(), expect[at].to_bits(), "{place}");
            }
            if resolution == Resolution::FiveMinutes {
                // Added in the same order.
                assert_eq!(window[1].to_bits(), expect[1].to_bits(), "{place}");
            }
            assert!(is_near(window[1], expect[1]), "{place}");
            if is_counter {
                assert_eq!(window[4].to_bits(), expect[4].to_bits(), "{place}");
            }
        }
    }
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
