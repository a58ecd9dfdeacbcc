//! What numbers and strings are worth.

use std::borrow::Cow;

use crate::model::duration::parse_duration_ms;
use crate::model::number::parse_go_float;

/// The value of a number token: an integer in Go's notation (`0x1f`, `017`, `1_000`) or else a float.
pub(crate) fn number_value(text: &str) -> Result<f64, String> {
    if let Some(value) = integer_value(text) {
        return Ok(value);
    }
    let failed = |why: &str| {
        format!(
            "error parsing number: strconv.ParseFloat: parsing {}: {why}",
            crate::model::labels::go_quote(text)
        )
    };
    let value =
        parse_go_float(&without_underscores(text)).ok_or_else(|| failed("invalid syntax"))?;
    let is_word = text.starts_with(['i', 'I', '+', '-']);
    if value.is_infinite() && !is_word {
        return Err(failed("value out of range"));
    }
    Ok(value)
}

/// Drops the underscores if each stands between two digits; otherwise leaves all of them, which makes no number.
fn without_underscores(text: &str) -> Cow<'_, str> {
    if !text.contains('_') {
        return Cow::Borrowed(text);
    }
    let is_digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    let mut parts = text.split('_').peekable();
    while let Some(part) = parts.next() {
        let Some(after) = parts.peek() else { break };
        if !is_digit(part.chars().next_back()) || !is_digit(after.chars().next()) {
            return Cow::Borrowed(text);
        }
    }
    Cow::Owned(text.replace('_', ""))
}

/// What Go's `ParseInt` with base zero reads, as far as the lexer lets it through and it fits 63 bits.
#[expect(
    clippy::cast_precision_loss,
    reason = "an integer literal is rounded to the nearest float, as everywhere in the language"
)]
fn integer_value(text: &str) -> Option<f64> {
    let (radix, digits) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, text.get(2..)?.trim_start_matches('_')),
        [b'0', _, ..] => (8, text.get(1..)?.trim_start_matches('_')),
        _ => (10, text),
    };
    if digits.is_empty() || digits.ends_with('_') || digits.contains("__") {
        return None;
    }
    let plain: String = digits.chars().filter(|c| *c != '_').collect();
    i64::from_str_radix(&plain, radix)
        .ok()
        .filter(|_| plain.chars().all(|c| c.is_digit(radix)))
        .map(|value| value as f64)
}

/// Seconds of a duration token.
#[expect(
    clippy::cast_precision_loss,
    reason = "292 years in milliseconds are below 2^53"
)]
pub(super) fn duration_seconds(text: &str) -> Result<f64, String> {
    parse_duration_ms(text)
        .map(|ms| ms as f64 / 1000.0)
        .map_err(|error| error.to_string())
}

/// The value of a string token with its quotes. Escapes are Go's; bytes above 0x7f that do not make UTF-8 become the
/// replacement character, because no label can hold them.
pub fn unquote(text: &str) -> Option<String> {
    let quote = text.chars().next()?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    if quote == '`' || !inner.contains('\\') {
        return Some(inner.to_owned());
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        if c == '\\' {
            push_escape(&mut rest, quote, &mut out)?;
        } else {
            push_char(c, &mut out);
        }
    }
    Some(match String::from_utf8(out) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

fn push_char(c: char, out: &mut Vec<u8>) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Decodes what follows a backslash.
fn push_escape(rest: &mut std::str::Chars<'_>, quote: char, out: &mut Vec<u8>) -> Option<()> {
    let c = rest.next()?;
    let simple = match c {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' => b'\\',
        'x' => u8::try_from(digits(rest, 0, 2, 16)?).ok()?,
        '0'..='7' => u8::try_from(digits(rest, c.to_digit(8)?, 2, 8)?).ok()?,
        'u' | 'U' => {
            let n_digits = if c == 'u' { 4 } else { 8 };
            push_char(char::from_u32(digits(rest, 0, n_digits, 16)?)?, out);
            return Some(());
        }
        c if c == quote => {
            push_char(c, out);
            return Some(());
        }
        _ => return None,
    };
    out.push(simple);
    Some(())
}

fn digits(rest: &mut std::str::Chars<'_>, first: u32, n_digits: usize, radix: u32) -> Option<u32> {
    let mut value = first;
    for _ in 0..n_digits {
        let digit = rest.next()?.to_digit(radix)?;
        value = value.checked_mul(radix)?.checked_add(digit)?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_in_gos_notation() {
        for (text, value) in [
            ("0", 0.0),
            ("017", 15.0),
            ("0_17", 15.0),
            ("08", 8.0),
            ("0x1F", 31.0),
            ("0X_1f", 31.0),
            ("1_000", 1000.0),
            ("9223372036854775808", 9_223_372_036_854_775_808.0),
            ("1e3", 1000.0),
            ("00_1_23_4.56_7_8", 1234.5678),
            (".5", 0.5),
            ("5.", 5.0),
            ("Inf", f64::INFINITY),
        ] {
            assert_eq!(number_value(text), Ok(value), "{text}");
        }
        assert!(number_value("nan").unwrap().is_nan());
    }

    #[test]
    fn numbers_that_cannot_be_read_say_so_as_go_does() {
        for (text, why) in [
            ("1_.5", "invalid syntax"),
            ("0x", "invalid syntax"),
            ("1e400", "value out of range"),
        ] {
            let expect =
                format!("error parsing number: strconv.ParseFloat: parsing \"{text}\": {why}");
            assert_eq!(number_value(text), Err(expect));
        }
    }

    #[test]
    fn strings_are_unquoted_as_go_does() {
        for (text, value) in [
            (r#""a\tb""#, "a\tb"),
            (r#"'it\'s'"#, "it's"),
            (r#"'"'"#, "\""),
            (r"`\d+`", r"\d+"),
            (r#""\x41\102\u00e9\U0001F600""#, "AB\u{e9}\u{1f600}"),
            (r#""\xc3\xa9""#, "\u{e9}"),
            (r#""\xff""#, "\u{fffd}"),
            (r#""""#, ""),
        ] {
            assert_eq!(unquote(text).as_deref(), Some(value), "{text}");
        }
        assert_eq!(unquote(r#""\q""#), None);
    }
}
