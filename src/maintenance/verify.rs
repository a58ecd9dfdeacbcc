//! Is every block what it says, and does each stand alone? What can be mended, and how.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::block::NewBlock;
use crate::block::meta::META_FILE;
use crate::block::{Block, BlockMeta, ThanosMeta, verify};
use crate::bucket::{Bucket, keys};
use crate::compact::compact;
use crate::compactor::{GroupKey, delete_block};
use crate::foundation::Cancel;
use crate::maintenance::replicate::copy;
use crate::maintenance::{
    FileHashes, MaintenanceError, Marker, download_block, mark, upload_block,
};
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

/// Brings the block into `dir` and reads all of it.
pub async fn check_block(
    bucket: &dyn Bucket,
    block: BlockId,
    dir: &Path,
    progress: impl FnMut(u64),
) -> Result<Option<Finding>, MaintenanceError> {
    download_block(bucket, block, dir, progress).await?;
    let path = dir.to_owned();
    let report = tokio::task::spawn_blocking(move || verify(&path)).await;
    let report = report.map_err(|error| {
        MaintenanceError::refused(block, format!("reading it did not end: {error}"))
    })?;
    let mut problems = report.problems;
    problems.extend(missing_files(dir));
    Ok((!problems.is_empty()).then_some(Finding {
        issue: Issue::Index,
        block,
        problems,
    }))
}

/// Files that `meta.json` names with a length and that are not there with it.
fn missing_files(dir: &Path) -> Vec<String> {
    let Ok(meta) = BlockMeta::read(dir) else {
        return Vec::new();
    };
    let files = meta.thanos.map(|thanos| thanos.files).unwrap_or_default();
    let wrong = files.iter().filter(|file| file.rel_path != META_FILE);
    let wrong = wrong.filter_map(|file| {
        let expect = file.size_bytes?;
        let found = std::fs::metadata(dir.join(&file.rel_path)).ok();
        match found.map(|found| found.len()) {
            Some(n_bytes) if n_bytes == expect => None,
            Some(n_bytes) => Some(format!(
                "{} has {n_bytes} bytes, meta.json says {expect}",
                file.rel_path
            )),
            None => Some(format!("{} is not there", file.rel_path)),
        }
    });
    wrong.collect()
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

/// Mends the block that [`check_block`] brought into `<dir>/<block>`: samples that are twice there or outside go, chunks
/// are put in order. The new block is read back before the old one is copied to the backup and goes.
pub async fn repair_block(
    bucket: &dyn Bucket,
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
            back_up_and_remove(bucket, block, dir, settings).await?;
            return Ok(Repaired::Removed);
        }
        Issue::Index => (),
    }
    let from = dir.join(block.to_string());
    let opened = Block::open(&from)?;
    if opened.meta().resolution() != Some(Resolution::Raw) {
        return refuse("a downsampled block is not repaired; delete it, it is made again");
    }
    let new = replacement(opened.meta(), new_id);
    let into = dir.to_owned();
    let written =
        tokio::task::spawn_blocking(move || compact(&into, new, &[&opened], &Cancel::new())).await;
    let written = written.map_err(|error| {
        MaintenanceError::refused(block, format!("rewriting it did not end: {error}"))
    })??;
    let Some(meta) = written else {
        back_up_and_remove(bucket, block, dir, settings).await?;
        return Ok(Repaired::Removed);
    };
    let to = dir.join(meta.ulid.to_string());
    let report = verify(&to);
    if let Some(problem) = report.problems.first() {
        return refuse(&format!("what was made of it is not sound: {problem}"));
    }
    upload_block(bucket, &to, settings.now_ms, FileHashes::None).await?;
    back_up_and_remove(bucket, block, dir, settings).await?;
    Ok(Repaired::Replaced(meta.ulid))
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
