//! The line through samples.
#![expect(
    clippy::float_cmp,
    clippy::cast_precision_loss,
    reason = "a constant series is recognised exactly; times are far below 2^53 milliseconds"
)]

use crate::promql::functions::kahan::Kahan;
use crate::promql::functions::window::Window;

/// Slope per second and value at `intercept_t`, by least squares.
fn line(w: &Window<'_>, first: f64, intercept_t: i64) -> (f64, f64) {
    let mut n = 0.0;
    let mut is_constant = true;
    let [mut sum_x, mut sum_y, mut sum_xy, mut sum_x2] = [Kahan::default(); 4];
    for (t, y) in w.t.iter().zip(w.v) {
        is_constant &= *y == first;
        n += 1.0;
        let x = (t - intercept_t) as f64 / 1e3;
        sum_x.add(x);
        sum_y.add(*y);
        sum_xy.add(x * y);
        sum_x2.add(x * x);
    }
    if is_constant {
        return if first.is_infinite() {
            (f64::NAN, f64::NAN)
        } else {
            (0.0, first)
        };
    }
    let [sum_x, sum_y, sum_xy, sum_x2] = [sum_x, sum_y, sum_xy, sum_x2].map(|sum| sum.total());
    let covariance = sum_xy - sum_x * sum_y / n;
    let variance = sum_x2 - sum_x * sum_x / n;
    let slope = covariance / variance;
    (slope, sum_y / n - slope * sum_x / n)
}

/// The slope per second.
pub(crate) fn deriv(w: &Window<'_>) -> Option<f64> {
    let ((first_t, first), _) = w.ends()?;
    Some(line(w, first, first_t).0)
}

/// The value `seconds` after the evaluation time.
pub(crate) fn predict_linear(w: &Window<'_>, seconds: f64) -> Option<f64> {
    let ((_, first), _) = w.ends()?;
    let (slope, intercept) = line(w, first, w.eval_t);
    Some(slope * seconds + intercept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window<'a>(t: &'a [i64], v: &'a [f64]) -> Window<'a> {
        Window {
            t,
            v,
            start: 0,
            end: 40_000,
            eval_t: 40_000,
            offset: 0,
        }
    }

    #[test]
    fn a_line_is_found_and_followed() {
        let w = window(&[10_000, 20_000, 30_000], &[1.0, 3.0, 5.0]);
        assert!((deriv(&w).unwrap() - 0.2).abs() < 1e-12);
        assert!((predict_linear(&w, 10.0).unwrap() - 9.0).abs() < 1e-12);
        assert_eq!(deriv(&window(&[1], &[1.0])), None);
    }

    #[test]
    fn a_constant_has_no_slope_unless_it_is_infinite() {
        assert_eq!(deriv(&window(&[1, 2], &[5.0, 5.0])), Some(0.0));
        let infinite = [f64::INFINITY; 2];
        assert!(deriv(&window(&[1, 2], &infinite)).unwrap().is_nan());
    }
}
