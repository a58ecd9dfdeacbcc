//! Reads everything an index holds and says whether its parts agree.

use std::fmt;

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
    fn add(&mut self, id: u32, pair: u64) {
        self.n += 1;
        self.sum = self.sum.wrapping_add(mixed(pair ^ u64::from(id)));
    }
}

/// Every bit of the result depends on every bit of `word`, and no two words have the same result.
fn mixed(word: u64) -> u64 {
    let word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ word >> 31
}

/// What stands for a label whose name and value are these symbols.
fn pair_of_numbers(name: u32, value: u32) -> u64 {
    mixed(u64::from(name) << 32 | u64::from(value))
}

/// What stands for a label where a text may have several symbols.
fn pair_of_texts(name: &str, value: &str) -> u64 {
    let mut hasher = Xxh64::new(0);
    hasher.update(name.as_bytes());
    hasher.update(&[0xff]);
    hasher.update(value.as_bytes());
    hasher.digest()
}

/// A series whose labels are looked up when somebody wants them.
#[derive(Debug, Clone, Copy)]
pub struct VisitedSeries<'a> {
    index: &'a IndexReader,
    id: u32,
    /// Its symbols and its chunks.
    pub entry: &'a SeriesEntry,
}

impl VisitedSeries<'_> {
    /// Its labels.
    pub fn labels(&self) -> Result<Labels, IndexError> {
        self.index.labels(self.id, self.entry)
    }
}

impl fmt::Display for VisitedSeries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.labels() {
            Ok(labels) => labels.fmt(f),
            Err(error) => error.fmt(f),
        }
    }
}

/// Are its labels what their symbols say, one for one? Where they are not, texts decide what it is.
fn is_plain(entry: &SeriesEntry, n_symbols: u32) -> bool {
    // The empty string, if it is there, is the first symbol: no name is empty, and no label has an empty value.
    let is_known = |symbol: u32| (1..n_symbols).contains(&symbol);
    let mut before = 0;
    !entry.symbols.is_empty()
        && entry.symbols.iter().all(|&(name, value)| {
            let is_rising = before < name;
            before = name;
            is_rising && is_known(name) && is_known(value)
        })
}

impl IndexReader {
    /// Reads every list, every series and every symbol, and calls `visit` for each series in order.
    ///
    /// Labels must rise from series to series, chunks must not overlap, and the postings must name exactly the labels
    /// that the series have.
    pub fn verify(&self, visit: &mut dyn FnMut(&VisitedSeries<'_>)) -> Result<(), IndexError> {
        let ids = self.all_series()?;
        if !is_strictly_sorted(&ids) {
            return Err(self.disagree("the list of all series does not rise"));
        }
        // Numbers that rise as the texts do are compared instead of them. No series is plain where they do not.
        let is_numbered = self.symbols().are_numbered();
        let n_symbols = u32::try_from(self.symbols().len()).unwrap_or(u32::MAX);
        let n_symbols = if is_numbered { n_symbols } else { 0 };
        let (mut entry, mut previous) = (SeriesEntry::default(), SeriesEntry::default());
        let mut previous_id = 0;
        let mut was_plain = false;
        let mut of_series = PairSet::default();
        for &id in &ids {
            let offset = self.version().series_offset(id);
            self.series(id, &mut entry)?;
            let is_plain = is_plain(&entry, n_symbols);
            let is_above = if is_plain && was_plain {
                previous.symbols < entry.symbols
            } else {
                self.labels(previous_id, &previous)? < self.labels(id, &entry)?
            };
            let here = VisitedSeries {
                index: self,
                id,
                entry: &entry,
            };
            if !is_above {
                let previous = self.labels(previous_id, &previous)?;
                let problem = format!("series {here} is not above {previous}");
                return Err(self.source().damaged(offset, problem));
            }
            let is_ordered = entry.chunks.iter().all(|chunk| chunk.min_t <= chunk.max_t)
                && entry
                    .chunks
                    .is_sorted_by(|left, right| left.max_t < right.min_t);
            if !is_ordered {
                let problem = format!("chunks of {here} overlap");
                return Err(self.source().damaged(offset, problem));
            }
            self.add_pairs(&here, (is_plain, is_numbered), &mut of_series)?;
            visit(&here);
            std::mem::swap(&mut previous, &mut entry);
            (previous_id, was_plain) = (id, is_plain);
        }
        if self.pairs_of_lists(is_numbered)? != of_series {
            return Err(self.disagree("postings and series disagree"));
        }
        Ok(())
    }

    fn add_pairs(
        &self,
        series: &VisitedSeries<'_>,
        (is_plain, is_numbered): (bool, bool),
        pairs: &mut PairSet,
    ) -> Result<(), IndexError> {
        if is_plain {
            for &(name, value) in &series.entry.symbols {
                pairs.add(series.id, pair_of_numbers(name, value));
            }
            return Ok(());
        }
        for (name, value) in &series.labels()? {
            pairs.add(series.id, self.pair(is_numbered, name, value)?);
        }
        Ok(())
    }

    fn pair(&self, is_numbered: bool, name: &str, value: &str) -> Result<u64, IndexError> {
        if !is_numbered {
            return Ok(pair_of_texts(name, value));
        }
        let number = |text: &str| Ok(self.symbols().number_of(text)?.unwrap_or(u32::MAX));
        Ok(pair_of_numbers(number(name)?, number(value)?))
    }

    fn pairs_of_lists(&self, is_numbered: bool) -> Result<PairSet, IndexError> {
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
                let pair = self.pair(is_numbered, name, value)?;
                for id in ids {
                    pairs.add(id, pair);
                }
            }
        }
        Ok(pairs)
    }

    fn disagree(&self, problem: &str) -> IndexError {
        self.source().damaged(self.toc().postings, problem)
    }
}
