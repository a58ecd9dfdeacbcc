//! Random histograms for tests.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::model::histogram::{
    BucketSpan, Buckets, CUSTOM_BUCKETS_SCHEMA, EXPONENTIAL_SCHEMA_MAX, EXPONENTIAL_SCHEMA_MIN,
    Histogram, ResetHint,
};

/// Whole counts far below 2^53: they add up without rounding.
fn count() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), (0_u32..1000).prop_map(f64::from)]
}

fn buckets(first_offset: std::ops::Range<i32>) -> impl Strategy<Value = Buckets> {
    let spans = vec((0_i32..4, vec(count(), 1..6)), 0..5);
    (first_offset, spans).prop_map(|(first_offset, spans)| {
        let mut buckets = Buckets::default();
        for (i, (gap, counts)) in spans.into_iter().enumerate() {
            buckets.spans.push(BucketSpan {
                offset: if i == 0 { first_offset } else { gap },
                length: u32::try_from(counts.len()).unwrap(),
            });
            buckets.counts.extend(counts);
        }
        buckets
    })
}

/// With the count that its buckets add up to, and some sum.
fn counted(mut histogram: Histogram) -> Histogram {
    histogram.count = histogram.counts().sum();
    histogram.sum = histogram.count * 1.5;
    histogram
}

/// Histograms of a counter with exponential buckets; none of these lies in the zero bucket.
fn exponential(
    schema: impl Strategy<Value = i32>,
    threshold: std::ops::Range<usize>,
) -> impl Strategy<Value = Histogram> {
    let buckets = || buckets(-12..12);
    (schema, threshold, count(), buckets(), buckets()).prop_map(
        |(schema, threshold, zero_count, positive, negative)| {
            let mut histogram = Histogram {
                schema,
                positive,
                negative,
                zero_count,
                ..Histogram::default()
            };
            let lowest = histogram
                .positive
                .iter()
                .chain(histogram.negative.iter())
                .map(|(index, _)| histogram.bound(index - 1))
                .fold(1.0, f64::min);
            histogram.zero_threshold = lowest * [0.0, 1e-9, 0.5, 1.0][threshold];
            counted(histogram)
        },
    )
}

/// Histograms of a counter with custom buckets.
fn custom() -> impl Strategy<Value = Histogram> {
    (vec(any::<bool>(), 12), vec(count(), 13)).prop_map(|(is_bound, mut counts)| {
        let bounds = (-3..9).zip(is_bound).filter(|(_, is_bound)| *is_bound);
        let custom_bounds: Vec<f64> = bounds.map(|(bound, _)| f64::from(bound) * 2.5).collect();
        counts.truncate(custom_bounds.len() + 1);
        let length = u32::try_from(counts.len()).unwrap();
        counted(Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            positive: Buckets {
                spans: vec![BucketSpan { offset: 0, length }],
                counts,
            },
            custom_bounds: custom_bounds.into(),
            ..Histogram::default()
        })
    })
}

/// Some of one kind. Either schemas or zero buckets differ: with both, Prometheus counts a bucket of the finer one twice
/// that the zero bucket has taken in, where a coarser bucket is wider.
pub(crate) fn some(n: usize) -> impl Strategy<Value = Vec<Histogram>> {
    let schemas = EXPONENTIAL_SCHEMA_MIN..=EXPONENTIAL_SCHEMA_MAX;
    let of_one_schema = schemas
        .clone()
        .prop_flat_map(move |schema| vec(exponential(Just(schema), 0..4), n));
    prop_oneof![
        of_one_schema,
        vec(exponential(schemas, 0..1), n),
        vec(custom(), n)
    ]
}

/// Any fields, as no writer makes them: spans that do not fit counts, indices at the ends of their type, floats of all
/// bits.
pub(crate) fn senseless() -> impl Strategy<Value = Histogram> {
    let float = || {
        prop_oneof![
            any::<u64>().prop_map(f64::from_bits),
            (-3_i32..4).prop_map(f64::from),
            Just(f64::INFINITY),
            Just(f64::NAN),
        ]
    };
    let offset = prop_oneof![any::<i32>(), -3_i32..4, Just(i32::MIN), Just(i32::MAX)];
    let length = prop_oneof![any::<u32>(), 0_u32..4, Just(u32::MAX)];
    let span = (offset, length).prop_map(|(offset, length)| BucketSpan { offset, length });
    let buckets =
        (vec(span, 0..5), vec(float(), 0..8)).prop_map(|(spans, counts)| Buckets { spans, counts });
    let schema = prop_oneof![
        Just(CUSTOM_BUCKETS_SCHEMA),
        -4_i32..9,
        any::<i32>(),
        Just(i32::MIN),
        Just(i32::MAX)
    ];
    let hint = prop_oneof![
        Just(ResetHint::Unknown),
        Just(ResetHint::Reset),
        Just(ResetHint::NotReset),
        Just(ResetHint::Gauge)
    ];
    let of_all = (float(), float(), float(), float());
    (
        hint,
        schema,
        of_all,
        [buckets.clone(), buckets],
        vec(float(), 0..5),
    )
        .prop_map(
            |(
                reset_hint,
                schema,
                (zero_threshold, zero_count, count, sum),
                [positive, negative],
                custom_bounds,
            )| {
                Histogram {
                    reset_hint,
                    schema,
                    zero_threshold,
                    zero_count,
                    count,
                    sum,
                    positive,
                    negative,
                    custom_bounds: custom_bounds.into(),
                }
            },
        )
}
