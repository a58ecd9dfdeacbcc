//! `xrate`, `xincrease` and `xdelta`: changes that begin at the sample before the range.
#![expect(
    clippy::float_cmp,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "equal values are recognised exactly; windows are not empty; times are far below 2^53 milliseconds"
)]

use crate::promql::functions::window::Window;

/// Which of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extended {
    /// Per second, of a counter.
    Rate,
    /// In all, of a counter.
    Increase,
    /// In all, of anything.
    Delta,
}

/// The change over a range whose window begins one sample before it. `appeared_t` is the series' first sample.
pub(crate) fn change(w: &Window<'_>, which: Extended, appeared_t: i64) -> Option<f64> {
    let n = w.t.len();
    let first_v = *w.v.first()?;
    let range_ms = w.end - w.start;
    if which == Extended::Increase
        && w.v.iter().all(|v| *v == first_v)
        && w.end <= appeared_t.saturating_add(range_ms)
    {
        // The counter is new: it came from zero to where it stands.
        return Some(first_v);
    }
    let last_t = w.t[n - 1];
    let mut first = 0;
    let mut sampled = (last_t - w.t[0]) as f64;
    let mut between = sampled / (n - 1) as f64;
    if which != Extended::Increase && (w.start - w.t[0]) as f64 > between {
        // The sample before the range is too far away to say anything about it.
        if n < 3 {
            return None;
        }
        first = 1;
        sampled = (last_t - w.t[1]) as f64;
        between = sampled / (n - 2) as f64;
    }
    let mut lost = 0.0;
    if which != Extended::Delta {
        let mut previous = 0.0;
        for v in &w.v[first..] {
            if *v < previous {
                lost += previous;
            }
            previous = *v;
        }
    }
    let mut value = w.v[n - 1] - w.v[first] + lost;
    if w.t[first] <= w.start && ((w.end - last_t) as f64) < between {
        value *= range_ms as f64 / sampled;
    }
    if which == Extended::Rate {
        value /= w.range_seconds();
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window<'a>(t: &'a [i64], v: &'a [f64]) -> Window<'a> {
        Window {
            t,
            v,
            start: 10_000,
            end: 70_000,
            eval_t: 70_000,
            offset: 0,
        }
    }

    #[test]
    fn ranges_that_are_covered_are_stretched_to_their_length() {
        let t = [5_000, 35_000, 65_000];
        let w = window(&t, &[0.0, 30.0, 60.0]);
        assert_eq!(change(&w, Extended::Increase, 0), Some(60.0));
        assert_eq!(change(&w, Extended::Rate, 0), Some(1.0));
        let w = window(&t, &[60.0, 30.0, 0.0]);
        assert_eq!(change(&w, Extended::Delta, 0), Some(-60.0));
        assert_eq!(change(&w, Extended::Increase, 0), Some(30.0));
    }

    #[test]
    fn a_new_counter_came_from_zero() {
        let w = window(&[65_000], &[7.0]);
        assert_eq!(change(&w, Extended::Increase, 65_000), Some(7.0));
    }
}
