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
    part_bytes: u64,
    /// Neighbours, in order.
    parts: VecDeque<(u64, Bytes)>,
    coming: Option<Coming>,
    /// What of the part that is read from was brought to the processor.
    near: Range<u64>,
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.forget_coming();
    }
}

impl ReadAhead {
    pub(crate) fn new(from: Waiting, key: &str, n_bytes: u64, part_bytes: u64) -> Self {
        Self {
            from,
            key: Arc::from(key),
            n_bytes,
            part_bytes: part_bytes.max(1),
            parts: VecDeque::new(),
            coming: None,
            near: 0..0,
        }
    }

    pub(crate) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    pub(crate) fn part_bytes(&self) -> u64 {
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
        Ok(())
    }

    fn end(&self) -> Option<u64> {
        let (base, part) = self.parts.back()?;
        Some(base + part.len() as u64)
    }

    /// The part that holds the byte at `from`; the one behind it is on its way afterwards.
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
        let next = base + part.len() as u64;
        if next < self.n_bytes {
            let range = next..self.part_end(next);
            let (bucket, key) = (Arc::clone(&self.from.bucket), Arc::clone(&self.key));
            let (wanted, buffers) = (range.clone(), self.from.buffers.clone());
            let answer = self
                .from
                .runtime
                .spawn(async move { bucket.get_part(&key, wanted, &buffers).await });
            self.coming = Some((range, answer));
        }
        Ok((base, part))
    }

    /// Where a part that begins at `from` ends: where a block of the disk does.
    fn part_end(&self, from: u64) -> u64 {
        let end = from.saturating_add(self.part_bytes);
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
