//! What the seeds of the database's formats hold.

use std::sync::Arc;

use gauntlet::model::{
    BucketSpan, Buckets, CUSTOM_BUCKETS_SCHEMA, Exemplar, Histogram, Labels, ResetHint,
    STALE_NAN_BITS,
};

/// The first sample of every seed.
pub(crate) const START: i64 = 1_700_000_000_000;

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::new(pairs).unwrap()
}

/// Series as a small target has them.
pub(crate) fn series(n: usize) -> Labels {
    let instance = format!("host-{}:9100", n / 3);
    labels(&[
        ("__name__", ["up", "requests_total", "temp.é"][n % 3]),
        ("instance", &instance),
        ("job", "node"),
    ])
}

/// The stale marker.
pub(crate) fn stale() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// Counters, flat lines, noise and odd values.
pub(crate) fn floats(kind: usize, n: usize) -> Vec<f64> {
    let odd = [
        0.0,
        -0.0,
        f64::MAX,
        f64::INFINITY,
        stale(),
        f64::NAN,
        1e-310,
    ];
    (0..n)
        .map(|i| match kind {
            0 => f64::from(u32::try_from(i).unwrap()) * 17.0,
            1 => 42.5,
            2 => (f64::from(u32::try_from(i * i).unwrap()) * 0.7).sin(),
            _ => odd[i % odd.len()],
        })
        .collect()
}

/// Times on and off their schedule, with a gap.
pub(crate) fn times(kind: usize, n: usize) -> Vec<i64> {
    (0..n)
        .map(|i| {
            let i = i64::try_from(i).unwrap();
            let late = if kind == 0 { 0 } else { i * i * 7 % 13 };
            let gap = if kind == 2 && 10 < i { 86_400_000 } else { 0 };
            START + i * 15_000 + late + gap
        })
        .collect()
}

fn span(offset: i32, length: u32) -> BucketSpan {
    BucketSpan { offset, length }
}

/// A counter of whole numbers with growing buckets.
pub(crate) fn exponential(i: usize) -> Histogram {
    let i = f64::from(u32::try_from(i).unwrap());
    let buckets = |first: f64| Buckets {
        spans: vec![span(-2, 2), span(3, 1)],
        counts: vec![first + i, 2.0 + 3.0 * i, i],
    };
    let (positive, negative) = (buckets(1.0), buckets(4.0));
    let in_buckets: f64 = positive.counts.iter().chain(&negative.counts).sum();
    Histogram {
        schema: 1,
        zero_threshold: 0.001,
        zero_count: i,
        count: in_buckets + i,
        sum: 17.5 * i,
        positive,
        negative,
        ..Histogram::default()
    }
}

/// With listed bounds.
pub(crate) fn custom(i: usize) -> Histogram {
    let i = f64::from(u32::try_from(i).unwrap());
    Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count: 3.0 + 3.0 * i,
        sum: 2.5 * i,
        positive: Buckets {
            spans: vec![span(0, 3)],
            counts: vec![1.0 + i, 2.0, 2.0 * i],
        },
        custom_bounds: Arc::from([0.25, 2.0, 1.0e9 / 3.0]),
        ..Histogram::default()
    }
}

/// A gauge of any numbers, with a marker that ends it.
pub(crate) fn gauge(i: usize) -> Histogram {
    if i == 7 {
        return Histogram::stale();
    }
    let share = f64::from(u32::try_from(i).unwrap()) / 3.0;
    Histogram {
        reset_hint: ResetHint::Gauge,
        schema: 8,
        count: 1.0 + share,
        sum: -share,
        positive: Buckets {
            spans: vec![span(1000, 2)],
            counts: vec![1.0, share],
        },
        ..Histogram::default()
    }
}

pub(crate) fn exemplar(i: usize) -> Exemplar {
    let id = format!("trace-{i}");
    Exemplar {
        labels: labels(&[("trace_id", &id)]),
        v: 0.5,
        t: times(1, i + 1)[i],
        has_own_time: true,
    }
}
