//! A block that is somewhere else: its index header is here, the rest is read in ranges.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;

use bytes::Bytes;

use crate::block::{BlockMeta, CHUNKS_DIR, INDEX_FILE, TOMBSTONES_FILE, Tombstones};
use crate::bucket::{BucketError, keys};
use crate::chunk::{decode_chunk, without_intervals};
use crate::foundation::durable::replace_file;
use crate::foundation::mmap::map_file;
use crate::foundation::{Cancel, Cursor};
use crate::gateway::pages::{PageCache, Pages, RemoteFile};
use crate::gateway::remote_set::RemoteSet;
use crate::index::{
    ChunkMeta, HeaderParts, IndexError, IndexHeader, PostingsPlan, Source, read_postings,
};
use crate::model::{Interval, Labels, Matcher};
use crate::storage::{
    ChunkSlice, LabelAnswer, LabelHints, Queryable, SelectHints, SeriesSet, StorageError,
};

/// Copy of the index header beside the pages, as Thanos names it.
const HEADER_FILE: &str = "index-header";
/// Table of contents of an index: its last bytes.
const CONTENTS_BYTES: u64 = 52;
/// Magic number and version of an index: its first bytes.
const START_BYTES: u64 = 5;
/// Symbols and postings table of one index that are fetched at once.
const HEADER_BYTES_MAX: u64 = 4 << 30;
/// Largest tombstones file that is read.
const TOMBSTONES_BYTES_MAX: u64 = 64 << 20;
/// Longest length field.
const LENGTH_BYTES_MAX: u64 = 10;
/// Longest entry that is believed.
const ENTRY_BYTES_MAX: u64 = 256 << 20;

/// Why a remote block cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    /// The bucket did not answer: another sync will ask again.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// Not what its meta.json or the format says.
    #[error("{0}")]
    Damaged(String),
}

impl From<IndexError> for RemoteError {
    fn from(error: IndexError) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// A block in a bucket that is not a directory of this machine. Cloning is cheap.
#[derive(Debug, Clone)]
pub(crate) struct RemoteBlock(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    meta: BlockMeta,
    /// How errors call the index.
    pub(crate) index_name: String,
    pub(crate) header: IndexHeader,
    pub(crate) index: RemoteFile,
    /// By number, from 1.
    segments: BTreeMap<u32, RemoteFile>,
    pub(crate) tombstones: Tombstones,
    pages: Arc<PageCache>,
}

impl RemoteBlock {
    /// Fetches the index header, unless it is here already.
    ///
    /// The second result names what is not as meta.json says; the block answers for the rest.
    pub(crate) async fn open(
        meta: BlockMeta,
        pages: Arc<PageCache>,
    ) -> Result<(Self, Vec<String>), RemoteError> {
        let block = meta.ulid;
        let bucket = pages.bucket();
        let dir = block.to_string();
        let mut sizes = BTreeMap::new();
        for info in bucket.list(&dir).await? {
            if let Some(name) = info.key.strip_prefix(&dir) {
                sizes.insert(name.trim_start_matches('/').to_owned(), info.size);
            }
        }
        let flaws = size_flaws(&meta, |name| sizes.get(name).copied());
        if sizes
            .get(INDEX_FILE)
            .is_none_or(|size| *size < START_BYTES + CONTENTS_BYTES)
        {
            return Err(RemoteError::Damaged(flaws.join("; ")));
        }
        let file = |name: &str| RemoteFile {
            block,
            name: name.to_owned(),
            n_bytes: sizes.get(name).copied().unwrap_or(0),
        };
        let index = file(INDEX_FILE);
        let index_name = format!("{}/{}", bucket.name(), keys::in_block(block, INDEX_FILE));
        let header = open_header(&pages, &index, &index_name).await?;
        let mut segments = BTreeMap::new();
        for name in sizes.keys() {
            let number = name
                .strip_prefix(CHUNKS_DIR)
                .map(|rest| rest.trim_start_matches('/'));
            if let Some(Ok(number)) = number.map(str::parse) {
                segments.insert(number, file(name));
            }
        }
        let tombstones = if sizes.contains_key(TOMBSTONES_FILE) {
            let key = keys::in_block(block, TOMBSTONES_FILE);
            let bytes = bucket.get(&key, TOMBSTONES_BYTES_MAX).await?;
            Tombstones::decode(&bytes).map_err(|(offset, problem)| {
                let name = bucket.name();
                RemoteError::Damaged(format!("{name}/{key}: offset {offset}: {problem}"))
            })?
        } else {
            Tombstones::new()
        };
        let inner = Inner {
            meta,
            index_name,
            header,
            index,
            segments,
            tombstones,
            pages,
        };
        Ok((Self(Arc::new(inner)), flaws))
    }
}

/// Where sizes are not those of meta.json; older writers promise none, but an index there must be.
pub(crate) fn size_flaws(meta: &BlockMeta, size_of: impl Fn(&str) -> Option<u64>) -> Vec<String> {
    let mut flaws = Vec::new();
    for file in meta.thanos.iter().flat_map(|thanos| &thanos.files) {
        let Some(promised) = file.size_bytes else {
            continue;
        };
        match size_of(&file.rel_path) {
            Some(found) if found == promised => (),
            Some(found) => flaws.push(format!(
                "{} has {found} bytes, meta.json says {promised}",
                file.rel_path
            )),
            None => flaws.push(format!("{} is missing", file.rel_path)),
        }
    }
    if flaws.is_empty() && size_of(INDEX_FILE).is_none() {
        flaws.push(format!("{INDEX_FILE} is missing"));
    }
    flaws
}

async fn open_header(
    pages: &PageCache,
    index: &RemoteFile,
    index_name: &str,
) -> Result<IndexHeader, RemoteError> {
    let dir = pages.block_dir(index.block);
    let path = dir.join(HEADER_FILE);
    let name = path.display().to_string();
    // Whatever is wrong with the copy, the bucket has the original.
    if let Ok(bytes) = map_file(&path)
        && let Ok(header) = IndexHeader::new(&name, bytes)
    {
        return Ok(header);
    }
    let bucket = pages.bucket();
    let key = keys::in_block(index.block, INDEX_FILE);
    let n_bytes = index.n_bytes;
    let start = bucket.get_range(&key, 0..START_BYTES).await?;
    let end = bucket
        .get_range(&key, n_bytes - CONTENTS_BYTES..n_bytes)
        .await?;
    let parts = HeaderParts::new(index_name, &start, n_bytes, end)?;
    let (symbols, tail) = (parts.symbols(), parts.tail());
    let total = (symbols.1 - symbols.0).saturating_add(tail.1 - tail.0);
    if HEADER_BYTES_MAX < total {
        let text = format!("{index_name}: header of {total} bytes, at most {HEADER_BYTES_MAX}");
        return Err(RemoteError::Damaged(text));
    }
    let symbols = bucket.get_range(&key, symbols.0..symbols.1).await?;
    let tail = bucket.get_range(&key, tail.0..tail.1).await?;
    let encoded = parts.encode(&symbols, &tail);
    // Verified before it is kept.
    let header = IndexHeader::new(index_name, Bytes::from(encoded.clone()))?;
    let kept = fs::create_dir_all(&dir).and_then(|()| replace_file(&path, &encoded));
    match kept.and_then(|()| map_file(&path)) {
        Ok(mapped) => Ok(IndexHeader::new(&name, mapped)?),
        Err(error) => {
            tracing::warn!(block = %index.block, error = %error, "index header kept in memory");
            Ok(header)
        }
    }
}

impl Inner {
    pub(crate) fn corrupt(&self, file: &RemoteFile, offset: u64, problem: &str) -> StorageError {
        let name = self.pages.bucket().name();
        let key = keys::in_block(file.block, &file.name);
        StorageError::Corrupt(format!("{name}/{key}: offset {offset}: {problem}"))
    }

    /// Numbers of the series that match, ascending.
    fn ids(&self, matchers: &[Matcher], cancel: &Cancel) -> Result<Vec<u32>, StorageError> {
        let plan = PostingsPlan::new(self.header.table(), matchers).map_err(corrupt)?;
        let Some(plan) = plan else {
            return Ok(Vec::new());
        };
        let ranges: BTreeSet<_> = plan.ranges().collect();
        let wanted = ranges.iter().map(|range| range.start..range.end);
        let pages = self.pages.read(&self.index, wanted, cancel)?;
        let sources: BTreeMap<u64, Source> = ranges
            .iter()
            .map(|range| {
                let bytes = pages.get(range.start..range.end.min(self.index.n_bytes));
                (
                    range.start,
                    Source::part(&self.index_name, bytes, range.start),
                )
            })
            .collect();
        let nothing = Source::part(&self.index_name, Bytes::new(), 0);
        plan.run(&mut |range| read_postings(sources.get(&range.start).unwrap_or(&nothing), range))
            .map_err(corrupt)
    }

    /// Entries with a length field in front, each read whole: first a guess, then what the length says.
    pub(crate) fn read_entries(
        &self,
        file: &RemoteFile,
        entries: &[Entry],
        cancel: &Cancel,
    ) -> Result<Vec<Result<Bytes, StorageError>>, StorageError> {
        let guesses = entries
            .iter()
            .map(|entry| entry.offset..entry.offset + entry.guess);
        let mut pages = self.pages.read(file, guesses, cancel)?;
        let ends: Vec<_> = entries
            .iter()
            .map(|entry| self.end_of(file, entry, &pages))
            .collect();
        let longer: Vec<_> = entries
            .iter()
            .zip(&ends)
            .filter_map(|(entry, end)| match end {
                Ok(end) if entry.offset + entry.guess < *end => Some(entry.offset..*end),
                _ => None,
            })
            .collect();
        if !longer.is_empty() {
            pages.extend(self.pages.read(file, longer, cancel)?);
        }
        let pages = &pages;
        let whole = entries.iter().zip(ends);
        Ok(whole
            .map(|(entry, end)| Ok(pages.get(entry.offset..end?)))
            .collect())
    }

    fn end_of(&self, file: &RemoteFile, entry: &Entry, pages: &Pages) -> Result<u64, StorageError> {
        let limit = (entry.offset + LENGTH_BYTES_MAX).min(file.n_bytes);
        if limit <= entry.offset {
            let problem = format!("behind the end, which is at {}", file.n_bytes);
            return Err(self.corrupt(file, entry.offset, &problem));
        }
        let bytes = pages.get(entry.offset..limit);
        let mut cursor = Cursor::new(&bytes);
        let length = cursor
            .uvarint("length of an entry")
            .map_err(|short| self.corrupt(file, entry.offset, &short.to_string()))?;
        let end = entry
            .offset
            .saturating_add(cursor.offset() as u64)
            .saturating_add(length)
            .saturating_add(entry.n_bytes_more);
        if ENTRY_BYTES_MAX < length || file.n_bytes < end {
            let problem = format!("length {length} goes beyond the end at {}", file.n_bytes);
            return Err(self.corrupt(file, entry.offset, &problem));
        }
        Ok(end)
    }

    pub(crate) fn segment(&self, at: &ChunkMeta) -> Result<&RemoteFile, StorageError> {
        let number = at.at.segment().saturating_add(1);
        self.segments.get(&number).ok_or_else(|| {
            let missing = RemoteFile {
                block: self.index.block,
                name: format!("{CHUNKS_DIR}/{number:06}"),
                n_bytes: 0,
            };
            self.corrupt(&missing, u64::from(at.at.offset()), "the file is missing")
        })
    }

    pub(crate) fn slice(
        &self,
        id: u32,
        meta: &ChunkMeta,
        entry: &Bytes,
    ) -> Result<Option<ChunkSlice>, StorageError> {
        let file = self.segment(meta)?;
        let offset = u64::from(meta.at.offset());
        let flawed = |problem: String| self.corrupt(file, offset, &problem);
        let chunk = decode_chunk(entry, 0).map_err(|error| flawed(error.to_string()))?;
        let deleted = self.tombstones.of(u64::from(id));
        if deleted.iter().any(|gone| gone.overlaps(&meta.interval())) {
            let rest = without_intervals(chunk.encoding, &chunk.data, deleted)
                .map_err(|error| flawed(error.to_string()))?;
            return Ok(rest.map(|rest| ChunkSlice {
                min_t: rest.min_t,
                max_t: rest.max_t,
                encoding: rest.encoding,
                data: Bytes::from(rest.data),
            }));
        }
        Ok(Some(ChunkSlice {
            min_t: meta.min_t,
            max_t: meta.max_t,
            encoding: chunk.encoding,
            data: chunk.data,
        }))
    }
}

/// Something with a length field in front.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) offset: u64,
    /// How much is read at first.
    pub(crate) guess: u64,
    /// Bytes that the length does not count.
    pub(crate) n_bytes_more: u64,
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err wants"
)]
pub(crate) fn corrupt(error: IndexError) -> StorageError {
    StorageError::Corrupt(error.to_string())
}

impl RemoteBlock {
    fn set(&self, matchers: &[Matcher], hints: &SelectHints) -> Result<RemoteSet, StorageError> {
        if hints.cancel.reason().is_some() {
            return Err(StorageError::Canceled);
        }
        let ids = if self.0.meta.range().intersects(hints.interval) {
            self.0.ids(matchers, &hints.cancel)?
        } else {
            Vec::new()
        };
        Ok(RemoteSet::new(Arc::clone(&self.0), ids, hints))
    }

    /// Labels of all matching series.
    fn each_labels(
        &self,
        matchers: &[Matcher],
        hints: &LabelHints,
        mut take: impl FnMut(&Labels),
    ) -> Result<(), StorageError> {
        let mut select = SelectHints::new(hints.interval);
        select.skip_chunks = true;
        select.cancel = hints.cancel.clone();
        // Whichever time was asked for: a block answers for labels as a whole.
        if self.0.meta.range().intersects(hints.interval) {
            select.interval = Interval::ALL;
            let mut set = self.set(matchers, &select)?;
            while let Some(series) = set.next() {
                take(&series?.labels);
            }
        }
        Ok(())
    }

    fn answer(&self, hints: &LabelHints, values: Vec<String>) -> LabelAnswer {
        let mut values = values;
        if !self.0.meta.range().intersects(hints.interval) {
            values.clear();
        }
        if hints.limit != 0 {
            values.truncate(hints.limit);
        }
        LabelAnswer {
            values,
            warnings: Vec::new(),
        }
    }
}

impl Queryable for RemoteBlock {
    fn select(
        &self,
        matchers: &[Matcher],
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        Ok(Box::new(self.set(matchers, hints)?))
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        if hints.cancel.reason().is_some() {
            return Err(StorageError::Canceled);
        }
        if matchers.is_empty() {
            let names: Result<Vec<_>, _> = self.0.header.table().names().collect();
            let names = names.map_err(corrupt)?.into_iter().map(str::to_owned);
            return Ok(self.answer(hints, names.collect()));
        }
        let mut found = BTreeSet::new();
        self.each_labels(matchers, hints, |labels| {
            for (name, _) in labels.iter() {
                if !found.contains(name) {
                    found.insert(name.to_owned());
                }
            }
        })?;
        Ok(self.answer(hints, found.into_iter().collect()))
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        if hints.cancel.reason().is_some() {
            return Err(StorageError::Canceled);
        }
        if matchers.is_empty() {
            let values = self.0.header.table().values(name, "").map_err(corrupt)?;
            let values: Result<Vec<_>, _> = values
                .map(|item| item.map(|(value, _)| value.to_owned()))
                .collect();
            return Ok(self.answer(hints, values.map_err(corrupt)?));
        }
        let mut found = BTreeSet::new();
        self.each_labels(matchers, hints, |labels| {
            if let Some(value) = labels.get(name)
                && !found.contains(value)
            {
                found.insert(value.to_owned());
            }
        })?;
        Ok(self.answer(hints, found.into_iter().collect()))
    }
}
