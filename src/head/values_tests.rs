//! Floats, histograms, start times and exemplars: random transactions, truncations and restarts against a map.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::chunk::{decode_floats_with_starts, decode_histograms_with_starts};
use crate::head::{Head, HeadSettings, ReplayProgress};
use crate::model::{
    BucketSpan, Buckets, CUSTOM_BUCKETS_SCHEMA, Counts, Encoding, Exemplar, Histogram, Interval,
    Labels, MatchType, Matcher, ResetHint, SampleTime, is_stale, stale_nan,
};
use crate::storage::{AppendError, Appendable, Queryable, SelectHints, SeriesRef};
use crate::wal::{Compression, WalSettings};

/// What a series has, by time: encodings aside, all that was appended.
type Model = BTreeMap<String, BTreeMap<i64, String>>;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
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

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_not_there| tempfile::tempdir())
        .unwrap()
}

fn settings(keeps_start_times: bool) -> HeadSettings {
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

fn open(dir: &Path, settings: HeadSettings, floor: i64) -> Head {
    let progress = ReplayProgress::default();
    let (head, report) = Head::open(dir, settings, floor, &progress).unwrap();
    assert_eq!((report.n_damages, report.n_records_skipped), (0, 0));
    head
}

fn labels(name: &str) -> Labels {
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

fn content(source: &dyn Queryable, interval: Interval) -> Model {
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
fn append(
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

fn transact(head: &Head, random: &mut Random, model: &mut Model, now: &mut i64) {
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

fn assert_same(head: &Head, model: &Model, floor: i64, seed: u64) {
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

fn growing(n: u32, n_buckets: u32) -> Arc<Histogram> {
    let counts: Vec<f64> = (0..n_buckets).map(|i| f64::from(n * (i % 7 + 1))).collect();
    Arc::new(Histogram {
        schema: 3,
        count: counts.iter().sum(),
        sum: f64::from(n) * 1.1,
        positive: Buckets {
            spans: vec![BucketSpan {
                offset: 0,
                length: n_buckets,
            }],
            counts,
        },
        ..Histogram::default()
    })
}

/// Numbers of samples in the chunks of a series that gets histograms every 15 s.
fn chunk_sizes(n_buckets: u32, n: u32) -> Vec<usize> {
    let dir = scratch();
    let settings = HeadSettings::default();
    let head = open(dir.path(), settings, i64::MIN);
    for i in 0..n {
        let mut appender = head.appender();
        let series = appender
            .series(labels("a").key(), &mut || Ok(labels("a")))
            .unwrap();
        let at = SampleTime::from(i64::from(i) * 15_000);
        let appended = appender.append_histogram(series, at, Counts::Whole, &growing(i, n_buckets));
        assert_eq!(appended, Ok(()));
        appender.commit().unwrap();
    }
    let all = [Matcher::new(MatchType::Equal, "n", "a").unwrap()];
    let mut set = head.select(&all, &SelectHints::new(Interval::ALL)).unwrap();
    let chunks = set.next().unwrap().unwrap().chunks;
    chunks
        .iter()
        .map(|chunk| crate::chunk::n_samples(chunk.encoding, &chunk.data).unwrap())
        .collect()
}

#[test]
fn small_histograms_fill_a_range_and_huge_ones_are_at_least_ten_to_a_chunk() {
    let small = chunk_sizes(1, 481);
    assert_eq!(small.iter().sum::<usize>(), 481);
    assert!(small.len() <= 4 && *small.last().unwrap() == 1, "{small:?}");
    let huge = chunk_sizes(4000, 45);
    assert_eq!(huge, [10, 10, 10, 10, 5]);
}

#[test]
fn a_stale_float_ends_a_series_of_histograms_as_one_even_when_its_chunk_is_in_a_file() {
    let dir = scratch();
    let settings = settings(false);
    let head = open(dir.path(), settings, i64::MIN);
    let mut appender = head.appender();
    let series = appender
        .series(labels("a").key(), &mut || Ok(labels("a")))
        .unwrap();
    let one = growing(1, 2);
    appender
        .append_histogram(series, 100.into(), Counts::Whole, &one)
        .unwrap();
    // The next range begins: what was before goes to a file.
    appender
        .append_histogram(series, 2100.into(), Counts::Whole, &one)
        .unwrap();
    appender.commit().unwrap();
    let mut appender = head.appender();
    appender.append(series, 2200, stale_nan()).unwrap();
    appender.commit().unwrap();
    let before = content(&head, Interval::ALL);
    assert_eq!(before["a"][&2200], "Some(Whole) stale since 0");
    drop(head);
    let head = open(dir.path(), settings, i64::MIN);
    assert_eq!(content(&head, Interval::ALL), before);
}

#[test]
fn histograms_are_refused_and_known_as_floats_are() {
    let dir = scratch();
    let head = open(dir.path(), settings(false), i64::MIN);
    let mut appender = head.appender();
    let series = appender
        .series(labels("a").key(), &mut || Ok(labels("a")))
        .unwrap();
    appender
        .append_histogram(series, 1000.into(), Counts::Whole, &growing(5, 3))
        .unwrap();
    appender.commit().unwrap();
    let mut appender = head.appender();
    let mut offer = |t: i64, counts, histogram: &Arc<Histogram>| {
        appender.append_histogram(series, t.into(), counts, histogram)
    };
    assert_eq!(offer(1000, Counts::Whole, &growing(5, 3)), Ok(()));
    assert_eq!(
        offer(1000, Counts::Float, &growing(5, 3)),
        Err(AppendError::Duplicate)
    );
    assert_eq!(
        offer(1000, Counts::Whole, &growing(6, 3)),
        Err(AppendError::Duplicate)
    );
    assert_eq!(
        offer(999, Counts::Whole, &growing(6, 3)),
        Err(AppendError::OutOfOrder { newest: 1000 })
    );
    let mut wrong = (*growing(6, 3)).clone();
    wrong.count = 1.0;
    let refused = offer(1001, Counts::Whole, &Arc::new(wrong.clone()));
    assert!(
        matches!(refused, Err(AppendError::Histogram(_))),
        "{refused:?}"
    );
    assert_eq!(
        appender.append(series, 1000, 1.0),
        Err(AppendError::Duplicate)
    );
    assert!(is_stale(stale_nan()));
    appender.commit().unwrap();
    assert_eq!(content(&head, Interval::ALL)["a"].len(), 1);
}

fn exemplar(id: &str, v: f64, t: i64) -> Exemplar {
    Exemplar {
        labels: Labels::new(&[("trace_id", id)]).unwrap(),
        v,
        t,
        has_own_time: true,
    }
}

/// `trace_id` and time of every exemplar of a series.
fn exemplars(head: &Head, selector: (&str, &str), interval: Interval) -> Vec<String> {
    let matcher = Matcher::new(MatchType::Equal, selector.0, selector.1).unwrap();
    let nothing = vec![Matcher::new(MatchType::Equal, "n", "nobody").unwrap()];
    let mut found = Vec::new();
    for series in head.exemplars(&[nothing, vec![matcher]], interval) {
        let name = series.labels.value("n").to_owned();
        let each = series.exemplars.iter();
        found.extend(each.map(|e| format!("{name} {} {}", e.labels.value("trace_id"), e.t)));
    }
    found
}

#[test]
fn exemplars_come_in_order_once_and_the_oldest_of_all_goes_first() {
    let dir = scratch();
    let settings = HeadSettings {
        exemplars_max: 4,
        ..settings(false)
    };
    let head = open(dir.path(), settings, i64::MIN);
    let mut appender = head.appender();
    let a = appender.append_labels(&labels("a"), 10, 1.0).unwrap();
    let b = appender.append_labels(&labels("b"), 10, 1.0).unwrap();
    appender.exemplar(a, &exemplar("1", 1.0, 10)).unwrap();
    appender.exemplar(b, &exemplar("2", 1.0, 11)).unwrap();
    appender.commit().unwrap();
    let mut appender = head.appender();
    // The same again, an older one, a smaller one at the same time, one that is too long.
    assert_eq!(appender.exemplar(a, &exemplar("1", 1.0, 10)), Ok(()));
    let late = Err(AppendError::OutOfOrderExemplar { newest: 10 });
    assert_eq!(appender.exemplar(a, &exemplar("0", 5.0, 9)), late);
    assert_eq!(appender.exemplar(a, &exemplar("0", 0.5, 10)), late);
    let long = appender.exemplar(a, &exemplar(&"x".repeat(121), 1.0, 12));
    assert_eq!(long, Err(AppendError::ExemplarLabels { n_chars: 129 }));
    appender.exemplar(a, &exemplar("3", 1.0, 12)).unwrap();
    appender.exemplar(a, &exemplar("4", 1.0, 13)).unwrap();
    appender.commit().unwrap();
    let all = ["a 1 10", "a 3 12", "a 4 13", "b 2 11"];
    assert_eq!(exemplars(&head, ("__name__", "m"), Interval::ALL), all);
    let some = Interval { min: 11, max: 12 };
    assert_eq!(exemplars(&head, ("n", "a"), some), ["a 3 12"]);
    let mut appender = head.appender();
    appender.exemplar(b, &exemplar("5", 1.0, 14)).unwrap();
    appender.commit().unwrap();
    let mut appender = head.appender();
    appender.exemplar(a, &exemplar("6", 1.0, 15)).unwrap();
    appender.exemplar(a, &exemplar("7", 1.0, 16)).unwrap();
    appender.rollback();
    let left = ["a 3 12", "a 4 13", "b 2 11", "b 5 14"];
    assert_eq!(exemplars(&head, ("__name__", "m"), Interval::ALL), left);
    drop(head);
    let head = open(dir.path(), settings, i64::MIN);
    assert_eq!(exemplars(&head, ("__name__", "m"), Interval::ALL), left);
    let stats = head.stats();
    assert_eq!(
        (stats.exemplars.n_exemplars, stats.exemplars.n_series),
        (4, 2)
    );
    // All of one series go.
    let mut appender = head.appender();
    let b = appender.append_labels(&labels("b"), 20, 1.0).unwrap();
    for t in 20..24 {
        appender.exemplar(b, &exemplar("9", 1.0, t)).unwrap();
    }
    appender.commit().unwrap();
    assert_eq!(
        exemplars(&head, ("n", "a"), Interval::ALL),
        Vec::<String>::new()
    );
    assert_eq!(head.stats().exemplars.n_series, 1);
}

#[test]
fn a_checkpoint_keeps_recent_histograms_and_exemplars() {
    let dir = scratch();
    let settings = settings(true);
    let head = open(dir.path(), settings, i64::MIN);
    for i in 0..1000u32 {
        let mut appender = head.appender();
        let series = appender
            .series(labels("a").key(), &mut || Ok(labels("a")))
            .unwrap();
        let t = i64::from(i) * 10;
        let start_t = i64::from(i % 3);
        let at = SampleTime { t, start_t };
        appender
            .append_histogram(series, at, Counts::Whole, &growing(i, 30))
            .unwrap();
        let b = appender
            .series(labels("b").key(), &mut || Ok(labels("b")))
            .unwrap();
        appender.append_at(b, at, f64::from(i)).unwrap();
        appender
            .exemplar(series, &exemplar(&i.to_string(), 1.0, t))
            .unwrap();
        appender.commit().unwrap();
        if i % 300 == 299 {
            head.truncate_before(t - 2500).unwrap();
        }
    }
    assert!(head.stats().checkpoints_total > 0);
    let interval = Interval {
        min: 7000,
        max: i64::MAX,
    };
    let before = content(&head, interval);
    let traces = exemplars(&head, ("n", "a"), Interval::ALL);
    assert_eq!(
        (before["a"].len(), before["b"].len(), traces.len()),
        (300, 300, 50)
    );
    drop(head);
    let head = open(dir.path(), settings, 7000);
    assert_eq!(content(&head, interval), before);
    assert_eq!(exemplars(&head, ("n", "a"), Interval::ALL), traces);
}
