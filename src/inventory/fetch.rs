//! The walk over the bucket.

use std::collections::BTreeMap;

use futures::{FutureExt, StreamExt, stream};

use crate::block::BlockMeta;
use crate::bucket::{Bucket, BucketError, ObjectInfo, keys};
use crate::catalog::{BlockRecord, Catalog, ObjectRecord};
use crate::inventory::known::find;
use crate::inventory::{
    DeletionMark, Inventory, KnownBlock, KnownFile, MARK_BYTES_MAX, NoCompactMark,
    NoDownsampleMark, Partial, PartialReason,
};
use crate::model::BlockId;

/// Largest meta.json that is read.
const META_BYTES_MAX: u64 = 16 << 20;

/// What is read of a block.
const TEXTS: [&str; 4] = [
    keys::META,
    keys::DELETION_MARK,
    keys::NO_COMPACT_MARK,
    keys::NO_DOWNSAMPLE_MARK,
];

/// Texts that were read, by path.
pub(super) type Texts = BTreeMap<&'static str, Vec<u8>>;

/// What was listed, by block.
pub(super) type Listing = BTreeMap<BlockId, Vec<KnownFile>>;

/// Lists the bucket and reads what the catalog does not know yet, `concurrency` objects at a time.
pub async fn fetch(
    bucket: &dyn Bucket,
    catalog: &Catalog,
    concurrency: usize,
) -> Result<Inventory, BucketError> {
    let known = restore(catalog);
    let (listing, n_objects) = list_all(bucket).await?;
    let walked = Walk {
        bucket,
        catalog,
        concurrency,
        known: &known,
    };
    let (mut inventory, failed) = walked.read(listing, true).await;
    inventory.n_objects = n_objects;
    match failed {
        None => Ok(inventory),
        Some(error) => Err(error),
    }
}

/// Everything in the bucket, and how many objects that is.
pub(super) async fn list_all(bucket: &dyn Bucket) -> Result<(Listing, u64), BucketError> {
    let objects = bucket.list("").await?;
    let n_objects = objects.len() as u64;
    let mut listing = Listing::new();
    for object in objects {
        if let Some(block) = keys::block_of(&object.key) {
            note(&mut listing, block, &object);
        }
    }
    Ok((listing, n_objects))
}

/// What is below these directories.
pub(super) async fn list_blocks(
    bucket: &dyn Bucket,
    blocks: &[BlockId],
) -> Result<Listing, BucketError> {
    let mut listing = Listing::new();
    for &block in blocks {
        for object in bucket.list(&block.to_string()).await? {
            note(&mut listing, block, &object);
        }
    }
    Ok(listing)
}

fn note(listing: &mut Listing, block: BlockId, object: &ObjectInfo) {
    // A marker of the directory itself has no path inside it.
    if let Some((_, path)) = object
        .key
        .split_once('/')
        .filter(|(_, path)| !path.is_empty())
    {
        listing.entry(block).or_default().push(KnownFile {
            path: path.into(),
            n_bytes: object.size,
            modified_ms: object.modified_ms,
        });
    }
}

/// What the catalog remembers; an object whose text is missing there counts as not listed, so that it is read again.
pub(super) fn restore(catalog: &Catalog) -> Inventory {
    let mut inventory = Inventory::default();
    for (block, record) in catalog.blocks() {
        let BlockRecord { objects, texts } = record;
        let files = objects.into_iter().map(|object| KnownFile {
            path: object.path.into(),
            n_bytes: object.n_bytes,
            modified_ms: object.modified_ms,
        });
        let text = |name: &str| texts.iter().find(|(path, _)| path == name);
        let is_known =
            |file: &KnownFile| !TEXTS.contains(&&*file.path) || text(&file.path).is_some();
        let files: Vec<_> = files.filter(is_known).collect();
        let texts = TEXTS
            .iter()
            .filter_map(|name| Some((*name, text(name)?.1.clone())));
        inventory.n_objects += files.len() as u64;
        inventory.add(block, files, None, &texts.collect());
    }
    inventory.sort();
    inventory
}

impl Inventory {
    pub(super) fn sort(&mut self) {
        self.blocks.sort_by_key(|known| known.meta.ulid);
        self.partial.sort_by_key(|partial| partial.block);
    }

    /// A block from what it was before, where that has not changed, and the texts that were read anew.
    fn add(&mut self, block: BlockId, files: Vec<KnownFile>, before: Option<&Self>, texts: &Texts) {
        let whole = before.and_then(|before| before.block(block));
        let partial = before.and_then(|before| before.partial(block));
        let is_there = |name| find(&files, name).is_some();
        let marked_ms = match texts.get(keys::DELETION_MARK) {
            Some(text) => decoded(block, DeletionMark::decode(text)).map(|mark| mark.since_ms()),
            None if is_there(keys::DELETION_MARK) => whole
                .and_then(|known| known.marked_ms)
                .or_else(|| partial?.marked_ms),
            None => None,
        };
        let meta = match (texts.get(keys::META), whole, partial) {
            (Some(text), ..) => decode_meta(block, text),
            (None, Some(known), _) if is_there(keys::META) => Ok(known.meta.clone()),
            (None, None, Some(partial)) if is_there(keys::META) => Err(partial.reason.clone()),
            (None, ..) => Err(PartialReason::NoMeta),
        };
        let meta = match meta {
            Ok(meta) => meta,
            Err(reason) => {
                self.partial.push(Partial {
                    block,
                    created_ms: block.created_ms(),
                    reason,
                    marked_ms,
                    files,
                });
                return;
            }
        };
        let no_compact = match texts.get(keys::NO_COMPACT_MARK) {
            Some(text) => decoded(block, NoCompactMark::decode(text)),
            None if is_there(keys::NO_COMPACT_MARK) => {
                whole.and_then(|known| known.no_compact.clone())
            }
            None => None,
        };
        let no_downsample = match texts.get(keys::NO_DOWNSAMPLE_MARK) {
            Some(text) => decoded(block, NoDownsampleMark::decode(text)),
            None if is_there(keys::NO_DOWNSAMPLE_MARK) => {
                whole.and_then(|known| known.no_downsample.clone())
            }
            None => None,
        };
        self.blocks.push(KnownBlock {
            meta,
            marked_ms,
            no_compact,
            no_downsample,
            files,
        });
    }

    /// A block as it was.
    pub(super) fn keep(&mut self, block: BlockId, before: &Self) {
        self.blocks.extend(before.block(block).cloned());
        self.partial.extend(before.partial(block).cloned());
    }
}

fn decode_meta(block: BlockId, text: &[u8]) -> Result<BlockMeta, PartialReason> {
    match BlockMeta::decode(text) {
        Ok(meta) if meta.ulid == block => Ok(meta),
        Ok(meta) => {
            let flaw = format!("it is the meta.json of block {}", meta.ulid);
            Err(PartialReason::CorruptedMeta(flaw))
        }
        Err(flaw) => Err(PartialReason::CorruptedMeta(flaw)),
    }
}

/// A mark that does not decode is being written or nobody's: the block is as if it were not there.
fn decoded<T>(block: BlockId, mark: Result<T, String>) -> Option<T> {
    mark.inspect_err(|flaw| tracing::warn!(%block, flaw, "skipped mark"))
        .ok()
}

/// Reads what a listing says is new.
pub(super) struct Walk<'a> {
    pub(super) bucket: &'a dyn Bucket,
    pub(super) catalog: &'a Catalog,
    pub(super) concurrency: usize,
    /// What is known already.
    pub(super) known: &'a Inventory,
}

impl Walk<'_> {
    /// The blocks of `listing`, and the first error. What was read before or beside an error is remembered, so that the
    /// next walk has less to do; a block that could not be read is as it was. `is_all`: what is not listed is gone.
    pub(super) async fn read(
        &self,
        mut listing: Listing,
        is_all: bool,
    ) -> (Inventory, Option<BucketError>) {
        let mut reading = Vec::new();
        for (block, files) in &listing {
            for name in self.changed(*block, files) {
                reading.push(self.read_text(*block, name).boxed());
            }
        }
        let read: Vec<_> = stream::iter(reading)
            .buffer_unordered(self.concurrency.max(1))
            .collect()
            .await;
        let mut texts: BTreeMap<BlockId, Texts> = BTreeMap::new();
        let mut failed: BTreeMap<BlockId, BucketError> = BTreeMap::new();
        for (block, name, text) in read {
            match text {
                Ok(text) => {
                    texts.entry(block).or_default().insert(name, text);
                }
                // Gone since it was listed.
                Err(error) if error.is_not_found() => {
                    if let Some(files) = listing.get_mut(&block) {
                        files.retain(|file| &*file.path != name);
                    }
                }
                Err(error) => {
                    failed.insert(block, error);
                }
            }
        }
        let nothing = Texts::new();
        let mut inventory = Inventory {
            n_objects: self.known.n_objects,
            ..Inventory::default()
        };
        for (block, files) in listing {
            let texts = texts.get(&block).unwrap_or(&nothing);
            if failed.contains_key(&block) {
                inventory.keep(block, self.known);
                continue;
            }
            if self.known.files(block) != Some(files.as_slice()) {
                self.remember(block, &files, texts);
            }
            inventory.add(block, files, Some(self.known), texts);
        }
        inventory.sort();
        let error = failed.into_values().next();
        if is_all && error.is_none() {
            self.forget_others(&inventory);
        }
        (inventory, error)
    }

    /// Texts of a block that are not known as they are listed.
    fn changed(&self, block: BlockId, files: &[KnownFile]) -> Vec<&'static str> {
        let before = self.known.files(block).unwrap_or_default();
        let is_new = |name: &&'static str| {
            let listed = find(files, name);
            listed.is_some() && listed != find(before, name)
        };
        TEXTS.into_iter().filter(is_new).collect()
    }

    async fn read_text(
        &self,
        block: BlockId,
        name: &'static str,
    ) -> (BlockId, &'static str, Result<Vec<u8>, BucketError>) {
        let size_max = if name == keys::META {
            META_BYTES_MAX
        } else {
            MARK_BYTES_MAX
        };
        let key = keys::in_block(block, name);
        let text = self.bucket.get(&key, size_max).await;
        (block, name, text.map(|text| text.to_vec()))
    }

    fn remember(&self, block: BlockId, files: &[KnownFile], texts: &Texts) {
        let mut record = BlockRecord::default();
        let before = self.catalog.block(block).unwrap_or_default();
        for file in files {
            record.objects.push(ObjectRecord {
                path: file.path.to_string(),
                n_bytes: file.n_bytes,
                modified_ms: file.modified_ms,
            });
            let anew = texts.get(&*file.path).cloned();
            let kept = || {
                let mut known = before.texts.iter();
                known.find_map(|(path, text)| (**path == *file.path).then(|| text.clone()))
            };
            if let Some(text) = anew.or_else(kept) {
                record.texts.push((file.path.to_string(), text));
            }
        }
        self.catalog.remember_block(block, &record);
    }

    fn forget_others(&self, inventory: &Inventory) {
        let known = self.known.blocks.iter().map(|known| known.meta.ulid);
        let partial = self.known.partial.iter().map(|partial| partial.block);
        for block in known.chain(partial) {
            if inventory.files(block).is_none() {
                self.catalog.forget_block(block);
            }
        }
    }
}
