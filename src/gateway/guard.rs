//! One damaged block costs what is damaged of it, not the answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::model::{BlockId, Matcher};
use crate::storage::{
    ChunkSeries, LabelAnswer, LabelHints, Queryable, SelectHints, SeriesSet, StorageError,
    VecSeriesSet,
};

/// Flaws kept per block; one damaged page can spoil thousands of series.
const FLAWS_PER_BLOCK_MAX: usize = 8;
/// Warnings of one answer about one block.
const WARNINGS_MAX: usize = 8;

/// What was found to be damaged, by block: name, file, offset, problem.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flaws(Arc<Mutex<BTreeMap<BlockId, Vec<String>>>>);

impl Flaws {
    pub(crate) fn add(&self, block: BlockId, flaw: &str) {
        let mut all = self.0.lock();
        let flaws = all.entry(block).or_default();
        if flaws.len() < FLAWS_PER_BLOCK_MAX && !flaws.iter().any(|known| known == flaw) {
            tracing::warn!(%block, flaw, "damage in a bucket block");
            flaws.push(flaw.to_owned());
        }
    }

    pub(crate) fn retain(&self, keep: impl Fn(BlockId) -> bool) {
        self.0.lock().retain(|block, _| keep(*block));
    }

    pub(crate) fn all(&self) -> BTreeMap<BlockId, Vec<String>> {
        self.0.lock().clone()
    }
}

/// A block whose damage becomes warnings. A bucket that does not answer stays an error: asking again may help.
pub(crate) struct Guarded {
    pub(crate) block: BlockId,
    pub(crate) inner: Arc<dyn Queryable>,
    pub(crate) flaws: Flaws,
}

impl Guarded {
    fn excuse(&self, error: StorageError) -> Result<String, StorageError> {
        let StorageError::Corrupt(flaw) = error else {
            return Err(error);
        };
        self.flaws.add(self.block, &flaw);
        Ok(format!("block {}: {flaw}", self.block))
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

impl Queryable for Guarded {
    fn select(
        &self,
        matchers: &[Matcher],
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        match self.inner.select(matchers, hints) {
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

    fn warnings(&mut self) -> Vec<String> {
        let mut warnings = std::mem::take(&mut self.warnings);
        warnings.extend(self.inner.warnings());
        warnings
    }
}
