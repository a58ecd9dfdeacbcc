//! Reads everything an index holds and says whether its parts agree.

use xxhash_rust::xxh64::Xxh64;

use crate::index::postings::is_strictly_sorted;
use crate::index::reader::IndexReader;
use crate::index::series::SeriesEntry;
use crate::index::source::IndexError;
use crate::model::Labels;

/// A fingerprint of a set of (series, label) pairs that does not depend on their order.
#[derive(Debug, Default, PartialEq, Eq)]
struct PairSet {
    n: u64,
    sum: u64,
}

impl PairSet {
    fn add(&mut self, id: u32, name: &str, value: &str) {
        let mut hasher = Xxh64::new(u64::from(id));
        hasher.update(name.as_bytes());
        hasher.update(&[0xff]);
        hasher.update(value.as_bytes());
        self.n += 1;
        self.sum = self.sum.wrapping_add(hasher.digest());
    }
}

impl IndexReader {
    /// Reads every list, every series and every symbol they name, and calls `visit` for each series in order.
    ///
    /// Labels must rise from series to series, chunks must not overlap, and the postings must name exactly the labels
    /// that the series have.
    pub fn verify(
        &self,
        visit: &mut dyn FnMut(u32, &Labels, &SeriesEntry),
    ) -> Result<(), IndexError> {
        let ids = self.all_series()?;
        if !is_strictly_sorted(&ids) {
            return Err(self.disagree("the list of all series does not rise"));
        }
        let mut entry = SeriesEntry::default();
        let mut previous = Labels::empty();
        let mut of_series = PairSet::default();
        for &id in &ids {
            let offset = self.version().series_offset(id);
            self.series(id, &mut entry)?;
            let labels = self.labels(id, &entry)?;
            if labels <= previous {
                let problem = format!("series {labels} is not above {previous}");
                return Err(self.source().damaged(offset, problem));
            }
            let is_ordered = entry.chunks.iter().all(|chunk| chunk.min_t <= chunk.max_t)
                && entry
                    .chunks
                    .is_sorted_by(|left, right| left.max_t < right.min_t);
            if !is_ordered {
                let problem = format!("chunks of {labels} overlap");
                return Err(self.source().damaged(offset, problem));
            }
            for (name, value) in &labels {
                of_series.add(id, name, value);
            }
            visit(id, &labels, &entry);
            previous = labels;
        }
        if self.pairs_of_lists()? != of_series {
            return Err(self.disagree("postings and series disagree"));
        }
        Ok(())
    }

    fn pairs_of_lists(&self) -> Result<PairSet, IndexError> {
        let mut pairs = PairSet::default();
        for name in self.table().names() {
            let name = name?;
            for item in self.table().values(name, "")? {
                let (value, range) = item?;
                let ids = self.postings(range)?.to_vec();
                if !is_strictly_sorted(&ids) {
                    let problem = format!("postings of {name}={value:?} do not rise");
                    return Err(self.source().damaged(range.start, problem));
                }
                for id in ids {
                    pairs.add(id, name, value);
                }
            }
        }
        Ok(pairs)
    }

    fn disagree(&self, problem: &str) -> IndexError {
        self.source().damaged(self.toc().postings, problem)
    }
}
