//! `chunks_head/000001` …: closed chunks in mapped files, in Prometheus' format.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::chunk::{
    HEAD_CHUNK_OUT_OF_ORDER, HEAD_CHUNK_OVERHEAD_BYTES_MAX, HEAD_FILE_HEADER_BYTES, HeadChunk,
    check_head_file_header, encode_head_file_header,
};
use crate::foundation::Cursor;
use crate::foundation::checksum::crc32c;
use crate::foundation::durable::{DurableFile, create_dirs, remove_file, rename_durably, sync_dir};
use crate::foundation::mmap::{map_file, map_file_ahead};
use crate::head::HeadError;
use crate::head::series::MappedChunk;
use crate::model::{Encoding, TimestampMs};

/// Nearly all chunks have more bytes than this.
const CHUNK_BYTES_FEW: usize = 128;
/// So many bytes before the end of the files are compared.
const TAIL_BYTES: usize = 4 << 10;

/// The chunk files of one head.
pub(crate) struct ChunkFiles {
    dir: PathBuf,
    file_bytes_max: u64,
    /// Sorted by number.
    mapped: RwLock<Vec<(u32, Bytes)>>,
    writer: Mutex<Writer>,
}

struct Writer {
    /// What each file has.
    written: BTreeMap<u32, Written>,
    /// Chunks in `buffer`.
    n_buffered: u64,
    /// The file being written, none until the first chunk comes.
    active: Option<Active>,
    next_number: u32,
    buffer: Vec<u8>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Written {
    n_bytes: u64,
    n_chunks: u64,
}

struct Active {
    number: u32,
    path: PathBuf,
    file: DurableFile,
    len: u64,
}

/// How far the files go, and what is in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunksEnd {
    pub(crate) last: u32,
    /// Of the last file.
    pub(crate) n_bytes: u64,
    /// In all files.
    pub(crate) n_chunks: u64,
    /// Of the last [`TAIL_BYTES`].
    pub(crate) tail_crc: u32,
}

/// A chunk of samples that came in order, as it was found in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FoundChunk {
    series: u64,
    pub(crate) chunk: MappedChunk,
    pub(crate) encoding: Encoding,
    /// Length of its data.
    pub(crate) n_bytes: u32,
}

/// Chunks by the numbers of their series.
#[derive(Debug, Default)]
pub(crate) struct FoundBySeries {
    /// Those of one series together, in the order of the files.
    sorted: Vec<FoundChunk>,
    /// Behind the series that was asked for last: mostly the next one follows.
    next: usize,
}

impl FoundBySeries {
    /// The chunks of one series, in the order of the files.
    pub(crate) fn of(&mut self, series: u64) -> &[FoundChunk] {
        let is_of_it = |found: &FoundChunk| found.series == series;
        let begin = match self.sorted.get(self.next) {
            Some(next) if is_of_it(next) => self.next,
            _ => self.sorted.partition_point(|found| found.series < series),
        };
        let rest = self.sorted.get(begin..).unwrap_or_default();
        let n = rest.iter().take_while(|found| is_of_it(found)).count();
        if 0 < n {
            self.next = begin + n;
        }
        rest.get(..n).unwrap_or_default()
    }
}

/// What was found in the files.
#[derive(Debug, Default)]
pub(crate) struct FoundChunks {
    pub(crate) chunks: FoundBySeries,
    /// All that were readable.
    pub(crate) n_chunks: u64,
    /// Chunks whose samples came out of order and their series, by file and offset.
    pub(crate) out_of_order:
        HashMap<(u32, u32), (u64, MappedChunk, Encoding), foldhash::fast::RandomState>,
    /// Files that were cut or set aside.
    pub(crate) n_corruptions: u64,
    /// The largest series number seen.
    pub(crate) series_max: u64,
}

/// One chunk to be written.
pub(crate) struct ChunkToWrite {
    pub(crate) series: u64,
    pub(crate) min_t: TimestampMs,
    pub(crate) max_t: TimestampMs,
    pub(crate) is_out_of_order: bool,
    pub(crate) encoding: Encoding,
    pub(crate) data: Bytes,
}

impl std::fmt::Debug for ChunkFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChunkFiles")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

fn file_name(number: u32) -> String {
    format!("{number:06}")
}

impl ChunkFiles {
    /// Opens what is there. A damaged entry ends its file, and later files move into `quarantine`: all their samples
    /// are in the log too.
    pub(crate) fn open(
        dir: &Path,
        file_bytes_max: u64,
        quarantine: &Path,
    ) -> Result<(Self, FoundChunks), HeadError> {
        create_dirs(dir).map_err(HeadError::io("create", dir))?;
        let mut found = FoundChunks::default();
        let mut mapped = Vec::new();
        let mut expected = None;
        let mut is_broken = false;
        for (number, path) in list(dir)? {
            if is_broken || expected.is_some_and(|expected| expected != number) {
                tracing::warn!(path = %path.display(), "head chunk file lies behind a damage or a gap; its samples come from the log");
                set_aside(&path, quarantine)?;
                is_broken = true;
                found.n_corruptions += 1;
                continue;
            }
            expected = number.checked_add(1);
            let bytes = map_file(&path).map_err(HeadError::io("map", &path))?;
            if bytes
                .iter()
                .take(HEAD_FILE_HEADER_BYTES)
                .all(|byte| *byte == 0)
            {
                // Made and never written, as after a crash.
                remove_file(&path).map_err(HeadError::io("remove", &path))?;
                expected = Some(number);
                continue;
            }
            let end = found.read(number, &bytes);
            if let Err((end, reason)) = end {
                tracing::warn!(path = %path.display(), offset = end, reason, "damaged head chunk file; its samples come from the log");
                drop(bytes);
                set_aside(&path, quarantine)?;
                found.forget(number);
                is_broken = true;
                found.n_corruptions += 1;
                continue;
            }
            mapped.push((number, bytes));
        }
        let mut written: BTreeMap<u32, Written> = BTreeMap::new();
        for (number, bytes) in &mapped {
            written.entry(*number).or_default().n_bytes = bytes.len() as u64;
        }
        for number in found.files() {
            written.entry(number).or_default().n_chunks += 1;
        }
        // They lie in runs of ascending numbers, which is soon sorted.
        found.chunks.sorted.sort_by_key(|found| found.series);
        let next_number = mapped
            .last()
            .map_or(1, |(number, _)| number.saturating_add(1));
        let files = Self {
            dir: dir.to_owned(),
            file_bytes_max,
            mapped: RwLock::new(mapped),
            writer: Mutex::new(Writer {
                written,
                n_buffered: 0,
                active: None,
                next_number,
                buffer: Vec::new(),
            }),
        };
        Ok((files, found))
    }

    /// Encoding and bytes of a chunk.
    pub(crate) fn chunk(&self, file: u32, offset: u32) -> Option<(Encoding, Bytes)> {
        let mapped = self.mapped.read();
        let at = mapped
            .binary_search_by_key(&file, |(number, _)| *number)
            .ok()?;
        let (_, bytes) = mapped.get(at)?;
        // Checked when the file was opened or written: reference, times, encoding, length, data.
        let mut cursor = Cursor::new(bytes.get(usize::try_from(offset).ok()? + 24..)?);
        let encoding = Encoding::from_byte(cursor.u8("encoding").ok()? & !HEAD_CHUNK_OUT_OF_ORDER)?;
        let data = cursor.uvarint_bytes("chunk data").ok()?;
        Some((encoding, bytes.slice_ref(data)))
    }

    /// Does a chunk from `min_t` to `max_t` lie there? Whoever has its place from elsewhere asks before reading it.
    pub(crate) fn has(&self, chunk: &MappedChunk) -> bool {
        let mapped = self.mapped.read();
        let at = mapped.binary_search_by_key(&chunk.file, |(number, _)| *number);
        let here = at
            .ok()
            .and_then(|at| mapped.get(at))
            .and_then(|(_, bytes)| {
                let entry = bytes.get(usize::try_from(chunk.offset).ok()?..)?;
                let mut cursor = Cursor::new(entry);
                cursor.u64_be("series").ok()?;
                let min_t = cursor.i64_be("first time").ok()?;
                Some((min_t, cursor.i64_be("last time").ok()?))
            });
        here == Some((chunk.min_t, chunk.max_t))
    }

    /// Writes `chunks` in order and says where they lie.
    pub(crate) fn write(&self, chunks: &[ChunkToWrite]) -> Result<Vec<(u32, u32)>, HeadError> {
        let mut writer = self.writer.lock();
        let mut places = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let len = (chunk.data.len() + HEAD_CHUNK_OVERHEAD_BYTES_MAX) as u64;
            let used = writer
                .active
                .as_ref()
                .map(|a| a.len + writer.buffer.len() as u64);
            if used.is_none_or(|used| used + len > self.file_bytes_max && used > 8) {
                writer.flush()?;
                self.next_file(&mut writer, len)?;
            }
            let Writer { active, buffer, .. } = &mut *writer;
            let Some(active) = active else {
                return Err(HeadError::ChunkFiles("no file is open".to_owned()));
            };
            if active.len == 0 && buffer.is_empty() {
                buffer.extend_from_slice(&encode_head_file_header());
            }
            let offset = active.len + buffer.len() as u64;
            let offset = u32::try_from(offset)
                .map_err(|_too_far| HeadError::ChunkFiles(format!("offset {offset}")))?;
            places.push((active.number, offset));
            let entry = HeadChunk {
                series_ref: chunk.series,
                min_t: chunk.min_t,
                max_t: chunk.max_t,
                is_out_of_order: chunk.is_out_of_order,
                encoding: chunk.encoding,
                data: chunk.data.clone(),
            };
            entry.encode(&mut writer.buffer);
            writer.n_buffered += 1;
        }
        writer.flush()?;
        Ok(places)
    }

    /// The file before is safe before the next begins: were it lost and the next not, the chunks behind the hole would
    /// hide the samples of the log that fill it.
    fn next_file(&self, writer: &mut Writer, entry_len: u64) -> Result<(), HeadError> {
        if let Some(last) = writer.next_number.checked_sub(1).filter(|last| 0 < *last) {
            let path = self.dir.join(file_name(last));
            match DurableFile::open(&path).and_then(|file| file.sync_data()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(HeadError::io("sync", &path)(error));
                }
                Ok(()) | Err(_) => (),
            }
        }
        let number = writer.next_number;
        let path = self.dir.join(file_name(number));
        let file = DurableFile::create_new(&path).map_err(HeadError::io("create", &path))?;
        sync_dir(&self.dir).map_err(HeadError::io("sync", &self.dir))?;
        let len = self.file_bytes_max.max(entry_len + 8);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let bytes = map_file_ahead(file.as_file(), len).map_err(HeadError::io("map", &path))?;
        self.mapped.write().push((number, bytes));
        writer.next_number = number.saturating_add(1);
        writer.active = Some(Active {
            number,
            path,
            file,
            len: 0,
        });
        Ok(())
    }

    /// The file the next chunk goes to, at the lowest; what is written from now on lies there or behind it.
    pub(crate) fn write_position(&self) -> u32 {
        let writer = self.writer.lock();
        writer
            .active
            .as_ref()
            .map_or(writer.next_number, |active| active.number)
    }

    /// Where the files end, which need not be safe yet. `None` where there are none.
    pub(crate) fn end(&self) -> Option<ChunksEnd> {
        let writer = self.writer.lock();
        let mapped = self.mapped.read();
        let (first, (last, bytes)) = (mapped.first()?.0, mapped.last()?);
        // What is mapped goes on behind the end of a file that is written to.
        let n_bytes = writer.written.get(last).map_or(0, |last| last.n_bytes);
        let n_chunks = writer.written.range(first..=*last);
        Some(ChunksEnd {
            last: *last,
            n_bytes,
            n_chunks: n_chunks.map(|(_, written)| written.n_chunks).sum(),
            tail_crc: tail_crc(bytes, n_bytes)?,
        })
    }

    /// Do the files, as they were opened, hold what they held when they ended there?
    pub(crate) fn has_all(&self, end: &ChunksEnd, found: &FoundChunks) -> bool {
        let mapped = self.mapped.read();
        let last = mapped.iter().find(|(number, _)| *number == end.last);
        let ends =
            last.is_some_and(|(_, bytes)| tail_crc(bytes, end.n_bytes) == Some(end.tail_crc));
        ends && found.n_chunks_before((end.last, end.n_bytes)) == end.n_chunks
    }

    /// Removes files below `first`; the caller has seen that no chunk in them is wanted.
    pub(crate) fn remove_before(&self, first: u32) -> Result<(), HeadError> {
        let mut removed = Vec::new();
        self.mapped.write().retain(|(number, _)| {
            let stays = *number >= first;
            if !stays {
                removed.push(*number);
            }
            stays
        });
        for number in removed {
            let path = self.dir.join(file_name(number));
            remove_file(&path).map_err(HeadError::io("remove", &path))?;
        }
        Ok(())
    }

    /// Bytes of all files.
    pub(crate) fn n_bytes(&self) -> u64 {
        list(&self.dir)
            .unwrap_or_default()
            .iter()
            .filter_map(|(_, path)| fs::metadata(path).ok())
            .map(|metadata| metadata.len())
            .sum()
    }
}

impl Writer {
    fn flush(&mut self) -> Result<(), HeadError> {
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        let result = active.file.write_all(&self.buffer);
        let n_bytes = self.buffer.len() as u64;
        self.buffer.clear();
        let n_chunks = std::mem::take(&mut self.n_buffered);
        if let Err(source) = result {
            let path = active.path.clone();
            if active.file.set_len(active.len).is_err() {
                // What lies behind the last good entry is unknown: the next chunk goes to a new file.
                self.active = None;
            }
            return Err(HeadError::io("write", &path)(source));
        }
        active.len += n_bytes;
        let written = self.written.entry(active.number).or_default();
        written.n_bytes = active.len;
        written.n_chunks += n_chunks;
        Ok(())
    }
}

impl FoundChunks {
    fn read(&mut self, number: u32, bytes: &Bytes) -> Result<(), (usize, String)> {
        check_head_file_header(bytes).map_err(|error| (0, error.to_string()))?;
        let mut offset = HEAD_FILE_HEADER_BYTES;
        // Memory that is not written costs nothing, and memory that is moved does.
        self.chunks.sorted.reserve(bytes.len() / CHUNK_BYTES_FEW);
        loop {
            match HeadChunk::decode(bytes, offset) {
                Ok(Some((chunk, next))) => {
                    let place = u32::try_from(offset).map_err(|e| (offset, e.to_string()))?;
                    self.add(&chunk, number, place);
                    offset = next;
                }
                Ok(None) => return Ok(()),
                Err(error) => return Err((offset, error.to_string())),
            }
        }
    }

    fn add(&mut self, chunk: &HeadChunk, file: u32, offset: u32) {
        self.n_chunks += 1;
        self.series_max = self.series_max.max(chunk.series_ref);
        let place = MappedChunk {
            min_t: chunk.min_t,
            max_t: chunk.max_t,
            file,
            offset,
        };
        if chunk.is_out_of_order {
            self.out_of_order
                .insert((file, offset), (chunk.series_ref, place, chunk.encoding));
            return;
        }
        self.chunks.sorted.push(FoundChunk {
            series: chunk.series_ref,
            chunk: place,
            encoding: chunk.encoding,
            n_bytes: u32::try_from(chunk.data.len()).unwrap_or(u32::MAX),
        });
    }

    /// The file of each chunk.
    fn files(&self) -> impl Iterator<Item = u32> {
        let in_order = self.chunks.sorted.iter().map(|found| found.chunk.file);
        in_order.chain(self.out_of_order.keys().map(|(file, _)| *file))
    }

    /// How many chunks lie before this byte of that file.
    fn n_chunks_before(&self, end: (u32, u64)) -> u64 {
        let in_order = self.chunks.sorted.iter();
        let in_order = in_order.map(|found| (found.chunk.file, found.chunk.offset));
        let all = in_order.chain(self.out_of_order.keys().copied());
        all.filter(|(file, offset)| (*file, u64::from(*offset)) < end)
            .count() as u64
    }

    fn forget(&mut self, file: u32) {
        let is_elsewhere = |found: &FoundChunk| found.chunk.file != file;
        self.chunks.sorted.retain(is_elsewhere);
        self.out_of_order.retain(|(lies_in, _), _| *lies_in != file);
    }
}

/// Of what lies before `end`, if so much is there.
fn tail_crc(bytes: &Bytes, end: u64) -> Option<u32> {
    let head = bytes.get(..usize::try_from(end).ok()?)?;
    let tail = head.len().saturating_sub(TAIL_BYTES);
    head.get(tail..).map(crc32c)
}

fn list(dir: &Path) -> Result<Vec<(u32, PathBuf)>, HeadError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(HeadError::io("list", dir))? {
        let entry = entry.map_err(HeadError::io("list", dir))?;
        let number = entry
            .file_name()
            .to_str()
            .filter(|name| name.len() >= 6 && name.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|name| name.parse().ok());
        if let Some(number) = number {
            files.push((number, entry.path()));
        }
    }
    files.sort();
    Ok(files)
}

fn set_aside(path: &Path, quarantine: &Path) -> Result<(), HeadError> {
    create_dirs(quarantine).map_err(HeadError::io("create", quarantine))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut to = quarantine.join(format!("chunks_head-{name}"));
    for attempt in 1.. {
        match to.try_exists() {
            Ok(false) => break,
            Ok(true) => to = quarantine.join(format!("chunks_head-{name}.{attempt}")),
            Err(error) => return Err(HeadError::io("inspect", &to)(error)),
        }
    }
    let moved = rename_durably(path, &to);
    moved.map_err(HeadError::io("set aside", path))
}

impl HeadError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_chunks_are_handed_out_by_series_in_whatever_order_series_are_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let (files, _) = ChunkFiles::open(dir.path(), 4096, dir.path()).unwrap();
        for round in 0..3 {
            let chunks: Vec<ChunkToWrite> = (0..20u64)
                .filter(|series| series % 3 != 1)
                .map(|series| ChunkToWrite {
                    series: series << 40,
                    min_t: round * 10,
                    max_t: round * 10 + 9,
                    is_out_of_order: false,
                    encoding: Encoding::Xor,
                    data: Bytes::from(vec![7; 100]),
                })
                .collect();
            files.write(&chunks).unwrap();
        }
        drop(files);
        let mut found = ChunkFiles::open(dir.path(), 4096, dir.path()).unwrap().1;
        let ascending = 0..21u64;
        let descending = (0..21u64).rev();
        let twice = [5, 5, 0, 20, 19, 2, 3];
        for series in ascending.chain(descending).chain(twice) {
            let chunks = found.chunks.of(series << 40).iter();
            let times: Vec<i64> = chunks.map(|found| found.chunk.min_t).collect();
            let expect: &[i64] = if series % 3 == 1 || series == 20 {
                &[]
            } else {
                &[0, 10, 20]
            };
            assert_eq!(times, expect, "series {series}");
        }
    }
}
