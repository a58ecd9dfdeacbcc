//! `anchored` and `smoothed` ranges: values at the edges of the range itself.
#![expect(
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "positions come from searches within the window; times are far below 2^53 milliseconds"
)]

use crate::promql::functions::window::Window;
use crate::promql::limits::QueryError;
use crate::promql::parse::ast::Extend;

/// `anchored` and `smoothed` go with few functions.
pub(crate) fn check(extend: Extend, function: &str) -> Result<(), QueryError> {
    let (modifier, allowed): (&str, &[&str]) = match extend {
        Extend::Anchored => (
            "anchored",
            &["changes", "delta", "increase", "rate", "resets"],
        ),
        Extend::Smoothed => ("smoothed", &["delta", "increase", "rate"]),
    };
    if allowed.contains(&function) {
        return Ok(());
    }
    Err(QueryError::Execution(format!(
        "{modifier} modifier can only be used with: {} - not with {function}",
        allowed.join(", ")
    )))
}

/// The straight line between two neighbours, at `t`. A counter that fell between them began again at zero.
fn between(w: &Window<'_>, left: usize, t: i64, is_counter: bool) -> f64 {
    let (t0, t1) = (w.t[left], w.t[left + 1]);
    let (mut v0, v1) = (w.v[left], w.v[left + 1]);
    if is_counter && v1 < v0 {
        v0 = 0.0;
    }
    v0 + (v1 - v0) * (t - t0) as f64 / (t1 - t0) as f64
}

/// The part of a window that a range is made of, and the values at its edges.
struct Edges {
    first: usize,
    last: usize,
    left: f64,
    right: f64,
}

impl Edges {
    /// The positions strictly inside: the edges' values stand for what lies on or beyond them.
    fn inside(&self, w: &Window<'_>) -> (usize, usize) {
        (
            self.first + usize::from(w.t[self.first] <= w.start),
            self.last + usize::from(w.t[self.last] < w.end),
        )
    }
}

/// `w` reaches one sample further back than the range, and forward when smoothed.
fn edges(w: &Window<'_>, is_smoothed: bool, is_counter: bool) -> Option<Edges> {
    let mut last = w.t.len().checked_sub(1)?;
    let first = w.t[..last]
        .partition_point(|t| *t <= w.start)
        .saturating_sub(1);
    if is_smoothed {
        last = w.t[..last].partition_point(|t| *t < w.end);
    }
    if w.t[last] <= w.start {
        return None;
    }
    let left = if is_smoothed && w.t[first] < w.start {
        between(w, first, w.start, is_counter)
    } else {
        w.v[first]
    };
    let right = if is_smoothed && last > 0 && w.t[last] > w.end {
        between(w, last - 1, w.end, is_counter)
    } else {
        w.v[last]
    };
    Some(Edges {
        first,
        last,
        left,
        right,
    })
}

/// The change from one edge of the range to the other; nothing is carried on beyond samples.
pub(crate) fn change(
    w: &Window<'_>,
    is_smoothed: bool,
    is_counter: bool,
    is_rate: bool,
) -> Option<f64> {
    let edges = edges(w, is_smoothed, is_counter)?;
    if is_smoothed && w.t[edges.first] > w.end {
        return None;
    }
    let mut value = edges.right - edges.left;
    if is_counter {
        let (from, to) = edges.inside(w);
        let inside = w.v.get(from..to).unwrap_or_default();
        let mut lost = 0.0;
        let mut previous = edges.left;
        for v in inside.iter().chain([&edges.right]) {
            if *v < previous {
                lost += previous;
            }
            previous = *v;
        }
        value += lost;
    }
    if is_rate {
        value /= w.range_seconds();
    }
    Some(value)
}

/// The samples of an extended range: the value at its left edge, what lies inside, the value at its right edge.
pub(crate) fn anchor(w: &Window<'_>, is_smoothed: bool, t: &mut Vec<i64>, v: &mut Vec<f64>) {
    t.clear();
    v.clear();
    let Some(edges) = edges(w, is_smoothed, false) else {
        return;
    };
    let (from, to) = edges.inside(w);
    t.push(w.start);
    v.push(edges.left);
    t.extend_from_slice(w.t.get(from..to).unwrap_or_default());
    v.extend_from_slice(w.v.get(from..to).unwrap_or_default());
    t.push(w.end);
    v.push(edges.right);
}

/// A smoothed instant value at `t`: on the line between the neighbours, or the one before when there is none after.
pub(crate) fn smooth_at(w: &Window<'_>, t: i64) -> Option<f64> {
    let after = w.t.partition_point(|here| *here < t);
    if w.t.get(after) == Some(&t) {
        return Some(w.v[after]);
    }
    let before = after.checked_sub(1)?;
    if after == w.t.len() {
        return Some(w.v[before]);
    }
    Some(between(w, before, t, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: [i64; 5] = [0, 60_000, 120_000, 180_000, 240_000];

    fn window(v: &[f64], start: i64, end: i64) -> Window<'_> {
        Window {
            t: &T[..v.len()],
            v,
            start,
            end,
            eval_t: end,
            offset: 0,
        }
    }

    #[test]
    fn an_anchored_range_takes_the_sample_before_it() {
        let w = window(&[1.0, 2.0, 5.0], 30_000, 130_000);
        assert_eq!(change(&w, false, false, false), Some(4.0));
        assert_eq!(change(&w, false, true, true), Some(0.04));
        let w = window(&[1.0, 2.0], 60_000, 130_000);
        assert_eq!(change(&w, false, false, false), None);
    }

    #[test]
    fn a_smoothed_range_ends_between_samples() {
        let w = window(&[9.0, 8.0, 5.0, 4.0], 15_000, 135_000);
        assert_eq!(change(&w, true, true, false), Some(12.0));
        let w = window(&[0.0, 6.0, 12.0], 30_000, 90_000);
        assert_eq!(change(&w, true, false, false), Some(6.0));
    }

    #[test]
    fn anchoring_puts_samples_on_both_edges() {
        let (mut t, mut v) = (Vec::new(), Vec::new());
        let w = window(&[1.0, 2.0, 3.0], 30_000, 130_000);
        anchor(&w, false, &mut t, &mut v);
        assert_eq!(t, [30_000, 60_000, 120_000, 130_000]);
        assert_eq!(v, [1.0, 2.0, 3.0, 3.0]);
    }

    #[test]
    fn a_smoothed_value_needs_a_sample_before() {
        let w = window(&[1.0, 3.0], 0, 0);
        assert_eq!(smooth_at(&w, 30_000), Some(2.0));
        assert_eq!(smooth_at(&w, 60_000), Some(3.0));
        assert_eq!(smooth_at(&w, 90_000), Some(3.0));
        assert_eq!(smooth_at(&w, -1), None);
    }
}
