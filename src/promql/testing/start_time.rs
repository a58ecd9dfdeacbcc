//! `metric@st -30s-1mx5`: when the counters behind the samples began, relative to each sample.

use crate::model::duration::parse_duration_ms;

/// Offsets in milliseconds, one for each value of the series; `None` where nothing is known.
pub(super) fn parse_start_offsets(text: &str) -> Result<Vec<Option<i64>>, String> {
    let mut offsets = Vec::new();
    for item in text.split_whitespace() {
        push_item(item, &mut offsets).map_err(|why| format!("start time {item:?}: {why}"))?;
    }
    Ok(offsets)
}

fn push_item(item: &str, offsets: &mut Vec<Option<i64>>) -> Result<(), String> {
    if item == "_" {
        offsets.push(None);
        return Ok(());
    }
    if let Some(times) = item.strip_prefix("_x") {
        let times = count(times)?;
        if times == 0 {
            return Err("invalid repeat count".to_owned());
        }
        offsets.extend((0..times).map(|_| None));
        return Ok(());
    }
    let (base, rest) = signed_duration(item)?;
    let (delta, times) = if rest.is_empty() {
        (0, 0)
    } else if let Some(times) = rest.strip_prefix('x') {
        (0, count(times)?)
    } else {
        let (delta, rest) = signed_duration(rest)?;
        let times = rest
            .strip_prefix('x')
            .ok_or_else(|| "expected x and a count behind the step".to_owned())?;
        (delta, count(times)?)
    };
    let mut offset = base;
    for _ in 0..=times {
        offsets.push(Some(offset));
        offset = offset.saturating_add(delta);
    }
    Ok(())
}

fn count(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(times) if times <= 1_000_000 => Ok(times),
        Ok(_) | Err(_) => Err("invalid repeat count".to_owned()),
    }
}

/// A duration with an optional sign at the start of `text`, and what follows it.
fn signed_duration(text: &str) -> Result<(i64, &str), String> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let n_digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    let n_unit = unsigned
        .bytes()
        .skip(n_digits)
        .take_while(|b| b.is_ascii_alphabetic() && *b != b'x')
        .count();
    let (duration, rest) = unsigned
        .split_at_checked(n_digits + n_unit)
        .unwrap_or((unsigned, ""));
    let ms = parse_duration_ms(duration).map_err(|error| error.to_string())?;
    Ok((if text.starts_with('-') { -ms } else { ms }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_as_written() {
        let expect = [
            None,
            None,
            None,
            Some(-30_000),
            Some(-90_000),
            Some(-1),
            Some(0),
            Some(0),
            Some(60_000),
        ];
        let found = parse_start_offsets("_ _x2 -30s-1mx1 -1ms 0x1 +1m");
        assert_eq!(found.as_deref(), Ok(expect.as_slice()));
    }

    #[test]
    fn what_is_no_offset_is_refused() {
        for text in ["_x0", "1", "-30s-1m", "a", "1mx", "1m*2", "1mx99999999"] {
            assert!(parse_start_offsets(text).is_err(), "{text}");
        }
    }
}
