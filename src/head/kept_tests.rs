//! Exactly what is kept: chunk lengths, markers, refusals, exemplars, formats.

use std::sync::Arc;

use crate::head::values_tests::{content, labels, open, scratch, settings};
use crate::head::{Head, HeadSettings};
use crate::model::{
    BucketSpan, Buckets, Counts, Encoding, Exemplar, Histogram, Interval, Labels, MatchType,
    Matcher, SampleTime, stale_nan,
};
use crate::storage::{AppendError, Appendable, Queryable, SelectHints};
use crate::wal::{RecordKind, SegmentReader, last_checkpoint, list_segments, segment_name};

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
fn the_newest_exemplars_stay_when_fewer_or_more_are_to_be_kept() {
    let dir = scratch();
    let settings = HeadSettings {
        exemplars_max: 4,
        ..settings(false)
    };
    let head = open(dir.path(), settings, i64::MIN);
    let add = |name: &str, t: i64| {
        let mut appender = head.appender();
        let series = appender.append_labels(&labels(name), t, 1.0).unwrap();
        let text = t.to_string();
        appender.exemplar(series, &exemplar(&text, 1.0, t)).unwrap();
        appender.commit().unwrap();
    };
    let all = || exemplars(&head, ("__name__", "m"), Interval::ALL);
    for (name, t) in [
        ("a", 10),
        ("b", 11),
        ("a", 12),
        ("b", 13),
        ("a", 14),
        ("b", 15),
    ] {
        add(name, t);
    }
    assert_eq!(all(), ["a 12 12", "a 14 14", "b 13 13", "b 15 15"]);
    assert_eq!(head.exemplar_stats().oldest_t, Some(12));
    head.set_exemplars_max(3);
    assert_eq!(all(), ["a 14 14", "b 13 13", "b 15 15"]);
    head.set_exemplars_max(5);
    for (name, t) in [("a", 16), ("b", 17), ("a", 18)] {
        add(name, t);
    }
    assert_eq!(
        all(),
        ["a 14 14", "a 16 16", "a 18 18", "b 15 15", "b 17 17"]
    );
    let stats = head.exemplar_stats();
    assert_eq!(
        (stats.n_exemplars, stats.n_max, stats.oldest_t),
        (5, 5, Some(14))
    );
    head.set_exemplars_max(0);
    add("a", 20);
    assert_eq!(all(), Vec::<String>::new());
    head.set_exemplars_max(1);
    add("a", 21);
    add("b", 22);
    assert_eq!(all(), ["b 22 22"]);
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
    // Each begins a segment, until all that was committed is in the checkpoint.
    for _ in 0..6 {
        head.truncate_before(7000).unwrap();
    }
    let newest = last_checkpoint(&dir.path().join("wal")).unwrap().unwrap();
    let segments = list_segments(&dir.path().join("wal")).unwrap();
    assert!(
        segments
            .iter()
            .all(|s| newest.number < s.number && s.n_bytes == 0)
    );
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

/// Encodings of all chunks and kinds of all records, once every kind of value was appended with a start time.
fn formats_with(settings: HeadSettings) -> (Vec<Encoding>, Vec<RecordKind>) {
    let dir = scratch();
    let head = open(dir.path(), settings, i64::MIN);
    let mut appender = head.appender();
    let mut float_counts = (*growing(3, 2)).clone();
    float_counts.sum = 0.5;
    let float_counts = Arc::new(float_counts);
    for t in [1000, 1500] {
        let at = SampleTime { t, start_t: 900 };
        let mut series = |name| {
            let labels = labels(name);
            appender.series(labels.key(), &mut || Ok(labels.clone()))
        };
        let (a, b, c) = (
            series("a").unwrap(),
            series("b").unwrap(),
            series("c").unwrap(),
        );
        appender.append_at(a, at, 1.0).unwrap();
        appender
            .append_histogram(b, at, Counts::Whole, &growing(3, 2))
            .unwrap();
        appender
            .append_histogram(c, at, Counts::Float, &float_counts)
            .unwrap();
    }
    appender.commit().unwrap();
    let all = [Matcher::new(MatchType::Regex, "n", ".+").unwrap()];
    let mut set = head.select(&all, &SelectHints::new(Interval::ALL)).unwrap();
    let mut encodings = Vec::new();
    while let Some(series) = set.next() {
        encodings.extend(series.unwrap().chunks.iter().map(|chunk| chunk.encoding));
    }
    let segment = dir.path().join("wal").join(segment_name(0));
    let mut reader = SegmentReader::open(&segment).unwrap();
    let mut kinds = Vec::new();
    while let Some(body) = reader.next_record().unwrap() {
        kinds.push(RecordKind::of(body));
    }
    (encodings, kinds)
}

#[test]
fn what_only_prometheus_3_reads_is_written_when_it_is_asked_for() {
    let plain = HeadSettings::default();
    let (encodings, kinds) = formats_with(plain);
    assert_eq!(
        encodings,
        [Encoding::Xor, Encoding::Histogram, Encoding::FloatHistogram]
    );
    let old = [
        RecordKind::Series,
        RecordKind::Samples,
        RecordKind::Histograms,
        RecordKind::FloatHistograms,
    ];
    assert_eq!(kinds, old);
    let (encodings, kinds) = formats_with(HeadSettings {
        writes_xor2: true,
        ..plain
    });
    assert_eq!(
        encodings,
        [
            Encoding::Xor2,
            Encoding::Histogram,
            Encoding::FloatHistogram
        ]
    );
    assert_eq!(kinds, old);
    let (encodings, kinds) = formats_with(HeadSettings {
        keeps_start_times: true,
        ..plain
    });
    assert_eq!(
        encodings,
        [
            Encoding::Xor2,
            Encoding::HistogramSt,
            Encoding::FloatHistogramSt
        ]
    );
    let new = [
        RecordKind::Series,
        RecordKind::SamplesV2,
        RecordKind::HistogramsV2,
        RecordKind::FloatHistogramsV2,
    ];
    assert_eq!(kinds, new);
}
