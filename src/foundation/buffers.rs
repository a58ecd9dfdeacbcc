//! Memory that begins where disks want it and is used again: fresh pages cost their clearing, large ones most of all.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
#[cfg(target_os = "linux")]
use memmap2::Advice;
use memmap2::MmapMut;
use parking_lot::Mutex;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// What disks transfer is a multiple of this, on disk and in memory.
pub const BLOCK_BYTES: usize = 4096;

/// What the system calls a large page.
#[cfg(target_os = "linux")]
const LARGE_PAGE_BYTES: usize = 2 << 20;

/// What lies idle in one set of buffers, at most.
const IDLE_BYTES_MAX: usize = 16 << 20;

/// Has `file` read and written past the page cache, or through it again. False where its file system does not do that.
pub fn set_uncached(file: &File, is_uncached: bool) -> bool {
    let Ok(flags) = fcntl_getfl(file) else {
        return false;
    };
    let mut wanted = flags;
    wanted.set(OFlags::DIRECT, is_uncached);
    wanted == flags || fcntl_setfl(file, wanted).is_ok()
}

/// Bytes that begin at a multiple of [`BLOCK_BYTES`].
#[derive(Debug)]
pub struct AlignedBuffer(MmapMut);

impl AlignedBuffer {
    /// Room for so many bytes, and a whole number of blocks, all zero. Large ones are large pages where the system has them:
    /// a disk is told of each page.
    pub fn new(n_bytes: usize) -> io::Result<Self> {
        let n_bytes = n_bytes.max(1).next_multiple_of(BLOCK_BYTES);
        let memory = MmapMut::map_anon(n_bytes)?;
        #[cfg(target_os = "linux")]
        if LARGE_PAGE_BYTES <= n_bytes {
            // Without them it works as well.
            memory.advise(Advice::HugePage).ok();
        }
        Ok(Self(memory))
    }

    /// How many bytes there are.
    pub fn capacity(&self) -> usize {
        self.0.len()
    }

    /// All of them.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// All of them, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// Buffers that come back when what was read into them is let go. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Buffers(Arc<Mutex<Vec<AlignedBuffer>>>);

impl Buffers {
    fn take(&self, n_bytes: usize) -> io::Result<AlignedBuffer> {
        let mut idle = self.0.lock();
        // One that is far larger would be held by little.
        let fits = |buffer: &AlignedBuffer| {
            n_bytes <= buffer.capacity() && buffer.capacity() <= n_bytes.saturating_mul(2)
        };
        match idle.iter().rposition(fits) {
            Some(position) => Ok(idle.swap_remove(position)),
            None => AlignedBuffer::new(n_bytes),
        }
    }

    fn give_back(&self, buffer: AlignedBuffer) {
        let mut idle = self.0.lock();
        idle.push(buffer);
        let n_idle = |idle: &[AlignedBuffer]| idle.iter().map(AlignedBuffer::capacity).sum();
        let mut n_bytes: usize = n_idle(&idle);
        while IDLE_BYTES_MAX < n_bytes && !idle.is_empty() {
            n_bytes -= idle.remove(0).capacity();
        }
    }

    /// The bytes of a file in `range`, as far as there are any, read past the page cache where that can be done.
    pub fn read(&self, path: &Path, range: &Range<u64>) -> io::Result<Bytes> {
        let file = File::open(path)?;
        let is_uncached = set_uncached(&file, true);
        let mut lent = Lent {
            buffer: None,
            home: self.clone(),
        };
        let block = BLOCK_BYTES as u64;
        let from = range.start / block * block;
        let Ok(n_wanted) = usize::try_from(range.end.saturating_sub(from)) else {
            return Err(io::ErrorKind::OutOfMemory.into());
        };
        let buffer = lent.buffer.insert(self.take(n_wanted)?);
        let n_blocks_bytes = n_wanted.next_multiple_of(BLOCK_BYTES);
        let into = buffer
            .bytes_mut()
            .get_mut(..n_blocks_bytes)
            .unwrap_or_default();
        let n_read = match read_blocks(&file, from, into) {
            // Some disks have larger blocks.
            Err(error) if is_uncached && error.kind() == io::ErrorKind::InvalidInput => {
                set_uncached(&file, false);
                read_blocks(&file, from, into)?
            }
            other => other?,
        };
        let skipped = usize::try_from(range.start - from).unwrap_or(usize::MAX);
        let end = n_read.min(n_wanted);
        Ok(Bytes::from_owner(lent).slice(skipped.min(end)..end))
    }
}

/// Until the buffer is full or the file ends.
fn read_blocks(file: &File, from: u64, into: &mut [u8]) -> io::Result<usize> {
    let mut n_read = 0;
    while n_read < into.len() {
        let rest = into.get_mut(n_read..).unwrap_or_default();
        match file.read_at(rest, from + n_read as u64) {
            Ok(0) => break,
            Ok(n) => {
                n_read += n;
                // Only the end of a file lies within a block, and behind it nothing may be asked for.
                if !n.is_multiple_of(BLOCK_BYTES) {
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    Ok(n_read)
}

/// A buffer that goes home.
#[derive(Debug)]
struct Lent {
    buffer: Option<AlignedBuffer>,
    home: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], AlignedBuffer::bytes)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.home.give_back(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foundation::durable::replace_file;

    #[test]
    fn any_range_of_a_file_is_read_as_far_as_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("object");
        let content: Vec<u8> = (0u32..5_000).flat_map(u32::to_be_bytes).collect();
        replace_file(&path, &content).unwrap();
        let buffers = Buffers::default();
        for start in [0, 1, 4_095, 4_096, 4_097, 12_288, 19_999, 20_000, 30_000] {
            for len in [0, 1, 4_096, 8_191, 40_000] {
                let end = start + len;
                let there = content.get(start.min(20_000)..end.min(20_000)).unwrap();
                let read = buffers.read(&path, &(start as u64..end as u64)).unwrap();
                assert_eq!(read, there, "{start}..{end}");
            }
        }
        let missing = buffers.read(&dir.path().join("none"), &(0..1));
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn memory_is_used_again_when_the_last_slice_of_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("object");
        replace_file(&path, &[7; 20_000]).unwrap();
        let buffers = Buffers::default();
        let first = buffers.read(&path, &(0..8_192)).unwrap();
        let slice = first.slice(10..20);
        let place = first.as_ptr();
        drop(first);
        let other = buffers.read(&path, &(0..8_192)).unwrap();
        assert_ne!(other.as_ptr(), place, "somebody still looks at it");
        drop(slice);
        assert_eq!(buffers.read(&path, &(0..8_192)).unwrap().as_ptr(), place);
        assert!(place.addr().is_multiple_of(BLOCK_BYTES));
        assert_eq!(buffers.0.lock().len(), 1);
    }

    #[test]
    fn what_lies_idle_is_bounded() {
        let buffers = Buffers::default();
        for _ in 0..20 {
            buffers.give_back(AlignedBuffer::new(1 << 20).unwrap());
        }
        assert_eq!(buffers.0.lock().len(), 16);
    }
}
