//! Two sets of buckets beside each other: which are in both, and did one fall?

use crate::model::BucketSpan;

/// Where a bucket of the union comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Both {
    /// Index of the bucket.
    pub(super) index: i64,
    /// Its position among the buckets on the left.
    pub(super) left: Option<usize>,
    /// Its position among the buckets on the right.
    pub(super) right: Option<usize>,
}

/// All buckets of either side, in order.
pub(super) fn union(left: &[BucketSpan], right: &[BucketSpan]) -> Vec<Both> {
    let mut left = indexes(left).enumerate().peekable();
    let mut right = indexes(right).enumerate().peekable();
    let mut all = Vec::new();
    loop {
        let index = match (left.peek(), right.peek()) {
            (Some((_, l)), Some((_, r))) => *l.min(r),
            (Some((_, l)), None) => *l,
            (None, Some((_, r))) => *r,
            (None, None) => return all,
        };
        all.push(Both {
            index,
            left: left.next_if(|&(_, l)| l == index).map(|(at, _)| at),
            right: right.next_if(|&(_, r)| r == index).map(|(at, _)| at),
        });
    }
}

/// The spans of these buckets, as few as possible.
pub(super) fn spans_of(buckets: &[Both]) -> Vec<BucketSpan> {
    let mut spans: Vec<BucketSpan> = Vec::new();
    let mut next = 0i64;
    for bucket in buckets {
        match spans.last_mut() {
            Some(span) if bucket.index == next => span.length += 1,
            _ => spans.push(BucketSpan {
                // Indexes and the gaps between them come from spans of 32 bits.
                offset: i32::try_from(bucket.index - next).unwrap_or(i32::MAX),
                length: 1,
            }),
        }
        next = bucket.index + 1;
    }
    spans
}

/// Indexes of the buckets of `spans`.
pub(super) fn indexes(spans: &[BucketSpan]) -> impl Iterator<Item = i64> {
    let mut next = 0i64;
    spans.iter().flat_map(move |span| {
        let from = next + i64::from(span.offset);
        next = from + i64::from(span.length);
        from..next
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(offset: i32, length: u32) -> BucketSpan {
        BucketSpan { offset, length }
    }

    #[test]
    fn buckets_of_either_side_are_named_once() {
        let left = [span(-2, 2), span(1, 1)];
        let right = [span(-1, 1), span(0, 2), span(3, 1)];
        let both = union(&left, &right);
        let names: Vec<_> = both.iter().map(|b| (b.index, b.left, b.right)).collect();
        assert_eq!(
            names,
            [
                (-2, Some(0), None),
                (-1, Some(1), Some(0)),
                (0, None, Some(1)),
                (1, Some(2), Some(2)),
                (5, None, Some(3)),
            ]
        );
        assert_eq!(spans_of(&both), [span(-2, 4), span(3, 1)]);
        assert_eq!(spans_of(&union(&[], &[])), []);
    }
}
