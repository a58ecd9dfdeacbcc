//! The postings lists of some label names, gathered from series as they were written.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::index::series::SeriesEntry;
use crate::index::source::{IndexError, Source};
use crate::index::writer::SERIES_ALIGN;

/// How many postings are held in memory at once, at twelve bytes each; more take another pass over the series.
pub(super) const POSTINGS_PER_PASS: u64 = 6 << 20;

/// A label name and a value, as symbols.
pub(super) type Pair = (u32, u32);

/// Lists one behind the other: two numbers for each pair, and one for each posting.
#[derive(Debug)]
pub(super) struct Lists {
    /// Sorted, each with where its list ends in `ids`.
    ends: Vec<(Pair, u32)>,
    ids: Vec<u32>,
}

impl Lists {
    /// Of all pairs whose name is among `names` (sorted), from the series `ids` of `source`.
    pub(super) fn gather(source: &Source, ids: &[u32], names: &[u32]) -> Result<Self, IndexError> {
        // What was found, in the order of the series: the pair's number, and the series.
        let (mut found, mut found_ids) = (Vec::new(), Vec::new());
        // By number: the pair, and how long its list is.
        let mut pairs: Vec<(Pair, u32)> = Vec::new();
        let mut numbers: HashMap<Pair, u32, foldhash::fast::RandomState> = HashMap::default();
        let mut entry = SeriesEntry::default();
        for &id in ids {
            entry.read_symbols(source, u64::from(id) * SERIES_ALIGN)?;
            for &pair in &entry.symbols {
                if names.binary_search(&pair.0).is_err() {
                    continue;
                }
                let number = match numbers.entry(pair) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(new) => {
                        let number = u32::try_from(pairs.len()).map_err(|_too_many| {
                            IndexError::Unwritable("more than 2^32 label pairs".to_owned())
                        })?;
                        pairs.push((pair, 0));
                        *new.insert(number)
                    }
                };
                if let Some((_, n)) = pairs.get_mut(number as usize) {
                    *n += 1;
                }
                found.push(number);
                found_ids.push(id);
            }
        }
        drop(numbers);
        Ok(Self::sorted(&mut pairs, &found, &found_ids))
    }

    /// Counted, so that each list keeps the order of the series.
    fn sorted(pairs: &mut [(Pair, u32)], found: &[u32], found_ids: &[u32]) -> Self {
        let mut order: Vec<(Pair, u32)> = (0u32..)
            .zip(&*pairs)
            .map(|(number, (pair, _))| (*pair, number))
            .collect();
        order.sort_unstable();
        let mut start = 0u32;
        for (_, number) in &mut order {
            if let Some((_, n)) = pairs.get_mut(*number as usize) {
                // From here on: where the next posting of the list goes.
                let end = start.saturating_add(*n);
                *n = start;
                (start, *number) = (end, end);
            }
        }
        let mut ids = vec![0u32; found_ids.len()];
        for (number, id) in found.iter().zip(found_ids) {
            if let Some((_, next)) = pairs.get_mut(*number as usize)
                && let Some(slot) = ids.get_mut(*next as usize)
            {
                *slot = *id;
                *next += 1;
            }
        }
        Self { ends: order, ids }
    }

    /// Pairs in order, and their series.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Pair, &[u32])> {
        let mut start = 0usize;
        self.ends.iter().map(move |(pair, end)| {
            let list = self.ids.get(start..*end as usize).unwrap_or_default();
            start = *end as usize;
            (*pair, list)
        })
    }
}
