//! Native histograms as they grow.

use std::collections::BTreeMap;
use std::sync::Arc;

use gauntlet::model::{BucketSpan, Buckets, CUSTOM_BUCKETS_SCHEMA, Histogram, ResetHint};

use crate::data::as_float;
use crate::dice::Dice;

/// What becomes of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Counts grow and are reset.
    Counter,
    /// Counts come and go.
    Gauge,
    /// As a counter, by fractions.
    FloatCounter,
    /// As a counter, with listed bounds.
    Custom,
}

/// Bounds of custom buckets; the second list comes after a reset.
const CUSTOM_BOUNDS: [&[f64]; 2] = [&[0.1, 0.5, 1.0, 5.0], &[0.1, 1.0, 5.0, 10.0]];

/// A histogram that grows.
struct Growing {
    schema: i32,
    positive: BTreeMap<i32, f64>,
    negative: BTreeMap<i32, f64>,
    zero_count: f64,
    sum: f64,
    bounds: Arc<[f64]>,
}

/// `n` samples of one series: buckets come, the schema gets coarser, the counter is reset, the series ends and begins.
pub(crate) fn grow(dice: &mut Dice, kind: Kind, n: usize) -> Vec<Histogram> {
    let mut growing = Growing::new(dice, kind);
    let mut samples = Vec::with_capacity(n);
    for _ in 0..n {
        match dice.below(100) {
            0 => {
                samples.push(Histogram::stale());
                continue;
            }
            1 => growing = Growing::new(dice, kind),
            2 if kind != Kind::Custom && -3 < growing.schema => growing.reduce(),
            _ => (),
        }
        if kind == Kind::Gauge && dice.chance(30) {
            growing.positive.retain(|_, _| dice.chance(70));
        }
        growing.observe(dice, kind);
        samples.push(growing.sample(kind));
    }
    samples
}

impl Growing {
    fn new(dice: &mut Dice, kind: Kind) -> Self {
        let (schema, bounds) = match kind {
            Kind::Custom => (CUSTOM_BUCKETS_SCHEMA, CUSTOM_BOUNDS[dice.below(2)].into()),
            Kind::Counter | Kind::Gauge | Kind::FloatCounter => {
                (i32::try_from(dice.between(-1, 3)).unwrap(), [].into())
            }
        };
        Self {
            schema,
            positive: BTreeMap::new(),
            negative: BTreeMap::new(),
            zero_count: 0.0,
            sum: 0.0,
            bounds,
        }
    }

    /// Half as many buckets to a factor.
    fn reduce(&mut self) {
        self.schema -= 1;
        for buckets in [&mut self.positive, &mut self.negative] {
            let mut merged = BTreeMap::new();
            for (index, count) in std::mem::take(buckets) {
                *merged.entry(((index - 1) >> 1) + 1).or_insert(0.0) += count;
            }
            *buckets = merged;
        }
    }

    fn observe(&mut self, dice: &mut Dice, kind: Kind) {
        for _ in 0..dice.below(6) {
            let many = match kind {
                Kind::FloatCounter => as_float(dice.between(1, 40)) / 8.0,
                Kind::Counter | Kind::Gauge | Kind::Custom => as_float(dice.between(1, 9)),
            };
            if kind == Kind::Custom {
                let index = i32::try_from(dice.below(self.bounds.len() + 1)).unwrap();
                *self.positive.entry(index).or_insert(0.0) += many;
                self.sum += many * 0.75;
                continue;
            }
            let index = i32::try_from(dice.between(-6, 9)).unwrap();
            match dice.below(8) {
                0 => self.zero_count += many,
                1 | 2 => {
                    *self.negative.entry(index).or_insert(0.0) += many;
                    self.sum -= many * 1.5;
                }
                _ => {
                    *self.positive.entry(index).or_insert(0.0) += many;
                    self.sum += many * 2.25;
                }
            }
        }
    }

    fn sample(&self, kind: Kind) -> Histogram {
        let (positive, negative) = (buckets(&self.positive), buckets(&self.negative));
        let count = positive.counts.iter().chain(&negative.counts).sum::<f64>() + self.zero_count;
        Histogram {
            reset_hint: if kind == Kind::Gauge {
                ResetHint::Gauge
            } else {
                ResetHint::Unknown
            },
            schema: self.schema,
            zero_threshold: if kind == Kind::Custom { 0.0 } else { 0.001 },
            zero_count: self.zero_count,
            count,
            sum: self.sum,
            positive,
            negative,
            custom_bounds: Arc::clone(&self.bounds),
        }
    }
}

fn buckets(counts: &BTreeMap<i32, f64>) -> Buckets {
    let mut spans: Vec<BucketSpan> = Vec::new();
    let mut next = 0;
    for &index in counts.keys() {
        match spans.last_mut() {
            Some(span) if index == next => span.length += 1,
            _ => spans.push(BucketSpan {
                offset: index - next,
                length: 1,
            }),
        }
        next = index + 1;
    }
    Buckets {
        spans,
        counts: counts.values().copied().collect(),
    }
}
