//! What is in the bucket, as the compactor sees it.

use std::collections::BTreeMap;

use crate::block::{BlockMeta, INDEX_FILE};
use crate::bucket::{BucketError, keys};
use crate::inventory::{BucketInventory, Inventory, PartialReason};
use crate::model::{BlockId, TimestampMs};

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

/// Looks at the bucket again.
pub(crate) async fn survey(inventory: &BucketInventory) -> Result<Survey, BucketError> {
    let found = inventory.refresh().await?;
    Ok(of(&found))
}

/// The same, of what is known.
pub(crate) fn of(found: &Inventory) -> Survey {
    let blocks = found.blocks.iter().map(|known| {
        let files: BTreeMap<String, u64> = known
            .files
            .iter()
            .map(|file| (file.path.to_string(), file.n_bytes))
            .collect();
        // Whoever wrote a mark wanted the block left alone, whether its text is whole or not.
        let unreadable = || {
            let is_there = files.contains_key(keys::NO_COMPACT_MARK);
            is_there.then(|| {
                (
                    "unreadable".to_owned(),
                    "the mark does not decode".to_owned(),
                )
            })
        };
        let no_compact = known.no_compact.as_ref();
        let no_compact = no_compact.map(|mark| (mark.reason.clone(), mark.details.clone()));
        Surveyed {
            meta: known.meta.clone(),
            deletion_ms: known.marked_ms,
            no_compact: no_compact.or_else(unreadable),
            has_no_downsample: files.contains_key(keys::NO_DOWNSAMPLE_MARK),
            files,
        }
    });
    let leftovers = found.partial.iter().map(|partial| Leftover {
        block: partial.block,
        reason: partial.reason.clone(),
        newest_ms: partial.files.iter().map(|file| file.modified_ms).max(),
        deletion_ms: partial.marked_ms,
        files: partial
            .files
            .iter()
            .map(|file| file.path.to_string())
            .collect(),
    });
    Survey {
        blocks: blocks.collect(),
        leftovers: leftovers.collect(),
    }
}

/// Blocks that the compactor works with: not to be deleted, and uploaded long enough ago that everybody sees them.
pub(crate) fn settled(
    survey: &Survey,
    consistency_delay_ms: i64,
    now_ms: TimestampMs,
) -> impl Iterator<Item = &Surveyed> {
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
