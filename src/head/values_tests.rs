//! Floats, histograms and start times: random transactions, truncations and restarts against a map.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::chunk::{decode_floats_with_starts, decode_histograms_with_starts};
use crate::head::{Head, HeadSettings, ReplayProgress};
use crate::model::{
    BucketSpan, Buckets, CUSTOM_BUCKETS_SCHEMA, Counts, Encoding, Histogram, Interval, Labels,
    MatchType, Matcher, ResetHint, SampleTime, stale_nan,
};
use crate::storage::{AppendError, Appendable, Queryable, SelectHints, SeriesRef};
use crate::wal::{Compression, WalSettings};

/// What a series has, by time: encodings aside, all that was appended.
pub(super) type Model = BTreeMap<String, BTreeMap<i64, String>>;

pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn count(&mut self, n: u64) -> f64 {
        f64::from(u32::try_from(self.below(n)).unwrap())
    }
}

pub(super) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_not_there| tempfile::tempdir())
        .unwrap()
}

pub(super) fn settings(keeps_start_times: bool) -> HeadSettings {
    HeadSettings {
        chunk_range_ms: 2000,
        wal: WalSettings {
            segment_bytes_max: 32 << 10,
            compression: Compression::Snappy,
        },
        chunk_file_bytes_max: 8 << 10,
        keeps_start_times,
        exemplars_max: 50,
        ..HeadSettings::default()
    }
}

pub(super) fn open(dir: &Path, settings: HeadSettings, floor: i64) -> Head {
    let progress = ReplayProgress::default();
    let (head, report) = Head::open(dir, settings, floor, &progress).unwrap();
    assert_eq!((report.n_damages, report.n_records_skipped), (0, 0));
    head
}

pub(super) fn labels(name: &str) -> Labels {
    Labels::new(&[("__name__", "m"), ("n", name)]).unwrap()
}

/// A sample as it is stored: how it counts, what it says, since when. What is known of resets depends on the chunk.
fn shown(counts: Option<Counts>, histogram: &Histogram, start_t: i64) -> String {
    if histogram.is_stale() {
        return format!("{counts:?} stale since {start_t}");
    }
    let pairs = |buckets: &Buckets| {
        let mut index = 0;
        let mut pairs = Vec::new();
        let mut counts = buckets.counts.iter();
        for span in &buckets.spans {
            index += span.offset;
            for _ in 0..span.length {
                pairs.push((index, *counts.next().unwrap()));
                index += 1;
            }
        }
        pairs.retain(|(_, count)| *count != 0.0);
        pairs
    };
    let h = histogram;
    let numbers = (h.schema, h.zero_threshold, h.zero_count, h.count, h.sum);
    let buckets = (pairs(&h.positive), pairs(&h.negative), &h.custom_bounds);
    let is_gauge = h.reset_hint == ResetHint::Gauge;
    format!("{counts:?} {numbers:?} {buckets:?} {is_gauge} since {start_t}")
}

fn shown_float(v: f64, start_t: i64) -> String {
    format!("{:x} since {start_t}", v.to_bits())
}

pub(super) fn content(source: &dyn Queryable, interval: Interval) -> Model {
    let all = [Matcher::new(MatchType::Regex, "n", ".+").unwrap()];
    let mut set = source.select(&all, &SelectHints::new(interval)).unwrap();
    let mut model = Model::new();
    while let Some(series) = set.next() {
        let series = series.unwrap();
        let mut samples = BTreeMap::new();
        let mut newest = i64::MIN;
        for chunk in &series.chunks {
            let (mut times, mut starts) = (Vec::new(), Vec::new());
            let mut texts = Vec::new();
            if chunk.encoding.has_histograms() {
                let mut histograms = Vec::new();
                let (t, h, st) = (&mut times, &mut histograms, &mut starts);
                decode_histograms_with_starts(chunk.encoding, &chunk.data, t, h, st).unwrap();
                let is_whole =
                    [Encoding::Histogram, Encoding::HistogramSt].contains(&chunk.encoding);
                let counts = if is_whole {
                    Counts::Whole
                } else {
                    Counts::Float
                };
                let pairs = histograms.iter().zip(&starts);
                texts.extend(pairs.map(|(h, st)| shown(Some(counts), h, *st)));
            } else {
                let mut values = Vec::new();
                let (t, v, st) = (&mut times, &mut values, &mut starts);
                decode_floats_with_starts(chunk.encoding, &chunk.data, t, v, st).unwrap();
                let pairs = values.iter().zip(&starts);
                texts.extend(pairs.map(|(v, st)| shown_float(*v, *st)));
            }
            assert_eq!(
                (Some(&chunk.min_t), Some(&chunk.max_t)),
                (times.first(), times.last())
            );
            for (t, text) in times.into_iter().zip(texts) {
                assert!(newest < t, "{:?} {newest} {t}", series.labels);
                newest = t;
                if interval.contains(t) {
                    samples.insert(t, text);
                }
            }
        }
        if !samples.is_empty() {
            model.insert(series.labels.value("n").to_owned(), samples);
        }
    }
    model
}

/// Counters that grow, gauges and custom buckets, now and then reset.
fn histogram(random: &mut Random, t: i64, is_float: bool) -> Histogram {
    let kind = random.below(6);
    let base = f64::from(i32::try_from(t % 997).unwrap()) + if is_float { 0.5 } else { 0.0 };
    let n = 1 + u32::try_from(random.below(5)).unwrap();
    let counts: Vec<f64> = (0..n).map(|_| base + random.count(3)).collect();
    let total: f64 = counts.iter().sum();
    let positive = Buckets {
        spans: vec![BucketSpan {
            offset: 0,
            length: n,
        }],
        counts,
    };
    let plain = Histogram {
        count: total,
        sum: base * 0.25,
        positive,
        ..Histogram::default()
    };
    match kind {
        0 => Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            custom_bounds: [0.1, 1.0, 2.5, 10.0].as_slice().into(),
            ..plain
        },
        1 => Histogram {
            reset_hint: ResetHint::Gauge,
            schema: 2,
            ..plain
        },
        _ => Histogram {
            schema: 1,
            zero_threshold: 0.001,
            zero_count: base,
            count: total + base,
            ..plain
        },
    }
}

/// One random sample, and what of it must be found.
pub(super) fn append(
    appender: &mut dyn crate::storage::Appender,
    random: &mut Random,
    (series, number): (SeriesRef, u64),
    at: SampleTime,
) -> (Result<(), AppendError>, String) {
    match random.below(12) {
        0..3 => {
            let v = if random.below(8) == 0 {
                stale_nan()
            } else {
                random.count(100)
            };
            (
                appender.append_at(series, at, v),
                shown_float(v, at.start_t),
            )
        }
        3 if number < 4 => {
            let counts = [Counts::Whole, Counts::Float][usize::try_from(number % 2).unwrap()];
            let stale = Arc::new(Histogram::stale());
            let appended = appender.append_histogram(series, at, counts, &stale);
            (appended, shown(Some(counts), &stale, at.start_t))
        }
        _ => {
            let is_float = number % 2 == 1;
            let histogram = Arc::new(histogram(random, at.t, is_float));
            let counts = if is_float {
                Counts::Float
            } else {
                Counts::Whole
            };
            let appended = appender.append_histogram(series, at, counts, &histogram);
            (appended, shown(Some(counts), &histogram, at.start_t))
        }
    }
}

pub(super) fn transact(head: &Head, random: &mut Random, model: &mut Model, now: &mut i64) {
    let keeps_starts = head.settings().keeps_start_times;
    let mut staged = Vec::new();
    let mut appender = head.appender();
    for _ in 0..random.below(60) {
        *now += 1 + random.below(4).cast_signed();
        let number = random.below(6);
        let name = number.to_string();
        let labels = labels(&name);
        let series = appender
            .series(labels.key(), &mut || Ok(labels.clone()))
            .unwrap();
        let start_t = [0, 0, *now - 50, 7][usize::try_from(random.below(4)).unwrap()];
        let start_t = if keeps_starts { start_t } else { 0 };
        let at = SampleTime { t: *now, start_t };
        let (appended, text) = append(&mut *appender, random, (series, number), at);
        assert_eq!(appended, Ok(()));
        staged.push((name, *now, text));
    }
    if random.below(6) == 0 {
        appender.rollback();
        return;
    }
    appender.commit().unwrap();
    for (name, t, text) in staged {
        let samples = model.entry(name).or_default();
        // What ends a series of histograms, ends it as one.
        let last = samples.values().next_back().cloned().unwrap_or_default();
        let stale = shown_float(stale_nan(), 0);
        let stale = stale.split_whitespace().next().unwrap();
        let text = match (last.split_whitespace().next(), text.strip_prefix(stale)) {
            (Some(counts), Some(since)) if last.starts_with("Some") => {
                format!("{counts} stale{since}")
            }
            _ => text,
        };
        samples.insert(t, text);
    }
}

fn since(model: &Model, floor: i64) -> Model {
    let mut model = model.clone();
    for samples in model.values_mut() {
        samples.retain(|t, _| floor <= *t);
    }
    model.retain(|_, samples| !samples.is_empty());
    model
}

pub(super) fn assert_same(head: &Head, model: &Model, floor: i64, seed: u64) {
    let interval = Interval {
        min: floor,
        max: i64::MAX,
    };
    let (found, expected) = (content(head, interval), since(model, floor));
    for (name, samples) in &expected {
        let found = found.get(name);
        for (t, text) in samples {
            let found = found.and_then(|found| found.get(t));
            assert_eq!(found, Some(text), "seed {seed} series {name} at {t}");
        }
    }
    assert_eq!(found, expected, "seed {seed}");
}

fn run(seed: u64) {
    let dir = scratch();
    let settings = settings(seed % 2 == 1);
    let mut random = Random(seed);
    let (mut model, mut now, mut floor) = (Model::new(), 10_000, i64::MIN);
    let mut head = open(dir.path(), settings, floor);
    for _ in 0..40 {
        match random.below(10) {
            0 => {
                drop(head);
                head = open(dir.path(), settings, floor);
                assert_same(&head, &model, floor, seed);
            }
            1 if head.stats().max_t.is_some() => {
                floor = floor.max(now - 900);
                head.truncate_before(floor).unwrap();
                model = since(&model, floor);
            }
            2 => {
                let view = head.view();
                let interval = Interval {
                    min: floor,
                    max: i64::MAX,
                };
                let before = content(&view, interval);
                transact(&head, &mut random, &mut model, &mut now);
                assert_eq!(content(&view, interval), before, "seed {seed}");
            }
            _ => transact(&head, &mut random, &mut model, &mut now),
        }
    }
    assert_same(&head, &model, floor, seed);
    drop(head);
    assert_same(&open(dir.path(), settings, floor), &model, floor, seed);
}

#[test]
fn random_values_of_all_kinds_are_kept_through_cuts_truncations_and_restarts() {
    for seed in 0..150 {
        run(seed);
    }
}
