//! Writes the chunk files of a block.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::chunk::error::ChunkError;
use crate::chunk::segment::{
    CHUNK_OVERHEAD_BYTES_MAX, ChunkRef, RawChunk, SEGMENT_HEADER_BYTES, encode_chunk,
    encode_header, file_error,
};
use crate::foundation::buffers::{AlignedBuffer, BLOCK_BYTES};
use crate::foundation::checksum::{crc32c, crc32c_append};
use crate::foundation::durable::{DurableFile, create_dir, sync_dir};
use crate::model::Encoding;

/// A segment is written, and compared with what was written, in parts of this size.
pub const SEGMENT_PART_BYTES: usize = 2 << 20;

/// Bytes that are summed up at once.
const SUMMED_AT_ONCE: usize = 48 << 10;

/// A segment that nothing will be added to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenSegment {
    /// Where it lies.
    pub path: PathBuf,
    /// How long it is.
    pub n_bytes: u64,
    /// Checksums of each [`SEGMENT_PART_BYTES`] of it, as they were handed to the file.
    pub sums: Vec<u32>,
    /// What its largest chunk takes with length and checksum.
    pub chunk_bytes_max: usize,
}

/// Writes the segments of one block, in a directory that nobody else looks at yet.
#[derive(Debug)]
pub struct SegmentWriter {
    dir: PathBuf,
    n_bytes_max: u64,
    is_uncached: bool,
    open: Option<OpenSegment>,
    n_segments: u32,
    /// Closed, and not yet asked for.
    closed: Vec<WrittenSegment>,
    buffer: AlignedBuffer,
    /// What of the buffer waits to be written, what of that is summed up, and the sum.
    n_waiting: usize,
    n_summed: usize,
    sum: u32,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct OpenSegment {
    path: PathBuf,
    file: DurableFile,
    /// With those that wait.
    n_bytes: u64,
    sums: Vec<u32>,
    chunk_bytes_max: usize,
    is_uncached: bool,
}

impl SegmentWriter {
    /// Makes `dir`, which must not be there; the first file comes with the first chunk.
    pub fn create(dir: &Path, n_bytes_max: u64) -> Result<Self, ChunkError> {
        create_dir(dir).map_err(|source| file_error(dir, source))?;
        Ok(Self {
            dir: dir.to_owned(),
            n_bytes_max,
            is_uncached: false,
            open: None,
            n_segments: 0,
            closed: Vec::new(),
            buffer: AlignedBuffer::new(SEGMENT_PART_BYTES)
                .map_err(|source| file_error(dir, source))?,
            n_waiting: 0,
            n_summed: 0,
            sum: crc32c(&[]),
            scratch: Vec::new(),
        })
    }

    /// Leaves the page cache to others, where the file system can: for segments that nobody reads soon.
    #[must_use]
    pub fn uncached(mut self) -> Self {
        self.is_uncached = true;
        self
    }

    /// Adds a chunk, in a new segment when the open one has no room. The first chunk of a segment always fits.
    pub fn write(&mut self, encoding: Encoding, data: &[u8]) -> Result<ChunkRef, ChunkError> {
        let at = self.place(data.len())?;
        let mut entry = std::mem::take(&mut self.scratch);
        entry.clear();
        encode_chunk(&mut entry, encoding, data);
        let put = self.put_chunk(&entry);
        self.scratch = entry;
        put.map(|()| at)
    }

    /// As [`Self::write`], for a chunk that is whole already: its checksum stays what it was.
    pub fn write_raw(&mut self, chunk: &RawChunk<'_>) -> Result<ChunkRef, ChunkError> {
        let at = self.place(chunk.data.len())?;
        self.put_chunk(chunk.entry)?;
        Ok(at)
    }

    fn put_chunk(&mut self, entry: &[u8]) -> Result<(), ChunkError> {
        if let Some(open) = &mut self.open {
            open.chunk_bytes_max = open.chunk_bytes_max.max(entry.len());
        }
        self.put(entry)
    }

    /// Where the next chunk, of so many bytes of data, goes.
    fn place(&mut self, n_data: usize) -> Result<ChunkRef, ChunkError> {
        let n_bytes_most = (n_data + CHUNK_OVERHEAD_BYTES_MAX) as u64;
        let is_full = self.open.as_ref().is_some_and(|open| {
            (SEGMENT_HEADER_BYTES as u64) < open.n_bytes
                && self.n_bytes_max < open.n_bytes + n_bytes_most
        });
        if is_full {
            self.close()?;
        }
        if self.open.is_none() {
            self.open_next()?;
        }
        let Some(open) = &self.open else {
            return Ok(ChunkRef(0));
        };
        let offset = u32::try_from(open.n_bytes).map_err(|_beyond| ChunkError::Damaged {
            path: open.path.clone(),
            offset: open.n_bytes,
            problem: "a chunk reference ends at 4 GiB".to_owned(),
        })?;
        Ok(ChunkRef::new(self.n_segments - 1, offset))
    }

    /// Adds bytes to the open segment.
    fn put(&mut self, mut bytes: &[u8]) -> Result<(), ChunkError> {
        if let Some(open) = &mut self.open {
            open.n_bytes += bytes.len() as u64;
        }
        loop {
            let room = self.buffer.bytes_mut().get_mut(self.n_waiting..);
            let room = room.unwrap_or_default();
            let n = bytes.len().min(room.len());
            let (Some(to), Some((now, later))) = (room.get_mut(..n), bytes.split_at_checked(n))
            else {
                return Ok(());
            };
            to.copy_from_slice(now);
            self.n_waiting += n;
            if SUMMED_AT_ONCE <= self.n_waiting - self.n_summed {
                self.sum_up();
            }
            if later.is_empty() {
                return Ok(());
            }
            bytes = later;
            self.flush()?;
        }
    }

    /// What waits goes to the file, and is one part of it.
    fn flush(&mut self) -> Result<(), ChunkError> {
        self.sum_up();
        let n_waiting = std::mem::take(&mut self.n_waiting);
        self.n_summed = 0;
        let sum = std::mem::replace(&mut self.sum, crc32c(&[]));
        let bytes = self.buffer.bytes().get(..n_waiting).unwrap_or_default();
        match &mut self.open {
            Some(open) if !bytes.is_empty() => open.put_part(bytes, sum),
            _ => Ok(()),
        }
    }

    /// While the processor still has what was put last.
    fn sum_up(&mut self) {
        let new = self.buffer.bytes().get(self.n_summed..self.n_waiting);
        self.sum = crc32c_append(self.sum, new.unwrap_or_default());
        self.n_summed = self.n_waiting;
    }

    /// Segments that were closed since the last call, each on the disk whole: nothing will be added to them.
    pub fn take_closed(&mut self) -> Vec<WrittenSegment> {
        std::mem::take(&mut self.closed)
    }

    /// Makes every byte survive power loss; closes the last segment and names what [`Self::take_closed`] did not.
    pub fn finish(mut self) -> Result<Vec<WrittenSegment>, ChunkError> {
        self.close()?;
        sync_dir(&self.dir).map_err(|source| file_error(&self.dir, source))?;
        Ok(self.closed)
    }

    fn open_next(&mut self) -> Result<(), ChunkError> {
        let path = self.dir.join(format!("{:06}", self.n_segments + 1));
        let file = DurableFile::create_new(&path).map_err(|source| file_error(&path, source))?;
        self.n_segments += 1;
        self.open = Some(OpenSegment {
            is_uncached: self.is_uncached && file.set_uncached(true),
            path,
            file,
            n_bytes: 0,
            sums: Vec::new(),
            chunk_bytes_max: 0,
        });
        self.put(&encode_header())
    }

    fn close(&mut self) -> Result<(), ChunkError> {
        self.flush()?;
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let synced = open.file.sync_all();
        synced.map_err(|source| file_error(&open.path, source))?;
        self.closed.push(WrittenSegment {
            path: open.path,
            n_bytes: open.n_bytes,
            sums: open.sums,
            chunk_bytes_max: open.chunk_bytes_max,
        });
        Ok(())
    }
}

impl OpenSegment {
    /// A part that is not whole is the last one.
    fn put_part(&mut self, bytes: &[u8], sum: u32) -> Result<(), ChunkError> {
        self.sums.push(sum);
        self.write(bytes)
            .map_err(|source| file_error(&self.path, source))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.is_uncached {
            return self.file.write_all(bytes);
        }
        // Whole blocks; behind them the segment ends.
        let (blocks, rest) = bytes.split_at(bytes.len() - bytes.len() % BLOCK_BYTES);
        match self.file.write_all(blocks) {
            // Some disks have larger blocks. They refuse the first ones already.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput && self.sums.len() == 1 => {
                self.is_uncached = false;
                self.file.set_uncached(false);
                self.file.set_len(0)?;
                return self.file.write_all(bytes);
            }
            other => other?,
        }
        if rest.is_empty() {
            return Ok(());
        }
        self.is_uncached = false;
        self.file.set_uncached(false);
        self.file.write_all(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::SegmentReader;

    #[test]
    fn segments_past_the_page_cache_have_the_same_bytes_and_the_sums_of_their_parts() {
        let root = tempfile::tempdir().unwrap();
        let data: Vec<u8> = (0u32..75_000).flat_map(u32::to_le_bytes).collect();
        let write = |name: &str, is_uncached: bool| {
            let mut writer = SegmentWriter::create(&root.path().join(name), 7 << 20).unwrap();
            if is_uncached {
                writer = writer.uncached();
            }
            let mut refs = Vec::new();
            for n in 0..40 {
                refs.push(
                    writer
                        .write(Encoding::Xor, &data[n..data.len() - n])
                        .unwrap(),
                );
            }
            (refs, writer.finish().unwrap())
        };
        let ((cached, plain), (refs, segments)) = (write("cached", false), write("past", true));
        assert_eq!(cached, refs);
        // Three parts and a rest that is no whole block, then two and such a rest.
        let n_sums: Vec<_> = segments.iter().map(|segment| segment.sums.len()).collect();
        assert_eq!(n_sums, [4, 3]);
        for (segment, plain) in segments.iter().zip(plain) {
            let bytes = std::fs::read(&segment.path).unwrap();
            assert!(!bytes.len().is_multiple_of(BLOCK_BYTES));
            assert!(bytes == std::fs::read(&plain.path).unwrap());
            assert_eq!(segment.n_bytes, bytes.len() as u64);
            let sums: Vec<u32> = bytes.chunks(SEGMENT_PART_BYTES).map(crc32c).collect();
            assert_eq!((&segment.sums, &plain.sums), (&sums, &sums));
            assert_eq!(segment.chunk_bytes_max, plain.chunk_bytes_max);
        }
        assert_eq!(segments[0].chunk_bytes_max, 300_000 + 3 + 1 + 4);
        let reader = SegmentReader::open(&root.path().join("past")).unwrap();
        // From one directory into another as they lie there.
        let mut copy = SegmentWriter::create(&root.path().join("copy"), 7 << 20).unwrap();
        for at in &refs {
            assert_eq!(
                copy.write_raw(&reader.raw_chunk(*at).unwrap()).unwrap(),
                *at
            );
        }
        for (copied, segment) in copy.finish().unwrap().iter().zip(&segments) {
            assert_eq!(copied.sums, segment.sums);
        }
    }
}
