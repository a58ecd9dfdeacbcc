//! Is every block what it says, and does each stand alone? What can be mended, and how.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::block::meta::META_BYTES_MAX;
use crate::block::{BlockMeta, NewBlock, ThanosMeta, verify};
use crate::bucket::{Bucket, keys};
use crate::compact::compact;
use crate::compactor::{GroupKey, Waiting, delete_block, open_source};
use crate::foundation::Cancel;
use crate::foundation::durable::create_dirs;
use crate::maintenance::check::{PART_BYTES, files_of};
use crate::maintenance::replicate::copy;
use crate::maintenance::{FileHashes, MaintenanceError, Marker, mark, upload_block};
use crate::model::{BlockId, Resolution, TimestampMs};

/// Who made the block that takes the place of a damaged one, as Thanos says it.
const SOURCE: &str = "bucket.repair";
/// What the mark of the damaged one says.
const DETAILS: &str = "manual verify-repair";

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Issue {
    /// An index or a chunk is damaged, chunks are out of order, twice there or outside of the block's times.
    Index,
    /// Blocks of one group cover the same time.
    Overlap,
    /// Blocks were compacted twice from the same sources.
    Duplicate,
}

impl Issue {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Index, Self::Overlap, Self::Duplicate];

    /// What Thanos calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Index => "index_known_issues",
            Self::Overlap => "overlapped_blocks",
            Self::Duplicate => "duplicated_compaction",
        }
    }

    /// Is there a way to mend it?
    pub fn is_repairable(self) -> bool {
        self != Self::Overlap
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub issue: Issue,
    /// Of which block.
    pub block: BlockId,
    /// In words.
    pub problems: Vec<String>,
}

/// Overlaps and duplicates, which metas tell.
pub fn check_metas<'a>(metas: impl IntoIterator<Item = &'a BlockMeta>) -> Vec<Finding> {
    let mut groups: BTreeMap<GroupKey, Vec<&BlockMeta>> = BTreeMap::new();
    for meta in metas {
        let key = GroupKey::of(meta, &BTreeSet::new());
        groups.entry(key).or_default().push(meta);
    }
    let mut findings = Vec::new();
    for mut group in groups.into_values() {
        group.sort_by_key(|meta| (meta.min_time, meta.ulid));
        overlaps(&group, &mut findings);
        duplicates(&group, &mut findings);
    }
    findings.sort_by_key(|finding| (finding.issue, finding.block));
    findings
}

fn overlaps(group: &[&BlockMeta], findings: &mut Vec<Finding>) {
    let mut last: Option<&BlockMeta> = None;
    for meta in group {
        if let Some(before) = last.filter(|before| meta.min_time < before.max_time) {
            findings.push(Finding {
                issue: Issue::Overlap,
                block: meta.ulid,
                problems: vec![format!(
                    "[{}, {}) overlaps block {} [{}, {})",
                    meta.min_time, meta.max_time, before.ulid, before.min_time, before.max_time
                )],
            });
        }
        if last.is_none_or(|before| before.max_time < meta.max_time) {
            last = Some(meta);
        }
    }
}

fn duplicates(group: &[&BlockMeta], findings: &mut Vec<Finding>) {
    for (position, meta) in group.iter().enumerate() {
        let is_same = |other: &&&BlockMeta| {
            other.range() == meta.range()
                && other.stats == meta.stats
                && other.compaction.level == meta.compaction.level
                && other.compaction.sources == meta.compaction.sources
        };
        if let Some(first) = group.iter().take(position).find(is_same) {
            findings.push(Finding {
                issue: Issue::Duplicate,
                block: meta.ulid,
                problems: vec![format!(
                    "the same sources, times and counts as {}",
                    first.ulid
                )],
            });
        }
    }
}

/// How a damaged block goes.
#[derive(Debug, Clone, Copy)]
pub struct RepairSettings<'a> {
    /// Where it is copied before it goes.
    pub backup: &'a dyn Bucket,
    /// Zero takes it away at once; otherwise it is marked, and whoever cleans up takes it after this.
    pub delete_delay_ms: i64,
    /// The time of marks.
    pub now_ms: TimestampMs,
}

/// What became of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repaired {
    /// Another takes its place.
    Replaced(BlockId),
    /// It held nothing that could be kept, or was one too many.
    Removed,
}

/// Mends a block: samples that are twice there or outside go, chunks are put in order. The block is read in ranges; what is
/// made of it lies in `dir`. It is read back before the old one is copied to the backup and goes.
pub async fn repair_block(
    bucket: &Arc<dyn Bucket>,
    finding: &Finding,
    dir: &Path,
    new_id: BlockId,
    settings: RepairSettings<'_>,
) -> Result<Repaired, MaintenanceError> {
    let block = finding.block;
    let refuse = |reason: &str| Err(MaintenanceError::refused(block, reason));
    match finding.issue {
        Issue::Overlap => {
            return refuse("an overlap is not damage; compaction with deduplication joins them");
        }
        Issue::Duplicate => {
            back_up_and_remove(&**bucket, block, dir, settings).await?;
            return Ok(Repaired::Removed);
        }
        Issue::Index => (),
    }
    let meta = meta_of(&**bucket, block).await?;
    if meta.resolution() != Some(Resolution::Raw) {
        return refuse("a downsampled block is not repaired; delete it, it is made again");
    }
    create_dirs(dir).map_err(MaintenanceError::file("create", dir))?;
    let files = files_of(&**bucket, block).await?;
    let from = Waiting::new(Arc::clone(bucket), Handle::current());
    let into = dir.to_owned();
    let written = tokio::task::spawn_blocking(move || {
        let source = open_source(&from, &meta, &files, &into, PART_BYTES)?;
        let new = replacement(&meta, new_id);
        Ok::<_, MaintenanceError>(compact(&into, new, &[&*source], &Cancel::new())?)
    })
    .await;
    let written = written.map_err(|error| {
        MaintenanceError::refused(block, format!("rewriting it did not end: {error}"))
    })??;
    let Some(meta) = written else {
        back_up_and_remove(&**bucket, block, dir, settings).await?;
        return Ok(Repaired::Removed);
    };
    let to = dir.join(meta.ulid.to_string());
    let report = verify(&to);
    if let Some(problem) = report.problems.first() {
        return refuse(&format!("what was made of it is not sound: {problem}"));
    }
    upload_block(&**bucket, &to, settings.now_ms, FileHashes::None).await?;
    back_up_and_remove(&**bucket, block, dir, settings).await?;
    Ok(Repaired::Replaced(meta.ulid))
}

async fn meta_of(bucket: &dyn Bucket, block: BlockId) -> Result<BlockMeta, MaintenanceError> {
    let key = keys::meta(block);
    let text = bucket.get(&key, META_BYTES_MAX).await?;
    BlockMeta::decode(&text).map_err(|problem| MaintenanceError::refused(block, problem))
}

/// The same times, sources and labels under another name.
fn replacement(meta: &BlockMeta, id: BlockId) -> NewBlock {
    let mut new = NewBlock::new(id, meta.range());
    new.level = meta.compaction.level;
    new.sources.clone_from(&meta.compaction.sources);
    new.parents.clone_from(&meta.compaction.parents);
    new.hints.clone_from(&meta.compaction.hints);
    new.thanos = Some(ThanosMeta {
        source: SOURCE.to_owned(),
        files: Vec::new(),
        segment_files: Vec::new(),
        ..meta.thanos.clone().unwrap_or_default()
    });
    new
}

/// A block that the backup has already is not taken away: somebody may still need both.
async fn back_up_and_remove(
    bucket: &dyn Bucket,
    block: BlockId,
    scratch: &Path,
    settings: RepairSettings<'_>,
) -> Result<(), MaintenanceError> {
    let backup = settings.backup;
    if !backup.list(&block.to_string()).await?.is_empty() {
        let reason = format!(
            "{} has a block of this name, delete it there if that is meant",
            backup.name()
        );
        return Err(MaintenanceError::refused(block, reason));
    }
    for info in bucket.list(&block.to_string()).await? {
        if info.key != keys::meta(block) {
            copy(bucket, backup, &info.key, scratch).await?;
        }
    }
    let meta = bucket.head(&keys::meta(block)).await?;
    copy(bucket, backup, &meta.key, scratch).await?;
    if settings.delete_delay_ms == 0 {
        delete_block(bucket, block).await?;
    } else {
        mark(bucket, block, Marker::Deletion, DETAILS, settings.now_ms).await?;
    }
    Ok(())
}
