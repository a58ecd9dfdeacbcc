//! The blocks of one producer, as one source.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use crate::gateway::ahead::BLOCKS_AT_ONCE;
use crate::gateway::resolution::{Extent, choose, parts_of};
use crate::gateway::snapshot::BlockInfo;
use crate::gateway::within::select_within;
use crate::model::{Interval, Matcher, Resolution};
use crate::storage::{
    LabelAnswer, LabelHints, LabelQuestion, Queryable, ResolutionBounds, ResolutionSlice,
    SelectHints, SeriesSet, StorageError, merge_label_lists, merge_series_sets,
};

/// Blocks that are asked about labels before the first of their answers is taken: some are always waiting for their turn.
const BLOCKS_BEGUN: usize = 2 * BLOCKS_AT_ONCE;
/// Answers about labels that are held before they are made one.
const ANSWERS_MERGED: usize = 64;

/// A window is the newest there is until the next one ends: a question that begins in between is about it too.
fn reaching_back(mut slices: Vec<ResolutionSlice>) -> Vec<ResolutionSlice> {
    if let Some(first) = slices.first_mut() {
        let earlier = first.interval.min;
        first.interval.min = earlier.saturating_sub(first.resolution.as_ms());
    }
    slices
}

/// The same question, about as many milliseconds more before each of its times.
fn further_back(hints: &SelectHints, by_ms: i64) -> SelectHints {
    let mut hints = hints.clone();
    hints.interval.min = hints.interval.min.saturating_sub(by_ms);
    if let Some(windows) = &mut hints.windows {
        windows.first.min = windows.first.min.saturating_sub(by_ms);
    }
    hints
}

/// A block beside which others are asked before any is read from.
struct Ahead<'a>(&'a dyn Queryable);

impl Queryable for Ahead<'_> {
    fn select(
        &self,
        matchers: &[Matcher],
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        self.0.select_ahead(matchers, hints)
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        self.0.label_names(matchers, hints)
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        self.0.label_values(name, matchers, hints)
    }
}

/// A block, and who answers for it.
type Served = (BlockInfo, Arc<dyn Queryable>);

/// The served blocks of one producer, raw and downsampled: each time is read at one resolution.
#[derive(Clone, Default)]
pub struct Producer {
    blocks: Arc<[Served]>,
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("n_blocks", &self.blocks.len())
            .finish()
    }
}

impl Producer {
    /// All of them carry the same external labels.
    pub(crate) fn new(blocks: Vec<Served>) -> Self {
        Self {
            blocks: blocks.into(),
        }
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Does one of them hold something of `interval`?
    pub fn has_any(&self, interval: Interval) -> bool {
        let mut blocks = self.blocks.iter();
        blocks.any(|(info, _)| info.range.intersects(interval))
    }

    /// Are some of them downsampled, and hold something of `interval`?
    pub fn has_aggregates(&self, interval: Interval) -> bool {
        self.blocks
            .iter()
            .any(|(info, _)| info.resolution != Resolution::Raw && info.range.intersects(interval))
    }

    /// Which times the blocks cover, and how coarsely.
    fn extents(&self) -> Vec<Extent> {
        let blocks = self.blocks.iter();
        let extents = blocks.filter_map(|(info, _)| Some((info.range.closed()?, info.resolution)));
        extents.collect()
    }

    /// Which resolution is read when by somebody who has raw samples of the times `here`.
    pub fn slices_beside(
        &self,
        here: &[Interval],
        interval: Interval,
        bounds: ResolutionBounds,
    ) -> Vec<ResolutionSlice> {
        reaching_back(choose((&self.extents(), here), interval, bounds))
    }

    /// Adds to `sets` what the blocks have at the resolution of each of `slices`.
    pub fn select_slices(
        &self,
        slices: &[ResolutionSlice],
        matchers: &[Matcher],
        hints: &SelectHints,
        sets: &mut Vec<Box<dyn SeriesSet>>,
    ) -> Result<(), StorageError> {
        let mut asked = Vec::new();
        for (info, block) in self.blocks.iter() {
            let Some(extent) = info.range.closed() else {
                continue;
            };
            let parts = parts_of(slices, extent, info.resolution);
            if !parts.is_empty() {
                asked.push((info.resolution, block, extent, parts));
            }
        }
        let is_one_of_many = 1 < asked.len();
        // Before any of them is begun: each takes its share of the memory that all of them may.
        hints.tally.add_sources(asked.len() as u64);
        for (resolution, block, extent, parts) in asked {
            let coarser;
            let hints = match resolution {
                Resolution::Raw => hints,
                Resolution::FiveMinutes | Resolution::OneHour => {
                    coarser = further_back(hints, resolution.as_ms());
                    &coarser
                }
            };
            let (ahead, block) = (Ahead(&**block), &**block);
            let block: &dyn Queryable = if is_one_of_many { &ahead } else { block };
            sets.push(select_within(block, (extent, &parts), matchers, hints)?);
        }
        Ok(())
    }

    fn slices(&self, interval: Interval, bounds: ResolutionBounds) -> Vec<ResolutionSlice> {
        let extents: Vec<Extent> = if bounds.max == Resolution::Raw {
            Vec::new()
        } else {
            self.extents()
        };
        reaching_back(choose((&extents, &[]), interval, bounds))
    }

    /// Blocks that together know the labels of all series within `interval`.
    fn asked_for_labels(&self, interval: Interval) -> impl Iterator<Item = &dyn Queryable> {
        let slices = self.slices(interval, ResolutionBounds::RAW_FIRST);
        self.blocks.iter().filter_map(move |(info, block)| {
            let parts = parts_of(&slices, info.range.closed()?, info.resolution);
            (!parts.is_empty()).then_some(&**block)
        })
    }

    /// Asks the blocks, some of them before the answers of others are taken.
    fn labels(
        &self,
        question: LabelQuestion<'_>,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        let mut blocks = self.asked_for_labels(hints.interval).fuse();
        let mut coming = VecDeque::with_capacity(BLOCKS_BEGUN);
        let mut answers = Vec::with_capacity(ANSWERS_MERGED);
        loop {
            while coming.len() < BLOCKS_BEGUN
                && let Some(block) = blocks.next()
            {
                coming.push_back(block.labels_ahead(question, matchers, hints));
            }
            let Some(next) = coming.pop_front() else {
                return Ok(merge_label_lists(answers, hints.limit));
            };
            answers.push(next()?);
            if answers.len() == ANSWERS_MERGED {
                let merged = merge_label_lists(std::mem::take(&mut answers), hints.limit);
                answers.push(merged);
            }
        }
    }
}

impl Queryable for Producer {
    fn series_at_most(&self, _: &[&Matcher], interval: Interval) -> Option<usize> {
        (!self.has_any(interval)).then_some(0)
    }

    fn select(
        &self,
        matchers: &[Matcher],
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        let slices = self.slices(hints.interval, hints.resolutions);
        hints.receipt.note(&slices);
        let mut sets = Vec::new();
        self.select_slices(&slices, matchers, hints, &mut sets)?;
        Ok(merge_series_sets(sets, hints.limit))
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        self.labels(LabelQuestion::Names, matchers, hints)
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        self.labels(LabelQuestion::Values(name), matchers, hints)
    }
}
