//! The one snapshot a query reads.

use std::sync::{Arc, OnceLock};

use crate::block::Block;
use crate::head::{Head, HeadView};
use crate::model::{Interval, Matcher};
use crate::storage::{
    LabelAnswer, LabelHints, Queryable, SelectHints, SeriesSet, StorageError, merge_label_lists,
    merge_series_sets,
};

/// Everything beside the head, immutable; replaced as a whole.
#[derive(Default)]
pub(crate) struct Sources {
    pub(crate) blocks: Vec<Block>,
    pub(crate) others: Vec<Arc<dyn Queryable>>,
    /// The block that was cut from the head when these replaced their predecessor.
    pub(crate) cut: Option<Block>,
    /// What replaced these, so that who still holds them learns of the blocks that were cut since.
    pub(crate) next: OnceLock<Arc<Sources>>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources")
            .field("n_blocks", &self.blocks.len())
            .field("n_others", &self.others.len())
            .finish_non_exhaustive()
    }
}

impl Sources {
    /// Names the successor; must be done before the head is truncated.
    pub(crate) fn replaced_by(&self, next: &Arc<Self>) {
        // The one writer replaces each generation once.
        self.next.set(Arc::clone(next)).ok();
    }
}

/// Head, local blocks and whatever else was handed in (the bucket), as of one moment.
///
/// A query holds one from start to end. A sample that was committed before is in every answer, once the overlaps are
/// merged: the head is asked first, and what a truncation takes from it is in a block that this snapshot learns of
/// before the truncation begins.
#[derive(Debug)]
pub struct Timeline {
    head: HeadView,
    sources: Arc<Sources>,
}

impl Timeline {
    pub(crate) fn new(head: &Head, sources: Arc<Sources>) -> Self {
        Self {
            head: head.view(),
            sources,
        }
    }

    /// The local blocks.
    pub fn blocks(&self) -> &[Block] {
        &self.sources.blocks
    }

    /// Asks the head, then the blocks and the other sources that may hold something of `interval`.
    fn ask<T>(
        &self,
        interval: Interval,
        mut ask: impl FnMut(&dyn Queryable) -> Result<T, StorageError>,
    ) -> Result<Vec<T>, StorageError> {
        // The order matters: see above.
        let mut answers = vec![ask(&self.head)?];
        let mut later = Vec::new();
        let mut at = &self.sources;
        while let Some(next) = at.next.get() {
            later.extend(&next.cut);
            at = next;
        }
        for block in self.sources.blocks.iter().chain(later) {
            if block.meta().range().intersects(interval) {
                answers.push(ask(block)?);
            }
        }
        for other in &self.sources.others {
            answers.push(ask(other.as_ref())?);
        }
        Ok(answers)
    }
}

impl Queryable for Timeline {
    fn select(
        &self,
        matchers: &[Matcher],
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        let sets = self.ask(hints.interval, |source| source.select(matchers, hints))?;
        Ok(merge_series_sets(sets, hints.limit))
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        let answers = self.ask(hints.interval, |s| s.label_names(matchers, hints))?;
        Ok(merge_label_lists(answers, hints.limit))
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        let answers = self.ask(hints.interval, |s| s.label_values(name, matchers, hints))?;
        Ok(merge_label_lists(answers, hints.limit))
    }
}
