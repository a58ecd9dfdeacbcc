//! Functions by name.

use crate::promql::functions::date::DateFn;
use crate::promql::functions::math::MathFn;

/// What a call computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Func {
    /// One float to one float, whoever the series is.
    Math(MathFn),
    Round,
    Clamp,
    ClampMin,
    ClampMax,
    Date(DateFn),
    Range(RangeFn),
    Absent,
    AbsentOverTime,
    Scalar,
    Vector,
    Time,
    Timestamp,
    Pi,
    Start,
    End,
    Step,
    RangeSeconds,
    MinOf,
    MaxOf,
    Sort,
    SortDesc,
    SortByLabel,
    SortByLabelDesc,
    LabelReplace,
    LabelJoin,
    HistogramQuantile,
    HistogramQuantiles,
    HistogramFraction,
    Info,
    /// One native histogram to one float.
    Native(NativeFn),
    /// When the counter behind a sample began to count.
    StartTimestamp,
}

/// Functions of one native histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NativeFn {
    Count,
    Sum,
    Avg,
    Stddev,
    Stdvar,
}

/// Functions of the samples in a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RangeFn {
    Rate,
    Increase,
    Delta,
    Irate,
    Idelta,
    Xrate,
    Xincrease,
    Xdelta,
    Changes,
    Resets,
    Deriv,
    PredictLinear,
    DoubleExponentialSmoothing,
    AvgOverTime,
    SumOverTime,
    MinOverTime,
    MaxOverTime,
    CountOverTime,
    QuantileOverTime,
    StddevOverTime,
    StdvarOverTime,
    MadOverTime,
    LastOverTime,
    FirstOverTime,
    PresentOverTime,
    TsOfMinOverTime,
    TsOfMaxOverTime,
    TsOfLastOverTime,
    TsOfFirstOverTime,
}

impl RangeFn {
    /// Is the result a value of the series itself, so that it keeps its name?
    pub(crate) fn keeps_name(self) -> bool {
        matches!(self, Self::LastOverTime | Self::FirstOverTime)
    }

    /// Does it look at the sample before the range?
    pub(crate) fn reaches_back(self) -> bool {
        matches!(self, Self::Xrate | Self::Xincrease | Self::Xdelta)
    }

    fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "rate" => Self::Rate,
            "increase" => Self::Increase,
            "delta" => Self::Delta,
            "irate" => Self::Irate,
            "idelta" => Self::Idelta,
            "xrate" => Self::Xrate,
            "xincrease" => Self::Xincrease,
            "xdelta" => Self::Xdelta,
            "changes" => Self::Changes,
            "resets" => Self::Resets,
            "deriv" => Self::Deriv,
            "predict_linear" => Self::PredictLinear,
            "double_exponential_smoothing" => Self::DoubleExponentialSmoothing,
            "avg_over_time" => Self::AvgOverTime,
            "sum_over_time" => Self::SumOverTime,
            "min_over_time" => Self::MinOverTime,
            "max_over_time" => Self::MaxOverTime,
            "count_over_time" => Self::CountOverTime,
            "quantile_over_time" => Self::QuantileOverTime,
            "stddev_over_time" => Self::StddevOverTime,
            "stdvar_over_time" => Self::StdvarOverTime,
            "mad_over_time" => Self::MadOverTime,
            "last_over_time" => Self::LastOverTime,
            "first_over_time" => Self::FirstOverTime,
            "present_over_time" => Self::PresentOverTime,
            "ts_of_min_over_time" => Self::TsOfMinOverTime,
            "ts_of_max_over_time" => Self::TsOfMaxOverTime,
            "ts_of_last_over_time" => Self::TsOfLastOverTime,
            "ts_of_first_over_time" => Self::TsOfFirstOverTime,
            _ => return None,
        })
    }
}

impl Func {
    /// The function of this name.
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        if let Some(math) = MathFn::by_name(name) {
            return Some(Self::Math(math));
        }
        if let Some(date) = DateFn::by_name(name) {
            return Some(Self::Date(date));
        }
        if let Some(range) = RangeFn::by_name(name) {
            return Some(Self::Range(range));
        }
        Some(match name {
            "round" => Self::Round,
            "clamp" => Self::Clamp,
            "clamp_min" => Self::ClampMin,
            "clamp_max" => Self::ClampMax,
            "absent" => Self::Absent,
            "absent_over_time" => Self::AbsentOverTime,
            "scalar" => Self::Scalar,
            "vector" => Self::Vector,
            "time" => Self::Time,
            "timestamp" => Self::Timestamp,
            "pi" => Self::Pi,
            "start" => Self::Start,
            "end" => Self::End,
            "step" => Self::Step,
            "range" => Self::RangeSeconds,
            "min_of" => Self::MinOf,
            "max_of" => Self::MaxOf,
            "sort" => Self::Sort,
            "sort_desc" => Self::SortDesc,
            "sort_by_label" => Self::SortByLabel,
            "sort_by_label_desc" => Self::SortByLabelDesc,
            "label_replace" => Self::LabelReplace,
            "label_join" => Self::LabelJoin,
            "histogram_quantile" => Self::HistogramQuantile,
            "histogram_quantiles" => Self::HistogramQuantiles,
            "histogram_fraction" => Self::HistogramFraction,
            "histogram_count" => Self::Native(NativeFn::Count),
            "histogram_sum" => Self::Native(NativeFn::Sum),
            "histogram_avg" => Self::Native(NativeFn::Avg),
            "histogram_stddev" => Self::Native(NativeFn::Stddev),
            "histogram_stdvar" => Self::Native(NativeFn::Stdvar),
            "start_timestamp" => Self::StartTimestamp,
            "info" => Self::Info,
            _ => return None,
        })
    }

    /// Does the result depend on the evaluation time even when every sample is pinned with `@`?
    pub(crate) fn depends_on_time(self) -> bool {
        matches!(
            self,
            Self::Date(_)
                | Self::Range(RangeFn::PredictLinear)
                | Self::Time
                | Self::Timestamp
                | Self::Start
                | Self::End
                | Self::Step
                | Self::RangeSeconds
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_their_functions() {
        assert_eq!(Func::by_name("rate"), Some(Func::Range(RangeFn::Rate)));
        assert_eq!(Func::by_name("sqrt"), Some(Func::Math(MathFn::Sqrt)));
        assert_eq!(Func::by_name("hour"), Some(Func::Date(DateFn::Hour)));
        assert_eq!(Func::by_name("holt_winters"), None);
    }

    #[test]
    fn every_function_the_parser_knows_is_computed() {
        for known in crate::promql::parse::functions() {
            assert!(Func::by_name(known.name).is_some(), "{}", known.name);
        }
    }
}
