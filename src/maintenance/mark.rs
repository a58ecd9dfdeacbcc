//! Marks beside blocks.

use crate::bucket::{Bucket, keys};
use crate::compactor::{mark_deleted, mark_no_compact, mark_no_downsample};
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
    let why = (MANUAL, details);
    let is_new = match marker {
        Marker::Deletion => mark_deleted(bucket, block, now_ms, details).await?,
        Marker::NoCompact => mark_no_compact(bucket, block, now_ms, why).await?,
        Marker::NoDownsample => mark_no_downsample(bucket, block, now_ms, why).await?,
    };
    Ok(if is_new {
        Marked::Done
    } else {
        Marked::Already
    })
}

/// Takes a mark away.
pub async fn unmark(
    bucket: &dyn Bucket,
    block: BlockId,
    marker: Marker,
) -> Result<Marked, MaintenanceError> {
    check_there(bucket, block).await?;
    let key = keys::in_block(block, marker.file());
    match bucket.head(&key).await {
        Ok(_) => bucket.delete(&key).await?,
        Err(error) if error.is_not_found() => return Ok(Marked::Already),
        Err(error) => return Err(error.into()),
    }
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
