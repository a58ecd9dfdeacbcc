//! Floats as text, the way Go's `strconv.FormatFloat` writes them with precision -1.

/// Appends format `'f'`: shortest digits, never an exponent. `NaN`, `+Inf` and `-Inf` as Go writes them.
pub fn push_f(out: &mut String, v: f64) {
    if push_special(out, v) {
        return;
    }
    use std::fmt::Write;
    // Rust's `{}` for floats is the shortest round-trip form without an exponent, as Go's 'f' is.
    write!(out, "{v}").ok();
}

/// Appends format `'e'`: shortest digits with an exponent of at least two digits, as in `1e-07`.
pub fn push_e(out: &mut String, v: f64) {
    if push_special(out, v) {
        return;
    }
    let text = format!("{v:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    out.push_str(mantissa);
    out.push('e');
    out.push(sign);
    if digits.len() < 2 {
        out.push('0');
    }
    out.push_str(digits);
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
    use super::*;

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
