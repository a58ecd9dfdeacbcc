//! Times, durations and numbers as Thanos prints them.

use jiff::Timestamp;

use crate::cli::tsdb::columns::go_duration;
use crate::model::TimestampMs;

/// Whole seconds, cut towards zero, in UTC: `2023-11-14T22:13:20Z`.
pub(super) fn go_time(t: TimestampMs) -> String {
    Timestamp::from_second(t / 1000).map_or_else(
        |_beyond| t.to_string(),
        |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    )
}

/// The time between two moments as [`go_time`] prints them.
pub(super) fn seconds_between(min: TimestampMs, max: TimestampMs) -> String {
    let seconds = (max / 1000).saturating_sub(min / 1000);
    go_duration(seconds.saturating_mul(1000))
}

/// With commas between thousands: `1,234,567`.
pub(super) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position != 0 && (digits.len() - position).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `name="value"`, the quotes of which may be left out.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("expected a label such as cluster=\"eu\"")?;
    let bare = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'));
    Ok((name.trim().to_owned(), bare.unwrap_or(value).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_cut_to_seconds_and_numbers_grouped() {
        assert_eq!(go_time(1_700_000_000_999), "2023-11-14T22:13:20Z");
        assert_eq!(go_time(-1), "1970-01-01T00:00:00Z");
        assert_eq!(seconds_between(0, 7_200_000), "2h0m0s");
        assert_eq!(seconds_between(999, 1_001), "1s");
        let numbers = [0, 999, 1_000, 65_536, 1_234_567, 100_000_000];
        assert_eq!(
            numbers.map(grouped).join(" "),
            "0 999 1,000 65,536 1,234,567 100,000,000"
        );
    }
}
