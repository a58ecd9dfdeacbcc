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

/// From when to when samples have one resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResolutionSlice {
    /// Both ends included.
    pub interval: Interval,
    /// How far samples are apart there.
    pub resolution: Resolution,
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

    /// The coarsest resolution that was read at `t`.
    pub fn coarsest_at(&self, t: TimestampMs) -> Resolution {
        let slices = self.0.lock();
        let here = slices.iter().filter(|slice| slice.interval.contains(t));
        let levels = here.map(|slice| slice.resolution);
        levels.max().unwrap_or(Resolution::Raw)
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
    fn a_receipt_names_the_coarsest_of_each_time() {
        let receipt = Receipt::default();
        let slice = |min, max, resolution| ResolutionSlice {
            interval: Interval { min, max },
            resolution,
        };
        receipt.note(&[slice(0, 9, FiveMinutes), slice(10, 19, Raw)]);
        receipt.clone().note(&[slice(5, 9, OneHour)]);
        let at = [0, 5, 10, 20].map(|t| receipt.coarsest_at(t));
        assert_eq!(at, [FiveMinutes, OneHour, Raw, Raw]);
    }
}
