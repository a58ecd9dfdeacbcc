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
    let mut floats = FloatReader::new(body)?;
    while let Some((series, t, v, _)) = floats.take()? {
        each(&RefSample {
            series,
            t,
            start_t: 0,
            v,
        });
    }
    Ok(())
}

/// Floats that a reader need not see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unwanted {
    /// Those of these series.
    pub series: RangeInclusive<u64>,
    /// Those older than this.
    pub before: TimestampMs,
}

/// The floats of a samples record of kind 2, one after the other.
#[derive(Debug)]
pub struct FloatReader<'a> {
    rest: &'a [u8],
    n_bytes: usize,
    first_series: u64,
    first_t: TimestampMs,
}

/// So many floats are taken together by [`FloatReader::take_runs`].
pub const FLOATS_PER_RUN: usize = 8;

/// Series, time and value of a float, and how many bytes of the record it has.
pub type FloatEntry = (u64, TimestampMs, f64, usize);

impl<'a> FloatReader<'a> {
    /// At the first float of a record.
    pub fn new(body: &'a [u8]) -> Result<Self, WalError> {
        let mut cursor = Cursor::new(body);
        cursor.u8("record type")?;
        let (first_series, first_t) = if cursor.is_empty() {
            (0, 0)
        } else {
            let series = cursor.u64_be("first reference")?;
            (series, cursor.i64_be("first time")?)
        };
        Ok(Self {
            rest: cursor.rest(),
            n_bytes: body.len(),
            first_series,
            first_t,
        })
    }

    /// Takes floats one after the other, those whose integers are short, as long as `takes` does. The one it does not take is
    /// the next one still.
    #[inline(always)]
    pub fn take_short(&mut self, mut takes: impl FnMut(u64, TimestampMs, f64) -> bool) {
        let mut rest = self.rest;
        while let Some((series, t, v, behind)) = shortest_entry(rest)
            && {
                let (series, t, v, _) = self.entry(series, t, v, 0);
                takes(series, t, v)
            }
        {
            rest = behind;
        }
        self.rest = rest;
    }

    /// Takes floats of series that follow each other, of one time, [`FLOATS_PER_RUN`] at once, as long as `takes` does: it is
    /// given the first of the series. What it does not take comes next still. Not all runs are found, but most of those
    /// whose integers are short.
    #[inline(always)]
    pub fn take_runs(
        &mut self,
        mut takes: impl FnMut(u64, TimestampMs, &[f64; FLOATS_PER_RUN]) -> bool,
    ) {
        while let Some(first) = self.rest.first_chunk::<8>() {
            let first = u64::from_le_bytes(*first);
            let ends_at = |n: u32| first & (0x80 << (8 * (n - 1))) == 0;
            let run = match () {
                () if ends_at(1) && ends_at(2) => run_of::<1, 1, 10>(self.rest),
                () if ends_at(1) => None,
                () if ends_at(2) && ends_at(3) => run_of::<2, 1, 11>(self.rest),
                () if ends_at(2) && ends_at(4) => run_of::<2, 2, 12>(self.rest),
                () if ends_at(2) => None,
                () if ends_at(3) && ends_at(4) => run_of::<3, 1, 12>(self.rest),
                () => None,
            };
            let Some((series, t, values, behind)) = run else {
                return;
            };
            let (series, t, ..) = self.entry(series, t, 0.0, 0);
            if !takes(series, t, &values) {
                return;
            }
            self.rest = behind;
        }
    }

    /// How many floats come before the next run that can be found, if they are of series that follow each other.
    #[inline(always)]
    pub fn until_run(&self) -> usize {
        let first = self.rest.first().map_or(0, |byte| usize::from(byte & 0x7f));
        let until_overflow = (0x80 - first).div_ceil(2);
        if until_overflow < FLOATS_PER_RUN {
            until_overflow
        } else {
            FLOATS_PER_RUN
        }
    }

    /// The next float, if it can be told quickly, as nearly all can.
    #[inline(always)]
    pub fn peek(&self) -> Option<FloatEntry> {
        let (series, t, v, n_bytes) = short_entry(self.rest)?;
        Some(self.entry(series, t, v, n_bytes))
    }

    /// Goes on behind a float of `n_bytes`.
    #[inline(always)]
    pub fn advance(&mut self, n_bytes: usize) {
        self.rest = self.rest.get(n_bytes..).unwrap_or_default();
    }

    /// Takes the next float; `None` at the end.
    #[inline]
    pub fn take(&mut self) -> Result<Option<FloatEntry>, WalError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (series, t, v, n_bytes) = match short_entry(self.rest) {
            Some(entry) => entry,
            None => any_entry(self.rest, self.n_bytes - self.rest.len())?,
        };
        self.advance(n_bytes);
        Ok(Some(self.entry(series, t, v, n_bytes)))
    }

    #[inline(always)]
    fn entry(&self, series: i64, t: TimestampMs, v: f64, n_bytes: usize) -> FloatEntry {
        let series = self.first_series.wrapping_add(series.cast_unsigned());
        (series, self.first_t.wrapping_add(t), v, n_bytes)
    }

    /// Passes over the floats that come next and are not wanted, as far as that can be told quickly; how many.
    pub fn pass_over(&mut self, unwanted: &Unwanted) -> u64 {
        let Unwanted { series, before } = unwanted;
        let least = series.start().saturating_sub(self.first_series);
        let n_more = series
            .end()
            .checked_sub(self.first_series.max(*series.start()));
        let t_most = before.saturating_sub(self.first_t);
        let mut n_passed = 0;
        loop {
            // A step forward of two bytes and one of time: so most entries are.
            if let Some(n_more) = n_more
                && let Some(window) = self.rest.first_chunk::<24>()
            {
                let word = u64::from(u32::from_le_bytes([window[0], window[1], window[2], 0]));
                let (step, t) = (fourteen_bits(word), word >> 16);
                let is_such = word & 0x80_8080 == 0x80 && (step | t) & 1 == 0;
                let is_unwanted =
                    (step / 2).wrapping_sub(least) <= n_more && (t / 2).cast_signed() < t_most;
                if is_such && is_unwanted {
                    self.rest = self.rest.get(11..).unwrap_or_default();
                    n_passed += 1;
                    continue;
                }
            }
            match self.peek() {
                Some((number, t, _, n_bytes)) if series.contains(&number) && t < *before => {
                    self.advance(n_bytes);
                    n_passed += 1;
                }
                _ => return n_passed,
            }
        }
    }
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

/// Reference, time and value of an entry whose integers are of the lengths that most have, and what is behind it; not of the
/// last ones.
///
/// Each pair of lengths has a branch of its own, and nothing here is called: all of it stays in registers.
#[inline(always)]
fn shortest_entry(rest: &[u8]) -> Option<(i64, TimestampMs, f64, &[u8])> {
    let first = u64::from_le_bytes(*rest.first_chunk::<24>()?.first_chunk()?);
    let ends_at = |n: u32| first & (0x80 << (8 * (n - 1))) == 0;
    match () {
        () if ends_at(1) && ends_at(2) => entry_of::<1, 1>(rest, first),
        () if ends_at(1) && ends_at(3) => entry_of::<1, 2>(rest, first),
        () if ends_at(1) => None,
        () if ends_at(2) && ends_at(3) => entry_of::<2, 1>(rest, first),
        () if ends_at(2) && ends_at(4) => entry_of::<2, 2>(rest, first),
        () if ends_at(2) => None,
        () if ends_at(3) && ends_at(4) => entry_of::<3, 1>(rest, first),
        () if ends_at(3) && ends_at(5) => entry_of::<3, 2>(rest, first),
        () => None,
    }
}

/// The entry at the start of `rest`, whose first bytes are `first`, with a reference of so many bytes and a time of so many.
#[inline(always)]
fn entry_of<const SERIES: usize, const T: usize>(
    rest: &[u8],
    first: u64,
) -> Option<(i64, TimestampMs, f64, &[u8])> {
    let of_length = |word: u64, n: usize| match n {
        1 => seven_bits(word),
        2 => fourteen_bits(word),
        _ => fourteen_bits(word) | (word >> 2) & 0x1f_c000,
    };
    let series = zig_zag(of_length(first, SERIES));
    let t = zig_zag(of_length(first >> (8 * SERIES), T));
    let v = f64::from_bits(u64::from_be_bytes(*rest.get(SERIES + T..)?.first_chunk()?));
    Some((series, t, v, rest.get(SERIES + T + 8..)?))
}

/// A reference, a time, values of that series and those behind it, and what is behind them.
type Run<'a> = (i64, TimestampMs, [f64; FLOATS_PER_RUN], &'a [u8]);

/// [`FLOATS_PER_RUN`] entries of `LEN` bytes each, with a reference of so many bytes, always the next one, and the same time
/// of so many.
///
/// The integers of each are compared with those of the first as they lie there: one more is two more in the first byte, as
/// long as it does not overflow. It does with every 64th reference, so that some run is not one here.
#[inline(always)]
fn run_of<const SERIES: usize, const T: usize, const LEN: usize>(rest: &[u8]) -> Option<Run<'_>> {
    #[expect(clippy::cast_possible_truncation, reason = "there are eight")]
    const LAST: u32 = 2 * (FLOATS_PER_RUN as u32 - 1);
    let (entries, _) = rest.as_chunks::<LEN>();
    let entries = entries.first_chunk::<FLOATS_PER_RUN>()?;
    let n_bits = 8 * (SERIES + T);
    let integers = |entry: &[u8; LEN]| {
        let word = u32::from_le_bytes(*entry.first_chunk()?);
        Some(word & (u32::MAX >> (32 - n_bits)))
    };
    let first = integers(entries.first()?)?;
    // The first byte may not overflow, and its lowest bit is the sign.
    if (first & 0x7f) + LAST >= 0x80 || first & 1 != 0 {
        return None;
    }
    let (mut differs, mut values) = (0, [0.0; FLOATS_PER_RUN]);
    for ((entry, value), more) in entries.iter().zip(&mut values).zip((0..=LAST).step_by(2)) {
        differs |= integers(entry)? ^ (first + more);
        *value = f64::from_bits(u64::from_be_bytes(*entry.last_chunk()?));
    }
    if differs != 0 {
        return None;
    }
    let behind = rest.get(LEN * FLOATS_PER_RUN..)?;
    let (series, t, _, _) = entry_of::<SERIES, T>(rest, u64::from(first))?;
    Some((series, t, values, behind))
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
    fn nearly_all_of_what_a_scrape_logs_is_found_in_runs() {
        for (first, t) in [(1, 0), (3, 7), (60, -1), (300, 100), (70_000, 0)] {
            let mut encoder = SamplesEncoder::default();
            encoder.push(5, 1000, 0.5);
            for n in 0..2000 {
                encoder.push(5 + first + n, 1000 + t, 0.25);
            }
            let mut floats = FloatReader::new(encoder.record().unwrap()).unwrap();
            let (mut n_runs, mut n_others) = (0, 0);
            while floats.take().unwrap().is_some() {
                n_others += 1;
                floats.take_runs(|_, time, values| {
                    assert_eq!((time, *values), (1000 + t, [0.25; FLOATS_PER_RUN]));
                    n_runs += 1;
                    true
                });
            }
            assert_eq!(n_runs * FLOATS_PER_RUN + n_others, 2001);
            assert!(n_others < 300, "{first} {t}: {n_others}");
            // Fewer still, where as many are taken as come before the next run.
            let mut floats = FloatReader::new(encoder.record().unwrap()).unwrap();
            let mut n_others = 0;
            'floats: loop {
                floats.take_runs(|_, _, _| true);
                for _ in 0..floats.until_run() {
                    if floats.take().unwrap().is_none() {
                        break 'floats;
                    }
                    n_others += 1;
                }
            }
            assert!(n_others < 30, "{first} {t}: {n_others}");
        }
    }

    /// The first bytes of eight entries of which each is two more than the one before, as a number: from the fifth on they
    /// say something else.
    #[test]
    fn a_run_ends_where_the_first_byte_overflows() {
        for (first, n_integers) in [(0x01f8_u32, 3), (0x0078, 2)] {
            let mut body = vec![2];
            body.extend_from_slice(&[0; 16]);
            for more in 0..8 {
                let word = (first + 2 * more).to_le_bytes();
                body.extend_from_slice(&word[..n_integers]);
                body.extend_from_slice(&0.5f64.to_be_bytes());
            }
            body.extend_from_slice(&[0; 24]);
            let mut floats = FloatReader::new(&body).unwrap();
            floats.take_runs(|series, _, _| panic!("{series} is no run"));
            assert_eq!(floats.rest.len(), body.len() - 17);
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
        let around = Unwanted {
            series: 10..=40,
            before: 1008,
        };
        let mut found = Vec::new();
        let mut n_unwanted = 0;
        let mut floats = FloatReader::new(encoder.record().unwrap()).unwrap();
        while let Some((series, t, ..)) = floats.take().unwrap() {
            found.push((series, t));
            if unwanted(series, t) {
                n_unwanted += floats.pass_over(&around);
            }
        }
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

        #[test]
        fn runs_are_taken_until_one_is_refused_and_what_is_no_run_comes_next(
            parts in prop::collection::vec((1u64..40, 0u64..20_000, 0i64..200, 0usize..4), 1..30),
            refused in prop::collection::vec(0usize..9, 1..10),
        ) {
            let mut encoder = SamplesEncoder::default();
            let mut samples = Vec::new();
            for (n, first, t, broken) in parts {
                for more in 0..n {
                    // Some do not follow each other, or the other way round, or are of another time.
                    let at = usize::try_from(more).unwrap();
                    let series = match broken {
                        1 if at % 11 == 5 => first,
                        3 => first + n - more,
                        _ => first + more,
                    };
                    let t = if broken == 2 && at % 13 == 9 { t + 1 } else { t };
                    let v = f64::from(u32::try_from(first + more * 3).unwrap()) * 0.3;
                    samples.push((10_000 + series, 50_000 + t, v.to_bits()));
                }
            }
            for (series, t, v) in &samples {
                encoder.push(*series, *t, f64::from_bits(*v));
            }
            let mut floats = FloatReader::new(encoder.record().unwrap()).unwrap();
            let mut found = Vec::new();
            for n_wanted in refused.into_iter().cycle() {
                let mut n_taken = 0;
                floats.take_runs(|series, t, values| {
                    let is_wanted = n_taken < n_wanted;
                    n_taken += 1;
                    if is_wanted {
                        let run = (series..).zip(values);
                        found.extend(run.map(|(series, v)| (series, t, v.to_bits())));
                    }
                    is_wanted
                });
                prop_assert!(n_taken <= n_wanted + 1);
                let Some((series, t, v, _)) = floats.take().unwrap() else {
                    break;
                };
                found.push((series, t, v.to_bits()));
            }
            prop_assert_eq!(found, samples);
        }

        #[test]
        fn short_floats_are_taken_until_one_is_refused_and_that_one_comes_next(
            samples in prop::collection::vec((0u32..64, any::<u64>(), 0u32..64, any::<i64>(), any::<f64>()), 0..60),
            refused in prop::collection::vec(0usize..20, 1..10),
        ) {
            let mut encoder = SamplesEncoder::default();
            let samples: Vec<_> = samples.iter()
                // Of most the integers are short: the first is what the others are counted from.
                .map(|(m, series, n, t, v)| (series >> (40 + m % 24), t >> (40 + n % 24), v.to_bits()))
                .collect();
            for (series, t, v) in &samples {
                encoder.push(*series, *t, f64::from_bits(*v));
            }
            let mut floats = FloatReader::new(encoder.record().unwrap_or(&[2])).unwrap();
            let mut found = Vec::new();
            let mut n_short = 0;
            for n_wanted in refused.into_iter().cycle() {
                let before = found.len();
                floats.take_short(|series, t, v| {
                    let is_wanted = found.len() < before + n_wanted;
                    if is_wanted {
                        found.push((series, t, v.to_bits()));
                    }
                    is_wanted
                });
                n_short += found.len() - before;
                prop_assert!(found.len() <= before + n_wanted);
                let Some((series, t, v, _)) = floats.take().unwrap() else {
                    break;
                };
                found.push((series, t, v.to_bits()));
            }
            prop_assert!(n_short <= found.len());
            prop_assert_eq!(found, samples);
        }
    }
}
