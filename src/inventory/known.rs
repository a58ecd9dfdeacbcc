//! A block of the bucket, whole or not.

use crate::block::BlockMeta;
use crate::inventory::{NoCompactMark, NoDownsampleMark};
use crate::model::{BlockId, TimestampMs};

/// An object below a block's directory, as it was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownFile {
    /// Path inside the block.
    pub path: Box<str>,
    /// Its length.
    pub n_bytes: u64,
    /// When it was last written, by the store's clock.
    pub modified_ms: TimestampMs,
}

/// A whole block of the bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownBlock {
    /// What it is.
    pub meta: BlockMeta,
    /// Since when it is marked for deletion.
    pub marked_ms: Option<TimestampMs>,
    /// It is to stay as it is.
    pub no_compact: Option<NoCompactMark>,
    /// Nothing coarser is to be made of it.
    pub no_downsample: Option<NoDownsampleMark>,
    /// Everything below its directory, sorted by path.
    pub files: Vec<KnownFile>,
}

impl KnownBlock {
    /// A block without marks of which nothing else is known.
    pub fn new(meta: BlockMeta) -> Self {
        Self {
            meta,
            marked_ms: None,
            no_compact: None,
            no_downsample: None,
            files: Vec::new(),
        }
    }

    /// Length of one of its files.
    pub fn size_of(&self, path: &str) -> Option<u64> {
        find(&self.files, path).map(|file| file.n_bytes)
    }

    /// Bytes of all its files.
    pub fn n_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.n_bytes).sum()
    }
}

/// A directory named like a block that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partial {
    /// Its name.
    pub block: BlockId,
    /// When the name was made; an upload that is still going on is young.
    pub created_ms: u64,
    /// What is missing.
    pub reason: PartialReason,
    /// Since when it is marked for deletion.
    pub marked_ms: Option<TimestampMs>,
    /// Everything below its directory, sorted by path.
    pub files: Vec<KnownFile>,
}

/// What makes a block partial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartialReason {
    /// No meta.json: still being uploaded, given up, or being deleted.
    NoMeta,
    /// meta.json does not say what it must.
    CorruptedMeta(String),
}

/// All there is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inventory {
    /// Whole blocks, sorted by name.
    pub blocks: Vec<KnownBlock>,
    /// The others, sorted by name.
    pub partial: Vec<Partial>,
    /// Objects of the bucket, whosever they are, when it was listed last.
    pub n_objects: u64,
}

impl Inventory {
    /// A whole block.
    pub fn block(&self, id: BlockId) -> Option<&KnownBlock> {
        let at = self
            .blocks
            .binary_search_by_key(&id, |known| known.meta.ulid);
        self.blocks.get(at.ok()?)
    }

    /// A block that is not whole.
    pub fn partial(&self, id: BlockId) -> Option<&Partial> {
        let at = self
            .partial
            .binary_search_by_key(&id, |partial| partial.block);
        self.partial.get(at.ok()?)
    }

    /// What was listed below a block's directory.
    pub(crate) fn files(&self, id: BlockId) -> Option<&[KnownFile]> {
        let whole = self.block(id).map(|known| known.files.as_slice());
        whole.or_else(|| Some(self.partial(id)?.files.as_slice()))
    }
}

pub(crate) fn find<'a>(files: &'a [KnownFile], path: &str) -> Option<&'a KnownFile> {
    files.iter().find(|file| &*file.path == path)
}
