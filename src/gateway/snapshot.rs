//! What the bucket holds, at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::gateway::producer::Producer;
use crate::model::{BlockId, Interval, Labels, Matcher, Resolution, TimeRange};
use crate::storage::{
    Fanout, LabelAnswer, LabelHints, Queryable, SelectHints, SeriesSet, StorageError,
    WithExternalLabels,
};

/// A block that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockInfo {
    /// Its name.
    pub id: BlockId,
    /// The times it covers.
    pub range: TimeRange,
    /// How far its samples are apart.
    pub resolution: Resolution,
    /// The blocks of level 1 that it was made of, itself perhaps, when it holds what they held and nothing else; none
    /// when that is not known.
    pub sources: Vec<BlockId>,
    /// External labels of its producer.
    pub external: Labels,
    /// Is the producer this appliance?
    pub is_own: bool,
}

/// The served blocks of a bucket; never changes. A query holds it from start to end.
#[derive(Clone, Default)]
pub struct Snapshot {
    blocks: Vec<BlockInfo>,
    /// In the order of `blocks`.
    sources: Vec<Arc<dyn Queryable>>,
    own: Producer,
    others: Fanout,
    all: Fanout,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("blocks", &self.blocks)
            .finish_non_exhaustive()
    }
}

impl Snapshot {
    pub(crate) fn new(served: Vec<(BlockInfo, Arc<dyn Queryable>)>) -> Self {
        let mut own = Vec::new();
        let mut foreign: BTreeMap<Labels, Vec<_>> = BTreeMap::new();
        let mut blocks = Vec::with_capacity(served.len());
        let mut sources = Vec::with_capacity(served.len());
        for (info, block) in served {
            sources.push(Arc::clone(&block));
            blocks.push(info.clone());
            if info.is_own {
                own.push((info, block));
            } else {
                let external = info.external.clone();
                foreign.entry(external).or_default().push((info, block));
            }
        }
        let own = Producer::new(own);
        let others: Vec<Arc<dyn Queryable>> = foreign
            .into_iter()
            .map(|(external, blocks)| {
                let together = Arc::new(Producer::new(blocks));
                Arc::new(WithExternalLabels::new(together, external)) as Arc<dyn Queryable>
            })
            .collect();
        let mut all: Vec<Arc<dyn Queryable>> = vec![Arc::new(own.clone())];
        all.extend(others.iter().cloned());
        Self {
            blocks,
            sources,
            own,
            others: Fanout::new(others),
            all: Fanout::new(all),
        }
    }

    /// Without blocks that the asker has himself, so that he does not read them twice.
    #[must_use]
    pub fn without(&self, blocks: &BTreeSet<BlockId>) -> Self {
        let served = self
            .blocks
            .iter()
            .cloned()
            .zip(self.sources.iter().cloned());
        Self::new(
            served
                .filter(|(info, _)| !blocks.contains(&info.id))
                .collect(),
        )
    }

    /// The blocks, by name.
    pub fn blocks(&self) -> &[BlockInfo] {
        &self.blocks
    }

    /// Series of this appliance, without external labels.
    pub fn own(&self) -> Arc<Producer> {
        Arc::new(self.own.clone())
    }

    /// Series of other producers, under their external labels; `None` where there are none.
    pub fn others(&self) -> Option<Arc<dyn Queryable>> {
        let has_any = self.blocks.iter().any(|block| !block.is_own);
        has_any.then(|| Arc::new(self.others.clone()) as Arc<dyn Queryable>)
    }

    /// External labels of other producers, and the times their blocks cover.
    pub fn producers(&self) -> BTreeMap<Labels, Interval> {
        let mut producers: BTreeMap<Labels, Interval> = BTreeMap::new();
        for block in self.blocks.iter().filter(|block| !block.is_own) {
            let (min, max) = (block.range.min, block.range.max.saturating_sub(1));
            let known = producers
                .entry(block.external.clone())
                .or_insert(Interval { min, max });
            *known = Interval {
                min: known.min.min(min),
                max: known.max.max(max),
            };
        }
        producers
    }

    /// The times that this appliance's blocks cover.
    pub fn own_interval(&self) -> Option<Interval> {
        let own = self.blocks.iter().filter(|block| block.is_own);
        own.fold(None, |known: Option<Interval>, block| {
            let (min, max) = (block.range.min, block.range.max.saturating_sub(1));
            Some(known.map_or(Interval { min, max }, |known| Interval {
                min: known.min.min(min),
                max: known.max.max(max),
            }))
        })
    }
}

impl Queryable for Snapshot {
    fn select(
        &self,
        matchers: &[Matcher],
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        self.all.select(matchers, hints)
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        self.all.label_names(matchers, hints)
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        self.all.label_values(name, matchers, hints)
    }
}
