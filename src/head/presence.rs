//! Which series have samples so close together that somebody who only asks whether there are any need not read them.
//!
//! Counting series is what people do with the largest selectors they have. For that a sample matters only where it is the
//! newest within the lookback; one every few minutes says the same as one every few seconds.

use bytes::Bytes;

use crate::chunk::XorAppender;
use crate::model::{Encoding, Interval, TimestampMs, is_stale};
use crate::storage::ChunkSlice;

/// Samples no further apart than this follow each other evenly: twice what most people scrape at, at most, and less than
/// half of the lookback nearly everybody has.
const PAUSE_MS_MAX: i64 = 2 * 60 * 1000;

/// More samples than that are not made of nothing.
const SAMPLES_MAX: i64 = 4096;

/// Times further apart are not compared: half of what [`EvenSince`] can tell apart.
const APART_MS_MAX: i64 = 1 << 30;

/// The sample from which on a series follows evenly, without markers of staleness: the low half of its time, for a million
/// series have this; zero where it is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct EvenSince(u32);

impl EvenSince {
    /// Nothing is known of the samples so far.
    pub(crate) const UNKNOWN: Self = Self(0);

    /// After a float at `t`, behind a sample at `before`.
    #[inline]
    pub(crate) fn note(&mut self, before: Option<TimestampMs>, (t, v): (TimestampMs, f64)) {
        let pause_ms = before.map(|before| t.saturating_sub(before));
        let is_close = pause_ms.is_some_and(|pause_ms| pause_ms <= PAUSE_MS_MAX);
        if is_stale(v) {
            *self = Self::UNKNOWN;
        } else if *self == Self::UNKNOWN || !is_close || APART_MS_MAX < self.until(t) {
            *self = Self(low_half(t));
        }
    }

    /// Do samples follow evenly from `t`, when there was one, to the newest at `newest`?
    pub(crate) fn is_even(self, t: TimestampMs, newest: TimestampMs) -> bool {
        let is_told = newest.saturating_sub(t) <= APART_MS_MAX;
        self != Self::UNKNOWN && is_told && 0 <= self.until(t)
    }

    /// From then until `t`, which are not far apart.
    fn until(self, t: TimestampMs) -> i64 {
        i64::from(low_half(t).wrapping_sub(self.0).cast_signed())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
fn low_half(t: TimestampMs) -> u32 {
    t.cast_unsigned() as u32
}

/// Makes samples that say from when to when there were some.
#[derive(Debug)]
pub(crate) struct Presence {
    /// How far behind a sample is still seen.
    reach_ms: i64,
    /// What was made last: series of one target have their times in common.
    last: Option<ChunkSlice>,
}

impl Presence {
    /// For somebody who sees a sample less than `reach_ms` after its time; none where that is too short.
    pub(crate) fn within(reach_ms: i64) -> Option<Self> {
        (PAUSE_MS_MAX <= reach_ms).then_some(Self {
            reach_ms,
            last: None,
        })
    }

    /// Zeros from the first to the last of these times, each seen until the next comes; none where they would be many.
    pub(crate) fn over(&mut self, span: Interval) -> Option<ChunkSlice> {
        let last = self.last.as_ref();
        if let Some(last) = last.filter(|last| (last.min_t, last.max_t) == (span.min, span.max)) {
            return Some(last.clone());
        }
        let length_ms = span.max.checked_sub(span.min)?;
        if length_ms < 0 || SAMPLES_MAX < length_ms / self.reach_ms {
            return None;
        }
        let mut chunk = XorAppender::new();
        let mut t = span.min;
        while t < span.max {
            chunk.append(t, 0.0).ok()?;
            t = t.saturating_add(self.reach_ms);
        }
        chunk.append(span.max, 0.0).ok()?;
        let slice = ChunkSlice {
            min_t: span.min,
            max_t: span.max,
            encoding: Encoding::Xor,
            data: Bytes::from(chunk.into_bytes()),
        };
        self.last = Some(slice.clone());
        Some(slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::decode_floats;
    use crate::model::STALE_NAN_BITS;

    fn noted(samples: &[(TimestampMs, f64)]) -> EvenSince {
        let mut even = EvenSince::default();
        let mut before = None;
        for sample in samples {
            even.note(before, *sample);
            before = Some(sample.0);
        }
        even
    }

    #[test]
    fn samples_follow_evenly_from_behind_the_last_pause_or_marker() {
        let stale = f64::from_bits(STALE_NAN_BITS);
        assert_eq!(noted(&[]), EvenSince::UNKNOWN);
        assert_eq!(noted(&[(5, 1.0), (120_005, 1.0)]), EvenSince(5));
        assert_eq!(noted(&[(5, 1.0), (120_006, 1.0)]), EvenSince(120_006));
        assert_eq!(noted(&[(5, 1.0), (6, stale)]), EvenSince::UNKNOWN);
        assert_eq!(noted(&[(5, 1.0), (6, stale), (7, 1.0)]), EvenSince(7));
        assert!(!EvenSince::UNKNOWN.is_even(7, 7));
    }

    #[test]
    fn times_are_told_apart_wherever_they_lie() {
        for at in [
            0,
            -1,
            1 << 31,
            1 << 32,
            (1 << 32) + 1,
            1_795_000_000_000,
            -(1 << 40),
        ] {
            let even = noted(&[(at, 1.0), (at + 60_000, 1.0)]);
            // Of one time in four billion the half that is kept is zero.
            let first = if low_half(at) == 0 { at + 60_000 } else { at };
            for (t, expect) in [(first, true), (first + 9, true), (first - 1, false)] {
                assert_eq!(even.is_even(t, at + 60_000), expect, "{at} {t}");
            }
            assert!(!even.is_even(at - APART_MS_MAX, at + 60_000), "{at}");
        }
        // A series that goes on for long begins again before its beginning could be taken for its future.
        let (mut even, mut t) = (EvenSince::default(), 5);
        for _ in 0..60_000 {
            even.note(Some(t - 120_000), (t, 1.0));
            assert!(even.is_even(t, t) && (0..=APART_MS_MAX).contains(&even.until(t)));
            t += 120_000;
        }
    }

    #[test]
    fn zeros_lie_no_further_apart_than_they_are_seen_and_end_where_the_samples_do() {
        assert!(Presence::within(PAUSE_MS_MAX - 1).is_none());
        let mut presence = Presence::within(300_000).unwrap();
        for (min, max) in [(7, 7), (7, 8), (0, 300_000), (1, 300_002), (-5, 7_200_000)] {
            let slice = presence.over(Interval { min, max }).unwrap();
            let again = presence.over(Interval { min, max }).unwrap();
            assert_eq!(again.data.as_ptr(), slice.data.as_ptr());
            let (mut times, mut values) = (Vec::new(), Vec::new());
            decode_floats(slice.encoding, &slice.data, &mut times, &mut values).unwrap();
            assert_eq!(
                (times.first(), times.last(), slice.min_t, slice.max_t),
                (Some(&min), Some(&max), min, max)
            );
            assert!(
                times
                    .windows(2)
                    .all(|two| (1..=300_000).contains(&(two[1] - two[0])))
            );
        }
        let far = Interval {
            min: 0,
            max: 300_000 * (SAMPLES_MAX + 1),
        };
        assert!(presence.over(far).is_none());
    }
}
