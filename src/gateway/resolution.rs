//! Which resolution is read when. Pure.

use crate::model::{Interval, Resolution};
use crate::storage::{ResolutionBounds, ResolutionSlice};

/// When the blocks of one producer have something, and how coarse it is.
pub type Extent = (Interval, Resolution);

/// Cuts `interval` into slices of one resolution each, in order and without gaps: of the levels in the order that
/// `bounds` prefers, each takes what its blocks cover of the times the levels before have left. Before all of them come
/// the times `here`, at which the asker has raw samples at hand. What no block covers is raw: nobody but the head can
/// have it.
pub fn choose(
    (extents, here): (&[Extent], &[Interval]),
    interval: Interval,
    bounds: ResolutionBounds,
) -> Vec<ResolutionSlice> {
    let mut slices = Vec::new();
    let mut gaps = vec![interval];
    let mut take = |level: Resolution, covered: Vec<Interval>| {
        let covered = union(covered);
        for gap in std::mem::take(&mut gaps) {
            for extent in &covered {
                slices.extend(gap.common(*extent).map(|interval| ResolutionSlice {
                    interval,
                    resolution: level,
                }));
            }
            gaps.extend(without(gap, &covered));
        }
    };
    take(Resolution::Raw, here.to_vec());
    for level in bounds.in_order() {
        let at_level = extents
            .iter()
            .filter(|(extent, resolution)| *resolution == level && extent.overlaps(&interval))
            .map(|(extent, _)| *extent);
        take(level, at_level.collect());
    }
    slices.extend(gaps.into_iter().map(|interval| ResolutionSlice {
        interval,
        resolution: Resolution::Raw,
    }));
    slices.sort_unstable_by_key(|slice| slice.interval.min);
    slices.dedup_by(|right, left| {
        let is_one = right.resolution == left.resolution;
        if is_one {
            left.interval.max = right.interval.max;
        }
        is_one
    });
    slices
}

/// Of `extent`, the times at which `resolution` is read.
pub fn parts_of(
    slices: &[ResolutionSlice],
    extent: Interval,
    resolution: Resolution,
) -> Vec<Interval> {
    slices
        .iter()
        .filter(|slice| slice.resolution == resolution)
        .filter_map(|slice| slice.interval.common(extent))
        .collect()
}

/// The same times, in order, each once; neighbours are one.
fn union(mut extents: Vec<Interval>) -> Vec<Interval> {
    extents.sort_unstable_by_key(|extent| extent.min);
    extents.dedup_by(|right, left| {
        let do_meet = right.min <= left.max.saturating_add(1);
        if do_meet {
            left.max = left.max.max(right.max);
        }
        do_meet
    });
    extents
}

/// What of `gap` lies in none of `covered`, which are in order and apart.
fn without(gap: Interval, covered: &[Interval]) -> Vec<Interval> {
    let mut left = Vec::new();
    let mut from = Some(gap.min);
    for extent in covered.iter().filter(|extent| extent.overlaps(&gap)) {
        if let Some(min) = from.filter(|min| *min < extent.min) {
            let max = extent.min.saturating_sub(1);
            left.push(Interval { min, max });
        }
        from = extent.max.checked_add(1);
    }
    if let Some(min) = from.filter(|min| *min <= gap.max) {
        left.push(Interval { min, max: gap.max });
    }
    left
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use Resolution::{FiveMinutes, OneHour, Raw};

    const LEVELS: [Resolution; 3] = [Raw, FiveMinutes, OneHour];

    fn at(min: i64, max: i64) -> Interval {
        Interval { min, max }
    }

    #[track_caller]
    fn check(
        extents: &[Extent],
        (wanted, max): (Resolution, Resolution),
        expect: &[(i64, i64, Resolution)],
    ) {
        let bounds = ResolutionBounds { wanted, max };
        let slices = choose((extents, &[]), at(0, 99), bounds);
        let found: Vec<_> = slices
            .iter()
            .map(|slice| (slice.interval.min, slice.interval.max, slice.resolution))
            .collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn gaps_of_the_coarsest_level_are_filled_with_finer_ones_and_the_rest_is_raw() {
        let extents = [
            (at(0, 39), OneHour),
            (at(0, 49), FiveMinutes),
            (at(60, 79), FiveMinutes),
            (at(0, 89), Raw),
        ];
        check(
            &extents,
            (OneHour, OneHour),
            &[
                (0, 39, OneHour),
                (40, 49, FiveMinutes),
                (50, 59, Raw),
                (60, 79, FiveMinutes),
                (80, 99, Raw),
            ],
        );
        check(
            &extents,
            (FiveMinutes, FiveMinutes),
            &[
                (0, 49, FiveMinutes),
                (50, 59, Raw),
                (60, 79, FiveMinutes),
                (80, 99, Raw),
            ],
        );
        check(&extents, (Raw, Raw), &[(0, 99, Raw)]);
    }

    #[test]
    fn coarser_levels_than_wanted_serve_where_nothing_else_is_left_and_only_if_they_may() {
        let extents = [
            (at(0, 79), OneHour),
            (at(20, 79), FiveMinutes),
            (at(60, 99), Raw),
        ];
        check(
            &extents,
            (Raw, OneHour),
            &[(0, 19, OneHour), (20, 59, FiveMinutes), (60, 99, Raw)],
        );
        check(
            &extents,
            (FiveMinutes, OneHour),
            &[(0, 19, OneHour), (20, 79, FiveMinutes), (80, 99, Raw)],
        );
        check(
            &extents,
            (Raw, FiveMinutes),
            &[(0, 19, Raw), (20, 59, FiveMinutes), (60, 99, Raw)],
        );
    }

    #[test]
    fn blocks_that_reach_beyond_the_question_or_overlap_each_other_are_cut() {
        let extents = [
            (at(-50, 30), FiveMinutes),
            (at(20, 45), FiveMinutes),
            (at(90, i64::MAX), FiveMinutes),
            (at(i64::MIN, -1), FiveMinutes),
        ];
        check(
            &extents,
            (FiveMinutes, FiveMinutes),
            &[(0, 45, FiveMinutes), (46, 89, Raw), (90, 99, FiveMinutes)],
        );
        check(
            &[(Interval::ALL, OneHour)],
            (OneHour, OneHour),
            &[(0, 99, OneHour)],
        );
        let all = choose((&extents, &[]), Interval::ALL, ResolutionBounds::COARSEST);
        assert_eq!(all.first().map(|slice| slice.interval.min), Some(i64::MIN));
        assert_eq!(all.last().map(|slice| slice.interval.max), Some(i64::MAX));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Millisecond by millisecond: the first level in order that has a block there.
        #[test]
        fn every_moment_is_read_at_the_best_level_that_has_it(
            extents in proptest::collection::vec((0i64..60, 0i64..30, 0usize..3), 0..12),
            (from, length) in (0i64..60, 0i64..60),
            here in proptest::collection::vec((0i64..60, 0i64..30), 0..3),
            (wanted, max) in (0usize..3, 0usize..3),
        ) {
            let here: Vec<_> = here.into_iter().map(|(min, length)| at(min, min + length)).collect();
            let extents: Vec<Extent> = extents
                .into_iter()
                .map(|(min, length, level)| (at(min, min + length), LEVELS[level]))
                .collect();
            let bounds = ResolutionBounds { wanted: LEVELS[wanted], max: LEVELS[max] };
            let slices = choose((&extents, &here), at(from, from + length), bounds);
            for t in from..=from + length {
                let has = |level: &Resolution| {
                    extents.iter().any(|(extent, own)| own == level && extent.contains(t))
                };
                let is_here = here.iter().any(|here| here.contains(t));
                let best = bounds.in_order().find(has).filter(|_| !is_here);
                let found: Vec<_> = slices.iter().filter(|slice| slice.interval.contains(t)).collect();
                prop_assert_eq!(found.len(), 1);
                prop_assert_eq!(found[0].resolution, best.unwrap_or(Raw));
            }
            let neighbours = slices.iter().zip(slices.iter().skip(1));
            for (left, right) in neighbours {
                prop_assert_eq!(left.interval.max + 1, right.interval.min);
                prop_assert_ne!(left.resolution, right.resolution);
            }
        }
    }
}
