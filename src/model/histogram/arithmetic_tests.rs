//! Arithmetic of histograms, its text, and resets.

use crate::model::histogram::{
    BucketSpan, Buckets, CUSTOM_BUCKETS_SCHEMA, Histogram, IncompatibleSchemas, KahanHistogram,
    Merged, ResetHint,
};

fn buckets(offset: i32, counts: &[f64]) -> Buckets {
    Buckets {
        spans: vec![BucketSpan {
            offset,
            length: u32::try_from(counts.len()).unwrap(),
        }],
        counts: counts.to_vec(),
    }
}

fn exponential(schema: i32, offset: i32, counts: &[f64]) -> Histogram {
    Histogram {
        schema,
        count: counts.iter().sum(),
        sum: 10.0,
        positive: buckets(offset, counts),
        ..Histogram::default()
    }
}

fn custom(bounds: &[f64], counts: &[f64]) -> Histogram {
    Histogram {
        custom_bounds: bounds.into(),
        ..exponential(CUSTOM_BUCKETS_SCHEMA, 0, counts)
    }
}

fn text_of_sum(left: &Histogram, right: &Histogram) -> String {
    let mut sum = left.clone();
    sum.add(right).unwrap();
    sum.compact();
    sum.to_string()
}

#[test]
fn a_histogram_prints_its_populated_buckets_from_the_lowest() {
    let histogram = Histogram {
        zero_threshold: 0.001,
        zero_count: 2.0,
        negative: buckets(0, &[1.0, 0.0, 3.0]),
        ..exponential(0, 1, &[1.5, 0.0, 2e6])
    };
    assert_eq!(
        histogram.to_string(),
        "{count:2.0000015e+06, sum:10, [-4,-2):3, [-1,-0.5):1, [-0.001,0.001]:2, (1,2]:1.5, (4,8]:2e+06}"
    );
    assert_eq!(
        custom(&[1.0, 5.0], &[1.0, 2.0, 3.0]).to_string(),
        "{count:6, sum:10, [-Inf,1]:1, (1,5]:2, (5,+Inf]:3}"
    );
}

#[test]
fn sums_have_every_bucket_of_both_and_differences_give_them_back() {
    let left = exponential(0, 0, &[1.0, 2.0, 3.0]);
    let mut right = exponential(0, -1, &[4.0]);
    right.positive.spans.push(BucketSpan {
        offset: 3,
        length: 1,
    });
    right.positive.counts.push(5.0);
    let mut sum = left.clone();
    assert_eq!(sum.add(&right), Ok(Merged::default()));
    assert_eq!(sum.positive.counts, [4.0, 1.0, 2.0, 3.0, 5.0]);
    assert_eq!(sum.positive.spans.len(), 1);
    sum.sub(&right).unwrap();
    sum.compact();
    assert_eq!(sum.positive, left.positive);
    sum.sub(&right).unwrap();
    assert_eq!(sum.positive.counts, [-4.0, 1.0, 2.0, 3.0, -5.0]);
}

#[test]
fn of_two_schemas_the_coarser_one_stays() {
    let fine = exponential(1, 1, &[1.0, 2.0, 3.0, 4.0]);
    let coarse = exponential(0, 1, &[10.0, 20.0]);
    let expect = "{count:40, sum:20, (1,2]:13, (2,4]:27}";
    assert_eq!(text_of_sum(&fine, &coarse), expect);
    assert_eq!(text_of_sum(&coarse, &fine), expect);
}

#[test]
fn the_zero_bucket_widens_to_the_end_of_what_it_would_cut() {
    let narrow = Histogram {
        zero_threshold: 0.5,
        zero_count: 1.0,
        ..exponential(0, 0, &[2.0, 3.0, 4.0])
    };
    let wide = Histogram {
        zero_threshold: 1.5,
        zero_count: 10.0,
        negative: buckets(2, &[5.0]),
        ..exponential(0, 2, &[7.0])
    };
    let expect = "{count:16, sum:20, [-4,-2):5, [-2,2]:16, (2,4]:11}";
    assert_eq!(text_of_sum(&narrow, &wide), expect);
    assert_eq!(text_of_sum(&wide, &narrow), expect);
}

#[test]
fn of_two_lists_of_bounds_the_shared_ones_stay() {
    let mut left = custom(&[1.0, 2.0, 5.0], &[1.0, 2.0, 3.0, 4.0]);
    let right = custom(&[2.0, 3.0, 5.0], &[10.0, 20.0, 30.0, 40.0]);
    let merged = left.add(&right).unwrap();
    assert!(merged.reconciled);
    assert_eq!(
        left.to_string(),
        "{count:110, sum:20, [-Inf,2]:13, (2,5]:53, (5,+Inf]:44}"
    );
    let exponential = exponential(0, 0, &[1.0]);
    assert_eq!(left.add(&exponential), Err(IncompatibleSchemas));
    assert_eq!(exponential.clone().sub(&left), Err(IncompatibleSchemas));
}

#[test]
fn hints_that_contradict_each_other_are_told_and_forgotten() {
    use ResetHint::{Gauge, NotReset, Reset, Unknown};
    for (left, right, expect, is_collision) in [
        (Reset, Reset, Reset, false),
        (Reset, NotReset, Unknown, true),
        (NotReset, Reset, Unknown, true),
        (NotReset, Unknown, Unknown, false),
        (Unknown, Reset, Unknown, false),
        (Gauge, Reset, Gauge, false),
        (Unknown, Gauge, Gauge, false),
    ] {
        let with_hint = |reset_hint| Histogram {
            reset_hint,
            ..exponential(0, 0, &[1.0])
        };
        let mut sum = with_hint(left);
        let merged = sum.add(&with_hint(right)).unwrap();
        assert_eq!(
            (sum.reset_hint, merged.reset_collision),
            (expect, is_collision),
            "{left:?} {right:?}"
        );
    }
}

#[test]
fn factors_reach_every_count_and_make_gauges_when_they_are_negative() {
    let histogram = Histogram {
        zero_count: 3.0,
        negative: buckets(0, &[4.0]),
        ..exponential(0, 0, &[1.0, 2.0])
    };
    let double = histogram.scale(2.0);
    assert_eq!(
        double.to_string(),
        "{count:6, sum:20, [-1,-0.5):8, [-0,0]:6, (0.5,1]:2, (1,2]:4}"
    );
    assert_eq!(double.reset_hint, ResetHint::Unknown);
    assert_eq!(histogram.negated().reset_hint, ResetHint::Gauge);
    assert_eq!(histogram.divide(-1.0), histogram.negated());
    let nothing = histogram.divide(0.0);
    assert_eq!(
        (nothing.count, nothing.buckets().count()),
        (f64::INFINITY, 1)
    );
}

#[test]
fn compacting_leaves_populated_buckets_alone() {
    let mut buckets = Buckets {
        spans: vec![
            BucketSpan {
                offset: -2,
                length: 2,
            },
            BucketSpan {
                offset: 0,
                length: 1,
            },
            BucketSpan {
                offset: 3,
                length: 0,
            },
            BucketSpan {
                offset: 1,
                length: 2,
            },
        ],
        counts: vec![0.0, 1.0, 2.0, 0.0, 3.0],
    };
    let before: Vec<(i32, f64)> = buckets.iter().filter(|(_, count)| *count != 0.0).collect();
    assert_eq!(before, [(-1, 1.0), (0, 2.0), (6, 3.0)]);
    buckets.compact();
    assert_eq!(buckets.iter().collect::<Vec<_>>(), before);
    assert_eq!((buckets.spans.len(), buckets.counts.len()), (2, 3));
}

#[test]
fn spans_and_bits_decide_whether_histograms_are_equal() {
    let histogram = exponential(0, 0, &[1.0, 2.0]);
    let spans = |spans: &[(i32, u32)]| -> Vec<BucketSpan> {
        let spans = spans.iter();
        spans
            .map(|&(offset, length)| BucketSpan { offset, length })
            .collect()
    };
    let mut with_empty_spans = histogram.clone();
    with_empty_spans.positive.spans = spans(&[(-3, 0), (1, 0), (2, 2), (7, 0)]);
    with_empty_spans.reset_hint = ResetHint::Gauge;
    assert!(histogram.equals(&with_empty_spans));
    let mut cut = histogram.clone();
    cut.positive.spans = spans(&[(0, 1), (0, 1)]);
    assert!(!histogram.equals(&cut));
    for other in [
        exponential(0, 1, &[1.0, 2.0]),
        exponential(1, 0, &[1.0, 2.0]),
        exponential(0, 0, &[1.0, 2.0, 0.0]),
        Histogram {
            sum: f64::NAN,
            ..histogram.clone()
        },
        Histogram {
            zero_threshold: 0.5,
            ..histogram.clone()
        },
    ] {
        assert!(!histogram.equals(&other), "{other}");
        assert!(other.equals(&other.clone()));
    }
}

#[test]
fn whatever_fell_is_a_reset() {
    let before = Histogram {
        zero_threshold: 0.25,
        zero_count: 1.0,
        ..exponential(1, 1, &[1.0, 2.0, 3.0])
    };
    assert!(!before.detect_reset(&before));
    let after = |change: fn(&mut Histogram)| {
        let mut after = before.clone();
        after.count += 10.0;
        change(&mut after);
        after.detect_reset(&before)
    };
    assert!(!after(|_| ()));
    assert!(after(|h| h.count = 1.0));
    assert!(after(|h| h.zero_count = 0.5));
    assert!(after(|h| h.schema = 2));
    assert!(after(|h| h.zero_threshold = 0.125));
    assert!(after(|h| h.positive.counts[1] = 1.5));
    assert!(after(|h| h.positive = buckets(1, &[1.0, 2.0])));
    assert!(after(|h| h.positive = buckets(2, &[2.0, 3.0])));
    assert!(after(|h| h.reset_hint = ResetHint::Reset));
    assert!(!after(|h| {
        h.reset_hint = ResetHint::NotReset;
        h.count = 0.0;
    }));
    // Coarser buckets and a wider zero bucket hold what the finer ones held.
    assert!(!after(|h| {
        h.schema = 0;
        h.positive = buckets(1, &[3.0, 3.0]);
    }));
    assert!(after(|h| {
        h.schema = 0;
        h.positive = buckets(1, &[2.5, 3.5]);
    }));
    assert!(!after(|h| {
        h.zero_threshold = 2.0;
        h.zero_count = 4.0;
        h.positive = buckets(3, &[3.0]);
    }));
    assert!(after(|h| h.zero_threshold = 1.2));
}

#[test]
fn behind_the_last_bucket_one_of_those_before_decides() {
    let before = |counts| exponential(0, 5, counts);
    let now = Histogram {
        count: 100.0,
        ..exponential(0, 0, &[100.0])
    };
    assert!(now.detect_reset(&before(&[1.0, 0.0])));
    assert!(!now.detect_reset(&before(&[0.0, 1.0])));
}

#[test]
fn custom_buckets_are_compared_between_shared_bounds() {
    let before = custom(&[1.0, 2.0, 5.0], &[1.0, 2.0, 3.0, 4.0]);
    let same = custom(&[2.0, 5.0], &[3.0, 3.0, 4.0]);
    assert!(!same.detect_reset(&before));
    assert!(custom(&[2.0, 5.0], &[2.0, 4.0, 4.0]).detect_reset(&before));
    assert!(custom(&[2.0], &[10.0]).detect_reset(&exponential(0, 0, &[1.0])));
    assert!(exponential(0, 0, &[10.0]).detect_reset(&custom(&[2.0], &[1.0])));
}

#[test]
fn compensated_sums_keep_what_rounding_takes() {
    let of = |v: f64| exponential(0, 0, &[v]);
    let mut sum = KahanHistogram::new(&of(1e100));
    for v in [1.0, -1e100] {
        sum.add(&of(v)).unwrap();
    }
    assert_eq!(sum.total().positive.counts, [1.0]);
    assert!(sum.is_within(2e100) && !sum.has_overflow());
    sum.add(&of(f64::MAX)).unwrap();
    sum.add(&of(f64::MAX)).unwrap();
    assert!(sum.has_overflow() && !sum.is_within(f64::MAX));
    let mut open_below = KahanHistogram::new(&custom(&[f64::NEG_INFINITY], &[1.0, 2.0]));
    open_below
        .add(&custom(&[f64::NEG_INFINITY], &[1.0, 2.0]))
        .unwrap();
    assert!(open_below.has_overflow() && !open_below.is_within(f64::MAX));
    let mut half = KahanHistogram::new(&of(6.0));
    half.divide(2.0);
    half.scale(3.0);
    assert_eq!(half.total().positive.counts, [9.0]);
}

#[test]
fn what_lies_in_the_zero_bucket_is_added_to_nothing_else() {
    let overlapping = |count| Histogram {
        zero_threshold: 1.5,
        zero_count: 10.0,
        ..exponential(0, 0, &[count, 3.0, 4.0])
    };
    let mut sum = overlapping(5.0);
    sum.add(&overlapping(7.0)).unwrap();
    assert_eq!(sum.positive.counts, [5.0, 6.0, 8.0]);
    // Nor is what rounding took when such buckets became one: that stays lost.
    let fine = |zero_threshold| Histogram {
        zero_threshold,
        ..exponential(2, 1, &[1.0, 1e100, -1e100])
    };
    for (zero_threshold, count) in [(0.5, 1.0), (100.0, 0.0)] {
        let mut kahan = KahanHistogram::new(&fine(zero_threshold));
        let coarse = Histogram {
            zero_threshold,
            ..Histogram::default()
        };
        kahan.add(&coarse).unwrap();
        assert_eq!(kahan.total().positive.counts, [count]);
    }
}
