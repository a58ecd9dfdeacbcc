//! Series of a block that somebody else begins to read, while their asker turns to other blocks.

use std::sync::{Arc, Weak};

use crossbeam::channel::{Receiver, Sender, bounded};

use crate::foundation::Cancel;
use crate::gateway::lazy::{LazyBlock, wait};
use crate::model::Matcher;
use crate::storage::{ChunkSeries, SelectHints, SeriesSet, StorageError};

/// Blocks that are opened and read from at once, of all queries together: they mostly wait for the bucket.
pub(crate) const BLOCKS_AT_ONCE: usize = 32;

type Item = Option<Result<ChunkSeries, StorageError>>;
/// The first series, and those after it.
type Begun = Result<(Item, Box<dyn SeriesSet>), StorageError>;

/// Waits for the first series when somebody asks for it.
struct AheadSet {
    begun: Option<Receiver<Begun>>,
    rest: Option<Box<dyn SeriesSet>>,
    cancel: Cancel,
    /// Nobody begins for an asker who has gone.
    _is_wanted: Arc<()>,
}

/// Has `block` opened and its first series read by the threads of its bucket; returns at once.
pub(crate) fn begin(
    block: Arc<LazyBlock>,
    matchers: &[Matcher],
    hints: &SelectHints,
) -> Box<dyn SeriesSet> {
    let (done, begun) = bounded(1);
    let is_wanted = Arc::new(());
    let asker = Asker {
        is_wanted: Arc::downgrade(&is_wanted),
        matchers: matchers.to_vec(),
        hints: hints.clone(),
        done,
    };
    let turns = Arc::clone(block.turns());
    block.runtime().clone().spawn(async move {
        // Never closed.
        let _turn = turns.acquire().await;
        tokio::task::spawn_blocking(move || asker.begin(&block))
            .await
            .ok();
    });
    Box::new(AheadSet {
        begun: Some(begun),
        rest: None,
        cancel: hints.cancel.clone(),
        _is_wanted: is_wanted,
    })
}

struct Asker {
    is_wanted: Weak<()>,
    matchers: Vec<Matcher>,
    hints: SelectHints,
    done: Sender<Begun>,
}

impl Asker {
    fn begin(self, block: &LazyBlock) {
        if self.is_wanted.strong_count() == 0 {
            return;
        }
        let begun = block
            .select_now(&self.matchers, &self.hints)
            .map(|mut set| (set.next(), set));
        self.done.send(begun).ok();
    }
}

impl SeriesSet for AheadSet {
    fn next(&mut self) -> Item {
        let Some(begun) = self.begun.take() else {
            return self.rest.as_mut()?.next();
        };
        match wait(&begun, &self.cancel).and_then(|begun| begun) {
            Ok((first, rest)) => {
                self.rest = Some(rest);
                first
            }
            Err(error) => Some(Err(error)),
        }
    }

    fn warnings(&mut self) -> Vec<String> {
        let rest = self.rest.as_mut();
        rest.map(|rest| rest.warnings()).unwrap_or_default()
    }
}
