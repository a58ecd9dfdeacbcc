//! Series of an index whose order is wrong, sorted by way of the disk: whatever their number, little of them is in memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::compactor::CompactorError;
use crate::foundation::cursor::put_uvarint_bytes;
use crate::foundation::durable::remove_file;
use crate::foundation::mmap::map_file;
use crate::foundation::{Cursor, ShortRead};
use crate::index::{ChunkMeta, SeriesEntry};

/// What is sorted at once takes about so much memory.
const RUN_BYTES_MAX: usize = 32 << 20;
/// What one series takes beside its labels and chunks.
const SERIES_BYTES: usize = 96;
/// Entries begin at multiples of this, and are numbered by it: as in an index.
const ALIGN: usize = 16;

/// Labels, the number in the index it comes from, chunks.
type Item = (Vec<(u32, u32)>, u32, Vec<ChunkMeta>);

/// Takes series in any order.
#[derive(Debug)]
pub(crate) struct Sorter {
    dir: PathBuf,
    run_bytes_max: usize,
    open: Vec<Item>,
    n_open_bytes: usize,
    runs: Vec<PathBuf>,
}

impl Sorter {
    /// Files are made in `dir`, whose owner removes it.
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            run_bytes_max: RUN_BYTES_MAX,
            open: Vec::new(),
            n_open_bytes: 0,
            runs: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, id: u32, entry: &SeriesEntry) -> Result<(), CompactorError> {
        self.n_open_bytes += SERIES_BYTES
            + entry.symbols.len() * size_of::<(u32, u32)>()
            + entry.chunks.len() * size_of::<ChunkMeta>();
        self.open
            .push((entry.symbols.clone(), id, entry.chunks.clone()));
        if self.run_bytes_max <= self.n_open_bytes {
            self.close_run()?;
        }
        Ok(())
    }

    fn close_run(&mut self) -> Result<(), CompactorError> {
        let mut items = std::mem::take(&mut self.open);
        self.n_open_bytes = 0;
        items.sort_unstable_by(|left, right| (&left.0, left.1).cmp(&(&right.0, right.1)));
        let path = self.dir.join(format!("run-{}", self.runs.len()));
        let mut out = Out::create(&path)?;
        let mut entry = SeriesEntry::default();
        for (symbols, id, chunks) in items {
            (entry.symbols, entry.chunks) = (symbols, chunks);
            out.put(id, &entry)?;
        }
        out.finish()?;
        self.runs.push(path);
        Ok(())
    }

    /// All of them, sorted by labels; `seen` looks at each, told the number it had and the one it gets, and may change
    /// its chunks. Those with the same labels become one, with the chunks of all in the order of their numbers.
    pub(crate) fn finish(
        mut self,
        seen: &mut dyn FnMut(Place, &mut SeriesEntry),
    ) -> Result<SortedSeries, CompactorError> {
        self.close_run()?;
        let mut heads = BinaryHeap::new();
        for path in &self.runs {
            let bytes = map_file(path).map_err(|e| CompactorError::local("read", path, e))?;
            if let Some(head) = Head::first(path, bytes)? {
                heads.push(Reverse(head));
            }
        }
        let path = self.dir.join("sorted-series");
        let mut out = Out::create(&path)?;
        let mut n_series = 0u64;
        while let Some(Reverse(first)) = heads.pop() {
            let (id, mut entry) = (first.id, first.entry.clone());
            heads.extend(first.next()?.map(Reverse));
            let mut place = Place {
                from: id,
                to: out.id()?,
                is_twin: false,
            };
            while let Some(Reverse(twin)) = heads.peek()
                && twin.entry.symbols == entry.symbols
            {
                place.is_twin = true;
                entry.chunks.extend_from_slice(&twin.entry.chunks);
                if let Some(Reverse(twin)) = heads.pop() {
                    heads.extend(twin.next()?.map(Reverse));
                }
            }
            seen(place, &mut entry);
            out.put(id, &entry)?;
            n_series += 1;
        }
        out.finish()?;
        for run in &self.runs {
            remove_file(run).map_err(|source| CompactorError::local("remove", run, source))?;
        }
        let bytes = map_file(&path).map_err(|e| CompactorError::local("read", &path, e))?;
        Ok(SortedSeries {
            path,
            bytes,
            n_series,
        })
    }
}

/// Where a series was, and where it is now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) from: u32,
    pub(crate) to: u32,
    /// It was there more than once.
    pub(crate) is_twin: bool,
}

/// A file of entries.
struct Out {
    path: PathBuf,
    file: BufWriter<File>,
    n_bytes: usize,
    body: Vec<u8>,
    frame: Vec<u8>,
}

impl Out {
    fn create(path: &Path) -> Result<Self, CompactorError> {
        let file = File::create(path);
        let file = file.map_err(|source| CompactorError::local("create", path, source))?;
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::with_capacity(1 << 18, file),
            n_bytes: 0,
            body: Vec::new(),
            frame: Vec::new(),
        })
    }

    /// The number that the next entry gets.
    fn id(&self) -> Result<u32, CompactorError> {
        u32::try_from(self.n_bytes / ALIGN).map_err(|_beyond| {
            let end = std::io::Error::other("series end at 64 GiB");
            CompactorError::local("write", &self.path, end)
        })
    }

    fn put(&mut self, id: u32, entry: &SeriesEntry) -> Result<(), CompactorError> {
        self.body.clear();
        self.body.extend_from_slice(&id.to_be_bytes());
        entry.encode(&mut self.body);
        self.frame.clear();
        put_uvarint_bytes(&mut self.frame, &self.body);
        self.frame
            .resize(self.frame.len().next_multiple_of(ALIGN), 0);
        self.n_bytes += self.frame.len();
        self.file
            .write_all(&self.frame)
            .map_err(|source| CompactorError::local("write", &self.path, source))
    }

    fn finish(mut self) -> Result<(), CompactorError> {
        self.file
            .flush()
            .map_err(|source| CompactorError::local("write", &self.path, source))
    }
}

/// Reads the entry at `offset`: its number in the index it comes from, and the offset behind it.
fn read_at(
    bytes: &[u8],
    offset: usize,
    entry: &mut SeriesEntry,
) -> Result<(u32, usize), ShortRead> {
    let mut cursor = Cursor::at(bytes.get(offset..).unwrap_or_default(), offset);
    let mut body = Cursor::new(cursor.uvarint_bytes("spooled series")?);
    let id = body.u32_be("number of a spooled series")?;
    entry.decode(body.rest())?;
    Ok((id, cursor.offset().next_multiple_of(ALIGN)))
}

fn unread(path: &Path, short: &ShortRead) -> CompactorError {
    CompactorError::local("read", path, std::io::Error::other(short.to_string()))
}

/// Where one run stands.
struct Head {
    path: PathBuf,
    bytes: Bytes,
    behind: usize,
    id: u32,
    entry: SeriesEntry,
}

impl Head {
    fn first(path: &Path, bytes: Bytes) -> Result<Option<Self>, CompactorError> {
        let head = Self {
            path: path.to_owned(),
            bytes,
            behind: 0,
            id: 0,
            entry: SeriesEntry::default(),
        };
        head.next()
    }

    fn next(mut self) -> Result<Option<Self>, CompactorError> {
        if self.bytes.len() <= self.behind {
            return Ok(None);
        }
        let read = read_at(&self.bytes, self.behind, &mut self.entry);
        (self.id, self.behind) = read.map_err(|short| unread(&self.path, &short))?;
        Ok(Some(self))
    }

    fn key(&self) -> (&[(u32, u32)], u32) {
        (&self.entry.symbols, self.id)
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// The result, in a file that is mapped.
#[derive(Debug)]
pub(crate) struct SortedSeries {
    path: PathBuf,
    bytes: Bytes,
    pub(crate) n_series: u64,
}

impl SortedSeries {
    /// Their new numbers, ascending.
    pub(crate) fn ids(&self) -> impl Iterator<Item = Result<u32, CompactorError>> {
        let mut offset = 0;
        let mut entry = SeriesEntry::default();
        std::iter::from_fn(move || {
            if self.bytes.len() <= offset {
                return None;
            }
            let id = u32::try_from(offset / ALIGN).unwrap_or(u32::MAX);
            match read_at(&self.bytes, offset, &mut entry) {
                Ok((_, behind)) => {
                    offset = behind;
                    Some(Ok(id))
                }
                Err(short) => {
                    offset = usize::MAX;
                    Some(Err(unread(&self.path, &short)))
                }
            }
        })
    }

    /// Reads series `id`; returns the number it had.
    pub(crate) fn series(&self, id: u32, entry: &mut SeriesEntry) -> Result<u32, CompactorError> {
        let read = read_at(&self.bytes, id as usize * ALIGN, entry);
        Ok(read.map_err(|short| unread(&self.path, &short))?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::ChunkRef;

    #[test]
    fn series_of_many_runs_come_sorted_and_twins_become_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::new(dir.path());
        // Three or four series a run.
        sorter.run_bytes_max = 500;
        let n = 100u32;
        for i in 0..n {
            // Every third is there again, and no neighbours follow one another.
            let value = i * 37 % n / 3 * 3;
            let chunk = ChunkMeta {
                min_t: i64::from(i),
                max_t: i64::from(i) + 1,
                at: ChunkRef::new(0, i),
            };
            let entry = SeriesEntry {
                symbols: vec![(1, 2), (3, value)],
                chunks: vec![chunk],
            };
            sorter.add(i + 1_000, &entry).unwrap();
        }
        assert!(10 < sorter.runs.len(), "{}", sorter.runs.len());
        let mut twins = 0;
        let sorted = sorter
            .finish(&mut |place, _| twins += u32::from(place.is_twin))
            .unwrap();
        assert_eq!((sorted.n_series, twins), (34, 33));
        let mut entry = SeriesEntry::default();
        let mut values = Vec::new();
        let mut n_chunks = 0;
        for id in sorted.ids() {
            let from = sorted.series(id.unwrap(), &mut entry).unwrap();
            values.push(entry.symbols[1].1);
            n_chunks += entry.chunks.len();
            let first = entry.chunks.iter().map(|chunk| chunk.at.offset()).min();
            assert_eq!(
                first,
                Some(from - 1_000),
                "the first of them gives its number"
            );
            assert!(entry.chunks.is_sorted_by_key(|chunk| chunk.at));
        }
        let expect: Vec<u32> = (0..n).step_by(3).collect();
        assert_eq!((values, n_chunks), (expect, 100));
        let left = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, 1, "the runs are gone");
    }
}
