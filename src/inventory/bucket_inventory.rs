//! What is known of one bucket, shared by all who work with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::bucket::{Bucket, BucketError};
use crate::catalog::Catalog;
use crate::inventory::Inventory;
use crate::inventory::fetch::{Walk, list_all, list_blocks, restore};
use crate::model::BlockId;

/// Objects that a store lists in one request.
const OBJECTS_PER_PAGE: u64 = 1_000;

/// What is known of a bucket: read from the catalog at first, then brought up to date whenever somebody asks for it.
#[derive(Debug)]
pub struct BucketInventory {
    bucket: Arc<dyn Bucket>,
    catalog: Catalog,
    concurrency: usize,
    current: ArcSwap<Inventory>,
    n_walks: AtomicU64,
    /// One walk at a time.
    walking: tokio::sync::Mutex<()>,
}

impl BucketInventory {
    /// What the catalog remembers; nothing is asked of the bucket yet. Later `concurrency` objects are read at a time.
    pub fn new(bucket: Arc<dyn Bucket>, catalog: Catalog, concurrency: usize) -> Self {
        let current = ArcSwap::from_pointee(restore(&catalog));
        Self {
            bucket,
            catalog,
            concurrency,
            current,
            n_walks: AtomicU64::new(0),
            walking: tokio::sync::Mutex::default(),
        }
    }

    /// As of the last walk.
    pub fn current(&self) -> Arc<Inventory> {
        self.current.load_full()
    }

    /// Walks over everything since the start, as far as they came to an end.
    pub fn n_walks(&self) -> u64 {
        self.n_walks.load(Ordering::Acquire)
    }

    /// The bucket itself.
    pub fn bucket(&self) -> &Arc<dyn Bucket> {
        &self.bucket
    }

    /// Requests that listing everything takes.
    pub fn n_pages(&self) -> u64 {
        self.current
            .load()
            .n_objects
            .div_ceil(OBJECTS_PER_PAGE)
            .max(1)
    }

    /// Lists everything and reads what changed. After an error blocks that could not be read are as they were, and those
    /// that could are known: asking again has less to do.
    pub async fn refresh(&self) -> Result<Arc<Inventory>, BucketError> {
        let _one_at_a_time = self.walking.lock().await;
        let known = self.current();
        let (listing, n_objects) = list_all(&*self.bucket).await?;
        let (mut inventory, failed) = self.walk(&known).read(listing, true).await;
        inventory.n_objects = n_objects;
        if let Some(error) = failed {
            // What is gone is known for certain only when everything was read.
            self.publish(joined(&known, inventory, &[]));
            return Err(error);
        }
        let published = self.publish(inventory);
        self.n_walks.fetch_add(1, Ordering::Release);
        Ok(published)
    }

    /// Looks at these blocks only: one request for each, and one for every text that changed.
    pub async fn refresh_blocks(&self, blocks: &[BlockId]) -> Result<Arc<Inventory>, BucketError> {
        let _one_at_a_time = self.walking.lock().await;
        let known = self.current();
        let listing = list_blocks(&*self.bucket, blocks).await?;
        let gone: Vec<_> = blocks
            .iter()
            .copied()
            .filter(|block| !listing.contains_key(block))
            .collect();
        for block in &gone {
            self.catalog.forget_block(*block);
        }
        let (inventory, failed) = self.walk(&known).read(listing, false).await;
        let current = self.publish(joined(&known, inventory, &gone));
        failed.map_or(Ok(current), Err)
    }

    fn walk<'a>(&'a self, known: &'a Inventory) -> Walk<'a> {
        Walk {
            bucket: &*self.bucket,
            catalog: &self.catalog,
            concurrency: self.concurrency,
            known,
        }
    }

    fn publish(&self, inventory: Inventory) -> Arc<Inventory> {
        let current = Arc::new(inventory);
        self.current.store(Arc::clone(&current));
        current
    }
}

/// `newer`, and what else was known before, without what is gone.
fn joined(before: &Inventory, mut newer: Inventory, gone: &[BlockId]) -> Inventory {
    let known = before.blocks.iter().map(|known| known.meta.ulid);
    let partial = before.partial.iter().map(|partial| partial.block);
    let kept: Vec<_> = known
        .chain(partial)
        .filter(|block| !gone.contains(block) && newer.files(*block).is_none())
        .collect();
    for block in kept {
        newer.keep(block, before);
    }
    newer.sort();
    newer
}
