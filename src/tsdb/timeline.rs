//! The one snapshot a query reads.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use crate::block::Block;
use crate::gateway::{BlockInfo, Producer, Snapshot, parts_of, select_within};
use crate::head::HeadView;
use crate::model::{BlockId, Interval, Matcher, Resolution};
use crate::storage::{
    ChunkSeries, Flaws, Guarded, LabelAnswer, LabelHints, Queryable, SelectHints, SeriesSet,
    StorageError, merge_label_lists, merge_series_sets,
};
use crate::tsdb::heads::Heads;

/// Everything beside the head, immutable; replaced as a whole.
#[derive(Default)]
pub(crate) struct Sources {
    pub(crate) blocks: Vec<Block>,
    pub(crate) bucket: Arc<Snapshot>,
    /// What of the bucket is read, if anything: made when first asked for.
    pub(crate) beside: OnceLock<Option<Arc<Producer>>>,
    /// The block that was cut from the head when these replaced their predecessor.
    pub(crate) cut: Option<Block>,
    /// What replaced these, so that who still holds them learns of the blocks that were cut since.
    pub(crate) next: OnceLock<Arc<Sources>>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources")
            .field("n_blocks", &self.blocks.len())
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

impl Sources {
    /// Names the successor; must be done before the head is truncated.
    pub(crate) fn replaced_by(&self, next: &Arc<Self>) {
        // The one writer replaces each generation once.
        self.next.set(Arc::clone(next)).ok();
    }

    /// This appliance's blocks of the bucket, without those whose samples all lie here too. Of damaged blocks the bucket
    /// may have a copy that is whole, so that they count as if they were not here.
    fn beside(&self, flaws: &Flaws) -> Option<Arc<Producer>> {
        if flaws.n_blocks() == 0 {
            let make = || self.beside_all_but(&BTreeSet::new());
            return self.beside.get_or_init(make).clone();
        }
        let mut damaged: BTreeSet<BlockId> = flaws.all().into_keys().collect();
        // The copy in the bucket has what was deleted here.
        damaged.retain(|id| {
            let is_whole = |block: &&Block| block.meta().ulid == *id;
            let block = self.blocks.iter().find(is_whole);
            block.is_some_and(|block| block.tombstones().is_empty())
        });
        self.beside_all_but(&damaged)
    }

    fn beside_all_but(&self, damaged: &BTreeSet<BlockId>) -> Option<Arc<Producer>> {
        let metas = self.blocks.iter().map(Block::meta);
        let sound = || metas.clone().filter(|meta| !damaged.contains(&meta.ulid));
        let here: BTreeSet<BlockId> = sound().map(|meta| meta.ulid).collect();
        let mut sources = here.clone();
        sources.extend(sound().flat_map(|meta| &meta.compaction.sources));
        let is_here = |info: &&BlockInfo| {
            let mut made_of = info.sources.iter();
            let is_covered = !info.sources.is_empty() && made_of.all(|id| sources.contains(id));
            let is_raw = info.resolution == Resolution::Raw;
            info.is_own && is_raw && (here.contains(&info.id) || is_covered)
        };
        let twice = self.bucket.blocks().iter().filter(is_here);
        let rest = self.bucket.without(&twice.map(|info| info.id).collect());
        let own = rest.own();
        (!own.is_empty()).then_some(own)
    }
}

/// Head, local blocks and the bucket, as of one moment. A block that is here and in the bucket is read here, and times
/// of which there are samples here are never read from aggregates.
///
/// A query holds one from start to end. A sample that was committed before is in every answer, once the overlaps are
/// merged: the head is asked first, and what a truncation takes from it is in a block that this snapshot learns of
/// before the truncation begins. Likewise, what a young head lets go of is in the replayed one, which is asked after it.
#[derive(Debug)]
pub struct Timeline {
    head: HeadView,
    /// Where the view is one of a young head.
    heads: Option<Arc<Heads>>,
    sources: Arc<Sources>,
    flaws: Flaws,
}

impl Timeline {
    pub(crate) fn new(heads: &Arc<Heads>, sources: Arc<Sources>, flaws: Flaws) -> Self {
        let young = heads.still_young();
        Self {
            head: young.map_or_else(|| heads.current().view(), |(head, _)| head.view()),
            heads: young.map(|_| Arc::clone(heads)),
            sources,
            flaws,
        }
    }

    /// The local blocks.
    pub fn blocks(&self) -> &[Block] {
        &self.sources.blocks
    }

    /// Asks the head, then the blocks that may hold something of `interval`, then the bucket. What is damaged in a block
    /// becomes a warning, and the rest answers.
    fn ask<T>(
        &self,
        interval: Interval,
        mut ask: impl FnMut(&dyn Queryable) -> Result<T, StorageError>,
    ) -> Result<Vec<T>, StorageError> {
        let mut answers = self.ask_here(interval, &mut ask)?;
        if let Some(beside) = self.sources.beside(&self.flaws) {
            answers.push(ask(&*beside)?);
        }
        Ok(answers)
    }

    /// All of these but the bucket.
    fn ask_here<T>(
        &self,
        interval: Interval,
        mut ask: impl FnMut(&dyn Queryable) -> Result<T, StorageError>,
    ) -> Result<Vec<T>, StorageError> {
        // The order matters: see above.
        let mut answers = vec![ask(&self.head)?];
        if let Some(replayed) = self.heads.as_ref().and_then(|heads| heads.successor()) {
            answers.push(ask(&replayed.view())?);
        }
        let mut later = Vec::new();
        let mut at = &self.sources;
        while let Some(next) = at.next.get() {
            later.extend(&next.cut);
            at = next;
        }
        for block in self.sources.blocks.iter().chain(later) {
            if block.meta().range().intersects(interval) {
                answers.push(ask(&Guarded {
                    block: block.meta().ulid,
                    inner: block,
                    flaws: self.flaws.clone(),
                })?);
            }
        }
        Ok(answers)
    }

    /// Asks as [`Self::ask`] where some of the bucket's blocks may be downsampled: each time is read at one resolution, and
    /// what reaches beyond its slice is cut.
    fn select_slices(
        &self,
        beside: &Producer,
        matchers: &[Matcher],
        hints: &SelectHints,
    ) -> Result<Vec<Box<dyn SeriesSet>>, StorageError> {
        let blocks = self.sources.blocks.iter();
        let mut here: Vec<Interval> = blocks
            .filter_map(|block| block.meta().range().closed())
            .collect();
        here.extend(self.head.in_order_span());
        let slices = beside.slices_beside(&here, hints.interval, hints.resolutions);
        hints.receipt.note(&slices);
        let raw = parts_of(&slices, hints.interval, Resolution::Raw);
        let mut sets = self.ask_here(hints.interval, |source| {
            select_within(source, (hints.interval, &raw), matchers, hints)
        })?;
        beside.select_slices(&slices, matchers, hints, &mut sets)?;
        Ok(sets)
    }

    /// Is everything about `interval` in this head?
    fn is_head_only(&self, interval: Interval) -> bool {
        let is_lasting = self.heads.is_none() && self.sources.next.get().is_none();
        let mut blocks = self.sources.blocks.iter();
        let needs_blocks = blocks.any(|block| block.meta().range().intersects(interval));
        let beside = self.sources.beside(&self.flaws);
        let needs_bucket = beside.is_some_and(|beside| beside.has_any(interval));
        is_lasting && !needs_blocks && !needs_bucket
    }

    /// What answers about `interval` cannot have because the log is still being replayed.
    fn warning(&self, interval: Interval) -> Option<String> {
        let (_, young) = self.heads.as_ref()?.still_young()?;
        young.warning(interval)
    }

    fn ask_labels(
        &self,
        hints: &LabelHints,
        ask: impl FnMut(&dyn Queryable) -> Result<LabelAnswer, StorageError>,
    ) -> Result<LabelAnswer, StorageError> {
        // Asked before the heads are: they may have changed afterwards.
        let warning = self.warning(hints.interval);
        let answers = self.ask(hints.interval, ask)?;
        let mut answer = merge_label_lists(answers, hints.limit);
        answer.warnings.extend(warning);
        Ok(answer)
    }
}

/// A set whose answer says that something is missing.
struct Incomplete {
    inner: Box<dyn SeriesSet>,
    warning: String,
}

impl SeriesSet for Incomplete {
    fn next(&mut self) -> Option<Result<ChunkSeries, StorageError>> {
        self.inner.next()
    }

    fn sort(&mut self) {
        self.inner.sort();
    }

    fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    fn warnings(&mut self) -> Vec<String> {
        let mut warnings = self.inner.warnings();
        warnings.push(self.warning.clone());
        warnings
    }
}

impl Queryable for Timeline {
    fn select(
        &self,
        matchers: &[Matcher],
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        let warning = self.warning(hints.interval);
        let hints = hints.whole_unless(|| self.is_head_only(hints.interval));
        let hints = hints.as_ref();
        let beside = self.sources.beside(&self.flaws);
        let coarse = beside.filter(|beside| {
            hints.resolutions.max != Resolution::Raw && beside.has_aggregates(hints.interval)
        });
        let sets = match coarse {
            Some(beside) => self.select_slices(&beside, matchers, hints)?,
            None => self.ask(hints.interval, |source| source.select(matchers, hints))?,
        };
        let inner = merge_series_sets(sets, hints.limit);
        Ok(match warning {
            Some(warning) => Box::new(Incomplete { inner, warning }),
            None => inner,
        })
    }

    /// Of the head only: who needs blocks has to wait for disks.
    fn series_at_most(&self, matchers: &[&Matcher], interval: Interval) -> Option<usize> {
        if !self.is_head_only(interval) {
            return None;
        }
        self.head.series_at_most(matchers, interval)
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        self.ask_labels(hints, |source| source.label_names(matchers, hints))
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        self.ask_labels(hints, |source| source.label_values(name, matchers, hints))
    }
}
