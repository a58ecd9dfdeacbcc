//! What keeps the number of objects small: parts are joined, and logs that nobody writes any more go.

use std::ops::Range;

use crate::bucket::Bucket;
use crate::foundation::checksum::crc32c;
use crate::model::{BlockId, TimestampMs};
use crate::shipper::error::ShipError;
use crate::shipper::log::names::{self, Part};

/// So many small parts that follow one another become one.
const PARTS_MIN: usize = 64;
/// A part that is larger is left alone: its bytes would be sent again and again.
const SMALL_BYTES: u64 = 1 << 20;
/// Largest part that is made of others.
const JOINED_BYTES_MAX: u64 = 8 << 20;
/// Parts stay so long beside the one that has their bytes: a restore may have begun that knows of them only.
pub(crate) const JOINED_FOR_MS: i64 = 10 * 60_000;
/// How often logs that nobody writes are looked for, and how often a log says that somebody still has it.
pub(crate) const LOOK_EVERY_MS: i64 = 24 * 3_600_000;

/// Which of the parts of a file become one: the first that are enough of them.
pub(crate) fn joinable(parts: &[Part]) -> Option<Range<usize>> {
    let mut run = 0..0;
    let mut n_bytes = 0;
    for (at, part) in parts.iter().enumerate() {
        let is_small = part.n_bytes <= SMALL_BYTES;
        if !is_small || JOINED_BYTES_MAX < n_bytes + part.n_bytes {
            if PARTS_MIN <= run.len() {
                return Some(run);
            }
            run = at..at;
            n_bytes = 0;
        }
        if is_small {
            run.end = at + 1;
            n_bytes += part.n_bytes;
        } else {
            run = at + 1..at + 1;
        }
    }
    (PARTS_MIN <= run.len()).then_some(run)
}

/// The part that has the bytes of all of `parts`; `None` where `bytes` are not theirs.
pub(crate) fn joined(parts: &[Part], bytes: &[u8]) -> Option<Part> {
    let (first, last) = (parts.first()?, parts.last()?);
    let mut rest = bytes;
    for part in parts {
        let (own, behind) = rest.split_at_checked(usize::try_from(part.n_bytes).ok()?)?;
        if crc32c(own) != part.crc32c {
            return None;
        }
        rest = behind;
    }
    rest.is_empty().then(|| Part {
        offset: first.offset,
        n_bytes: bytes.len() as u64,
        crc32c: crc32c(bytes),
        is_last: last.is_last,
    })
}

/// Of the keys of a file those of parts whose bytes are in one of `parts` too.
pub(crate) fn covered<'a>(
    keys: &'a [String],
    parts: &'a [Part],
) -> impl Iterator<Item = &'a String> {
    keys.iter().filter(|key| {
        let name = key.rsplit('/').next().unwrap_or_default();
        let Some(part) = Part::parse(name) else {
            return false;
        };
        let has_it = |other: &Part| other.offset <= part.offset && part.end() <= other.end();
        !parts.contains(&part) && parts.iter().any(has_it)
    })
}

/// Of the keys of a file those of parts that do not follow from its start: one before them is not there.
pub(crate) fn stray<'a>(keys: &'a [String], parts: &'a [Part]) -> impl Iterator<Item = &'a String> {
    let end = parts.last().map_or(0, Part::end);
    keys.iter().filter(move |key| {
        let name = key.rsplit('/').next().unwrap_or_default();
        Part::parse(name).is_some_and(|part| end < part.end() && !parts.contains(&part))
    })
}

/// Removes logs of other hosts than `own` to which nothing was added for `kept_ms`; says which.
///
/// Whoever has a log writes its state once a day.
pub(crate) async fn remove_abandoned(
    bucket: &dyn Bucket,
    own: BlockId,
    (now_ms, kept_ms): (TimestampMs, i64),
) -> Result<Vec<BlockId>, ShipError> {
    let in_bucket = |cause| ShipError::LogBucket { cause };
    let listed = bucket.list(names::ROOT).await.map_err(in_bucket)?;
    let mut removed = Vec::new();
    for instance in names::instances(&listed) {
        let dir = format!("{}/", names::instance_dir(instance));
        let objects = || listed.iter().filter(|info| info.key.starts_with(&dir));
        let newest_ms = objects()
            .map(|info| info.modified_ms)
            .max()
            .unwrap_or(now_ms);
        if instance == own || now_ms <= newest_ms.saturating_add(kept_ms) {
            continue;
        }
        // Without it nothing of the log can be restored, so that nobody gets half of it.
        let state = names::state_key(instance);
        if objects().any(|info| info.key == state) {
            bucket.delete(&state).await.map_err(in_bucket)?;
        }
        for info in objects().filter(|info| info.key != state) {
            bucket.delete(&info.key).await.map_err(in_bucket)?;
        }
        tracing::warn!(%instance, newest_ms, "a log that nobody has written for long was removed from the bucket");
        removed.push(instance);
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(lengths: &[u64]) -> Vec<Part> {
        let mut offset = 0;
        let part = |n_bytes: &u64| {
            let part = Part {
                offset,
                n_bytes: *n_bytes,
                crc32c: crc32c(&vec![7; usize::try_from(*n_bytes).unwrap()]),
                is_last: false,
            };
            offset += n_bytes;
            part
        };
        lengths.iter().map(part).collect()
    }

    #[test]
    fn so_many_small_parts_in_a_row_become_one() {
        let check = |lengths: &[u64], expect| assert_eq!(joinable(&parts(lengths)), expect);
        check(&[10; 63], None);
        check(&[10; 64], Some(0..64));
        check(&[&[10; 40][..], &[2 << 20], &[10; 40]].concat(), None);
        check(
            &[&[10; 40][..], &[2 << 20], &[10; 70]].concat(),
            Some(41..111),
        );
        check(&[&[2 << 20][..], &[10; 64]].concat(), Some(1..65));
        // No more than fit into one.
        check(&[100_000; 200], Some(0..83));
        check(&[1 << 20; 200], None);
    }

    #[test]
    fn a_joined_part_has_the_bytes_of_its_parts_or_is_not_made() {
        let mut all = parts(&[3, 4, 0]);
        all[2].is_last = true;
        let one = joined(&all, &[7; 7]).unwrap();
        assert_eq!((one.offset, one.n_bytes, one.is_last), (0, 7, true));
        assert_eq!(one.crc32c, crc32c(&[7; 7]));
        assert_eq!(joined(&all, &[7, 7, 7, 7, 7, 8, 7]), None);
        assert_eq!(joined(&all, &[7; 8]), None);
        assert_eq!(joined(&all, &[7; 6]), None);
        let keys: Vec<String> = all
            .iter()
            .map(|part| format!("a/{}", part.name()))
            .collect();
        assert_eq!(covered(&keys, &[one]).count(), 3);
        assert_eq!(covered(&keys, &all).count(), 0);
        assert_eq!(covered(&keys, &all[1..]).count(), 0);
    }
}
