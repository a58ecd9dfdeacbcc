//! Orders of results.

use std::cmp::Ordering;

use crate::model::Labels;

/// Ascending by value, what is no number last.
pub(crate) fn ascending(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b)
        .unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// Descending by value, what is no number last.
pub(crate) fn descending(a: f64, b: f64) -> Ordering {
    b.partial_cmp(&a)
        .unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// By the values of `names` in natural order, then by all labels.
pub(crate) fn by_labels(a: &Labels, b: &Labels, names: &[&str]) -> Ordering {
    for name in names {
        let (left, right) = (a.value(name), b.value(name));
        if left != right {
            return natural(left, right).then_with(|| left.cmp(right));
        }
    }
    a.cmp(b)
}

/// Digits compare as numbers, everything else as text.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        if left.is_empty() || right.is_empty() {
            return left.len().cmp(&right.len());
        }
        let (piece, left_rest) = take_piece(left);
        let (other, right_rest) = take_piece(right);
        let order = if starts_with_digit(piece) && starts_with_digit(other) {
            compare_digits(piece, other)
        } else {
            piece.cmp(other)
        };
        if order != Ordering::Equal {
            return order;
        }
        (left, right) = (left_rest, right_rest);
    }
}

fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
}

/// A run of digits, or of anything else.
fn take_piece(text: &str) -> (&str, &str) {
    let is_number = starts_with_digit(text);
    let len = text
        .find(|c: char| c.is_ascii_digit() != is_number)
        .unwrap_or(text.len());
    text.split_at_checked(len).unwrap_or((text, ""))
}

fn compare_digits(a: &str, b: &str) -> Ordering {
    let (left, right) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    left.len()
        .cmp(&right.len())
        .then_with(|| left.cmp(right))
        .then_with(|| a.len().cmp(&b.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_last_in_both_directions() {
        let mut values = [f64::NAN, 2.0, f64::NEG_INFINITY, 3.0];
        values.sort_by(|a, b| ascending(*a, *b));
        assert!(values[3].is_nan() && values[0] < values[1]);
        values.sort_by(|a, b| descending(*a, *b));
        assert!(values[3].is_nan() && values[0] > values[1]);
    }

    #[test]
    fn numbers_in_text_sort_as_numbers() {
        let set = |value: &str| Labels::new(&[("cpu", value), ("z", "1")]).unwrap();
        let order = |a: &str, b: &str| by_labels(&set(a), &set(b), &["cpu"]);
        assert_eq!(order("cpu2", "cpu10"), Ordering::Less);
        assert_eq!(order("10a", "10b"), Ordering::Less);
        assert_eq!(order("007", "7"), Ordering::Greater);
        assert_eq!(order("a", "a1"), Ordering::Less);
        assert_eq!(
            by_labels(&set("b"), &set("a"), &["gone"]),
            Ordering::Greater
        );
    }
}
