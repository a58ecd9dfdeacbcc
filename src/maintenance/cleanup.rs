//! What of a bucket can go now: blocks marked long enough ago, and leftovers of uploads.

use crate::bucket::Bucket;
use crate::compactor::{delete_block, is_deletable, is_given_up};
use crate::inventory::{Inventory, KnownFile};
use crate::maintenance::MaintenanceError;
use crate::model::{BlockId, TimestampMs};

/// When something can go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupSettings {
    /// Blocks go so long after they were marked.
    pub delete_delay_ms: i64,
    /// Leftovers younger than this stay, whatever else is known of them.
    pub consistency_delay_ms: i64,
}

/// Why a block goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clearing {
    /// It was marked at this time.
    Marked(TimestampMs),
    /// Its upload or deletion was given up.
    Partial,
}

/// A directory that can go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cleanup {
    /// Which one.
    pub block: BlockId,
    /// Why.
    pub why: Clearing,
    /// Its objects.
    pub n_files: u64,
    /// Their bytes.
    pub n_bytes: u64,
}

/// What can go now, by name.
pub fn plan_cleanup(
    inventory: &Inventory,
    settings: CleanupSettings,
    now_ms: TimestampMs,
) -> Vec<Cleanup> {
    let of = |block, why, files: &[KnownFile]| Cleanup {
        block,
        why,
        n_files: files.len() as u64,
        n_bytes: files.iter().map(|file| file.n_bytes).sum(),
    };
    let due = |marked_ms: &TimestampMs| is_deletable(*marked_ms, settings.delete_delay_ms, now_ms);
    let mut found = Vec::new();
    for known in &inventory.blocks {
        if let Some(marked_ms) = known.marked_ms.filter(due) {
            let why = Clearing::Marked(marked_ms);
            found.push(of(known.meta.ulid, why, &known.files));
        }
    }
    for partial in &inventory.partial {
        let newest_ms = partial.files.iter().map(|file| file.modified_ms).max();
        let age_ms = now_ms.saturating_sub(newest_ms.unwrap_or(i64::MIN));
        if let Some(marked_ms) = partial.marked_ms {
            // Somebody's deletion was interrupted; who marked it waits for the delay as for a whole block.
            if due(&marked_ms) {
                let why = Clearing::Marked(marked_ms);
                found.push(of(partial.block, why, &partial.files));
            }
        } else if settings.consistency_delay_ms <= age_ms
            && is_given_up(partial.block, newest_ms, now_ms)
        {
            found.push(of(partial.block, Clearing::Partial, &partial.files));
        }
    }
    found.sort_by_key(|cleanup| cleanup.block);
    found
}

/// Takes one away; says how many objects went.
pub async fn clear(bucket: &dyn Bucket, cleanup: &Cleanup) -> Result<u64, MaintenanceError> {
    Ok(delete_block(bucket, cleanup.block).await?)
}
