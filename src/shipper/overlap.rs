//! Whether a compacted block has times that the bucket has already.

use crate::block::BlockMeta;
use crate::bucket::Bucket;
use crate::catalog::Catalog;
use crate::inventory::fetch;
use crate::model::{BlockId, Labels, Resolution, TimeRange};
use crate::shipper::error::ShipError;

/// Metas read at once.
const META_FETCHES: usize = 32;

/// The raw blocks of the bucket that have our labels, asked for once and only when somebody needs them.
#[derive(Debug, Default)]
pub(crate) struct Overlaps {
    known: Option<Vec<(TimeRange, BlockId)>>,
}

impl Overlaps {
    /// A block of the bucket that has times of `meta`.
    ///
    /// Thanos ends the pass at such a block, and every later one with it; here the block stays, and the others go up.
    pub(crate) async fn of(
        &mut self,
        meta: &BlockMeta,
        (bucket, catalog, external): (&dyn Bucket, &Catalog, &Labels),
    ) -> Result<Option<BlockId>, ShipError> {
        let known = match &mut self.known {
            Some(known) => known,
            none => {
                let block = meta.ulid;
                let inventory = fetch(bucket, catalog, META_FETCHES).await;
                let inventory = inventory.map_err(|cause| ShipError::Bucket { block, cause })?;
                let metas = inventory.blocks.iter().map(|known| &known.meta);
                let ours = metas.filter(|meta| is_ours(meta, external));
                none.insert(ours.map(|meta| (meta.range(), meta.ulid)).collect())
            }
        };
        let range = meta.range();
        let overlaps = |(theirs, id): &&(TimeRange, BlockId)| {
            *id != meta.ulid && theirs.min < range.max && range.min < theirs.max
        };
        let found = known.iter().find(overlaps).map(|(_, id)| *id);
        if found.is_none() {
            known.push((range, meta.ulid));
        }
        Ok(found)
    }
}

fn is_ours(meta: &BlockMeta, external: &Labels) -> bool {
    let Some(thanos) = &meta.thanos else {
        return false;
    };
    let theirs = thanos
        .labels
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    meta.resolution() == Some(Resolution::Raw) && theirs.eq(external.iter())
}
