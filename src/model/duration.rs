//! Prometheus durations: `1h30m`, never a fraction.

use thiserror::Error;

const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// The longest duration Prometheus takes: what fits 63 bits of nanoseconds, about 292 years.
const DURATION_MS_MAX: i64 = i64::MAX / 1_000_000;

/// Why a text is not a duration. The texts are Prometheus'.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DurationError {
    /// Nothing there.
    #[error("empty duration string")]
    Empty,
    /// Not digits and units in descending order.
    #[error("not a valid duration string: {0:?}")]
    Malformed(String),
    /// Letters that are no unit.
    #[error("unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit {
        /// What stands where a unit should.
        unit: String,
        /// The whole.
        text: String,
    },
    /// More than about 292 years.
    #[error("duration out of range")]
    OutOfRange,
}

/// Milliseconds of `text`: digits and units `y w d h m s ms`, descending, each at most once; or a plain `0`.
pub fn parse_duration_ms(text: &str) -> Result<i64, DurationError> {
    match text {
        "" => return Err(DurationError::Empty),
        "0" => return Ok(0),
        _ => (),
    }
    let malformed = || DurationError::Malformed(text.to_owned());
    let mut rest = text;
    let mut total = 0i64;
    let mut next_unit = 0;
    while !rest.is_empty() {
        let n_digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, tail) = rest.split_at_checked(n_digits).ok_or_else(malformed)?;
        let n_letters = tail.bytes().take_while(|b| !b.is_ascii_digit()).count();
        let (unit, tail) = tail.split_at_checked(n_letters).ok_or_else(malformed)?;
        if digits.is_empty() || unit.is_empty() {
            return Err(malformed());
        }
        if !UNITS.iter().any(|(name, _)| *name == unit) {
            return Err(DurationError::UnknownUnit {
                unit: unit.to_owned(),
                text: text.to_owned(),
            });
        }
        let found = UNITS
            .iter()
            .enumerate()
            .skip(next_unit)
            .find(|(_, (name, _))| *name == unit);
        let (position, (_, unit_ms)) = found.ok_or_else(malformed)?;
        let count: i64 = digits
            .parse()
            .map_err(|_too_long| DurationError::OutOfRange)?;
        let part = count
            .checked_mul(*unit_ms)
            .ok_or(DurationError::OutOfRange)?;
        total = total.checked_add(part).ok_or(DurationError::OutOfRange)?;
        if total > DURATION_MS_MAX {
            return Err(DurationError::OutOfRange);
        }
        next_unit = position + 1;
        rest = tail;
    }
    Ok(total)
}

/// As Prometheus prints it: `y` and `w` only when nothing remains, zero as `0s`, negatives with a sign.
pub fn format_duration(ms: i64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    let mut rest = ms.unsigned_abs();
    if ms < 0 {
        out.push('-');
    }
    for (name, unit_ms) in UNITS {
        let unit_ms = unit_ms.unsigned_abs();
        let exact_only = matches!(name, "y" | "w");
        if exact_only && !rest.is_multiple_of(unit_ms) {
            continue;
        }
        let count = rest / unit_ms;
        if count > 0 {
            out.push_str(&count.to_string());
            out.push_str(name);
            rest -= count * unit_ms;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_come_back_as_they_were_written() {
        for text in [
            "1y", "2w", "3d", "4h", "5m", "6s", "7ms", "1d3h", "1h30m", "1m500ms", "0s",
        ] {
            let ms = parse_duration_ms(text).unwrap();
            assert_eq!(format_duration(ms), text);
        }
        assert_eq!(format_duration(parse_duration_ms("1w1d").unwrap()), "8d");
        assert_eq!(format_duration(-90_000), "-1m30s");
        assert_eq!(parse_duration_ms("0"), Ok(0));
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in ["1", "h", "1m1h", "1s1s", "-1m", "é"] {
            assert_eq!(
                parse_duration_ms(text),
                Err(DurationError::Malformed(text.to_owned())),
                "{text}"
            );
        }
        for (text, unit) in [("1.5h", "."), ("1 h", " h"), ("1x", "x"), ("5y1hs", "hs")] {
            assert_eq!(
                parse_duration_ms(text),
                Err(DurationError::UnknownUnit {
                    unit: unit.to_owned(),
                    text: text.to_owned()
                }),
                "{text}"
            );
        }
        assert_eq!(parse_duration_ms("293y"), Err(DurationError::OutOfRange));
        assert_eq!(
            parse_duration_ms("99999999999999999999s"),
            Err(DurationError::OutOfRange)
        );
    }
}
