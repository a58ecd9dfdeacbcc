//! What is read of aggregates, and how coarse they may be for what is computed from them.

use crate::model::Resolution;

/// What a window of a downsampled series stands for. Raw samples are read as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Reading {
    /// The average of its samples.
    #[default]
    Average,
    /// Sum and number of its samples, for averages over several windows.
    Mean,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// The sum.
    Sum,
    /// How many; a raw sample is one.
    Count,
    /// The counter, its resets taken out across all chunks of the series.
    Counter,
}

impl Reading {
    /// Of samples in a range that is handed to `func`.
    pub(crate) fn of_range(func: &str) -> Self {
        match func {
            "avg_over_time" => Self::Mean,
            "sum_over_time" => Self::Sum,
            "count_over_time" | "present_over_time" | "absent_over_time" => Self::Count,
            "ts_of_min_over_time" => Self::Min,
            "ts_of_max_over_time" => Self::Max,
            other => Self::of_newest(other),
        }
    }

    /// Of the newest sample at each step, which `func` sees. A sum or number of samples is no value that a step could
    /// show: it would be counted again by each step that sees it.
    pub(crate) fn of_newest(func: &str) -> Self {
        match func {
            "min" | "min_over_time" => Self::Min,
            "max" | "max_over_time" => Self::Max,
            "count" | "group" => Self::Count,
            "rate" | "increase" | "irate" | "resets" | "xrate" | "xincrease" => Self::Counter,
            _ => Self::Average,
        }
    }
}

/// The coarsest resolution at which `func` over `range_ms` still says what it should: two windows where a change is
/// measured, whole windows where samples are added up, a window at least for everything else. Resets and changes happen
/// between samples, of which aggregates know nothing.
pub(crate) fn coarsest_for(func: &str, range_ms: i64) -> Resolution {
    match func {
        "resets" | "changes" => Resolution::Raw,
        "rate"
        | "increase"
        | "irate"
        | "delta"
        | "idelta"
        | "deriv"
        | "predict_linear"
        | "holt_winters"
        | "double_exponential_smoothing"
        | "xrate"
        | "xincrease"
        | "xdelta" => Resolution::at_most(range_ms / 2),
        "sum_over_time" | "count_over_time" => Resolution::COARSEST_FIRST
            .into_iter()
            .find(|level| {
                range_ms
                    .checked_rem(level.as_ms())
                    .is_none_or(|rest| rest == 0)
            })
            .unwrap_or(Resolution::Raw),
        _ => Resolution::at_most(range_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Resolution::{FiveMinutes, OneHour, Raw};

    const MINUTE_MS: i64 = 60_000;

    #[test]
    fn ranges_are_no_shorter_than_what_their_function_needs() {
        for (func, minutes, expect) in [
            ("rate", 5, Raw),
            ("rate", 9, Raw),
            ("rate", 10, FiveMinutes),
            ("increase", 119, FiveMinutes),
            ("deriv", 120, OneHour),
            ("sum_over_time", 5, FiveMinutes),
            ("sum_over_time", 7, Raw),
            ("count_over_time", 90, FiveMinutes),
            ("count_over_time", 120, OneHour),
            ("max_over_time", 4, Raw),
            ("max_over_time", 7, FiveMinutes),
            ("avg_over_time", 60, OneHour),
            ("resets", 600, Raw),
            ("changes", 600, Raw),
        ] {
            let found = coarsest_for(func, minutes * MINUTE_MS);
            assert_eq!(found, expect, "{func} over {minutes}m");
        }
    }

    #[test]
    fn what_steps_would_count_twice_is_read_of_ranges_only() {
        for (func, of_range, of_newest) in [
            ("sum_over_time", Reading::Sum, Reading::Average),
            ("count_over_time", Reading::Count, Reading::Average),
            ("avg_over_time", Reading::Mean, Reading::Average),
            ("max_over_time", Reading::Max, Reading::Max),
            ("min", Reading::Min, Reading::Min),
            ("sum", Reading::Average, Reading::Average),
            ("count_values", Reading::Average, Reading::Average),
            ("rate", Reading::Counter, Reading::Counter),
            ("", Reading::Average, Reading::Average),
        ] {
            assert_eq!(Reading::of_range(func), of_range, "{func}");
            assert_eq!(Reading::of_newest(func), of_newest, "{func}");
        }
    }
}
