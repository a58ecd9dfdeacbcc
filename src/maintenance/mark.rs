//! Marks beside blocks.

use bytes::Bytes;

use crate::bucket::{Bucket, keys};
use crate::inventory::{DeletionMark, NoCompactMark, NoDownsampleMark};
use crate::maintenance::MaintenanceError;
use crate::model::{BlockId, TimestampMs};

/// The reason that marks set by hand have.
const MANUAL: &str = "manual";

/// What can be said of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// It is to be deleted.
    Deletion,
    /// It is not to be compacted.
    NoCompact,
    /// Nothing coarser is to be made of it.
    NoDownsample,
}

/// What became of a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marked {
    /// It is as was asked.
    Done,
    /// It was so already, and stays as it was.
    Already,
}

impl Marker {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Deletion, Self::NoCompact, Self::NoDownsample];

    /// The object's name within the block.
    pub fn file(self) -> &'static str {
        match self {
            Self::Deletion => keys::DELETION_MARK,
            Self::NoCompact => keys::NO_COMPACT_MARK,
            Self::NoDownsample => keys::NO_DOWNSAMPLE_MARK,
        }
    }

    fn text(self, block: BlockId, details: &str, now_ms: TimestampMs) -> Vec<u8> {
        let (details, reason) = (details.to_owned(), MANUAL.to_owned());
        match self {
            Self::Deletion => DeletionMark::new(block, now_ms, details).encode(),
            Self::NoCompact => NoCompactMark::new(block, now_ms, reason, details).encode(),
            Self::NoDownsample => NoDownsampleMark::new(block, now_ms, reason, details).encode(),
        }
    }
}

/// Marks a block that is there; a mark that is there stays, with its time.
pub async fn mark(
    bucket: &dyn Bucket,
    block: BlockId,
    marker: Marker,
    details: &str,
    now_ms: TimestampMs,
) -> Result<Marked, MaintenanceError> {
    check_there(bucket, block).await?;
    let key = keys::in_block(block, marker.file());
    if is_there(bucket, &key).await? {
        return Ok(Marked::Already);
    }
    let text = Bytes::from(marker.text(block, details, now_ms));
    bucket.put(&key, text).await?;
    Ok(Marked::Done)
}

/// Takes a mark away.
pub async fn unmark(
    bucket: &dyn Bucket,
    block: BlockId,
    marker: Marker,
) -> Result<Marked, MaintenanceError> {
    check_there(bucket, block).await?;
    let key = keys::in_block(block, marker.file());
    if !is_there(bucket, &key).await? {
        return Ok(Marked::Already);
    }
    bucket.delete(&key).await?;
    Ok(Marked::Done)
}

/// A mark alone would look like a block that is half deleted.
async fn check_there(bucket: &dyn Bucket, block: BlockId) -> Result<(), MaintenanceError> {
    if bucket.list(&block.to_string()).await?.is_empty() {
        let reason = format!("{} has no such block", bucket.name());
        return Err(MaintenanceError::refused(block, reason));
    }
    Ok(())
}

async fn is_there(bucket: &dyn Bucket, key: &str) -> Result<bool, MaintenanceError> {
    match bucket.head(key).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}
