//! What somebody else begins to read from a block, while the asker turns to other blocks.

use std::sync::{Arc, Weak};

use crossbeam::channel::{Receiver, Sender, bounded};

use crate::foundation::Cancel;
use crate::gateway::lazy::{LazyBlock, wait};
use crate::model::Matcher;
use crate::storage::{
    ChunkSeries, LabelHints, LabelQuestion, LabelsComing, SelectHints, SeriesSet, StorageError,
};

/// Blocks that are opened and read from at once, of all queries together: they mostly wait for the bucket.
pub(crate) const BLOCKS_AT_ONCE: usize = 32;

type Item = Option<Result<ChunkSeries, StorageError>>;
type Answer<T> = Result<T, StorageError>;
/// The first series, and those after it.
type Begun = (Item, Box<dyn SeriesSet>);

/// An answer that the threads of the bucket are at.
struct Coming<T> {
    answer: Receiver<Answer<T>>,
    cancel: Cancel,
    /// Nobody begins for an asker who has gone.
    _is_wanted: Arc<()>,
}

impl<T: Send + 'static> Coming<T> {
    /// Has `work` done when it is its turn; returns at once.
    fn begin(
        block: Arc<LazyBlock>,
        cancel: &Cancel,
        work: impl FnOnce(&LazyBlock) -> Answer<T> + Send + 'static,
    ) -> Self {
        let (done, answer) = bounded(1);
        let is_wanted = Arc::new(());
        let asker = Arc::downgrade(&is_wanted);
        let turns = Arc::clone(block.turns());
        block.runtime().clone().spawn(async move {
            // Never closed.
            let _turn = turns.acquire().await;
            tokio::task::spawn_blocking(move || answer_to(&asker, &done, || work(&block)))
                .await
                .ok();
        });
        Self {
            answer,
            cancel: cancel.clone(),
            _is_wanted: is_wanted,
        }
    }

    /// Waits for it, unless the asker gives up.
    fn wait(self) -> Answer<T> {
        wait(&self.answer, &self.cancel)?
    }
}

fn answer_to<T>(asker: &Weak<()>, done: &Sender<Answer<T>>, work: impl FnOnce() -> Answer<T>) {
    if asker.strong_count() != 0 {
        done.send(work()).ok();
    }
}

/// Has `block` opened and its first series read.
pub(crate) fn series(
    block: Arc<LazyBlock>,
    matchers: &[Matcher],
    hints: &SelectHints,
) -> Box<dyn SeriesSet> {
    let (matchers, asked) = (matchers.to_vec(), hints.clone());
    let begun = Coming::begin(block, &hints.cancel, move |block| {
        let mut set = block.select_now(&matchers, &asked)?;
        Ok((set.next(), set))
    });
    Box::new(AheadSet {
        begun: Some(begun),
        rest: None,
    })
}

/// Has `block` opened and asked about labels.
pub(crate) fn labels<'a>(
    block: Arc<LazyBlock>,
    question: LabelQuestion<'a>,
    matchers: &[Matcher],
    hints: &LabelHints,
) -> LabelsComing<'a> {
    let (matchers, asked) = (matchers.to_vec(), hints.clone());
    let name = match question {
        LabelQuestion::Names => None,
        LabelQuestion::Values(name) => Some(name.to_owned()),
    };
    let coming = Coming::begin(block, &hints.cancel, move |block| {
        let question = name
            .as_deref()
            .map_or(LabelQuestion::Names, LabelQuestion::Values);
        question.ask(block, &matchers, &asked)
    });
    Box::new(move || coming.wait())
}

/// Waits for the first series when somebody asks for it.
struct AheadSet {
    begun: Option<Coming<Begun>>,
    rest: Option<Box<dyn SeriesSet>>,
}

impl SeriesSet for AheadSet {
    fn next(&mut self) -> Item {
        let Some(begun) = self.begun.take() else {
            return self.rest.as_mut()?.next();
        };
        match begun.wait() {
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
