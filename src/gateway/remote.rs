//! A block that is somewhere else: its index header is here, the rest is read in ranges.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::block::{
    BlockMeta, CHUNKS_DIR, INDEX_FILE, TOMBSTONES_FILE, Tombstones, slice_that_counts,
};
use crate::bucket::{BucketError, keys};
use crate::chunk::decode_chunk;
use crate::foundation::Cursor;
use crate::gateway::header::open_header;
use crate::gateway::pages::{Ask, PageCache, Pages, RemoteFile};
use crate::gateway::remote_set::RemoteSet;
use crate::gateway::stats::Kind;
use crate::gateway::store::Part;
use crate::index::{
    ChunkMeta, IndexError, IndexHeader, PostingsPlan, PostingsRange, Source, read_postings,
};
use crate::inventory::KnownBlock;
use crate::model::{BlockId, Interval, Labels, Matcher, TimeRange};
use crate::storage::{
    ChunkSlice, LabelAnswer, LabelHints, Queryable, SelectHints, SeriesSet, StorageError,
};

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
    /// The header is too large to be kept elsewhere than on the disk, which does not take it.
    #[error("keep the index header of {block} on the disk: {source}")]
    Disk {
        /// The block.
        block: BlockId,
        /// What the system said.
        source: std::io::Error,
    },
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
    range: TimeRange,
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
    pub(crate) async fn open(
        known: &KnownBlock,
        pages: Arc<PageCache>,
    ) -> Result<Self, RemoteError> {
        let block = known.meta.ulid;
        let bucket = pages.bucket();
        let Some(n_bytes) = known.size_of(INDEX_FILE) else {
            let flaws = size_flaws(&known.meta, |name| known.size_of(name));
            return Err(RemoteError::Damaged(flaws.join("; ")));
        };
        let index = RemoteFile {
            block,
            part: Part::Index,
            n_bytes,
        };
        let index_name = format!("{}/{}", bucket.name(), index.key());
        let header = open_header(&pages, &index, &index_name).await?;
        let mut segments = BTreeMap::new();
        for file in &known.files {
            let number = file
                .path
                .strip_prefix(CHUNKS_DIR)
                .and_then(|rest| rest.trim_start_matches('/').parse().ok());
            if let Some(number) = number {
                let segment = RemoteFile {
                    block,
                    part: Part::Segment(number),
                    n_bytes: file.n_bytes,
                };
                segments.insert(number, segment);
            }
        }
        let tombstones = if known.size_of(TOMBSTONES_FILE).is_some() {
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
            range: known.meta.range(),
            index_name,
            header,
            index,
            segments,
            tombstones,
            pages,
        };
        Ok(Self(Arc::new(inner)))
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

impl Inner {
    pub(crate) fn corrupt(&self, file: &RemoteFile, offset: u64, problem: &str) -> StorageError {
        let name = self.pages.bucket().name();
        let key = file.key();
        StorageError::Corrupt(format!("{name}/{key}: offset {offset}: {problem}"))
    }

    /// Numbers of the series that match, ascending.
    fn ids(&self, matchers: &[Matcher], ask: &Ask) -> Result<Vec<u32>, StorageError> {
        let plan = PostingsPlan::new(self.header.table(), matchers).map_err(corrupt)?;
        let Some(plan) = plan else {
            return Ok(Vec::new());
        };
        let ranges: BTreeSet<_> = plan.ranges().collect();
        let n_bytes = ranges
            .iter()
            .map(|range| range.end.saturating_sub(range.start));
        self.touched(ask.kind, ranges.len(), n_bytes.sum());
        let wanted = ranges.iter().map(|range| range.start..range.end);
        let pages = self.pages.read(&self.index, wanted, ask)?;
        let source = |range: &PostingsRange| {
            let bytes = pages.get(range.start..range.end.min(self.index.n_bytes));
            let source = Source::part(&self.index_name, bytes, range.start);
            (range.start, source)
        };
        let sources: BTreeMap<u64, Source> = ranges.iter().map(source).collect();
        let nothing = Source::part(&self.index_name, Bytes::new(), 0);
        plan.run(&mut |range| read_postings(sources.get(&range.start).unwrap_or(&nothing), range))
            .map_err(corrupt)
    }

    /// What each of so many blocks may have read of series that nobody has taken yet.
    pub(crate) fn share_bytes(&self, n_blocks: u64) -> u64 {
        self.pages.answer_bytes_max() / n_blocks.max(1)
    }

    fn touched(&self, kind: Kind, n: usize, n_bytes: u64) {
        let counts = self.pages.stats().of(kind);
        counts.touched.add(n as u64);
        counts.touched_bytes.add(n_bytes);
    }

    /// Sees to it that entries that will be read are on their way.
    pub(crate) fn prefetch(&self, file: &RemoteFile, entries: &[Entry], ask: &Ask) {
        let guesses = entries
            .iter()
            .map(|entry| entry.offset..entry.offset + entry.guess);
        self.pages.prefetch(file, guesses, ask);
    }

    /// Entries with a length field in front, each read whole: first a guess, then what the length says.
    pub(crate) fn read_entries(
        &self,
        file: &RemoteFile,
        entries: &[Entry],
        ask: &Ask,
    ) -> Result<Vec<Result<Bytes, StorageError>>, StorageError> {
        let guesses = entries
            .iter()
            .map(|entry| entry.offset..entry.offset + entry.guess);
        let mut pages = self.pages.read(file, guesses, ask)?;
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
            pages.extend(self.pages.read(file, longer, ask)?);
        }
        let pages = &pages;
        let whole = entries.iter().zip(ends);
        let read: Vec<Result<Bytes, _>> = whole
            .map(|(entry, end)| Ok(pages.get(entry.offset..end?)))
            .collect();
        let n_bytes = read.iter().flatten().map(|bytes| bytes.len() as u64).sum();
        self.touched(ask.kind, entries.len(), n_bytes);
        Ok(read)
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
                part: Part::Segment(number),
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
        let stored = decode_chunk(entry, 0).map_err(|error| flawed(error.to_string()))?;
        let deleted = self.tombstones.of(u64::from(id));
        let mut slice =
            slice_that_counts(meta, stored, deleted).map_err(|error| flawed(error.to_string()))?;
        if let Some(slice) = &mut slice {
            // A copy: the chunk may stay for the length of a query, the page that it lies in must not.
            slice.data = Bytes::copy_from_slice(&slice.data);
        }
        Ok(slice)
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
        let ids = if self.0.range.intersects(hints.interval) {
            let ask = Ask {
                kind: Kind::Postings,
                cancel: hints.cancel.clone(),
                tally: hints.tally.clone(),
            };
            self.0.ids(matchers, &ask)?
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
        select.tally = hints.tally.clone();
        // Whichever time was asked for: a block answers for labels as a whole.
        if self.0.range.intersects(hints.interval) {
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
        if !self.0.range.intersects(hints.interval) {
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
