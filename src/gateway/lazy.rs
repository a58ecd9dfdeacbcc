//! A block that is opened when somebody asks for it, and closed when nobody has for a while.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::block::Block;
use crate::foundation::{Cancel, Clock};
use crate::gateway::ahead;
use crate::gateway::limits::{LimitedSet, Limiter};
use crate::gateway::pages::{PageCache, unread};
use crate::gateway::remote::{RemoteBlock, RemoteError};
use crate::inventory::KnownBlock;
use crate::model::{Interval, Matcher, TimestampMs};
use crate::storage::{
    LabelAnswer, LabelHints, LabelQuestion, LabelsComing, Queryable, SelectHints, SeriesSet,
    StorageError, VecSeriesSet,
};

/// How often who waits looks whether anybody still wants the answer.
const CANCEL_POLL: Duration = Duration::from_millis(20);
/// A damaged block is opened again after so long: somebody may have repaired it.
const DAMAGED_FOR_MS: i64 = 60_000;

/// What all blocks need to be opened.
#[derive(Debug)]
pub(crate) struct Shelf {
    pub(crate) pages: Arc<PageCache>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) limiter: Arc<Limiter>,
    /// A turn for each block that is read from before its asker waits for it.
    pub(crate) turns: Arc<Semaphore>,
}

/// A block of the bucket, open or not.
pub(crate) struct LazyBlock {
    itself: Weak<Self>,
    known: Arc<KnownBlock>,
    /// Where it lies, when the bucket is a directory of this machine.
    dir: Option<PathBuf>,
    shelf: Arc<Shelf>,
    slot: Mutex<Slot>,
    /// Held by the one who opens it.
    opening: Mutex<()>,
    used_ms: AtomicI64,
    was_open: AtomicBool,
}

enum Slot {
    Closed,
    Open(Arc<dyn Queryable>),
    /// It does not open, as of this time.
    Damaged(StorageError, TimestampMs),
}

impl std::fmt::Debug for LazyBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LazyBlock")
            .field("block", &self.known.meta.ulid)
            .finish_non_exhaustive()
    }
}

impl LazyBlock {
    pub(crate) fn new(
        known: Arc<KnownBlock>,
        dir: Option<PathBuf>,
        shelf: Arc<Shelf>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|itself| Self {
            itself: Weak::clone(itself),
            known,
            dir,
            shelf,
            slot: Mutex::new(Slot::Closed),
            opening: Mutex::default(),
            used_ms: AtomicI64::new(i64::MIN),
            was_open: AtomicBool::new(false),
        })
    }

    pub(crate) fn turns(&self) -> &Arc<Semaphore> {
        &self.shelf.turns
    }

    pub(crate) fn runtime(&self) -> &Handle {
        self.shelf.pages.runtime()
    }

    pub(crate) fn known(&self) -> &KnownBlock {
        &self.known
    }

    /// Must its header be fetched before it is opened?
    pub(crate) fn lacks_header(&self) -> bool {
        let store = self.shelf.pages.store();
        let is_damaged = matches!(*self.slot.lock(), Slot::Damaged(..));
        self.dir.is_none() && !is_damaged && !store.has_header(self.known.meta.ulid)
    }

    /// Did it open once, or does it now? Waits for the bucket.
    pub(crate) fn opens(&self) -> bool {
        self.was_open.load(Ordering::Relaxed) || self.prefetch().is_ok()
    }

    /// Fetches what opening takes, and leaves the block as it was.
    pub(crate) fn prefetch(&self) -> Result<(), StorageError> {
        let used_ms = self.used_ms.load(Ordering::Relaxed);
        let opened = self.opened(&Cancel::new());
        if self.used_ms.load(Ordering::Relaxed) == used_ms {
            self.close();
        }
        opened.map(drop)
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(*self.slot.lock(), Slot::Open(_))
    }

    /// Why it did not open when it was last tried.
    pub(crate) fn damage(&self) -> Option<String> {
        match &*self.slot.lock() {
            Slot::Damaged(error, _) => Some(error.to_string()),
            Slot::Closed | Slot::Open(_) => None,
        }
    }

    /// Closes it when nobody has asked since `before_ms`; answers that are under way keep what they need.
    pub(crate) fn close_unless_used(&self, before_ms: TimestampMs) {
        if self.used_ms.load(Ordering::Relaxed) <= before_ms {
            self.close();
        }
    }

    fn close(&self) {
        let mut slot = self.slot.lock();
        if matches!(*slot, Slot::Open(_)) {
            *slot = Slot::Closed;
            self.shelf.pages.stats().header_unloads.add(1);
        }
    }

    /// For a question.
    fn used(&self, cancel: &Cancel) -> Result<Arc<dyn Queryable>, StorageError> {
        let now_ms = self.shelf.clock.now_ms();
        self.used_ms.fetch_max(now_ms, Ordering::Relaxed);
        self.opened(cancel)
    }

    fn opened(&self, cancel: &Cancel) -> Result<Arc<dyn Queryable>, StorageError> {
        loop {
            if let Some(known) = self.looked_up() {
                return known;
            }
            if let Some(_opening) = self.opening.try_lock_for(CANCEL_POLL) {
                // Somebody else may have opened it meanwhile.
                return self.looked_up().unwrap_or_else(|| self.open(cancel));
            }
            if cancel.reason().is_some() {
                return Err(StorageError::Canceled);
            }
        }
    }

    fn looked_up(&self) -> Option<Result<Arc<dyn Queryable>, StorageError>> {
        match &*self.slot.lock() {
            Slot::Open(block) => Some(Ok(Arc::clone(block))),
            Slot::Damaged(error, since_ms) => {
                let is_recent = self.shelf.clock.now_ms() < since_ms + DAMAGED_FOR_MS;
                is_recent.then(|| Err(error.clone()))
            }
            Slot::Closed => None,
        }
    }

    fn open(&self, cancel: &Cancel) -> Result<Arc<dyn Queryable>, StorageError> {
        let opened = match &self.dir {
            Some(dir) => Block::open(dir)
                .map(|block| Arc::new(block) as Arc<dyn Queryable>)
                .map_err(|error| StorageError::Corrupt(error.to_string())),
            None => self
                .open_remote(cancel)
                .map(|block| Arc::new(block) as Arc<dyn Queryable>),
        };
        let stats = self.shelf.pages.stats();
        let mut slot = self.slot.lock();
        match &opened {
            Ok(block) => {
                stats.header_loads.add(1);
                self.was_open.store(true, Ordering::Relaxed);
                *slot = Slot::Open(Arc::clone(block));
            }
            Err(StorageError::Canceled) => (),
            Err(error) => {
                stats.header_load_failures.add(1);
                *slot = match error {
                    StorageError::Corrupt(_) => {
                        Slot::Damaged(error.clone(), self.shelf.clock.now_ms())
                    }
                    StorageError::Canceled
                    | StorageError::Limit(_)
                    | StorageError::Unavailable(_) => Slot::Closed,
                };
            }
        }
        opened
    }

    fn open_remote(&self, cancel: &Cancel) -> Result<RemoteBlock, StorageError> {
        let (done, result) = bounded(1);
        let (known, pages) = (Arc::clone(&self.known), Arc::clone(&self.shelf.pages));
        let opening = self.shelf.pages.runtime().spawn(async move {
            done.send(RemoteBlock::open(&known, pages).await).ok();
        });
        let answer = wait(&result, cancel);
        if answer.is_err() {
            opening.abort();
        }
        answer?.map_err(|error| match error {
            RemoteError::Bucket(error) => unread(&error),
            RemoteError::Damaged(flaw) => StorageError::Corrupt(flaw),
            error @ RemoteError::Disk { .. } => StorageError::Unavailable(error.to_string()),
        })
    }

    /// Nobody opens a block for a time that it does not cover.
    fn covers(&self, interval: Interval) -> bool {
        self.known.meta.range().intersects(interval)
    }
}

impl LazyBlock {
    /// Opens the block where it is not open, and reads which series match.
    pub(crate) fn select_now(
        &self,
        matchers: &[Matcher],
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        if !self.covers(hints.interval) {
            return Ok(Box::new(VecSeriesSet::default()));
        }
        let block = self.used(&hints.cancel)?;
        Ok(Box::new(LimitedSet {
            inner: block.select(matchers, hints)?,
            limiter: Arc::clone(&self.shelf.limiter),
            tally: hints.tally.clone(),
            is_over: false,
        }))
    }
}

impl Queryable for LazyBlock {
    fn select(
        &self,
        matchers: &[Matcher],
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        self.select_now(matchers, hints)
    }

    fn select_ahead(
        &self,
        matchers: &[Matcher],
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        match self.itself.upgrade() {
            // A file of this machine is read sooner than somebody else is told to.
            Some(itself) if self.dir.is_none() && self.covers(hints.interval) => {
                Ok(ahead::series(itself, matchers, hints))
            }
            Some(_) | None => self.select_now(matchers, hints),
        }
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        if !self.covers(hints.interval) {
            return Ok(LabelAnswer::default());
        }
        self.used(&hints.cancel)?.label_names(matchers, hints)
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        if !self.covers(hints.interval) {
            return Ok(LabelAnswer::default());
        }
        let block = self.used(&hints.cancel)?;
        block.label_values(name, matchers, hints)
    }

    fn labels_ahead<'a>(
        &'a self,
        question: LabelQuestion<'a>,
        matchers: &'a [Matcher],
        hints: &'a LabelHints,
    ) -> LabelsComing<'a> {
        match self.itself.upgrade() {
            Some(itself) if self.dir.is_none() && self.covers(hints.interval) => {
                ahead::labels(itself, question, matchers, hints)
            }
            Some(_) | None => Box::new(move || question.ask(self, matchers, hints)),
        }
    }
}

/// Waits until it is there, unless the asker gives up.
pub(crate) fn wait<T>(result: &Receiver<T>, cancel: &Cancel) -> Result<T, StorageError> {
    loop {
        match result.recv_timeout(CANCEL_POLL) {
            Ok(answer) => return Ok(answer),
            Err(RecvTimeoutError::Timeout) if cancel.reason().is_some() => {
                return Err(StorageError::Canceled);
            }
            Err(RecvTimeoutError::Timeout) => (),
            Err(RecvTimeoutError::Disconnected) => {
                let text = "the runtime that reads the bucket has stopped".to_owned();
                return Err(StorageError::Unavailable(text));
            }
        }
    }
}
