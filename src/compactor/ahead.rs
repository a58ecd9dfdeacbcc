//! An object of the bucket that is read from front to back, in large parts, one part ahead.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::bucket::{Bucket, BucketError};
use crate::foundation::buffers::{BLOCK_BYTES, Buffers};

/// A bucket for threads that may wait.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// Which bucket.
    pub bucket: Arc<dyn Bucket>,
    /// Where sockets are waited for; not the caller's own.
    pub runtime: Handle,
    /// Where parts of objects are read into.
    pub(crate) buffers: Buffers,
}

impl Waiting {
    /// Answers come by way of `runtime`.
    pub fn new(bucket: Arc<dyn Bucket>, runtime: Handle) -> Self {
        Self {
            bucket,
            runtime,
            buffers: Buffers::default(),
        }
    }

    /// The same, for a piece of work at whose end its memory is free.
    pub(crate) fn for_work(&self) -> Self {
        Self::new(Arc::clone(&self.bucket), self.runtime.clone())
    }

    pub(crate) fn wait<T>(&self, answer: impl Future<Output = T>) -> T {
        self.runtime.block_on(answer)
    }

    /// These bytes of an object.
    pub fn range(&self, key: &str, range: Range<u64>) -> Result<Bytes, BucketError> {
        self.wait(self.bucket.get_part(key, range, &self.buffers))
    }
}

/// How much is read at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartBytes {
    each: u64,
    /// Of the first part.
    first: u64,
}

impl From<u64> for PartBytes {
    fn from(each: u64) -> Self {
        Self { each, first: each }
    }
}

impl PartBytes {
    /// For one of `n` that are read beside each other: their first parts are of different lengths, so that they do not all
    /// need the next one at the same time.
    pub(crate) fn of_one(self, number: usize, n: usize) -> Self {
        let (number, n) = (number as u64 + 1, n.max(1) as u64);
        Self {
            first: (self.each * number.min(n) / n).max(1),
            ..self
        }
    }

    /// For what is a quarter as large.
    pub(crate) fn quarter(self) -> Self {
        Self {
            each: self.each.div_ceil(4),
            first: self.first.div_ceil(4),
        }
    }
}

/// So much of a part is brought to the processor at once: of a dozen sources it fits the cache of a core.
const NEAR_BYTES: usize = 16 << 10;

/// What the processor gets from memory at once.
const LINE_BYTES: usize = 64;

/// Looks at every line of the first bytes, one behind the other: memory brings them many times faster so than in the order
/// of a merge, which goes from source to source.
fn bring_near(bytes: &[u8]) {
    let lines = bytes.iter().take(NEAR_BYTES).step_by(LINE_BYTES);
    std::hint::black_box(lines.fold(0, |sum, byte| sum ^ byte));
}

/// A range that was asked for.
type Coming = (Range<u64>, JoinHandle<Result<Bytes, BucketError>>);

/// Holds at most two parts and what is asked for across them, and has one more on the way.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    from: Waiting,
    key: Arc<str>,
    n_bytes: u64,
    part_bytes: PartBytes,
    /// Of the next part.
    next_bytes: u64,
    /// A disk of this machine answers soon: the next part is asked for when half of the one before is left, and takes memory
    /// no sooner.
    is_near: bool,
    /// Neighbours, in order.
    parts: VecDeque<(u64, Bytes)>,
    coming: Option<Coming>,
    /// The next part is asked for when this byte is.
    ask_at: u64,
    /// What of the part that is read from was brought to the processor.
    near: Range<u64>,
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.forget_coming();
    }
}

impl ReadAhead {
    pub(crate) fn new(
        from: Waiting,
        key: &str,
        n_bytes: u64,
        part_bytes: impl Into<PartBytes>,
    ) -> Self {
        let part_bytes = part_bytes.into();
        Self {
            is_near: from.bucket.local_path(key).is_some(),
            from,
            key: Arc::from(key),
            n_bytes,
            next_bytes: part_bytes.first,
            part_bytes,
            parts: VecDeque::new(),
            coming: None,
            ask_at: u64::MAX,
            near: 0..0,
        }
    }

    pub(crate) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    pub(crate) fn part_bytes(&self) -> PartBytes {
        self.part_bytes
    }

    /// These bytes, which the object must have.
    pub(crate) fn bytes(&mut self, range: Range<u64>) -> Result<Bytes, BucketError> {
        if range.end <= range.start {
            return Ok(Bytes::new());
        }
        self.hold(&range)?;
        Ok(self.joined(&range))
    }

    /// The part that holds the byte at `offset`, where it is here already, and the byte's place in it.
    pub(crate) fn at_hand(&mut self, offset: u64) -> Option<(&Bytes, usize)> {
        loop {
            let (base, part) = self.parts.front()?;
            let place = usize::try_from(offset.checked_sub(*base)?).ok()?;
            if place < part.len() {
                break;
            }
            self.parts.pop_front();
        }
        if self.ask_at <= offset {
            self.ask();
        }
        let (base, part) = self.parts.front()?;
        let place = usize::try_from(offset.checked_sub(*base)?).ok()?;
        if !self.near.contains(&offset) {
            self.near = offset..offset.saturating_add(NEAR_BYTES as u64);
            bring_near(part.get(place..).unwrap_or_default());
        }
        Some((part, place))
    }

    /// At most `N` bytes from `offset` on, and how many there are.
    pub(crate) fn peek<const N: usize>(
        &mut self,
        offset: u64,
    ) -> Result<([u8; N], usize), BucketError> {
        let mut start = [0; N];
        let range = offset..offset.saturating_add(N as u64).min(self.n_bytes);
        if range.end <= range.start {
            return Ok((start, 0));
        }
        self.hold(&range)?;
        let mut n = 0;
        let parts = self.parts.iter().flat_map(|(base, part)| {
            let skipped = usize::try_from(offset.saturating_sub(*base)).unwrap_or(usize::MAX);
            part.get(skipped..).unwrap_or_default()
        });
        for (to, from) in start.iter_mut().zip(parts) {
            *to = *from;
            n += 1;
        }
        Ok((start, n))
    }

    /// Reads as far as `range` goes, and forgets what lies before it.
    fn hold(&mut self, range: &Range<u64>) -> Result<(), BucketError> {
        if self.n_bytes < range.end {
            return Err(BucketError::Short {
                bucket: self.from.bucket.name().to_owned(),
                key: self.key.as_ref().to_owned(),
                offset: range.start,
                need: range.end - range.start,
                have: self.n_bytes.saturating_sub(range.start),
            });
        }
        while self
            .parts
            .front()
            .is_some_and(|(base, part)| base + part.len() as u64 <= range.start)
        {
            self.parts.pop_front();
        }
        if self
            .parts
            .front()
            .is_some_and(|(base, _)| range.start < *base)
        {
            self.parts.clear();
        }
        while self.end().is_none_or(|end| end < range.end) {
            let from = self.end().unwrap_or(range.start);
            let part = self.part(from)?;
            self.parts.push_back(part);
        }
        if self.ask_at < range.end {
            self.ask();
        }
        Ok(())
    }

    fn end(&self) -> Option<u64> {
        let (base, part) = self.parts.back()?;
        Some(base + part.len() as u64)
    }

    /// The part that holds the byte at `from`.
    fn part(&mut self, from: u64) -> Result<(u64, Bytes), BucketError> {
        let is_coming = self
            .coming
            .as_ref()
            .is_some_and(|(range, _)| range.contains(&from));
        let (base, part) = match self.coming.take() {
            Some((range, answer)) if is_coming => {
                let key = Arc::clone(&self.key);
                let bucket = self.from.bucket.name().to_owned();
                let answer = self.from.wait(answer);
                let answer = answer.map_err(|source| BucketError::Unavailable {
                    bucket,
                    action: "read",
                    key: key.as_ref().to_owned(),
                    source: Box::new(source),
                })?;
                (range.start, answer?)
            }
            other => {
                if let Some((_, unwanted)) = other {
                    unwanted.abort();
                }
                (from, self.from.range(&self.key, from..self.part_end(from))?)
            }
        };
        self.next_bytes = self.part_bytes.each;
        let n_part = part.len() as u64;
        self.ask_at = if self.is_near {
            base + n_part / 2
        } else {
            base
        };
        Ok((base, part))
    }

    /// Has the part behind what is here come, if there is one and it is not on its way.
    fn ask(&mut self) {
        self.ask_at = u64::MAX;
        let Some(next) = self.end().filter(|end| *end < self.n_bytes) else {
            return;
        };
        if self.coming.is_some() {
            return;
        }
        let range = next..self.part_end(next);
        let (bucket, key) = (Arc::clone(&self.from.bucket), Arc::clone(&self.key));
        let (wanted, buffers) = (range.clone(), self.from.buffers.clone());
        let answer = async move { bucket.get_part(&key, wanted, &buffers).await };
        let runtime = &self.from.runtime;
        let answer = if self.is_near {
            // A directory is read by the thread that asks: one is woken for a part, and not one by the other.
            let here = runtime.clone();
            runtime.spawn_blocking(move || here.block_on(answer))
        } else {
            runtime.spawn(answer)
        };
        self.coming = Some((range, answer));
    }

    /// Where a part that begins at `from` ends: where a block of the disk does.
    fn part_end(&self, from: u64) -> u64 {
        let end = from.saturating_add(self.next_bytes.max(1));
        let rounded = end - end % BLOCK_BYTES as u64;
        let end = if from < rounded { rounded } else { end };
        end.min(self.n_bytes)
    }

    /// A slice of one part, or a copy from several.
    fn joined(&self, range: &Range<u64>) -> Bytes {
        let within = |base: u64, part: &Bytes| {
            let at =
                |offset: u64| usize::try_from(offset.saturating_sub(base)).unwrap_or(usize::MAX);
            at(range.start).min(part.len())..at(range.end).min(part.len())
        };
        match self.parts.front() {
            Some((base, part)) if range.end <= base + part.len() as u64 => {
                part.slice(within(*base, part))
            }
            _ => {
                let mut joined = Vec::new();
                for (base, part) in &self.parts {
                    let piece = within(*base, part);
                    joined.extend_from_slice(part.get(piece).unwrap_or_default());
                }
                Bytes::from(joined)
            }
        }
    }

    fn forget_coming(&mut self) {
        if let Some((_, unwanted)) = self.coming.take() {
            unwanted.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::{BucketKind, BucketSettings, StoreBucket, open};
    use tokio::runtime::Runtime;

    /// A directory, and a bucket that is none.
    fn near_and_far(dir: &std::path::Path) -> [Arc<dyn Bucket>; 2] {
        let kind = BucketKind::Filesystem {
            directory: dir.to_owned(),
        };
        let prefix = String::new();
        let near = open(&BucketSettings { kind, prefix }).unwrap();
        [near, Arc::new(StoreBucket::in_memory())]
    }

    fn content() -> Vec<u8> {
        (0u32..50_000).flat_map(u32::to_be_bytes).collect()
    }

    #[test]
    fn a_disk_is_asked_for_the_next_part_when_half_of_the_one_before_is_left() {
        let (runtime, dir) = (Runtime::new().unwrap(), tempfile::tempdir().unwrap());
        let content = content();
        for (bucket, is_near) in near_and_far(dir.path()).into_iter().zip([true, false]) {
            runtime
                .block_on(bucket.put("a", content.clone().into()))
                .unwrap();
            let from = Waiting::new(bucket, runtime.handle().clone());
            let mut reader = ReadAhead::new(from, "a", content.len() as u64, 40_960);
            assert_eq!(reader.bytes(0..10).unwrap(), content[..10]);
            assert_eq!(reader.coming.is_some(), !is_near);
            assert!(reader.at_hand(20_479).is_some());
            assert_eq!(reader.coming.is_some(), !is_near);
            assert!(reader.at_hand(20_480).is_some());
            let (range, _) = reader.coming.as_ref().unwrap();
            assert_eq!(*range, 40_960..81_920);
            // What is read whole needs the next one now.
            assert_eq!(
                reader.bytes(40_950..81_920).unwrap(),
                content[40_950..81_920]
            );
            let (range, _) = reader.coming.as_ref().unwrap();
            assert_eq!(*range, 81_920..122_880);
            assert_eq!(reader.bytes(199_990..200_000).unwrap(), content[199_990..]);
            assert!(reader.coming.is_none(), "there is no next one");
        }
    }

    #[test]
    fn those_read_beside_each_other_need_their_next_parts_at_different_times() {
        let (runtime, dir) = (Runtime::new().unwrap(), tempfile::tempdir().unwrap());
        let content = content();
        for bucket in near_and_far(dir.path()) {
            runtime
                .block_on(bucket.put("a", content.clone().into()))
                .unwrap();
            let from = Waiting::new(bucket, runtime.handle().clone());
            let firsts = (0..4).map(|number| {
                let part_bytes = PartBytes::from(32_768).of_one(number, 4);
                let n_bytes = content.len() as u64;
                let mut reader = ReadAhead::new(from.clone(), "a", n_bytes, part_bytes);
                let mut ends = Vec::new();
                for (number, piece) in content.chunks(100).enumerate() {
                    let at = number as u64 * 100;
                    assert_eq!(reader.bytes(at..at + 100).unwrap(), piece);
                    ends.extend(reader.end());
                }
                ends.dedup();
                let sizes: Vec<u64> = ends.windows(2).map(|two| two[1] - two[0]).collect();
                let (_, all) = sizes.split_last().unwrap();
                assert!(all.iter().all(|size| *size == 32_768), "{ends:?}");
                ends[0]
            });
            assert_eq!(firsts.collect::<Vec<_>>(), [8_192, 16_384, 24_576, 32_768]);
        }
    }
}
