//! How coarse samples may be, and how coarse they were.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::model::{Interval, Resolution, TimestampMs};

/// How coarse samples may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResolutionBounds {
    /// The coarsest that is taken where there is a choice; next come finer ones.
    pub wanted: Resolution,
    /// The coarsest that is taken where there is nothing else.
    pub max: Resolution,
}

impl Default for ResolutionBounds {
    fn default() -> Self {
        Self::RAW_FIRST
    }
}

impl ResolutionBounds {
    /// Samples as they were scraped, or none.
    pub const RAW_ONLY: Self = Self {
        wanted: Resolution::Raw,
        max: Resolution::Raw,
    };

    /// Samples as they were scraped, and what is left of them where they are gone.
    pub const RAW_FIRST: Self = Self {
        wanted: Resolution::Raw,
        max: Resolution::OneHour,
    };

    /// The coarsest there is.
    pub const COARSEST: Self = Self {
        wanted: Resolution::OneHour,
        max: Resolution::OneHour,
    };

    /// In the order in which they are preferred.
    pub fn in_order(self) -> impl Iterator<Item = Resolution> {
        let finer = Resolution::COARSEST_FIRST.into_iter();
        let coarser = Resolution::COARSEST_FIRST.into_iter().rev();
        finer
            .filter(move |level| *level <= self.wanted)
            .chain(coarser.filter(move |level| self.wanted < *level && *level <= self.max))
    }
}

/// What whoever asks a query says of resolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResolutionWish {
    /// A fifth of the step, and whatever there is where that is all there is.
    Auto,
    /// This one, and whatever there is where that is all there is.
    Prefer(Resolution),
    /// This one at most.
    AtMost(Resolution),
}

impl ResolutionWish {
    /// What it means for a query with this step, which is zero for an instant.
    pub fn bounds(self, step_ms: i64) -> ResolutionBounds {
        let prefer = |wanted| ResolutionBounds {
            wanted,
            max: Resolution::OneHour,
        };
        match self {
            Self::Auto => prefer(Resolution::at_most(step_ms / STEPS_PER_WINDOW)),
            Self::Prefer(wanted) => prefer(wanted),
            Self::AtMost(max) => ResolutionBounds { wanted: max, max },
        }
    }
}

/// With `auto` a step is at least so many windows long, as in Thanos.
const STEPS_PER_WINDOW: i64 = 5;

/// From when to when samples have one resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResolutionSlice {
    /// Both ends included.
    pub interval: Interval,
    /// How far samples are apart there.
    pub resolution: Resolution,
}

impl ResolutionSlice {
    /// The coarsest resolution at `t`.
    pub fn coarsest_at(slices: &[Self], t: TimestampMs) -> Resolution {
        let here = slices.iter().filter(|slice| slice.interval.contains(t));
        let levels = here.map(|slice| slice.resolution);
        levels.max().unwrap_or(Resolution::Raw)
    }
}

/// What a source read, for whoever asked. Clones are the same receipt; times of which it says nothing were read raw.
#[derive(Debug, Clone, Default)]
pub struct Receipt(Arc<Mutex<Vec<ResolutionSlice>>>);

impl Receipt {
    /// Aggregates were read here; several sources may say so of the same time.
    pub fn note(&self, slices: &[ResolutionSlice]) {
        let coarse = slices
            .iter()
            .filter(|slice| slice.resolution != Resolution::Raw);
        self.0.lock().extend(coarse);
    }

    /// Where aggregates were read.
    pub fn slices(&self) -> Vec<ResolutionSlice> {
        self.0.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Resolution::{FiveMinutes, OneHour, Raw};

    #[test]
    fn finer_levels_come_before_coarser_ones_than_wanted() {
        for (wanted, max, expect) in [
            (Raw, Raw, vec![Raw]),
            (Raw, OneHour, vec![Raw, FiveMinutes, OneHour]),
            (FiveMinutes, OneHour, vec![FiveMinutes, Raw, OneHour]),
            (OneHour, OneHour, vec![OneHour, FiveMinutes, Raw]),
            (FiveMinutes, FiveMinutes, vec![FiveMinutes, Raw]),
        ] {
            let bounds = ResolutionBounds { wanted, max };
            assert_eq!(bounds.in_order().collect::<Vec<_>>(), expect, "{bounds:?}");
        }
    }

    #[test]
    fn auto_is_a_fifth_of_the_step_and_only_a_given_maximum_is_one() {
        let minute_ms = 60_000;
        for (wish, step_ms, wanted, max) in [
            (ResolutionWish::Auto, 0, Raw, OneHour),
            (ResolutionWish::Auto, 25 * minute_ms - 1, Raw, OneHour),
            (ResolutionWish::Auto, 25 * minute_ms, FiveMinutes, OneHour),
            (ResolutionWish::Auto, 300 * minute_ms, OneHour, OneHour),
            (ResolutionWish::Prefer(FiveMinutes), 0, FiveMinutes, OneHour),
            (ResolutionWish::AtMost(Raw), 300 * minute_ms, Raw, Raw),
            (
                ResolutionWish::AtMost(FiveMinutes),
                1,
                FiveMinutes,
                FiveMinutes,
            ),
        ] {
            let expect = ResolutionBounds { wanted, max };
            assert_eq!(wish.bounds(step_ms), expect, "{wish:?} at {step_ms}");
        }
    }

    #[test]
    fn a_receipt_names_the_coarsest_of_each_time() {
        let receipt = Receipt::default();
        let slice = |min, max, resolution| ResolutionSlice {
            interval: Interval { min, max },
            resolution,
        };
        receipt.note(&[slice(0, 9, FiveMinutes), slice(10, 19, Raw)]);
        receipt.clone().note(&[slice(5, 9, OneHour)]);
        let at = [0, 5, 10, 20].map(|t| ResolutionSlice::coarsest_at(&receipt.slices(), t));
        assert_eq!(at, [FiveMinutes, OneHour, Raw, Raw]);
    }
}
