//! What is in the bucket, as the compactor sees it: one listing of everything, and what of it is not known yet.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};

use crate::block::{BlockMeta, INDEX_FILE, meta::META_FILE};
use crate::bucket::{Bucket, BucketError, keys};
use crate::catalog::Catalog;
use crate::inventory::{DeletionMark, MARK_BYTES_MAX, NoCompactMark, PartialReason};
use crate::model::{BlockId, TimestampMs};

/// Largest meta.json that is read.
const META_BYTES_MAX: u64 = 16 << 20;

/// A whole block and its marks.
#[derive(Debug, Clone, PartialEq)]
pub struct Surveyed {
    /// What it is.
    pub meta: BlockMeta,
    /// Since when it is to be deleted.
    pub deletion_ms: Option<TimestampMs>,
    /// The no-compact mark: reason and details. One that does not decode counts all the same.
    pub no_compact: Option<(String, String)>,
    /// Nothing coarser is to be made of it.
    pub has_no_downsample: bool,
    /// Sizes of its objects by their path within the block.
    pub files: BTreeMap<String, u64>,
}

impl Surveyed {
    /// Length of the index.
    pub fn index_bytes(&self) -> u64 {
        self.files.get(INDEX_FILE).copied().unwrap_or(0)
    }

    /// Length of everything.
    pub fn n_bytes(&self) -> u64 {
        self.files.values().sum()
    }
}

/// A directory named like a block that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Its name.
    pub block: BlockId,
    /// What is missing.
    pub reason: PartialReason,
    /// When the last of its objects came.
    pub newest_ms: Option<TimestampMs>,
    /// Since when it is to be deleted.
    pub deletion_ms: Option<TimestampMs>,
    /// Paths of its objects within it.
    pub files: Vec<String>,
}

/// Everything.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Survey {
    /// Whole blocks, sorted by name.
    pub blocks: Vec<Surveyed>,
    /// The others, sorted by name.
    pub leftovers: Vec<Leftover>,
}

#[derive(Debug, Default)]
struct Listed {
    files: BTreeMap<String, u64>,
    newest_ms: Option<TimestampMs>,
}

/// Lists the bucket once, reads marks, and metas that are not remembered; `concurrency` blocks at a time.
pub async fn survey(
    bucket: &dyn Bucket,
    catalog: &Catalog,
    concurrency: usize,
) -> Result<Survey, BucketError> {
    let mut listed: BTreeMap<BlockId, Listed> = BTreeMap::new();
    for info in bucket.list("").await? {
        let Some(block) = keys::block_of(&info.key) else {
            continue;
        };
        let Some((_, name)) = info.key.split_once('/') else {
            continue;
        };
        let entry = listed.entry(block).or_default();
        entry.files.insert(name.to_owned(), info.size);
        entry.newest_ms = entry.newest_ms.max(Some(info.modified_ms));
    }
    let found: Vec<_> = stream::iter(listed)
        .map(|(block, listed)| look(bucket, catalog, block, listed))
        .buffer_unordered(concurrency.max(1))
        .try_collect()
        .await?;
    let mut survey = Survey::default();
    for block in found {
        match block {
            Ok(whole) => survey.blocks.push(whole),
            Err(leftover) => survey.leftovers.push(leftover),
        }
    }
    survey.blocks.sort_by_key(|block| block.meta.ulid);
    survey.leftovers.sort_by_key(|leftover| leftover.block);
    Ok(survey)
}

async fn look(
    bucket: &dyn Bucket,
    catalog: &Catalog,
    block: BlockId,
    listed: Listed,
) -> Result<Result<Surveyed, Leftover>, BucketError> {
    let deletion_ms = read_deletion(bucket, block, &listed.files).await?;
    let leftover = |reason, listed: Listed| {
        Ok(Err(Leftover {
            block,
            reason,
            newest_ms: listed.newest_ms,
            deletion_ms,
            files: listed.files.into_keys().collect(),
        }))
    };
    let Some(size) = listed.files.get(META_FILE).copied() else {
        return leftover(PartialReason::NoMeta, listed);
    };
    let Some(text) = read_meta(bucket, catalog, block, size).await? else {
        return leftover(PartialReason::NoMeta, listed);
    };
    let meta = match BlockMeta::decode(&text) {
        Ok(meta) if meta.ulid == block => meta,
        Ok(meta) => {
            let flaw = format!("it is the meta.json of block {}", meta.ulid);
            return leftover(PartialReason::CorruptedMeta(flaw), listed);
        }
        Err(flaw) => return leftover(PartialReason::CorruptedMeta(flaw), listed),
    };
    let no_compact = read_no_compact(bucket, block, &listed.files).await?;
    Ok(Ok(Surveyed {
        meta,
        deletion_ms,
        no_compact,
        has_no_downsample: listed.files.contains_key(keys::NO_DOWNSAMPLE_MARK),
        files: listed.files,
    }))
}

/// meta.json never changes, so a remembered one of the same length is the same.
async fn read_meta(
    bucket: &dyn Bucket,
    catalog: &Catalog,
    block: BlockId,
    size: u64,
) -> Result<Option<Vec<u8>>, BucketError> {
    let key = keys::meta(block);
    let is_local = bucket.local_path(&key).is_some();
    if !is_local
        && let Some(known) = catalog.meta(block)
        && known.len() as u64 == size
    {
        return Ok(Some(known));
    }
    match bucket.get(&key, META_BYTES_MAX).await {
        Ok(text) => {
            catalog.remember_meta(block, &text);
            Ok(Some(text.to_vec()))
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// A mark that does not decode is being written or nobody's: the block stays.
async fn read_deletion(
    bucket: &dyn Bucket,
    block: BlockId,
    files: &BTreeMap<String, u64>,
) -> Result<Option<TimestampMs>, BucketError> {
    if !files.contains_key(keys::DELETION_MARK) {
        return Ok(None);
    }
    match bucket
        .get(&keys::deletion_mark(block), MARK_BYTES_MAX)
        .await
    {
        Ok(text) => match DeletionMark::decode(&text) {
            Ok(mark) => Ok(Some(mark.since_ms())),
            Err(flaw) => {
                tracing::warn!(%block, flaw, "skipped deletion mark");
                Ok(None)
            }
        },
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whoever wrote a mark wanted the block left alone, whether its text is whole or not.
async fn read_no_compact(
    bucket: &dyn Bucket,
    block: BlockId,
    files: &BTreeMap<String, u64>,
) -> Result<Option<(String, String)>, BucketError> {
    if !files.contains_key(keys::NO_COMPACT_MARK) {
        return Ok(None);
    }
    let key = keys::in_block(block, keys::NO_COMPACT_MARK);
    match bucket.get(&key, MARK_BYTES_MAX).await {
        Ok(text) => Ok(Some(match NoCompactMark::decode(&text) {
            Ok(mark) => (mark.reason, mark.details),
            Err(flaw) => ("unreadable".to_owned(), flaw),
        })),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Blocks that the compactor works with: not to be deleted, and uploaded long enough ago that everybody sees them.
pub(crate) fn settled<'a>(
    survey: &'a Survey,
    consistency_delay_ms: i64,
    now_ms: TimestampMs,
) -> impl Iterator<Item = &'a Surveyed> {
    survey.blocks.iter().filter(move |block| {
        let named_ms = i64::try_from(block.meta.ulid.created_ms()).unwrap_or(i64::MAX);
        let source = block
            .meta
            .thanos
            .as_ref()
            .map_or("", |thanos| &thanos.source);
        // What a compactor made was read back before it was visible.
        let is_own = matches!(source, "compactor" | "compactor.repair" | "bucket.repair");
        let is_old = named_ms.saturating_add(consistency_delay_ms) <= now_ms;
        block.deletion_ms.is_none() && (is_own || is_old)
    })
}
