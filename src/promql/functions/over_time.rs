//! `*_over_time`, `changes` and `resets`: one pass over the samples of a range.
#![expect(
    clippy::float_cmp,
    reason = "PromQL compares floats exactly on purpose"
)]

use crate::promql::functions::kahan::{Kahan, Mean};
use crate::promql::functions::window::Window;

/// The mean.
pub(crate) fn avg(w: &Window<'_>) -> Option<f64> {
    let (first, rest) = w.v.split_first()?;
    let mut mean = Mean::from(*first);
    for v in rest {
        mean.add(*v);
    }
    Some(mean.get())
}

/// The sum.
pub(crate) fn sum(w: &Window<'_>) -> Option<f64> {
    if w.v.is_empty() {
        return None;
    }
    let mut sum = Kahan::default();
    for v in w.v {
        sum.add(*v);
    }
    Some(if sum.sum.is_infinite() {
        sum.sum
    } else {
        sum.total()
    })
}

/// How many samples.
#[expect(clippy::cast_precision_loss, reason = "no range holds 2^53 samples")]
pub(crate) fn count(w: &Window<'_>) -> Option<f64> {
    (!w.v.is_empty()).then_some(w.v.len() as f64)
}

/// 1 when there is a sample.
pub(crate) fn present(w: &Window<'_>) -> Option<f64> {
    (!w.v.is_empty()).then_some(1.0)
}

/// The least value that is a number, if any is.
pub(crate) fn min(w: &Window<'_>) -> Option<f64> {
    let (first, rest) = w.v.split_first()?;
    let mut min = *first;
    for v in rest {
        if *v < min || min.is_nan() {
            min = *v;
        }
    }
    Some(min)
}

/// The greatest value that is a number, if any is.
pub(crate) fn max(w: &Window<'_>) -> Option<f64> {
    let (first, rest) = w.v.split_first()?;
    let mut max = *first;
    for v in rest {
        if *v > max || max.is_nan() {
            max = *v;
        }
    }
    Some(max)
}

/// The newest value.
pub(crate) fn last(w: &Window<'_>) -> Option<f64> {
    w.v.last().copied()
}

/// The oldest value.
pub(crate) fn first(w: &Window<'_>) -> Option<f64> {
    w.v.first().copied()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "times are far below 2^53 milliseconds"
)]
fn seconds(t: i64) -> f64 {
    t as f64 / 1000.0
}

/// When the newest sample was taken, in seconds.
pub(crate) fn ts_of_last(w: &Window<'_>) -> Option<f64> {
    w.t.last().map(|t| seconds(*t))
}

/// When the oldest sample was taken, in seconds.
pub(crate) fn ts_of_first(w: &Window<'_>) -> Option<f64> {
    w.t.first().map(|t| seconds(*t))
}

fn ts_of(w: &Window<'_>, is_better: fn(f64, f64) -> bool) -> Option<f64> {
    let mut samples = w.t.iter().zip(w.v);
    let (mut when, mut best) = samples.next()?;
    for (t, v) in samples {
        if is_better(*v, *best) || best.is_nan() {
            (when, best) = (t, v);
        }
    }
    Some(seconds(*when))
}

/// When the greatest value was last taken, in seconds.
pub(crate) fn ts_of_max(w: &Window<'_>) -> Option<f64> {
    ts_of(w, |v, best| v >= best)
}

/// When the least value was last taken, in seconds.
pub(crate) fn ts_of_min(w: &Window<'_>) -> Option<f64> {
    ts_of(w, |v, best| v <= best)
}

/// The variance, by Welford's method with compensation.
pub(crate) fn stdvar(w: &Window<'_>) -> Option<f64> {
    if w.v.is_empty() {
        return None;
    }
    let mut count = 0.0;
    let (mut mean, mut aux) = (Kahan::default(), Kahan::default());
    for v in w.v {
        count += 1.0;
        let delta = v - mean.total();
        mean.add(delta / count);
        aux.add(delta * (v - mean.total()));
    }
    Some(aux.total() / count)
}

/// The standard deviation.
pub(crate) fn stddev(w: &Window<'_>) -> Option<f64> {
    stdvar(w).map(f64::sqrt)
}

/// How often the value changed; two values that are no numbers are the same.
pub(crate) fn changes(w: &Window<'_>) -> Option<f64> {
    count_pairs(w, |previous, v| {
        v != previous && !(v.is_nan() && previous.is_nan())
    })
}

/// How often the value fell.
pub(crate) fn resets(w: &Window<'_>) -> Option<f64> {
    count_pairs(w, |previous, v| v < previous)
}

fn count_pairs(w: &Window<'_>, counts: fn(f64, f64) -> bool) -> Option<f64> {
    if w.v.is_empty() {
        return None;
    }
    let mut n = 0.0;
    for (previous, v) in w.v.iter().zip(w.v.iter().skip(1)) {
        if counts(*previous, *v) {
            n += 1.0;
        }
    }
    Some(n)
}

/// Double exponential smoothing with factors for level and trend.
pub(crate) fn double_exponential_smoothing(w: &Window<'_>, sf: f64, tf: f64) -> Option<f64> {
    let ((_, x0), _) = w.ends()?;
    let x1 = *w.v.get(1)?;
    let (mut s0, mut s1) = (0.0, x0);
    let mut b = x1 - x0;
    for (i, x) in w.v.iter().enumerate().skip(1) {
        if i > 1 {
            b = tf * (s1 - s0) + (1.0 - tf) * b;
        }
        let next = sf * x + (1.0 - sf) * (s1 + b);
        (s0, s1) = (s1, next);
    }
    Some(s1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window<'a>(t: &'a [i64], v: &'a [f64]) -> Window<'a> {
        Window {
            t,
            v,
            start: 0,
            end: 60_000,
            eval_t: 60_000,
            offset: 0,
        }
    }

    #[test]
    fn one_pass_functions_of_a_plain_series() {
        let w = window(
            &[10_000, 20_000, 30_000, 40_000, 50_000],
            &[0.0, 8.0, 8.0, 2.0, 3.0],
        );
        assert_eq!(avg(&w), Some(4.2));
        assert_eq!(sum(&w), Some(21.0));
        assert_eq!(count(&w), Some(5.0));
        assert_eq!((min(&w), max(&w)), (Some(0.0), Some(8.0)));
        assert_eq!((first(&w), last(&w)), (Some(0.0), Some(3.0)));
        assert_eq!((ts_of_first(&w), ts_of_last(&w)), (Some(10.0), Some(50.0)));
        assert_eq!((ts_of_min(&w), ts_of_max(&w)), (Some(10.0), Some(30.0)));
        assert!((stdvar(&w).unwrap() - 10.56).abs() < 1e-12);
        assert_eq!((changes(&w), resets(&w)), (Some(3.0), Some(1.0)));
    }

    #[test]
    fn what_is_no_number_loses_against_every_number() {
        let w = window(&[1, 2, 3], &[f64::NAN, 2.0, f64::NAN]);
        assert_eq!((min(&w), max(&w)), (Some(2.0), Some(2.0)));
        assert_eq!((changes(&w), present(&w)), (Some(2.0), Some(1.0)));
        let w = window(&[1, 2], &[f64::NAN, f64::NAN]);
        assert_eq!(changes(&w), Some(0.0));
    }

    #[test]
    fn an_empty_range_has_no_result() {
        let w = window(&[], &[]);
        for function in [
            avg, sum, count, min, max, last, first, stddev, changes, resets,
        ] {
            assert_eq!(function(&w), None);
        }
        assert_eq!(
            double_exponential_smoothing(&window(&[1], &[1.0]), 0.5, 0.5),
            None
        );
    }

    #[test]
    fn smoothing_follows_a_line() {
        let t: Vec<i64> = (0..10).collect();
        let v: Vec<f64> = (0..10u32).map(|i| f64::from(i) * 3.0).collect();
        let smoothed = double_exponential_smoothing(&window(&t, &v), 0.3, 0.6).unwrap();
        assert!((smoothed - 27.0).abs() < 1e-9);
    }
}
