//! One compaction, from blocks of the bucket to a block of the bucket.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::{fmt, fs};

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::block::{
    BlockError, BlockMeta, BlockSource, CHUNKS_DIR, INDEX_FILE, NewBlock, SortedBlockWriter,
    ThanosDownsample, ThanosFile, ThanosMeta, meta::META_FILE,
};
use crate::bucket::keys;
use crate::compact::{CompactError, Merge, compact_into, merged_block};
use crate::compactor::ahead::{PartBytes, Waiting};
use crate::compactor::check::{read_back, undecodable};
use crate::compactor::group::GroupKey;
use crate::compactor::marks::delete_block;
use crate::compactor::repair::Repaired;
use crate::compactor::source::open_source;
use crate::compactor::survey::Surveyed;
use crate::compactor::upload::Uploads;
use crate::compactor::watched::{Progress, Watched};
use crate::compactor::{CompactorError, Deduplication};
use crate::foundation::Cancel;
use crate::foundation::durable::{create_dirs, remove_dir_all};
use crate::model::{BlockId, Interval, TimestampMs};

/// What all parts in memory may take together.
const PARTS_BYTES: u64 = 96 << 20;
/// A part costs a request.
const PART_BYTES_MIN: u64 = 256 << 10;
const PART_BYTES_MAX: u64 = 8 << 20;

/// Where and how blocks are made.
#[derive(Debug, Clone)]
pub(crate) struct Workshop {
    pub(crate) waiting: Waiting,
    /// What is there at the start is of a run that ended early.
    pub(crate) scratch: PathBuf,
    pub(crate) segment_bytes_max: u64,
    pub(crate) deduplication: Deduplication,
}

/// Blocks to be made one.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) key: GroupKey,
    /// Oldest first.
    pub(crate) blocks: Vec<Surveyed>,
    /// Name of the result.
    pub(crate) id: BlockId,
    pub(crate) now_ms: TimestampMs,
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.blocks.as_slice() {
            [only] => write!(f, "block {} of ", only.meta.ulid)?,
            blocks => write!(f, "{} blocks of ", blocks.len())?,
        }
        self.key.write_labels(f)
    }
}

impl Workshop {
    /// Makes the block and uploads it; visible only when it was read back. `None` when nothing is left of its sources.
    ///
    /// For a thread that may wait. After an error nothing of the result is left.
    pub(crate) fn compact(
        &self,
        job: &Job,
        cancel: &Cancel,
        progress: &Progress,
    ) -> Result<Option<BlockMeta>, CompactorError> {
        self.in_scratch(job, |here, scratch| {
            here.compact_in(scratch, job, cancel, progress)
        })
    }

    /// Works in a directory of the job's own, with memory that is free at its end. After an error nothing of the result is
    /// left, here or there.
    pub(crate) fn in_scratch(
        &self,
        job: &Job,
        work: impl FnOnce(&Self, &Path) -> Result<Option<BlockMeta>, CompactorError>,
    ) -> Result<Option<BlockMeta>, CompactorError> {
        let scratch = self.scratch.join(job.id.to_string());
        create_dirs(&scratch)
            .map_err(|source| CompactorError::local("create", &scratch, source))?;
        let here = Self {
            waiting: self.waiting.for_work(),
            ..self.clone()
        };
        let made = work(&here, &scratch);
        self.tidy(&scratch, job.id, made.as_ref().is_ok_and(Option::is_some));
        made
    }

    /// What is left here goes; what is left there goes too, unless it became a block.
    pub(crate) fn tidy(&self, scratch: &Path, block: BlockId, is_made: bool) {
        if !is_made {
            let deleted = self
                .waiting
                .wait(delete_block(&*self.waiting.bucket, block));
            if let Err(error) = deleted {
                // The directory stays and says that there is something to remove.
                let error = error.chain();
                tracing::warn!(%block, error, "leftovers of a block are not removed yet");
                return;
            }
        }
        if let Err(error) = remove_dir_all(scratch) {
            tracing::warn!(%block, %error, "scratch is not removed yet");
        }
    }

    fn compact_in(
        &self,
        scratch: &Path,
        job: &Job,
        cancel: &Cancel,
        progress: &Progress,
    ) -> Result<Option<BlockMeta>, CompactorError> {
        let sources = self.open(scratch, &job.blocks, progress)?;
        let watched: Vec<Watched<'_>> = sources
            .iter()
            .map(|source| Watched::new(&**source, progress))
            .collect();
        let metas: Vec<&BlockMeta> = job.blocks.iter().map(|block| &block.meta).collect();
        let new = merged_block(job.id, &metas);
        let uploads = Uploads::new(&self.waiting, job.id);
        let refs: Vec<&dyn BlockSource> = watched.iter().map(|source| source as _).collect();
        let merged = self.merge(scratch, (new, &refs), &uploads, cancel);
        let merged = match merged {
            Err(CompactorError::Compact(CompactError::Overlap(_))) => {
                Err(self.blame(&sources, cancel).unwrap_or_else(|| {
                    CompactorError::Threads(
                        "chunks that decode one by one cannot be joined".to_owned(),
                    )
                }))
            }
            other => other,
        };
        let Some(meta) = merged? else {
            return Ok(None);
        };
        check_counts(&meta, &watched, self.deduplication)?;
        // What they hold of their objects is not needed any more.
        drop(watched);
        drop(sources);
        let thanos = thanos_of(&job.key, &metas, "compactor");
        self.publish(scratch, (meta, thanos, job.now_ms), &uploads, cancel)
            .map(Some)
    }

    pub(crate) fn open(
        &self,
        scratch: &Path,
        blocks: &[Surveyed],
        progress: &Progress,
    ) -> Result<Vec<Box<dyn BlockSource>>, CompactorError> {
        // Two parts and one on its way, of chunks; of the index a quarter of that.
        let share = PARTS_BYTES / (4 * blocks.len().max(1) as u64);
        let part_bytes = PartBytes::from(share.clamp(PART_BYTES_MIN, PART_BYTES_MAX));
        let mut sources = Vec::with_capacity(blocks.len());
        for (number, block) in blocks.iter().enumerate() {
            let in_chunks = block
                .files
                .iter()
                .filter(|(name, _)| name.starts_with(CHUNKS_DIR));
            let n_bytes = in_chunks.map(|(_, n_bytes)| n_bytes).sum();
            progress.n_bytes.fetch_add(n_bytes, Ordering::Relaxed);
            let part_bytes = part_bytes.of_one(number, blocks.len());
            let opened = open_source(
                &self.waiting,
                &block.meta,
                &block.files,
                scratch,
                part_bytes,
            );
            let opened = opened.map_err(|source| CompactError::Source {
                block: block.meta.ulid,
                source,
            })?;
            sources.push(opened);
        }
        Ok(sources)
    }

    pub(crate) fn merge(
        &self,
        scratch: &Path,
        (new, sources): (NewBlock, &[&dyn BlockSource]),
        uploads: &Uploads,
        cancel: &Cancel,
    ) -> Result<Option<BlockMeta>, CompactorError> {
        let how = Merge {
            wanted: Interval {
                min: new.range.min,
                max: new.range.max.saturating_sub(1),
            },
            cancel,
            join: &|chunks, wanted| self.deduplication.join(chunks, wanted),
        };
        let merged = compact_into(sources, &how, || self.writer(scratch, new, uploads));
        match merged {
            Err(CompactError::Canceled) => Err(CompactorError::Canceled),
            other => Ok(other?),
        }
    }

    /// A writer whose segments go up while the next one is written.
    pub(crate) fn writer(
        &self,
        scratch: &Path,
        new: NewBlock,
        uploads: &Uploads,
    ) -> Result<SortedBlockWriter, BlockError> {
        let sink = Some(uploads.sink());
        let writer = SortedBlockWriter::create_with(scratch, new, self.segment_bytes_max, sink)?;
        // It is read once more, if at all, and then gone: what queries read shall not leave memory for it.
        Ok(writer.uncached())
    }

    /// Which of the sources holds a chunk that does not decode, though its checksum holds.
    fn blame(&self, sources: &[Box<dyn BlockSource>], cancel: &Cancel) -> Option<CompactorError> {
        sources.iter().find_map(|source| {
            let block = source.meta().ulid;
            match undecodable(&**source, cancel) {
                Ok(None) => None,
                Ok(Some(problem)) => Some(CompactorError::Damaged { block, problem }),
                Err(source) => Some(CompactError::Source { block, source }.into()),
            }
        })
    }

    /// Index, reading back, and `meta.json` last of all.
    pub(crate) fn publish(
        &self,
        scratch: &Path,
        (mut meta, mut thanos, now_ms): (BlockMeta, ThanosMeta, TimestampMs),
        uploads: &Uploads,
        cancel: &Cancel,
    ) -> Result<BlockMeta, CompactorError> {
        let bucket = &*self.waiting.bucket;
        let dir = scratch.join(meta.ulid.to_string());
        let uploaded = uploads.uploaded().map_err(CompactorError::Result)?;
        let mut files = uploaded.files();
        let key = keys::in_block(meta.ulid, INDEX_FILE);
        let n_bytes = self
            .waiting
            .wait(bucket.upload(&key, &dir.join(INDEX_FILE)))?;
        files.insert(INDEX_FILE.to_owned(), n_bytes);
        let index_stats = read_back(&self.waiting, &meta, &uploaded, &dir, cancel)?;
        list_files(&mut thanos, &files);
        thanos.other.insert("index_stats".to_owned(), index_stats);
        let stamp = Value::String(rfc3339(now_ms));
        thanos.other.insert("upload_time".to_owned(), stamp);
        meta.thanos = Some(thanos);
        let text = Bytes::from(meta.encode());
        let key = keys::meta(meta.ulid);
        if cancel.reason().is_some() {
            return Err(CompactorError::Canceled);
        }
        self.waiting.wait(bucket.put(&key, text.clone()))?;
        let there = self.waiting.wait(bucket.get(&key, text.len() as u64))?;
        if there != text {
            let problem = "meta.json differs from what was written".to_owned();
            let block = meta.ulid;
            return Err(CompactorError::ReadBack { block, problem });
        }
        Ok(meta)
    }

    /// Writes a damaged block anew, sorted and with the range it has; only what can be read whole is.
    pub(crate) fn repair(
        &self,
        job: &Job,
        cancel: &Cancel,
        progress: &Progress,
    ) -> Result<Option<BlockMeta>, CompactorError> {
        self.in_scratch(job, |here, scratch| {
            here.repair_in(scratch, job, cancel, progress)
        })
    }

    fn repair_in(
        &self,
        scratch: &Path,
        job: &Job,
        cancel: &Cancel,
        progress: &Progress,
    ) -> Result<Option<BlockMeta>, CompactorError> {
        let sources = self.open(scratch, &job.blocks, progress)?;
        let (Some(source), Some(block)) = (sources.first(), job.blocks.first()) else {
            return Ok(None);
        };
        let block_id = block.meta.ulid;
        let repaired = Repaired::new(&**source, scratch)?;
        if 0 < repaired.n_dropped() {
            let n_chunks = repaired.n_dropped();
            tracing::warn!(block = %block_id, n_chunks, "chunks far outside of their block are left out of its repaired copy");
        }
        let watched = [Watched::new(&repaired, progress)];
        let mut new = merged_block(job.id, &[repaired.meta()]);
        // It is the same block as before.
        new.level = block.meta.compaction.level;
        let uploads = Uploads::new(&self.waiting, job.id);
        let refs: Vec<&dyn BlockSource> = watched.iter().map(|source| source as _).collect();
        let merged = self.merge(scratch, (new, &refs), &uploads, cancel);
        let merged = match merged {
            Err(CompactorError::Compact(CompactError::Overlap(flaw))) => {
                let problem = format!("chunks that overlap do not decode: {flaw}");
                let block = block_id;
                return Err(CompactorError::Damaged { block, problem });
            }
            other => other,
        };
        let Some(meta) = merged? else {
            return Ok(None);
        };
        check_counts(&meta, &watched, self.deduplication)?;
        let key = GroupKey::of(&block.meta, &BTreeSet::new());
        let thanos = thanos_of(&key, &[&block.meta], "compactor.repair");
        self.publish(scratch, (meta, thanos, job.now_ms), &uploads, cancel)
            .map(Some)
    }

    /// Reads a block from its first chunk to its last, as it must be before what it replaces goes.
    pub(crate) fn read_through(
        &self,
        block: &Surveyed,
        id: BlockId,
        cancel: &Cancel,
    ) -> Result<(), CompactorError> {
        let scratch = self.scratch.join(id.to_string());
        create_dirs(&scratch)
            .map_err(|source| CompactorError::local("create", &scratch, source))?;
        let read = self.read_through_in(&scratch, block, cancel);
        remove_dir_all(&scratch)
            .map_err(|source| CompactorError::local("remove", &scratch, source))?;
        read
    }

    fn read_through_in(
        &self,
        scratch: &Path,
        block: &Surveyed,
        cancel: &Cancel,
    ) -> Result<(), CompactorError> {
        let progress = Progress::default();
        let sources = self.open(scratch, std::slice::from_ref(block), &progress)?;
        let Some(source) = sources.first() else {
            return Ok(());
        };
        let watched = Watched::new(&**source, &progress);
        let blamed = |source| CompactError::Source {
            block: block.meta.ulid,
            source,
        };
        if let Some(problem) = undecodable(&watched, cancel).map_err(blamed)? {
            let block = block.meta.ulid;
            return Err(CompactorError::Damaged { block, problem });
        }
        if cancel.reason().is_some() {
            return Err(CompactorError::Canceled);
        }
        Ok(())
    }

    /// Removes what runs that ended early left, here and in the bucket; what became a block meanwhile stays there.
    pub(crate) fn clear(&self, whole: &BTreeSet<BlockId>) -> Result<(), CompactorError> {
        let failed = |source| CompactorError::local("list", &self.scratch, source);
        create_dirs(&self.scratch).map_err(failed)?;
        for entry in fs::read_dir(&self.scratch).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if let Some(block) = keys::block_of(&name) {
                self.tidy(&path, block, whole.contains(&block));
            }
        }
        Ok(())
    }
}

/// Where nothing overlaps nothing may be lost; where something does, nothing may come from nowhere.
fn check_counts(
    meta: &BlockMeta,
    sources: &[Watched<'_>],
    deduplication: Deduplication,
) -> Result<(), CompactorError> {
    let n_read: u64 = sources.iter().map(Watched::n_samples).sum();
    let n_most: u64 = sources.iter().map(Watched::n_samples).max().unwrap_or(0);
    let series_most: u64 = sources.iter().map(Watched::n_series).max().unwrap_or(0);
    let has_deleted = sources.iter().any(|source| !source.tombstones().is_empty());
    let mut end = None;
    let is_apart = sources.iter().all(|source| {
        let range = source.meta().range();
        let is_behind = end.is_none_or(|end| end <= range.min);
        end = Some(range.max);
        is_behind && !source.is_unsorted()
    });
    let n = meta.stats.num_samples;
    let least = match (has_deleted, is_apart, deduplication) {
        (true, ..) => 0,
        (false, true, _) => n_read,
        (false, false, Deduplication::OneToOne) => n_most,
        (false, false, Deduplication::Penalty) => 1,
    };
    // A source whose series hold their times twice has fewer different ones.
    let has_unsorted = sources.iter().any(Watched::is_unsorted);
    let least = if has_unsorted { least.min(1) } else { least };
    let series_least = if has_deleted { 0 } else { series_most };
    if n_read < n || n < least || meta.stats.num_series < series_least {
        let block = meta.ulid;
        let problem = format!(
            "{n} samples of {} series were made of {n_read} samples; {least} and {series_least} at least were expected",
            meta.stats.num_series
        );
        return Err(CompactorError::ReadBack { block, problem });
    }
    Ok(())
}

/// The `thanos` section of a block that is made of others.
pub(crate) fn thanos_of(key: &GroupKey, metas: &[&BlockMeta], source: &str) -> ThanosMeta {
    let mut other = Map::new();
    let mut rewrites = Vec::new();
    let mut extensions: Option<Option<&Value>> = None;
    for meta in metas {
        let told = meta.thanos.as_ref().map(|thanos| &thanos.other);
        let own = told.and_then(|other| other.get("extensions"));
        extensions = match extensions {
            None => Some(own),
            Some(before) if before == own => Some(own),
            Some(_) => Some(None),
        };
        // What was rewritten stays so: its sources do not hold the same any more.
        let rewritten = told.and_then(|other| other.get("rewrites")?.as_array());
        rewrites.extend(rewritten.into_iter().flatten().cloned());
    }
    if !rewrites.is_empty() {
        other.insert("rewrites".to_owned(), Value::Array(rewrites));
    }
    if let Some(Some(extensions)) = extensions {
        other.insert("extensions".to_owned(), extensions.clone());
    }
    ThanosMeta {
        version: 1,
        labels: key.labels.clone(),
        downsample: ThanosDownsample {
            resolution: key.resolution_ms,
        },
        source: source.to_owned(),
        other,
        ..ThanosMeta::default()
    }
}

fn list_files(thanos: &mut ThanosMeta, files: &BTreeMap<String, u64>) {
    let mut listed: Vec<ThanosFile> = files
        .iter()
        .map(|(name, n_bytes)| ThanosFile {
            rel_path: name.clone(),
            size_bytes: Some(*n_bytes),
            hash: None,
        })
        .collect();
    listed.push(ThanosFile {
        rel_path: META_FILE.to_owned(),
        ..ThanosFile::default()
    });
    listed.sort_by(|left, right| left.rel_path.cmp(&right.rel_path));
    let segments = files.keys().filter_map(|name| {
        let name = name.strip_prefix(CHUNKS_DIR)?;
        Some(name.trim_start_matches('/').to_owned())
    });
    thanos.segment_files = segments.collect();
    thanos.files = listed;
}

fn rfc3339(now_ms: TimestampMs) -> String {
    jiff::Timestamp::from_millisecond(now_ms)
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .to_string()
}
