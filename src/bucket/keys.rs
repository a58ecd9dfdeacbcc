//! Names of objects: the Thanos layout.

use crate::model::BlockId;

/// The block's commit marker: what it holds, who made it. Written last, deleted first.
pub const META: &str = "meta.json";
/// Symbols, postings and series of a block.
pub const INDEX: &str = "index";
/// Directory of a block's chunk segments.
pub const CHUNKS: &str = "chunks";
/// Says since when a block is to be deleted. Deleted last.
pub const DELETION_MARK: &str = "deletion-mark.json";
/// Excludes a block from compaction.
pub const NO_COMPACT_MARK: &str = "no-compact-mark.json";
/// Excludes a block from downsampling.
pub const NO_DOWNSAMPLE_MARK: &str = "no-downsample-mark.json";

/// `<ULID>/meta.json`.
pub fn meta(block: BlockId) -> String {
    in_block(block, META)
}

/// `<ULID>/deletion-mark.json`.
pub fn deletion_mark(block: BlockId) -> String {
    in_block(block, DELETION_MARK)
}

/// `<ULID>/<path inside the block>`.
pub fn in_block(block: BlockId, path: &str) -> String {
    format!("{block}/{path}")
}

/// The block a key or a directory belongs to; `None` for everything else in the bucket.
pub fn block_of(key: &str) -> Option<BlockId> {
    let first = key.split('/').next()?;
    let id: BlockId = first.parse().ok()?;
    // Lower case parses too, but nobody writes it: such a directory is somebody else's.
    (id.to_string() == first).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_named_by_a_ulid_are_blocks() {
        let id: BlockId = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        assert_eq!(block_of(&meta(id)), Some(id));
        assert_eq!(block_of("01ARZ3NDEKTSV4RRFFQ69G5FAV"), Some(id));
        assert_eq!(
            block_of("debug/metas/01ARZ3NDEKTSV4RRFFQ69G5FAV.json"),
            None
        );
        assert_eq!(block_of("01ARZ3NDEKTSV4RRFFQ69G5FAV.tmp/index"), None);
        assert_eq!(block_of("01arz3ndektsv4rrffq69g5fav/index"), None);
    }
}
