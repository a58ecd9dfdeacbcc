//! The walk over the bucket.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use crate::block::BlockMeta;
use crate::bucket::{Bucket, BucketError, keys};
use crate::catalog::Catalog;
use crate::inventory::{DeletionMark, KnownBlock, MARK_BYTES_MAX};
use crate::model::{BlockId, TimestampMs};

/// Largest meta.json that is read.
const META_BYTES_MAX: u64 = 16 << 20;

/// A directory named like a block that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partial {
    /// Its name.
    pub block: BlockId,
    /// When the name was made; an upload that is still going on is young.
    pub created_ms: u64,
    /// What is missing.
    pub reason: PartialReason,
}

/// What makes a block partial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartialReason {
    /// No meta.json: still being uploaded, given up, or being deleted.
    NoMeta,
    /// meta.json does not say what it must.
    CorruptedMeta(String),
}

/// All there is.
#[derive(Debug, Default)]
pub struct Inventory {
    /// Whole blocks, sorted by name.
    pub blocks: Vec<KnownBlock>,
    /// The others, sorted by name.
    pub partial: Vec<Partial>,
}

/// Lists the bucket and reads what is not known yet, `concurrency` blocks at a time.
pub async fn fetch(
    bucket: &dyn Bucket,
    catalog: &Catalog,
    concurrency: usize,
) -> Result<Inventory, BucketError> {
    let dirs = bucket.list_dirs().await?;
    let blocks: BTreeSet<_> = dirs.iter().filter_map(|dir| keys::block_of(dir)).collect();
    let found: Vec<_> = stream::iter(blocks.iter().copied())
        .map(|block| fetch_block(bucket, catalog, block))
        .buffer_unordered(concurrency.max(1))
        .try_collect()
        .await?;
    for gone in catalog.metas() {
        if !blocks.contains(&gone) {
            catalog.forget_meta(gone);
        }
    }
    let mut inventory = Inventory::default();
    for block in found {
        match block {
            Ok(known) => inventory.blocks.push(known),
            Err(partial) => inventory.partial.push(partial),
        }
    }
    inventory.blocks.sort_by_key(|known| known.meta.ulid);
    inventory.partial.sort_by_key(|partial| partial.block);
    Ok(inventory)
}

async fn fetch_block(
    bucket: &dyn Bucket,
    catalog: &Catalog,
    block: BlockId,
) -> Result<Result<KnownBlock, Partial>, BucketError> {
    let partial = |reason| {
        Ok(Err(Partial {
            block,
            created_ms: block.created_ms(),
            reason,
        }))
    };
    let Some(text) = fetch_meta(bucket, catalog, block).await? else {
        catalog.forget_meta(block);
        return partial(PartialReason::NoMeta);
    };
    let meta = match BlockMeta::decode(&text) {
        Ok(meta) if meta.ulid == block => meta,
        Ok(meta) => {
            let flaw = format!("it is the meta.json of block {}", meta.ulid);
            return partial(PartialReason::CorruptedMeta(flaw));
        }
        Err(flaw) => return partial(PartialReason::CorruptedMeta(flaw)),
    };
    let marked_ms = fetch_mark(bucket, block).await?;
    Ok(Ok(KnownBlock { meta, marked_ms }))
}

/// meta.json never changes, but it goes: a remembered one is asked for by name only.
async fn fetch_meta(
    bucket: &dyn Bucket,
    catalog: &Catalog,
    block: BlockId,
) -> Result<Option<Bytes>, BucketError> {
    let key = keys::meta(block);
    let is_local = bucket.local_path(&key).is_some();
    if !is_local && let Some(known) = catalog.meta(block) {
        return match bucket.head(&key).await {
            Ok(info) if info.size == known.len() as u64 => Ok(Some(Bytes::from(known))),
            Ok(_) => read_meta(bucket, catalog, block).await,
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        };
    }
    read_meta(bucket, catalog, block).await
}

async fn read_meta(
    bucket: &dyn Bucket,
    catalog: &Catalog,
    block: BlockId,
) -> Result<Option<Bytes>, BucketError> {
    match bucket.get(&keys::meta(block), META_BYTES_MAX).await {
        Ok(text) => {
            catalog.remember_meta(block, &text);
            Ok(Some(text))
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// A mark that does not decode is being written or nobody's: the block is served.
async fn fetch_mark(
    bucket: &dyn Bucket,
    block: BlockId,
) -> Result<Option<TimestampMs>, BucketError> {
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
