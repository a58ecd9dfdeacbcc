//! Calendar functions of a time in seconds, in UTC.

/// Parts of a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DateFn {
    DaysInMonth,
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    Hour,
    Minute,
    Month,
    Year,
}

const DAY_S: i64 = 86_400;

/// A day of the proleptic Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Date {
    year: i64,
    month: i64,
    day: i64,
}

impl DateFn {
    /// The function of this name.
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "days_in_month" => Self::DaysInMonth,
            "day_of_month" => Self::DayOfMonth,
            "day_of_week" => Self::DayOfWeek,
            "day_of_year" => Self::DayOfYear,
            "hour" => Self::Hour,
            "minute" => Self::Minute,
            "month" => Self::Month,
            "year" => Self::Year,
            _ => return None,
        })
    }

    /// This part of the time `seconds` after the epoch, fractions cut off.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "fractions are cut on purpose and the parts of a date are small"
    )]
    pub(crate) fn apply(self, seconds: f64) -> f64 {
        let seconds = wrapped(seconds);
        let days = seconds.div_euclid(i128::from(DAY_S)) as i64;
        let of_day = seconds.rem_euclid(i128::from(DAY_S)) as i64;
        let date = civil(days);
        let part = match self {
            Self::DaysInMonth => days_in_month(date.year, date.month),
            Self::DayOfMonth => date.day,
            Self::DayOfWeek => (days + 4).rem_euclid(7),
            Self::DayOfYear => days - days_from_civil(date.year, 1, 1) + 1,
            Self::Hour => of_day / 3600,
            Self::Minute => of_day / 60 % 60,
            Self::Month => date.month,
            Self::Year => date.year,
        };
        part as f64
    }
}

/// The seconds as Go has them: what is no 64-bit integer becomes the smallest one, and what lies before Go's first year
/// comes round from the end of time.
#[expect(
    clippy::cast_possible_truncation,
    reason = "fractions are cut on purpose, and the range is checked"
)]
fn wrapped(seconds: f64) -> i128 {
    const INT64_BOUND: f64 = 9_223_372_036_854_775_808.0;
    /// March of the year -292277022400, in days before the epoch.
    const FIRST_DAY: i128 = -(292_277_022_400 / 400 * 146_097 + 719_468);
    let cut = if (-INT64_BOUND..INT64_BOUND).contains(&seconds) {
        seconds as i64
    } else {
        i64::MIN
    };
    let cut = i128::from(cut);
    if cut < FIRST_DAY * i128::from(DAY_S) {
        cut + (1 << 64)
    } else {
        cut
    }
}

/// The date of a day number; eras of 400 years that begin on the first of March.
fn civil(days: i64) -> Date {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    Date {
        year: year_of_era + era * 400 + i64::from(month <= 2),
        month,
        day: day_of_year - (153 * from_march + 2) / 5 + 1,
    }
}

/// The inverse of [`civil`].
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let from_march = (month + 9) % 12;
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let (next_year, next_month) = if month == 12 {
        (year + 1, 1)
    } else {
        (year, month + 1)
    };
    days_from_civil(next_year, next_month, 1) - days_from_civil(year, month, 1)
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "exact results are what is tested")]
mod tests {
    use super::*;

    #[test]
    fn parts_of_well_known_times() {
        // 2016-02-29T23:59:59.9Z, a Monday.
        let t = 1_456_790_399.9;
        let part = |function: DateFn| function.apply(t);
        assert_eq!(part(DateFn::Year), 2016.0);
        assert_eq!(part(DateFn::Month), 2.0);
        assert_eq!(part(DateFn::DayOfMonth), 29.0);
        assert_eq!(part(DateFn::DaysInMonth), 29.0);
        assert_eq!(part(DateFn::DayOfWeek), 1.0);
        assert_eq!(part(DateFn::DayOfYear), 60.0);
        assert_eq!(part(DateFn::Hour), 23.0);
        assert_eq!(part(DateFn::Minute), 59.0);
        assert_eq!(DateFn::Year.apply(-1.0), 1969.0);
    }

    #[test]
    fn what_is_no_time_is_where_the_clock_of_go_wraps() {
        for v in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -9.3e18] {
            assert_eq!(DateFn::Year.apply(v), 292_277_026_596.0, "{v}");
            assert_eq!(DateFn::DayOfYear.apply(v), 339.0, "{v}");
            assert_eq!(DateFn::DayOfWeek.apply(v), 0.0, "{v}");
            assert_eq!(DateFn::Minute.apply(v), 30.0, "{v}");
        }
        assert_eq!(DateFn::Year.apply(9e18), 285_198_648_531.0);
        assert_eq!(DateFn::Year.apply(-9e18), -285_198_644_592.0);
        assert_eq!(DateFn::Year.apply(-0.5), 1970.0);
    }

    #[test]
    fn every_day_of_five_centuries_comes_back() {
        for days in -100_000..100_000 {
            let date = civil(days);
            assert_eq!(days_from_civil(date.year, date.month, date.day), days);
        }
    }
}
