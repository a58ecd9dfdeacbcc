//! Blocks from one bucket into another, oldest first, `meta.json` last.

use std::path::Path;

use crate::block::BlockMeta;
use crate::bucket::{Bucket, ObjectInfo, keys};
use crate::foundation::durable::{create_dirs, remove_file};
use crate::inventory::Inventory;
use crate::maintenance::MaintenanceError;
use crate::maintenance::objects::path_in_block;
use crate::model::{BlockId, Matcher, Resolution, TimestampMs};

/// Largest meta.json that is compared.
const META_BYTES_MAX: u64 = 16 << 20;

/// Which blocks go over.
#[derive(Debug, Clone, Default)]
pub struct Replication {
    /// Only these, whatever else is said; empty: those of the rest.
    pub blocks: Vec<BlockId>,
    /// Of these resolutions.
    pub resolutions: Vec<Resolution>,
    /// Of these compaction levels.
    pub levels: Vec<u32>,
    /// With external labels that match.
    pub matchers: Vec<Matcher>,
    /// That do not end before.
    pub min_time: TimestampMs,
    /// That do not begin after.
    pub max_time: TimestampMs,
    /// And are not marked for deletion.
    pub without_marked: bool,
}

/// What became of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replicated {
    /// It was there, with the same `meta.json`.
    Already,
    /// It was copied.
    Copied {
        /// Objects that were not there yet.
        n_objects: u64,
        /// Their bytes.
        n_bytes: u64,
    },
}

/// The blocks that go over, in their order. Blocks without external labels never do, as in Thanos.
pub fn plan_replication<'a>(inventory: &'a Inventory, wanted: &Replication) -> Vec<&'a BlockMeta> {
    let mut metas: Vec<_> = inventory
        .blocks
        .iter()
        .filter(|known| !(wanted.without_marked && known.marked_ms.is_some()))
        .map(|known| &known.meta)
        .filter(|meta| is_wanted(meta, wanted))
        .collect();
    metas.sort_by_key(|meta| (meta.min_time, meta.ulid));
    metas
}

fn is_wanted(meta: &BlockMeta, wanted: &Replication) -> bool {
    let Some(thanos) = meta
        .thanos
        .as_ref()
        .filter(|thanos| !thanos.labels.is_empty())
    else {
        return false;
    };
    if !wanted.blocks.is_empty() {
        return wanted.blocks.contains(&meta.ulid);
    }
    let matches = |matcher: &Matcher| {
        let value = thanos.labels.get(&*matcher.name);
        matcher.matches(value.map_or("", String::as_str))
    };
    meta.resolution()
        .is_some_and(|resolution| wanted.resolutions.contains(&resolution))
        && wanted.levels.contains(&meta.compaction.level)
        && wanted.min_time <= meta.max_time
        && meta.min_time <= wanted.max_time
        && wanted.matchers.iter().all(matches)
}

/// Copies what `to` does not have of the block, through files in `scratch`.
///
/// Files of a block never change, so one of the same length is the same; `meta.json` goes last and as it is.
pub async fn replicate_block(
    from: &dyn Bucket,
    to: &dyn Bucket,
    block: BlockId,
    scratch: &Path,
) -> Result<Replicated, MaintenanceError> {
    let key = keys::meta(block);
    let meta = from.get(&key, META_BYTES_MAX).await?;
    match to.get(&key, META_BYTES_MAX).await {
        Ok(there) if there == meta => return Ok(Replicated::Already),
        Ok(_) => (),
        Err(error) if error.is_not_found() => (),
        Err(error) => return Err(error.into()),
    }
    create_dirs(scratch).map_err(MaintenanceError::file("create", scratch))?;
    let there = to.list(&block.to_string()).await?;
    let is_there = |info: &ObjectInfo| {
        let same = |other: &&ObjectInfo| other.key == info.key && other.size == info.size;
        there.iter().any(|other| same(&other))
    };
    let (mut n_objects, mut n_bytes) = (0, 0);
    for info in from.list(&block.to_string()).await? {
        let path = path_in_block(&info, block).unwrap_or_default();
        let is_content = !path.ends_with(".json") && !path.is_empty();
        if !is_content || is_there(&info) {
            continue;
        }
        n_bytes += copy(from, to, &info.key, scratch).await?;
        n_objects += 1;
    }
    n_bytes += meta.len() as u64;
    to.put(&key, meta).await?;
    Ok(Replicated::Copied {
        n_objects: n_objects + 1,
        n_bytes,
    })
}

/// One object, through a file in `scratch` where the source is far.
pub(crate) async fn copy(
    from: &dyn Bucket,
    to: &dyn Bucket,
    key: &str,
    scratch: &Path,
) -> Result<u64, MaintenanceError> {
    // A bucket that is a directory here needs no copy of a copy.
    if let Some(file) = from.local_path(key) {
        return Ok(to.upload(key, &file).await?);
    }
    let file = scratch.join(key.replace('/', "-"));
    from.download(key, &file).await?;
    let uploaded = to.upload(key, &file).await;
    remove_file(&file).map_err(MaintenanceError::file("remove", &file))?;
    Ok(uploaded?)
}
