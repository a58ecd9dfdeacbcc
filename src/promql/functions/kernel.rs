//! Which kernel computes a range function that needs nothing but its window.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the arms name what is treated here; everything else is one case"
)]

use crate::promql::functions::sliding::Extreme;
use crate::promql::functions::window::Window;
use crate::promql::functions::{RangeFn, over_time, rate, regression};

/// Functions that look for an end of the values.
pub(crate) fn extreme(func: RangeFn) -> Option<Extreme> {
    match func {
        RangeFn::MinOverTime => Some(Extreme::Min),
        RangeFn::MaxOverTime => Some(Extreme::Max),
        _ => None,
    }
}

/// Functions that need nothing but the window.
pub(crate) fn simple(func: RangeFn) -> Option<fn(&Window<'_>) -> Option<f64>> {
    Some(match func {
        RangeFn::Delta => |w| rate::extrapolated(w, None, false),
        RangeFn::Irate => |w| rate::instant(w, true),
        RangeFn::Idelta => |w| rate::instant(w, false),
        RangeFn::Changes => over_time::changes,
        RangeFn::Resets => over_time::resets,
        RangeFn::Deriv => regression::deriv,
        RangeFn::AvgOverTime => over_time::avg,
        RangeFn::SumOverTime => over_time::sum,
        RangeFn::MinOverTime => over_time::min,
        RangeFn::MaxOverTime => over_time::max,
        RangeFn::CountOverTime => over_time::count,
        RangeFn::StddevOverTime => over_time::stddev,
        RangeFn::StdvarOverTime => over_time::stdvar,
        RangeFn::LastOverTime => over_time::last,
        RangeFn::FirstOverTime => over_time::first,
        RangeFn::PresentOverTime => over_time::present,
        RangeFn::TsOfMinOverTime => over_time::ts_of_min,
        RangeFn::TsOfMaxOverTime => over_time::ts_of_max,
        RangeFn::TsOfLastOverTime => over_time::ts_of_last,
        RangeFn::TsOfFirstOverTime => over_time::ts_of_first,
        RangeFn::Rate
        | RangeFn::Increase
        | RangeFn::Xrate
        | RangeFn::Xincrease
        | RangeFn::Xdelta
        | RangeFn::PredictLinear
        | RangeFn::DoubleExponentialSmoothing
        | RangeFn::QuantileOverTime
        | RangeFn::MadOverTime => return None,
    })
}
