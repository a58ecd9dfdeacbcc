//! Blocks of the bucket, for the block viewer.

use bytes::Bytes;

use crate::actors::Observe;
use crate::actors::store_gateway::{BucketChanged, StoreGatewayState};
use crate::api::http::{Answer, ApiError, BlockMark, BlocksView, ErrorType, MarkAction};
use crate::appliance::ports::{Ports, not_ready};
use crate::bucket::{Bucket, BucketError, keys};
use crate::inventory::{DeletionMark, NoCompactMark};
use crate::model::TimestampMs;

/// Why a block stays as it is, in the word that Thanos uses for a wish of somebody.
const REASON: &str = "manual";

impl Ports {
    /// All blocks of the bucket as of the last sync, or those that are served.
    pub(crate) fn view_blocks(&self, is_loaded: bool) -> Answer<Result<BlocksView, ApiError>> {
        let Some(opened) = self.opened() else {
            return Box::pin(async { Err(not_ready()) });
        };
        let inventory = opened.gateway.inventory().current();
        let snapshot = opened.gateway.snapshot();
        let asked = opened.actors.store_gateway.clone();
        Box::pin(async move {
            let is_served = |id| snapshot.blocks().iter().any(|block| block.id == id);
            let metas = inventory.blocks.iter().map(|known| &known.meta);
            let metas = metas.filter(|meta| !is_loaded || is_served(meta.ulid));
            let metas = metas.map(|meta| serde_json::to_vec(meta).unwrap_or_default());
            let state = asked.send(Observe::<StoreGatewayState>::default()).await;
            let state = state.unwrap_or_default();
            Ok(BlocksView {
                label: String::new(),
                metas: metas.collect(),
                refreshed_ms: state.synced_ms,
                error: state.last_error,
            })
        })
    }

    /// Writes a mark beside a block that is there; one that has the mark keeps it.
    pub(crate) fn mark(&self, mark: BlockMark) -> Answer<Result<(), ApiError>> {
        let Some(opened) = self.opened() else {
            return Box::pin(async { Err(not_ready()) });
        };
        let bucket = std::sync::Arc::clone(opened.gateway.inventory().bucket());
        let gateway = opened.actors.store_gateway.clone();
        let now_ms = self.clock.now_ms();
        Box::pin(async move {
            let block = mark.block;
            let marked = write_mark(&*bucket, mark, now_ms).await;
            let marked = marked.map_err(|error| ApiError::new(ErrorType::Internal, error.chain()));
            if !marked? {
                let reason = format!("{} has no block {block}", bucket.name());
                return Err(ApiError::bad_data(reason));
            }
            let changed = BucketChanged {
                blocks: vec![block],
            };
            // One that is being restarted lists the bucket itself when it is back.
            gateway.try_send(changed).ok();
            Ok(())
        })
    }
}

/// `false` where there is no such block.
async fn write_mark(
    bucket: &dyn Bucket,
    mark: BlockMark,
    now_ms: TimestampMs,
) -> Result<bool, BucketError> {
    let BlockMark {
        block,
        action,
        details,
    } = mark;
    if !is_there(bucket, &keys::meta(block)).await? {
        return Ok(false);
    }
    let (name, text) = match action {
        MarkAction::Deletion => {
            let mark = DeletionMark::new(block, now_ms, details);
            (keys::DELETION_MARK, mark.encode())
        }
        MarkAction::NoCompaction => {
            let mark = NoCompactMark::new(block, now_ms, REASON.to_owned(), details);
            (keys::NO_COMPACT_MARK, mark.encode())
        }
    };
    let key = keys::in_block(block, name);
    if is_there(bucket, &key).await? {
        tracing::warn!(key, "the block is marked already");
        return Ok(true);
    }
    bucket.put(&key, Bytes::from(text)).await?;
    Ok(true)
}

async fn is_there(bucket: &dyn Bucket, key: &str) -> Result<bool, BucketError> {
    match bucket.head(key).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::StoreBucket;
    use crate::model::BlockId;

    #[tokio::test]
    async fn a_block_that_is_there_is_marked_once() {
        let bucket = StoreBucket::in_memory();
        let block = BlockId::from_parts(1, 1);
        let mark = |action, details: &str| BlockMark {
            block,
            action,
            details: details.to_owned(),
        };
        let deleted = mark(MarkAction::Deletion, "first");
        assert!(!write_mark(&bucket, deleted.clone(), 5_000).await.unwrap());
        let meta = Bytes::from_static(b"{}");
        bucket.put(&keys::meta(block), meta).await.unwrap();
        assert!(write_mark(&bucket, deleted, 5_000).await.unwrap());
        let again = mark(MarkAction::Deletion, "second");
        assert!(write_mark(&bucket, again, 9_000).await.unwrap());
        let text = bucket.get(&keys::deletion_mark(block), 1 << 20).await;
        let found = DeletionMark::decode(&text.unwrap()).unwrap();
        assert_eq!(found, DeletionMark::new(block, 5_000, "first".to_owned()));
        let kept = mark(MarkAction::NoCompaction, "why");
        assert!(write_mark(&bucket, kept, 7_000).await.unwrap());
        let key = keys::in_block(block, keys::NO_COMPACT_MARK);
        let text = bucket.get(&key, 1 << 20).await.unwrap();
        let found = NoCompactMark::decode(&text).unwrap();
        assert_eq!(
            (found.reason.as_str(), found.no_compact_time),
            ("manual", 7)
        );
    }
}
