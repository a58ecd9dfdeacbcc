//! What every [`Queryable`] does, as one suite.
//!
//! A room that implements `Queryable` puts the series of [`fixture`] into its source and calls [`check`] with a
//! function that decodes a chunk (this room decodes none).

use crate::foundation::Cancel;
use crate::foundation::cancel::CancelReason;
use crate::model::{
    Encoding, Interval, Labels, METRIC_NAME, MatchType, Matcher, STALE_NAN_BITS, Sample,
};
use crate::storage::{LabelHints, Queryable, SelectHints, SeriesSet, StorageError, Windows};

/// A series and its samples in time order.
pub(crate) type Fixture = Vec<(Labels, Vec<Sample>)>;

/// Decodes one chunk into samples.
pub(crate) type Decode = fn(Encoding, &[u8]) -> Vec<Sample>;

/// Time of the first sample; a multiple of two hours.
pub(crate) const START_MS: i64 = 1_700_006_400_000;

/// Distance of samples.
pub(crate) const STEP_MS: i64 = 15_000;

/// Twelve series in label order, of up to 400 samples at [`STEP_MS`], all within two hours of [`START_MS`].
pub(crate) fn fixture() -> Fixture {
    let mut all = Vec::new();
    for (number, n_samples) in (0u32..12).zip([400, 1, 2, 120, 121, 240, 300, 7, 400, 33, 60, 399])
    {
        let instance = format!("host-{number}");
        let job = ["api", "db"][number as usize % 2];
        let mut pairs = vec![(METRIC_NAME, "up"), ("instance", &instance), ("job", job)];
        if number % 3 == 0 {
            pairs[0].1 = "requests_total";
            pairs.push(("code", "200"));
        }
        // Some series begin late.
        let start = START_MS + i64::from(number % 4) * 60_000;
        let samples = (0..n_samples)
            .map(|i| Sample {
                t: start + i64::from(i) * STEP_MS,
                v: value(number, i),
            })
            .collect();
        all.push((Labels::new(&pairs).unwrap(), samples));
    }
    all.sort_by(|left: &(Labels, Vec<Sample>), right| left.0.cmp(&right.0));
    all
}

fn value(series: u32, i: u32) -> f64 {
    match (series, i % 50) {
        (8, 3) => f64::from_bits(STALE_NAN_BITS),
        (8, 4) => f64::NEG_INFINITY,
        (8, 5) => -0.0,
        (8, 6) => f64::NAN,
        (7 | 8, _) => f64::from(i).sin(),
        _ => f64::from(i * (series + 1)),
    }
}

/// Everything inside the fixture's two hours and far around it.
fn everything() -> Interval {
    Interval {
        min: START_MS - 3_600_000,
        max: START_MS + 3 * 3_600_000,
    }
}

/// Runs the suite on a source that holds exactly [`fixture`].
#[track_caller]
pub(crate) fn check(source: &dyn Queryable, decode: Decode) {
    let fixture = fixture();
    every_sample_comes_out_bit_by_bit(source, decode, &fixture);
    matchers_select_what_a_scan_selects(source, &fixture);
    an_interval_loses_no_sample_inside(source, decode, &fixture);
    labels_come_without_chunks_when_only_they_are_asked_for(source, &fixture);
    a_limit_cuts_after_the_first_series(source, &fixture);
    a_raised_flag_ends_the_answer(source);
    label_names_and_values_are_those_of_matching_series(source, &fixture);
}

fn select(
    source: &dyn Queryable,
    matchers: &[Matcher],
    hints: &SelectHints,
) -> Vec<(Labels, Chunks)> {
    let mut set = source.select(matchers, hints).unwrap();
    let mut out = Vec::new();
    while let Some(series) = set.next() {
        let series = series.unwrap();
        assert!(
            series.chunks.is_sorted_by_key(|chunk| chunk.min_t),
            "chunks of {} are not sorted",
            series.labels
        );
        let chunks = series
            .chunks
            .into_iter()
            .map(|chunk| (chunk.min_t, chunk.max_t, chunk.encoding, chunk.data))
            .collect();
        out.push((series.labels, chunks));
    }
    assert!(set.next().is_none(), "the end stays the end");
    assert_eq!(set.warnings(), Vec::<String>::new());
    assert!(
        out.is_sorted_by(|left: &(Labels, Chunks), right| left.0 < right.0),
        "series are not in label order, each once"
    );
    out
}

type Chunks = Vec<(i64, i64, Encoding, bytes::Bytes)>;

/// Every time once, from the chunk that comes first.
fn samples_of(chunks: &Chunks, decode: Decode) -> Vec<Sample> {
    let mut all: Vec<Sample> = Vec::new();
    for (min_t, max_t, encoding, data) in chunks {
        let samples = decode(*encoding, data);
        assert_eq!(samples.first().map(|sample| sample.t), Some(*min_t));
        assert_eq!(samples.last().map(|sample| sample.t), Some(*max_t));
        all.extend(samples);
    }
    all.sort_by_key(|sample| sample.t);
    all.dedup_by_key(|sample| sample.t);
    all
}

#[track_caller]
fn assert_same(found: &[Sample], expect: &[Sample], labels: &Labels) {
    let bits = |samples: &[Sample]| -> Vec<(i64, u64)> {
        samples
            .iter()
            .map(|sample| (sample.t, sample.v.to_bits()))
            .collect()
    };
    assert_eq!(bits(found), bits(expect), "{labels}");
}

fn every_sample_comes_out_bit_by_bit(source: &dyn Queryable, decode: Decode, fixture: &Fixture) {
    let found = select(source, &[], &SelectHints::new(everything()));
    assert_eq!(found.len(), fixture.len());
    for ((labels, chunks), (expect_labels, expect)) in found.iter().zip(fixture) {
        assert_eq!(labels, expect_labels);
        assert_same(&samples_of(chunks, decode), expect, labels);
    }
    let all_of_time = select(source, &[], &SelectHints::new(Interval::ALL));
    assert_eq!(all_of_time.len(), fixture.len());
}

fn matchers() -> Vec<Vec<Matcher>> {
    let of = |match_type, name, value| Matcher::new(match_type, name, value).unwrap();
    let single = [
        of(MatchType::Equal, METRIC_NAME, "up"),
        of(MatchType::Equal, "instance", "host-11"),
        of(MatchType::Equal, "code", ""),
        of(MatchType::Equal, "code", "404"),
        of(MatchType::Equal, "nothing", "x"),
        of(MatchType::NotEqual, "code", ""),
        of(MatchType::NotEqual, "job", "api"),
        of(MatchType::Regex, "instance", "host-(1|2|30)"),
        of(MatchType::Regex, "instance", "host-1.*"),
        of(MatchType::Regex, "code", ".*"),
        of(MatchType::Regex, "code", ".+"),
        of(MatchType::Regex, "code", "200|"),
        of(MatchType::NotRegex, "code", ".*"),
        of(MatchType::NotRegex, "code", ".+"),
        of(MatchType::NotRegex, "instance", "host-1.?"),
    ];
    let mut sets = vec![Vec::new()];
    for left in &single {
        sets.push(vec![left.clone()]);
        for right in &single {
            sets.push(vec![left.clone(), right.clone()]);
        }
    }
    sets
}

fn matching<'a>(fixture: &'a Fixture, matchers: &[Matcher]) -> Vec<&'a Labels> {
    fixture
        .iter()
        .map(|(labels, _)| labels)
        .filter(|labels| matchers.iter().all(|m| m.matches(labels.value(&m.name))))
        .collect()
}

fn matchers_select_what_a_scan_selects(source: &dyn Queryable, fixture: &Fixture) {
    for matchers in matchers() {
        let found = select(source, &matchers, &SelectHints::new(everything()));
        let found: Vec<&Labels> = found.iter().map(|(labels, _)| labels).collect();
        assert_eq!(found, matching(fixture, &matchers), "{matchers:?}");
    }
}

fn an_interval_loses_no_sample_inside(source: &dyn Queryable, decode: Decode, fixture: &Fixture) {
    for (from, to) in [(0, 0), (1, 1), (119, 121), (200, 100_000), (-50, 3)] {
        let interval = Interval {
            min: START_MS + from * STEP_MS,
            max: START_MS + to * STEP_MS,
        };
        times_lose_no_sample(source, decode, fixture, &SelectHints::new(interval));
    }
    for (first, length, step, n) in [(-10, 5, 61, 4), (3, 0, 200, 3), (100, 30, 150, 2)] {
        let first = START_MS + first * STEP_MS;
        let windows = Windows {
            first: Interval {
                min: first,
                max: first + length * STEP_MS,
            },
            step_ms: step * STEP_MS,
            n,
        };
        let hints = SelectHints {
            windows: Some(windows),
            ..SelectHints::new(everything())
        };
        times_lose_no_sample(source, decode, fixture, &hints);
    }
    let before = Interval {
        min: 0,
        max: START_MS - 1,
    };
    assert_eq!(select(source, &[], &SelectHints::new(before)).len(), 0);
}

/// Whatever else comes, the samples that matter do.
fn times_lose_no_sample(
    source: &dyn Queryable,
    decode: Decode,
    fixture: &Fixture,
    hints: &SelectHints,
) {
    let found = select(source, &[], hints);
    for (labels, samples) in fixture {
        let inside = |samples: &[Sample]| -> Vec<Sample> {
            let samples = samples.iter().copied();
            let inside = samples.filter(|sample| hints.times().touch(sample.t, sample.t));
            inside.collect()
        };
        let chunks = found.iter().find(|(here, _)| here == labels);
        let found = chunks.map_or(Vec::new(), |(_, chunks)| samples_of(chunks, decode));
        assert_same(&inside(&found), &inside(samples), labels);
    }
}

fn labels_come_without_chunks_when_only_they_are_asked_for(
    source: &dyn Queryable,
    fixture: &Fixture,
) {
    let mut hints = SelectHints::new(everything());
    hints.skip_chunks = true;
    let found = select(source, &[], &hints);
    let labels: Vec<&Labels> = found.iter().map(|(labels, _)| labels).collect();
    assert_eq!(labels, matching(fixture, &[]));
    assert!(found.iter().all(|(_, chunks)| chunks.is_empty()));
}

fn a_limit_cuts_after_the_first_series(source: &dyn Queryable, fixture: &Fixture) {
    let mut hints = SelectHints::new(everything());
    for limit in [1, 5, 12, 100] {
        hints.limit = limit;
        let found = select(source, &[], &hints);
        let labels: Vec<&Labels> = found.iter().map(|(labels, _)| labels).collect();
        let expect: Vec<&Labels> = fixture
            .iter()
            .map(|(labels, _)| labels)
            .take(limit)
            .collect();
        assert_eq!(labels, expect, "limit {limit}");
    }
}

fn a_raised_flag_ends_the_answer(source: &dyn Queryable) {
    let hints = SelectHints::new(everything());
    let mut begun = source.select(&[], &hints).unwrap();
    hints.cancel.cancel(CancelReason::Canceled);
    let rest = drain(&mut *begun);
    assert!(matches!(rest, Err(StorageError::Canceled)), "{rest:?}");
    let late = source
        .select(&[], &hints)
        .and_then(|mut set| drain(&mut *set));
    assert!(matches!(late, Err(StorageError::Canceled)), "{late:?}");
}

fn drain(set: &mut dyn SeriesSet) -> Result<usize, StorageError> {
    let mut n = 0;
    while let Some(series) = set.next() {
        series?;
        n += 1;
    }
    Ok(n)
}

fn label_names_and_values_are_those_of_matching_series(source: &dyn Queryable, fixture: &Fixture) {
    let mut hints = LabelHints::new(everything());
    for matchers in matchers() {
        let series = matching(fixture, &matchers);
        let mut names: Vec<&str> = series
            .iter()
            .flat_map(|labels| labels.iter())
            .map(|(name, _)| name)
            .collect();
        names.sort_unstable();
        names.dedup();
        let answer = source.label_names(&matchers, &hints).unwrap();
        assert_eq!(answer.values, names, "{matchers:?}");
        for name in [METRIC_NAME, "instance", "job", "code", "nothing"] {
            let mut values: Vec<&str> = series
                .iter()
                .filter_map(|labels| labels.get(name))
                .collect();
            values.sort_unstable();
            values.dedup();
            let answer = source.label_values(name, &matchers, &hints).unwrap();
            assert_eq!(answer.values, values, "{name} {matchers:?}");
            assert_eq!(answer.warnings, Vec::<String>::new());
        }
    }
    hints.limit = 2;
    let answer = source.label_values("instance", &[], &hints).unwrap();
    assert_eq!(answer.values, ["host-0", "host-1"]);
    assert_eq!(
        source.label_names(&[], &hints).unwrap().values,
        [METRIC_NAME, "code"]
    );
    hints.cancel = Cancel::new();
    hints.cancel.cancel(CancelReason::TimedOut);
    let late = source.label_names(&[], &hints);
    assert!(matches!(late, Err(StorageError::Canceled)), "{late:?}");
}
