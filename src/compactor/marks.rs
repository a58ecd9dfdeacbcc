//! Marks are written once, and blocks deleted so that a crash leaves nothing that looks whole.

use bytes::Bytes;

use crate::bucket::{Bucket, BucketError, keys};
use crate::inventory::{DeletionMark, NoCompactMark, NoDownsampleMark};
use crate::model::{BlockId, TimestampMs};

/// Marks a block for deletion; says whether there was no mark before.
pub async fn mark_deleted(
    bucket: &dyn Bucket,
    block: BlockId,
    now_ms: TimestampMs,
    details: &str,
) -> Result<bool, BucketError> {
    let mark = DeletionMark::new(block, now_ms, details.to_owned());
    put_once(bucket, &keys::deletion_mark(block), mark.encode()).await
}

/// Leaves a block out of compaction from now on; says whether there was no mark before.
pub async fn mark_no_compact(
    bucket: &dyn Bucket,
    block: BlockId,
    now_ms: TimestampMs,
    (reason, details): (&str, &str),
) -> Result<bool, BucketError> {
    let mark = NoCompactMark::new(block, now_ms, reason.to_owned(), details.to_owned());
    let key = keys::in_block(block, keys::NO_COMPACT_MARK);
    put_once(bucket, &key, mark.encode()).await
}

/// Leaves a block out of downsampling from now on; says whether there was no mark before.
pub async fn mark_no_downsample(
    bucket: &dyn Bucket,
    block: BlockId,
    now_ms: TimestampMs,
    (reason, details): (&str, &str),
) -> Result<bool, BucketError> {
    let mark = NoDownsampleMark::new(block, now_ms, reason.to_owned(), details.to_owned());
    let key = keys::in_block(block, keys::NO_DOWNSAMPLE_MARK);
    put_once(bucket, &key, mark.encode()).await
}

/// Writes a mark unless there is one; says whether there was none before.
async fn put_once(bucket: &dyn Bucket, key: &str, text: Vec<u8>) -> Result<bool, BucketError> {
    match bucket.head(key).await {
        Ok(_) => Ok(false),
        Err(error) if error.is_not_found() => {
            bucket.put(key, Bytes::from(text)).await?;
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

/// Deletes a block: `meta.json` first, so that nobody takes the rest for a block, and the mark last, so that whoever comes
/// after an interruption knows what it was. Says how many objects went.
pub async fn delete_block(bucket: &dyn Bucket, block: BlockId) -> Result<u64, BucketError> {
    let (meta, mark) = (keys::meta(block), keys::deletion_mark(block));
    let infos = bucket.list(&block.to_string()).await?;
    let is_there = |key: &str| infos.iter().any(|info| info.key == key);
    if is_there(&meta) {
        bucket.delete(&meta).await?;
    }
    for info in &infos {
        if info.key != meta && info.key != mark {
            bucket.delete(&info.key).await?;
        }
    }
    if is_there(&mark) {
        bucket.delete(&mark).await?;
    }
    Ok(infos.len() as u64)
}
