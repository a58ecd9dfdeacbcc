//! Plain values as Prometheus reads them.

/// YAML 1.1 booleans.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Some(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Some(false)
        }
        _ => None,
    }
}

/// YAML 1.1 whole numbers that are not negative: decimal, `0x`, `0b`, `0o` or a leading zero for octal, underscores,
/// and floats without a fraction.
pub(super) fn parse_uint(text: &str) -> Option<usize> {
    let digits: String = text.chars().filter(|c| *c != '_').collect();
    let digits = digits.strip_prefix('+').unwrap_or(&digits);
    for (prefix, radix) in [("0x", 16), ("0X", 16), ("0b", 2), ("0o", 8)] {
        if let Some(rest) = digits.strip_prefix(prefix) {
            return usize::from_str_radix(rest, radix).ok();
        }
    }
    if let Some(rest) = digits.strip_prefix('0')
        && !rest.is_empty()
        && rest.bytes().all(|b| b.is_ascii_digit())
    {
        return usize::from_str_radix(rest, 8).ok();
    }
    if let Ok(n) = digits.parse() {
        return Some(n);
    }
    whole(digits.parse().ok()?)
}

/// A float as a whole number, if it is one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range and the fraction are checked before the cast"
)]
fn whole(v: f64) -> Option<usize> {
    let fits = (0.0..=9_007_199_254_740_992.0).contains(&v) && v.fract() == 0.0;
    fits.then_some(v as usize)
}

/// Sizes as `github.com/alecthomas/units` reads them in base 2: `15MB`, `1.5GiB`, `1GB512MB`; a plain `0`.
pub(super) fn parse_bytes(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total = 0f64;
    while !rest.is_empty() {
        let n_digits = rest
            .bytes()
            .take_while(|b| b.is_ascii_digit() || *b == b'.')
            .count();
        let (number, tail) = rest.split_at_checked(n_digits)?;
        let n_letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at_checked(n_letters)?;
        total += number.parse::<f64>().ok()? * unit_bytes(unit)?;
        rest = tail;
    }
    if text.is_empty() {
        return None;
    }
    u64::try_from(whole(total.trunc())?).ok()
}

fn unit_bytes(unit: &str) -> Option<f64> {
    if unit == "B" {
        return Some(1.0);
    }
    let letter = unit.strip_suffix("iB").or_else(|| unit.strip_suffix('B'))?;
    let power = ["K", "M", "G", "T", "P", "E"]
        .iter()
        .position(|known| *known == letter)?;
    Some(1024f64.powi(i32::try_from(power).ok()? + 1))
}

/// Replaces `$NAME` and `${NAME}`; `$$` is a dollar. Calls `lookup` for every name; what it does not know is empty.
pub(super) fn expand_env(text: &str, lookup: &mut dyn FnMut(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let (name, tail) = variable_name(after);
        rest = tail;
        match name {
            Some("$") => out.push('$'),
            Some(name) => out.push_str(&lookup(name).unwrap_or_default()),
            None => out.push('$'),
        }
    }
    out.push_str(rest);
    out
}

/// The name after a dollar and what follows it, as Go's `os.Expand` cuts them.
fn variable_name(after: &str) -> (Option<&str>, &str) {
    if let Some(inside) = after.strip_prefix('{') {
        return match inside.split_once('}') {
            // An empty name is swallowed.
            Some((name, tail)) => (Some(name), tail),
            None => (Some(""), inside),
        };
    }
    let first = after.chars().next();
    if first.is_some_and(|c| matches!(c, '*' | '#' | '$' | '@' | '!' | '?' | '-' | '0'..='9')) {
        let (name, tail) = after.split_at_checked(1).unwrap_or(("", after));
        return (Some(name), tail);
    }
    let n = after
        .bytes()
        .take_while(|b| *b == b'_' || b.is_ascii_alphanumeric())
        .count();
    match after.split_at_checked(n) {
        Some((name, tail)) if !name.is_empty() => (Some(name), tail),
        Some(_) | None => (None, after),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("512MB", Some(512 << 20)),
            ("1KiB", Some(1024)),
            ("1.5KB", Some(1536)),
            ("1GB512MB", Some((1 << 30) + (512 << 20))),
            ("10B", Some(10)),
            ("", None),
            ("100", None),
            ("MB", None),
            ("10XB", None),
            ("1 MB", None),
            ("-1MB", None),
        ] {
            assert_eq!(parse_bytes(text), bytes, "{text:?}");
        }
    }

    #[test]
    fn whole_numbers_follow_yaml() {
        for (text, n) in [
            ("0", Some(0)),
            ("1_000", Some(1000)),
            ("0x1F", Some(31)),
            ("017", Some(15)),
            ("1e3", Some(1000)),
            ("-1", None),
            ("1.5", None),
            ("many", None),
            ("", None),
        ] {
            assert_eq!(parse_uint(text), n, "{text:?}");
        }
    }

    #[test]
    fn variables_are_replaced_as_go_replaces_them() {
        let mut lookup = |name: &str| (name == "HOST").then(|| "db1".to_owned());
        for (text, expect) in [
            ("plain", "plain"),
            ("$HOST", "db1"),
            ("a${HOST}b", "adb1b"),
            ("$HOST-x", "db1-x"),
            ("$$HOST", "$HOST"),
            ("$UNSET.", "."),
            ("100$", "100$"),
            ("$ x", "$ x"),
        ] {
            assert_eq!(expand_env(text, &mut lookup), expect, "{text:?}");
        }
    }
}
