//! Which part of the head becomes the next block.

use crate::model::{Interval, TimeRange};

/// The next block, once the head spans more than one and a half ranges: from its oldest sample to the next multiple of
/// `range_ms`.
pub fn plan_cut(span: Option<Interval>, range_ms: i64) -> Option<TimeRange> {
    let Interval { min, max } = span?;
    let is_due = max.saturating_sub(min) > range_ms.saturating_add(range_ms / 2);
    let end = min
        .div_euclid(range_ms)
        .saturating_mul(range_ms)
        .saturating_add(range_ms);
    is_due.then_some(TimeRange { min, max: end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_due_after_one_and_a_half_ranges_and_ends_aligned() {
        let plan = |min, max| plan_cut(Some(Interval { min, max }), 100);
        assert_eq!(plan_cut(None, 100), None);
        assert_eq!(plan(0, 150), None);
        assert_eq!(plan(0, 151), Some(TimeRange { min: 0, max: 100 }));
        assert_eq!(plan(70, 221), Some(TimeRange { min: 70, max: 100 }));
        assert_eq!(plan(-70, 200), Some(TimeRange { min: -70, max: 0 }));
        assert_eq!(plan(100, 500), Some(TimeRange { min: 100, max: 200 }));
    }
}
