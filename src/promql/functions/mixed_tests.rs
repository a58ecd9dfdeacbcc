//! Ranges of histograms, of both kinds, and of samples that know since when they count.

use std::sync::Arc;

use crate::model::{BucketSpan, Buckets, CUSTOM_BUCKETS_SCHEMA, Histogram, ResetHint};
use crate::promql::annotations::Annotations;
use crate::promql::functions::histogram_mean::{HistogramMean, HistogramSum};
use crate::promql::functions::mixed::{
    Either, MixedSample, MixedWindow, Remarks, is_start_overlap, is_start_reset,
};
use crate::promql::functions::native_rate::{
    Kind, between, extended, extrapolated, instant, smooth_at,
};
use crate::promql::functions::window::Window;
use crate::promql::parse::ast::Span;
use crate::promql::value::PointValue;

const RATE: Kind = Kind {
    is_counter: true,
    is_rate: true,
};
const INCREASE: Kind = Kind {
    is_counter: true,
    is_rate: false,
};
const DELTA: Kind = Kind {
    is_counter: false,
    is_rate: false,
};

const NOT_COUNTER: &str = "PromQL warning: this native histogram metric is not a counter: \"h\"";
const NOT_GAUGE: &str = "PromQL warning: this native histogram metric is not a gauge: \"h\"";
const MIXED: &str =
    "PromQL warning: encountered a mix of histograms and floats for metric name \"h\"";
const MIXED_SCHEMAS: &str = "PromQL warning: vector contains a mix of histograms with exponential and custom buckets schemas for metric name \"h\"";
const COLLISION: &str = "PromQL warning: conflicting counter resets during histogram aggregation";

/// A series from 0 on; what is left empty has nothing.
#[derive(Default)]
struct Series {
    t: Vec<i64>,
    v: Vec<f64>,
    st: Vec<i64>,
    ht: Vec<i64>,
    h: Vec<Arc<Histogram>>,
    hst: Vec<i64>,
}

impl Series {
    fn floats(samples: &[(i64, f64)]) -> Self {
        let (t, v) = samples.iter().copied().unzip();
        Self {
            t,
            v,
            ..Self::default()
        }
    }

    fn histograms(samples: &[(i64, Histogram)]) -> Self {
        let arc = |(t, h): &(i64, Histogram)| (*t, Arc::new(h.clone()));
        let (ht, h) = samples.iter().map(arc).unzip();
        Self {
            ht,
            h,
            ..Self::default()
        }
    }

    fn and(mut self, other: Self) -> Self {
        self.ht = other.ht;
        self.h = other.h;
        self
    }

    fn window(&self, start: i64, end: i64) -> MixedWindow<'_> {
        MixedWindow {
            floats: Window {
                t: &self.t,
                v: &self.v,
                start,
                end,
                eval_t: end,
                offset: 0,
            },
            st: &self.st,
            ht: &self.ht,
            h: &self.h,
            hst: &self.hst,
        }
    }

    /// What `function` makes of the range, and what it says.
    fn ask(
        &self,
        (start, end): (i64, i64),
        function: impl Fn(&MixedWindow<'_>, &Remarks<'_>) -> Option<PointValue>,
    ) -> (Option<PointValue>, Vec<String>) {
        let notes = Annotations::default();
        let remarks = Remarks {
            notes: &notes,
            name: "h",
            at: Span::default(),
        };
        let value = function(&self.window(start, end), &remarks);
        let (mut said, infos) = notes.texts("");
        said.extend(infos);
        (value, said)
    }
}

/// Buckets 0, 1, … of schema 0.
fn histogram(counts: &[f64]) -> Histogram {
    Histogram {
        count: counts.iter().sum(),
        sum: counts.iter().sum::<f64>() * 2.0,
        positive: Buckets {
            spans: vec![BucketSpan {
                offset: 0,
                length: u32::try_from(counts.len()).unwrap(),
            }],
            counts: counts.to_vec(),
        },
        ..Histogram::default()
    }
}

fn custom(counts: &[f64]) -> Histogram {
    Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        custom_bounds: Arc::new([1.0, 2.0]),
        ..histogram(counts)
    }
}

fn hinted(hint: ResetHint, histogram: Histogram) -> Histogram {
    Histogram {
        reset_hint: hint,
        ..histogram
    }
}

fn gauge(histogram: Histogram) -> Histogram {
    hinted(ResetHint::Gauge, histogram)
}

/// A histogram with its hint, whatever spans cut the buckets.
#[track_caller]
fn check(found: &(Option<PointValue>, Vec<String>), expect: &Histogram, said: &[&str]) {
    let Some(PointValue::Histogram(value)) = &found.0 else {
        panic!("{found:?}");
    };
    assert!(value.equals(expect), "{value:?}");
    assert_eq!(value.reset_hint, expect.reset_hint);
    assert_eq!(found.1, said);
}

#[test]
fn a_start_time_behind_the_sample_before_is_a_reset() {
    let sample = |t, st| MixedSample {
        t,
        st,
        value: Either::Float(0.0),
    };
    let before = sample(100, 40);
    for (st, is_reset, is_overlap) in [
        (0, false, false),
        (40, false, false),
        (99, false, true),
        (100, true, false),
        (101, true, false),
        (200, false, false),
        (201, false, false),
    ] {
        assert_eq!(is_start_reset(&before, &sample(200, st)), is_reset, "{st}");
        let overlaps = is_start_overlap(&before, &sample(200, st));
        assert_eq!(overlaps, is_overlap, "{st}");
    }
    // It begins with a sample whose own beginning is not known: a counter that goes on.
    for unknown in [0, 100, 150] {
        assert!(!is_start_reset(&sample(100, unknown), &sample(200, 100)));
    }
}

#[test]
fn the_last_two_samples_may_be_of_different_kinds() {
    let series =
        Series::floats(&[(10, 1.0), (30, 3.0)]).and(Series::histograms(&[(20, histogram(&[1.0]))]));
    let window = series.window(0, 40);
    let (before, now) = window.last_two().unwrap();
    assert_eq!((before.t, now.t), (20, 30));
    let times: Vec<i64> = window.samples().map(|sample| sample.t).collect();
    assert_eq!(times, [10, 20, 30]);
}

#[test]
fn a_change_of_kind_is_a_change_and_a_reset() {
    let series = Series::floats(&[(10, 1.0), (40, 2.0)]).and(Series::histograms(&[
        (20, histogram(&[1.0])),
        (30, histogram(&[1.0])),
    ]));
    let window = series.window(0, 50);
    assert_eq!(window.resets(false), Some(PointValue::Float(2.0)));
    assert_eq!(window.changes(false), Some(PointValue::Float(2.0)));
    let window = series.window(25, 50);
    // Anchored, the newest sample before the range counts and what is older does not.
    assert_eq!(window.resets(true), Some(PointValue::Float(1.0)));
    assert_eq!(window.changes(true), Some(PointValue::Float(1.0)));
    assert_eq!(series.window(40, 50).resets(true), None);
}

#[test]
fn a_start_time_resets_what_did_not_fall() {
    let mut series = Series::floats(&[(10, 1.0), (20, 2.0)]);
    series.st = vec![5, 15];
    assert_eq!(
        series.window(0, 20).resets(false),
        Some(PointValue::Float(1.0))
    );
    let (value, said) = series.ask((0, 20_000), |w, remarks| instant(w, true, remarks));
    assert_eq!((value, said.len()), (Some(PointValue::Float(200.0)), 0));
    let (value, _) = series.ask((0, 20_000), |w, remarks| instant(w, false, remarks));
    assert_eq!(value, Some(PointValue::Float(1.0)));
}

#[test]
fn first_and_last_are_of_any_kind() {
    let h = histogram(&[1.0]);
    let series =
        Series::floats(&[(10, 1.0), (30, 3.0)]).and(Series::histograms(&[(20, h.clone())]));
    let window = series.window(0, 40);
    assert_eq!(window.first(), Some(PointValue::Float(1.0)));
    assert_eq!(window.last(), Some(PointValue::Float(3.0)));
    assert_eq!(window.count(), Some(PointValue::Float(3.0)));
    assert_eq!(window.time_of(false), Some(PointValue::Float(0.01)));
    assert_eq!(window.time_of(true), Some(PointValue::Float(0.03)));
    // At one time the histogram is taken.
    let series = Series::floats(&[(20, 1.0)]).and(Series::histograms(&[(20, h.clone())]));
    let window = series.window(0, 40);
    let expect = Some(PointValue::Histogram(Arc::new(h)));
    assert_eq!((window.first(), window.last()), (expect.clone(), expect));
}

#[test]
fn a_rate_is_carried_on_but_not_below_zero() {
    let series = Series::histograms(&[
        (20_000, histogram(&[2.0, 8.0])),
        (40_000, histogram(&[4.0, 16.0])),
    ]);
    let increase = |w: &MixedWindow<'_>, r: &Remarks<'_>| extrapolated(w, INCREASE, r);
    let rate = |w: &MixedWindow<'_>, r: &Remarks<'_>| extrapolated(w, RATE, r);
    // Twenty seconds of ten observations, and as many on either side.
    let found = series.ask((0, 60_000), increase);
    check(&found, &gauge(histogram(&[6.0, 24.0])), &[]);
    let found = series.ask((0, 60_000), rate);
    let per_second = histogram(&[0.1, 0.4]);
    check(
        &found,
        &gauge(Histogram {
            count: 0.5,
            sum: 1.0,
            ..per_second
        }),
        &[],
    );
    // It was zero five seconds before the first sample.
    let series = Series::histograms(&[(20_000, histogram(&[2.0])), (40_000, histogram(&[10.0]))]);
    check(
        &series.ask((0, 40_000), increase),
        &gauge(histogram(&[10.0])),
        &[],
    );
}

#[test]
fn one_sample_is_enough_when_it_began_inside_the_range() {
    let increase = |w: &MixedWindow<'_>, r: &Remarks<'_>| extrapolated(w, INCREASE, r);
    let mut series = Series::histograms(&[(30_000, histogram(&[3.0]))]);
    assert_eq!(series.ask((0, 60_000), increase).0, None);
    for (st, is_enough) in [(0, false), (1, true), (29_999, true), (30_000, false)] {
        series.hst = vec![st];
        let found = series.ask((0, 60_000), increase);
        assert_eq!(found.0.is_some(), is_enough, "{st}");
        if is_enough {
            check(&found, &histogram(&[3.0]), &[]);
        }
    }
    let (value, _) = series.ask((0, 60_000), |w, r| extrapolated(w, DELTA, r));
    assert_eq!(value, None);
    let mut series = Series::floats(&[(30_000, 3.0)]);
    series.st = vec![10_000];
    assert_eq!(
        series.ask((0, 60_000), increase).0,
        Some(PointValue::Float(3.0))
    );
}

#[test]
fn resets_bring_back_what_was_lost_and_the_layout_before_them_does_not_matter() {
    let increase = |w: &MixedWindow<'_>, r: &Remarks<'_>| extrapolated(w, INCREASE, r);
    let series = Series::histograms(&[
        (20_000, histogram(&[4.0])),
        (40_000, histogram(&[6.0])),
        (60_000, histogram(&[1.0])),
    ]);
    check(
        &series.ask((20_000, 60_000), increase),
        &gauge(histogram(&[3.0])),
        &[],
    );
    let series = Series::histograms(&[
        (20_000, histogram(&[4.0])),
        (40_000, custom(&[1.0, 0.0])),
        (60_000, custom(&[3.0, 2.0])),
    ]);
    check(
        &series.ask((20_000, 60_000), increase),
        &gauge(custom(&[3.0, 2.0])),
        &[],
    );
}

#[test]
fn the_coarsest_schema_of_the_range_is_that_of_the_result() {
    let fine = |count: f64| Histogram {
        schema: 1,
        ..histogram(&[0.0, count, count])
    };
    let series = Series::histograms(&[
        (20_000, fine(1.0)),
        (40_000, histogram(&[0.0, 4.0])),
        (60_000, hinted(ResetHint::NotReset, fine(3.0))),
    ]);
    let (value, _) = series.ask((20_000, 60_000), |w, r| extrapolated(w, INCREASE, r));
    let Some(PointValue::Histogram(value)) = value else {
        panic!("{value:?}");
    };
    assert_eq!((value.schema, value.count), (0, 4.0));
    assert_eq!(value.positive.iter().collect::<Vec<_>>(), [(1, 4.0)]);
    // A difference looks at the ends alone.
    let (value, _) = series.ask((20_000, 60_000), |w, r| extrapolated(w, DELTA, r));
    assert!(matches!(value, Some(PointValue::Histogram(value)) if value.schema == 1));
}

#[test]
fn counters_and_gauges_that_are_none_are_remarked() {
    let ends =
        |first: Histogram, last: Histogram| Series::histograms(&[(20_000, first), (40_000, last)]);
    let plain = || histogram(&[1.0]);
    for (series, kind, said) in [
        (ends(plain(), plain()), INCREASE, &[][..]),
        (ends(gauge(plain()), plain()), INCREASE, &[NOT_COUNTER]),
        (ends(plain(), gauge(plain())), RATE, &[NOT_COUNTER]),
        (ends(gauge(plain()), gauge(plain())), DELTA, &[]),
        (ends(gauge(plain()), plain()), DELTA, &[NOT_GAUGE]),
    ] {
        let found = series.ask((0, 60_000), |w, r| extrapolated(w, kind, r));
        assert_eq!(found.1, said);
        let is_counter = kind.is_counter;
        let found = series.ask((0, 60_000), |w, r| instant(w, is_counter, r));
        assert_eq!(found.1, said);
    }
}

#[test]
fn kinds_that_do_not_mix_have_no_rate() {
    let increase = |w: &MixedWindow<'_>, r: &Remarks<'_>| extrapolated(w, INCREASE, r);
    let series = Series::floats(&[(10, 1.0)]).and(Series::histograms(&[(20, histogram(&[1.0]))]));
    let mixed = (None, vec![MIXED.to_owned()]);
    assert_eq!(series.ask((0, 40), increase), mixed);
    assert_eq!(series.ask((0, 40), |w, r| instant(w, true, r)), mixed);
    assert_eq!(
        series.ask((0, 40), |w, r| extended(w, true, INCREASE, r)),
        mixed
    );
    let clash = |said: &[&str]| {
        let said = said.iter().map(|text| (*text).to_owned());
        (None, said.collect::<Vec<_>>())
    };
    // The ends are judged before anything else is looked at.
    let series = Series::histograms(&[
        (10, custom(&[1.0])),
        (20, custom(&[2.0])),
        (30, gauge(histogram(&[3.0]))),
    ]);
    assert_eq!(
        series.ask((0, 40), increase),
        clash(&[NOT_COUNTER, MIXED_SCHEMAS])
    );
    let series = Series::histograms(&[
        (10, gauge(custom(&[1.0]))),
        (20, custom(&[2.0])),
        (30, hinted(ResetHint::NotReset, histogram(&[3.0]))),
        (40, custom(&[4.0])),
    ]);
    assert_eq!(series.ask((0, 40), increase), clash(&[MIXED_SCHEMAS]));
}

#[test]
fn the_last_two_histograms_make_an_instant_rate() {
    let irate = |w: &MixedWindow<'_>, r: &Remarks<'_>| instant(w, true, r);
    let series = Series::histograms(&[
        (0, histogram(&[9.0])),
        (10_000, histogram(&[1.0, 2.0])),
        (20_000, histogram(&[11.0, 12.0])),
    ]);
    check(
        &series.ask((0, 20_000), irate),
        &gauge(Histogram {
            count: 2.0,
            sum: 4.0,
            ..histogram(&[1.0, 1.0])
        }),
        &[],
    );
    let series = Series::histograms(&[(0, histogram(&[90.0])), (10_000, histogram(&[20.0]))]);
    check(
        &series.ask((0, 20_000), irate),
        &gauge(histogram(&[2.0])),
        &[],
    );
    let series = Series::histograms(&[(0, custom(&[9.0])), (10_000, custom(&[5.0]))]);
    check(
        &series.ask((0, 20_000), |w, r| instant(w, false, r)),
        &gauge(custom(&[-4.0])),
        &[NOT_GAUGE],
    );
}

#[test]
fn between_two_histograms_lies_a_line_unless_the_counter_began_anew() {
    let notes = Annotations::default();
    let remarks = Remarks {
        notes: &notes,
        name: "h",
        at: Span::default(),
    };
    let (low, high) = (histogram(&[2.0]), histogram(&[6.0]));
    let line = |left: &Histogram, right: &Histogram, t, is_counter| {
        between((0, left), (40, right), t, is_counter, &remarks)
    };
    let counts = |t, is_counter| {
        let rising = line(&low, &high, t, is_counter).unwrap().count;
        (rising, line(&high, &low, t, is_counter).unwrap().count)
    };
    assert_eq!(counts(0, true), (2.0, 6.0));
    assert_eq!(counts(10, false), (3.0, 5.0));
    assert_eq!(counts(10, true), (3.0, 0.5));
    assert_eq!(counts(40, true), (6.0, 2.0));
    assert!(notes.texts("").0.is_empty());
    assert!(line(&low, &custom(&[6.0]), 10, false).is_none());
    assert_eq!(notes.texts("").0, [MIXED_SCHEMAS]);
}

#[test]
fn an_instant_smoothed_without_a_sample_behind_it_is_the_one_before() {
    let notes = Annotations::default();
    let remarks = Remarks {
        notes: &notes,
        name: "h",
        at: Span::default(),
    };
    let low = hinted(ResetHint::Reset, histogram(&[2.0]));
    let histograms = [Arc::new(low), Arc::new(histogram(&[6.0]))];
    let at = |t| smooth_at((&[10, 50], &histograms), t, &remarks);
    assert!(at(9).is_none());
    assert_eq!(at(10), Some(Arc::clone(&histograms[0])));
    assert!(at(20).unwrap().positive.counts == [3.0]);
    let last = hinted(ResetHint::Unknown, histogram(&[6.0]));
    assert_eq!(at(60).as_deref(), Some(&last));
    let only = smooth_at((&[10], &histograms[..1]), 60, &remarks);
    assert_eq!(only.unwrap().reset_hint, ResetHint::Unknown);
}

#[test]
fn extended_ranges_change_from_edge_to_edge() {
    let series = Series::histograms(&[
        (0, histogram(&[2.0])),
        (40_000, histogram(&[6.0])),
        (80_000, histogram(&[4.0])),
    ]);
    let ask = |is_smoothed, kind| {
        series.ask((20_000, 60_000), move |w, r| {
            extended(w, is_smoothed, kind, r)
        })
    };
    // From the sample before; four more, and all of what came after the reset.
    check(&ask(false, INCREASE), &gauge(histogram(&[8.0])), &[]);
    check(&ask(false, DELTA), &gauge(histogram(&[2.0])), &[NOT_GAUGE]);
    // From 4 to 6, and half of what came after the reset.
    check(&ask(true, INCREASE), &gauge(histogram(&[4.0])), &[]);
    let rate = ask(true, RATE);
    check(
        &rate,
        &gauge(Histogram {
            count: 0.1,
            sum: 0.2,
            ..histogram(&[0.1])
        }),
        &[],
    );
    let found = series.ask((80_000, 90_000), |w, r| extended(w, false, INCREASE, r));
    assert_eq!(found, (None, Vec::new()));
}

#[test]
fn a_reset_across_the_left_edge_counts_once() {
    let series = Series::histograms(&[
        (0, histogram(&[8.0])),
        (40_000, histogram(&[4.0])),
        (80_000, histogram(&[6.0])),
    ]);
    let found = series.ask((20_000, 80_000), |w, r| extended(w, true, INCREASE, r));
    check(&found, &gauge(histogram(&[4.0])), &[]);
    let found = series.ask((10_000, 30_000), |w, r| extended(w, true, INCREASE, r));
    check(&found, &gauge(histogram(&[2.0])), &[]);
}

fn sum(w: &MixedWindow<'_>, remarks: &Remarks<'_>) -> Option<PointValue> {
    w.fold::<HistogramSum>(remarks)
}

fn mean(w: &MixedWindow<'_>, remarks: &Remarks<'_>) -> Option<PointValue> {
    w.fold::<HistogramMean>(remarks)
}

#[test]
fn sums_and_means_over_time_say_what_they_met() {
    let series = Series::histograms(&[
        (10, hinted(ResetHint::Reset, histogram(&[1.0]))),
        (20, hinted(ResetHint::NotReset, histogram(&[3.0]))),
    ]);
    let (value, said) = series.ask((0, 40), sum);
    assert!(matches!(value, Some(PointValue::Histogram(h)) if h.equals(&histogram(&[4.0]))));
    assert_eq!(said, [COLLISION]);
    let (value, _) = series.ask((0, 40), mean);
    assert!(matches!(value, Some(PointValue::Histogram(h)) if h.equals(&histogram(&[2.0]))));
    let series = Series::histograms(&[(10, histogram(&[1.0])), (20, custom(&[1.0]))]);
    assert_eq!(
        series.ask((0, 40), sum),
        (None, vec![MIXED_SCHEMAS.to_owned()])
    );
}
