//! Floats as text, the way Go's `strconv.FormatFloat` writes them with precision -1.

use crate::foundation::append::append_short;

/// Appends format `'f'`: shortest digits, never an exponent. `NaN`, `+Inf` and `-Inf` as Go writes them.
pub fn push_f(out: &mut String, v: f64) {
    if push_special(out, v) {
        return;
    }
    if v.abs() < WHOLE_MAX && v.fract() == 0.0 {
        push_whole(out, v);
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(v);
    match text.split_once('e') {
        None => out.push_str(text.strip_suffix(".0").unwrap_or(text)),
        Some((mantissa, exponent)) => {
            // At most 17 digits and an exponent within ±324: both parse.
            expand(out, mantissa, exponent.parse().unwrap_or(0));
        }
    }
}

/// Appends format `'f'` of a float that has few digits before and behind its point, as nearly all have; others are left
/// to the caller.
#[inline]
pub fn push_common(out: &mut Vec<u8>, v: f64) -> bool {
    let magnitude = v.abs();
    if magnitude < WHOLE_MAX {
        let whole = to_whole(v);
        if from_whole(whole).to_bits() == v.to_bits() {
            append_short(out, itoa::Buffer::new().format(whole).as_bytes());
            return true;
        }
    }
    if !(1e-4..1e15).contains(&magnitude) {
        return false;
    }
    append_short(out, zmij::Buffer::new().format_finite(v).as_bytes());
    true
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "below 2^53, as the caller checked"
)]
fn to_whole(v: f64) -> i64 {
    v as i64
}

#[expect(clippy::cast_precision_loss, reason = "below 2^53")]
fn from_whole(whole: i64) -> f64 {
    whole as f64
}

/// Whole numbers below this are exact and have no digits to choose.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

#[expect(
    clippy::cast_possible_truncation,
    reason = "whole and below 2^53, as the caller checked"
)]
fn push_whole(out: &mut String, v: f64) {
    if v == 0.0 && v.is_sign_negative() {
        out.push('-');
    }
    out.push_str(itoa::Buffer::new().format(v as i64));
}

/// Appends `mantissa` (`-1.25`, `5`) times ten to the `exponent` without an exponent.
fn expand(out: &mut String, mantissa: &str, exponent: i32) {
    let unsigned = mantissa.strip_prefix('-').unwrap_or(mantissa);
    if unsigned.len() < mantissa.len() {
        out.push('-');
    }
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let fraction = fraction.trim_end_matches('0');
    let push_zeros = |out: &mut String, n: i32| out.extend((0..n).map(|_| '0'));
    if exponent < 0 {
        // The mantissa has one digit before its point.
        out.push_str("0.");
        push_zeros(out, -exponent - 1);
        out.push_str(whole);
        out.push_str(fraction);
        return;
    }
    out.push_str(whole);
    let n_digits = i32::try_from(fraction.len()).unwrap_or(i32::MAX);
    if n_digits <= exponent {
        out.push_str(fraction);
        push_zeros(out, exponent - n_digits);
        return;
    }
    let point = usize::try_from(exponent).unwrap_or(0);
    let (above, below) = fraction.split_at_checked(point).unwrap_or((fraction, ""));
    out.push_str(above);
    out.push('.');
    out.push_str(below);
}

/// Appends format `'e'`: shortest digits with an exponent of at least two digits, as in `1e-07`.
pub fn push_e(out: &mut String, v: f64) {
    if push_special(out, v) {
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(v);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let unsigned = mantissa.strip_prefix('-').unwrap_or(mantissa);
    if unsigned.len() < mantissa.len() {
        out.push('-');
    }
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let mut digits = format!("{whole}{fraction}");
    let n_zeros = digits.len() - digits.trim_start_matches('0').len();
    let is_zero = n_zeros == digits.len();
    digits.drain(..if is_zero { digits.len() - 1 } else { n_zeros });
    let exponent = exponent.parse().unwrap_or(0_i64);
    let shift = i64::try_from(whole.len()).unwrap_or(0) - i64::try_from(n_zeros).unwrap_or(0) - 1;
    let exponent = if is_zero { 0 } else { exponent + shift };
    let (first, rest) = digits.split_at_checked(1).unwrap_or((&digits, ""));
    out.push_str(first);
    let rest = rest.trim_end_matches('0');
    if !rest.is_empty() {
        out.push('.');
        out.push_str(rest);
    }
    out.push_str(if exponent < 0 { "e-" } else { "e+" });
    let magnitude = exponent.unsigned_abs();
    if magnitude < 10 {
        out.push('0');
    }
    out.push_str(itoa::Buffer::new().format(magnitude));
}

/// Appends format `'g'`: an exponent when it is below -4 or at least 6, as Go does for the shortest form.
pub fn push_g(out: &mut String, v: f64) {
    if push_special(out, v) {
        return;
    }
    let magnitude = v.abs();
    // Precision -1 counts as 6 here, whatever the number of digits: 1234567 is `1.234567e+06`.
    if magnitude != 0.0 && !(1e-4..1e6).contains(&magnitude) {
        push_e(out, v);
    } else {
        push_f(out, v);
    }
}

/// Format `'g'` as a new string.
pub fn format_g(v: f64) -> String {
    let mut out = String::new();
    push_g(&mut out, v);
    out
}

/// Format `'f'` as a new string.
pub fn format_f(v: f64) -> String {
    let mut out = String::new();
    push_f(&mut out, v);
    out
}

/// The value of a `le` or `quantile` label in OpenMetrics: `1` is `1.0`.
pub fn format_openmetrics(v: f64) -> String {
    let mut out = format_g(v);
    if v.is_finite() && !out.contains(['.', 'e']) {
        out.push_str(".0");
    }
    out
}

fn push_special(out: &mut String, v: f64) -> bool {
    let text = if v.is_nan() {
        "NaN"
    } else if v == f64::INFINITY {
        "+Inf"
    } else if v == f64::NEG_INFINITY {
        "-Inf"
    } else {
        return false;
    };
    out.push_str(text);
    true
}

/// Reads a float the way Go's `strconv.ParseFloat` does for Prometheus' purposes: decimal, exponent, hexadecimal
/// floats, underscores never, and `inf`, `infinity`, `nan` in any case with an optional sign.
pub fn parse_go_float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let first = unsigned.bytes().next()?;
    if first == b'0' && matches!(unsigned.as_bytes().get(1), Some(b'x' | b'X')) {
        return parse_hex_float(text, unsigned);
    }
    if unsigned.eq_ignore_ascii_case("nan") {
        // Go refuses a signed NaN.
        return (unsigned.len() == text.len()).then_some(f64::NAN);
    }
    match first {
        b'0'..=b'9' | b'.' | b'i' | b'I' => text.parse().ok(),
        _ => None,
    }
}

/// `0x1.8p3`: a hexadecimal mantissa and a binary exponent, which Go requires.
fn parse_hex_float(text: &str, unsigned: &str) -> Option<f64> {
    let body = unsigned.get(2..)?;
    let (mantissa, exponent) = body.split_once(['p', 'P'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = 0f64;
    for digit in whole.chars() {
        value = value.mul_add(16.0, f64::from(digit.to_digit(16)?));
    }
    let mut scale = 1.0 / 16.0;
    for digit in fraction.chars() {
        value += f64::from(digit.to_digit(16)?) * scale;
        scale /= 16.0;
    }
    let value = value * 2f64.powi(exponent);
    Some(if text.starts_with('-') { -value } else { value })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::Config;

    use super::*;

    proptest! {
        #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

        #[test]
        fn a_float_reads_back_and_has_as_few_digits_as_the_standard_library_finds(bits: u64, scale in -30i32..30, digits in 0i64..1_000_000) {
            let short = 10f64.powi(scale) * f64::from(i32::try_from(digits).unwrap());
            for v in [f64::from_bits(bits), short, -short, short + 0.5] {
                let mut common = Vec::new();
                if push_common(&mut common, v) {
                    prop_assert_eq!(String::from_utf8(common).unwrap(), format_f(v));
                }
                if v.is_finite() {
                    let text = format_f(v);
                    prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), v.to_bits());
                    prop_assert_eq!(text.len(), format!("{v}").len());
                    let mut text = String::new();
                    push_e(&mut text, v);
                    prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), v.to_bits());
                    let (mantissa, exponent) = text.split_once('e').unwrap();
                    let plain = format!("{v:e}");
                    let (plain_mantissa, plain_exponent) = plain.split_once('e').unwrap();
                    prop_assert_eq!(mantissa.len(), plain_mantissa.len());
                    prop_assert_eq!(exponent.parse::<i32>(), plain_exponent.parse::<i32>());
                }
            }
        }
    }

    #[track_caller]
    fn check(v: f64, f: &str, g: &str) {
        assert_eq!(format_f(v), f);
        assert_eq!(format_g(v), g);
    }

    #[test]
    fn numbers_read_as_go_writes_them() {
        check(0.0, "0", "0");
        check(-0.0, "-0", "-0");
        check(1.0, "1", "1");
        check(1e20, "100000000000000000000", "1e+20");
        check(1e21, "1000000000000000000000", "1e+21");
        check(999_999.5, "999999.5", "999999.5");
        check(1e6, "1000000", "1e+06");
        check(-12_345_678.0, "-12345678", "-1.2345678e+07");
        check(0.0001, "0.0001", "0.0001");
        check(0.00001, "0.00001", "1e-05");
        check(1.5e-7, "0.00000015", "1.5e-07");
        // Halfway between two texts of equal length Go takes the even digit.
        assert_eq!(
            format_f(7_913_677_635_175_533.0 / 4.0),
            "1978419408793883.2"
        );
        assert_eq!(
            format_f(7_913_677_635_175_535.0 / 4.0),
            "1978419408793883.8"
        );
        check(f64::NAN, "NaN", "NaN");
        check(f64::NEG_INFINITY, "-Inf", "-Inf");
        check(-1.25e300, &format!("-125{}", "0".repeat(298)), "-1.25e+300");
    }

    #[test]
    fn openmetrics_bounds_always_look_like_floats() {
        assert_eq!(format_openmetrics(1.0), "1.0");
        assert_eq!(format_openmetrics(0.25), "0.25");
        assert_eq!(format_openmetrics(100_000.0), "100000.0");
        assert_eq!(format_openmetrics(1e6), "1e+06");
        assert_eq!(format_openmetrics(1e21), "1e+21");
        assert_eq!(format_openmetrics(f64::INFINITY), "+Inf");
    }

    #[test]
    fn floats_are_read_as_go_reads_them() {
        assert_eq!(parse_go_float("0x1.8p3"), Some(12.0));
        assert_eq!(parse_go_float("-Inf"), Some(f64::NEG_INFINITY));
        assert_eq!(parse_go_float("+infinity"), Some(f64::INFINITY));
        assert_eq!(parse_go_float("1e400"), Some(f64::INFINITY));
        assert_eq!(parse_go_float(".5"), Some(0.5));
        for refused in ["", "+", "1_0", "0x1", "-nan", "e5", "1 ", "in"] {
            assert_eq!(parse_go_float(refused), None, "{refused}");
        }
        assert!(parse_go_float("nan").is_some_and(f64::is_nan));
    }
}
