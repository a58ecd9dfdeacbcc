//! A block of the bucket, read in ranges from its first series to its last. Where the bucket is a directory of this machine
//! too: faults of mapped pages take longer than reading does, and what is mapped counts as memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;

use crate::block::{
    BlockError, BlockMeta, BlockSource, CHUNKS_DIR, INDEX_FILE, SeriesIds, TOMBSTONES_FILE,
    TakeRaw, Tombstones,
};
use crate::bucket::{BucketError, keys};
use crate::chunk::{ChunkRef, RawChunk, StoredChunk, decode_chunk};
use crate::compactor::ahead::{PartBytes, ReadAhead, Waiting};
use crate::foundation::checksum::{crc32c, crc32c_append};
use crate::foundation::durable::remove_file;
use crate::foundation::mmap::map_file;
use crate::foundation::{Cursor, Verdict};
use crate::index::{ChunkMeta, HeaderParts, IndexError, IndexHeader, SeriesEntry, Source, Symbols};
use crate::model::BlockId;
use crate::storage::StorageError;

/// Table of contents of an index: its last bytes.
const CONTENTS_BYTES: u64 = 52;
/// Magic number and version of an index: its first bytes.
const START_BYTES: u64 = 5;
/// Longest length field.
const LENGTH_BYTES_MAX: usize = 10;
/// Longest entry that is believed.
const ENTRY_BYTES_MAX: u64 = 256 << 20;
/// Largest tombstones file that is read.
const TOMBSTONES_BYTES_MAX: u64 = 64 << 20;
/// Numbers of series that are looked at at once; a multiple of four.
const IDS_BYTES: u64 = 16 << 10;
/// Copied at once into the header's file.
const COPY_BYTES: u64 = 4 << 20;

/// Opens a block of the bucket whose objects, without the block's name, have these sizes. `scratch` is a directory for the
/// symbols and the table of postings; `part_bytes` are read at once.
pub fn open_source(
    from: &Waiting,
    meta: &BlockMeta,
    files: &BTreeMap<String, u64>,
    scratch: &Path,
    part_bytes: impl Into<PartBytes>,
) -> Result<Box<dyn BlockSource>, BlockError> {
    let source = BucketSource::open(from, meta, files, (scratch, part_bytes.into()))?;
    Ok(Box::new(source))
}

/// A file that goes with its owner.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // The whole directory goes at the next start.
        remove_file(&self.0).ok();
    }
}

/// A block in a bucket that is elsewhere.
#[derive(Debug)]
pub(crate) struct BucketSource {
    from: Waiting,
    meta: BlockMeta,
    /// What errors call the index.
    index_name: String,
    header: IndexHeader,
    index: Mutex<ReadAhead>,
    chunks: RemoteChunks,
    tombstones: Tombstones,
    _scratch: Scratch,
}

impl BucketSource {
    fn open(
        from: &Waiting,
        meta: &BlockMeta,
        files: &BTreeMap<String, u64>,
        (scratch, part_bytes): (&Path, PartBytes),
    ) -> Result<Self, BlockError> {
        let block = meta.ulid;
        let key = keys::in_block(block, INDEX_FILE);
        let index_name = format!("{}/{key}", from.bucket.name());
        let n_bytes = files.get(INDEX_FILE).copied().unwrap_or(0);
        if n_bytes < START_BYTES + CONTENTS_BYTES {
            let problem = format!("an index of {n_bytes} bytes is none");
            return Err(damaged(&index_name, 0, problem));
        }
        let path = scratch.join(format!("{block}.index-header"));
        let copied = Scratch(path.clone());
        copy_header(from, (&key, &index_name), n_bytes, &path)?;
        let mapped = map_file(&path).map_err(|source| file_error(&path, source))?;
        let header = IndexHeader::new(&index_name, mapped)?;
        let tombstones = if files.contains_key(TOMBSTONES_FILE) {
            let key = keys::in_block(block, TOMBSTONES_FILE);
            let name = format!("{}/{key}", from.bucket.name());
            let bytes = from.wait(from.bucket.get(&key, TOMBSTONES_BYTES_MAX));
            let bytes = bytes.map_err(|error| unread(&name, 0, &error))?;
            let decoded = Tombstones::decode(&bytes);
            decoded.map_err(|(offset, problem)| damaged(&name, offset as u64, problem))?
        } else {
            Tombstones::new()
        };
        // Entries of series are read as fast as their chunks, but are far smaller.
        let index = ReadAhead::new(from.clone(), &key, n_bytes, part_bytes.quarter());
        Ok(Self {
            from: from.clone(),
            meta: meta.clone(),
            index_name,
            header,
            index: Mutex::new(index),
            chunks: RemoteChunks::new(from, block, files, part_bytes),
            tombstones,
            _scratch: copied,
        })
    }
}

/// Symbols and table of postings into a file here, part by part.
fn copy_header(
    from: &Waiting,
    (key, name): (&str, &str),
    n_bytes: u64,
    path: &Path,
) -> Result<(), BlockError> {
    let read = |range: std::ops::Range<u64>| {
        let offset = range.start;
        let bytes = from.range(key, range);
        bytes.map_err(|error| unread(name, offset, &error))
    };
    let start = read(0..START_BYTES)?;
    let end = read(n_bytes - CONTENTS_BYTES..n_bytes)?;
    let parts = HeaderParts::new(name, &start, n_bytes, end)?;
    let write = |file: &mut File, bytes: &[u8]| {
        file.write_all(bytes)
            .map_err(|source| file_error(path, source))
    };
    let mut file = File::create(path).map_err(|source| file_error(path, source))?;
    write(&mut file, &parts.encode_start())?;
    for (from, to) in [parts.symbols(), parts.tail()] {
        let mut at = from;
        while at < to {
            let until = at.saturating_add(COPY_BYTES).min(to);
            write(&mut file, &read(at..until)?)?;
            at = until;
        }
    }
    write(&mut file, &parts.encode_end())
}

impl BlockSource for BucketSource {
    fn meta(&self) -> &BlockMeta {
        &self.meta
    }

    fn symbols(&self) -> &Symbols {
        self.header.symbols()
    }

    fn series_ids(&self) -> Result<SeriesIds<'_>, BlockError> {
        let Some(range) = self.header.table().all_series()? else {
            return Ok(Box::new(std::iter::empty()));
        };
        let (n_bytes, part_bytes) = {
            let index = self.index.lock();
            (index.n_bytes(), index.part_bytes())
        };
        let key = keys::in_block(self.meta.ulid, INDEX_FILE);
        let reader = ReadAhead::new(self.from.clone(), &key, n_bytes, part_bytes);
        let ids = RemoteIds::open(reader, range.start)
            .map_err(|flaw| flaw.into_error(&self.index_name, range.start))?;
        let failed = move |flaw: EntryFlaw| flaw.into_error(&self.index_name, range.start);
        Ok(Box::new(ids.map(move |id| id.map_err(failed))))
    }

    fn series(&self, id: u32, entry: &mut SeriesEntry) -> Result<(), BlockError> {
        let offset = self.header.version().series_offset(id);
        let mut index = self.index.lock();
        if let Some((part, place)) = index.at_hand(offset)
            && entry.read_at_hand(part.get(place..).unwrap_or_default())
        {
            return Ok(());
        }
        let bytes = whole_entry(&mut index, offset, 4)
            .map_err(|flaw| flaw.into_error(&self.index_name, offset))?;
        drop(index);
        let part = Source::part(&self.index_name, bytes, offset);
        entry.read(&part, offset)?;
        Ok(())
    }

    fn tombstones(&self) -> &Tombstones {
        &self.tombstones
    }

    fn chunk(&self, at: ChunkRef) -> Result<StoredChunk, BlockError> {
        self.chunks.chunk(at)
    }

    fn touch(&self, _: &[ChunkMeta]) -> u8 {
        // What comes next was brought with what was read before it.
        0
    }

    fn raw_chunks(&self, chunks: &[ChunkMeta], take: &mut TakeRaw<'_>) -> Result<(), BlockError> {
        self.chunks.raw_chunks(chunks, take)
    }

    fn damaged(&self, id: u32, problem: String) -> BlockError {
        damaged(
            &self.index_name,
            self.header.version().series_offset(id),
            problem,
        )
    }
}

/// The list of all series, part by part; its checksum is known at its end.
struct RemoteIds {
    reader: ReadAhead,
    /// Where the next number lies, and where the checksum does.
    at: u64,
    end: u64,
    crc: u32,
    part: Bytes,
    is_done: bool,
}

impl RemoteIds {
    /// A list that begins at `start`: its length, how many there are, the numbers, the checksum.
    fn open(mut reader: ReadAhead, start: u64) -> Result<Self, EntryFlaw> {
        let (frame, n_frame) = reader.peek::<8>(start).map_err(EntryFlaw::Bucket)?;
        let [l0, l1, l2, l3, n0, n1, n2, n3] = frame;
        let len = u64::from(u32::from_be_bytes([l0, l1, l2, l3]));
        let n = u64::from(u32::from_be_bytes([n0, n1, n2, n3]));
        let end = start.saturating_add(4).saturating_add(len);
        if n_frame < 8 || len != 4 + 4 * n || reader.n_bytes() < end.saturating_add(4) {
            return Err(EntryFlaw::Bytes(format!(
                "postings list promises {n} series in {len} bytes"
            )));
        }
        Ok(Self {
            reader,
            at: start + 8,
            end,
            crc: crc32c(&[n0, n1, n2, n3]),
            part: Bytes::new(),
            is_done: false,
        })
    }

    fn advance(&mut self) -> Result<Option<u32>, EntryFlaw> {
        if self.part.is_empty() {
            if self.at == self.end {
                self.is_done = true;
                let stored = self.reader.peek::<4>(self.at).map_err(EntryFlaw::Bucket)?.0;
                let (stored, computed) = (u32::from_be_bytes(stored), self.crc);
                if stored != computed {
                    return Err(EntryFlaw::Bytes(format!(
                        "postings list: checksum is {computed:08x} but {stored:08x} was stored"
                    )));
                }
                return Ok(None);
            }
            let until = self.at.saturating_add(IDS_BYTES).min(self.end);
            self.part = self
                .reader
                .bytes(self.at..until)
                .map_err(EntryFlaw::Bucket)?;
            self.crc = crc32c_append(self.crc, &self.part);
            self.at = until;
        }
        let id = self.part.first_chunk::<4>().copied();
        self.part.advance(4.min(self.part.len()));
        Ok(id.map(u32::from_be_bytes))
    }
}

impl Iterator for RemoteIds {
    type Item = Result<u32, EntryFlaw>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let next = self.advance();
        self.is_done |= next.is_err();
        next.transpose()
    }
}

/// The chunk segments of one block of the bucket, read from front to back.
#[derive(Debug)]
pub struct RemoteChunks {
    from: Waiting,
    block: BlockId,
    /// Sizes by number, from 1.
    segments: BTreeMap<u32, u64>,
    part_bytes: PartBytes,
    open: Mutex<Option<(u32, ReadAhead)>>,
}

impl RemoteChunks {
    /// Those of a block whose objects, without the block's name, have these sizes; `part_bytes` are read at once.
    pub fn new(
        from: &Waiting,
        block: BlockId,
        files: &BTreeMap<String, u64>,
        part_bytes: impl Into<PartBytes>,
    ) -> Self {
        let segments = files.iter().filter_map(|(name, n_bytes)| {
            let number = name.strip_prefix(CHUNKS_DIR)?.strip_prefix('/')?;
            Some((number.parse().ok()?, *n_bytes))
        });
        Self {
            from: from.clone(),
            block,
            segments: segments.collect(),
            part_bytes: part_bytes.into(),
            open: Mutex::new(None),
        }
    }

    fn key(&self, number: u32) -> String {
        keys::in_block(self.block, &format!("{CHUNKS_DIR}/{number:06}"))
    }

    /// Where errors say that something is.
    fn path(&self, number: u32) -> String {
        format!("{}/{}", self.from.bucket.name(), self.key(number))
    }

    /// The reader of the segment that holds `at`, opened where another one was.
    fn reader<'a>(
        &self,
        open: &'a mut Option<(u32, ReadAhead)>,
        at: ChunkRef,
    ) -> Result<(u32, &'a mut ReadAhead), BlockError> {
        let number = at.segment().saturating_add(1);
        if open.as_ref().is_some_and(|(open, _)| *open != number) {
            *open = None;
        }
        let (_, reader) = match open {
            Some(reader) => reader,
            none => {
                let Some(n_bytes) = self.segments.get(&number) else {
                    let problem = "the file is missing".to_owned();
                    return Err(damaged(&self.path(number), u64::from(at.offset()), problem));
                };
                let key = self.key(number);
                let reader = ReadAhead::new(self.from.clone(), &key, *n_bytes, self.part_bytes);
                none.insert((number, reader))
            }
        };
        Ok((number, reader))
    }

    /// The entry at `at` that does not lie whole in what is here, or is damaged.
    fn entry(
        &self,
        reader: &mut ReadAhead,
        at: ChunkRef,
        number: u32,
    ) -> Result<Bytes, BlockError> {
        let offset = u64::from(at.offset());
        // The encoding and the checksum are not counted.
        whole_entry(reader, offset, 5).map_err(|flaw| flaw.into_error(&self.path(number), offset))
    }

    /// One chunk, its checksum verified.
    pub fn chunk(&self, at: ChunkRef) -> Result<StoredChunk, BlockError> {
        let offset = u64::from(at.offset());
        let mut open = self.open.lock();
        let (number, reader) = self.reader(&mut open, at)?;
        // Nearly all chunks lie whole in what is here; what is wrong with the others is found out below.
        if let Some((part, place)) = reader.at_hand(offset)
            && let Ok(chunk) = decode_chunk(part, place)
        {
            return Ok(chunk);
        }
        let bytes = self.entry(reader, at, number)?;
        decode_chunk(&bytes, 0)
            .map_err(|flaw| damaged(&self.path(number), offset, flaw.to_string()))
    }

    fn raw_chunks(&self, chunks: &[ChunkMeta], take: &mut TakeRaw<'_>) -> Result<(), BlockError> {
        let mut open = self.open.lock();
        let mut rest = chunks;
        while let Some(first) = rest.first() {
            let offset = u64::from(first.at.offset());
            let (number, reader) = self.reader(&mut open, first.at)?;
            let mut n_taken = 0;
            if let Some((part, place)) = reader.at_hand(offset) {
                let base = offset - place as u64;
                let is_here = |meta: &&ChunkMeta| meta.at.segment() == first.at.segment();
                for meta in rest.iter().take_while(is_here) {
                    let place = u64::from(meta.at.offset()).checked_sub(base);
                    let place = place.and_then(|place| usize::try_from(place).ok());
                    let chunk = place.and_then(|place| RawChunk::at_hand(part, place));
                    let Some(chunk) = chunk else { break };
                    if !take(meta, &chunk) {
                        return Ok(());
                    }
                    n_taken += 1;
                }
            }
            if n_taken == 0 {
                let bytes = self.entry(reader, first.at, number)?;
                let chunk = RawChunk::read(&bytes, 0)
                    .map_err(|flaw| damaged(&self.path(number), offset, flaw.to_string()))?;
                if !take(first, &chunk) {
                    return Ok(());
                }
                n_taken = 1;
            }
            rest = rest.get(n_taken..).unwrap_or_default();
        }
        Ok(())
    }
}

enum EntryFlaw {
    Bucket(BucketError),
    Bytes(String),
}

impl EntryFlaw {
    fn into_error(self, name: &str, offset: u64) -> BlockError {
        match self {
            Self::Bucket(error) => unread(name, offset, &error),
            Self::Bytes(problem) => damaged(name, offset, problem),
        }
    }
}

/// Something with a length in front, and `more` bytes that the length does not count.
fn whole_entry(reader: &mut ReadAhead, offset: u64, more: u64) -> Result<Bytes, EntryFlaw> {
    let n_bytes = reader.n_bytes();
    let start = reader.peek::<LENGTH_BYTES_MAX>(offset);
    let (start, n_start) = start.map_err(EntryFlaw::Bucket)?;
    if n_start == 0 {
        return Err(EntryFlaw::Bytes(format!(
            "behind the end, which is at {n_bytes}"
        )));
    }
    let mut cursor = Cursor::new(start.get(..n_start).unwrap_or_default());
    let length = cursor.uvarint("length of an entry");
    let length = length.map_err(|short| EntryFlaw::Bytes(short.to_string()))?;
    let end = offset
        .saturating_add(cursor.offset() as u64)
        .saturating_add(length)
        .saturating_add(more);
    if ENTRY_BYTES_MAX < length || n_bytes < end {
        let problem = format!("length {length} goes beyond the end at {n_bytes}");
        return Err(EntryFlaw::Bytes(problem));
    }
    reader.bytes(offset..end).map_err(EntryFlaw::Bucket)
}

fn damaged(name: &str, offset: u64, problem: String) -> BlockError {
    BlockError::Damaged {
        path: PathBuf::from(name),
        offset,
        problem,
    }
}

/// A file that is missing or ends early is damage; a bucket that does not answer is not.
fn unread(name: &str, offset: u64, error: &BucketError) -> BlockError {
    match error.verdict() {
        Verdict::Missing | Verdict::Quarantine => damaged(name, offset, error.chain()),
        Verdict::RetryAfter(_) | Verdict::Refuse => {
            BlockError::Source(StorageError::Unavailable(error.chain()))
        }
    }
}

fn file_error(path: &Path, source: std::io::Error) -> BlockError {
    BlockError::Index(IndexError::File {
        file: path.display().to_string().into(),
        source,
    })
}
