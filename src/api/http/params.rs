//! Parameters of a request: the form, times, durations, limits, selectors.

use percent_encoding::percent_decode_str;

use crate::api::http::error::ApiError;
use crate::model::number::parse_go_float;
use crate::model::{Interval, Matcher, TimestampMs, duration};
use crate::promql::parse::parse_selector_matchers;

/// The earliest time the API takes as a default, as Prometheus has it.
pub(super) const MIN_TIME: TimestampMs = (i64::MIN / 1000 + 62_135_596_801) * 1000;
/// The latest.
pub(super) const MAX_TIME: TimestampMs = (i64::MAX / 1000 - 62_135_596_801) * 1000 + 999;

const NANOS_PER_MS: i128 = 1_000_000;
const NANOS_PER_SECOND: f64 = 1e9;

/// Names and values, body before query string, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Form {
    pairs: Vec<(String, String)>,
}

impl Form {
    /// Reads what Go's `ParseForm` reads: pairs that do not decode or that contain a `;` are passed over.
    pub(super) fn new(body: &str, query_string: &str) -> Self {
        let mut pairs = Vec::new();
        for part in body.split('&').chain(query_string.split('&')) {
            if part.is_empty() || part.contains(';') {
                continue;
            }
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            if let Some(pair) = unescaped(name).zip(unescaped(value)) {
                pairs.push(pair);
            }
        }
        Self { pairs }
    }

    /// The first value of `name`, empty when there is none.
    pub(super) fn value(&self, name: &str) -> &str {
        self.pairs
            .iter()
            .find(|(here, _)| here == name)
            .map_or("", |(_, value)| value.as_str())
    }

    /// All values of `name`.
    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs
            .iter()
            .filter(move |(here, _)| here == name)
            .map(|(_, value)| value.as_str())
    }

    /// The time called `name`, or `default` where it is absent.
    pub(super) fn time(&self, name: &str, default: TimestampMs) -> Result<TimestampMs, ApiError> {
        match self.value(name) {
            "" => Ok(default),
            text => parse_time(text).map_err(|reason| {
                invalid(name, &format!("Invalid time value for '{name}': {reason}"))
            }),
        }
    }

    /// The time called `name`, which must be there.
    pub(super) fn required_time(&self, name: &str) -> Result<TimestampMs, ApiError> {
        parse_time(self.value(name)).map_err(|reason| invalid(name, &reason))
    }

    /// `start` and `end` of a lookup; all of time where they are absent.
    pub(super) fn interval(&self) -> Result<Interval, ApiError> {
        Ok(Interval {
            min: self.time("start", MIN_TIME)?,
            max: self.time("end", MAX_TIME)?,
        })
    }

    /// Nanoseconds called `name`.
    pub(super) fn duration_ns(&self, name: &str) -> Result<i64, ApiError> {
        parse_duration_ns(self.value(name)).map_err(|reason| invalid(name, &reason))
    }

    /// `limit`; zero for none.
    pub(super) fn limit(&self) -> Result<usize, ApiError> {
        let text = self.value("limit");
        if text.is_empty() {
            return Ok(0);
        }
        let limit = parse_int(text).map_err(|reason| invalid("limit", &reason))?;
        usize::try_from(limit).map_err(|_negative| invalid("limit", "limit must be non-negative"))
    }

    /// A switch that Thanos' clients send; `None` where it is absent.
    pub(super) fn switch(&self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.value(name) {
            "" => Ok(None),
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Some(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Some(false)),
            other => Err(ApiError::bad_data(format!(
                "'{name}' parameter: strconv.ParseBool: parsing {other:?}: invalid syntax"
            ))),
        }
    }

    /// `match[]`; every set must leave something out.
    pub(super) fn matcher_sets(&self) -> Result<Vec<Vec<Matcher>>, String> {
        let mut sets = Vec::new();
        for selector in self.values("match[]") {
            let matchers = parse_selector_matchers(selector).map_err(|error| error.to_string())?;
            sets.push(matchers);
        }
        if sets
            .iter()
            .any(|set| set.iter().all(Matcher::matches_empty))
        {
            return Err("match[] must contain at least one non-empty matcher".to_owned());
        }
        Ok(sets)
    }
}

/// The refusal of one parameter.
pub(super) fn invalid(name: &str, reason: &str) -> ApiError {
    ApiError::bad_data(format!("invalid parameter {name:?}: {reason}"))
}

fn unescaped(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Some(text.to_owned());
    }
    let is_whole = bytes.iter().enumerate().all(|(at, byte)| {
        let digits = bytes.get(at + 1..at + 3);
        *byte != b'%' || digits.is_some_and(|pair| pair.iter().all(u8::is_ascii_hexdigit))
    });
    if !is_whole {
        return None;
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8_lossy();
    Some(decoded.into_owned())
}

/// As Go's `strconv.Atoi`, with its texts.
pub(super) fn parse_int(text: &str) -> Result<i64, String> {
    text.parse::<i64>().map_err(|error| {
        use std::num::IntErrorKind::{NegOverflow, PosOverflow};
        let is_too_long = matches!(error.kind(), PosOverflow | NegOverflow);
        let reason = if is_too_long {
            "value out of range"
        } else {
            "invalid syntax"
        };
        format!("strconv.Atoi: parsing {text:?}: {reason}")
    })
}

/// Seconds as a float, rounded to milliseconds, or RFC 3339.
#[expect(
    clippy::cast_possible_truncation,
    reason = "Go cuts the same way; what is out of range saturates"
)]
fn parse_time(text: &str) -> Result<TimestampMs, String> {
    if let Some(t) = parse_go_float(text).filter(|t| t.is_finite()) {
        let fraction = (t.fract() * 1000.0).round() / 1000.0;
        let nanos = t.trunc() as i128 * 1_000_000_000 + (fraction * NANOS_PER_SECOND) as i128;
        return Ok(clamped(nanos.div_euclid(NANOS_PER_MS)));
    }
    if let Some(t) = parse_rfc3339(text) {
        return Ok(t);
    }
    match text {
        "-292273086-05-16T16:47:06Z" => Ok(MIN_TIME),
        "292277025-08-18T07:12:54.999999999Z" => Ok(MAX_TIME),
        _ => Err(format!("cannot parse {text:?} to a valid timestamp")),
    }
}

fn clamped(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// Nanoseconds of float seconds or of a Prometheus duration.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "compared with the bounds of 64 bits before"
)]
pub(super) fn parse_duration_ns(text: &str) -> Result<i64, String> {
    if let Some(seconds) = parse_go_float(text).filter(|seconds| !seconds.is_nan()) {
        let nanos = seconds * NANOS_PER_SECOND;
        if nanos > i64::MAX as f64 || nanos < i64::MIN as f64 {
            return Err(format!(
                "cannot parse {text:?} to a valid duration. It overflows int64"
            ));
        }
        return Ok(nanos as i64);
    }
    duration::parse_duration_ms(text)
        .ok()
        .and_then(|ms| ms.checked_mul(1_000_000))
        .ok_or_else(|| format!("cannot parse {text:?} to a valid duration"))
}

/// `2006-01-02T15:04:05.999Z` or with an offset, and nothing looser.
fn parse_rfc3339(text: &str) -> Option<TimestampMs> {
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        let is_number = digits.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| digits.parse().ok()).flatten()
    };
    let bytes = text.as_bytes();
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if marks.iter().any(|(at, mark)| bytes.get(*at) != Some(mark)) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let month_days = [
        31,
        28 + i64::from(is_leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let n_days = month_days.get(usize::try_from(month).ok()?.checked_sub(1)?)?;
    if day < 1 || *n_days < day || 23 < hour || 59 < minute || 59 < second {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut millis = 0;
    if let Some(fraction) = rest.strip_prefix(['.', ',']) {
        let n_digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, tail) = fraction.split_at_checked(n_digits)?;
        if digits.is_empty() {
            return None;
        }
        let three: String = digits.chars().chain("00".chars()).take(3).collect();
        millis = three.parse().ok()?;
        rest = tail;
    }
    let offset_minutes = match rest.as_bytes() {
        [b'Z'] => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let at = text.len() - 5;
            let (hours, minutes) = (number(at, at + 2)?, number(at + 3, at + 5)?);
            if 23 < hours || 59 < minutes {
                return None;
            }
            let offset = hours * 60 + minutes;
            if *sign == b'-' { -offset } else { offset }
        }
        _ => return None,
    };
    let minutes = (days_since_epoch(year, month, day) * 24 + hour) * 60 + minute - offset_minutes;
    Some((minutes * 60 + second) * 1000 + millis)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Days from 1970-01-01 in the Gregorian calendar, counted in years that start in March.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_rfc3339() {
        for (text, expect) in [
            ("0", 0),
            ("1.5", 1500),
            ("-1.5", -1500),
            ("-0.0011", -1),
            ("1435781451.781", 1_435_781_451_781),
            ("1435781451.7816", 1_435_781_451_782),
            ("1e3", 1_000_000),
            ("2015-07-01T20:10:51.781Z", 1_435_781_451_781),
            ("2015-07-01T20:10:51.7819Z", 1_435_781_451_781),
            ("2015-07-01T20:10:51+02:00", 1_435_774_251_000),
            ("2015-07-01T20:10:51-02:30", 1_435_790_451_000),
            ("2016-02-29T00:00:00Z", 1_456_704_000_000),
            ("1969-12-31T23:59:59Z", -1000),
            ("-292273086-05-16T16:47:06Z", MIN_TIME),
            ("292277025-08-18T07:12:54.999999999Z", MAX_TIME),
        ] {
            assert_eq!(parse_time(text), Ok(expect), "{text}");
        }
        for text in [
            "",
            "x",
            "NaN",
            "Inf",
            "1e400",
            "2015-07-01",
            "2015-07-01T20:10:51",
            "2015-02-29T00:00:00Z",
            "2015-07-01T24:00:00Z",
            "2015-07-01 20:10:51Z",
            "2015-13-01T00:00:00Z",
            "2015-07-01T20:10:51.Z",
            "2015-07-01T20:10:51+2:00",
            "2015-07-00T20:10:51Z",
        ] {
            let expect = format!("cannot parse {text:?} to a valid timestamp");
            assert_eq!(parse_time(text), Err(expect));
        }
    }

    #[test]
    fn durations_are_seconds_or_prometheus_durations() {
        for (text, expect) in [
            ("1", 1_000_000_000),
            ("0.5", 500_000_000),
            ("1m30s", 90_000_000_000),
            ("-1", -1_000_000_000),
        ] {
            assert_eq!(parse_duration_ns(text), Ok(expect), "{text}");
        }
        assert_eq!(
            parse_duration_ns("1e20").unwrap_err(),
            "cannot parse \"1e20\" to a valid duration. It overflows int64"
        );
        for text in ["", "x", "1.5h", "NaN"] {
            assert_eq!(
                parse_duration_ns(text).unwrap_err(),
                format!("cannot parse {text:?} to a valid duration")
            );
        }
    }

    #[test]
    fn forms_are_read_as_go_reads_them() {
        let form = Form::new(
            "query=a%2Bb+c&x=%zz&y=1;z=2",
            "query=later&match[]=a&match%5B%5D=b&empty",
        );
        assert_eq!(form.value("query"), "a+b c");
        assert_eq!(form.values("match[]").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(
            (form.value("x"), form.value("y"), form.value("empty")),
            ("", "", "")
        );
    }

    #[test]
    fn limits_and_switches_say_what_is_wrong() {
        let text = |query: &str| Form::new("", query).limit().map_err(|error| error.text);
        assert_eq!(text("limit=5"), Ok(5));
        assert_eq!(text(""), Ok(0));
        assert_eq!(
            text("limit=-1"),
            Err("invalid parameter \"limit\": limit must be non-negative".to_owned())
        );
        assert_eq!(
            text("limit=x"),
            Err(
                "invalid parameter \"limit\": strconv.Atoi: parsing \"x\": invalid syntax"
                    .to_owned()
            )
        );
        assert_eq!(
            text("limit=99999999999999999999"),
            Err("invalid parameter \"limit\": strconv.Atoi: parsing \"99999999999999999999\": value out of range".to_owned())
        );
        assert_eq!(
            Form::new("", "dedup=false").switch("dedup"),
            Ok(Some(false))
        );
        assert!(Form::new("", "dedup=maybe").switch("dedup").is_err());
    }
}
