//! `tombstones`: what was deleted from the series of a block.

use std::collections::BTreeMap;
use std::path::Path;

use crate::block::error::BlockError;
use crate::foundation::checksum::crc32c;
use crate::foundation::cursor::{put_uvarint, put_varint};
use crate::foundation::durable::replace_file;
use crate::foundation::mmap::map_file;
use crate::foundation::{Cursor, ShortRead};
use crate::model::{Interval, TimestampMs};

/// The file's name.
pub const TOMBSTONES_FILE: &str = "tombstones";

const MAGIC: u32 = 0x0130_BA30;
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 5;
const CHECKSUM_BYTES: usize = 4;

/// Deleted intervals by series; those of one series are sorted, and neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tombstones(BTreeMap<u64, Vec<Interval>>);

impl Tombstones {
    /// Nothing was deleted.
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares `interval` of a series deleted.
    pub fn add(&mut self, series_ref: u64, interval: Interval) {
        if interval.max < interval.min {
            return;
        }
        let intervals = self.0.entry(series_ref).or_default();
        let first = intervals.partition_point(|old| old.max.saturating_add(1) < interval.min);
        let end = intervals.partition_point(|old| old.min <= interval.max.saturating_add(1));
        let mut joined = interval;
        for old in intervals.drain(first..end.max(first)) {
            joined.min = joined.min.min(old.min);
            joined.max = joined.max.max(old.max);
        }
        intervals.insert(first, joined);
    }

    /// Forgets intervals that end before `t`.
    pub fn forget_before(&mut self, t: TimestampMs) {
        self.0.retain(|_, intervals| {
            intervals.retain(|interval| t <= interval.max);
            !intervals.is_empty()
        });
    }

    /// What was deleted of one series.
    pub fn of(&self, series_ref: u64) -> &[Interval] {
        self.0.get(&series_ref).map_or(&[], Vec::as_slice)
    }

    /// All series with their intervals.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &[Interval])> {
        self.0
            .iter()
            .map(|(&series_ref, intervals)| (series_ref, intervals.as_slice()))
    }

    /// Intervals of all series.
    pub fn n_intervals(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Nothing deleted?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Field order here is the format.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC.to_be_bytes());
        out.push(VERSION);
        for (series_ref, intervals) in self.iter() {
            for interval in intervals {
                put_uvarint(&mut out, series_ref);
                put_varint(&mut out, interval.min);
                put_varint(&mut out, interval.max);
            }
        }
        let crc = crc32c(out.get(HEADER_BYTES..).unwrap_or_default());
        out.extend_from_slice(&crc.to_be_bytes());
        out
    }

    /// Mirror of [`Self::encode`]; the error is an offset and what is wrong there.
    pub fn decode(bytes: &[u8]) -> Result<Self, (usize, String)> {
        let short = |short: ShortRead| (0, short.to_string());
        let mut cursor = Cursor::new(bytes);
        let magic = cursor.u32_be("magic").map_err(short)?;
        let version = cursor.u8("version").map_err(short)?;
        if (magic, version) != (MAGIC, VERSION) {
            let problem = format!(
                "magic number {magic:08x}, version {version}: not a tombstone file of version 1"
            );
            return Err((0, problem));
        }
        let n_entries = cursor.remaining().saturating_sub(CHECKSUM_BYTES);
        let entries = cursor.bytes("entries", n_entries).map_err(short)?;
        let stored = cursor.u32_be("checksum").map_err(short)?;
        let computed = crc32c(entries);
        if stored != computed {
            let problem = format!("checksum is {computed:08x} but {stored:08x} was stored");
            return Err((HEADER_BYTES, problem));
        }
        let mut tombstones = Self::new();
        let mut cursor = Cursor::at(entries, HEADER_BYTES);
        while !cursor.is_empty() {
            let offset = cursor.offset();
            let entry = |cursor: &mut Cursor<'_>| {
                let series_ref = cursor.uvarint("series reference")?;
                let min = cursor.varint("first deleted time")?;
                let max = cursor.varint("last deleted time")?;
                Ok::<_, ShortRead>((series_ref, Interval { min, max }))
            };
            let (series_ref, interval) =
                entry(&mut cursor).map_err(|short| (offset, short.to_string()))?;
            if interval.min <= interval.max {
                tombstones.0.entry(series_ref).or_default().push(interval);
            }
        }
        tombstones.0.values_mut().for_each(join);
        Ok(tombstones)
    }

    /// Reads the file in `dir`; where there is none, nothing was deleted.
    pub fn read(dir: &Path) -> Result<Self, BlockError> {
        let path = dir.join(TOMBSTONES_FILE);
        let bytes = match map_file(&path) {
            Ok(bytes) => bytes,
            Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::new());
            }
            Err(source) => return Err(BlockError::file(&path, source)),
        };
        Self::decode(&bytes).map_err(|(offset, problem)| BlockError::Damaged {
            path,
            offset: offset as u64,
            problem,
        })
    }

    /// Replaces the file in `dir`.
    pub fn write(&self, dir: &Path) -> Result<(), BlockError> {
        let path = dir.join(TOMBSTONES_FILE);
        replace_file(&path, &self.encode()).map_err(|source| BlockError::file(&path, source))
    }
}

/// Sorts, and makes one of those that overlap or touch. All at once: a foreign file may have them in any order, and
/// putting each in its place would take the square of their number.
fn join(intervals: &mut Vec<Interval>) {
    intervals.sort_unstable_by_key(|interval| (interval.min, interval.max));
    intervals.dedup_by(|next, last| {
        let is_joined = next.min <= last.max.saturating_add(1);
        if is_joined {
            last.max = last.max.max(next.max);
        }
        is_joined
    });
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn interval(min: i64, max: i64) -> Interval {
        Interval { min, max }
    }

    fn sample() -> Tombstones {
        let mut tombstones = Tombstones::new();
        tombstones.add(5, interval(-1, 64));
        tombstones.add(3, interval(0, 1));
        tombstones
    }

    #[test]
    fn two_tombstones_have_these_bytes() {
        let mut expect = vec![0x01, 0x30, 0xba, 0x30, 1, 3, 0, 2, 5, 1, 0x80, 1];
        expect.extend(crc32c(&expect[5..]).to_be_bytes());
        assert_eq!(sample().encode(), expect);
        assert_eq!(
            Tombstones::new().encode(),
            [0x01, 0x30, 0xba, 0x30, 1, 0, 0, 0, 0]
        );
    }

    #[test]
    fn every_truncation_and_flipped_bit_is_an_error() {
        let whole = sample().encode();
        assert_eq!(Tombstones::decode(&whole), Ok(sample()));
        for len in 0..whole.len() {
            assert!(Tombstones::decode(&whole[..len]).is_err(), "len {len}");
        }
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 0x80 >> (bit % 8);
            assert!(Tombstones::decode(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn all_of_time_swallows_everything() {
        let mut tombstones = sample();
        tombstones.add(5, Interval::ALL);
        assert_eq!(tombstones.of(5), [Interval::ALL]);
        tombstones.add(5, interval(1, 0));
        assert_eq!(tombstones.n_intervals(), 2);
    }

    proptest! {
        #[test]
        fn intervals_join_when_they_overlap_or_touch(
            adds in prop::collection::vec((0i64..60, 0i64..8), 0..20),
        ) {
            let mut tombstones = Tombstones::new();
            let mut deleted = BTreeSet::new();
            let mut entries = Vec::new();
            for (min, span) in adds {
                tombstones.add(1, interval(min, min + span));
                deleted.extend(min..=min + span);
                put_uvarint(&mut entries, 1);
                put_varint(&mut entries, min);
                put_varint(&mut entries, min + span);
            }
            let of = tombstones.of(1);
            let covered: BTreeSet<i64> = of.iter().flat_map(|i| i.min..=i.max).collect();
            prop_assert_eq!(covered, deleted);
            prop_assert!(of.is_sorted_by(|left, right| left.max + 1 < right.min), "{:?}", of);
            prop_assert_eq!(Tombstones::decode(&tombstones.encode()), Ok(tombstones.clone()));
            // Another writer may have left them as they came.
            let mut foreign = Tombstones::new().encode();
            foreign.truncate(HEADER_BYTES);
            foreign.extend_from_slice(&entries);
            foreign.extend_from_slice(&crc32c(&entries).to_be_bytes());
            prop_assert_eq!(Tombstones::decode(&foreign), Ok(tombstones));
        }
    }
}
