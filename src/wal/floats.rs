//! Records of floats, of which a log mostly consists: read without a list in between.

use std::ops::RangeInclusive;

use crate::foundation::Cursor;
use crate::model::TimestampMs;
use crate::wal::WalError;
use crate::wal::record::{RecordKind, RefSample};
use crate::wal::starts::read_started;

/// Hands every float of a samples record (kinds 2 and 11) to `each`.
pub fn read_samples(body: &[u8], mut each: impl FnMut(&RefSample)) -> Result<(), WalError> {
    if RecordKind::of(body) == RecordKind::SamplesV2 {
        let mut cursor = Cursor::new(body);
        cursor.u8("record type")?;
        return read_started(&mut cursor, each);
    }
    read_floats(body, &mut 0, |series, t, v| {
        each(&RefSample {
            series,
            t,
            start_t: 0,
            v,
        });
        None
    })
}

/// Floats that a reader need not see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unwanted {
    /// Those of these series.
    pub series: RangeInclusive<u64>,
    /// Those older than this.
    pub before: TimestampMs,
}

/// Hands series, time and value of every float of a samples record of kind 2 to `each`, which says whether some behind
/// this one are not to be handed over, as long as no other comes. So many more were not in `n_unwanted`.
#[inline]
pub fn read_floats(
    body: &[u8],
    n_unwanted: &mut u64,
    mut each: impl FnMut(u64, TimestampMs, f64) -> Option<Unwanted>,
) -> Result<(), WalError> {
    let mut cursor = Cursor::new(body);
    cursor.u8("record type")?;
    if cursor.is_empty() {
        return Ok(());
    }
    let first_series = cursor.u64_be("first reference")?;
    let first_t = cursor.i64_be("first time")?;
    let mut rest = cursor.rest();
    // `each` is called at one place alone, so that it becomes a part of the loop.
    while !rest.is_empty() {
        let (series, t, v, n_bytes) = match short_entry(rest) {
            Some(entry) => entry,
            None => any_entry(rest, body.len() - rest.len())?,
        };
        let unwanted = each(
            first_series.wrapping_add(series.cast_unsigned()),
            first_t.wrapping_add(t),
            v,
        );
        rest = rest.get(n_bytes..).unwrap_or_default();
        let Some(Unwanted { series, before }) = unwanted else {
            continue;
        };
        while let Some((step, t, _, n_bytes)) = short_entry(rest)
            && series.contains(&first_series.wrapping_add(step.cast_unsigned()))
            && first_t.wrapping_add(t) < before
        {
            rest = rest.get(n_bytes..).unwrap_or_default();
            *n_unwanted += 1;
        }
    }
    Ok(())
}

#[cold]
#[inline(never)]
fn any_entry(rest: &[u8], offset: usize) -> Result<(i64, TimestampMs, f64, usize), WalError> {
    let mut cursor = Cursor::at(rest, offset);
    let (series, t) = (cursor.varint("reference")?, cursor.varint("time")?);
    let v = cursor.f64_be("value")?;
    Ok((series, t, v, cursor.offset() - offset))
}

/// Reference, time, value and length of an entry whose integers are not the longest there are, and that is not the last.
///
/// How long the integers are is asked in branches: guessed right, as mostly, the next entry begins before this one is done.
#[inline(always)]
fn short_entry(rest: &[u8]) -> Option<(i64, TimestampMs, f64, usize)> {
    let window = rest.first_chunk::<24>()?;
    let word = |at: usize| Some(*window.get(at..)?.first_chunk::<8>()?);
    let first = u64::from_le_bytes(word(0)?);
    let (series, behind, n_series) = if first & 0x80 == 0 {
        (seven_bits(first), first >> 8, 1)
    } else if first & 0x8000 == 0 {
        (fourteen_bits(first), first >> 16, 2)
    } else if first & 0x80_0000 == 0 {
        let high = (first >> 2) & 0x1f_c000;
        (fourteen_bits(first) | high, first >> 24, 3)
    } else {
        return longer_entry(window);
    };
    let (series, behind, n_series) = (zig_zag(series), behind, n_series);
    if behind & 0x80 == 0 {
        let v = match n_series {
            1 => word(2)?,
            2 => word(3)?,
            _ => word(4)?,
        };
        let v = f64::from_bits(u64::from_be_bytes(v));
        return Some((series, zig_zag(seven_bits(behind)), v, n_series + 9));
    }
    longer_entry(window)
}

#[inline(never)]
fn longer_entry(window: &[u8; 24]) -> Option<(i64, TimestampMs, f64, usize)> {
    let word = |at: usize| Some(*window.get(at..)?.first_chunk::<8>()?);
    let (series, n_series) = short_varint(word(0)?)?;
    let (t, n_t) = short_varint(word(n_series)?)?;
    let n_before = n_series + n_t;
    let v = f64::from_bits(u64::from_be_bytes(word(n_before)?));
    Some((series, t, v, n_before + 8))
}

#[inline(always)]
fn seven_bits(word: u64) -> u64 {
    word & 0x7f
}

#[inline(always)]
fn fourteen_bits(word: u64) -> u64 {
    word & 0x7f | (word >> 1) & 0x3f80
}

#[inline(always)]
fn zig_zag(raw: u64) -> i64 {
    (raw >> 1).cast_signed() ^ -((raw & 1).cast_signed())
}

/// Zig-zag LEB128 of at most eight bytes, and how many it has.
#[inline(always)]
fn short_varint(bytes: [u8; 8]) -> Option<(i64, usize)> {
    let word = u64::from_le_bytes(bytes);
    let (raw, n) = if word & 0x80 == 0 {
        (seven_bits(word), 1)
    } else if word & 0x8000 == 0 {
        (fourteen_bits(word), 2)
    } else {
        let ends = !word & 0x8080_8080_8080_8080;
        if ends == 0 {
            return None;
        }
        let n_bits = ends.trailing_zeros() + 1;
        let digits = word & (u64::MAX >> (64 - n_bits)) & 0x7f7f_7f7f_7f7f_7f7f;
        // Digits of seven bits become pairs, those fours, and those one number.
        let pairs = digits & 0x007f_007f_007f_007f | (digits & 0x7f00_7f00_7f00_7f00) >> 1;
        let fours = pairs & 0x0000_3fff_0000_3fff | (pairs & 0x3fff_0000_3fff_0000) >> 2;
        let raw = fours & 0x0fff_ffff | (fours & 0x0fff_ffff_0000_0000) >> 4;
        (raw, n_bits as usize / 8)
    };
    Some((zig_zag(raw), n))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::foundation::cursor::put_varint;
    use crate::wal::SamplesEncoder;

    #[test]
    fn integers_of_every_length_are_read_as_they_were_put() {
        for shift in 0..64 {
            for value in [1i64, -1, 3, -3].map(|v| v << shift) {
                let mut bytes = Vec::new();
                put_varint(&mut bytes, value);
                let n = bytes.len();
                bytes.resize(n + 8, 0xff);
                let found = short_varint(*bytes.first_chunk().unwrap());
                assert_eq!(found, (n <= 8).then_some((value, n)), "{value}");
            }
        }
    }

    #[test]
    fn what_is_unwanted_is_passed_over_until_something_else_comes() {
        let mut encoder = SamplesEncoder::default();
        let mut all = Vec::new();
        for n in 0..500u64 {
            let (series, t) = (n % 50, 1000 + (n / 5 * 29 % 11).cast_signed());
            encoder.push(series, t, 0.5);
            all.push((series, t));
        }
        let unwanted = |series, t| (10..=40).contains(&series) && t < 1008;
        let mut found = Vec::new();
        let mut n_unwanted = 0;
        read_floats(
            encoder.record().unwrap(),
            &mut n_unwanted,
            |series, t, _| {
                found.push((series, t));
                unwanted(series, t).then_some(Unwanted {
                    series: 10..=40,
                    before: 1008,
                })
            },
        )
        .unwrap();
        let mut was_unwanted = false;
        let mut expect = all.clone();
        expect.retain(|(series, t)| {
            let is_unwanted = unwanted(*series, *t);
            let is_run = std::mem::replace(&mut was_unwanted, is_unwanted) && is_unwanted;
            !is_run
        });
        let at_end = found.len() - expect.len();
        // Of the last entries, which are read with care, each is handed over.
        assert!(at_end <= 3, "{at_end}");
        assert_eq!(found[..expect.len() - 3], expect[..expect.len() - 3]);
        assert_eq!(n_unwanted + found.len() as u64, 500);
        assert!(expect.len() < 400);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn floats_come_back_as_they_were_put_and_a_cut_record_as_far_as_it_goes(
            samples in prop::collection::vec((0u32..64, any::<u64>(), 0u32..64, any::<i64>(), any::<f64>()), 0..20),
        ) {
            let mut encoder = SamplesEncoder::default();
            let samples: Vec<_> = samples.iter()
                .map(|(m, series, n, t, v)| (series >> m, t >> n, v.to_bits()))
                .collect();
            for (series, t, v) in &samples {
                encoder.push(*series, *t, f64::from_bits(*v));
            }
            let body = encoder.record().unwrap_or(&[2]);
            for len in 1..=body.len() {
                let mut found = Vec::new();
                let read = read_samples(&body[..len], |s| found.push((s.series, s.t, s.v.to_bits())));
                prop_assert!(samples.starts_with(&found));
                prop_assert!(read.is_err() || len == 1 || found.len() < samples.len() || len == body.len());
                if len == body.len() {
                    prop_assert!(read.is_ok());
                    prop_assert_eq!(&found, &samples);
                }
            }
        }
    }
}
