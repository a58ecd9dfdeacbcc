//! One damaged block costs what is damaged of it, not the answer.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::model::{BlockId, Interval, Labels, Matcher};
use crate::storage::select::{
    ChunkSeries, LabelAnswer, LabelHints, LabelQuestion, LabelsComing, Queryable, SelectHints,
    SeriesSet, StorageError, VecSeriesSet,
};

/// Flaws kept per block; one damaged page can spoil thousands of series.
const FLAWS_PER_BLOCK_MAX: usize = 8;
/// Warnings of one answer about one block.
const WARNINGS_MAX: usize = 8;

/// What was found to be damaged, by block: name, file, offset, problem. Clones are the same list.
#[derive(Debug, Clone, Default)]
pub struct Flaws(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    by_block: Mutex<BTreeMap<BlockId, Vec<String>>>,
    /// Blocks in the list, for those who ask at every query.
    n_blocks: AtomicU64,
    n_met: AtomicU64,
}

impl Flaws {
    /// Writes down one, and logs it when it is new.
    pub fn add(&self, block: BlockId, flaw: &str) {
        self.0.n_met.fetch_add(1, Ordering::Relaxed);
        let mut all = self.0.by_block.lock();
        let flaws = all.entry(block).or_default();
        if flaws.len() < FLAWS_PER_BLOCK_MAX && !flaws.iter().any(|known| known == flaw) {
            tracing::warn!(%block, flaw, "damage in a block");
            flaws.push(flaw.to_owned());
        }
        self.0.n_blocks.store(all.len() as u64, Ordering::Relaxed);
    }

    /// Forgets blocks that nobody asks any more.
    pub fn retain(&self, keep: impl Fn(BlockId) -> bool) {
        let mut all = self.0.by_block.lock();
        all.retain(|block, _| keep(*block));
        self.0.n_blocks.store(all.len() as u64, Ordering::Relaxed);
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<BlockId, Vec<String>> {
        self.0.by_block.lock().clone()
    }

    /// How many blocks are damaged, as far as anybody noticed.
    pub fn n_blocks(&self) -> u64 {
        self.0.n_blocks.load(Ordering::Relaxed)
    }

    /// How often an answer met damage.
    pub fn n_met(&self) -> u64 {
        self.0.n_met.load(Ordering::Relaxed)
    }
}

/// What an answer lacks because a chunk is damaged: the error names the place, this adds the series and the times.
#[must_use]
pub fn lost_samples(error: StorageError, labels: &Labels, lost: Interval) -> StorageError {
    match error {
        StorageError::Corrupt(flaw) => StorageError::Corrupt(format!(
            "{flaw}; samples of {labels} from {} to {} are missing",
            lost.min, lost.max
        )),
        other
        @ (StorageError::Canceled | StorageError::Limit(_) | StorageError::Unavailable(_)) => other,
    }
}

/// A block whose damage becomes warnings. A source that does not answer stays an error: asking again may help.
#[derive(Debug)]
pub struct Guarded<P> {
    /// Its name.
    pub block: BlockId,
    /// Who answers.
    pub inner: P,
    /// Where its damage is written down.
    pub flaws: Flaws,
}

impl<P> Guarded<P> {
    fn excuse(&self, error: StorageError) -> Result<String, StorageError> {
        let StorageError::Corrupt(flaw) = error else {
            return Err(error);
        };
        self.flaws.add(self.block, &flaw);
        Ok(format!("block {}: {flaw}", self.block))
    }

    fn guarded(
        &self,
        selected: Result<Box<dyn SeriesSet>, StorageError>,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        match selected {
            Ok(inner) => Ok(Box::new(GuardedSet {
                inner,
                block: self.block,
                flaws: self.flaws.clone(),
                warnings: Vec::new(),
            })),
            Err(error) => {
                let warning = self.excuse(error)?;
                Ok(Box::new(VecSeriesSet::new(Vec::new(), vec![warning])))
            }
        }
    }

    fn excuse_labels(
        &self,
        answer: Result<LabelAnswer, StorageError>,
    ) -> Result<LabelAnswer, StorageError> {
        answer.or_else(|error| {
            Ok(LabelAnswer {
                values: Vec::new(),
                warnings: vec![self.excuse(error)?],
            })
        })
    }
}

impl<P> Queryable for Guarded<P>
where
    P: Deref + Send + Sync,
    P::Target: Queryable,
{
    fn select(
        &self,
        matchers: &[Matcher],
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        self.guarded(self.inner.select(matchers, hints))
    }

    fn select_ahead(
        &self,
        matchers: &[Matcher],
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        self.guarded(self.inner.select_ahead(matchers, hints))
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        self.excuse_labels(self.inner.label_names(matchers, hints))
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        self.excuse_labels(self.inner.label_values(name, matchers, hints))
    }

    fn labels_ahead<'a>(
        &'a self,
        question: LabelQuestion<'a>,
        matchers: &'a [Matcher],
        hints: &'a LabelHints,
    ) -> LabelsComing<'a> {
        let coming = self.inner.labels_ahead(question, matchers, hints);
        Box::new(move || self.excuse_labels(coming()))
    }
}

struct GuardedSet {
    inner: Box<dyn SeriesSet>,
    block: BlockId,
    flaws: Flaws,
    warnings: Vec<String>,
}

impl SeriesSet for GuardedSet {
    fn next(&mut self) -> Option<Result<ChunkSeries, StorageError>> {
        loop {
            match self.inner.next()? {
                Err(StorageError::Corrupt(flaw)) => {
                    self.flaws.add(self.block, &flaw);
                    if self.warnings.len() < WARNINGS_MAX {
                        self.warnings.push(format!("block {}: {flaw}", self.block));
                    }
                }
                item => return Some(item),
            }
        }
    }

    fn sort(&mut self) {
        self.inner.sort();
    }

    fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    fn warnings(&mut self) -> Vec<String> {
        let mut warnings = std::mem::take(&mut self.warnings);
        warnings.extend(self.inner.warnings());
        warnings
    }
}
